//! The legacy lz4 frame (`lz4 -l`), the only one that the kernel's lib/decompress_unlz4.c reads, and how to write it.

use std::io::{self, BufRead, Read};

/// First four bytes of a frame, little endian.
pub(crate) const MAGIC: u32 = 0x184c_2102;
/// Most bytes that one chunk unpacks to: `LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE`.
pub(crate) const CHUNK: usize = 8 << 20;

/// Unpacks frames in a row, as the kernel does, up to the end of input or a chunk of size zero.
pub(super) struct Decoder<R> {
    input: R,
    packed: Vec<u8>,
    out: Vec<u8>,
    at: usize,
    started: bool,
}

impl<R: BufRead> Decoder<R> {
    /// A decoder for the frame at the start of `input`.
    pub(super) fn new(input: R) -> Self {
        Self { input, packed: Vec::new(), out: Vec::new(), at: 0, started: false }
    }

    /// Unpacks the next chunk into `out`; `false` at the end.
    fn chunk(&mut self) -> io::Result<bool> {
        loop {
            // Zero padding after a frame does not belong to it.
            let ahead = self.input.fill_buf()?;
            if ahead.is_empty() || (self.started && ahead.len() >= 4 && ahead.starts_with(&[0; 4])) {
                return Ok(false);
            }
            self.packed.clear();
            (&mut self.input).take(4).read_to_end(&mut self.packed)?;
            if self.packed.iter().all(|&byte| byte == 0) {
                return Ok(false);
            }
            let word =
                self.packed[..].try_into().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let size = u32::from_le_bytes(word);
            if size == MAGIC {
                self.started = true;
                continue;
            }
            let size = size as usize;
            if !self.started || size > lz4_flex::block::get_maximum_output_size(CHUNK) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("an lz4 chunk of {size} bytes; the limit of Linux is 8 MiB"),
                ));
            }
            self.packed.clear();
            if (&mut self.input).take(size as u64).read_to_end(&mut self.packed)? < size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.out.resize(CHUNK, 0);
            let len = lz4_flex::block::decompress_into(&self.packed, &mut self.out)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.out.truncate(len);
            self.at = 0;
            return Ok(true);
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() {
            if !self.chunk()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.out.len() - self.at);
        buffer[..count].copy_from_slice(&self.out[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Packs `input` as one frame.
#[must_use]
pub(super) fn compress(input: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    for chunk in input.chunks(CHUNK) {
        let packed = lz4_flex::block::compress(chunk);
        // A chunk of 8 MiB never packs to 4 GiB.
        out.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        out.extend_from_slice(&packed);
    }
    out
}
