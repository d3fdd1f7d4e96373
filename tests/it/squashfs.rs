//! The squashfs writer and reader against squashfs-tools and the kernel.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use btrsquash::bytes::{Hint, ReadAt, Region};
use btrsquash::codec::Compression;
use btrsquash::cores::Cores;
use btrsquash::elf::{Arch, Archs};
use btrsquash::error::Kind;
use btrsquash::squashfs::{self, Options, Written};
use btrsquash::tree::{Node, Tree};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{have, root, run, sh};

const PATH: &str = "LiveOS/rootfs.img";
const TIME: u32 = 1_600_000_000;

/// Numbers that look random and never change.
fn noise(seed: u32) -> impl Iterator<Item = u8> {
    let mut x = seed | 1;
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        (x >> 16) as u8
    })
}

/// Content of every kind: text, zeros (some within a block), noise, linked code, and an odd length.
fn content(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    for part in 0.. {
        match part % 5 {
            0 => bytes.extend((0..20_000u32).flat_map(|n| format!("{part} line {}\n", n / 3).into_bytes())),
            1 => bytes.resize(bytes.len() + 3_000_000 + part, 0),
            2 => bytes.extend(noise(part as u32).take(2_500_000)),
            3 => {
                for at in (0..400_000u32).step_by(16) {
                    bytes.push(0xe8);
                    bytes.extend((at % 977 * 64).wrapping_sub(at).to_le_bytes());
                    bytes.extend(&at.to_be_bytes());
                    bytes.extend(b"\x55\x48\x89\xe5\x41\x57\x90");
                }
            }
            _ => bytes.extend(noise(7).take(50_000).flat_map(|byte| [byte & 3; 7])),
        }
        if bytes.len() >= len {
            bytes.truncate(len);
            return bytes;
        }
    }
    bytes
}

/// With every branch filter.
fn options(compression: Compression, block_size: u32) -> Options {
    Options { compression, block_size, time: TIME, filters: Archs::ALL, ..Options::default() }
}

fn write_to(path: &Path, content: &dyn ReadAt, regions: &[Region], options: &Options) -> Written {
    write_on(&Cores::new(2), path, content, regions, options)
}

fn write_on(
    cores: &Cores,
    path: &Path,
    content: &dyn ReadAt,
    regions: &[Region],
    options: &Options,
) -> Written {
    let out = File::create(path).unwrap();
    squashfs::write(content, PATH, regions, options, cores, out, &|_| {}).unwrap()
}

fn open(path: &Path) -> Tree {
    squashfs::read(Arc::new(File::open(path).unwrap()), path).unwrap()
}

/// The one file of an image of ours, through our own reader.
fn read_back(path: &Path) -> Vec<u8> {
    let tree = open(path);
    tree.read(tree.get(PATH).unwrap(), u64::MAX).unwrap().unwrap()
}

/// Mounts an image for as long as it lives.
struct Mounted {
    directory: PathBuf,
}

/// A new file for each image that is mounted: mount takes a loop device that another process keeps a moment longer, with
/// what it has cached of the image that was in the same file before.
fn mountable(dir: &Path, what: &str) -> PathBuf {
    dir.join(what.replace(' ', "-")).with_extension("img")
}

impl Mounted {
    fn new(image: &Path, directory: PathBuf) -> Self {
        std::fs::create_dir(&directory).unwrap();
        run(Command::new("mount").args(["-o", "loop,ro", "-t", "squashfs"]).arg(image).arg(&directory));
        Self { directory }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.directory).status();
    }
}

#[test]
fn every_compression_and_block_size_is_read_by_unsquashfs_the_kernel_and_us() {
    if !have("unsquashfs") {
        return;
    }
    let kernel = root();
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(14_345_678);
    let machine = [Region { offset: 0, len: 14_345_678, hint: Hint::MachineCode(Arch::X86) }];
    for compression in Compression::ALL {
        for block_size in [4 << 10, 128 << 10, 1 << 20] {
            let options = options(compression, block_size);
            let what = format!("{compression} {block_size}");
            let image = mountable(dir.path(), &what);
            let regions = if compression == Compression::Xz { &machine[..] } else { &[] };
            let written = write_to(&image, &bytes, regions, &options);
            assert_eq!(written.size, image.metadata().unwrap().len(), "{what}");
            assert_eq!(written.size % 4096, 0, "{what}");
            assert_eq!(written.content, bytes.len() as u64);
            let blocks: Vec<&[u8]> = bytes.chunks(block_size as usize).collect();
            assert_eq!(written.blocks, blocks.len() as u64, "{what}");
            // What is left of the last block lies in a fragment, which is stored even if it is zeros.
            let whole = bytes.chunks_exact(block_size as usize);
            let zeros = whole.filter(|block| block.iter().all(|&byte| byte == 0)).count();
            assert_eq!(written.holes, zeros as u64, "{what}");
            assert!(written.stored > 0 && written.size < bytes.len() as u64 / 3 * 2, "{what}: {written:?}");

            let out = run(Command::new("unsquashfs").arg("-cat").arg(&image).arg(PATH)).stdout;
            assert!(out == bytes, "{what}: unsquashfs reads something else");
            assert!(read_back(&image) == bytes, "{what}: our reader reads something else");
            if kernel {
                let mounted = Mounted::new(&image, dir.path().join(what.replace(' ', "-")));
                let file = mounted.directory.join(PATH);
                assert!(std::fs::read(&file).unwrap() == bytes, "{what}: the kernel reads something else");
                let stat = file.metadata().unwrap();
                assert_eq!((stat.mode(), stat.uid(), stat.gid()), (0o100_644, 0, 0), "{what}");
                // Holes take no space: the kernel counts the rest, in sectors.
                let holes = zeros * block_size as usize;
                assert_eq!(stat.blocks(), ((bytes.len() - holes) as u64).div_ceil(512), "{what}");
            }
        }
    }
}

#[test]
fn names_modes_and_times_as_unsquashfs_lists_them() {
    if !have("unsquashfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let options = Options { time: TIME, ..Options::default() };
    write_to(&image, &content(3_000_001), &[], &options);
    let listed = sh(dir.path(), "TZ=UTC unsquashfs -lln \"$1\" | grep squashfs-root", &[&image]);
    let listed: Vec<_> =
        listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        listed,
        [
            "drwxr-xr-x 0/0 29 2020-09-13 12:26 squashfs-root",
            "drwxr-xr-x 0/0 33 2020-09-13 12:26 squashfs-root/LiveOS",
            "-rw-r--r-- 0/0 3000001 2020-09-13 12:26 squashfs-root/LiveOS/rootfs.img",
        ]
    );
    let stat = sh(dir.path(), "TZ=UTC unsquashfs -s \"$1\"", &[&image]);
    for line in [
        "Sun Sep 13 12:26:40 2020",
        "Compression xz",
        "Block size 1048576",
        "Number of inodes 3",
        "Number of ids 1",
    ] {
        assert!(stat.contains(line), "{line} is missing:\n{stat}");
    }
    let tree = open(&image);
    for path in ["", "LiveOS", PATH] {
        assert_eq!(tree.inode(tree.get(path).unwrap()).mtime, i64::from(TIME), "{path:?}");
    }
}

#[test]
fn the_superblock_names_what_is_not_default() {
    if !have("unsquashfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let bytes = content(2_000_000);
    let code = [Region { offset: 0, len: 2_000_000, hint: Hint::MachineCode(Arch::X86) }];
    for (compression, filters, said) in [
        (Compression::Xz, Archs::ALL, "Filters selected: x86"),
        (Compression::Xz, Archs::ALL, "Dictionary size 131072"),
        (Compression::Zstd, Archs::NONE, "compression-level 22"),
    ] {
        let options =
            Options { compression, block_size: 128 << 10, time: 0, filters, stored: false, thorough: false };
        write_to(&image, &bytes, &code, &options);
        let stat = sh(dir.path(), "unsquashfs -s \"$1\"", &[&image]);
        assert!(stat.contains(said), "{said:?} is missing:\n{stat}");
    }
}

#[test]
fn the_branch_filter_saves_space_and_only_where_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(14_000_000);
    let code = [Region { offset: 0, len: bytes.len() as u64, hint: Hint::MachineCode(Arch::X86) }];
    let size = |regions: &[Region], filters| {
        let options = Options { filters, ..Options::default() };
        write_to(&dir.path().join("image"), &bytes, regions, &options).size
    };
    let plain = size(&[], Archs::ALL);
    // A kernel that has the filter of another machine only could not read a block with this one.
    for others in [Archs::NONE, [Arch::Arm64, Arch::ArmThumb].into_iter().collect()] {
        assert_eq!(size(&code, others), plain);
    }
    let filtered = size(&code, [Arch::X86].into_iter().collect());
    assert_eq!(filtered, size(&code, Archs::ALL));
    assert!(filtered + 8192 < plain, "{filtered} is not less than {plain}");
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(9_000_123);
    let regions = [
        Region { offset: 0, len: 4096, hint: Hint::Metadata },
        Region { offset: 4096, len: 5_000_000, hint: Hint::MachineCode(Arch::X86) },
        Region { offset: 5_004_096, len: 3_996_027, hint: Hint::Data },
    ];
    for compression in Compression::ALL {
        for block_size in [16 << 10, 1 << 20] {
            let image = |threads| {
                let path = dir.path().join("image");
                let options = options(compression, block_size);
                write_on(&Cores::new(threads), &path, &bytes, &regions, &options);
                std::fs::read(path).unwrap()
            };
            let one = image(1);
            for threads in [2, 5, 0] {
                assert!(
                    image(threads) == one,
                    "{compression} {block_size}: {threads} threads give other bytes"
                );
            }
        }
    }
}

/// Many GiB, of which a few bytes are not zero; fails where it is read in a zero region.
struct Sparse {
    len: u64,
    data: BTreeMap<u64, Vec<u8>>,
    forbidden: std::ops::Range<u64>,
    read: AtomicU64,
}

impl ReadAt for Sparse {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        let end = offset + buf.len() as u64;
        assert!(end <= self.forbidden.start || offset >= self.forbidden.end, "zeros were read at {offset}");
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        buf.fill(0);
        for (&at, bytes) in &self.data {
            for (index, &byte) in bytes.iter().enumerate() {
                let at = at + index as u64;
                if (offset..end).contains(&at) {
                    buf[(at - offset) as usize] = byte;
                }
            }
        }
        Ok(())
    }
    fn len(&self) -> u64 {
        self.len
    }
}

#[test]
fn many_gigabytes_of_zeros_take_no_space_and_are_not_read() {
    let gib = 1u64 << 30;
    let sparse = Sparse {
        len: 5 * gib + 1234,
        data: [
            (0, b"start".to_vec()),
            (3 * (gib / 2) - 3, b"middle".to_vec()),
            (5 * gib + 1229, b"end".to_vec()),
        ]
        .into(),
        forbidden: 2 * gib..5 * gib,
        read: AtomicU64::new(0),
    };
    // The zero region starts and ends within a block: what surrounds it there is content.
    let regions = [
        Region { offset: 0, len: 4096, hint: Hint::Data },
        Region { offset: 4096, len: gib, hint: Hint::Zero },
        Region { offset: gib + 4096, len: gib - 4096 - 77, hint: Hint::Data },
        Region { offset: 2 * gib - 77, len: 3 * gib + 77, hint: Hint::Zero },
        Region { offset: 5 * gib, len: 1234, hint: Hint::Metadata },
    ];
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let done = AtomicU64::new(0);
    let out = File::create(&image).unwrap();
    let progress = |bytes| {
        assert!(done.swap(bytes, Ordering::Relaxed) < bytes);
    };
    let written =
        squashfs::write(&sparse, PATH, &regions, &Options::default(), &Cores::new(0), out, &progress)
            .unwrap();
    assert_eq!(done.into_inner(), sparse.len);
    assert!(sparse.read.into_inner() < gib + (4 << 20));
    assert_eq!((written.blocks, written.blocks - written.holes), (5121, 4), "{written:?}");
    assert!(written.size <= 8192, "{written:?}");

    let tree = open(&image);
    let id = tree.get(PATH).unwrap();
    let Node::Regular(content) = &tree.inode(id).node else { panic!("not a file") };
    assert_eq!(content.size, sparse.len);
    assert!(content.extents.iter().map(|e| e.len).sum::<u64>() <= 4 << 20, "{:?}", content.extents);
    let file = squashfs::file(&tree, id).unwrap();
    for (&at, bytes) in &sparse.data {
        let mut read = vec![0xff; bytes.len()];
        file.read_exact_at(&mut read, at).unwrap();
        assert_eq!(&read, bytes);
    }
    let mut zeros = vec![1; 100_000];
    file.read_exact_at(&mut zeros, 2 * gib - 50_000).unwrap();
    assert!(zeros.iter().all(|&byte| byte == 0));
    if root() {
        let mounted = Mounted::new(&image, dir.path().join("mounted"));
        let file = File::open(mounted.directory.join(PATH)).unwrap();
        assert_eq!(file.metadata().unwrap().len(), sparse.len);
        let mut read = [0; 9];
        ReadAt::read_exact_at(&file, &mut read, 3 * (gib / 2) - 5).unwrap();
        assert_eq!(&read, b"\0\0middle\0");
        ReadAt::read_exact_at(&file, &mut read, 5 * gib + 1225).unwrap();
        assert_eq!(&read, b"\0\0\0\0end\0\0");
    }
}

#[test]
fn content_of_any_size_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    for len in [0, 1, 4095, 4096, 4097, 8191, 8192, 131_072, 300_001] {
        for zero in [false, true] {
            for compression in Compression::ALL {
                let bytes = if zero { vec![0; len] } else { content(len) };
                let options = Options {
                    compression,
                    block_size: 4096,
                    time: 1,
                    filters: Archs::ALL,
                    stored: false,
                    thorough: false,
                };
                write_to(&image, &bytes, &[], &options);
                assert!(read_back(&image) == bytes, "{len} bytes, {compression}");
                if have("unsquashfs") {
                    let out = run(Command::new("unsquashfs").arg("-cat").arg(&image).arg(PATH)).stdout;
                    assert!(out == bytes, "{len} bytes, {compression}, unsquashfs");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_written_is_said() {
    struct Failing;
    impl ReadAt for Failing {
        fn read_exact_at(&self, _: &mut [u8], offset: u64) -> std::io::Result<()> {
            if offset < 5 << 20 { Ok(()) } else { Err(std::io::Error::other("the disk is on fire")) }
        }
        fn len(&self) -> u64 {
            64 << 20
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let out = || File::create(dir.path().join("image")).unwrap();
    let write = |path: &str, options: &Options| {
        squashfs::write(&Failing, path, &[], options, &Cores::new(0), out(), &|_| {})
    };
    let error = write(PATH, &Options::default()).unwrap_err();
    assert_eq!(error.kind, Kind::Input);
    assert!(error.to_string().contains("the disk is on fire"), "{error}");
    for block_size in [0, 4095, 2048, 2 << 20, 6144] {
        let error = write(PATH, &Options { block_size, ..Options::default() }).unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{error}");
    }
    for path in ["", "/x", "a//b", "a/../b", "a/"] {
        let kind = write(path, &Options::default()).unwrap_err().kind;
        assert!(matches!(kind, Kind::Usage | Kind::Input), "{path:?}: {kind:?}");
    }
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error =
        squashfs::write(&vec![1u8; 10_000], PATH, &[], &Options::default(), &Cores::new(0), full, &|_| {})
            .unwrap_err();
    assert_eq!(error.kind, Kind::Io, "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
}

/// A tree with all that squashfs knows; device nodes where the tests may make them.
pub fn make_tree(dir: &Path, devices: bool) {
    let script = r"
        mkdir -p t/deep/er/and/deeper t/empty t/many
        cd t
        printf 'small' > small; : > nothing; ln small deep/hard; ln small second
        seq 1 200000 > text
        head -c 1048576 /dev/zero > zeros
        { seq 1 60000; head -c 700000 /dev/zero; echo end; } > holes
        head -c 400000 /dev/urandom > noise
        ln -s ../small deep/link; ln -s $(printf 'x%.0s' $(seq 1 4000)) longlink
        mkfifo pipe; chmod 4755 small; chmod 1777 empty; chmod 000 nothing
        touch -d '1999-12-31 23:59:58 UTC' text; touch -h -d '2001-02-03 UTC' deep/link
        for n in $(seq 1 3000); do echo $n > many/file-with-a-rather-long-name-$n; done
        touch $(printf 'n%.0s' $(seq 1 255)) $'odd\nname \xff\xfe\t'
    ";
    sh(dir, script, &[]);
    if devices {
        sh(
            dir,
            "cd t; mknod char c 4 65; mknod block b 259 70000; chown 12345:54321 char; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")' 2>/dev/null || true",
            &[],
        );
    }
}

/// Compares a tree with a directory, inode by inode.
pub fn assert_same(tree: &Tree, directory: &Path, what: &str) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut inodes: BTreeMap<(u64, u64), btrsquash::tree::InodeId> = BTreeMap::new();
    let mut seen = 0;
    let mut todo = vec![(directory.to_path_buf(), Vec::new())];
    while let Some((host, path)) = todo.pop() {
        seen += 1;
        let stat = host.symlink_metadata().unwrap();
        let shown = format!("{what}: {}", host.display());
        let id = tree.get(&path).unwrap_or_else(|| panic!("{shown} is missing"));
        let inode = tree.inode(id);
        assert_eq!(inode.mode | inode.node.type_bits(), stat.mode(), "{shown}");
        assert_eq!((inode.uid, inode.gid, inode.mtime), (stat.uid(), stat.gid(), stat.mtime()), "{shown}");
        let device = rustix::fs::stat(&host)
            .ok()
            .map(|s| (rustix::fs::major(s.st_rdev), rustix::fs::minor(s.st_rdev)));
        match &inode.node {
            Node::Directory(names) => {
                let entries: Vec<_> = std::fs::read_dir(&host).unwrap().flatten().collect();
                assert_eq!(entries.len(), names.len(), "{shown}");
                for entry in entries {
                    let mut path = path.clone();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend(entry.file_name().into_vec());
                    todo.push((entry.path(), path));
                }
                continue;
            }
            Node::Regular(_) => {
                assert!(
                    tree.read(id, u64::MAX).unwrap().unwrap() == std::fs::read(&host).unwrap(),
                    "{shown}"
                );
            }
            Node::Symlink(target) => {
                assert_eq!(&**target, std::fs::read_link(&host).unwrap().as_os_str().as_bytes(), "{shown}");
            }
            Node::CharDevice(d) | Node::BlockDevice(d) => {
                assert_eq!(Some((d.major, d.minor)), device, "{shown}")
            }
            Node::Fifo | Node::Socket => {}
        }
        assert_eq!(u64::from(inode.nlink), stat.nlink(), "{shown}");
        assert_eq!(*inodes.entry((stat.dev(), stat.ino())).or_insert(id), id, "{shown}: not the same inode");
    }
    assert_eq!(tree.walk().count(), seen, "{what}");
}

#[test]
fn trees_of_mksquashfs_are_read_as_they_were() {
    if !have("mksquashfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make_tree(dir.path(), root());
    let directory = dir.path().join("t");
    let image = dir.path().join("image");
    for arguments in [
        "-comp xz -b 1M",
        "-comp xz -b 128K -Xbcj x86,arm -Xdict-size 50%",
        "-comp zstd -b 64K",
        "-comp gzip -b 4K -no-fragments",
        "-comp gzip -always-use-fragments -no-exports",
        "-comp gzip -Xwindow-size 10 -Xcompression-level 3 -b 16K",
        "-comp lz4 -b 256K",
        "-comp lz4 -Xhc",
        "-comp lzo -b 128K",
        "-comp lzo -b 1M -Xalgorithm lzo1x_1",
        "-noI -noD -noF -noX -no-duplicates",
        "-noI -noId -b 8K -no-sparse -nopad",
        "-all-root -tailends",
    ] {
        let mut command = Command::new("mksquashfs");
        command.arg(&directory).arg(&image).args(["-noappend", "-quiet", "-no-progress"]);
        run(command.args(arguments.split(' ')));
        if arguments.contains("-all-root") {
            assert!(open(&image).inodes.iter().all(|inode| inode.uid == 0 && inode.gid == 0));
        } else {
            assert_same(&open(&image), &directory, arguments);
        }
    }
}

/// A tree of every kind of file, written and compared with what it was made from: by our reader, by unsquashfs and by
/// the kernel.
#[test]
fn a_tree_is_written_as_mksquashfs_would() {
    if !have("mksquashfs") || !have("unsquashfs") {
        return;
    }
    let kernel = root();
    let dir = tempfile::tempdir().unwrap();
    let (source, theirs) = (dir.path().join("source"), dir.path().join("theirs"));
    std::fs::create_dir(&source).unwrap();
    make_tree(&source, kernel);
    run(Command::new("mksquashfs").args([&source, &theirs]).args(["-quiet", "-no-progress", "-no-xattrs"]));
    let tree = open(&theirs);
    // Without the size of directories, which counts bytes of the list, and the header.
    let listed = |image: &Path| {
        let out = run(Command::new("unsquashfs").args(["-lln", "-UTC"]).arg(image)).stdout;
        let text = String::from_utf8_lossy(&out).into_owned();
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.contains("squashfs-root"))
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let keep = |(n, _): &(usize, &&str)| !(line.starts_with('d') && *n == 2);
                words.iter().enumerate().filter(keep).map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
            })
            .collect();
        lines.sort();
        lines
    };
    for compression in Compression::ALL {
        for block_size in [4 << 10, 1 << 20] {
            let what = format!("tree {compression} {block_size}");
            let options = options(compression, block_size);
            let ours = mountable(dir.path(), &what);
            let out = File::create(&ours).unwrap();
            let image = squashfs::Image::of_tree(&tree).unwrap();
            image.write(&options, &Cores::new(2), out, &|_| {}).unwrap();
            assert_same(&open(&ours), &source, &what);
            assert_eq!(listed(&theirs), listed(&ours), "{what}");
            if kernel {
                let mounted = Mounted::new(&ours, dir.path().join(what.replace(' ', "-")));
                assert_same(&tree, &mounted.directory, &what);
            }
        }
    }
}

#[test]
fn several_threads_read_at_random() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let bytes = content(20_000_000);
    let options = Options { compression: Compression::Zstd, block_size: 64 << 10, ..Options::default() };
    write_to(&image, &bytes, &[], &options);
    let tree = open(&image);
    let file = squashfs::file(&tree, tree.get(PATH).unwrap()).unwrap();
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            let (file, bytes) = (&file, &bytes);
            scope.spawn(move || {
                let mut random = noise(seed).map(usize::from);
                let mut next =
                    |below: usize| random.by_ref().take(4).fold(0, |number, byte| number << 8 | byte) % below;
                for _ in 0..300 {
                    let at = next(bytes.len());
                    let len = next(200_000).min(bytes.len() - at);
                    let mut read = vec![0; len];
                    file.read_exact_at(&mut read, at as u64).unwrap();
                    assert!(read == bytes[at..at + len], "{len} bytes at {at}");
                }
            });
        }
    });
    assert!(file.read_exact_at(&mut [0; 2], bytes.len() as u64 - 1).is_err());
}

#[test]
fn what_is_no_squashfs_is_said_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    write_to(&image, &content(3_000_000), &[], &Options::default());
    let good = std::fs::read(&image).unwrap();
    let error = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let error = squashfs::read(Arc::new(bytes), Path::new("some.img")).unwrap_err();
        assert_eq!(error.kind, Kind::Input);
        error.to_string()
    };
    assert!(error(&|b| b.truncate(50)).contains("50 bytes are no squashfs"));
    assert_eq!(
        error(&|b| b[0] = b'x'),
        "some.img, byte 0: no squashfs image: it does not start with \"hsqs\""
    );
    assert!(error(&|b| b[..4].reverse()).contains("big-endian"));
    assert!(error(&|b| b[28] = 3).contains("byte 28: squashfs 3.0"));
    assert!(error(&|b| b[20] = 2).contains("the old lzma"));
    assert!(error(&|b| b[22] = 19).contains("block size"));
    assert!(error(&|b| b.truncate(1000)).contains("is it complete"));
    assert!(error(&|b| b[64..72].fill(0xee)).contains("inode"));
}

/// Reads all of a tree; what it holds does not matter.
fn read_all(tree: &Tree) {
    let mut buf = vec![0; 1 << 16];
    for inode in &tree.inodes {
        if let Node::Regular(content) = &inode.node {
            let mut at = 0;
            while at < content.size.min(4 << 20) {
                let len = (content.size - at).min(buf.len() as u64);
                if tree.read_at(content, &mut buf[..len as usize], at).is_err() {
                    break;
                }
                at += len;
            }
        }
    }
}

#[test]
fn damage_anywhere_never_panics() {
    if !have("mksquashfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = r"
        mkdir -p t/a/b; cd t; seq 1 20000 > text; ln text a/hard; ln -s text a/link; mkfifo a/b/pipe
        for n in $(seq 1 40); do echo $n > a/file$n; done
        head -c 30000 /dev/zero > zeros; echo end >> zeros
    ";
    sh(dir.path(), script, &[]);
    let mut images = Vec::new();
    // Metadata stored as it is lets damage reach the parser; compressed, it reaches the decoders.
    for arguments in [
        "-noI -comp gzip -b 4K",
        "-noI -noId -noD -noF",
        "-comp xz",
        "-comp lzo",
        "-comp lz4",
        "-comp zstd -b 8K",
    ] {
        let image = dir.path().join("image");
        let mut command = Command::new("mksquashfs");
        command.arg(dir.path().join("t")).arg(&image).args(["-noappend", "-quiet", "-no-progress", "-nopad"]);
        run(command.args(arguments.split(' ')));
        images.push(std::fs::read(&image).unwrap());
    }
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 1..6);
    let strategy = (0..images.len(), changes, any::<Option<prop::sample::Index>>());
    TestRunner::new(config)
        .run(&strategy, |(image, changes, cut)| {
            let mut bytes = images[image].clone();
            for (at, byte, place) in changes {
                // Anywhere, in the superblock, or near the end, where the tables are.
                let at = match place {
                    0 => at.index(bytes.len()),
                    1 => at.index(96),
                    _ => bytes.len() - 1 - at.index(bytes.len().min(4000)),
                };
                bytes[at] = byte;
            }
            if let Some(cut) = cut.filter(|_| image % 2 == 1) {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(tree) = squashfs::read(Arc::new(bytes), Path::new("damaged")) {
                read_all(&tree);
            }
            Ok(())
        })
        .unwrap();
}
