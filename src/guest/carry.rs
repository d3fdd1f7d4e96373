//! Lays appended files over the runtime in the file system; the rules are the contract's.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use btrsquash::contract::{
    Config, Kind, Lookup, Met, Outcome, Own, Stat, Trees, Unresolved, appended, lay, paths, resolve,
};

use crate::sys;

/// A directory tree of this machine, in which paths are looked up as if it were the root directory.
pub(crate) struct Root<'a>(pub(crate) &'a Path);

impl Lookup for Root<'_> {
    type At = PathBuf;
    type Error = io::Error;

    fn root(&self) -> PathBuf {
        self.0.to_owned()
    }

    fn look(&self, at: &PathBuf, name: &[u8]) -> io::Result<Met<'_, PathBuf>> {
        let path = at.join(OsStr::from_bytes(name));
        let data = match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Met::Nothing),
            data => data?,
        };
        Ok(if data.is_dir() {
            Met::Directory(path)
        } else if data.is_symlink() {
            let target = path.read_link()?.into_os_string().into_vec();
            Met::Symlink(path, target.into())
        } else {
            Met::Other(path)
        })
    }
}

impl Root<'_> {
    /// The path without symlinks to which `path` leads in this tree: any system call may be given it.
    pub(crate) fn resolve(&self, path: impl AsRef<OsStr>) -> io::Result<PathBuf> {
        const ELOOP: i32 = 40;
        let trail = resolve(self, path.as_ref().as_bytes(), true, &mut 0);
        match trail {
            Ok(trail) => Ok(trail.last().map_or_else(|| self.0.to_owned(), |(_, at)| at.clone())),
            Err(Unresolved::Missing) => Err(io::ErrorKind::NotFound.into()),
            Err(Unresolved::NotADirectory) => Err(io::ErrorKind::NotADirectory.into()),
            Err(Unresolved::TooManySymlinks) => Err(io::Error::from_raw_os_error(ELOOP)),
            Err(Unresolved::Failed(error)) => Err(error),
        }
    }
}

/// The unpacked initramfs and the runtime.
pub(crate) struct Directories<'a> {
    initramfs: &'a Path,
    /// A path without symlinks.
    runtime: &'a Path,
    /// The file system of the initramfs: what is mounted in it is not part of it.
    device: u64,
}

impl<'a> Directories<'a> {
    pub(crate) fn new(initramfs: &'a Path, runtime: &'a Path) -> io::Result<Self> {
        Ok(Self { initramfs, runtime, device: initramfs.symlink_metadata()?.dev() })
    }

    fn from(&self, path: &[u8]) -> PathBuf {
        self.initramfs.join(OsStr::from_bytes(path))
    }

    fn to(&self, path: &[u8]) -> PathBuf {
        self.runtime.join(OsStr::from_bytes(path))
    }
}

/// Adds the path to an error.
fn at<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn stat(path: &Path, data: &Metadata) -> io::Result<Stat> {
    const S_IFMT: u32 = 0o170_000;
    let kind = data.file_type();
    Ok(Stat {
        kind: if kind.is_dir() {
            Kind::Directory
        } else if kind.is_file() {
            Kind::Regular
        } else if kind.is_symlink() {
            Kind::Symlink
        } else {
            Kind::Special(data.mode() & S_IFMT)
        },
        mode: data.mode() & 0o7777,
        uid: data.uid(),
        gid: data.gid(),
        mtime: (data.mtime(), data.mtime_nsec()),
        links: data.nlink(),
        inode: (data.dev(), data.ino()),
        target: if kind.is_symlink() { path.read_link()?.into_os_string().into_vec() } else { Vec::new() },
    })
}

impl Trees for Directories<'_> {
    type Error = io::Error;

    fn names(&self, directory: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let path = self.from(directory);
        let mut names = Vec::new();
        for entry in at(&path, fs::read_dir(&path))? {
            names.push(entry?.file_name().into_vec());
        }
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        let path = self.from(path);
        match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Ok(data) if data.dev() != self.device => Ok(None),
            data => at(&path, data.and_then(|data| stat(&path, &data))).map(Some),
        }
    }

    fn there(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        let path = self.to(path);
        match path.symlink_metadata() {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            data => at(&path, data.and_then(|data| stat(&path, &data))).map(Some),
        }
    }

    fn directory(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match Root(self.runtime).resolve(OsStr::from_bytes(path)) {
            Ok(real) if real.is_dir() => {
                let below = real.strip_prefix(self.runtime).unwrap_or(&real);
                Ok(Some(below.as_os_str().as_bytes().to_vec()))
            }
            _ => Ok(None),
        }
    }

    fn remove(&mut self, path: &[u8]) -> io::Result<bool> {
        let path = self.to(path);
        let removed =
            if path.symlink_metadata()?.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            removed => at(&path, removed).map(|()| true),
        }
    }

    fn make_directory(&mut self, path: &[u8], stat: &Stat) -> io::Result<()> {
        let to = self.to(path);
        at(&to, fs::create_dir(&to))?;
        self.set_attributes(path, stat, false)
    }

    fn link(&mut self, first: &[u8], path: &[u8]) -> io::Result<()> {
        let to = self.to(path);
        at(&to, fs::hard_link(self.to(first), &to))
    }

    fn copy(&mut self, from: &[u8], to: &[u8], stat: &Stat) -> io::Result<()> {
        let (source, target) = (self.from(from), self.to(to));
        let copied = match stat.kind {
            Kind::Symlink => std::os::unix::fs::symlink(OsStr::from_bytes(&stat.target), &target),
            Kind::Special(kind) => source
                .symlink_metadata()
                .and_then(|data| sys::make_node(&target, kind | stat.mode, data.rdev())),
            // A carried file is no longer needed in the initramfs, and memory is short.
            Kind::Regular | Kind::Directory => {
                fs::copy(&source, &target).and_then(|_| fs::remove_file(&source))
            }
        };
        at(&target, copied)?;
        self.set_attributes(to, stat, stat.kind == Kind::Symlink)?;
        self.set_time(to, stat.mtime)
    }

    fn set_attributes(&mut self, path: &[u8], stat: &Stat, owner_only: bool) -> io::Result<()> {
        let to = self.to(path);
        at(&to, sys::own(&to, stat.uid, stat.gid))?;
        if owner_only {
            return Ok(());
        }
        at(&to, fs::set_permissions(&to, fs::Permissions::from_mode(stat.mode)))
    }

    fn set_time(&mut self, path: &[u8], mtime: (i64, i64)) -> io::Result<()> {
        let to = self.to(path);
        at(&to, sys::set_modified(&to, mtime))
    }
}

/// What the image says of its own files, read in the initramfs at `top`.
pub(crate) struct Image {
    pub(crate) config: Config,
    pub(crate) own: Own,
    pub(crate) times_are_kept: bool,
}

impl Image {
    pub(crate) fn read(top: &Path) -> Self {
        let file = |name: &str| fs::read(top.join(name)).unwrap_or_default();
        let config = Config::parse(&String::from_utf8_lossy(&file(paths::CONFIG)));
        let written = top.join(paths::CONFIG).symlink_metadata().map_or(0, |data| data.mtime());
        let times_are_kept = config.times_are_kept(written);
        let own = Own::new(&config, &file(paths::OWN), &file(paths::NOT_CARRIED), times_are_kept);
        Self { config, own, times_are_kept }
    }

    /// The appended paths of the initramfs at `top`.
    pub(crate) fn appended(&self, top: &Path) -> io::Result<Vec<Vec<u8>>> {
        appended(&Directories::new(top, top)?, &self.own)
    }

    /// Lays the appended `list` and the tree of updates over `runtime`.
    pub(crate) fn carry(&self, top: &Path, runtime: &Path, list: &[Vec<u8>]) -> io::Result<Outcome> {
        let mut trees = Directories::new(top, runtime)?;
        let mut outcome = lay(&mut trees, b"", list, &self.own, self.times_are_kept)?;
        let updates = top.join(paths::UPDATES);
        if updates.is_dir() {
            let everything = appended(&Directories::new(&updates, &updates)?, &Own::nothing())?;
            // The directory of updates itself says nothing of the root directory.
            let list: Vec<_> = everything.into_iter().filter(|path| !path.is_empty()).collect();
            let more =
                lay(&mut trees, paths::UPDATES.as_bytes(), &list, &Own::nothing(), self.times_are_kept)?;
            outcome.changed.extend(more.changed);
            outcome.kept.extend(more.kept);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of this test's own, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("btrsquash-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(path: &Path, content: &str, mode: u32, mtime: (i64, i64)) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        sys::set_modified(path, mtime).unwrap();
    }

    /// The numbers of system calls and the layout of structures differ between machines: this runs on several.
    #[test]
    fn appended_files_replace_what_is_there() {
        let scratch = Scratch::new("lay");
        let (top, runtime) = (scratch.0.join("top"), scratch.0.join("runtime"));
        let time = (1_000_000_007, 123_456_789);
        write(&top.join("etc/motd"), "new", 0o640, time);
        write(&top.join("bin/tool"), "tool", 0o4755, time);
        fs::hard_link(top.join("bin/tool"), top.join("bin/tool2")).unwrap();
        std::os::unix::fs::symlink("motd", top.join("etc/link")).unwrap();
        sys::set_modified(top.join("etc/link"), (-1, 0)).unwrap();
        const S_IFIFO: u32 = 0o010_000;
        sys::make_node(top.join("etc/fifo"), S_IFIFO | 0o600, 0).unwrap();
        write(&runtime.join("etc/motd"), "old and longer", 0o600, (5, 0));
        fs::hard_link(runtime.join("etc/motd"), runtime.join("etc/other")).unwrap();
        write(&runtime.join("usr/bin/ls"), "ls", 0o755, (5, 0));
        std::os::unix::fs::symlink("usr/bin", runtime.join("bin")).unwrap();

        let mut trees = Directories::new(&top, &runtime).unwrap();
        let own = Own::nothing();
        let list = appended(&trees, &own).unwrap();
        let outcome = lay(&mut trees, b"", &list, &own, true).unwrap();
        assert!(outcome.kept.is_empty() && !outcome.changed.is_empty());

        let data = |path: &str| runtime.join(path).symlink_metadata().unwrap();
        let text = |path: &str| fs::read_to_string(runtime.join(path)).unwrap();
        // All names of a file see what is written over it.
        assert_eq!((text("etc/motd"), text("etc/other")), ("new".into(), "new".into()));
        let motd = data("etc/motd");
        assert_eq!((motd.mode() & 0o7777, motd.nlink()), (0o640, 2));
        assert_eq!((motd.mtime(), motd.mtime_nsec()), time);
        // The symlink to a directory stays, and a hard link stays one.
        assert!(data("bin").is_symlink());
        assert_eq!(data("usr/bin/tool").ino(), data("usr/bin/tool2").ino());
        assert_eq!((text("usr/bin/tool"), data("usr/bin/tool").mode() & 0o7777), ("tool".into(), 0o4755));
        assert_eq!(runtime.join("etc/link").read_link().unwrap(), Path::new("motd"));
        assert_eq!(data("etc/link").mtime(), -1);
        let fifo = data("etc/fifo").mode();
        assert_eq!((fifo & 0o170_000, fifo & 0o7777), (S_IFIFO, 0o600));
        assert_eq!(text("usr/bin/ls"), "ls");
    }

    #[test]
    fn paths_stay_inside_the_tree() {
        let scratch = Scratch::new("inside");
        let root = Root(&scratch.0);
        fs::create_dir_all(scratch.0.join("sbin")).unwrap();
        fs::write(scratch.0.join("sbin/init"), "").unwrap();
        std::os::unix::fs::symlink("../../../sbin/init", scratch.0.join("init")).unwrap();
        std::os::unix::fs::symlink("round", scratch.0.join("round")).unwrap();
        assert_eq!(root.resolve("/init").unwrap(), scratch.0.join("sbin/init"));
        assert_eq!(root.resolve("round").unwrap_err().raw_os_error(), Some(40));
        assert_eq!(root.resolve("no/where").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
