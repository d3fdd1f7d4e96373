#![allow(unsafe_code)]
//! The probe of `boot --measure`: started with rdinit= in place of the first program, which it starts in turn.
//!
//! It leaves nothing behind: its files are gone, its mounts are undone and its process is known to nobody by the time
//! the first program runs as PID 1, with the arguments, environment and open files that the kernel gave. A child goes
//! on: it reads /proc/meminfo through a file that it holds open, ten times a second, and writes what it reads to the
//! second serial port. It needs nothing but itself: std and the C library that is linked in.

use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// This program in the image; what it is to start stands in the file beside it. `vm::measure` puts both there.
const SELF: &str = "/.btrsquash-probe";
const NEXT: &str = "/.btrsquash-probe.next";
/// Where /proc is for a moment.
const FOLDER: &str = "/.btrsquash-probe.proc";
/// Between two looks at memory.
const PAUSE: Duration = Duration::from_millis(100);
/// What of /proc/meminfo is told, in this order; `vm::measure` reads it.
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
const MNT_DETACH: c_int = 2;
const S_IFCHR: c_uint = 0o020_000;
/// ttyS1, Documentation/admin-guide/devices.txt.
const SECOND_SERIAL: u64 = 4 << 8 | 65;
/// syslog(2): all of the kernel's log.
const SYSLOG_READ_ALL: c_int = 3;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn mknod(path: *const c_char, mode: c_uint, device: u64) -> c_int;
    fn fork() -> c_int;
    fn setsid() -> c_int;
    fn klogctl(kind: c_int, buffer: *mut c_char, length: c_int) -> c_int;
    fn openat(dir: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
    fn dup2(old: c_int, new: c_int) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut [c_long; 2]) -> c_int;
}

pub fn run() -> ! {
    let next = fs::read_to_string(NEXT).unwrap_or_else(|_| "/init".to_owned());
    let eyes = open();
    for path in [SELF, NEXT] {
        let _ = fs::remove_file(path);
    }
    if let Some(eyes) = eyes {
        // SAFETY: there is one thread, so the child is a whole copy.
        if unsafe { fork() } == 0 {
            watch(&eyes);
            std::process::exit(0);
        }
    }
    let error = Command::new(&next).args(std::env::args_os().skip(1)).exec();
    eprintln!("btrsquash: the probe cannot start {next}: {error}");
    std::process::exit(1);
}

/// What the child holds.
struct Eyes {
    /// The root of a /proc that is mounted nowhere any more.
    proc: File,
    meminfo: File,
    port: File,
}

/// Opens everything by way of a folder that is gone again afterwards.
fn open() -> Option<Eyes> {
    let folder = CString::new(FOLDER).ok()?;
    let port = format!("{FOLDER}/port");
    fs::create_dir(FOLDER).ok()?;
    let node = CString::new(port.clone()).ok()?;
    // SAFETY: a string that ends with NUL.
    unsafe { mknod(node.as_ptr(), S_IFCHR | 0o600, SECOND_SERIAL) };
    let port_file = OpenOptions::new().write(true).custom_flags(O_NOCTTY).open(&port);
    let _ = fs::remove_file(&port);
    // SAFETY: strings that end with NUL, and no data.
    unsafe {
        mount(c"proc".as_ptr(), folder.as_ptr(), c"proc".as_ptr(), 0, std::ptr::null());
    }
    let proc = File::open(FOLDER);
    let meminfo = File::open(format!("{FOLDER}/meminfo"));
    // SAFETY: a string that ends with NUL.
    unsafe { umount2(folder.as_ptr(), MNT_DETACH) };
    let _ = fs::remove_dir(FOLDER);
    Some(Eyes { proc: proc.ok()?, meminfo: meminfo.ok()?, port: port_file.ok()? })
}

/// The device and inode of PID 1's root: another one than at the start is what the front-end handed over to.
fn root(eyes: &Eyes) -> Option<(u64, u64)> {
    const O_PATH: c_int = 0o10_000_000;
    // SAFETY: an open folder and a string that ends with NUL; the descriptor is owned by the File from there on.
    let file = unsafe {
        let fd = openat(eyes.proc.as_raw_fd(), c"1/root".as_ptr(), O_PATH);
        (fd >= 0).then(|| File::from_raw_fd(fd))?
    };
    file.metadata().ok().map(|data| (data.dev(), data.ino()))
}

/// Milliseconds since the kernel started to count.
fn uptime() -> i64 {
    const CLOCK_MONOTONIC: c_int = 1;
    let mut time = [0; 2];
    // SAFETY: a struct timespec is two longs.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    #[allow(clippy::unnecessary_cast, reason = "a long has 32 bits on some machines")]
    let milliseconds = time[0] as i64 * 1000 + time[1] as i64 / 1_000_000;
    milliseconds
}

fn watch(eyes: &Eyes) {
    // SAFETY: numbers only. The console stays with the first program, and signals of its terminal do not come here.
    unsafe {
        setsid();
        for fd in 0..3 {
            dup2(eyes.port.as_raw_fd(), fd);
        }
    }
    let mut port = &eyes.port;
    let start = root(eyes);
    let mut told_log = false;
    let mut text = vec![0; 8 << 10];
    loop {
        let began = Instant::now();
        let Ok(count) = eyes.meminfo.read_at(&mut text, 0) else { return };
        let meminfo = String::from_utf8_lossy(&text[..count]);
        let value = |name: &str| {
            meminfo
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|rest| rest.split_whitespace().next())
                .unwrap_or("-")
        };
        let moved = root(eyes) != start;
        let mut line = format!("@ {} {}", uptime(), if moved { "moved" } else { "start" });
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
            for line in
                log().lines().filter(|line| line.contains("Memory: ") || line.contains("Freeing initrd"))
            {
                let _ = port.write_all(format!("# {line}\n").as_bytes());
            }
        }
        std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
    }
}

/// The kernel's log so far.
fn log() -> String {
    let mut buffer = vec![0_u8; 256 << 10];
    // SAFETY: a buffer with its length.
    let count = unsafe { klogctl(SYSLOG_READ_ALL, buffer.as_mut_ptr().cast(), buffer.len() as c_int) };
    buffer.truncate(usize::try_from(count).unwrap_or(0));
    String::from_utf8_lossy(&buffer).into_owned()
}
