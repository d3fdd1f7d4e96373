//! What of an initramfs belongs to the image: everything else was appended to it and goes into the runtime.

use std::collections::BTreeSet;

use super::lay::{Kind, Stat, Trees};
use super::{Config, paths};

/// What stays behind together with everything below it.
const NEVER_CARRIED: [&str; 10] = [
    paths::INIT,
    paths::OURS,
    paths::SYSROOT,
    paths::SQUASHFS,
    paths::UPDATES,
    paths::PROBE,
    paths::PROBE_NEXT,
    // Mount points of the boot initramfs: what was appended below them is hidden while it runs.
    "proc",
    "sys",
    "dev",
];

/// Tells the image's own paths from appended ones.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Nothing belongs to the image: the tree is one of updates.
    nothing: bool,
    format: u32,
    own: BTreeSet<Vec<u8>>,
    not_carried: BTreeSet<Vec<u8>>,
    /// The modification time of everything in `own`, if it can tell that a file was replaced.
    time: Option<i64>,
}

/// The paths of a list, one per line, with or without `./` or `/` before them.
fn list(text: &[u8]) -> BTreeSet<Vec<u8>> {
    let lines = text.split(|&b| b == b'\n').map(|line| line.strip_prefix(b"./").unwrap_or(line));
    lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

impl Own {
    /// By the configuration and the two lists of an image ([`paths::OWN`], [`paths::NOT_CARRIED`]); `times_are_kept` says
    /// whether modification times are those of the archives.
    #[must_use]
    pub fn new(config: &Config, own: &[u8], not_carried: &[u8], times_are_kept: bool) -> Self {
        let time = if times_are_kept { config.time } else { None };
        Self { nothing: false, format: config.format, own: list(own), not_carried: list(not_carried), time }
    }

    /// For a tree of updates: all of it goes into the runtime.
    #[must_use]
    pub fn nothing() -> Self {
        Self { nothing: true, ..Self::default() }
    }

    /// Whether `path` and everything below it stays behind.
    fn stays(&self, path: &[u8]) -> bool {
        if self.nothing {
            return false;
        }
        NEVER_CARRIED.iter().any(|never| path == never.as_bytes())
            || path == paths::format_1::DRACUT.as_bytes()
    }

    /// Whether `path`, which is not a directory, belongs to the image.
    fn owns(&self, path: &[u8], stat: &Stat) -> bool {
        if self.nothing {
            return false;
        }
        path == paths::CMDLINE.as_bytes()
            || self.not_carried.contains(path)
            || (self.own.contains(path) && self.time.is_none_or(|time| stat.mtime.0 == time))
    }

    /// Whether the directory `path` exists for the image's own files: it goes into the runtime only for the sake of
    /// appended files in it.
    pub(super) fn lazy(&self, path: &[u8]) -> bool {
        if self.nothing {
            return false;
        }
        path == b"etc" || path == paths::CMDLINE_DIR.as_bytes() || self.not_carried.contains(path) || self.own.contains(path)
            // The kernel's own initramfs has these, and the boot initramfs of format 1 says nothing about them.
            || (self.format < 2 && (path.is_empty() || path == b"root"))
    }

    /// Whether directories of the boot initramfs have the attributes of the runtime's, so that others were appended.
    pub(super) fn directories_tell(&self) -> bool {
        self.nothing || self.format >= 2
    }
}

/// Every path that was appended, directories before their content, names in byte order; the root directory is the empty
/// path. Directories of the runtime that the boot initramfs has for appended files are among them.
///
/// # Errors
/// Those of reading the tree.
pub fn appended<T: Trees>(trees: &T, own: &Own) -> Result<Vec<Vec<u8>>, T::Error> {
    let mut found = Vec::new();
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let Some(stat) = trees.stat(&path)? else { continue };
        if own.stays(&path) {
            continue;
        }
        if stat.kind == Kind::Directory {
            let names = trees.names(&path)?;
            todo.extend(names.iter().rev().map(|name| super::lay::join(&path, name)));
            found.push(path);
        } else if !own.owns(&path, &stat) {
            found.push(path);
        }
    }
    Ok(found)
}
