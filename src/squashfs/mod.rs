//! Squashfs 4.0: a writer of whole trees or of a few large files, and a reader.
//!
//! Both are our own. The writer compresses its blocks on every core and gives the same bytes on every machine; the reader
//! takes any names and believes no size that an image states.
//!
//! Sources: the kernel's `fs/squashfs/squashfs_fs.h`, the decompressor wrappers beside it, and
//! `Documentation/filesystems/squashfs.rst`; for what the compressor options hold, squashfs-tools.

mod read;
mod write;

pub use read::{FileContent, file, read};
pub use write::{Facts, File, Image, Written, write};

use crate::bytes::ReadAt;
use crate::codec::Compression;
use crate::elf::Archs;

/// `SQUASHFS_MAGIC`, "hsqs" as bytes.
const MAGIC: u32 = 0x7371_7368;
/// Bytes of the superblock.
const SUPERBLOCK: u64 = 96;
/// `SQUASHFS_METADATA_SIZE`: what a metadata block unpacks to at most.
const METADATA_SIZE: usize = 8192;
/// `SQUASHFS_INVALID_FRAG`: a file without a fragment.
const NO_FRAGMENT: u32 = u32::MAX;
/// `SQUASHFS_COMPRESSED_BIT_BLOCK`: set in a block's size where the block is stored as it is.
const STORED: u32 = 1 << 24;
/// What an image may make its reader hold, as metadata and again as a tree, however much it unpacks to: 128 MiB are
/// a million files or the block list of 128 GiB in blocks of 4 KiB.
const MAX_MEMORY: usize = 128 << 20;
/// The least block size of the format.
pub const MIN_BLOCK_SIZE: u32 = 4096;
/// The largest block size of the format: 1 MiB.
pub const MAX_BLOCK_SIZE: u32 = 1 << 20;

/// The compression and block size that the superblock of `source` states; `None` if it is not a squashfs that can be read.
#[must_use]
pub fn packing(source: &dyn ReadAt) -> Option<(Compression, u32)> {
    let mut start = [0; 24];
    source.read_exact_at(&mut start, 0).ok()?;
    let [m0, m1, m2, m3, .., c0, c1, _, _] = start;
    let block_size = u32::from_le_bytes([start[12], start[13], start[14], start[15]]);
    let valid = (MIN_BLOCK_SIZE..=MAX_BLOCK_SIZE).contains(&block_size);
    (u32::from_le_bytes([m0, m1, m2, m3]) == MAGIC && valid)
        .then(|| Compression::from_id(u16::from_le_bytes([c0, c1])))?
        .map(|compression| (compression, block_size))
}

/// Whether `source` starts as a squashfs of a little-endian machine does.
#[must_use]
pub fn is_squashfs(source: &dyn ReadAt) -> bool {
    let mut magic = [0; 4];
    source.read_exact_at(&mut magic, 0).is_ok() && u32::from_le_bytes(magic) == MAGIC
}

/// How an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How blocks are compressed.
    pub compression: Compression,
    /// Bytes in a block: a power of two from [`MIN_BLOCK_SIZE`] to [`MAX_BLOCK_SIZE`].
    pub block_size: u32,
    /// Seconds since 1970, for the superblock and every inode.
    pub time: u32,
    /// The branch filters that xz may use: the kernel that reads the image must have been built with them.
    pub filters: Archs,
    /// Whether contents are stored as they are, because they are compressed already.
    pub stored: bool,
    /// Whether xz searches longer for a smaller image.
    pub thorough: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compression: Compression::Xz,
            block_size: MAX_BLOCK_SIZE,
            time: 0,
            filters: Archs::NONE,
            stored: false,
            thorough: false,
        }
    }
}
