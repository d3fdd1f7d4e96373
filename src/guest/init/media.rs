//! A runtime on a disk or CD.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use btrsquash::contract::cmdline::Arguments;
use btrsquash::contract::paths;

use super::identify::{FileSystem, identify};
use super::runtime::Squashfs;
use crate::console::{Result, failure};
use crate::modules::Loaded;
use crate::{sys, wait};

/// Finds the squashfs on the disk whose file system `matches`.
pub(super) fn matching(
    arguments: &Arguments,
    loaded: &Loaded,
    wanted: &str,
    matches: impl Fn(&FileSystem) -> bool,
) -> Result<Squashfs> {
    on_device(arguments, loaded, wanted, &mut || {
        let mut names: Vec<_> =
            fs::read_dir("/sys/class/block").ok()?.flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
            .iter()
            .map(|name| Path::new("/dev").join(name))
            .find(|device| identify(device).is_some_and(|system| matches(&system)))
    })
}

/// Waits for a device, mounts it and finds the squashfs on it.
pub(super) fn on_device(
    arguments: &Arguments,
    loaded: &Loaded,
    wanted: &str,
    find: &mut dyn FnMut() -> Option<PathBuf>,
) -> Result<Squashfs> {
    let patience = wait::patience(arguments);
    let Some(device) = wait::until(patience, Duration::from_millis(200), find) else {
        let mut seen: Vec<String> = fs::read_dir("/sys/class/block")
            .map(|dir| dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        seen.sort();
        return Err(failure(
            format!(
                "no disk with {wanted} appeared in {} seconds; there {}{}",
                patience.as_secs(),
                if seen.is_empty() { "are none".to_owned() } else { format!("are {}", seen.join(", ")) },
                loaded.why()
            ),
            "check the label or UUID; a driver may be missing: convert with --drivers NAME",
        ));
    };
    let kind = identify(&device).map_or("", |system| system.kind);
    if kind == "squashfs" {
        return Ok(Squashfs { file: device, offset: 0, size: 0, own: false });
    }
    let medium = mount(&device, kind, loaded)?;
    let directory = arguments.value("rd.live.dir").unwrap_or(paths::LIVE);
    let name = arguments.value("rd.live.squashimg").unwrap_or(paths::SQUASHFS);
    let places = [medium.join(directory).join(name), medium.join(name)];
    let found = places.into_iter().find(|place| place.is_file());
    found.map(|file| Squashfs { file, offset: 0, size: 0, own: false }).ok_or_else(|| {
        failure(
            format!("{} has neither {directory}/{name} nor {name}", device.display()),
            "copy the squashfs there, or name it with rd.live.dir= and rd.live.squashimg=",
        )
    })
}

/// Mounts a disk read-only and returns the mount point.
fn mount(device: &Path, kind: &str, loaded: &Loaded) -> Result<PathBuf> {
    let medium = Path::new("/").join(paths::MOUNT_MEDIUM);
    let _ = fs::create_dir_all(&medium);
    // A disk that was named by its device may hold a file system whose superblock is not known here.
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let kinds = match kind {
        "" => known.lines().filter(|line| !line.starts_with("nodev")).map(str::trim).collect(),
        kind => vec![kind],
    };
    let mut error = io::Error::other("this kernel knows no such file system");
    let mounted = kinds.iter().any(|kind| {
        sys::mount_at(&device.to_string_lossy(), &medium, kind, sys::MS_RDONLY, "")
            .map_err(|e| error = e)
            .is_ok()
    });
    if !mounted {
        return Err(failure(
            format!("mounting {} ({}): {error}{}", device.display(), kinds.join(", "), loaded.why()),
            "a file system driver may be missing: convert with --drivers NAME",
        ));
    }
    Ok(medium)
}
