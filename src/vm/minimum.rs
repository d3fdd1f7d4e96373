//! The minimum RAM with which an image reaches its screen.

use std::time::Duration;

use super::{Accelerator, BootOptions, Verdict, boot, qemu};
use crate::error::Error;
use crate::ram::{self, Rootfs};

/// Where to look, MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The least to try.
    pub from: u64,
    /// The most to try.
    pub to: u64,
    /// How close to look.
    pub step: u64,
    /// Whether the range is a guess, to be left on either side where the answer lies there.
    pub open: bool,
}

impl Range {
    /// The range in steps that a machine allows, whose memory comes in multiples of `unit` MiB.
    #[must_use]
    pub fn in_units(self, unit: u64) -> Self {
        let unit = unit.max(1);
        let step = self.step.max(1).next_multiple_of(unit);
        let from = self.from.next_multiple_of(unit);
        Self { step, from, to: self.to.next_multiple_of(unit).max(from), ..self }
    }

    /// The range around the minimum that the model computed, bytes.
    #[must_use]
    pub fn around(minimum: u64, step: u64) -> Self {
        let step = step.max(1);
        let mib = minimum.div_ceil(1 << 20);
        let off = (mib / 12).max(24);
        Self {
            from: (mib.saturating_sub(off) / step * step).max(step),
            to: (mib + off).next_multiple_of(step),
            step,
            open: true,
        }
    }
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
    /// How long the boots were given after the first that reached the screen.
    pub patience: Duration,
}

impl Minimum {
    /// The largest amount of memory below [`Minimum::least`] that was tried.
    #[must_use]
    pub fn below(&self) -> Option<&Attempt> {
        let least = self.least?;
        self.attempts.iter().rfind(|attempt| attempt.mib < least)
    }
}

/// No machine of this search is larger, MiB.
const LARGEST: u64 = 64 << 10;
/// A boot may take so many times as long as the first that reached the screen …
const PATIENCE: u32 = 4;
/// … and this much in any case: with little memory everything is read and unpacked again and again.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);

/// Why less memory fails.
fn why(verdict: &Verdict, console: &[u8], rootfs: Rootfs) -> String {
    let says = |needle: &[u8]| console.windows(needle.len()).any(|window| window == needle);
    match verdict {
        Verdict::Reached(_) => String::new(),
        Verdict::Unpacking(line) if line.contains("write error") => match rootfs {
            Rootfs::Tmpfs => "unpacking: rootfs, a tmpfs of half the memory, is full".into(),
            Rootfs::Sized(_) => "unpacking: rootfs is full".into(),
            Rootfs::Ramfs => "unpacking: no memory left for rootfs".into(),
        },
        Verdict::Unpacking(_) => "unpacking failed".into(),
        Verdict::OutOfMemory(_) if !says(b"Run /") => "out of memory while unpacking".into(),
        Verdict::OutOfMemory(_) => "out of memory".into(),
        _ if says(b"Out of memory:") || says(b"page allocation failure") => "out of memory".into(),
        _ if says(b"No space left on device") => "tmpfs full: no space left on device".into(),
        Verdict::Panic(line) => match line.split_once("not syncing: ") {
            Some((_, cause)) => format!("kernel panic: {}", cause.trim()),
            None => "kernel panic".into(),
        },
        Verdict::Emergency(_) => "emergency shell".into(),
        Verdict::FrontEnd(_) => "the boot initramfs gave up".into(),
        Verdict::Failed(_) => "the console matched --fail".into(),
        // QEMU itself says what it does not accept; without memory for the kernel's start or the image nothing is said.
        Verdict::Exited(how) if console.is_empty() => match how.find("qemu-").map(|at| &how[at..]) {
            Some(message) => message.lines().last().unwrap_or(message).to_owned(),
            None => "kernel and image do not fit into memory".into(),
        },
        Verdict::Exited(_) => "QEMU ended".into(),
        Verdict::TimedOut if console.is_empty() => "the kernel does not start".into(),
        Verdict::TimedOut => "timed out".into(),
    }
}

/// Looks for the least memory by halving the range, on the assumption that more memory never hurts; the step below what
/// is found was tried and failed. `progress` is called with each amount before it is tried, `tried` with the outcome.
///
/// A boot that prints `Initramfs unpacking failed` counts as failed whatever came up in spite of it. After the first
/// success no boot is given more than four times as long as that took, or a minute.
///
/// # Errors
/// Those of [`boot`].
pub fn find_min(
    options: &BootOptions,
    range: Range,
    progress: &dyn Fn(u64),
    tried: &dyn Fn(&Attempt),
) -> Result<Minimum, Error> {
    let rootfs = ram::rootfs(&options.append, true);
    let range = range.in_units(qemu::machine(&options.kernel)?.memory_step);
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut accelerator = None;
    let mut patience = options.timeout;
    let mut first = true;
    let least = search(range, |mib| {
        progress(mib);
        let outcome = boot(&BootOptions { memory_mib: mib, timeout: patience, ..options.clone() })?;
        let reached = outcome.verdict.reached();
        if reached && std::mem::take(&mut first) {
            patience = (outcome.duration * PATIENCE).max(LEAST_PATIENCE).min(options.timeout);
        }
        let why = why(&outcome.verdict, &outcome.console, rootfs);
        let attempt = Attempt { mib, verdict: outcome.verdict, why, duration: outcome.duration };
        tried(&attempt);
        attempts.push(attempt);
        accelerator = Some(outcome.accelerator);
        Ok(reached)
    })?;
    attempts.sort_by_key(|a| a.mib);
    Ok(Minimum { least, attempts, accelerator, patience })
}

/// The least of the range for which `boots`.
fn search(range: Range, mut boots: impl FnMut(u64) -> Result<bool, Error>) -> Result<Option<u64>, Error> {
    let step = range.step.max(1);
    let mut span = (range.to.saturating_sub(range.from) / step).max(1) * step;
    let mut high = range.to.max(range.from).max(1);
    // What is known to fail, or is below all that is to be tried.
    let mut low = range.from.saturating_sub(step);
    let mut failed = false;
    while !boots(high)? {
        if !range.open || high >= LARGEST {
            return Ok(None);
        }
        (low, failed) = (high, true);
        high = (high + span).min(LARGEST);
        span *= 2;
    }
    loop {
        // Whole steps down from what boots, so that what was asked for as --to is among them.
        while high - low > step {
            let middle = high - ((high - low) / 2).div_ceil(step) * step;
            let middle = if middle <= low { high - step } else { middle };
            if boots(middle)? {
                high = middle;
            } else {
                (low, failed) = (middle, true);
            }
        }
        if failed || !range.open || low == 0 || high <= step {
            return Ok(Some(high));
        }
        low = low.saturating_sub(span);
        span *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(range: Range, needs: u64) -> (Option<u64>, Vec<u64>) {
        let mut tried = Vec::new();
        let least = search(range, |mib| {
            tried.push(mib);
            Ok(mib >= needs)
        });
        (least.unwrap(), tried)
    }

    #[test]
    fn a_panic_says_its_cause() {
        let panic = |line: &str| why(&Verdict::Panic(line.into()), b"", Rootfs::Tmpfs);
        assert_eq!(
            panic("[    9.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"),
            "kernel panic: Attempted to kill init! exitcode=0x00000100"
        );
        assert_eq!(panic("Kernel panic"), "kernel panic");
    }

    #[test]
    fn the_step_below_was_tried() {
        for open in [false, true] {
            for needs in 1..=64 {
                let range = Range { from: 16, to: 64, step: 4, open };
                let (least, tried) = found(range, needs);
                let least = least.unwrap();
                assert!(least >= needs, "{needs}: {least}");
                if open || needs > 16 {
                    assert!(least < needs + 4, "{needs}: {least}");
                    assert!(least <= 4 || tried.contains(&(least - 4)), "{needs}: {least} {tried:?}");
                }
                assert!(open || tried.iter().all(|mib| (16..=64).contains(mib)), "{tried:?}");
                let mut once = tried.clone();
                once.sort_unstable();
                once.dedup();
                assert_eq!(once.len(), tried.len(), "{tried:?}");
            }
        }
        assert_eq!(found(Range { from: 16, to: 64, step: 4, open: false }, 65).0, None);
        assert_eq!(found(Range { from: 16, to: 64, step: 4, open: true }, 300).0, Some(300));
        assert_eq!(found(Range { from: 16, to: 64, step: 4, open: true }, u64::MAX).0, None);
        assert_eq!(found(Range { from: 70, to: 64, step: 0, open: false }, 10).0, Some(70));
    }

    #[test]
    fn a_machine_with_large_units_is_searched_in_them() {
        let range = Range { from: 112, to: 300, step: 16, open: true }.in_units(256);
        assert_eq!(range, Range { from: 256, to: 512, step: 256, open: true });
        assert_eq!(Range { from: 16, to: 64, step: 16, open: false }.in_units(1).step, 16);
        for needs in [1, 256, 257, 1000] {
            let (least, tried) = found(range, needs);
            assert_eq!(least, Some(needs.next_multiple_of(256).max(256)));
            assert!(tried.iter().all(|mib| mib % 256 == 0), "{tried:?}");
        }
    }

    #[test]
    fn qemu_says_itself_what_it_does_not_accept() {
        let ended =
            Verdict::Exited("exit status: 1: qemu-system-ppc64: Memory size 0x7000000 is not aligned".into());
        assert_eq!(
            why(&ended, b"", Rootfs::Tmpfs),
            "qemu-system-ppc64: Memory size 0x7000000 is not aligned"
        );
        let ended = Verdict::Exited("exit status: 1".into());
        assert!(why(&ended, b"", Rootfs::Tmpfs).contains("do not fit"));
    }

    #[test]
    fn a_range_around_a_guess_holds_it() {
        assert_eq!(Range::around(590 << 20, 16), Range { from: 528, to: 640, step: 16, open: true });
        assert_eq!(Range::around(1, 16), Range { from: 16, to: 32, step: 16, open: true });
    }
}
