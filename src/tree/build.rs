//! Small trees for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Content, Extent, Inode, InodeId, Node, Tree};

fn put(tree: &mut Tree, path: &str, node: Node) {
    let inode = |mode, node| Inode { mode, uid: 0, gid: 0, mtime: 0, nlink: 1, node };
    let mut directory = tree.root;
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    let enter = |tree: &mut Tree, directory: InodeId, name: &str, id: Option<InodeId>| {
        let known = tree.names(directory).unwrap().get(name.as_bytes()).copied();
        let next = id.or(known).unwrap_or_else(|| tree.add(inode(0o755, Node::Directory(BTreeMap::new()))));
        let Node::Directory(names) = &mut tree.inode_mut(directory).node else { unreachable!() };
        names.insert(name.as_bytes().into(), next);
        next
    };
    for part in parents.split('/').filter(|part| !part.is_empty()) {
        directory = enter(tree, directory, part, None);
    }
    let id = tree.add(inode(0o755, node));
    enter(tree, directory, name, Some(id));
}

/// A tree with these files and symbolic links; directories are made as needed.
pub(crate) fn tree(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Tree {
    let data: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let mut tree = Tree::new(Arc::new(data));
    let mut at = 0;
    for (path, bytes) in files {
        let len = bytes.len() as u64;
        let extents = vec![Extent { file_offset: 0, data_offset: at, len }];
        at += len;
        put(&mut tree, path, Node::Regular(Content { size: len, extents }));
    }
    for (path, target) in links {
        put(&mut tree, path, Node::Symlink(target.as_bytes().into()));
    }
    tree
}
