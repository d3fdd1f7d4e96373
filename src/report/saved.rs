//! Reports that were saved as JSON.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::{
    BootReport, Conversion, Difference, Inspection, Matrix, MinReport, PackageReport, Report, Verification,
};
use crate::bytes::read_regular;
use crate::error::Error;

/// A report that was read back.
#[derive(Debug, Clone, PartialEq)]
pub enum Saved {
    /// Of `convert`.
    Conversion(Box<Conversion>),
    /// Of `inspect`.
    Inspection(Box<Inspection>),
    /// Of `diff`.
    Difference(Box<Difference>),
    /// Of `verify`.
    Verification(Box<Verification>),
    /// Of `boot`.
    Boot(Box<BootReport>),
    /// Of `boot --find-min`.
    Min(Box<MinReport>),
    /// Of several images.
    Matrix(Box<Matrix>),
    /// Of `packages`.
    Packages(Box<PackageReport>),
}

/// The largest report that is read, in bytes.
const MAX_REPORT: u64 = 512 << 20;

/// The text of a report that was saved.
///
/// # Errors
/// Those of reading it; `InvalidData` if it is not text.
pub fn read_report(file: &Path) -> io::Result<String> {
    let bytes = read_regular(file, MAX_REPORT)?;
    String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

impl Saved {
    /// Reads a report.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if the file cannot be read, [`crate::error::Kind::Input`] if it is no report.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = read_report(file).map_err(|e| Error::unreadable(e).file(file))?;
        Self::parse(&text).map_err(|e| {
            Error::input(format!("is not a report of btrsquash: {e}"))
                .file(file)
                .hint("convert, inspect, diff, verify, packages and boot write one with --json")
        })
    }

    /// The field that only one kind of report has decides which it is.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_str(text)?;
        let has = |name: &str| value.get(name).is_some();
        Ok(if has("ram_before") {
            Self::Conversion(Box::new(serde_json::from_value(value)?))
        } else if has("counts") {
            Self::Difference(Box::new(serde_json::from_value(value)?))
        } else if has("holds") {
            Self::Verification(Box::new(serde_json::from_value(value)?))
        } else if has("tries") {
            Self::Min(Box::new(serde_json::from_value(value)?))
        } else if has("booted") {
            Self::Boot(Box::new(serde_json::from_value(value)?))
        } else if has("images") {
            Self::Matrix(Box::new(serde_json::from_value(value)?))
        } else if has("basis") {
            Self::Packages(Box::new(serde_json::from_value(value)?))
        } else {
            Self::Inspection(Box::new(serde_json::from_value(value)?))
        })
    }

    /// The report as exporters take it.
    #[must_use]
    pub fn report(&self) -> Report<'_> {
        match self {
            Self::Conversion(report) => Report::Conversion(report),
            Self::Inspection(report) => Report::Inspection(report),
            Self::Difference(report) => Report::Difference(report),
            Self::Verification(report) => Report::Verification(report),
            Self::Boot(report) => Report::Boot(report),
            Self::Min(report) => Report::Min(report),
            Self::Matrix(report) => Report::Matrix(report),
            Self::Packages(report) => Report::Packages { report, top: usize::MAX },
        }
    }
}
