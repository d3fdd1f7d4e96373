//! The report of `inspect`.

use serde::{Deserialize, Serialize};

use super::{
    Budget, Directory, FrontEndPart, Growth, Identity, ImageFile, PackageSize, PackageTotals, Ram, Tool,
};

/// A segment of an initrd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRow {
    /// Counted from 1.
    pub number: u64,
    /// Where it starts in the file.
    pub offset: u64,
    /// Bytes in the file, without zero padding.
    pub size: u64,
    /// Zero bytes after it.
    pub padding: u64,
    /// How it is compressed.
    pub encoding: String,
    /// Bytes unpacked.
    pub unpacked: u64,
    /// Entries of its cpio archives, trailers not counted.
    pub entries: u64,
    /// Whether it is an early cpio, read by the kernel before it unpacks anything.
    pub early: bool,
    /// Whether it was appended to a converted image.
    pub appended: bool,
}

/// A file system inside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// `squashfs`, `btrfs`.
    pub kind: String,
    /// The file that holds it.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Paths in it.
    pub entries: u64,
}

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSize {
    /// Its path.
    pub path: String,
    /// Bytes of content.
    pub bytes: u64,
}

/// Files with the same content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duplicate {
    /// Size of one copy.
    pub bytes: u64,
    /// Bytes that all copies but one take.
    pub wasted: u64,
    /// Where the copies are (hard links to one copy are one).
    pub paths: Vec<String>,
}

/// Files that are not needed at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// What they are.
    pub what: String,
    /// Why they are not needed.
    pub why: String,
    /// How many.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// The largest of them.
    pub examples: Vec<FileSize>,
}

/// What `inspect` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspection {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The image.
    pub image: ImageFile,
    /// What it is.
    pub identity: Identity,
    /// Its segments; none in a bare squashfs.
    pub segments: Vec<SegmentRow>,
    /// The file systems inside it, outermost first.
    pub layers: Vec<Layer>,
    /// Its boot initramfs, if it has one.
    pub front_end: Option<FrontEndPart>,
    /// Paths of the system (the runtime of a converted image).
    pub entries: u64,
    /// Bytes of their content.
    pub content: u64,
    /// The directories, largest first.
    #[serde(alias = "folders")]
    pub directories: Directory,
    /// The largest files.
    pub largest: Vec<FileSize>,
    /// The same content stored more than once, the most wasteful first.
    pub duplicates: Vec<Duplicate>,
    /// Bytes that all duplicates waste (also those not listed).
    pub duplicate_bytes: u64,
    /// Files that are not needed at boot.
    pub weight: Vec<Weight>,
    /// Memory that it needs; `None` for a bare squashfs.
    pub ram: Option<Ram>,
    /// What else the user should know.
    pub notes: Vec<String>,
    /// Installed packages, the largest in the image first; empty without a package database.
    #[serde(default)]
    pub packages: Vec<PackageSize>,
    /// What belongs to no package, and why; `None` if the package database is damaged.
    #[serde(default)]
    pub package_totals: Option<PackageTotals>,
    /// The limits that were set.
    pub budgets: Vec<Budget>,
    /// What grew since the baseline, if there is one.
    #[serde(default)]
    pub growth: Option<Growth>,
}
