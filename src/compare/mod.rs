//! Compares file trees: what `diff` and `verify` stand on.
//!
//! Two trees are walked side by side in the same order, so that each path is seen once; contents are compared byte
//! by byte afterwards, in the order in which they lie in the image, so that each compressed block is unpacked once.

pub(crate) mod content;
mod diff;
mod moves;
mod text;
mod verify;

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::error::Error;
use crate::report::{Aspect, AspectChange};
use crate::tree::{Entry, Inode, InodeId, Node, Tree, display};

pub use diff::{DiffOptions, diff};
pub use moves::moves;
pub use text::{TEXT_LIMIT, text_difference};
pub use verify::{verify, verify_trees};

/// A path that both trees have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The path, without a leading `/`.
    pub path: Vec<u8>,
    /// The inode in the old tree.
    pub old: InodeId,
    /// The inode in the new tree.
    pub new: InodeId,
    /// In what they differ, in the order of [`Aspect`].
    pub aspects: Vec<AspectChange>,
}

impl Pair {
    /// Whether `aspect` differs.
    #[must_use]
    pub fn differs(&self, aspect: Aspect) -> bool {
        self.aspects.iter().any(|change| change.aspect == aspect)
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
    /// Number of paths that both have and that are the same in everything.
    pub same: u64,
    /// Bytes of content that were compared.
    pub bytes: u64,
}

impl TreeDifference {
    /// Whether the trees are the same in everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Which tree's layout decides the order in which contents are read: the one whose bytes have to be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOrder {
    /// As they lie in the old tree's data.
    Old,
    /// As they lie in the new tree's data.
    New,
}

/// Everything in which `new` differs from `old`: type, content, link target, device number, permission bits, owner,
/// link count and partners, time. Link counts of directories are no property of their own and are left out.
///
/// # Errors
/// When a content cannot be read.
pub fn trees(old: &Tree, new: &Tree, order: ReadOrder) -> Result<TreeDifference, Error> {
    let mut found = TreeDifference::default();
    let pairs = join(old, new, &mut found);
    let contents = compare_contents(old, new, &pairs, order, &mut found.bytes)?;
    let mut links = Links::default();
    for ((path, a, b), content) in pairs.into_iter().zip(contents) {
        let aspects = aspects(old, new, &path, (a, b), content, &mut links);
        if aspects.is_empty() {
            found.same += 1;
        } else {
            found.changed.push(Pair { path, old: a, new: b, aspects });
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

/// Which inode of the new tree stands for which of the old: hard links have to be shared in the same way.
#[derive(Default)]
struct Links {
    new_of: HashMap<InodeId, (InodeId, Vec<u8>)>,
    old_of: HashMap<InodeId, (InodeId, Vec<u8>)>,
}

impl Links {
    /// A sentence for either side where the names that share an inode are others than before.
    fn partners(&mut self, path: &[u8], old: InodeId, new: InodeId) -> Option<(String, String)> {
        let shared = |first: &[u8]| {
            if first == path {
                "a file of its own".to_owned()
            } else {
                format!("one file with /{}", display(first))
            }
        };
        let (new_before, first_in_old) =
            self.new_of.entry(old).or_insert_with(|| (new, path.to_vec())).clone();
        let (old_before, first_in_new) =
            self.old_of.entry(new).or_insert_with(|| (old, path.to_vec())).clone();
        (new_before != new || old_before != old).then(|| (shared(&first_in_old), shared(&first_in_new)))
    }
}

fn aspects(
    old: &Tree,
    new: &Tree,
    path: &[u8],
    (a, b): (InodeId, InodeId),
    content: Option<u64>,
    links: &mut Links,
) -> Vec<AspectChange> {
    let (left, right) = (old.inode(a), new.inode(b));
    let mut changes = Vec::new();
    let mut push = |aspect, old: String, new: String| changes.push(AspectChange { aspect, old, new });
    if left.node.type_bits() != right.node.type_bits() {
        push(Aspect::Type, kind(left).into(), kind(right).into());
    }
    match (&left.node, &right.node) {
        (Node::Regular(x), Node::Regular(y)) => {
            if let Some(at) = content {
                if x.size == y.size {
                    push(Aspect::Content, format!("{} bytes", x.size), format!("other bytes from byte {at}"));
                } else {
                    push(Aspect::Content, format!("{} bytes", x.size), format!("{} bytes", y.size));
                }
            }
        }
        (Node::Symlink(x), Node::Symlink(y)) if x != y => push(Aspect::Target, display(x), display(y)),
        (Node::CharDevice(x), Node::CharDevice(y)) | (Node::BlockDevice(x), Node::BlockDevice(y))
            if x != y =>
        {
            push(Aspect::Device, format!("{}:{}", x.major, x.minor), format!("{}:{}", y.major, y.minor));
        }
        _ => {}
    }
    if left.mode != right.mode {
        push(Aspect::Mode, format!("{:04o}", left.mode), format!("{:04o}", right.mode));
    }
    if (left.uid, left.gid) != (right.uid, right.gid) {
        push(Aspect::Owner, format!("{}:{}", left.uid, left.gid), format!("{}:{}", right.uid, right.gid));
    }
    let directory = |inode: &Inode| matches!(inode.node, Node::Directory(_));
    if !directory(left) && !directory(right) {
        if left.nlink != right.nlink {
            push(Aspect::Links, names(left.nlink), names(right.nlink));
        } else if left.nlink > 1
            && let Some((was, is)) = links.partners(path, a, b)
        {
            push(Aspect::Links, was, is);
        }
    }
    if left.mtime != right.mtime {
        push(Aspect::Time, crate::report::units::time(left.mtime), crate::report::units::time(right.mtime));
    }
    changes
}

fn names(number: u32) -> String {
    crate::report::units::count(number.into(), "name")
}

/// The name of an inode's type.
#[must_use]
pub fn kind(inode: &Inode) -> &'static str {
    match inode.node {
        Node::Directory(_) => "directory",
        Node::Regular(_) => "file",
        Node::Symlink(_) => "symbolic link",
        Node::CharDevice(_) => "character device",
        Node::BlockDevice(_) => "block device",
        Node::Fifo => "named pipe",
        Node::Socket => "socket",
    }
}

/// Bytes of an inode's content.
pub(crate) fn bytes(inode: &Inode) -> u64 {
    match &inode.node {
        Node::Regular(content) => content.size,
        _ => 0,
    }
}
