//! How appended files are laid over the runtime: as Linux would have unpacked them over it.
//!
//! The rules are those of init/initramfs.c (`clean_path`, `do_name`, `do_symlink`, `maybe_link`, `dir_utime`):
//!
//! * A directory that is there stays, with its time, and takes over mode and owner.
//! * A file is written over with all the names it has. Anything else of another type gives way, a directory only if it is
//!   empty.
//! * A new directory gets the time of its entry once everything is in place.
//!
//! * What replaced an empty directory gets the time of that directory's entry, since `dir_utime` goes by path.
//!
//! Two things differ on purpose. A symlink of the runtime that leads to a directory stays when a directory of its name is
//! appended; Linux replaces it, and a driver disk with `lib/modules` would leave a system without libraries. And an
//! inode with several appended names keeps the first in byte order, because an unpacked initramfs does not show the order
//! of the archive. For the same reason an appended hard link with the name of a directory that is not empty gives its
//! content to the file's other names, which Linux would leave without it.

use std::collections::{BTreeMap, HashMap};

use super::Own;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A device, FIFO or socket, with the file type bits of `st_mode`.
    Special(u32),
}

/// What is known of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification: seconds since 1970, and nanoseconds.
    pub mtime: (i64, i64),
    /// How many names it has.
    pub links: u64,
    /// Tells inodes apart: file system and number.
    pub inode: (u64, u64),
    /// The target of a symlink.
    pub target: Vec<u8>,
}

/// The unpacked initramfs, from which files are taken, and the runtime, over which they are laid. Paths have no leading
/// `/`; the root directory is the empty path. Paths of the runtime have no symlink before their last name.
pub trait Trees {
    /// Why something could not be done.
    type Error;

    /// The names in a directory of the initramfs, in byte order.
    ///
    /// # Errors
    /// Those of reading it.
    fn names(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// What `path` of the initramfs is; `None` if nothing is there or another file system is mounted there.
    ///
    /// # Errors
    /// Those of reading it.
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, Self::Error>;

    /// What `path` of the runtime is.
    ///
    /// # Errors
    /// Those of reading it.
    fn there(&self, path: &[u8]) -> Result<Option<Stat>, Self::Error>;

    /// The path without symlinks of the directory to which `path` of the runtime leads; `None` if it leads to none.
    ///
    /// # Errors
    /// Those of reading it.
    fn directory(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Removes `path` of the runtime; `false` if it is a directory that is not empty.
    ///
    /// # Errors
    /// Those of removing it.
    fn remove(&mut self, path: &[u8]) -> Result<bool, Self::Error>;

    /// Makes a directory of the runtime with the attributes of `stat`.
    ///
    /// # Errors
    /// Those of making it.
    fn make_directory(&mut self, path: &[u8], stat: &Stat) -> Result<(), Self::Error>;

    /// Gives an inode of the runtime the further name `path`.
    ///
    /// # Errors
    /// Those of linking it.
    fn link(&mut self, first: &[u8], path: &[u8]) -> Result<(), Self::Error>;

    /// Copies `from` of the initramfs, which is not a directory, to `to` of the runtime, attributes and time included. A
    /// regular file may be there: it is written over.
    ///
    /// # Errors
    /// Those of copying it.
    fn copy(&mut self, from: &[u8], to: &[u8], stat: &Stat) -> Result<(), Self::Error>;

    /// Gives `path` of the runtime the owner of `stat` and, unless `owner_only`, its mode.
    ///
    /// # Errors
    /// Those of changing it.
    fn set_attributes(&mut self, path: &[u8], stat: &Stat, owner_only: bool) -> Result<(), Self::Error>;

    /// Sets the time of last modification of `path` of the runtime, of a symlink itself.
    ///
    /// # Errors
    /// Those of changing it.
    fn set_time(&mut self, path: &[u8], mtime: (i64, i64)) -> Result<(), Self::Error>;
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Paths of the runtime that were added, replaced or changed.
    pub changed: Vec<Vec<u8>>,
    /// Directories of the runtime that are not empty and stayed, though something else of their name was appended.
    pub kept: Vec<Vec<u8>>,
}

/// `directory/name`.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// The directory of a path and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// What happens to a name of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Landing {
    /// The same symlink is there.
    Same,
    /// Nothing is there.
    Create,
    /// What is there gives way.
    Replace,
    /// The file that is there is written over.
    WriteOver,
    /// What is there stays and takes over attributes and time.
    Change,
}

/// Decides by what comes and what is there. `linked`: another name of what comes is in place already.
fn landing(comes: &Stat, there: Option<&Stat>, linked: bool, times_are_kept: bool) -> Landing {
    let Some(there) = there else { return Landing::Create };
    match (comes.kind, there.kind) {
        (Kind::Symlink, Kind::Symlink) => {
            let same_time = comes.mtime.0 == there.mtime.0 || !times_are_kept;
            let same =
                comes.target == there.target && (comes.uid, comes.gid) == (there.uid, there.gid) && same_time;
            if same { Landing::Same } else { Landing::Replace }
        }
        (Kind::Regular, Kind::Regular) if !linked => Landing::WriteOver,
        // mknod fails, and the kernel goes on to chown, chmod and utime.
        (Kind::Special(comes), Kind::Special(there)) if comes == there && !linked => Landing::Change,
        _ => Landing::Replace,
    }
}

/// Lays the appended `paths` of the initramfs, as [`super::appended`] lists them, over the runtime. They lie below
/// `source` there, which is empty for the initramfs itself.
///
/// # Errors
/// The first that occurs.
pub fn lay<T: Trees>(
    trees: &mut T,
    source: &[u8],
    paths: &[Vec<u8>],
    own: &Own,
    times_are_kept: bool,
) -> Result<Outcome, T::Error> {
    let mut layer = Layer {
        trees,
        source,
        times_are_kept,
        entered: HashMap::new(),
        times: BTreeMap::new(),
        links: HashMap::new(),
        outcome: Outcome::default(),
    };
    for path in paths {
        let Some(stat) = layer.trees.stat(&join(source, path))? else { continue };
        if stat.kind == Kind::Directory {
            layer.directory(path, &stat, own)?;
        } else {
            layer.file(path, &stat)?;
        }
    }
    let times = std::mem::take(&mut layer.times);
    for (path, time) in times {
        layer.trees.set_time(&path, time)?;
    }
    Ok(layer.outcome)
}

struct Layer<'a, T: Trees> {
    trees: &'a mut T,
    source: &'a [u8],
    times_are_kept: bool,
    /// Directories of the initramfs, and what they are in the runtime.
    entered: HashMap<Vec<u8>, Vec<u8>>,
    /// The times that directories of the runtime get in the end.
    times: BTreeMap<Vec<u8>, (i64, i64)>,
    /// Inodes with several names, and the first name that each got in the runtime.
    links: HashMap<(u64, u64), Vec<u8>>,
    outcome: Outcome,
}

impl<T: Trees> Layer<'_, T> {
    /// The directory of the runtime for the directory `path` of the initramfs, made if there is none.
    fn enter(&mut self, path: &[u8]) -> Result<Vec<u8>, T::Error> {
        if path.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(known) = self.entered.get(path) {
            return Ok(known.clone());
        }
        let (parent, name) = split(path);
        let parent = self.enter(parent)?;
        let to = join(&parent, name);
        let there = self.trees.there(&to)?;
        let at = match &there {
            Some(stat) if stat.kind == Kind::Directory => to,
            _ => match self.trees.directory(&to)? {
                Some(real) => real,
                None => self.make(&parent, path, to, there.is_some())?,
            },
        };
        self.entered.insert(path.to_vec(), at.clone());
        Ok(at)
    }

    fn make(&mut self, parent: &[u8], path: &[u8], to: Vec<u8>, replaces: bool) -> Result<Vec<u8>, T::Error> {
        self.keep_time(parent)?;
        if replaces {
            self.trees.remove(&to)?;
        }
        if let Some(stat) = self.trees.stat(&join(self.source, path))? {
            self.trees.make_directory(&to, &stat)?;
            self.times.insert(to.clone(), stat.mtime);
            self.outcome.changed.push(to.clone());
        }
        Ok(to)
    }

    /// Remembers the time of a directory whose content is about to change.
    fn keep_time(&mut self, directory: &[u8]) -> Result<(), T::Error> {
        if !self.times_are_kept || self.times.contains_key(directory) {
            return Ok(());
        }
        if let Some(stat) = self.trees.there(directory)? {
            self.times.insert(directory.to_vec(), stat.mtime);
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], stat: &Stat, own: &Own) -> Result<(), T::Error> {
        let lazy = self.source.is_empty() && own.lazy(path);
        let known = if path.is_empty() { Some(Vec::new()) } else { self.known(path)? };
        let Some(at) = known else {
            if !lazy {
                self.enter(path)?;
            }
            return Ok(());
        };
        if lazy && !own.directories_tell() {
            return Ok(());
        }
        // A directory reached through a symlink is another one than the archive names.
        if at != path {
            return Ok(());
        }
        match self.trees.there(&at)? {
            Some(there) if (there.mode, there.uid, there.gid) != (stat.mode, stat.uid, stat.gid) => {
                self.trees.set_attributes(&at, stat, false)?;
                self.outcome.changed.push(at);
            }
            _ => {}
        }
        Ok(())
    }

    /// The directory of the runtime for `path`, if there is one.
    fn known(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, T::Error> {
        match self.trees.directory(path)? {
            Some(_) => self.enter(path).map(Some),
            None => Ok(None),
        }
    }

    fn file(&mut self, path: &[u8], stat: &Stat) -> Result<(), T::Error> {
        let (parent, name) = split(path);
        let parent = self.enter(parent)?;
        let to = join(&parent, name);
        let there = self.trees.there(&to)?;
        let first = self.links.get(&stat.inode).cloned();
        let landing = landing(stat, there.as_ref(), first.is_some(), self.times_are_kept);
        match landing {
            Landing::Same => return Ok(()),
            Landing::Change => {
                self.trees.set_attributes(&to, stat, false)?;
                self.trees.set_time(&to, stat.mtime)?;
                self.remember(stat, &to);
                self.outcome.changed.push(to);
                return Ok(());
            }
            Landing::WriteOver => {}
            Landing::Create | Landing::Replace => self.keep_time(&parent)?,
        }
        if landing == Landing::Replace && !self.trees.remove(&to)? {
            return self.stays(to, stat, first.is_some());
        }
        // dir_utime goes by path: what replaced a directory gets the time that the directory's entry had.
        match &there {
            Some(there) if there.kind == Kind::Directory && self.times_are_kept => {
                self.times.insert(to.clone(), there.mtime);
            }
            _ => {}
        }
        match first {
            Some(first) => self.trees.link(&first, &to)?,
            None => {
                self.trees.copy(&join(self.source, path), &to, stat)?;
                self.remember(stat, &to);
            }
        }
        self.outcome.changed.push(to);
        Ok(())
    }

    fn remember(&mut self, stat: &Stat, to: &[u8]) {
        if stat.links > 1 {
            self.links.insert(stat.inode, to.to_vec());
        }
    }

    /// A directory that is not empty stays where something else should be. The kernel cannot open or make that, but
    /// changes the owner, and for a special file the mode, of what stands there.
    fn stays(&mut self, to: Vec<u8>, stat: &Stat, linked: bool) -> Result<(), T::Error> {
        let owner_only = match stat.kind {
            Kind::Symlink => Some(true),
            Kind::Special(_) => Some(false),
            Kind::Regular | Kind::Directory => None,
        };
        if let (Some(owner_only), false) = (owner_only, linked) {
            self.trees.set_attributes(&to, stat, owner_only)?;
        }
        self.outcome.kept.push(to);
        Ok(())
    }
}
