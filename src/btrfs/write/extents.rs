//! The extent tree and the checksum tree: what is stored, by whom it is used, and what it has to look like.

use super::image::DataExtent;
use super::namespace::{GENERATION, objectid};
use super::pack::{Items, Packed};
use super::space::Chunk;
use crate::btrfs::Features;
use crate::btrfs::disk::{self, ITEM_SIZE, Key, Put, flag, id, kind};

/// Checksums of neighbouring sectors share an item, up to the kernel's limit (`MAX_CSUM_ITEMS`, fs/btrfs/file-item.c).
pub(super) fn csum_items(extents: &[DataExtent], csums: &[u32], features: &Features) -> Items {
    let sector = u64::from(features.sector_size);
    let most = ((features.leaf_data() - 2 * ITEM_SIZE) / 4 - 1).min(4096);
    let mut items = Items::default();
    let mut body = Vec::new();
    let mut start = 0;
    let mut end = 0;
    let mut next = csums.iter();
    let mut flush = |start: u64, body: &mut Vec<u8>| {
        if !body.is_empty() {
            items.push(Key::new(id::EXTENT_CSUM, kind::EXTENT_CSUM, start), body);
            body.clear();
        }
    };
    for extent in extents {
        for address in (extent.address..extent.address + extent.len).step_by(sector as usize) {
            if address != end || body.len() == most * 4 {
                flush(start, &mut body);
                start = address;
            }
            body.u32(next.next().copied().unwrap_or_default());
            end = address + sector;
        }
    }
    flush(start, &mut body);
    items
}

/// A tree block as the extent tree sees it.
#[derive(Debug, Clone, Copy)]
struct Block {
    address: u64,
    owner: u64,
    level: u8,
    first_key: Key,
}

fn blocks<'a>(tree: &'a Packed, addresses: &'a [u64]) -> impl Iterator<Item = Block> + 'a {
    addresses.iter().enumerate().map(|(number, &address)| {
        let (level, i) = tree.place(number);
        Block { address, owner: tree.owner, level, first_key: tree.first_key(level, i) }
    })
}

/// The extent tree: every extent with all references to it, and every block group.
pub(super) struct ExtentWriter<'a> {
    items: Items,
    groups: std::iter::Peekable<std::vec::IntoIter<(Chunk, u64)>>,
    features: &'a Features,
}

impl<'a> ExtentWriter<'a> {
    /// `groups` are the block groups by ascending address, each with the bytes that are used in it.
    pub(super) fn new(groups: Vec<(Chunk, u64)>, features: &'a Features) -> Self {
        Self { items: Items::default(), groups: groups.into_iter().peekable(), features }
    }

    /// Adds the blocks of a tree.
    pub(super) fn tree(&mut self, tree: &Packed, addresses: &[u64]) {
        blocks(tree, addresses).for_each(|block| self.block(block));
    }

    fn push(&mut self, key: Key, body: &[u8]) {
        while let Some((chunk, used)) =
            self.groups.next_if(|(c, _)| Key::new(c.start, kind::BLOCK_GROUP_ITEM, c.len) < key)
        {
            let mut body = Vec::new();
            body.u64(used).u64(id::FIRST_CHUNK_TREE).u64(chunk.kind);
            self.items.push(Key::new(chunk.start, kind::BLOCK_GROUP_ITEM, chunk.len), &body);
        }
        self.items.push(key, body);
    }

    fn block(&mut self, block: Block) {
        let mut body = Vec::new();
        body.u64(1).u64(GENERATION).u64(flag::EXTENT_TREE_BLOCK);
        let key = if self.features.skinny_metadata {
            Key::new(block.address, kind::METADATA_ITEM, u64::from(block.level))
        } else {
            body.key(block.first_key).u8(block.level);
            Key::new(block.address, kind::EXTENT_ITEM, u64::from(self.features.node_size))
        };
        body.u8(kind::TREE_BLOCK_REF).u64(block.owner);
        self.push(key, &body);
    }

    /// References go into the item up to the kernel's limit (`BTRFS_MAX_EXTENT_ITEM_SIZE`), by falling hash; the others
    /// get items of their own.
    pub(super) fn data(&mut self, extent: &DataExtent, users: &[u32]) {
        const REF_SIZE: usize = 29;
        let mut refs: Vec<(u64, u64)> = users
            .iter()
            .map(|&slot| objectid(slot as usize))
            .map(|ino| (disk::data_ref_hash(id::FS_TREE, ino, extent.file_offset), ino))
            .collect();
        refs.sort_unstable_by(|a, b| b.cmp(a));
        let room = (self.features.leaf_data() >> 4) - ITEM_SIZE - 24;
        let (inline, keyed) = refs.split_at(refs.len().min(room / REF_SIZE));
        let mut body = Vec::new();
        body.u64(refs.len() as u64).u64(GENERATION).u64(flag::EXTENT_DATA);
        for &(_, ino) in inline {
            body.u8(kind::EXTENT_DATA_REF).u64(id::FS_TREE).u64(ino).u64(extent.file_offset).u32(1);
        }
        self.push(Key::new(extent.address, kind::EXTENT_ITEM, extent.len), &body);
        let mut next = 0;
        for &(hash, ino) in keyed.iter().rev() {
            body.clear();
            body.u64(id::FS_TREE).u64(ino).u64(extent.file_offset).u32(1);
            // References with one hash take the offsets after it.
            let offset = hash.max(next);
            self.push(Key::new(extent.address, kind::EXTENT_DATA_REF, offset), &body);
            next = offset + 1;
        }
    }

    pub(super) fn finish(mut self) -> Items {
        self.push(Key::new(u64::MAX, 0, 0), &[]);
        self.items.pop();
        self.items
    }
}
