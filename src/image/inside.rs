//! File system images and archives inside an image, found by magic at any path.

use std::io::{BufReader, Read};

use serde::Serialize;

use super::archives::Cursor;
use crate::codec::{self, Encoding};
use crate::squashfs;
use crate::tree::{InodeId, Node, Tree, display};

/// Smaller files hold no system.
const MIN_SIZE: u64 = 1 << 20;
/// So many files are looked into, the largest.
const MAX_FILES: usize = 64;
/// As far as the last magic number that is looked for: btrfs's.
const HEAD: usize = 65_536 + 72;
/// So much of a compressed file is unpacked to see what is inside.
const PREFIX: usize = HEAD;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InsideKind {
    /// squashfs 4.
    Squashfs,
    /// EROFS.
    Erofs,
    /// btrfs.
    Btrfs,
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// F2FS.
    F2fs,
    /// cramfs.
    Cramfs,
    /// romfs.
    Romfs,
    /// ISO 9660.
    Iso,
    /// A disk image with a partition table (GPT).
    Disk,
    /// qcow2.
    Qcow2,
    /// tar.
    Tar,
    /// cpio, newc.
    Cpio,
}

impl InsideKind {
    /// Whether a system can be in it; all can, a disk image may also be something that an installer writes.
    #[must_use]
    pub const fn holds_system(self) -> bool {
        !matches!(self, Self::Qcow2)
    }

    /// Whether it is an archive: it has to be unpacked before it is used.
    #[must_use]
    pub const fn is_archive(self) -> bool {
        matches!(self, Self::Tar | Self::Cpio)
    }

    /// What the bytes at the start of a file say.
    fn of(head: &[u8]) -> Option<Self> {
        let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
        Some(match () {
            () if at(0, b"hsqs") && at(28, &[4, 0]) => Self::Squashfs,
            () if at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) => Self::Erofs,
            () if at(1024, &[0x10, 0x20, 0xf5, 0xf2]) => Self::F2fs,
            () if at(65_536 + 64, b"_BHRfS_M") => Self::Btrfs,
            // s_magic, and a block size of 1 to 64 KiB.
            () if at(1080, &[0x53, 0xef]) && head.get(1048).is_some_and(|shift| *shift <= 6) => Self::Ext,
            () if at(0, b"XFSB") => Self::Xfs,
            () if at(0, &[0x45, 0x3d, 0xcd, 0x28]) => Self::Cramfs,
            () if at(0, b"-rom1fs-") => Self::Romfs,
            () if at(32_769, b"CD001") => Self::Iso,
            () if at(512, b"EFI PART") => Self::Disk,
            () if at(0, b"QFI\xfb") => Self::Qcow2,
            () if at(257, b"ustar") => Self::Tar,
            () if at(0, b"070701") || at(0, b"070702") => Self::Cpio,
            () => return None,
        })
    }
}

/// A file system image or an archive inside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inside {
    /// Path with a leading `/`.
    pub path: String,
    /// What it is, unpacked if need be.
    pub kind: InsideKind,
    /// Whether the file is compressed as a whole.
    pub compressed: bool,
    /// Size of the file in bytes.
    pub size: u64,
    /// The file.
    #[serde(skip)]
    pub id: InodeId,
}

/// The file system images and archives in `tree`, the largest first.
pub(super) fn find(tree: &Tree) -> Vec<Inside> {
    let mut files: Vec<(u64, Vec<u8>, InodeId)> = Vec::new();
    let mut seen = vec![false; tree.inodes.len()];
    for entry in tree.walk() {
        if let Node::Regular(content) = &tree.inode(entry.id).node
            && content.size >= MIN_SIZE
            && !std::mem::replace(&mut seen[entry.id.0 as usize], true)
        {
            files.push((content.size, entry.path, entry.id));
        }
    }
    files.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    files.truncate(MAX_FILES);
    let look = |(size, path, id): (u64, Vec<u8>, InodeId)| {
        let (kind, compressed) = kind(tree, id)?;
        Some(Inside { path: format!("/{}", display(&path)), kind, compressed, size, id })
    };
    files.into_iter().filter_map(look).collect()
}

fn kind(tree: &Tree, id: InodeId) -> Option<(InsideKind, bool)> {
    let Node::Regular(content) = &tree.inode(id).node else { return None };
    let mut head = vec![0; content.size.min(HEAD as u64) as usize];
    tree.read_at(content, &mut head, 0).ok()?;
    if let Some(kind) = InsideKind::of(&head) {
        return Some((kind, false));
    }
    if matches!(Encoding::by_signature(&head), None | Some(Encoding::Plain)) {
        return None;
    }
    // Blocks of xz and zstd may be larger than the head: they are read as far as is needed.
    let reader = BufReader::new(Cursor::new(squashfs::file(tree, id)?));
    let mut start = Vec::new();
    let _ = codec::any(reader).ok()?.take(PREFIX as u64).read_to_end(&mut start);
    InsideKind::of(&start).map(|kind| (kind, true))
}

/// Percent of the tree's content that `files` are.
pub(super) fn share(tree: &Tree, files: &[&Inside]) -> u8 {
    let mut seen = vec![false; tree.inodes.len()];
    let sizes =
        tree.walk().filter(|entry| !std::mem::replace(&mut seen[entry.id.0 as usize], true)).map(|entry| {
            match &tree.inode(entry.id).node {
                Node::Regular(content) => content.size,
                _ => 0,
            }
        });
    let all = sizes.fold(1, u64::saturating_add);
    let size: u128 = files.iter().map(|file| u128::from(file.size)).sum();
    (size * 100 / u128::from(all)).min(100) as u8
}
