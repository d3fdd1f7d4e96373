//! The outer loop of `unpack_to_rootfs`: where segments start and end.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::archive::{self, Found, Stream};
use super::rootfs::{Finished, Reader, is_early};
use super::{Encoding, Initrd, Segment};
use crate::bytes::ReadAt;
use crate::codec::{decoder, dictionary};
use crate::error::Error;

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
    /// Tells others how far it is.
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
}

/// What a decompressing thread sends.
struct Unpacked {
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
}

/// Skips zeros; returns the next byte, which has to stand on a multiple of four (`do_reset`: "broken padding").
fn next_entry(stream: &mut dyn Stream, rootfs: &mut Reader) -> Result<Option<u8>, Error> {
    loop {
        let at = stream.offset();
        let ahead = stream.fill_buf().map_err(|e| {
            if e.kind() == io::ErrorKind::Unsupported {
                return Error::input(e.to_string())
                    .at_unpacked(at)
                    .hint("Linux stops here: the image has to be packed anew");
            }
            let what = if e.kind() == io::ErrorKind::UnexpectedEof {
                "the compressed data ends here, in the middle of its stream".to_owned()
            } else {
                format!("the compressed data is damaged: {e}")
            };
            Error::input(what)
                .at_unpacked(at)
                .hint("the image is damaged or was cut short: fetch it again and compare its checksum")
        })?;
        let zeros = ahead.iter().position(|&b| b != 0).unwrap_or(ahead.len());
        if zeros > 0 {
            stream.consume(zeros);
            rootfs.spend(zeros as u64)?;
            continue;
        }
        let next = ahead.first().copied();
        if next.is_some() && !at.is_multiple_of(4) {
            return Err(Error::input("data after padding that does not end on a multiple of four bytes")
                .at_unpacked(at)
                .hint("Linux stops here with 'broken padding': pad the archives to a multiple of four"));
        }
        return Ok(next);
    }
}

/// The boot configuration at the end (Documentation/admin-guide/bootconfig.rst): from there to the end of the file.
/// Boot loaders may have padded it to a multiple of four (`get_boot_config_from_initrd` of init/main.c).
pub fn bootconfig(source: &dyn ReadAt) -> Option<Range<u64>> {
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
        // Whatever its size: one that is too large is refused by the kernel, but only after it was taken off.
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

/// Reads all segments.
///
/// # Errors
/// Those of [`super::read`], without the file's name.
pub fn read_segments(
    source: &dyn ReadAt,
    mut rootfs: Reader,
    progress: &dyn Fn(u64),
) -> Result<Initrd, Error> {
    let size = source.len();
    let bootconfig = bootconfig(source);
    let end = bootconfig.as_ref().map_or(size, |range| range.start);
    let mut segments: Vec<Segment> = Vec::new();
    let mut early_paths = Vec::new();
    // A compressed archive that ended without the padding of its last entry.
    let mut unpadded = false;
    let mut at = 0;
    let position = AtomicU64::new(0);
    while at < end {
        let read_error = |e: io::Error| Error::input(format!("cannot be read: {e}")).at(at);
        let mut start = vec![0; 64.min((end - at) as usize)];
        source.read_exact_at(&mut start, at).map_err(read_error)?;
        if start[0] == 0 {
            let mut zeros = Source::new(source, at..end, &position);
            loop {
                let ahead = zeros.fill_buf().map_err(read_error)?;
                let run = ahead.iter().position(|&b| b != 0).unwrap_or(ahead.len());
                let done = run < ahead.len() || run == 0;
                zeros.consume(run);
                if done {
                    break;
                }
            }
            if let Some(last) = segments.last_mut() {
                last.padding += zeros.offset() - at;
            }
            at = zeros.offset();
            continue;
        }
        if let Some(last) = segments.last().filter(|_| unpadded) {
            // unpack_to_rootfs: the state is not Reset, and what follows is not unpacked.
            return Err(Error::input("the archive ends without the padding of its last entry, before another segment")
                .segment(last.number)
                .at_unpacked(last.unpacked)
                .hint("Linux stops here with 'junk at the end of compressed archive': pad the archives to a multiple of four"));
        }
        let number = segments.len() + 1;
        let encoding = Encoding::of(&start).filter(|e| *e != Encoding::Plain || at.is_multiple_of(4));
        let Some(encoding) = encoding else {
            return Err(Error::input(format!(
                "the bytes {:02x?}, where a newc archive on a multiple of four, one of the compressed formats that \
                 Linux knows, or zero padding should be",
                &start[..start.len().min(6)]
            ))
            .segment(number)
            .at(at)
            .hint("Linux stops here with 'invalid magic'; is this an initrd? see `file`; a boot loader's wrapper (U-Boot's mkimage, say) has to come off first"));
        };
        rootfs.written = Some(Vec::new());
        let early = rootfs.early_bodies.len();
        let mut segment = Segment {
            number,
            offset: at,
            size: 0,
            padding: 0,
            encoding,
            unpacked: 0,
            entries: 0,
            early: false,
            dictionary: dictionary(encoding, &start),
        };
        if encoding == Encoding::Plain {
            let mut stream = Source::new(source, at..end, &position);
            plain(&mut stream, &mut rootfs, &mut segment, progress).map_err(|mut e| {
                // A plain segment is not unpacked: its offsets are the file's.
                e.place.unpacked = false;
                e.segment(number)
            })?;
            segment.unpacked = segment.size;
            let written = rootfs.written.take().unwrap_or_default();
            if segments.iter().any(|s| s.encoding != Encoding::Plain) {
                rootfs.early_bodies.truncate(early);
            } else if is_early(&written) {
                segment.early = true;
                early_paths.extend(written);
                rootfs.early_bodies.truncate(early);
            }
        } else {
            rootfs.written = None;
            let skipped = rootfs.skipped_bodies.len();
            let first = segments.is_empty();
            unpadded = compressed(source, at..end, &position, &mut rootfs, &mut segment, first, progress)
                .map_err(|e| e.segment(number))?;
            // They lie in no place of the file.
            rootfs.skipped_bodies.truncate(skipped);
            rootfs.early_bodies.truncate(early);
        }
        rootfs.end_segment(number, segment.early);
        at = segment.offset + segment.size;
        progress(at);
        segments.push(segment);
    }
    if segments.is_empty() {
        return Err(Error::input("nothing but zeros, where an initrd should be").at(0));
    }
    let Finished { tree, writers, mut notes, skipped_bodies, early_bodies } = rootfs.finish()?;
    if unpadded {
        notes.push(
            "the last archive ends without the padding of its last entry: Linux unpacks all of it, and then says 'junk \
             at the end of compressed archive'"
                .into(),
        );
    }
    Ok(Initrd { tree, segments, writers, size, early_paths, early_bodies, skipped_bodies, bootconfig, notes })
}

fn plain(
    stream: &mut Source<'_>,
    rootfs: &mut Reader,
    segment: &mut Segment,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    loop {
        let trailer = archive::entry(stream, rootfs)? == Found::Trailer;
        segment.size = stream.offset() - segment.offset;
        segment.entries += u64::from(!trailer);
        progress(stream.offset());
        // Whatever is no entry goes back to the outer loop.
        if next_entry(stream, rootfs)? != Some(b'0') || trailer {
            return Ok(());
        }
    }
}

/// Reads a compressed segment; says whether its archive ended before the padding of its last entry.
fn compressed(
    source: &dyn ReadAt,
    range: Range<u64>,
    position: &AtomicU64,
    rootfs: &mut Reader,
    segment: &mut Segment,
    first: bool,
    progress: &dyn Fn(u64),
) -> Result<bool, Error> {
    let encoding = segment.encoding;
    thread::scope(|scope| {
        let (send, chunks) = sync_channel(8);
        let start = range.start;
        let worker = scope.spawn(move || {
            let mut input = Source::new(source, range, position);
            let mut decoder = match decoder(encoding, &mut input) {
                Ok(decoder) => decoder,
                Err(e) => {
                    let _ = send.send(Err(e));
                    return start;
                }
            };
            loop {
                let mut chunk = Vec::with_capacity(CHUNK);
                match decoder.by_ref().take(CHUNK as u64).read_to_end(&mut chunk) {
                    Ok(0) => break,
                    Ok(_) => {
                        // The parser stopped: so do we.
                        if send.send(Ok(chunk)).is_err() {
                            break;
                        }
                    }
                    Err(e) => {
                        let _ = send.send(Err(e));
                        break;
                    }
                }
            }
            drop(decoder);
            input.offset()
        });
        let mut stream = Unpacked { chunks, chunk: Vec::new(), at: 0, offset: 0 };
        let mut unpadded = false;
        let mut parse = || -> Result<(), Error> {
            loop {
                let at = stream.offset();
                let next = next_entry(&mut stream, rootfs)?;
                if first && at == 0 && stream.offset() > 0 {
                    // do_start takes for a header whatever comes first; only later are zeros skipped.
                    return Err(Error::input("zeros, where the first newc header should be")
                        .at_unpacked(0)
                        .hint("Linux stops here with 'no cpio magic': pack the archive without them"));
                }
                let Some(byte) = next else { return Ok(()) };
                if byte != b'0' {
                    return Err(Error::input(format!(
                        "the byte {byte:02x}, where the next newc header should be"
                    ))
                    .at_unpacked(stream.offset())
                    .hint("Linux stops here with 'junk within compressed archive'"));
                }
                segment.entries += u64::from(archive::entry(&mut stream, rootfs)? == Found::Entry);
                unpadded = !stream.offset().is_multiple_of(4);
                progress(position.load(Ordering::Relaxed));
            }
        };
        let parsed = parse();
        segment.unpacked = stream.offset();
        drop(stream);
        let end =
            worker.join().map_err(|_| Error::input(format!("the {encoding} decoder gave up")).at(start))?;
        segment.size = end - segment.offset;
        parsed?;
        // Behind another segment an empty one does no harm; as the first it leaves the kernel waiting for a header.
        if segment.size == 0 || (first && segment.entries == 0 && segment.unpacked == 0) {
            return Err(Error::input(format!("an empty {encoding} stream")).at(start));
        }
        Ok(unpadded)
    })
}
