//! The reports of `diff` and `verify`.

use serde::{Deserialize, Serialize};

use super::{Added, Budget, Directory, Growth, ImageFile, Ram, Tool};
use crate::compare::{Aspect, Reason};

/// How a text file differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextDifference {
    /// The path.
    pub path: String,
    /// A unified diff.
    pub diff: String,
    /// Whether the diff was cut short.
    pub truncated: bool,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// The file with its parts.
    pub image: ImageFile,
    /// `monolith`, `converted (…)`, `squashfs`, …
    pub verdict: String,
    /// Paths of its system.
    pub entries: u64,
    /// Bytes of their content.
    pub content: u64,
    /// Memory that it needs; `None` for a bare squashfs.
    pub ram: Option<Ram>,
}

/// One difference of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AspectChange {
    /// What differs.
    pub aspect: Aspect,
    /// The value before.
    pub old: String,
    /// The value after.
    pub new: String,
}

/// A path that both sides have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// The path.
    pub path: String,
    /// Content bytes before.
    pub old_bytes: u64,
    /// Content bytes after.
    pub new_bytes: u64,
    /// What differs.
    pub aspects: Vec<AspectChange>,
}

/// A path that one side has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The path.
    pub path: String,
    /// `file`, `directory`, `symlink`, …
    pub kind: String,
    /// Bytes of content.
    pub bytes: u64,
}

/// A file that went from one path to another; it is also among the removed and the added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// Where it was.
    pub from: String,
    /// Where it is.
    pub to: String,
    /// Bytes of content.
    pub bytes: u64,
}

/// A path that a release renamed (neither among the added nor the removed), or a file that another version replaced (among
/// both).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldedPath {
    /// The path in the old image.
    pub from: String,
    /// The path in the new image.
    pub to: String,
    /// `place`: a merged /usr, another kernel release, modules compressed in another way. `version`: another version of
    /// a shared library, of Python or of Perl.
    pub reason: Reason,
    /// Content bytes before.
    pub old_bytes: u64,
    /// Content bytes after.
    pub new_bytes: u64,
    /// Whether content or target is the same.
    pub same: bool,
}

/// A package in one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageVersion {
    /// Its version.
    pub version: String,
    /// Bytes of the content of its files; 0 if the image has no list of them.
    pub bytes: u64,
    /// Bytes of the image that hold it.
    pub image_bytes: u64,
}

/// A package that is not the same in both images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageDifference {
    /// Its name.
    pub name: String,
    /// In the old image.
    pub old: Option<PackageVersion>,
    /// In the new image.
    pub new: Option<PackageVersion>,
}

/// How the packages differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageDifferences {
    /// In both, of another version.
    pub changed: u64,
    /// Only in the new image.
    pub added: u64,
    /// Only in the old image.
    pub removed: u64,
    /// In both, of the same version.
    pub same: u64,
    /// Whether both images say which files are whose: otherwise the sizes of packages are 0.
    pub sizes: bool,
    /// All but those of the same version and size, the largest change first.
    pub list: Vec<PackageDifference>,
}

/// How many paths differ and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Only in the new image (each path, not only the topmost).
    pub added: u64,
    /// Only in the old image.
    pub removed: u64,
    /// In both, and different in anything but times and link counts.
    pub changed: u64,
    /// In both, and the same but for the time or the link count.
    pub only_times: u64,
    /// In both, and the same in everything.
    pub same: u64,
    /// Pairs of removed and added that are one file with another path.
    pub moved: u64,
    /// Paths that a release put elsewhere: neither added nor removed.
    pub renamed: u64,
    /// Pairs of removed and added that are two versions of one file: `libfoo.so.1.2` and `libfoo.so.1.3`.
    pub replaced: u64,
    /// Paths whose type differs.
    pub r#type: u64,
    /// Regular files whose bytes differ.
    pub content: u64,
    /// Symlinks whose target differs.
    pub target: u64,
    /// Device nodes whose number differs.
    pub device: u64,
    /// Paths whose permission bits differ.
    pub mode: u64,
    /// Paths whose user or group differs.
    pub owner: u64,
    /// Paths whose link count or partners differ.
    pub links: u64,
    /// Paths whose time differs.
    pub time: u64,
}

/// A directory or part in both images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeChange {
    /// Its name or path.
    pub name: String,
    /// Bytes before.
    pub old: u64,
    /// Bytes after.
    pub new: u64,
}

/// What `diff` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The old image.
    pub old: Side,
    /// The new image.
    pub new: Side,
    /// How many paths differ.
    pub counts: Counts,
    /// How the packages differ; `None` if neither image has a package database.
    pub packages: Option<PackageDifferences>,
    /// Parts of the files, by name.
    pub parts: Vec<SizeChange>,
    /// Directories whose size differs, largest change first.
    #[serde(alias = "folders")]
    pub directories: Vec<SizeChange>,
    /// Only in the new image.
    pub added: Vec<Item>,
    /// Only in the old image.
    pub removed: Vec<Item>,
    /// In both and different.
    pub changed: Vec<Changed>,
    /// Moved from one path to another.
    pub moved: Vec<Moved>,
    /// What a release renamed or another version replaced.
    pub folded: Vec<FoldedPath>,
    /// How text files differ, if requested.
    pub texts: Vec<TextDifference>,
    /// The directories of the new system.
    pub tree: Directory,
    /// What else the user should know.
    pub notes: Vec<String>,
    /// The limits that were set.
    pub budgets: Vec<Budget>,
    /// What grew, if its growth was limited.
    pub growth: Option<Growth>,
}

impl Difference {
    /// Whether the two hold the same system, times and link counts included.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && self.folded.is_empty()
    }
}

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The original.
    pub old: String,
    /// The converted image.
    pub new: String,
    /// Whether the runtime is what the kernel would have unpacked from the original.
    pub holds: bool,
    /// Paths compared.
    pub compared: u64,
    /// Content bytes compared.
    pub bytes: u64,
    /// Documented additions to the runtime.
    pub additions: Vec<Added>,
    /// How many of the paths were appended to the new image, and laid over its runtime.
    pub appended: u64,
    /// Paths of the original that are no longer there.
    pub missing: Vec<Item>,
    /// Added and replaced paths that the user allowed; they are in no other list.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// Paths of the runtime that are in neither the original nor the documented additions.
    pub unexpected: Vec<Item>,
    /// Paths that differ.
    pub changed: Vec<Changed>,
    /// What else the user should know.
    pub notes: Vec<String>,
}
