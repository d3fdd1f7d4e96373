//! The kernel modules with which a kernel reaches the runtime.

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
