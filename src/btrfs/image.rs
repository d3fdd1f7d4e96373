//! The planned image: bytes on demand.

use std::io;

use crate::spool::ReadAt;
use crate::tree::{Content, Tree};

/// What the bytes of a part of the image are, for those who compress them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Nothing but zeros.
    Zero,
    /// Tree blocks and superblocks.
    Metadata,
    /// Data of files.
    Data,
    /// Machine code, for a branch filter (BCJ).
    MachineCode(Arch),
}

/// Architectures with a branch filter in xz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// i386 and `x86_64`.
    X86,
    /// 32-bit ARM.
    Arm,
    /// 32-bit ARM, Thumb code.
    ArmThumb,
    /// 64-bit ARM: xz has a filter since 5.4, Linux since 6.12.
    Arm64,
    /// PowerPC, big endian.
    PowerPc,
    /// SPARC.
    Sparc,
    /// Itanium.
    Ia64,
    /// One without a filter.
    Other,
}

/// A part of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it starts, bytes.
    pub offset: u64,
    /// How long it is, bytes.
    pub len: u64,
    /// What it is.
    pub hint: Hint,
}

/// Where the bytes of a piece come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// Content of a file from this offset on; zeros behind its end.
    File(Content, u64),
}

/// Bytes at a place of the image.
#[derive(Debug)]
pub(super) struct Piece {
    pub offset: u64,
    pub len: u64,
    pub source: Source,
}

/// A btrfs image; see [`super::plan`]. Bytes that no piece covers are zero.
#[derive(Debug)]
pub struct Image {
    pub(super) tree: Tree,
    /// Sorted by offset, not overlapping.
    pub(super) pieces: Vec<Piece>,
    pub(super) regions: Vec<Region>,
    pub(super) len: u64,
    pub(super) facts: Facts,
}

/// Figures about an image, for the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes of data extents.
    pub data: u64,
    /// Bytes of tree blocks.
    pub metadata: u64,
    /// Bytes of files whose content is stored once more nowhere because another file has the same.
    pub shared: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Image {
    /// What lies where: sorted, covering the whole image.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Figures about the image.
    #[must_use]
    pub const fn facts(&self) -> Facts {
        self.facts
    }
}

impl ReadAt for Image {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|&end| end <= self.len);
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        buffer.fill(0);
        let first = self.pieces.partition_point(|p| p.offset + p.len <= offset);
        for piece in self.pieces[first..].iter().take_while(|p| p.offset < end) {
            let from = piece.offset.max(offset);
            let available = match &piece.source {
                Source::Bytes(bytes) => bytes.len() as u64,
                Source::File(content, start) => content.size.saturating_sub(*start),
            };
            let to = (piece.offset + piece.len.min(available)).min(end);
            if from >= to {
                continue;
            }
            // Both lie within `buffer`.
            let part = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            match &piece.source {
                Source::Bytes(bytes) => bytes.read_exact_at(part, from - piece.offset)?,
                Source::File(content, start) => self.tree.read_at(content, part, start + (from - piece.offset))?,
            }
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}
