//! Packing a segment so that the kernel can unpack it, with a window that does not raise the peak of RAM.

use std::io::{self, Write};

use xz2::stream::{Check, Filters, Stream};

use super::{Encoding, lz4, lzop, xz_options};
use crate::elf::Arch;
use crate::error::Error;

/// The dictionary for so many bytes of input. The kernel's decompressor allocates all of it while input and output are in
/// memory too: 64 MiB raise the minimum RAM of a real image by 32 MiB; 1 MiB costs a few per cent in size. For the built-in
/// boot initramfs, 1.7 MB of input, 128 KiB instead of 1 MiB cost 7 KB.
const fn dictionary(input: usize) -> u32 {
    if input <= SMALL { 128 << 10 } else { 1 << 20 }
}

/// The built-in boot initramfs is smaller, one that dracut made is not.
const SMALL: usize = 4 << 20;

/// Packs `input` as one stream: xz with CRC32, the only check of the kernel's lib/xz.
///
/// # Errors
/// When the compressor fails (no memory).
pub fn compress(input: &[u8], encoding: Encoding) -> Result<Vec<u8>, Error> {
    packed(input, encoding)
        .map_err(|e| Error::input(format!("a segment cannot be compressed with {encoding}")).caused_by(e))
}

/// Packs a boot initramfs like [`compress`], but as small as its encoding can if it is little or that is worth the time
/// (`thorough`): every byte of it is in memory twice while Linux unpacks it. `arch` is the machine whose branch filter the
/// kernel's xz has, if it has one.
///
/// # Errors
/// When the compressor fails (no memory).
pub fn compress_boot(
    input: &[u8],
    encoding: Encoding,
    arch: Option<Arch>,
    thorough: bool,
) -> Result<Vec<u8>, Error> {
    if encoding != Encoding::Xz {
        return compress(input, encoding);
    }
    let thorough = thorough || input.len() <= SMALL;
    let xz = || {
        let mut filters = Filters::new();
        branch_filter(&mut filters, arch).lzma2(&xz_options(dictionary(input.len()), thorough)?);
        stream(input, Stream::new_stream_encoder(&filters, Check::Crc32)?)
    };
    xz().map_err(|e| Error::input("the boot initramfs cannot be compressed with xz").caused_by(e))
}

/// Adds xz's filter for the machine code of `arch`, if there is one.
pub(crate) fn branch_filter(filters: &mut Filters, arch: Option<Arch>) -> &mut Filters {
    match arch {
        Some(Arch::X86) => filters.x86(),
        Some(Arch::Arm) => filters.arm(),
        Some(Arch::ArmThumb) => filters.arm_thumb(),
        Some(Arch::Arm64) => filters.arm64(),
        Some(Arch::PowerPc) => filters.powerpc(),
        Some(Arch::Sparc) => filters.sparc(),
        Some(Arch::Ia64) => filters.ia64(),
        Some(Arch::RiscV) => filters.riscv(),
        Some(Arch::Other) | None => filters,
    }
}

fn packed(input: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    let options = xz_options(dictionary(input.len()), false)?;
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
            encoder.window_log(dictionary(input.len()).ilog2())?;
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
