//! The old image's tree, divided into the boot portion and the runtime, each part with its reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::Handover;
use crate::image::classify::Classification;
use crate::initrd::Initrd;
use crate::kernel::Kernel;
use crate::tree::{Inode, InodeId, Node, Tree, display};

/// A part of the image that boots it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BootPart {
    /// What it is.
    pub what: String,
    /// Why it is here.
    pub why: String,
    /// Number of files.
    pub files: u64,
    /// Their size in bytes, uncompressed.
    pub bytes: u64,
}

/// A part of the runtime.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RuntimePart {
    /// What it is.
    pub what: String,
    /// Why it is here.
    pub why: String,
    /// Number of regular files, a file with several names counted once.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// Something that the runtime has and the old image had not.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Addition {
    /// Path without a leading `/`.
    pub path: String,
    /// Why it is needed.
    pub why: String,
}

/// What goes where.
#[derive(Debug, Clone)]
pub struct Split {
    /// The tree of the runtime, as its init will find it.
    pub runtime: Tree,
    /// The boot portion.
    pub boot: Vec<BootPart>,
    /// The runtime's parts; each file is in one.
    pub runtime_parts: Vec<RuntimePart>,
    /// What was added to the runtime.
    pub additions: Vec<Addition>,
    /// Paths, without a leading `/`, that came from early segments alone and so are not in the runtime: the new image
    /// has those segments still, byte for byte.
    pub left_out: Vec<String>,
}

/// Divides the image.
///
/// Of the old tree nothing goes to the front-end alone: it makes its own programs, and the kernel modules that it
/// carries stay in the runtime as well, because udev loads from there later. Only what came from early segments, which
/// the new image starts with, is not in the runtime: the kernel read it before there was a rootfs.
#[must_use]
pub fn split(initrd: &Initrd, class: &Classification, kernels: &[Kernel]) -> Split {
    let mut runtime = initrd.tree.clone();
    let mut boot = Vec::new();

    let (left_out, files, bytes) = take_out(&mut runtime, initrd.only_early());
    if initrd.segments.iter().any(|segment| segment.early) {
        boot.push(BootPart {
            what: "early cpio".into(),
            why: "the kernel looks for microcode and ACPI tables in uncompressed segments at the start; kept there byte \
                  for byte"
                .into(),
            files,
            bytes,
        });
    }
    if !initrd.early_bodies.is_empty() {
        boot.push(BootPart {
            what: "early files among other files".into(),
            why: "the kernel looks for microcode and ACPI tables in the uncompressed segments at the start; the segment \
                  here holds other files too, so these get an early cpio of their own and stay in the runtime"
                .into(),
            files: initrd.early_bodies.len() as u64,
            bytes: initrd.early_bodies.iter().map(|(_, body)| body.end - body.start).sum(),
        });
    }
    if let Some(init) = &class.init {
        boot.push(BootPart {
            what: format!("{init}, as what the kernel starts"),
            why: "the kernel starts the init of the boot initramfs, which mounts the runtime and then starts the old init; \
                  that stays where it was"
                .into(),
            files: 0,
            bytes: 0,
        });
    }
    boot.extend(kernels.iter().map(modules_of));

    let additions = add_mount_points(&mut runtime, class.handover);
    let runtime_parts = parts(&runtime, class);
    Split { runtime, boot, runtime_parts, additions, left_out }
}

pub(super) fn modules_of(kernel: &Kernel) -> BootPart {
    let modules = &kernel.modules.modules;
    let from: Vec<String> =
        kernel.origin.iter().map(|origin| format!("{} from {}", origin.modules, origin.source)).collect();
    let from = if from.is_empty() { String::new() } else { format!(" ({})", from.join(", ")) };
    BootPart {
        what: format!("modules of kernel {}{from}", kernel.modules.version),
        why: if modules.is_empty() {
            "none: all that reaches the runtime is built in".into()
        } else {
            "loop, squashfs, btrfs and the overlay reach the runtime; the image's own copies stay in the runtime too, \
             for udev"
                .into()
        },
        files: modules.len() as u64,
        bytes: modules.iter().map(|module| module.elf.len() as u64).sum(),
    }
}

/// Takes paths out of a tree, directories among them only where they are empty then. Says which, how many files and how
/// many bytes.
fn take_out<'p>(tree: &mut Tree, paths: impl Iterator<Item = &'p [u8]>) -> (Vec<String>, u64, u64) {
    let (mut left_out, mut files, mut bytes) = (Vec::new(), 0, 0);
    let mut directories = BTreeSet::new();
    for path in paths {
        let (parent, name) = divide(path);
        let Some((parent, id)) = tree.get(parent).zip(tree.get(path)) else { continue };
        match &tree.inode(id).node {
            Node::Directory(_) => {
                directories.insert(path);
                continue;
            }
            Node::Regular(content) => bytes += content.size,
            _ => {}
        }
        files += 1;
        remove(tree, parent, name, id);
        left_out.push(display(path));
    }
    // The deepest first, so that a parent is seen when its children are gone.
    for path in directories.iter().rev() {
        let (parent, name) = divide(path);
        if let Some((parent, id)) = tree.get(parent).zip(tree.get(path))
            && tree.names(id).is_some_and(BTreeMap::is_empty)
        {
            remove(tree, parent, name, id);
            left_out.push(display(path));
        }
    }
    left_out.sort();
    (left_out, files, bytes)
}

/// A path's parent and its last part.
fn divide(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&b| b == b'/');
    at.map_or((b"".as_slice(), path), |at| (&path[..at], &path[at + 1..]))
}

fn remove(tree: &mut Tree, parent: InodeId, name: &[u8], id: InodeId) {
    if let Node::Directory(names) = &mut tree.inode_mut(parent).node
        && names.remove(name).is_some()
    {
        let inode = tree.inode_mut(id);
        inode.nlink = inode.nlink.saturating_sub(1);
    }
}

/// Adds the mount points without which the runtime cannot be handed over to, and no others.
fn add_mount_points(tree: &mut Tree, handover: Handover) -> Vec<Addition> {
    let mut wanted = vec!["dev", "proc", "sys"];
    if handover == Handover::Mounted {
        wanted.push("run");
    }
    let (root, mtime) = (tree.root, tree.inode(tree.root).mtime);
    let mut additions = Vec::new();
    for name in wanted {
        // Whatever stands there, a link for example, is the image's own affair.
        if tree.names(root).is_some_and(|names| names.contains_key(name.as_bytes())) {
            continue;
        }
        let node = Node::Directory(BTreeMap::new());
        let id = tree.add(Inode { mode: 0o755, uid: 0, gid: 0, mtime, nlink: 1, node });
        if let Node::Directory(names) = &mut tree.inode_mut(root).node {
            names.insert(name.as_bytes().into(), id);
            additions.push(Addition {
                path: name.into(),
                why: format!(
                    "a mount point: a root is handed over with /{name} mounted, and the image had none"
                ),
            });
        }
    }
    additions
}

/// The kinds of files in a runtime, recognized by the start of their path; the first that fits counts.
const PARTS: [(&str, &str, &[&str]); 8] = [
    (
        "kernel modules",
        "udev and modprobe load them while the system runs",
        &["lib/modules/", "usr/lib/modules/"],
    ),
    ("firmware", "drivers ask for it while the system runs", &["lib/firmware/", "usr/lib/firmware/"]),
    ("kernel files", "not needed to boot", &["boot/"]),
    ("configuration", "read by the system after switch_root", &["etc/"]),
    (
        "programs",
        "started by the system after switch_root",
        &["bin/", "sbin/", "usr/bin/", "usr/sbin/", "usr/local/", "opt/", "usr/libexec/"],
    ),
    ("libraries", "the programs are linked with them", &["lib", "usr/lib"]),
    (
        "shared data",
        "fonts, translations, documentation and other data of the programs",
        &["usr/share/", "usr/include/", "usr/src/"],
    ),
    ("state", "package lists, caches, home directories", &["var/", "root/", "home/", "srv/", "tmp/", "run/"]),
];

fn parts(tree: &Tree, class: &Classification) -> Vec<RuntimePart> {
    let init = class.init.as_deref().and_then(|init| tree.resolve(init));
    let mut seen = BTreeSet::new();
    let mut sums: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for entry in tree.walk() {
        let Node::Regular(content) = &tree.inode(entry.id).node else { continue };
        if !seen.insert(entry.id) {
            continue;
        }
        let index = if Some(entry.id) == init {
            0
        } else {
            let fits = |starts: &[&str]| starts.iter().any(|start| entry.path.starts_with(start.as_bytes()));
            1 + PARTS.iter().position(|(_, _, starts)| fits(starts)).unwrap_or(PARTS.len())
        };
        let sum = sums.entry(index).or_default();
        sum.0 += 1;
        sum.1 += content.size;
    }
    sums.into_iter()
        .map(|(index, (files, bytes))| {
            let (what, why) = match index.checked_sub(1) {
                None => (
                    format!("init ({})", class.init.as_deref().unwrap_or("/init")),
                    format!("still started as PID 1: {}", class.handover_reason),
                ),
                Some(part) => PARTS.get(part).map_or_else(
                    || ("other files".to_owned(), "none of the above".to_owned()),
                    |(what, why, _)| ((*what).to_owned(), (*why).to_owned()),
                ),
            };
            RuntimePart { what, why, files, bytes }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::codec::Encoding;
    use crate::image::classify::classify;
    use crate::initrd::{self, NewcWriter, Segment};
    use proptest::prelude::*;

    fn paths(tree: &Tree) -> Vec<String> {
        tree.walk().map(|entry| display(&entry.path)).filter(|path| !path.is_empty()).collect()
    }

    #[test]
    fn early_files_stay_early_and_all_else_is_in_the_runtime() {
        let files: &[(&str, &[u8])] = &[
            ("init", b"#!/bin/sh\nmount /proc\n"),
            ("kernel/x86/microcode/GenuineIntel.bin", b"microcode"),
            ("lib/modules/6.1.0/kernel/a.ko", b"12345"),
            ("usr/lib/libc.so.6", b"123"),
            ("usr/share/doc/x", b"1"),
        ];
        let mut initrd = crate::initrd::build::initrd(crate::tree::build::tree(files, &[("dev", "nowhere")]));
        let early = ["kernel", "kernel/x86", "kernel/x86/microcode", "kernel/x86/microcode/GenuineIntel.bin"];
        crate::initrd::build::early(&mut initrd, early);
        initrd.segments.push(Segment {
            number: 1,
            offset: 0,
            size: 512,
            padding: 0,
            encoding: Encoding::Plain,
            unpacked: 512,
            entries: 4,
            early: true,
            dictionary: 0,
        });
        let split = split(&initrd, &classify(&initrd), &[]);
        assert_eq!(
            paths(&split.runtime),
            [
                "dev",
                "init",
                "lib",
                "lib/modules",
                "lib/modules/6.1.0",
                "lib/modules/6.1.0/kernel",
                "lib/modules/6.1.0/kernel/a.ko",
                "proc",
                "sys",
                "usr",
                "usr/lib",
                "usr/lib/libc.so.6",
                "usr/share",
                "usr/share/doc",
                "usr/share/doc/x"
            ]
        );
        let added: Vec<_> = split.additions.iter().map(|a| a.path.as_str()).collect();
        assert_eq!(added, ["proc", "sys"], "/dev is there, and a bare handover needs no /run");
        assert_eq!(
            (split.boot[0].what.as_str(), split.boot[0].files, split.boot[0].bytes),
            ("early cpio", 1, 9)
        );
        assert_eq!(split.left_out.len(), 4);
        let parts: Vec<_> = split.runtime_parts.iter().map(|p| (p.what.as_str(), p.files, p.bytes)).collect();
        assert_eq!(
            parts,
            [("init (/init)", 1, 22), ("kernel modules", 1, 5), ("libraries", 1, 3), ("shared data", 1, 1)]
        );
        // The old tree is as it was.
        assert!(initrd.tree.get("kernel/x86/microcode/GenuineIntel.bin").is_some());
    }

    #[test]
    fn a_directory_with_other_files_outlives_its_early_ones() {
        let files: &[(&str, &[u8])] = &[("kernel/early", b"a"), ("kernel/late", b"b")];
        let mut initrd = crate::initrd::build::initrd(crate::tree::build::tree(files, &[]));
        crate::initrd::build::early(&mut initrd, ["kernel", "kernel/early", "kernel/gone"]);
        let split = split(&initrd, &classify(&initrd), &[]);
        assert!(split.runtime.get("kernel/late").is_some() && split.runtime.get("kernel/early").is_none());
        assert_eq!(split.left_out, ["kernel/early"]);
    }

    #[test]
    fn what_another_segment_wrote_too_is_the_systems() {
        let path = "kernel/x86/microcode/AuthenticAMD.bin";
        let archive = |directories: &[&str], body: &[u8]| {
            let mut newc = NewcWriter::new(Vec::new(), 7);
            directories.iter().for_each(|directory| newc.directory(directory, 0o755).unwrap());
            if !body.is_empty() {
                newc.file(path, 0o644, body).unwrap();
            }
            newc.finish().unwrap()
        };
        let directories = ["kernel", "kernel/x86", "kernel/x86/microcode"];
        let both = |late: Vec<u8>| {
            let mut image = archive(&directories, b"early");
            image.extend(crate::codec::compress(&late, Encoding::Gzip).unwrap());
            let read = initrd::read(&image, Path::new("x"), &initrd::Limits::default(), &|_| ()).unwrap();
            assert_eq!(read.early_paths.len(), 4);
            split(&read, &classify(&read), &[])
        };
        let rewritten = both(archive(&[], b"late"));
        let id = rewritten.runtime.get(path).unwrap();
        assert_eq!(rewritten.runtime.read(id, 100).unwrap().unwrap(), b"late");
        assert!(rewritten.left_out.is_empty(), "{:?}", rewritten.left_out);
        // A directory alone stays, and those above it.
        let directory = both(archive(&["kernel/x86"], b""));
        assert!(directory.runtime.get("kernel/x86").is_some());
        assert_eq!(directory.left_out, ["kernel/x86/microcode", path]);
        assert_eq!(both(archive(&["other"], b"")).left_out, [directories.as_slice(), &[path]].concat());
    }

    #[test]
    fn a_hard_link_that_loses_a_name_counts_one_less() {
        let mut tree = crate::tree::build::tree(&[("early", b"x")], &[]);
        let id = tree.get("early").unwrap();
        tree.inode_mut(id).nlink = 2;
        let root = tree.root;
        let Node::Directory(names) = &mut tree.inode_mut(root).node else { panic!() };
        names.insert((*b"late").into(), id);
        let mut initrd = crate::initrd::build::initrd(tree);
        crate::initrd::build::early(&mut initrd, ["early"]);
        let split = split(&initrd, &classify(&initrd), &[]);
        assert_eq!(split.runtime.inode(split.runtime.get("late").unwrap()).nlink, 1);
    }

    proptest! {
        #[test]
        fn every_file_is_in_one_part_or_left_out(names in proptest::collection::btree_set("(lib|usr|etc|boot|kernel)/[a-c]{1,2}", 1..12), early in 0_usize..6) {
            let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"xy".as_slice())).collect();
            let mut initrd = crate::initrd::build::initrd(crate::tree::build::tree(&files, &[]));
            crate::initrd::build::early(&mut initrd, names.iter().take(early).map(String::as_str));
            let split = split(&initrd, &classify(&initrd), &[]);
            let kept: u64 = split.runtime_parts.iter().map(|part| part.files).sum();
            prop_assert_eq!(kept as usize + initrd.early_paths.len(), names.len());
            prop_assert!(initrd.early_paths.iter().all(|path| split.runtime.get(path).is_none()));
        }
    }
}
