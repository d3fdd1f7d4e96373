//! What lies where in a btrfs image, for whoever compresses it.

/// A machine's instruction set, as xz's branch filters tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// i386 and `x86_64`.
    X86,
    /// 32-bit ARM, little endian.
    Arm,
    /// ARM Thumb, little endian.
    ArmThumb,
    /// 64-bit ARM.
    Arm64,
    /// PowerPC, big endian.
    PowerPc,
    /// SPARC.
    Sparc,
    /// Itanium.
    Ia64,
    /// Any other.
    Other,
}

/// What the bytes of a [`Region`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Zeros only.
    Zero,
    /// File system metadata.
    Metadata,
    /// File content.
    Data,
    /// Content of programs and libraries.
    MachineCode(Arch),
}

/// A part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What it holds.
    pub hint: Hint,
}
