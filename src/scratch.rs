//! Temporary files and folders with names, which are gone when they are dropped, and when a signal ends the program
//! too: whoever stops a conversion finds nothing left of it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// What there is at this moment.
static THERE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A path that [`sweep`] removes for as long as this lives.
#[derive(Debug)]
pub struct Tracked(PathBuf);

/// Has [`sweep`] remove `path`. Whoever owns the file removes it in every other case.
#[must_use]
pub fn track(path: &Path) -> Tracked {
    THERE.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    Tracked(path.to_owned())
}

impl Drop for Tracked {
    fn drop(&mut self) {
        THERE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Removes all that is tracked: for a handler of signals, after which the program ends.
pub fn sweep() {
    for path in &*THERE.lock().unwrap_or_else(PoisonError::into_inner) {
        // Nobody is left who could be told of an error.
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

/// A temporary folder.
#[derive(Debug)]
pub struct Folder {
    // Removed before it is forgotten.
    folder: TempDir,
    _tracked: Tracked,
}

impl Folder {
    /// A new one in `parent`, or in TMPDIR.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(parent: Option<&Path>) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("btrsquash-");
        let folder = match parent {
            None => builder.tempdir(),
            Some(parent) => builder.tempdir_in(parent),
        }?;
        Ok(Self { _tracked: track(folder.path()), folder })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
