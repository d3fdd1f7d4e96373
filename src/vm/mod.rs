//! Boots images in QEMU: whether they reach a screen, the minimum RAM for that, and what they use on the way.
//!
//! The machine runs under KVM if the kernel really starts under it, and is emulated otherwise.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use regex::bytes::Regex;

use crate::error::Error;

pub mod console;
mod measure;
mod minimum;
pub mod qemu;

pub use console::Verdict;
pub use measure::{Measurement, Moment, Note, When, measure};
pub use minimum::{Attempt, Minimum, Range, find_min};
pub use qemu::Accelerator;

/// What to boot, and what to look for.
#[derive(Debug, Clone)]
pub struct BootOptions {
    /// The kernel.
    pub kernel: PathBuf,
    /// The image.
    pub initrd: PathBuf,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Success is when this shows.
    pub expect: Option<Regex>,
    /// Failure is when this shows.
    pub fail: Option<Regex>,
    /// Added to the kernel's command line.
    pub append: String,
    /// How long to wait.
    pub timeout: Duration,
    /// Where the whole console is kept.
    pub log: Option<PathBuf>,
    /// More arguments for QEMU.
    pub qemu: Vec<String>,
    /// Where the output of a second serial port goes.
    pub second_serial: Option<PathBuf>,
}

/// What came of a boot.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What ended it.
    pub verdict: Verdict,
    /// KVM or emulation, and why.
    pub accelerator: Accelerator,
    /// How long it took.
    pub duration: Duration,
    /// The last lines of the console.
    pub tail: Vec<String>,
    /// The console, or the last megabytes of one that flooded.
    pub console: Vec<u8>,
}

/// Lines of the console that an outcome holds.
const TAIL: usize = 20;
/// How long the rest of a line is waited for that shows how the boot ended. A prompt has no end: it costs this much.
const REST_OF_LINE: Duration = Duration::from_millis(700);
/// How long the console is read after a failure: what explains it often comes right behind the line that shows it.
const AFTERWARDS: Duration = Duration::from_millis(700);
/// So many bytes of the console are read at most after what ended the boot.
const MOST_AFTERWARDS: usize = 1 << 20;
/// How long a machine goes on after success where a second serial port is listened to: a few lines of that too.
const LAST_WORDS: Duration = Duration::from_millis(400);

/// Boots once.
///
/// # Errors
/// [`crate::error::Kind::Missing`] without QEMU; [`crate::error::Kind::Input`] where a file cannot be read. A boot that
/// fails is no error here but a [`Verdict`].
pub fn boot(options: &BootOptions) -> Result<Outcome, Error> {
    let machine = qemu::machine(&options.kernel)?;
    if let Err(e) = fs::File::open(&options.initrd) {
        return Err(Error::usage("cannot be opened").caused_by(e).file(&options.initrd));
    }
    let mut log = match &options.log {
        Some(path) => Some(
            fs::File::create(path).map_err(|e| Error::usage("cannot be written").caused_by(e).file(path))?,
        ),
        None => None,
    };
    let accelerator = qemu::accelerator(&machine, &options.kernel)?;
    let start = Instant::now();
    let mut running = qemu::Running::start(
        &machine,
        accelerator.name,
        &options.kernel,
        Some(&options.initrd),
        options.memory_mib,
        // -no-reboot turns the reboot after a panic into the end of the machine.
        &format!("panic=-1 {}", options.append),
        &options.qemu,
        options.second_serial.as_deref(),
    )?;
    let mut watcher = console::Watcher::new(options.expect.clone(), options.fail.clone());
    let mut found: Option<console::Found> = None;
    let mut end = start + options.timeout;
    let verdict = loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break found.map_or(Verdict::TimedOut, |found| found.verdict);
        }
        match running.output(left.min(Duration::from_millis(500))) {
            qemu::Output::Bytes(bytes) => {
                if let Some(log) = &mut log {
                    let _ = log.write_all(&bytes);
                }
                let first = found.is_none();
                let again = watcher.feed(&bytes);
                found = again.or(found);
                match &found {
                    Some(found) if found.whole => break found.verdict.clone(),
                    Some(_) if first => end = Instant::now() + REST_OF_LINE,
                    _ => {}
                }
            }
            qemu::Output::Nothing => {}
            qemu::Output::Ended => {
                let how = running.end_in_place();
                break found.map_or(Verdict::Exited(how), |found| found.verdict);
            }
        }
    };
    let duration = start.elapsed();
    let patience = match &verdict {
        // The kernel goes on as if nothing had happened.
        Verdict::Unpacking(_) => Duration::ZERO,
        Verdict::Reached(_) if options.second_serial.is_some() => LAST_WORDS,
        Verdict::Reached(_) => Duration::ZERO,
        _ => AFTERWARDS,
    };
    let until = Instant::now() + patience;
    // What is waiting to be read counts too, but a guest that never stops printing must not keep it up.
    let mut waiting = MOST_AFTERWARDS;
    while let qemu::Output::Bytes(bytes) = running.output(until.saturating_duration_since(Instant::now())) {
        waiting = waiting.saturating_sub(bytes.len());
        if waiting == 0 {
            break;
        }
        if let Some(log) = &mut log {
            let _ = log.write_all(&bytes);
        }
        let _ = watcher.feed(&bytes);
    }
    drop(running);
    let console = watcher.console().to_vec();
    Ok(Outcome { verdict, accelerator, duration, tail: console::tail(&console, TAIL), console })
}
