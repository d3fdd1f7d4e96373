//! Unpacking one compressed stream, exactly as far as the kernel's decompressor reads.

use std::io::{self, BufRead, Read};

use super::{Encoding, lz4, lzop};

/// The memory limit of the xz and lzma decoders: the formats allow dictionaries of 4 GiB; no image found so far has more
/// than 64 MiB.
const MEMORY_LIMIT: u64 = 300 << 20;
/// The largest dictionary that fits into that.
const DICTIONARY_LIMIT: u64 = 256 << 20;

/// A stream that Linux may unpack, but that takes more memory than is spent on one here.
#[derive(Debug, thiserror::Error)]
#[error("the compressed data needs a dictionary of {} MiB: the limit is {} MiB", .0 >> 20, DICTIONARY_LIMIT >> 20)]
pub(crate) struct LargeDictionary(u64);

fn check_dictionary(encoding: Encoding, start: &[u8]) -> io::Result<()> {
    match dictionary(encoding, start) {
        size if size > DICTIONARY_LIMIT => {
            Err(io::Error::new(io::ErrorKind::Unsupported, LargeDictionary(size)))
        }
        _ => Ok(()),
    }
}

/// The largest window that the kernel's lib/decompress_unzstd.c accepts: `ZSTD_WINDOWSIZE_MAX`.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A valid stream that Linux cannot unpack.
#[derive(Debug, thiserror::Error)]
#[error("{what}, which Linux cannot unpack")]
pub(crate) struct Refusal {
    /// What it uses.
    what: String,
    /// What Linux prints.
    pub(crate) linux: &'static str,
    /// How to pack it instead.
    pub(crate) remedy: &'static str,
}

impl Refusal {
    fn error(what: impl Into<String>, linux: &'static str, remedy: &'static str) -> io::Error {
        io::Error::new(io::ErrorKind::Unsupported, Self { what: what.into(), linux, remedy })
    }
}

/// What Linux prints when the stream is damaged, or if `truncated` ends too early (lib/decompress_*.c; `decompressor
/// failed` is what init/initramfs.c adds when the decompressor itself prints nothing).
pub(crate) const fn linux_words(encoding: Encoding, truncated: bool) -> &'static str {
    match (encoding, truncated) {
        (Encoding::Gzip, true) => "read error",
        (Encoding::Gzip, false) => "uncompression error",
        (Encoding::Xz, _) => "XZ-compressed data is corrupt",
        (Encoding::Lzma, true) => "unexpected EOF",
        (Encoding::Lz4, _) => "Decoding failed",
        (Encoding::Zstd, true) => "ZSTD-compressed data is truncated",
        (Encoding::Zstd, false) => "ZSTD-compressed data is corrupt",
        (Encoding::Plain | Encoding::Bzip2 | Encoding::Lzo | Encoding::Lzma, _) => "decompressor failed",
    }
}

/// FHCRC, FEXTRA and FCOMMENT of RFC 1952: lib/decompress_inflate.c skips a file name and nothing else, and takes the
/// other fields for compressed data.
fn check_gzip(start: &[u8]) -> io::Result<()> {
    let name = match start.get(3).map_or(0, |flags| flags & 0b1_0110) {
        0 => return Ok(()),
        0b1_0000 => "a comment",
        0b0_0100 => "an extra field",
        0b0_0010 => "a checksum",
        _ => "several fields",
    };
    let remedy = "pack it with gzip itself, which writes no such fields";
    Err(Refusal::error(format!("gzip with {name} in its header"), "uncompression error", remedy))
}

/// Byte 7 of an xz stream is its check: lib/xz/xz_dec_stream.c supports none and CRC32.
fn check_xz(start: &[u8]) -> io::Result<()> {
    let name = match start.get(7) {
        None | Some(0 | 1) => return Ok(()),
        Some(4) => "CRC64",
        Some(10) => "SHA-256",
        Some(_) => "an unknown check",
    };
    let linux = "Input was encoded with settings that are not supported by this XZ decoder";
    Err(Refusal::error(format!("xz with {name}"), linux, "pack it with xz --check=crc32"))
}

fn check_zstd(start: &[u8]) -> io::Result<()> {
    match zstd_window(start) {
        Some(window) if window > 1 << ZSTD_WINDOW_LOG => Err(Refusal::error(
            format!("zstd with a window of {} MiB; the limit is 128 MiB", window >> 20),
            "ZSTD-compressed data has too large a window size",
            "pack it with zstd -19, or with --long=27 at most",
        )),
        _ => Ok(()),
    }
}

/// Unpacks the one stream (member, frame) at the start of `input`, which is left right after that stream once all of
/// it was read.
///
/// # Errors
/// A [`Refusal`] for a stream that Linux cannot unpack; when a decoder cannot be made.
pub(crate) fn decoder<'a, R: BufRead + 'a>(
    encoding: Encoding,
    mut input: R,
) -> io::Result<Box<dyn Read + 'a>> {
    use xz2::stream::Stream;
    let start = input.fill_buf()?;
    Ok(match encoding {
        Encoding::Plain => Box::new(input),
        Encoding::Gzip => {
            check_gzip(start)?;
            Box::new(flate2::bufread::GzDecoder::new(input))
        }
        Encoding::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(input)),
        Encoding::Lzma => {
            check_dictionary(encoding, start)?;
            let stream = Stream::new_lzma_decoder(MEMORY_LIMIT)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(input, stream))
        }
        Encoding::Xz => {
            check_xz(start)?;
            check_dictionary(encoding, start)?;
            let stream = Stream::new_stream_decoder(MEMORY_LIMIT, 0)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(input, stream))
        }
        Encoding::Lzo => Box::new(lzop::Decoder::new(input)),
        Encoding::Lz4 => Box::new(lz4::Decoder::new(input)),
        Encoding::Zstd => {
            check_zstd(start)?;
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// The memory that the kernel's decompressor allocates for its dictionary or window, in bytes, from the stream's header.
#[must_use]
pub(crate) fn dictionary(encoding: Encoding, start: &[u8]) -> u64 {
    match encoding {
        Encoding::Plain => 0,
        Encoding::Gzip => 32 << 10,
        // BZ2 block size 100k…900k, 4 bytes each: lib/decompress_bunzip2.c, dbuf.
        Encoding::Bzip2 => match start.get(3) {
            Some(&level @ b'1'..=b'9') => u64::from(level - b'0') * 400_000,
            _ => 3_600_000,
        },
        Encoding::Lzma => {
            start.get(1..5).and_then(|b| b.try_into().ok()).map_or(0, |b| u64::from(u32::from_le_bytes(b)))
        }
        Encoding::Xz => xz_dictionary(start).unwrap_or(0),
        // 256 KiB blocks, one in and one out: lib/decompress_unlzo.c.
        Encoding::Lzo => 2 * (256 << 10),
        // 8 MiB chunks, one in and one out: lib/decompress_unlz4.c, LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE.
        Encoding::Lz4 => 2 * (8 << 20),
        Encoding::Zstd => zstd_window(start).unwrap_or(0),
    }
}

/// Dictionary of the first LZMA2 filter of an .xz stream's first block (xz file format 3.1 and 5.3.1).
fn xz_dictionary(start: &[u8]) -> Option<u64> {
    let block = start.get(12..)?;
    let flags = *block.get(1)?;
    let mut at = 2;
    let vli = |at: &mut usize| -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = *block.get(*at)?;
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    for bit in [0x40, 0x80] {
        if flags & bit != 0 {
            vli(&mut at)?;
        }
    }
    for _ in 0..=(flags & 3) {
        let id = vli(&mut at)?;
        let size = usize::try_from(vli(&mut at)?).ok()?;
        if id == 0x21 {
            let bits = u32::from(*block.get(at)? & 0x3f);
            return Some(match bits {
                40 => u64::from(u32::MAX),
                bits if bits > 40 => 0,
                bits => (2 | u64::from(bits & 1)) << (bits / 2 + 11),
            });
        }
        at = at.checked_add(size)?;
    }
    None
}

/// Window of a zstd frame (RFC 8878, 3.1.1.1).
fn zstd_window(start: &[u8]) -> Option<u64> {
    let descriptor = *start.get(4)?;
    if descriptor & 0x20 == 0 {
        let window = *start.get(5)?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: the window is the content.
    let id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let field = start.get(5 + id..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*field.first()?),
        1 => u64::from(u16::from_le_bytes(field.get(..2)?.try_into().ok()?)) + 256,
        2 => u64::from(u32::from_le_bytes(field.get(..4)?.try_into().ok()?)),
        _ => u64::from_le_bytes(field.get(..8)?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries() {
        for (preset, size) in [(0, 256 << 10), (6, 8 << 20), (9, 64 << 20)] {
            let mut out = Vec::new();
            xz2::read::XzEncoder::new(&b"hello"[..], preset).read_to_end(&mut out).unwrap();
            assert_eq!(dictionary(Encoding::Xz, &out), size);
        }
        let out = zstd::stream::encode_all(&vec![1_u8; 1 << 20][..], 3).unwrap();
        assert!(dictionary(Encoding::Zstd, &out) >= 1 << 20);
        assert_eq!(dictionary(Encoding::Xz, b"\xfd7zXZ"), 0);
    }
}
