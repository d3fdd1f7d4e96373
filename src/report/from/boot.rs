//! What booting an image showed → its reports.

use std::time::Duration;

use crate::report::data::{BootReport, Figure, MinReport, Moment, SCHEMA_VERSION, Tool, Try};
use crate::report::units::mebibytes;
use crate::vm::{self, Accelerator, BootOptions, Measurement, Minimum, Note, Outcome, Range, Verdict, When};

/// The report of one boot.
#[must_use]
pub fn boot(options: &BootOptions, outcome: &Outcome) -> BootReport {
    BootReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: options.initrd.display().to_string(),
        kernel: options.kernel.display().to_string(),
        accelerator: accelerator(&outcome.accelerator),
        ram_mib: options.memory_mib,
        booted: outcome.verdict.reached(),
        outcome: outcome.verdict.describe(),
        milliseconds: milliseconds(outcome.duration),
        console: outcome.tail.clone(),
        moments: Vec::new(),
        notes: Vec::new(),
    }
}

/// The report of a boot with a probe.
#[must_use]
pub fn measured(options: &BootOptions, found: &Measurement) -> BootReport {
    BootReport {
        moments: found.moments.iter().map(moment).collect(),
        notes: found.notes.iter().map(note).collect(),
        ..boot(options, &found.outcome)
    }
}

/// The report of a search for the minimum in `range`; `computed` is what the RAM model says, in bytes, or why it says
/// nothing.
#[must_use]
pub fn minimum(
    options: &BootOptions,
    range: Range,
    computed: Result<u64, String>,
    found: &Minimum,
) -> MinReport {
    let below = found.below();
    let largest = found.attempts.last();
    let failed = if found.least.is_some() { below } else { largest };
    let mut notes = Vec::new();
    let computed = computed
        .map_err(|why| notes.push(format!("the RAM model cannot say anything about this image: {why}")))
        .ok();
    if below.is_some_and(|attempt| attempt.verdict == Verdict::TimedOut) {
        notes.push(format!(
            "with less memory it was still running after {} s: it may only be slow there",
            found.patience.as_secs()
        ));
    }
    MinReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: options.initrd.display().to_string(),
        kernel: options.kernel.display().to_string(),
        accelerator: found.accelerator.as_ref().map(accelerator).unwrap_or_default(),
        from_mib: found.attempts.first().map_or(range.from, |attempt| attempt.mib.min(range.from)),
        to_mib: largest.map_or(range.to, |attempt| attempt.mib.max(range.to)),
        step_mib: range.step,
        minimum: found.least.map(|mib| Figure::measured(mib << 20)),
        why_less_fails: failed.map_or_else(
            || "not known: less was not tried".into(),
            |attempt| format!("{} MiB: {}", attempt.mib, attempt.why),
        ),
        computed: computed.map(Figure::computed),
        tries: found.attempts.iter().map(attempt).collect(),
        notes,
    }
}

fn attempt(attempt: &vm::Attempt) -> Try {
    Try {
        ram_mib: attempt.mib,
        booted: attempt.verdict.reached(),
        why: attempt.why.clone(),
        milliseconds: milliseconds(attempt.duration),
    }
}

fn moment(moment: &vm::Moment) -> Moment {
    let figure = if moment.measured { Figure::measured } else { Figure::computed };
    let (phase, milliseconds) = match moment.when {
        When::Phase(phase) => (Some(phase), None),
        When::LeastAvailable(milliseconds) => (None, Some(milliseconds)),
    };
    Moment { phase, milliseconds, used: figure(moment.used), available: figure(moment.available) }
}

fn note(note: &Note) -> String {
    match note {
        Note::Silent => {
            "the probe reported nothing: the boot ended before init ran, or the kernel has no ttyS1".into()
        }
        Note::Unpacked(Some(freed)) => format!(
            "unpacked: memory cannot be observed while the kernel unpacks; computed from what init found and the {} \
             that the kernel freed just before",
            mebibytes(*freed)
        ),
        Note::Unpacked(None) => "unpacked: the kernel freed no image, so this is what init found".into(),
        Note::InitAfterSwitch => "init: when PID 1 had another root than at the start".into(),
        Note::Samples { count, first, last, probe } => format!(
            "{count} readings of /proc/meminfo, {} to {} s after the kernel's start, by a probe that takes {:.1} MiB \
             itself",
            seconds(*first),
            seconds(*last),
            *probe as f64 / f64::from(1 << 20)
        ),
    }
}

fn accelerator(accelerator: &Accelerator) -> String {
    let name = if accelerator.name == "tcg" { "emulation (tcg)" } else { accelerator.name };
    format!("{name}: {}", accelerator.why)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds with one decimal, cut off.
fn seconds(milliseconds: u64) -> String {
    format!("{}.{}", milliseconds / 1000, milliseconds / 100 % 10)
}
