//! One compressed stream → bytes, exactly as far as the kernel's decompressor would read.

use std::io::{self, BufRead, Read};

use super::{Encoding, lz4, lzop};

/// Most memory an xz or lzma decoder may take: the format allows dictionaries of 4 GiB, the kernel allocates what it
/// can; no image found so far asks for more than 64 MiB.
const MEMORY_LIMIT: u64 = 300 << 20;

/// The bytes of the one stream (member, frame) at the start of `input`, which is left just behind that stream once
/// all of it was read.
///
/// # Errors
/// Where a decoder cannot be made.
pub fn decoder<'a, R: BufRead + 'a>(encoding: Encoding, mut input: R) -> io::Result<Box<dyn Read + 'a>> {
    use xz2::stream::Stream;
    Ok(match encoding {
        Encoding::Plain => Box::new(input),
        Encoding::Gzip => {
            // FHCRC, FEXTRA, FCOMMENT of RFC 1952: lib/decompress_inflate.c steps over a name and nothing else, and
            // takes what is there for compressed data.
            if let Some(flags) = input.fill_buf()?.get(3).filter(|&flags| flags & 0b1_0110 != 0) {
                let name = match flags & 0b1_0110 {
                    0b1_0000 => "a comment",
                    0b0_0100 => "an extra field",
                    0b0_0010 => "a checksum",
                    _ => "several fields",
                };
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!(
                        "gzip with {name} in its header, which Linux cannot unpack: gzip itself writes none"
                    ),
                ));
            }
            Box::new(flate2::bufread::GzDecoder::new(input))
        }
        Encoding::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(input)),
        Encoding::Lzma => {
            let stream = Stream::new_lzma_decoder(MEMORY_LIMIT)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(input, stream))
        }
        Encoding::Xz => {
            // Byte 7 of the stream names the check: lib/xz/xz_dec_stream.c takes none and CRC32, nothing else.
            if let Some(check @ 2..) = input.fill_buf()?.get(7) {
                let name = match check {
                    4 => "CRC64",
                    10 => "SHA-256",
                    _ => "an unknown check",
                };
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("xz with {name}, which Linux cannot unpack: pack it with --check=crc32"),
                ));
            }
            let stream = Stream::new_stream_decoder(MEMORY_LIMIT, 0)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(input, stream))
        }
        Encoding::Lzo => Box::new(lzop::Decoder::new(input)),
        Encoding::Lz4 => Box::new(lz4::Decoder::new(input)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
            // ZSTD_WINDOWLOG_MAX of the kernel's decompress_unzstd.c is 27 (128 MiB).
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    })
}

/// Memory that the kernel's decompressor takes for its dictionary or window, in bytes, from the stream's header.
#[must_use]
pub fn dictionary(encoding: Encoding, start: &[u8]) -> u64 {
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
