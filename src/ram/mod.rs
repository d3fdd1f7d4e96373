//! The RAM model: the least memory in which an image boots, and where it goes over the phases of the boot.
//!
//! Three things have to fit, and the largest of them decides. With R the machine's memory, I the image file, U the
//! unpacked files in whole pages, and K what the kernel takes before it hands any memory out:
//!
//! 1. **The cap of rootfs.** rootfs is a tmpfs, mounted before anything else with room for half of the memory that the
//!    kernel had to hand out at that time (mm/shmem.c, `shmem_default_max_blocks`), and the image is not part of that:
//!    it is reserved until it is unpacked. U ≤ (R − K − I) / 2, so **R ≥ 2 U + I + K**. It has half as many inodes as
//!    that memory has pages, too (`shmem_default_max_inodes`): an inode counts as a page where there are more inodes
//!    than pages. With `root=` on the kernel's command line, or a `rootfstype=` that is not tmpfs, rootfs is a ramfs,
//!    which has no cap (init/do_mounts.c, `init_rootfs`).
//! 2. **Everything at once while it is unpacked.** The kernel unpacks beside its drivers' start
//!    (`initramfs_async`), and frees the image only afterwards: **R ≥ U + I + D + N + E + K**, with D what the
//!    decompressor allocates (the whole dictionary: lib/xz/xz_dec_lzma2.c), N for inodes and dentries, and E what
//!    drivers, slabs and watermarks take by then.
//! 3. **The system up to its first screen.** **R ≥ S + W + K**, with S what stays in memory for good — all of U for a
//!    monolith; of a converted image the squashfs, pinned by its loop device after its name is gone, or the image itself
//!    with `retain_initrd` — and W the working set: programs, the part of the page cache without which they only wait
//!    for the decompressor, btrfs, the caches of squashfs, and E.
//!
//! The constants are those of Debian's kernels on amd64, read from their own logs (`Memory: …K reserved` less the image,
//! `Mem-Info` where they ran out): K is 53 MiB on 6.1 and 45 MiB on 6.12, plus 2 MiB for each 128 MiB of the machine
//! (64 bytes of `struct page` for each page, allocated for whole sections of 128 MiB; mm/sparse-vmemmap.c) and 0.26% of
//! it (the hash tables of dentries and inodes). E is 22 MiB on 6.1 and 12 MiB on 6.12. Whatever the kernel, the model
//! takes K of the larger one, since a tmpfs that is too small is a boot that fails, and E between both.

use crate::contract::Handover;
use crate::contract::paths::{CMDLINE_FILE, RETAINED_NAME};
use crate::image::classify::{Classification, Verdict};
use crate::initrd::Initrd;
use crate::report::{Figure, Phase, Ram, RamPart};
use crate::tree::{Node, Tree};

/// The moments of a boot that the model tells about; `boot --measure` gives what it sees the same names.
pub const PHASES: [&str; 5] = ["kernel starts", "unpacked", "image freed", "first program", "first screen"];

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// What the kernel keeps for itself on a machine of any size: its text, data and bss, the first megabyte, page tables.
const KERNEL: u64 = 53 * MIB + MIB / 2;
/// `SECTION_SIZE_BITS` of x86_64 is 27: memory is described in sections of this size …
const SECTION: u64 = 128 * MIB;
/// … each with a `struct page` of 64 bytes for each of its pages.
const SECTION_MAP: u64 = SECTION / PAGE * 64;
/// One byte in so many goes into hash tables that are sized by memory (`alloc_large_system_hash`): 8 bytes for each
/// 8 KiB for dentries, half of that for inodes, and smaller ones.
const HASH_SHARE: u64 = 384;
/// What drivers, slabs, per-CPU areas and the watermarks take until the image is unpacked.
const DRIVERS: u64 = 17 * MIB;
/// A ramfs or tmpfs inode with its dentry, from the slabs of both.
const INODE: u64 = 1024;

/// How rootfs is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootfs {
    /// A tmpfs with half of the memory at most.
    Tmpfs,
    /// A ramfs without a cap, with `root=` on the kernel's command line.
    Ramfs,
}

/// What the model has to know about an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// The image file, bytes.
    pub file: u64,
    /// The unpacked files, each rounded up to whole pages, bytes.
    pub unpacked: u64,
    /// Inodes of rootfs.
    pub inodes: u64,
    /// The largest dictionary or window of a segment, bytes.
    pub dictionary: u64,
    /// What stays in memory when the first program of the system runs, bytes: all that was unpacked, or the squashfs.
    pub pinned: u64,
    /// What the front-end fetches into rootfs beside its own files, and which stays there, bytes.
    pub fetched: u64,
    /// Memory of the programs up to the first screen, bytes.
    pub programs: u64,
    /// Whether the image itself stays in memory too (`retain_initrd`).
    pub retained: bool,
}

/// The working set up to the first screen: 50 MiB for an installer's shell, udev and front-end (44 were too few, on
/// Debian 13), an allowance for systemd with its services.
#[must_use]
pub const fn programs(systemd: bool) -> u64 {
    if systemd { 128 * MIB } else { 50 * MIB }
}

/// How a kernel with these arguments mounts rootfs (init/do_mounts.c, `init_rootfs`).
#[must_use]
pub fn rootfs(arguments: &str) -> Rootfs {
    let last =
        |name: &str| arguments.split_whitespace().filter_map(|word| word.strip_prefix(name)).next_back();
    let root = last("root=").is_some_and(|root| !root.is_empty());
    let other = last("rootfstype=").is_some_and(|kinds| !kinds.contains("tmpfs"));
    if root || other { Rootfs::Ramfs } else { Rootfs::Tmpfs }
}

/// Whether a kernel with these arguments keeps the image in memory.
#[must_use]
pub fn retains(arguments: &str) -> bool {
    arguments.split_whitespace().any(|word| word == "retain_initrd")
}

/// Bytes of the files of `tree` in whole pages, and its inodes.
#[must_use]
pub fn pages(tree: &Tree) -> (u64, u64) {
    let mut seen = vec![false; tree.inodes.len()];
    let (mut bytes, mut inodes) = (0, 0);
    for entry in tree.walk() {
        if std::mem::replace(&mut seen[entry.id.0 as usize], true) {
            continue;
        }
        inodes += 1;
        if let Node::Regular(content) = &tree.inode(entry.id).node {
            // The kernel writes zeros too: holes take pages.
            bytes += content.size.next_multiple_of(PAGE);
        }
    }
    (bytes, inodes)
}

/// The facts about any image, by what it was found to be ([`crate::image::classify::classify`]): what `inspect` and `convert`
/// both report. A front-end whose root lies elsewhere is told about up to its own first program.
#[must_use]
pub fn of(image: &Initrd, class: &Classification) -> Facts {
    match class.verdict {
        Verdict::Monolith => monolith(image, class.handover == Handover::Mounted),
        Verdict::Converted(_) => converted(image),
        Verdict::FrontEnd(_) | Verdict::SystemInside(_) => {
            Facts { pinned: 0, programs: 0, ..monolith(image, false) }
        }
    }
}

/// The facts about a converted image: what the front-end leaves in memory is the squashfs, in rootfs or in the retained
/// image. Where the squashfs stays on a medium nothing of it is counted; where it is fetched or loaded beside the image,
/// the image says its size ([`FETCHED`], [`BESIDE`]).
#[must_use]
pub fn converted(image: &Initrd) -> Facts {
    let tree = &image.tree;
    let size = |path: &str| match tree.get(path).map(|id| &tree.inode(id).node) {
        Some(Node::Regular(content)) => content.size.next_multiple_of(PAGE),
        _ => 0,
    };
    let retained = image.skipped_bodies.iter().any(|(name, _)| name == RETAINED_NAME.as_bytes());
    let fetched = told(tree, FETCHED).next_multiple_of(PAGE);
    let inside = size("squashfs.img");
    // Loaded together, it is in the image after all.
    let beside = if inside == 0 && !retained { told(tree, BESIDE) } else { 0 };
    let squashfs = inside + beside.next_multiple_of(PAGE);
    // Drivers for whatever disk the runtime may lie on are many, and all that the built-in front-end loads stay.
    let drivers = if squashfs == 0 && !retained && fetched == 0 { modules(tree) } else { 0 };
    let alone = monolith(image, hands_over_mounted(tree));
    Facts {
        file: alone.file + beside,
        unpacked: alone.unpacked + beside.next_multiple_of(PAGE),
        inodes: alone.inodes + u64::from(beside > 0),
        pinned: squashfs + fetched + drivers,
        fetched,
        retained,
        ..alone
    }
}

/// The word on a converted image's command line that says how many bytes its front-end fetches. It is for this model
/// alone: dracut and the kernel pass over what they do not know.
pub const FETCHED: &str = "btrsquash.fetched=";

/// The word that says how many bytes the squashfs has that a boot loader loads beside the image, as one more archive.
pub const BESIDE: &str = "btrsquash.beside=";

/// Bytes of the modules that the built-in front-end loads.
fn modules(tree: &Tree) -> u64 {
    let inside = |path: &[u8]| path.starts_with(b".btrsquash/modules/");
    let content =
        tree.walk().filter(|entry| inside(&entry.path)).map(|entry| match &tree.inode(entry.id).node {
            Node::Regular(content) => content.size.next_multiple_of(PAGE),
            _ => 0,
        });
    content.sum()
}

/// The number of bytes that `word` tells on a converted image's own command line.
fn told(tree: &Tree, word: &str) -> u64 {
    let file = tree.get(CMDLINE_FILE).and_then(|id| tree.read(id, 64 << 10).ok().flatten());
    let text = String::from_utf8(file.unwrap_or_default()).unwrap_or_default();
    let bytes = text.split_whitespace().filter_map(|said| said.strip_prefix(word)?.parse().ok()).next_back();
    // No image holds more; a made-up size must not overflow.
    bytes.map_or(0, |bytes: u64| bytes.min(1 << 40))
}

/// Whether the front-end hands over to a systemd: what it was made with tells (`frontend::built_in`,
/// `frontend::dracut`). A ready-made front-end does not say: an installer is taken for granted.
fn hands_over_mounted(tree: &Tree) -> bool {
    let config = tree.get(".btrsquash/config").and_then(|id| tree.read(id, 64 << 10).ok().flatten());
    match config {
        Some(config) => config.split(|&b| b == b'\n').any(|line| line == b"handover=mounted"),
        None => tree.get("usr/lib/btrsquash/own").is_some() && tree.get("usr/lib/btrsquash/bare").is_none(),
    }
}

/// The facts about an image that stays in rootfs: a monolith.
#[must_use]
pub fn monolith(image: &Initrd, systemd: bool) -> Facts {
    let (unpacked, inodes) = pages(&image.tree);
    Facts {
        file: image.size,
        unpacked,
        inodes,
        dictionary: image.segments.iter().map(|s| s.dictionary).max().unwrap_or(0),
        pinned: unpacked,
        fetched: 0,
        programs: programs(systemd),
        retained: false,
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

/// K on a machine with `memory` bytes.
const fn kernel(memory: u64) -> u64 {
    KERNEL + memory.div_ceil(SECTION) * SECTION_MAP + memory / HASH_SHARE
}

impl Facts {
    const fn slabs(&self) -> u64 {
        self.inodes * INODE
    }

    const fn kept(&self) -> u64 {
        if self.retained { self.file } else { 0 }
    }

    /// What has to fit beside the kernel: (under the cap of rootfs, all at once while unpacking, running).
    const fn needs(&self, rootfs: Rootfs) -> (u64, u64, u64) {
        let pages = self.inodes * PAGE;
        let capped = if self.unpacked > pages { self.unpacked } else { pages };
        let cap = match rootfs {
            Rootfs::Tmpfs => 2 * (capped + self.fetched) + self.file,
            Rootfs::Ramfs => 0,
        };
        // The image is gone when the runtime is fetched; the front-end's files are not.
        let beside = self.file + self.dictionary;
        let beside = if self.fetched > beside { self.fetched } else { beside };
        let unpacking = self.unpacked + beside + self.slabs() + DRIVERS;
        (cap, unpacking, self.pinned + self.kept() + self.programs)
    }

    /// The least memory in bytes.
    #[must_use]
    pub fn least(&self, rootfs: Rootfs) -> u64 {
        let (cap, unpacking, running) = self.needs(rootfs);
        let need = cap.max(unpacking).max(running);
        // The kernel's share grows with memory, by less than a fiftieth of it: this ends soon.
        let mut memory = need + kernel(need);
        loop {
            let next = need + kernel(memory);
            if next <= memory {
                return memory;
            }
            memory = next;
        }
    }

    /// The model's answer for the report.
    #[must_use]
    pub fn ram(&self, rootfs: Rootfs) -> Ram {
        let least = self.least(rootfs);
        let kernel = kernel(least);
        let (cap, unpacking, running) = self.needs(rootfs);
        let part = |name: &str, bytes: u64, why: &str| RamPart {
            name: name.into(),
            figure: Figure::computed(bytes),
            why: why.into(),
        };
        let mut parts = vec![
            part("K: kernel", kernel, "its own image, and what describes the machine's memory"),
            part("I: image", self.file, "the file as the boot loader places it, until it is unpacked"),
            part("U: unpacked", self.unpacked, "files of rootfs in whole pages"),
            part("F: fetched", self.fetched, "the runtime, fetched into rootfs beside the front-end's files"),
            part("D: dictionary", self.dictionary, "what the decompressor allocates while it unpacks"),
            part("N: inodes", self.slabs(), "an inode and a dentry each, 1 KiB"),
            part("E: drivers", DRIVERS, "drivers and caches of the kernel by the time the image is unpacked"),
            part("S: pinned", self.pinned, "what stays in memory while the system runs"),
            part("W: working set", self.programs, "programs and caches up to the first screen, E among them"),
        ];
        parts.retain(|p| p.figure.value > 0);
        let used = [
            kernel + self.file,
            kernel + unpacking,
            kernel + self.unpacked + self.slabs() + DRIVERS + self.kept(),
            kernel + self.pinned + self.kept() + DRIVERS,
            kernel + running,
        ];
        let phases = PHASES
            .iter()
            .zip(used)
            .map(|(name, bytes)| Phase {
                name: (*name).into(),
                used: Figure::computed(bytes),
                measured: None,
            })
            .collect();
        let image = if self.retained { " + I" } else { "" };
        let formula = if running >= cap.max(unpacking) {
            format!("S + W{image} + K: running needs more than unpacking")
        } else if cap >= unpacking && self.fetched > 0 {
            "2 (U + F) + I + K: the runtime is fetched into rootfs, a tmpfs whose size was set beside the image".into()
        } else if cap >= unpacking {
            "2 U + I + K: rootfs is a tmpfs of at most half of what is left beside kernel and image".into()
        } else {
            "U + I + D + N + E + K: all of it at once while unpacking".into()
        };
        let mut notes = vec![format!(
            "computed: {} MiB; with root= on the kernel's command line (rootfs without a cap): {} MiB",
            mib(self.least(Rootfs::Tmpfs)),
            mib(self.least(Rootfs::Ramfs))
        )];
        if self.inodes * PAGE > self.unpacked && rootfs == Rootfs::Tmpfs {
            notes.push(
                "a tmpfs holds half as many inodes as there are pages: this image has more inodes than pages"
                    .into(),
            );
        }
        Ram { least: Figure::computed(least), measured: None, parts, phases, formula, notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `boot --find-min` found with steps of 8 MiB, beside what the images are: Debian 12 (kernel 6.1) and 13
    /// (6.12), the gtk and text installers, original and converted with the built-in front-end.
    #[test]
    fn the_model_fits_what_was_measured() {
        let (tmpfs, ramfs) = (Rootfs::Tmpfs, Rootfs::Ramfs);
        let near = |facts: Facts, rootfs, measured: u64| {
            let least = mib(facts.least(rootfs));
            let off = least.abs_diff(measured);
            assert!(off <= 24 || off * 100 <= measured * 8, "{least} computed, {measured} measured");
        };
        let original = |file, unpacked, inodes| Facts {
            file,
            unpacked,
            inodes,
            dictionary: 32 << 10,
            pinned: unpacked,
            fetched: 0,
            programs: programs(false),
            retained: false,
        };
        near(original(73_326_225, 236_224_512, 4409), tmpfs, 592);
        near(original(40_810_276, 141_213_696, 2388), tmpfs, 376);
        near(original(83_055_065, 161_517_568, 4653), tmpfs, 448);
        near(original(40_761_958, 71_561_216, 2508), tmpfs, 232);
        let converted = |file, unpacked, pinned| Facts {
            file,
            unpacked,
            inodes: 29,
            dictionary: 1 << 20,
            pinned,
            fetched: 0,
            programs: programs(false),
            retained: pinned == 0,
        };
        near(converted(52_792_156, 57_933_824, 51_273_728), tmpfs, 224);
        near(converted(52_792_156, 57_933_824, 51_273_728), ramfs, 192);
        near(converted(30_600_028, 35_741_696, 29_081_600), tmpfs, 160);
        near(converted(30_600_028, 35_741_696, 29_081_600), ramfs, 152);
        near(converted(72_950_200, 78_921_728, 71_426_048), tmpfs, 280);
        near(converted(72_950_200, 78_921_728, 71_426_048), ramfs, 208);
        near(converted(72_954_344, 7_499_776, 0), tmpfs, 168);
        near(converted(38_814_136, 44_785_664, 37_289_984), tmpfs, 176);
        // The runtime over HTTP (dracut), and on a disk with the drivers of all kinds of disks.
        let http =
            Facts { inodes: 705, fetched: 51_642_368, ..converted(15_556_152, 49_946_624, 51_642_368) };
        near(http, tmpfs, 272);
        let disk = Facts { inodes: 965, ..converted(4_331_748, 23_379_968, 22_097_920) };
        near(disk, tmpfs, 144);
    }

    #[test]
    fn a_tmpfs_has_half_as_many_inodes_as_pages() {
        let few = Facts { unpacked: 4096, inodes: 1, ..Facts::default() };
        let many = Facts { inodes: 100_000, ..few };
        assert!(many.least(Rootfs::Tmpfs) > 2 * 100_000 * PAGE);
        assert!(many.least(Rootfs::Ramfs) < few.least(Rootfs::Ramfs) + 100_000 * PAGE);
        assert_eq!(many.ram(Rootfs::Tmpfs).notes.len(), 2);
    }

    #[test]
    fn arguments_decide_on_rootfs() {
        for tmpfs in ["", "quiet rootdelay=3", "root=", "rootfstype=ext4,tmpfs", "x=root=1"] {
            assert_eq!(rootfs(tmpfs), Rootfs::Tmpfs, "{tmpfs}");
        }
        for ramfs in ["root=live:/squashfs.img", "a rootfstype=ramfs b", "root=/dev/sda rootfstype=tmpfs"] {
            assert_eq!(rootfs(ramfs), Rootfs::Ramfs, "{ramfs}");
        }
        assert!(retains("a retain_initrd") && !retains("retain_initrd=1"));
    }
}
