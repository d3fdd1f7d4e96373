//! What a kernel takes for itself, by its own sizes.

use crate::codec::Compression;
use crate::kernel::{Decompressors, Facts, ImageSize, Release};

use super::MIB;

/// The part of an x86_64 or riscv64 kernel's memory map that is allocated at once: `SECTION_SIZE_BITS` is 27
/// (arch/x86/include/asm/sparsemem.h, arch/riscv/include/asm/sparsemem.h).
const SECTION: u64 = 128 * MIB;
/// Reserved by any kernel in addition to its own image: page tables, early allocations.
const EARLY: u64 = MIB / 2;
/// What each possible CPU takes in addition to its copy of the per-CPU data: first chunk reserve and the dynamic
/// allocations of a booting system. Measured: Debian 12's installer needs 48 MiB more with 128 possible CPUs.
const PER_CPU: u64 = 168 << 10;
/// The buffers of the software compression that zswap sets up, for each possible CPU (crypto/scompress.c,
/// `crypto_scomp_alloc_scratches`: two of `SCOMP_SCRATCH_SIZE`).
const ZSWAP: u64 = 256 << 10;
/// `CONFIG_CMA_SIZE_MBYTES` of Debian's arm64 kernels: memory that rootfs is not sized by, because it is set aside until
/// the first initcalls (mm/cma.c, `cma_init_reserved_areas`).
const CMA: u64 = 64 * MIB;

/// What drivers, slabs and the watermarks take until the image is unpacked: 22 MiB with Debian 12's kernel 6.1, 12 MiB with
/// Debian 13's 6.12. No kernel in between was measured: those before 6.12 are taken to need the larger.
const DRIVERS: u64 = 22 * MIB;
pub(super) const DRIVERS_FROM_6_12: u64 = 12 * MIB;

/// What the model has to know about a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Whether it is a kernel that was given or found; a typical one otherwise.
    pub known: bool,
    /// Its image in memory: code, data, bss and what it frees later, bytes.
    pub image: u64,
    /// Bytes of a page.
    pub page: u64,
    /// Bytes of `struct page`, one for each page.
    pub page_struct: u64,
    /// Memory is described in sections of so many bytes; 1 page if only what exists is described.
    pub section: u64,
    /// The template of the per-CPU data, bytes.
    pub percpu: u64,
    /// What drivers, slabs and the watermarks take until the image is unpacked, bytes.
    pub drivers: u64,
    /// What late drivers take for each possible CPU, after rootfs is mounted, bytes.
    pub late_percpu: u64,
    /// Memory set aside for contiguous allocations, if it fits, bytes.
    pub cma: u64,
    /// How its squashfs allocates decompressors; for each possible CPU, as in most distributions, if that is unknown.
    pub decompressors: Decompressors,
    /// Whether its configuration says so.
    pub configured: bool,
    /// Whether it knows `initramfs_options=`; `None` if that is unknown.
    pub rootfs_options: Option<bool>,
}

impl Kernel {
    /// A kernel like that of Debian 12 on amd64, larger than most: what is assumed if none is known.
    pub const TYPICAL: Self = Self {
        known: false,
        image: 53 * MIB,
        page: 4096,
        page_struct: 64,
        section: SECTION,
        percpu: 212 << 10,
        drivers: DRIVERS,
        late_percpu: ZSWAP,
        cma: 0,
        decompressors: Decompressors::PerPossibleCpu,
        configured: false,
        rootfs_options: None,
    };

    /// The same with an image of other size.
    #[must_use]
    pub const fn with_image(self, image: u64) -> Self {
        Self { image, ..self }
    }

    /// Sizes of kernel images for which a range is given if no kernel is known: Debian's smallest (i386) and about the
    /// largest that distributions build for amd64.
    pub const RANGE: (u64, u64) = (16 * MIB, 64 * MIB);

    /// Memory that the kernel does not hand out on a machine with `memory` bytes and `cpus` possible CPUs.
    #[must_use]
    pub(super) const fn takes(&self, memory: u64, cpus: u32) -> u64 {
        let sections = memory.div_ceil(self.section) * self.section;
        let map = sections / self.page * self.page_struct;
        let more = cpus.saturating_sub(1) as u64;
        // Hash tables sized by memory (`alloc_large_system_hash`): a pointer for each 8 KiB for dentries, half of that for
        // inodes, and smaller ones.
        let hashes = memory / if self.page_struct == 32 { 768 } else { 384 };
        self.image + EARLY + map + hashes + more * (self.percpu + PER_CPU)
    }

    /// Memory set aside for contiguous allocations, which does not count when rootfs is sized. QEMU puts the initrd in the
    /// middle of memory, and the area has to fit on either side (hw/arm/boot.c).
    #[must_use]
    pub(super) const fn set_aside(&self, memory: u64, file: u64) -> u64 {
        let half = memory / 2;
        if half >= self.image + self.cma || half >= file + self.cma { self.cma } else { 0 }
    }
}

impl From<&Facts> for Kernel {
    fn from(facts: &Facts) -> Self {
        let typical = Self::TYPICAL;
        let (image, percpu) = match facts.image {
            Some(ImageSize::Sections(s)) => {
                (s.text + s.rodata + s.data + s.init + s.percpu + s.bss, s.percpu)
            }
            Some(ImageSize::Whole(size)) => (size, typical.percpu),
            // The room that it needs to unpack itself, which is up to a fifth more.
            Some(ImageSize::AtMost(size)) => (size.min(typical.image), typical.percpu),
            None => (typical.image, typical.percpu),
        };
        // Distributions build zswap in; since 6.3 it sets nothing up before it is enabled.
        let zswap = facts.zswap.unwrap_or_else(|| !Release::new(6, 3, 0).reached_by(&facts.release));
        let architecture = facts.architecture.as_deref().unwrap_or("x86_64");
        let page = facts.page_size.map_or(typical.page, u64::from);
        let (page_struct, section) = match architecture {
            // Flat memory: what exists is described, by 32 bytes a page.
            "i686" | "arm" | "riscv32" => (32, page),
            "aarch64" if page > 16 << 10 => (64, 512 * MIB),
            "ppc64" | "ppc64le" => (64, 16 * MIB),
            "s390x" => (64, 256 * MIB),
            _ => (64, SECTION),
        };
        Self {
            known: facts.image.is_some(),
            image,
            page,
            page_struct,
            section,
            percpu,
            drivers: if Release::new(6, 12, 0).reached_by(&facts.release) {
                DRIVERS_FROM_6_12
            } else {
                DRIVERS
            },
            late_percpu: if zswap { ZSWAP } else { 0 },
            cma: if architecture == "aarch64" { CMA } else { 0 },
            decompressors: facts.decompressors.unwrap_or(typical.decompressors),
            configured: facts.decompressors.is_some(),
            rootfs_options: facts.rootfs_options,
        }
    }
}

/// How a squashfs is packed, as far as its mount needs memory for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// The compression.
    pub compression: Compression,
    /// Bytes of a block, which is xz's dictionary too.
    pub block: u64,
}

impl Packing {
    /// Memory that mounting the squashfs takes for decompressors and the blocks that they work on (fs/squashfs/super.c,
    /// `squashfs_fill_super`; decompressor_*.c and *_wrapper.c there), bytes.
    #[must_use]
    pub fn mounted(&self, how: Decompressors, cpus: u32) -> u64 {
        let block = self.block;
        let stream = match self.compression {
            // xz_dec_init: the dictionary and the decoder's state.
            Compression::Xz => block + (46 << 10),
            // zstd_dstream_workspace_bound: the window, two buffers of a zstd block, tables.
            Compression::Zstd => block + 2 * block.min(128 << 10) + (228 << 10),
            // zlib_inflate_workspacesize: the 32 KiB window, tables.
            Compression::Gzip => 48 << 10,
            // A buffer each for input and output.
            Compression::Lz4 | Compression::Lzo => 2 * block,
        };
        let cpus = u64::from(cpus);
        match how {
            Decompressors::Single | Decompressors::ByMount => stream + block,
            // Blocks for two threads on each CPU; decompressors are added while threads wait for one.
            Decompressors::OnDemand => 2 * stream + 2 * cpus * block,
            Decompressors::PerPossibleCpu => cpus * (stream + block),
        }
    }
}
