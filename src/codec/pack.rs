//! Packing a segment so that the kernel can unpack it, with a window that does not raise the peak of RAM.

use std::io::{self, Write};

use xz2::stream::{Check, Filters, Stream};

use super::{Encoding, lz4, lzop, xz_options};
use crate::error::Error;

/// The kernel's decompressor allocates the whole dictionary while input and output are in memory too: 64 MiB raise the
/// minimum RAM of a real image by 32 MiB; 1 MiB costs a few per cent in size.
const DICTIONARY: u32 = 1 << 20;

/// Packs `input` as one stream: xz with CRC32, the only check of the kernel's lib/xz.
///
/// # Errors
/// When the compressor fails (no memory).
pub fn compress(input: &[u8], encoding: Encoding) -> Result<Vec<u8>, Error> {
    packed(input, encoding)
        .map_err(|e| Error::input(format!("a segment cannot be compressed with {encoding}")).caused_by(e))
}

fn packed(input: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    // Like the blocks of the squashfs: with such a small dictionary the highest preset is slower and not smaller.
    let options = xz_options(DICTIONARY)?;
    Ok(match encoding {
        Encoding::Plain => input.to_vec(),
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(input)?;
            encoder.finish()?
        }
        Encoding::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            encoder.write_all(input)?;
            encoder.finish()?
        }
        Encoding::Lzma => stream(input, Stream::new_lzma_encoder(&options)?)?,
        Encoding::Xz => {
            let mut filters = Filters::new();
            filters.lzma2(&options);
            stream(input, Stream::new_stream_encoder(&filters, Check::Crc32)?)?
        }
        Encoding::Lzo => lzop::compress(input)?,
        Encoding::Lz4 => lz4::compress(input),
        Encoding::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19)?;
            encoder.window_log(DICTIONARY.ilog2())?;
            encoder.write_all(input)?;
            encoder.finish()?
        }
    })
}

fn stream(input: &[u8], stream: Stream) -> io::Result<Vec<u8>> {
    let mut encoder = xz2::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(input)?;
    encoder.finish()
}
