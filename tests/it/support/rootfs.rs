//! What is in a rootfs, one line a path: as the library reads an image, and as Linux itself unpacked it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use btrsquash::initrd::{self, Initrd, Limits};
use btrsquash::tree::{InodeId, Node, Tree};
use btrsquash::vm;

use super::run;

pub fn read(image: &[u8]) -> Result<Initrd, btrsquash::error::Error> {
    initrd::read(&image.to_vec(), Path::new("image"), &Limits::default(), &|_| ())
}

pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/._-!".contains(byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02x}").unwrap();
        }
    }
    text
}

/// What lister/main.rs would say of `tree`: path, mode, owner, group, link count, size, hash, target, device number,
/// time, and the first path of the inode.
pub fn manifest(tree: &Tree) -> Vec<String> {
    let mut paths: Vec<(Vec<u8>, InodeId)> =
        tree.walk().map(|entry| ([b"/", &entry.path[..]].concat(), entry.id)).collect();
    paths.sort();
    let mut first: HashMap<InodeId, String> = HashMap::new();
    let mut lines = Vec::new();
    for (path, id) in paths {
        let name = escaped(&path);
        let inode = tree.inode(id);
        let (mut nlink, mut size, mut sum, mut target, mut device) =
            (inode.nlink, 0, 0, String::new(), (0, 0));
        match &inode.node {
            Node::Directory(_) => nlink = 0,
            Node::Regular(content) => {
                size = content.size;
                let bytes = tree.read(id, u64::MAX).unwrap().unwrap();
                sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                    (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                });
            }
            Node::Symlink(to) => (size, target) = (to.len() as u64, escaped(to)),
            Node::CharDevice(d) | Node::BlockDevice(d) => device = (d.major, d.minor),
            Node::Fifo | Node::Socket => {}
        }
        let same = first.entry(id).or_insert_with(|| name.clone());
        lines.push(format!(
            "{name} {:o} {} {} {nlink} {size} {sum:x} [{target}] {}:{} {} {same}",
            inode.mode | inode.node.type_bits(),
            inode.uid,
            inode.gid,
            device.0,
            device.1,
            inode.mtime,
        ));
    }
    lines
}

/// The first program of lister/main.rs, compiled as src/build.rs compiles ours.
pub fn lister() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("lister");
    let mut command = Command::new("rustc");
    command
        .args(["--edition", "2024", "--target", "x86_64-unknown-linux-gnu", "-C", "opt-level=s"])
        .args(["-C", "target-feature=+crt-static", "-C", "relocation-model=static", "-C", "panic=abort"])
        .args(["-C", "strip=symbols", "-o"])
        .arg(&out)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lister/main.rs"));
    run(command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS"));
    std::fs::read(out).unwrap()
}

/// What the kernel finds in its rootfs with `image` as its initrd, one line a path.
pub fn by_the_kernel(image: &[u8], kernel: &Path) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let initrd = dir.path().join("image");
    std::fs::write(&initrd, image).unwrap();
    let outcome = vm::boot(&vm::BootOptions {
        kernel: kernel.to_owned(),
        initrd,
        memory_mib: 512,
        expect: Some(regex::bytes::Regex::new("LISTED [0-9]+ PATHS").unwrap()),
        fail: None,
        append: "loglevel=1 rdinit=/init".into(),
        timeout: Duration::from_secs(300),
        log: None,
        qemu: Vec::new(),
        second_serial: None,
    })
    .unwrap();
    let console = String::from_utf8_lossy(&outcome.console).into_owned();
    assert!(outcome.verdict.reached(), "{}\n{console}", outcome.verdict.describe());
    let lines: Vec<String> = console
        .lines()
        .filter_map(|line| {
            let start = line.find("@ ")?;
            line[start + 2..].trim_end().strip_suffix(" @").map(str::to_owned)
        })
        .collect();
    assert!(console.contains(&format!("LISTED {} PATHS", lines.len())), "lines were lost:\n{console}");
    lines
}

/// Fails with the lines that are in one list only.
pub fn assert_same_lines(kernel: &[String], ours: &[String]) {
    let only = |a: &[String], b: &[String]| -> String {
        a.iter().filter(|line| !b.contains(line)).map(|line| format!("  {line}\n")).collect()
    };
    let (theirs, mine) = (only(kernel, ours), only(ours, kernel));
    assert!(theirs.is_empty() && mine.is_empty(), "only the kernel has\n{theirs}only we have\n{mine}");
    assert_eq!(kernel, ours);
}

/// Takes away what the kernel itself puts into a rootfs.
pub fn without_built_in(tree: &mut Tree) {
    let root = tree.root;
    if let Node::Directory(names) = &mut tree.inode_mut(root).node {
        for name in ["dev", "root"] {
            names.remove(name.as_bytes());
        }
    }
}
