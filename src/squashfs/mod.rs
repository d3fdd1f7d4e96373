//! Squashfs 4.0: the writer that packs one large file, and a reader of whole images.
//!
//! The writer goes through the crate backhand, which lays out the image; its blocks are compressed ahead, on every
//! core, and handed to it in order. The reader is our own: backhand's panics on names that are not UTF-8 and
//! believes the sizes that an image states.
//!
//! Sources: the kernel's `fs/squashfs/squashfs_fs.h`, the decompressor wrappers beside it, and
//! `Documentation/filesystems/squashfs.rst`; for what the compressor options hold, squashfs-tools.

mod codec;
mod read;
mod write;

use std::fmt;
use std::str::FromStr;

pub use read::{FileContent, file, read};
pub use write::{Written, write};

use crate::bytes::ReadAt;
use crate::error::Error;

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

/// Whether `source` starts as a squashfs of a little-endian machine does.
#[must_use]
pub fn is_squashfs(source: &dyn ReadAt) -> bool {
    let mut magic = [0; 4];
    source.read_exact_at(&mut magic, 0).is_ok() && u32::from_le_bytes(magic) == MAGIC
}

/// How blocks are compressed: what both the kernel and the superblock know by a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// LZMA2 in an .xz container, with a branch filter where it helps.
    Xz,
    /// Zstandard.
    Zstd,
    /// A zlib stream.
    Gzip,
    /// LZ4 blocks. Of the fast kind: no crate without C code has LZ4 HC.
    Lz4,
    /// LZO1X.
    Lzo,
}

impl Compression {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Xz, Self::Zstd, Self::Gzip, Self::Lz4, Self::Lzo];

    /// The number of `squashfs_fs.h` (`ZLIB_COMPRESSION` and so on).
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Gzip => 1,
            Self::Lzo => 3,
            Self::Xz => 4,
            Self::Lz4 => 5,
            Self::Zstd => 6,
        }
    }

    fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.id() == id)
    }

    /// Its name, as mksquashfs spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Lzo => "lzo",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|compression| compression.name() == name).ok_or_else(|| {
            Error::usage(format!("squashfs has no compression {name:?}"))
                .hint("take xz, zstd, gzip, lz4 or lzo")
        })
    }
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
    /// Whether xz may use the branch filters: the kernel that reads the image must have been built with them.
    pub bcj: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { compression: Compression::Xz, block_size: MAX_BLOCK_SIZE, time: 0, bcj: false }
    }
}
