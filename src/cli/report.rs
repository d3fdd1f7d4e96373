//! `btrsquash report`.

use std::path::PathBuf;

use btrsquash::output;
use btrsquash::report::{Format, Saved};
use clap::Args;

use super::output::{ReportFiles, print};

/// `btrsquash report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// What convert, inspect, diff, verify or boot printed with --json
    #[arg(value_name = "FILE.json")]
    pub file: PathBuf,
    /// Format to print
    #[arg(long, default_value = "text", value_parser = super::show::format_names())]
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

/// Shows a result again that was saved as JSON, without reading an image.
///
/// # Errors
/// When the file is not such a result, or an output cannot be written.
pub fn report(options: &ReportOptions) -> anyhow::Result<()> {
    let inputs = [options.file.as_path()];
    let files = ReportFiles::new(&options.report, options.html.as_deref(), options.force, &inputs, &[])?;
    let saved = Saved::read(&options.file)?;
    let outputs = files.write(&saved.report())?;
    print(&saved.report(), options.format)?;
    output::commit(outputs)?;
    Ok(())
}
