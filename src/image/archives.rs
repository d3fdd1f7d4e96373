//! Archives and ISO 9660 images inside an image, as trees to look into.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::bytes::{ReadAt, Spool};
use crate::codec;
use crate::container;
use crate::error::Error;
use crate::tree::{Content, Device, Extent, Inode, InodeId, Node, Tree};

/// A source, read from its start.
pub(super) struct Cursor {
    source: Arc<dyn ReadAt>,
    at: u64,
}

impl Cursor {
    pub(super) fn new(source: Arc<dyn ReadAt>) -> Self {
        Self { source, at: 0 }
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(self.at).min(buffer.len() as u64) as usize;
        self.source.read_exact_at(&mut buffer[..left], self.at)?;
        self.at += left as u64;
        Ok(left)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.source.len().checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::other("before the start"))?;
        Ok(self.at)
    }
}

/// A compressed file, unpacked into a temporary file.
///
/// # Errors
/// If it is damaged, or unpacks to more than `limit` bytes.
pub(super) fn unpacked(source: Arc<dyn ReadAt>, limit: u64) -> Result<Arc<dyn ReadAt>, Error> {
    let damaged = |e: io::Error| Error::input("the compressed data is damaged").caused_by(e);
    let mut reader = codec::any(BufReader::new(Cursor::new(source))).map_err(damaged)?;
    let mut spool = Spool::new().map_err(Error::temporary)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = reader.read(&mut buffer).map_err(damaged)?;
        if count == 0 {
            break;
        }
        spool.append(&buffer[..count]).map_err(Error::temporary)?;
        if spool.written() > limit {
            return Err(Error::input(format!("it unpacks to more than the {limit} bytes allowed"))
                .hint("if you trust it, raise --max-unpacked"));
        }
    }
    Ok(Arc::new(spool.finish().map_err(Error::temporary)?))
}

/// The files of a tar archive (POSIX.1-2001 and GNU tar).
///
/// # Errors
/// If it is damaged, or holds what a tree does not.
pub(super) fn tar(source: Arc<dyn ReadAt>) -> Result<Tree, Error> {
    let damaged = |e: io::Error| Error::input("the tar archive is damaged").caused_by(e);
    let mut tree = Tree::new(Arc::clone(&source));
    let mut archive = tar::Archive::new(Cursor::new(source));
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let header = entry.header();
        let path = entry.path_bytes();
        let number = |field: io::Result<u64>| field.map_err(damaged);
        let id = |field: u64| u32::try_from(field).unwrap_or(u32::MAX);
        let device = |header: &tar::Header| -> Result<Device, Error> {
            let part = |field: io::Result<Option<u32>>| field.map(Option::unwrap_or_default).map_err(damaged);
            Ok(Device { major: part(header.device_major())?, minor: part(header.device_minor())? })
        };
        let target = || entry.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        let kind = header.entry_type();
        let node = match kind {
            _ if kind.is_dir() => Node::Directory(BTreeMap::new()),
            _ if kind.is_file() || kind.is_contiguous() => {
                let size = entry.size();
                let extent = Extent { file_offset: 0, data_offset: entry.raw_file_position(), len: size };
                Node::Regular(Content { size, extents: Vec::from_iter((size > 0).then_some(extent)) })
            }
            _ if kind.is_symlink() => Node::Symlink(target().into()),
            _ if kind.is_hard_link() => {
                let first = tree.get(target());
                let Some(first) = first.filter(|first| tree.names(*first).is_none()) else { continue };
                tree.inode_mut(first).nlink += 1;
                place(&mut tree, &path, Err(first))?;
                continue;
            }
            _ if kind.is_character_special() => Node::CharDevice(device(header)?),
            _ if kind.is_block_special() => Node::BlockDevice(device(header)?),
            _ if kind.is_fifo() => Node::Fifo,
            _ if kind.is_gnu_sparse() => {
                return Err(Error::input("it holds sparse files, which are not read"));
            }
            // Headers of the archive itself.
            _ => continue,
        };
        let inode = Inode {
            mode: header.mode().map_err(damaged)? & 0o7777,
            uid: id(number(header.uid())?),
            gid: id(number(header.gid())?),
            mtime: i64::try_from(number(header.mtime())?).unwrap_or(i64::MAX),
            nlink: 1,
            node,
        };
        place(&mut tree, &path, Ok(inode))?;
    }
    tree.check()?;
    Ok(tree)
}

/// The files of an ISO 9660 image, by the names of Rock Ridge if it has them; its owners, modes and symlinks are not read.
///
/// # Errors
/// If it holds what a tree does not.
pub(super) fn iso(source: Arc<dyn ReadAt>) -> Result<Tree, Error> {
    let mut tree = Tree::new(Arc::clone(&source));
    for file in container::iso_files(source.as_ref()) {
        let extent = Extent { file_offset: 0, data_offset: file.at, len: file.size };
        if file.at.checked_add(file.size).is_none_or(|end| end > source.len()) {
            return Err(Error::input("a file goes over its end"));
        }
        let extents = Vec::from_iter((file.size > 0).then_some(extent));
        let node = Node::Regular(Content { size: file.size, extents });
        place(&mut tree, &file.path, Ok(Inode { mode: 0o444, uid: 0, gid: 0, mtime: 0, nlink: 1, node }))?;
    }
    tree.check()?;
    Ok(tree)
}

/// Puts a new inode, or one more name of one, at `path`, in the place of what was there; directories keep their content.
fn place(tree: &mut Tree, path: &[u8], inode: Result<Inode, InodeId>) -> Result<(), Error> {
    let mut parts: Vec<&[u8]> =
        path.split(|&b| b == b'/').filter(|part| !matches!(part, [] | [b'.'])).collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(Error::input("a path climbs out of it"));
    }
    let Some(name) = parts.pop() else {
        if let Ok(Inode { node: Node::Directory(_), mode, uid, gid, mtime, .. }) = inode {
            let root = tree.root;
            let root = tree.inode_mut(root);
            (root.mode, root.uid, root.gid, root.mtime) = (mode, uid, gid, mtime);
        }
        return Ok(());
    };
    let mut directory = tree.root;
    for part in parts {
        let known = tree.names(directory).and_then(|names| names.get(part).copied());
        directory = match known.filter(|id| tree.names(*id).is_some()) {
            Some(known) => known,
            None => {
                let node = Node::Directory(BTreeMap::new());
                let id = tree.add(Inode { mode: 0o755, uid: 0, gid: 0, mtime: 0, nlink: 1, node });
                set(tree, directory, part, id);
                id
            }
        };
    }
    let known = tree.names(directory).and_then(|names| names.get(name).copied());
    match (inode, known) {
        (Ok(Inode { node: Node::Directory(_), mode, uid, gid, mtime, .. }), Some(id))
            if tree.names(id).is_some() =>
        {
            let there = tree.inode_mut(id);
            (there.mode, there.uid, there.gid, there.mtime) = (mode, uid, gid, mtime);
        }
        (Ok(inode), _) => {
            let id = tree.add(inode);
            set(tree, directory, name, id);
        }
        (Err(id), _) => set(tree, directory, name, id),
    }
    Ok(())
}

fn set(tree: &mut Tree, directory: InodeId, name: &[u8], id: InodeId) {
    let Node::Directory(names) = &mut tree.inode_mut(directory).node else { return };
    if let Some(old) = names.insert(name.into(), id) {
        let old = tree.inode_mut(old);
        old.nlink = old.nlink.saturating_sub(1);
    }
}
