//! Metadata blocks: what inodes, directories and tables are read from.

use std::collections::HashMap;
use std::sync::Arc;

use super::decode::decode;
use crate::bytes::ReadAt;
use crate::codec::Compression;
use crate::error::Error;
use crate::squashfs::{MAX_MEMORY, METADATA_SIZE};

/// The bit of a metadata block's length that says that it is stored as it is.
const STORED: u16 = 1 << 15;

/// Reads metadata blocks, each once.
pub(super) struct Metadata<'a> {
    source: &'a dyn ReadAt,
    compression: Compression,
    /// `bytes_used` of the superblock: nothing lies behind it.
    end: u64,
    blocks: HashMap<u64, Block>,
    unpacked: usize,
}

/// A metadata block and where the next one starts.
#[derive(Clone)]
struct Block {
    bytes: Arc<[u8]>,
    next: u64,
}

/// A place in the stream that consecutive metadata blocks make.
pub(super) struct Cursor<'m, 'a> {
    metadata: &'m mut Metadata<'a>,
    /// Where the current block starts in the image.
    at: u64,
    block: Block,
    /// How much of it is read.
    done: usize,
    /// What is being read, for errors.
    what: &'static str,
}

impl<'a> Metadata<'a> {
    pub(super) fn new(source: &'a dyn ReadAt, compression: Compression, end: u64) -> Self {
        Self { source, compression, end, blocks: HashMap::new(), unpacked: 0 }
    }

    /// Goes to byte `offset` of the unpacked block that starts at byte `at` of the image.
    pub(super) fn cursor(
        &mut self,
        at: u64,
        offset: usize,
        what: &'static str,
    ) -> Result<Cursor<'_, 'a>, Error> {
        let block = self.block(at, what)?;
        if offset > block.bytes.len() {
            return Err(Error::input(format!(
                "{what}: starts at byte {offset} of a metadata block of {} bytes",
                block.bytes.len()
            ))
            .at(at));
        }
        Ok(Cursor { metadata: self, at, block, done: offset, what })
    }

    fn block(&mut self, at: u64, what: &'static str) -> Result<Block, Error> {
        if let Some(block) = self.blocks.get(&at) {
            return Ok(block.clone());
        }
        let damaged = |why: String| Error::input(format!("{what}: {why}")).at(at);
        let read = |offset: u64, buf: &mut [u8]| {
            if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.end) {
                return Err(damaged(format!(
                    "a metadata block ends behind the image, which has {} bytes",
                    self.end
                )));
            }
            self.source
                .read_exact_at(buf, offset)
                .map_err(|e| damaged("cannot be read".to_owned()).caused_by(e))
        };
        let mut header = [0; 2];
        read(at, &mut header)?;
        let header = u16::from_le_bytes(header);
        let size = usize::from(header & !STORED);
        if size == 0 || size > METADATA_SIZE {
            return Err(damaged(format!(
                "a metadata block of {size} bytes, where 1 to {METADATA_SIZE} can be"
            )));
        }
        let mut bytes = vec![0; size];
        read(at + 2, &mut bytes)?;
        if header & STORED == 0 {
            bytes = decode(self.compression, &bytes, METADATA_SIZE).map_err(|why| {
                damaged(format!("a metadata block cannot be unpacked ({}): {why}", self.compression))
            })?;
        }
        if bytes.is_empty() {
            return Err(damaged("an empty metadata block".into()));
        }
        self.unpacked += bytes.len();
        if self.unpacked > MAX_MEMORY {
            return Err(damaged(format!("more than {} MiB of metadata", MAX_MEMORY >> 20)));
        }
        let block = Block { bytes: bytes.into(), next: at + 2 + size as u64 };
        self.blocks.insert(at, block.clone());
        Ok(block)
    }
}

impl Cursor<'_, '_> {
    /// An error that says where the cursor stands.
    pub(super) fn damaged(&self, why: impl std::fmt::Display) -> Error {
        Error::input(format!(
            "{}: {why} (byte {} of the metadata block that starts here)",
            self.what, self.done
        ))
        .at(self.at)
    }

    /// Fills `buf`, going from block to block.
    pub(super) fn read(&mut self, mut buf: &mut [u8]) -> Result<(), Error> {
        while !buf.is_empty() {
            if self.done == self.block.bytes.len() {
                self.at = self.block.next;
                self.block = self.metadata.block(self.at, self.what)?;
                self.done = 0;
            }
            let count = buf.len().min(self.block.bytes.len() - self.done);
            let (now, rest) = buf.split_at_mut(count);
            now.copy_from_slice(&self.block.bytes[self.done..self.done + count]);
            self.done += count;
            buf = rest;
        }
        Ok(())
    }

    /// The next `len` bytes; the caller has seen to it that they are not too many.
    pub(super) fn bytes(&mut self, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }
}
