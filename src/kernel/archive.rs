//! Readers of package files: `.deb` (ar, then tar) and `.rpm` (lead, two headers, then cpio). They are strict, hold
//! no member in memory and never trust a length.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use crate::codec;
use crate::error::Error;
use crate::initrd::{Fault, HEADER, Header, c_string};
use crate::tree::mode;

/// What is called with each regular file: its path as the archive has it, its size, and its bytes, of which any
/// number may be read. `Break` ends the walk.
pub(crate) type Visit<'v> = dyn FnMut(&[u8], u64, &mut dyn Read) -> io::Result<ControlFlow<()>> + 'v;

/// The longest path, and so the longest GNU or pax extension, that is accepted.
const MAX_NAME: u64 = 64 << 10;

/// rpm itself accepts headers of up to 256 MiB; a kernel package's is a few.
const MAX_RPM_HEADER: u64 = 64 << 20;

/// A reader that knows where it is.
struct Counted<R> {
    inner: R,
    at: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: Read> Counted<R> {
    fn new(inner: R) -> Self {
        Self { inner, at: 0 }
    }

    fn fault(&self, what: impl Into<String>) -> Error {
        Error::input(what).at_unpacked(self.at).hint("the package is damaged: fetch it again")
    }

    fn fill(&mut self, buf: &mut [u8], what: &str) -> Result<(), Error> {
        self.read_exact(buf)
            .map_err(|e| self.fault(format!("{what} ends early or cannot be read")).caused_by(e))
    }

    fn skip(&mut self, count: u64, what: &str) -> Result<(), Error> {
        let skipped = io::copy(&mut self.by_ref().take(count), &mut io::sink())
            .map_err(|e| self.fault(format!("{what} cannot be read")).caused_by(e))?;
        if skipped == count { Ok(()) } else { Err(self.fault(format!("{what} ends early"))) }
    }

    /// Shows the next `size` bytes to `visit` and goes on behind them and their padding to a multiple of `align`.
    fn member(
        &mut self,
        path: &[u8],
        size: u64,
        align: u64,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        let end = self
            .at
            .checked_add(size)
            .and_then(|end| end.checked_next_multiple_of(align))
            .ok_or_else(|| self.fault("a member's size is beyond all bounds"))?;
        let flow = visit(path, size, &mut self.by_ref().take(size))
            .map_err(|e| self.fault(format!("{} cannot be read", crate::tree::display(path))).caused_by(e))?;
        if flow.is_continue() {
            self.skip(end - self.at, "a member")?;
        }
        Ok(flow)
    }
}

/// Whether `head` starts a package that [`package`] reads.
pub(super) fn is_package(head: &[u8]) -> bool {
    head.starts_with(AR_MAGIC) || head.starts_with(&RPM_LEAD)
}

const AR_MAGIC: &[u8] = b"!<arch>\n";
const RPM_LEAD: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

/// Walks the files of a `.deb` or an `.rpm`.
pub(crate) fn package(mut source: impl BufRead + Send, visit: &mut Visit<'_>) -> Result<(), Error> {
    let head = source.fill_buf().map_err(|e| Error::input("cannot be read").caused_by(e).at(0))?;
    if head.starts_with(AR_MAGIC) {
        deb(source, visit)
    } else if head.starts_with(&RPM_LEAD) {
        rpm(source, visit)
    } else {
        Err(Error::input("is neither a .deb (`!<arch>`) nor an .rpm (ed ab ee db)").at(0))
    }
}

/// deb(5): an ar archive whose member `data.tar`, with the suffix of its compression, holds the files.
fn deb(source: impl Read + Send, visit: &mut Visit<'_>) -> Result<(), Error> {
    deb_member(source, "data.tar", visit)
}

/// The `control` file of a `.deb`, of at most 1 MiB.
pub(crate) fn control(source: impl BufRead + Send) -> Result<Vec<u8>, Error> {
    let mut found = Vec::new();
    deb_member(source, "control.tar", &mut |path, size, data| {
        if path.strip_prefix(b"./").unwrap_or(path) != b"control" || size > 1 << 20 {
            return Ok(ControlFlow::Continue(()));
        }
        data.read_to_end(&mut found)?;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Walks the files of the tar archive that is the member `name` (or `name` and the suffix of its compression).
fn deb_member(source: impl Read + Send, name: &str, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut ar = Counted::new(source);
    let mut magic = [0; AR_MAGIC.len()];
    ar.fill(&mut magic, "the ar header")?;
    if magic != *AR_MAGIC {
        return Err(Error::input("not a .deb: it does not start with `!<arch>`").at(0));
    }
    loop {
        let mut header = [0; 60];
        ar.fill(&mut header, &format!("the ar archive, which has no {name} so far,"))?;
        let size = std::str::from_utf8(&header[48..58])
            .ok()
            .map(str::trim_end)
            .and_then(|text| text.parse::<u64>().ok())
            .filter(|_| header[58..] == *b"`\n")
            .ok_or_else(|| ar.fault("not an ar member header where one was expected"))?;
        if header.starts_with(name.as_bytes()) {
            let member = BufReader::with_capacity(256 << 10, ar.by_ref().take(size));
            let unpacked = codec::any(member).map_err(|e| Error::input(name).caused_by(e))?;
            return tar(unpacked, visit);
        }
        ar.skip(size.saturating_add(size % 2), "an ar member")?;
    }
}

/// rpm's format, version 3 and later: a lead of 96 bytes, the signature header (padded to 8 bytes), the header, and a
/// compressed cpio (docs/manual/format.md of rpm).
fn rpm(source: impl Read + Send, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut file = Counted::new(source);
    file.skip(96, "the rpm lead")?;
    for (what, align) in [("the rpm signature header", 8), ("the rpm header", 1)] {
        let mut intro = [0; 16];
        file.fill(&mut intro, what)?;
        if intro[..4] != [0x8e, 0xad, 0xe8, 0x01] {
            return Err(file.fault(format!("not {what} (8e ad e8 01) where it was expected")));
        }
        let number = |at: usize| {
            u64::from(u32::from_be_bytes([intro[at], intro[at + 1], intro[at + 2], intro[at + 3]]))
        };
        // An index entry has 16 bytes.
        let size = number(8) * 16 + number(12).next_multiple_of(align);
        if size > MAX_RPM_HEADER {
            return Err(file.fault(format!("{what} claims {size} bytes, more than {MAX_RPM_HEADER}")));
        }
        file.skip(size, what)?;
    }
    let payload = BufReader::with_capacity(256 << 10, file);
    let unpacked = codec::any(payload).map_err(|e| Error::input("the rpm payload").caused_by(e))?;
    newc(unpacked, visit)
}

/// A tar archive: ustar, GNU long names, pax paths and sizes, old V7 (tar(5), POSIX pax).
pub(super) fn tar(source: impl Read, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut tar = Counted::new(source);
    let mut long_name: Option<Vec<u8>> = None;
    let mut pax_size: Option<u64> = None;
    loop {
        let mut header = [0; 512];
        match tar.read(&mut header[..1]) {
            Ok(0) => return Ok(()),
            Ok(_) => tar.fill(&mut header[1..], "a tar header")?,
            Err(e) => return Err(tar.fault("the tar archive cannot be read").caused_by(e)),
        }
        if header.iter().all(|&b| b == 0) {
            return Ok(());
        }
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(i, &b)| u64::from(if (148..156).contains(&i) { b' ' } else { b }))
            .sum();
        if number(&header[148..156]) != Some(sum) {
            return Err(tar.fault("not a tar header with a right checksum where one was expected"));
        }
        let size =
            number(&header[124..136]).ok_or_else(|| tar.fault("a tar header's size is not a number"))?;
        match header[156] {
            b'L' => long_name = Some(c_string(&extension(&mut tar, size)?).to_vec()),
            b'x' => {
                let records = extension(&mut tar, size)?;
                for (key, value) in pax(&records).ok_or_else(|| tar.fault("a pax header is damaged"))? {
                    match key {
                        b"path" => long_name = Some(value.to_vec()),
                        b"size" => pax_size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()),
                        _ => {}
                    }
                }
            }
            b'K' | b'g' => drop(extension(&mut tar, size)?),
            b'S' => return Err(tar.fault("a sparse member: that does not occur in packages")),
            kind => {
                let path = long_name.take().unwrap_or_else(|| name(&header));
                let size = pax_size.take().unwrap_or(size);
                let flow = match kind {
                    b'0' | 0 | b'7' => tar.member(&path, size, 512, visit)?,
                    // Links, devices, directories: what they say as their size is not followed by data.
                    b'1'..=b'6' => ControlFlow::Continue(()),
                    _ => tar.member(&path, size, 512, &mut |_, _, _| Ok(ControlFlow::Continue(())))?,
                };
                if flow.is_break() {
                    return Ok(());
                }
            }
        }
    }
}

/// The data of an extension header, which is held in memory.
fn extension<R: Read>(tar: &mut Counted<R>, size: u64) -> Result<Vec<u8>, Error> {
    if size > MAX_NAME {
        return Err(tar.fault(format!("a tar extension header of {size} bytes, more than {MAX_NAME}")));
    }
    let mut bytes = vec![0; size as usize];
    tar.fill(&mut bytes, "a tar extension header")?;
    tar.skip(size.next_multiple_of(512) - size, "a tar extension header")?;
    Ok(bytes)
}

/// The path of a header: ustar joins `prefix` and `name`; GNU and V7 have other things where the prefix would be.
fn name(header: &[u8; 512]) -> Vec<u8> {
    let (name, prefix) = (c_string(&header[..100]), c_string(&header[345..500]));
    if header[257..263] == *b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// The records of a pax header: `LENGTH KEY=VALUE\n`, the length counting itself.
fn pax(mut rest: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !rest.is_empty() {
        let digits = rest.iter().position(|&b| b == b' ')?;
        let len: usize = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let record = rest.get(digits + 1..len)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&b| b == b'=')?;
        records.push((&record[..equals], &record[equals + 1..]));
        rest = &rest[len..];
    }
    Some(records)
}

/// A numeric field: octal digits, or GNU's base 256 (first bit set) for what octal cannot hold.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return field[1..].iter().try_fold(u64::from(field[0] & 0x7f), |value, &byte| {
            value.checked_mul(256)?.checked_add(u64::from(byte))
        });
    }
    let text = std::str::from_utf8(c_string(field)).ok()?.trim_matches(' ');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// A newc archive, as rpm's payload is one (cpio(5)).
pub(super) fn newc(source: impl Read, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut cpio = Counted::new(source);
    loop {
        let mut bytes = [0; HEADER];
        cpio.fill(&mut bytes, "the cpio payload")?;
        let header = Header::parse(&bytes).map_err(|fault| {
            cpio.fault(match fault {
                Fault::Stripped => {
                    "a payload without file names (07070X), as rpm uses it for files above 4 GiB"
                }
                Fault::Digits(_) => "a newc header with a field that is not hexadecimal",
                Fault::OldPortable | Fault::Magic => "expected a newc header (070701)",
            })
        })?;
        let name_size = header.name_len;
        if name_size == 0 || name_size > MAX_NAME {
            return Err(cpio.fault(format!("a newc name of {name_size} bytes")));
        }
        let mut name = vec![0; name_size as usize];
        cpio.fill(&mut name, "a newc name")?;
        let at = cpio.at;
        cpio.skip(at.next_multiple_of(4) - at, "a newc name's padding")?;
        let path = c_string(&name);
        if path == b"TRAILER!!!" {
            return Ok(());
        }
        let flow = if header.mode & mode::S_IFMT == mode::S_IFREG {
            cpio.member(path, header.body_len, 4, visit)?
        } else {
            cpio.member(path, header.body_len, 4, &mut |_, _, _| Ok(ControlFlow::Continue(())))?
        };
        if flow.is_break() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A tar member as `tar --format=ustar` writes it.
    pub(crate) fn tar_member(path: &str, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut header = [0_u8; 512];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut out = header.to_vec();
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    fn list(walk: impl FnOnce(&mut Visit<'_>) -> Result<(), Error>) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut found = Vec::new();
        walk(&mut |path, size, data| {
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes)?;
            if bytes.len() as u64 != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            found.push((String::from_utf8_lossy(path).into_owned(), bytes));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    #[test]
    fn tar_with_long_names_of_both_kinds() {
        let long = format!("./{}/x.ko", "deep/".repeat(40));
        let mut archive = tar_member("./dir/", b'5', b"");
        archive.extend(tar_member("./a", b'0', b"one"));
        archive.extend(tar_member("././@LongLink", b'L', format!("{long}\0").as_bytes()));
        archive.extend(tar_member("short", b'0', b"two"));
        let record = format!("path={long}2\n");
        let len = record.len() + 4;
        archive.extend(tar_member("pax", b'x', format!("{len} {record}").as_bytes()));
        archive.extend(tar_member("short", 0, &[7; 1000]));
        archive.extend([0; 1024]);
        let found = list(|visit| tar(archive.as_slice(), visit)).unwrap();
        assert_eq!(
            found,
            [
                ("./a".into(), b"one".to_vec()),
                (long.clone(), b"two".to_vec()),
                (format!("{long}2"), vec![7; 1000])
            ]
        );
    }

    #[test]
    fn a_wrong_checksum_and_an_early_end_are_named_with_their_place() {
        let mut archive = tar_member("a", b'0', &[1; 600]);
        archive.extend(tar_member("b", b'0', b"x"));
        let whole = archive.len();
        let mut damaged = archive.clone();
        damaged[1536] ^= 1;
        let error = list(|visit| tar(damaged.as_slice(), visit)).unwrap_err();
        assert_eq!(error.place.offset, Some(2048), "{error}");
        for end in [100, 512 + 100, whole - 1] {
            assert!(list(|visit| tar(&archive[..end], visit)).is_err(), "cut at {end}");
        }
        assert!(list(|visit| tar(&archive[..whole], visit)).is_ok());
    }

    #[test]
    fn base_256_and_octal_numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"  12 \0\0\0"), Some(0o12));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(b"12x\0"), None);
    }

    proptest! {
        #[test]
        fn no_reader_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = list(|visit| tar(bytes.as_slice(), visit));
            let _ = list(|visit| newc(bytes.as_slice(), visit));
            for magic in [AR_MAGIC, &RPM_LEAD] {
                let _ = list(|visit| package(&[magic, &bytes].concat()[..], visit));
            }
        }

        #[test]
        fn changed_archives_do_not_panic(at in 0_usize..2560, to in any::<u8>()) {
            let mut archive = tar_member("././@LongLink", b'L', b"lib/modules/1/kernel/a.ko\0");
            archive.extend(tar_member("a", b'0', &[5; 100]));
            archive.extend(tar_member("b", b'x', b"14 path=abcde\n"));
            archive[at] = to;
            let _ = list(|visit| tar(archive.as_slice(), visit));
        }

        #[test]
        fn tar_gives_back_what_was_put_in(files in proptest::collection::vec(("[a-z]{1,90}", proptest::collection::vec(any::<u8>(), 0..1500)), 0..6)) {
            let archive: Vec<u8> = files.iter().flat_map(|(path, data)| tar_member(path, b'0', data)).collect();
            prop_assert_eq!(list(|visit| tar(archive.as_slice(), visit)).unwrap(), files);
        }
    }
}
