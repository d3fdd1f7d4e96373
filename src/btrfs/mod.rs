//! btrfs: an image laid out in memory and made on demand, and a reader that verifies every checksum.
//!
//! [`plan`] turns a [`Tree`](crate::tree::Tree) into an [`Image`], of which any range can be read at any time from any
//! thread: nothing is mounted, nothing is copied, no privilege is needed. [`read`] is the other way round. The format is
//! that of the kernel's include/uapi/linux/btrfs_tree.h and Documentation/filesystems/btrfs (the on-disk format page).

mod disk;
mod features;
mod image;
mod layout;
mod links;
mod namespace;
mod order;
mod pack;
mod reader;
mod scan;

pub use features::Features;
pub use image::{Facts, Image};
pub use layout::plan;
pub use order::machine;
pub use reader::{Scrubbed, is_btrfs, read, scrub, verify_data};

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

/// An architecture whose machine code xz has a branch filter for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// i386 and x86-64.
    X86,
    /// PowerPC, big-endian.
    PowerPc,
    /// Itanium.
    Ia64,
    /// ARM in ARM mode.
    Arm,
    /// ARM in Thumb mode.
    ArmThumb,
    /// 64-bit ARM.
    Arm64,
    /// SPARC.
    Sparc,
    /// One without a filter that the kernel has.
    Other,
}

/// What a region of the image holds, for the compressor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Zeros only.
    Zero,
    /// Superblocks and tree blocks, with small files in them.
    Metadata,
    /// Files.
    Data,
    /// Programs and shared libraries of one architecture.
    MachineCode(Arch),
}

/// A region of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it starts.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What it holds.
    pub hint: Hint,
}

#[cfg(test)]
mod tests;
