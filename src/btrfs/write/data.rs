//! The data zone: where each content lies.

use std::ops::Range;

use super::image::DataExtent;
use super::namespace::{FileData, MAX_INLINE, Namespace};
use super::space::{Cursor, MIB, SYSTEM};
use crate::btrfs::Options;
use crate::btrfs::disk::MAX_EXTENT;
use crate::bytes::Hint;
use crate::error::Error;
use crate::store::{Blob, File, Stored};
use crate::tree::Content;

/// Data that is stored: contents without their repetitions, in extents.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) contents: Vec<Content>,
    /// Slots that have the content, by content.
    pub(super) users: Vec<Vec<u32>>,
    pub(super) extents: Vec<DataExtent>,
    pub(super) inline: Vec<Content>,
    /// By file number.
    pub(super) files: Vec<FileData>,
    /// (offset, end, hint), ascending.
    pub(super) spans: Vec<(u64, u64, Hint)>,
    /// Bytes in extents.
    pub(super) stored: u64,
    /// The first address after the data.
    pub(super) end: u64,
}

impl Data {
    /// Where the data zone starts.
    pub(super) fn start(options: &Options) -> u64 {
        SYSTEM.end.next_multiple_of(u64::from(options.block_size).max(MIB))
    }

    /// Decides where each content lies. The second result holds the checksums of all extents, in their order.
    pub(super) fn place(
        space: &Namespace,
        files: &[File<'_>],
        stored: &mut Stored,
        options: &Options,
    ) -> Result<(Self, Vec<u32>), Error> {
        let mut data = Self::default();
        let mut cursor = Cursor::new(Self::start(options));
        let mut csums = Vec::with_capacity(stored.blobs.iter().map(|blob| blob.csums.len()).sum());
        let mut ranges: Vec<Range<usize>> = vec![0..0; stored.blobs.len()];
        let mut last = None;
        for (number, blob) in stored.blobs.iter_mut().enumerate().filter(|(_, blob)| !blob.pieces.is_empty())
        {
            // A block of the squashfs is compressed in one way.
            if last != Some(blob.hint) {
                cursor.align(options.block_size.into());
            }
            last = Some(blob.hint);
            ranges[number] = data.extents(&mut cursor, blob)?;
            data.contents.push(files[blob.file].content.clone());
            csums.append(&mut blob.csums);
        }
        data.end = cursor.at;
        data.name_users(space, files, stored, &ranges);
        Ok((data, csums))
    }

    /// Puts the next content into extents; says which they are.
    fn extents(&mut self, cursor: &mut Cursor, blob: &Blob) -> Result<Range<usize>, Error> {
        let first = self.extents.len();
        let content = self.contents.len() as u32;
        for piece in &blob.pieces {
            let mut done = 0;
            while done < piece.len {
                let (address, len) = cursor.take((piece.len - done).min(MAX_EXTENT));
                self.extents.push(DataExtent { address, len, content, file_offset: piece.offset + done });
                self.span(address, address + len, blob.hint);
                self.stored += len;
                done += len;
            }
            if cursor.at > 1 << 60 {
                return Err(Error::input("the files together are larger than a btrfs device can be"));
            }
        }
        Ok(first..self.extents.len())
    }

    /// Notes for each file where its bytes are, and for each content which slots have it.
    fn name_users(
        &mut self,
        space: &Namespace,
        files: &[File<'_>],
        stored: &Stored,
        ranges: &[Range<usize>],
    ) {
        for (file, blob) in files.iter().zip(&stored.of) {
            self.files.push(match blob {
                Some(blob) => FileData::Extents(ranges[*blob].clone()),
                None => {
                    debug_assert!(file.content.size <= MAX_INLINE);
                    self.inline.push(file.content.clone());
                    FileData::Inline(self.inline.len() as u32 - 1, file.content.size)
                }
            });
        }
        self.users = vec![Vec::new(); self.contents.len()];
        for (number, slot) in space.slots.iter().enumerate() {
            let blob = slot.file.and_then(|file| stored.of[file as usize]);
            let extent = blob.and_then(|blob| self.extents[ranges[blob].clone()].first());
            if let Some(extent) = extent {
                self.users[extent.content as usize].push(number as u32);
            }
        }
    }

    fn span(&mut self, from: u64, to: u64, hint: Hint) {
        match self.spans.last_mut() {
            Some((_, end, last)) if *end == from && *last == hint => *end = to,
            _ => self.spans.push((from, to, hint)),
        }
    }
}
