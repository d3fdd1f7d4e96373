//! The probe of `boot --measure`: started with rdinit= in place of the init, which it starts in turn.
//!
//! It leaves nothing behind: by the time the init runs as PID 1, with the arguments, environment and open files that the
//! kernel gave, the probe's files are gone and its mounts undone. A child goes on: it reads /proc/meminfo through a file
//! that it holds open, ten times a second, and writes what it reads to the second serial port.

use std::ffi::c_int;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use btrsquash::contract::paths;

use crate::sys;

/// /proc is mounted here for a moment.
const DIRECTORY: &str = "/.btrsquash-probe.proc";
/// Time between two readings.
const PAUSE: Duration = Duration::from_millis(100);
/// The fields of /proc/meminfo that are reported, in this order; `vm::measure` reads it.
const FIELDS: [&str; 9] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "Shmem",
    "SReclaimable",
    "Unevictable",
    "SUnreclaim",
];

const O_NOCTTY: c_int = 0o400;
const S_IFCHR: u32 = 0o020_000;
/// ttyS1, Documentation/admin-guide/devices.txt.
const SECOND_SERIAL: u64 = 4 << 8 | 65;

/// Starts the watching child, then the init in place of this process.
pub(crate) fn run() -> ! {
    let [own, next] = [paths::PROBE, paths::PROBE_NEXT].map(|path| Path::new("/").join(path));
    let init = fs::read_to_string(&next).unwrap_or_else(|_| "/init".to_owned());
    let opened = open();
    for path in [own, next] {
        let _ = fs::remove_file(path);
    }
    match opened {
        Some(files) if sys::fork_child() => {
            watch(&files);
            std::process::exit(0);
        }
        _ => {}
    }
    let error = Command::new(&init).args(std::env::args_os().skip(1)).exec();
    eprintln!("btrsquash: the probe cannot start {init}: {error}");
    std::process::exit(1);
}

/// What the child holds.
struct Files {
    /// The root of a /proc that is mounted nowhere any more.
    proc: File,
    meminfo: File,
    port: File,
}

/// Opens everything through a directory that is removed again.
fn open() -> Option<Files> {
    let port = format!("{DIRECTORY}/port");
    fs::create_dir(DIRECTORY).ok()?;
    let _ = sys::make_node(&port, S_IFCHR | 0o600, SECOND_SERIAL);
    let port_file = OpenOptions::new().write(true).custom_flags(O_NOCTTY).open(&port);
    let _ = fs::remove_file(&port);
    let _ = sys::mount_at("proc", DIRECTORY, "proc", 0, "");
    let proc = File::open(DIRECTORY);
    let meminfo = File::open(format!("{DIRECTORY}/meminfo"));
    let _ = sys::unmount(DIRECTORY, sys::MNT_DETACH);
    let _ = fs::remove_dir(DIRECTORY);
    Some(Files { proc: proc.ok()?, meminfo: meminfo.ok()?, port: port_file.ok()? })
}

/// Device and inode of PID 1's root directory: after the hand-over they differ from those at the start.
fn root(files: &Files) -> Option<(u64, u64)> {
    sys::open_path(&files.proc, c"1/root")?.metadata().ok().map(|data| (data.dev(), data.ino()))
}

fn watch(files: &Files) {
    // The console stays with the init.
    sys::leave_session();
    sys::standard_streams(&files.port);
    let mut port = &files.port;
    let start = root(files);
    let mut told_log = false;
    let mut text = vec![0; 8 << 10];
    loop {
        let began = Instant::now();
        let Ok(count) = files.meminfo.read_at(&mut text, 0) else { return };
        let meminfo = String::from_utf8_lossy(&text[..count]);
        let value = |name: &str| {
            meminfo
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|rest| rest.split_whitespace().next())
                .unwrap_or("-")
        };
        let moved = root(files) != start;
        let mut line = format!("@ {} {}", sys::uptime(), if moved { "moved" } else { "start" });
        for field in FIELDS {
            line.push(' ');
            line.push_str(value(field));
        }
        line.push('\n');
        if port.write_all(line.as_bytes()).is_err() {
            return;
        }
        if !told_log {
            told_log = true;
            for line in sys::kernel_log()
                .lines()
                .filter(|line| line.contains("Memory: ") || line.contains("Freeing initrd"))
            {
                let _ = port.write_all(format!("# {line}\n").as_bytes());
            }
        }
        std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
    }
}
