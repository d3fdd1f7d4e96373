//! The file system calls that init/initramfs.c makes, on a [`Tree`].

mod body;

pub(super) use self::body::OpenFile;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::header::Header;
use super::{Dropped, Writers};
use crate::bytes::{ReadAt, Spool};
use crate::error::Error;
use crate::tree::{Content, Device, Inode, InodeId, Node, Tree, display, mode};

/// The longest path that the kernel accepts: `PATH_MAX`.
pub(super) const PATH_MAX: u64 = 4096;
/// Longest name of a directory entry: `NAME_MAX`.
const NAME_MAX: usize = 255;
/// The bytes of the unpacked limit that an entry costs in addition to its name and content: headers alone can make a
/// decompression bomb.
const ENTRY_COST: u64 = 256;
/// The memory limit for names, link targets and inodes. An image with a million files needs a third of it.
const MEMORY: u64 = 1 << 30;
/// The limit on names that all lookups together may visit: some seconds. A million files need a fifth of it; symlinks
/// that lead through symlinks need 80,000 in one lookup.
const STEPS: u64 = 1 << 28;

/// Why entries were skipped: each reason with a count and the first path.
type Notes = BTreeMap<&'static str, (u64, String)>;

/// The limit of [`Reader::dropped`].
const DROPPED: usize = 10_000;

/// The rootfs while it is being unpacked.
pub(super) struct Reader {
    /// Number of the current segment.
    pub(super) segment: usize,
    /// Entries whose directory does not exist.
    dropped: Vec<Dropped>,
    tree: Tree,
    spool: Spool,
    /// `do_hash`: device, inode and type → the first path.
    links: HashMap<(Device, u32, u32), Vec<u8>>,
    /// `dir_list`: directories get their times when all is unpacked.
    directories: Vec<(Vec<u8>, i64)>,
    notes: Notes,
    budget: u64,
    limit: u64,
    memory: u64,
    /// Names that lookups took.
    steps: Cell<u64>,
    /// Paths written by the current segment, collected where the caller wants them.
    pub(super) written: Option<Vec<Vec<u8>>>,
    /// Inodes that the current segment gave a content, an owner, a mode or a time; some of them more than once.
    touched: Vec<InodeId>,
    /// The segments that wrote each inode, as far as they are read.
    writers: Vec<Writers>,
    /// Bodies that the kernel skips.
    pub(super) skipped_bodies: Vec<(Vec<u8>, Range<u64>)>,
    /// Bodies that the kernel takes before it unpacks anything, if they lie in a plain segment at the start.
    pub(super) early_bodies: Vec<(String, Range<u64>)>,
}

/// A rootfs that was unpacked; the fields are those of [`super::Initrd`].
pub(super) struct Finished {
    pub(super) tree: Tree,
    pub(super) writers: Vec<Writers>,
    pub(super) notes: Vec<String>,
    pub(super) skipped_bodies: Vec<(Vec<u8>, Range<u64>)>,
    pub(super) early_bodies: Vec<(String, Range<u64>)>,
    pub(super) dropped: Vec<Dropped>,
}

/// Where the kernel looks for files before it unpacks anything: microcode and ACPI tables.
const EARLY_PLACES: [&[u8]; 3] = [b"kernel/x86/microcode/", b"kernel/firmware/acpi/", b"kernel/x86/ucode/"];

/// How many files of early places are looked at; the kernel takes 64 tables (`NR_ACPI_INITRD_TABLES`) and one microcode.
const EARLY_BODIES: usize = 256;

/// Whether these are files that a kernel takes before it unpacks anything and nothing else.
pub(super) fn is_early(paths: &[Vec<u8>]) -> bool {
    !paths.is_empty()
        && paths.iter().all(|path| {
            let directory = [path, &b"/"[..]].concat();
            EARLY_PLACES.iter().any(|place| directory.starts_with(place) || place.starts_with(&directory))
                || path.is_empty()
                || path == b"."
                // By this name dracut and mkinitcpio mark their early archive for other tools.
                || path == b"early_cpio"
        })
        && paths.iter().any(|path| EARLY_PLACES.iter().any(|place| path.starts_with(place)))
}

/// The place of the last part of a path, as `filename_parentat` of the kernel's fs/namei.c finds it.
struct Place {
    parent: InodeId,
    name: Box<[u8]>,
    /// Whether a `/` follows it: only directories can be made and removed there.
    slash: bool,
    /// What exists there, symlinks not followed.
    found: Option<InodeId>,
}

/// `path` without empty parts.
fn normal(path: &[u8]) -> Vec<u8> {
    path.split(|&b| b == b'/').filter(|p| !p.is_empty()).collect::<Vec<_>>().join(&b'/')
}

/// The part of `path` before its last name, that name, and whether a `/` follows it.
fn split(path: &[u8]) -> (&[u8], &[u8], bool) {
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |at| at + 1);
    let start = path[..end].iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    (&path[..start], &path[start..end], end < path.len())
}

impl Reader {
    /// A rootfs with the kernel's built-in initramfs (usr/default_cpio_list): /dev, /dev/console, /root. Their times
    /// are the time of the kernel's build, which nothing in an initrd tells: 0 here.
    pub(super) fn new(spool: Spool, max_unpacked: u64) -> Self {
        let tree = Tree::new(Arc::new(Vec::new()));
        let mut reader = Self {
            segment: 0,
            dropped: Vec::new(),
            tree,
            spool,
            links: HashMap::new(),
            directories: Vec::new(),
            notes: Notes::new(),
            budget: max_unpacked,
            limit: max_unpacked,
            memory: MEMORY,
            steps: Cell::new(0),
            written: None,
            touched: Vec::new(),
            writers: Vec::new(),
            skipped_bodies: Vec::new(),
            early_bodies: Vec::new(),
        };
        let root = reader.tree.root;
        if let Some(dev) = reader.insert(root, b"dev", 0o755, Node::Directory(BTreeMap::new())) {
            reader.insert(dev, b"console", 0o600, Node::CharDevice(Device { major: 5, minor: 1 }));
        }
        reader.insert(root, b"root", 0o700, Node::Directory(BTreeMap::new()));
        reader.writers.resize(reader.tree.inodes.len(), Writers::default());
        reader
    }

    fn insert(&mut self, parent: InodeId, name: &[u8], mode: u32, node: Node) -> Option<InodeId> {
        if name.len() > NAME_MAX {
            self.note("names longer than 255 bytes, which Linux cannot create", name);
            return None;
        }
        // inode_init_owner: a setgid directory hands its group on. The entry's own group replaces it, but for -1.
        let above = self.tree.inode(parent);
        let gid = if above.mode & 0o2000 == 0 { 0 } else { above.gid };
        let id = self.tree.add(Inode { mode: mode & 0o7777, uid: 0, gid, mtime: 0, nlink: 1, node });
        if let Node::Directory(names) = &mut self.tree.inode_mut(parent).node {
            names.insert(name.into(), id);
        }
        Some(id)
    }

    /// Takes `bytes` off the unpacked limit.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), Error> {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| {
            Error::input(format!("the image unpacks to more than the {} bytes allowed", self.limit))
                .hint("if you trust it, raise --max-unpacked")
        })?;
        Ok(())
    }

    /// Takes the memory of an entry with `bytes` of names off what there is for all.
    pub(super) fn remember(&mut self, bytes: u64) -> Result<(), Error> {
        self.spend(ENTRY_COST + bytes)?;
        if self.steps.get() > STEPS {
            return Err(Error::input(
                "the entries' directories are behind so many symlinks that finding them takes too long",
            )
            .hint("no real system is packed like this: is it an initrd?"));
        }
        // A name is kept once in its directory, and once more for links and for times.
        self.memory = self.memory.checked_sub(ENTRY_COST + 2 * bytes).ok_or_else(|| {
            Error::input("the names in the image need more than 1 GiB of memory")
                .hint("no real system has so many files: is it an initrd?")
        })?;
        Ok(())
    }

    /// Notes that an entry was skipped.
    pub(super) fn note(&mut self, why: &'static str, path: &[u8]) {
        self.notes.entry(why).or_insert_with(|| (0, display(path))).0 += 1;
    }

    fn lookup(&self, path: &[u8], follow: bool) -> Option<InodeId> {
        let mut steps = self.steps.get();
        let found = self.tree.lookup_counting(path, follow, &mut steps);
        self.steps.set(steps);
        found
    }

    /// Finds `path`; `None` if its last part is not a name or its directory does not exist.
    fn place(&self, path: &[u8]) -> Option<Place> {
        let (parent, name, slash) = split(path);
        if matches!(name, b"" | b"." | b"..") {
            return None;
        }
        let parent = self.lookup(parent, true)?;
        let found = self.tree.names(parent)?.get(name).copied();
        Some(Place { parent, name: name.into(), slash, found })
    }

    /// The place at which something new can be made: `filename_create`.
    fn free(&mut self, path: &[u8], directory: bool) -> Option<Place> {
        let Some(place) = self.place(path) else {
            if !matches!(split(path).1, b"" | b"." | b"..") {
                self.note("entries in directories that do not exist at that point, which Linux drops", path);
                if self.dropped.len() < DROPPED {
                    let path = normal(path);
                    self.dropped.push(Dropped { path, segment: self.segment });
                }
            }
            return None;
        };
        if place.slash && !directory && place.found.is_none() {
            self.note("names that end in '/' without being directories, which Linux drops", path);
            return None;
        }
        place.found.is_none().then_some(place)
    }

    /// `lstat`: the inode at `path`, a link at its end not followed.
    fn stat(&self, path: &[u8]) -> Option<InodeId> {
        self.lookup(path, false)
    }

    fn unlink(&mut self, path: &[u8], directory: bool) {
        let Some(Place { parent, name, slash, found: Some(id) }) = self.place(path) else { return };
        if slash && !directory || self.tree.names(id).is_some() != directory {
            return;
        }
        if let Node::Directory(names) = &mut self.tree.inode_mut(parent).node {
            names.remove(&name);
        }
        let inode = self.tree.inode_mut(id);
        inode.nlink = inode.nlink.saturating_sub(1);
    }

    /// `clean_path`: removes what exists there with another type; a directory only if it is empty.
    fn clean_path(&mut self, path: &[u8], wanted: u32) {
        let Some(id) = self.stat(path) else { return };
        let node = &self.tree.inode(id).node;
        if node.type_bits() == wanted & mode::S_IFMT {
            return;
        }
        match node {
            Node::Directory(names) => {
                if names.is_empty() && id != self.tree.root {
                    self.unlink(path, true);
                }
            }
            _ => self.unlink(path, false),
        }
    }

    /// `maybe_link`: `Some(true)` if the entry became a link to an earlier one, `Some(false)` if it is the first, `None`
    /// if the link failed.
    fn maybe_link(&mut self, header: &Header, path: &[u8]) -> Option<bool> {
        if header.nlink < 2 {
            return Some(false);
        }
        let key = (header.device, header.ino, header.mode & mode::S_IFMT);
        let Some(old) = self.links.get(&key).cloned() else {
            self.links.insert(key, path.to_vec());
            return Some(false);
        };
        self.clean_path(path, 0);
        let target = self.stat(&old).filter(|id| self.tree.names(*id).is_none());
        if let (Some(id), Some(place)) = (target, self.free(path, false))
            && place.name.len() <= NAME_MAX
        {
            if let Node::Directory(names) = &mut self.tree.inode_mut(place.parent).node {
                names.insert(place.name, id);
            }
            let inode = self.tree.inode_mut(id);
            inode.nlink = inode.nlink.saturating_add(1);
            return Some(true);
        }
        self.note("hard links that Linux could not make", path);
        None
    }

    /// Remembers where the body of a regular file lies if the kernel looks for files of this name before it unpacks
    /// anything: the first of a name, as it is written there (`find_cpio_data` of lib/earlycpio.c).
    pub(super) fn look_at(&mut self, name: &[u8], body: Range<u64>) {
        if EARLY_PLACES.iter().any(|place| name.starts_with(place))
            && name.split(|&b| b == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
            && self.early_bodies.len() < EARLY_BODIES
            && let Ok(name) = str::from_utf8(name)
            && self.early_bodies.iter().all(|(other, _)| other != name)
        {
            self.early_bodies.push((name.to_owned(), body));
        }
    }

    fn wrote(&mut self, path: &[u8]) {
        if let Some(written) = &mut self.written {
            written.push(normal(path));
        }
    }

    /// Ends segment `number`: remembers which inodes it made or changed.
    pub(super) fn end_segment(&mut self, number: usize, early: bool) {
        self.writers.resize(self.tree.inodes.len(), Writers { first: number, last: number, early });
        for id in self.touched.drain(..) {
            let writers = &mut self.writers[id.0 as usize];
            writers.last = number;
            writers.early &= early;
        }
    }

    /// `chown`: an id of -1 leaves things as they are.
    fn own(&mut self, id: InodeId, header: &Header) {
        self.touched.push(id);
        let inode = self.tree.inode_mut(id);
        if header.uid != u32::MAX {
            inode.uid = header.uid;
        }
        if header.gid != u32::MAX {
            inode.gid = header.gid;
        }
    }

    fn own_and_mode(&mut self, id: InodeId, header: &Header) {
        self.own(id, header);
        self.tree.inode_mut(id).mode = header.mode & 0o7777;
    }

    /// `open` with `O_CREAT`: links at the end are followed, and what they name is made.
    fn open(&mut self, path: &[u8]) -> Option<InodeId> {
        let mut path = path.to_vec();
        // MAXSYMLINKS again.
        for _ in 0..=40 {
            let Some(place) = self.place(&path) else {
                self.free(&path, false);
                return None;
            };
            if place.slash {
                self.note("names that end in '/' without being directories, which Linux drops", &path);
                return None;
            }
            let Some(id) = place.found else {
                return self.insert(place.parent, &place.name, 0, Node::Regular(Content::default()));
            };
            match &self.tree.inode(id).node {
                Node::Symlink(target) => {
                    let parent = if target.first() == Some(&b'/') { &[][..] } else { split(&path).0 };
                    path = [parent, target].concat();
                }
                Node::Regular(_) => return Some(id),
                _ => {
                    self.note(
                        "files in place of which there is a device or a directory that is not empty",
                        &path,
                    );
                    return None;
                }
            }
        }
        None
    }

    /// `do_name` for everything but the trailer. A file is given back when its body has to follow.
    pub(super) fn entry(&mut self, header: &Header, path: &[u8]) -> Option<OpenFile> {
        self.clean_path(path, header.mode);
        let mtime = i64::from(header.mtime);
        match header.mode & mode::S_IFMT {
            mode::S_IFREG => {
                let linked = self.maybe_link(header, path)?;
                let id = self.open(path)?;
                if let Node::Regular(content) = &mut self.tree.inode_mut(id).node {
                    // O_TRUNC, or a body that covers all: every name of a hard link sees it.
                    if !linked || header.body_len > 0 {
                        *content = Content { size: header.body_len, extents: Vec::new() };
                    }
                }
                self.own_and_mode(id, header);
                self.wrote(path);
                Some(OpenFile { id, position: 0, mtime })
            }
            mode::S_IFDIR => {
                if let Some(place) = self.free(path, true) {
                    self.insert(place.parent, &place.name, header.mode, Node::Directory(BTreeMap::new()));
                }
                if let Some(id) = self.lookup(path, true) {
                    self.own_and_mode(id, header);
                    self.wrote(path);
                }
                self.directories.push((path.to_vec(), mtime));
                None
            }
            kind @ (mode::S_IFCHR | mode::S_IFBLK | mode::S_IFIFO | mode::S_IFSOCK) => {
                if self.maybe_link(header, path) != Some(false) {
                    return None;
                }
                let node = match kind {
                    mode::S_IFCHR => Node::CharDevice(header.rdev),
                    mode::S_IFBLK => Node::BlockDevice(header.rdev),
                    mode::S_IFIFO => Node::Fifo,
                    _ => Node::Socket,
                };
                // One that exists already keeps its device number: mknod fails with EEXIST, and the kernel
                // goes on to chown and chmod.
                if let Some(place) = self.free(path, false) {
                    self.insert(place.parent, &place.name, header.mode, node);
                }
                if let Some(id) = self.lookup(path, true) {
                    self.own_and_mode(id, header);
                    self.wrote(path);
                }
                self.touch(path, mtime);
                None
            }
            _ => {
                self.note("entries of no known file type, which Linux skips", path);
                None
            }
        }
    }

    /// `do_utime`: links are not followed.
    fn touch(&mut self, path: &[u8], mtime: i64) {
        if let Some(id) = self.stat(path) {
            self.tree.inode_mut(id).mtime = mtime;
        }
    }

    /// `do_symlink`.
    pub(super) fn symlink(&mut self, header: &Header, path: &[u8], target: &[u8]) {
        self.clean_path(path, 0);
        // shmem_symlink: a target and its NUL have to fit into a page.
        if target.len() as u64 >= PATH_MAX {
            self.note("symbolic links with a target longer than 4095 bytes, which Linux cannot make", path);
        } else if let Some(place) = self.free(path, false) {
            self.insert(place.parent, &place.name, 0o777, Node::Symlink(target.into()));
            self.wrote(path);
        } else {
            self.note("symbolic links that Linux could not make", path);
        }
        // What exists there instead gets the owner and the time all the same.
        if let Some(id) = self.stat(path) {
            self.own(id, header);
        }
        self.touch(path, i64::from(header.mtime));
    }

    /// `free_hash`, at a trailer: links do not reach from one archive into the next.
    pub(super) fn forget_links(&mut self) {
        self.links.clear();
    }

    /// `dir_utime`, at the end of everything.
    pub(super) fn finish(mut self) -> Result<Finished, Error> {
        // dir_add puts each in front: of two entries for one directory the first has the last word.
        for (path, mtime) in std::mem::take(&mut self.directories).into_iter().rev() {
            self.touch(&path, mtime);
        }
        self.tree.check()?;
        self.tree.data = Arc::new(self.spool.finish().map_err(Error::temporary)?) as Arc<dyn ReadAt>;
        let notes = self
            .notes
            .iter()
            .map(|(why, (count, first))| format!("{count} {why}; the first is {first}"))
            .collect();
        Ok(Finished {
            tree: self.tree,
            writers: self.writers,
            notes,
            skipped_bodies: self.skipped_bodies,
            early_bodies: self.early_bodies,
            dropped: self.dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_like_the_kernel_splits_them() {
        for (path, directory, name, slash) in [
            ("a", "", "a", false),
            ("/a", "/", "a", false),
            ("a/b//c//", "a/b//", "c", true),
            ("", "", "", false),
            ("//", "", "", true),
        ] {
            assert_eq!(split(path.as_bytes()), (directory.as_bytes(), name.as_bytes(), slash), "{path}");
        }
    }
}
