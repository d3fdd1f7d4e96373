//! Structures of the on-disk format, little endian, packed.

use super::features::SECTOR;

/// Where the first superblock lies, and its copies.
pub const SUPERBLOCKS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
/// What is kept free around a superblock (`BTRFS_STRIPE_LEN`).
pub const STRIPE_LEN: u64 = 64 << 10;
/// Size of a superblock.
pub const SUPER_SIZE: usize = 4096;
/// `BTRFS_MAGIC`.
pub const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// Size of a tree block's header.
pub const HEADER: usize = 101;
/// Size of an item in a leaf, without its data.
pub const ITEM: usize = 25;
/// Size of a key pointer in a node.
pub const KEY_PTR: usize = 33;
/// Most bytes of one data extent (`BTRFS_MAX_EXTENT_SIZE`).
pub const MAX_EXTENT: u64 = 128 << 20;
/// The one transaction that made everything.
pub const GENERATION: u64 = 1;

/// Object ids of trees and of what lives in them.
pub mod id {
    pub const ROOT_TREE: u64 = 1;
    pub const EXTENT_TREE: u64 = 2;
    pub const CHUNK_TREE: u64 = 3;
    pub const DEV_TREE: u64 = 4;
    pub const FS_TREE: u64 = 5;
    pub const ROOT_TREE_DIR: u64 = 6;
    pub const CSUM_TREE: u64 = 7;
    pub const UUID_TREE: u64 = 9;
    pub const DATA_RELOC_TREE: u64 = -9_i64 as u64;
    pub const EXTENT_CSUM: u64 = -10_i64 as u64;
    pub const FIRST_FREE: u64 = 256;
    pub const FIRST_CHUNK_TREE: u64 = 256;
    pub const DEV_ITEMS: u64 = 1;
}

/// Item types.
pub mod item {
    pub const INODE_ITEM: u8 = 1;
    pub const INODE_REF: u8 = 12;
    pub const INODE_EXTREF: u8 = 13;
    pub const DIR_ITEM: u8 = 84;
    pub const DIR_INDEX: u8 = 96;
    pub const EXTENT_DATA: u8 = 108;
    pub const EXTENT_CSUM: u8 = 128;
    pub const ROOT_ITEM: u8 = 132;
    pub const EXTENT_ITEM: u8 = 168;
    pub const METADATA_ITEM: u8 = 169;
    pub const TREE_BLOCK_REF: u8 = 176;
    pub const EXTENT_DATA_REF: u8 = 178;
    pub const BLOCK_GROUP_ITEM: u8 = 192;
    pub const DEV_EXTENT: u8 = 204;
    pub const DEV_ITEM: u8 = 216;
    pub const CHUNK_ITEM: u8 = 228;
}

/// Block group types.
pub mod group {
    pub const DATA: u64 = 1;
    pub const SYSTEM: u64 = 2;
    pub const METADATA: u64 = 4;
}

/// A key: what items are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub object: u64,
    pub kind: u8,
    pub offset: u64,
}

impl Key {
    pub const fn new(object: u64, kind: u8, offset: u64) -> Self {
        Self { object, kind, offset }
    }

    pub fn put(self, out: &mut Bytes) {
        out.u64(self.object).u8(self.kind).u64(self.offset);
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self { object: le64(bytes, 0)?, kind: *bytes.get(8)?, offset: le64(bytes, 9)? })
    }
}

/// The little-endian number at `at`.
pub fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The little-endian number at `at`.
pub fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The little-endian number at `at`.
pub fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Bytes of a structure being written.
#[derive(Debug, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
    pub fn time(&mut self, seconds: i64) -> &mut Self {
        self.put(&seconds.to_le_bytes()).u32(0)
    }
}

/// crc32c as the kernel's `crc32c(seed, …)`: no inversion before or after.
pub fn raw_crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// `btrfs_name_hash`: the offset of a DIR_ITEM key.
pub fn name_hash(name: &[u8]) -> u64 {
    u64::from(raw_crc32c(!1, name))
}

/// `btrfs_extref_hash`: the offset of an INODE_EXTREF key.
pub fn extref_hash(parent: u64, name: &[u8]) -> u64 {
    // The parent's number is the seed, cut to 32 bits.
    u64::from(raw_crc32c(parent as u32, name))
}

/// `hash_extent_data_ref`.
pub fn data_ref_hash(root: u64, object: u64, offset: u64) -> u64 {
    let high = raw_crc32c(!0, &root.to_le_bytes());
    let low = raw_crc32c(raw_crc32c(!0, &object.to_le_bytes()), &offset.to_le_bytes());
    (u64::from(high) << 31) ^ u64::from(low)
}

/// The checksum of a tree block or superblock: everything behind the checksum's own 32 bytes.
pub fn set_checksum(block: &mut [u8]) {
    let sum = crc32c::crc32c(&block[32..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

/// Whether the checksum of a tree block or superblock holds.
pub fn checksum_holds(block: &[u8]) -> bool {
    block.len() > 32 && le32(block, 0) == Some(crc32c::crc32c(&block[32..]))
}

/// `struct btrfs_inode_item`.
#[derive(Debug, Clone, Copy, Default)]
pub struct InodeItem {
    pub size: u64,
    pub nbytes: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub rdev: u64,
    pub time: i64,
}

impl InodeItem {
    pub fn put(&self, out: &mut Bytes) {
        out.u64(GENERATION).u64(GENERATION).u64(self.size).u64(self.nbytes).u64(0);
        out.u32(self.nlink).u32(self.uid).u32(self.gid).u32(self.mode);
        out.u64(self.rdev).u64(0).u64(0).zeros(32);
        out.time(self.time).time(self.time).time(self.time).time(self.time);
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            size: le64(bytes, 16)?,
            nbytes: le64(bytes, 24)?,
            nlink: le32(bytes, 40)?,
            uid: le32(bytes, 44)?,
            gid: le32(bytes, 48)?,
            mode: le32(bytes, 52)?,
            rdev: le64(bytes, 56)?,
            time: le64(bytes, 136)? as i64,
        })
    }
}

/// `struct btrfs_root_item` for the tree whose top block is at `bytenr`.
pub fn root_item(bytenr: u64, level: u8, bytes_used: u64, directory: bool, time: i64) -> Vec<u8> {
    let mut out = Bytes::default();
    if directory {
        let inode = InodeItem { size: 3, nbytes: u64::from(SECTOR), nlink: 1, mode: 0o40755, time, ..Default::default() };
        inode.put(&mut out);
    } else {
        out.zeros(160);
    }
    out.u64(GENERATION).u64(if directory { id::FIRST_FREE } else { 0 }).u64(bytenr).u64(0).u64(bytes_used).u64(0).u64(0);
    out.u32(1).zeros(17).u8(0).u8(level);
    out.u64(GENERATION).zeros(48).zeros(32).zeros(48).zeros(64);
    out.0
}

/// `struct btrfs_chunk` with its one stripe.
pub fn chunk_item(length: u64, kind: u64, physical: u64, device_uuid: &[u8; 16]) -> Vec<u8> {
    let mut out = Bytes::default();
    out.u64(length).u64(id::EXTENT_TREE).u64(STRIPE_LEN).u64(kind);
    out.u32(STRIPE_LEN as u32).u32(STRIPE_LEN as u32).u32(SECTOR).u16(1).u16(0);
    out.u64(1).u64(physical).put(device_uuid);
    out.0
}

/// `struct btrfs_dev_item`.
pub fn dev_item(total: u64, used: u64, uuid: &[u8; 16], fsid: &[u8; 16]) -> Vec<u8> {
    let mut out = Bytes::default();
    out.u64(1).u64(total).u64(used).u32(SECTOR).u32(SECTOR).u32(SECTOR);
    out.u64(0).u64(0).u64(0).u32(0).u8(0).u8(0).put(uuid).put(fsid);
    out.0
}

/// `struct btrfs_dir_item` with its name; `kind` is `BTRFS_FT_…`.
pub fn dir_item(location: Key, kind: u8, name: &[u8]) -> Vec<u8> {
    let mut out = Bytes::default();
    location.put(&mut out);
    out.u64(GENERATION).u16(0).u16(name.len() as u16).u8(kind).put(name);
    out.0
}

/// `struct btrfs_inode_ref` with its name.
pub fn inode_ref(index: u64, name: &[u8]) -> Vec<u8> {
    let mut out = Bytes::default();
    out.u64(index).u16(name.len() as u16).put(name);
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_kernel() {
        // The DIR_ITEM of "default" in every root tree that mkfs.btrfs makes.
        assert_eq!(name_hash(b"default"), 2_378_154_706);
    }

    #[test]
    fn structures_have_their_sizes() {
        assert_eq!(root_item(0, 0, 0, true, 0).len(), 439);
        assert_eq!(chunk_item(0, 0, 0, &[0; 16]).len(), 80);
        assert_eq!(dev_item(0, 0, &[0; 16], &[0; 16]).len(), 98);
        assert_eq!(dir_item(Key::new(0, 0, 0), 0, b"").len(), 30);
        let mut out = Bytes::default();
        InodeItem::default().put(&mut out);
        assert_eq!(out.0.len(), 160);
    }
}
