//! The state machine of init/initramfs.c: one newc archive, entry by entry.

use std::io::{self, BufRead, Read};
use std::ops::Range;

use super::Segment;
use super::header::{Fault, HEADER, Header, c_string};
use super::rootfs::{OpenFile, PATH_MAX, Reader};
use super::stop::Halt;
use crate::bytes::ReadAt;
use crate::codec::Encoding;
use crate::tree::{display, mode};

/// How much content is passed on at once.
const CHUNK: usize = 256 << 10;

/// Bytes of an archive in order, with their offset: in the unpacked segment, or in the file for a plain one.
pub(super) trait Stream: BufRead {
    /// Offset of the next byte.
    fn offset(&self) -> u64;
    /// How the archive is packed.
    fn encoding(&self) -> Encoding;
}

/// What [`entry`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry.
    Entry,
    /// The trailer.
    Trailer,
}

fn fill(stream: &mut dyn Stream, buffer: &mut [u8], expected: &str) -> Result<(), Halt> {
    let (at, encoding) = (stream.offset(), stream.encoding());
    stream.read_exact(buffer).map_err(|e| Halt::reading(encoding, at, e, expected))
}

fn skip(stream: &mut dyn Stream, rootfs: &mut Reader, count: u64, expected: &str) -> Result<(), Halt> {
    rootfs.spend(count)?;
    let (at, encoding) = (stream.offset(), stream.encoding());
    let skipped = io::copy(&mut stream.take(count), &mut io::sink())
        .map_err(|e| Halt::reading(encoding, at, e, expected))?;
    if skipped < count {
        return Err(Halt::end(encoding, stream.offset(), expected));
    }
    Ok(())
}

/// Padding up to a multiple of four. The archive may end before it: whether the kernel minds depends on what is padded,
/// and whether it is compressed.
fn pad(stream: &mut dyn Stream) -> Result<(), Halt> {
    let (at, encoding) = (stream.offset(), stream.encoding());
    let count = at.next_multiple_of(4) - at;
    io::copy(&mut stream.take(count), &mut io::sink())
        .map(|_| ())
        .map_err(|e| Halt::reading(encoding, at, e, "padding"))
}

/// `do_header`.
fn header(stream: &mut dyn Stream) -> Result<Header, Halt> {
    let start = stream.offset();
    let mut bytes = [0; HEADER];
    fill(stream, &mut bytes, "a newc header of 110 bytes")?;
    Header::parse(&bytes).map_err(|fault| match fault {
        Fault::OldPortable => Halt::new(
            "incorrect cpio method used: use -H newc option",
            start,
            "an archive in the old portable cpio format: expected newc",
            "pack it with cpio -H newc",
        ),
        Fault::Stripped | Fault::Magic => {
            Halt::damaged("no cpio magic", start, "no cpio magic: expected a newc header (070701 or 070702)")
        }
        Fault::Digits(at) => Halt::damaged(
            "damaged header",
            start + at as u64,
            "damaged newc header: expected eight hexadecimal digits",
        ),
    })
}

/// Reads the entry at the start of `stream`, which stands on a multiple of four.
///
/// # Errors
/// A [`Halt`] with the offset at which the kernel stops.
pub(super) fn entry(stream: &mut dyn Stream, rootfs: &mut Reader) -> Result<Found, Halt> {
    let header = header(stream)?;
    rootfs.remember(0)?;
    let kind = header.mode & mode::S_IFMT;
    let oversized = header.name_len == 0
        || header.name_len > PATH_MAX
        || (kind == mode::S_IFLNK && header.body_len > PATH_MAX);
    if oversized {
        // N_ALIGN(name) + body, all of it skipped.
        skip(stream, rootfs, header.name_len, "a name")?;
        pad(stream)?;
        skip_body(stream, rootfs, &header)?;
        rootfs.note("entries with an empty or oversized name or link target, which Linux skips", b"-");
        return Ok(Found::Entry);
    }
    let name = name(stream, rootfs, &header)?;
    if kind == mode::S_IFLNK {
        symlink(stream, rootfs, &header, &name)?;
    } else if kind != mode::S_IFREG && header.body_len > 0 {
        // do_header: only regular files and symbolic links have their name read at all.
        let from = stream.offset();
        rootfs.skipped_bodies.push((name, from..from + header.body_len));
        skip_body(stream, rootfs, &header)?;
    } else if name == b"TRAILER!!!" {
        skip_body(stream, rootfs, &header)?;
        rootfs.forget_links();
        return Ok(Found::Trailer);
    } else {
        if kind == mode::S_IFREG {
            // Whether it can be unpacked or not.
            let from = stream.offset();
            rootfs.look_at(&name, from..from + header.body_len);
        }
        match rootfs.entry(&header, &name) {
            Some(file) => copy(stream, rootfs, &header, &name, file)?,
            None => skip_body(stream, rootfs, &header)?,
        }
    }
    Ok(Found::Entry)
}

/// Collects a name with its padding, as `do_header` does before `do_name`.
fn name(stream: &mut dyn Stream, rootfs: &mut Reader, header: &Header) -> Result<Vec<u8>, Halt> {
    let at = stream.offset();
    // At most PATH_MAX.
    let mut bytes = vec![0; header.name_len as usize];
    fill(stream, &mut bytes, "a name")?;
    let terminated = bytes.last() == Some(&0);
    bytes.truncate(c_string(&bytes).len());
    if !terminated {
        // In all kernels maintained since CVE-2024-53142.
        let what = format!("the name {} does not end in NUL", display(&bytes));
        return Err(Halt::damaged("malformed archive", at, what));
    }
    pad(stream)?;
    if !stream.offset().is_multiple_of(4) && bytes != b"TRAILER!!!" {
        let expected = format!("the padding of the name {}", display(&bytes));
        return Err(Halt::end(stream.encoding(), stream.offset(), &expected));
    }
    rootfs.remember(bytes.len() as u64)?;
    Ok(bytes)
}

/// `do_skip`.
fn skip_body(stream: &mut dyn Stream, rootfs: &mut Reader, header: &Header) -> Result<(), Halt> {
    skip(stream, rootfs, header.body_len, "content")?;
    pad(stream)
}

/// `do_symlink`.
fn symlink(stream: &mut dyn Stream, rootfs: &mut Reader, header: &Header, name: &[u8]) -> Result<(), Halt> {
    let mut target = vec![0; header.body_len as usize];
    fill(stream, &mut target, "a link target")?;
    pad(stream)?;
    rootfs.remember(target.len() as u64)?;
    rootfs.symlink(header, name, c_string(&target));
    Ok(())
}

/// Fills `buffer`; says how far that got, and what ended it early.
fn read_up_to(stream: &mut dyn Stream, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut count = 0;
    while count < buffer.len() {
        match stream.read(&mut buffer[count..]) {
            Ok(0) => return (count, Some(io::ErrorKind::UnexpectedEof.into())),
            Ok(more) => count += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (count, Some(e)),
        }
    }
    (count, None)
}

/// `do_copy`.
fn copy(
    stream: &mut dyn Stream,
    rootfs: &mut Reader,
    header: &Header,
    name: &[u8],
    mut file: OpenFile,
) -> Result<(), Halt> {
    rootfs.spend(header.body_len)?;
    let start = stream.offset();
    let mut left = header.body_len;
    let mut sum = 0_u32;
    let mut buffer = vec![0; CHUNK.min(left as usize)];
    while left > 0 {
        let (at, encoding) = (stream.offset(), stream.encoding());
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (count, failure) = read_up_to(stream, &mut buffer[..wanted]);
        if header.checksum.is_some() {
            sum = buffer[..count].iter().fold(sum, |sum, &b| sum.wrapping_add(u32::from(b)));
        }
        // Also what there is before a failure: the kernel writes it too.
        rootfs.write(&mut file, &buffer[..count])?;
        left -= count as u64;
        if let Some(e) = failure {
            let expected = format!("{left} more bytes of {}", display(name));
            return Err(Halt::reading(encoding, at, e, &expected));
        }
    }
    rootfs.close(&file);
    // The kernel checks the sum when the body ends, also of a hard link that has none: its sum is 0.
    if let Some(expected) = header.checksum
        && sum != expected
    {
        let what = format!("the checksum of {} is {sum:08x}: expected {expected:08x}", display(name));
        return Err(Halt::damaged("bad data checksum", start, what));
    }
    pad(stream)
}

/// The number of zero bytes at `at`, at most up to `end`.
fn zeros(source: &dyn ReadAt, at: u64, end: u64) -> Option<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut next = at;
    while next < end {
        let count = (end - next).min(CHUNK as u64) as usize;
        source.read_exact_at(&mut buffer[..count], next).ok()?;
        match buffer[..count].iter().position(|&b| b != 0) {
            Some(first) => return Some(next + first as u64 - at),
            None => next += count as u64,
        }
    }
    Some(end - at)
}

/// The place of the body of the regular file `path` in a plain segment: the last one of that name that has a body.
///
/// Only headers and names are read. `None` if there is none or the segment cannot be read.
pub fn find_body(source: &dyn ReadAt, segment: &Segment, path: &[u8]) -> Option<Range<u64>> {
    let normal = |name: &[u8]| {
        let parts: Vec<&[u8]> = name.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        parts.join(&b'/')
    };
    let (mut at, end, mut found) = (segment.offset, segment.offset + segment.size, None);
    while at + HEADER as u64 <= end {
        let mut bytes = [0; HEADER];
        source.read_exact_at(&mut bytes, at).ok()?;
        let Ok(header) = Header::parse(&bytes) else {
            // There can be many zeros between two archives of one segment.
            let zeros = zeros(source, at, end)?;
            at += if zeros < 4 { 4 } else { zeros / 4 * 4 };
            continue;
        };
        // The names of a plain segment were read before: none of them is too long.
        let mut name = vec![0; header.name_len.min(PATH_MAX) as usize];
        source.read_exact_at(&mut name, at + HEADER as u64).ok()?;
        let body = (at + HEADER as u64 + header.name_len).next_multiple_of(4);
        if header.mode & mode::S_IFMT == mode::S_IFREG
            && header.body_len > 0
            && normal(c_string(&name)) == path
        {
            found = Some(body..body + header.body_len);
        }
        at = (body + header.body_len).next_multiple_of(4);
    }
    found
}
