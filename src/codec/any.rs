//! Decompression of packages, modules and kernels: streams in, streams out, with a bound on the decoder's memory.

use std::io::{self, BufRead, Read};

use xz2::stream::{CONCATENATED, Stream};

use super::{Encoding, lz4, lzop};

/// More than `xz -9` and rpm's default need (65 MiB).
const XZ_MEMORY: u64 = 256 << 20;

/// Unpacks `source` by its signature; a source that has none of a known compression is returned as it is.
///
/// # Errors
/// When the source cannot be read or the decoder cannot be made.
pub(crate) fn decoder<'a>(mut source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match Encoding::by_signature(source.fill_buf()?) {
        Some(Encoding::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Some(Encoding::Xz) => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(source, stream))
        }
        Some(Encoding::Zstd) => Box::new(zstd::Decoder::with_buffer(source)?),
        Some(Encoding::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Some(Encoding::Lzma) => {
            let stream = Stream::new_lzma_decoder(XZ_MEMORY)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(source, stream))
        }
        Some(Encoding::Lz4) => Box::new(lz4::Decoder::new(source)),
        Some(Encoding::Lzo) => Box::new(lzop::Decoder::new(source)),
        Some(Encoding::Plain) | None => Box::new(source),
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

/// As much of `packed` as can be unpacked, at most `limit` bytes: for compressed data with something else after it.
pub(crate) fn unpack_prefix(packed: &[u8], limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(reader) = decoder(packed) {
        // What was read before an error stays in `bytes`.
        let _ = reader.take(limit).read_to_end(&mut bytes);
    }
    bytes
}
