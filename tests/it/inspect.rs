//! `inspect` against lsinitrd, cpio, skipcpio and unmkinitramfs, on real images.

use std::fs::{self};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::images::*;
use crate::support::{btrsquash, have, installer, sh, skip};

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
    let ram = |value: &Value| value["minimum"]["value"].as_u64().unwrap();
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
    assert!(text.contains("size 40.8 MB (40,8") && text.contains("exceeds the limit of 30.0 MB"), "{text}");
    let (code, text) = budget(&["--max-ram", "64M"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("minimum RAM") && text.contains("exceeds the limit of 64 MiB"), "{text}");
}
