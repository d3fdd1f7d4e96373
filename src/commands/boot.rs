//! `btrsquash boot`.

use std::time::Duration;

use btrsquash::cli::Boot;
use btrsquash::error::Error;
use btrsquash::report::{BootReport, Report, SCHEMA_VERSION, Tool};
use btrsquash::vm::{self, BootOptions};

use super::output::print;
use super::progress::Progress;

/// Boots an image and watches its console.
///
/// # Errors
/// Those of starting QEMU, and a boot that failed.
pub fn boot(options: &Boot) -> anyhow::Result<()> {
    let machine = BootOptions {
        kernel: options.kernel.clone(),
        initrd: options.image.clone(),
        memory_mib: options.memory,
        expect: options.expect.clone(),
        fail: options.fail.clone(),
        append: options.append.clone(),
        timeout: Duration::from_secs(options.timeout),
        log: options.log.clone(),
        qemu: options.qemu.clone(),
        second_serial: None,
    };
    let progress = Progress::new(options.quiet);
    progress.say(format!("booting with {} MiB", options.memory));
    let outcome = vm::boot(&machine, &|_| ())?;
    drop(progress);
    let report = BootReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: options.image.display().to_string(),
        kernel: options.kernel.display().to_string(),
        accelerator: format!("{} ({})", outcome.accelerator.name, outcome.accelerator.why),
        ram_mib: options.memory,
        booted: outcome.verdict.reached(),
        outcome: outcome.verdict.describe(),
        milliseconds: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        console: outcome.tail,
        moments: Vec::new(),
        notes: Vec::new(),
    };
    print(&Report::Boot(&report), options.json)?;
    if report.booted { Ok(()) } else { Err(Error::failed(report.outcome).file(&options.image).into()) }
}
