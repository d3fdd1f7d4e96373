//! Writing a newc archive.

use std::collections::BTreeSet;
use std::io::{self, Write};

use cpio::newc::Builder;

use super::header::HEADER;
use crate::tree::{Node, mode};

/// Writes one newc archive, entry by entry; inodes are numbered in that order.
pub struct NewcWriter<W> {
    inner: W,
    time: u32,
    inode: u32,
    written: u64,
    owner: (u32, u32),
    /// The inode number and link count of the next entry, if it has hard links, and the inodes that have their content.
    link: Option<(u32, u32)>,
    linked: BTreeSet<u32>,
}

impl<W: Write> NewcWriter<W> {
    /// A writer into `inner` that gives every entry the time `time`, seconds since 1970 (newc holds 32 bits).
    pub fn new(inner: W, time: i64) -> Self {
        Self {
            inner,
            time: u32::try_from(time.max(0)).unwrap_or(u32::MAX),
            inode: 0,
            written: 0,
            owner: (0, 0),
            link: None,
            linked: BTreeSet::new(),
        }
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Sets the owner and group of the entries that follow; it was root's before.
    pub const fn owner(&mut self, uid: u32, gid: u32) {
        self.owner = (uid, gid);
    }

    /// Sets the time of the entries that follow, seconds since 1970.
    pub fn time(&mut self, time: i64) {
        self.time = u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    }

    /// The next entry is one of `count` names of an inode, which `inode` tells from others; the first of them gets the
    /// content (init/initramfs.c, `maybe_link`: Linux links the others to it). Numbers of their own follow after those
    /// of entries without links.
    pub const fn linked(&mut self, inode: u32, count: u32) {
        self.link = Some((inode, count));
    }

    /// A directory with permission bits `mode`.
    ///
    /// # Errors
    /// Those of the inner writer.
    pub fn directory(&mut self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
        self.entry(path.as_ref(), mode::S_IFDIR | mode, &Node::Fifo, &[])
    }

    /// A regular file with permission bits `mode`.
    ///
    /// # Errors
    /// Those of the inner writer; `InvalidInput` from 4 GiB on.
    pub fn file(&mut self, path: impl AsRef<[u8]>, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(path.as_ref(), mode::S_IFREG | mode, &Node::Fifo, bytes)
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// Those of the inner writer.
    pub fn symlink(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> io::Result<()> {
        self.entry(path.as_ref(), mode::S_IFLNK | 0o777, &Node::Fifo, target.as_ref())
    }

    /// A device node, named pipe or socket with permission bits `mode`.
    ///
    /// # Errors
    /// Those of the inner writer.
    pub fn device(&mut self, path: impl AsRef<[u8]>, mode: u32, node: &Node) -> io::Result<()> {
        self.entry(path.as_ref(), node.type_bits() | mode, node, &[])
    }

    /// The header and name of an entry with `size` bytes of content, which the caller writes with
    /// [`NewcWriter::content`]. The name is padded with NUL to `padded_name` bytes; for the kernel it ends at the first.
    ///
    /// # Errors
    /// Those of the inner writer; `InvalidInput` if the size does not fit into the 32 bits of newc.
    pub fn header(
        &mut self,
        path: impl AsRef<[u8]>,
        full_mode: u32,
        node: &Node,
        size: u64,
        padded_name: usize,
    ) -> io::Result<()> {
        let size = u32::try_from(size).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "an entry of a newc archive holds less than 4 GiB")
        })?;
        self.inode += 1;
        // In the upper half of the numbers, those of inodes with several names.
        let (inode, links) = match self.link.take() {
            Some((inode, count)) => (inode | 1 << 31, count),
            None => (self.inode, if full_mode & mode::S_IFMT == mode::S_IFDIR { 2 } else { 1 }),
        };
        let path = path.as_ref();
        // The crate accepts only text as a name, and the kernel any bytes: the real name is put in below.
        let name =
            format!("{}{}", "x".repeat(path.len()), "\0".repeat(padded_name.saturating_sub(path.len() + 1)));
        let mut builder = Builder::new(&name)
            .ino(inode)
            .mode(full_mode)
            .uid(self.owner.0)
            .gid(self.owner.1)
            .nlink(links)
            .mtime(self.time);
        if let Node::CharDevice(device) | Node::BlockDevice(device) = node {
            builder = builder.rdev_major(device.major).rdev_minor(device.minor);
        }
        // The crate writes the header together with the content. To stream the content, make the header of an empty
        // file and change its size.
        let mut bytes = builder.write(Vec::new(), 0).finish()?;
        bytes[54..62].copy_from_slice(format!("{size:08x}").as_bytes());
        bytes[HEADER..][..path.len()].copy_from_slice(path);
        self.put(&bytes)
    }

    /// Content of the entry whose header was just written.
    ///
    /// # Errors
    /// Those of the inner writer.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)
    }

    /// Ends the content of an entry: zeros up to a multiple of four.
    ///
    /// # Errors
    /// Those of the inner writer.
    pub fn pad(&mut self) -> io::Result<()> {
        let zeros = self.written.next_multiple_of(4) - self.written;
        self.put(&[0; 4][..zeros as usize])
    }

    fn entry(&mut self, path: &[u8], full_mode: u32, node: &Node, bytes: &[u8]) -> io::Result<()> {
        let known = self.link.is_some_and(|(inode, _)| !self.linked.insert(inode));
        let bytes = if known { &[] } else { bytes };
        self.header(path, full_mode, node, bytes.len() as u64, 0)?;
        self.put(bytes)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes the trailer and gives the inner writer back.
    ///
    /// # Errors
    /// Those of the inner writer.
    pub fn finish(mut self) -> io::Result<W> {
        let bytes = cpio::newc::trailer(Vec::new())?;
        self.put(&bytes)?;
        Ok(self.inner)
    }
}
