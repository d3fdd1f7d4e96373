//! How much memory an image uses on its way to the screen, reported by a probe in a copy of it.
//!
//! The probe (src/guest/probe.rs) is a segment at the end of the copy, started by `rdinit=` on the command line. It
//! starts the image's own init as if it had never been there, and writes the content of /proc/meminfo to a second serial
//! port. Unpacking is over before any program runs: it is only known from the kernel's log, and figures that follow from
//! that are marked as computed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{BootOptions, Outcome, boot, qemu};
use crate::bytes::ReadAt;
use crate::error::Error;
use crate::frontend::guest;
use crate::initrd::{self, NewcWriter};
use crate::ram::Phase;
use crate::scratch::Directory;

/// The path of the probe in the copy. src/guest/probe.rs has the same paths, and removes both files before init runs.
const PATH: &str = crate::contract::paths::PROBE;
/// The file that names the program that it starts.
const NEXT: &str = crate::contract::paths::PROBE_NEXT;

/// When memory was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At the end of a phase that the RAM model has too.
    Phase(Phase),
    /// When the least memory was available, in milliseconds since the kernel's start.
    LeastAvailable(u64),
}

/// Memory at one moment of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub when: When,
    /// Memory in use that cannot be reclaimed, bytes.
    pub used: u64,
    /// `MemAvailable`, bytes.
    pub available: u64,
    /// Whether it was measured; computed otherwise.
    pub measured: bool,
}

/// What the figures mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The probe wrote nothing.
    Silent,
    /// The figures of [`Phase::Unpacked`] are those of init and the image, of so many bytes, that the kernel freed just
    /// before; without the latter if the kernel freed no image.
    Unpacked(Option<u64>),
    /// The system's init is the one that PID 1 became when its root changed.
    InitAfterSwitch,
    /// How often and when the probe looked, and how many bytes it takes itself.
    Samples {
        /// How often.
        count: u64,
        /// First time, milliseconds since the kernel's start.
        first: u64,
        /// Last time, milliseconds since the kernel's start.
        last: u64,
        /// Size of the probe, bytes.
        probe: u64,
    },
}

/// The result of a measured boot.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// How the boot ended.
    pub outcome: Outcome,
    /// Memory in each phase and when the least was available, in the order of time.
    pub moments: Vec<Moment>,
    /// What the figures mean.
    pub notes: Vec<Note>,
}

/// Boots a copy of the image with a probe in it, and removes the copy.
///
/// # Errors
/// Those of [`boot`]; [`crate::error::Kind::Missing`] if QEMU's machine for the kernel has no second serial port, or if
/// btrsquash was built without a probe for it.
pub fn measure(options: &BootOptions) -> Result<Measurement, Error> {
    let machine = qemu::machine(&options.kernel)?;
    if !machine.has_second_serial() {
        return Err(Error::missing(format!(
            "--measure needs a second serial port, which QEMU's machine for {} does not have",
            machine.architecture
        ))
        .file(&options.kernel)
        .hint("use --find-min, which needs none"));
    }
    let probe = guest::program(machine.architecture)?;
    let (append, next) = command_line(&options.append);
    let temporary = |e: io::Error| Error::temporary(e);
    let directory = Directory::new(None).map_err(temporary)?;
    let copy = directory.path().join("initrd");
    let serial = directory.path().join("serial");
    with_probe(&options.initrd, &copy, probe, &next)?;
    let changed =
        BootOptions { initrd: copy, append, second_serial: Some(serial.clone()), ..options.clone() };
    let outcome = boot(&changed)?;
    let written = fs::read(&serial).unwrap_or_default();
    let log = Log::parse(&String::from_utf8_lossy(&written));
    let (moments, notes) = log.moments(options.memory_mib << 20, probe.len() as u64);
    Ok(Measurement { outcome, moments, notes })
}

/// The command line with the probe as init, and the init that the probe starts. The kernel drops init's arguments that
/// come before `rdinit=` (init/main.c, `rdinit_setup`), so ours replaces the user's, or comes first.
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
fn with_probe(image: &Path, copy: &Path, probe: &[u8], next: &str) -> Result<(), Error> {
    let mut from = initrd::open(image)?;
    let len = ReadAt::len(&from);
    let bootconfig = initrd::bootconfig(&from);
    let end = bootconfig.map_or(len, |range| range.start);
    let mut write = || -> io::Result<()> {
        let mut out = File::create(copy)?;
        io::copy(&mut (&mut from).take(end), &mut out)?;
        out.write_all(&[0; 4][..(end.next_multiple_of(4) - end) as usize])?;
        let mut newc = NewcWriter::new(Vec::new(), 0);
        newc.file(PATH, 0o755, probe)?;
        newc.file(NEXT, 0o644, next.as_bytes())?;
        let mut segment = newc.finish()?;
        segment.resize(segment.len().next_multiple_of(4), 0);
        out.write_all(&segment)?;
        from.seek(SeekFrom::Start(end))?;
        io::copy(&mut from, &mut out).map(drop)
    };
    write().map_err(|e| Error::input("cannot be copied for the probe").caused_by(e).file(image))
}

/// One reading of /proc/meminfo, bytes.
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

    /// Memory in use that cannot be reclaimed on a machine with `memory`: all but free memory, the page cache of files
    /// that can be read again, and slabs that can be shrunk. Files of a tmpfs (`Shmem`) and of a ramfs (`Unevictable`)
    /// are in the page cache too, but nowhere else.
    fn used(&self, memory: u64) -> u64 {
        let kept = self.shmem + self.unevictable;
        let cache = (self.buffers + self.cached).saturating_sub(kept);
        memory.saturating_sub(self.free + cache + self.reclaimable)
    }

    fn moment(&self, when: When, memory: u64) -> Moment {
        Moment { when, used: self.used(memory), available: self.available, measured: true }
    }
}

/// What the probe wrote.
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

    fn moments(&self, memory: u64, probe: u64) -> (Vec<Moment>, Vec<Note>) {
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else {
            return (Vec::new(), vec![Note::Silent]);
        };
        let mut moments = Vec::new();
        if let Some(start) = self.start {
            let used = memory.saturating_sub(start);
            moments.push(Moment {
                when: When::Phase(Phase::KernelStarts),
                used,
                available: start,
                measured: true,
            });
        }
        // Nothing can look while the kernel unpacks. The image was freed right after: what init finds in use and the
        // image were in use together, or more (a decompressor's dictionary is gone by then, too).
        let image = self.freed.unwrap_or(0);
        moments.push(Moment {
            when: When::Phase(Phase::Unpacked),
            used: first.used(memory) + image,
            available: first.available.saturating_sub(image),
            measured: false,
        });
        let mut notes = vec![Note::Unpacked(self.freed)];
        moments.push(first.moment(When::Phase(Phase::ImageFreed), memory));
        let handed = self.samples.iter().position(|sample| sample.moved);
        let init = handed.map_or(first, |at| &self.samples[at]);
        moments.push(init.moment(When::Phase(Phase::Init), memory));
        if let Some(least) = self.samples.iter().min_by_key(|sample| sample.available) {
            moments.push(least.moment(When::LeastAvailable(least.time), memory));
        }
        moments.push(last.moment(When::Phase(Phase::FirstScreen), memory));
        if handed.is_some() {
            notes.push(Note::InitAfterSwitch);
        }
        notes.push(Note::Samples {
            count: self.samples.len() as u64,
            first: first.time,
            last: last.time,
            probe,
        });
        (moments, notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_replaces_init() {
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
        with_probe(&image, &copy, b"probe", "/init").unwrap();
        let copied = fs::read(&copy).unwrap();
        let read = initrd::read(&copied, &copy, &initrd::Limits::default(), &|_| ()).unwrap();
        for path in ["init", PATH, NEXT] {
            assert!(read.tree.get(path).is_some(), "{path}");
        }
        assert_eq!(read.bootconfig.map(|range| range.end), Some(copied.len() as u64));
        assert_eq!(fs::read(&image).unwrap(), bytes);
    }

    #[test]
    fn moments_follow_from_what_the_probe_wrote() {
        let log = Log::parse(
            "@ 1200 start 200000 100000 120000 0 60000 50000 1000 0 9\r\n\
             # <6>[    0.07] Memory: 118124K/228856K available (14343K kernel code, 110472K reserved, 0K cma-reserved)\r\n\
             # <6>[    1.57] Freeing initrd memory: 51556K\r\n\
             @ 1300 moved 200000 90000 90000 0 60000 50000 1000 0 9\r\n\
             @ 1400 moved 200000 95000 110000 0 60000 50000 1000 0 9\r\n\
             @ 1500 mo",
        );
        let (moments, notes) = log.moments(229_376 << 10, 1 << 20);
        let when: Vec<When> = moments.iter().map(|moment| moment.when).collect();
        let [starts, unpacked, freed, init, screen] = Phase::ALL.map(When::Phase);
        assert_eq!(when, [starts, unpacked, freed, init, When::LeastAvailable(1300), screen]);
        assert_eq!(moments[0].used, (229_376 - 228_856 + 110_472) << 10);
        // 229376 − 100000 free − 10000 cache − 1000 slabs.
        assert_eq!((moments[2].used, moments[2].measured), (118_376 << 10, true));
        assert_eq!((moments[1].used, moments[1].measured), ((118_376 + 51_556) << 10, false));
        assert_eq!(notes.len(), 3);
        assert!(Log::parse("").moments(1, 1).0.is_empty());
    }
}
