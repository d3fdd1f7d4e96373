//! The file system calls that init/initramfs.c makes, on a [`Tree`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::spool_error;
use crate::error::Error;
use crate::spool::{ReadAt, Spool};
use crate::tree::{Content, Device, Extent, Inode, InodeId, Node, Tree, display, mode};

/// Longest path that the kernel takes: `PATH_MAX`.
pub const PATH_MAX: u64 = 4096;
/// Longest name of a directory entry: `NAME_MAX`.
const NAME_MAX: usize = 255;
/// Memory for names, link targets and inodes is counted against the unpacked limit at this rate: an inode of ours
/// takes about as much.
pub const ENTRY_COST: u64 = 256;
/// Runs of zeros of at least this many bytes become holes.
const HOLE: usize = 64 << 10;

/// The fields of a newc header (buffer-format.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub ino: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime: u32,
    pub body_len: u64,
    pub device: Device,
    pub rdev: Device,
    pub name_len: u64,
    pub checksum: Option<u32>,
}

/// Why an entry was passed over; each reason is noted once with a count.
type Notes = BTreeMap<&'static str, (u64, String)>;

/// The rootfs while it is being unpacked.
pub struct Reader {
    tree: Tree,
    spool: Spool,
    /// `do_hash`: device, inode and type → the first path.
    links: HashMap<(Device, u32, u32), Vec<u8>>,
    /// `dir_list`: directories get their times when all is unpacked.
    directories: Vec<(Vec<u8>, i64)>,
    notes: Notes,
    budget: u64,
    limit: u64,
    /// Paths written by the current segment, collected where the caller wants them.
    pub written: Option<Vec<Vec<u8>>>,
    /// Bodies that the kernel skips.
    pub skipped_bodies: Vec<(Vec<u8>, Range<u64>)>,
}

/// A regular file whose body is being copied.
pub struct OpenFile {
    id: InodeId,
    position: u64,
    mtime: i64,
}

fn split(path: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let mut parts: Vec<&[u8]> = path.split(|&b| b == b'/').filter(|p| !p.is_empty()).collect();
    let last = parts.pop()?;
    Some((parts, last))
}

impl Reader {
    /// A rootfs with the kernel's built-in initramfs (usr/default_cpio_list): /dev, /dev/console, /root. Their times
    /// are the time of the kernel's build, which nothing in an initrd tells: 0 here.
    pub fn new(spool: Spool, max_unpacked: u64) -> Self {
        let tree = Tree::new(Arc::new(Vec::new()));
        let mut reader = Self {
            tree,
            spool,
            links: HashMap::new(),
            directories: Vec::new(),
            notes: Notes::new(),
            budget: max_unpacked,
            limit: max_unpacked,
            written: None,
            skipped_bodies: Vec::new(),
        };
        let root = reader.tree.root;
        if let Some(dev) = reader.insert(root, b"dev", 0o755, Node::Directory(BTreeMap::new())) {
            reader.insert(dev, b"console", 0o600, Node::CharDevice(Device { major: 5, minor: 1 }));
        }
        reader.insert(root, b"root", 0o700, Node::Directory(BTreeMap::new()));
        reader
    }

    fn insert(&mut self, parent: InodeId, name: &[u8], mode: u32, node: Node) -> Option<InodeId> {
        if name.len() > NAME_MAX {
            self.note("names longer than 255 bytes, which Linux cannot create", name);
            return None;
        }
        let id = self.tree.add(Inode { mode: mode & 0o7777, uid: 0, gid: 0, mtime: 0, nlink: 1, node });
        if let Node::Directory(names) = &mut self.tree.inode_mut(parent).node {
            names.insert(name.into(), id);
        }
        Some(id)
    }

    /// Takes `bytes` off the unpacked limit.
    pub fn spend(&mut self, bytes: u64) -> Result<(), Error> {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| {
            Error::input(format!("the image unpacks to more than the {} bytes allowed", self.limit))
                .hint("if you trust it, raise --max-unpacked")
        })?;
        Ok(())
    }

    /// Notes that an entry was passed over.
    pub fn note(&mut self, why: &'static str, path: &[u8]) {
        self.notes.entry(why).or_insert_with(|| (0, display(path))).0 += 1;
    }

    /// The directory in which the last part of `path` stands, links followed, and that last part.
    fn parent<'p>(&self, path: &'p [u8]) -> Option<(InodeId, &'p [u8])> {
        let (parents, last) = split(path)?;
        if last == b"." || last == b".." {
            return None;
        }
        let parent =
            if parents.is_empty() { self.tree.root } else { self.tree.resolve(parents.join(&b'/'))? };
        self.tree.names(parent)?;
        Some((parent, last))
    }

    /// The inode at `path`, a link at its end not followed.
    fn stat(&self, path: &[u8]) -> Option<InodeId> {
        match split(path) {
            None => Some(self.tree.root),
            Some((_, b"." | b"..")) => self.tree.resolve(path),
            Some(_) => {
                let (parent, name) = self.parent(path)?;
                self.tree.names(parent)?.get(name).copied()
            }
        }
    }

    fn unlink(&mut self, path: &[u8]) {
        let Some((parent, name)) = self.parent(path) else { return };
        if let Node::Directory(names) = &mut self.tree.inode_mut(parent).node
            && let Some(id) = names.remove(name)
        {
            let inode = self.tree.inode_mut(id);
            inode.nlink = inode.nlink.saturating_sub(1);
        }
    }

    /// `clean_path`: what stands there and is of another type goes; a directory only when it is empty.
    fn clean_path(&mut self, path: &[u8], wanted: u32) {
        let Some(id) = self.stat(path) else { return };
        let inode = self.tree.inode(id);
        if inode.node.type_bits() == wanted & mode::S_IFMT {
            return;
        }
        if let Node::Directory(names) = &inode.node
            && (!names.is_empty() || id == self.tree.root)
        {
            return;
        }
        self.unlink(path);
    }

    /// `maybe_link`: `Some(true)` where the entry became a link to an earlier one, `Some(false)` where it is the
    /// first, `None` where the link failed.
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
        let target = self.stat(&old);
        let place = self.parent(path).map(|(parent, name)| (parent, name.to_vec()));
        match (target, place) {
            (Some(id), Some((parent, name)))
                if self.tree.names(id).is_none() && name.len() <= NAME_MAX && self.stat(path).is_none() =>
            {
                if let Node::Directory(names) = &mut self.tree.inode_mut(parent).node {
                    names.insert(name.into(), id);
                }
                let inode = self.tree.inode_mut(id);
                inode.nlink = inode.nlink.saturating_add(1);
                Some(true)
            }
            _ => {
                self.note("hard links that Linux could not make", path);
                None
            }
        }
    }

    fn wrote(&mut self, path: &[u8]) {
        if let Some(written) = &mut self.written {
            written
                .push(path.split(|&b| b == b'/').filter(|p| !p.is_empty()).collect::<Vec<_>>().join(&b'/'));
        }
    }

    fn own(&mut self, id: InodeId, header: &Header) {
        let inode = self.tree.inode_mut(id);
        inode.uid = header.uid;
        inode.gid = header.gid;
        inode.mode = header.mode & 0o7777;
    }

    /// `do_name` for everything but the trailer. A file is given back when its body has to follow.
    pub fn entry(&mut self, header: &Header, path: &[u8]) -> Option<OpenFile> {
        self.clean_path(path, header.mode);
        let mtime = i64::from(header.mtime);
        match header.mode & mode::S_IFMT {
            mode::S_IFREG => {
                let linked = self.maybe_link(header, path)?;
                let id = match self.stat(path) {
                    Some(id) => id,
                    None => {
                        let (parent, name) = self.parent_or_note(path)?;
                        self.insert(parent, &name, 0, Node::Regular(Content::default()))?
                    }
                };
                let Node::Regular(content) = &mut self.tree.inode_mut(id).node else {
                    self.note("files where a directory that is not empty stands", path);
                    return None;
                };
                if !linked {
                    // O_TRUNC: all names of a hard link see it.
                    *content = Content::default();
                }
                if header.body_len > 0 {
                    truncate(content, header.body_len);
                }
                self.own(id, header);
                self.wrote(path);
                Some(OpenFile { id, position: 0, mtime })
            }
            mode::S_IFDIR => {
                let id = match self.stat(path) {
                    Some(id) => id,
                    None => {
                        let (parent, name) = self.parent_or_note(path)?;
                        self.insert(parent, &name, header.mode, Node::Directory(BTreeMap::new()))?
                    }
                };
                self.own(id, header);
                self.directories.push((path.to_vec(), mtime));
                self.wrote(path);
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
                // One that stands there already keeps its device number: mknod fails with EEXIST, and the kernel
                // goes on to chown and chmod.
                let id = match self.stat(path) {
                    Some(id) => id,
                    None => {
                        let (parent, name) = self.parent_or_note(path)?;
                        self.insert(parent, &name, header.mode, node)?
                    }
                };
                self.own(id, header);
                self.tree.inode_mut(id).mtime = mtime;
                self.wrote(path);
                None
            }
            _ => {
                self.note("entries of no known file type, which Linux passes over", path);
                None
            }
        }
    }

    fn parent_or_note(&mut self, path: &[u8]) -> Option<(InodeId, Vec<u8>)> {
        let found = self.parent(path).map(|(parent, name)| (parent, name.to_vec()));
        if found.is_none() {
            self.note("entries in folders that are not there, which Linux passes over", path);
        }
        found
    }

    /// `do_symlink`.
    pub fn symlink(&mut self, header: &Header, path: &[u8], target: &[u8]) {
        self.clean_path(path, 0);
        if target.is_empty() || self.stat(path).is_some() {
            self.note("symbolic links that Linux could not make", path);
            return;
        }
        let Some((parent, name)) = self.parent_or_note(path) else { return };
        let Some(id) = self.insert(parent, &name, 0o777, Node::Symlink(target.into())) else { return };
        let inode = self.tree.inode_mut(id);
        inode.uid = header.uid;
        inode.gid = header.gid;
        inode.mtime = i64::from(header.mtime);
        self.wrote(path);
    }

    /// Appends `bytes` to the body of `file`.
    pub fn write(&mut self, file: &mut OpenFile, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeros = zero_run(rest);
            if zeros >= HOLE {
                self.punch(file, zeros as u64);
                rest = &rest[zeros..];
                continue;
            }
            // Up to the next long run of zeros.
            let mut len = (zeros + 4096).min(rest.len());
            while len < rest.len() && !(rest[len] == 0 && zero_run(&rest[len..]) >= HOLE) {
                len = (len + 4096).min(rest.len());
            }
            let at = self.spool.append(&rest[..len]).map_err(|e| spool_error(&e))?;
            self.cover(file, Extent { file_offset: file.position, data_offset: at, len: len as u64 });
            rest = &rest[len..];
        }
        Ok(())
    }

    fn punch(&mut self, file: &mut OpenFile, len: u64) {
        self.cover(file, Extent { file_offset: file.position, data_offset: 0, len: 0 });
        if let Node::Regular(content) = &mut self.tree.inode_mut(file.id).node {
            clear(content, file.position..file.position + len);
        }
        file.position += len;
    }

    fn cover(&mut self, file: &mut OpenFile, extent: Extent) {
        let Node::Regular(content) = &mut self.tree.inode_mut(file.id).node else { return };
        if extent.len == 0 {
            return;
        }
        clear(content, file.position..file.position + extent.len);
        let at = content.extents.partition_point(|e| e.file_offset < extent.file_offset);
        match at.checked_sub(1).and_then(|i| content.extents.get_mut(i)) {
            Some(last)
                if last.file_offset + last.len == extent.file_offset
                    && last.data_offset + last.len == extent.data_offset =>
            {
                last.len += extent.len;
            }
            _ => content.extents.insert(at, extent),
        }
        file.position += extent.len;
    }

    /// Ends the body of `file`: its time is set.
    pub fn close(&mut self, file: &OpenFile) {
        self.tree.inode_mut(file.id).mtime = file.mtime;
    }

    /// `free_hash`, at a trailer: links do not reach from one archive into the next.
    pub fn forget_links(&mut self) {
        self.links.clear();
    }

    /// `dir_utime`, at the end of everything: the tree, the notes and the skipped bodies.
    pub fn finish(mut self) -> Result<(Tree, Vec<String>, Vec<(Vec<u8>, Range<u64>)>), Error> {
        for (path, mtime) in std::mem::take(&mut self.directories) {
            if let Some(id) = self.tree.resolve(&path) {
                self.tree.inode_mut(id).mtime = mtime;
            }
        }
        self.tree.data = Arc::new(self.spool.finish().map_err(|e| spool_error(&e))?) as Arc<dyn ReadAt>;
        let notes = self
            .notes
            .iter()
            .map(|(why, (count, first))| format!("{count} {why}; the first is {first}"))
            .collect();
        Ok((self.tree, notes, self.skipped_bodies))
    }
}

fn zero_run(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| b != 0).unwrap_or(bytes.len())
}

/// Takes `range` out of the extents of `content`.
fn clear(content: &mut Content, range: Range<u64>) {
    if content.extents.last().is_none_or(|e| e.file_offset + e.len <= range.start) {
        return;
    }
    let mut kept = Vec::with_capacity(content.extents.len() + 1);
    for extent in content.extents.drain(..) {
        let end = extent.file_offset + extent.len;
        if extent.file_offset < range.start {
            kept.push(Extent { len: end.min(range.start) - extent.file_offset, ..extent });
        }
        if end > range.end {
            let skip = range.end.saturating_sub(extent.file_offset);
            kept.push(Extent {
                file_offset: extent.file_offset + skip,
                data_offset: extent.data_offset + skip,
                len: extent.len - skip,
            });
        }
    }
    content.extents = kept;
}

/// `vfs_truncate`.
fn truncate(content: &mut Content, size: u64) {
    if size < content.size {
        clear(content, size..content.size);
    }
    content.size = size;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_extents() {
        let extent = |file_offset, data_offset, len| Extent { file_offset, data_offset, len };
        let whole = Content { size: 100, extents: vec![extent(0, 1000, 40), extent(50, 2000, 50)] };
        let mut content = whole.clone();
        clear(&mut content, 30..60);
        assert_eq!(content.extents, [extent(0, 1000, 30), extent(60, 2010, 40)]);
        let mut content = whole.clone();
        clear(&mut content, 10..20);
        assert_eq!(content.extents, [extent(0, 1000, 10), extent(20, 1020, 20), extent(50, 2000, 50)]);
        let mut content = whole;
        truncate(&mut content, 45);
        assert_eq!((content.size, content.extents.len()), (45, 1));
    }
}
