//! Loop devices, a device-mapper snapshot, and what is on a disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::super::sys;

const LOOP_CTL_GET_FREE: u32 = 0x4c82;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LO_FLAGS_READ_ONLY: u32 = 1;

/// Sets up a loop device over `file` from `offset` on, `size` bytes (0: to its end), and returns its path.
///
/// Structures are those of the kernel's include/uapi/linux/loop.h.
pub fn loop_device(file: &Path, offset: u64, size: u64, writable: bool) -> io::Result<PathBuf> {
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
pub fn no_read_ahead(device: &Path) {
    let name = device.file_name().unwrap_or_default();
    let _ = std::fs::write(Path::new("/sys/block").join(name).join("queue/read_ahead_kb"), "0");
}

/// Size of a block device in sectors of 512 bytes.
pub fn sectors(device: &Path) -> io::Result<u64> {
    Ok(File::open(device)?.seek(SeekFrom::End(0))? / 512)
}

const DM_IOCTL: usize = 312;
const DM_DEV_CREATE: u32 = 3;
const DM_DEV_SUSPEND: u32 = 6;
const DM_TABLE_LOAD: u32 = 9;

/// `_IOWR(0xfd, command, struct dm_ioctl)` of include/uapi/linux/dm-ioctl.h, with `payload` behind the structure.
fn dm(control: &File, command: u32, name: &str, targets: u32, payload: &[u8]) -> io::Result<u64> {
    let mut bytes = vec![0_u8; DM_IOCTL.max(DM_IOCTL + payload.len())];
    // Version 4.0.0 of the interface: what every kernel since 2.6 takes.
    bytes[..4].copy_from_slice(&4_u32.to_ne_bytes());
    let size = bytes.len() as u32;
    bytes[12..16].copy_from_slice(&size.to_ne_bytes());
    bytes[16..20].copy_from_slice(&(DM_IOCTL as u32).to_ne_bytes());
    bytes[20..24].copy_from_slice(&targets.to_ne_bytes());
    bytes[48..48 + name.len()].copy_from_slice(name.as_bytes());
    bytes[DM_IOCTL..].copy_from_slice(payload);
    let request = 3 << 30 | (DM_IOCTL as u32) << 16 | 0xfd << 8 | command;
    sys::ioctl_bytes(control, request, &mut bytes)?;
    let mut device = [0; 8];
    device.copy_from_slice(&bytes[40..48]);
    Ok(u64::from_ne_bytes(device))
}

/// A writable snapshot called `name` of `origin`, its changed chunks on `cow`: transient (`N`), as they are gone with
/// the memory anyhow, in chunks of 4 KiB (Documentation/admin-guide/device-mapper/snapshot.rst).
pub fn snapshot(name: &str, origin: &Path, cow: &Path) -> io::Result<PathBuf> {
    let control = Path::new("/dev/mapper/control");
    if !control.exists() {
        std::fs::create_dir_all("/dev/mapper")?;
        // misc device 236 since 2.6.36.
        sys::make_node(control, 0o020_600, sys::device(10, 236))?;
    }
    let control = OpenOptions::new().read(true).write(true).open(control)?;
    let device = dm(&control, DM_DEV_CREATE, name, 0, &[])?;
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

/// What a disk holds: the file system's type, label and UUID.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    pub kind: &'static str,
    pub label: String,
    pub uuid: String,
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

fn uuid(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let hex = hex.concat();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// Tells ext2/3/4, ISO 9660, FAT, XFS, btrfs and squashfs by their superblocks.
pub fn identify(device: &Path) -> Option<FileSystem> {
    let mut file = File::open(device).ok()?;
    let mut start = vec![0; 68 << 10];
    let mut filled = 0;
    while filled < start.len() {
        match file.read(&mut start[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    let found = |kind, label: &[u8], uuid: String| Some(FileSystem { kind, label: text(label), uuid });
    if start[..4] == *b"hsqs" {
        return found("squashfs", b"", String::new());
    }
    if start[0x8001..0x8006] == *b"CD001" {
        // Volume creation date, as blkid shows it: 2024-01-02-03-04-05-00.
        let date = text(&start[0x832d..0x833d]);
        let uuid = if date.len() == 16 && date.bytes().all(|b| b.is_ascii_digit()) {
            format!(
                "{}-{}-{}-{}-{}-{}-{}",
                &date[..4],
                &date[4..6],
                &date[6..8],
                &date[8..10],
                &date[10..12],
                &date[12..14],
                &date[14..16]
            )
        } else {
            String::new()
        };
        return found("iso9660", &start[0x8028..0x8048], uuid);
    }
    if start[0x438..0x43a] == [0x53, 0xef] {
        return found("ext4", &start[0x478..0x488], uuid(&start[0x468..0x478]));
    }
    if start[..4] == *b"XFSB" {
        return found("xfs", &start[108..120], uuid(&start[32..48]));
    }
    if start[0x10040..0x10048] == *b"_BHRfS_M" {
        return found("btrfs", &start[0x1012b..0x1022b], uuid(&start[0x10020..0x10030]));
    }
    if start[510..512] == [0x55, 0xaa] {
        for (kind_at, serial, label) in [(82, 67, 71), (54, 39, 43)] {
            if start[kind_at..kind_at + 3] == *b"FAT" {
                let s = &start[serial..serial + 4];
                return found(
                    "vfat",
                    &start[label..label + 11],
                    format!("{:02X}{:02X}-{:02X}{:02X}", s[3], s[2], s[1], s[0]),
                );
            }
        }
    }
    None
}
