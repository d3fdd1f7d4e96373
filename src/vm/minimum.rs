//! The least RAM in which an image reaches its screen.

use std::time::Duration;

use super::{Accelerator, BootOptions, Verdict, boot};
use crate::error::Error;

/// Where to look, MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The least to try.
    pub from: u64,
    /// The most to try.
    pub to: u64,
    /// How close to look.
    pub step: u64,
}

/// One boot of the search.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Memory, MiB.
    pub mib: u64,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it failed, in a few words; empty where it did not.
    pub why: String,
    /// How long it took.
    pub duration: Duration,
}

/// What the search found.
#[derive(Debug, Clone)]
pub struct Minimum {
    /// The least that reached the screen, MiB: the step below it failed, unless it is the least that was to be tried.
    pub least: Option<u64>,
    /// Every boot, by memory.
    pub attempts: Vec<Attempt>,
    /// KVM or emulation, and why.
    pub accelerator: Option<Accelerator>,
}

/// Why less memory fails.
fn why(verdict: &Verdict, console: &[u8]) -> String {
    let says = |needle: &[u8]| console.windows(needle.len()).any(|window| window == needle);
    match verdict {
        Verdict::Reached(_) => String::new(),
        Verdict::Unpacking(line) if line.contains("write error") => "unpacking: the rootfs is full".into(),
        Verdict::Unpacking(_) => "unpacking".into(),
        Verdict::OutOfMemory(_) => "out of memory".into(),
        _ if says(b"Out of memory:") || says(b"page allocation failure") => "out of memory".into(),
        _ if says(b"No space left on device") => "no space left in a tmpfs".into(),
        Verdict::Panic(_) => "kernel panic".into(),
        Verdict::Emergency(_) => "emergency shell".into(),
        Verdict::FrontEnd(_) => "the front-end gave up".into(),
        Verdict::Failed(_) => "what --fail names showed".into(),
        // Without the memory for its own start or for the image, nothing is said at all.
        Verdict::Exited(_) if console.is_empty() => "the image does not fit beside the kernel".into(),
        Verdict::Exited(_) => "the machine ended".into(),
        Verdict::TimedOut => "time".into(),
    }
}

/// Looks for the least memory by halving the range, on the assumption that more memory never hurts; the step below what
/// is found was tried and failed. `progress` is told each amount before it is tried.
///
/// # Errors
/// Those of [`boot`].
pub fn find_min(
    options: &BootOptions,
    range: Range,
    progress: &dyn Fn(u64),
    tried: &dyn Fn(&Attempt),
) -> Result<Minimum, Error> {
    let step = range.step.max(1);
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut accelerator = None;
    let mut attempt = |mib: u64, attempts: &mut Vec<Attempt>| -> Result<bool, Error> {
        progress(mib);
        let outcome = boot(&BootOptions { memory_mib: mib, ..options.clone() }, &|_| ())?;
        let reached = outcome.verdict.reached();
        let why = why(&outcome.verdict, &outcome.console);
        attempts.push(Attempt { mib, verdict: outcome.verdict, why, duration: outcome.duration });
        attempts.last().inspect(|a| tried(a));
        accelerator = Some(outcome.accelerator);
        Ok(reached)
    };
    let count = range.to.saturating_sub(range.from) / step;
    let at = |i: u64| range.from + i * step;
    let mut least = None;
    if attempt(at(count), &mut attempts)? {
        // `low` failed or is before the first, `high` reached.
        let (mut low, mut high) = (-1_i64, count as i64);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if attempt(at(middle as u64), &mut attempts)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        least = Some(at(high as u64));
    }
    attempts.sort_by_key(|a| a.mib);
    Ok(Minimum { least, attempts, accelerator })
}
