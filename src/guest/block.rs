//! Loop devices and a device-mapper snapshot.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::sys;

const LOOP_CTL_GET_FREE: u32 = 0x4c82;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LOOP_CLR_FD: u32 = 0x4c01;
const LO_FLAGS_READ_ONLY: u32 = 1;

/// Sets up a loop device over `file` from `offset` on, `size` bytes (0: to its end), and returns its path.
///
/// Structures are those of the kernel's include/uapi/linux/loop.h.
pub(crate) fn loop_device(file: &Path, offset: u64, size: u64, writable: bool) -> io::Result<PathBuf> {
    let backing = OpenOptions::new().read(true).write(writable).open(file)?;
    let number = match File::open("/dev/loop-control") {
        Ok(control) => sys::ioctl_number(&control, LOOP_CTL_GET_FREE, 0)?,
        // Kernels before 3.1 have eight devices and no control.
        Err(_) => (0..8)
            .find(|n| !Path::new(&format!("/sys/block/loop{n}/loop")).exists())
            .ok_or_else(|| io::Error::other("no free loop device"))?,
    };
    let path = PathBuf::from(format!("/dev/loop{number}"));
    if !path.exists() {
        let _ = sys::make_node(&path, 0o060_600, sys::device(7, number as u64));
    }
    let device = OpenOptions::new().read(true).write(writable).open(&path)?;
    let mut info = [0_u8; 232];
    info[24..32].copy_from_slice(&offset.to_ne_bytes());
    info[32..40].copy_from_slice(&size.to_ne_bytes());
    info[52..56].copy_from_slice(&(if writable { 0 } else { LO_FLAGS_READ_ONLY }).to_ne_bytes());
    // lo_file_name, for people who run losetup.
    let name = file.as_os_str().as_encoded_bytes();
    let shown = name.len().min(63);
    info[56..56 + shown].copy_from_slice(&name[..shown]);
    let mut config = [0_u8; 304];
    config[..4].copy_from_slice(&(backing.as_raw_fd() as u32).to_ne_bytes());
    config[8..240].copy_from_slice(&info);
    if sys::ioctl_bytes(&device, LOOP_CONFIGURE, &mut config).is_err() {
        // Before 5.8.
        sys::ioctl_number(&device, LOOP_SET_FD, backing.as_raw_fd().into())?;
        sys::ioctl_bytes(&device, LOOP_SET_STATUS64, &mut info)?;
    }
    Ok(path)
}

/// Has the files of a squashfs on the loop device `device` that are opened from now on read without reading ahead.
///
/// Each read of a squashfs unpacks a whole block, and the kernel counts that block as read in sequence: it would unpack
/// the next one too, in the same thread, a third of all blocks for nothing. Nothing is lost where that cannot be set.
pub(crate) fn no_read_ahead(device: &Path) {
    let name = device.file_name().unwrap_or_default();
    let _ = std::fs::write(Path::new("/sys/block").join(name).join("queue/read_ahead_kb"), "0");
}

/// Size of a block device in sectors of 512 bytes.
pub(crate) fn sectors(device: &Path) -> io::Result<u64> {
    Ok(File::open(device)?.seek(SeekFrom::End(0))? / 512)
}

const DM_IOCTL: usize = 312;
const DM_DEV_CREATE: u32 = 3;
const DM_DEV_SUSPEND: u32 = 6;
const DM_TABLE_LOAD: u32 = 9;
const DM_LIST_VERSIONS: u32 = 13;

/// Detaches a loop device from its file.
pub(crate) fn detach(device: &Path) -> io::Result<()> {
    sys::ioctl_number(&File::open(device)?, LOOP_CLR_FD, 0).map(drop)
}

/// Sets how much is read ahead on every loop device, in KiB. A file keeps what its device had when it was opened.
pub(crate) fn set_read_ahead(kib: &str) {
    for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"loop") {
            let _ = std::fs::write(entry.path().join("queue/read_ahead_kb"), kib);
        }
    }
}

/// `_IOWR(0xfd, command, struct dm_ioctl)` of include/uapi/linux/dm-ioctl.h, with `payload` behind the structure. Returns
/// the structure and what the kernel wrote behind it.
fn dm(control: &File, command: u32, name: &str, targets: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; DM_IOCTL + payload.len()];
    // Version 4.0.0 of the interface, which every kernel since 2.6 accepts.
    bytes[..4].copy_from_slice(&4_u32.to_ne_bytes());
    let size = bytes.len() as u32;
    bytes[12..16].copy_from_slice(&size.to_ne_bytes());
    bytes[16..20].copy_from_slice(&(DM_IOCTL as u32).to_ne_bytes());
    bytes[20..24].copy_from_slice(&targets.to_ne_bytes());
    bytes[48..48 + name.len()].copy_from_slice(name.as_bytes());
    bytes[DM_IOCTL..].copy_from_slice(payload);
    sys::ioctl_bytes(control, sys::read_write(0xfd, command, DM_IOCTL), &mut bytes)?;
    Ok(bytes)
}

/// /dev/mapper/control, made if it is missing.
fn dm_control() -> io::Result<File> {
    let control = Path::new("/dev/mapper/control");
    if !control.exists() {
        std::fs::create_dir_all("/dev/mapper")?;
        // Misc device 236 since 2.6.36.
        sys::make_node(control, 0o020_600, sys::device(10, 236))?;
    }
    OpenOptions::new().read(true).write(true).open(control)
}

/// Whether the kernel has the device-mapper target for snapshots.
pub(crate) fn knows_snapshots() -> bool {
    let versions = dm_control().and_then(|control| dm(&control, DM_LIST_VERSIONS, "", 0, &[0; 16 << 10]));
    // Names of targets, each behind a header and with a NUL behind it.
    versions.is_ok_and(|bytes| bytes.windows(10).any(|name| name == b"\0snapshot\0"))
}

/// A writable snapshot called `name` of `origin`, its changed chunks on `cow`: transient (`N`), as they are gone with
/// the memory anyhow, in chunks of 4 KiB (Documentation/admin-guide/device-mapper/snapshot.rst).
pub(crate) fn snapshot(name: &str, origin: &Path, cow: &Path) -> io::Result<PathBuf> {
    let control = dm_control()?;
    let created = dm(&control, DM_DEV_CREATE, name, 0, &[])?;
    let device = created[40..48].try_into().map(u64::from_ne_bytes).unwrap_or_default();
    let parameters = format!("{} {} N 8\0", origin.display(), cow.display());
    let mut payload = Vec::new();
    payload.extend_from_slice(&0_u64.to_ne_bytes());
    payload.extend_from_slice(&sectors(origin)?.to_ne_bytes());
    payload.extend_from_slice(&[0; 8]); // status, next
    let mut kind = [0; 16];
    kind[..8].copy_from_slice(b"snapshot");
    payload.extend_from_slice(&kind);
    payload.extend_from_slice(parameters.as_bytes());
    payload.resize(payload.len().next_multiple_of(8), 0);
    dm(&control, DM_TABLE_LOAD, name, 1, &payload)?;
    dm(&control, DM_DEV_SUSPEND, name, 0, &[])?; // without the flag: resume
    // huge_encode_dev of the kernel packs it as the C library does.
    let path = PathBuf::from(format!("/dev/mapper/{name}"));
    if !path.exists() {
        sys::make_node(&path, 0o060_600, device)?;
    }
    Ok(path)
}
