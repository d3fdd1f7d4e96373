//! Options of several commands on how a result is judged and printed.

use std::path::{Path, PathBuf};

use btrsquash::output;
use btrsquash::report::growth::{Limit, Limits};
use btrsquash::report::{Format, Report};
use clap::Args;
use clap::builder::TypedValueParser;

use super::args::one_of;
use super::output::{ReportFiles, print};
use super::sizes::{memory, size};

/// How much an image may grow.
#[derive(Debug, Args)]
pub struct MaxGrowth {
    /// Fail (exit 1) when the image, a part or a package grew by more than each of these: PERCENT of the old image, SIZE,
    /// or both as in 2%,1MB
    #[arg(long, value_name = "PERCENT%,SIZE", value_parser = max_growth)]
    pub max_growth: Option<Limit>,
    /// Fail (exit 1) when the minimum RAM grew by more than each of these: PERCENT of the old one, SIZE, or both as in
    /// 5%,8MiB
    #[arg(long, value_name = "PERCENT%,SIZE", value_parser = max_ram_growth)]
    pub max_ram_growth: Option<Limit>,
}

impl MaxGrowth {
    /// The limits; `None` if none was set.
    #[must_use]
    pub fn limits(&self) -> Option<Limits> {
        let limits = Limits {
            size: self.max_growth.unwrap_or_default(),
            ram: self.max_ram_growth.unwrap_or_default(),
        };
        (limits != Limits::default()).then_some(limits)
    }
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Show {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Print the result as text, JSON, Markdown for a comment on a pull request, annotations of GitHub Actions, JUnit's XML
    /// or CSV
    #[arg(long, conflicts_with = "json", value_parser = format_names())]
    pub format: Option<Format>,
    /// Print the whole report as text, not only the answer
    #[arg(long)]
    pub full: bool,
}

/// Where a result goes that is made from saved ones.
#[derive(Debug, Args)]
pub struct Destination {
    /// Format to print
    #[arg(long, default_value = "text", value_parser = format_names())]
    pub format: Format,
    /// Also write it to this .json, .txt, .md, .html, .csv or .xml (JUnit) file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Also write it as a web page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
}

impl Destination {
    /// The files that were asked for.
    ///
    /// # Errors
    /// If one cannot be written, or is one of `inputs`.
    pub fn files(&self, inputs: &[&Path]) -> anyhow::Result<ReportFiles> {
        ReportFiles::new(&self.report, self.html.as_deref(), self.force, inputs, &[])
    }

    /// Writes and prints a result.
    ///
    /// # Errors
    /// If an output cannot be written.
    pub fn publish(&self, files: ReportFiles, report: &Report<'_>) -> anyhow::Result<()> {
        let written = files.write(report)?;
        print(report, self.format)?;
        Ok(output::commit(written)?)
    }
}

impl From<Format> for Show {
    fn from(format: Format) -> Self {
        Self { json: false, format: Some(format), full: true }
    }
}

impl Show {
    /// The format that was asked for.
    #[must_use]
    pub fn format(self) -> Format {
        let default = if self.json { Format::Json } else { Format::Text };
        self.format.unwrap_or(default)
    }
}

/// The formats, as clap shows and completes them.
pub fn format_names() -> impl TypedValueParser<Value = Format> {
    one_of(&Format::ALL.map(Format::name), format)
}

fn format(text: &str) -> Result<Format, String> {
    Format::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| "no such format".into())
}

/// `2%`, `1MB` or `2%,1MB`.
fn max_growth(text: &str) -> Result<Limit, String> {
    growth(text, size)
}

/// `2%`, `8MiB` or `2%,8MiB`.
fn max_ram_growth(text: &str) -> Result<Limit, String> {
    growth(text, memory)
}

fn growth(text: &str, size: fn(&str) -> Result<u64, String>) -> Result<Limit, String> {
    let mut limit = Limit::default();
    for part in text.split(',') {
        match part.trim().strip_suffix('%') {
            Some(number) => {
                let percent =
                    number.parse::<f64>().ok().filter(|percent| percent.is_finite() && *percent >= 0.0);
                limit.percent = Some(percent.ok_or_else(|| format!("'{part}' is not a percentage"))?);
            }
            None => limit.bytes = Some(size(part)?),
        }
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_on_growth() {
        let limit = |percent, bytes| Ok(Limit { percent, bytes });
        assert_eq!(max_growth("2%,1MB"), limit(Some(2.0), Some(1_000_000)));
        assert_eq!(max_growth("0.5%"), limit(Some(0.5), None));
        assert_eq!(max_growth("1MiB"), limit(None, Some(1 << 20)));
        assert_eq!(max_ram_growth("5%,8M"), limit(Some(5.0), Some(8 << 20)));
        for wrong in ["", "%", "-1%", "2%,much", "NaN%"] {
            assert!(max_growth(wrong).is_err(), "{wrong}");
        }
    }
}
