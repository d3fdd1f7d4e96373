//! `btrsquash report`.

use std::path::PathBuf;

use btrsquash::report::Saved;
use clap::Args;

use super::show::Destination;

/// `btrsquash report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// What convert, inspect, diff, verify or boot printed with --json
    #[arg(value_name = "FILE.json")]
    pub file: PathBuf,
    /// Where the result goes.
    #[command(flatten)]
    pub to: Destination,
}

/// Shows a result again that was saved as JSON, without reading an image.
///
/// # Errors
/// When the file is not such a result, or an output cannot be written.
pub fn report(options: &ReportOptions) -> anyhow::Result<()> {
    let inputs = [options.file.as_path()];
    let files = options.to.files(&inputs)?;
    let saved = Saved::read(&options.file)?;
    options.to.publish(files, &saved.report())
}
