//! The superblock.

use super::layout::Identity;
use super::namespace::GENERATION;
use super::roots::{Root, chunk_item, dev_item};
use super::space::Chunk;
use crate::btrfs::disk::{self, Key, Put, id, incompat, kind};
use crate::btrfs::{Features, Options};

/// The incompatible features that the image uses.
pub(super) fn incompat_flags(features: &Features) -> u64 {
    let mut flags = incompat::MIXED_BACKREF;
    for (has, flag) in [
        // Only nodes above the smallest page need it; 2.6.38 does not know it.
        (features.node_size > 4096, incompat::BIG_METADATA),
        (features.extended_iref, incompat::EXTENDED_IREF),
        (features.skinny_metadata, incompat::SKINNY_METADATA),
        (features.no_holes, incompat::NO_HOLES),
    ] {
        if has {
            flags |= flag;
        }
    }
    flags
}

/// What the superblock says.
pub(super) struct Super<'a> {
    pub(super) options: &'a Options,
    pub(super) identity: &'a Identity,
    pub(super) root: Root,
    pub(super) chunk_root: Root,
    pub(super) total: u64,
    pub(super) used: u64,
    pub(super) device_used: u64,
    pub(super) system: Chunk,
}

/// `btrfs_super_block` as it lies at [`disk::SUPER_OFFSET`].
pub(super) fn superblock(s: &Super) -> Vec<u8> {
    let features = &s.options.features;
    let (identity, node, sector) = (s.identity, features.node_size, features.sector_size);
    let mut block = Vec::with_capacity(disk::SUPER_SIZE);
    block
        .zeros(32)
        .bytes(&identity.fsid)
        .u64(disk::SUPER_OFFSET)
        .u64(disk::HEADER_FLAG_WRITTEN)
        .bytes(disk::MAGIC);
    block.u64(GENERATION).u64(s.root.address).u64(s.chunk_root.address).u64(0).u64(0);
    block.u64(s.total).u64(s.used).u64(id::ROOT_TREE_DIR).u64(1);
    let system = chunk_item(s.system, features, identity);
    // leafsize and stripesize repeat what older kernels looked at.
    block.u32(sector).u32(node).u32(node).u32(sector).u32((17 + system.len()) as u32).u64(GENERATION);
    block.u64(0).u64(0).u64(incompat_flags(features)).u16(0).u8(s.root.level).u8(s.chunk_root.level).u8(0);
    block.bytes(&dev_item(s.total, s.device_used, features, identity)).zeros(256);
    // No space cache (cache_generation 0): the kernel reads the few block groups from the extent tree and writes no
    // cache files into the overlay.
    block.u64(0).u64(if features.uuid_tree { GENERATION } else { 0 });
    block.resize(0x32b, 0);
    block.key(Key::new(id::FIRST_CHUNK_TREE, kind::CHUNK_ITEM, s.system.start)).bytes(&system);
    block.resize(disk::SUPER_SIZE, 0);
    let csum = crc32c::crc32c(&block[32..]);
    block[..4].copy_from_slice(&csum.to_le_bytes());
    block
}
