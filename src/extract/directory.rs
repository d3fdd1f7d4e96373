//! Into a directory of the host, without root.
//!
//! Every object is made relative to a descriptor of the directory that holds it. That descriptor is opened one
//! component at a time with `O_NOFOLLOW`, from the directory that the user named: whatever else happens in there, a
//! name of the image never leads through a symlink.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, linkat, mkdirat, mknodat,
    openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::CHUNK;
use crate::error::{Error, Kind};
use crate::scratch;
use crate::tree::{Content, Entry, Inode, InodeId, Node, Tree, display};

/// What came into a directory, and what could not as it is in the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Paths that were made, the directory itself not counted.
    pub paths: u64,
    /// Device nodes, which only root can make: they are left out.
    pub devices: u64,
    /// Files whose setuid or setgid bit was left out: they would run with the rights of the user who extracted them.
    pub setuid: u64,
    /// Directories that got the rights of their owner added, so that the user can look into and remove them.
    pub opened: u64,
    /// Paths that belong to somebody else in the image than to root.
    pub owned: u64,
}

/// Extracts `entries` (with the directories above them) into `target`, which does not exist or is empty. The directory
/// appears under its name when all is in it; if anything fails, nothing is left.
///
/// # Errors
/// [`Kind::Usage`] or [`Kind::Io`] if `target` is not an empty directory or cannot be written, [`Kind::Input`] if the
/// image cannot be read or has a name that cannot be.
pub fn into_directory(tree: &Tree, entries: &[Entry], target: &Path) -> Result<Extracted, Error> {
    let place = place(target)?;
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    let made = scratch::Directory::new(Some(parent.unwrap_or(Path::new("."))))
        .map_err(|e| Error::writing(e).file(target))?;
    let done = fill(tree, entries, made.path())
        .map_err(|e| if matches!(e.kind, Kind::Usage | Kind::Io) { e.or_file(target) } else { e })?;
    // An empty directory is replaced: rename(2).
    std::fs::rename(made.path(), &place).map_err(|e| Error::writing(e).file(target))?;
    Ok(done)
}

/// Where `target` really is; an existing one must be an empty directory.
fn place(target: &Path) -> Result<PathBuf, Error> {
    let list = match std::fs::read_dir(target) {
        Ok(list) => list,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(target.to_owned()),
        Err(e) => return Err(Error::usage("is not a directory that can be read").caused_by(e).file(target)),
    };
    if list.into_iter().next().is_some() {
        return Err(Error::usage("the directory is not empty")
            .file(target)
            .hint("name a new or an empty directory with -C: nothing that exists is replaced"));
    }
    target.canonicalize().map_err(|e| Error::writing(e).file(target))
}

fn fill(tree: &Tree, entries: &[Entry], target: &Path) -> Result<Extracted, Error> {
    // The user may name a symlink to a directory: only names of the image are never followed.
    let root = openat(CWD, target, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())
        .map_err(|e| Error::usage("the directory cannot be opened").caused_by(e).file(target))?;
    let mut writer = Writer { tree, root, first: HashMap::new(), done: Extracted::default(), open: None };
    for entry in entries.iter().filter(|entry| !entry.path.is_empty()) {
        writer.make(entry)?;
    }
    // Modes and times of directories come last, the deepest first: making what is in them needs rights and sets times.
    writer.open = None;
    for entry in entries.iter().rev().filter(|entry| tree.names(entry.id).is_some()) {
        writer.finish_directory(entry)?;
    }
    Ok(writer.done)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Writer<'a> {
    tree: &'a Tree,
    root: OwnedFd,
    /// Under which path an inode with several names was made.
    first: HashMap<u32, &'a [u8]>,
    done: Extracted,
    /// The directory that was used last.
    open: Option<(&'a [u8], OwnedFd)>,
}

/// Path and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// Refuses what is not the name of one file: readers of images do so too, this is where it matters.
fn check(path: &[u8], name: &[u8]) -> Result<(), Error> {
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|&byte| byte == 0 || byte == b'/')
    {
        return Err(Error::input(format!("'{}' is not a name that a file can have", display(path))));
    }
    Ok(())
}

fn failed(path: &[u8], e: Errno) -> Error {
    let mut error = Error::writing(io::Error::from(e));
    error.what = format!("/{} cannot be made there", display(path));
    if e == Errno::NAMETOOLONG {
        return error.hint("the file system of the directory allows only shorter names: extract with --tar");
    }
    error
}

impl<'a> Writer<'a> {
    /// A descriptor of the directory at `path`, which was made before.
    fn directory(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        let mut at = openat(&self.root, ".", DIRECTORY, Mode::empty()).map_err(|e| failed(path, e))?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            check(path, name)?;
            at = openat(&at, name, DIRECTORY, Mode::empty()).map_err(|e| failed(path, e))?;
        }
        Ok(at)
    }

    fn make(&mut self, entry: &'a Entry) -> Result<(), Error> {
        let (parent, name) = split(&entry.path);
        check(&entry.path, name)?;
        if self.open.as_ref().is_none_or(|(path, _)| *path != parent) {
            self.open = None;
            self.open = Some((parent, self.directory(parent)?));
        }
        let inode = self.tree.inode(entry.id);
        if matches!(inode.node, Node::CharDevice(_) | Node::BlockDevice(_)) {
            self.done.devices += 1;
            return Ok(());
        }
        self.done.paths += 1;
        self.done.owned += u64::from(inode.uid != 0 || inode.gid != 0);
        let Some((_, open)) = &self.open else { return Ok(()) };
        if let Some(first) = self.known(entry.id, inode) {
            let (parent, old) = split(first);
            let from = self.directory(parent)?;
            return linkat(&from, old, open, name, AtFlags::empty()).map_err(|e| failed(&entry.path, e));
        }
        let setuid = self.object(open.as_fd(), name, &entry.path, inode)?;
        self.done.setuid += u64::from(setuid);
        if inode.nlink > 1 {
            self.first.insert(entry.id.0, &entry.path);
        }
        Ok(())
    }

    fn known(&self, id: InodeId, inode: &Inode) -> Option<&'a [u8]> {
        if inode.nlink > 1 { self.first.get(&id.0).copied() } else { None }
    }

    /// Makes `inode` under `name`; says whether its setuid or setgid bit was left out.
    fn object(
        &self,
        directory: std::os::fd::BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        inode: &Inode,
    ) -> Result<bool, Error> {
        let failed = |e| failed(path, e);
        let mode = Mode::from_raw_mode(inode.mode & 0o777);
        match &inode.node {
            Node::Directory(_) => mkdirat(directory, name, Mode::RWXU).map_err(failed)?,
            Node::Regular(content) => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?);
                self.write(&file, content, path)?;
                fchmod(&file, mode).map_err(failed)?;
                futimens(&file, &times(inode.mtime)).map_err(failed)?;
                return Ok(inode.mode & 0o6000 != 0);
            }
            Node::Symlink(target) => symlinkat(&**target, directory, name).map_err(failed)?,
            Node::Fifo => mknodat(directory, name, FileType::Fifo, mode, 0).map_err(failed)?,
            Node::Socket => mknodat(directory, name, FileType::Socket, mode, 0).map_err(failed)?,
            Node::CharDevice(_) | Node::BlockDevice(_) => {}
        }
        // A directory's time comes last: see finish_directory.
        if !matches!(inode.node, Node::Directory(_)) {
            utimensat(directory, name, &times(inode.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        }
        Ok(false)
    }

    /// Writes the stored parts of a file; the rest stays a hole.
    fn write(&self, file: &File, content: &Content, path: &[u8]) -> Result<(), Error> {
        use std::os::unix::fs::FileExt;
        let failed = |e: io::Error| {
            let mut error = Error::writing(e);
            error.what = format!("/{} cannot be written", display(path));
            error
        };
        let mut buffer = Vec::new();
        for extent in &content.extents {
            let mut at = extent.file_offset;
            let end = extent.file_offset + extent.len;
            while at < end {
                buffer.resize(CHUNK.min(end - at) as usize, 0);
                self.tree.read_at(content, &mut buffer, at).map_err(|e| super::unreadable(path, e))?;
                file.write_all_at(&buffer, at).map_err(failed)?;
                at += buffer.len() as u64;
            }
        }
        file.set_len(content.size).map_err(failed)
    }

    fn finish_directory(&mut self, entry: &Entry) -> Result<(), Error> {
        let failed = |e| failed(&entry.path, e);
        let inode = self.tree.inode(entry.id);
        let directory = self.directory(&entry.path)?;
        let mode = inode.mode & 0o777;
        self.done.opened += u64::from(mode & 0o700 != 0o700);
        fchmod(&directory, Mode::from_raw_mode(mode | 0o700)).map_err(failed)?;
        futimens(&directory, &times(inode.mtime)).map_err(failed)
    }
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
