//! What an image grew by, compared with a baseline.

use serde::{Deserialize, Serialize};

/// What can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The image file.
    Image,
    /// The minimum RAM.
    Ram,
    /// A part of the image file.
    Part,
    /// A package in the image.
    Package,
}

/// A size before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grown {
    /// What it is the size of.
    pub subject: Subject,
    /// The name of the part or package; empty for the image and its minimum RAM.
    pub name: String,
    /// Bytes in the baseline; 0 if it was not there.
    pub old: u64,
    /// Bytes now; 0 if it is no longer there.
    pub new: u64,
    /// Whether it grew by more than every limit that was set.
    pub exceeded: bool,
}

/// How an image compares with a baseline. With two limits, growth has to exceed both to fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// The file with the baseline.
    pub baseline: String,
    /// Largest allowed growth of the image, a part or a package, in percent of the old image.
    pub max_percent: Option<f64>,
    /// Largest allowed growth in bytes.
    pub max_bytes: Option<u64>,
    /// Largest allowed growth of the minimum RAM, in percent of the old one.
    #[serde(default)]
    pub max_ram_percent: Option<f64>,
    /// Largest allowed growth of the minimum RAM in bytes.
    #[serde(default)]
    pub max_ram_bytes: Option<u64>,
    /// Everything whose size changed: the image, its minimum RAM, then parts and packages, the largest change first.
    pub changes: Vec<Grown>,
}

impl Growth {
    /// Whether nothing grew by more than what is allowed.
    #[must_use]
    pub fn kept(&self) -> bool {
        !self.changes.iter().any(|change| change.exceeded)
    }
}
