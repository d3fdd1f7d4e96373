//! The RAM model: the least memory in which an image boots, and where it goes over the phases of the boot.
//!
//! While the kernel unpacks, the image as the boot loader placed it (I) and the unpacked files (U) are both in memory,
//! beside the kernel itself (K). rootfs is a tmpfs that holds at most half of the memory that is free to use at that
//! time, and the image is not (mm/shmem.c, `shmem_default_max_blocks`; the initrd is reserved until it is unpacked):
//! U ≤ (R − K − I) / 2, so R ≥ 2 U + I + K. With `root=` on the kernel's command line rootfs is a ramfs without a cap
//! (init/do_mounts.c, `init_rootfs`): R ≥ U + I + D + K, and D, what the decompressor allocates. Afterwards the image is
//! free again, and what the runtime pins stays: R ≥ S + W + K, with W for the programs up to the first screen.

use crate::assemble::RETAINED_NAME;
use crate::classify::{Classification, Verdict};
use crate::frontend::Handover;
use crate::initrd::Initrd;
use crate::report::{Figure, Phase, Ram, RamPart};
use crate::tree::{Node, Tree};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// The kernel's own share that does not grow with memory: text, data, per-CPU areas, slabs up to the first program.
const KERNEL_FIXED: u64 = 54 * MIB;
/// What grows with memory, per mille: `struct page` (64 bytes for 4096) and hash tables.
const KERNEL_PER_MILLE: u64 = 16;
/// A tmpfs inode with its dentry, from the slabs of both.
const INODE: u64 = 1024;
/// Free memory that the kernel keeps back (watermarks), and what is not handed out for fragmentation.
const RESERVE: u64 = 14 * MIB;

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
    /// Memory of the programs up to the first screen, bytes.
    pub programs: u64,
    /// Whether the image itself stays in memory too (`retain_initrd`).
    pub retained: bool,
}

/// Memory up to the first screen: an installer's shell and front-end, or systemd with its services.
#[must_use]
pub const fn programs(systemd: bool) -> u64 {
    if systemd { 128 * MIB } else { 56 * MIB }
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

/// The facts about any image, by what it was found to be ([`crate::classify::classify`]): what `inspect` and `convert`
/// both report. A front-end whose root lies elsewhere is told about up to its own first program.
#[must_use]
pub fn of(image: &Initrd, class: &Classification) -> Facts {
    match class.verdict {
        Verdict::Monolith => monolith(image, class.handover == Handover::Mounted),
        Verdict::Converted(_) => converted(image),
        Verdict::FrontEnd(_) => Facts { pinned: 0, programs: 0, ..monolith(image, false) },
    }
}

/// The facts about a converted image: what the front-end leaves in memory is the squashfs, in rootfs or in the retained
/// image. Where the squashfs is elsewhere nothing of it is counted: a caller that knows that it is fetched into memory
/// adds its size to [`Facts::pinned`].
#[must_use]
pub fn converted(image: &Initrd) -> Facts {
    let tree = &image.tree;
    let size = |path: &str| match tree.get(path).map(|id| &tree.inode(id).node) {
        Some(Node::Regular(content)) => content.size.next_multiple_of(PAGE),
        _ => 0,
    };
    let retained = image.skipped_bodies.iter().any(|(name, _)| name == RETAINED_NAME.as_bytes());
    Facts { pinned: size("squashfs.img"), retained, ..monolith(image, hands_over_mounted(tree)) }
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
        programs: programs(systemd),
        retained: false,
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

impl Facts {
    /// The least memory of each phase, without the kernel's share: (unpacking, running).
    const fn needs(&self, rootfs: Rootfs) -> (u64, u64) {
        let slabs = self.inodes * INODE;
        let cap = match rootfs {
            Rootfs::Tmpfs => 2 * self.unpacked + self.file,
            Rootfs::Ramfs => 0,
        };
        let room = self.unpacked + self.file + self.dictionary + slabs + RESERVE;
        let unpacking = if cap > room { cap } else { room };
        let kept = if self.retained { self.file } else { 0 };
        (unpacking, self.pinned + kept + self.programs)
    }

    /// The least memory in bytes.
    #[must_use]
    pub const fn least(&self, rootfs: Rootfs) -> u64 {
        let (unpacking, running) = self.needs(rootfs);
        let most = if unpacking > running { unpacking } else { running };
        // R = need + fixed + R × share.
        (most + KERNEL_FIXED) * 1000 / (1000 - KERNEL_PER_MILLE)
    }

    /// The model's answer for the report.
    #[must_use]
    pub fn ram(&self, rootfs: Rootfs) -> Ram {
        let least = self.least(rootfs);
        let kernel = KERNEL_FIXED + least * KERNEL_PER_MILLE / 1000;
        let (unpacking, running) = self.needs(rootfs);
        let part = |name: &str, bytes: u64, why: &str| RamPart {
            name: name.into(),
            figure: Figure::computed(bytes),
            why: why.into(),
        };
        let mut parts = vec![
            part("K: kernel", kernel, "54 MiB and 1.6% of the memory"),
            part("I: image", self.file, "the file as the boot loader places it, until it is unpacked"),
            part("U: unpacked", self.unpacked, "files of rootfs in whole pages"),
            part("D: dictionary", self.dictionary, "what the decompressor allocates while it unpacks"),
            part("N: inodes", self.inodes * INODE, "an inode and a dentry each, 1 KiB"),
            part("S: pinned", self.pinned, "what stays in memory while the system runs"),
            part("W: programs", self.programs, "an allowance for programs up to the first screen"),
        ];
        parts.retain(|p| p.figure.value > 0);
        let phase = |name: &str, bytes: u64| Phase {
            name: name.into(),
            used: Figure::computed(bytes),
            measured: None,
        };
        let kept = if self.retained { self.file } else { 0 };
        let phases = vec![
            phase("kernel starts", kernel + self.file),
            phase("unpacked", kernel + self.file + self.unpacked + self.dictionary + self.inodes * INODE),
            phase("image freed", kernel + self.unpacked + self.inodes * INODE + kept),
            phase("first program", kernel + self.pinned + kept),
            phase("first screen", kernel + self.pinned + kept + self.programs),
        ];
        let formula = match (rootfs, unpacking >= running) {
            (_, false) => {
                let image = if self.retained { " + I" } else { "" };
                format!("S + W{image} + K: running needs more than unpacking")
            }
            (Rootfs::Tmpfs, true) if 2 * self.unpacked + self.file >= unpacking => {
                "2 U + I + K: rootfs is a tmpfs of at most half of what is left beside the image".into()
            }
            _ => "U + I + D + N + 14 MiB + K: all of it at once while unpacking".into(),
        };
        let mut notes = vec![format!(
            "computed: {} MiB; with root= on the kernel's command line (rootfs without a cap): {} MiB",
            mib(self.least(Rootfs::Tmpfs)),
            mib(self.least(Rootfs::Ramfs))
        )];
        if self.inodes > least / PAGE / 2 {
            notes.push("a tmpfs holds half as many inodes as there are pages: this image has more".into());
        }
        Ram { least: Figure::computed(least), measured: None, parts, phases, formula, notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured on Debian 12's gtk installer: 592 MiB, converted by hand 224, with root= 192.
    #[test]
    fn the_model_fits_what_was_measured() {
        let near = |facts: Facts, rootfs, measured: u64| {
            let least = mib(facts.least(rootfs));
            let off = least.abs_diff(measured);
            assert!(off <= 24 || off * 100 <= measured * 8, "{least} computed, {measured} measured");
        };
        let original = Facts {
            file: 73_326_225,
            unpacked: 238 * 1_000_000,
            inodes: 4400,
            dictionary: 32 << 10,
            pinned: 238 * 1_000_000,
            programs: programs(false),
            retained: false,
        };
        near(original, Rootfs::Tmpfs, 592);
        let converted = Facts {
            file: 54_300_000,
            unpacked: 59_500_000,
            inodes: 30,
            dictionary: 1 << 20,
            pinned: 52_400_000,
            programs: programs(false),
            retained: false,
        };
        near(converted, Rootfs::Tmpfs, 224);
        near(converted, Rootfs::Ramfs, 192);
    }
}
