//! What a run must not leave behind: named temporary files, temporary directories, and child processes.
//!
//! Each is removed or ended when its owner is dropped, and by [`clean_up`] when a signal ends the program. SIGKILL
//! leaves no time for either, so every named temporary is locked (flock(2)) for as long as its process lives: the next
//! run in the same directory removes those of its user that no process holds any more.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

/// How the names of all temporary files and directories start. No one would call a file of their own so.
const PREFIX: &str = ".btrsquash-tmp-";
/// Random characters after [`PREFIX`].
const RANDOM: usize = 10;
/// How long [`clean_up`] waits for processes that were killed. One that the kernel holds in a system call (a dead NFS
/// server) must not keep the program from ending.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes that are kept of what a program prints.
const KEPT: usize = 64 << 10;

/// What exists at this moment.
#[derive(Debug)]
struct Existing {
    paths: BTreeSet<PathBuf>,
    groups: BTreeSet<i32>,
}

static EXISTING: Mutex<Existing> = Mutex::new(Existing { paths: BTreeSet::new(), groups: BTreeSet::new() });

fn existing() -> MutexGuard<'static, Existing> {
    EXISTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps signals from ending the program for as long as it lives: [`clean_up`] waits for it. Nothing that this module
/// does may be called meanwhile.
pub(crate) struct Uninterrupted(
    #[expect(dead_code, reason = "held, not read")] MutexGuard<'static, Existing>,
);

/// See [`Uninterrupted`].
pub(crate) fn uninterrupted() -> Uninterrupted {
    Uninterrupted(existing())
}

/// Ends all child processes, waits for them, and then removes all temporary files: for a signal handler's thread, after
/// which the program ends. Nothing can be created afterwards.
pub fn clean_up() {
    let existing = existing();
    for group in &existing.groups {
        end_group(*group);
    }
    for path in &existing.paths {
        remove(path);
    }
    // Whoever is about to create something waits for the lock until the program has ended.
    mem::forget(existing);
}

/// Removes a file, or a directory with all that is in it. There is no one left to report an error to.
fn remove(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Removes what dead processes of this user left in `directory`.
fn remove_abandoned(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if !ours.is_some_and(|rest| rest.len() == RANDOM && rest.bytes().all(|b| b.is_ascii_alphanumeric())) {
            continue;
        }
        let path = entry.path();
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let Ok(file) = File::options().read(true).custom_flags(flags).open(&path) else { continue };
        let mine = file
            .metadata()
            .is_ok_and(|m| m.uid() == rustix::process::geteuid().as_raw() && (m.is_file() || m.is_dir()));
        // The lock is held until it is removed, so that no new owner takes it meanwhile.
        if mine && file.try_lock().is_ok() {
            remove(&path);
        }
    }
}

/// Makes a named temporary with `make`, locks it and registers it.
fn named<T>(directory: &Path, make: impl Fn() -> io::Result<(T, PathBuf)>) -> io::Result<(T, File, PathBuf)> {
    remove_abandoned(directory);
    let mut existing = existing();
    for _ in 0..16 {
        let (made, path) = make()?;
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            // Another run took it for abandoned before it was locked.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        // Some network file systems have no locks: what is left there stays.
        let _ = lock.lock();
        let same = |there: std::fs::Metadata| lock.metadata().is_ok_and(|m| m.ino() == there.ino());
        if path.symlink_metadata().is_ok_and(same) {
            existing.paths.insert(path.clone());
            return Ok((made, lock, path));
        }
    }
    Err(io::Error::other("temporary files are removed as soon as they are made"))
}

/// A temporary directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// A new one in `parent`, or in TMPDIR.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(parent: Option<&Path>) -> io::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let ((), lock, path) = named(&parent, || {
            let made = tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM).tempdir_in(&parent)?;
            Ok(((), made.keep()))
        })?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let mut existing = existing();
        remove(&self.path);
        existing.paths.remove(&self.path);
    }
}

/// A temporary file with a name, for file systems that cannot make one without.
#[derive(Debug)]
pub(crate) struct NamedFile {
    pub(crate) file: File,
    path: PathBuf,
    _lock: File,
}

impl NamedFile {
    /// A new one in `directory`, as readable as the umask allows.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let (file, lock, path) = named(directory, || {
            let mut builder = tempfile::Builder::new();
            let builder = builder.prefix(PREFIX).rand_bytes(RANDOM);
            let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            Ok(builder.tempfile_in(directory)?.keep()?)
        })?;
        Ok(Self { file, path, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for NamedFile {
    fn drop(&mut self) {
        let mut existing = existing();
        // A file that got its final name is not there any more.
        let _ = std::fs::remove_file(&self.path);
        existing.paths.remove(&self.path);
    }
}

/// A name for a short-lived temporary file, which [`remove_abandoned`] would find.
pub(crate) fn temporary_name() -> String {
    // Names need only differ from those of other processes: this one uses one at a time.
    let nanoseconds = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos();
    let seed = u64::from(std::process::id()) << 30 | u64::from(nanoseconds);
    format!("{PREFIX}{:0>RANDOM$}", format!("{:x}", seed % (1 << 40)))
}

/// A child process in a process group of its own. The group is killed and awaited when this is dropped, when a signal
/// ends the program, and by the kernel when the program itself is killed (the child only).
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: i32,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        end_with_us(command.process_group(0));
        // Orphans of the group become our children, so that they can be awaited.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let mut existing = existing();
        let child = command.spawn()?;
        let group = Pid::from_child(&child).as_raw_nonzero().get();
        existing.groups.insert(group);
        Ok(Self { child, group })
    }

    /// The child, whose pipes may be taken. It must not be waited for directly.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until the child ends, then ends what is left of its group.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        // The child is left unreaped for now, so that the number of its group stays taken.
        let pid = Pid::from_child(&self.child);
        while let Err(e) =
            rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {
            if e != rustix::io::Errno::INTR {
                break;
            }
        }
        let mut existing = existing();
        let _ = kill_group(self.group);
        existing.groups.remove(&self.group);
        let status = self.child.wait();
        reap(self.group);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.wait();
    }
}

/// Runs a program to its end; returns its status and the end of what it printed. `errors` says whether that includes
/// its standard error, which is thrown away otherwise.
///
/// # Errors
/// When it cannot be started or read.
pub fn run(command: &mut Command, errors: bool) -> io::Result<(ExitStatus, Vec<u8>)> {
    let (mut reader, writer) = io::pipe()?;
    command.stderr(if errors { Stdio::from(writer.try_clone()?) } else { Stdio::null() });
    command.stdout(writer).stdin(Stdio::null());
    let process = Process::spawn(command);
    // The command holds the writing end: without this the reading end would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = process?;
    let mut kept = Vec::new();
    let mut buffer = [0; 8 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                kept.extend_from_slice(&buffer[..count]);
                if kept.len() > 2 * KEPT {
                    kept.drain(..kept.len() - KEPT);
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok((process.wait()?, kept))
}

fn kill_group(group: i32) -> rustix::io::Result<()> {
    match Pid::from_raw(group) {
        Some(group) => rustix::process::kill_process_group(group, Signal::KILL),
        None => Ok(()),
    }
}

/// Waits for every process of a group that was killed, for a while.
fn reap(group: i32) {
    let Some(group) = Pid::from_raw(group) else { return };
    let start = Instant::now();
    loop {
        match rustix::process::waitpgid(group, WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Kills a process group and waits for it. A process that is being forked at that moment is killed in the next round.
fn end_group(group: i32) {
    for _ in 0..3 {
        if kill_group(group).is_err() {
            return;
        }
        reap(group);
    }
}

/// Has the kernel kill the child when we are killed, which leaves no time to do it ourselves (prctl(2),
/// `PR_SET_PDEATHSIG`): a virtual machine would run on for good, with all of its memory.
#[expect(unsafe_code, reason = "what runs between fork and exec is for the caller to vouch for")]
fn end_with_us(command: &mut Command) {
    // SAFETY: one system call that allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let live = Directory::new(Some(dir.path())).unwrap();
        std::fs::create_dir(at(".btrsquash-tmp-0123456789")).unwrap();
        std::fs::write(at(".btrsquash-tmp-0123456789/content"), "x").unwrap();
        std::fs::write(at(".btrsquash-tmp-abcdefghij"), "x").unwrap();
        for kept in [".btrsquash-tmp-mine", "btrsquash-tmp-0123456789"] {
            std::fs::write(at(kept), "x").unwrap();
        }
        std::os::unix::fs::symlink(at("btrsquash-tmp-0123456789"), at(".btrsquash-tmp-symlink678")).unwrap();
        let file = NamedFile::new(dir.path()).unwrap();
        assert!(live.path().exists() && file.path().exists());
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        left.sort();
        let mut expected = vec![
            live.path().to_owned(),
            file.path().to_owned(),
            at(".btrsquash-tmp-mine"),
            at(".btrsquash-tmp-symlink678"),
            at("btrsquash-tmp-0123456789"),
        ];
        expected.sort();
        assert_eq!(left, expected);
        drop((live, file));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn grandchildren_end_with_their_group() {
        let (status, text) =
            run(Command::new("sh").args(["-c", "sleep 1000 >/dev/null & echo $!"]), false).unwrap();
        assert!(status.success());
        let pid = String::from_utf8(text).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid}");
        let (status, text) =
            run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), true).unwrap();
        assert_eq!((status.code(), text.as_slice()), (Some(3), b"out\nerr\n".as_slice()));
    }
}
