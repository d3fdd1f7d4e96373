//! System calls that std has no functions for, through the C library that is linked in.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// mount(2) flags.
pub(crate) const MS_RDONLY: c_ulong = 1;
pub(crate) const MS_NOSUID: c_ulong = 2;
pub(crate) const MS_NODEV: c_ulong = 4;
pub(crate) const MS_NOEXEC: c_ulong = 8;
pub(crate) const MS_NOATIME: c_ulong = 1024;
pub(crate) const MS_BIND: c_ulong = 4096;
pub(crate) const MS_MOVE: c_ulong = 8192;
pub(crate) const MS_STRICTATIME: c_ulong = 1 << 24;
/// umount2(2): also where it is busy.
pub(crate) const MNT_DETACH: c_int = 2;

/// Numbers of init_module(2) and finit_module(2), for which the C library has no functions: arch/*/entry/syscalls of the
/// kernel, and include/uapi/asm-generic/unistd.h for arm64 and riscv64.
fn module_calls() -> (c_long, c_long) {
    match std::env::consts::ARCH {
        "x86_64" => (175, 313),
        "x86" => (128, 350),
        "arm" => (128, 379),
        "powerpc64" => (128, 353),
        "s390x" => (128, 344),
        // aarch64, riscv64 and every younger one.
        _ => (105, 273),
    }
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
    fn utimensat(dir: c_int, path: *const c_char, times: *const [c_long; 4], flags: c_int) -> c_int;
    fn dup2(old: c_int, new: c_int) -> c_int;
    fn sync();
    fn fork() -> c_int;
    fn setsid() -> c_int;
    fn klogctl(kind: c_int, buffer: *mut c_char, length: c_int) -> c_int;
    fn openat(dir: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut [c_long; 2]) -> c_int;
}

fn c(path: impl AsRef<Path>) -> io::Result<CString> {
    Ok(CString::new(path.as_ref().as_os_str().as_bytes())?)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// mount(2).
pub(crate) fn mount_at(
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
pub(crate) fn unmount(target: impl AsRef<Path>, flags: c_int) -> io::Result<()> {
    let target = c(target)?;
    // SAFETY: a string that ends with NUL and lives through the call.
    check(unsafe { umount2(target.as_ptr(), flags) })
}

/// ioctl(2) with a number.
pub(crate) fn ioctl_number(file: &File, request: u32, argument: c_long) -> io::Result<c_int> {
    // SAFETY: the requests used take a plain number.
    let result = unsafe { ioctl(file.as_raw_fd(), c_ulong::from(request), argument) };
    check(result)?;
    Ok(result)
}

/// ioctl(2) with a structure that the kernel reads and may write; the caller knows its size.
pub(crate) fn ioctl_bytes(file: &File, request: u32, bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: `bytes` is as long as the structure of the request (the callers take care of that) and lives on.
    check(unsafe { ioctl(file.as_raw_fd(), c_ulong::from(request), bytes.as_mut_ptr()) })
}

/// The request `_IOWR(kind, number, size)` (include/uapi/asm-generic/ioctl.h; powerpc packs both directions into the same bits).
pub(crate) const fn read_write(kind: u32, number: u32, size: usize) -> u32 {
    3 << 30 | (size as u32) << 16 | kind << 8 | number
}

/// Loads a kernel module from a file: finit_module(2), or init_module(2) on kernels before 3.8.
pub(crate) fn load_module(file: &File, bytes: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<()> {
    const ENOSYS: i32 = 38;
    // SAFETY: a file descriptor, a string that ends with NUL, a number.
    let result = unsafe { syscall(module_calls().1, file.as_raw_fd(), c"".as_ptr(), 0_u32) };
    let error = io::Error::last_os_error();
    if result >= 0 {
        return Ok(());
    }
    if error.raw_os_error() != Some(ENOSYS) {
        return Err(error);
    }
    let image = bytes()?;
    // SAFETY: the image with its length, a string that ends with NUL.
    let result = unsafe { syscall(module_calls().0, image.as_ptr(), image.len() as c_ulong, c"".as_ptr()) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// mknod(2); `mode` holds the file type.
pub(crate) fn make_node(path: impl AsRef<Path>, mode: u32, device: u64) -> io::Result<()> {
    let path = c(path)?;
    // SAFETY: a string that ends with NUL.
    check(unsafe { mknod(path.as_ptr(), mode, device) })
}

/// lchown(2).
pub(crate) fn own(path: impl AsRef<Path>, uid: u32, gid: u32) -> io::Result<()> {
    let path = c(path)?;
    // SAFETY: a string that ends with NUL.
    check(unsafe { lchown(path.as_ptr(), uid, gid) })
}

/// Sets the time of last modification of `path`, of a symlink itself; the time of last access stays.
pub(crate) fn set_modified(path: impl AsRef<Path>, (seconds, nanoseconds): (i64, i64)) -> io::Result<()> {
    const AT_FDCWD: c_int = -100;
    const AT_SYMLINK_NOFOLLOW: c_int = 0x100;
    const UTIME_OMIT: c_long = (1 << 30) - 2;
    let path = c(path)?;
    // A time_t of 32 bits ends in 2038.
    let seconds = c_long::try_from(seconds).unwrap_or(if seconds < 0 { c_long::MIN } else { c_long::MAX });
    let times = [0, UTIME_OMIT, seconds, c_long::try_from(nanoseconds).unwrap_or(0)];
    // SAFETY: two `struct timespec`, which are two longs each in the C library's own system call for them.
    check(unsafe { utimensat(AT_FDCWD, path.as_ptr(), &times, AT_SYMLINK_NOFOLLOW) })
}

/// Makes the file the standard input, output and error.
pub(crate) fn standard_streams(file: &File) {
    for fd in 0..3 {
        // SAFETY: both are numbers; a failure leaves what was there.
        unsafe { dup2(file.as_raw_fd(), fd) };
    }
}

/// sync(2).
pub(crate) fn flush() {
    // SAFETY: takes and gives nothing.
    unsafe { sync() }
}

/// A device number as the C library's `makedev` packs it.
pub(crate) const fn device(major: u64, minor: u64) -> u64 {
    (major & 0xfff) << 8 | (minor & 0xff) | (minor & !0xff) << 12 | (major & !0xfff) << 32
}

/// Runs `enter` in the child between fork and exec.
pub(crate) fn before_exec(
    command: &mut std::process::Command,
    enter: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    use std::os::unix::process::CommandExt;
    // SAFETY: there is one thread, and the callers make system calls only.
    unsafe { command.pre_exec(enter) };
}

/// fork(2); whether this is the child.
pub(crate) fn fork_child() -> bool {
    // SAFETY: there is one thread, so the child is a whole copy.
    unsafe { fork() == 0 }
}

/// setsid(2): signals of the terminal no longer come here.
pub(crate) fn leave_session() {
    // SAFETY: takes nothing.
    unsafe { setsid() };
}

/// The kernel's log so far.
pub(crate) fn kernel_log() -> String {
    const SYSLOG_READ_ALL: c_int = 3;
    let mut buffer = vec![0_u8; 256 << 10];
    // SAFETY: a buffer with its length.
    let count = unsafe { klogctl(SYSLOG_READ_ALL, buffer.as_mut_ptr().cast(), buffer.len() as c_int) };
    buffer.truncate(usize::try_from(count).unwrap_or(0));
    String::from_utf8_lossy(&buffer).into_owned()
}

/// Opens `path`, taken from the open directory `directory`, to look at its attributes only.
pub(crate) fn open_path(directory: &File, path: &std::ffi::CStr) -> Option<File> {
    use std::os::fd::FromRawFd;
    const O_PATH: c_int = 0o10_000_000;
    // SAFETY: an open directory and a string that ends with NUL; the descriptor is owned by the File from there on.
    unsafe {
        let fd = openat(directory.as_raw_fd(), path.as_ptr(), O_PATH);
        (fd >= 0).then(|| File::from_raw_fd(fd))
    }
}

/// Milliseconds on the clock that starts with the kernel.
pub(crate) fn uptime() -> i64 {
    const CLOCK_MONOTONIC: c_int = 1;
    let mut time = [0; 2];
    // SAFETY: a struct timespec is two longs.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    #[allow(clippy::unnecessary_cast, reason = "a long has 32 bits on some machines")]
    let milliseconds = time[0] as i64 * 1000 + time[1] as i64 / 1_000_000;
    milliseconds
}

/// ioctl(2) of a socket with a structure that the kernel reads and may write; the caller knows its size.
pub(crate) fn ioctl_socket(socket: &impl AsRawFd, request: u32, bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: `bytes` is at least as long as the structure of the request (the callers take care of that) and lives on.
    check(unsafe { ioctl(socket.as_raw_fd(), c_ulong::from(request), bytes.as_mut_ptr()) })
}

/// A route for SIOCADDRT: `struct rtentry` of the kernel's include/uapi/linux/route.h.
#[repr(C)]
struct Rtentry {
    pad1: c_ulong,
    to: [u8; 16],
    by: [u8; 16],
    mask: [u8; 16],
    flags: u16,
    pad2: i16,
    pad3: c_ulong,
    pad4: *const c_void,
    metric: i16,
    link: *const c_char,
    mtu: c_ulong,
    window: c_ulong,
    irtt: u16,
}

/// Adds a route on the link `link`. The addresses are `struct sockaddr_in`.
pub(crate) fn add_route(
    socket: &impl AsRawFd,
    link: &str,
    to: [u8; 16],
    mask: [u8; 16],
    by: Option<[u8; 16]>,
) -> io::Result<()> {
    const SIOCADDRT: c_ulong = 0x890b;
    const RTF_UP: u16 = 1;
    const RTF_GATEWAY: u16 = 2;
    let link = CString::new(link)?;
    let route = Rtentry {
        pad1: 0,
        to,
        by: by.unwrap_or_default(),
        mask,
        flags: RTF_UP | if by.is_some() { RTF_GATEWAY } else { 0 },
        pad2: 0,
        pad3: 0,
        pad4: std::ptr::null(),
        metric: 0,
        link: link.as_ptr(),
        mtu: 0,
        window: 0,
        irtt: 0,
    };
    // SAFETY: the structure of the request, whose pointer is a string that ends with NUL; both live through the call.
    check(unsafe { ioctl(socket.as_raw_fd(), SIOCADDRT, &raw const route) })
}

unsafe extern "C" {
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn setsockopt(fd: c_int, level: c_int, option: c_int, value: *const c_void, length: c_uint) -> c_int;
    fn bind(fd: c_int, address: *const c_void, length: c_uint) -> c_int;
}

/// A UDP socket on `port` that sends and receives on the link `link` only, also before the link has an address.
pub(crate) fn udp_on_link(link: &str, port: u16) -> io::Result<std::net::UdpSocket> {
    use std::os::fd::FromRawFd;
    // The same on all machines that there is a program for.
    const AF_INET: c_int = 2;
    const SOCK_DGRAM: c_int = 2;
    const SOCK_CLOEXEC: c_int = 0o2_000_000;
    const SOL_SOCKET: c_int = 1;
    const SO_BINDTODEVICE: c_int = 25;
    // SAFETY: takes numbers; the descriptor is owned by the socket from there on.
    let socket = unsafe {
        let fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        check(fd)?;
        std::net::UdpSocket::from_raw_fd(fd)
    };
    let name = CString::new(link)?;
    let length = name.as_bytes_with_nul().len() as c_uint;
    // SAFETY: a string with its length.
    check(unsafe {
        setsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_BINDTODEVICE, name.as_ptr().cast(), length)
    })?;
    let mut address = [0_u8; 16];
    address[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    // SAFETY: a `struct sockaddr_in` with its length.
    check(unsafe { bind(socket.as_raw_fd(), address.as_ptr().cast(), 16) })?;
    Ok(socket)
}
