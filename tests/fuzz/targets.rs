//! What is fuzzed: one function for each parser of untrusted bytes, and well-formed inputs to start from.
//!
//! Shared by the libFuzzer program beside this file and by tests/it/fuzz.rs, which runs the same functions on a fixed
//! row of mutations. None of them may panic, hang, or take much memory; what they return does not matter.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use btrsquash::btrfs::{self, Features};
use btrsquash::bytes::ReadAt;
use btrsquash::codec::Compression;
use btrsquash::codec::Encoding;
use btrsquash::container;
use btrsquash::contract::RuntimeFrom;
use btrsquash::contract::net::{dhcp, dns, http, ip, tftp, url::Url};
use btrsquash::cores::Cores;
use btrsquash::elf::Archs;
use btrsquash::image::split;
use btrsquash::image::{self, classify};
use btrsquash::initrd::{self, Initrd, Limits, NewcWriter};
use btrsquash::inspect;
use btrsquash::kernel::{self, Wanted};
use btrsquash::ram;
use btrsquash::squashfs;
use btrsquash::tree::{Content, Device, Extent, Inode, InodeId, Node, Tree};

/// A parser.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads bytes; whether they were understood.
    pub run: fn(&[u8]) -> bool,
    /// Well-formed inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    Target { name: "segments", run: segments, seeds: segment_seeds },
    Target { name: "newc", run: newc, seeds: newc_seeds },
    Target { name: "lzop", run: segments, seeds: || stream_seeds(Encoding::Lzo) },
    Target { name: "lz4", run: segments, seeds: || stream_seeds(Encoding::Lz4) },
    Target { name: "squashfs", run: squashfs, seeds: squashfs_seeds },
    Target { name: "btrfs", run: btrfs, seeds: btrfs_seeds },
    Target { name: "module", run: module, seeds: module_seeds },
    Target { name: "program", run: program, seeds: program_seeds },
    Target { name: "package", run: package, seeds: package_seeds },
    Target { name: "vmlinuz", run: vmlinuz, seeds: vmlinuz_seeds },
    Target { name: "container", run: container, seeds: container_seeds },
    Target { name: "bootconfig", run: bootconfig, seeds: bootconfig_seeds },
    Target { name: "classify", run: classify, seeds: classify_seeds },
    Target { name: "network", run: network, seeds: network_seeds },
];

const RELEASE: &str = "6.1.0-fuzz";
const LIMITS: Limits = Limits { max_unpacked: 64 << 20, accept_partial: false };
/// As much of each file is read.
const MOST: u64 = 1 << 20;

fn read_all(tree: &Tree) {
    let mut buffer = vec![0; 64 << 10];
    // Links multiply names, not bytes: inodes are read, and only so much of all together.
    let mut left = 16_u64 << 20;
    for inode in &tree.inodes {
        if let Node::Regular(content) = &inode.node {
            let mut at = 0;
            while at < content.size.min(MOST) && left > 0 {
                let len = (content.size - at).min(buffer.len() as u64);
                left = left.saturating_sub(len);
                if tree.read_at(content, &mut buffer[..len as usize], at).is_err() {
                    break;
                }
                at += len;
            }
        }
    }
    for entry in tree.walk().take(10_000) {
        let _ = (tree.get(&entry.path), tree.resolve(&entry.path));
        let _ = btrsquash::tree::display(&entry.path);
    }
}

fn judge(initrd: &Initrd) {
    let class = classify::classify(initrd);
    let _ = split::split(initrd, &class, &[]);
    read_all(&initrd.tree);
}

/// A whole initrd, and all that is asked of one.
fn segments(bytes: &[u8]) -> bool {
    let initrd = initrd::read(&bytes.to_vec(), Path::new("fuzz"), &LIMITS, &|_| ());
    let read = initrd.is_ok();
    if let Ok(initrd) = initrd {
        let sum: u64 = initrd.segments.iter().map(|s| s.size + s.padding).sum();
        let end = initrd.bootconfig.as_ref().map_or(initrd.size, |range| range.start);
        assert!(sum <= end, "segments of {sum} bytes in {end}");
        judge(&initrd);
        for segment in initrd.segments.iter().filter(|s| s.encoding == Encoding::Plain) {
            let _ = initrd::find_body(&bytes.to_vec(), segment, b"squashfs.img");
        }
    }
    if let Ok(image) = image::read(Arc::new(bytes.to_vec()), Path::new("fuzz"), &LIMITS, &|_| ()) {
        let _ = inspect::inspect(&image, &ram::Machine::new(ram::Kernel::TYPICAL, 2));
    }
    read
}

/// A newc archive, plain and inside of a compressed segment.
fn newc(bytes: &[u8]) -> bool {
    let source = bytes.to_vec();
    let plain = initrd::read(&source, Path::new("fuzz"), &LIMITS, &|_| ());
    let Ok(packed) = btrsquash::codec::compress(bytes, Encoding::Lz4) else { return false };
    let packed = initrd::read(&packed, Path::new("fuzz"), &LIMITS, &|_| ());
    if let (Ok(plain), Ok(packed)) = (&plain, &packed)
        && plain.segments.iter().all(|s| s.encoding == Encoding::Plain)
        && plain.bootconfig.is_none()
    {
        assert_eq!(plain.tree.inodes, packed.tree.inodes, "plain and packed differ");
    }
    plain.is_ok()
}

/// Unified kernel images, uImages, FIT images, ISO images and kernels: opened, and what is inside named.
fn container(bytes: &[u8]) -> bool {
    let _ = btrsquash::magic::name(bytes);
    let Ok(input) = container::unwrap(Path::new("fuzz"), Arc::new(bytes.to_vec()), &LIMITS) else {
        return false;
    };
    let mut start = vec![0; input.initrd.len().min(4096) as usize];
    assert!(input.initrd.read_exact_at(&mut start, 0).is_ok());
    if let Some(wrapper) = &input.wrapper {
        let mut out = Vec::new();
        if wrapper.write(&b"a new initrd".to_vec(), "/init", &mut out).is_ok() {
            let again = container::unwrap(Path::new("fuzz"), Arc::new(out), &LIMITS);
            assert_eq!(again.unwrap().initrd.len(), 12, "what was written is not read again");
        }
    }
    input.wrapper.is_some() || input.kernel.is_some()
}

fn container_seeds() -> Vec<Vec<u8>> {
    // A uImage.
    let data = packed(&small_archive(), Encoding::Gzip);
    let mut uimage = vec![0; 64];
    uimage[..4].copy_from_slice(&[0x27, 0x05, 0x19, 0x56]);
    uimage[12..16].copy_from_slice(&(data.len() as u32).to_be_bytes());
    uimage[24..28].copy_from_slice(&crc32(&data).to_be_bytes());
    uimage[30] = 3;
    let sum = crc32(&uimage);
    uimage[4..8].copy_from_slice(&sum.to_be_bytes());
    uimage.extend(&data);
    // A unified kernel image of one section.
    let mut uki = vec![0; 512];
    uki[..2].copy_from_slice(b"MZ");
    uki[0x3c] = 0x40;
    uki[0x40..0x44].copy_from_slice(b"PE\0\0");
    uki[0x44..0x46].copy_from_slice(&0x8664_u16.to_le_bytes());
    uki[0x46] = 1;
    uki[0x54] = 240;
    uki[0x58..0x5a].copy_from_slice(&0x20b_u16.to_le_bytes());
    for (at, value) in [(32, 4096_u32), (36, 512), (60, 512), (108, 16)] {
        uki[0x58 + at..0x5c + at].copy_from_slice(&value.to_le_bytes());
    }
    let row = 0x58 + 240;
    uki[row..row + 7].copy_from_slice(b".initrd");
    for (at, value) in [(8, data.len() as u32), (12, 4096), (16, 512), (20, 512), (36, 0x40)] {
        uki[row + at..row + at + 4].copy_from_slice(&value.to_le_bytes());
    }
    uki.extend(&data);
    uki.resize(1024, 0);
    vec![uimage, uki, fit_seed(&data)]
}

/// A flattened image tree: /images/r with a ramdisk and its checksum.
fn fit_seed(data: &[u8]) -> Vec<u8> {
    let strings = b"type\0data\0algo\0value\0";
    let mut tree = Vec::new();
    let word = |tree: &mut Vec<u8>, word: u32| tree.extend(word.to_be_bytes());
    let pad = |tree: &mut Vec<u8>| tree.resize(tree.len().next_multiple_of(4), 0);
    let begin = |tree: &mut Vec<u8>, name: &[u8]| {
        word(tree, 1);
        tree.extend(name);
        tree.push(0);
        pad(tree);
    };
    let property = |tree: &mut Vec<u8>, name: u32, value: &[u8]| {
        word(tree, 3);
        word(tree, value.len() as u32);
        word(tree, name);
        tree.extend(value);
        pad(tree);
    };
    begin(&mut tree, b"");
    begin(&mut tree, b"images");
    begin(&mut tree, b"r");
    property(&mut tree, 0, b"ramdisk\0");
    property(&mut tree, 5, data);
    begin(&mut tree, b"hash-1");
    property(&mut tree, 10, b"crc32\0");
    property(&mut tree, 15, &crc32(data).to_be_bytes());
    for end in [2, 2, 2, 2, 9] {
        word(&mut tree, end);
    }
    let mut fit = Vec::new();
    let size = 40 + 16 + tree.len() + strings.len();
    for field in [0xd00d_feed, size, 56, 56 + tree.len(), 40, 17, 16, 0, strings.len(), tree.len()] {
        fit.extend((field as u32).to_be_bytes());
    }
    fit.extend([0; 16]);
    fit.extend(tree);
    fit.extend(strings);
    fit
}

/// CRC-32 as zlib has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    })
}

fn squashfs(bytes: &[u8]) -> bool {
    if let Ok(tree) = squashfs::read(Arc::new(bytes.to_vec()), Path::new("fuzz")) {
        read_all(&tree);
        for (number, inode) in tree.inodes.iter().enumerate().take(100) {
            if let Node::Regular(_) = inode.node {
                let _ = squashfs::file(&tree, InodeId(number as u32)).map(|file| file.len());
            }
        }
        return true;
    }
    false
}

/// An image given by its pages: its length, then the place and the bytes of each page that is not zero.
struct Pages {
    len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

const PAGE: usize = 4096;

impl Pages {
    fn of(image: &dyn ReadAt) -> Self {
        let mut pages = BTreeMap::new();
        let mut page = vec![0; PAGE];
        for at in (0..image.len() / PAGE as u64).map(|n| n * PAGE as u64) {
            if image.read_exact_at(&mut page, at).is_ok() && page.iter().any(|&b| b != 0) {
                pages.insert(at, page.clone());
            }
        }
        Self { len: image.len(), pages }
    }

    fn write(&self) -> Vec<u8> {
        let mut out = self.len.to_le_bytes().to_vec();
        for (at, page) in &self.pages {
            out.extend(at.to_le_bytes());
            out.extend(page);
        }
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let mut pages = BTreeMap::new();
        for chunk in rest.chunks_exact(8 + PAGE) {
            let (at, page) = chunk.split_first_chunk::<8>()?;
            let at = u64::from_le_bytes(*at) / PAGE as u64 * PAGE as u64;
            pages.insert(at, page.to_vec());
        }
        Some(Self { len: u64::from_le_bytes(*len) % (1 << 40), pages })
    }

    /// Makes the checksums of the superblock and of all tree blocks right again, so that damage gets behind them.
    fn mend(&mut self) {
        const SUPER: u64 = 64 << 10;
        let Some(sb) = self.pages.get_mut(&SUPER) else { return };
        let sum = crc32c::crc32c(&sb[32..]);
        sb[..4].copy_from_slice(&sum.to_le_bytes());
        let fsid: Vec<u8> = sb[32..48].to_vec();
        let word = |at: usize| u32::from_le_bytes([sb[at], sb[at + 1], sb[at + 2], sb[at + 3]]);
        let node = (word(0x94) as usize).clamp(PAGE, 64 << 10) / PAGE * PAGE;
        let starts: Vec<u64> = self
            .pages
            .iter()
            .filter(|(at, p)| **at != SUPER && p[32..48] == fsid[..])
            .map(|(at, _)| *at)
            .collect();
        for start in starts {
            let mut block = Vec::with_capacity(node);
            for at in (0..node).step_by(PAGE) {
                match self.pages.get(&start.wrapping_add(at as u64)) {
                    Some(page) => block.extend_from_slice(page),
                    None => block.resize(at + PAGE, 0),
                }
            }
            let sum = crc32c::crc32c(&block[32..]);
            if let Some(page) = self.pages.get_mut(&start) {
                page[..4].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
}

impl ReadAt for Pages {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (at, byte) in (offset..).zip(buf.iter_mut()) {
            let page = self.pages.get(&(at / PAGE as u64 * PAGE as u64));
            *byte = page.map_or(0, |page| page[(at % PAGE as u64) as usize]);
        }
        Ok(())
    }
    fn len(&self) -> u64 {
        self.len
    }
}

fn btrfs(bytes: &[u8]) -> bool {
    let Some(mut pages) = Pages::parse(bytes) else { return false };
    pages.mend();
    if let Ok(tree) = btrfs::read(Arc::new(pages), Path::new("fuzz"), LIMITS.max_unpacked) {
        read_all(&tree);
        return true;
    }
    false
}

/// A tree that holds `files`.
fn tree(files: &[(&str, &[u8])]) -> Tree {
    let data: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let mut tree = Tree::new(Arc::new(data));
    let mut at = 0;
    for (path, bytes) in files {
        let len = bytes.len() as u64;
        let extents =
            if len == 0 { Vec::new() } else { vec![Extent { file_offset: 0, data_offset: at, len }] };
        at += len;
        let node = Node::Regular(Content { size: len, extents });
        let mut directory = tree.root;
        let mut parts: Vec<&str> = path.split('/').collect();
        let Some(name) = parts.pop() else { continue };
        for part in parts {
            directory = match tree.names(directory).and_then(|names| names.get(part.as_bytes())).copied() {
                Some(id) => id,
                None => put(&mut tree, directory, part, Node::Directory(BTreeMap::new())),
            };
        }
        put(&mut tree, directory, name, node);
    }
    tree
}

fn put(tree: &mut Tree, directory: InodeId, name: &str, node: Node) -> InodeId {
    let id = tree.add(Inode { mode: 0o755, uid: 0, gid: 0, mtime: 0, nlink: 1, node });
    if let Node::Directory(names) = &mut tree.inode_mut(directory).node {
        names.insert(name.as_bytes().into(), id);
    }
    id
}

const WANTED: Wanted<'_> = Wanted {
    format: None,
    overlay: None,
    in_place: false,
    compression: Compression::Xz,
    bcj: true,
    runtime: &RuntimeFrom::Initramfs,
    drivers: &[],
    ready_made: None,
};

const BUILT_IN: &[u8] =
    b"kernel/fs/squashfs/squashfs.ko\nkernel/fs/btrfs/btrfs.ko\nkernel/drivers/md/dm-mod.ko\n\
                          kernel/drivers/md/dm-snapshot.ko\nkernel/crypto/crc32c_generic.ko\n";

const CONFIG: &[u8] = b"CONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_XZ=y\nCONFIG_SQUASHFS_ZLIB=y\nCONFIG_RD_XZ=y\n";

/// A kernel module, by each of the names that a compressed one has; a list of modules built in; a configuration.
fn module(bytes: &[u8]) -> bool {
    let mut found = false;
    let directory = format!("lib/modules/{RELEASE}");
    for suffix in ["", ".gz", ".xz", ".zst"] {
        let path = format!("{directory}/kernel/drivers/block/loop.ko{suffix}");
        let (builtin, config) = (format!("{directory}/modules.builtin"), format!("{directory}/config"));
        found |= kernel::find(
            &tree(&[(&path, bytes), (&builtin, BUILT_IN), (&config, CONFIG)]),
            &[],
            &[],
            None,
            &WANTED,
        )
        .is_ok();
    }
    let (builtin, modinfo, config) = (
        format!("{directory}/modules.builtin"),
        format!("{directory}/modules.builtin.modinfo"),
        format!("{directory}/config"),
    );
    let files = [(builtin.as_str(), bytes), (modinfo.as_str(), bytes), (config.as_str(), bytes)];
    found | kernel::find(&tree(&files), &[], &[], None, &WANTED).is_ok()
}

/// Programs and libraries, of which the writer of btrfs images looks at what they are linked with.
fn program(bytes: &[u8]) -> bool {
    let longer = [bytes, b"\n"].concat();
    let files =
        [("bin/a", bytes), ("lib/libb.so.1", longer.as_slice()), ("lib/c", &bytes[..bytes.len() / 2])];
    btrfs::plan(&tree(&files), &btrfs::Options::new(Features::for_kernel("6.1.0"))).is_ok()
}

/// Calls `with` with a file that holds `bytes`.
fn in_a_file(bytes: &[u8], with: impl FnOnce(&Path) -> bool) -> bool {
    tempfile::NamedTempFile::new().is_ok_and(|mut file| file.write_all(bytes).is_ok() && with(file.path()))
}

fn package(bytes: &[u8]) -> bool {
    let config = format!("lib/modules/{RELEASE}/config");
    let builtin = format!("lib/modules/{RELEASE}/modules.builtin");
    in_a_file(bytes, |path| {
        kernel::find(
            &tree(&[(&builtin, BUILT_IN), (&config, CONFIG)]),
            &[],
            &[path.to_path_buf()],
            None,
            &WANTED,
        )
        .is_ok()
    })
}

fn vmlinuz(bytes: &[u8]) -> bool {
    let builtin = format!("lib/modules/{RELEASE}/modules.builtin");
    let all = [BUILT_IN, b"kernel/drivers/block/loop.ko\n"].concat();
    let given = in_a_file(bytes, |path| {
        kernel::find(&tree(&[(&builtin, &all)]), &[], &[], Some(path), &WANTED).is_ok()
    });
    let inside = format!("lib/modules/{RELEASE}/vmlinuz");
    let _ = kernel::find(&tree(&[(&builtin, &all), (&inside, bytes)]), &[], &[], None, &WANTED);
    given
}

fn bootconfig(bytes: &[u8]) -> bool {
    let read = initrd::read(&bytes.to_vec(), Path::new("fuzz"), &LIMITS, &|_| ()).is_ok();
    // The size and the sum are mended, so that the rest is looked at.
    let mut image = bytes.to_vec();
    let sum: u32 = bytes.iter().fold(0, |sum, &b| sum.wrapping_add(u32::from(b)));
    image.extend((bytes.len() as u32).to_le_bytes());
    image.extend(sum.to_le_bytes());
    image.extend(b"#BOOTCONFIG\n");
    let _ = initrd::read(&image, Path::new("fuzz"), &LIMITS, &|_| ());
    read
}

/// The files that the verdict on an image rests on, their contents parted by 0xff.
fn classify(bytes: &[u8]) -> bool {
    const FILES: [&str; 8] = [
        "init",
        "etc/inittab",
        "etc/os-release",
        "usr/lib/os-release",
        "etc/initrd-release",
        "scripts/functions",
        "sbin/init",
        "lib/modules/6.1.0/modules.dep",
    ];
    let files: Vec<(&str, &[u8])> = FILES.into_iter().zip(bytes.split(|&b| b == 0xff)).collect();
    let initrd = Initrd::of_tree(tree(&files));
    judge(&initrd);
    true
}

const DHCP_CLIENT: dhcp::Client =
    dhcp::Client { transaction: 0x0102_0304, hardware: [0x52, 0x54, 0, 0x12, 0x34, 0x56], seconds: 0 };

/// What the boot initramfs reads from a network, all of it as each of the packets.
fn network(bytes: &[u8]) -> bool {
    let mut understood = DHCP_CLIENT.reply(bytes).is_some_and(|reply| {
        let _ = DHCP_CLIENT.request(&reply);
        true
    });
    let question = dns::question(7, "boot.example").unwrap_or_default();
    understood |= dns::answer(&question, bytes).is_some();
    understood |= tftp::packet(bytes).is_some();
    if let Ok(Some((head, length))) = http::head(bytes) {
        understood = true;
        assert!(length <= bytes.len());
        if let (Some(location), Ok(url)) = (head.location, Url::parse("http://host/directory/file")) {
            let _ = url.join(&location);
        }
    }
    let mut size = 0;
    let mut chunks = http::Chunks::default();
    for piece in bytes.chunks(100) {
        let fed = chunks.feed(piece, &mut |data| {
            size += data.len();
            Ok(())
        });
        if fed.is_err() {
            break;
        }
    }
    assert!(size <= bytes.len());
    let text = String::from_utf8_lossy(bytes);
    let _ = (ip::Setting::parse(&text), ip::boot_link(&text));
    if let Ok(url) = Url::parse(&text) {
        assert_eq!(Url::parse(&url.to_string()), Ok(url));
    }
    understood
}

fn network_seeds() -> Vec<Vec<u8>> {
    let mut offer = DHCP_CLIENT.discover();
    offer[0] = 2;
    offer.truncate(240);
    offer.extend(b"\x35\x01\x02\x36\x04\x0a\0\x02\x02\x34\x01\x03\x79\x08\x18\x0a\0\x02\x0a\0\x02\x02\xff");
    let mut answer = dns::question(7, "boot.example").unwrap_or_default();
    (answer[2], answer[7]) = (0x81, 1);
    answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\x02\x02");
    vec![
        offer,
        answer,
        b"\0\x06blksize\x001024\0tsize\x00123\0".to_vec(),
        b"\0\x05\0\x01gone\0".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: ../x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        b"HTTP/1.1 206 Part\r\nContent-Range: bytes 5-11/12\r\nContent-Length: 7\r\n\r\n".to_vec(),
        b"5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n".to_vec(),
        b"10.0.2.20::10.0.2.2:255.255.255.0:host:eth0:none:10.0.2.3".to_vec(),
        b"http://10.0.2.2:8080/a/b?c#d".to_vec(),
        b"01-52-54-00-12-34-56".to_vec(),
    ]
}

fn small_archive() -> Vec<u8> {
    let write = || -> io::Result<Vec<u8>> {
        let mut newc = NewcWriter::new(Vec::new(), 1_700_000_000);
        newc.directory("etc", 0o755)?;
        newc.file("init", 0o755, b"#!/bin/sh\nmount -t proc proc /proc\nexec /sbin/init\n")?;
        newc.file("etc/os-release", 0o644, b"NAME=fuzz\n")?;
        newc.symlink("etc/link", "../init")?;
        newc.device("null", 0o666, &Node::CharDevice(Device { major: 1, minor: 3 }))?;
        newc.file("etc/text", 0o644, "some text, again and again; ".repeat(40).as_bytes())?;
        newc.finish()
    };
    write().unwrap_or_default()
}

fn early_archive() -> Vec<u8> {
    let write = || -> io::Result<Vec<u8>> {
        let mut newc = NewcWriter::new(Vec::new(), 0);
        for directory in ["kernel", "kernel/x86", "kernel/x86/microcode"] {
            newc.directory(directory, 0o755)?;
        }
        newc.file("kernel/x86/microcode/GenuineIntel.bin", 0o644, &[7; 300])?;
        newc.finish()
    };
    let mut bytes = write().unwrap_or_default();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn packed(bytes: &[u8], encoding: Encoding) -> Vec<u8> {
    btrsquash::codec::compress(bytes, encoding).unwrap_or_default()
}

fn stream_seeds(encoding: Encoding) -> Vec<Vec<u8>> {
    let archive = small_archive();
    let noise: Vec<u8> = (0..3000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vec![
        packed(&archive, encoding),
        [packed(&archive, encoding), vec![0; 8], packed(&archive, encoding)].concat(),
        packed(&[archive, noise].concat(), encoding),
    ]
}

fn segment_seeds() -> Vec<Vec<u8>> {
    let archive = small_archive();
    let mut seeds: Vec<Vec<u8>> = Encoding::ALL.into_iter().map(|e| packed(&archive, e)).collect();
    seeds.push(
        [early_archive(), packed(&archive, Encoding::Zstd), vec![0; 7], packed(&archive, Encoding::Xz)]
            .concat(),
    );
    seeds
}

fn newc_seeds() -> Vec<Vec<u8>> {
    vec![small_archive(), [early_archive(), small_archive()].concat()]
}

fn squashfs_seeds() -> Vec<Vec<u8>> {
    let text = "content that is the same for a while, ".repeat(2000).into_bytes();
    let mut seeds = Vec::new();
    for compression in Compression::ALL {
        let options = squashfs::Options {
            compression,
            block_size: 4096,
            time: 1,
            filters: Archs::NONE,
            stored: false,
            thorough: false,
        };
        let Ok(mut out) = tempfile::tempfile() else { continue };
        let Ok(target) = out.try_clone() else { continue };
        if squashfs::write(&text, "LiveOS/rootfs.img", &[], &options, &Cores::new(1), target, &|_| ()).is_ok()
        {
            let mut bytes = Vec::new();
            let _ = out.rewind().and_then(|()| out.read_to_end(&mut bytes));
            seeds.push(bytes);
        }
    }
    seeds
}

fn btrfs_seeds() -> Vec<Vec<u8>> {
    let text = "content of more than one sector, ".repeat(300).into_bytes();
    let names: Vec<String> = (0..60).map(|n| format!("many/file-with-a-long-name-{n}")).collect();
    let mut files: Vec<(&str, &[u8])> = vec![("a/b/text", &text), ("a/small", b"inline"), ("a/empty", b"")];
    files.extend(names.iter().map(|name| (name.as_str(), name.as_bytes())));
    let mut tree = tree(&files);
    let root = tree.root;
    put(&mut tree, root, "link", Node::Symlink((*b"a/small").into()));
    put(&mut tree, root, "null", Node::CharDevice(Device { major: 1, minor: 3 }));
    if let Some(id) = tree.get("a/small") {
        tree.inode_mut(id).nlink = 2;
        if let Node::Directory(names) = &mut tree.inode_mut(root).node {
            names.insert((*b"hard").into(), id);
        }
    }
    let mut seeds = Vec::new();
    for release in ["2.6.38", "6.1.0"] {
        let options = btrfs::Options { free_space: 0, ..btrfs::Options::new(Features::for_kernel(release)) };
        if let Ok(image) = btrfs::plan(&tree, &options) {
            seeds.push(Pages::of(&image).write());
        }
    }
    seeds
}

fn module_seeds() -> Vec<Vec<u8>> {
    vec![
        BUILT_IN.to_vec(),
        b"CONFIG_RD_XZ=y\n# CONFIG_LOOP is not set\n".to_vec(),
        b"loop.license=GPL\0loop.file=x\0".to_vec(),
    ]
}

/// A program of each class and byte order that needs an interpreter and a library, and has a name as one.
fn program_seeds() -> Vec<Vec<u8>> {
    let seed = |wide: bool, little: bool| {
        let number = |value: u64, len: usize| {
            let mut bytes = value.to_le_bytes()[..len].to_vec();
            if !little {
                bytes.reverse();
            }
            bytes
        };
        let word = if wide { 8 } else { 4 };
        let [header, entry] = if wide { [64, 56] } else { [52, 32] };
        let strings = b"\0libb.so.1\0/lib/ld.so\0";
        let interpreter = header + 3 * entry;
        let dynamic = interpreter + strings.len() as u64;
        let end = dynamic + 8 * word as u64;
        let mut file = b"\x7fELF".to_vec();
        file.extend([1 + u8::from(wide), 2 - u8::from(little), 1]);
        file.resize(16, 0);
        for (value, len) in [
            (3, 2),
            (62, 2),
            (1, 4),
            (0, word),
            (header, word),
            (0, word),
            (0, 4),
            (header, 2),
            (entry, 2),
            (3, 2),
        ] {
            file.extend(number(value, len));
        }
        file.resize(header as usize, 0);
        for (kind, from, len) in [(1, 0, end), (3, interpreter + 11, 11), (2, dynamic, end - dynamic)] {
            let place = [from, from, from, len, len];
            file.extend(number(kind, 4));
            if wide {
                file.extend(number(5, 4));
            }
            place.iter().for_each(|&value| file.extend(number(value, word)));
            if !wide {
                file.extend(number(5, 4));
            }
            file.extend(number(1, word));
        }
        file.extend(strings);
        for value in [5, interpreter, 1, 1, 14, 1, 0, 0] {
            file.extend(number(value, word));
        }
        file
    };
    [(true, true), (true, false), (false, true), (false, false)]
        .map(|(wide, little)| seed(wide, little))
        .into()
}

fn package_seeds() -> Vec<Vec<u8>> {
    vec![b"!<arch>\ndebian-binary   1700000000  0     0     100644  4         `\n2.0\n".to_vec()]
}

fn vmlinuz_seeds() -> Vec<Vec<u8>> {
    let kernel = [
        b"Linux version %s\0Linux version 6.1.0-fuzz (x@y)\0IKCFG_ST".as_slice(),
        &packed(CONFIG, Encoding::Gzip),
        b"IKCFG_ED\0\0\0",
        &[0x1f, 0x8b, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]
    .concat();
    let mut seeds = vec![kernel.clone()];
    for encoding in [Encoding::Gzip, Encoding::Xz, Encoding::Zstd, Encoding::Lz4, Encoding::Bzip2] {
        let payload = packed(&kernel, encoding);
        let mut file = vec![0; 1024];
        file[0x1f1] = 1;
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        file[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        file[0x300..0x30b].copy_from_slice(b"6.1.0-fuzz ");
        file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend(&payload);
        seeds.push(file);
        let mut zboot = b"MZ\0\0zimg".to_vec();
        zboot.extend(64_u32.to_le_bytes());
        zboot.extend((payload.len() as u32).to_le_bytes());
        zboot.resize(64, 0);
        zboot.extend(payload);
        seeds.push(zboot);
    }
    seeds
}

fn bootconfig_seeds() -> Vec<Vec<u8>> {
    let config = b"kernel { console = ttyS0 }\n\0";
    let mut image = small_archive();
    image.extend(config);
    image.extend((config.len() as u32).to_le_bytes());
    image.extend(config.iter().map(|&b| u32::from(b)).sum::<u32>().to_le_bytes());
    image.extend(b"#BOOTCONFIG\n\0");
    vec![image, config.to_vec(), small_archive()]
}

fn classify_seeds() -> Vec<Vec<u8>> {
    let parts: [&[u8]; 4] = [
        b"#!/bin/sh\n. /scripts/functions\nmount -t proc proc /proc\nmount -n -o move /proc ${rootmnt}/proc\nexec run-init ${rootmnt} /sbin/init\n",
        b"::sysinit:/etc/rc\ntty1::respawn:/bin/sh\n",
        b"NAME=\"Debian\"\nPRETTY_NAME='Debian \\\"12\\\"'\nVERSION_ID=12\n",
        b"ID=dracut\nVERSION=\"059\"\n",
    ];
    vec![
        parts.join(&0xff),
        b"#!/sbin/busybox sh\nexec switch_root /newroot /sbin/init".to_vec(),
        b"\x7fELF\x02\x01\x01".to_vec(),
    ]
}
