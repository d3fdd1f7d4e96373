//! From facts to figures.

use serde::{Deserialize, Serialize};

use super::kernel::Kernel;
use super::{Facts, MIB};

/// A ramfs or tmpfs inode with its dentry, from the slabs of both.
const INODE: u64 = 1024;

/// Possible CPUs that the working set was measured with: a squashfs's decompressors for these are part of it.
const MEASURED_CPUS: u32 = 2;
/// Numbers of possible CPUs for which reports give a minimum.
pub const CPUS: [u32; 4] = [2, 8, 32, 128];
/// Possible CPUs if the user does not say: what many virtual machines and small computers have.
pub const DEFAULT_CPUS: u32 = 8;
/// The most possible CPUs for which an image is compared with another.
const MOST_CPUS: u32 = 256;

/// How rootfs is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootfs {
    /// A tmpfs that holds at most half of the memory.
    Tmpfs,
    /// A tmpfs that holds at most so many percent of the memory (`initramfs_options=size=95%`).
    Sized(u8),
    /// A ramfs without a limit, with `root=` on the kernel's command line.
    Ramfs,
}

/// The machine that boots an image, its memory left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Its kernel.
    pub kernel: Kernel,
    /// Its possible CPUs: those present and those that could be added while it runs.
    pub cpus: u32,
    /// How it mounts rootfs.
    pub rootfs: Rootfs,
}

impl Machine {
    /// A machine with this kernel and number of possible CPUs, booted without further arguments.
    #[must_use]
    pub const fn new(kernel: Kernel, cpus: u32) -> Self {
        Self { kernel, cpus, rootfs: Rootfs::Tmpfs }
    }

    /// The same with another rootfs.
    #[must_use]
    pub const fn with_rootfs(self, rootfs: Rootfs) -> Self {
        Self { rootfs, ..self }
    }

    /// The same with so many possible CPUs.
    #[must_use]
    pub const fn with_cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }
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
    /// F: the runtime, downloaded into memory.
    Fetched,
    /// T: what the image's own init copies, and what is in memory twice while it does.
    Copied,
    /// D: what the decompressor allocates.
    Dictionary,
    /// N: inodes and dentries.
    Inodes,
    /// E: drivers and caches by the time everything is unpacked.
    Drivers,
    /// S: what stays in memory while the system runs.
    Pinned,
    /// C: decompressors of the squashfs for the possible CPUs.
    Decompressors,
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
    /// The image's own init copies the image.
    Copying,
    /// The running system.
    Running,
    /// The running system, with the image retained.
    RunningRetained,
}

/// What the model computes for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The machine.
    pub machine: Machine,
    /// The minimum memory of a machine that boots the image, bytes.
    pub minimum: u64,
    /// The minimum for other numbers of possible CPUs and mounts of rootfs.
    pub table: Vec<Row>,
    /// The least and the largest minimum over the kernels of distributions, if the kernel is not known, bytes.
    pub range: Option<(u64, u64)>,
    /// What takes memory, bytes; terms of 0 bytes are left out.
    pub terms: Vec<(Term, u64)>,
    /// Memory in use in each phase, on the machine with the minimum, bytes.
    pub phases: [(Phase, u64); 5],
    /// Which condition decides.
    pub limit: Limit,
    /// Whether the number of inodes, not the size of the files, fills the tmpfs.
    pub many_inodes: bool,
}

/// The minimum memory for a number of possible CPUs, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Possible CPUs.
    pub cpus: u32,
    /// Without further arguments.
    pub plain: u64,
    /// With `root=`.
    pub root: u64,
    /// With `initramfs_options=size=95%`, unless the kernel is known not to know it.
    pub sized: Option<u64>,
}

/// The percentage with which `initramfs_options=size=` is recommended.
pub const SIZED: u8 = 95;

/// How a kernel with these arguments mounts rootfs (init/do_mounts.c, `init_rootfs`). `options` says whether the kernel
/// knows `initramfs_options=`.
#[must_use]
pub fn rootfs(arguments: &str, options: bool) -> Rootfs {
    let last =
        |name: &str| arguments.split_whitespace().filter_map(|word| word.strip_prefix(name)).next_back();
    let root = last("root=").is_some_and(|root| !root.is_empty());
    let other = last("rootfstype=").is_some_and(|kinds| !kinds.contains("tmpfs"));
    if root || other {
        return Rootfs::Ramfs;
    }
    let size = last("initramfs_options=").filter(|_| options).and_then(|given| {
        let size = given.split(',').filter_map(|option| option.strip_prefix("size=")).next_back()?;
        size.strip_suffix('%')?.parse().ok().filter(|percent| (1..=100).contains(percent))
    });
    size.map_or(Rootfs::Tmpfs, Rootfs::Sized)
}

/// Whether a kernel with these arguments keeps the image in memory.
#[must_use]
pub fn retains(arguments: &str) -> bool {
    arguments.split_whitespace().any(|word| word == "retain_initrd")
}

/// What has to fit in memory, K not counted, bytes.
struct Needs {
    /// Under the limit of rootfs.
    cap: u64,
    /// All at once while unpacking.
    unpacking: u64,
    /// While the image's own init copies the image; 0 if it does not.
    copying: u64,
    /// The running system.
    running: u64,
    /// Decompressors of the squashfs beyond those that the working set includes, part of `running`.
    decompressors: u64,
    /// Drivers and slabs, with what late drivers take for more possible CPUs; part of all but `cap`.
    drivers: u64,
}

impl Facts {
    const fn slabs(&self) -> u64 {
        self.inodes * INODE
    }

    const fn kept(&self) -> u64 {
        if self.retained { self.file } else { 0 }
    }

    fn needs(&self, machine: &Machine) -> Needs {
        let fetched = if self.apart { 0 } else { self.fetched };
        let capped = self.unpacked.max(self.inodes * machine.kernel.page) + fetched;
        let cap = match machine.rootfs {
            Rootfs::Tmpfs => 2 * capped + self.file,
            // Inodes keep their limit of half the pages.
            Rootfs::Sized(percent) => {
                let files = (self.unpacked + fetched) * 100 / u64::from(percent.max(1));
                files.max(2 * self.inodes * machine.kernel.page) + self.file
            }
            Rootfs::Ramfs => 0,
        };
        let decompressors = self.packing.map_or(0, |packing| {
            let how = machine.kernel.decompressors;
            packing.mounted(how, machine.cpus).saturating_sub(packing.mounted(how, MEASURED_CPUS))
        });
        let late = machine.kernel.late_percpu * u64::from(machine.cpus.saturating_sub(MEASURED_CPUS));
        // The image is gone when the runtime is downloaded; the front-end's files are not.
        let with_image = (self.file + self.dictionary).max(self.fetched);
        let drivers = machine.kernel.drivers + late;
        let unpacking = self.unpacked + with_image + self.slabs() + drivers;
        let running = self.pinned + self.kept() + self.programs + drivers + decompressors;
        let copying =
            if self.copied > 0 { self.unpacked + self.copied + 2 * self.slabs() + drivers } else { 0 };
        Needs { cap, unpacking, copying, running, decompressors, drivers }
    }

    /// The minimum memory in bytes.
    #[must_use]
    pub fn minimum(&self, machine: &Machine) -> u64 {
        let needs = self.needs(machine);
        let (kernel, cpus) = (&machine.kernel, machine.cpus);
        let fits = |memory: u64| {
            let left = memory.saturating_sub(kernel.takes(memory, cpus));
            let set_aside = kernel.set_aside(memory, self.file);
            left >= needs.cap + if needs.cap > 0 { set_aside } else { 0 }
                && left >= needs.unpacking.max(needs.copying).max(needs.running)
        };
        // In whole MiB, as machines have it. The kernel's share grows with memory, by less than a tenth of it.
        let mut memory = needs.cap.max(needs.unpacking).max(needs.copying).max(needs.running) / MIB * MIB;
        while !fits(memory) && memory < 1 << 50 {
            let short = kernel.takes(memory, cpus) / 16;
            memory += if fits(memory + short) { MIB } else { short.max(MIB) / MIB * MIB };
        }
        memory
    }

    /// The least number of possible CPUs, up to 256, from which on this image needs more memory than `other`.
    #[must_use]
    pub fn worse_from(&self, other: &Self, machine: &Machine) -> Option<u32> {
        let worse = |cpus: u32| {
            let machine = machine.with_cpus(cpus);
            self.minimum(&machine) > other.minimum(&machine)
        };
        (1..=MOST_CPUS).rev().take_while(|&cpus| worse(cpus)).last()
    }

    fn row(&self, machine: &Machine, cpus: u32) -> Row {
        let with = |rootfs| self.minimum(&machine.with_cpus(cpus).with_rootfs(rootfs));
        Row {
            cpus,
            plain: with(Rootfs::Tmpfs),
            root: with(Rootfs::Ramfs),
            sized: (machine.kernel.rootfs_options != Some(false)).then(|| with(Rootfs::Sized(SIZED))),
        }
    }

    /// Everything that the model computes.
    #[must_use]
    pub fn estimate(&self, machine: &Machine) -> Estimate {
        let minimum = self.minimum(machine);
        let kernel = machine.kernel.takes(minimum, machine.cpus);
        let Needs { cap, unpacking, copying, running, decompressors, drivers } = self.needs(machine);
        let mut terms = vec![
            (Term::Kernel, kernel),
            (Term::Image, self.file),
            (Term::Unpacked, self.unpacked),
            (Term::Fetched, self.fetched),
            (Term::Copied, self.copied),
            (Term::Dictionary, self.dictionary),
            (Term::Inodes, self.slabs()),
            (Term::Drivers, drivers),
            (Term::Pinned, self.pinned),
            (Term::Decompressors, decompressors),
            (Term::WorkingSet, if self.programs > 0 { self.programs + machine.kernel.drivers } else { 0 }),
        ];
        terms.retain(|(_, bytes)| *bytes > 0);
        let phases = [
            (Phase::KernelStarts, kernel + self.file),
            (Phase::Unpacked, kernel + unpacking),
            (Phase::ImageFreed, kernel + self.unpacked + self.slabs() + drivers + self.kept()),
            (Phase::Init, kernel + (self.pinned + self.kept() + drivers).max(copying)),
            (Phase::FirstScreen, kernel + running),
        ];
        let limit = if copying > cap.max(unpacking).max(running) {
            Limit::Copying
        } else if running >= cap.max(unpacking) {
            if self.retained { Limit::RunningRetained } else { Limit::Running }
        } else if cap >= unpacking {
            if self.fetched > 0 && !self.apart { Limit::HalfOfMemoryFetched } else { Limit::HalfOfMemory }
        } else {
            Limit::Unpacking
        };
        let mut cpus = CPUS.to_vec();
        cpus.push(machine.cpus);
        cpus.sort_unstable();
        cpus.dedup();
        let range = (!machine.kernel.known).then(|| {
            let with = |image| {
                let kernel = machine.kernel.with_image(image);
                self.minimum(&Machine { kernel, ..*machine })
            };
            (with(Kernel::RANGE.0), with(Kernel::RANGE.1))
        });
        Estimate {
            machine: *machine,
            minimum,
            table: cpus.into_iter().map(|cpus| self.row(machine, cpus)).collect(),
            range,
            terms,
            phases,
            limit,
            many_inodes: self.inodes * machine.kernel.page > self.unpacked && machine.rootfs != Rootfs::Ramfs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Compression;
    use crate::contract::{Handover, RuntimeFormat};
    use crate::kernel::Decompressors;
    use crate::ram::Packing;
    use crate::ram::facts::programs;
    use crate::ram::kernel::DRIVERS_FROM_6_12;

    /// What `boot --find-min` found with steps of 8 MiB, beside what the images are: Debian 12 (kernel 6.1) and 13
    /// (6.12), the gtk and text installers, original and converted with the built-in front-end.
    #[test]
    fn the_model_fits_what_was_measured() {
        let (tmpfs, ramfs) = (Rootfs::Tmpfs, Rootfs::Ramfs);
        let near_on = |kernel, facts: Facts, rootfs, measured: u64| {
            let machine = Machine::new(kernel, 1).with_rootfs(rootfs);
            let computed = facts.minimum(&machine).div_ceil(MIB);
            let off = computed.abs_diff(measured);
            assert!(off <= 12 || off * 100 <= measured * 5, "{computed} computed, {measured} measured");
        };
        let near = |facts, rootfs, measured| near_on(Kernel::TYPICAL, facts, rootfs, measured);
        let on_13 = |facts, rootfs, measured| {
            near_on(Kernel { drivers: DRIVERS_FROM_6_12, ..Kernel::TYPICAL }, facts, rootfs, measured);
        };
        let original = |file, unpacked, inodes| Facts {
            file,
            unpacked,
            inodes,
            dictionary: 32 << 10,
            pinned: unpacked,
            fetched: 0,
            apart: false,
            copied: 0,
            programs: programs(Handover::Bare, RuntimeFormat::Btrfs),
            retained: false,
            packing: None,
        };
        near(original(73_326_225, 236_224_512, 4409), tmpfs, 592);
        near(original(40_810_276, 141_213_696, 2388), tmpfs, 376);
        on_13(original(83_055_065, 161_517_568, 4653), tmpfs, 448);
        on_13(original(40_761_958, 71_561_216, 2508), tmpfs, 232);
        let converted = |file, unpacked, pinned| Facts {
            file,
            unpacked,
            inodes: 29,
            dictionary: 1 << 20,
            pinned,
            fetched: 0,
            apart: false,
            copied: 0,
            programs: programs(Handover::Bare, RuntimeFormat::Btrfs),
            retained: pinned == 0,
            packing: Some(XZ),
        };
        near(converted(52_792_156, 57_933_824, 51_273_728), tmpfs, 224);
        near(converted(52_792_156, 57_933_824, 51_273_728), ramfs, 192);
        near(converted(30_600_028, 35_741_696, 29_081_600), tmpfs, 160);
        near(converted(30_600_028, 35_741_696, 29_081_600), ramfs, 152);
        on_13(converted(72_950_200, 78_921_728, 71_426_048), tmpfs, 280);
        on_13(converted(72_950_200, 78_921_728, 71_426_048), ramfs, 208);
        on_13(converted(72_954_344, 7_499_776, 0), tmpfs, 168);
        // --optimize ram --expand-modules: the squashfs holds the files themselves.
        let flat = Facts {
            programs: programs(Handover::Bare, RuntimeFormat::Squashfs),
            inodes: 895,
            ..converted(66_500_000, 2_306_867, 0)
        };
        on_13(flat, tmpfs, 148);
        on_13(converted(38_814_136, 44_785_664, 37_289_984), tmpfs, 176);
        // The runtime over HTTP (dracut), and on a disk with the drivers of all kinds of disks.
        let http =
            Facts { inodes: 705, fetched: 51_642_368, ..converted(15_556_152, 49_946_624, 51_642_368) };
        near(http, tmpfs, 272);
        // By the built-in boot initramfs, with the drivers of all network cards.
        let net = Facts {
            inodes: 956,
            fetched: 54_444_032,
            apart: true,
            ..converted(4_331_896, 21_073_920, 74_035_200)
        };
        near(net, tmpfs, 184);
        let disk = Facts { inodes: 956, ..converted(3_537_400, 18_454_938, 16_986_931) };
        near(disk, tmpfs, 128);
        let flat = Facts { programs: programs(Handover::Bare, RuntimeFormat::Squashfs), ..disk };
        near(flat, tmpfs, 120);
    }

    const XZ: Packing = Packing { compression: Compression::Xz, block: 1 << 20 };

    /// Measured by hand on kernels without images of theirs: the sizes of decompressors for possible CPUs, in MiB.
    #[test]
    fn decompressors_take_what_was_measured() {
        let mounted = |compression, block, cpus| {
            Packing { compression, block }.mounted(Decompressors::PerPossibleCpu, cpus) as f64 / MIB as f64
        };
        for (compression, block, cpus, measured) in [
            (Compression::Xz, 1 << 20, 64, 126.0),
            (Compression::Xz, 1 << 20, 240, 493.0),
            (Compression::Zstd, 1 << 20, 64, 158.0),
            (Compression::Zstd, 1 << 20, 240, 593.0),
            (Compression::Xz, 256 << 10, 64, 35.0),
            (Compression::Xz, 128 << 10, 64, 18.0),
            (Compression::Xz, 128 << 10, 240, 70.0),
        ] {
            let computed: f64 = mounted(compression, block, cpus);
            assert!((computed / measured - 1.0).abs() < 0.05, "{compression} {block} {cpus}: {computed}");
        }
        let one = XZ.mounted(Decompressors::Single, 240);
        assert_eq!(one, XZ.mounted(Decompressors::ByMount, 8));
        assert!(XZ.mounted(Decompressors::OnDemand, 8) < XZ.mounted(Decompressors::PerPossibleCpu, 16));
    }

    /// The text installers of Debian 12 for i386 and arm64, measured with `boot --find-min`. Sizes of kernel images are
    /// those of their sections or headers.
    #[test]
    fn other_architectures_have_other_kernels() {
        let i386 = Kernel { image: 16 * MIB, page_struct: 32, section: 4096, ..Kernel::TYPICAL };
        let arm64 = Kernel { image: 32 * MIB, cma: 64 * MIB, ..Kernel::TYPICAL };
        // What is left of a minimum computed with a kernel of 53.5 MiB and its memory map.
        let need = |mib: u64| Facts { unpacked: (mib - 40) / 2 * MIB, file: 40 * MIB, ..Facts::default() };
        let minimum = |facts: Facts, kernel| facts.minimum(&Machine::new(kernel, 1)).div_ceil(MIB);
        assert!(minimum(need(188), i386).abs_diff(208) <= 8);
        assert!(minimum(need(291), arm64).abs_diff(400) <= 8, "{}", minimum(need(291), arm64));
        assert!(minimum(need(93), arm64).abs_diff(128) <= 8, "{}", minimum(need(93), arm64));
    }

    #[test]
    fn many_possible_cpus_can_turn_a_gain_into_a_loss() {
        let old = Facts { file: 73_326_225, unpacked: 236_224_512, pinned: 236_224_512, ..Facts::default() };
        let new = Facts {
            file: 53_000_000,
            unpacked: 58_000_000,
            pinned: 51_000_000,
            programs: programs(Handover::Bare, RuntimeFormat::Btrfs),
            packing: Some(XZ),
            ..Facts::default()
        };
        let machine = Machine::new(Kernel::TYPICAL, 2);
        let from = new.worse_from(&old, &machine).unwrap();
        let at = |cpus| {
            let machine = machine.with_cpus(cpus);
            new.minimum(&machine) > old.minimum(&machine)
        };
        assert!(at(from) && !at(from - 1), "{from}");
        let small = Facts { packing: Some(Packing { block: 128 << 10, ..XZ }), ..new };
        assert_eq!(small.worse_from(&old, &machine), None);
        let rows = new.estimate(&machine).table;
        assert_eq!(rows.iter().map(|row| row.cpus).collect::<Vec<_>>(), [2, 8, 32, 128]);
        assert!(rows.iter().all(|row| row.root <= row.sized.unwrap() && row.sized.unwrap() <= row.plain));
    }

    /// Debian 12's installer, converted with `--cpus 128`, on a machine with 2 of 128 possible CPUs: 320 MiB, 312 failed.
    #[test]
    fn zswap_takes_memory_for_each_possible_cpu() {
        let facts = Facts {
            file: 57_286_908,
            unpacked: 58_400_000,
            inodes: 886,
            dictionary: 1 << 20,
            pinned: 56_717_312,
            programs: programs(Handover::Bare, RuntimeFormat::Btrfs),
            packing: Some(Packing { block: 256 << 10, ..XZ }),
            ..Facts::default()
        };
        let machine = Machine::new(Kernel::TYPICAL, 128);
        let computed = facts.minimum(&machine).div_ceil(MIB);
        assert!(computed.abs_diff(320) <= 12, "{computed}");
        let without = Machine { kernel: Kernel { late_percpu: 0, ..Kernel::TYPICAL }, ..machine };
        assert!(facts.minimum(&without).div_ceil(MIB) < 290);
    }

    #[test]
    fn a_tmpfs_has_half_as_many_inodes_as_pages() {
        let few = Facts { unpacked: 4096, inodes: 1, ..Facts::default() };
        let many = Facts { inodes: 100_000, ..few };
        let tmpfs = Machine::new(Kernel::TYPICAL, 2);
        let ramfs = tmpfs.with_rootfs(Rootfs::Ramfs);
        assert!(many.minimum(&tmpfs) > 2 * 100_000 * 4096);
        assert!(many.minimum(&ramfs) < few.minimum(&ramfs) + 100_000 * 4096);
        assert!(many.estimate(&tmpfs).many_inodes && !many.estimate(&ramfs).many_inodes);
    }

    #[test]
    fn arguments_decide_on_rootfs() {
        for tmpfs in ["", "quiet rootdelay=3", "root=", "rootfstype=ext4,tmpfs", "x=root=1"] {
            assert_eq!(rootfs(tmpfs, true), Rootfs::Tmpfs, "{tmpfs}");
        }
        for ramfs in ["root=live:/squashfs.img", "a rootfstype=ramfs b", "root=/dev/sda rootfstype=tmpfs"] {
            assert_eq!(rootfs(ramfs, true), Rootfs::Ramfs, "{ramfs}");
        }
        let sized = "quiet initramfs_options=nr_inodes=9,size=95%";
        assert_eq!((rootfs(sized, true), rootfs(sized, false)), (Rootfs::Sized(95), Rootfs::Tmpfs));
        for tmpfs in ["initramfs_options=size=1G", "initramfs_options=size=0%"] {
            assert_eq!(rootfs(tmpfs, true), Rootfs::Tmpfs, "{tmpfs}");
        }
        assert!(retains("a retain_initrd") && !retains("retain_initrd=1"));
    }
}
