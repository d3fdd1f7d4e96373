//! inspect, verify and diff against independent tools on real images.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use btrsquash::btrfs::{self, Features};
use btrsquash::bytes::ReadAt;
use btrsquash::codec::Encoding;
use btrsquash::contract::paths::CMDLINE_FILE;
use btrsquash::convert::layout::{Carry, Image};
use btrsquash::convert::split;
use btrsquash::cores::Cores;
use btrsquash::tree::{Device, Extent, Inode, Node, Tree};
use btrsquash::{image, initrd, squashfs};
use serde_json::Value;

use crate::common::{
    asset, btrsquash, converted, follows_schema, have, installer, kernel_package, root, run, sh, skip,
};

/// The netboot installer of an architecture.
fn netboot(arch: &str) -> Option<PathBuf> {
    asset(&format!("d12/usr/lib/debian-installer/images/12/{arch}/text/debian-installer/{arch}/initrd.gz"))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{e}\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn inspect(image: &Path) -> Value {
    json(&run(btrsquash().arg("inspect").arg(image).arg("--json")))
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// The text installer, converted fast.
pub fn text_converted(name: &str, more: &[&str]) -> Option<(PathBuf, PathBuf)> {
    let (old, _) = installer("text")?;
    let package = kernel_package()?;
    let mut arguments =
        vec!["--modules", package.to_str()?, "--front-end", "built-in", "--compression", "lz4"];
    arguments.extend(more);
    Some((old.clone(), converted(name, &old, &arguments)))
}

#[test]
fn errors_do_not_act_on_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("evil\u{1b}[2J\u{202e}\u{9b}.img");
    fs::write(&image, "no image").unwrap();
    let output = btrsquash().arg("inspect").arg(&image).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("evil\\u{1b}[2J\\u{202e}\\u{9b}.img"), "{text:?}");
    // The hint stands on a line of its own.
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("  Linux stops here"), "{text:?}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn segments_of_every_architecture_are_what_gzip_and_cpio_say() {
    if !have("cpio") || !have("bsdcpio") || !have("lsinitrd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (arch, machine) in
        [("amd64", "x86_64"), ("i386", "i386"), ("arm64", "aarch64"), ("ppc64el", "ppc64le")]
    {
        let Some(image) = netboot(arch) else { return };
        let report = inspect(&image);
        let segments = report["segments"].as_array().unwrap();
        assert_eq!(segments.len(), 1, "{arch}");
        let bytes = number(&sh(dir.path(), r#"zcat "$1" | wc -c"#, &[&image]));
        let entries = number(&sh(dir.path(), r#"zcat "$1" | cpio -t --quiet | wc -l"#, &[&image]));
        let others = number(&sh(dir.path(), r#"zcat "$1" | bsdcpio -t --quiet | wc -l"#, &[&image]));
        assert_eq!(entries, others, "{arch}");
        // lsinitrd sorts by path and shows `ls -l` lines; the root has the name ".".
        let listed =
            number(&sh(dir.path(), r#"lsinitrd "$1" | grep -cE '^[-dlbcps][-rwxsStT]{9} '"#, &[&image]));
        assert_eq!(listed, entries, "{arch}");
        assert_eq!(segments[0]["offset"], 0);
        assert_eq!(segments[0]["encoding"], "gzip");
        assert_eq!(
            segments[0]["size"].as_u64().unwrap() + segments[0]["padding"].as_u64().unwrap(),
            image.metadata().unwrap().len()
        );
        assert_eq!(segments[0]["unpacked"], bytes, "{arch}");
        assert_eq!(segments[0]["entries"], entries, "{arch}");
        let found = report["identity"]["architecture"].as_str().unwrap();
        assert!(found == machine || (arch == "i386" && found.ends_with("86")), "{arch}: {found}");
        assert_eq!(report["identity"]["verdict"], "monolith", "{arch}");
        assert!(report["identity"]["distribution"].as_str().unwrap().contains("Debian"), "{arch}");
    }
}

/// An initrd as Debian's /boot has it: early microcode packed by GNU cpio, then what the host's dracut makes.
fn host_initrd(dir: &Path) -> Option<PathBuf> {
    if !have("dracut") || !have("cpio") {
        return None;
    }
    sh(
        dir,
        r"mkdir -p early/kernel/x86/microcode conf
        head -c 100001 /dev/urandom >early/kernel/x86/microcode/GenuineIntel.bin
        (cd early && find . | cpio -o -H newc --quiet) >early.cpio
        dracut --no-kernel --no-hostonly --conf /dev/null --confdir conf --gzip --quiet main.img >log 2>&1
        cat early.cpio main.img >initrd.img",
        &[],
    );
    Some(dir.join("initrd.img"))
}

#[test]
fn a_hosts_initrd_is_seen_whole() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = host_initrd(dir.path()) else { return };
    let skipcpio =
        ["/usr/lib/dracut/skipcpio", "/usr/bin/skipcpio"].map(Path::new).into_iter().find(|p| p.exists());
    let (Some(skipcpio), true) = (skipcpio, have("unmkinitramfs")) else {
        return skip("skipcpio is not installed");
    };
    let report = inspect(&image);
    let segments = report["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 2, "{segments:#?}");
    assert_eq!((&segments[0]["early"], &segments[0]["encoding"]), (&true.into(), &"plain".into()));
    assert_eq!((&segments[1]["early"], &segments[1]["encoding"]), (&false.into(), &"gzip".into()));
    // dracut's skipcpio gives what comes after the early cpio.
    let rest = number(&sh(dir.path(), r#""$2" "$1" | wc -c"#, &[&image, skipcpio]));
    assert_eq!(segments[1]["offset"], image.metadata().unwrap().len() - rest);
    let field = |i: usize, name: &str| segments[i][name].as_u64().unwrap();
    assert_eq!(field(0, "size") + field(0, "padding"), field(1, "offset"));
    assert_eq!(field(0, "entries"), number(&sh(dir.path(), "cpio -t --quiet <early.cpio | wc -l", &[])));
    assert_eq!(field(1, "unpacked"), number(&sh(dir.path(), "zcat main.img | wc -c", &[])));
    assert_eq!(field(1, "entries"), number(&sh(dir.path(), "zcat main.img | cpio -t --quiet | wc -l", &[])));
    // unmkinitramfs takes it apart in the same places.
    let parts = sh(
        dir.path(),
        "unmkinitramfs initrd.img out >/dev/null 2>&1; ls out; find out/early -type f -printf '%s'",
        &[],
    );
    assert_eq!(parts.split_whitespace().collect::<Vec<_>>(), ["early", "main", "100001"]);
    assert!(
        report["identity"]["verdict"].as_str().unwrap().contains("front-end (dracut"),
        "{}",
        report["identity"]
    );
    assert!(report["front_end"]["maker"].as_str().unwrap().starts_with("dracut "), "{}", report["front_end"]);
}

#[test]
fn inspect_looks_through_a_converted_image() {
    let Some((old, new)) = text_converted("qa-text", &[]) else { return };
    let (before, after) = (inspect(&old), inspect(&new));
    assert!(
        after["identity"]["verdict"].as_str().unwrap().starts_with("converted ("),
        "{}",
        after["identity"]
    );
    for same in ["init", "init_kind", "architecture", "kernels", "distribution", "handover"] {
        assert_eq!(before["identity"][same], after["identity"][same], "{same}");
    }
    for same in ["content", "largest"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    let kinds: Vec<&str> =
        after["layers"].as_array().unwrap().iter().map(|layer| layer["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["squashfs", "btrfs"]);
    // The parts are those that convert itself told of.
    let report: Value =
        serde_json::from_str(&fs::read_to_string(new.with_extension("json")).unwrap()).unwrap();
    let sizes = |file: &Value| -> Vec<u64> {
        file["parts"].as_array().unwrap().iter().map(|part| part["bytes"].as_u64().unwrap()).collect()
    };
    assert_eq!(sizes(&report["new"]), sizes(&after["image"]));
    assert_eq!(report["front_end"]["compressed"], after["front_end"]["compressed"]);
    let names = |report: &Value| report["front_end"]["kernels"][0]["modules"].clone();
    assert_eq!(names(&report), names(&after));
    let ram = |value: &Value| value["least"]["value"].as_u64().unwrap();
    let (told, seen) = (ram(&report["ram_after"]), ram(&after["ram"]));
    assert!(told.abs_diff(seen) < 2 << 20, "{told} {seen}");
}

#[test]
fn budgets_are_exit_codes() {
    let Some((old, _)) = installer("text") else { return };
    let budget = |arguments: &[&str]| {
        let output = btrsquash().arg("inspect").arg(&old).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(budget(&["--max-size", "1G", "--max-ram", "4G"]).0, Some(0));
    let (code, text) = budget(&["--max-size", "30MB", "--json"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("size 40.8 MB (40,8") && text.contains("is over the limit of 30.0 MB"), "{text}");
    let (code, text) = budget(&["--max-ram", "64M"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("least RAM") && text.contains("is over the limit of 64 MiB"), "{text}");
}

fn verify(old: &Path, new: &Path) -> (i32, Value) {
    let output = btrsquash().arg("verify").arg(old).arg(new).arg("--json").output().unwrap();
    (output.status.code().unwrap(), json(&output))
}

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
    assert!(notes.contains("checksums of") && notes.contains("all of"), "{notes}");
    // The bare squashfs, the image and the original are one system.
    let output = run(btrsquash()
        .arg("diff")
        .arg(&new)
        .arg(retained.with_file_name("qa-text-apart.squashfs.img"))
        .args(["--exit-code", "--json"]));
    assert_eq!(json(&output)["counts"]["changed"], 0);
}

/// Data with one byte changed.
struct Patched {
    inner: Arc<dyn ReadAt>,
    at: u64,
}

impl ReadAt for Patched {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.inner.read_exact_at(buf, offset)?;
        if let Some(at) = self.at.checked_sub(offset).filter(|at| *at < buf.len() as u64) {
            buf[at as usize] ^= 1;
        }
        Ok(())
    }
    fn len(&self) -> u64 {
        self.inner.len()
    }
}

/// Writes a runtime as convert does, only faster.
fn write_runtime(tree: &Tree, path: &Path) {
    let options =
        btrfs::Options { block_size: 128 << 10, ..btrfs::Options::new(Features::for_kernel("6.1.0")) };
    let image = btrfs::plan(tree, &options).unwrap();
    let options = squashfs::Options {
        compression: squashfs::Compression::Lz4,
        block_size: 128 << 10,
        ..Default::default()
    };
    let out = File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    squashfs::write(&image, "LiveOS/rootfs.img", image.regions(), &options, &Cores::new(0), out, &|_| ())
        .unwrap();
}

/// The runtime's tree of an image.
fn runtime(old: &Path) -> Tree {
    let old = image::open(old, &initrd::Limits::default(), &|_| ()).unwrap();
    split::split(old.initrd.as_ref().unwrap(), &old.class, &[]).runtime
}

fn paths(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
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

/// A small system, packed by GNU cpio.
fn small(dir: &Path) -> PathBuf {
    sh(
        dir,
        r"mkdir -p tree/etc tree/bin tree/usr/share tree/proc tree/sys tree/dev
        cd tree
        printf '#!/bin/sh\nmount -t proc proc /proc\n' >init; chmod 755 init
        printf 'one\ntwo\nthree\n' >etc/text
        head -c 300000 /dev/urandom >usr/share/noise
        cp usr/share/noise usr/share/again
        ln etc/text etc/linked; ln -s text etc/link
        find . | sort | cpio -o -H newc --quiet -R 0:0 | gzip -n >../small.img",
        &[],
    );
    dir.join("small.img")
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
            // A removed name takes the time of its folder along only where a kernel removes it.
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

/// A small system that any kernel of its own boots: all that reaches a runtime is built in.
fn bootable(dir: &Path) -> PathBuf {
    small(dir);
    sh(
        dir,
        r"cd tree; mkdir -p lib/modules/6.12.0
        for name in loop btrfs squashfs overlay dm-snapshot; do echo kernel/$name.ko; done >lib/modules/6.12.0/modules.builtin
        find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0 >../bootable.img",
        &[],
    );
    dir.join("bootable.img")
}

/// Converts, however many times.
fn convert(old: &Path, new: &Path, arguments: &[&str]) {
    let mut command = btrsquash();
    command.arg("convert").arg(old).args(arguments).args([
        "--compression",
        "lz4",
        "--force",
        "--quiet",
        "-o",
    ]);
    run(command.arg(new));
}

#[test]
fn what_was_appended_is_of_the_system() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = bootable(dir.path());
    let path = |name: &str| dir.path().join(name);
    sh(
        dir.path(),
        r"mkdir -p add/etc add/srv/deep add/usr/share
        echo more >add/etc/more; echo else >add/usr/share/again; ln add/etc/more add/srv/deep/same
        ln -s /nowhere add/srv/link; chmod 750 add/srv/deep; mkfifo add/etc/link
        (cd add; find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0 >../add.cpio)
        gzip -nk add.cpio; (cat bootable.img; cat add.cpio) >both.img",
        &[],
    );
    let mut forms: Vec<(&str, &[&str])> = vec![
        ("built-in", &["--front-end", "built-in"]),
        ("retained", &["--front-end", "built-in", "--runtime-from", "retained"]),
    ];
    if have("dracut") {
        forms.push(("dracut", &["--front-end", "dracut"]));
    }
    for (form, arguments) in forms {
        let new = path("new.img");
        convert(&old, &new, arguments);
        assert_eq!(verify(&old, &new).0, 0, "{form}");
        let before = inspect(&new);
        assert!(before["segments"].as_array().unwrap().iter().all(|s| s["appended"] == false), "{before:#}");
        assert!(!before["notes"].to_string().contains("appended"), "{form}: {before:#}");
        for archive in ["add.cpio", "add.cpio.gz"] {
            let appended = path("appended.img");
            sh(
                dir.path(),
                r#"cp new.img appended.img; truncate -s %4 appended.img; cat "$1" >>appended.img"#,
                &[Path::new(archive)],
            );
            let name = format!("{form}, {archive}");
            let (code, report) = verify(&old, &appended);
            assert_eq!((code, &report["holds"]), (1, &false.into()), "{name}: {report:#}");
            assert_eq!(paths(&report["changed"]), ["etc/link", "usr/share/again"], "{name}");
            let more = ["etc/more", "srv", "srv/deep", "srv/deep/same", "srv/link"];
            assert_eq!(paths(&report["unexpected"]), more, "{name}");
            assert!(report["notes"].to_string().contains("appended: 7 paths"), "{name}: {report:#}");
            // The same archive behind the original makes the same system.
            let (code, report) = verify(&path("both.img"), &appended);
            assert_eq!((code, &report["appended"]), (0, &7.into()), "{name}: {report:#}");
            let said = run(btrsquash().arg("verify").arg(path("both.img")).arg(&appended)).stdout;
            assert!(String::from_utf8_lossy(&said).trim_end().ends_with(", 7 appended paths"), "{name}");
            let differs =
                btrsquash().arg("diff").arg(&new).arg(&appended).args(["--exit-code", "--json"]).output();
            let differs = differs.unwrap();
            assert_eq!(differs.status.code(), Some(1), "{name}");
            let (report, after) = (json(&differs), inspect(&appended));
            assert_eq!(report["counts"]["added"], 5, "{name}: {report:#}");
            assert!(report["notes"].to_string().contains("new: appended: 7 paths"), "{name}: {report:#}");
            let segments: Vec<bool> =
                after["segments"].as_array().unwrap().iter().map(|s| s["appended"] == true).collect();
            assert_eq!(segments, [false, false, true], "{name}");
            assert!(
                after["image"]["parts"].to_string().contains("segment 3: appended, "),
                "{name}: {after:#}"
            );
            assert_eq!(before["front_end"], after["front_end"], "{name}");
            follows_schema("inspection", &after);
        }
    }
}

#[test]
fn an_appended_init_is_no_conversion() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = bootable(dir.path());
    let new = dir.path().join("new.img");
    convert(&old, &new, &["--front-end", "built-in"]);
    // The very one that the runtime has: the kernel starts it where no runtime is.
    sh(dir.path(), "cd tree; echo init | cpio -o -H newc --quiet -R 0:0 >>../new.img", &[]);
    let (code, report) = verify(&old, &new);
    assert_eq!((code, paths(&report["unexpected"])), (1, vec!["init".to_owned()]), "{report:#}");
    assert!(report["notes"].to_string().contains("in place of the front-end's own"), "{report:#}");
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
        assert!(said.contains("in another file") && said.contains("s.squashfs.img"), "{said}");
    }
    assert_eq!(verify(&old, &dir.path().join("s.squashfs.img")).0, 0);
    let report = json(&run(btrsquash().arg("diff").arg(&old).arg(&new).arg("--json")));
    assert!(report["notes"].to_string().contains("new: the runtime is apart"), "{report:#}");
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
    let folder = lost.get("kernel/x86/microcode").unwrap();
    let Node::Directory(names) = &mut lost.inode_mut(folder).node else { panic!() };
    names.remove(b"AuthenticAMD.bin".as_slice());
    let (code, report) = image(&lost);
    assert_eq!((code, paths(&report["missing"])), (1, vec!["kernel/x86/microcode/AuthenticAMD.bin".into()]));
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
            extra: &|_| vec![(CMDLINE_FILE.into(), b"root=live:x\n".to_vec())],
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

/// Counts by diff(1), find(1) and stat(1): added, removed, changed in anything but times and link counts. Types and
/// devices are stat's: diff says of any two device nodes that they differ.
const COUNT: &str = r#"
for side in a b; do
    mkdir $side; (cd $side; zcat "$2" | cpio -idm --quiet --no-absolute-filenames)
    (cd $side; find . -mindepth 1 | LC_ALL=C sort) >$side.paths
    (cd $side; find . -mindepth 1 -print0 | xargs -0 stat -c '%n|%f|%u|%g|%t:%T' | LC_ALL=C sort) >$side.stat
    shift
done
LC_ALL=C comm -13 a.paths b.paths | wc -l
LC_ALL=C comm -23 a.paths b.paths | wc -l
{
    LC_ALL=C diff -rq --no-dereference a b | sed -nE \
        's,^Files a/(.*) and b/.* differ$,./\1,p; s,^Symbolic links a/(.*) and b/.* differ$,./\1,p' || true
    LC_ALL=C comm -12 a.paths b.paths >both
    for side in a b; do awk -F'|' 'NR == FNR { both[$0]; next } $1 in both' both $side.stat >$side.both; done
    diff a.both b.both | sed -nE 's/^[<>] ([^|]*)\|.*/\1/p' || true
} | LC_ALL=C sort -u | wc -l
"#;

#[test]
fn diff_counts_what_diff_and_stat_count() {
    if !root() || !have("cpio") {
        return;
    }
    let (Some((text, _)), Some((gtk, _))) = (installer("text"), installer("gtk")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let counted =
        sh(dir.path(), &format!("set +o pipefail; {COUNT}"), &[&dir.path().join("unused"), &text, &gtk]);
    let counted: Vec<u64> = counted.lines().map(number).collect();
    let report = json(&run(btrsquash().arg("diff").arg(&text).arg(&gtk).arg("--json")));
    let counts = &report["counts"];
    let ours: Vec<u64> =
        ["added", "removed", "changed"].iter().map(|name| counts[name].as_u64().unwrap()).collect();
    assert_eq!(ours, counted);
    assert_eq!(report["added"].as_array().unwrap().len() as u64, ours[0]);
    // The other way round everything is the other way round.
    let back = json(&run(btrsquash().arg("diff").arg(&gtk).arg(&text).arg("--json")));
    assert_eq!(
        (&back["counts"]["added"], &back["counts"]["removed"]),
        (&counts["removed"], &counts["added"])
    );
    assert_eq!(back["counts"]["changed"], counts["changed"]);
}

#[test]
fn diff_shows_text_moves_and_its_exit_code() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = small(dir.path());
    sh(
        dir.path(),
        r"cd tree; sed -i s/two/2/ etc/text; ln -f etc/text etc/linked; mv usr/share/noise usr/noise; rm usr/share/again
        find . | sort | cpio -o -H newc --quiet -R 0:0 | gzip -n >../new.img",
        &[],
    );
    let new = dir.path().join("new.img");
    let diff = |more: &[&str]| btrsquash().arg("diff").arg(&old).arg(&new).args(more).output().unwrap();
    let output = diff(&["--text", "--exit-code"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
    assert!(text.contains("-two") && text.contains("+2"), "{text}");
    assert_eq!(diff(&[]).status.code(), Some(0));
    let report = json(&diff(&["--json"]));
    assert_eq!(report["moved"][0]["from"], "usr/share/noise");
    assert_eq!(report["moved"][0]["to"], "usr/noise");
    assert_eq!(report["texts"].as_array().unwrap().len(), 0);
    let same = btrsquash().arg("diff").arg(&old).arg(&old).arg("--exit-code").output().unwrap();
    assert_eq!(same.status.code(), Some(0));
    let over = diff(&["--max-size", "1K"]);
    assert_eq!(over.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&over.stderr).contains("is over the limit of 1.0 kB"));
    // A page is written only where nothing stands.
    let page = dir.path().join("page.html");
    let written = |more: &[&str]| {
        let mut command: Command = btrsquash();
        command
            .arg("diff")
            .arg(&old)
            .arg(&new)
            .arg("--html")
            .arg(&page)
            .args(more)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!((written(&[]), written(&[]), written(&["--force"])), (Some(0), Some(2), Some(0)));
}

#[test]
fn every_json_output_follows_its_schema() {
    let (Some((old, _)), Some(package)) = (installer("text"), kernel_package()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new.img");
    // The reports of `boot` are checked in all tests that boot.
    let check = |schema: &str, output: &Output| follows_schema(schema, &json(output));
    let convert = || {
        let mut command = btrsquash();
        command.arg("convert").arg(&old).arg("--modules").arg(&package).args(["--front-end", "built-in"]);
        command.args(["--compression", "lz4", "--json", "-o"]).arg(&new);
        command
    };
    check("conversion", &run(convert().arg("--dry-run")));
    assert!(!new.exists());
    check("conversion", &run(&mut convert()));
    check("inspection", &run(btrsquash().arg("inspect").arg(&old).arg("--json")));
    check("inspection", &run(btrsquash().arg("inspect").arg(&new).args(["--json", "--max-ram", "4G"])));
    check("difference", &run(btrsquash().arg("diff").arg(&old).arg(&new).args(["--json", "--text"])));
    check("verification", &run(btrsquash().arg("verify").arg(&old).arg(&new).arg("--json")));
    let output =
        btrsquash().arg("verify").arg(&new).arg(netboot("i386").unwrap()).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    check("verification", &output);
}
