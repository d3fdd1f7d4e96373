//! The RAM model: the minimum memory in which an image boots, and what uses it in each phase of the boot.
//!
//! Three conditions have to hold, and the strictest decides. With R the machine's memory, I the image file, U the
//! unpacked files in whole pages, and K what the kernel takes before it hands out any memory:
//!
//! 1. **The cap of rootfs.** rootfs is a tmpfs, mounted before anything else with room for half of the memory that the
//!    kernel had to hand out at that time (mm/shmem.c, `shmem_default_max_blocks`), and the image is not part of that:
//!    it is reserved until it is unpacked. U ≤ (R − K − I) / 2, so **R ≥ 2 U + I + K**. It has half as many inodes as
//!    that memory has pages, too (`shmem_default_max_inodes`): an inode counts as a page where there are more inodes
//!    than pages. With `root=` on the kernel's command line, or a `rootfstype=` that is not tmpfs, rootfs is a ramfs,
//!    which has no cap (init/do_mounts.c, `init_rootfs`). `initramfs_options=size=95%` raises it to 95% in kernels that
//!    know it.
//! 2. **Everything at once while it is unpacked.** The kernel unpacks beside its drivers' start
//!    (`initramfs_async`), and frees the image only afterwards: **R ≥ U + I + D + N + E + K**, with D what the
//!    decompressor allocates (the whole dictionary: lib/xz/xz_dec_lzma2.c), N for inodes and dentries, and E what
//!    drivers, slabs and watermarks take by then.
//! 3. **The system up to its first screen.** **R ≥ S + W + K**, with S what stays in memory for good — all of U for a
//!    monolith; of a converted image the squashfs, pinned by its loop device after its name is gone, or the image itself
//!    with `retain_initrd` — and W the working set: programs, the part of the page cache without which they only wait
//!    for the decompressor, btrfs, the caches of squashfs, and E. With btrfs in the squashfs that page cache holds twice
//!    what programs read.
//!
//! An init that copies the whole image into another file system in memory before it starts the system has it there twice
//! for a moment: **R ≥ U + T + 2 N + E + K**, with T what it copies.
//!
//! With N possible CPUs, a squashfs that keeps a decompressor for each of them takes C more while the system runs
//! ([`Packing::mounted`]), and the kernel takes N − 1 more copies of its per-CPU data.
//!
//! Kernels before 6.3 with zswap take 256 KiB more for each possible CPU, in E, once rootfs is mounted: the mapped memory
//! of Debian 12 with 128 of them is 32 MiB larger than squashfs and per-CPU data explain, and 312 MiB are computed for the
//! installer converted with `--cpus 128` and blocks of 256 KiB, where 320 were measured.
//!
//! K follows from the kernel that boots: the sizes of its image, 64 bytes of `struct page` for each page (32 on 32-bit
//! machines) in whole sections (mm/sparse-vmemmap.c), hash tables of 0.26% of memory, and half a MiB. That is what the
//! logs of Debian's kernels say (`Memory: …K reserved` less the image): 53 MiB and the rest on 6.1, whose sections are 53.1
//! MiB. If no kernel is known, one of 53 MiB is assumed, and a range from 16 to 64 MiB is given. E was 22 MiB on 6.1 and
//! 12 MiB on 6.12.

mod facts;
mod kernel;
mod model;

pub use facts::Facts;
pub use kernel::{Kernel, Packing};
pub use model::{
    CPUS, DEFAULT_CPUS, Estimate, Limit, Machine, Phase, Rootfs, Row, SIZED, Term, retains, rootfs,
};

const MIB: u64 = 1 << 20;
