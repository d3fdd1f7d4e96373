//! Decompression of packages, modules and kernels: streams in, streams out, with a bound on the decoder's memory.

use std::io::{self, BufRead, Read};

use xz2::stream::{CONCATENATED, Stream};

/// More than `xz -9` and `rpm`'s default ask for (65 MiB).
const XZ_MEMORY: u64 = 256 << 20;

/// What the first bytes of `source` say it is, unpacked; a source of no known compression comes back as it is.
///
/// # Errors
/// When the source cannot be read or the decoder cannot be made.
pub(crate) fn decoder<'a>(mut source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let head = source.fill_buf()?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(source, stream))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(source)?),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        // LZMA_Alone: the properties byte of lc=3 lp=0 pb=2, then a dictionary size that is a multiple of 64 KiB.
        [0x5d, 0, 0, ..] => {
            let stream = Stream::new_lzma_decoder(XZ_MEMORY)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(source, stream))
        }
        _ => Box::new(source),
    })
}

/// All of `packed`, unpacked, or an error when that is more than `limit` bytes.
///
/// # Errors
/// Damaged data, or more than `limit` bytes.
pub(crate) fn unpack(packed: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    decoder(packed)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes when unpacked")));
    }
    Ok(bytes)
}

/// As much of `packed` as can be unpacked, at most `limit` bytes: for data that something else follows.
pub(crate) fn unpack_prefix(packed: &[u8], limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(reader) = decoder(packed) {
        // What was read before an error stays in `bytes`.
        let _ = reader.take(limit).read_to_end(&mut bytes);
    }
    bytes
}
