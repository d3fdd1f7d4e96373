//! The report of `convert`.

use serde::{Deserialize, Serialize};

use super::{
    Added, Budget, Directory, FrontEndPart, Identity, ImageFile, PackageSize, PackageTotals, Ram, Tool,
};

/// Something that was chosen, by the user or by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What had to be chosen.
    pub what: String,
    /// What was.
    pub chosen: String,
    /// Why.
    pub why: String,
}

/// A share of the files, and why it went where it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portion {
    /// What it is.
    pub what: String,
    /// Why it is in this portion.
    pub why: String,
    /// Number of paths.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenFile {
    /// The file, as the user named it.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What `convert` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// Whether nothing was written: sizes of `new` are then what is known without compressing.
    pub dry_run: bool,
    /// The original.
    pub old: ImageFile,
    /// The new image; with a split layout its files are its parts. `None` in a dry run.
    pub new: Option<ImageFile>,
    /// The files of the new image; none in a dry run.
    #[serde(default)]
    pub files: Vec<WrittenFile>,
    /// What the original is.
    pub identity: Identity,
    /// What was chosen.
    pub choices: Vec<Choice>,
    /// The new boot initramfs.
    pub front_end: Option<FrontEndPart>,
    /// Memory that the original needs.
    pub ram_before: Ram,
    /// Memory that the new image needs; `None` in a dry run.
    pub ram_after: Option<Ram>,
    /// What boots the machine.
    pub boot: Vec<Portion>,
    /// What went into the runtime.
    pub runtime: Vec<Portion>,
    /// The directories of the runtime.
    #[serde(alias = "folders")]
    pub directories: Directory,
    /// Installed packages with their bytes in the new image, the largest first; empty without a package database and in a
    /// dry run.
    #[serde(default)]
    pub packages: Vec<PackageSize>,
    /// What belongs to no package, and why; `None` in a dry run and if the package database is damaged.
    #[serde(default)]
    pub package_totals: Option<PackageTotals>,
    /// Paths added to the runtime.
    pub additions: Vec<Added>,
    /// What else the user should know.
    pub notes: Vec<String>,
    /// The limits that were set.
    pub budgets: Vec<Budget>,
    /// What was compared with the original and found the same, with `convert --verify`.
    #[serde(default)]
    pub verified: Option<Verified>,
}

/// How much of the original was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Paths.
    pub paths: u64,
    /// Bytes of content.
    pub bytes: u64,
}
