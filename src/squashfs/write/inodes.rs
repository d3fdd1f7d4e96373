//! The inode table and the directory table.
//!
//! A directory's list names the places of its inodes, so that these have to be written first: the tree is written from
//! the bottom up, the inodes of one directory side by side.

use std::collections::BTreeMap;
use std::io;

use super::image::Image;
use super::metadata::Table;
use crate::error::{Error, Kind};
use crate::squashfs::{METADATA_SIZE, NO_FRAGMENT};
use crate::tree::{Device, InodeId, Node, Tree};

/// Entries that share a header of a directory's list at most.
const ENTRIES_IN_RUN: usize = 256;

/// Where a content lies in the image.
#[derive(Clone, Default)]
pub(super) struct Place {
    /// Where its first block starts.
    pub(super) start: u64,
    /// The size of each block, with the bit for blocks that are stored as they are; 0 for zeros.
    pub(super) sizes: Vec<u32>,
    /// Number of the fragment that holds the tail, and where in it the tail starts.
    pub(super) tail: Option<(u32, u32)>,
    /// Bytes that are not stored because they are zeros.
    pub(super) sparse: u64,
}

/// A directory's list in the directory table.
#[derive(Clone, Default)]
struct List {
    block: u32,
    offset: u16,
    /// Bytes of the list.
    size: u32,
    /// How many of its names are directories.
    directories: u32,
    /// For lists longer than a metadata block: offset in the list, block, and first name of some of its runs.
    index: Vec<(u32, u32, Box<[u8]>)>,
}

/// Writes the tables.
pub(super) struct Inodes<'a> {
    tree: &'a Tree,
    content_of: &'a [Option<u32>],
    places: &'a [Place],
    inodes: Table,
    directories: Table,
    ids: BTreeMap<u32, u16>,
    id_list: Vec<u32>,
    /// By inode: its number, counted from 1.
    numbers: Vec<u32>,
    /// By inode: how many names it has.
    names: Vec<u32>,
    /// By inode number less one: where it lies in the inode table.
    written: Vec<Option<u64>>,
    lists: BTreeMap<InodeId, List>,
}

/// The finished tables.
pub(super) struct Tables {
    pub(super) inodes: Vec<u8>,
    pub(super) directories: Vec<u8>,
    /// Users and groups in the order of their numbers in inodes.
    pub(super) ids: Vec<u32>,
    /// Where each inode lies, by number.
    pub(super) places: Vec<u64>,
    /// Where the root directory's inode lies.
    pub(super) root: u64,
}

fn unwritable(error: io::Error) -> Error {
    Error::new(Kind::Io, "the squashfs image's metadata cannot be compressed").caused_by(error)
}

impl<'a> Inodes<'a> {
    pub(super) fn new(image: &'a Image<'_>, places: &'a [Place], inodes: Table, directories: Table) -> Self {
        let count = image.tree.inodes.len();
        Self {
            tree: &image.tree,
            content_of: &image.content_of,
            places,
            inodes,
            directories,
            ids: BTreeMap::new(),
            id_list: Vec::new(),
            numbers: vec![0; count],
            names: vec![0; count],
            written: Vec::new(),
            lists: BTreeMap::new(),
        }
    }

    /// Writes all inodes and directories.
    pub(super) fn write(mut self) -> Result<Tables, Error> {
        let order = self.number();
        for &directory in &order {
            let Some(names) = self.tree.names(directory) else { continue };
            let parent = self.numbers[directory.0 as usize];
            for &child in names.values() {
                if self.written[self.numbers[child.0 as usize] as usize - 1].is_none() {
                    self.inode(child, parent)?;
                }
            }
            let list = self.list(names).map_err(unwritable)?;
            self.lists.insert(directory, list);
        }
        // The root is in no directory: what would be its parent's number is one that no inode has.
        let nobody = self.written.len() as u32 + 1;
        let root = self.inode(self.tree.root, nobody)?;
        Ok(Tables {
            inodes: self.inodes.finish().map_err(unwritable)?,
            directories: self.directories.finish().map_err(unwritable)?,
            ids: self.id_list,
            places: self.written.into_iter().flatten().collect(),
            root,
        })
    }

    /// Numbers all inodes in the order in which they are written, and counts their names. The result holds every
    /// directory after those inside it.
    fn number(&mut self) -> Vec<InodeId> {
        let mut order = Vec::new();
        let mut todo = vec![self.tree.root];
        while let Some(directory) = todo.pop() {
            order.push(directory);
            let names = self.tree.names(directory).into_iter().flatten();
            todo.extend(names.map(|(_, &id)| id).filter(|&id| self.tree.names(id).is_some()));
        }
        order.reverse();
        let mut next = 0;
        for &directory in &order {
            for (_, &child) in self.tree.names(directory).into_iter().flatten() {
                self.names[child.0 as usize] += 1;
                let number = &mut self.numbers[child.0 as usize];
                if *number == 0 {
                    next += 1;
                    *number = next;
                }
            }
        }
        self.numbers[self.tree.root.0 as usize] = next + 1;
        self.written = vec![None; next as usize + 1];
        order
    }

    fn id(&mut self, id: u32) -> Result<u16, Error> {
        if let Some(&number) = self.ids.get(&id) {
            return Ok(number);
        }
        let number = u16::try_from(self.ids.len()).map_err(|_| {
            Error::input("the files have more than 65,536 different owners and groups, the limit of squashfs")
        })?;
        self.ids.insert(id, number);
        self.id_list.push(id);
        Ok(number)
    }

    /// Writes an inode; `parent` is the number of the directory that it is in. The result is its place.
    fn inode(&mut self, id: InodeId, parent: u32) -> Result<u64, Error> {
        let inode = self.tree.inode(id);
        let number = self.numbers[id.0 as usize];
        let nlink = self.names[id.0 as usize];
        let (uid, gid) = (self.id(inode.uid)?, self.id(inode.gid)?);
        let (kind, body) = match &inode.node {
            Node::Directory(_) => self.directory(id, parent),
            Node::Regular(content) => self.regular(id, content.size, nlink),
            Node::Symlink(target) => {
                let body = [&nlink.to_le_bytes(), &(target.len() as u32).to_le_bytes(), target.as_ref()];
                (3, body.concat())
            }
            Node::BlockDevice(device) => (4, self::device(nlink, *device)),
            Node::CharDevice(device) => (5, self::device(nlink, *device)),
            Node::Fifo => (6, nlink.to_le_bytes().to_vec()),
            Node::Socket => (7, nlink.to_le_bytes().to_vec()),
        };
        let mut bytes = Vec::with_capacity(16 + body.len());
        for half in [kind, (inode.mode & 0o7777) as u16, uid, gid] {
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        let time = inode.mtime.clamp(0, u32::MAX.into()) as u32;
        bytes.extend_from_slice(&time.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&body);
        let (block, offset) = self.inodes.position();
        self.inodes.put(&bytes).map_err(unwritable)?;
        let place = block << 16 | u64::from(offset);
        self.written[number as usize - 1] = Some(place);
        Ok(place)
    }

    /// The kind and body of a directory's inode.
    fn directory(&self, id: InodeId, parent: u32) -> (u16, Vec<u8>) {
        let none = List::default();
        let list = self.lists.get(&id).unwrap_or(&none);
        // `.` and `..`, which no list holds, count as 3 bytes.
        let size = list.size + 3;
        let nlink = 2 + list.directories;
        let mut body = Vec::new();
        let mut put = |bytes: &[u8]| body.extend_from_slice(bytes);
        if let (Ok(size), true) = (u16::try_from(size), list.index.is_empty()) {
            put(&list.block.to_le_bytes());
            put(&nlink.to_le_bytes());
            put(&size.to_le_bytes());
            put(&list.offset.to_le_bytes());
            put(&parent.to_le_bytes());
            return (1, body);
        }
        for word in [nlink, size, list.block, parent] {
            put(&word.to_le_bytes());
        }
        put(&(list.index.len() as u16).to_le_bytes());
        put(&list.offset.to_le_bytes());
        put(&u32::MAX.to_le_bytes());
        for (at, block, name) in &list.index {
            for word in [*at, *block, name.len() as u32 - 1] {
                put(&word.to_le_bytes());
            }
            put(name);
        }
        (8, body)
    }

    /// The kind and body of a regular file's inode.
    fn regular(&self, id: InodeId, size: u64, nlink: u32) -> (u16, Vec<u8>) {
        let none = Place::default();
        let place = self.content_of[id.0 as usize].map_or(&none, |blob| &self.places[blob as usize]);
        let (fragment, offset) = place.tail.unwrap_or((NO_FRAGMENT, 0));
        let mut body = Vec::new();
        let mut put = |bytes: &[u8]| body.extend_from_slice(bytes);
        let kind = match (u32::try_from(place.start), u32::try_from(size)) {
            (Ok(start), Ok(size)) if nlink == 1 && place.sparse == 0 => {
                for word in [start, fragment, offset, size] {
                    put(&word.to_le_bytes());
                }
                2
            }
            _ => {
                for long in [place.start, size, place.sparse] {
                    put(&long.to_le_bytes());
                }
                for word in [nlink, fragment, offset, u32::MAX] {
                    put(&word.to_le_bytes());
                }
                9
            }
        };
        place.sizes.iter().for_each(|size| put(&size.to_le_bytes()));
        (kind, body)
    }

    /// Writes a directory's list: runs of entries whose inodes lie in one metadata block.
    fn list(&mut self, names: &BTreeMap<Box<[u8]>, InodeId>) -> io::Result<List> {
        let entries: Vec<(&[u8], InodeId, u64, u32)> = names
            .iter()
            .map(|(name, &id)| {
                let number = self.numbers[id.0 as usize];
                (name.as_ref(), id, self.written[number as usize - 1].unwrap_or_default(), number)
            })
            .collect();
        let (block, offset) = self.directories.position();
        let mut list = List { block: block as u32, offset, ..List::default() };
        let mut indexed = 0;
        let mut rest = entries.as_slice();
        while let Some(&(name, _, place, number)) = rest.first() {
            // The kernel goes to the last run of the index whose first name is not behind the one it looks for.
            if list.size - indexed >= METADATA_SIZE as u32 && list.index.len() < u16::MAX.into() {
                indexed = list.size;
                list.index.push((list.size, self.directories.position().0 as u32, name.into()));
            }
            let block = place >> 16;
            let fits = |&&(_, _, place, other): &&(&[u8], InodeId, u64, u32)| {
                place >> 16 == block && i16::try_from(i64::from(other) - i64::from(number)).is_ok()
            };
            let count = rest.iter().take(ENTRIES_IN_RUN).take_while(fits).count();
            let (run, more) = rest.split_at(count.max(1));
            rest = more;
            let mut bytes = Vec::new();
            for word in [run.len() as u32 - 1, block as u32, number] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            for &(name, id, place, other) in run {
                let kind = self::kind(&self.tree.inode(id).node);
                list.directories += u32::from(kind == 1);
                let less = (i64::from(other) - i64::from(number)) as i16;
                bytes.extend_from_slice(&(place as u16).to_le_bytes());
                bytes.extend_from_slice(&less.to_le_bytes());
                bytes.extend_from_slice(&kind.to_le_bytes());
                bytes.extend_from_slice(&(name.len() as u16 - 1).to_le_bytes());
                bytes.extend_from_slice(name);
            }
            list.size += bytes.len() as u32;
            self.directories.put(&bytes)?;
        }
        Ok(list)
    }
}

/// The kind of a file in a directory's list (`SQUASHFS_DIR_TYPE` and so on).
const fn kind(node: &Node) -> u16 {
    match node {
        Node::Directory(_) => 1,
        Node::Regular(_) => 2,
        Node::Symlink(_) => 3,
        Node::BlockDevice(_) => 4,
        Node::CharDevice(_) => 5,
        Node::Fifo => 6,
        Node::Socket => 7,
    }
}

/// The body of a device's inode: `new_encode_dev` of include/linux/kdev_t.h.
fn device(nlink: u32, device: Device) -> Vec<u8> {
    let Device { major, minor } = device;
    let number = minor & 0xff | major << 8 | (minor & !0xff) << 12;
    [nlink.to_le_bytes(), number.to_le_bytes()].concat()
}
