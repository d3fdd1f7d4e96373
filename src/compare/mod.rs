//! Compares file trees: the basis of `diff` and `verify`.
//!
//! Two trees are walked side by side in the same order, so that each path is seen once; contents are compared byte
//! by byte afterwards, in the order in which they are stored, so that each compressed block is unpacked only once.

mod diff;
mod fold;
mod moves;
mod packages;
mod text;
mod verify;

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::tree::{Entry, Inode, InodeId, Node, Tree, content};

pub use diff::{DiffOptions, Difference, SizeChange, Totals, diff};
pub use fold::{Folded, Reason};
pub use packages::{PackageChange, PackageComparison, PackageSide};
pub use text::TextDifference;
pub(crate) use verify::read_runtime;
pub use verify::{Item, Note, Verification, verify};

/// A property in which the inodes of a path can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// The file type.
    Type,
    /// The bytes of a regular file.
    Content,
    /// The target of a symlink.
    Target,
    /// The number of a device node.
    Device,
    /// The permission bits.
    Mode,
    /// User or group.
    Owner,
    /// The number of names, or which names share the inode.
    Links,
    /// The time of last modification.
    Time,
}

impl Aspect {
    /// Whether `diff -r` and a look at types, modes and owners show it; times and link counts are listed separately.
    #[must_use]
    pub const fn is_weighty(self) -> bool {
        !matches!(self, Self::Links | Self::Time)
    }
}

/// How a path differs. The values before and after are those of the two inodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The file type.
    Type,
    /// The bytes of a regular file, from this offset on.
    Content(u64),
    /// The target of a symlink.
    Target,
    /// The number of a device node.
    Device,
    /// The permission bits.
    Mode,
    /// User or group.
    Owner,
    /// The number of names.
    LinkCount,
    /// The names that share the inode: the first path of the same inode in the old and in the new tree.
    Partners(Vec<u8>, Vec<u8>),
    /// The time of last modification.
    Time,
}

impl Change {
    /// The property that differs.
    #[must_use]
    pub const fn aspect(&self) -> Aspect {
        match self {
            Self::Type => Aspect::Type,
            Self::Content(_) => Aspect::Content,
            Self::Target => Aspect::Target,
            Self::Device => Aspect::Device,
            Self::Mode => Aspect::Mode,
            Self::Owner => Aspect::Owner,
            Self::LinkCount | Self::Partners(..) => Aspect::Links,
            Self::Time => Aspect::Time,
        }
    }
}

/// The type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symlink.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileType {
    /// The type of `inode`.
    #[must_use]
    pub const fn of(inode: &Inode) -> Self {
        match inode.node {
            Node::Directory(_) => Self::Directory,
            Node::Regular(_) => Self::Regular,
            Node::Symlink(_) => Self::Symlink,
            Node::CharDevice(_) => Self::CharDevice,
            Node::BlockDevice(_) => Self::BlockDevice,
            Node::Fifo => Self::Fifo,
            Node::Socket => Self::Socket,
        }
    }
}

/// A path that both trees have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The path, without a leading `/`.
    pub path: Vec<u8>,
    /// The inode in the old tree.
    pub old: InodeId,
    /// The inode in the new tree.
    pub new: InodeId,
    /// How they differ, in the order of [`Aspect`].
    pub changes: Vec<Change>,
}

impl Pair {
    /// Whether `aspect` differs.
    #[must_use]
    pub fn differs(&self, aspect: Aspect) -> bool {
        self.changes.iter().any(|change| change.aspect() == aspect)
    }
}

/// Everything in which two trees differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeDifference {
    /// Paths that only the new tree has.
    pub added: Vec<Entry>,
    /// Paths that only the old tree has.
    pub removed: Vec<Entry>,
    /// Paths that both have and that differ.
    pub changed: Vec<Pair>,
    /// Number of paths that are equal in everything.
    pub same: u64,
    /// Bytes of content that were compared.
    pub bytes: u64,
}

impl TreeDifference {
    /// Whether the trees are equal in everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Which tree decides the order in which contents are read: the one whose bytes have to be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOrder {
    /// As they are stored in the old tree's data.
    Old,
    /// As they are stored in the new tree's data.
    New,
}

/// Everything in which `new` differs from `old`: type, content, link target, device number, permission bits, owner,
/// link count and partners, time. Link counts of directories follow from the rest and are left out.
///
/// # Errors
/// If a content cannot be read.
pub fn trees(old: &Tree, new: &Tree, order: ReadOrder) -> Result<TreeDifference, Error> {
    trees_where(old, new, order, &|_| true)
}

/// [`trees`] for the paths that `wanted` accepts: the others are in no list and no number.
///
/// # Errors
/// As [`trees`].
pub(crate) fn trees_where(
    old: &Tree,
    new: &Tree,
    order: ReadOrder,
    wanted: &dyn Fn(&[u8]) -> bool,
) -> Result<TreeDifference, Error> {
    let mut found = TreeDifference::default();
    let mut pairs = join(old, new, &mut found);
    pairs.retain(|(path, ..)| wanted(path));
    found.added.retain(|entry| wanted(&entry.path));
    found.removed.retain(|entry| wanted(&entry.path));
    let contents = compare_contents(old, new, &pairs, order, &mut found.bytes)?;
    let mut links = Links::default();
    for ((path, a, b), content) in pairs.into_iter().zip(contents) {
        let changes = changes(old, new, &path, (a, b), content, &mut links);
        if changes.is_empty() {
            found.same += 1;
        } else {
            found.changed.push(Pair { path, old: a, new: b, changes });
        }
    }
    Ok(found)
}

type PathPair = (Vec<u8>, InodeId, InodeId);

/// Walks both trees side by side: paths of one tree go to `found`, paths of both come back.
fn join(old: &Tree, new: &Tree, found: &mut TreeDifference) -> Vec<PathPair> {
    let mut pairs = Vec::new();
    let (mut left, mut right) = (old.walk().peekable(), new.walk().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => walk_order(&a.path, &b.path),
        };
        match order {
            Ordering::Less => found.removed.extend(left.next()),
            Ordering::Greater => found.added.extend(right.next()),
            Ordering::Equal => {
                if let (Some(a), Some(b)) = (left.next(), right.next()) {
                    pairs.push((a.path, a.id, b.id));
                }
            }
        }
    }
}

/// The order of [`Tree::walk`]: name by name, a directory before its content.
pub(crate) fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|&byte| byte == b'/').cmp(b.split(|&byte| byte == b'/'))
}

/// For each pair the offset of the first byte that differs, where both are regular files and one does.
fn compare_contents(
    old: &Tree,
    new: &Tree,
    pairs: &[PathPair],
    order: ReadOrder,
    bytes: &mut u64,
) -> Result<Vec<Option<u64>>, Error> {
    let mut work: Vec<(u64, usize)> = Vec::new();
    for (index, &(_, a, b)) in pairs.iter().enumerate() {
        if let (Node::Regular(left), Node::Regular(right)) = (&old.inode(a).node, &new.inode(b).node) {
            let by = if order == ReadOrder::Old { left } else { right };
            work.push((content::place(by), index));
        }
    }
    work.sort_unstable();
    let mut results = vec![None; pairs.len()];
    let mut known: HashMap<(InodeId, InodeId), Option<u64>> = HashMap::new();
    let mut buffers = content::Buffers::new();
    for (_, index) in work {
        let (path, a, b) = &pairs[index];
        let (left_inode, right_inode) = (old.inode(*a), new.inode(*b));
        let (Node::Regular(left), Node::Regular(right)) = (&left_inode.node, &right_inode.node) else {
            continue;
        };
        let linked = left_inode.nlink > 1 && right_inode.nlink > 1;
        results[index] = match known.get(&(*a, *b)) {
            Some(&result) if linked => result,
            _ => {
                *bytes += left.size.min(right.size);
                content::first_difference((old, left), (new, right), path, &mut buffers)?
            }
        };
        if linked {
            known.insert((*a, *b), results[index]);
        }
    }
    Ok(results)
}

/// Which inode of the new tree corresponds to which of the old: hard links have to be shared in the same way.
#[derive(Default)]
struct Links {
    new_of: HashMap<InodeId, (InodeId, Vec<u8>)>,
    old_of: HashMap<InodeId, (InodeId, Vec<u8>)>,
}

impl Links {
    /// The first path of the same inode in each tree, if the names that share it are not the same.
    fn partners(&mut self, path: &[u8], old: InodeId, new: InodeId) -> Option<Change> {
        let (new_before, first_in_old) =
            self.new_of.entry(old).or_insert_with(|| (new, path.to_vec())).clone();
        let (old_before, first_in_new) =
            self.old_of.entry(new).or_insert_with(|| (old, path.to_vec())).clone();
        (new_before != new || old_before != old).then_some(Change::Partners(first_in_old, first_in_new))
    }
}

fn changes(
    old: &Tree,
    new: &Tree,
    path: &[u8],
    (a, b): (InodeId, InodeId),
    content: Option<u64>,
    links: &mut Links,
) -> Vec<Change> {
    let (left, right) = (old.inode(a), new.inode(b));
    let mut changes = Vec::new();
    if left.node.type_bits() != right.node.type_bits() {
        changes.push(Change::Type);
    }
    match (&left.node, &right.node) {
        (Node::Regular(_), Node::Regular(_)) => changes.extend(content.map(Change::Content)),
        (Node::Symlink(x), Node::Symlink(y)) if x != y => changes.push(Change::Target),
        (Node::CharDevice(x), Node::CharDevice(y)) | (Node::BlockDevice(x), Node::BlockDevice(y))
            if x != y =>
        {
            changes.push(Change::Device);
        }
        _ => {}
    }
    if left.mode != right.mode {
        changes.push(Change::Mode);
    }
    if (left.uid, left.gid) != (right.uid, right.gid) {
        changes.push(Change::Owner);
    }
    let directory = |inode: &Inode| matches!(inode.node, Node::Directory(_));
    if !directory(left) && !directory(right) {
        if left.nlink != right.nlink {
            changes.push(Change::LinkCount);
        } else if left.nlink > 1 {
            changes.extend(links.partners(path, a, b));
        }
    }
    if left.mtime != right.mtime {
        changes.push(Change::Time);
    }
    changes
}

/// Bytes of an inode's content.
pub(crate) fn bytes(inode: &Inode) -> u64 {
    match &inode.node {
        Node::Regular(content) => content.size,
        _ => 0,
    }
}
