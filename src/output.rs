//! Output files: written whole or not at all, alone or as a set.
//!
//! A file has no name until [`commit`] gives it one (`O_TMPFILE`, linkat(2)), so whatever ends the program before then
//! leaves nothing behind. File systems without such files get a temporary file with a name in the same directory.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::scratch::{self, NamedFile};

/// What stands for standard output in place of a path.
pub const STDOUT: &str = "-";
/// Most symlinks that are followed to where an output leads; Linux's own limit.
const MAX_LINKS: usize = 40;

/// How output files are made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether an existing file is replaced.
    pub force: bool,
    /// Permission bits that a new file may have, besides what the umask takes away.
    pub mode: u32,
}

impl Options {
    /// Files that everybody may read, if the umask allows it.
    #[must_use]
    pub fn new(force: bool) -> Self {
        Self { force, mode: 0o666 }
    }

    /// Files that are no more readable than `input`, whose content is in them. Its group may read only if the new file
    /// has that group, too.
    #[must_use]
    pub fn no_more_readable_than(self, input: &Path) -> Self {
        let Ok(metadata) = input.metadata() else { return self };
        let mode = metadata.mode();
        let group = if metadata.gid() == rustix::process::getegid().as_raw() { mode } else { mode << 3 };
        Self { mode: self.mode & (0o600 | mode & group & 0o060 | mode & 0o006), ..self }
    }
}

/// A file that appears under its name only when all of it is written and on disk.
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<File>,
    place: Place,
    /// The path as the user wrote it, for errors.
    path: PathBuf,
    force: bool,
}

/// Where an output goes.
#[derive(Debug)]
enum Place {
    /// Standard output, which gets all of the file at once.
    Stdout,
    /// A path.
    Path {
        /// Symlinks to an existing file are followed.
        path: PathBuf,
        /// Its directory, opened before the work: what cannot be opened could not be synced.
        directory: File,
        /// The temporary name; `None` for a file without one.
        temporary: Option<NamedFile>,
    },
}

/// The error for a file that would be overwritten.
fn exists(path: &Path) -> Error {
    Error::usage("already exists").file(path).hint("choose another name, or replace the file with --force")
}

/// The error for an output that cannot be written.
fn failed(path: &Path, e: impl Into<io::Error>) -> Error {
    let e = e.into();
    let too_large = e.kind() == io::ErrorKind::FileTooLarge;
    let error = Error::writing(e).file(path);
    if too_large {
        error.hint("raise the limit on file sizes (ulimit -f), or write to another file system")
    } else {
        error
    }
}

/// Fails if [`OutputFile::create`] would: an existing file without `force`, no directory, no permission to write there.
///
/// # Errors
/// [`crate::error::Kind::Usage`].
pub fn check_output(path: &Path, options: Options) -> Result<(), Error> {
    OutputFile::create(path, options).map(drop)
}

/// Fails if two of `outputs` are one file, or one of them is one of `inputs`, however they are written: hard links and
/// symlinks included.
///
/// # Errors
/// [`crate::error::Kind::Usage`].
pub fn check_distinct<'a>(
    outputs: impl IntoIterator<Item = &'a Path>,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<(), Error> {
    let mut seen: BTreeMap<(u64, u64, PathBuf), (&Path, bool)> = BTreeMap::new();
    let inputs = inputs.into_iter().map(|path| (path, true));
    for (path, input) in inputs.chain(outputs.into_iter().map(|path| (path, false))) {
        let Some(identity) = identity(path) else { continue };
        match seen.insert(identity, (path, input)) {
            Some((other, true)) if !input => {
                let what = format!("is also the input {}", other.display());
                return Err(Error::usage(what).file(path).hint("choose another name for the output"));
            }
            Some((other, false)) => {
                return Err(Error::usage(format!("is named twice, also as {}", other.display())).file(path));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What makes two paths one file: the inode if there is one, else the directory and the name. `None` if neither is there.
fn identity(path: &Path) -> Option<(u64, u64, PathBuf)> {
    if path == Path::new(STDOUT) {
        return Some((0, 0, path.to_owned()));
    }
    if let Ok(metadata) = path.metadata() {
        return Some((metadata.dev(), metadata.ino(), PathBuf::new()));
    }
    let directory = directory(path).canonicalize().ok()?;
    Some((0, 0, directory.join(path.file_name()?)))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether a path is standard output: /dev/stdout, or /proc/self/fd/1 by any name.
fn is_stdout(path: &Path) -> bool {
    let own = PathBuf::from(format!("/proc/{}/fd/1", std::process::id()));
    [Path::new("/dev/stdout"), Path::new("/dev/fd/1"), Path::new("/proc/self/fd/1"), &own].contains(&path)
}

/// Follows the symlinks of an output path to the file that it stands for; `None` for standard output.
fn resolve(path: &Path) -> Result<Option<PathBuf>, Error> {
    if path == Path::new(STDOUT) {
        return Ok(None);
    }
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(directory) = directory(&at).canonicalize() else { return Ok(Some(at)) };
        let Some(name) = at.file_name() else { return Ok(Some(at)) };
        let here = directory.join(name);
        if is_stdout(&here) || is_stdout(&at) {
            return Ok(None);
        }
        let link = here.symlink_metadata().is_ok_and(|m| m.is_symlink());
        let special = ["dev", "proc"]
            .iter()
            .any(|top| here.components().nth(1) == Some(Component::Normal(top.as_ref())));
        if special && (link || here.starts_with("/proc")) {
            return Err(Error::usage(format!("leads to {}", here.display()))
                .file(path)
                .hint("choose a regular file, or - for standard output"));
        }
        if !link {
            return Ok(Some(here));
        }
        let target = std::fs::read_link(&here).map_err(|e| failed(path, e))?;
        at = directory.join(target);
        if !at.exists() && at.symlink_metadata().is_err() {
            return Err(Error::usage(format!("is a symlink to {}, which does not exist", at.display()))
                .file(path)
                .hint("remove the symlink, or choose another name"));
        }
    }
    Err(Error::usage("leads through too many symlinks").file(path))
}

/// The size and the SHA-256 of a file.
///
/// # Errors
/// Those of reading it.
pub fn sha256(file: &File) -> io::Result<(u64, String)> {
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 1 << 16]);
    loop {
        match file.read_at(&mut buffer, size)? {
            0 => break,
            len => {
                hash.update(&buffer[..len]);
                size += len as u64;
            }
        }
    }
    Ok((size, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

impl OutputFile {
    /// A new file for `path`, which gets its name in [`commit`]. `-`, /dev/stdout and links to it are standard output.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if the file exists, is not a regular one, or its directory cannot be written.
    pub fn create(path: &Path, options: Options) -> Result<Self, Error> {
        let Some(real) = resolve(path)? else {
            let file = tempfile::tempfile().map_err(Error::temporary)?;
            return Ok(Self::with(file, Place::Stdout, path, options.force));
        };
        if real.is_dir() {
            return Err(Error::usage("is a directory").file(path).hint("name a file"));
        }
        let existing = real.symlink_metadata().ok();
        // A device or pipe would not be written to but replaced.
        if existing.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            return Err(Error::usage("is not a regular file").file(path).hint("choose another name with -o"));
        }
        if existing.is_some() && !options.force {
            return Err(exists(path));
        }
        let unwritable = |e: io::Error| {
            let error = failed(path, e);
            if error.hint.is_some() {
                error
            } else {
                error.hint("choose a directory that you may read and write with -o")
            }
        };
        let place = File::open(directory(&real)).map_err(unwritable)?;
        let (file, temporary) = new_file(&place, directory(&real)).map_err(unwritable)?;
        restrict(&file, options.mode).map_err(unwritable)?;
        let place = Place::Path { path: real, directory: place, temporary };
        Ok(Self::with(file, place, path, options.force))
    }

    fn with(file: File, place: Place, path: &Path, force: bool) -> Self {
        Self { file: BufWriter::with_capacity(1 << 20, file), place, path: path.to_owned(), force }
    }

    /// The path as the user wrote it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes to standard output.
    #[must_use]
    pub fn is_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// What was written so far, to be read.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] when it cannot be written.
    pub fn read_back(&mut self) -> Result<File, Error> {
        let file = self.file.flush().and_then(|()| self.file.get_ref().try_clone());
        file.map_err(|e| failed(&self.path, e))
    }

    /// The size and the SHA-256 of what was written so far.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] when it cannot be written or read again.
    pub fn sha256(&mut self) -> Result<(u64, String), Error> {
        let file = self.read_back()?;
        sha256(&file).map_err(|e| failed(&self.path, e))
    }

    /// Writes all to disk, but gives it no name yet.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] when it cannot be written.
    pub fn sync(&mut self) -> Result<(), Error> {
        let done = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        done.map_err(|e| failed(&self.path, e))
    }

    /// Writes the directory with the file's name to disk.
    fn sync_directory(&self) -> Result<(), Error> {
        let Place::Path { directory, .. } = &self.place else { return Ok(()) };
        directory.sync_all().map_err(|e| failed(&self.path, e))
    }

    /// Gives the file its name, or writes it to standard output.
    fn place(&mut self) -> Result<Undo, Error> {
        let Place::Path { path, directory, temporary } = &self.place else {
            let mut file = self.file.get_ref();
            let copied = file.rewind().and_then(|()| io::copy(&mut file, &mut io::stdout().lock()));
            copied.and_then(|_| io::stdout().flush()).map_err(|e| failed(&self.path, e))?;
            return Ok(Undo::Nothing);
        };
        let Some(name) = path.file_name() else { return Err(exists(&self.path)) };
        let source =
            temporary.as_ref().map_or_else(|| by_number(self.file.get_ref()), |t| t.path().to_owned());
        let link = |name: &Path| rustix::fs::linkat(CWD, &source, directory, name, AtFlags::SYMLINK_FOLLOW);
        let failed = |e: rustix::io::Errno| failed(&self.path, e);
        match link(Path::new(name)) {
            Ok(()) => return Ok(Undo::Remove(path.clone())),
            Err(rustix::io::Errno::EXIST) if !self.force => return Err(exists(&self.path)),
            Err(rustix::io::Errno::EXIST) => {}
            // No hard links here (vfat): the temporary file itself moves, if nothing is in its place.
            Err(_) if temporary.is_some() && (self.force || path.symlink_metadata().is_err()) => {
                rustix::fs::rename(&source, path).map_err(failed)?;
                return Ok(Undo::Nothing);
            }
            Err(e) => return Err(failed(e)),
        }
        let new = PathBuf::from(scratch::temporary_name());
        link(&new).map_err(failed)?;
        match rustix::fs::renameat_with(directory, &new, directory, name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(Undo::Exchange { path: path.clone(), old: path.with_file_name(new) }),
            // A file system that cannot exchange names.
            Err(rustix::io::Errno::INVAL) => {
                rustix::fs::renameat(directory, &new, directory, name).map_err(failed)?;
                Ok(Undo::Nothing)
            }
            Err(e) => {
                let _ = rustix::fs::unlinkat(directory, &new, AtFlags::empty());
                Err(failed(e))
            }
        }
    }
}

/// How a file that got its name loses it again.
enum Undo {
    Nothing,
    Remove(PathBuf),
    /// The file that was replaced has the name `old` for now.
    Exchange {
        path: PathBuf,
        old: PathBuf,
    },
}

/// Gives all files their names, or none of them: the ones that have theirs lose them again, and files that were replaced
/// come back. No signal ends the program meanwhile.
///
/// # Errors
/// [`crate::error::Kind::Usage`] when one cannot be written, or exists by now.
pub fn commit(mut files: Vec<OutputFile>) -> Result<(), Error> {
    for file in &mut files {
        file.sync()?;
    }
    // What was written to standard output cannot be taken back: it is the last.
    files.sort_by_key(|file| matches!(file.place, Place::Stdout));
    let uninterrupted = scratch::uninterrupted();
    let mut done = Vec::new();
    let mut result = Ok(());
    for file in &mut files {
        match file.place() {
            Ok(undo) => done.push(undo),
            Err(e) => {
                result = Err(e);
                break;
            }
        }
    }
    // The names themselves have to be on disk, too.
    let result = result.and_then(|()| files.iter().try_for_each(OutputFile::sync_directory));
    for undo in done.into_iter().rev() {
        // Nothing more can be done about an error here.
        let _ = match undo {
            Undo::Nothing => Ok(()),
            Undo::Remove(path) if result.is_err() => std::fs::remove_file(path),
            Undo::Remove(_) => Ok(()),
            Undo::Exchange { path, old } if result.is_err() => std::fs::rename(old, path),
            Undo::Exchange { old, .. } => std::fs::remove_file(old),
        };
    }
    drop(uninterrupted);
    result
}

/// The path of an open file without a name, from which linkat(2) makes one.
fn by_number(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A file without a name in `directory`, or one with a temporary name if that cannot be had or could not get a name
/// later (no /proc).
fn new_file(directory: &File, path: &Path) -> io::Result<(File, Option<NamedFile>)> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file: rustix::io::Result<OwnedFd> =
        rustix::fs::openat(directory, ".", flags, Mode::from_raw_mode(0o666));
    if let Ok(file) = file.map(File::from)
        && same(&file.metadata()?, by_number(&file).metadata().ok())
    {
        return Ok((file, None));
    }
    let named = NamedFile::new(path)?;
    Ok((named.file.try_clone()?, Some(named)))
}

fn same(a: &Metadata, b: Option<Metadata>) -> bool {
    b.is_some_and(|b| (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Takes away the permission bits that are not in `mode`.
fn restrict(file: &File, mode: u32) -> io::Result<()> {
    let now = file.metadata()?.mode() & 0o777;
    if now & !mode == 0 {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(now & mode))
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

    fn create(path: &Path, force: bool) -> Result<OutputFile, Error> {
        OutputFile::create(path, Options::new(force))
    }

    fn written(path: &Path, force: bool, text: &str) -> OutputFile {
        let mut out = create(path, force).unwrap();
        out.write_all(text.as_bytes()).unwrap();
        out
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        drop(written(&path, false, "half"));
        assert!(names(dir.path()).is_empty());
        commit(vec![written(&path, false, "whole")]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(create(&path, false).unwrap_err().kind, crate::error::Kind::Usage);
        commit(vec![written(&path, true, "new")]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn a_set_appears_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("replaced"), "old").unwrap();
        let set = || {
            vec![
                written(&at("replaced"), true, "new"),
                written(&at("added"), true, "new"),
                written(&at("taken"), false, "new"),
            ]
        };
        let files = set();
        std::fs::write(at("taken"), "by another run").unwrap();
        assert!(commit(files).unwrap_err().what.contains("already exists"));
        assert_eq!(names(dir.path()), ["replaced", "taken"]);
        assert_eq!(std::fs::read(at("replaced")).unwrap(), b"old");
        std::fs::remove_file(at("taken")).unwrap();
        commit(set()).unwrap();
        assert_eq!(names(dir.path()), ["added", "replaced", "taken"]);
        assert_eq!(std::fs::read(at("replaced")).unwrap(), b"new");
    }

    #[test]
    fn a_file_with_a_temporary_name_is_committed_the_same_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        for force in [false, true] {
            let named = NamedFile::new(dir.path()).unwrap();
            let mut file = named.file.try_clone().unwrap();
            file.write_all(if force { b"second" } else { b"first" }).unwrap();
            let directory = File::open(dir.path()).unwrap();
            let place = Place::Path { path: path.clone(), directory, temporary: Some(named) };
            commit(vec![OutputFile::with(file, place, &path, force)]).unwrap();
            assert_eq!(names(dir.path()), ["out"]);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let link = |name: &str, target: &Path| std::os::unix::fs::symlink(target, at(name)).unwrap();
        link("null", Path::new("/dev/null"));
        assert!(create(&at("null"), true).unwrap_err().what.contains("not a regular file"));
        link("environment", Path::new("/proc/self/environ"));
        assert!(create(&at("environment"), true).unwrap_err().what.contains("leads to /proc"));
        link("dangling", Path::new("nowhere"));
        assert!(create(&at("dangling"), true).unwrap_err().what.contains("does not exist"));
        link("out", Path::new("/dev/stdout"));
        for stdout in [Path::new("-"), Path::new("/dev/stdout"), Path::new("/proc/self/fd/1"), &at("out")] {
            assert!(matches!(create(stdout, false).unwrap().place, Place::Stdout), "{stdout:?}");
        }
        // A symlink to a regular file stays, and the file is replaced.
        std::fs::write(at("file"), "old").unwrap();
        link("link", Path::new("file"));
        commit(vec![written(&at("link"), true, "new")]).unwrap();
        assert_eq!(std::fs::read(at("file")).unwrap(), b"new");
        assert!(at("link").symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn one_file_is_found_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(check_distinct([at("a").as_path(), &at("b")], []).is_ok());
        assert!(check_distinct([at("a").as_path(), &at("./a")], []).is_err());
        std::fs::write(at("old"), "").unwrap();
        std::fs::hard_link(at("old"), at("hard")).unwrap();
        std::os::unix::fs::symlink("old", at("soft")).unwrap();
        for name in ["old", "hard", "soft"] {
            let error = check_distinct([at(name).as_path()], [at("old").as_path()]).unwrap_err();
            assert!(error.what.contains("is also the input"), "{name}: {error}");
        }
        // Two inputs may be one.
        assert!(check_distinct([], [at("old").as_path(), &at("hard")]).is_ok());
    }

    #[test]
    fn a_copy_is_no_more_readable_than_its_input() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("secret"), "").unwrap();
        std::fs::set_permissions(at("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let options = Options::new(false).no_more_readable_than(&at("secret"));
        commit(vec![OutputFile::create(&at("out"), options).unwrap()]).unwrap();
        assert_eq!(at("out").metadata().unwrap().mode() & 0o777, 0o600);
    }
}
