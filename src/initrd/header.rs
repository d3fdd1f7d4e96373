//! The header of a newc entry (Documentation/driver-api/early-userspace/buffer-format.rst).

use crate::tree::Device;

/// Bytes of a header: the magic and thirteen fields of eight hexadecimal digits.
pub(crate) const HEADER: usize = 110;

/// The fields of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) ino: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) mtime: u32,
    pub(crate) body_len: u64,
    pub(crate) device: Device,
    pub(crate) rdev: Device,
    pub(crate) name_len: u64,
    /// The sum of the content's bytes, in the format with checksums (070702).
    pub(crate) checksum: Option<u32>,
}

/// Why a header is not one of newc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The old portable format (070707).
    OldPortable,
    /// The stripped format of rpm (07070X), which has no names.
    Stripped,
    /// No magic of any cpio format.
    Magic,
    /// Something else than eight hexadecimal digits at this offset in the header.
    Digits(usize),
}

impl Header {
    /// `parse_header` of the kernel's init/initramfs.c. Something else than a hexadecimal digit is refused by new kernels
    /// (`damaged header`); for older ones the number ends there.
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Result<Self, Fault> {
        let checksummed = match &bytes[..6] {
            b"070701" => false,
            b"070702" => true,
            b"070707" => return Err(Fault::OldPortable),
            b"07070X" => return Err(Fault::Stripped),
            _ => return Err(Fault::Magic),
        };
        let mut fields = [0_u32; 13];
        for (i, field) in fields.iter_mut().enumerate() {
            let at = 6 + i * 8;
            let digits = &bytes[at..at + 8];
            *field = std::str::from_utf8(digits)
                .ok()
                .filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|s| u32::from_str_radix(s, 16).ok())
                .ok_or(Fault::Digits(at))?;
        }
        let [ino, mode, uid, gid, nlink, mtime, body, major, minor, rmajor, rminor, name, sum] = fields;
        Ok(Self {
            ino,
            mode,
            uid,
            gid,
            nlink,
            mtime,
            body_len: u64::from(body),
            device: Device { major, minor },
            // MKDEV packs both into 32 bits: 12 for the major number, 20 for the minor.
            rdev: Device { major: (rmajor << 20 | rminor) >> 20, minor: rminor & 0xf_ffff },
            name_len: u64::from(name),
            checksum: checksummed.then_some(sum),
        })
    }
}

/// The bytes up to the first NUL.
pub(crate) fn c_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}
