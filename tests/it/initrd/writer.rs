//! What the writer of newc archives writes is read again.

use btrsquash::codec::Encoding;
use btrsquash::initrd;
use btrsquash::tree::Node;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::newc::packed;
use crate::support::rootfs::read;

#[test]
fn what_is_written_is_read_again() {
    let name = "[a-z]{1,12}(/[a-z]{1,12}){0,2}";
    let entries = proptest::collection::vec(
        (name, 0..5_u8, 0..0o1_0000_u32, any::<[u16; 2]>(), proptest::collection::vec(any::<u8>(), 0..3000)),
        0..20,
    );
    let config = Config { cases: 96, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(entries, 0..8_usize, any::<u32>()), |(entries, encoding, time)| {
            let mut writer = initrd::NewcWriter::new(Vec::new(), i64::from(time));
            let mut expected = std::collections::BTreeMap::new();
            for (number, (path, kind, mode, device, body)) in entries.into_iter().enumerate() {
                // Names of their own, in directories that are there.
                let path = format!("{number}-{}", path.replace('/', "-"));
                let node = match kind {
                    0 => {
                        writer.file(&path, mode, &body).unwrap();
                        None
                    }
                    1 => {
                        writer.directory(&path, mode).unwrap();
                        Some(Node::Directory(Default::default()))
                    }
                    2 => {
                        writer.symlink(&path, format!("to/{path}")).unwrap();
                        Some(Node::Symlink(format!("to/{path}").into_bytes().into()))
                    }
                    _ => {
                        let device = btrsquash::tree::Device {
                            major: u32::from(device[0] & 0xfff),
                            minor: u32::from(device[1]),
                        };
                        let node =
                            if kind == 3 { Node::CharDevice(device) } else { Node::BlockDevice(device) };
                        writer.device(&path, mode, &node).unwrap();
                        Some(node)
                    }
                };
                expected.insert(path, (node, mode, body));
            }
            let archive = writer.finish().unwrap();
            let tree = read(&packed(&archive, Encoding::ALL[encoding])).unwrap().tree;
            prop_assert_eq!(tree.names(tree.root).unwrap().len(), expected.len() + 2);
            for (path, (node, mode, body)) in expected {
                let id = tree.get(&path).unwrap();
                let inode = tree.inode(id);
                prop_assert_eq!(inode.mtime, i64::from(time));
                match node {
                    Some(node) => prop_assert_eq!(&inode.node, &node),
                    None => prop_assert_eq!(tree.read(id, u64::MAX).unwrap().unwrap(), body),
                }
                if !matches!(inode.node, Node::Symlink(_)) {
                    prop_assert_eq!(inode.mode, mode);
                }
            }
            Ok(())
        })
        .unwrap();
}
