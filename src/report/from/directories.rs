//! A tree → its directories with their sizes.

use std::collections::BTreeSet;

use crate::report::data::Directory;
use crate::tree::{InodeId, Node, Tree, display};

/// How many of the directories and files of one directory are listed.
const WIDEST: usize = 40;
/// Levels of a map of directories.
const MAP_DEPTH: usize = 8;
/// A map opens directories that hold at least this part of everything.
const OPENED: u64 = 128;

/// Bytes of an image for each inode of a system, by number.
pub(super) type Weights<'a> = Option<&'a [f64]>;

/// What the old image held of each inode of the new system, by number.
pub(super) struct Before {
    /// Bytes of content.
    pub(super) content: Vec<f64>,
    /// Bytes of the old image, if they are known.
    pub(super) stored: Option<Vec<f64>>,
}

impl Directory {
    /// The directories and files of `tree`, largest first, `depth` levels down. A file with several names counts once.
    #[must_use]
    pub(super) fn of(tree: &Tree, stored: Weights, depth: usize) -> Self {
        let sums = Sums::of(tree).with(stored, None);
        sums.directory(tree, tree.root, "/".into(), depth, 0)
    }

    /// What of `tree` is worth drawing: large directories are opened level by level, small ones stay closed. `before` is
    /// what the old image holds of each file, or of files that are gone from a directory.
    #[must_use]
    pub(super) fn map(tree: &Tree, stored: Weights, before: Option<&Before>) -> Self {
        let sums = Sums::of(tree).with(stored, before);
        let least = sums.bytes(tree.root) / OPENED;
        sums.directory(tree, tree.root, "/".into(), MAP_DEPTH, least)
    }
}

/// The time of the newest file of `tree`.
pub(super) fn newest_time(tree: &Tree) -> Option<i64> {
    let files = tree.inodes.iter().filter(|inode| inode.nlink > 0 && matches!(inode.node, Node::Regular(_)));
    files.map(|inode| inode.mtime).max()
}

/// What is below each inode.
struct Sums {
    /// Bytes and number of files.
    sums: Vec<(u64, u64)>,
    /// The directory in which an inode is counted.
    owners: Vec<InodeId>,
    /// Directories, each before those that are in it.
    order: Vec<InodeId>,
    /// Bytes of the image.
    stored: Option<Vec<f64>>,
    /// Bytes of content in the old image.
    old: Option<Vec<f64>>,
    /// Bytes of the old image.
    old_stored: Option<Vec<f64>>,
}

impl Sums {
    /// Without recursion: the directories of an image may be nested more deeply than the stack allows.
    fn of(tree: &Tree) -> Self {
        let mut sums = vec![(0, 0); tree.inodes.len()];
        let mut seen = vec![false; tree.inodes.len()];
        let mut owners = vec![tree.root; tree.inodes.len()];
        let mut order: Vec<InodeId> = Vec::new();
        let mut todo = vec![tree.root];
        while let Some(directory) = todo.pop() {
            for &child in tree.names(directory).into_iter().flatten().map(|(_, child)| child) {
                let again = std::mem::replace(&mut seen[child.0 as usize], true);
                if !again {
                    owners[child.0 as usize] = directory;
                }
                match &tree.inode(child).node {
                    Node::Directory(_) if !again => {
                        order.push(child);
                        todo.push(child);
                    }
                    Node::Regular(content) if !again => {
                        sums[child.0 as usize] = (content.size, 1);
                        sums[directory.0 as usize].0 += content.size;
                        sums[directory.0 as usize].1 += 1;
                    }
                    Node::Directory(_) => {}
                    _ => sums[directory.0 as usize].1 += 1,
                }
            }
        }
        // A directory comes before what is in it.
        for child in order.iter().rev() {
            let (bytes, files) = sums[child.0 as usize];
            let parent = owners[child.0 as usize].0 as usize;
            sums[parent].0 += bytes;
            sums[parent].1 += files;
        }
        Self { sums, owners, order, stored: None, old: None, old_stored: None }
    }

    /// With the bytes in the images, those of directories added up.
    fn with(mut self, stored: Weights, before: Option<&Before>) -> Self {
        self.stored = stored.map(|weights| self.added_up(weights));
        self.old = before.map(|before| self.added_up(&before.content));
        self.old_stored = before.and_then(|before| before.stored.as_ref()).map(|it| self.added_up(it));
        self
    }

    fn added_up(&self, weights: &[f64]) -> Vec<f64> {
        let mut sums = weights.to_vec();
        let mut directories = vec![false; sums.len()];
        self.order.iter().for_each(|id| directories[id.0 as usize] = true);
        for id in (0..sums.len()).filter(|id| !directories[*id]) {
            let owner = self.owners[id].0 as usize;
            if owner != id {
                sums[owner] += weights[id];
            }
        }
        for child in self.order.iter().rev() {
            sums[self.owners[child.0 as usize].0 as usize] += sums[child.0 as usize];
        }
        sums
    }

    fn bytes(&self, id: InodeId) -> u64 {
        self.sums[id.0 as usize].0
    }

    /// Opened `depth` levels down, as long as directories have at least `least` bytes.
    fn directory(&self, tree: &Tree, id: InodeId, name: String, depth: usize, least: u64) -> Directory {
        let (bytes, files) = self.sums[id.0 as usize];
        let of = |sums: &Option<Vec<f64>>| sums.as_ref().map(|sums| sums[id.0 as usize].round() as u64);
        let mut directory = Directory {
            name,
            bytes,
            files,
            image_bytes: of(&self.stored),
            old_bytes: of(&self.old),
            old_image_bytes: of(&self.old_stored),
            directories: Vec::new(),
        };
        if depth == 0 || bytes < least {
            return directory;
        }
        let names = tree
            .names(id)
            .into_iter()
            .flatten()
            .filter(|(_, child)| self.bytes(**child) > 0 && self.owners[child.0 as usize] == id);
        let mut children: Vec<(String, InodeId)> =
            names.map(|(name, child)| (display(name), *child)).collect();
        children.sort_by(|a, b| self.bytes(b.1).cmp(&self.bytes(a.1)).then_with(|| a.0.cmp(&b.0)));
        // Of several names of one file in a directory one is listed.
        let mut listed = BTreeSet::new();
        children.retain(|(_, child)| listed.insert(*child));
        children.truncate(WIDEST);
        directory.directories = children
            .into_iter()
            .map(|(name, child)| self.directory(tree, child, name, depth - 1, least))
            .collect();
        directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_add_up_and_links_count_once() {
        let mut tree = crate::tree::build::tree(
            &[("a/b/one", b"12345"), ("a/two", b"123"), ("c/three", b"1")],
            &[("a/l", "x")],
        );
        let one = tree.get("a/b/one").unwrap();
        let a = tree.get("a").unwrap();
        let Node::Directory(names) = &mut tree.inode_mut(a).node else { panic!() };
        names.insert((*b"again").into(), one);
        tree.inode_mut(one).nlink = 2;
        let root = Directory::of(&tree, None, 2);
        assert_eq!((root.bytes, root.files), (9, 5));
        assert_eq!((root.directories[0].name.as_str(), root.directories[0].bytes), ("a", 8));
        assert!(Directory::of(&tree, None, 1).directories[0].directories.is_empty());
        assert!(Directory::of(&tree, None, 0).directories.is_empty());
        // Small directories stay closed.
        let tree = crate::tree::build::tree(&[("a/b/one", &[1; 1000]), ("c/three", b"1")], &[]);
        let mut weights = vec![0.0; tree.inodes.len()];
        weights[tree.get("a/b/one").unwrap().0 as usize] = 100.4;
        weights[tree.get("c/three").unwrap().0 as usize] = 0.2;
        // What is gone from a directory counts there.
        let mut before = weights.clone();
        before[tree.get("a").unwrap().0 as usize] = 50.0;
        let before = Before { content: weights.clone(), stored: Some(before) };
        let map = Directory::map(&tree, Some(&weights), Some(&before));
        assert_eq!(map.directories[0].directories[0].directories[0].name, "one");
        assert!(map.directories[1].directories.is_empty());
        assert_eq!((map.image_bytes, map.old_image_bytes), (Some(101), Some(151)));
        let a = &map.directories[0];
        assert_eq!((a.image_bytes, a.old_bytes, a.old_image_bytes), (Some(100), Some(100), Some(150)));
        assert_eq!(a.directories[0].old_image_bytes, Some(100));
    }

    #[test]
    fn deep_directories_do_not_end_the_stack() {
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
        assert_eq!(Directory::of(&tree, None, 3).bytes, 0);
    }
}
