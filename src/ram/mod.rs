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

mod facts;
mod model;

pub use facts::Facts;
pub use model::{Estimate, Limit, Phase, Rootfs, Term, retains, rootfs};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
