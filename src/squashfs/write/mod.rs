//! The writer: data blocks and fragments, compressed ahead on every core, then the tables that say where they lie.
//!
//! The layout is that of fs/squashfs/squashfs_fs.h: superblock, options of the compressor, data, inodes, directories,
//! fragments, inode numbers (for file handles, as mksquashfs writes them), owners.

mod ahead;
mod calls;
mod encode;
mod image;
mod inodes;
mod metadata;
mod plan;
#[cfg(test)]
mod tests;

use std::fs::File as OsFile;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::thread;

use crate::bytes::{Hint, ReadAt, Region};
use crate::codec::Compression;
use crate::cores::Cores;
use crate::elf::{Arch, Archs};
use crate::error::{Error, Kind};
use crate::squashfs::{MAGIC, MAX_BLOCK_SIZE, METADATA_SIZE, MIN_BLOCK_SIZE, Options, STORED, SUPERBLOCK};
use ahead::{Ahead, Blocks};
pub(super) use encode::Encoder;
#[cfg(test)]
pub(super) use encode::Settings;
use encode::ZSTD_LEVEL;
pub use image::{Facts, File, Image};
use inodes::{Inodes, Place, Tables};
use metadata::Table;
use plan::{Plan, To};

/// An image's size is a multiple of this, as mksquashfs makes it: loop devices count in blocks.
const PADDING: u64 = 4096;
/// Superblock flags: equal contents are stored once, tails of large files in fragments, inode numbers are listed,
/// there are no extended attributes, and options of the compressor (`SQUASHFS_DUPLICATE` and so on).
const FLAGS: u16 = 0x0040 | 0x0020 | 0x0080 | 0x0200;
/// See [`FLAGS`].
const FLAG_OPTIONS: u16 = 0x0400;
/// No such table.
const NONE: u64 = u64::MAX;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the image, with the padding to 4 KiB.
    pub size: u64,
    /// Bytes of all contents in it, each once.
    pub content: u64,
    /// Blocks of contents, and fragments.
    pub blocks: u64,
    /// Those of them that are zeros only and take no space.
    pub holes: u64,
    /// Those that compression made no smaller: they are stored as they are.
    pub stored: u64,
}

/// Writes an image that holds `content` as the file `path`; see [`Image::of_files`] and [`Image::write`].
///
/// # Errors
/// Those of the two.
pub fn write(
    content: &dyn ReadAt,
    path: &str,
    regions: &[Region],
    options: &Options,
    cores: &Cores,
    out: OsFile,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Written, Error> {
    Image::of_files(&[File { path, content, regions }], options.time)?.write(options, cores, out, progress)
}

impl Image<'_> {
    /// Writes the image to `out`, from its start.
    ///
    /// `progress` is called with the number of bytes of content that are done. The bytes written depend on the image and
    /// `options`, never on `cores`, of which each that is free compresses.
    ///
    /// Memory: per thread an encoder (xz: 12 times the block size) and 2 MiB of content with its result.
    ///
    /// # Errors
    /// When `options` are not those of the format, content cannot be read or `out` cannot be written.
    pub fn write(
        &self,
        options: &Options,
        cores: &Cores,
        out: OsFile,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Written, Error> {
        check(options)?;
        let (plan, places) = Plan::new(self, options);
        let blocks = Blocks::new(self, &plan, options);
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
            let writer = Writer::new(self, options, places, out);
            let written = writer.and_then(|writer| writer.write(&plan, &ahead, progress));
            ahead.stop();
            written
        })
    }
}

/// Fails on what the kernel would refuse.
fn check(options: &Options) -> Result<(), Error> {
    let size = options.block_size;
    if !(MIN_BLOCK_SIZE..=MAX_BLOCK_SIZE).contains(&size) || !size.is_power_of_two() {
        return Err(Error::usage(format!("squashfs has no blocks of {size} bytes"))
            .hint("use a power of two from 4K to 1M"));
    }
    Ok(())
}

fn unwritable(error: io::Error) -> Error {
    Error::new(Kind::Io, "the squashfs image cannot be written")
        .hint("check the space left for temporary files (TMPDIR)")
        .caused_by(error)
}

/// An image while it is being written.
struct Writer<'a> {
    image: &'a Image<'a>,
    options: &'a Options,
    out: BufWriter<OsFile>,
    /// Where the next byte goes.
    at: u64,
    places: Vec<Place>,
    /// Start and size of each fragment.
    fragments: Vec<(u64, u32)>,
    written: Written,
}

/// Where the tables start.
struct Starts {
    inodes: u64,
    directories: u64,
    fragments: u64,
    numbers: u64,
    ids: u64,
}

impl<'a> Writer<'a> {
    fn new(
        image: &'a Image<'a>,
        options: &'a Options,
        places: Vec<Place>,
        mut out: OsFile,
    ) -> Result<Self, Error> {
        out.seek(SeekFrom::Start(0)).map_err(unwritable)?;
        let written = Written { size: 0, content: image.len(), blocks: 0, holes: 0, stored: 0 };
        let out = BufWriter::with_capacity(1 << 20, out);
        Ok(Self { image, options, out, at: 0, places, fragments: Vec::new(), written })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(unwritable)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn write(
        mut self,
        plan: &Plan,
        ahead: &Ahead<'_>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Written, Error> {
        self.put(&[0; SUPERBLOCK as usize])?;
        let details = details(self.image, self.options);
        if let Some(details) = &details {
            // Too few bytes for any method to make fewer: they are stored as they are, which the kernel demands.
            self.put(&(details.len() as u16 | 1 << 15).to_le_bytes())?;
            self.put(details)?;
        }
        self.data(plan, ahead, progress)?;
        let (starts, tables) = self.tables()?;
        self.written.size = self.at.next_multiple_of(PADDING);
        let flags = FLAGS | if details.is_some() { FLAG_OPTIONS } else { 0 };
        let superblock = self.superblock(&starts, &tables, flags);
        let mut out = self.out.into_inner().map_err(|e| unwritable(e.into_error()))?;
        out.set_len(self.written.size).map_err(unwritable)?;
        out.seek(SeekFrom::Start(0)).and_then(|_| out.write_all(&superblock)).map_err(unwritable)?;
        Ok(self.written)
    }

    /// Writes all blocks in the order of the plan.
    fn data(&mut self, plan: &Plan, ahead: &Ahead<'_>, progress: &(dyn Fn(u64) + Sync)) -> Result<(), Error> {
        self.fragments = vec![(0, 0); plan.fragments as usize];
        let mut done = 0;
        let planned = plan.blocks.iter().filter(|block| matches!(block.to, To::File { .. })).count() as u64;
        let in_all: u64 = self.places.iter().map(|place| place.sizes.len() as u64).sum();
        // Those that the regions say are zeros are not in the plan.
        self.written.holes = in_all - planned;
        self.written.blocks = self.written.holes;
        while let Some((numbers, batch)) = ahead.take() {
            let batch = batch.map_err(|error| {
                Error::input("the content of the squashfs image cannot be read").caused_by(error)
            })?;
            for (block, packed) in plan.blocks[numbers].iter().zip(batch) {
                self.written.blocks += 1;
                let word = match &packed {
                    None => 0,
                    Some(packed) if packed.compressed => packed.bytes.len() as u32,
                    Some(packed) => packed.bytes.len() as u32 | STORED,
                };
                self.written.holes += u64::from(packed.is_none());
                self.written.stored += u64::from(word & STORED != 0);
                match block.to {
                    To::File { blob, number } => {
                        let place = &mut self.places[blob as usize];
                        if packed.is_some() && place.sizes.iter().all(|&size| size == 0) {
                            place.start = self.at;
                        }
                        place.sizes[number as usize] = word;
                    }
                    To::Fragment(number) => self.fragments[number as usize] = (self.at, word),
                }
                if let Some(packed) = packed {
                    self.put(&packed.bytes)?;
                }
                done += u64::from(block.len);
                progress(done);
            }
        }
        progress(self.written.content);
        let block_size = u64::from(self.options.block_size);
        for (place, blob) in self.places.iter_mut().zip(&self.image.blobs) {
            let len = blob.content.len();
            let holes = place.sizes.iter().zip(0..).filter(|&(&size, _)| size == 0);
            place.sparse = holes.map(|(_, number)| block_size.min(len - number * block_size)).sum();
        }
        Ok(())
    }

    fn table(&self) -> Result<Table, Error> {
        Ok(Table::new(Encoder::new(self.options.compression).map_err(unwritable)?))
    }

    /// Writes a table of words with its index; says where the index starts.
    fn indexed(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        let mut table = self.table()?;
        table.put(bytes).map_err(unwritable)?;
        let (bytes, index) = table.finish_indexed(self.at).map_err(unwritable)?;
        self.put(&bytes)?;
        Ok(index)
    }

    fn tables(&mut self) -> Result<(Starts, Tables), Error> {
        let tables = Inodes::new(self.image, &self.places, self.table()?, self.table()?).write()?;
        let inodes = self.at;
        self.put(&tables.inodes)?;
        let directories = self.at;
        self.put(&tables.directories)?;
        // struct squashfs_fragment_entry: start, size, unused.
        let fragments: Vec<u8> = self
            .fragments
            .iter()
            .flat_map(|(start, size)| [&start.to_le_bytes()[..], &size.to_le_bytes(), &[0; 4]].concat())
            .collect();
        let fragments = self.indexed(&fragments)?;
        let numbers: Vec<u8> = tables.places.iter().flat_map(|place| place.to_le_bytes()).collect();
        let numbers = self.indexed(&numbers)?;
        let ids: Vec<u8> = tables.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let ids = self.indexed(&ids)?;
        Ok((Starts { inodes, directories, fragments, numbers, ids }, tables))
    }

    /// `struct squashfs_super_block`.
    fn superblock(&self, starts: &Starts, tables: &Tables, flags: u16) -> Vec<u8> {
        let options = self.options;
        let mut bytes = Vec::with_capacity(SUPERBLOCK as usize);
        let mut put = |field: &[u8]| bytes.extend_from_slice(field);
        for word in
            [MAGIC, tables.places.len() as u32, options.time, options.block_size, self.fragments.len() as u32]
        {
            put(&word.to_le_bytes());
        }
        let log = options.block_size.trailing_zeros() as u16;
        for half in [options.compression.id(), log, flags, tables.ids.len() as u16, 4, 0] {
            put(&half.to_le_bytes());
        }
        for place in [
            tables.root,
            self.at,
            starts.ids,
            NONE,
            starts.inodes,
            starts.directories,
            starts.fragments,
            starts.numbers,
        ] {
            put(&place.to_le_bytes());
        }
        bytes
    }
}

/// The options of the compressor where they are not the format's defaults (`struct …_comp_opts` of squashfs-tools).
fn details(image: &Image<'_>, options: &Options) -> Option<Vec<u8>> {
    let words = |words: &[u32]| Some(words.iter().flat_map(|word| word.to_le_bytes()).collect());
    match options.compression {
        // gzip at level 9 with a window of 32 KiB is the default. mksquashfs's lzo is LZO1X-999; what we write is of
        // that kind, and the decoder is one for all.
        Compression::Gzip | Compression::Lzo => None,
        Compression::Zstd => words(&[ZSTD_LEVEL as u32]),
        // The kernel insists on them: version 1 is `LZ4_LEGACY` (fs/squashfs/lz4_wrapper.c); no flag: not HC.
        Compression::Lz4 => words(&[1, 0]),
        Compression::Xz => {
            let filters = filters(image, options.filters);
            // Without options the kernel takes what metadata needs at least; with them, what they say: with blocks of
            // 4 KiB and a filter it cannot mount what mksquashfs writes.
            let dictionary = options.block_size.max(METADATA_SIZE as u32);
            if filters == 0 { None } else { words(&[dictionary, filters]) }
        }
    }
}

/// The bits by which squashfs-tools name the branch filters (`xz_wrapper.c`). Nothing but its own display reads
/// them: a decoder finds the filters in each block's header.
fn filters(image: &Image<'_>, allowed: Archs) -> u32 {
    image.blobs.iter().flat_map(|blob| blob.regions.iter()).fold(0, |bits, region| {
        bits | match region.hint {
            Hint::MachineCode(arch) if !allowed.contains(arch) => 0,
            Hint::MachineCode(Arch::X86) => 0x01,
            Hint::MachineCode(Arch::PowerPc) => 0x02,
            Hint::MachineCode(Arch::Ia64) => 0x04,
            Hint::MachineCode(Arch::Arm) => 0x08,
            Hint::MachineCode(Arch::ArmThumb) => 0x10,
            Hint::MachineCode(Arch::Sparc) => 0x20,
            Hint::MachineCode(Arch::Arm64) => 0x40,
            Hint::MachineCode(Arch::RiscV) => 0x80,
            Hint::MachineCode(Arch::Other) | Hint::Zero | Hint::Metadata | Hint::Data | Hint::Few => 0,
        }
    })
}
