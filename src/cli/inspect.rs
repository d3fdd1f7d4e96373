//! `btrsquash inspect`.

use crate::cli::args::Inspect;
use btrsquash::initrd;
use btrsquash::kernel;
use btrsquash::packages::{PackageMap, Packages, accounts};
use btrsquash::ram::{Kernel, Machine};
use btrsquash::report::growth::{self, Sizes};
use btrsquash::report::{Report, budget, from};

use super::diff::open;
use super::output::print;
use super::progress::Progress;

/// Shows what an image is made of.
///
/// # Errors
/// Those of reading the image, and broken budgets.
pub fn inspect(options: &Inspect) -> anyhow::Result<()> {
    let baseline = options.baseline.as_deref().map(Sizes::read).transpose()?;
    let map = options.package_map.as_deref().map(PackageMap::read).transpose()?;
    let limits = initrd::Limits { max_unpacked: options.limits.max_unpacked, accept_partial: true };
    let kernel = match &options.kernel {
        Some(path) => Kernel::from(&kernel::Facts::read(path)?),
        None => Kernel::TYPICAL,
    };
    let progress = Progress::new(false);
    let image = open(&options.image, "reading the image", &limits, &progress)?;
    progress.bytes("looking for duplicates", 0, 0);
    let found = btrsquash::inspect::inspect(&image, &Machine::new(kernel, options.cpus))?;
    let mut inspection = from::inspection(&image, &found, options.depth);
    // An image is shown even if its package database is damaged.
    match Packages::read(&image.system, map.as_ref()) {
        Ok(packages) => inspection.packages = from::package_sizes(&packages, &accounts(&image, &packages)),
        Err(e) => inspection.notes.push(e.to_string()),
    }
    drop(progress);
    let budgets = budget::Limits { max_size: options.budgets.max_size, max_ram: options.budgets.max_ram };
    inspection.budgets = budgets.judge(image.size(), inspection.ram.as_ref());
    inspection.growth = baseline.zip(options.baseline.as_ref()).map(|(before, file)| {
        let limit = options.growth.max_growth.unwrap_or_default();
        growth::compare(file.display().to_string(), &before, &Sizes::from(&inspection), limit)
    });
    print(&Report::Inspection(&inspection), options.show)?;
    budget::check(&inspection.budgets)?;
    Ok(growth::check(inspection.growth.as_ref())?)
}
