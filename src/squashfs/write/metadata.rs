//! Metadata blocks: what inodes, directories and tables are written to.

use std::io;

use super::encode::{Encoder, Settings};
use crate::squashfs::METADATA_SIZE;

/// The bit of a metadata block's length that says that it is stored as it is.
const STORED: u16 = 1 << 15;

/// A stream of metadata blocks.
pub(super) struct Table {
    encoder: Encoder,
    /// The finished blocks.
    packed: Vec<u8>,
    /// Where each of them starts in `packed`.
    starts: Vec<u64>,
    /// The block that is being filled.
    block: Vec<u8>,
}

impl Table {
    pub(super) fn new(encoder: Encoder) -> Self {
        Self { encoder, packed: Vec::new(), starts: Vec::new(), block: Vec::new() }
    }

    /// Where the next byte goes: the start of its block in the table, and the offset in the unpacked block.
    pub(super) fn position(&self) -> (u64, u16) {
        (self.packed.len() as u64, self.block.len() as u16)
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(METADATA_SIZE - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == METADATA_SIZE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.starts.push(self.packed.len() as u64);
        let packed = self.encoder.encode(&self.block, &Settings::new(METADATA_SIZE as u32, None))?;
        let (bytes, flag) = packed.as_ref().map_or((&self.block, STORED), |packed| (packed, 0));
        self.packed.extend_from_slice(&(bytes.len() as u16 | flag).to_le_bytes());
        self.packed.extend_from_slice(bytes);
        self.block.clear();
        Ok(())
    }

    /// The table's bytes.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.flush()?;
        Ok(self.packed)
    }

    /// The table's bytes with the index of its blocks behind them, when it lies at byte `at` of the image; and where
    /// the index starts.
    pub(super) fn finish_indexed(mut self, at: u64) -> io::Result<(Vec<u8>, u64)> {
        self.flush()?;
        let index = at + self.packed.len() as u64;
        for start in &self.starts {
            self.packed.extend_from_slice(&(at + start).to_le_bytes());
        }
        Ok((self.packed, index))
    }
}
