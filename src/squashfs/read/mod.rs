//! The reader: superblock, inodes and directories into a [`Tree`].

mod content;
mod decode;
mod metadata;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

pub use content::{FileContent, file};

use super::{
    Compression, MAGIC, MAX_BLOCK_SIZE, MAX_MEMORY, MIN_BLOCK_SIZE, NO_FRAGMENT, STORED, SUPERBLOCK,
};
use crate::bytes::ReadAt;
use crate::error::Error;
use crate::tree::{Content, Device, Inode, InodeId, Node, Tree, display};
use content::{Data, Fragment, Layout};
use metadata::{Cursor, Metadata};

/// `SQUASHFS_NAME_LEN`.
const NAME_MAX: usize = 256;
/// `PATH_MAX`: no longer target can be used.
const TARGET_MAX: u32 = 4096;
/// What an inode and its name cost in memory beside the name's bytes, roughly.
const INODE_COST: usize = 128;
/// Fragments in one metadata block of the fragment table.
const FRAGMENTS_IN_BLOCK: u32 = 512;
/// IDs in one metadata block of the ID table.
const IDS_IN_BLOCK: u16 = 2048;

/// Reads the squashfs 4.0 image `source`, called `name` in errors.
///
/// Content is unpacked when the tree's data is read, a block at a time; blocks of zeros are holes. Extended
/// attributes are left out: a [`Tree`] has none.
///
/// # Errors
/// When it is no squashfs 4.0, of a compression that no kernel since 2.6.38 has, or damaged. Damage in a file's
/// blocks shows when that file is read.
pub fn read(source: Arc<dyn ReadAt>, name: &Path) -> Result<Tree, Error> {
    let superblock = Superblock::read(source.as_ref()).map_err(|error| error.file(name))?;
    let reader = Reader {
        source: source.as_ref(),
        metadata: Metadata::new(source.as_ref(), superblock.compression, superblock.bytes_used),
        ids: Vec::new(),
        tree: Tree::new(Arc::new(Vec::new())),
        known: HashMap::new(),
        files: Vec::new(),
        len: 0,
        memory: 0,
        superblock: &superblock,
    };
    let (mut tree, files) = reader.tree().map_err(|error| error.file(name))?;
    tree.check().map_err(|error| error.file(name))?;
    tree.data =
        Arc::new(Data::new(Arc::clone(&source), superblock.compression, superblock.block_size, files));
    Ok(tree)
}

/// `struct squashfs_super_block`.
struct Superblock {
    inodes: u32,
    block_size: u32,
    fragments: u32,
    compression: Compression,
    ids: u16,
    root: u64,
    bytes_used: u64,
    id_table: u64,
    inode_table: u64,
    directory_table: u64,
    fragment_table: u64,
}

impl Superblock {
    fn read(source: &dyn ReadAt) -> Result<Self, Error> {
        let len = source.len();
        if len < SUPERBLOCK {
            return Err(Error::input(format!(
                "{len} bytes are no squashfs image: its superblock has {SUPERBLOCK}"
            )));
        }
        let mut bytes = [0; SUPERBLOCK as usize];
        source
            .read_exact_at(&mut bytes, 0)
            .map_err(|e| Error::input("the superblock cannot be read").caused_by(e).at(0))?;
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;

        match u32_at(0) {
            MAGIC => {}
            magic if magic == MAGIC.swap_bytes() => {
                return Err(Error::input("a big-endian squashfs image, as version 3 and older had")
                    .at(0)
                    .hint("only squashfs 4.0 can be read"));
            }
            _ => return Err(Error::input("no squashfs image: it does not start with \"hsqs\"").at(0)),
        }
        let (major, minor) = (u16_at(28), u16_at(30));
        if (major, minor) != (4, 0) {
            return Err(Error::input(format!("squashfs {major}.{minor}: only 4.0 can be read")).at(28));
        }
        let (block_size, block_log) = (u32_at(12), u16_at(22));
        if !(MIN_BLOCK_SIZE..=MAX_BLOCK_SIZE).contains(&block_size)
            || 1u32.checked_shl(u32::from(block_log)) != Some(block_size)
        {
            return Err(Error::input(format!(
                "a block size of {block_size} with logarithm {block_log}, where 4096 (12) to 1048576 (20) can be"
            ))
            .at(12));
        }
        let compression = Compression::from_id(u16_at(20)).ok_or_else(|| {
            let id = u16_at(20);
            let known = if id == 2 { " (the old lzma)" } else { "" };
            Error::input(format!("squashfs compression {id}{known}: expected gzip, lzo, xz, lz4 or zstd"))
                .at(20)
        })?;
        let bytes_used = u64_at(40);
        if bytes_used > len || bytes_used < SUPERBLOCK {
            return Err(Error::input(format!(
                "an image that states {bytes_used} bytes, where {len} are there"
            ))
            .at(40)
            .hint("is it complete?"));
        }
        Ok(Self {
            inodes: u32_at(4),
            block_size,
            fragments: u32_at(16),
            compression,
            ids: u16_at(26),
            root: u64_at(32),
            bytes_used,
            id_table: u64_at(48),
            inode_table: u64_at(64),
            directory_table: u64_at(72),
            fragment_table: u64_at(80),
        })
    }
}

/// A directory whose names have not been read.
struct Pending {
    id: InodeId,
    /// Where its metadata block starts, counted from the directory table.
    block: u32,
    /// Where in that block.
    offset: u16,
    /// Bytes of the list of names, and 3.
    size: u32,
}

struct Reader<'a> {
    superblock: &'a Superblock,
    source: &'a dyn ReadAt,
    metadata: Metadata<'a>,
    ids: Vec<u32>,
    tree: Tree,
    /// Inodes read, by their place: a second name of one is a hard link.
    known: HashMap<u64, InodeId>,
    files: Vec<Layout>,
    /// Bytes of all files.
    len: u64,
    /// What the tree needs, roughly.
    memory: usize,
}

impl Reader<'_> {
    fn tree(mut self) -> Result<(Tree, Vec<Layout>), Error> {
        self.ids = self.read_ids()?;
        let (inode, pending) = self.inode(self.superblock.root)?;
        let Some(root) = pending else {
            return Err(Error::input("the root inode is no directory").at(32));
        };
        self.tree.inodes.clear();
        self.tree.root = self.tree.add(inode);
        self.known.insert(self.superblock.root, self.tree.root);
        let mut todo = vec![Pending { id: self.tree.root, ..root }];
        while let Some(directory) = todo.pop() {
            self.directory(&directory, &mut todo)?;
        }
        Ok((self.tree, self.files))
    }

    /// Notes that the tree grows by `bytes`.
    fn grow(&mut self, bytes: usize, at: u64) -> Result<(), Error> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MAX_MEMORY {
            return Err(Error::input(format!(
                "the image's files need more than {} MiB of memory",
                MAX_MEMORY >> 20
            ))
            .at(at)
            .hint("an image with more than a million files is not what this is for; or it is damaged"));
        }
        Ok(())
    }

    /// The position that is entry `number` of the index that starts at byte `table`.
    fn index(&self, table: u64, number: u64, what: &str) -> Result<u64, Error> {
        let mut entry = [0; 8];
        let at =
            table.checked_add(number * 8).filter(|at| at.saturating_add(8) <= self.superblock.bytes_used);
        let at = at.ok_or_else(|| {
            Error::input(format!("the {what} table lies beyond the end of the image")).at(table)
        })?;
        self.source
            .read_exact_at(&mut entry, at)
            .map_err(|e| Error::input(format!("the {what} table cannot be read")).caused_by(e).at(at))?;
        Ok(u64::from_le_bytes(entry))
    }

    fn read_ids(&mut self) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::with_capacity(usize::from(self.superblock.ids));
        for first in (0..self.superblock.ids).step_by(usize::from(IDS_IN_BLOCK)) {
            let at = self.index(self.superblock.id_table, u64::from(first / IDS_IN_BLOCK), "id")?;
            let mut cursor = self.metadata.cursor(at, 0, "id table")?;
            for _ in first..self.superblock.ids.min(first.saturating_add(IDS_IN_BLOCK)) {
                ids.push(cursor.u32()?);
            }
        }
        Ok(ids)
    }

    /// Reads the inode at `place` (its metadata block counted from the inode table, times 65536, and the offset in
    /// it). The names of a directory are still to be read.
    fn inode(&mut self, place: u64) -> Result<(Inode, Option<Pending>), Error> {
        let at = self
            .superblock
            .inode_table
            .checked_add(place >> 16)
            .ok_or_else(|| Error::input("an inode lies beyond the end of the image"))?;
        let mut cursor = self.metadata.cursor(at, (place & 0xffff) as usize, "inode")?;
        let kind = cursor.u16()?;
        let mode = u32::from(cursor.u16()?);
        let (uid, gid) = (cursor.u16()?, cursor.u16()?);
        let mtime = i64::from(cursor.u32()?);
        let _number = cursor.u32()?;
        let id = |index: u16| {
            self.ids.get(usize::from(index)).copied().ok_or_else(|| {
                Error::input(format!("inode: owner {index} of a table of {}", self.ids.len())).at(at)
            })
        };
        let (uid, gid) = (id(uid)?, id(gid)?);
        let body = Body::read(kind, &mut cursor, self.superblock)?;
        let target_len = match &body {
            Body::Other(Node::Symlink(target)) => target.len(),
            _ => 0,
        };
        let (node, pending) = match body {
            Body::Directory(pending) => (Node::Directory(Default::default()), Some(pending)),
            Body::File(file) => (Node::Regular(self.file(file, at)?), None),
            Body::Other(node) => (node, None),
        };
        self.grow(INODE_COST + target_len, at)?;
        Ok((Inode { mode: mode & 0o7777, uid, gid, mtime, nlink: 1, node }, pending))
    }

    /// Gives a file its place in the tree's data.
    fn file(&mut self, file: File, at: u64) -> Result<Content, Error> {
        self.grow(file.sizes.len() * size_of::<u32>(), at)?;
        let fragment = match file.fragment {
            Some((number, offset)) => Some(self.fragment(number, offset, file.len, at)?),
            None => None,
        };
        let end = self.superblock.bytes_used;
        let block_size = self.superblock.block_size;
        let layout =
            Layout::new(self.len, file.len, file.start, file.sizes, fragment, end).ok_or_else(|| {
                Error::input(format!("inode: a file's blocks end behind the image, at {end}")).at(at)
            })?;
        let content = layout.content(block_size);
        self.grow(size_of_val(content.extents.as_slice()), at)?;
        if file.len > 0 {
            self.len = self
                .len
                .checked_add(file.len)
                .ok_or_else(|| Error::input("inode: the files' sizes add up to more than 16 EiB").at(at))?;
            self.files.push(layout);
        }
        Ok(content)
    }

    /// Where the tail of a file of `len` bytes lies.
    fn fragment(&mut self, number: u32, offset: u32, len: u64, at: u64) -> Result<Fragment, Error> {
        let superblock = self.superblock;
        if number >= superblock.fragments {
            let there = superblock.fragments;
            return Err(Error::input(format!("inode: a file's tail in fragment {number} of {there}")).at(at));
        }
        let table =
            self.index(superblock.fragment_table, u64::from(number / FRAGMENTS_IN_BLOCK), "fragment")?;
        let mut cursor =
            self.metadata.cursor(table, (number % FRAGMENTS_IN_BLOCK) as usize * 16, "fragment table")?;
        let start = cursor.u64()?;
        let size = cursor.u32()?;
        let (stored, block_size) = (u64::from(size & !STORED), u64::from(superblock.block_size));
        if stored > block_size || start.checked_add(stored).is_none_or(|end| end > superblock.bytes_used) {
            return Err(
                cursor.damaged(format_args!("fragment {number} of {stored} bytes at {start} lies outside"))
            );
        }
        if u64::from(offset) + len % block_size > block_size {
            return Err(
                Error::input(format!("inode: a file's tail at {offset} ends behind its fragment")).at(at)
            );
        }
        Ok(Fragment { start, size, offset })
    }

    /// Reads a directory's names and what they stand for; directories go to `todo`.
    fn directory(&mut self, directory: &Pending, todo: &mut Vec<Pending>) -> Result<(), Error> {
        // The size counts `.` and `..` as 3 bytes; an empty directory has no list.
        let Some(size) = (directory.size as usize).checked_sub(3).filter(|&size| size > 0) else {
            return Ok(());
        };
        let at = self.superblock.directory_table.saturating_add(u64::from(directory.block));
        self.grow(size, at)?;
        let list = self.metadata.cursor(at, usize::from(directory.offset), "directory")?.bytes(size)?;
        let damaged = |why: String| Error::input(format!("directory: {why}")).at(at);
        for (name, place) in names(&list).map_err(damaged)? {
            let id = match self.known.get(&place) {
                Some(&id) => {
                    if self.tree.names(id).is_some() {
                        return Err(damaged(format!("the directory {:?} has a second name", display(&name))));
                    }
                    self.tree.inode_mut(id).nlink += 1;
                    id
                }
                None => {
                    if self.tree.inodes.len() >= self.superblock.inodes as usize {
                        let stated = self.superblock.inodes;
                        return Err(damaged(format!(
                            "more inodes than the {stated} that the superblock states"
                        )));
                    }
                    let (inode, pending) = self.inode(place)?;
                    let id = self.tree.add(inode);
                    self.known.insert(place, id);
                    todo.extend(pending.map(|pending| Pending { id, ..pending }));
                    id
                }
            };
            if let Node::Directory(names) = &mut self.tree.inode_mut(directory.id).node
                && let Some(_) = names.insert(name.clone(), id)
            {
                return Err(damaged(format!("the name {:?} twice", display(&name))));
            }
        }
        Ok(())
    }
}

/// What an inode holds after the header that all have.
enum Body {
    Directory(Pending),
    File(File),
    Other(Node),
}

impl Body {
    /// Reads what an inode of type `kind` (`SQUASHFS_DIR_TYPE` and so on) holds.
    fn read(kind: u16, cursor: &mut Cursor<'_, '_>, superblock: &Superblock) -> Result<Self, Error> {
        Ok(match kind {
            1 => {
                let block = cursor.u32()?;
                let _nlink = cursor.u32()?;
                let size = u32::from(cursor.u16()?);
                let offset = cursor.u16()?;
                Self::Directory(Pending { id: InodeId(0), block, offset, size })
            }
            8 => {
                let _nlink = cursor.u32()?;
                let size = cursor.u32()?;
                let block = cursor.u32()?;
                let _parent = cursor.u32()?;
                let _indexes = cursor.u16()?;
                let offset = cursor.u16()?;
                Self::Directory(Pending { id: InodeId(0), block, offset, size })
            }
            2 => {
                let start = u64::from(cursor.u32()?);
                let (fragment, offset) = (cursor.u32()?, cursor.u32()?);
                let len = u64::from(cursor.u32()?);
                Self::File(superblock.file(cursor, start, len, (fragment, offset))?)
            }
            9 => {
                let start = cursor.u64()?;
                let len = cursor.u64()?;
                let (_sparse, _nlink) = (cursor.u64()?, cursor.u32()?);
                let (fragment, offset) = (cursor.u32()?, cursor.u32()?);
                let _xattr = cursor.u32()?;
                Self::File(superblock.file(cursor, start, len, (fragment, offset))?)
            }
            3 | 10 => {
                let _nlink = cursor.u32()?;
                let len = cursor.u32()?;
                if len == 0 || len > TARGET_MAX {
                    return Err(cursor.damaged(format_args!("a symlink to a target of {len} bytes")));
                }
                Self::Other(Node::Symlink(cursor.bytes(len as usize)?.into()))
            }
            4 | 5 | 11 | 12 => {
                let _nlink = cursor.u32()?;
                // new_decode_dev of include/linux/kdev_t.h.
                let number = cursor.u32()?;
                let device = Device {
                    major: (number >> 8) & 0xfff,
                    minor: (number & 0xff) | ((number >> 12) & 0xf_ff00),
                };
                let block = matches!(kind, 4 | 11);
                Self::Other(if block { Node::BlockDevice(device) } else { Node::CharDevice(device) })
            }
            6 | 13 => Self::Other(Node::Fifo),
            7 | 14 => Self::Other(Node::Socket),
            _ => return Err(cursor.damaged(format_args!("unexpected inode type {kind}, expected 1 to 14"))),
        })
    }
}

/// The names in a directory's list, each with the place of its inode.
fn names(mut list: &[u8]) -> Result<Vec<(Box<[u8]>, u64)>, String> {
    let mut take = |count: usize| {
        let (taken, rest) = list.split_at_checked(count)?;
        list = rest;
        Some((taken, rest.is_empty()))
    };
    let early = || String::from("its list of names ends early");
    let mut found: Vec<(Box<[u8]>, u64)> = Vec::new();
    loop {
        // struct squashfs_dir_header: how many names follow, less one, and the metadata block of their inodes.
        let (header, _) = take(12).ok_or_else(early)?;
        let count = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let block = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let mut done = false;
        for _ in 0..=count {
            // struct squashfs_dir_entry: offset in that block, inode number, type, size of the name less one.
            let (entry, _) = take(8).ok_or_else(early)?;
            let offset = u16::from_le_bytes([entry[0], entry[1]]);
            let size = usize::from(u16::from_le_bytes([entry[6], entry[7]])) + 1;
            if size > NAME_MAX {
                return Err(format!("a name of {size} bytes, where {NAME_MAX} can be"));
            }
            let (name, last) = take(size).ok_or_else(early)?;
            if name == b"." || name == b".." || name.iter().any(|&byte| byte == b'/' || byte == 0) {
                return Err(format!("the name {:?}", display(name)));
            }
            found.push((name.into(), u64::from(block) << 16 | u64::from(offset)));
            done = last;
        }
        if done {
            return Ok(found);
        }
    }
}

/// A regular file as its inode describes it.
struct File {
    len: u64,
    start: u64,
    /// The size of each block in the image.
    sizes: Vec<u32>,
    /// The fragment that holds the tail, and where in it.
    fragment: Option<(u32, u32)>,
}

impl Superblock {
    /// Reads the block list that ends a file's inode.
    fn file(
        &self,
        cursor: &mut Cursor<'_, '_>,
        start: u64,
        len: u64,
        tail: (u32, u32),
    ) -> Result<File, Error> {
        let block_size = u64::from(self.block_size);
        // A file whose size is a multiple of the block has no tail, whatever it says of a fragment.
        let fragment = (tail.0 != NO_FRAGMENT && !len.is_multiple_of(block_size)).then_some(tail);
        let count = if fragment.is_some() { len / block_size } else { len.div_ceil(block_size) };
        if count > (MAX_MEMORY / size_of::<u32>()) as u64 {
            return Err(cursor.damaged(format_args!("a file of {len} bytes in {count} blocks")));
        }
        let mut sizes = Vec::new();
        for _ in 0..count {
            // One at a time: a block list that is not there must not be paid for.
            let size = cursor.u32()?;
            if u64::from(size & !STORED) > block_size {
                return Err(cursor.damaged(format_args!("a block of {} bytes", size & !STORED)));
            }
            sizes.push(size);
        }
        Ok(File { len, start, sizes, fragment })
    }
}
