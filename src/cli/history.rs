//! `btrsquash history`.

use std::path::{Path, PathBuf};

use btrsquash::error::Error;
use btrsquash::output;
use btrsquash::report::growth::Sizes;
use btrsquash::report::{Format, History, Report};
use clap::Args;

use super::output::{ReportFiles, print};

/// `btrsquash history`.
#[derive(Debug, Args)]
pub struct HistoryOptions {
    /// Reports of inspect --json or convert --json, the oldest first, or directories with them, read in the order of
    /// their names
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Format to print
    #[arg(long, default_value = "text", value_parser = super::show::format_names())]
    pub format: Format,
    /// Also write it to this .json, .txt, .md, .html or .csv file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Also write it as a web page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
}

/// Shows size and minimum RAM over time.
///
/// # Errors
/// When a report cannot be read or an output cannot be written.
pub fn history(options: &HistoryOptions) -> anyhow::Result<()> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in &options.files {
        if path.is_dir() { files.extend(reports(path)?) } else { files.push(path.clone()) }
    }
    let inputs: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let outputs = ReportFiles::new(&options.report, options.html.as_deref(), options.force, &inputs, &[])?;
    let name = |file: &Path| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let images =
        files.iter().map(|file| Ok((name(file), Sizes::read(file)?))).collect::<Result<Vec<_>, Error>>()?;
    if images.is_empty() {
        return Err(Error::usage("there is no .json file in the directory").into());
    }
    let history = History::new(&images);
    let report = Report::History(&history);
    let written = outputs.write(&report)?;
    print(&report, options.format)?;
    output::commit(written)?;
    Ok(())
}

/// The .json files of a directory in the order of their names.
fn reports(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |e| Error::usage("cannot be read").caused_by(e).file(directory);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
