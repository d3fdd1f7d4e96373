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
    let options = xz_options(settings.dictionary, settings.thorough)?;
    let arch = settings.arch.filter(|&arch| calls::repeat(arch, block));
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

/// A zlib stream with a window of 32 KiB.
fn zlib(block: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut zlib = Compress::new(flate2::Compression::new(ZLIB_LEVEL), true);
    let mut packed = Vec::with_capacity(block.len());
    Ok(match zlib.compress_vec(block, &mut packed, FlushCompress::Finish)? {
        flate2::Status::StreamEnd => Some(packed),
        _ => None,
    })
}
