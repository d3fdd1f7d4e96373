//! `verify` finds every change, and nothing where there is none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::sync::Arc;

use btrsquash::bytes::ReadAt;
use btrsquash::codec::Encoding;
use btrsquash::contract::paths::CMDLINE;
use btrsquash::convert::layout::{Carry, Image};
use btrsquash::initrd;
use btrsquash::tree::{Device, Extent, Inode, Node, Tree};
use serde_json::Value;

use crate::support::images::*;
use crate::support::{btrsquash, have, installer, run, sh};

#[test]
fn verify_holds_for_every_form_of_a_conversion() {
    let Some((old, new)) = text_converted("qa-text", &[]) else { return };
    let Some((_, retained)) =
        text_converted("qa-text-apart", &["--layout", "split", "--runtime-from", "media:LABEL=x"])
    else {
        return;
    };
    // common::converted has verified the image itself; here the one line and the parts are looked at.
    let output = run(btrsquash().arg("verify").arg(&old).arg(&new));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with('✓') && text.lines().count() == 1, "{text}");
    let (code, report) = verify(&old, &retained.with_file_name("qa-text-apart.squashfs.img"));
    assert_eq!((code, &report["holds"]), (0, &true.into()), "{report:#}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("checksums of") && notes.contains("read completely"), "{notes}");
    // The bare squashfs, the image and the original are one system.
    let output = run(btrsquash()
        .arg("diff")
        .arg(&new)
        .arg(retained.with_file_name("qa-text-apart.squashfs.img"))
        .args(["--exit-code", "--json"]));
    assert_eq!(json(&output)["counts"]["changed"], 0);
}

#[test]
fn verify_names_the_file_that_was_changed() {
    let Some((old, _)) = installer("text") else { return };
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("squashfs.img");
    let tree = runtime(&old);
    write_runtime(&tree, &new);
    let (code, report) = verify(&old, &new);
    assert_eq!((code, &report["holds"]), (0, &true.into()), "{report:#}");

    type Change = fn(&mut Tree);
    let cases: [(&str, &str, Change); 3] = [
        ("bin/busybox", "content", |tree| {
            let Node::Regular(content) = &tree.inode(tree.get("bin/busybox").unwrap()).node else { panic!() };
            let at = content.extents[0].data_offset + 100_000;
            tree.data = Arc::new(Patched { inner: Arc::clone(&tree.data), at });
        }),
        ("init", "mode", |tree| {
            let id = tree.resolve("init").unwrap();
            tree.inode_mut(id).mode ^= 0o001;
        }),
        ("dev/console", "device", |tree| {
            let id = tree.get("dev/console").unwrap();
            tree.inode_mut(id).node = Node::CharDevice(Device { major: 5, minor: 2 });
        }),
    ];
    for (path, aspect, change) in cases {
        let mut tampered = tree.clone();
        change(&mut tampered);
        write_runtime(&tampered, &new);
        let (code, report) = verify(&old, &new);
        assert_eq!((code, &report["holds"]), (1, &false.into()), "{aspect}");
        assert_eq!(paths(&report["changed"]), [path], "{aspect}: {report:#}");
        assert_eq!(report["changed"][0]["aspects"][0]["aspect"], aspect);
        assert_eq!(report["changed"][0]["aspects"].as_array().unwrap().len(), 1);
        let text = btrsquash().arg("verify").arg(&old).arg(&new).output().unwrap();
        assert!(String::from_utf8_lossy(&text.stdout).contains(path));
    }
}

#[test]
fn verify_tolerates_nothing_else() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = small(dir.path());
    let new = dir.path().join("squashfs.img");
    let tree = runtime(&old);
    let put = |tree: &mut Tree, name: &str, inode: Inode| {
        let id = tree.add(inode);
        let root = tree.root;
        let Node::Directory(names) = &mut tree.inode_mut(root).node else { panic!() };
        names.insert(name.as_bytes().into(), id);
    };
    let fifo = Inode { mode: 0o644, uid: 0, gid: 0, mtime: 0, nlink: 1, node: Node::Fifo };
    type Change<'a> = Box<dyn Fn(&mut Tree) + 'a>;
    let of = |path: &'static str, change: fn(&mut Inode)| -> Change<'_> {
        Box::new(move |tree| {
            let id = tree.get(path).unwrap();
            change(tree.inode_mut(id));
        })
    };
    let cases: Vec<(&str, &str, &[&str], Change<'_>)> = vec![
        ("changed", "owner", &["init"], of("init", |i| i.uid = 1)),
        ("changed", "time", &["etc/text", "etc/linked"], of("etc/text", |i| i.mtime += 1)),
        ("changed", "target", &["etc/link"], of("etc/link", |i| i.node = Node::Symlink((*b"other").into()))),
        ("changed", "type", &["etc/link"], of("etc/link", |i| i.node = Node::Fifo)),
        (
            "changed",
            "content",
            &["usr/share/again"],
            of("usr/share/again", |i| {
                let Node::Regular(content) = &mut i.node else { panic!() };
                content.size -= 1;
                content.extents = vec![Extent { len: content.size, ..content.extents[0] }];
            }),
        ),
        ("unexpected", "", &["stray"], Box::new(|tree| put(tree, "stray", fifo.clone()))),
        (
            "missing",
            "",
            &["init"],
            Box::new(|tree| {
                let root = tree.root;
                let Node::Directory(names) = &mut tree.inode_mut(root).node else { panic!() };
                names.remove(b"init".as_slice());
            }),
        ),
    ];
    for (list, aspect, wanted, change) in cases {
        let mut tampered = tree.clone();
        change(&mut tampered);
        write_runtime(&tampered, &new);
        let (code, report) = verify(&old, &new);
        assert_eq!(code, 1, "{list} {aspect}");
        let found: BTreeSet<String> = paths(&report[list]).into_iter().collect();
        assert_eq!(found, wanted.iter().map(|p| (*p).to_owned()).collect(), "{aspect}: {report:#}");
        for other in ["changed", "missing", "unexpected"].into_iter().filter(|other| *other != list) {
            // A removed name takes the time of its directory along only where a kernel removes it.
            assert_eq!(report[other].as_array().unwrap().len(), 0, "{list} {aspect}: {report:#}");
        }
    }
    // The old image changed instead: the same is found from the other side.
    write_runtime(&tree, &new);
    sh(
        dir.path(),
        r"cd tree; printf x | dd of=usr/share/noise conv=notrunc bs=1 seek=150000 status=none; touch -r usr/share/again usr/share/noise
        find . | sort | cpio -o -H newc --quiet -R 0:0 | gzip -n >../small.img",
        &[],
    );
    let (code, report) = verify(&old, &new);
    assert_eq!(code, 1);
    assert!(paths(&report["changed"]).contains(&"usr/share/noise".to_owned()), "{report:#}");
}

#[test]
fn verify_wants_early_segments_byte_for_byte() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    small(dir.path());
    let early = |name: &str, byte: &str| {
        sh(
            dir.path(),
            &format!(
                "mkdir -p {name}/kernel/x86/microcode; printf {byte} >{name}/kernel/x86/microcode/AuthenticAMD.bin
                (cd {name}; find kernel | sort | cpio -o -H newc --quiet -R 0:0 --reproducible) >{name}.cpio"
            ),
            &[],
        );
    };
    early("a", "1");
    early("b", "2");
    sh(dir.path(), "cat a.cpio small.img >old.img; cat b.cpio small.img >other.img", &[]);
    let old = dir.path().join("old.img");
    // A new image: early segments, a plain cpio with the squashfs.
    let squashfs = dir.path().join("squashfs.img");
    write_runtime(&runtime(&old), &squashfs);
    sh(
        dir.path(),
        "echo squashfs.img | cpio -o -H newc --quiet -R 0:0 >c.cpio; cat a.cpio c.cpio >new.img; cat b.cpio c.cpio >wrong.img",
        &[],
    );
    let (code, report) = verify(&old, &dir.path().join("new.img"));
    assert_eq!(code, 0, "{report:#}");
    let (code, report) = verify(&old, &dir.path().join("wrong.img"));
    assert_eq!(code, 1);
    assert!(
        paths(&report["missing"]).contains(&"kernel/x86/microcode/AuthenticAMD.bin".to_owned()),
        "{report:#}"
    );
}

#[test]
fn what_is_early_and_late_is_in_the_runtime() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    small(dir.path());
    // As GNU cpio packs a tree that holds the microcode once more, and another one.
    sh(
        dir.path(),
        r"mkdir -p early/kernel/x86/microcode tree/kernel/x86/microcode
        tee early/kernel/x86/microcode/AuthenticAMD.bin early/kernel/x86/microcode/GenuineIntel.bin <<<early >/dev/null
        echo late >tree/kernel/x86/microcode/AuthenticAMD.bin
        (cd early; find kernel | sort | cpio -o -H newc --quiet -R 0:0) >early.cpio
        (cd tree; find . | sort | cpio -o -H newc --quiet -R 0:0 | gzip -n) >late.img
        cat early.cpio late.img >old.img",
        &[],
    );
    let old = dir.path().join("old.img");
    let tree = runtime(&old);
    let id = tree.get("kernel/x86/microcode/AuthenticAMD.bin").expect("the late one is the system's");
    assert_eq!(
        tree.read(id, 100).unwrap().unwrap(),
        b"late
"
    );
    assert!(tree.get("kernel/x86/microcode/GenuineIntel.bin").is_none());
    let image = |tree: &Tree| {
        write_runtime(tree, &dir.path().join("squashfs.img"));
        sh(
            dir.path(),
            "echo squashfs.img | cpio -o -H newc --quiet -R 0:0 >c.cpio; cat early.cpio c.cpio >new.img",
            &[],
        );
        verify(&old, &dir.path().join("new.img"))
    };
    let (code, report) = image(&tree);
    assert_eq!(code, 0, "{report:#}");
    // Without it the image holds another system, whatever its early segment has at the path.
    let mut lost = tree.clone();
    let directory = lost.get("kernel/x86/microcode").unwrap();
    let Node::Directory(names) = &mut lost.inode_mut(directory).node else { panic!() };
    names.remove(b"AuthenticAMD.bin".as_slice());
    let (code, report) = image(&lost);
    assert_eq!((code, paths(&report["missing"])), (1, vec!["kernel/x86/microcode/AuthenticAMD.bin".into()]));
}

#[test]
fn a_runtime_that_is_apart_is_asked_for() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = bootable(dir.path());
    let new = dir.path().join("s.img");
    convert(&old, &new, &["--front-end", "built-in", "--layout", "split", "--runtime-from", "media:LABEL=x"]);
    for (a, b) in [(&old, &new), (&new, &old)] {
        let output = btrsquash().arg("verify").arg(a).arg(b).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("is in the other") && said.contains("s.squashfs.img"), "{said}");
    }
    assert_eq!(verify(&old, &dir.path().join("s.squashfs.img")).0, 0);
    let report = json(&run(btrsquash().arg("diff").arg(&old).arg(&new).arg("--json")));
    assert!(report["notes"].to_string().contains("new: the runtime is in a separate file"), "{report:#}");
}

#[test]
fn a_runtime_is_found_however_it_is_carried() {
    if !have("cpio") || !have("mksquashfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = small(dir.path());
    let squashfs = dir.path().join("squashfs.img");
    write_runtime(&runtime(&old), &squashfs);
    // As convert does it: a regular file, or the body of an entry that the kernel skips.
    let mut front_end = initrd::NewcWriter::new(Vec::new(), 0);
    front_end.file("init", 0o755, b"#!/bin/sh\n").unwrap();
    front_end.directory(".btrsquash", 0o755).unwrap();
    front_end.file(".btrsquash/config", 0o644, b"handover=bare\n").unwrap();
    let packed = btrsquash::codec::compress(&front_end.finish().unwrap(), Encoding::Xz).unwrap();
    let file = File::open(&squashfs).unwrap();
    for (name, carry) in [("regular", Carry::Regular), ("retained", Carry::Retained)] {
        let image = Image {
            old: &Vec::new(),
            early: &[],
            early_bodies: &[],
            bootconfig: None,
            squashfs: Some((&file, carry)),
            extra: &|_| vec![(CMDLINE.into(), b"root=live:x\n".to_vec())],
            front_end: &packed,
            time: 1,
        };
        let new = dir.path().join(name);
        let parts = image.write(&mut File::create(&new).unwrap()).unwrap();
        let (code, report) = verify(&old, &new);
        assert_eq!((code, &report["holds"]), (0, &true.into()), "{name}: {report:#}");
        let report = inspect(&new);
        assert_eq!(report["identity"]["verdict"], "converted (btrsquash built-in)", "{name}");
        let bytes = |i: usize| report["image"]["parts"][i]["bytes"].as_u64().unwrap();
        assert_eq!(bytes(0), file.len(), "{name}");
        assert_eq!(bytes(0) + bytes(1), parts.squashfs_cpio, "{name}");
        assert_eq!(bytes(2), parts.front_end, "{name}");
        assert!(report["front_end"]["notes"].to_string().contains("root=live:x"), "{name}");
    }
    // As Fedora's live media do, and with all of it in one compressed archive.
    sh(
        dir.path(),
        "mkdir -p live/LiveOS; cp squashfs.img live/LiveOS; printf '#!/bin/sh\n' >live/init; chmod +x live/init
        (cd live; find . | cpio -o -H newc --quiet | gzip) >fedora.img
        mksquashfs tree bare.img -all-root -quiet -no-progress >/dev/null",
        &[],
    );
    let (code, report) = verify(&old, &dir.path().join("fedora.img"));
    assert_eq!(code, 0, "{report:#}");
    // A squashfs that is the system itself: the kernel's own /root and /dev/console are not in it.
    let bare = dir.path().join("bare.img");
    let report = inspect(&bare);
    assert_eq!((&report["identity"]["verdict"], &report["ram"]), (&"squashfs".into(), &Value::Null));
    let (code, report) = verify(&old, &bare);
    assert_eq!((code, paths(&report["missing"])), (1, vec!["dev/console".to_owned(), "root".to_owned()]));
    let budget = btrsquash().arg("inspect").arg(&bare).args(["--max-ram", "1G"]).output().unwrap();
    assert_eq!(budget.status.code(), Some(1));
}

#[test]
fn a_damaged_runtime_is_exit_code_3_or_1() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = small(dir.path());
    let new = dir.path().join("squashfs.img");
    write_runtime(&runtime(&old), &new);
    let whole = fs::read(&new).unwrap();
    // Every part of it: superblock, blocks, metadata.
    let mut caught = 0;
    for i in 0..40 {
        let mut bytes = whole.clone();
        let at = i * (bytes.len() - 1) / 40 + 50;
        bytes[at.min(whole.len() - 1)] ^= 0x40;
        fs::write(&new, bytes).unwrap();
        let output = btrsquash().arg("verify").arg(&old).arg(&new).output().unwrap();
        match output.status.code() {
            Some(3) => {
                assert!(!output.stderr.is_empty());
                caught += 1;
            }
            Some(1) => caught += 1,
            // Padding, and fields that nothing depends on.
            Some(0) => {}
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    assert!(caught >= 30, "{caught} of 40");
}
