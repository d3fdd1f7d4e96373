//! The small trees: root, chunk, device, UUID and data relocation tree.

use std::collections::BTreeMap;

use super::layout::Identity;
use super::namespace::{GENERATION, InodeItem};
use super::pack::{Items, Packed};
use super::space::Chunk;
use crate::btrfs::Features;
use crate::btrfs::disk::{self, DEV_ITEM_SIZE, Key, Put, ROOT_ITEM_SIZE, STRIPE_LEN, id, kind};
use crate::tree::mode;

/// The number of the image's only device.
const DEVICE_ID: u64 = 1;

/// An empty directory: the tree that balancing moves data through.
pub(super) fn reloc_items(time: i64) -> Items {
    let mut items = Items::default();
    let inode = InodeItem { nlink: 1, mode: mode::S_IFDIR | 0o755, time, ..InodeItem::default() };
    items.push(Key::new(id::FIRST_FREE, kind::INODE_ITEM, 0), &inode.bytes());
    let mut body = Vec::new();
    body.u64(0).u16(2).bytes(b"..");
    items.push(Key::new(id::FIRST_FREE, kind::INODE_REF, id::FIRST_FREE), &body);
    items
}

pub(super) fn uuid_items(identity: &Identity) -> Items {
    let half = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&identity.subvolume[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let mut items = Items::default();
    items.push(Key::new(half(0), kind::UUID_SUBVOL, half(8)), &id::FS_TREE.to_le_bytes());
    items
}

/// What the root tree records about a tree.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Root {
    pub(super) address: u64,
    pub(super) level: u8,
    blocks: u64,
}

impl Root {
    pub(super) fn of(tree: &Packed, addresses: &[u64]) -> Self {
        let address = addresses.last().copied().unwrap_or_default();
        Self { address, level: tree.height(), blocks: addresses.len() as u64 }
    }
}

/// `btrfs_root_item` of a tree.
fn root_item(root: Root, owner: u64, node_size: u32, identity: &Identity, time: i64) -> Vec<u8> {
    // BTRFS_INODE_ROOT_ITEM_INIT: the fields that kernels before 2.6.38 left uninitialised are initialised.
    const ROOT_ITEM_INIT: u64 = 1 << 31;
    let subvolume = owner == id::FS_TREE || owner == id::DATA_RELOC_TREE;
    let mut body = Vec::with_capacity(ROOT_ITEM_SIZE);
    body.u64(1).u64(0).u64(3).u64(u64::from(node_size)).u64(0);
    body.u32(1).u32(0).u32(0).u32(mode::S_IFDIR | 0o755).u64(0);
    body.u64(if subvolume { ROOT_ITEM_INIT } else { 0 }).zeros(160 - 72);
    body.u64(GENERATION).u64(if subvolume { id::FIRST_FREE } else { 0 }).u64(root.address).u64(0);
    body.u64(root.blocks * u64::from(node_size)).u64(0).u64(0).u32(1).zeros(17).u8(0).u8(root.level);
    body.u64(GENERATION);
    let uuid = if owner == id::FS_TREE { identity.subvolume } else { [0; 16] };
    let time = if owner == id::FS_TREE { time } else { 0 };
    body.bytes(&uuid).zeros(32).zeros(32).time(time).time(time).time(0).time(0).zeros(64);
    debug_assert_eq!(body.len(), ROOT_ITEM_SIZE);
    body
}

/// The root tree, with the directory that names the default subvolume.
pub(super) fn root_items(
    roots: &BTreeMap<u64, Root>,
    features: &Features,
    identity: &Identity,
    time: i64,
) -> Items {
    let mut items = Items::default();
    for (&owner, &root) in roots {
        if owner == id::FS_TREE {
            let mut body = Vec::new();
            body.u64(0).u16(7).bytes(b"default");
            items.push(Key::new(owner, kind::INODE_REF, id::ROOT_TREE_DIR), &body);
        }
        items.push(
            Key::new(owner, kind::ROOT_ITEM, 0),
            &root_item(root, owner, features.node_size, identity, time),
        );
        if owner == id::FS_TREE {
            let bytes = u64::from(features.node_size);
            let inode =
                InodeItem { bytes, nlink: 1, mode: mode::S_IFDIR | 0o755, time, ..InodeItem::default() };
            items.push(Key::new(id::ROOT_TREE_DIR, kind::INODE_ITEM, 0), &inode.bytes());
            let mut body = Vec::new();
            body.u64(0).u16(2).bytes(b"..");
            items.push(Key::new(id::ROOT_TREE_DIR, kind::INODE_REF, id::ROOT_TREE_DIR), &body);
            body.clear();
            body.key(Key::new(id::FS_TREE, kind::ROOT_ITEM, u64::MAX))
                .u64(0)
                .u16(0)
                .u16(7)
                .u8(2)
                .bytes(b"default");
            items.push(Key::new(id::ROOT_TREE_DIR, kind::DIR_ITEM, disk::name_hash(b"default")), &body);
        }
    }
    items
}

pub(super) fn dev_item(total: u64, used: u64, features: &Features, identity: &Identity) -> Vec<u8> {
    let mut body = Vec::with_capacity(DEV_ITEM_SIZE);
    let sector = features.sector_size;
    body.u64(DEVICE_ID).u64(total).u64(used).u32(sector).u32(sector).u32(sector);
    body.u64(0).u64(0).u64(0).u32(0).u8(0).u8(0).bytes(&identity.device).bytes(&identity.fsid);
    body
}

pub(super) fn chunk_item(chunk: Chunk, features: &Features, identity: &Identity) -> Vec<u8> {
    let mut body = Vec::with_capacity(disk::CHUNK_SIZE);
    body.u64(chunk.len).u64(id::EXTENT_TREE).u64(STRIPE_LEN).u64(chunk.kind);
    body.u32(STRIPE_LEN as u32).u32(STRIPE_LEN as u32).u32(features.sector_size).u16(1).u16(1);
    body.u64(DEVICE_ID).u64(chunk.start).bytes(&identity.device);
    body
}

pub(super) fn chunk_items(chunks: &[Chunk], total: u64, features: &Features, identity: &Identity) -> Items {
    let mut items = Items::default();
    let used = chunks.iter().map(|c| c.len).sum();
    items
        .push(Key::new(id::DEV_ITEMS, kind::DEV_ITEM, DEVICE_ID), &dev_item(total, used, features, identity));
    for &chunk in chunks {
        let key = Key::new(id::FIRST_CHUNK_TREE, kind::CHUNK_ITEM, chunk.start);
        items.push(key, &chunk_item(chunk, features, identity));
    }
    items
}

pub(super) fn dev_items(chunks: &[Chunk], identity: &Identity) -> Items {
    let mut items = Items::default();
    for chunk in chunks {
        let mut body = Vec::new();
        body.u64(id::CHUNK_TREE).u64(id::FIRST_CHUNK_TREE).u64(chunk.start).u64(chunk.len);
        body.bytes(&identity.chunk_tree);
        items.push(Key::new(DEVICE_ID, kind::DEV_EXTENT, chunk.start), &body);
    }
    items
}
