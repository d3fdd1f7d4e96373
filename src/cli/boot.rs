//! `btrsquash boot`.

use std::time::Duration;

use crate::cli::args::Boot;
use btrsquash::error::Error;
use btrsquash::report::{BootReport, Figure, MinReport, Report, SCHEMA_VERSION, Tool, Try};
use btrsquash::vm::{self, Accelerator, BootOptions, Minimum, Outcome, Range};
use btrsquash::{image, initrd, ram};

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
    if options.find_min {
        return find_min(options, &machine, progress);
    }
    progress.say(format!("booting with {} MiB", options.memory));
    let report = if options.measure {
        let found = vm::measure(&machine, &|_| ())?;
        BootReport { moments: found.moments, notes: found.notes, ..described(options, found.outcome) }
    } else {
        described(options, vm::boot(&machine, &|_| ())?)
    };
    drop(progress);
    print(&Report::Boot(&report), options.json)?;
    if report.booted { Ok(()) } else { Err(Error::failed("the boot failed").file(&options.image).into()) }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn accelerator(accelerator: &Accelerator) -> String {
    let name = if accelerator.name == "tcg" { "emulation (tcg)" } else { accelerator.name };
    format!("{name}: {}", accelerator.why)
}

fn described(options: &Boot, outcome: Outcome) -> BootReport {
    BootReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: options.image.display().to_string(),
        kernel: options.kernel.display().to_string(),
        accelerator: accelerator(&outcome.accelerator),
        ram_mib: options.memory,
        booted: outcome.verdict.reached(),
        outcome: outcome.verdict.describe(),
        milliseconds: milliseconds(outcome.duration),
        console: outcome.tail,
        moments: Vec::new(),
        notes: Vec::new(),
    }
}

/// What the model says of this image with these arguments; `None` with the reason for an image that cannot be read.
fn computed(options: &Boot) -> Result<u64, Error> {
    let file = initrd::open(&options.image)?;
    let image = initrd::read(&file, &options.image, &initrd::Limits::default(), &|_| ())?;
    let mut facts = ram::of(&image, &image::classify::classify(&image));
    facts.retained |= ram::retains(&options.append);
    Ok(facts.least(ram::rootfs(&options.append)))
}

fn find_min(options: &Boot, machine: &BootOptions, progress: Progress) -> anyhow::Result<()> {
    progress.say("reading the image for the RAM model".into());
    let mut notes = Vec::new();
    let model = computed(options)
        .inspect_err(|e| notes.push(format!("the RAM model has nothing to say: {}", e.what)))
        .ok();
    // Without the model, from nothing to what -m says.
    let guess = model
        .map_or(Range { from: options.step, to: options.memory, step: options.step, open: false }, |least| {
            Range::around(least, options.step)
        });
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
    let report = minimum(options, range, model, &found, notes);
    print(&Report::Min(&report), options.json)?;
    match report.least {
        Some(_) => Ok(()),
        None => Err(Error::failed("does not boot").file(&options.image).into()),
    }
}

fn minimum(
    options: &Boot,
    range: Range,
    model: Option<u64>,
    found: &Minimum,
    mut notes: Vec<String>,
) -> MinReport {
    let below = found.below();
    let largest = found.attempts.last();
    let failed = if found.least.is_some() { below } else { largest };
    let why_less_fails = match failed {
        Some(attempt) => format!("{} MiB: {}", attempt.mib, attempt.why),
        None => "not known: less was not tried".into(),
    };
    if below.is_some_and(|attempt| attempt.verdict == vm::Verdict::TimedOut) {
        notes.push(format!(
            "with less memory it was still running after {} s: perhaps it is only slow there",
            found.patience.as_secs()
        ));
    }
    MinReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: options.image.display().to_string(),
        kernel: options.kernel.display().to_string(),
        accelerator: found.accelerator.as_ref().map(accelerator).unwrap_or_default(),
        from_mib: found.attempts.first().map_or(range.from, |attempt| attempt.mib.min(range.from)),
        to_mib: largest.map_or(range.to, |attempt| attempt.mib.max(range.to)),
        step_mib: range.step,
        least: found.least.map(|mib| Figure::measured(mib << 20)),
        why_less_fails,
        computed: model.map(Figure::computed),
        tries: found
            .attempts
            .iter()
            .map(|attempt| Try {
                ram_mib: attempt.mib,
                booted: attempt.verdict.reached(),
                why: attempt.why.clone(),
                milliseconds: milliseconds(attempt.duration),
            })
            .collect(),
        notes,
    }
}
