//! A tree → its directories with their sizes.

use std::collections::BTreeSet;

use crate::report::data::Directory;
use crate::tree::{InodeId, Node, Tree, display};

/// How many of the directories and files of one directory are listed.
const WIDEST: usize = 40;
/// Levels of a map of directories.
const MAP_DEPTH: usize = 8;
/// A map opens directories that hold at least this part of everything.
const OPENED: u64 = 64;

impl Directory {
    /// The directories and files of `tree`, largest first, `depth` levels down. A file with several names counts once.
    #[must_use]
    pub fn of(tree: &Tree, depth: usize) -> Self {
        Sums::of(tree).directory(tree, tree.root, "/".into(), depth, 0)
    }

    /// What of `tree` is worth drawing: large directories are opened level by level, small ones stay closed.
    #[must_use]
    pub fn map(tree: &Tree) -> Self {
        let sums = Sums::of(tree);
        let least = sums.bytes(tree.root) / OPENED;
        sums.directory(tree, tree.root, "/".into(), MAP_DEPTH, least)
    }
}

/// What is below each inode.
struct Sums {
    /// Bytes and number of files.
    sums: Vec<(u64, u64)>,
    /// The directory in which an inode is counted.
    owners: Vec<InodeId>,
}

impl Sums {
    /// Without recursion: the directories of an image may be nested more deeply than the stack allows.
    fn of(tree: &Tree) -> Self {
        let mut sums = vec![(0, 0); tree.inodes.len()];
        let mut seen = vec![false; tree.inodes.len()];
        let mut owners = vec![tree.root; tree.inodes.len()];
        let mut parents: Vec<(InodeId, InodeId)> = Vec::new();
        let mut todo = vec![tree.root];
        while let Some(directory) = todo.pop() {
            for &child in tree.names(directory).into_iter().flatten().map(|(_, child)| child) {
                let again = std::mem::replace(&mut seen[child.0 as usize], true);
                if !again {
                    owners[child.0 as usize] = directory;
                }
                match &tree.inode(child).node {
                    Node::Directory(_) if !again => {
                        parents.push((child, directory));
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

    /// Opened `depth` levels down, as long as directories have at least `least` bytes.
    fn directory(&self, tree: &Tree, id: InodeId, name: String, depth: usize, least: u64) -> Directory {
        let (bytes, files) = self.sums[id.0 as usize];
        let mut directory = Directory { name, bytes, files, directories: Vec::new() };
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
        let root = Directory::of(&tree, 2);
        assert_eq!((root.bytes, root.files), (9, 5));
        assert_eq!((root.directories[0].name.as_str(), root.directories[0].bytes), ("a", 8));
        assert!(Directory::of(&tree, 1).directories[0].directories.is_empty());
        assert!(Directory::of(&tree, 0).directories.is_empty());
        // Small directories stay closed.
        let map =
            Directory::map(&crate::tree::build::tree(&[("a/b/one", &[1; 1000]), ("c/three", b"1")], &[]));
        assert_eq!(map.directories[0].directories[0].directories[0].name, "one");
        assert!(map.directories[1].directories.is_empty());
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
        assert_eq!(Directory::of(&tree, 3).bytes, 0);
    }
}
