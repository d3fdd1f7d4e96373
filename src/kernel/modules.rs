//! The kernel modules with which a kernel reaches the runtime.

use std::sync::Arc;

/// A kernel module as the boot initramfs holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Name with `_` for `-`, as in /proc/modules.
    pub name: String,
    /// Path below lib/modules/VERSION without a compression suffix, e.g. `kernel/fs/btrfs/btrfs.ko`.
    pub path: String,
    /// The uncompressed ELF file with its signature, byte for byte. Shared, because a module of several megabytes is on
    /// its way through the preflight, the report and the boot initramfs.
    pub elf: Arc<[u8]>,
}

/// What one kernel needs to reach the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelModules {
    /// Release as `uname -r` prints it, which is the name of its directory in lib/modules.
    pub version: String,
    /// The closure, each module after everything it depends on: loading them in this order works.
    pub modules: Vec<Module>,
    /// How many of them are needed to mount the squashfs: the first ones. The others can lie inside it.
    pub early: usize,
    /// `modules.builtin` of that kernel, if known (dracut and depmod read it).
    pub modules_builtin: Option<Vec<u8>>,
    /// `modules.builtin.modinfo` of that kernel, if known.
    pub modules_builtin_modinfo: Option<Vec<u8>>,
}
