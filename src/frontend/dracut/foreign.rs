//! For which machine dracut packs programs, and what to do where they do not run.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::bytes::open_regular;
use crate::elf;
use crate::error::Error;
use crate::image::{MAX_LINE, script_interpreter};

/// The machine of a program in another root, as `uname -m` names it; of a script, that of its interpreter. `None` if it
/// cannot be told.
pub(super) fn machine(root: &Path, program: &Path) -> Option<&'static str> {
    let head = head(root, program)?;
    let Some(interpreter) = script_interpreter(&head) else { return elf::machine_of(&head) };
    elf::machine_of(&self::head(root, Path::new(std::ffi::OsStr::from_bytes(interpreter)))?)
}

fn head(root: &Path, program: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    // A FIFO is not waited for.
    open(root, program, OFlags::RDONLY | OFlags::NONBLOCK)
        .ok()?
        .take(MAX_LINE as u64)
        .read_to_end(&mut head)
        .ok()?;
    Some(head)
}

/// Whether a path leads to a file in another root.
pub(super) fn is_file(root: &Path, path: &Path) -> bool {
    open(root, path, OFlags::PATH).is_ok()
}

/// Opens a regular file of another root as the programs in it would: no symlink leads out of it.
fn open(root: &Path, path: &Path, flags: OFlags) -> io::Result<File> {
    let directory = File::open(root)?;
    let flags = flags | OFlags::CLOEXEC;
    match rustix::fs::openat2(directory, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        // Linux before 5.6, or a container whose filter does not know the call: absolute symlinks are followed wrongly.
        Err(Errno::NOSYS | Errno::PERM) => open_regular(&root.join(path.strip_prefix("/").unwrap_or(path))),
        opened => {
            let file = File::from(opened?);
            if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
        }
    }
}

/// Fails unless a kernel for `kernel` runs the programs that the dracut of `root`, or of this machine, packs.
pub(super) fn check(root: Option<&Path>, packed: &str, kernel: &str) -> Result<(), Error> {
    if elf::runs(kernel, packed) {
        return Ok(());
    }
    let whose = if root.is_some() { "the dracut of this root" } else { "dracut on this machine" };
    let error = Error::missing(format!(
        "{whose} packs programs for {packed}, and the kernel is for {kernel}"
    ))
    .hint(
        "use --front-end built-in, or --dracut-root with a root of the image's distribution and architecture",
    );
    Err(if let Some(root) = root { error.file(root) } else { error })
}

/// Why the programs of a root did not start, if they are for another machine.
pub(super) fn not_started(root: &Path, machine: &str, status: ExitStatus) -> Option<Error> {
    // Of a shell and of chroot: the program was not found, or the kernel did not execute it. A program that is there is
    // not found if the interpreter that binfmt_misc has for it is outside the root, which the flag F prevents.
    const NOT_EXECUTED: [i32; 2] = [126, 127];
    let host = elf::host_machine();
    if elf::runs(host, machine) || !status.code().is_some_and(|code| NOT_EXECUTED.contains(&code)) {
        return None;
    }
    let error = Error::missing(format!(
        "the programs of this root are for {machine}, and this machine ({host}) does not run them"
    ));
    Some(error.file(root).hint(format!(
        "install qemu-user-static and binfmt-support, so that QEMU runs them (/proc/sys/fs/binfmt_misc/qemu-{} then has the \
         flag F); or use --front-end built-in, which runs no programs",
        qemu(machine)
    )))
}

/// QEMU's name for a machine.
fn qemu(machine: &str) -> &str {
    if machine == "i686" { "i386" } else { machine }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_script_is_for_the_machine_of_its_interpreter() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("usr/bin")).unwrap();
        // Absolute symlinks stay in the root.
        symlink("/usr/bin", at("bin")).unwrap();
        symlink("/bin/dash", at("usr/bin/sh")).unwrap();
        let mut header = vec![0; 64];
        header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        (header[16], header[18]) = (2, 183);
        std::fs::write(at("usr/bin/dash"), header).unwrap();
        std::fs::write(at("usr/bin/dracut"), "#! /bin/sh --norc\n").unwrap();
        std::fs::write(at("usr/bin/lost"), "#!/bin/perl").unwrap();
        let machine = |path: &str| super::machine(root.path(), Path::new(path));
        assert_eq!(machine("/usr/bin/dracut"), Some("aarch64"));
        assert_eq!(machine("/bin/sh"), Some("aarch64"));
        assert_eq!(machine("/usr/bin/lost"), None);
        assert_eq!(machine("/usr/bin/nothing"), None);
        assert!(is_file(root.path(), Path::new("/bin/sh")));
        assert!(!is_file(root.path(), Path::new("/bin")) && !is_file(root.path(), Path::new("/bin/nothing")));
    }
}
