//! The squashfs with a live system that an initrd carries: what says that it is converted already.

use std::ops::Range;
use std::path::Path;

use crate::contract::paths;
use crate::initrd::Initrd;
use crate::squashfs;
use crate::tree::{InodeId, Node, Tree};

/// Where live systems keep their root file system, inside a squashfs.
const ROOTFS: [&str; 2] = [paths::ROOTFS, paths::OTHER_ROOTFS];
/// Where images carry that squashfs.
const SQUASHFS: [&str; 2] = [paths::SQUASHFS, paths::OTHER_SQUASHFS];

/// What of an initrd holds its live system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A regular file.
    File(InodeId),
    /// The body of an entry that the kernel skips, at this place of the image.
    Skipped(Range<u64>),
}

/// The squashfs with the live system that an initrd carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Its path, without a leading `/`.
    pub path: Vec<u8>,
    /// What holds it.
    pub body: Body,
}

/// Finds the squashfs with the live system in `initrd`; `None` where its system lies in the initrd itself.
///
/// A file with the name and the magic number of a squashfs that cannot be read counts too: whoever opens it is shown what
/// is damaged.
#[must_use]
pub fn carried(initrd: &Initrd) -> Option<Carried> {
    let named = |name: &[u8]| name.ends_with(paths::SQUASHFS.as_bytes());
    if let Some((name, range)) = initrd.skipped_bodies.iter().find(|(name, _)| named(name)) {
        return Some(Carried { path: name.clone(), body: Body::Skipped(range.clone()) });
    }
    SQUASHFS.iter().find_map(|path| {
        let id = initrd.tree.get(path)?;
        let file = squashfs::file(&initrd.tree, id)?;
        let holds_system = squashfs::is_squashfs(file.as_ref())
            && squashfs::read(file, Path::new(path))
                .map_or(true, |tree| rootfs(&tree).is_some() || system(&tree));
        holds_system.then(|| Carried { path: path.as_bytes().to_vec(), body: Body::File(id) })
    })
}

/// The image of the root file system in a squashfs.
#[must_use]
pub fn rootfs(tree: &Tree) -> Option<(&'static str, InodeId)> {
    ROOTFS.iter().find_map(|path| {
        let id = tree.get(path)?;
        matches!(tree.inode(id).node, Node::Regular(_)).then_some((*path, id))
    })
}

/// Whether a tree is a system of its own.
fn system(tree: &Tree) -> bool {
    tree.resolve("etc").is_some()
        && ["usr", "bin", "sbin", "init"].iter().any(|path| tree.get(path).is_some())
}
