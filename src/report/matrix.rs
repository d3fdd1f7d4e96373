//! What `inspect` and `convert --each` show of several images: one row an image.

use serde::{Deserialize, Serialize};

use super::data::{Conversion, Figure, Inspection, SCHEMA_VERSION, Tool};
use super::document::{Block, Cell, Document, Table, Tone};
use super::units::{change, count, mebibytes, size};
use crate::error::Error;

/// Several images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The images in the order of the command line.
    pub images: Vec<MatrixRow>,
}

/// One image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixRow {
    /// The file, as the user named it.
    pub image: String,
    /// The exit code that the command has for this image alone.
    pub exit_code: u8,
    /// Why it is not 0.
    pub message: Option<String>,
    /// The warnings of the report of this image alone.
    pub warnings: Vec<String>,
    /// `monolith`, `converted (…)`, `squashfs`, …
    pub verdict: Option<String>,
    /// The distribution, as its os-release names it.
    pub distribution: Option<String>,
    /// Bytes of the file.
    pub size: Option<u64>,
    /// The minimum RAM.
    pub ram: Option<Figure>,
    /// The file that it was converted to.
    pub new: Option<String>,
    /// Bytes of that file.
    pub new_size: Option<u64>,
    /// The minimum RAM of the new image.
    pub new_ram: Option<Figure>,
    /// SHA-256 in hexadecimal of the new image, or of the one that was looked at.
    pub sha256: Option<String>,
}

impl From<&Inspection> for MatrixRow {
    fn from(report: &Inspection) -> Self {
        Self {
            image: report.image.path.clone(),
            verdict: Some(report.identity.verdict.clone()),
            distribution: report.identity.distribution.clone(),
            size: Some(report.image.size),
            ram: report.ram.as_ref().map(super::Ram::best),
            sha256: report.image.sha256.clone(),
            warnings: super::warnings(&report.notes).map(str::to_owned).collect(),
            ..Self::default()
        }
    }
}

impl From<&Conversion> for MatrixRow {
    fn from(report: &Conversion) -> Self {
        // With a split layout the largest file is the runtime, which is what verify compares.
        let file = report.files.iter().max_by_key(|file| file.bytes);
        Self {
            image: report.old.path.clone(),
            verdict: Some(report.identity.verdict.clone()),
            distribution: report.identity.distribution.clone(),
            size: Some(report.old.size),
            ram: Some(report.ram_before.best()),
            new: file.map(|file| file.path.clone()),
            new_size: report.new.as_ref().map(|new| new.size),
            new_ram: report.ram_after.as_ref().map(super::Ram::best),
            sha256: file.map(|file| file.sha256.clone()),
            warnings: super::warnings(&report.notes).map(str::to_owned).collect(),
            ..Self::default()
        }
    }
}

impl MatrixRow {
    /// An image for which the command failed.
    #[must_use]
    pub fn failed(image: String, exit_code: u8, message: String) -> Self {
        Self { image, exit_code, message: Some(message), ..Self::default() }
    }

    /// The row of an image whose limits were judged.
    #[must_use]
    pub fn judged(self, limits: Result<(), Error>) -> Self {
        match limits {
            Ok(()) => self,
            Err(broken) => {
                Self { exit_code: broken.kind.exit_code(), message: Some(broken.to_string()), ..self }
            }
        }
    }

    /// What became of the image. Most messages name it already.
    pub(super) fn sentence(&self) -> String {
        match self.message.as_deref().unwrap_or("done") {
            message if message.starts_with(&self.image) => message.to_owned(),
            message => format!("{}: {message}", self.image),
        }
    }
}

impl Matrix {
    /// The matrix of `images`.
    #[must_use]
    pub fn new(images: Vec<MatrixRow>) -> Self {
        Self { schema_version: SCHEMA_VERSION, tool: Tool::default(), images }
    }

    /// The exit code of the command: the highest of all images.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.images.iter().map(|row| row.exit_code).max().unwrap_or(0)
    }

    /// What it says to people.
    #[must_use]
    pub fn document(&self) -> Document {
        let failed: Vec<&MatrixRow> = self.images.iter().filter(|row| row.exit_code != 0).collect();
        let all = count(self.images.len() as u64, "image");
        let title = match failed.len() {
            0 => all,
            number => format!("{all}, {number} failed"),
        };
        let mut page = Document { title, ..Document::default() };
        for row in &failed {
            page.blocks.push(Block::Verdict { good: false, text: row.sentence() });
        }
        page.section("Images");
        page.table(self.table());
        let warnings = self
            .images
            .iter()
            .flat_map(|row| row.warnings.iter().map(|warning| format!("{}: warning: {warning}", row.image)));
        page.list(warnings.collect());
        page
    }

    fn table(&self) -> Table {
        let converted = self.images.iter().any(|row| row.new_size.is_some());
        // A conversion's figures need the room.
        let mut columns = vec!["image"];
        columns.extend((!converted).then_some(["what it is", "distribution"]).into_iter().flatten());
        columns.push(">size");
        columns.extend(converted.then_some([">new", ">change"]).into_iter().flatten());
        columns.push(if converted { ">RAM" } else { ">minimum RAM" });
        columns.extend(converted.then_some([">new", ">change"]).into_iter().flatten());
        columns.push(">exit");
        let mut table = Table::new("Images", &columns);
        for row in &self.images {
            let text = |text: &Option<String>| Cell::dim(text.clone().unwrap_or_default());
            let ram = |figure: Option<Figure>| figure.map(|figure| figure.value);
            let mut cells: Vec<Cell> = vec![row.image.clone().into()];
            cells.extend(
                (!converted).then(|| [text(&row.verdict), text(&row.distribution)]).into_iter().flatten(),
            );
            cells.extend(figures(row.size, row.new_size, converted, size));
            cells.extend(figures(ram(row.ram), ram(row.new_ram), converted, mebibytes));
            let tone = if row.exit_code == 0 { Tone::Good } else { Tone::Bad };
            cells.push(Cell::toned(row.exit_code.to_string(), tone));
            table.rows.push(cells);
        }
        table
    }
}

/// A figure, and the one after the conversion with its change if `converted`.
fn figures(old: Option<u64>, new: Option<u64>, converted: bool, shown: fn(u64) -> String) -> Vec<Cell> {
    let mut cells = vec![old.map_or_else(String::new, shown).into()];
    if converted {
        cells.push(new.map_or_else(String::new, shown).into());
        cells.push(match (old, new) {
            (Some(old), Some(new)) => {
                Cell::toned(change(old, new), if new > old { Tone::Bad } else { Tone::Good })
            }
            _ => Cell::default(),
        });
    }
    cells
}
