//! From facts to figures.

use serde::{Deserialize, Serialize};

use super::{Facts, MIB, PAGE};

/// What the kernel keeps for itself on a machine of any size: its text, data and bss, the first megabyte, page tables.
const KERNEL: u64 = 53 * MIB + MIB / 2;
/// `SECTION_SIZE_BITS` of x86_64 is 27: memory is described in sections of this size …
const SECTION: u64 = 128 * MIB;
/// … each with a `struct page` of 64 bytes for each of its pages.
const SECTION_MAP: u64 = SECTION / PAGE * 64;
/// One byte in this many goes into hash tables that are sized by memory (`alloc_large_system_hash`): 8 bytes for each
/// 8 KiB for dentries, half of that for inodes, and smaller ones.
const HASH_SHARE: u64 = 384;
/// What drivers, slabs, per-CPU areas and the watermarks take until the image is unpacked.
const DRIVERS: u64 = 17 * MIB;
/// A ramfs or tmpfs inode with its dentry, from the slabs of both.
const INODE: u64 = 1024;

/// How rootfs is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootfs {
    /// A tmpfs that holds at most half of the memory.
    Tmpfs,
    /// A ramfs without a limit, with `root=` on the kernel's command line.
    Ramfs,
}

/// The phases of a boot, in the order of time. [`crate::vm::measure`] sees the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The kernel hands out memory; the image is where the boot loader placed it.
    #[serde(alias = "kernel starts")]
    KernelStarts,
    /// Everything is unpacked, and the image is not yet freed.
    Unpacked,
    /// The image is freed.
    #[serde(alias = "image freed")]
    ImageFreed,
    /// The system's own init starts.
    #[serde(alias = "first program")]
    Init,
    /// The first screen shows.
    #[serde(alias = "first screen")]
    FirstScreen,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::KernelStarts, Self::Unpacked, Self::ImageFreed, Self::Init, Self::FirstScreen];
}

/// A term of the model: what takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Term {
    /// K: the kernel itself, and what describes the machine's memory.
    Kernel,
    /// I: the image file.
    Image,
    /// U: the files of rootfs.
    Unpacked,
    /// F: the runtime, downloaded into rootfs.
    Fetched,
    /// D: what the decompressor allocates.
    Dictionary,
    /// N: inodes and dentries.
    Inodes,
    /// E: drivers and caches by the time everything is unpacked.
    Drivers,
    /// S: what stays in memory while the system runs.
    Pinned,
    /// W: programs and caches up to the first screen.
    WorkingSet,
}

/// Which condition decides on the minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// rootfs is a tmpfs of half the memory.
    HalfOfMemory,
    /// The same, with a runtime that is downloaded into it.
    HalfOfMemoryFetched,
    /// Everything is in memory at once while the image is unpacked.
    Unpacking,
    /// The running system.
    Running,
    /// The running system, with the image retained.
    RunningRetained,
}

/// What the model computes for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The minimum memory of a machine that boots the image, bytes.
    pub minimum: u64,
    /// The minimum with rootfs as tmpfs and as ramfs, bytes.
    pub by_rootfs: (u64, u64),
    /// What takes memory, bytes; terms of 0 bytes are left out.
    pub terms: Vec<(Term, u64)>,
    /// Memory in use in each phase, on the machine with the minimum, bytes.
    pub phases: [(Phase, u64); 5],
    /// Which condition decides.
    pub limit: Limit,
    /// Whether the number of inodes, not the size of the files, fills the tmpfs.
    pub many_inodes: bool,
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

/// K on a machine with `memory` bytes.
const fn kernel(memory: u64) -> u64 {
    KERNEL + memory.div_ceil(SECTION) * SECTION_MAP + memory / HASH_SHARE
}

/// What has to fit in memory, K not counted, bytes.
struct Needs {
    /// Under the limit of rootfs.
    cap: u64,
    /// All at once while unpacking.
    unpacking: u64,
    /// The running system.
    running: u64,
}

impl Facts {
    const fn slabs(&self) -> u64 {
        self.inodes * INODE
    }

    const fn kept(&self) -> u64 {
        if self.retained { self.file } else { 0 }
    }

    fn needs(&self, rootfs: Rootfs) -> Needs {
        let capped = self.unpacked.max(self.inodes * PAGE);
        let cap = match rootfs {
            Rootfs::Tmpfs => 2 * (capped + self.fetched) + self.file,
            Rootfs::Ramfs => 0,
        };
        // The image is gone when the runtime is downloaded; the front-end's files are not.
        let with_image = (self.file + self.dictionary).max(self.fetched);
        let unpacking = self.unpacked + with_image + self.slabs() + DRIVERS;
        Needs { cap, unpacking, running: self.pinned + self.kept() + self.programs }
    }

    /// The minimum memory in bytes.
    #[must_use]
    pub fn minimum(&self, rootfs: Rootfs) -> u64 {
        let Needs { cap, unpacking, running } = self.needs(rootfs);
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

    /// Everything that the model computes.
    #[must_use]
    pub fn estimate(&self, rootfs: Rootfs) -> Estimate {
        let minimum = self.minimum(rootfs);
        let kernel = kernel(minimum);
        let Needs { cap, unpacking, running } = self.needs(rootfs);
        let mut terms = vec![
            (Term::Kernel, kernel),
            (Term::Image, self.file),
            (Term::Unpacked, self.unpacked),
            (Term::Fetched, self.fetched),
            (Term::Dictionary, self.dictionary),
            (Term::Inodes, self.slabs()),
            (Term::Drivers, DRIVERS),
            (Term::Pinned, self.pinned),
            (Term::WorkingSet, self.programs),
        ];
        terms.retain(|(_, bytes)| *bytes > 0);
        let phases = [
            (Phase::KernelStarts, kernel + self.file),
            (Phase::Unpacked, kernel + unpacking),
            (Phase::ImageFreed, kernel + self.unpacked + self.slabs() + DRIVERS + self.kept()),
            (Phase::Init, kernel + self.pinned + self.kept() + DRIVERS),
            (Phase::FirstScreen, kernel + running),
        ];
        let limit = if running >= cap.max(unpacking) {
            if self.retained { Limit::RunningRetained } else { Limit::Running }
        } else if cap >= unpacking {
            if self.fetched > 0 { Limit::HalfOfMemoryFetched } else { Limit::HalfOfMemory }
        } else {
            Limit::Unpacking
        };
        Estimate {
            minimum,
            by_rootfs: (self.minimum(Rootfs::Tmpfs), self.minimum(Rootfs::Ramfs)),
            terms,
            phases,
            limit,
            many_inodes: self.inodes * PAGE > self.unpacked && rootfs == Rootfs::Tmpfs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::facts::programs;

    /// What `boot --find-min` found with steps of 8 MiB, beside what the images are: Debian 12 (kernel 6.1) and 13
    /// (6.12), the gtk and text installers, original and converted with the built-in front-end.
    #[test]
    fn the_model_fits_what_was_measured() {
        let (tmpfs, ramfs) = (Rootfs::Tmpfs, Rootfs::Ramfs);
        let near = |facts: Facts, rootfs, measured: u64| {
            let computed = facts.minimum(rootfs).div_ceil(MIB);
            let off = computed.abs_diff(measured);
            assert!(off <= 24 || off * 100 <= measured * 8, "{computed} computed, {measured} measured");
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
        assert!(many.minimum(Rootfs::Tmpfs) > 2 * 100_000 * PAGE);
        assert!(many.minimum(Rootfs::Ramfs) < few.minimum(Rootfs::Ramfs) + 100_000 * PAGE);
        assert!(many.estimate(Rootfs::Tmpfs).many_inodes && !many.estimate(Rootfs::Ramfs).many_inodes);
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
