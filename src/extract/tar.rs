//! Into a tar archive (GNU format): owners, modes, devices, hard links and times as the image has them.

use std::collections::HashMap;
use std::io::{self, Write};

use ::tar::{Builder, EntryType, Header};

use super::{CHUNK, unreadable, unwritable};
use crate::error::Error;
use crate::tree::{Content, Entry, Inode, Node, Tree};

/// What came into an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Archived {
    /// Members.
    pub members: u64,
    /// Sockets, which tar has no member type for: they are left out.
    pub sockets: u64,
}

/// Writes `entries` of `tree` to `out` as a tar archive.
///
/// # Errors
/// [`crate::error::Kind::Input`] if the image cannot be read, [`crate::error::Kind::Usage`] if `out` cannot be written.
pub fn into_tar(tree: &Tree, entries: &[Entry], out: &mut dyn Write) -> Result<Archived, Error> {
    let mut archive = Builder::new(out);
    let mut done = Archived::default();
    // Under which name an inode with several names was written.
    let mut first: HashMap<u32, &[u8]> = HashMap::new();
    for entry in entries {
        let inode = tree.inode(entry.id);
        if matches!(inode.node, Node::Socket) {
            done.sockets += 1;
            continue;
        }
        let target = if inode.nlink > 1 && tree.names(entry.id).is_none() {
            first.get(&entry.id.0).copied()
        } else {
            None
        };
        first.entry(entry.id.0).or_insert(&entry.path);
        member(&mut archive, tree, &entry.path, inode, target)?;
        done.members += 1;
    }
    archive.finish().map_err(unwritable)?;
    Ok(done)
}

/// Writes one member; `target` is the name of an earlier one that it is a hard link to.
fn member(
    archive: &mut Builder<&mut dyn Write>,
    tree: &Tree,
    path: &[u8],
    inode: &Inode,
    target: Option<&[u8]>,
) -> Result<(), Error> {
    let mut header = Header::new_gnu();
    header.set_mode(inode.mode);
    header.set_uid(u64::from(inode.uid));
    header.set_gid(u64::from(inode.gid));
    header.set_size(0);
    match u64::try_from(inode.mtime) {
        Ok(mtime) => header.set_mtime(mtime),
        Err(_) => {
            // The header has no room for a time before 1970: a pax record has.
            let mtime = inode.mtime.to_string();
            archive.append_pax_extensions([("mtime", mtime.as_bytes())]).map_err(unwritable)?;
            header.set_mtime(0);
        }
    }
    let mut content = None;
    let mut link = target;
    let kind = match (&inode.node, target) {
        (_, Some(_)) => EntryType::Link,
        (Node::Directory(_), None) => EntryType::Directory,
        (Node::Regular(file), None) => {
            header.set_size(file.size);
            content = Some(file);
            EntryType::Regular
        }
        (Node::Symlink(target), None) => {
            link = Some(target);
            EntryType::Symlink
        }
        (Node::CharDevice(device) | Node::BlockDevice(device), None) => {
            header.set_device_major(device.major).map_err(unwritable)?;
            header.set_device_minor(device.minor).map_err(unwritable)?;
            if matches!(inode.node, Node::CharDevice(_)) { EntryType::Char } else { EntryType::Block }
        }
        (Node::Fifo | Node::Socket, None) => EntryType::Fifo,
    };
    header.set_entry_type(kind);
    let mut name = path.to_vec();
    if name.is_empty() {
        name.push(b'.');
    }
    if matches!(inode.node, Node::Directory(_)) {
        name.push(b'/');
    }
    names(archive, &mut header, &name, link).map_err(unwritable)?;
    header.set_cksum();
    let Some(content) = content else {
        return archive.append(&header, io::empty()).map_err(unwritable);
    };
    let mut reader = Reader { tree, content, at: 0, buffer: Vec::new(), used: 0, failed: None };
    let written = archive.append(&header, &mut reader);
    match reader.failed {
        Some(e) => Err(unreadable(path, e)),
        None => written.map_err(unwritable),
    }
}

/// Sets name and link target byte by byte: [`Header::set_path`] would tidy them up. What is longer than a header's 100
/// bytes goes in front, as a member of its own (GNU tar's `@LongLink`).
fn names(
    archive: &mut Builder<&mut dyn Write>,
    header: &mut Header,
    name: &[u8],
    link: Option<&[u8]>,
) -> io::Result<()> {
    fn field(field: &mut [u8; 100], bytes: &[u8]) {
        let len = bytes.len().min(field.len());
        field[..len].copy_from_slice(&bytes[..len]);
    }
    if let Some(link) = link {
        if link.len() > 100 {
            long(archive, EntryType::GNULongLink, link)?;
        }
        field(&mut header.as_old_mut().linkname, link);
    }
    if name.len() > 100 {
        long(archive, EntryType::GNULongName, name)?;
    }
    field(&mut header.as_old_mut().name, name);
    Ok(())
}

fn long(archive: &mut Builder<&mut dyn Write>, kind: EntryType, name: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    let title = b"././@LongLink";
    header.as_old_mut().name[..title.len()].copy_from_slice(title);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // The name and a NUL.
    header.set_size(name.len() as u64 + 1);
    header.set_entry_type(kind);
    header.set_cksum();
    archive.append(&header, io::Read::chain(name, &b"\0"[..]))
}

/// A file's content to be read from its start.
struct Reader<'a> {
    tree: &'a Tree,
    content: &'a Content,
    at: u64,
    buffer: Vec<u8>,
    used: usize,
    /// Why the image could not be read: the archive's own error does not say which side failed.
    failed: Option<io::Error>,
}

impl io::Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            let len = CHUNK.min(self.content.size - self.at) as usize;
            self.buffer.resize(len, 0);
            self.used = 0;
            if let Err(e) = self.tree.read_at(self.content, &mut self.buffer, self.at) {
                let kind = e.kind();
                self.failed = Some(e);
                return Err(kind.into());
            }
            self.at += len as u64;
        }
        let len = out.len().min(self.buffer.len() - self.used);
        out[..len].copy_from_slice(&self.buffer[self.used..self.used + len]);
        self.used += len;
        Ok(len)
    }
}
