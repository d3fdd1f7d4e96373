//! `btrsquash diff`.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::args::Diff;
use btrsquash::compare::{self, DiffOptions};
use btrsquash::image::Opened;
use btrsquash::report::{Report, budget, from};
use btrsquash::{image, initrd, output};

use super::output::{ReportFiles, print};
use super::progress::Progress;

/// Shows what differs between two images; with `--exit-code` a difference is exit code 1.
///
/// # Errors
/// Those of reading the images, and broken budgets.
pub fn diff(options: &Diff) -> anyhow::Result<ExitCode> {
    let files =
        ReportFiles::new(&[], options.html.as_deref(), options.force, &[&options.old, &options.new], &[])?;
    let limits =
        initrd::Limits { max_unpacked: options.limits.max_unpacked, accept_partial: options.accept_partial };
    let progress = Progress::new(false);
    let old = open(&options.old, "reading the old image", &limits, &progress)?;
    let new = open(&options.new, "reading the new image", &limits, &progress)?;
    progress.bytes("comparing", 0, 0);
    let found = compare::diff(&old, &new, &DiffOptions { text: options.text })?;
    let mut difference = from::difference(&old, &new, &found);
    drop(progress);
    let budgets = budget::Limits { max_size: options.budgets.max_size, max_ram: options.budgets.max_ram };
    difference.budgets = budgets.judge(new.size(), difference.new.ram.as_ref());
    let report = Report::Difference(&difference);
    let outputs = files.write(&report)?;
    print(&report, options.json)?;
    output::commit(outputs)?;
    budget::check(&difference.budgets)?;
    Ok(ExitCode::from(u8::from(options.exit_code && !difference.is_same())))
}

/// Opens an image under the name of a stage.
///
/// # Errors
/// Those of reading it.
pub fn open(
    path: &Path,
    stage: &str,
    limits: &initrd::Limits,
    progress: &Progress,
) -> anyhow::Result<Opened> {
    let size = path.metadata().map_or(0, |metadata| metadata.len());
    Ok(image::open(path, limits, &|done| progress.bytes(stage, done, size))?)
}
