//! btrfs: an image laid out in memory and made on demand, and a reader that verifies every checksum.
//!
//! [`plan`] turns a [`Tree`](crate::tree::Tree) into an [`Image`], of which any range can be read at any time from any
//! thread: nothing is mounted, nothing is copied, no privilege is needed. [`read()`] is the other way round. The format is
//! that of the kernel's include/uapi/linux/btrfs_tree.h and Documentation/filesystems/btrfs (the on-disk format page).

mod disk;
mod features;
mod read;
mod write;

pub use features::Features;
pub use read::{Scrubbed, is_btrfs, read, scrub};
pub use write::{Facts, Image, plan};

/// How an image is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What the kernel can mount.
    pub features: Features,
    /// Bytes that can be written at run time: room of the device that no chunk takes yet. It costs nothing in a
    /// squashfs.
    pub free_space: u64,
    /// Time of creation of the file system, seconds since 1970.
    pub time: i64,
    /// Block size of the squashfs that will hold the image: kinds of data that are compressed differently do not share
    /// a block.
    pub block_size: u32,
}

impl Options {
    /// 1 GiB of free space, blocks of 1 MiB, time 0.
    #[must_use]
    pub const fn new(features: Features) -> Self {
        Self { features, free_space: 1 << 30, time: 0, block_size: 1 << 20 }
    }
}
