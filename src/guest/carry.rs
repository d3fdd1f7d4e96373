//! Files that a user appended to the initrd go where they went: into the new root, at the same path.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::sys;
use btrsquash::contract::inside;

/// Copies trees; remembers hard links.
pub struct Carrier<'a> {
    /// The tree that is copied into: its links stay inside.
    root: &'a Path,
    /// Paths that stay behind (absolute).
    pub leave: &'a dyn Fn(&Path) -> bool,
    links: HashMap<(u64, u64), PathBuf>,
    device: u64,
    /// What was carried that is no directory.
    pub carried: Vec<PathBuf>,
    /// Folders that hold something and have a name that something else was to have.
    pub kept: Vec<PathBuf>,
}

impl<'a> Carrier<'a> {
    /// Copies what lies on the same file system as `from` into the tree at `root`, a path without links.
    pub fn new(from: &Path, root: &'a Path, leave: &'a dyn Fn(&Path) -> bool) -> io::Result<Self> {
        Ok(Self {
            root,
            leave,
            links: HashMap::new(),
            device: fs::symlink_metadata(from)?.dev(),
            carried: Vec::new(),
            kept: Vec::new(),
        })
    }

    /// Copies the content of directory `from` over the tree.
    pub fn tree(&mut self, from: &Path) -> io::Result<()> {
        self.directory(from, self.root)
    }

    /// Copies the content of directory `from` into `to`, a path without links, replacing what has the same name.
    fn directory(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(from)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let source = entry.path();
            let data = entry.metadata()?;
            if data.dev() != self.device || (self.leave)(&source) {
                continue;
            }
            let target = to.join(entry.file_name());
            let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", source.display()));
            if data.is_dir() {
                self.subdirectory(&source, &data, &target).map_err(failed)?;
            } else {
                self.file(&source, &data, &target).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn subdirectory(&mut self, source: &Path, data: &Metadata, target: &Path) -> io::Result<()> {
        let before = self.carried.len();
        match fs::symlink_metadata(target) {
            Ok(there) if there.is_dir() => {
                self.directory(source, target)?;
                // The kernel, too, gives a folder that is there the mode and owner of the archive's (init/initramfs.c,
                // do_name). Folders that the front-end itself made for appended files have those already.
                if (there.mode(), there.uid(), there.gid()) != (data.mode(), data.uid(), data.gid()) {
                    attributes(data, target)?;
                }
                return Ok(());
            }
            // /lib is a symbolic link on most systems: what is appended to lib/ goes through it, as long as it leads to
            // a folder.
            Ok(_) => {
                let below = target.strip_prefix(self.root).unwrap_or(target);
                match inside::resolve(self.root, below) {
                    Ok(folder) if folder.is_dir() => return self.directory(source, &folder),
                    _ => fs::remove_file(target)?,
                }
            }
            Err(_) => {}
        }
        fs::create_dir(target)?;
        self.directory(source, target)?;
        attributes(data, target)?;
        if self.carried.len() == before {
            self.carried.push(target.to_owned());
        }
        Ok(())
    }

    fn file(&mut self, source: &Path, data: &Metadata, target: &Path) -> io::Result<()> {
        // The front-end has the runtime's links to folders, so that files could be appended below them.
        if data.is_symlink() && fs::read_link(source).ok() == fs::read_link(target).ok() {
            return Ok(());
        }
        let inode = (data.dev(), data.ino());
        let first = self.links.get(&inode);
        // As clean_path and do_name of init/initramfs.c do: a folder gives way where it is empty, a file is written over
        // with all the names it has, anything else is replaced.
        match fs::symlink_metadata(target) {
            Ok(there) if there.is_dir() => match fs::remove_dir(target) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    self.kept.push(target.to_owned());
                    return Ok(());
                }
                removed => removed?,
            },
            Ok(there) if there.is_file() && data.is_file() && first.is_none() => {}
            Ok(_) => fs::remove_file(target)?,
            Err(_) => {}
        }
        self.carried.push(target.to_owned());
        // A file whose other names were carried and removed before has one name left, and is a link nevertheless.
        if let Some(first) = first {
            fs::hard_link(first, target)?;
            return fs::remove_file(source);
        }
        if data.nlink() > 1 {
            self.links.insert(inode, target.to_owned());
        }
        let kind = data.file_type();
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            fs::copy(source, target)?;
            // What was carried is no longer needed here: memory is short.
            fs::remove_file(source)?;
        } else {
            sys::make_node(target, data.mode(), data.rdev())?;
        }
        attributes(data, target)
    }
}

fn attributes(data: &Metadata, target: &Path) -> io::Result<()> {
    sys::own(target, data.uid(), data.gid())?;
    if !data.file_type().is_symlink() {
        fs::set_permissions(target, fs::Permissions::from_mode(data.mode() & 0o7777))?;
    }
    sys::set_times(target, (data.atime(), data.atime_nsec()), (data.mtime(), data.mtime_nsec()))
}
