//! The boot initramfs: it mounts the runtime, makes it writable and hands over to the old init.

mod architecture;
pub mod built_in;
mod common;
pub mod dracut;
pub(crate) mod guest;
pub(crate) mod kept;

use std::sync::Arc;

use crate::contract::{Handover, Overlay, RuntimeFormat, RuntimeFrom, paths};
use crate::kernel::{KernelModules, Module};
use crate::tree::Tree;

pub(crate) use architecture::check as check_machine;
pub use common::{FEW_DIRECTORIES, MAX_DIRECTORIES, checksum_file, fetched_file, retained_file};

/// What a boot initramfs has to do.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The kernels it has to boot with, at least one.
    pub kernels: &'a [KernelModules],
    /// Their machine as `uname -m` names it.
    pub machine: &'a str,
    /// The overlay to use unless the command line asks for the other one.
    pub overlay: Overlay,
    /// What the squashfs holds.
    pub format: RuntimeFormat,
    /// Where the squashfs comes from.
    pub runtime: RuntimeFrom,
    /// The old init as an absolute path in the runtime (`/init` nearly always).
    pub init: &'a str,
    /// Its arguments, if not those that the kernel gives.
    pub arguments: Vec<String>,
    /// Its environment besides what the kernel gives.
    pub environment: Vec<(String, String)>,
    /// How to hand over to it.
    pub handover: Handover,
    /// Paths without a leading `/` that neither belong to the boot initramfs nor were appended by the user, such as the
    /// files of early cpio segments: they are not carried into the runtime.
    pub not_carried: &'a [String],
    /// Time of every entry that we make, seconds since 1970.
    pub time: i64,
    /// Whether modules that are needed only after the squashfs is mounted lie inside it.
    pub late_modules: bool,
    /// The runtime, whose directories the boot initramfs has so that files can be appended in them.
    pub tree: &'a Tree,
    /// How many of them it has at most.
    pub max_directories: usize,
}

impl Plan<'_> {
    /// The modules of `kernel` that the boot initramfs itself holds, and those that lie in the squashfs.
    #[must_use]
    pub fn divide<'k>(&self, kernel: &'k KernelModules) -> (&'k [Module], &'k [Module]) {
        let early = if self.late_modules { kernel.early } else { kernel.modules.len() };
        kernel.modules.split_at(early.min(kernel.modules.len()))
    }

    /// The files of the squashfs with the modules that are needed only after it is mounted: path and content.
    #[must_use]
    pub fn late_files(&self) -> Vec<(String, Arc<[u8]>)> {
        let mut files = Vec::new();
        for kernel in self.kernels {
            let (_, late) = self.divide(kernel);
            if late.is_empty() {
                continue;
            }
            let directory = format!("{}/{}", paths::LATE_MODULES, kernel.version);
            let mut order = String::new();
            for module in late {
                let file = format!("{}.ko", module.name);
                order.push_str(&file);
                order.push('\n');
                files.push((format!("{directory}/{file}"), Arc::clone(&module.elf)));
            }
            files.push((format!("{directory}/{}", paths::ORDER), order.into_bytes().into()));
        }
        files
    }
}

/// A boot initramfs, not yet compressed.
#[derive(Debug, Clone)]
pub struct FrontEnd {
    /// One uncompressed newc archive with its trailer.
    pub cpio: Vec<u8>,
    /// What made it, for the report: `dracut 059`, `built-in`, a file's name.
    pub maker: String,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
}
