//! The lzop container as the kernel's lib/decompress_unlzo.c reads it, and how to write it.

use std::io::{self, BufRead, Read};

use crate::codec::lzo;

/// First bytes of a member.
pub(super) const MAGIC: [u8; 9] = [0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1a, b'\n'];
/// Most bytes of one block: `LZO_BLOCK_SIZE`.
const BLOCK: usize = 256 << 10;
/// Header flag: a filter word follows (`HEADER_HAS_FILTER`).
const HAS_FILTER: u32 = 0x800;
/// Header flag of lzop: Adler-32 of each unpacked block.
const ADLER32_UNPACKED: u32 = 1;

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Unpacks one lzop member.
pub(super) struct Decoder<R> {
    input: R,
    out: Vec<u8>,
    at: usize,
    flags: Option<u32>,
    ended: bool,
}

impl<R: BufRead> Decoder<R> {
    /// A decoder for the member at the start of `input`.
    pub(super) fn new(input: R) -> Self {
        Self { input, out: Vec::new(), at: 0, flags: None, ended: false }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// `parse_header` of the kernel.
    fn header(&mut self) -> io::Result<u32> {
        if self.array::<9>()? != MAGIC {
            return Err(bad("not an lzop header"));
        }
        let version = u16::from_be_bytes(self.array()?);
        let [_, _, _, _, _method] = self.array::<5>()?;
        if version >= 0x940 {
            self.array::<1>()?; // level
        }
        let flags = self.u32()?;
        if flags & HAS_FILTER != 0 {
            self.u32()?;
        }
        self.array::<8>()?; // mode, low half of mtime
        if version >= 0x940 {
            self.u32()?; // high half of mtime
        }
        let [name] = self.array::<1>()?;
        for _ in 0..u32::from(name) + 4 {
            self.array::<1>()?; // name, checksum of the header
        }
        Ok(flags)
    }

    fn block(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let flags = match self.flags {
            Some(flags) => flags,
            None => {
                let flags = self.header()?;
                *self.flags.insert(flags)
            }
        };
        let unpacked = self.u32()? as usize;
        if unpacked == 0 {
            self.ended = true;
            return Ok(false);
        }
        if unpacked > BLOCK {
            return Err(bad(format!("an lzo block of {unpacked} bytes; the limit of Linux is 256 KiB")));
        }
        let packed = self.u32()? as usize;
        // The kernel skips one checksum word whatever the flags say.
        let checksum = self.u32()?;
        if packed == 0 || packed > unpacked {
            return Err(bad(format!("an lzo block of {packed} bytes that unpacks to {unpacked}")));
        }
        let mut data = vec![0; packed];
        self.input.read_exact(&mut data)?;
        if packed < unpacked {
            // Not the crate's own decoder, which panics on damaged input.
            data = lzo::decode(&data, unpacked).ok_or_else(|| bad("a damaged lzo block"))?;
        }
        if data.len() != unpacked {
            return Err(bad(format!("an lzo block of {} bytes; its header says {unpacked}", data.len())));
        }
        if flags & ADLER32_UNPACKED != 0 && adler32(&data) != checksum {
            return Err(bad("an lzo block with a wrong checksum"));
        }
        self.out = data;
        self.at = 0;
        Ok(true)
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() {
            if !self.block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.out.len() - self.at);
        buffer[..count].copy_from_slice(&self.out[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Adler-32 (RFC 1950).
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    // 5552 is the most bytes after which the sums still fit.
    for chunk in bytes.chunks(5552) {
        for &byte in chunk {
            a += u32::from(byte);
            b += a;
        }
        a %= 65521;
        b %= 65521;
    }
    b << 16 | a
}

/// Packs `input` as one member, as `lzop` does: version 1.03, Adler-32 of the unpacked blocks.
///
/// # Errors
/// When the compressor fails.
pub(super) fn compress(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    header.extend_from_slice(&0x1030_u16.to_be_bytes()); // version
    header.extend_from_slice(&0x2080_u16.to_be_bytes()); // version of the library
    header.extend_from_slice(&0x0940_u16.to_be_bytes()); // version needed to unpack
    header.extend_from_slice(&[1, 5]); // method LZO1X-1, level
    header.extend_from_slice(&ADLER32_UNPACKED.to_be_bytes());
    header.extend_from_slice(&0o100_644_u32.to_be_bytes());
    header.extend_from_slice(&[0; 8]); // mtime
    header.push(0); // no name
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&header);
    out.extend_from_slice(&adler32(&header).to_be_bytes());
    for block in input.chunks(BLOCK) {
        let packed = lzokay_native::compress(block).map_err(|e| bad(format!("lzo: {e:?}")))?;
        let packed = if packed.len() < block.len() { &packed[..] } else { block };
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&adler32(block).to_be_bytes());
        out.extend_from_slice(packed);
    }
    out.extend_from_slice(&0_u32.to_be_bytes());
    Ok(out)
}
