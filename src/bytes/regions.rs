//! What the regions of an image hold, for the compressor.

use crate::elf::Arch;

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
    /// A few files that are worth more time than the rest: the modules that the boot initramfs loads.
    Few,
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
