//! An initramfs whose system is a file inside: the file is read in the retained initrd and appears at its old path.

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use btrsquash::contract::cmdline::Arguments;
use btrsquash::contract::paths;

use super::mount;
use super::retained;
use super::runtime;
use crate::arguments::detail;
use crate::console::{Result, failed, failure};
use crate::modules::Loaded;
use crate::sys;

/// Gives the file `path` its content, makes rootfs what it was in the old image, and starts the old init.
pub(super) fn start(arguments: &Arguments, path: &str, made: &[&str], loaded: &Loaded) -> Result<Infallible> {
    let squashfs = retained::find()?;
    runtime::check(arguments, &squashfs)?;
    let live = Path::new("/").join(paths::MOUNT_LIVE);
    let impossible = "report this: it should not happen";
    fs::create_dir_all(&live).map_err(failed("making a mount point", "give the machine more memory"))?;
    mount::squashfs_on(&live, &squashfs, loaded)?;
    let file = live.join(paths::ROOTFS);
    sys::mount_at(&file.to_string_lossy(), path, "", sys::MS_BIND, "")
        .map_err(failed(format!("binding {} to {path}", file.display()), impossible))?;
    detail(arguments, format!("{path} is read in the retained initrd"));
    // The bind mount keeps the file system.
    sys::unmount(&live, sys::MNT_DETACH).map_err(failed("unmounting the squashfs", impossible))?;
    let (ours, old) = (Path::new("/").join(paths::OURS), Path::new("/").join(paths::KEPT_INIT));
    let init = Path::new("/").join(paths::INIT);
    fs::rename(&old, &init).map_err(failed("putting the old /init back", impossible))?;
    let _ = fs::remove_dir_all(ours);
    for place in ["/dev", "/sys", "/proc"] {
        let _ = sys::unmount(place, sys::MNT_DETACH);
    }
    for place in made {
        let _ = fs::remove_dir(place);
    }
    let error = Command::new(&init).args(std::env::args_os().skip(1)).exec();
    Err(failure(
        format!("starting /init: {error}"),
        "check that it is a program for this architecture and that its interpreter exists",
    ))
}
