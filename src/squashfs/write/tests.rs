//! Tree → image → tree, for trees of every shape.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use backhand::{InnerNode, NodeHeader};
use proptest::prelude::*;

use super::*;
use crate::squashfs::read;
use crate::tree::any::{any_tree, leaf, listing, put};
use crate::tree::{Device, Inode, Node, Tree};

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
        let options = Options { compression, block_size, time: 3, filters: Archs::ALL, stored: false, thorough: false };
        let bytes = written(&tree, &options, 2);
        prop_assert!(bytes == written(&tree, &options, 1), "the number of threads changes the image");
        prop_assert_eq!(listing(&tree), listing(&read_back(bytes.clone())));
        // It knows no LZO, and no symlink longer than 255 bytes.
        let long = |inode: &Inode| matches!(&inode.node, Node::Symlink(target) if target.len() > 255);
        if compression != Compression::Lzo && !tree.inodes.iter().any(long) {
            prop_assert_eq!(as_backhand_should_read(&tree), as_backhand_reads(bytes));
        }
    }
}

/// The paths of a tree with what squashfs stores of each, as this reader of another maker finds them.
fn as_backhand_reads(bytes: Vec<u8>) -> Vec<String> {
    let image = backhand::FilesystemReader::from_reader(std::io::Cursor::new(bytes)).unwrap();
    let mut lines: Vec<String> = image
        .files()
        .map(|node| {
            let what = match &node.inner {
                InnerNode::Dir(_) => "directory".into(),
                InnerNode::File(file) => {
                    let mut content = Vec::new();
                    image.file(file).reader().read_to_end(&mut content).unwrap();
                    format!("{} bytes {}", content.len(), blake3::hash(&content))
                }
                InnerNode::Symlink(symlink) => format!("symlink {:?}", symlink.link),
                InnerNode::CharacterDevice(device) => format!("character {:#x}", device.device_number),
                InnerNode::BlockDevice(device) => format!("block {:#x}", device.device_number),
                InnerNode::NamedPipe => "pipe".into(),
                InnerNode::Socket => "socket".into(),
            };
            let NodeHeader { permissions, uid, gid, mtime } = node.header;
            format!("{:?} {permissions:o} {uid}:{gid} {mtime} {what}", node.fullpath)
        })
        .collect();
    lines.sort();
    lines
}

/// The same of the tree that was written.
fn as_backhand_should_read(tree: &Tree) -> Vec<String> {
    let number =
        |device: Device| (device.minor & 0xff) | (device.major << 8) | ((device.minor & !0xff) << 12);
    let mut lines: Vec<String> = tree
        .walk()
        .map(|entry| {
            let inode = tree.inode(entry.id);
            let what = match &inode.node {
                Node::Directory(_) => "directory".into(),
                Node::Regular(content) => {
                    let bytes = tree.read(entry.id, u64::MAX).unwrap().unwrap();
                    format!("{} bytes {}", content.size, blake3::hash(&bytes))
                }
                Node::Symlink(target) => format!("symlink {:?}", OsStr::from_bytes(target)),
                Node::CharDevice(device) => format!("character {:#x}", number(*device)),
                Node::BlockDevice(device) => format!("block {:#x}", number(*device)),
                Node::Fifo => "pipe".into(),
                Node::Socket => "socket".into(),
            };
            let path = Path::new("/").join(OsStr::from_bytes(&entry.path));
            let Inode { mode, uid, gid, mtime, .. } = inode;
            format!("{path:?} {mode:o} {uid}:{gid} {mtime} {what}")
        })
        .collect();
    lines.sort();
    lines
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
