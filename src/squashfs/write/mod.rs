//! The writer: one large file in its folders, laid out by backhand.
//!
//! backhand reads the file block by block and has each compressed in the same thread. What it reads here are
//! blocks that other threads have compressed already, and the compressor it was given only hands their result
//! over. Blocks of zeros it stores as holes (a size of 0 in the file's block list) by itself.

mod ahead;
mod calls;
mod encode;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::thread;

use backhand::compression::{
    CompressionAction, CompressionOptions, Compressor, DefaultCompressor, Lz4, Xz, Zstd,
};
use backhand::kind::Kind;
use backhand::v4::compressor::XzFilter;
use backhand::{
    BackhandError, FilesystemCompressor, FilesystemReader, FilesystemWriter, NodeHeader, SuperBlock,
};

use crate::bytes::ReadAt;
use crate::bytes::{Hint, Region};
use crate::codec::Compression;
use crate::cores::Cores;
use crate::elf::Arch;
use crate::error::Error;
use crate::squashfs::{MAX_BLOCK_SIZE, METADATA_SIZE, MIN_BLOCK_SIZE, Options};
use ahead::{Ahead, Blocks, Taker};
pub(super) use encode::Encoder;
use encode::ZSTD_LEVEL;

/// The largest file that backhand writes: 2 TiB.
const MAX_FILE: u64 = 2 << 40;

/// What [`write`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the image, with the padding to 4 KiB.
    pub size: u64,
    /// Bytes of the file in it.
    pub content: u64,
    /// Blocks of the file.
    pub blocks: u64,
    /// Those of them that are zeros only and take no space.
    pub holes: u64,
    /// Those that compression made no smaller: they are stored as they are.
    pub stored: u64,
}

/// Writes a squashfs image to `out` that holds `content` as the file `path` (0644, its folders 0755, all root's).
///
/// `regions` say what lies where in `content`, sorted: zeros are not read, machine code may be filtered.
/// `progress` is told how many bytes of `content` are done. `out` is written from its start. The bytes depend on
/// `content`, `regions` and `options`, never on `cores`, of which each that is free compresses.
///
/// Memory: per thread an encoder (xz: 12 times the block size) and 2 MiB of content with its result.
///
/// # Errors
/// When `options` are not those of the format, `content` cannot be read or `out` cannot be written.
pub fn write(
    content: &dyn ReadAt,
    path: &str,
    regions: &[Region],
    options: &Options,
    cores: &Cores,
    out: File,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Written, Error> {
    check(content, path, options)?;
    let blocks = Blocks::new(content, regions, options);
    let ahead = Ahead::new(&blocks, cores);
    thread::scope(|scope| {
        for number in 0..cores.count() {
            match thread::Builder::new().spawn_scoped(scope, || ahead.work()) {
                Ok(_) => {}
                // Fewer threads do the same work.
                Err(_) if number > 0 => break,
                Err(e) => return Err(Error::thread(e)),
            }
        }
        let mut written = Written { size: 0, content: blocks.len(), blocks: 0, holes: 0, stored: 0 };
        let mut failed = None;
        let source = Source {
            blocks: &blocks,
            taker: ahead.taker(),
            next: 0,
            rest: Cursor::new(Vec::new()),
            written: &mut written,
            failed: &mut failed,
            progress,
        };
        let size = lay_out(source, path, regions, options, out);
        ahead.stop();
        match (size, failed) {
            (Ok(size), None) => Ok(Written { size, ..written }),
            (_, Some(error)) => Err(Error::input(format!("the content of {path} cannot be made: {error}"))),
            (Err(error), None) => Err(Error::failed(format!(
                "the squashfs image cannot be written: {}",
                io::Error::from(error)
            ))
            .hint("is there space left where the new image is written?")),
        }
    })
}

/// What backhand would panic on, or the kernel refuse.
fn check(content: &dyn ReadAt, path: &str, options: &Options) -> Result<(), Error> {
    let size = options.block_size;
    if !(MIN_BLOCK_SIZE..=MAX_BLOCK_SIZE).contains(&size) || !size.is_power_of_two() {
        return Err(Error::usage(format!("squashfs has no blocks of {size} bytes"))
            .hint("take a power of two from 4K to 1M"));
    }
    if content.len() >= MAX_FILE {
        return Err(Error::usage(format!(
            "{path} of {} bytes is too large for a squashfs image",
            content.len()
        ))
        .hint("2 TiB is the limit"));
    }
    let fits = |name: &str| !name.is_empty() && name.len() <= 256 && name != "." && name != "..";
    if !path.split('/').all(fits) {
        return Err(Error::usage(format!("{path:?} is no path of a file in a squashfs image")));
    }
    Ok(())
}

/// Has backhand write the image; returns its size.
fn lay_out(
    source: Source<'_>,
    path: &str,
    regions: &[Region],
    options: &Options,
    mut out: File,
) -> Result<u64, BackhandError> {
    let folder = NodeHeader::new(0o755, 0, 0, options.time);
    // backhand sets no time on the root folder of a new image. That of an image it has read keeps what is set.
    let mut empty = Cursor::new(Vec::new());
    let mut new = FilesystemWriter::default();
    new.set_compressor(FilesystemCompressor::new(Compressor::Gzip, None)?);
    new.set_no_padding();
    new.write(&mut empty)?;
    empty.set_position(0);
    let mut empty = FilesystemReader::from_reader(empty)?;
    empty.root.root_mut().header = folder;

    let mut image = FilesystemWriter::from_fs_reader(&empty)?;
    image.set_kind(Kind::new_v4(&Finished));
    image.set_block_size(options.block_size);
    image.set_time(options.time);
    // There is one file.
    image.set_no_duplicate_files(false);
    image.set_compressor(compressor(regions, options)?);
    if let Some((folders, _)) = path.rsplit_once('/') {
        image.push_dir_all(folders, folder)?;
    }
    image.push_file(source, path, NodeHeader::new(0o644, 0, 0, options.time))?;

    let _under_way = UnderWay::start(options)?;
    image.write(&mut out).map(|(_, size)| size)
}

/// The compressor's number, with its options where they are not what mksquashfs has by default.
fn compressor(regions: &[Region], options: &Options) -> Result<FilesystemCompressor, BackhandError> {
    let (id, detail) = match options.compression {
        // Level 9, a window of 32 KiB: the default.
        Compression::Gzip => (Compressor::Gzip, None),
        // mksquashfs's default is LZO1X-999; what we write is of that kind, and the decoder is one for all.
        Compression::Lzo => (Compressor::Lzo, None),
        Compression::Zstd => {
            (Compressor::Zstd, Some(CompressionOptions::Zstd(Zstd { compression_level: ZSTD_LEVEL as u32 })))
        }
        // The kernel insists on them: version 1 is `LZ4_LEGACY` (fs/squashfs/lz4_wrapper.c); no flag: not HC.
        Compression::Lz4 => (Compressor::Lz4, Some(CompressionOptions::Lz4(Lz4 { version: 1, flags: 0 }))),
        Compression::Xz => {
            let filters = if options.bcj { filters(regions) } else { 0 };
            let detail = CompressionOptions::Xz(Xz {
                // Without options the kernel takes what metadata needs at least; with them, what they say: with
                // blocks of 4 KiB and a filter it cannot mount what mksquashfs writes.
                dictionary_size: options.block_size.max(METADATA_SIZE as u32),
                filters: XzFilter::new(filters),
                bit_opts: None,
                fb: None,
            });
            (Compressor::Xz, (filters != 0).then_some(detail))
        }
    };
    FilesystemCompressor::new(id, detail)
}

/// The bits by which squashfs-tools name the branch filters (`xz_wrapper.c`). Nothing but its own display reads
/// them: a decoder finds the filters in each block's header.
fn filters(regions: &[Region]) -> u32 {
    regions.iter().fold(0, |bits, region| {
        bits | match region.hint {
            Hint::MachineCode(Arch::X86) => 0x01,
            Hint::MachineCode(Arch::PowerPc) => 0x02,
            Hint::MachineCode(Arch::Ia64) => 0x04,
            Hint::MachineCode(Arch::Arm) => 0x08,
            Hint::MachineCode(Arch::ArmThumb) => 0x10,
            Hint::MachineCode(Arch::Sparc) => 0x20,
            Hint::MachineCode(Arch::Arm64) => 0x40,
            Hint::MachineCode(Arch::Other) | Hint::Zero | Hint::Metadata | Hint::Data => 0,
        }
    })
}

/// The file as backhand reads it, one block at a time.
struct Source<'a> {
    blocks: &'a Blocks<'a>,
    taker: Taker<'a>,
    /// The block that comes when `rest` is read.
    next: u64,
    /// What is left of the block before.
    rest: Cursor<Vec<u8>>,
    written: &'a mut Written,
    /// Why a block could not be made.
    failed: &'a mut Option<io::Error>,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.rest.read(buf)?;
        let size = self.blocks.size(self.next);
        if count != 0 || size == 0 {
            return Ok(count);
        }
        match self.taker.block(self.next) {
            Ok(Some(block)) => {
                self.written.stored += u64::from(block.packed.is_none());
                UnderWay::hand_over(block.packed.unwrap_or_else(|| vec![0; size + 1]));
                self.rest = Cursor::new(block.plain);
            }
            Ok(None) => {
                self.written.holes += 1;
                self.rest = Cursor::new(vec![0; size]);
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                *self.failed = Some(error);
                return Err(copy);
            }
        }
        (self.progress)(self.next * self.blocks.block_size() + size as u64);
        self.next += 1;
        self.written.blocks += 1;
        self.rest.read(buf)
    }
}

thread_local! {
    /// The writing that this thread is at. backhand wants a compressor that lives for ever, so what belongs to one
    /// image is kept beside it; it calls it in the thread in which it writes.
    static UNDER_WAY: RefCell<Option<UnderWay>> = const { RefCell::new(None) };
}

/// What the compressor needs to know of the image that is being written.
struct UnderWay {
    /// For what no thread compressed ahead: metadata.
    encoder: Encoder,
    /// The block that backhand has just read, as it is to be stored.
    block: Option<Vec<u8>>,
}

/// Ends what [`UnderWay::start`] began.
struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        UNDER_WAY.set(None);
    }
}

impl UnderWay {
    fn start(options: &Options) -> io::Result<Ending> {
        let encoder = Encoder::new(options.compression)?;
        UNDER_WAY.set(Some(Self { encoder, block: None }));
        Ok(Ending)
    }

    fn hand_over(block: Vec<u8>) {
        UNDER_WAY.with_borrow_mut(|under_way| {
            if let Some(under_way) = under_way {
                under_way.block = Some(block);
            }
        });
    }

    /// A block as it is to be stored. More bytes than it has make backhand store it as it is.
    fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
        UNDER_WAY.with_borrow_mut(|under_way| {
            let Some(under_way) = under_way else { return Ok(vec![0; bytes.len() + 1]) };
            if bytes.is_empty() {
                // backhand ends with a block of fragments even where there are none.
                return Ok(Vec::new());
            }
            if let Some(block) = under_way.block.take() {
                return Ok(block);
            }
            let packed = under_way.encoder.encode(bytes, METADATA_SIZE as u32, None)?;
            Ok(packed.unwrap_or_else(|| vec![0; bytes.len() + 1]))
        })
    }
}

/// The compressor that backhand is given: all but metadata has been compressed when it is asked.
struct Finished;

impl CompressionAction for Finished {
    type Error = BackhandError;
    type Compressor = Compressor;
    type FilesystemCompressor = FilesystemCompressor;
    type SuperBlock = SuperBlock;

    fn decompress(&self, _: &[u8], _: &mut Vec<u8>, _: Compressor) -> Result<(), BackhandError> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }

    fn compress(&self, bytes: &[u8], _: FilesystemCompressor, _: u32) -> Result<Vec<u8>, BackhandError> {
        Ok(UnderWay::compressed(bytes)?)
    }

    fn compression_options(
        &self,
        superblock: &mut SuperBlock,
        kind: &Kind,
        compressor: FilesystemCompressor,
    ) -> Result<Option<Vec<u8>>, BackhandError> {
        // Too few bytes for any method to make fewer: they are stored as they are, which the kernel demands.
        DefaultCompressor.compression_options(superblock, kind, compressor)
    }
}
