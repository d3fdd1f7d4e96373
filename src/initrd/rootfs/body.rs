//! The content of regular files: `do_copy` of init/initramfs.c, with holes in place of long runs of zeros.

use std::ops::Range;

use super::Reader;
use crate::error::Error;
use crate::tree::{Content, Extent, InodeId, Node};

/// Runs of zeros of at least this many bytes become holes.
const HOLE: usize = 64 << 10;

/// A regular file whose body is being copied.
pub(in crate::initrd) struct OpenFile {
    pub(super) id: InodeId,
    pub(super) position: u64,
    pub(super) mtime: i64,
}

impl Reader {
    /// Appends `bytes` to the body of `file`.
    pub(in crate::initrd) fn write(&mut self, file: &mut OpenFile, bytes: &[u8]) -> Result<(), Error> {
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
            let at = self.spool.append(&rest[..len]).map_err(Error::temporary)?;
            self.cover(file, Extent { file_offset: file.position, data_offset: at, len: len as u64 });
            rest = &rest[len..];
        }
        Ok(())
    }

    fn punch(&mut self, file: &mut OpenFile, len: u64) {
        if let Node::Regular(content) = &mut self.tree.inode_mut(file.id).node {
            clear(content, file.position..file.position + len);
        }
        file.position += len;
    }

    fn cover(&mut self, file: &mut OpenFile, extent: Extent) {
        let Node::Regular(content) = &mut self.tree.inode_mut(file.id).node else { return };
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
    pub(in crate::initrd) fn close(&mut self, file: &OpenFile) {
        self.tree.inode_mut(file.id).mtime = file.mtime;
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
        let mut content = whole;
        clear(&mut content, 10..20);
        assert_eq!(content.extents, [extent(0, 1000, 10), extent(20, 1020, 20), extent(50, 2000, 50)]);
    }
}
