//! System calls that std has no words for, through the C library that is linked in.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// mount(2) flags.
pub const MS_RDONLY: c_ulong = 1;
pub const MS_NOSUID: c_ulong = 2;
pub const MS_NODEV: c_ulong = 4;
pub const MS_NOEXEC: c_ulong = 8;
pub const MS_NOATIME: c_ulong = 1024;
pub const MS_MOVE: c_ulong = 8192;
pub const MS_STRICTATIME: c_ulong = 1 << 24;
/// umount2(2): also where it is busy.
pub const MNT_DETACH: c_int = 2;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const INIT_MODULE: i64 = 175;
    pub const FINIT_MODULE: i64 = 313;
}
#[cfg(not(target_arch = "x86_64"))]
mod number {
    // The numbers of every architecture that came after (asm-generic/unistd.h).
    pub const INIT_MODULE: i64 = 105;
    pub const FINIT_MODULE: i64 = 273;
}

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn mknod(path: *const c_char, mode: c_uint, device: u64) -> c_int;
    fn lchown(path: *const c_char, uid: c_uint, gid: c_uint) -> c_int;
    fn utimensat(dir: c_int, path: *const c_char, times: *const [i64; 4], flags: c_int) -> c_int;
    fn dup2(old: c_int, new: c_int) -> c_int;
    fn sync();
}

fn c(path: impl AsRef<Path>) -> io::Result<CString> {
    Ok(CString::new(path.as_ref().as_os_str().as_bytes())?)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// mount(2).
pub fn mount_at(
    source: &str,
    target: impl AsRef<Path>,
    kind: &str,
    flags: c_ulong,
    data: &str,
) -> io::Result<()> {
    let (source, target, kind, data) =
        (CString::new(source)?, c(target)?, CString::new(kind)?, CString::new(data)?);
    // SAFETY: all four are strings that end with NUL and live through the call.
    check(unsafe { mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })
}

/// umount2(2).
pub fn unmount(target: impl AsRef<Path>, flags: c_int) -> io::Result<()> {
    let target = c(target)?;
    // SAFETY: a string that ends with NUL and lives through the call.
    check(unsafe { umount2(target.as_ptr(), flags) })
}

/// ioctl(2) with a number.
pub fn ioctl_number(file: &File, request: u32, argument: c_long) -> io::Result<c_int> {
    // SAFETY: the requests used take a plain number.
    let result = unsafe { ioctl(file.as_raw_fd(), c_ulong::from(request), argument) };
    check(result)?;
    Ok(result)
}

/// ioctl(2) with a structure that the kernel reads and may write; the caller knows its size.
pub fn ioctl_bytes(file: &File, request: u32, bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: `bytes` is as long as the structure of the request (the callers take care of that) and lives on.
    check(unsafe { ioctl(file.as_raw_fd(), c_ulong::from(request), bytes.as_mut_ptr()) })
}

/// Loads a kernel module from a file: finit_module(2), or init_module(2) on kernels before 3.8.
pub fn load_module(file: &File, bytes: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<()> {
    const ENOSYS: i32 = 38;
    // SAFETY: a file descriptor, a string that ends with NUL, a number.
    let result = unsafe { syscall(number::FINIT_MODULE as c_long, file.as_raw_fd(), c"".as_ptr(), 0) };
    let error = io::Error::last_os_error();
    if result >= 0 {
        return Ok(());
    }
    if error.raw_os_error() != Some(ENOSYS) {
        return Err(error);
    }
    let image = bytes()?;
    // SAFETY: the image with its length, a string that ends with NUL.
    let result = unsafe {
        syscall(number::INIT_MODULE as c_long, image.as_ptr(), image.len() as c_ulong, c"".as_ptr())
    };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// mknod(2); `mode` holds the file type.
pub fn make_node(path: impl AsRef<Path>, mode: u32, device: u64) -> io::Result<()> {
    let path = c(path)?;
    // SAFETY: a string that ends with NUL.
    check(unsafe { mknod(path.as_ptr(), mode, device) })
}

/// lchown(2).
pub fn own(path: impl AsRef<Path>, uid: u32, gid: u32) -> io::Result<()> {
    let path = c(path)?;
    // SAFETY: a string that ends with NUL.
    check(unsafe { lchown(path.as_ptr(), uid, gid) })
}

/// Times of last access and modification, of a symbolic link itself.
pub fn set_times(path: impl AsRef<Path>, access: (i64, i64), modified: (i64, i64)) -> io::Result<()> {
    const AT_FDCWD: c_int = -100;
    const AT_SYMLINK_NOFOLLOW: c_int = 0x100;
    let path = c(path)?;
    let times = [access.0, access.1, modified.0, modified.1];
    // SAFETY: two `struct timespec` of 64-bit numbers each.
    check(unsafe { utimensat(AT_FDCWD, path.as_ptr(), &times, AT_SYMLINK_NOFOLLOW) })
}

/// Makes the file the standard input, output and error.
pub fn standard_streams(file: &File) {
    for fd in 0..3 {
        // SAFETY: both are numbers; a failure leaves what was there.
        unsafe { dup2(file.as_raw_fd(), fd) };
    }
}

/// sync(2).
pub fn flush() {
    // SAFETY: takes and gives nothing.
    unsafe { sync() }
}

/// A device number as the C library's `makedev` packs it.
pub const fn device(major: u64, minor: u64) -> u64 {
    (major & 0xfff) << 8 | (minor & 0xff) | (minor & !0xff) << 12 | (major & !0xfff) << 32
}
