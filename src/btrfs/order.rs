//! The order in which the data of files lies: like beside like, so that a block compresses well.

use super::image::Arch;

/// A class of content; classes lie in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Machine code of one architecture.
    Code(Arch),
    /// Text and whatever else compresses.
    Plain,
    /// Packed already: compressed modules, archives, pictures.
    Packed,
}

/// The architecture of an ELF file by the start of its header (`e_machine`), or `None` where it is no ELF file.
#[must_use]
pub fn machine(start: &[u8]) -> Option<Arch> {
    let little = match start.get(..6)? {
        [0x7f, b'E', b'L', b'F', _, 1] => true,
        [0x7f, b'E', b'L', b'F', _, 2] => false,
        _ => return None,
    };
    let bytes = [*start.get(18)?, *start.get(19)?];
    let number = if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    Some(match (number, little) {
        (3 | 62, true) => Arch::X86,
        // Distributions for 32-bit ARM are built as Thumb-2 since armv7.
        (40, true) => Arch::ArmThumb,
        (183, true) => Arch::Arm64,
        (20 | 21, false) => Arch::PowerPc,
        (2 | 18 | 43, false) => Arch::Sparc,
        (50, true) => Arch::Ia64,
        _ => Arch::Other,
    })
}

/// Class of a file by its first bytes.
pub fn class(start: &[u8]) -> Class {
    if let Some(arch) = machine(start) {
        return Class::Code(arch);
    }
    match start {
        [0x1f, 0x8b, ..]
        | [0xfd, b'7', b'z', b'X', b'Z', ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..]
        | [b'B', b'Z', b'h', ..]
        | [0x89, b'P', b'N', b'G', ..]
        | [0xff, 0xd8, 0xff, ..]
        | [b'P', b'K', 3, 4, ..]
        | [b'w', b'O', b'F', ..] => Class::Packed,
        _ => Class::Plain,
    }
}

/// What files of one class are sorted by: extension, then name within the folder tree.
pub fn key(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    // libfoo.so.1.2 and libfoo.so belong together; so do foo.templates and bar.templates.
    let extension = match name.windows(4).position(|w| w == b".so.") {
        Some(_) => b"so".to_vec(),
        None => match name.iter().rposition(|&b| b == b'.') {
            Some(dot) if dot > 0 => name[dot + 1..].to_vec(),
            _ => Vec::new(),
        },
    };
    (extension, path.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elf_files_are_told_by_their_machine() {
        let mut elf = [0_u8; 20];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        assert_eq!(machine(&elf), Some(Arch::X86));
        elf[5] = 2;
        assert_eq!(machine(&elf), Some(Arch::Other));
        assert_eq!(machine(b"\x7fELF"), None);
        assert_eq!(class(b"#!/bin/sh"), Class::Plain);
        assert!(Class::Code(Arch::X86) < Class::Plain);
        assert_eq!(key(b"lib/libc.so.6").0, b"so");
    }
}
