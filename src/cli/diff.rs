//! `btrsquash diff`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::args::Diff;
use btrsquash::compare::{self, Aspect, DiffOptions};
use btrsquash::error::Error;
use btrsquash::extract::Selection;
use btrsquash::image::Opened;
use btrsquash::packages::PackageMap;
use btrsquash::report::growth::{self, Sizes};
use btrsquash::report::{Report, budget, from};
use btrsquash::{image, initrd, output};

use clap::Args;

use super::checksum::Checksum;
use super::output::{ReportFiles, print};
use super::progress::Progress;

/// Shows what differs between two images; with `--exit-code` a difference is exit code 1.
///
/// # Errors
/// Those of reading the images, and broken budgets.
pub fn diff(options: &Diff) -> anyhow::Result<ExitCode> {
    let files =
        ReportFiles::new(&[], options.html.as_deref(), options.force, &[&options.old, &options.new], &[])?;
    let choices = options.what.choices(options.text)?;
    let limits =
        initrd::Limits { max_unpacked: options.limits.max_unpacked, accept_partial: options.accept_partial };
    let progress = Progress::new(false);
    let checksums = [&options.old, &options.new].map(|image| Checksum::start(image));
    let old = open(&options.old, "reading the old image", &limits, &progress)?;
    let new = open(&options.new, "reading the new image", &limits, &progress)?;
    progress.bytes("comparing", 0, 0);
    let found = compare::diff(&old, &new, &choices)?;
    let mut difference = from::difference(&old, &new, &found);
    let [old_checksum, new_checksum] = checksums;
    difference.old.image.sha256 = old_checksum.finish()?;
    difference.new.image.sha256 = new_checksum.finish()?;
    drop(progress);
    let budgets = budget::Limits { max_size: options.budgets.max_size, max_ram: options.budgets.max_ram };
    difference.budgets = budgets.judge(new.size(), difference.new.ram.as_ref());
    difference.growth = options.growth.limits().map(|limit| {
        let (before, after) = Sizes::of_both(&difference);
        growth::compare(options.old.display().to_string(), &before, &after, limit)
    });
    let report = Report::Difference(&difference);
    let outputs = files.write(&report)?;
    print(&report, options.show)?;
    output::commit(outputs)?;
    budget::check(&difference.budgets)?;
    growth::check(difference.growth.as_ref())?;
    Ok(ExitCode::from(u8::from(options.exit_code && !difference.is_same())))
}

/// What `diff` compares.
#[derive(Debug, Args)]
pub struct What {
    /// Show paths that the release renamed (merged /usr, kernel release, compressed modules) as removed and added
    #[arg(long)]
    pub no_fold: bool,
    /// Compare only these paths, as for ls; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// Leave these paths out; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Ignore differences in: type, content, target, device, mode, owner, links, time
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = aspect)]
    pub ignore: Vec<Aspect>,
    /// The files of packages whose lists the images do not have, as package-map writes them
    #[arg(long, value_name = "FILE")]
    pub package_map: Option<PathBuf>,
}

impl What {
    fn choices(&self, text: bool) -> Result<DiffOptions, Error> {
        let selection =
            |patterns: &[String]| (!patterns.is_empty()).then(|| Selection::new(patterns)).transpose();
        Ok(DiffOptions {
            text,
            no_fold: self.no_fold,
            ignore: self.ignore.clone(),
            only: selection(&self.only)?,
            exclude: selection(&self.exclude)?,
            package_map: self.package_map.as_deref().map(PackageMap::read).transpose()?,
        })
    }
}

/// A property by its name.
fn aspect(name: &str) -> Result<Aspect, String> {
    use Aspect::{Content, Device, Links, Mode, Owner, Target, Time, Type};
    let all = [Type, Content, Target, Device, Mode, Owner, Links, Time];
    all.into_iter().find(|aspect| aspect.name() == name).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|aspect| aspect.name()).collect();
        format!("'{name}' is none of {}", names.join(", "))
    })
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
