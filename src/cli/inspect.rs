//! `btrsquash inspect`.

use crate::cli::args::Inspect;
use btrsquash::initrd;
use btrsquash::kernel;
use btrsquash::ram::{Kernel, Machine};
use btrsquash::report::{Report, budget, from};

use super::diff::open;
use super::output::print;
use super::progress::Progress;

/// Shows what an image is made of.
///
/// # Errors
/// Those of reading the image, and broken budgets.
pub fn inspect(options: &Inspect) -> anyhow::Result<()> {
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
    drop(progress);
    let budgets = budget::Limits { max_size: options.budgets.max_size, max_ram: options.budgets.max_ram };
    inspection.budgets = budgets.judge(image.size(), inspection.ram.as_ref());
    print(&Report::Inspection(&inspection), options.json)?;
    Ok(budget::check(&inspection.budgets)?)
}
