//! What other modules found out → the data of reports.

use std::collections::BTreeSet;

use super::data::{Folder, Identity, Part, SegmentRow};
use crate::contract::Handover;
use crate::image::classify::Classification;
use crate::initrd::Segment;
use crate::tree::{InodeId, Node, Tree, display};

/// How many of the folders and files of one folder are listed.
const WIDEST: usize = 40;
/// Levels of a map of folders.
const MAP_DEPTH: usize = 8;
/// A map opens folders that hold at least this part of everything.
const OPENED: u64 = 64;

impl From<&Classification> for Identity {
    fn from(class: &Classification) -> Self {
        Self {
            verdict: class.verdict.to_string(),
            why: class.signs.iter().map(ToString::to_string).collect(),
            init: class.init.clone(),
            init_kind: class.init_kind.to_string(),
            handover: match class.handover {
                Handover::Bare => "bare".into(),
                Handover::Mounted => "mounted".into(),
            },
            handover_why: class.handover_reason.to_string(),
            architecture: class.architecture.clone(),
            kernels: class.kernels.clone(),
            distribution: class.distribution.clone(),
        }
    }
}

impl From<&Segment> for SegmentRow {
    fn from(segment: &Segment) -> Self {
        Self {
            number: segment.number as u64,
            offset: segment.offset,
            size: segment.size,
            padding: segment.padding,
            encoding: segment.encoding.to_string(),
            unpacked: segment.unpacked,
            entries: segment.entries,
            early: segment.early,
            appended: false,
        }
    }
}

impl Folder {
    /// The folders and files of `tree`, largest first, `depth` levels down. A file with several names counts once.
    #[must_use]
    pub fn of(tree: &Tree, depth: usize) -> Self {
        Sums::of(tree).folder(tree, tree.root, "/".into(), depth, 0)
    }

    /// What of `tree` is worth drawing: large folders are opened level by level, small ones stay closed.
    #[must_use]
    pub fn map(tree: &Tree) -> Self {
        let sums = Sums::of(tree);
        let least = sums.bytes(tree.root) / OPENED;
        sums.folder(tree, tree.root, "/".into(), MAP_DEPTH, least)
    }
}

/// What is below each inode.
struct Sums {
    /// Bytes and number of files.
    sums: Vec<(u64, u64)>,
    /// The folder in which an inode is counted.
    owners: Vec<InodeId>,
}

impl Sums {
    /// Without recursion: an image may hold folders that lie deeper than a stack is.
    fn of(tree: &Tree) -> Self {
        let mut sums = vec![(0, 0); tree.inodes.len()];
        let mut seen = vec![false; tree.inodes.len()];
        let mut owners = vec![tree.root; tree.inodes.len()];
        let mut parents: Vec<(InodeId, InodeId)> = Vec::new();
        let mut todo = vec![tree.root];
        while let Some(folder) = todo.pop() {
            for &child in tree.names(folder).into_iter().flatten().map(|(_, child)| child) {
                let again = std::mem::replace(&mut seen[child.0 as usize], true);
                if !again {
                    owners[child.0 as usize] = folder;
                }
                match &tree.inode(child).node {
                    Node::Directory(_) if !again => {
                        parents.push((child, folder));
                        todo.push(child);
                    }
                    Node::Regular(content) if !again => {
                        sums[child.0 as usize] = (content.size, 1);
                        sums[folder.0 as usize].0 += content.size;
                        sums[folder.0 as usize].1 += 1;
                    }
                    Node::Directory(_) => {}
                    _ => sums[folder.0 as usize].1 += 1,
                }
            }
        }
        // A folder comes before what is in it.
        for (child, parent) in parents.into_iter().rev() {
            let (bytes, files) = sums[child.0 as usize];
            sums[parent.0 as usize].0 += bytes;
            sums[parent.0 as usize].1 += files;
        }
        Self { sums, owners }
    }

    fn bytes(&self, id: InodeId) -> u64 {
        self.sums[id.0 as usize].0
    }

    /// Opened `depth` levels down, as far as folders have `least` bytes.
    fn folder(&self, tree: &Tree, id: InodeId, name: String, depth: usize, least: u64) -> Folder {
        let (bytes, files) = self.sums[id.0 as usize];
        let mut folder = Folder { name, bytes, files, folders: Vec::new() };
        if depth == 0 || bytes < least {
            return folder;
        }
        let names = tree
            .names(id)
            .into_iter()
            .flatten()
            .filter(|(_, child)| self.bytes(**child) > 0 && self.owners[child.0 as usize] == id);
        let mut children: Vec<(String, InodeId)> =
            names.map(|(name, child)| (display(name), *child)).collect();
        children.sort_by(|a, b| self.bytes(b.1).cmp(&self.bytes(a.1)).then_with(|| a.0.cmp(&b.0)));
        // Of several names of one file in a folder one is listed.
        let mut listed = BTreeSet::new();
        children.retain(|(_, child)| listed.insert(*child));
        children.truncate(WIDEST);
        folder.folders = children
            .into_iter()
            .map(|(name, child)| self.folder(tree, child, name, depth - 1, least))
            .collect();
        folder
    }
}

/// A part of a file: its name, its bytes and why it is there.
pub type PartOf = (String, u64, &'static str);

/// The parts of an image of `size` bytes: its segments, in the order in which they lie in the file. `within` may give
/// the parts of a segment in its stead.
#[must_use]
pub fn parts(segments: &[Segment], size: u64, within: &dyn Fn(&Segment) -> Option<Vec<PartOf>>) -> Vec<Part> {
    let mut parts: Vec<PartOf> = Vec::new();
    for segment in segments {
        match within(segment) {
            Some(inner) => parts.extend(inner),
            None if segment.early => parts.push((
                format!("segment {}: early cpio", segment.number),
                segment.size,
                "the kernel reads it before it unpacks anything",
            )),
            None => parts.push((
                format!("segment {}: {}", segment.number, segment.encoding),
                segment.size,
                "unpacked into rootfs, where it stays",
            )),
        }
    }
    let rest = size.saturating_sub(parts.iter().map(|(_, bytes, _)| bytes).sum());
    parts.push(("padding and boot configuration".into(), rest, "between and behind the segments"));
    Part::list(size, parts.iter().map(|(name, bytes, why)| (name.as_str(), *bytes, *why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_add_up_and_links_count_once() {
        let mut tree = crate::tree::build::tree(
            &[("a/b/one", b"12345"), ("a/two", b"123"), ("c/three", b"1")],
            &[("a/l", "x")],
        );
        let one = tree.get("a/b/one").unwrap();
        let a = tree.get("a").unwrap();
        let Node::Directory(names) = &mut tree.inode_mut(a).node else { panic!() };
        names.insert((*b"again").into(), one);
        tree.inode_mut(one).nlink = 2;
        let root = Folder::of(&tree, 2);
        assert_eq!((root.bytes, root.files), (9, 5));
        assert_eq!((root.folders[0].name.as_str(), root.folders[0].bytes), ("a", 8));
        assert!(Folder::of(&tree, 1).folders[0].folders.is_empty());
        assert!(Folder::of(&tree, 0).folders.is_empty());
        // Small folders stay closed.
        let map = Folder::map(&crate::tree::build::tree(&[("a/b/one", &[1; 1000]), ("c/three", b"1")], &[]));
        assert_eq!(map.folders[0].folders[0].folders[0].name, "one");
        assert!(map.folders[1].folders.is_empty());
    }

    #[test]
    fn deep_folders_do_not_end_the_stack() {
        let mut tree = crate::tree::build::tree(&[], &[]);
        let mut at = tree.root;
        for _ in 0..200_000 {
            let node = Node::Directory(std::collections::BTreeMap::new());
            let inode = crate::tree::Inode { mode: 0o755, uid: 0, gid: 0, mtime: 0, nlink: 1, node };
            let id = tree.add(inode);
            let Node::Directory(names) = &mut tree.inode_mut(at).node else { panic!() };
            names.insert((*b"d").into(), id);
            at = id;
        }
        assert_eq!(Folder::of(&tree, 3).bytes, 0);
    }
}
