//! `btrsquash report`.

use std::path::{Path, PathBuf};

use btrsquash::error::Error;
use btrsquash::report::{Measured, Saved, budget};
use clap::Args;

use super::convert::measured;
use super::show::Destination;

/// `btrsquash report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// What convert, inspect, diff, verify or boot printed with --json. With more than one file, what `boot --find-min
    /// --json` or `boot --measure --json` printed is added to the report of the image that has the same name
    #[arg(value_name = "FILE.json", required = true)]
    pub files: Vec<PathBuf>,
    /// Add figures to the report, whatever the name of the image that ran: old=FILE or new=FILE
    #[arg(long, value_name = "old|new=FILE")]
    pub measured: Vec<String>,
    /// Where the result goes.
    #[command(flatten)]
    pub to: Destination,
}

/// Shows a result again that was saved as JSON, without reading an image. A limit on memory that the measured figures exceed
/// fails.
///
/// # Errors
/// When the file is not such a result, or an output cannot be written.
pub fn report(options: &ReportOptions) -> anyhow::Result<()> {
    let inputs: Vec<&Path> = options.files.iter().map(PathBuf::as_path).collect();
    let files = options.to.files(&inputs)?;
    let saved = options.files.iter().map(|file| Ok((file, Saved::read(file)?)));
    let saved = saved.collect::<Result<Vec<_>, Error>>()?;
    let (mut ran, mut reports): (Vec<_>, Vec<_>) =
        saved.into_iter().partition(|(_, saved)| matches!(saved, Saved::Boot(_) | Saved::Min(_)));
    let alone = if reports.is_empty() && ran.len() == 1 { ran.pop() } else { None };
    let (Some((_, mut report)), true) = (alone.or_else(|| reports.pop()), reports.is_empty()) else {
        return Err(Error::usage("give one report of an image, and further ones of boot only")
            .hint("btrsquash history compares the reports of several images")
            .into());
    };
    // Without new figures nothing is judged again: what was shown before is shown again.
    let judged = !ran.is_empty() || !options.measured.is_empty();
    for (file, boot) in ran {
        let figures = Measured::of(boot).map_err(|e| e.file(file))?;
        if let Some(figures) = figures {
            report.add(&figures, None).map_err(|e| e.file(file))?;
        }
    }
    for text in &options.measured {
        let (which, found) = measured(text)?;
        report.add(&found, Some(which))?;
    }
    options.to.publish(files, &report.report())?;
    if judged { Ok(budget::check(report.budgets())?) } else { Ok(()) }
}
