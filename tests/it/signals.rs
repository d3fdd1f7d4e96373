//! Whatever ends a run, nothing of it is left: no temporary file, no process, no half of an output.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{btrsquash, have, installer, run};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/tiny-initrd.gz")
}

/// A directory for the output and one for temporary files.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["out", "tmp"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn convert(&self, front_end: &str) -> Command {
        let mut command = btrsquash();
        command
            .arg("convert")
            .arg(tiny())
            .args(["--front-end", front_end, "--compression", "gzip", "--force", "--quiet", "-o"])
            .arg(self.dir.path().join("out/new.img"))
            .arg("--html")
            .arg(self.dir.path().join("out/new.html"))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Names in the directory for temporary files, and in that of the outputs.
    fn names(&self) -> [Vec<String>; 2] {
        ["tmp", "out"].map(|name| {
            let entries = std::fs::read_dir(self.dir.path().join(name)).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        })
    }

    /// The processes whose environment names this place: TMPDIR is set for all of them.
    fn processes(&self) -> Vec<String> {
        let mark = self.dir.path().to_str().unwrap().as_bytes().to_vec();
        let of = |pid: &Path| {
            let environment = std::fs::read(pid.join("environ")).ok()?;
            environment.windows(mark.len()).any(|window| window == mark).then(|| {
                String::from_utf8_lossy(&std::fs::read(pid.join("cmdline")).unwrap_or_default())
                    .replace('\0', " ")
            })
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| of(&entry.path())).collect()
    }

    /// Fails if a process is alive after `patience`.
    fn no_process_after(&self, patience: Duration, context: &str) {
        let start = Instant::now();
        loop {
            let alive = self.processes();
            if alive.is_empty() {
                return;
            }
            assert!(start.elapsed() < patience, "{context}: alive: {alive:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Moments spread over a duration, the same in every run.
fn moments(count: u32, whole: Duration) -> impl Iterator<Item = Duration> {
    (0..count).map(move |i| whole.mul_f64(f64::from((i * 37 + 11) % count) / f64::from(count)))
}

fn after(moment: Duration, child: &Child, signal: Signal) {
    std::thread::sleep(moment);
    let _ = kill_process(Pid::from_child(child), signal);
}

fn front_ends() -> Vec<&'static str> {
    if have("dracut") { vec!["built-in", "dracut"] } else { vec!["built-in"] }
}

#[test]
fn sixty_signals_at_any_moment_leave_nothing() {
    let signals = [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::ALARM,
        Signal::USR1,
        Signal::USR2,
        Signal::XCPU,
    ];
    for front_end in front_ends() {
        let place = Place::new();
        let start = Instant::now();
        run(&mut place.convert(front_end));
        let mut whole = start.elapsed();
        let old = std::fs::read(place.dir.path().join("out/new.img")).unwrap();
        // Those that came too late do not count; the time that a run takes follows the load of the machine.
        let (mut ended, mut number) = (0, 0);
        while ended < 30 {
            assert!(number < 120, "{front_end}: only {ended} of {number} signals were in time");
            let moment = moments(30, whole).nth(number % 30).unwrap();
            let signal = signals[number % signals.len()];
            let context = format!("{front_end}, {signal:?} after {moment:?} of {whole:?}");
            let start = Instant::now();
            let mut child = place.convert(front_end).spawn().unwrap();
            after(moment, &child, signal);
            let status = child.wait().unwrap();
            assert!(status.success() || status.signal() == Some(signal.as_raw()), "{context}: {status}");
            if status.success() {
                whole = whole.min(start.elapsed());
            }
            ended += u32::from(!status.success());
            number += 1;
            place.no_process_after(Duration::from_secs(1), &context);
            let names = [vec![], vec!["new.html".to_owned(), "new.img".to_owned()]];
            assert_eq!(place.names(), names, "{context}");
            // The old output, or the new one, whole: dracut's part of it differs from run to run.
            let now = std::fs::read(place.dir.path().join("out/new.img")).unwrap();
            assert!(status.success() || front_end == "dracut" || now == old, "{context}");
        }
    }
}

#[test]
fn what_twenty_sigkills_leave_is_removed_by_the_next_run() {
    for front_end in front_ends() {
        let place = Place::new();
        let start = Instant::now();
        run(&mut place.convert(front_end));
        let whole = start.elapsed();
        for moment in moments(10, whole) {
            let mut child = place.convert(front_end).spawn().unwrap();
            after(moment, &child, Signal::KILL);
            child.wait().unwrap();
            // Programs that dracut runs end by themselves.
            place.no_process_after(Duration::from_secs(60), front_end);
        }
        run(&mut place.convert(front_end));
        assert_eq!(place.names(), [vec![], vec!["new.html".to_owned(), "new.img".to_owned()]], "{front_end}");
    }
}

#[test]
fn a_signal_ends_a_measured_boot_and_its_machine() {
    let Some((initrd, kernel)) = installer("text").filter(|_| have("qemu-system-x86_64")) else { return };
    let place = Place::new();
    let mut child = btrsquash()
        .arg("boot")
        .arg(&initrd)
        .args(["--measure", "--expect", "never", "--kernel"])
        .arg(&kernel)
        .env("TMPDIR", place.dir.path().join("tmp"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !place.processes().iter().any(|command| command.contains("qemu-system")) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before the machine started");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    place.no_process_after(Duration::from_secs(1), "boot");
    assert!(place.names()[0].is_empty());
}

#[test]
fn without_threads_there_is_a_clear_error() {
    if !["setpriv", "prlimit"].into_iter().all(have) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("prlimit");
    if rustix::process::geteuid().is_root() {
        // Root has no such limit.
        command = Command::new("setpriv");
        command.args(["--reuid=64999", "--regid=64999", "--clear-groups", "prlimit"]);
    }
    // Where someone else may read it, unlike the directory of a checkout.
    let binary = dir.path().join("btrsquash");
    std::fs::copy(env!("CARGO_BIN_EXE_btrsquash"), &binary).unwrap();
    let image = dir.path().join("image");
    std::fs::copy(tiny(), &image).unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = command.arg("--nproc=1").arg(&binary).arg("inspect").arg(&image).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("no thread can be started") && text.contains("ulimit -u"), "{text}");
}
