//! The on-disk format: numbers, keys and structures, in the names of the kernel's
//! include/uapi/linux/btrfs_tree.h and fs/btrfs/ctree.h. All integers are little-endian.

/// Where the primary superblock lies on every device.
pub(super) const SUPER_OFFSET: u64 = 64 << 10;
/// Where the superblock's copies lie, each only on a device that reaches there (`btrfs_sb_offset`).
pub(super) const SUPER_MIRRORS: [u64; 3] = [SUPER_OFFSET, 64 << 20, 256 << 30];
/// Size of a superblock.
pub(super) const SUPER_SIZE: usize = 4096;
/// `_BHRfS_M`.
pub(super) const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// Stripes are of this size; nothing is allocated in a stripe that holds a superblock.
pub(super) const STRIPE_LEN: u64 = 64 << 10;
/// Size of `btrfs_header`, with which each tree block begins.
pub(super) const HEADER_SIZE: usize = 101;
/// Size of `btrfs_item`: key, offset and size of an item.
pub(super) const ITEM_SIZE: usize = 25;
/// Size of `btrfs_key_ptr`: key, block and generation of a child.
pub(super) const POINTER_SIZE: usize = 33;
/// Size of `btrfs_inode_item`.
pub(super) const INODE_ITEM_SIZE: usize = 160;
/// Size of `btrfs_file_extent_item` up to where inline data begins.
pub(super) const INLINE_HEADER_SIZE: usize = 21;
/// Size of `btrfs_file_extent_item` for an extent of its own.
pub(super) const FILE_EXTENT_SIZE: usize = 53;
/// Size of `btrfs_root_item` with the fields of Linux 3.6.
pub(super) const ROOT_ITEM_SIZE: usize = 439;
/// Size of `btrfs_dev_item`.
pub(super) const DEV_ITEM_SIZE: usize = 98;
/// Size of `btrfs_chunk` with one stripe.
pub(super) const CHUNK_SIZE: usize = 80;
/// Longest name (`BTRFS_NAME_LEN`).
pub(super) const NAME_LEN: usize = 255;
/// Most names of one inode (`BTRFS_LINK_MAX`).
pub(super) const LINK_MAX: u32 = 65_535;
/// Trees are never higher (`BTRFS_MAX_LEVEL`).
pub(super) const MAX_LEVEL: u8 = 8;
/// Longest data extent that the kernel makes (`BTRFS_MAX_EXTENT_SIZE`).
pub(super) const MAX_EXTENT: u64 = 128 << 20;

/// `btrfs_super_block.flags` and `btrfs_header.flags`: the block was written.
pub(super) const HEADER_FLAG_WRITTEN: u64 = 1;
/// `btrfs_header.flags`: back references are of the mixed kind (`BTRFS_MIXED_BACKREF_REV`).
pub(super) const MIXED_BACKREF_REV: u64 = 1 << 56;

/// Incompatible features (`BTRFS_FEATURE_INCOMPAT_…`).
pub(super) mod incompat {
    /// Linux 2.6.31.
    pub(crate) const MIXED_BACKREF: u64 = 1 << 0;
    /// Nodes larger than a page, Linux 3.4.
    pub(crate) const BIG_METADATA: u64 = 1 << 5;
    /// `INODE_EXTREF` items, Linux 3.7.
    pub(crate) const EXTENDED_IREF: u64 = 1 << 6;
    /// `METADATA_ITEM` in place of `EXTENT_ITEM` for tree blocks, Linux 3.10.
    pub(crate) const SKINNY_METADATA: u64 = 1 << 8;
    /// Holes have no items, Linux 3.14.
    pub(crate) const NO_HOLES: u64 = 1 << 9;
    /// The fsid of tree blocks is not the one that is shown, Linux 5.0.
    pub(crate) const METADATA_UUID: u64 = 1 << 10;
    /// What the reader understands: all of the above, another default subvolume, mixed groups, lzo, zstd, raid56 and
    /// raid1c34 (as long as there is one device) and simple quotas.
    pub(crate) const READABLE: u64 = 0x7ff | 1 << 11 | 1 << 16;
}

/// Object ids of trees and of the fixed objects in them.
pub(super) mod id {
    /// Root tree.
    pub(crate) const ROOT_TREE: u64 = 1;
    /// Extent tree.
    pub(crate) const EXTENT_TREE: u64 = 2;
    /// Chunk tree.
    pub(crate) const CHUNK_TREE: u64 = 3;
    /// Device tree.
    pub(crate) const DEV_TREE: u64 = 4;
    /// The file system's own tree, subvolume 5.
    pub(crate) const FS_TREE: u64 = 5;
    /// The directory in the root tree that names the default subvolume.
    pub(crate) const ROOT_TREE_DIR: u64 = 6;
    /// Checksum tree.
    pub(crate) const CSUM_TREE: u64 = 7;
    /// UUID tree, Linux 3.12.
    pub(crate) const UUID_TREE: u64 = 9;
    /// Tree that balancing uses.
    pub(crate) const DATA_RELOC_TREE: u64 = -9_i64 as u64;
    /// Object of all `EXTENT_CSUM` items.
    pub(crate) const EXTENT_CSUM: u64 = -10_i64 as u64;
    /// Object of all `DEV_ITEM` items.
    pub(crate) const DEV_ITEMS: u64 = 1;
    /// Object of all `CHUNK_ITEM` items.
    pub(crate) const FIRST_CHUNK_TREE: u64 = 256;
    /// First inode of a subvolume: its root directory.
    pub(crate) const FIRST_FREE: u64 = 256;
}

/// Item types (`BTRFS_…_KEY`).
pub(super) mod kind {
    /// Inode.
    pub(crate) const INODE_ITEM: u8 = 1;
    /// Names of an inode in one directory.
    pub(crate) const INODE_REF: u8 = 12;
    /// Names of an inode by hash.
    pub(crate) const INODE_EXTREF: u8 = 13;
    /// Directory entry by hash of the name.
    pub(crate) const DIR_ITEM: u8 = 84;
    /// Directory entry by its place in the order of readdir.
    pub(crate) const DIR_INDEX: u8 = 96;
    /// Piece of a file.
    pub(crate) const EXTENT_DATA: u8 = 108;
    /// Checksums of data.
    pub(crate) const EXTENT_CSUM: u8 = 128;
    /// Root of a tree.
    pub(crate) const ROOT_ITEM: u8 = 132;
    /// Allocated extent.
    pub(crate) const EXTENT_ITEM: u8 = 168;
    /// Allocated tree block.
    pub(crate) const METADATA_ITEM: u8 = 169;
    /// Reference of a tree to a block.
    pub(crate) const TREE_BLOCK_REF: u8 = 176;
    /// Reference of a file to an extent.
    pub(crate) const EXTENT_DATA_REF: u8 = 178;
    /// Block group.
    pub(crate) const BLOCK_GROUP_ITEM: u8 = 192;
    /// Piece of a device.
    pub(crate) const DEV_EXTENT: u8 = 204;
    /// Device.
    pub(crate) const DEV_ITEM: u8 = 216;
    /// Chunk.
    pub(crate) const CHUNK_ITEM: u8 = 228;
    /// UUID of a subvolume.
    pub(crate) const UUID_SUBVOL: u8 = 251;
}

/// Block group types and `EXTENT_ITEM` flags.
pub(super) mod flag {
    /// Block group of data.
    pub(crate) const GROUP_DATA: u64 = 1;
    /// Block group of the chunk tree.
    pub(crate) const GROUP_SYSTEM: u64 = 2;
    /// Block group of metadata.
    pub(crate) const GROUP_METADATA: u64 = 4;
    /// Extent of data.
    pub(crate) const EXTENT_DATA: u64 = 1;
    /// Extent that is a tree block.
    pub(crate) const EXTENT_TREE_BLOCK: u64 = 2;
}

/// `btrfs_file_extent_item.type`.
pub(super) mod extent_type {
    /// The bytes follow in the item.
    pub(crate) const INLINE: u8 = 0;
    /// The bytes lie in an extent.
    pub(crate) const REGULAR: u8 = 1;
    /// The extent was allocated and never written: zeros.
    pub(crate) const PREALLOC: u8 = 2;
}

/// Key of an item (`btrfs_disk_key`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Key {
    /// Object id.
    pub objectid: u64,
    /// Item type.
    pub kind: u8,
    /// Offset: its meaning is the type's.
    pub offset: u64,
}

impl Key {
    /// A key.
    pub(super) const fn new(objectid: u64, kind: u8, offset: u64) -> Self {
        Self { objectid, kind, offset }
    }
}

/// Appends little-endian fields.
pub(super) trait Put {
    /// Appends bytes.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self;
    /// Appends zeros.
    fn zeros(&mut self, count: usize) -> &mut Self;
    /// Appends a byte.
    fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }
    /// Appends 16 bits.
    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    /// Appends 32 bits.
    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    /// Appends 64 bits.
    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    /// Appends a key.
    fn key(&mut self, key: Key) -> &mut Self {
        self.u64(key.objectid).u8(key.kind).u64(key.offset)
    }
    /// Appends a `btrfs_timespec` of whole seconds.
    fn time(&mut self, seconds: i64) -> &mut Self {
        self.bytes(&seconds.to_le_bytes()).u32(0)
    }
}

impl Put for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.extend_from_slice(bytes);
        self
    }
    fn zeros(&mut self, count: usize) -> &mut Self {
        self.resize(self.len() + count, 0);
        self
    }
}

/// Takes little-endian fields from the front; `None` where the bytes end.
pub(super) struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }
    /// 16 bytes of a UUID.
    pub(super) fn uuid(&mut self) -> Option<[u8; 16]> {
        self.array()
    }
    /// A byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }
    /// 16 bits.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    /// 32 bits.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    /// 64 bits.
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    /// A key.
    pub(super) fn key(&mut self) -> Option<Key> {
        Some(Key { objectid: self.u64()?, kind: self.u8()?, offset: self.u64()? })
    }
}

/// CRC-32C as the kernel's `crc32c(seed, …)` computes it: without the inversions before and after.
fn crc32c_raw(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// Hash of a name in a directory (`btrfs_name_hash`).
pub(super) fn name_hash(name: &[u8]) -> u64 {
    u64::from(crc32c_raw(!1, name))
}

/// Hash of a name for `INODE_EXTREF` (`btrfs_extref_hash`).
pub(super) fn extref_hash(parent: u64, name: &[u8]) -> u64 {
    // The kernel passes the object id as the 32-bit seed.
    u64::from(crc32c_raw(parent as u32, name))
}

/// Hash of a file's reference to an extent (`hash_extent_data_ref`).
pub(super) fn data_ref_hash(root: u64, objectid: u64, offset: u64) -> u64 {
    let high = crc32c_raw(!0, &root.to_le_bytes());
    let low = crc32c_raw(crc32c_raw(!0, &objectid.to_le_bytes()), &offset.to_le_bytes());
    (u64::from(high) << 31) ^ u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_mkfs() {
        // The item of the default subvolume as mkfs.btrfs writes it.
        assert_eq!(name_hash(b"default"), 2_378_154_706);
        assert_eq!(name_hash(b"lnk"), 914_137_148);
        assert_eq!(name_hash(b"null"), 918_867_851);
    }

    #[test]
    fn what_was_put_is_taken() {
        let mut bytes = Vec::new();
        bytes.u8(1).u16(2).u32(3).u64(4).key(Key::new(5, 6, 7)).time(-1);
        let mut take = Take(&bytes);
        assert_eq!((take.u8(), take.u16(), take.u32(), take.u64()), (Some(1), Some(2), Some(3), Some(4)));
        assert_eq!(take.key(), Some(Key::new(5, 6, 7)));
        assert_eq!((take.u64(), take.u32(), take.u8()), (Some(u64::MAX), Some(0), None));
    }
}
