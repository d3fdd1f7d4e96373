//! Booting images in QEMU: whether they reach a screen, the least RAM in which they do, and what they use on the way.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use regex::bytes::Regex;

use crate::error::Error;

pub mod console;
mod minimum;
pub mod qemu;

pub use console::Verdict;
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
    /// All of the console.
    pub console: Vec<u8>,
}

/// Lines of the console that an outcome holds.
const TAIL: usize = 20;

/// Boots once. `progress` is told how long it runs.
///
/// # Errors
/// [`crate::error::Kind::Missing`] without QEMU; [`crate::error::Kind::Input`] where a file cannot be read. A boot that
/// fails is no error here but a [`Verdict`].
pub fn boot(options: &BootOptions, progress: &dyn Fn(Duration)) -> Result<Outcome, Error> {
    let machine = qemu::machine(&options.kernel)?;
    if let Err(e) = fs::File::open(&options.initrd) {
        return Err(Error::input(format!("cannot be opened: {e}")).file(&options.initrd));
    }
    let mut log = match &options.log {
        Some(path) => Some(
            fs::File::create(path).map_err(|e| Error::usage(format!("cannot be written: {e}")).file(path))?,
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
    let verdict = loop {
        progress(start.elapsed());
        let left = options.timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            break Verdict::TimedOut;
        }
        match running.output(left.min(Duration::from_millis(500))) {
            qemu::Output::Bytes(bytes) => {
                if let Some(log) = &mut log {
                    let _ = log.write_all(&bytes);
                }
                if let Some(verdict) = watcher.feed(&bytes) {
                    break verdict;
                }
            }
            qemu::Output::Nothing => {}
            qemu::Output::Ended => break Verdict::Exited(running.end_in_place()),
        }
    };
    // What explains a failure often comes right behind the line that shows it.
    if !verdict.reached() {
        let until = Instant::now() + Duration::from_millis(700);
        while let qemu::Output::Bytes(bytes) = running.output(until.saturating_duration_since(Instant::now()))
        {
            if let Some(log) = &mut log {
                let _ = log.write_all(&bytes);
            }
            let _ = watcher.feed(&bytes);
        }
    }
    let duration = start.elapsed();
    drop(running);
    let console = watcher.console().to_vec();
    Ok(Outcome { verdict, accelerator, duration, tail: console::tail(&console, TAIL), console })
}
