//! The planned image: any range of it, made when it is asked for.

use std::io;

use super::pack::{Packed, Stamp};
use crate::btrfs::Features;
use crate::btrfs::disk::{INLINE_HEADER_SIZE, Put, SUPER_MIRRORS, SUPER_SIZE};
use crate::bytes::ReadAt;
use crate::bytes::Region;
use crate::tree::{Content, Tree};

/// An extent of file data.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataExtent {
    /// Logical address, which is the offset in the image too.
    pub address: u64,
    /// Length in bytes, whole sectors.
    pub len: u64,
    /// Number of the content in [`Image::contents`].
    pub content: u32,
    /// Where in the content the extent starts.
    pub file_offset: u64,
}

/// A tree and the addresses of its blocks, ascending by block number.
#[derive(Debug)]
pub(super) struct PlacedTree {
    /// The tree.
    pub tree: Packed,
    /// Address of each block.
    pub addresses: Vec<u64>,
}

/// Figures about an image, for the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes of data extents.
    pub data: u64,
    /// Bytes of tree blocks.
    pub metadata: u64,
    /// Bytes of data that are not stored because another file has the same content.
    pub shared: u64,
    /// Inodes.
    pub inodes: u64,
}

/// A btrfs file system that is laid out; its bytes are made when they are read.
///
/// Logical addresses are offsets in the image: every chunk is a single stripe that lies where its address says.
pub struct Image {
    pub(super) len: u64,
    pub(super) features: Features,
    pub(super) fsid: [u8; 16],
    pub(super) stamp: Stamp,
    /// The superblock as it lies at [`crate::btrfs::disk::SUPER_OFFSET`]; the others differ in address and checksum.
    pub(super) superblock: Vec<u8>,
    /// Holds the data only.
    pub(super) source: Tree,
    /// Contents that are stored in extents.
    pub(super) contents: Vec<Content>,
    /// Contents that are stored in items.
    pub(super) inline: Vec<Content>,
    /// Sorted by address.
    pub(super) extents: Vec<DataExtent>,
    /// Sorted by address.
    pub(super) trees: Vec<PlacedTree>,
    pub(super) regions: Vec<Region>,
    pub(super) facts: Facts,
    pub(super) notes: Vec<String>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("len", &self.len)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// What each part of the image holds: sorted, without gaps, from 0 to the end.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// File system UUID, derived from the content.
    #[must_use]
    pub const fn uuid(&self) -> [u8; 16] {
        self.fsid
    }

    /// Figures about the image.
    #[must_use]
    pub const fn facts(&self) -> Facts {
        self.facts
    }

    /// What could not be kept as it was, a sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn super_copy(&self, address: u64) -> Vec<u8> {
        let mut block = self.superblock.clone();
        block[48..56].copy_from_slice(&address.to_le_bytes());
        let csum = crc32c::crc32c(&block[32..]);
        block[..4].copy_from_slice(&csum.to_le_bytes());
        block
    }

    fn fill_inline(&self, number: u32, body: &mut [u8]) -> io::Result<()> {
        let content = &self.inline[number as usize];
        let mut head = Vec::with_capacity(INLINE_HEADER_SIZE);
        inline_header(&mut head, self.stamp.generation, content.size);
        let (start, bytes) = body.split_at_mut(head.len());
        start.copy_from_slice(&head);
        self.source.read_at(content, bytes, 0)
    }

    fn tree_block(&self, tree: &PlacedTree, number: usize) -> io::Result<Vec<u8>> {
        let mut block = vec![0; self.features.node_size as usize];
        let inline = |file, body: &mut [u8]| self.fill_inline(file, body);
        tree.tree.write(number, &tree.addresses, &self.stamp, &mut block, &inline)?;
        Ok(block)
    }
}

/// Appends the header of an inline extent (`btrfs_file_extent_item` up to `disk_bytenr`).
pub(super) fn inline_header(to: &mut Vec<u8>, generation: u64, size: u64) {
    to.u64(generation).u64(size).u8(0).u8(0).u16(0).u8(crate::btrfs::disk::extent_type::INLINE);
}

/// Copies what of `block`, which lies at `at`, is in `buf`, which lies at `offset`.
fn overlay(buf: &mut [u8], offset: u64, block: &[u8], at: u64) {
    let from = at.max(offset);
    let to = (at + block.len() as u64).min(offset + buf.len() as u64);
    if from < to {
        let part = &block[(from - at) as usize..(to - at) as usize];
        buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
    }
}

impl ReadAt for Image {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.len);
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        buf.fill(0);
        for at in SUPER_MIRRORS {
            let fits = at + SUPER_SIZE as u64 <= self.len;
            if fits && at < end && at + SUPER_SIZE as u64 > offset {
                overlay(buf, offset, &self.super_copy(at), at);
            }
        }
        let first = self.extents.partition_point(|e| e.address + e.len <= offset);
        for extent in self.extents[first..].iter().take_while(|e| e.address < end) {
            let content = &self.contents[extent.content as usize];
            let from = extent.address.max(offset);
            let start = extent.file_offset + (from - extent.address);
            // The last sector of a file is padded with zeros.
            let stop = (extent.file_offset + extent.len.min(end - extent.address)).min(content.size);
            if start < stop {
                let at = (from - offset) as usize;
                self.source.read_at(content, &mut buf[at..at + (stop - start) as usize], start)?;
            }
        }
        let node_size = u64::from(self.features.node_size);
        for tree in &self.trees {
            let first = tree.addresses.partition_point(|&a| a + node_size <= offset);
            for number in first..tree.addresses.len() {
                if tree.addresses[number] >= end {
                    break;
                }
                overlay(buf, offset, &self.tree_block(tree, number)?, tree.addresses[number]);
            }
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}
