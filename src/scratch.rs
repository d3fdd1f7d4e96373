//! Named temporary files and directories. They are removed when they are dropped, and also when a signal ends the
//! program: a conversion that is interrupted leaves nothing behind.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// The paths to remove.
static TRACKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A path that [`sweep`] removes as long as this value exists.
#[derive(Debug)]
pub(crate) struct Tracked(PathBuf);

/// Makes [`sweep`] remove `path`. In every other case the owner of the file removes it.
#[must_use]
pub(crate) fn track(path: &Path) -> Tracked {
    TRACKED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    Tracked(path.to_owned())
}

impl Drop for Tracked {
    fn drop(&mut self) {
        TRACKED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Removes every tracked path. For a signal handler: the program has to end afterwards.
pub fn sweep() {
    for path in &*TRACKED.lock().unwrap_or_else(PoisonError::into_inner) {
        // There is nobody left to report an error to.
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

/// A temporary directory.
#[derive(Debug)]
pub(crate) struct Directory {
    // Fields drop in order: the directory is removed before it is no longer tracked.
    directory: TempDir,
    _tracked: Tracked,
}

impl Directory {
    /// Makes one in `parent`, or in TMPDIR.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn new(parent: Option<&Path>) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("btrsquash-");
        let directory = match parent {
            None => builder.tempdir(),
            Some(parent) => builder.tempdir_in(parent),
        }?;
        Ok(Self { _tracked: track(directory.path()), directory })
    }

    /// Its path.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}
