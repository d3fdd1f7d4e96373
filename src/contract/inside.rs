//! Paths of the runtime as a process finds them whose root it is: while it is put together another root is in force,
//! and whatever a link of the runtime says from `/` on, or climbs above the top, would lead into that one.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Where `path` of the tree at `root` is, with all links followed as the kernel does (fs/namei.c): an absolute one
/// starts at `root`, and `..` stays there. openat2(2) has `RESOLVE_IN_ROOT` for this only since Linux 5.6.
///
/// `root` itself has to be a path without links. The result is one too, so that any system call may be given it.
///
/// # Errors
/// `NotFound` where nothing is, `NotADirectory` where a part on the way is none, `ELOOP` beyond 40 links.
pub fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    const ELOOP: i32 = 40;
    // MAXSYMLINKS, include/linux/namei.h.
    let mut links = 40;
    let mut todo: Vec<OsString> = Vec::new();
    parts(path, &mut todo);
    let mut at = root.to_owned();
    while let Some(part) = todo.pop() {
        if part == ".." {
            if at != root {
                at.pop();
            }
            continue;
        }
        at.push(part);
        let data = at.symlink_metadata()?;
        if data.is_symlink() {
            links -= 1;
            if links < 0 {
                return Err(io::Error::from_raw_os_error(ELOOP));
            }
            let target = at.read_link()?;
            if target.is_absolute() {
                root.clone_into(&mut at);
            } else {
                at.pop();
            }
            parts(&target, &mut todo);
        } else if !todo.is_empty() && !data.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
    }
    Ok(at)
}

/// Puts the parts of `path` onto `todo`, the first on top.
fn parts(path: &Path, todo: &mut Vec<OsString>) {
    todo.extend(path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    }));
}
