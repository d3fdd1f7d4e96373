//! Tree → image → tree, for trees of every shape, and images with every kind of damage.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::btrfs::read::verify_data;
use crate::btrfs::{Features, Options, disk, read};
use crate::bytes::Hint;
use crate::bytes::ReadAt;
use crate::tree::any::{any_tree, leaf, listing, put, regular};
use crate::tree::{Device, Extent, Node, Tree};

/// The image's bytes up to the free space.
fn bytes(image: &Image) -> Vec<u8> {
    let end =
        image.regions().iter().filter(|r| r.hint != Hint::Zero).map(|r| r.offset + r.len).max().unwrap();
    let mut bytes = vec![0; end as usize];
    image.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn options(release: &str) -> Options {
    Options { free_space: 1 << 20, ..Options::new(Features::for_kernel(release)) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_is_planned_is_read(tree in any_tree(), release in prop::sample::select(vec!["2.6.38", "3.5", "3.12", "6.1", "5.10-powerpc64le"])) {
        let image = plan(&tree, &options(release)).unwrap();
        let raw = bytes(&image);
        prop_assert_eq!(&raw, &bytes(&plan(&tree, &options(release)).unwrap()));
        let again = read(Arc::new(image), Path::new("image"), u64::MAX).unwrap();
        prop_assert_eq!(listing(&tree), listing(&again));
        verify_data(&again).unwrap();
    }

    #[test]
    fn any_range_is_a_part_of_the_whole(tree in any_tree(), ranges in prop::collection::vec((any::<u32>(), 0_usize..70_000), 20)) {
        let image = plan(&tree, &options("6.1")).unwrap();
        let raw = bytes(&image);
        for (at, len) in ranges {
            let at = at as usize % raw.len();
            let len = len.min(raw.len() - at);
            let mut part = vec![1; len];
            image.read_exact_at(&mut part, at as u64).unwrap();
            prop_assert!(part == raw[at..at + len]);
        }
    }

    #[test]
    fn a_changed_byte_is_found_or_does_not_matter(tree in any_tree(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let image = plan(&tree, &options("6.1")).unwrap();
        let mut raw = bytes(&image);
        let used: Vec<u64> = image.regions().iter().filter(|r| r.hint != Hint::Zero).flat_map(|r| r.offset..r.offset + r.len).collect();
        let at = used[at.index(used.len())] as usize;
        raw[at] ^= flip;
        if let Ok(again) = read(Arc::new(raw), Path::new("image"), u64::MAX)
            && verify_data(&again).is_ok() {
                prop_assert_eq!(listing(&tree), listing(&again));
            }
    }

    /// A writer with malice makes its checksums right: then the reader has to get along with whatever the blocks say.
    #[test]
    fn changed_bytes_with_right_checksums_never_panic(
        tree in any_tree(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0), Just(255)]), 1..8),
        release in prop::sample::select(vec!["2.6.38", "6.1"]),
    ) {
        let image = plan(&tree, &options(release)).unwrap();
        let node = image.features.node_size as usize;
        let mut raw = bytes(&image);
        let mut blocks: Vec<(usize, usize)> =
            image.trees.iter().flat_map(|t| &t.addresses).map(|&at| (at as usize, node)).collect();
        blocks.push((disk::SUPER_OFFSET as usize, disk::SUPER_SIZE));
        for (block, at, value) in changes {
            let (start, len) = blocks[block.index(blocks.len())];
            // Headers and the first items matter most.
            let at = 32 + at.index(if value & 1 == 0 { 600 } else { len - 32 });
            raw[start + at] = value;
            let csum = crc32c::crc32c(&raw[start + 32..start + len]);
            raw[start..start + 4].copy_from_slice(&csum.to_le_bytes());
        }
        if let Ok(again) = read(Arc::new(raw), Path::new("image"), u64::MAX) {
            let _ = verify_data(&again);
            let _ = again.walk().count();
        }
    }
}

#[test]
fn regions_cover_the_image_and_do_not_lie() {
    let mut tree = Tree::new(Arc::new((0..40_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()));
    let whole = |len| vec![Extent { file_offset: 0, data_offset: 0, len }];
    let id = tree.add(leaf(regular(160_000, whole(160_000))));
    let root = tree.root;
    put(&mut tree, root, b"data", id);
    let image = plan(&tree, &options("6.1")).unwrap();
    let mut at = 0;
    for pair in image.regions().windows(2) {
        assert_ne!(pair[0].hint, pair[1].hint);
    }
    for region in image.regions() {
        assert_eq!(region.offset, at);
        at += region.len;
        if region.hint == Hint::Zero && region.len < 100 << 20 {
            let mut bytes = vec![1; region.len as usize];
            image.read_exact_at(&mut bytes, region.offset).unwrap();
            assert!(bytes.iter().all(|&b| b == 0), "{region:?}");
        }
    }
    assert_eq!(at, image.len());
    assert_eq!(image.len() % 4096, 0);
}

#[test]
fn contents_are_stored_once() {
    let mut tree = Tree::new(Arc::new(vec![7; 100_000]));
    let root = tree.root;
    for i in 0..50 {
        let extents = vec![Extent { file_offset: 0, data_offset: i, len: 90_000 }];
        let id = tree.add(leaf(regular(90_000, extents)));
        put(&mut tree, root, format!("{i}").as_bytes(), id);
    }
    let image = plan(&tree, &options("6.1")).unwrap();
    assert_eq!((image.facts().data, image.facts().shared), (90_112, 49 * 90_112));
}

#[test]
fn what_btrfs_cannot_hold_is_an_error_with_the_path() {
    let fails = |node: Node, name: &[u8], release: &str| {
        let mut tree = Tree::new(Arc::new(Vec::new()));
        let root = tree.root;
        let id = tree.add(leaf(node));
        put(&mut tree, root, name, id);
        plan(&tree, &options(release)).unwrap_err().to_string()
    };
    assert!(fails(Node::Fifo, &[b'a'; 256], "6.1").contains("256 bytes"));
    assert!(fails(Node::Fifo, b"..", "6.1").contains("/.."));
    assert!(
        fails(Node::CharDevice(Device { major: 4096, minor: 0 }), b"null", "6.1")
            .contains("/null is device 4096:0")
    );
    assert!(fails(Node::Symlink(vec![b'x'; 4000].into()), b"link", "2.6.38").contains("/link"));
    assert!(
        fails(regular(10, vec![Extent { file_offset: 0, data_offset: 0, len: 10 }]), b"f", "6.1")
            .contains("/f")
    );
    let mut tree = Tree::new(Arc::new(Vec::new()));
    let root = tree.root;
    let directory = tree.add(leaf(Node::Directory(BTreeMap::new())));
    put(&mut tree, root, b"a", directory);
    put(&mut tree, directory, b"b", directory);
    assert!(plan(&tree, &options("6.1")).unwrap_err().to_string().contains("several names"));
}

#[test]
fn inodes_with_too_many_names_are_split_where_the_kernel_is_old() {
    let mut tree = Tree::new(Arc::new(b"busybox".repeat(1000)));
    let root = tree.root;
    let id = tree.add(leaf(regular(7000, vec![Extent { file_offset: 0, data_offset: 0, len: 7000 }])));
    for i in 0..1000 {
        put(&mut tree, root, format!("applet{i:04}").as_bytes(), id);
    }
    let new = plan(&tree, &options("6.1")).unwrap();
    assert_eq!(new.facts().inodes, 2);
    assert_eq!(listing(&read(Arc::new(new), Path::new("i"), u64::MAX).unwrap()), listing(&tree));
    let old = plan(&tree, &options("2.6.38")).unwrap();
    // 198 names of 10 bytes with 10 bytes before each fit 3970 bytes.
    assert_eq!(old.facts().inodes, 7);
    assert!(old.notes().iter().any(|n| n.contains("hard links")));
    let read = read(Arc::new(old), Path::new("i"), u64::MAX).unwrap();
    assert_eq!(read.inodes.iter().skip(1).map(|i| i.nlink).sum::<u32>(), 1000);
    verify_data(&read).unwrap();
}

#[test]
fn no_more_is_unpacked_than_allowed() {
    let mut tree = Tree::new(Arc::new((0..1000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()));
    let root = tree.root;
    for i in 0..10 {
        let extents = vec![Extent { file_offset: 0, data_offset: i * 4, len: 100 }];
        let id = tree.add(leaf(regular(100, extents)));
        put(&mut tree, root, format!("{i}").as_bytes(), id);
    }
    let raw: Arc<dyn ReadAt> = Arc::new(bytes(&plan(&tree, &options("6.1")).unwrap()));
    assert!(read(Arc::clone(&raw), Path::new("image"), 1000).is_ok());
    let error = read(raw, Path::new("image"), 999).unwrap_err().to_string();
    assert!(error.starts_with("image: ") && error.contains("--max-unpacked"), "{error}");
}

#[test]
fn what_files_share_counts_for_each() {
    let mut tree = Tree::new(Arc::new(vec![7; 100_000]));
    let root = tree.root;
    for i in 0..10 {
        let extents = vec![Extent { file_offset: 0, data_offset: i, len: 90_000 }];
        let id = tree.add(leaf(regular(90_000, extents)));
        put(&mut tree, root, format!("{i}").as_bytes(), id);
    }
    let raw: Arc<dyn ReadAt> = Arc::new(bytes(&plan(&tree, &options("6.1")).unwrap()));
    let open = |max_unpacked| {
        let limits = crate::initrd::Limits { max_unpacked, accept_partial: false };
        crate::image::read(Arc::clone(&raw), Path::new("image"), &limits, &|_| ())
    };
    assert!(open(900_000).is_ok());
    let error = open(899_999).err().unwrap().to_string();
    assert!(error.starts_with("image: ") && error.contains("--max-unpacked"), "{error}");
}

/// The image of two files of holes whose sizes a writer with malice made `sizes`.
fn holes(sizes: [u64; 2]) -> Arc<dyn ReadAt> {
    const MARKS: [u64; 2] = [0x1234_5678, 0x1234_5679];
    let mut tree = Tree::new(Arc::new(Vec::new()));
    let root = tree.root;
    for (name, mark) in [b"a", b"b"].into_iter().zip(MARKS) {
        let id = tree.add(leaf(regular(mark, Vec::new())));
        put(&mut tree, root, name, id);
    }
    let image = plan(&tree, &options("6.1")).unwrap();
    let node = image.features.node_size as usize;
    let mut raw = bytes(&image);
    let mut found = 0;
    for at in image.trees.iter().flat_map(|t| &t.addresses).map(|&at| at as usize) {
        let block = &mut raw[at..at + node];
        for (mark, size) in MARKS.into_iter().zip(sizes) {
            if let Some(place) = block.windows(8).position(|bytes| bytes == mark.to_le_bytes()) {
                block[place..place + 8].copy_from_slice(&size.to_le_bytes());
                found += 1;
            }
        }
        let csum = crc32c::crc32c(&block[32..]);
        block[..4].copy_from_slice(&csum.to_le_bytes());
    }
    assert_eq!(found, 2);
    Arc::new(raw)
}

#[test]
fn sizes_are_those_that_files_can_have() {
    let most = i64::MAX as u64;
    for (sizes, words) in [
        ([most + 1, 1], "has a size of 9223372036854775808 bytes"),
        ([u64::MAX, u64::MAX], "has a size of 18446744073709551615 bytes"),
        ([most, 1], "with 'b' (1 bytes)"),
    ] {
        let error = read(holes(sizes), Path::new("image"), u64::MAX).unwrap_err().to_string();
        assert!(error.starts_with("image") && error.contains(words), "{error}");
    }
}

#[test]
fn holes_of_any_length_are_looked_at_in_no_time() {
    let size = i64::MAX as u64 / 2;
    let image = |source| {
        crate::image::read(source, Path::new("image"), &crate::initrd::Limits::default(), &|_| ()).unwrap()
    };
    let (one, two) = (image(holes([size, size])), image(holes([size, size - 1])));
    let seen =
        crate::inspect::inspect(&one, &crate::ram::Machine::new(crate::ram::Kernel::TYPICAL, 2)).unwrap();
    assert_eq!((seen.content, seen.duplicates.len()), (2 * size, 0));
    let found = crate::compare::trees(&one.system, &two.system, crate::compare::ReadOrder::New).unwrap();
    assert_eq!((found.changed.len(), found.same), (1, 2));
}
