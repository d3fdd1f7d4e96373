//! `btrsquash inspect`.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::args::Inspect;
use btrsquash::error::{self, Error};
use btrsquash::initrd;
use btrsquash::kernel;
use btrsquash::output;
use btrsquash::packages::{PackageMap, Packages};
use btrsquash::ram::{Kernel, Machine};
use btrsquash::report::growth::{self, Sizes};
use btrsquash::report::{Inspection, Matrix, MatrixRow, PackageTotals, Report, budget, from};

use super::checksum::Checksum;
use super::diff::open;
use super::output::{ReportFiles, complain, print};
use super::progress::Progress;

/// Shows what an image is made of, or several images in a table.
///
/// # Errors
/// Those of reading the one image, and broken limits.
pub fn inspect(options: &Inspect) -> anyhow::Result<ExitCode> {
    let inputs: Vec<&Path> = options.images.iter().map(AsRef::as_ref).collect();
    let files = ReportFiles::new(&[], options.html.as_deref(), options.force, &inputs, &[])?;
    let context = Context::new(options)?;
    let publish = |report: &Report<'_>| -> anyhow::Result<()> {
        let outputs = files.write(report)?;
        print(report, options.show)?;
        Ok(output::commit(outputs)?)
    };
    if let [image] = inputs.as_slice() {
        let inspection = context.image(image)?;
        publish(&Report::Inspection(&inspection))?;
        check(&inspection)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for image in inputs {
        rows.push(match context.image(image) {
            Ok(inspection) => MatrixRow::from(&inspection).judged(check(&inspection)),
            Err(failure) => failed(image, &failure),
        });
    }
    let matrix = Matrix::new(rows);
    publish(&Report::Matrix(&matrix))?;
    Ok(ExitCode::from(matrix.exit_code()))
}

/// The row of an image for which the command failed; the error is printed, too.
pub fn failed(image: &Path, failure: &anyhow::Error) -> MatrixRow {
    complain(failure, false);
    // What to do is on lines of its own.
    let message = failure.to_string().lines().next().unwrap_or_default().to_owned();
    MatrixRow::failed(image.display().to_string(), error::exit_code(failure), message)
}

fn check(inspection: &Inspection) -> Result<(), Error> {
    budget::check(&inspection.budgets)?;
    growth::check(inspection.growth.as_ref())
}

/// What is the same for all images.
struct Context<'a> {
    options: &'a Inspect,
    baseline: Option<Sizes>,
    map: Option<PackageMap>,
    machine: Machine,
}

impl<'a> Context<'a> {
    fn new(options: &'a Inspect) -> Result<Self, Error> {
        if options.baseline.is_none() && options.growth.limits().is_some() {
            return Err(Error::usage("a limit on growth needs an image to compare with")
                .hint("add --baseline FILE.json, which inspect --json or convert --json wrote"));
        }
        if options.baseline.is_some() && options.images.len() > 1 {
            return Err(Error::usage("a baseline is that of one image, and several are given")
                .hint("inspect each image with its own baseline"));
        }
        let kernel = match &options.kernel {
            Some(path) => Kernel::from(&kernel::Facts::read(path)?),
            None => Kernel::TYPICAL,
        };
        Ok(Self {
            options,
            baseline: options.baseline.as_deref().map(Sizes::read).transpose()?,
            map: options.package_map.as_deref().map(PackageMap::read).transpose()?,
            machine: Machine::new(kernel, options.cpus),
        })
    }

    /// What one image is made of, with its limits judged.
    fn image(&self, path: &Path) -> anyhow::Result<Inspection> {
        let options = self.options;
        let limits = initrd::Limits { max_unpacked: options.limits.max_unpacked, accept_partial: true };
        let progress = Progress::new(false);
        let checksum = Checksum::start(path);
        let image = open(path, "reading the image", &limits, &progress)?;
        progress.bytes("looking for duplicates", 0, 0);
        let found = btrsquash::inspect::inspect(&image, &self.machine)?;
        let mut inspection = from::inspection(&image, &found, options.depth);
        // An image is shown even if its package database is damaged.
        match Packages::read(&image.system, self.map.as_ref()) {
            Ok(packages) => {
                let accounts = found.shares.accounts(&image.system, &packages);
                inspection.packages = from::package_sizes(&packages, &accounts);
                inspection.package_totals = Some(PackageTotals::new(&packages, &accounts));
            }
            Err(e) => inspection.notes.push(e.to_string()),
        }
        inspection.image.sha256 = checksum.finish()?;
        drop(progress);
        let budgets = budget::Limits { max_size: options.budgets.max_size, max_ram: options.budgets.max_ram };
        inspection.budgets = budgets.judge(image.size(), inspection.ram.as_ref());
        inspection.growth = self.baseline.as_ref().zip(options.baseline.as_ref()).map(|(before, file)| {
            let limit = options.growth.limits().unwrap_or_default();
            growth::compare(file.display().to_string(), before, &Sizes::from(&inspection), limit)
        });
        Ok(inspection)
    }
}
