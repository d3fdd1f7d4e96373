//! Kernel modules and their closure, what a kernel can do, and where its modules come from.
//!
//! [`find()`] is the preflight: before any slow work begins it knows, of every kernel that the image can be booted with,
//! whether that kernel reaches the runtime, and as which file system.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::bytes::{open_regular, read_regular};
use crate::codec::{Compression, Encoding};
use crate::contract::{Overlay, RuntimeFormat, RuntimeFrom};
use crate::elf::Archs;
use crate::error::Error;
use crate::tree::Tree;

pub(crate) mod archive;
mod capability;
mod closure;
mod config;
mod drivers;
mod facts;
mod find;
mod hints;
mod modinfo;
mod modules;
mod release;
mod resolve;
mod source;
mod vmlinuz;

pub use facts::{Decompressors, Facts, ImageSize, Sections};
pub use find::find;
pub use modules::{KernelModules, Module};
pub(crate) use release::Release;
pub(crate) use vmlinuz::unpack;

/// The largest kernel file that is read.
const MAX_VMLINUZ: u64 = 256 << 20;

/// What the kernels have to be able to do.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The file system of the runtime; `None`: btrfs, unless a kernel was built without it.
    pub format: Option<RuntimeFormat>,
    /// What makes the runtime writable; `None`: a device-mapper snapshot if the kernel has one, else overlayfs.
    pub overlay: Option<Overlay>,
    /// Whether only the squashfs has to be mounted: the old initramfs does the rest.
    pub in_place: bool,
    /// How the squashfs is packed.
    pub compression: Compression,
    /// Whether its xz is to use branch filters, those that are proven to work.
    pub bcj: bool,
    /// Where the runtime comes from.
    pub runtime: &'a RuntimeFrom,
    /// Names of drivers, or `net` or `storage` for sets of them. If there are none, a runtime from the network gets
    /// `net` and one from a disk gets `storage`.
    pub drivers: &'a [String],
    /// The ready-made boot initramfs that is to be used, and its name. Its modules count as found, nothing is added to
    /// it, and since it may keep modules where nobody looks, missing ones are noted, not refused.
    pub ready_made: Option<(&'a str, &'a Tree)>,
}

/// How much of a kernel's closure came from one place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// `the image`, or a path of `--modules`.
    pub source: String,
    /// Number of modules.
    pub modules: usize,
    /// Their size in bytes, uncompressed.
    pub bytes: u64,
}

/// Whether a kernel can mount a btrfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Btrfs {
    /// It is built in, or the module is there.
    Available,
    /// The kernel was built without it.
    NotBuilt {
        /// The option that is not set.
        option: String,
        /// The configuration that says so.
        config: String,
    },
    /// The module was not found, and whether the kernel was built with it is not known.
    NotFound,
}

/// One kernel that the converted image will boot with.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its release and what it has to load.
    pub modules: KernelModules,
    /// The file system of the runtime.
    pub format: RuntimeFormat,
    /// Whether it can mount a btrfs.
    pub btrfs: Btrfs,
    /// What will make the runtime writable.
    pub overlay: Overlay,
    /// The branch filters that its xz is proven to have; none if the squashfs is not to use any.
    pub filters: Archs,
    /// The encodings of an initramfs that this kernel is proven to unpack (`plain` always is).
    pub encodings: BTreeSet<Encoding>,
    /// Whether the kernel can show the initrd where the boot loader placed it (`retain_initrd`); if not, why.
    pub retained: Result<(), String>,
    /// What the RAM model has to know about it.
    pub facts: Facts,
    /// Where the modules came from.
    pub origin: Vec<Origin>,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
}

impl Kernel {
    /// Whether its xz may use the branch filter for the programs of its own machine.
    #[must_use]
    pub fn has_own_branch_filter(&self) -> bool {
        let machine = self.facts.architecture.as_deref();
        machine.and_then(capability::own_arch).is_some_and(|arch| self.filters.contains(arch))
    }
}

/// `-` and `_` are one character in the names of modules.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The module in a file `….ko`, `.ko.gz`, `.ko.xz` or `.ko.zst`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().find_map(|suffix| file.strip_suffix(suffix)).map(canonical)
}

/// The best encoding for a boot initramfs that all of `kernels` have to unpack.
#[must_use]
pub fn common_encoding(kernels: &[Kernel]) -> Encoding {
    let common = kernels
        .iter()
        .map(|kernel| kernel.encodings.clone())
        .reduce(|a, b| a.intersection(&b).copied().collect())
        .unwrap_or_default();
    capability::best(&common)
}

/// A kernel file: the user's `--kernel`.
struct KernelFile {
    path: PathBuf,
    bytes: Vec<u8>,
    release: String,
    unpacked: vmlinuz::Unpacked,
}

impl KernelFile {
    fn read(path: &Path) -> Result<Self, Error> {
        let usage = |e: std::io::Error| Error::unreadable(e).file(path);
        let bytes = read_regular(path, MAX_VMLINUZ).map_err(|e| {
            if e.kind() == std::io::ErrorKind::InvalidData {
                Error::input("not a kernel").caused_by(e).file(path)
            } else {
                usage(e)
            }
        })?;
        let mut unpacked = vmlinuz::Unpacked::default();
        let release = vmlinuz::release(&bytes, &mut unpacked).ok_or_else(|| {
            Error::input("not recognized as a kernel: it has neither a bzImage header nor a `Linux version` banner")
                .file(path)
                .hint("--kernel takes the kernel image (vmlinuz, linux) that boots with the initrd; a package goes to --modules")
        })?;
        Ok(Self { path: path.to_path_buf(), bytes, release, unpacked })
    }

    /// The configuration that is embedded in the kernel.
    fn config(&mut self) -> Option<config::Config> {
        let origin = format!("the configuration inside {}", self.path.display());
        let text = vmlinuz::embedded_config(self.unpacked.get(&self.bytes)?)?;
        config::Config::parse(&text, origin)
    }
}

/// The machine of a kernel file as `uname -m` names it, by its header; `None` if that is not known.
///
/// # Errors
/// [`crate::error::Kind::Usage`] if the file cannot be read or is not a regular file.
pub fn machine(path: &Path) -> Result<Option<&'static str>, Error> {
    let usage = |e: std::io::Error| Error::unreadable(e).file(path);
    let mut head = Vec::new();
    open_regular(path).map_err(usage)?.take(vmlinuz::HEAD).read_to_end(&mut head).map_err(usage)?;
    if let Some(found) = vmlinuz::machine(&head) {
        return Ok(Some(found));
    }
    // arm64's and RISC-V's Image.gz.
    let mut unpacked = crate::codec::unpack_prefix(&head, vmlinuz::HEAD);
    unpacked.truncate(vmlinuz::HEAD as usize);
    Ok(vmlinuz::machine(&unpacked))
}

impl Facts {
    /// All that a kernel file says about itself. Unpacks the kernel, which takes about a second.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if the file cannot be read, [`crate::error::Kind::Input`] if it is not a kernel.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut file = KernelFile::read(path)?;
        let config = file.config();
        let kernel = file.unpacked.get(&file.bytes);
        Ok(Self::of(&file.release, None, config.as_ref(), Some(&file.bytes), kernel))
    }
}
