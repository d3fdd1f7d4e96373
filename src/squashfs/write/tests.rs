//! Tree → image → tree, for trees of every shape.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::squashfs::read;
use crate::tree::any::{any_tree, leaf, listing, put};
use crate::tree::{Node, Tree};

fn written(tree: &Tree, options: &Options, cores: usize) -> Vec<u8> {
    let out = tempfile::tempfile().unwrap();
    let image = Image::of_tree(tree).unwrap();
    let written = image.write(options, &Cores::new(cores), out.try_clone().unwrap(), &|_| ()).unwrap();
    let mut bytes = vec![0; written.size as usize];
    out.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(out.metadata().unwrap().len(), written.size);
    bytes
}

fn read_back(bytes: Vec<u8>) -> Tree {
    read(Arc::new(bytes), Path::new("image")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        mut tree in any_tree(),
        compression in prop::sample::select(Compression::ALL.to_vec()),
        block_size in prop::sample::select(vec![4096, 65_536, 1 << 20]),
    ) {
        tree.inodes.iter_mut().for_each(|inode| inode.mtime = inode.mtime.clamp(0, u32::MAX.into()));
        let options = Options { compression, block_size, time: 3, bcj: true, stored: false, thorough: false };
        let bytes = written(&tree, &options, 2);
        prop_assert!(bytes == written(&tree, &options, 1), "the number of threads changes the image");
        prop_assert_eq!(listing(&tree), listing(&read_back(bytes)));
    }
}

#[test]
fn long_directories_and_distant_inodes_are_found() {
    let mut tree = Tree::new(Arc::new(Vec::new()));
    let root = tree.root;
    let shared = tree.add(leaf(Node::Socket));
    for directory in 0..3 {
        let id = tree.add(leaf(Node::Directory(Default::default())));
        put(&mut tree, root, format!("d{directory}").as_bytes(), id);
        // More names than fit 64 KiB of a list, and one whose inode was written long before.
        for file in 0..4000 {
            let fifo = tree.add(leaf(Node::Fifo));
            put(&mut tree, id, format!("a file with a long name {file:05}").as_bytes(), fifo);
        }
        put(&mut tree, id, b"a shared socket", shared);
    }
    let bytes = written(&tree, &Options { compression: Compression::Zstd, ..Options::default() }, 1);
    assert_eq!(listing(&tree), listing(&read_back(bytes)));
}

#[test]
fn equal_contents_are_stored_once_and_times_are_kept_in_range() {
    let noise: Vec<u8> =
        (0..300_000_u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..1].to_vec()).collect();
    let mut tree = crate::tree::build::tree(&[("a", &noise), ("b/c", &noise)], &[]);
    let id = tree.get("a").unwrap();
    tree.inode_mut(id).mtime = -5;
    let image = Image::of_tree(&tree).unwrap();
    assert_eq!(image.facts(), Facts { data: 303_104, shared: 303_104, inodes: 4 });
    assert!(image.notes()[0].contains("those of 1 files"), "{:?}", image.notes());
    let bytes = written(&tree, &Options { block_size: 131_072, ..Options::default() }, 2);
    assert!(bytes.len() < 310_000, "{}", bytes.len());
    let again = read_back(bytes);
    assert_eq!(again.inode(again.get("a").unwrap()).mtime, 0);
    assert_eq!(again.read(again.get("b/c").unwrap(), 1 << 20).unwrap().unwrap(), noise);
}

#[test]
fn what_squashfs_cannot_hold_is_refused() {
    use crate::tree::Device;
    let refused = |node: Node, name: &[u8]| {
        let mut tree = Tree::new(Arc::new(Vec::new()));
        let (root, id) = (tree.root, tree.add(leaf(node)));
        put(&mut tree, root, name, id);
        Image::of_tree(&tree).map(|_| ()).unwrap_err().to_string()
    };
    assert!(
        refused(Node::CharDevice(Device { major: 4096, minor: 0 }), b"x").contains("/x is device 4096:0")
    );
    assert!(refused(Node::Symlink((*b"").into()), b"x").contains("symlink to 0 bytes"));
    assert!(refused(Node::Symlink([b'a'; 4096].into()), b"x").contains("symlink to 4096 bytes"));
    assert!(refused(Node::Fifo, &[b'n'; 256]).contains("name of 256 bytes"));
    let mut tree = Tree::new(Arc::new(Vec::new()));
    let (root, id) = (tree.root, tree.add(leaf(Node::Directory(Default::default()))));
    put(&mut tree, root, b"one", id);
    put(&mut tree, root, b"two", id);
    assert!(Image::of_tree(&tree).map(|_| ()).unwrap_err().what.contains("directory with several names"));
}
