//! What people and machines read: [`from`] turns results into the data of [`data`], `pages` lays it out, and each
//! exporter has a file.

pub mod budget;
mod charts;
pub mod data;
pub mod document;
pub mod from;
mod html;
mod json;
mod listing;
mod markdown;
mod markup;
mod packages;
mod pages;
pub mod signs;
mod squarify;
mod terminal;
mod text;
pub mod units;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::error::Error;

pub use data::*;
pub use document::Document;
pub use html::Html;
pub use json::Json;
pub use listing::{ListedPath, Listing, PathKind};
pub use markdown::Markdown;
pub use packages::{DatabaseRow, ModuleRow, PackageReport, PackageRow, UsageRow};
pub use terminal::Terminal;
pub use text::Text;

/// Any report.
#[derive(Debug, Clone, Copy)]
pub enum Report<'a> {
    /// Of `convert`.
    Conversion(&'a Conversion),
    /// Of `inspect`.
    Inspection(&'a Inspection),
    /// Of `diff`.
    Difference(&'a Difference),
    /// Of `verify`.
    Verification(&'a Verification),
    /// Of `boot`.
    Boot(&'a BootReport),
    /// Of `boot --find-min`.
    Min(&'a MinReport),
    /// Of `packages`.
    Packages {
        /// What was found.
        report: &'a PackageReport,
        /// How many packages are shown to people.
        top: usize,
    },
}

impl Report<'_> {
    /// What it says to people.
    #[must_use]
    pub fn document(&self) -> Document {
        match self {
            Self::Conversion(report) => pages::conversion(report),
            Self::Inspection(report) => pages::inspection(report),
            Self::Difference(report) => pages::difference(report),
            Self::Verification(report) => pages::verification(report),
            Self::Boot(report) => pages::boot(report),
            Self::Min(report) => pages::min(report),
            Self::Packages { report, top } => report.document(*top),
        }
    }
}

/// Turns a report into a text of one format.
pub trait Exporter {
    /// The whole file, with a line break at its end.
    ///
    /// # Errors
    /// When the report cannot be written in this format.
    fn export(&self, report: &Report) -> Result<String, Error>;
}

/// The exporter for a file by its ending: `.json`, `.txt`, `.md`, `.html`.
///
/// # Errors
/// When the ending is another.
pub fn exporter_for(file: &Path) -> Result<Box<dyn Exporter>, Error> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("json") => Ok(Box::new(Json)),
        Some("txt") => Ok(Box::new(Text)),
        Some("md") => Ok(Box::new(Markdown)),
        Some("html" | "htm") => Ok(Box::new(Html)),
        _ => Err(Error::usage(format!("no report format goes by the name {}", file.display()))
            .hint("end the file's name with .json, .txt, .md or .html")),
    }
}
