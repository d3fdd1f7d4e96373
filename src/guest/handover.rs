//! Starts the init of the runtime in place of this process, with the runtime as the root directory.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use btrsquash::contract::{Config, Handover, paths};

use crate::carry::Root;
use crate::console::{Failure, Result, failed, failure};
use crate::sys;

/// What is started, and how.
pub(crate) struct Start {
    /// A path in the runtime.
    pub(crate) init: String,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) handover: Handover,
}

impl Start {
    /// The init that the image was made to start, or `named` by init= on the command line, with the arguments and the
    /// environment that the kernel gave. What a script of the old image prepared for its init is only for that.
    pub(crate) fn new(
        config: &Config,
        named: Option<&str>,
        given: Vec<OsString>,
        mut environment: Vec<(OsString, OsString)>,
    ) -> Self {
        let mut arguments = given;
        if named.is_none_or(|named| named == config.init) {
            if !config.arguments.is_empty() {
                arguments = config.arguments.iter().map(OsString::from).collect();
            }
            for (name, value) in &config.environment {
                environment.retain(|(known, _)| known != name.as_str());
                environment.push((name.into(), value.into()));
            }
        }
        let init = named.unwrap_or(&config.init).to_owned();
        Self { init, arguments, environment, handover: config.handover }
    }
}

/// The mount point of the runtime.
pub(crate) fn sysroot() -> PathBuf {
    Path::new("/").join(paths::SYSROOT)
}

/// Fails if the runtime does not have the program `init`.
pub(crate) fn check_init(init: &str) -> Result<()> {
    match Root(&sysroot()).resolve(init) {
        Ok(_) => Ok(()),
        Err(error) => Err(failure(
            format!("the runtime has no {init} to start: {error}"),
            "name another init with init= on the kernel's command line",
        )),
    }
}

/// Makes the runtime the root directory and starts its init. Returns only to say what failed.
pub(crate) fn start(start: &Start) -> Failure {
    match switch(start) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn switch(start: &Start) -> Result<Infallible> {
    check_init(&start.init)?;
    match start.handover {
        Handover::Bare => unmount_all(),
        Handover::Mounted => move_mounts()?,
    }
    let moving =
        |e: io::Error| failure(format!("moving the runtime to /: {e}"), "report this: it should not happen");
    let device = fs::metadata("/").map_err(moving)?.dev();
    free(Path::new("/"), device);
    std::env::set_current_dir(sysroot()).map_err(moving)?;
    sys::mount_at(".", "/", "", sys::MS_MOVE, "").map_err(moving)?;
    std::os::unix::fs::chroot(".").map_err(moving)?;
    std::env::set_current_dir("/").map_err(moving)?;
    // As console_on_rootfs of the kernel's init/main.c does for the init.
    if let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") {
        sys::standard_streams(&console);
    }
    let mut command = Command::new(&start.init);
    command.args(&start.arguments).env_clear().envs(start.environment.iter().cloned());
    Err(failure(
        format!("starting {}: {}", start.init, command.exec()),
        "check that it is a program for this architecture and that its interpreter exists; init= names another",
    ))
}

/// The old init mounts these itself: it finds none of them, and /dev as the kernel fills it.
fn unmount_all() {
    for place in ["/dev/pts", "/dev/shm"] {
        if sys::unmount(place, sys::MNT_DETACH).is_ok() {
            let _ = fs::remove_dir(place);
        }
    }
    // udev and dracut make these in the devtmpfs, which the next mount shows again.
    for link in ["/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"] {
        if Path::new(link).is_symlink() {
            let _ = fs::remove_file(link);
        }
    }
    for place in ["/run", "/proc", "/sys", "/dev"] {
        let _ = sys::unmount(place, sys::MNT_DETACH);
    }
}

/// Moves the mounts of the boot initramfs into the runtime; /run is mounted if it is not.
fn move_mounts() -> Result<()> {
    for name in ["proc", "sys", "dev"] {
        sys::mount_at(&format!("/{name}"), mount_point(name)?, "", sys::MS_MOVE, "")
            .map_err(failed(format!("moving /{name}"), "report this: it should not happen"))?;
    }
    let run = mount_point("run")?;
    if sys::mount_at("/run", &run, "", sys::MS_MOVE, "").is_ok() {
        return Ok(());
    }
    let flags = sys::MS_NOSUID | sys::MS_NODEV | sys::MS_STRICTATIME;
    sys::mount_at("tmpfs", run, "tmpfs", flags, "mode=0755")
        .map_err(failed("mounting a tmpfs on /run", "use a kernel with tmpfs"))
}

/// The directory `name` of the runtime, made if it is missing.
fn mount_point(name: &str) -> Result<PathBuf> {
    let root = sysroot();
    let directory = root.join(name);
    match Root(&root).resolve(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir(&directory).map(|()| directory),
        found => found,
    }
    .map_err(failed(
        format!("finding the mount point /{name} of the runtime"),
        "it has to be a directory in the old image, or a symlink that leads to one",
    ))
}

/// Deletes what lies on the initramfs, as switch_root does: it would stay in memory for good. Open files, such as the
/// squashfs under its loop device, stay until they are closed.
fn free(directory: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(data) = entry.metadata() else { continue };
        if data.dev() != device {
            continue;
        }
        if data.is_dir() {
            free(&entry.path(), device);
            let _ = fs::remove_dir(entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
}
