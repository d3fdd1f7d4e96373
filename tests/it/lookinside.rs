//! ls, cat and extract: the same tree as other tools see, and nothing outside the directory that was named.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{btrsquash, converted, follows_schema, have, installer, kernel_package, newc, run, sh};

/// Path, mode with its type, content, device.
type Row<'a> = (&'a [u8], u32, &'a [u8], (u32, u32));

/// An archive of these entries, all of owner 1000 and of one time.
fn archive(rows: &[Row<'_>]) -> Vec<u8> {
    let made = |&(name, mode, body, rdev): &Row<'_>| {
        let entry = newc::entry(name, mode).owner(1000, 1000).time(1_112_822_355);
        newc::Entry { body: body.to_vec(), rdev, ..entry }
    };
    let mut entries: Vec<newc::Entry> = rows.iter().map(made).collect();
    entries.push(newc::trailer());
    newc::archive(&entries)
}

/// A directory with the image made of `entries`, and `outside`, which must stay as it is.
struct Trap {
    dir: tempfile::TempDir,
}

impl Trap {
    fn new(rows: &[Row<'_>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("image"), archive(rows)).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/file"), "mine").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Extracts into `out`; gives the exit code and what is said.
    fn extract(&self) -> (Option<i32>, String) {
        let output = btrsquash()
            .current_dir(self.dir.path())
            .args(["extract", "image", "-C", "out"])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Nothing but `out` is new, and what is outside is what it was.
    fn sprung(&self) -> bool {
        let mut names: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        let known = names.iter().all(|name| name == "image" || name == "out" || name == "outside");
        let outside = fs::read_dir(self.path("outside")).unwrap().count();
        !known || outside != 1 || fs::read_to_string(self.path("outside/file")).unwrap() != "mine"
    }
}

const FILE: u32 = 0o100_644;
const DIRECTORY: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const NONE: (u32, u32) = (0, 0);

#[test]
fn an_absolute_name_lands_inside() {
    let trap = Trap::new(&[(b"/tmp", DIRECTORY, b"", NONE), (b"/tmp/btrsquash-absolute", FILE, b"x", NONE)]);
    let (code, said) = trap.extract();
    assert_eq!(code, Some(0), "{said}");
    assert!(!Path::new("/tmp/btrsquash-absolute").exists() && !trap.sprung());
    assert_eq!(fs::read_to_string(trap.path("out/tmp/btrsquash-absolute")).unwrap(), "x");
}

#[test]
fn a_name_that_climbs_lands_inside() {
    let trap = Trap::new(&[(b"../outside/file", FILE, b"x", NONE), (b"../climbed", FILE, b"y", NONE)]);
    let (code, said) = trap.extract();
    // Above the root of the kernel's rootfs is the root itself; there is no /outside.
    assert_eq!(code, Some(0), "{said}");
    assert!(!trap.sprung());
    assert_eq!(fs::read_to_string(trap.path("out/climbed")).unwrap(), "y");
    assert!(!trap.path("out/outside").exists());
}

#[test]
fn nothing_is_written_through_a_symlink() {
    let trap = Trap::new(&[
        (b"up", LINK, b"../outside", NONE),
        (b"up/file", FILE, b"x", NONE),
        (b"up/new", FILE, b"x", NONE),
        (b"real", LINK, b"../outside/file", NONE),
        (b"real", FILE, b"x", NONE),
    ]);
    let (code, said) = trap.extract();
    assert_eq!(code, Some(0), "{said}");
    assert!(!trap.sprung());
    // The link is there, as it is in the image; it was not used.
    assert_eq!(fs::read_link(trap.path("out/up")).unwrap(), Path::new("../outside"));
}

#[test]
fn an_existing_symlink_is_not_followed_because_the_directory_has_to_be_empty() {
    let trap = Trap::new(&[(b"etc", DIRECTORY, b"", NONE), (b"etc/file", FILE, b"x", NONE)]);
    fs::create_dir(trap.path("out")).unwrap();
    std::os::unix::fs::symlink("../outside", trap.path("out/etc")).unwrap();
    let (code, said) = trap.extract();
    assert!(code == Some(2) && said.contains("not empty"), "{code:?} {said}");
    assert!(!trap.sprung());
}

#[test]
fn devices_are_left_out_and_said() {
    let trap = Trap::new(&[
        (b"sda", 0o060_666, b"", (8, 0)),
        (b"kmem", 0o020_666, b"", (1, 2)),
        (b"pipe", 0o010_600, b"", NONE),
    ]);
    let (code, said) = trap.extract();
    assert!(code == Some(0) && said.contains("device nodes left out"), "{code:?} {said}");
    assert!(!trap.path("out/sda").exists() && !trap.path("out/kmem").exists() && !trap.sprung());
    assert!(trap.path("out/pipe").exists());
    // The archive has them.
    run(btrsquash().current_dir(trap.dir.path()).args(["extract", "image", "--tar", "out/a.tar"]));
    let listed = sh(trap.dir.path(), "tar --numeric-owner -tvf out/a.tar sda kmem | tr -s ' '", &[]);
    assert!(listed.contains("brw-rw-rw- 1000/1000 8,0 2005-04-06"), "{listed}");
    assert!(listed.contains("crw-rw-rw- 1000/1000 1,2 2005-04-06"), "{listed}");
}

#[test]
fn a_path_of_4096_bytes_is_nowhere() {
    let mut entries: Vec<(Vec<u8>, u32)> = Vec::new();
    let mut path = Vec::new();
    for _ in 0..16 {
        path.extend_from_slice(&[b'd'; 255]);
        entries.push((path.clone(), DIRECTORY));
        path.push(b'/');
    }
    assert_eq!(path.len(), 4096);
    entries.push(([path.as_slice(), b"x"].concat(), FILE));
    let entries: Vec<_> =
        entries.iter().map(|(path, mode)| (path.as_slice(), *mode, &b""[..], NONE)).collect();
    let trap = Trap::new(&entries);
    let (code, said) = trap.extract();
    assert!(!trap.sprung());
    // Linux skips what no program can name; the directories down to the limit are there, and a tool can remove them.
    assert_eq!(code, Some(0), "{said}");
    let listed =
        String::from_utf8(run(btrsquash().current_dir(trap.dir.path()).args(["ls", "image"])).stdout)
            .unwrap();
    assert!(listed.lines().all(|line| line.len() <= 4095), "{}", listed.lines().count());
    let depth = sh(trap.dir.path(), "find out -name 'ddd*' | wc -l", &[]);
    assert_eq!(depth.trim(), listed.lines().filter(|line| line.starts_with("ddd")).count().to_string());
}

#[test]
fn modes_that_would_lock_the_user_out_or_lend_rights_are_not_set() {
    let trap = Trap::new(&[
        (b"locked", 0o040_333, b"", NONE),
        (b"locked/file", 0o100_000, b"x", NONE),
        (b"su", 0o104_755, b"x", NONE),
        (b"sticky", 0o041_777, b"", NONE),
    ]);
    let (code, said) = trap.extract();
    assert_eq!(code, Some(0), "{said}");
    let mode = |name: &str| fs::symlink_metadata(trap.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode("out/locked"), mode("out/locked/file"), mode("out/su"), mode("out/sticky")),
        (0o733, 0o000, 0o755, 0o777)
    );
    assert!(said.contains("1 setuid or setgid file extracted without that bit"), "{said}");
    assert!(said.contains("1 directory that even the owner"), "{said}");
    assert_eq!(fs::metadata(trap.path("out/su")).unwrap().mtime(), 1_112_822_355);
    assert_eq!(fs::metadata(trap.path("out/locked")).unwrap().mtime(), 1_112_822_355);
}

#[test]
fn a_failure_leaves_nothing() {
    // A squashfs whose file cannot be read: its first block, behind the superblock, is overwritten.
    if !have("mksquashfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    sh(
        dir.path(),
        "mkdir in; seq 100000 >in/b; ln -s b in/a
         mksquashfs in image -quiet -no-progress -comp gzip -b 4096 -no-fragments -nopad
         printf '\\377\\377\\377\\377\\377\\377\\377\\377' | dd of=image bs=1 seek=96 conv=notrunc status=none
         mkdir empty",
        &[],
    );
    for target in ["new", "empty"] {
        let output =
            btrsquash().current_dir(dir.path()).args(["extract", "image", "-C", target]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(3) && said.contains("cannot be read"), "{said}");
    }
    assert!(!dir.path().join("new").exists());
    assert_eq!(fs::read_dir(dir.path().join("empty")).unwrap().count(), 0);
    let output =
        btrsquash().current_dir(dir.path()).args(["extract", "image", "--tar", "a.tar"]).output().unwrap();
    assert!(output.status.code() == Some(3) && !dir.path().join("a.tar").exists());
}

#[test]
fn ls_and_cat_speak_of_one_file_in_every_form() {
    let trap = Trap::new(&[
        (b"etc", DIRECTORY, b"", NONE),
        (b"etc/big", FILE, b"0123456789", NONE),
        (b"etc/small\xff\n", FILE, b"x", NONE),
        (b"link", LINK, b"/etc/big", NONE),
    ]);
    let out = |arguments: &[&str]| run(btrsquash().current_dir(trap.dir.path()).args(arguments)).stdout;
    let text = |arguments: &[&str]| String::from_utf8(out(arguments)).unwrap();
    assert_eq!(text(&["ls", "image", "etc"]), "etc\netc/big\netc/small\\xff\\n\n");
    assert_eq!(out(&["ls", "-0", "image", "etc/s*"]), b"etc/small\xff\n\0");
    assert!(text(&["ls", "--sort", "size", "image"]).starts_with("etc/big\netc/small"));
    assert!(text(&["ls", "-l", "image", "link"]).ends_with("2005-04-06 21:19:15 link -> /etc/big\n"));
    assert_eq!(text(&["cat", "image", "/link"]), "0123456789");
    let report: serde_json::Value = serde_json::from_slice(&out(&["ls", "--json", "image", "link"])).unwrap();
    follows_schema("listing", &report);
    assert_eq!(report["entries"][0]["target"], "/etc/big");
    for (arguments, code) in [
        (&["ls", "image", "nothing"][..], 1),
        (&["cat", "image", "etc"], 2),
        (&["cat", "image", "none"], 1),
        (&["ls", "--layer", "squashfs", "image"], 2),
        (&["extract", "image"], 2),
    ] {
        let output = btrsquash().current_dir(trap.dir.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}

/// The members of a tar archive: type, mode, owner, group, size, time or link target, name; each with the hash of its
/// content. Python's reader is independent of both writers.
const MEMBERS: &str = r#"python3 - "$1" <<'END'
import hashlib, sys, tarfile
tar = tarfile.open(sys.argv[1], "r:")
rows = []
for m in tar:
    data = hashlib.sha256(tar.extractfile(m).read()).hexdigest() if m.isreg() or m.islnk() else ""
    name = m.name[2:] if m.name.startswith("./") else m.name
    kind = b"0" if m.islnk() else m.type
    size = 0 if m.islnk() else m.size
    target = m.linkname if m.issym() else ""
    dev = (m.devmajor, m.devminor) if m.ischr() or m.isblk() else ""
    # GNU cpio sets no times of symlinks and devices, and those of directories before it fills them.
    mtime = int(m.mtime) if m.isreg() or m.islnk() else ""
    rows.append((name, kind, oct(m.mode & 0o7777), m.uid, m.gid, mtime, target, dev, data))
for row in sorted(rows):
    if row[0] not in ("", "."):
        print(*row)
END"#;

#[test]
fn tar_of_the_installer_and_of_its_conversion_is_the_tree_of_gnu_cpio() {
    if !have("cpio") || !have("fakeroot") || !have("python3") {
        return;
    }
    let (Some((old, _)), Some(package)) = (installer("gtk"), kernel_package()) else { return };
    let arguments =
        ["--modules", package.to_str().unwrap(), "--front-end", "built-in", "--compression", "lz4"];
    let new = converted("gtk-lz4", &old, &arguments);
    let dir = tempfile::tempdir().unwrap();
    // GNU cpio unpacks, GNU tar packs; fakeroot so that owners and devices are kept without root.
    sh(
        dir.path(),
        r#"mkdir tree; zcat "$1" | fakeroot bash -ec '
             cd tree; cpio -idm --quiet; tar --format=gnu --numeric-owner -cf ../cpio.tar .'"#,
        &[&old],
    );
    let expected = sh(dir.path(), MEMBERS, &[&dir.path().join("cpio.tar")]);
    assert!(expected.lines().count() > 4000, "{}", expected.lines().count());
    for (image, name) in [(&old, "old.tar"), (&new, "new.tar")] {
        let tar = dir.path().join(name);
        run(btrsquash().arg("extract").arg(image).arg("--tar").arg(&tar));
        let found = sh(dir.path(), MEMBERS, &[&tar]);
        // What the kernel's own initramfs brings, and the conversion's mount points, are not in the archive.
        let expected: std::collections::BTreeSet<&str> = expected.lines().collect();
        let found: std::collections::BTreeSet<&str> = found.lines().collect();
        let missing: Vec<_> = expected.difference(&found).take(5).collect();
        assert!(missing.is_empty(), "{name}: {missing:#?}");
        let names: Vec<&str> =
            found.difference(&expected).map(|row| row.split(' ').next().unwrap()).collect();
        println!("{name} has more: {names:?}");
        assert!(names.iter().all(|name| ["root", "dev/console"].contains(name)), "{name}: {names:?}");
    }
}

#[test]
fn a_pipe_takes_the_archive_and_a_closed_one_does_not_matter() {
    let trap = Trap::new(&[(b"a", FILE, b"x", NONE), (b"b", FILE, b"y", NONE)]);
    let image = trap.path("image");
    let binary = Path::new(env!("CARGO_BIN_EXE_btrsquash"));
    let listed = sh(trap.dir.path(), r#""$1" extract "$2" --tar - b | tar -tf -"#, &[binary, &image]);
    assert_eq!(listed, "./\nb\n");
    let mut command = Command::new("bash");
    command.args(["-c", r#"set -o pipefail; "$1" ls "$2" | true"#, "bash"]).arg(binary).arg(&image);
    run(&mut command);
}
