//! The front-end: the small initramfs that mounts the runtime, makes it writable and hands over to the old /init.

use std::fmt;

pub mod built_in;
pub mod dracut;

/// A kernel module as the front-end carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Name with `_` for `-`, as in /proc/modules.
    pub name: String,
    /// Path below lib/modules/VERSION without a compression suffix, e.g. `kernel/fs/btrfs/btrfs.ko`.
    pub path: String,
    /// The uncompressed ELF file with its signature, byte for byte.
    pub elf: Vec<u8>,
}

/// What one kernel needs to reach the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelModules {
    /// Release as `uname -r` gives it, which is the name below lib/modules.
    pub version: String,
    /// The closure, a module after everything it depends on: loading in this order works.
    pub modules: Vec<Module>,
    /// `modules.builtin` of that kernel, where known (dracut and depmod read it).
    pub modules_builtin: Option<Vec<u8>>,
    /// `modules.builtin.modinfo` of that kernel, where known.
    pub modules_builtin_modinfo: Option<Vec<u8>>,
}

/// What makes the read-only runtime writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// A device-mapper snapshot over the btrfs image.
    DeviceMapper,
    /// overlayfs over the btrfs file system, mounted read-only.
    Overlayfs,
}

/// Where the front-end finds squashfs.img.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeFrom {
    /// In the initramfs, as /squashfs.img.
    Initramfs,
    /// In the initrd that the boot loader placed in memory (`retain_initrd`, /sys/firmware/initrd), never copied.
    Retained,
    /// Fetched from an `http://`, `https://`, `ftp://`, `tftp://` or `nfs:` address.
    Network(String),
    /// On a disk or CD with this label.
    Label(String),
    /// On a disk or CD with this file system UUID.
    Uuid(String),
}

/// How the old first program wants to find the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// It mounts /proc, /sys, /dev and /run itself: all are unmounted before it starts.
    Bare,
    /// systemd or /sbin/init: it gets /proc, /sys, /dev and /run as dracut hands them over.
    Mounted,
}

/// What a front-end is to do.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The kernels it has to boot with, at least one.
    pub kernels: &'a [KernelModules],
    /// How the runtime becomes writable when the command line does not say.
    pub overlay: Overlay,
    /// Where squashfs.img comes from.
    pub runtime: RuntimeFrom,
    /// The old first program as an absolute path in the runtime (`/init` nearly always).
    pub init: &'a str,
    /// How to hand over to it.
    pub handover: Handover,
    /// Paths (no leading `/`) in the initramfs that are neither the front-end's nor appended by the user, such as the
    /// files of early cpio segments: they are not carried into the runtime.
    pub not_carried: &'a [String],
    /// Time for every entry that we make, seconds since 1970.
    pub time: i64,
}

/// A front-end, ready to be compressed.
#[derive(Debug, Clone)]
pub struct FrontEnd {
    /// One uncompressed newc archive with its trailer.
    pub cpio: Vec<u8>,
    /// Who made it, for the report: `dracut 059`, `built-in`, a file's name.
    pub maker: String,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceMapper => "device-mapper snapshot",
            Self::Overlayfs => "overlayfs",
        })
    }
}
