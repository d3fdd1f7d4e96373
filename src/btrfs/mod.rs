//! A btrfs image made without mounting, without root and without a copy on disk, and a reader that checks every sum.
//!
//! The on-disk format is that of the kernel's include/uapi/linux/btrfs_tree.h and of the btrfs documentation's page
//! on the on-disk format; names are theirs.

mod disk;
mod features;
mod image;
mod order;
mod plan;
mod reader;
mod trees;

pub use features::Features;
pub use image::{Arch, Hint, Image, Region};
pub use order::machine;
pub use plan::plan;
pub use reader::{is_btrfs, read};

/// How an image is to be made.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the kernel that mounts it knows.
    pub features: Features,
    /// Room to write at run time, bytes; sparse.
    pub free_space: u64,
    /// Time of the inodes that we make (the top of the root tree), seconds since 1970.
    pub time: i64,
    /// Data of one kind starts on a multiple of this, so that a squashfs block of this size holds one kind only.
    pub block_size: u32,
}
