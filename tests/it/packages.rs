//! packages and package-map against dpkg's own lists.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::images::json;
use crate::support::{
    btrsquash, converted, follows_schema, have, installer, kernel_package, newc, run, sh, systemd_image,
};

fn packages(image: &Path, more: &[&str]) -> Value {
    let report = json(&run(btrsquash().arg("packages").arg(image).arg("--json").args(more)));
    follows_schema("packages", &report);
    report
}

/// Everything that is charged for, in bytes of the image.
fn charged(report: &Value) -> u64 {
    let packages = report["packages"].as_array().unwrap();
    let sum: u64 = packages.iter().map(|package| package["usage"]["image_bytes"].as_u64().unwrap()).sum();
    sum + report["no_package"]["image_bytes"].as_u64().unwrap()
}

/// For each package the bytes of the regular files in its list, each inode once and for the first package by name: what
/// dpkg's own files say, read from the unpacked tree `$1` by other means.
const LISTS: &str = r#"python3 - "$1" <<'END'
import os, stat, sys
root = os.path.realpath(sys.argv[1])
info = root + "/var/lib/dpkg/info"
def inside(path):
    at = root
    parts = [p for p in path.split("/") if p and p != "."]
    for i, part in enumerate(parts):
        at = os.path.join(at, part)
        while os.path.islink(at) and i + 1 < len(parts):
            to = os.readlink(at)
            at = os.path.normpath(root + to if to.startswith("/") else os.path.dirname(at) + "/" + to)
    return at
seen = set()
names = [line[9:].strip() for line in open(root + "/var/lib/dpkg/status", errors="replace") if line.startswith("Package: ")]
for name in sorted(names):
    total = 0
    for entry in (name + ".list", name + ":amd64.list"):
        if os.path.exists(f"{info}/{entry}"):
            for line in open(f"{info}/{entry}").read().splitlines():
                try:
                    st = os.lstat(inside(line))
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(st.st_mode) and st.st_ino not in seen:
                    seen.add(st.st_ino)
                    total += st.st_size
            break
    print(name, total)
END"#;

#[test]
fn packages_of_a_systemd_system_add_up_to_its_squashfs_and_are_those_of_dpkg() {
    if !have("cpio") || !have("fakeroot") || !have("python3") {
        return;
    }
    let Some((old, _)) = systemd_image() else { return };
    let new = converted("systemd", &old, &["--front-end", "built-in", "--compression", "lz4"]);
    let report = packages(&new, &[]);
    let squashfs =
        json(&run(btrsquash().arg("inspect").arg(&new).arg("--json")))["layers"][0]["bytes"].clone();
    assert_eq!((&report["basis"], &report["total_bytes"]), (&"blocks".into(), &squashfs));
    let (total, charged) = (squashfs.as_u64().unwrap(), charged(&report));
    let structures = report["structure_bytes"].as_u64().unwrap();
    assert_eq!(charged + structures, total);
    // The content of files is nearly all of it: what is left over is what btrfs keeps with its inodes.
    assert!(structures * 10 < total, "{structures} of {total} bytes belong to no file");

    // The report of the conversion said the same, to the byte.
    let conversion = std::fs::read(new.with_extension("json")).unwrap();
    let conversion: Value = serde_json::from_slice(&conversion).unwrap();
    let rows = |list: &Value, usage: fn(&Value) -> &Value| -> Vec<[Value; 4]> {
        let rows = list.as_array().unwrap().iter();
        rows.map(|row| {
            let cost = usage(row);
            [row["name"].clone(), row["version"].clone(), cost["bytes"].clone(), cost["image_bytes"].clone()]
        })
        .collect()
    };
    assert_eq!(rows(&conversion["packages"], |row| row), rows(&report["packages"], |row| &row["usage"]));
    for field in ["basis", "total_bytes", "no_package", "structure_bytes"] {
        assert_eq!(conversion["package_totals"][field], report[field], "{field}");
    }

    let dir = tempfile::tempdir().unwrap();
    sh(
        dir.path(),
        r#"mkdir tree; zcat "$1" | fakeroot bash -c 'cd tree; cpio -idm --quiet --no-absolute-filenames'"#,
        &[&old],
    );
    let lists = sh(dir.path(), LISTS, &[&dir.path().join("tree")]);
    let expected: BTreeMap<&str, u64> = lists
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, bytes)| (name, bytes.parse().unwrap()))
        .collect();
    let found: BTreeMap<&str, u64> = report["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["usage"]["bytes"].as_u64().unwrap()))
        .collect();
    assert!(expected.len() > 50, "{}", expected.len());
    assert_eq!(found, expected);

    // The original has the same packages and files; its bytes in the image are an estimate and say so.
    let before = packages(&old, &[]);
    assert_eq!(before["basis"], "segments");
    assert_eq!(before["packages"].as_array().unwrap().len(), found.len());
    for row in before["packages"].as_array().unwrap() {
        assert_eq!(row["usage"]["bytes"].as_u64(), found.get(row["name"].as_str().unwrap()).copied());
    }
}

#[test]
fn the_installer_has_packages_without_lists() {
    let (Some((old, _)), Some(package)) = (installer("text"), kernel_package()) else { return };
    let arguments =
        ["--modules", package.to_str().unwrap(), "--front-end", "built-in", "--compression", "lz4"];
    let new = converted("text-built-in", &old, &arguments);
    let status = run(btrsquash().arg("cat").arg(&new).arg("var/lib/dpkg/status")).stdout;
    let status = String::from_utf8(status).unwrap();
    let count = status.lines().filter(|line| line.starts_with("Package: ")).count();
    let report = packages(&new, &[]);
    assert!(count > 50 && report["packages"].as_array().unwrap().len() == count, "{count}");
    assert!(
        report["notes"].to_string().contains("has a list of files: all files count"),
        "{}",
        report["notes"]
    );
    assert_eq!(report["packages"][0]["usage"]["bytes"], 0);
    // Kernel modules are known by their paths.
    let kinds: Vec<&str> =
        report["modules"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"drivers/net/ethernet") && kinds.contains(&"fs"), "{kinds:?}");
}

#[test]
fn a_package_map_tells_whose_files_they_are() {
    if !have("dpkg-deb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    sh(
        dir.path(),
        r"for p in one two; do
            mkdir -p $p/DEBIAN $p/usr/bin
            printf 'Package: %s\nVersion: 1.%s\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' $p $p >$p/DEBIAN/control
            head -c 5000 /dev/zero >$p/usr/bin/$p
            ln -s $p $p/usr/bin/link-$p
            dpkg-deb --build --root-owner-group -Zxz $p $p.udeb >/dev/null
          done",
        &[],
    );
    let at = |name: &str| dir.path().join(name);
    run(btrsquash().arg("package-map").arg(at("two.udeb")).arg(at("one.udeb")).arg("-o").arg(at("map.json")));
    let text = std::fs::read_to_string(at("map.json")).unwrap();
    let map: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(map["packages"][0]["name"], "one");
    assert_eq!(map["packages"][1]["version"], "1.two");
    assert_eq!(map["packages"][0]["files"], serde_json::json!(["usr/bin/one"]));

    let status = "Package: one\nStatus: install ok installed\nVersion: 1.one\n\n\
                  Package: two\nStatus: install ok installed\nVersion: 1.other\n";
    let image = newc::archive(&[
        newc::dir("usr"),
        newc::dir("usr/bin"),
        newc::symlink("bin", "usr/bin"),
        newc::file("usr/bin/one", [7; 5000]),
        newc::file("usr/bin/two", [8; 300]),
        newc::dir("var"),
        newc::dir("var/lib"),
        newc::dir("var/lib/dpkg"),
        newc::file("var/lib/dpkg/status", status),
        newc::trailer(),
    ]);
    std::fs::write(at("image"), image).unwrap();
    let map = at("map.json");
    let report = packages(&at("image"), &["--package-map", map.to_str().unwrap()]);
    let rows: Vec<(&str, u64)> = report["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["usage"]["bytes"].as_u64().unwrap()))
        .collect();
    assert_eq!(rows, [("one", 5000), ("two", 300)]);
    assert!(report["notes"].to_string().contains("another version of 1 package"), "{}", report["notes"]);
    // Without the map the files are of no package.
    assert_eq!(packages(&at("image"), &[])["no_package"]["files"], 3);
    // The text adds up the rest and says how to see it.
    let text = run(btrsquash().arg("packages").arg(at("image")).args(["--top", "1"])).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("1 more") && text.contains("--top all"), "{text}");
    for (arguments, code) in
        [(&["one.udeb"][..], 2), (&["missing.udeb", "-o", "new"], 2), (&["image", "-o", "new"], 3)]
    {
        let mut command = btrsquash();
        command.current_dir(dir.path()).arg("package-map").args(arguments);
        if arguments.len() == 1 {
            command.args(["-o", "map.json"]);
        }
        assert_eq!(command.output().unwrap().status.code(), Some(code), "{arguments:?}");
        assert!(!at("new").exists());
    }
}
