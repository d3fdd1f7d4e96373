//! `btrsquash history`.

use std::path::{Path, PathBuf};

use btrsquash::error::Error;
use btrsquash::report::growth::Sizes;
use btrsquash::report::{History, Report};
use clap::Args;

use super::show::Destination;

/// `btrsquash history`.
#[derive(Debug, Args)]
pub struct HistoryOptions {
    /// Reports of inspect --json or convert --json, the oldest first, or directories with them, read in the order of
    /// their names
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Where the result goes.
    #[command(flatten)]
    pub to: Destination,
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
    let outputs = options.to.files(&inputs)?;
    let name = |file: &Path| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let images =
        files.iter().map(|file| Ok((name(file), Sizes::read(file)?))).collect::<Result<Vec<_>, Error>>()?;
    if images.is_empty() {
        return Err(Error::usage("there is no .json file in the directory").into());
    }
    options.to.publish(outputs, &Report::History(&History::new(&images)))
}

/// The .json files of a directory in the order of their names.
fn reports(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |e| Error::unreadable(e).file(directory);
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
