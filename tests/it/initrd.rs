//! The reader against the kernel itself, against cpio, and against damage.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use btrsquash::codec::Encoding;
use btrsquash::error::Kind;
use btrsquash::initrd::{self, Initrd, Limits};
use btrsquash::tree::{InodeId, Node, Tree};
use btrsquash::vm;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::{btrsquash, have, installer, root, run, sh};
use crate::squashfs::{assert_same, make_tree};

/// An entry of a newc archive, every field of which can be set.
#[derive(Clone)]
pub struct Entry {
    pub magic: &'static str,
    pub ino: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime: u32,
    pub rdev: (u32, u32),
    pub name: Vec<u8>,
    pub body: Vec<u8>,
    pub checksum: u32,
    pub upper: bool,
}

/// An entry named `name`, which is followed by a NUL.
pub fn entry(name: impl AsRef<[u8]>, mode: u32) -> Entry {
    let name = [name.as_ref(), b"\0"].concat();
    Entry {
        magic: "070701",
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        nlink: 1,
        mtime: 1_000_000_000 + name.len() as u32,
        rdev: (0, 0),
        name,
        body: Vec::new(),
        checksum: 0,
        upper: false,
    }
}

pub fn file(name: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Entry {
    Entry { body: body.as_ref().to_vec(), ..entry(name, 0o100_644) }
}
pub fn dir(name: impl AsRef<[u8]>) -> Entry {
    Entry { nlink: 2, ..entry(name, 0o040_755) }
}
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { body: target.as_ref().to_vec(), ..entry(name, 0o120_777) }
}
pub fn device(name: impl AsRef<[u8]>, mode: u32, major: u32, minor: u32) -> Entry {
    Entry { rdev: (major, minor), ..entry(name, mode) }
}
pub fn trailer() -> Entry {
    Entry { mtime: 0, ..entry("TRAILER!!!", 0) }
}

impl Entry {
    fn mode(self, mode: u32) -> Self {
        Self { mode: self.mode & 0o170_000 | mode, ..self }
    }
    fn owner(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }
    fn link(self, ino: u32, nlink: u32) -> Self {
        Self { ino, nlink, ..self }
    }
    fn time(self, mtime: u32) -> Self {
        Self { mtime, ..self }
    }
    /// The name as given, padded with NUL up to `size` bytes.
    fn name_size(mut self, size: usize) -> Self {
        self.name.resize(size, 0);
        self
    }

    /// Appends the entry to `out`, whose length is that of the archive so far.
    pub fn put(&self, out: &mut Vec<u8>) {
        let fields = [
            self.ino,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.mtime,
            self.body.len() as u32,
            8,
            1,
            self.rdev.0,
            self.rdev.1,
            self.name.len() as u32,
            self.checksum,
        ];
        let mut header = self.magic.to_owned();
        for field in fields {
            if self.upper {
                write!(header, "{field:08X}").unwrap();
            } else {
                write!(header, "{field:08x}").unwrap();
            }
        }
        for part in [header.as_bytes(), &self.name] {
            out.extend_from_slice(part);
        }
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(&self.body);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// An archive of `entries`, without a trailer.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        entry.put(&mut out);
    }
    out
}

pub fn read(image: &[u8]) -> Result<Initrd, btrsquash::error::Error> {
    initrd::read(&image.to_vec(), Path::new("image"), &Limits::default(), &|_| ())
}

fn escaped(bytes: &[u8]) -> String {
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
fn lister() -> Vec<u8> {
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
fn by_the_kernel(image: &[u8], kernel: &Path) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let initrd = dir.path().join("image");
    std::fs::write(&initrd, image).unwrap();
    let outcome = vm::boot(
        &vm::BootOptions {
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
        },
        &|_| (),
    )
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
fn assert_same_lines(kernel: &[String], ours: &[String]) {
    let only = |a: &[String], b: &[String]| -> String {
        a.iter().filter(|line| !b.contains(line)).map(|line| format!("  {line}\n")).collect()
    };
    let (theirs, mine) = (only(kernel, ours), only(ours, kernel));
    assert!(theirs.is_empty() && mine.is_empty(), "only the kernel has\n{theirs}only we have\n{mine}");
    assert_eq!(kernel, ours);
}

fn patterned(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at * at / 1000) as u8 ^ seed).collect()
}

/// The rules of init/initramfs.c, each with the names that show it.
fn tricky() -> Vec<Vec<Entry>> {
    let long = |len: usize| "n".repeat(len);
    let mut holes = patterned(70_000, 1);
    holes.resize(400_000, 0);
    holes.extend(patterned(100_001, 2));
    let summed = |name: &str, body: &[u8]| Entry {
        magic: "070702",
        checksum: body.iter().map(|&b| u32::from(b)).sum(),
        ..file(name, body)
    };
    // Every name and time that the kernel would otherwise take from its own build.
    let base = vec![
        dir(".").time(4242),
        dir("dev").time(11),
        device("dev/console", 0o020_600, 5, 1).time(12),
        dir("root").mode(0o700).time(13),
        // An archive's own names for the root.
        dir("").mode(0o711).time(14),
        dir("/").mode(0o751).time(15),
        dir("d").time(1000),
        file("d/f", "content"),
        dir("d").mode(0o700).owner(5, 6).time(2000),
        file("missing/file", "nowhere"),
        dir("missing/dir"),
        symlink("missing/link", "x"),
        device("missing/device", 0o020_600, 1, 3),
        file("replaced", "long first content"),
        file("replaced", "short").mode(0o4755).owner(1000, 1000),
        file("empty", ""),
        file("emptied", "full"),
        file("emptied", ""),
        file("holes", &holes),
        file("d/f/under-a-file", "no"),
        Entry { upper: true, ..file("upper", "ABCDEF").owner(0xabcdef, 0xfedcba) },
        file("time", "").time(u32::MAX),
        file("suid", "x").mode(0o6755).owner(1, 2),
    ];
    let types = vec![
        file("t1", "file"),
        dir("t1").mode(0o1777),
        dir("t2"),
        file("t2", "file"),
        dir("t3"),
        file("t3/x", "x"),
        file("t3", "lost"),
        dir("t4").time(3),
        file("t4/x", "x"),
        device("t4", 0o020_640, 1, 5).owner(7, 8).time(4),
        dir("t5").time(3),
        file("t5/x", "x"),
        symlink("t5", "d").owner(9, 10).time(5),
        file("t6target", "kept"),
        symlink("t6", "t6target"),
        file("t6", "not through"),
        file("t7", "file"),
        symlink("t7", "t6target").mode(0o600).owner(11, 12),
        entry("t8", 0o010_644),
        device("t8", 0o020_644, 4, 64),
        device("t9", 0o020_644, 4, 64),
        device("t9", 0o020_600, 4, 65).owner(13, 14),
        device("t10", 0o020_644, 4, 64),
        device("t10", 0o060_600, 4, 65),
        entry("t11", 0o140_755),
        symlink("t12", "d"),
        symlink("t12", "t3"),
        dir("t13real").mode(0o750),
        symlink("t13", "t13real"),
        dir("t13"),
        dir("t14real").mode(0o750).time(21),
        symlink("t14", "t14real"),
        dir("t14/").mode(0o705).owner(15, 16).time(22),
        file("t15", "gone"),
        entry("t15", 0o644),
        file("t16", "kept"),
        entry("t16", 0o100_600),
        dir("t17").time(5),
        file("t17", "a file with a folder's time").time(9),
        dir("t18").time(5),
        symlink("t18", "d").time(9),
        dir("t19").time(5),
        dir("t19").time(6),
        dir("t19").time(7),
        device("bodied", 0o020_600, 1, 3).owner(1, 1),
        Entry { body: b"skipped".to_vec(), ..device("bodied2", 0o020_600, 1, 3) },
        Entry { body: b"skipped".to_vec(), ..dir("bodied3") },
        Entry { body: b"skipped".to_vec(), ..entry("bodied4", 0o644) },
    ];
    let links = vec![
        file("h1", "").link(100, 3),
        file("h2", "").link(100, 3),
        file("h3", "data in the last").link(100, 3).mode(0o600).owner(3, 4).time(31),
        file("k1", "data in the first").link(101, 2).time(32),
        file("k2", "").link(101, 2).time(33),
        file("m1", "data in both, the first").link(102, 2),
        file("m2", "the second").link(102, 2).mode(0o755),
        file("n0", "").link(103, 0),
        file("n0b", "x").link(103, 0),
        file("n1", "one link only").link(104, 1),
        file("n2", "same inode").link(104, 1),
        entry("o1", 0o010_644).link(105, 2),
        file("o2", "another type").link(105, 2),
        entry("o3", 0o010_600).link(105, 2).owner(5, 5),
        device("c1", 0o020_644, 1, 3).link(106, 2),
        device("c2", 0o020_600, 1, 5).link(106, 2),
        file("twice", "gone").link(107, 2),
        file("twice", "gone").link(107, 2),
        file("p1", "before").link(108, 2),
        file("src", "was a file").link(120, 2),
        dir("src"),
        file("src2", "lost").link(120, 2),
        file("udata", "to be written over, and longer"),
        file("u1", "x").link(121, 2),
        symlink("u1", "udata"),
        file("u2", "written through").link(121, 2).mode(0o640).owner(8, 9),
        file("v1", "x").link(122, 2),
        symlink("v1", "d/vnew"),
        file("v2", "made through").link(122, 2),
        file("w1", "x").link(123, 2),
        symlink("w1", "/nowhere/at/all"),
        file("w2", "lost").link(123, 2),
        file("y1", "the target").link(124, 2),
        dir("y2"),
        file("y2/x", ""),
        file("y2", "in the way").link(124, 2),
        summed("z1", b"summed \xff\xfe content"),
        Entry { magic: "070702", ..file("z2", "") },
        trailer(),
        file("p2", "after a trailer").link(108, 2),
        // The next archive's q2 is a link to it: no trailer stands between.
        file("q1", "linked across archives").link(109, 2),
    ];
    let names = vec![
        file("q2", "").link(109, 2).mode(0o600).time(41),
        Entry { body: b"the trailer's".to_vec(), ..entry("TRAILER!!!", 0o100_644) },
        file("q3", "behind it").link(109, 2),
        dir("./dot"),
        file("./dot/./a", "1"),
        file("/leading", "2"),
        file("../up", "3"),
        file("../../dot/../../up2", "4"),
        file("dot//double", "5"),
        dir("slash/"),
        file("slash/x", "6"),
        file("slash/y/", "7"),
        file("slashed/", "8"),
        symlink("slashed2/", "d"),
        device("slashed3/", 0o020_600, 1, 3),
        dir("dot/."),
        file("dot/.", "9"),
        dir("dot/..").mode(0o755).time(42),
        file("t2/../x", "no folder"),
        file("t2/.", "no folder"),
        file(long(255), "10"),
        file(long(256), "11"),
        dir(format!("{}/x", long(256))),
        file(b"bytes \xff\xfe\n\x01|", "12"),
        file("padded", "13").name_size(64),
        file("padded2", "14").name_size(4096),
        file("oversized", "15").name_size(4097),
        file("x", "16").name_size(70_000),
        Entry { name: Vec::new(), ..file("", "17") },
        symlink("lnk", "d"),
        file("lnk/through", "18"),
        symlink("abs", "/dot"),
        file("abs/through", "19"),
        symlink("up", "../../../dot"),
        symlink("upper", "dot/.."),
        file("upper/through-up", "20"),
        symlink("loop", "loop"),
        file("loop/x", "21"),
        symlink("chain1", "chain2/"),
        symlink("chain2", "dot"),
        file("chain1/chained", "22"),
        symlink("nul", b"before\0after"),
        symlink("empty-target", ""),
        symlink("zero-target", b"\0\0\0"),
        file("empty-target/x", "23"),
        symlink("long-target", "t".repeat(4095)),
        symlink("longer-target", "t".repeat(4096)),
        symlink("longest-target", "t".repeat(4097)),
        dir("setgid").mode(0o2775).owner(0, 50),
        file("setgid/own", "").owner(u32::MAX, u32::MAX),
        dir("setgid/sub").owner(u32::MAX, u32::MAX),
        symlink("setgid/link", "own").owner(u32::MAX, u32::MAX),
        device("setgid/device", 0o020_600, 1, 3).owner(u32::MAX, u32::MAX),
        file("setgid/given", "").owner(u32::MAX, 3),
        device("big", 0o060_600, 0x123, 0x12345),
        device("bigger", 0o060_600, 0x1_0001, 0x5),
        device("biggest", 0o020_600, 0x3, 0x1f_ffff),
        entry("fifo", 0o010_600),
        device("fifo2", 0o010_600, 1, 2),
    ];
    vec![base, types, links, names]
}

/// An early archive, as a boot loader or dracut puts one in front.
fn early() -> Vec<u8> {
    let mut out = archive(&[
        file("early_cpio", "1\n"),
        dir("kernel"),
        dir("kernel/x86"),
        dir("kernel/x86/microcode"),
        file("kernel/x86/microcode/GenuineIntel.bin", patterned(3000, 9)),
        trailer(),
    ]);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn packed(bytes: &[u8], encoding: Encoding) -> Vec<u8> {
    btrsquash::codec::compress(bytes, encoding).unwrap()
}

#[test]
fn linux_has_the_rootfs_that_we_read() {
    let Some((_, kernel)) = installer("text") else { return };
    if !have("qemu-system-x86_64") || !have("rustc") {
        return;
    }
    let parts = tricky();
    let mut image = early();
    let pad = |image: &mut Vec<u8>, count: usize| image.resize(image.len() + count, 0);
    // Plain behind plain, without a trailer.
    image.extend(archive(&parts[0]));
    pad(&mut image, 512);
    image.extend(packed(&archive(&parts[1]), Encoding::Gzip));
    // Compressed archives start anywhere.
    pad(&mut image, 1);
    image.extend(packed(&archive(&parts[2]), Encoding::Xz));
    image.extend(packed(&archive(&parts[3]), Encoding::Zstd));
    // An archive in the middle that looks like an early one is not one: a compressed one came before.
    let aligned = image.len().next_multiple_of(4);
    image.resize(aligned, 0);
    image.extend(archive(&[
        dir("kernel/firmware"),
        dir("kernel/firmware/acpi"),
        file("kernel/firmware/acpi/x.aml", "x"),
        trailer(),
    ]));
    for (number, encoding) in Encoding::ALL.into_iter().enumerate() {
        let dirname = format!("by-{encoding}");
        // Larger than any decompressor's buffer.
        let bytes = archive(&[
            dir(&dirname),
            file(format!("{dirname}/a"), patterned(100_003 * (number + 1), number as u8)),
            Entry { body: vec![1; 70_000], ..device(format!("{dirname}/skipped"), 0o020_600, 1, 3) },
            file(format!("{dirname}/b"), "b").link(7, 2),
            file(format!("{dirname}/c"), "").link(7, 2),
            trailer(),
        ]);
        if encoding == Encoding::Plain {
            let aligned = image.len().next_multiple_of(4);
            image.resize(aligned, 0);
        }
        image.extend(packed(&bytes, encoding));
        // The kernel takes what follows lz4 for the next chunk, unless it is zero.
        pad(&mut image, if encoding == Encoding::Lz4 { 5 } else { 0 });
    }
    // Frames of lz4 in a row are one archive, members of gzip are several.
    let bytes = archive(&[dir("frames"), file("frames/a", patterned(300_000, 3)), trailer()]);
    for half in bytes.chunks(100_000) {
        image.extend(packed(half, Encoding::Lz4));
    }
    pad(&mut image, 8);
    image.extend(packed(&archive(&[file("frames/b", "b"), trailer()]), Encoding::Gzip));
    image.extend(packed(&[], Encoding::Gzip));
    image.extend(packed(&[0; 100], Encoding::Gzip));
    image.extend(packed(&archive(&[file("frames/c", "c"), trailer()]), Encoding::Gzip));
    image.extend(packed(&archive(&[file("init", lister()).mode(0o755), trailer()]), Encoding::Zstd));
    pad(&mut image, 3);

    let ours = read(&image).unwrap();
    assert!(ours.segments[0].early && ours.segments.iter().filter(|s| s.early).count() == 1);
    assert_same_lines(&by_the_kernel(&image, &kernel), &manifest(&ours.tree));
}

/// Takes away what the kernel itself puts into a rootfs.
fn without_built_in(tree: &mut Tree) {
    let root = tree.root;
    if let Node::Directory(names) = &mut tree.inode_mut(root).node {
        for name in ["dev", "root"] {
            names.remove(name.as_bytes());
        }
    }
}

/// The tools that pack as the kernel can unpack, with what they write.
const PACKERS: [(Encoding, &str, &str); 8] = [
    (Encoding::Plain, "cat", "cat"),
    (Encoding::Gzip, "gzip", "gzip -9"),
    (Encoding::Bzip2, "bzip2", "bzip2"),
    (Encoding::Lzma, "xz", "xz --format=lzma"),
    (Encoding::Xz, "xz", "xz --check=crc32 --block-size=100KiB"),
    (Encoding::Lzo, "lzop", "lzop -9"),
    (Encoding::Lz4, "lz4", "lz4 -l -9"),
    (Encoding::Zstd, "zstd", "zstd -19"),
];

#[test]
fn each_encoding_is_read_as_cpio_reads_it() {
    if !["cpio", "bsdcpio"].into_iter().chain(PACKERS.map(|p| p.1)).all(have) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make_tree(dir.path(), root());
    // GNU cpio and bsdcpio write, bsdcpio reads: it gives links and folders their times, but takes sockets for files.
    let script = r"
        (cd t; find . -not -type s -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc --quiet) >gnu.cpio
        (cd t; find . -not -type s -print0 | LC_ALL=C sort -z | bsdcpio -0 -o -H newc --quiet) >bsd.cpio
        (cd t; find . -not -type s -print0 | LC_ALL=C sort -z | cpio -0 -o -H crc --quiet) >crc.cpio
        for archive in gnu bsd crc; do mkdir $archive; (cd $archive; bsdcpio -idm --quiet <../$archive.cpio); touch -r t $archive; done
    ";
    sh(dir.path(), script, &[]);
    let mut one: Option<Vec<String>> = None;
    for name in ["gnu", "bsd", "crc"] {
        for (encoding, _, command) in PACKERS {
            let what = format!("{name}, {command}");
            sh(dir.path(), &format!("{command} <{name}.cpio >packed"), &[]);
            let image = std::fs::read(dir.path().join("packed")).unwrap();
            let mut initrd = read(&image).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(
                initrd.segments.iter().map(|s| (s.encoding, s.early)).collect::<Vec<_>>(),
                [(encoding, false)],
                "{what}"
            );
            // cpio pads a plain archive to a multiple of 512.
            let segment = &initrd.segments[0];
            assert_eq!((segment.offset, segment.size + segment.padding), (0, image.len() as u64), "{what}");
            assert!(initrd.notes.is_empty(), "{what}: {:?}", initrd.notes);
            without_built_in(&mut initrd.tree);
            assert_same(&initrd.tree, &dir.path().join(name), &what);
            let lines = manifest(&initrd.tree);
            assert!(*one.get_or_insert_with(|| lines.clone()) == lines, "{what}");
        }
    }
}

#[test]
fn mixes_of_encodings_with_early_archives_anywhere_give_one_rootfs() {
    // Each part ends with a trailer: links do not cross them, however they are packed.
    let parts: Vec<Vec<u8>> = tricky()
        .into_iter()
        .map(|mut entries| {
            entries.push(trailer());
            archive(&entries)
        })
        .collect();
    let first = archive(&[
        dir("kernel"),
        dir("kernel/x86"),
        dir("kernel/x86/microcode"),
        file("kernel/x86/microcode/AuthenticAMD.bin", patterned(5000, 1)),
        trailer(),
    ]);
    let expected = {
        let mut image = first.clone();
        parts.iter().for_each(|part| image.extend(part));
        manifest(&read(&image).unwrap().tree)
    };
    let mut random = 1_u32;
    for turn in 0..24 {
        let mut image = first.clone();
        for (number, part) in parts.iter().enumerate() {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let encoding = match turn {
                0..8 => Encoding::ALL[turn],
                _ => Encoding::ALL[(random >> 24) as usize % 8],
            };
            let padding = if encoding == Encoding::Lz4 { 4..40 } else { 0..40 };
            if encoding == Encoding::Plain {
                image.resize(image.len().next_multiple_of(4), 0);
            }
            image.extend(packed(part, encoding));
            let zeros = padding.start + (random >> 10) as usize % (padding.end - padding.start);
            image.resize(image.len() + zeros, 0);
            if encoding == Encoding::Plain {
                // Behind a plain archive everything has to be aligned, behind a compressed one nothing has.
                image.resize(image.len().next_multiple_of(4), 0);
            }
            // Before, between and after.
            if number != 1 {
                image.resize(image.len().next_multiple_of(512), 0);
                image.extend(&first);
            }
        }
        let initrd = read(&image).unwrap_or_else(|e| panic!("{turn}: {e}"));
        assert!(initrd.segments[0].early);
        assert_eq!(&image[..first.len()], &first[..]);
        assert!(manifest(&initrd.tree) == expected, "{turn}: {:?}", initrd.segments);
        // The kernel looks for early files only before anything compressed.
        let compressed = initrd.segments.iter().position(|s| s.encoding != Encoding::Plain);
        if let Some(compressed) = compressed {
            assert!(initrd.segments[compressed..].iter().all(|s| !s.early), "{turn}");
        }
        let sum: u64 = initrd.segments.iter().map(|s| s.size + s.padding).sum();
        assert_eq!(sum, image.len() as u64, "{turn}");
    }
}

#[test]
fn what_linux_refuses_is_refused_with_its_place() {
    let good = archive(&[dir("a"), file("a/b", "content"), trailer()]);
    let fails = |image: &[u8], words: &[&str]| {
        let error = read(image).unwrap_err();
        assert_eq!(error.kind, Kind::Input, "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)) && text.starts_with("image, "), "{text}");
    };
    let with = |more: &[u8]| [&good[..], more].concat();
    fails(b"", &["nothing"]);
    fails(&[0; 100], &["nothing"]);
    fails(&with(b"junk"), &["segment 2", &format!("byte {}", good.len()), "magic"]);
    fails(&with(b"\0\0\0junk"), &["segment 1", &format!("byte {}", good.len() + 3), "multiple of four"]);
    fails(&with(b"070707"), &["segment 2"]);
    fails(&good[..good.len() - 130], &["segment 1", "more bytes of a/b"]);
    let gzip = packed(&good, Encoding::Gzip);
    fails(&[&gzip[..], b"\0", &good].concat(), &["segment 2", &format!("byte {}", gzip.len() + 1)]);
    fails(&packed(&with(b"junk"), Encoding::Gzip), &["segment 1", "unpacked byte", "junk within"]);
    fails(&packed(&gzip, Encoding::Xz), &["unpacked byte 0", "junk within"]);
    fails(&packed(&[], Encoding::Zstd), &["segment 1", "empty"]);
    for encoding in Encoding::ALL.into_iter().skip(1) {
        let whole = packed(&good, encoding);
        for cut in [whole.len() / 2, whole.len() - 1] {
            // lz4 has no end: a frame cut between chunks is whole.
            fails(&whole[..cut], &["segment 1"]);
        }
    }
    let unterminated = Entry { name: b"x".to_vec(), ..file("", "y") };
    fails(&archive(&[unterminated]), &["ends in NUL", "byte 110"]);
    let summed = |sum, body: &str| Entry { magic: "070702", checksum: sum, ..file("x", body) };
    fails(&archive(&[summed(1, "y")]), &["sum is 00000079", "00000001"]);
    fails(&archive(&[summed(1, "")]), &["sum is 00000000"]);
    fails(&archive(&[Entry { magic: "070707", ..file("x", "") }]), &["old portable", "newc"]);
    let mut hexless = good.clone();
    hexless[20] = b'g';
    fails(&hexless, &["byte 14", "hexadecimal"]);
    if have("xz") {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cpio"), &good).unwrap();
        for (check, name) in [("crc64", "CRC64"), ("sha256", "SHA-256")] {
            sh(dir.path(), &format!("xz --check={check} <cpio >xz"), &[]);
            fails(&std::fs::read(dir.path().join("xz")).unwrap(), &[name, "--check=crc32"]);
        }
        sh(dir.path(), "xz --check=none <cpio >xz", &[]);
        assert!(read(&std::fs::read(dir.path().join("xz")).unwrap()).is_ok());
    }
}

#[test]
fn padding_is_wanted_where_linux_wants_it() {
    let cut = |entries: &[Entry], bytes: usize| {
        let mut out = archive(entries);
        assert!(out.drain(out.len() - bytes..).all(|byte| byte == 0));
        out
    };
    let second = archive(&[file("second", "2"), trailer()]);
    let body = cut(&[dir("a"), file("one", "x")], 3);
    let end = cut(&[dir("a"), file("one", "x"), trailer()], 3);
    let name = cut(&[file("one", "x"), dir("last")], 1);
    for whole in [&body, &end] {
        // Plain archives may end as they like, compressed ones only where nothing follows.
        let initrd = read(whole).unwrap();
        assert!(initrd.tree.get("one").is_some() && initrd.notes.is_empty());
        let packed = packed(whole, Encoding::Gzip);
        for zeros in [0, 7] {
            let initrd = read(&[&packed[..], &vec![0; zeros]].concat()).unwrap();
            assert!(initrd.tree.get("one").is_some());
            assert!(initrd.notes.iter().any(|note| note.contains("junk at the end")), "{:?}", initrd.notes);
            let mut more = packed.clone();
            more.resize(more.len().next_multiple_of(4) + zeros / 4 * 4, 0);
            more.extend(&second);
            let error = read(&more).unwrap_err().to_string();
            let place = format!("image, segment 1, unpacked byte {}: ", whole.len());
            assert!(error.starts_with(&place) && error.contains("junk at the end"), "{error}");
        }
    }
    for image in [name.clone(), packed(&name, Encoding::Zstd)] {
        let error = read(&image).unwrap_err().to_string();
        assert!(error.contains(&format!("byte {}: ", name.len())), "{error}");
        assert!(error.contains("the padding of the name last"), "{error}");
    }
    // A first archive starts with a header at once; later ones need not.
    let zeros = packed(&[&[0; 512], &second[..]].concat(), Encoding::Xz);
    let error = read(&zeros).unwrap_err().to_string();
    assert!(error.starts_with("image, segment 1, unpacked byte 0: zeros"), "{error}");
    assert!(error.contains("no cpio magic"), "{error}");
    assert!(read(&packed(&[0; 512], Encoding::Gzip)).is_err());
    for before in [archive(&[dir("a")]), packed(&archive(&[dir("a")]), Encoding::Gzip)] {
        assert!(read(&[before, zeros.clone()].concat()).unwrap().tree.get("second").is_some());
    }
}

#[test]
fn gzip_is_unpacked_as_linux_unpacks_it() {
    let good = packed(&archive(&[dir("a"), trailer()]), Encoding::Gzip);
    let with = |flags: u8, fields: &[u8]| {
        let mut image = good[..10].to_vec();
        image[3] = flags;
        image.extend(fields);
        image.extend(&good[10..]);
        read(&image)
    };
    assert_eq!(good[3], 0);
    assert!(with(1, b"").unwrap().tree.get("a").is_some());
    assert!(with(8, b"initrd.img\0").unwrap().tree.get("a").is_some());
    for (flags, fields, word) in [
        (16, &b"a comment\0"[..], "comment"),
        (4, b"\x02\0xx", "extra field"),
        (8 | 16, b"name\0comment\0", "comment"),
    ] {
        let error = with(flags, fields).unwrap_err().to_string();
        assert!(error.starts_with("image, segment 1") && error.contains(word), "{error}");
    }
}

#[test]
fn paths_are_no_longer_than_a_program_can_name() {
    let name = "d".repeat(250);
    let mut entries = Vec::new();
    let mut prefix = String::new();
    for link in ["first", "second"] {
        for _ in 0..9 {
            prefix.push_str(&name);
            entries.push(dir(&prefix));
            prefix.push('/');
        }
        entries.push(symlink(link, &prefix));
        prefix = format!("{link}/");
    }
    let error = read(&archive(&entries)).unwrap_err().to_string();
    assert!(error.starts_with("image: ") && error.contains("4095"), "{error}");
    entries.truncate(10);
    assert!(read(&archive(&entries)).is_ok());
}

#[test]
fn links_through_links_take_bounded_time() {
    let deep = "d/".repeat(680);
    let mut entries: Vec<Entry> = (1..=680).map(|depth| dir(&deep[..2 * depth])).collect();
    // Down and up again, 39 times: a short path whose lookup takes 53,000 names.
    let way = format!("{deep}{}", "../".repeat(680));
    entries.push(symlink("0", &way));
    entries.extend((1..39).map(|link| symlink(format!("{link}"), format!("{}/{way}", link - 1))));
    entries.extend((0..20_000).map(|n| file(format!("38/f{n}"), "")));
    let error = read(&archive(&entries)).unwrap_err().to_string();
    assert!(error.starts_with("image, segment 1: ") && error.contains("takes too long"), "{error}");
}

#[test]
fn bombs_are_stopped_wherever_they_hide() {
    let limits = Limits { max_unpacked: 1 << 20 };
    let big = vec![0; 2 << 20];
    let many: Vec<Entry> = (0..5000).map(|n| file(format!("{n}"), "")).collect();
    let bombs = [
        ("content", archive(&[file("x", &big)])),
        ("a body that is skipped", archive(&[Entry { body: big.clone(), ..device("x", 0o020_600, 1, 3) }])),
        ("padding", [archive(&[file("x", "")]), big.clone()].concat()),
        ("headers", archive(&many)),
        ("names", archive(&vec![file("n".repeat(4000), ""); 300])),
        ("targets", archive(&vec![symlink("x", "t".repeat(4000)); 300])),
    ];
    for (what, bomb) in bombs {
        for encoding in [Encoding::Gzip, Encoding::Xz, Encoding::Zstd] {
            let image = packed(&bomb, encoding);
            let error = initrd::read(&image, Path::new("image"), &limits, &|_| ()).unwrap_err();
            assert!(error.to_string().contains("--max-unpacked"), "{what}: {error}");
        }
    }
}

#[test]
fn a_boot_configuration_is_found_as_the_kernel_finds_it() {
    let good = archive(&[dir("a"), trailer()]);
    let config = b"kernel.console = ttyS0\n\0\0";
    let sum: u32 = config.iter().map(|&b| u32::from(b)).sum();
    for padding in 0..5 {
        for wrong in [0, 1] {
            let mut image = good.clone();
            image.extend(config);
            image.extend((config.len() as u32).to_le_bytes());
            image.extend((sum + wrong).to_le_bytes());
            image.extend(b"#BOOTCONFIG\n");
            image.resize(image.len() + padding, 0);
            let found = read(&image);
            if padding < 4 && wrong == 0 {
                let range = good.len() as u64..image.len() as u64;
                assert_eq!(found.unwrap().bootconfig, Some(range), "{padding}");
            } else {
                assert_eq!(found.unwrap_err().kind, Kind::Input, "{padding} {wrong}");
            }
        }
    }
}

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
                // Names of their own, in folders that are there.
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

#[test]
fn what_we_pack_the_tools_unpack() {
    if !PACKERS.map(|p| p.1).into_iter().all(have) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for len in [0, 1, 1000, 262_144, 262_145, 9_000_000] {
        let bytes = patterned(len, 5);
        for (encoding, tool, command) in PACKERS {
            if len == 0 && encoding == Encoding::Lz4 {
                continue; // a magic and nothing else: nothing for the tool
            }
            std::fs::write(dir.path().join("packed"), packed(&bytes, encoding)).unwrap();
            let command = match tool {
                "cat" => "cat".to_owned(),
                "lz4" => "lz4 -dc".to_owned(),
                "xz" => command.split(" --check").next().unwrap().to_owned() + " -dc",
                tool => format!("{tool} -dc"),
            };
            sh(dir.path(), &format!("{command} <packed >unpacked"), &[]);
            assert!(std::fs::read(dir.path().join("unpacked")).unwrap() == bytes, "{len} bytes, {encoding}");
        }
    }
}

#[test]
fn the_sample_converts_dry_and_is_what_its_script_makes() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let sample = samples.join("tiny-initrd.gz");
    assert!(sample.metadata().unwrap().len() < 4096);
    let ours = read(&std::fs::read(&sample).unwrap()).unwrap();
    if have("cpio") {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made.gz");
        run(Command::new(samples.join("tiny-initrd.sh")).arg(&made));
        assert_eq!(manifest(&read(&std::fs::read(made).unwrap()).unwrap().tree), manifest(&ours.tree));
    }
    let mut command = btrsquash();
    command.arg("convert").arg(&sample).args(["--dry-run", "--front-end", "built-in"]);
    let text = String::from_utf8_lossy(&run(&mut command).stdout).into_owned();
    for words in
        ["what a conversion would do", "monolith", "Tiny 1", "6.1.0-tiny", "/init (script for /bin/sh)"]
    {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}
