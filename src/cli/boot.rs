//! `btrsquash boot`.

use std::time::Duration;

use crate::cli::args::{Boot, Cpus};
use btrsquash::error::Error;
use btrsquash::kernel;
use btrsquash::ram::{self, Facts, Kernel, Machine};
use btrsquash::report::{Report, from};
use btrsquash::vm::{self, BootOptions, Range};
use btrsquash::{image, initrd};

use super::output::print;
use super::progress::Progress;
use super::show::Show;

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
        qemu: smp(options.cpus).into_iter().chain(options.qemu.iter().cloned()).collect(),
        second_serial: None,
    };
    let progress = Progress::new(options.quiet);
    if options.find_min {
        return find_min(options, &machine, progress);
    }
    progress.say(format!("booting with {} MiB", options.memory));
    let report = if options.measure {
        from::measured(&machine, &vm::measure(&machine)?)
    } else {
        from::boot(&machine, &vm::boot(&machine)?)
    };
    drop(progress);
    print(&Report::Boot(&report), Show { json: options.json, format: None, full: options.full })?;
    if report.booted { Ok(()) } else { Err(Error::failed("the boot failed").file(&options.image).into()) }
}

/// The arguments of QEMU for these CPUs.
fn smp(cpus: Cpus) -> Vec<String> {
    if (cpus.present, cpus.possible) == (1, 1) {
        return Vec::new();
    }
    vec!["-smp".into(), format!("{},maxcpus={}", cpus.present, cpus.possible)]
}

/// The minimum that the model computes for this image with these arguments, bytes; the reason if it cannot.
fn computed(options: &Boot) -> Result<u64, String> {
    let image = image::open(&options.image, &initrd::Limits::default(), &|_| ()).map_err(|e| e.what)?;
    let kernel = kernel::Facts::read(&options.kernel).map_or(Kernel::TYPICAL, |facts| Kernel::from(&facts));
    let mut facts =
        Facts::of(&image, &kernel).ok_or("it is a bare file system image, which no kernel unpacks")?;
    facts.retained |= ram::retains(&options.append);
    let rootfs = ram::rootfs(&options.append, kernel.rootfs_options != Some(false));
    Ok(facts.minimum(&Machine::new(kernel, options.cpus.possible).with_rootfs(rootfs)))
}

fn find_min(options: &Boot, machine: &BootOptions, progress: Progress) -> anyhow::Result<()> {
    progress.say("reading the image for the RAM model".into());
    let computed = computed(options);
    // Without the model, from nothing to what -m says.
    let guess = computed.as_ref().map_or(
        Range { from: options.step, to: options.memory, step: options.step, open: false },
        |minimum| Range::around(*minimum, options.step),
    );
    let range = Range {
        from: options.from.unwrap_or_else(|| options.to.map_or(guess.from, |to| guess.from.min(to))),
        to: options.to.unwrap_or_else(|| options.from.map_or(guess.to, |from| guess.to.max(from))),
        step: options.step,
        open: guess.open && options.from.is_none() && options.to.is_none(),
    };
    if range.from > range.to {
        return Err(Error::usage(format!("--from {} is more than --to {}", range.from, range.to)).into());
    }
    let found =
        vm::find_min(machine, range, &|mib| progress.say(format!("booting with {mib} MiB")), &|attempt| {
            let seconds = attempt.duration.as_secs();
            let what = if attempt.verdict.reached() { "boots" } else { &attempt.why };
            progress.note(format!("  {:>5} MiB  {seconds:>3} s  {what}", attempt.mib));
        })?;
    drop(progress);
    let report = from::minimum(machine, range, computed, &found);
    print(&Report::Min(&report), Show { json: options.json, format: None, full: options.full })?;
    match report.minimum {
        Some(_) => Ok(()),
        None => Err(Error::failed("does not boot").file(&options.image).into()),
    }
}
