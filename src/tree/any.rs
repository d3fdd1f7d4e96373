//! Trees of every shape, for property tests, and what a tree says about itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Content, Device, Extent, Inode, InodeId, Node, Tree};

/// One line for each path: all that a tree says of it.
pub(crate) fn listing(tree: &Tree) -> Vec<String> {
    let mut first: BTreeMap<InodeId, Vec<u8>> = BTreeMap::new();
    tree.walk()
        .map(|entry| {
            let inode = tree.inode(entry.id);
            let link = first.entry(entry.id).or_insert_with(|| entry.path.clone()).clone();
            let node = match &inode.node {
                Node::Directory(names) => format!("directory of {}", names.len()),
                Node::Regular(content) => {
                    let mut bytes = vec![0; content.size as usize];
                    tree.read_at(content, &mut bytes, 0).unwrap();
                    format!("{} bytes {}", content.size, blake3::hash(&bytes))
                }
                other => format!("{other:?}"),
            };
            let Inode { mode, uid, gid, mtime, nlink, .. } = inode;
            format!("{:?} {mode:o} {uid}:{gid} {mtime} {nlink} {link:?} {node}", entry.path)
        })
        .collect()
}

pub(crate) fn regular(size: u64, extents: Vec<Extent>) -> Node {
    Node::Regular(Content { size, extents })
}

pub(crate) fn leaf(node: Node) -> Inode {
    Inode { mode: 0o644, uid: 0, gid: 0, mtime: 5, nlink: 0, node }
}

pub(crate) fn put(tree: &mut Tree, parent: InodeId, name: &[u8], id: InodeId) {
    if let Node::Directory(names) = &mut tree.inode_mut(parent).node
        && names.insert(name.into(), id).is_none()
    {
        tree.inode_mut(id).nlink += 1;
    }
}

fn any_node() -> impl Strategy<Value = (u8, u64, Vec<(u64, u64, u64)>, Vec<u8>, u32, u32)> {
    let size = prop_oneof![0_u64..10, 2040_u64..2056, 4090_u64..4100, 0_u64..300_000];
    let extents = prop::collection::vec((0_u64..200_000, 0_u64..60_000, 0_u64..90_000), 0..4);
    (0_u8..9, size, extents, prop::collection::vec(1_u8.., 1..300), 0_u32..4096, 0_u32..1 << 20)
}

prop_compose! {
    pub(crate) fn any_tree()(
        nodes in prop::collection::vec((any_node(), any::<(u16, u16, u32, u32, i64)>(), "[a-c\u{e9}]{1,3}"), 1..60),
        links in prop::collection::vec(any::<(u16, u16)>(), 0..20),
        seed in any::<u64>(),
    ) -> Tree {
        // Zeros and repetitions among the data, so that holes and shared extents arise.
        let mut state = seed;
        let data: Vec<u8> = (0..150_000).map(|i: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if i / 30_000 % 2 == 1 { 0 } else { (state >> 56) as u8 & 3 }
        }).collect();
        let mut tree = Tree::new(Arc::new(data));
        let mut directories = vec![tree.root];
        let mut files = Vec::new();
        for ((kind, size, extents, bytes, major, minor), (parent, mode, uid, gid, mtime), name) in nodes {
            let parent = directories[parent as usize % directories.len()];
            if tree.names(parent).unwrap().contains_key(name.as_bytes()) {
                continue;
            }
            let device = Device { major, minor };
            let node = match kind {
                0 | 1 => Node::Directory(BTreeMap::new()),
                2 => Node::Symlink(bytes.into()),
                3 => Node::CharDevice(device),
                4 => Node::BlockDevice(device),
                5 => Node::Fifo,
                6 => Node::Socket,
                _ => {
                    let mut at = 0;
                    let extents = extents.into_iter().filter_map(|(gap, len, data_offset)| {
                        let file_offset = at + gap;
                        let len = len.min(size.saturating_sub(file_offset));
                        at = file_offset + len;
                        (len > 0).then_some(Extent { file_offset, data_offset, len })
                    }).collect();
                    regular(size, extents)
                }
            };
            let directory = matches!(node, Node::Directory(_));
            let id = tree.add(Inode { mode: u32::from(mode) & 0o7777, uid, gid, mtime, nlink: 0, node });
            put(&mut tree, parent, name.as_bytes(), id);
            if directory { directories.push(id) } else { files.push(id) }
        }
        for (i, (parent, file)) in links.into_iter().enumerate() {
            if !files.is_empty() {
                let parent = directories[parent as usize % directories.len()];
                let file = files[file as usize % files.len()];
                put(&mut tree, parent, format!("link{i}").as_bytes(), file);
            }
        }
        tree
    }
}
