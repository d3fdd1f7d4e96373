//! The file tree that every part of btrsquash works on: inodes, and the place of their bytes.
//!
//! A [`Tree`] is what the kernel would have in its rootfs after unpacking an initrd, or what a file system image
//! holds. Names and link targets are bytes, never host paths: nothing here touches the host's file system.

#[cfg(test)]
pub(crate) mod any;
#[cfg(test)]
pub(crate) mod build;

pub(crate) mod content;

use std::collections::{BTreeMap, btree_map};
use std::io;
use std::sync::Arc;

use crate::bytes::ReadAt;
use crate::contract::{Lookup, Met, Trail, resolve};
use crate::error::Error;

/// The longest path that a program can use: `PATH_MAX` of include/uapi/linux/limits.h without its NUL. Longer ones can be
/// made through symlinks.
const LONGEST_PATH: usize = 4095;
/// The limit of all paths of one tree in bytes, because walking a tree may keep them all: five million typical files.
const ALL_PATHS: usize = 512 << 20;
/// The limit of the content under all paths of one tree in bytes, holes included: `MAX_LFS_FILESIZE`, also the limit of
/// one file. Sums of sizes cannot overflow.
const ALL_CONTENT: u64 = i64::MAX as u64;

/// Names an inode of one [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(pub u32);

/// A device number, as newc and statx give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A run of a file's bytes in the tree's [`Tree::data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where the run starts in the file.
    pub file_offset: u64,
    /// Where its bytes lie in [`Tree::data`].
    pub data_offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// A regular file's content: what no extent covers reads as zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Size in bytes.
    pub size: u64,
    /// Sorted by `file_offset`, not overlapping, none beyond `size`.
    pub extents: Vec<Extent>,
}

impl Content {
    /// The first offset from `from` on at which bytes are stored; `None` if only a hole follows.
    #[must_use]
    pub fn stored(&self, from: u64) -> Option<u64> {
        let next = self.extents.partition_point(|e| e.file_offset + e.len <= from);
        self.extents.get(next).map(|e| e.file_offset.max(from))
    }

    /// [`ReadAt::unpacked_with`] of the byte at `at`, which is stored.
    pub(crate) fn unpacked_with(&self, tree: &Tree, at: u64) -> u64 {
        let next = self.extents.partition_point(|e| e.file_offset + e.len <= at);
        let extent = self.extents.get(next).filter(|e| e.file_offset <= at);
        extent.map_or(0, |e| tree.data.unpacked_with(e.data_offset + (at - e.file_offset)))
    }
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory: its names, without `.` and `..`.
    Directory(BTreeMap<Box<[u8]>, InodeId>),
    /// A regular file.
    Regular(Content),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// File type bits of `st_mode`.
pub mod mode {
    /// Mask of the file type.
    pub const S_IFMT: u32 = 0o170_000;
    /// Socket.
    pub const S_IFSOCK: u32 = 0o140_000;
    /// Symbolic link.
    pub const S_IFLNK: u32 = 0o120_000;
    /// Regular file.
    pub const S_IFREG: u32 = 0o100_000;
    /// Block device.
    pub const S_IFBLK: u32 = 0o060_000;
    /// Directory.
    pub const S_IFDIR: u32 = 0o040_000;
    /// Character device.
    pub const S_IFCHR: u32 = 0o020_000;
    /// Named pipe.
    pub const S_IFIFO: u32 = 0o010_000;
}

impl Node {
    /// The file type bits of `st_mode`.
    #[must_use]
    pub const fn type_bits(&self) -> u32 {
        match self {
            Self::Directory(_) => mode::S_IFDIR,
            Self::Regular(_) => mode::S_IFREG,
            Self::Symlink(_) => mode::S_IFLNK,
            Self::CharDevice(_) => mode::S_IFCHR,
            Self::BlockDevice(_) => mode::S_IFBLK,
            Self::Fifo => mode::S_IFIFO,
            Self::Socket => mode::S_IFSOCK,
        }
    }
}

/// One inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification, seconds since 1970.
    pub mtime: i64,
    /// How many names the inode has (1 for a directory).
    pub nlink: u32,
    /// What it is.
    pub node: Node,
}

/// A file tree.
#[derive(Clone)]
pub struct Tree {
    /// All inodes; an [`InodeId`] counts into it. Inodes with `nlink` 0 are no longer part of the tree.
    pub inodes: Vec<Inode>,
    /// The root directory.
    pub root: InodeId,
    /// Where the content of regular files lies.
    pub data: Arc<dyn ReadAt>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree")
            .field("inodes", &self.inodes.len())
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// A path of a tree with its inode, as [`Tree::walk`] gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path without a leading `/`; empty for the root.
    pub path: Vec<u8>,
    /// The inode.
    pub id: InodeId,
}

impl Lookup for Tree {
    type At = InodeId;
    type Error = std::convert::Infallible;

    fn root(&self) -> InodeId {
        self.root
    }

    fn look(&self, at: &InodeId, name: &[u8]) -> Result<Met<'_, InodeId>, Self::Error> {
        let found = self.names(*at).and_then(|names| names.get(name));
        Ok(match found {
            None => Met::Nothing,
            Some(&id) => match &self.inode(id).node {
                Node::Directory(_) => Met::Directory(id),
                Node::Symlink(target) => Met::Symlink(id, (&**target).into()),
                _ => Met::Other(id),
            },
        })
    }
}

impl Tree {
    /// A tree that holds only a root directory (0755, root:root, time 0).
    #[must_use]
    pub fn new(data: Arc<dyn ReadAt>) -> Self {
        let root =
            Inode { mode: 0o755, uid: 0, gid: 0, mtime: 0, nlink: 1, node: Node::Directory(BTreeMap::new()) };
        Self { inodes: vec![root], root: InodeId(0), data }
    }

    /// The inode `id`.
    ///
    /// # Panics
    /// When `id` is of another tree.
    #[must_use]
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    /// The inode `id`, to change it.
    ///
    /// # Panics
    /// When `id` is of another tree.
    pub fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0 as usize]
    }

    /// Adds an inode that has no name yet.
    pub fn add(&mut self, inode: Inode) -> InodeId {
        let id = InodeId(u32::try_from(self.inodes.len()).unwrap_or(u32::MAX));
        self.inodes.push(inode);
        id
    }

    /// The names in directory `id`; `None` if it is not one.
    #[must_use]
    pub fn names(&self, id: InodeId) -> Option<&BTreeMap<Box<[u8]>, InodeId>> {
        match &self.inode(id).node {
            Node::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// The inode at `path` (a leading `/` is ignored), symbolic links not followed.
    #[must_use]
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<InodeId> {
        path.as_ref()
            .split(|&b| b == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .try_fold(self.root, |at, part| self.names(at)?.get(part).copied())
    }

    /// The inode at `path` as a process whose root is this tree would find it: symbolic links followed, `..` staying
    /// inside. `None` if there is none, or the symlinks form a loop.
    #[must_use]
    pub fn resolve(&self, path: impl AsRef<[u8]>) -> Option<InodeId> {
        self.lookup(path.as_ref(), true)
    }

    /// The inode at `path` by the rules of the kernel's fs/namei.c; a symbolic link at its end is followed only if
    /// `follow` is set or a `/` comes after it.
    #[must_use]
    pub fn lookup(&self, path: &[u8], follow: bool) -> Option<InodeId> {
        self.lookup_counting(path, follow, &mut 0)
    }

    /// [`Tree::lookup`] that adds to `steps` how many names it took: 40 links can lead through 80,000.
    #[must_use]
    pub fn lookup_counting(&self, path: &[u8], follow: bool, steps: &mut u64) -> Option<InodeId> {
        self.trail(path, follow, steps).map(|trail| trail.last().map_or(self.root, |(_, id)| *id))
    }

    /// The result of [`Tree::resolve`] as a path without symlinks and without a leading `/`.
    #[must_use]
    pub fn real_path(&self, path: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let trail = self.trail(path.as_ref(), true, &mut 0)?;
        Some(trail.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(&b'/'))
    }

    /// The names from the root to the result of [`Tree::lookup`].
    fn trail<'t>(&'t self, path: &'t [u8], follow: bool, steps: &mut u64) -> Option<Trail<'t, InodeId>> {
        resolve(self, path, follow, steps).ok()
    }

    /// Every path, a directory before its content, names in byte order; the root comes first with an empty path.
    pub fn walk(&self) -> impl Iterator<Item = Entry> + '_ {
        // The directories on the way down: the length of the path, and the names that are still to come.
        let mut open: Vec<(usize, btree_map::Iter<'_, Box<[u8]>, InodeId>)> = Vec::new();
        let mut path = Vec::new();
        let mut root = Some(self.root);
        std::iter::from_fn(move || {
            let id = match root.take() {
                Some(root) => root,
                None => loop {
                    let (len, names) = open.last_mut()?;
                    path.truncate(*len);
                    if let Some((name, &id)) = names.next() {
                        if !path.is_empty() {
                            path.push(b'/');
                        }
                        path.extend_from_slice(name);
                        break id;
                    }
                    open.pop();
                },
            };
            if let Some(names) = self.names(id) {
                open.push((path.len(), names.iter()));
            }
            Some(Entry { path: path.clone(), id })
        })
    }

    /// Checks the limits that all other code relies on: the length of each path and of all paths, and the size of the
    /// contents. The readers make sure that no directory has two names.
    ///
    /// # Errors
    /// When a limit is exceeded.
    pub fn check(&self) -> Result<(), Error> {
        let (mut paths, mut content) = (0, 0_u64);
        // A directory and the length of its path with a slash after it.
        let mut todo = vec![(self.root, 0)];
        while let Some((directory, above)) = todo.pop() {
            for (name, &id) in self.names(directory).into_iter().flatten() {
                let len = above + name.len();
                if len > LONGEST_PATH {
                    return Err(Error::input(format!(
                        "the path of '{}' is {len} bytes long; the limit is {LONGEST_PATH}",
                        display(name)
                    ))
                    .hint(
                        "no program can open such a file: unpack the image and move it to a shorter path",
                    ));
                }
                paths += len;
                if paths > ALL_PATHS {
                    return Err(Error::input(format!(
                        "the paths of all files need more than {} MiB of memory",
                        ALL_PATHS >> 20
                    ))
                    .hint("no real system has so many files: is it the image of one?"));
                }
                match &self.inode(id).node {
                    Node::Directory(_) => todo.push((id, len + 1)),
                    Node::Regular(file) => {
                        let sum = content.checked_add(file.size).filter(|&sum| sum <= ALL_CONTENT);
                        content = sum.ok_or_else(|| {
                            Error::input(format!(
                                "with '{}' ({} bytes) the files have more than {ALL_CONTENT} bytes",
                                display(name),
                                file.size
                            ))
                            .hint("Linux does not support files of such sizes: the image is damaged")
                        })?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Reads `buf` from `offset` of `content`; bytes beyond its size are an `UnexpectedEof`.
    ///
    /// # Errors
    /// When the data cannot be read.
    pub fn read_at(&self, content: &Content, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= content.size);
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        buf.fill(0);
        let first = content.extents.partition_point(|e| e.file_offset + e.len <= offset);
        for extent in content.extents[first..].iter().take_while(|e| e.file_offset < end) {
            let from = extent.file_offset.max(offset);
            let to = (extent.file_offset + extent.len).min(end);
            // Both fit in usize: they lie within `buf`.
            let (start, stop) = ((from - offset) as usize, (to - offset) as usize);
            self.data
                .read_exact_at(&mut buf[start..stop], extent.data_offset + (from - extent.file_offset))?;
        }
        Ok(())
    }

    /// The whole content of a file of at most `limit` bytes; `None` if it is larger or not a regular file.
    ///
    /// # Errors
    /// When the data cannot be read.
    pub fn read(&self, id: InodeId, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Node::Regular(content) = &self.inode(id).node else { return Ok(None) };
        if content.size > limit {
            return Ok(None);
        }
        let mut bytes = vec![0; content.size as usize];
        self.read_at(content, &mut bytes, 0)?;
        Ok(Some(bytes))
    }
}

/// Whether a character is not visible in a text, or changes how others look: control and format characters, tags,
/// variation selectors and line separators (categories Cc, Cf, Zl and Zp of Unicode 16, and the property
/// Default_Ignorable_Code_Point).
#[must_use]
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// A path for people: bytes that are not UTF-8 and invisible characters are escaped, and so is a backslash that would
/// look like the start of an escape. Different paths look different.
#[must_use]
pub fn display(path: &[u8]) -> String {
    let mut out = String::new();
    for chunk in path.utf8_chunks() {
        let mut rest = chunk.valid().chars();
        while let Some(c) = rest.next() {
            if is_invisible(c) {
                out.extend(c.escape_default());
            } else if c == '\\' && is_escape(rest.as_str(), chunk.invalid()) {
                out.push_str("\\\\");
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Whether a backslash before `rest`, which bytes that are not UTF-8 follow, can be taken for the start of an escape.
fn is_escape(rest: &str, invalid: &[u8]) -> bool {
    let mut after = rest.chars();
    match after.next() {
        None => !invalid.is_empty(),
        Some('x') => after.next().is_none_or(|c| matches!(c, '8'..='9' | 'a'..='f') || is_invisible(c)),
        Some('u') => after.next().is_none_or(|c| c == '{' || is_invisible(c)),
        Some('n' | 'r' | 't' | '\\') => true,
        Some(c) => is_invisible(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tree: &mut Tree, parent: InodeId, name: &[u8], node: Node) -> InodeId {
        let id = tree.add(Inode { mode: 0o755, uid: 0, gid: 0, mtime: 0, nlink: 1, node });
        if let Node::Directory(names) = &mut tree.inode_mut(parent).node {
            names.insert(name.into(), id);
        }
        id
    }

    fn empty() -> Tree {
        Tree::new(Arc::new(Vec::new()))
    }

    fn directory() -> Node {
        Node::Directory(BTreeMap::new())
    }

    fn file(size: u64) -> Node {
        Node::Regular(Content { size, extents: Vec::new() })
    }

    #[test]
    fn a_walk_goes_down_before_it_goes_on() {
        let mut tree = empty();
        let root = tree.root;
        let a = put(&mut tree, root, b"a", directory());
        let deep = put(&mut tree, a, b"deep", directory());
        put(&mut tree, deep, b"x", Node::Fifo);
        put(&mut tree, a, b"z", Node::Fifo);
        put(&mut tree, root, b"a.b", directory());
        put(&mut tree, root, b"b", Node::Fifo);
        let paths: Vec<_> = tree.walk().map(|entry| display(&entry.path)).collect();
        assert_eq!(paths, ["", "a", "a/deep", "a/deep/x", "a/z", "a.b", "b"]);
    }

    #[test]
    fn the_real_path_is_where_links_lead() {
        let mut tree = empty();
        let root = tree.root;
        let usr = put(&mut tree, root, b"usr", directory());
        let sbin = put(&mut tree, usr, b"sbin", directory());
        put(&mut tree, root, b"sbin", Node::Symlink((*b"usr/sbin").into()));
        put(&mut tree, sbin, b"init", Node::Symlink((*b"../../sbin/./real").into()));
        let real = put(&mut tree, sbin, b"real", file(0));
        put(&mut tree, root, b"round", Node::Symlink((*b"round").into()));
        assert_eq!(tree.resolve("/sbin/init"), Some(real));
        assert_eq!(tree.real_path("/sbin/init").as_deref(), Some(&b"usr/sbin/real"[..]));
        assert_eq!(tree.real_path("../..").as_deref(), Some(&b""[..]));
        assert_eq!(tree.real_path("round"), None);
    }

    #[test]
    fn different_paths_look_different() {
        let same = |text: &str| assert_eq!(display(text.as_bytes()), text);
        same("dev-disk-by\\x2dlabel-x.mount");
        same("Wörter/日本");
        same("C:\\dir");
        let paths: [&[u8]; 16] = [
            b"a\xff",
            b"a\\xff",
            b"a\\\\xff",
            b"a\n",
            b"a\\n",
            b"a\\\n",
            b"a\\",
            b"a\\\xff",
            "a\u{61c}".as_bytes(),
            b"a\\u{61c}",
            "a\u{200b}".as_bytes(),
            b"a",
            "a\u{e0041}".as_bytes(),
            b"a\\\\",
            b"a\\u",
            b"a\\x",
        ];
        let shown: std::collections::BTreeSet<String> = paths.iter().map(|path| display(path)).collect();
        assert_eq!(shown.len(), paths.len(), "{shown:?}");
        assert!(shown.iter().all(|path| !path.chars().any(is_invisible)));
    }

    #[test]
    fn paths_are_bounded_one_and_all() {
        let mut tree = empty();
        let mut at = tree.root;
        for _ in 0..15 {
            at = put(&mut tree, at, &[b'd'; 255], directory());
        }
        // 15 * 256 and 255: what a program can just name.
        put(&mut tree, at, &[b'f'; 255], Node::Fifo);
        assert!(tree.check().is_ok());
        let last = put(&mut tree, at, &[b'e'; 255], directory());
        assert!(tree.check().is_ok());
        put(&mut tree, last, b"x", Node::Fifo);
        let error = tree.check().unwrap_err().to_string();
        assert!(error.contains("the path of 'x' is 4097 bytes long; the limit is 4095"), "{error}");

        let mut tree = empty();
        let mut at = tree.root;
        for _ in 0..15 {
            at = put(&mut tree, at, &[b'd'; 255], directory());
        }
        let shared = tree.add(Inode { mode: 0, uid: 0, gid: 0, mtime: 0, nlink: 1, node: Node::Fifo });
        if let Node::Directory(names) = &mut tree.inode_mut(at).node {
            names.extend((0..140_000).map(|n| (format!("{n}").into_bytes().into(), shared)));
        }
        let error = tree.check().unwrap_err().to_string();
        assert!(error.contains("512 MiB"), "{error}");
    }

    #[test]
    fn sizes_add_up_without_overflow() {
        let mut tree = empty();
        let root = tree.root;
        put(&mut tree, root, b"a", file(i64::MAX as u64 - 1));
        let b = put(&mut tree, root, b"b", file(1));
        assert!(tree.check().is_ok());
        // A second name counts again: whoever sums over paths has to be safe too.
        if let Node::Directory(names) = &mut tree.inode_mut(root).node {
            names.insert((*b"c").into(), b);
        }
        assert!(tree.check().unwrap_err().to_string().contains("9223372036854775807"));
        let mut tree = empty();
        let root = tree.root;
        put(&mut tree, root, b"a", file(u64::MAX));
        assert!(tree.check().is_err());
    }
}
