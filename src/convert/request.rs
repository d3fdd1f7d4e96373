//! What to convert, and how.

use std::path::{Path, PathBuf};

use crate::codec::Compression;
use crate::contract::{Overlay, RuntimeFormat, RuntimeFrom};
use crate::image::{entries_file, runtime_file};
use crate::initrd;
use crate::output;
use crate::packages::PackageMap;

/// Which front-end to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrontEndChoice {
    /// The host's dracut where it has dmsquash-live, else the built-in one.
    Auto,
    /// The host's dracut, or that of another root.
    Dracut {
        /// The other root.
        root: Option<PathBuf>,
    },
    /// btrsquash's own.
    BuiltIn,
    /// A ready-made initramfs.
    File(PathBuf),
}

/// How many files the new image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One file.
    Combined,
    /// The boot initramfs and squashfs.img in separate files.
    Split,
}

/// What a conversion is made best at. It decides on everything that the user left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The least memory.
    Ram,
    /// The smallest image.
    Size,
    /// The fastest boot.
    Speed,
}

impl Goal {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ram => "ram",
            Self::Size => "size",
            Self::Speed => "speed",
        }
    }
}

/// What to convert, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The old image, or the first of several initrds.
    pub old: PathBuf,
    /// The initrds that the boot loader puts after it, in order.
    pub more: Vec<PathBuf>,
    /// The new image.
    pub new: PathBuf,
    /// Where modules are found that the image lacks.
    pub modules: Vec<PathBuf>,
    /// The kernel that boots the image.
    pub kernel: Option<PathBuf>,
    /// What the new image is made best at, if the user said.
    pub optimize: Option<Goal>,
    /// How the squashfs is compressed, if the user chose it.
    pub compression: Option<Compression>,
    /// Block size of the squashfs in bytes; `None`: the one that needs the least memory.
    pub block_size: Option<u32>,
    /// Possible CPUs of the machines that the image is meant for.
    pub cpus: u32,
    /// What makes the runtime writable, where the user said.
    pub overlay: Option<Overlay>,
    /// The file system of the runtime, if the user chose it.
    pub format: Option<RuntimeFormat>,
    /// Store packed kernel modules unpacked.
    pub expand_modules: bool,
    /// Room to write in the runtime's btrfs, bytes.
    pub free_space: u64,
    /// Which front-end to make.
    pub front_end: FrontEndChoice,
    /// One file or two.
    pub layout: Layout,
    /// Where the front-end finds the runtime.
    pub runtime: RuntimeFrom,
    /// Drivers for the front-end.
    pub drivers: Vec<String>,
    /// Arguments to add to the image's own command line.
    pub cmdline: String,
    /// The program of the runtime that is started, instead of the old init.
    pub init: Option<String>,
    /// Convert an ordinary front-end too.
    pub assume_monolith: bool,
    /// Replace files that exist.
    pub force: bool,
    /// Read back what was written before it gets its name.
    pub read_back: bool,
    /// Compare every path of the new image with the old one, before the new one gets its name.
    pub verify: bool,
    /// Threads that compress.
    pub threads: usize,
    /// Stop before the slow work and write nothing.
    pub dry_run: bool,
    /// Limits on what is read.
    pub limits: initrd::Limits,
    /// The files of packages whose lists the image does not have, for the report.
    pub package_map: Option<PackageMap>,
    /// SOURCE_DATE_EPOCH, where it is set.
    pub source_date_epoch: Option<i64>,
}

impl Request {
    /// How the squashfs is compressed.
    pub(super) fn compression(&self) -> Compression {
        let default = if self.optimize == Some(Goal::Speed) { Compression::Zstd } else { Compression::Xz };
        self.compression.unwrap_or(default)
    }

    /// Whether size is worth time: of memory, the squashfs takes its size three times while it is unpacked.
    pub(super) const fn thorough(&self) -> bool {
        matches!(self.optimize, Some(Goal::Ram | Goal::Size))
    }

    /// Every file that is read, the old image first; standard input is none.
    pub fn inputs(&self) -> impl Iterator<Item = &Path> {
        let front_end = match &self.front_end {
            FrontEndChoice::File(path) => Some(path),
            FrontEndChoice::Auto | FrontEndChoice::Dracut { .. } | FrontEndChoice::BuiltIn => None,
        };
        [&self.old]
            .into_iter()
            .chain(&self.more)
            .chain(front_end)
            .chain(&self.kernel)
            .chain(&self.modules)
            .map(PathBuf::as_path)
            .filter(|path| path.as_os_str() != "-")
    }

    /// How the outputs are made: no more readable than the images whose content they hold.
    pub(super) fn output_options(&self) -> output::Options {
        let images = [&self.old].into_iter().chain(&self.more);
        let options = images
            .fold(output::Options::new(self.force), |options, image| options.no_more_readable_than(image));
        match &self.front_end {
            FrontEndChoice::File(path) => options.no_more_readable_than(path),
            FrontEndChoice::Auto | FrontEndChoice::Dracut { .. } | FrontEndChoice::BuiltIn => options,
        }
    }

    /// Everything that is to be written: the new image first.
    #[must_use]
    pub fn outputs(&self) -> Vec<PathBuf> {
        let mut outputs = vec![self.new.clone()];
        if self.layout == Layout::Split {
            outputs.extend([runtime_file(&self.new), entries_file(&self.new)]);
        }
        outputs
    }
}

/// The stages of a conversion, for progress bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The old image is being read.
    Read,
    /// Kernel modules are being looked for.
    Modules,
    /// The runtime is being laid out.
    Layout,
    /// The squashfs is being compressed and the front-end made.
    Compress,
    /// The new image is being written.
    Write,
    /// What was written is being read back.
    ReadBack,
    /// Comparing the new image with the old one.
    Verify,
}

/// Told how far a conversion is: the stage, bytes done and bytes in all (0 where unknown).
pub type Watch<'a> = &'a (dyn Fn(Stage, u64, u64) + Sync);
