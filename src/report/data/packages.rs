//! What packages cost.

use serde::{Deserialize, Serialize};

use crate::packages::{Basis, Usage};

/// A package and its size in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageSize {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Bytes of the content of its files; 0 if the image has no list of them.
    pub bytes: u64,
    /// Bytes of the image that hold it.
    pub image_bytes: u64,
}

/// What files cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageRow {
    /// Regular files, one with several names counted once.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Bytes of the image that hold it.
    pub image_bytes: u64,
}

impl From<Usage> for UsageRow {
    fn from(usage: Usage) -> Self {
        Self { files: usage.files, bytes: usage.bytes, image_bytes: usage.stored_bytes() }
    }
}

/// What belongs to no package. With the `image_bytes` of the packages, those of `no_package` and `structure_bytes` add up
/// to `total_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageTotals {
    /// How `image_bytes` were found.
    pub basis: Basis,
    /// Bytes that hold the system: the squashfs with what was appended, or the whole image if it has none.
    pub total_bytes: u64,
    /// Files of no package.
    pub no_package: UsageRow,
    /// What is not the content of a file: names, inodes, tables, small files kept with them.
    pub structure_bytes: u64,
    /// Why packages or their files are missing, a sentence each.
    pub notes: Vec<String>,
}
