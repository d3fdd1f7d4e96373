//! The order of data: what is alike lies together, so that blocks of 1 MiB, each compressed for itself, come out small.

use goblin::elf::header;

use crate::elf::{self, Arch};

/// Where a content goes: contents are sorted by this, then by path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Contents of one group lie together.
    pub(crate) group: Group,
    /// Order within the group.
    key: Vec<u8>,
}

/// Groups in the order in which they lie in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Programs and shared libraries of one architecture.
    Code(Arch),
    /// Relocatable ELF files: kernel modules, objects. Their call targets are not yet filled in, so that a branch
    /// filter would only disturb them.
    Object,
    /// All else.
    Other,
    /// What compression cannot make smaller.
    Dense,
}

/// Entropy in bits a byte from which on a content is held to be compressed already.
const DENSE: f32 = 7.9;

/// Finds the place of a content by a path that it has, its first bytes and its entropy; that of code by the bytes of
/// all that it needs to run: what needs little comes first, each behind what it needs.
pub(super) fn place(path: &[u8], head: &[u8], entropy: f32, size: u64, closure: u64) -> Place {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    let directory = &path[..path.len() - name.len()];
    let group = match elf::header(head) {
        Some((header::ET_EXEC | header::ET_DYN, arch)) => Group::Code(arch),
        Some(_) => Group::Object,
        None if entropy >= DENSE && size >= 16 << 10 => Group::Dense,
        None => Group::Other,
    };
    let mut key = Vec::new();
    if let Group::Code(_) = group {
        key.extend_from_slice(&closure.to_be_bytes());
    }
    if group == Group::Other || group == Group::Dense {
        let extension = extension(name);
        key.extend_from_slice(extension);
        key.push(0);
        // Files of one type and name are versions of one text, such as a program's messages in many languages.
        if !extension.is_empty() {
            key.extend_from_slice(name);
            key.push(0);
        }
    }
    key.extend_from_slice(directory);
    key.extend_from_slice(name);
    Place { group, key }
}

/// The part of a name after its last dot, where that looks like a file type.
fn extension(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|&b| b == b'.') {
        Some(dot) if dot > 0 && name.len() - dot <= 12 => &name[dot + 1..],
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, machine: u8) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[16] = kind;
        head[18] = machine;
        head
    }

    #[test]
    fn programs_are_code_and_modules_are_not() {
        let x86 = header::EM_X86_64 as u8;
        assert_eq!(place(b"bin/ls", &header(3, x86), 6.0, 1 << 20, 0).group, Group::Code(Arch::X86));
        assert_eq!(place(b"a.ko", &header(1, x86), 6.0, 1 << 20, 0).group, Group::Object);
        assert_eq!(place(b"bin/ls", &header(2, 21), 6.0, 1 << 20, 0).group, Group::Code(Arch::Other));
        assert_eq!(place(b"a.png", b"\x89PNG", 7.99, 1 << 20, 0).group, Group::Dense);
        assert_eq!(place(b"a.txt", b"text", 4.5, 1 << 20, 0).group, Group::Other);
    }

    #[test]
    fn code_that_needs_little_comes_first() {
        let at =
            |path: &[u8], closure| place(path, &header(3, header::EM_X86_64 as u8), 6.0, 1 << 20, closure);
        assert!(at(b"usr/bin/sh", 2 << 20) < at(b"bin/Xorg", 20 << 20));
        assert!(at(b"a", 5) < at(b"b", 5));
    }

    #[test]
    fn files_of_one_type_lie_together() {
        let at = |path: &[u8]| place(path, b"", 4.0, 5000, 0);
        assert!(at(b"z/a.mo") < at(b"a/a.txt"));
        assert!(at(b"de/a.mo") < at(b"fr/a.mo") && at(b"fr/a.mo") < at(b"de/b.mo"));
        assert!(at(b"a/z") < at(b"b/a"));
        assert_eq!(extension(b".profile"), b"");
        assert_eq!(extension(b"x.tar"), b"tar");
    }
}
