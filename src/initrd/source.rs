//! The outer loop of `unpack_to_rootfs` of init/initramfs.c: where segments start and end.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::archive::{self, Found, Stream};
use super::rootfs::{Finished, Reader, is_early};
use super::stop::{Damaged, Halt};
use super::{Initrd, Segment};
use crate::bytes::ReadAt;
use crate::codec::{Encoding, decoder, dictionary};
use crate::error::Error;
use crate::magic;

const CHUNK: usize = 256 << 10;
/// `BOOTCONFIG_MAGIC` of the kernel's include/linux/bootconfig.h.
const BOOTCONFIG: &[u8; 12] = b"#BOOTCONFIG\n";

/// A source from an offset on, buffered.
struct Source<'a> {
    source: &'a dyn ReadAt,
    end: u64,
    /// Offset of the first byte of the buffer.
    base: u64,
    at: usize,
    buffer: Vec<u8>,
    /// The current offset, for other threads.
    position: &'a AtomicU64,
}

impl<'a> Source<'a> {
    fn new(source: &'a dyn ReadAt, range: Range<u64>, position: &'a AtomicU64) -> Self {
        position.store(range.start, Ordering::Relaxed);
        Self { source, end: range.end, base: range.start, at: 0, buffer: Vec::new(), position }
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.base += self.buffer.len() as u64;
            self.at = 0;
            let count = (self.end - self.base).min(CHUNK as u64);
            self.buffer.resize(count as usize, 0);
            self.source.read_exact_at(&mut self.buffer, self.base)?;
        }
        Ok(&self.buffer[self.at..])
    }
    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.buffer.len());
        self.position.store(self.base + self.at as u64, Ordering::Relaxed);
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl Stream for Source<'_> {
    fn offset(&self) -> u64 {
        self.base + self.at as u64
    }
    fn encoding(&self) -> Encoding {
        Encoding::Plain
    }
}

/// What a decompressing thread sends.
struct Unpacked {
    encoding: Encoding,
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
    offset: u64,
}

impl BufRead for Unpacked {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            self.at = 0;
            // The thread ends after its last chunk: then there is nothing to receive.
            self.chunk = self.chunks.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
        }
        Ok(&self.chunk[self.at..])
    }
    fn consume(&mut self, count: usize) {
        let count = count.min(self.chunk.len() - self.at);
        self.at += count;
        self.offset += count as u64;
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl Stream for Unpacked {
    fn offset(&self) -> u64 {
        self.offset
    }
    fn encoding(&self) -> Encoding {
        self.encoding
    }
}

/// Skips zeros; returns the next byte, which has to stand on a multiple of four (`do_reset`).
fn next_entry(stream: &mut dyn Stream, rootfs: &mut Reader) -> Result<Option<u8>, Halt> {
    loop {
        let (at, encoding) = (stream.offset(), stream.encoding());
        let ahead = stream.fill_buf().map_err(|e| Halt::reading(encoding, at, e, "another entry"))?;
        let zeros = ahead.iter().position(|&b| b != 0).unwrap_or(ahead.len());
        if zeros > 0 {
            stream.consume(zeros);
            rootfs.spend(zeros as u64)?;
            continue;
        }
        let next = ahead.first().copied();
        if next.is_some() && !at.is_multiple_of(4) {
            let missing = at.next_multiple_of(4) - at;
            return Err(Halt::new(
                "broken padding",
                at,
                "the padding does not end on a multiple of four bytes",
                &format!("the next archive needs {missing} more zero bytes before it"),
            ));
        }
        return Ok(next);
    }
}

/// The boot configuration at the end (Documentation/admin-guide/bootconfig.rst), up to the end of the file. Boot loaders
/// may have padded it to a multiple of four (`get_boot_config_from_initrd` of init/main.c).
pub(crate) fn bootconfig(source: &dyn ReadAt) -> Option<Range<u64>> {
    let len = source.len();
    for padding in 0..4 {
        let mut footer = [0; 20];
        let end = len.checked_sub(20 + padding)?;
        source.read_exact_at(&mut footer, end).ok()?;
        if &footer[8..] != BOOTCONFIG {
            continue;
        }
        let [size, sum] = [0, 4].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|i| footer[at + i])));
        let start = end.checked_sub(u64::from(size))?;
        // Of any size: the kernel refuses one that is too large, but only after it was cut off.
        let mut found = 0_u32;
        let mut buffer = vec![0; CHUNK];
        let mut at = start;
        while at < end {
            let count = (end - at).min(CHUNK as u64) as usize;
            source.read_exact_at(&mut buffer[..count], at).ok()?;
            found = buffer[..count].iter().fold(found, |sum, &b| sum.wrapping_add(u32::from(b)));
            at += count as u64;
        }
        return (found == sum).then_some(start..len);
    }
    None
}

/// An image while its segments are read.
struct Segments<'a> {
    source: &'a dyn ReadAt,
    rootfs: Reader,
    /// Where the segments end: the start of the boot configuration, or the end of the file.
    end: u64,
    position: AtomicU64,
    progress: &'a dyn Fn(u64),
    list: Vec<Segment>,
    early_paths: Vec<Vec<u8>>,
    /// Whether a compressed segment was read: the kernel looks for early files only before it.
    compressed: bool,
    /// Whether the last compressed archive ended without the padding of its last entry.
    unpadded: bool,
}

/// Reads all segments, or those before the place at which Linux stops.
///
/// # Errors
/// Those of [`super::read`], without the file's name, but for [`Initrd::stopped`].
pub(super) fn read_segments(
    source: &dyn ReadAt,
    rootfs: Reader,
    progress: &dyn Fn(u64),
) -> Result<Initrd, Error> {
    let size = source.len();
    let bootconfig = bootconfig(source);
    let mut segments = Segments {
        source,
        rootfs,
        end: bootconfig.as_ref().map_or(size, |range| range.start),
        position: AtomicU64::new(0),
        progress,
        list: Vec::new(),
        early_paths: Vec::new(),
        compressed: false,
        unpadded: false,
    };
    let stopped = match segments.all() {
        Ok(()) => None,
        Err(Halt::Fatal(error)) => return Err(*error),
        // With nothing unpacked it is not an initrd.
        Err(Halt::Linux(stop)) if segments.list.iter().all(|s| s.entries == 0) => return Err(stop.error),
        Err(Halt::Linux(stop)) => Some(*stop),
    };
    if segments.list.is_empty() {
        return Err(Error::input("the file holds nothing but zeros: expected an initrd").at(0));
    }
    let Segments { rootfs, list, early_paths, unpadded, .. } = segments;
    let Finished { tree, writers, mut notes, skipped_bodies, early_bodies, dropped } = rootfs.finish()?;
    if unpadded {
        notes.push(
            "the last archive ends without the padding of its last entry: Linux unpacks all of it and then prints 'junk \
             at the end of compressed archive'"
                .into(),
        );
    }
    Ok(Initrd {
        tree,
        segments: list,
        writers,
        size,
        early_paths,
        early_bodies,
        skipped_bodies,
        bootconfig,
        notes,
        dropped,
        stopped,
    })
}

impl Segments<'_> {
    fn all(&mut self) -> Result<(), Halt> {
        let mut at = 0;
        while at < self.end {
            let mut start = vec![0; 64.min((self.end - at) as usize)];
            self.source.read_exact_at(&mut start, at).map_err(|e| Error::reading(e).at(at))?;
            if start[0] == 0 {
                at = self.padding(at)?;
                continue;
            }
            let before = self.list.len();
            let found = self.segment(at, &start);
            if let Err(Halt::Linux(mut stop)) = found {
                stop.left = self.end - at;
                stop.entries = self.list.get(before).map_or(0, |segment| segment.entries);
                return Err(Halt::Linux(stop));
            }
            at = found?;
            (self.progress)(at);
        }
        Ok(())
    }

    /// Skips zeros; says where they end.
    fn padding(&mut self, at: u64) -> Result<u64, Halt> {
        let mut zeros = Source::new(self.source, at..self.end, &self.position);
        loop {
            let ahead = zeros.fill_buf().map_err(|e| Error::reading(e).at(at))?;
            let run = ahead.iter().position(|&b| b != 0).unwrap_or(ahead.len());
            let done = run < ahead.len() || run == 0;
            zeros.consume(run);
            if done {
                break;
            }
        }
        if let Some(last) = self.list.last_mut() {
            last.padding += zeros.offset() - at;
        }
        Ok(zeros.offset())
    }

    /// How the segment at `at` is packed, which begins with `start`.
    fn encoding(&self, at: u64, start: &[u8]) -> Result<Encoding, Halt> {
        let number = self.list.len() + 1;
        if let Some(last) = self.list.last().filter(|_| self.unpadded) {
            // unpack_to_rootfs: the state is not Reset, and what follows is not unpacked.
            let halt = Halt::new(
                "junk at the end of compressed archive",
                last.unpacked,
                "the archive ends without the padding of its last entry, before another segment",
                "pad the archives to a multiple of four",
            );
            return Err(halt.map(|e| e.segment(last.number)));
        }
        let found = Encoding::of(start).filter(|e| *e != Encoding::Plain || at.is_multiple_of(4));
        found.ok_or_else(|| {
            let missing = at.next_multiple_of(4) - at;
            let (what, remedy) = if start.starts_with(b"07070") {
                (
                    format!("a plain archive has to start on a multiple of 4 bytes, and this one starts at byte {at}"),
                    format!("put {missing} more zero {} before it", if missing == 1 { "byte" } else { "bytes" }),
                )
            } else {
                // Zeros that are skipped may be the start of a disk image or a file system.
                let whole = if self.list.is_empty() { magic::window(self.source, 0) } else { Vec::new() };
                let ahead = if magic::is_known(&whole) { whole } else { magic::window(self.source, at) };
                let what = format!("{}: expected a newc archive, plain or compressed", magic::name(&ahead));
                (what, magic::next_step(&ahead).to_owned())
            };
            let words = "invalid magic at start of compressed archive";
            Halt::new(words, at, what, &remedy).map(|e| e.segment(number).at(at))
        })
    }

    /// Reads the segment at `at`, which begins with `start`; says where it ends.
    fn segment(&mut self, at: u64, start: &[u8]) -> Result<u64, Halt> {
        let encoding = self.encoding(at, start)?;
        let number = self.list.len() + 1;
        let mut segment = Segment {
            number,
            offset: at,
            size: 0,
            padding: 0,
            encoding,
            unpacked: 0,
            entries: 0,
            early: false,
            dictionary: dictionary(encoding, start),
        };
        self.rootfs.segment = number;
        let found = if encoding == Encoding::Plain {
            self.plain(&mut segment)
        } else {
            self.compressed(&mut segment)
        };
        self.rootfs.end_segment(number, segment.early);
        let found = found.map_err(|halt| {
            // Of a segment in which Linux stops nobody knows where it ends.
            segment.size = self.end - at;
            halt.map(|e| e.segment(number))
        });
        let end = segment.offset + segment.size;
        if found.is_ok() || segment.entries > 0 {
            self.list.push(segment);
        }
        found.map(|()| end)
    }

    /// Reads a plain segment.
    fn plain(&mut self, segment: &mut Segment) -> Result<(), Halt> {
        self.rootfs.written = Some(Vec::new());
        let early = self.rootfs.early_bodies.len();
        let mut stream = Source::new(self.source, segment.offset..self.end, &self.position);
        let found = plain(&mut stream, &mut self.rootfs, segment, self.progress);
        segment.unpacked = segment.size;
        let written = self.rootfs.written.take().unwrap_or_default();
        if self.compressed {
            self.rootfs.early_bodies.truncate(early);
        } else if is_early(&written) {
            segment.early = true;
            self.early_paths.extend(written);
            self.rootfs.early_bodies.truncate(early);
        }
        // A plain segment is not unpacked: its offsets are the file's.
        found.map_err(|halt| {
            halt.map(|mut e| {
                e.place.unpacked = false;
                e
            })
        })
    }

    /// Reads a compressed segment.
    fn compressed(&mut self, segment: &mut Segment) -> Result<(), Halt> {
        self.rootfs.written = None;
        let (skipped, early) = (self.rootfs.skipped_bodies.len(), self.rootfs.early_bodies.len());
        let packed = Packed {
            source: self.source,
            range: segment.offset..self.end,
            position: &self.position,
            first: self.list.is_empty(),
            progress: self.progress,
        };
        let found = packed.read(&mut self.rootfs, segment);
        self.compressed = true;
        // They have no place in the file.
        self.rootfs.skipped_bodies.truncate(skipped);
        self.rootfs.early_bodies.truncate(early);
        self.unpadded = found?;
        Ok(())
    }
}

fn plain(
    stream: &mut Source<'_>,
    rootfs: &mut Reader,
    segment: &mut Segment,
    progress: &dyn Fn(u64),
) -> Result<(), Halt> {
    loop {
        let trailer = archive::entry(stream, rootfs)? == Found::Trailer;
        segment.size = stream.offset() - segment.offset;
        segment.entries += u64::from(!trailer);
        progress(stream.offset());
        // Anything but an entry is for the outer loop.
        if next_entry(stream, rootfs)? != Some(b'0') || trailer {
            return Ok(());
        }
    }
}

/// A compressed segment: one thread unpacks it, another one reads the archive.
struct Packed<'a> {
    source: &'a dyn ReadAt,
    range: Range<u64>,
    position: &'a AtomicU64,
    /// Whether nothing precedes it but padding.
    first: bool,
    progress: &'a dyn Fn(u64),
}

impl Packed<'_> {
    /// Says whether the archive ended before the padding of its last entry.
    fn read(&self, rootfs: &mut Reader, segment: &mut Segment) -> Result<bool, Halt> {
        let (encoding, start) = (segment.encoding, self.range.start);
        thread::scope(|scope| {
            let (send, chunks) = sync_channel(8);
            let (source, range, position) = (self.source, self.range.clone(), self.position);
            let worker = thread::Builder::new()
                .spawn_scoped(scope, move || unpack(source, range, position, encoding, &send))
                .map_err(Error::thread)?;
            let mut stream = Unpacked { encoding, chunks, chunk: Vec::new(), at: 0, offset: 0 };
            let parsed = self.parse(&mut stream, rootfs, segment);
            segment.unpacked = stream.offset();
            drop(stream);
            let end = worker
                .join()
                .map_err(|_| Error::input(format!("the {encoding} decoder failed")).at(start))?;
            segment.size = end - segment.offset;
            let unpadded = parsed?;
            // After another segment an empty one does no harm; as the first it leaves the kernel waiting for a header.
            if segment.size == 0 || (self.first && segment.entries == 0 && segment.unpacked == 0) {
                return Err(Halt::damaged(
                    "junk at the end of compressed archive",
                    0,
                    format!("an empty {encoding} stream"),
                ));
            }
            Ok(unpadded)
        })
    }

    /// `flush_buffer`: the archives of the segment.
    fn parse(&self, stream: &mut Unpacked, rootfs: &mut Reader, segment: &mut Segment) -> Result<bool, Halt> {
        let mut unpadded = false;
        loop {
            let at = stream.offset();
            let next = next_entry(stream, rootfs)?;
            // do_start takes for a header whatever comes first; only later are zeros skipped.
            if self.first && at == 0 && (stream.offset() > 0 || next.is_some_and(|byte| byte != b'0')) {
                let (what, remedy) = if stream.offset() > 0 {
                    ("zeros at the start of the archive".to_owned(), "pack the archive without them")
                } else {
                    let ahead = stream.fill_buf().unwrap_or_default();
                    (format!("{} inside", magic::name(ahead)), magic::next_step(ahead))
                };
                let what = format!("{what}: expected a newc archive");
                return Err(Halt::new("no cpio magic", 0, what, remedy));
            }
            let Some(byte) = next else { return Ok(unpadded) };
            if byte != b'0' {
                let ahead = stream.fill_buf().unwrap_or_default();
                let what = format!("{} after an entry: expected a newc header", magic::name(ahead));
                let remedy = "pack the segments one after the other, not in each other";
                return Err(Halt::new("junk within compressed archive", stream.offset(), what, remedy));
            }
            segment.entries += u64::from(archive::entry(stream, rootfs)? == Found::Entry);
            unpadded = !stream.offset().is_multiple_of(4);
            (self.progress)(self.position.load(Ordering::Relaxed));
        }
    }
}

/// Unpacks the segment at the start of `range` and sends its bytes; says where it ends.
fn unpack(
    source: &dyn ReadAt,
    range: Range<u64>,
    position: &AtomicU64,
    encoding: Encoding,
    send: &SyncSender<io::Result<Vec<u8>>>,
) -> u64 {
    let start = range.start;
    let mut input = Source::new(source, range, position);
    let mut decoder = match decoder(encoding, &mut input) {
        Ok(decoder) => decoder,
        Err(e) => {
            let _ = send.send(Err(Damaged::mark(e)));
            return start;
        }
    };
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let found = decoder.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        // Also what was unpacked before an error. The parser may have stopped: then so do we.
        if !chunk.is_empty() && send.send(Ok(chunk)).is_err() {
            break;
        }
        match found {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => {
                let _ = send.send(Err(Damaged::mark(e)));
                break;
            }
        }
    }
    drop(decoder);
    input.offset()
}
