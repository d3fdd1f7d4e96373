//! Mounts the runtime on /sysroot: squashfs, btrfs if there is one, and what makes it writable.

use std::ffi::c_ulong;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use btrsquash::contract::cmdline::Arguments;
use btrsquash::contract::{RuntimeFormat, paths};

use super::runtime::Squashfs;
use crate::arguments::detail;
use crate::block;
use crate::console::{Result, failed, failure};
use crate::modules::{self, Loaded};
use crate::sys;

const MORE_MEMORY: &str = "give the machine more memory";
const DAMAGED: &str = "the image may be truncated or changed: compare its checksum, and convert it again";

/// The mount points.
struct Places {
    live: PathBuf,
    lower: PathBuf,
    writable: PathBuf,
    root: PathBuf,
}

impl Places {
    fn make() -> Result<Self> {
        let [live, lower, writable, root] =
            [paths::MOUNT_LIVE, paths::MOUNT_LOWER, paths::MOUNT_WRITABLE, paths::SYSROOT]
                .map(|path| Path::new("/").join(path));
        for directory in [&live, &lower, &writable, &root] {
            fs::create_dir_all(directory)
                .map_err(failed(format!("making {}", directory.display()), MORE_MEMORY))?;
        }
        Ok(Self { live, lower, writable, root })
    }
}

/// Mounts the runtime. Modules that lie in the squashfs are loaded as soon as it is mounted.
pub(super) fn runtime(
    arguments: &Arguments,
    squashfs: &Squashfs,
    format: RuntimeFormat,
    overlayfs: bool,
    loaded: &mut Loaded,
) -> Result<()> {
    let places = Places::make()?;
    squashfs_on(&places.live, squashfs, loaded)?;
    let before = loaded.names.len();
    modules::load_late(&places.live, overlayfs, loaded);
    for name in &loaded.names[before..] {
        detail(arguments, format!("loaded {name} from the squashfs"));
    }
    sys::mount_at("tmpfs", &places.writable, "tmpfs", 0, "mode=0755")
        .map_err(failed("mounting a tmpfs for what is written", "use a kernel with tmpfs"))?;
    match format {
        RuntimeFormat::Squashfs => overlay(&places.live, &places, loaded)?,
        RuntimeFormat::Btrfs => {
            let image = image(&places.live, squashfs)?;
            let origin = block::loop_device(&image, 0, 0, false)
                .map_err(failed(format!("setting up a loop device for {}", paths::ROOTFS), loaded.hint()))?;
            if overlayfs {
                file_system(&origin, &places.lower, "btrfs", sys::MS_RDONLY, loaded)?;
                overlay(&places.lower, &places, loaded)?;
            } else {
                snapshot(arguments, &origin, &places, loaded)?;
            }
        }
    }
    detail(arguments, format!("the runtime is mounted on {}", places.root.display()));
    Ok(())
}

/// Mounts the squashfs on `live`.
pub(super) fn squashfs_on(live: &Path, squashfs: &Squashfs, loaded: &Loaded) -> Result<()> {
    let source = squashfs.file.display();
    let device = block::loop_device(&squashfs.file, squashfs.offset, squashfs.size, false)
        .map_err(failed(format!("setting up a loop device for {source}{}", loaded.why()), loaded.hint()))?;
    file_system(&device, live, "squashfs", sys::MS_RDONLY, loaded)?;
    block::no_read_ahead(&device);
    Ok(())
}

/// The btrfs image in the squashfs.
fn image(live: &Path, squashfs: &Squashfs) -> Result<PathBuf> {
    let image = live.join(paths::ROOTFS);
    if image.is_file() {
        return Ok(image);
    }
    Err(failure(format!("{} does not contain {}", squashfs.file.display(), paths::ROOTFS), DAMAGED))
}

/// Mounts a file system of the image; an error says whether a module is missing or the image is damaged.
pub(crate) fn file_system(
    device: &Path,
    target: &Path,
    kind: &str,
    flags: c_ulong,
    loaded: &Loaded,
) -> Result<()> {
    const ENODEV: i32 = 19;
    sys::mount_at(&device.to_string_lossy(), target, kind, flags, "").map_err(|error| {
        let hint = if error.raw_os_error() == Some(ENODEV) { loaded.hint() } else { DAMAGED };
        failure(format!("mounting the {kind}: {error}{}", loaded.why()), hint)
    })
}

/// An overlayfs over `lower`.
fn overlay(lower: &Path, places: &Places, loaded: &Loaded) -> Result<()> {
    let (upper, work) = (places.writable.join("upper"), places.writable.join("work"));
    for directory in [&upper, &work] {
        fs::create_dir(directory).map_err(failed("making the directories of the overlay", MORE_MEMORY))?;
    }
    root_attributes(lower, &upper).map_err(failed(
        "giving the root directory its owner, mode and time",
        "report this: it should not happen",
    ))?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    sys::mount_at(paths::OVERLAY, &places.root, "overlay", sys::MS_NOATIME, &options).map_err(failed(
        format!("mounting an overlayfs{}", loaded.why()),
        "the image may have been made for a device-mapper snapshot: add rd.live.overlay.overlayfs=0 rd.overlayfs=0 to the \
         command line, or convert it with --overlay overlayfs",
    ))
}

/// The root directory of an overlayfs has the attributes of the upper directory.
fn root_attributes(lower: &Path, upper: &Path) -> io::Result<()> {
    let data = fs::metadata(lower)?;
    sys::own(upper, data.uid(), data.gid())?;
    fs::set_permissions(upper, fs::Permissions::from_mode(data.mode() & 0o7777))?;
    sys::set_modified(upper, (data.mtime(), data.mtime_nsec()))
}

/// A device-mapper snapshot of the btrfs image.
fn snapshot(arguments: &Arguments, origin: &Path, places: &Places, loaded: &Loaded) -> Result<()> {
    let cow = places.writable.join("overlay");
    // Sparse: only what is written takes memory. A transient snapshot keeps no metadata on the device: as large as its
    // origin, it never fills up, and it does not look like a disk to install on.
    let size = arguments.value("rd.live.overlay.size").or_else(|| arguments.value("rd.overlay.size"));
    let size = size
        .and_then(|mib| mib.parse::<u64>().ok())
        .map_or_else(|| block::sectors(origin).map(|sectors| sectors * 512), |mib| Ok(mib << 20));
    let size =
        size.map_err(failed("asking for the size of the btrfs image", "report this: it should not happen"))?;
    File::create(&cow).and_then(|file| file.set_len(size)).map_err(failed(
        "making the file for what is written",
        "set a smaller size with rd.live.overlay.size=MIB",
    ))?;
    let cow = block::loop_device(&cow, 0, 0, true)
        .map_err(failed("setting up a loop device for what is written", loaded.hint()))?;
    let snapshot = block::snapshot("live-rw", origin, &cow).map_err(failed(
        format!("setting up a device-mapper snapshot{}", loaded.why()),
        "the image may have been made for overlayfs: add rd.live.overlay.overlayfs=1 rd.overlayfs=1 to the command line, or \
         convert it with --overlay dm",
    ))?;
    file_system(&snapshot, &places.root, "btrfs", sys::MS_NOATIME, loaded)
}
