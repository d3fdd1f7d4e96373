//! Output files: written whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::path::PathBuf;

use tempfile::{Builder, NamedTempFile};

use crate::error::Error;
use crate::scratch::{self, Tracked};

/// A file that appears under its name only when all of it is written and on disk.
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<NamedTempFile>,
    tracked: Tracked,
    path: PathBuf,
    force: bool,
}

/// The error for a file that would be overwritten.
fn exists(path: &Path) -> Error {
    Error::usage("exists already").file(path).hint("choose another name with -o, or replace it with --force")
}

/// Fails where [`OutputFile::create`] would: an existing file without `force`, no folder, no right to write there.
///
/// # Errors
/// [`crate::error::Kind::Usage`].
pub fn check_output(path: &Path, force: bool) -> Result<(), Error> {
    OutputFile::create(path, force).map(drop)
}

/// Fails where two of `paths` are one file, however they are written: one would take the other's place.
///
/// # Errors
/// [`crate::error::Kind::Usage`].
pub fn check_distinct<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for path in paths {
        // What does not exist yet has a folder that does.
        let place = path.canonicalize().or_else(|_| {
            folder(path).canonicalize().map(|folder| folder.join(path.file_name().unwrap_or_default()))
        });
        let Ok(place) = place else { continue };
        if let Some(other) = seen.insert(place, path) {
            return Err(Error::usage(format!("is named twice, also as {}", other.display())).file(path));
        }
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl OutputFile {
    /// A temporary file beside `path`, removed again unless it is committed. An existing file is kept unless `force`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] where the file exists or its folder cannot be written.
    pub fn create(path: &Path, force: bool) -> Result<Self, Error> {
        if path.is_dir() {
            return Err(Error::usage("is a folder, where the output file should be").file(path));
        }
        // A device or pipe would not be written to but replaced.
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::usage("is no regular file").file(path).hint("choose another name with -o"));
        }
        if !force && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let file = Builder::new()
            .prefix(".btrsquash-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder(path))
            .map_err(|e| {
                Error::usage(format!("cannot be written there: {e}"))
                    .file(path)
                    .hint("choose a folder you may write to with -o")
            })?;
        let tracked = scratch::track(file.path());
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), tracked, path: path.to_owned(), force })
    }

    /// What was written so far, to be read.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] where it cannot be written.
    pub fn read_back(&mut self) -> Result<File, Error> {
        let file = self.file.flush().and_then(|()| self.file.get_ref().as_file().try_clone());
        file.map_err(|e| Error::usage(format!("cannot be written: {e}")).file(&self.path))
    }

    /// Writes all to disk and gives the file its name.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] where it cannot be written or exists by now.
    pub fn commit(self) -> Result<(), Error> {
        let failed = |e: io::Error| Error::usage(format!("cannot be written: {e}")).file(&self.path);
        let file = self.file.into_inner().map_err(|e| failed(e.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        if self.force {
            file.persist(&self.path).map_err(|e| failed(e.error))?;
        } else {
            file.persist_noclobber(&self.path).map_err(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => exists(&self.path),
                _ => failed(e.error),
            })?;
        }
        drop(self.tracked);
        // The name itself has to be on disk too.
        File::open(folder(&self.path)).and_then(|dir| dir.sync_all()).map_err(failed)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for OutputFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut out = OutputFile::create(&path, false).unwrap();
        out.write_all(b"half").unwrap();
        drop(out);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut out = OutputFile::create(&path, false).unwrap();
        out.write_all(b"whole").unwrap();
        out.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(OutputFile::create(&path, false).unwrap_err().kind, crate::error::Kind::Usage);
        let mut out = OutputFile::create(&path, true).unwrap();
        out.write_all(b"new").unwrap();
        out.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn what_is_no_file_is_not_replaced_and_no_file_is_named_twice() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(OutputFile::create(&link, true).unwrap_err().what.contains("no regular file"));
        let (a, again) = (dir.path().join("a"), dir.path().join("./a"));
        assert!(check_distinct([a.as_path(), &dir.path().join("b")]).is_ok());
        assert!(check_distinct([a.as_path(), &again]).is_err());
    }
}
