//! The data of every report, as the JSON schemas in `src/report/schema` describe it.
//!
//! Sizes are bytes. Paths of an image are escaped by [`crate::tree::display`]: names that are not UTF-8 and control
//! characters.

mod boot;
mod comparison;
mod conversion;
mod failure;
mod growth;
mod inspection;
mod packages;

use serde::{Deserialize, Serialize};

use crate::ram;

pub use boot::{BootReport, MinReport, Moment, Try};
pub use comparison::{
    AspectChange, Changed, Counts, Difference, FoldedPath, Item, Moved, PackageDifference,
    PackageDifferences, PackageVersion, Side, SizeChange, TextDifference, Verification,
};
pub use conversion::{Choice, Conversion, Portion, Verified, WrittenFile};
pub use failure::Failure;
pub use growth::{Grown, Growth, Subject};
pub use inspection::{Duplicate, FileSize, Inspection, Layer, SegmentRow, Weight};
pub use packages::{PackageSize, PackageTotals, UsageRow};

/// The version of the JSON that the exporters write. It grows when a field changes its meaning or is removed.
pub const SCHEMA_VERSION: u32 = 2;

/// Who wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Program name.
    pub name: String,
    /// Program version.
    pub version: String,
}

impl Default for Tool {
    fn default() -> Self {
        Self { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// Whether a figure was measured on a running machine or computed by the model in [`crate::ram`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Seen on a (virtual) machine.
    Measured,
    /// Computed by the model.
    Computed,
}

/// The unit of a [`Figure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes of memory.
    Bytes,
}

/// A figure about memory that says where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The value.
    pub value: u64,
    /// Its unit.
    pub unit: Unit,
    /// Measured or computed.
    pub origin: Origin,
}

impl Figure {
    /// A computed number of bytes.
    #[must_use]
    pub const fn computed(bytes: u64) -> Self {
        Self { value: bytes, unit: Unit::Bytes, origin: Origin::Computed }
    }
    /// A measured number of bytes.
    #[must_use]
    pub const fn measured(bytes: u64) -> Self {
        Self { value: bytes, unit: Unit::Bytes, origin: Origin::Measured }
    }
}

/// A part of an image file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is: `early cpio`, `squashfs.img`, `boot initramfs`, …
    pub name: String,
    /// Bytes in the file.
    pub bytes: u64,
    /// Share of the whole file, 0 to 1.
    pub share: f64,
    /// Why it is there.
    pub why: String,
}

impl Part {
    /// The parts of a file of `total` bytes, each `(name, bytes, why)` with its share; empty parts are left out.
    pub fn list<'a>(total: u64, parts: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> Vec<Self> {
        parts
            .into_iter()
            .filter(|&(_, bytes, _)| bytes > 0)
            .map(|(name, bytes, why)| Self {
                name: name.into(),
                bytes,
                share: share(bytes, total),
                why: why.into(),
            })
            .collect()
    }
}

/// `part` of `whole` to four digits, so that the same image gives the same text everywhere.
#[must_use]
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0 }
}

/// An image file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// The file, as the user named it.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it is made of, in the order in the file.
    pub parts: Vec<Part>,
    /// SHA-256 of the file in hexadecimal, if it was computed; of a conversion's new files, `files` has it.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Time of the newest file of the system in seconds since 1970: the image's own date. A report never holds the date on
    /// which it was written, so that the same image gives the same report in every run.
    #[serde(default)]
    pub newest_time: Option<i64>,
}

/// What an image is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `monolith`, `front-end (dracut)`, `converted (btrsquash)`, `squashfs`.
    pub verdict: String,
    /// The evidence for that verdict, a sentence each.
    pub why: Vec<String>,
    /// The init.
    pub init: Option<String>,
    /// What kind of program it is: `shell script`, `systemd`, …
    pub init_kind: String,
    /// How init expects /proc, /sys, /dev and /run: `bare` (not mounted) or `mounted`.
    pub handover: String,
    /// The evidence for that.
    pub handover_why: String,
    /// Architecture, as `uname -m` names it.
    pub architecture: Option<String>,
    /// Kernel releases with modules in the image.
    pub kernels: Vec<String>,
    /// The distribution, as its os-release names it.
    pub distribution: Option<String>,
}

/// A kernel module in a boot initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleSize {
    /// Its name.
    pub name: String,
    /// Bytes, uncompressed.
    pub bytes: u64,
}

/// What one kernel adds to a boot initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelPart {
    /// Release, as `uname -r` gives it.
    pub version: String,
    /// Bytes of all its modules, uncompressed.
    pub bytes: u64,
    /// The modules in the order in which they are loaded.
    pub modules: Vec<ModuleSize>,
}

/// The boot initramfs of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontEndPart {
    /// Its maker: `dracut 059`, `built-in`, a file's name.
    pub maker: String,
    /// How it is compressed.
    pub encoding: String,
    /// Bytes in the image.
    pub compressed: u64,
    /// Bytes of the unpacked archive.
    pub unpacked: u64,
    /// What each kernel adds.
    pub kernels: Vec<KernelPart>,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
}

/// A term of the memory model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RamPart {
    /// What it is.
    pub name: String,
    /// How much.
    pub figure: Figure,
    /// Why it counts.
    pub why: String,
}

/// A phase of the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Which one.
    #[serde(alias = "name")]
    pub phase: ram::Phase,
    /// Memory in use at its end that cannot be reclaimed.
    pub used: Figure,
    /// The same, measured (`boot --measure`).
    pub measured: Option<Figure>,
}

/// The minimum memory for a number of possible CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RamRow {
    /// Possible CPUs.
    pub cpus: u32,
    /// Without further arguments for the kernel.
    pub plain: Figure,
    /// With `root=`.
    pub root: Figure,
    /// With `initramfs_options=size=95%`; `null` if the kernel does not know it.
    pub sized: Option<Figure>,
}

/// The memory an image needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ram {
    /// The minimum memory of a machine that boots it.
    #[serde(alias = "least")]
    pub minimum: Figure,
    /// The same, measured (`boot --find-min`).
    pub measured: Option<Figure>,
    /// What `minimum` is made of.
    pub parts: Vec<RamPart>,
    /// Memory in use over the boot.
    pub phases: Vec<Phase>,
    /// How `minimum` follows from its parts.
    pub formula: String,
    /// The minimum for other numbers of possible CPUs and arguments of the kernel.
    pub table: Vec<RamRow>,
    /// What the figures assume.
    pub notes: Vec<String>,
}

impl Ram {
    /// The minimum: measured if it was, else computed.
    #[must_use]
    pub fn best(&self) -> Figure {
        self.measured.unwrap_or(self.minimum)
    }
}

/// A path that the runtime has and the original has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// The path.
    pub path: String,
    /// Why it was added.
    pub why: String,
}

/// A limit the user set and what came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What is limited: `size` or `ram`.
    pub what: String,
    /// The limit in bytes.
    pub limit: u64,
    /// The figure in bytes.
    pub actual: u64,
    /// Whether it is within the limit.
    pub kept: bool,
}

/// A directory with everything below it, for size listings and the treemap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its name; `/` for the root.
    pub name: String,
    /// Bytes of all content below it, a hard-linked file counted once.
    pub bytes: u64,
    /// Number of files below it, directories not counted.
    pub files: u64,
    /// Bytes of the image that hold it, if they are known.
    #[serde(default)]
    pub image_bytes: Option<u64>,
    /// In a comparison: bytes of content that the same directory or file had in the old image, wherever it was there.
    #[serde(default)]
    pub old_bytes: Option<u64>,
    /// In a comparison: bytes of the old image that hold it, if they are known.
    #[serde(default)]
    pub old_image_bytes: Option<u64>,
    /// The directories and large files in it, largest first, down to a limited depth.
    #[serde(alias = "folders")]
    pub directories: Vec<Directory>,
}
