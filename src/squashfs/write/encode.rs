//! One block packed, in each of the five ways.

use std::io;

use flate2::{Compress, FlushCompress};
use xz2::stream::{Action, Check, Filters, Status, Stream};

use super::calls;
use crate::codec::{Compression, branch_filter, xz_options};
use crate::elf::Arch;

/// The level of zstd: its slowest. mksquashfs takes 15, and goes as far as 22.
pub(super) const ZSTD_LEVEL: i32 = 22;
/// The level of zlib: its best, which is mksquashfs's default too.
const ZLIB_LEVEL: u32 = 9;

/// Packs blocks; one for each thread.
pub(in crate::squashfs) struct Encoder {
    compression: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    lzo: Option<Box<lzokay_native::Dict>>,
}

/// How one block is packed.
pub(in crate::squashfs) struct Settings {
    /// xz's dictionary: at most the size of a block.
    pub(in crate::squashfs) dictionary: u32,
    /// The machine whose code the block may hold, if its branch filter may be used.
    pub(in crate::squashfs) arch: Option<Arch>,
    /// Whether the block is worth more time than the rest.
    pub(in crate::squashfs) thorough: bool,
}

impl Settings {
    /// A block like most.
    pub(in crate::squashfs) const fn new(dictionary: u32, arch: Option<Arch>) -> Self {
        Self { dictionary, arch, thorough: false }
    }
}

impl Encoder {
    pub(in crate::squashfs) fn new(compression: Compression) -> io::Result<Self> {
        Ok(Self {
            compression,
            zstd: match compression {
                Compression::Zstd => Some(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
                _ => None,
            },
            lzo: (compression == Compression::Lzo).then(|| Box::new(lzokay_native::Dict::new())),
        })
    }

    /// `block` packed, or `None` if that is no smaller.
    pub(in crate::squashfs) fn encode(
        &mut self,
        block: &[u8],
        settings: &Settings,
    ) -> io::Result<Option<Vec<u8>>> {
        let packed = match self.compression {
            Compression::Xz => xz(block, settings)?,
            Compression::Gzip => zlib(block)?,
            Compression::Lz4 => Some(lz4_flex::block::compress(block)),
            Compression::Zstd => match &mut self.zstd {
                Some(zstd) => Some(zstd.compress(block)?),
                None => None,
            },
            Compression::Lzo => match &mut self.lzo {
                Some(dict) => Some(lzokay_native::compress_with_dict(block, dict).map_err(io::Error::other)?),
                None => None,
            },
        };
        Ok(packed.filter(|packed| packed.len() < block.len()))
    }
}

/// An .xz stream with a CRC32, the only check apart from none that the kernel's decoder has (`lib/xz/xz_dec_stream.c`).
fn xz(block: &[u8], settings: &Settings) -> io::Result<Option<Vec<u8>>> {
    let mut options = xz_options(settings.dictionary, settings.thorough)?;
    let arch = settings.arch.filter(|&arch| calls::repeat(arch, block));
    if arch.is_none() && !is_aligned(block) {
        // A literal is foretold by all of the byte before it, and nothing by its place.
        options.literal_context_bits(4).position_bits(0);
    }
    let mut filters = Filters::new();
    branch_filter(&mut filters, arch).lzma2(&options);
    let mut stream = Stream::new_stream_encoder(&filters, Check::Crc32)?;
    // What does not fit is no smaller than the block.
    let mut packed = Vec::with_capacity(block.len());
    Ok(match stream.process_vec(block, &mut packed, Action::Finish)? {
        Status::StreamEnd => Some(packed),
        _ => None,
    })
}

/// Chi-squared for each byte of a block above which [`is_aligned`] takes it for aligned: 0.005 bits of what a byte is then
/// follow from its place. Of 61 blocks of a real image without machine code it names the better way for all but 7, which lose 0.2%.
const ALIGNED: f64 = 0.007;

/// Whether the bytes of `block` depend on their place in words of 4 bytes, as they do in tables and code and do not in
/// text: by Pearson's chi-squared test. Only operations that are exact to the last bit are used, so that every machine
/// decides the same.
fn is_aligned(block: &[u8]) -> bool {
    let mut counts = [[0_u32; 256]; 4];
    for word in block.chunks_exact(4) {
        for (count, &byte) in counts.iter_mut().zip(word) {
            count[usize::from(byte)] += 1;
        }
    }
    let mut sum = 0.0;
    for byte in 0..256 {
        let all: u32 = counts.iter().map(|count| count[byte]).sum();
        let expected = f64::from(all) / 4.0;
        for count in counts.iter().filter(|_| all > 0) {
            let off = f64::from(count[byte]) - expected;
            sum += off * off / expected;
        }
    }
    sum > ALIGNED * block.len() as f64
}

/// A zlib stream with a window of 32 KiB.
fn zlib(block: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut zlib = Compress::new(flate2::Compression::new(ZLIB_LEVEL), true);
    let mut packed = Vec::with_capacity(block.len());
    Ok(match zlib.compress_vec(block, &mut packed, FlushCompress::Finish)? {
        flate2::Status::StreamEnd => Some(packed),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_text_is_not() {
        let table: Vec<u8> = (0..200_000_u32).flat_map(|n| (n * 7).to_le_bytes()).collect();
        assert!(is_aligned(&table));
        let text: Vec<u8> =
            (0..200_000_u32).flat_map(|n| format!("{} ", n.wrapping_mul(n) % 9973).into_bytes()).collect();
        assert!(!is_aligned(&text));
        assert!(!is_aligned(b"") && !is_aligned(&[0; 4096]));
        let mut encoder = Encoder::new(Compression::Xz).unwrap();
        for block in [table, text] {
            let packed = encoder.encode(&block[..500_000], &Settings::new(1 << 20, None)).unwrap().unwrap();
            let mut unpacked = Vec::new();
            io::Read::read_to_end(&mut xz2::read::XzDecoder::new(packed.as_slice()), &mut unpacked).unwrap();
            assert!(unpacked == block[..500_000]);
        }
    }
}
