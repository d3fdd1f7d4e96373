//! The state machine of init/initramfs.c: one newc archive, entry by entry.

use std::io::{self, BufRead, Read};
use std::ops::Range;

use super::Segment;
use super::rootfs::{Header, PATH_MAX, Reader};
use crate::bytes::ReadAt;
use crate::error::Error;
use crate::tree::{Device, mode};

/// Size of a newc header.
pub const HEADER: u64 = 110;
/// How much content is handed on at once.
const CHUNK: usize = 256 << 10;

/// Bytes of an archive in order, with their offset: in the unpacked segment, or in the file for a plain one.
pub trait Stream: BufRead {
    /// Offset of the next byte.
    fn offset(&self) -> u64;
}

/// What [`entry`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// An entry.
    Entry,
    /// The trailer.
    Trailer,
}

fn damaged(offset: u64, what: impl Into<String>) -> Error {
    Error::input(what)
        .at_unpacked(offset)
        .hint("the image is damaged or was cut short: fetch it again and compare its checksum")
}

fn io_error(offset: u64, error: &io::Error, expected: &str) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        damaged(offset, format!("the archive ends here, where {expected} should be"))
    } else {
        damaged(offset, format!("{error}, where {expected} should be"))
    }
}

/// `parse_header`. The kernel's own number parser takes what is no hexadecimal digit for the end of a number; newer
/// kernels refuse it (6.15), and so do we.
fn parse(bytes: &[u8; HEADER as usize], offset: u64) -> Result<Header, Error> {
    let checksummed = match &bytes[..6] {
        b"070701" => false,
        b"070702" => true,
        b"070707" => {
            return Err(damaged(offset, "an archive in the old portable cpio format, where newc should be")
                .hint("pack it with `cpio -H newc`"));
        }
        _ => return Err(damaged(offset, "no cpio magic, where a newc header (070701 or 070702) should be")),
    };
    let mut fields = [0_u32; 13];
    for (i, field) in fields.iter_mut().enumerate() {
        let digits = &bytes[6 + i * 8..14 + i * 8];
        *field = std::str::from_utf8(digits)
            .ok()
            .filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|s| u32::from_str_radix(s, 16).ok())
            .ok_or_else(|| {
                damaged(offset + 6 + i as u64 * 8, "something else, where eight hexadecimal digits should be")
            })?;
    }
    let [ino, mode, uid, gid, nlink, mtime, body, major, minor, rmajor, rminor, name, sum] = fields;
    Ok(Header {
        ino,
        mode,
        uid,
        gid,
        nlink,
        mtime,
        body_len: u64::from(body),
        device: Device { major, minor },
        // MKDEV into 32 bits: 12 of the major number, 20 of the minor.
        rdev: Device { major: (rmajor << 20 | rminor) >> 20, minor: rminor & 0xf_ffff },
        name_len: u64::from(name),
        checksum: checksummed.then_some(sum),
    })
}

fn skip(stream: &mut dyn Stream, rootfs: &mut Reader, count: u64, expected: &str) -> Result<(), Error> {
    rootfs.spend(count)?;
    let from = stream.offset();
    let skipped =
        io::copy(&mut stream.take(count), &mut io::sink()).map_err(|e| io_error(from, &e, expected))?;
    if skipped < count {
        return Err(damaged(stream.offset(), format!("the archive ends here, where {expected} should be")));
    }
    Ok(())
}

/// Padding up to a multiple of four. The archive may end before it: whether the kernel minds depends on what is padded,
/// and whether it is compressed.
fn pad(stream: &mut dyn Stream) -> Result<(), Error> {
    let offset = stream.offset();
    let count = offset.next_multiple_of(4) - offset;
    io::copy(&mut stream.take(count), &mut io::sink())
        .map(|_| ())
        .map_err(|e| io_error(offset, &e, "padding"))
}

/// Up to the first NUL.
fn c_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// Reads the entry at the start of `stream`, which stands on a multiple of four.
///
/// # Errors
/// [`crate::error::Kind::Input`] with the offset where the kernel would stop.
pub fn entry(stream: &mut dyn Stream, rootfs: &mut Reader) -> Result<Found, Error> {
    let start = stream.offset();
    let mut bytes = [0; HEADER as usize];
    stream.read_exact(&mut bytes).map_err(|e| io_error(start, &e, "a newc header of 110 bytes"))?;
    let header = parse(&bytes, start)?;
    rootfs.remember(0)?;

    let kind = header.mode & mode::S_IFMT;
    let skipped = header.name_len == 0
        || header.name_len > PATH_MAX
        || (kind == mode::S_IFLNK && header.body_len > PATH_MAX);
    if skipped {
        // N_ALIGN(name) + body, all of it skipped.
        skip(stream, rootfs, header.name_len, "a name")?;
        pad(stream)?;
        skip(stream, rootfs, header.body_len, "content")?;
        pad(stream)?;
        rootfs.note("entries with an empty or oversized name or link target, which Linux passes over", b"-");
        return Ok(Found::Entry);
    }

    let name_at = stream.offset();
    // At most PATH_MAX.
    let mut name = vec![0; header.name_len as usize];
    stream.read_exact(&mut name).map_err(|e| io_error(name_at, &e, "a name"))?;
    let terminated = name.last() == Some(&0);
    let name = c_string(&name);
    if !terminated {
        // do_name and do_symlink: "malformed archive", in all kernels maintained since CVE-2024-53142.
        return Err(damaged(
            name_at,
            format!("the name {}, where a name that ends in NUL should be", crate::tree::display(name)),
        ));
    }
    pad(stream)?;
    if !stream.offset().is_multiple_of(4) && name != b"TRAILER!!!" {
        // do_header collects a name with its padding (N_ALIGN) before do_name makes anything of it.
        return Err(damaged(
            stream.offset(),
            format!(
                "the archive ends here, where the padding of the name {} should be",
                crate::tree::display(name)
            ),
        ));
    }
    rootfs.remember(name.len() as u64)?;

    if kind == mode::S_IFLNK {
        let target_at = stream.offset();
        let mut target = vec![0; header.body_len as usize];
        stream.read_exact(&mut target).map_err(|e| io_error(target_at, &e, "a link target"))?;
        pad(stream)?;
        rootfs.remember(target.len() as u64)?;
        rootfs.symlink(&header, name, c_string(&target));
        return Ok(Found::Entry);
    }
    if kind != mode::S_IFREG && header.body_len > 0 {
        // do_header: only regular files and symbolic links have their name read at all.
        let from = stream.offset();
        rootfs.skipped_bodies.push((name.to_vec(), from..from + header.body_len));
        skip(stream, rootfs, header.body_len, "content")?;
        pad(stream)?;
        return Ok(Found::Entry);
    }
    if name == b"TRAILER!!!" {
        skip(stream, rootfs, header.body_len, "content")?;
        pad(stream)?;
        rootfs.forget_links();
        return Ok(Found::Trailer);
    }
    if kind == mode::S_IFREG {
        // Whether it can be unpacked or not.
        let from = stream.offset();
        rootfs.look_at(name, from..from + header.body_len);
    }
    rootfs.spend(header.body_len)?;
    let Some(mut file) = rootfs.entry(&header, name) else {
        skip(stream, rootfs, header.body_len, "content")?;
        pad(stream)?;
        return Ok(Found::Entry);
    };
    let mut left = header.body_len;
    let mut sum = 0_u32;
    let mut buffer = vec![0; CHUNK.min(left as usize)];
    let body_at = stream.offset();
    while left > 0 {
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let at = stream.offset();
        stream
            .read_exact(&mut buffer[..count])
            .map_err(|e| io_error(at, &e, &format!("{left} more bytes of {}", crate::tree::display(name))))?;
        if header.checksum.is_some() {
            sum = buffer[..count].iter().fold(sum, |sum, &b| sum.wrapping_add(u32::from(b)));
        }
        rootfs.write(&mut file, &buffer[..count])?;
        left -= count as u64;
    }
    rootfs.close(&file);
    // do_copy checks the sum when the body ends, also of a hard link that has none: its sum is 0.
    if let Some(expected) = header.checksum
        && sum != expected
    {
        return Err(damaged(
            body_at,
            format!(
                "content of {} whose sum is {sum:08x}, where {expected:08x} is announced",
                crate::tree::display(name)
            ),
        ));
    }
    pad(stream)?;
    Ok(Found::Entry)
}

/// How many bytes from `at` on are zero, up to `end`.
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

/// Where the body of the regular file `path` lies in a plain segment: the last one of that name that has a body.
///
/// Only headers and names are read. `None` where there is none or the segment cannot be read.
pub fn find_body(source: &dyn ReadAt, segment: &Segment, path: &[u8]) -> Option<Range<u64>> {
    let normal = |name: &[u8]| {
        let parts: Vec<&[u8]> = name.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        parts.join(&b'/')
    };
    let (mut at, end, mut found) = (segment.offset, segment.offset + segment.size, None);
    while at + HEADER <= end {
        let mut bytes = [0; HEADER as usize];
        source.read_exact_at(&mut bytes, at).ok()?;
        let Ok(header) = parse(&bytes, at) else {
            // Zeros between two archives of one segment, which can be many.
            let zeros = zeros(source, at, end)?;
            at += if zeros < 4 { 4 } else { zeros / 4 * 4 };
            continue;
        };
        // The names of a plain segment were read before: none of them is longer than it can be.
        let mut name = vec![0; header.name_len.min(PATH_MAX) as usize];
        source.read_exact_at(&mut name, at + HEADER).ok()?;
        let body = (at + HEADER + header.name_len).next_multiple_of(4);
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
