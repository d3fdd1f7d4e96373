//! What people and machines read: [`from`] turns results into the data of [`data`], `pages` lays it out, and each
//! exporter has a file.

mod band;
pub mod budget;
mod charts;
mod ci;
pub mod data;
mod digest;
pub mod document;
pub mod from;
pub mod growth;
mod history;
mod html;
mod json;
mod listing;
mod markdown;
mod markup;
mod matrix;
mod measured;
mod packages;
mod pages;
mod saved;
pub mod signs;
mod terminal;
mod text;
pub mod units;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::error::Error;

pub use ci::{Annotations, Comment, Csv, Junit, LINES};
pub use data::*;
pub use document::Document;
pub use history::{History, HistoryEntry};
pub use html::Html;
pub use json::{Json, SCHEMAS};
pub use listing::{ListedPath, Listing, PathKind};
pub use markdown::Markdown;
pub use matrix::{Matrix, MatrixRow};
pub use measured::{Measured, Which};
pub use packages::{DatabaseRow, ModuleRow, PackageReport, PackageRow};
pub use pages::written;
pub use saved::{Saved, read_report};
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
    /// Of `history`.
    History(&'a History),
    /// Of several images.
    Matrix(&'a Matrix),
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
            Self::History(report) => report.document(),
            Self::Matrix(report) => report.document(),
            Self::Packages { report, top } => report.document(*top),
        }
    }
}

/// The warnings among the notes of a report, without the word.
fn warnings(notes: &[String]) -> impl Iterator<Item = &str> {
    notes.iter().filter_map(|note| note.strip_prefix("warning: "))
}

/// Turns a report into a text of one format.
pub trait Exporter {
    /// The whole file, with a line break at its end.
    ///
    /// # Errors
    /// When the report cannot be written in this format.
    fn export(&self, report: &Report) -> Result<String, Error>;
}

/// A format that `--format` names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// JSON by a schema.
    Json,
    /// Markdown for a comment on a pull request: at most [`LINES`] lines.
    Markdown,
    /// Annotations of GitHub Actions.
    Github,
    /// JUnit's XML.
    Junit,
    /// CSV: one row a figure.
    Csv,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 6] = [Self::Text, Self::Json, Self::Markdown, Self::Github, Self::Junit, Self::Csv];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Github => "github",
            Self::Junit => "junit",
            Self::Csv => "csv",
        }
    }

    /// Its exporter; `None` for text, which depends on the terminal.
    #[must_use]
    pub fn exporter(self) -> Option<Box<dyn Exporter>> {
        Some(match self {
            Self::Text => return None,
            Self::Json => Box::new(Json),
            Self::Markdown => Box::new(Comment),
            Self::Github => Box::new(Annotations),
            Self::Junit => Box::new(Junit),
            Self::Csv => Box::new(Csv),
        })
    }
}

/// The exporter for a file by its extension: `.json`, `.txt`, `.md`, `.html`, `.csv`, or `.xml` for JUnit.
///
/// # Errors
/// When the ending is another.
pub fn exporter_for(file: &Path) -> Result<Box<dyn Exporter>, Error> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("json") => Ok(Box::new(Json)),
        Some("txt") => Ok(Box::new(Text)),
        Some("md") => Ok(Box::new(Markdown)),
        Some("html" | "htm") => Ok(Box::new(Html)),
        Some("csv") => Ok(Box::new(Csv)),
        Some("xml") => Ok(Box::new(Junit)),
        _ => Err(Error::usage("unknown report format")
            .file(file)
            .hint("use a name that ends in .json, .txt, .md, .html, .csv or .xml")),
    }
}
