//! What memory an image uses on its way to the screen, seen by a probe in a copy of it.
//!
//! The probe (src/probe) is a segment at the end of the copy and `rdinit=` on the command line. It starts the first
//! program as if it had never been there, and tells what /proc/meminfo says on a second serial port. Unpacking is over
//! before any program runs: about it there is only what the kernel logs, and what follows from that is marked computed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use super::{BootOptions, Outcome, boot, qemu};
use crate::bytes::ReadAt;
use crate::error::Error;
use crate::initrd::{self, NewcWriter};
use crate::ram::PHASES;
use crate::report::{Figure, Moment, Origin, Unit};
use crate::scratch::Directory;

/// The probe, compiled by src/build.rs for the architecture that btrsquash itself is built for.
const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest"));
/// Where it lies in the copy; src/probe/main.rs names the same paths, and removes both before the first program runs.
const PATH: &str = ".btrsquash-probe";
/// The file that names what it is to start.
const NEXT: &str = ".btrsquash-probe.next";

/// What a measured boot gave.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// What came of the boot.
    pub outcome: Outcome,
    /// Memory at the moments that the model has too ([`PHASES`]), and when least was left; in the order of time.
    pub moments: Vec<Moment>,
    /// What the figures are, a sentence each.
    pub notes: Vec<String>,
}

/// Boots a copy of the image with a probe in it, which is removed again.
///
/// # Errors
/// Those of [`boot`]; [`crate::error::Kind::Missing`] where the kernel is for another architecture than btrsquash, so
/// that its probe cannot run.
pub fn measure(options: &BootOptions, progress: &dyn Fn(Duration)) -> Result<Measurement, Error> {
    let machine = qemu::machine(&options.kernel)?;
    if !machine.is_own() || machine.console != "ttyS0" {
        return Err(Error::missing(format!(
            "the probe of this btrsquash runs on {} with a second serial port ttyS1, and the kernel is for another \
             machine",
            std::env::consts::ARCH
        ))
        .file(&options.kernel)
        .hint("use --find-min, which needs no probe"));
    }
    let (append, next) = command_line(&options.append);
    let temporary =
        |e: io::Error| Error::input(format!("a temporary copy of the image cannot be written: {e}"));
    let folder = Directory::new(None).map_err(temporary)?;
    let copy = folder.path().join("initrd");
    let serial = folder.path().join("serial");
    with_probe(&options.initrd, &copy, &next)?;
    let changed =
        BootOptions { initrd: copy, append, second_serial: Some(serial.clone()), ..options.clone() };
    let outcome = boot(&changed, progress)?;
    let told = fs::read(&serial).unwrap_or_default();
    let log = Log::parse(&String::from_utf8_lossy(&told));
    let (moments, notes) = log.moments(options.memory_mib << 20);
    Ok(Measurement { outcome, moments, notes })
}

/// The command line with the probe as first program, and the first program that it is to start. The kernel forgets the
/// arguments for the first program that stand before `rdinit=` (init/main.c, `rdinit_setup`): ours takes the place of
/// the user's, or stands before everything.
fn command_line(append: &str) -> (String, String) {
    let mut next = None;
    let mut words: Vec<String> = Vec::new();
    let mut ended = false;
    for word in append.split_whitespace() {
        ended |= word == "--";
        match word.strip_prefix("rdinit=") {
            Some(program) if !ended => {
                next = Some(program.to_owned());
                words.push(format!("rdinit=/{PATH}"));
            }
            _ => words.push(word.to_owned()),
        }
    }
    if next.is_none() {
        words.insert(0, format!("rdinit=/{PATH}"));
    }
    (words.join(" "), next.unwrap_or_else(|| "/init".to_owned()))
}

/// Writes `image` to `copy`, with the probe as its last segment. A boot configuration stays at the end, where the
/// kernel looks for it.
fn with_probe(image: &Path, copy: &Path, next: &str) -> Result<(), Error> {
    let mut from = initrd::open(image)?;
    let len = ReadAt::len(&from);
    let bootconfig = initrd::bootconfig(&from);
    let end = bootconfig.map_or(len, |range| range.start);
    let mut write = || -> io::Result<()> {
        let mut out = File::create(copy)?;
        io::copy(&mut (&mut from).take(end), &mut out)?;
        out.write_all(&[0; 4][..(end.next_multiple_of(4) - end) as usize])?;
        let mut newc = NewcWriter::new(Vec::new(), 0);
        newc.file(PATH, 0o755, PROBE)?;
        newc.file(NEXT, 0o644, next.as_bytes())?;
        let mut segment = newc.finish()?;
        segment.resize(segment.len().next_multiple_of(4), 0);
        out.write_all(&segment)?;
        from.seek(SeekFrom::Start(end))?;
        io::copy(&mut from, &mut out).map(drop)
    };
    write().map_err(|e| Error::input(format!("cannot be copied for the probe: {e}")).file(image))
}

/// One look at /proc/meminfo, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sample {
    /// Milliseconds since the kernel started.
    time: u64,
    /// Whether PID 1 has another root than at the start.
    moved: bool,
    total: u64,
    free: u64,
    available: u64,
    buffers: u64,
    cached: u64,
    shmem: u64,
    reclaimable: u64,
    unevictable: u64,
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        if words.next() != Some("@") {
            return None;
        }
        let time = words.next()?.parse().ok()?;
        let moved = words.next()? == "moved";
        let mut bytes = || Some(words.next()?.parse::<u64>().ok()? << 10);
        Some(Self {
            time,
            moved,
            total: bytes()?,
            free: bytes()?,
            available: bytes()?,
            buffers: bytes()?,
            cached: bytes()?,
            shmem: bytes()?,
            reclaimable: bytes()?,
            unevictable: bytes()?,
        })
    }

    /// What of a machine with `memory` is in use and cannot be had back: all but free memory, the page cache of files
    /// that can be read again, and slabs that can be shrunk. Files of a tmpfs (`Shmem`) and of a ramfs (`Unevictable`)
    /// are in the page cache too, but nowhere else.
    fn used(&self, memory: u64) -> u64 {
        let kept = self.shmem + self.unevictable;
        let cache = (self.buffers + self.cached).saturating_sub(kept);
        memory.saturating_sub(self.free + cache + self.reclaimable)
    }

    fn moment(&self, name: &str, memory: u64) -> Moment {
        Moment {
            name: name.into(),
            used: Figure::measured(self.used(memory)),
            available: Figure::measured(self.available),
        }
    }
}

/// What the probe told.
#[derive(Debug, Default)]
struct Log {
    samples: Vec<Sample>,
    /// What the kernel has to hand out at its start, bytes: `Memory: 118124K/228856K available (…, 110472K reserved,
    /// …)`, the second less the reserved. The first leaves out what is set up later (`DEFERRED_STRUCT_PAGE_INIT`).
    start: Option<u64>,
    /// `Freeing initrd memory: 51556K`, bytes.
    freed: Option<u64>,
}

/// The number of KiB behind `word` in `line`, in bytes.
fn kib(line: &str, word: &str) -> Option<u64> {
    let rest = line.split_once(word)?.1;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse::<u64>().ok()?.checked_mul(1024)
}

impl Log {
    fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            log.samples.extend(Sample::parse(line));
            if let Some(line) = line.strip_prefix("# ") {
                if line.contains("Memory: ") {
                    let reserved = line.split_once("K reserved").and_then(|(head, _)| {
                        head.rsplit(|c: char| !c.is_ascii_digit())
                            .next()?
                            .parse::<u64>()
                            .ok()?
                            .checked_mul(1024)
                    });
                    let start = kib(line, "K/").zip(reserved).and_then(|(all, less)| all.checked_sub(less));
                    log.start = log.start.or(start);
                }
                log.freed = log.freed.or_else(|| kib(line, "Freeing initrd memory: "));
            }
        }
        log
    }

    fn moments(&self, memory: u64) -> (Vec<Moment>, Vec<String>) {
        let [starts, unpacked, freed, program, screen] = PHASES;
        let mut moments = Vec::new();
        let mut notes = Vec::new();
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else {
            notes.push(
                "the probe told nothing: the boot ended before the first program, or the kernel has no ttyS1"
                    .into(),
            );
            return (moments, notes);
        };
        if let Some(start) = self.start {
            moments.push(Moment {
                name: starts.into(),
                used: Figure::measured(memory.saturating_sub(start)),
                available: Figure::measured(start),
            });
        }
        // Nothing can look while the kernel unpacks. The image was freed right after: what the first program finds in
        // use, and the image, were in use together, or more (a decompressor's dictionary is gone by then, too).
        let image = self.freed.unwrap_or(0);
        let computed = |bytes| Figure { value: bytes, unit: Unit::Bytes, origin: Origin::Computed };
        moments.push(Moment {
            name: unpacked.into(),
            used: computed(first.used(memory) + image),
            available: computed(first.available.saturating_sub(image)),
        });
        notes.push(if self.freed.is_some() {
            format!(
                "{unpacked}: nothing can look at memory while the kernel unpacks; computed from what the first \
                 program found and the {} MiB that the kernel says it freed just before",
                image.div_ceil(1 << 20)
            )
        } else {
            format!("{unpacked}: the kernel freed no image, so that it is what the first program found")
        });
        moments.push(first.moment(freed, memory));
        let handed = self.samples.iter().position(|sample| sample.moved);
        moments.push(handed.map_or(first, |at| &self.samples[at]).moment(program, memory));
        if let Some(least) = self.samples.iter().min_by_key(|sample| sample.available) {
            let shown = least.moment(&format!("least available, {} s", tenths(least.time)), memory);
            moments.push(shown);
        }
        moments.push(last.moment(screen, memory));
        if handed.is_some() {
            notes.push(format!("{program}: when PID 1 had another root than at the start"));
        }
        let looks = self.samples.len();
        notes.push(format!(
            "{looks} looks at /proc/meminfo, {} to {} s after the kernel's start, by a probe that takes {:.1} MiB itself",
            tenths(first.time),
            tenths(last.time),
            PROBE.len() as f64 / f64::from(1 << 20)
        ));
        (moments, notes)
    }
}

fn tenths(milliseconds: u64) -> String {
    format!("{}.{}", milliseconds / 1000, milliseconds / 100 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_takes_the_place_of_the_first_program() {
        assert_eq!(command_line("quiet a=b"), ("rdinit=/.btrsquash-probe quiet a=b".into(), "/init".into()));
        let (line, next) = command_line("1 rdinit=/bin/sh -- rdinit=x");
        assert_eq!((line.as_str(), next.as_str()), ("1 rdinit=/.btrsquash-probe -- rdinit=x", "/bin/sh"));
    }

    #[test]
    fn a_copy_holds_the_probe_and_keeps_the_boot_configuration_last() {
        let dir = tempfile::tempdir().unwrap();
        let (image, copy) = (dir.path().join("a"), dir.path().join("b"));
        let mut newc = NewcWriter::new(Vec::new(), 0);
        newc.file("init", 0o755, b"#!/bin/sh\n").unwrap();
        let mut bytes = newc.finish().unwrap();
        let configuration = b"kernel.quiet\n\0\0\0";
        bytes.extend(configuration);
        bytes.extend((configuration.len() as u32).to_le_bytes());
        bytes.extend(configuration.iter().map(|&b| u32::from(b)).sum::<u32>().to_le_bytes());
        bytes.extend(b"#BOOTCONFIG\n");
        fs::write(&image, &bytes).unwrap();
        with_probe(&image, &copy, "/init").unwrap();
        let copied = fs::read(&copy).unwrap();
        let read = initrd::read(&copied, &copy, &initrd::Limits::default(), &|_| ()).unwrap();
        for path in ["init", PATH, NEXT] {
            assert!(read.tree.get(path).is_some(), "{path}");
        }
        assert_eq!(read.bootconfig.map(|range| range.end), Some(copied.len() as u64));
        assert_eq!(fs::read(&image).unwrap(), bytes);
    }

    #[test]
    fn moments_follow_from_what_was_told() {
        let log = Log::parse(
            "@ 1200 start 200000 100000 120000 0 60000 50000 1000 0 9\r\n\
             # <6>[    0.07] Memory: 118124K/228856K available (14343K kernel code, 110472K reserved, 0K cma-reserved)\r\n\
             # <6>[    1.57] Freeing initrd memory: 51556K\r\n\
             @ 1300 moved 200000 90000 90000 0 60000 50000 1000 0 9\r\n\
             @ 1400 moved 200000 95000 110000 0 60000 50000 1000 0 9\r\n\
             @ 1500 mo",
        );
        let (moments, notes) = log.moments(229_376 << 10);
        let names: Vec<&str> = moments.iter().map(|moment| moment.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "kernel starts",
                "unpacked",
                "image freed",
                "first program",
                "least available, 1.3 s",
                "first screen"
            ]
        );
        assert_eq!(moments[0].used.value, (229_376 - 228_856 + 110_472) << 10);
        // 229376 − 100000 free − 10000 cache − 1000 slabs.
        assert_eq!(moments[2].used, Figure::measured(118_376 << 10));
        assert_eq!(moments[1].used.value, (118_376 + 51_556) << 10);
        assert_eq!(moments[1].used.origin, Origin::Computed);
        assert_eq!(notes.len(), 3);
        assert!(Log::parse("").moments(1).0.is_empty());
    }
}
