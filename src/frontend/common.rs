//! What both kinds of boot initramfs have in common: everything that the guest reads.

use std::io::{self, Read, Write};

use super::Plan;
use crate::contract::sha256::{Fetched, Sha256};
use crate::contract::{Config, FORMAT, FrontEnd, RuntimeFrom, checksum, paths};
use crate::error::Error;
use crate::initrd::NewcWriter;
use crate::tree::{Inode, Node, Tree};

/// The most directories of the runtime that a boot initramfs has: each takes a kibibyte of memory until switch_root.
pub const MAX_DIRECTORIES: usize = 2048;
/// The same where memory counts most: the Debian 12 gtk installer has 870.
pub const FEW_DIRECTORIES: usize = 128;

/// The configuration of the image.
pub(super) fn config(plan: &Plan<'_>, front_end: FrontEnd, time: i64) -> Config {
    Config {
        format: FORMAT,
        front_end,
        overlay: plan.overlay,
        handover: plan.handover,
        retained: plan.runtime == RuntimeFrom::Retained,
        runtime: plan.format,
        init: plan.init.to_owned(),
        arguments: plan.arguments.clone(),
        environment: plan.environment.clone(),
        in_place: None,
        // newc holds 32 bits.
        time: Some(time.clamp(0, i64::from(u32::MAX))),
    }
}

/// The modules that the boot initramfs itself holds, by kernel, with the order in which they are loaded.
pub(super) fn modules<W: Write>(newc: &mut NewcWriter<W>, plan: &Plan<'_>) -> io::Result<()> {
    for kernel in plan.kernels {
        let directory = format!("{}/{}", paths::MODULES, kernel.version);
        newc.directory(&directory, 0o755)?;
        let mut order = String::new();
        for module in plan.divide(kernel).0 {
            let file = format!("{}.ko", module.name);
            newc.file(format!("{directory}/{file}"), 0o644, &module.elf)?;
            order.push_str(&file);
            order.push('\n');
        }
        newc.file(format!("{directory}/{}", paths::ORDER), 0o644, order.as_bytes())?;
    }
    Ok(())
}

/// The list of paths that were neither appended nor belong to the boot initramfs.
pub(super) fn not_carried(plan: &Plan<'_>) -> Vec<u8> {
    let mut lines: Vec<&str> = Vec::new();
    for path in plan.not_carried {
        let path = path.trim_matches('/');
        // A name with a line break cannot be listed; no early cpio has one.
        if !path.contains('\n') {
            lines.push(path);
            lines.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        }
    }
    lines.sort_unstable();
    lines.dedup();
    lines.into_iter().flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

/// The runtime's directories and its symlinks to directories, those nearest to the root first, and how many were left out.
///
/// A file that someone appends to the image finds its directory there, as it did in the old image: the kernel silently
/// skips a file of an archive if its directory does not exist (init/initramfs.c, `do_name` and `filp_open`).
pub(super) fn directories(tree: &Tree, most: usize) -> (Vec<(Vec<u8>, &Inode)>, usize) {
    let ours =
        [paths::INIT, paths::OURS, paths::SYSROOT, paths::SQUASHFS, paths::UPDATES, "dev", "proc", "sys"];
    let mut found: Vec<(usize, Vec<u8>, &Inode)> = tree
        .walk()
        .filter(|entry| {
            let top = entry.path.split(|&b| b == b'/').next().unwrap_or_default();
            !entry.path.is_empty() && !ours.iter().any(|name| name.as_bytes() == top)
        })
        .filter(|entry| match &tree.inode(entry.id).node {
            Node::Directory(_) => true,
            Node::Symlink(_) => tree.resolve(&entry.path).is_some_and(|to| tree.names(to).is_some()),
            _ => false,
        })
        .map(|entry| (entry.path.iter().filter(|&&b| b == b'/').count(), entry.path, tree.inode(entry.id)))
        .collect();
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let left_out = found.len().saturating_sub(most);
    found.truncate(most);
    (found.into_iter().map(|(_, path, inode)| (path, inode)).collect(), left_out)
}

/// What the report says of appended files.
pub(super) fn notes(left_out: usize, most: usize) -> Vec<String> {
    let mut notes = vec![
        "appended files arrive in the runtime at the same path; an appended /init would be started instead of the boot \
         initramfs's own: append updates/init to replace the runtime's"
            .to_owned(),
    ];
    if left_out > 0 {
        notes.push(format!(
            "the boot initramfs has the {most} directories of the runtime that are nearest to the root, not the other {left_out}: \
             Linux skips a file that is appended in one of those, unless the appended archive has entries for the directories \
             too, as btrsquash append and find | cpio make them"
        ));
    }
    notes
}

/// A name that goes into a path of the boot initramfs and into a line of one of its files.
///
/// # Errors
/// [`crate::error::Kind::Input`] for any other.
pub(super) fn plain(name: &str) -> Result<&str, Error> {
    let fine = !name.is_empty()
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-~".contains(&b));
    if fine { Ok(name) } else { Err(Error::input(format!("{name:?} is not a name of a kernel or module"))) }
}

/// Refuses names of kernels and modules that are not [`plain`].
///
/// # Errors
/// [`crate::error::Kind::Input`].
pub(super) fn check_names(plan: &Plan<'_>) -> Result<(), Error> {
    for kernel in plan.kernels {
        plain(&kernel.version)?;
        kernel.modules.iter().try_for_each(|module| plain(&module.name).map(|_| ()))?;
    }
    Ok(())
}

/// Refuses an init that cannot be written into the configuration.
///
/// # Errors
/// [`crate::error::Kind::Input`].
pub(super) fn check_init(init: &str) -> Result<(), Error> {
    if init.starts_with('/') && !init.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::input(format!("'{}' is not the absolute path of an init", init.escape_default())))
}

/// The file that says where a retained squashfs lies in the image: path and content, of a fixed length so that the offset
/// does not depend on itself.
#[must_use]
pub fn retained_file(offset: u64, size: u64) -> (String, Vec<u8>) {
    (paths::RETAINED.to_owned(), format!("{offset:020} {size:020}\n").into_bytes())
}

/// The file by which the boot initramfs notices a damaged squashfs: path and content.
///
/// # Errors
/// Those of reading `squashfs`.
pub fn checksum_file(squashfs: &mut dyn Read) -> io::Result<(String, Vec<u8>)> {
    let (size, sum) = checksum::of(squashfs)?;
    Ok((paths::CHECKSUM.to_owned(), format!("{size} {sum:016x}\n").into_bytes()))
}

/// The file by which the boot initramfs knows the runtime that it fetches: path and content.
///
/// # Errors
/// Those of reading `squashfs`.
pub fn fetched_file(squashfs: &mut dyn Read) -> io::Result<(String, Vec<u8>)> {
    let mut hash = Sha256::default();
    let size = io::copy(squashfs, &mut hash)?;
    let fetched = Fetched { size, sha256: hash.finish() };
    Ok((paths::FETCHED.to_owned(), format!("{fetched}\n").into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_retained_squashfs_has_a_fixed_length() {
        assert_eq!(retained_file(1, 2).1.len(), retained_file(u64::MAX, u64::MAX).1.len());
    }

    #[test]
    fn a_runtime_to_fetch_is_known_by_size_and_hash() {
        use sha2::Digest;
        let bytes: Vec<u8> = (0..200_001_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let (path, content) = fetched_file(&mut bytes.as_slice()).unwrap();
        let fetched = Fetched::parse(&String::from_utf8(content).unwrap()).unwrap();
        assert_eq!((path.as_str(), fetched.size), (paths::FETCHED, 200_001));
        assert_eq!(fetched.sha256[..], sha2::Sha256::digest(&bytes)[..]);
    }

    #[test]
    fn names_that_mean_something_else_in_a_path_or_list_are_refused() {
        assert!(plain("6.1.0-50-amd64").is_ok() && plain("dm_mod").is_ok());
        for bad in ["", ".", "..", "../x", "a/b", "a\nb", "a b", "-x"] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
        assert!(check_init("/sbin/init").is_ok());
        assert!(check_init("sbin/init").is_err() && check_init("/a\nb").is_err());
    }
}
