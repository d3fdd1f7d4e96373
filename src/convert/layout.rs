//! Segments → the new image, written whole or not at all.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::Range;

use crate::bytes::{ReadAt, pieces};
use crate::contract::paths::{OURS, RETAINED_ALIGNMENT, RETAINED_ENTRY, SQUASHFS};
use crate::initrd::NewcWriter;
use crate::tree::{Device, Node, mode};

/// How the squashfs travels in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// As the regular file /squashfs.img, which the kernel unpacks into rootfs.
    Regular,
    /// As the body of an entry that is neither a regular file nor a symbolic link. The kernel skips such bodies
    /// (init/initramfs.c, `do_header`), so nothing is copied; it is read in place through /sys/firmware/initrd. Its
    /// first byte lies on a multiple of 4096 of the file.
    Retained,
}

/// Sizes of the parts of an image, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Early cpio segments.
    pub early: u64,
    /// The cpio that holds the squashfs and its command line.
    pub squashfs_cpio: u64,
    /// Where the squashfs starts in the image.
    pub squashfs_offset: u64,
    /// The compressed front-end.
    pub front_end: u64,
    /// A boot configuration kept at the end.
    pub bootconfig: u64,
    /// What the initrd is packed in: a unified kernel image's kernel and stub, or a header.
    pub around: u64,
    /// All.
    pub total: u64,
}

/// What goes into an image.
pub struct Image<'a> {
    /// The old image.
    pub old: &'a dyn ReadAt,
    /// Where its early segments lie.
    pub early: &'a [Range<u64>],
    /// What else of it the kernel takes before it unpacks anything: name and place in the old image.
    pub early_bodies: &'a [(String, Range<u64>)],
    /// Where its boot configuration lies.
    pub bootconfig: Option<Range<u64>>,
    /// The squashfs, and how it travels; `None` where it stays outside.
    pub squashfs: Option<(&'a dyn ReadAt, Carry)>,
    /// Small files next to it: path and content, given the offset of the squashfs in the image.
    pub extra: &'a dyn Fn(u64) -> Vec<(String, Vec<u8>)>,
    /// The compressed front-end.
    pub front_end: &'a [u8],
    /// Time of the entries that we make.
    pub time: i64,
}

fn copy(out: &mut dyn Write, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
    let size = range.end - range.start;
    pieces(from, range, |bytes| out.write_all(bytes))?;
    Ok(size)
}

fn align(out: &mut dyn Write, at: u64, to: u64) -> io::Result<u64> {
    let zeros = at.next_multiple_of(to) - at;
    out.write_all(&vec![0; zeros as usize])?;
    Ok(at + zeros)
}

/// Ends an archive that starts at `at`; says where the next segment starts.
fn finish<W: Write>(mut newc: NewcWriter<W>, at: u64) -> io::Result<u64> {
    newc.pad()?;
    let written = newc.written();
    // Header, name and padding of the trailer.
    align(&mut newc.finish()?, at + written + 124, 4)
}

/// Writes the directories above `path` that are not yet `made`, outermost first.
fn directories<W: Write>(
    newc: &mut NewcWriter<W>,
    made: &mut BTreeSet<String>,
    path: &str,
) -> io::Result<()> {
    for (at, _) in path.match_indices('/') {
        if made.insert(path[..at].to_owned()) {
            newc.directory(&path[..at], 0o755)?;
        }
    }
    Ok(())
}

impl Image<'_> {
    /// Writes early cpio, the squashfs in a plain cpio, the front-end: the order in which every reader sees all parts.
    ///
    /// # Errors
    /// Those of reading and writing; `InvalidInput` where the squashfs is 4 GiB or larger and has to go into a cpio.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<Parts> {
        let mut parts = Parts::default();
        let mut at = 0;
        for range in self.early {
            at += copy(out, self.old, range.clone())?;
            at = align(out, at, 4)?;
        }
        if !self.early_bodies.is_empty() {
            let mut made = BTreeSet::new();
            let mut newc = NewcWriter::new(&mut *out, self.time);
            for (path, body) in self.early_bodies {
                directories(&mut newc, &mut made, path)?;
                newc.header(path, mode::S_IFREG | 0o644, &Node::Fifo, body.end - body.start, 0)?;
                pieces(self.old, body.clone(), |bytes| newc.content(bytes))?;
                newc.pad()?;
            }
            at = finish(newc, at)?;
        }
        parts.early = at;
        let start = at;
        let mut made = BTreeSet::new();
        let mut newc = NewcWriter::new(&mut *out, self.time);
        if let Some((squashfs, carry)) = self.squashfs {
            match carry {
                Carry::Regular => {
                    newc.header(SQUASHFS, mode::S_IFREG | 0o444, &Node::Fifo, squashfs.len(), 0)?;
                }
                Carry::Retained => {
                    // The name is padded with NUL so that the body starts on a multiple of 4096. The directory
                    // before it matters: the kernel goes on with what the last entry's name left in next_state.
                    directories(&mut newc, &mut made, RETAINED_ENTRY)?;
                    let name = loop {
                        let header = at + newc.written() + 110;
                        let shortest = header + RETAINED_ENTRY.len() as u64 + 1;
                        let name = shortest.next_multiple_of(RETAINED_ALIGNMENT) - header;
                        if name <= 4096 {
                            break name;
                        }
                        // Longer than PATH_MAX: one more entry moves the header to where it is not.
                        newc.directory(OURS, 0o755)?;
                    };
                    // A device like /dev/null: no reader of cpio archives makes anything of its body.
                    let node = Node::CharDevice(Device { major: 1, minor: 3 });
                    newc.header(RETAINED_ENTRY, mode::S_IFCHR | 0o400, &node, squashfs.len(), name as usize)?;
                }
            }
            parts.squashfs_offset = at + newc.written();
            pieces(squashfs, 0..squashfs.len(), |bytes| newc.content(bytes))?;
            newc.pad()?;
        }
        for (path, bytes) in (self.extra)(parts.squashfs_offset) {
            directories(&mut newc, &mut made, &path)?;
            newc.file(&path, 0o644, &bytes)?;
        }
        at = finish(newc, at)?;
        parts.squashfs_cpio = at - start;
        out.write_all(self.front_end)?;
        parts.front_end = self.front_end.len() as u64;
        at += parts.front_end;
        if let Some(range) = &self.bootconfig {
            at = align(out, at, 4)?;
            parts.bootconfig = copy(out, self.old, range.clone())?;
            at += parts.bootconfig;
        }
        parts.total = at;
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::initrd;

    #[test]
    fn early_files_among_others_get_a_segment_of_their_own() {
        let mut old = NewcWriter::new(Vec::new(), 0);
        old.directory("kernel", 0o755).unwrap();
        old.file("init", 0o755, b"#!/bin/sh\n").unwrap();
        for (path, bytes) in [
            ("kernel/x86/microcode/GenuineIntel.bin", b"first"),
            ("kernel/x86/microcode/GenuineIntel.bin", b"again"),
            // The kernel looks for the name as it is written.
            ("./kernel/firmware/acpi/dot.aml", b"table"),
            ("kernel/firmware/acpi/../acpi/up.aml", b"table"),
            ("kernel/firmware/acpi/a.aml", b"table"),
        ] {
            old.file(path, 0o644, bytes).unwrap();
        }
        let old = old.finish().unwrap();
        let read = |bytes: &Vec<u8>| {
            initrd::read(bytes, Path::new("x"), &initrd::Limits::default(), &|_| ()).unwrap()
        };
        let found = read(&old);
        assert!(!found.segments[0].early && found.early_paths.is_empty());
        let image = Image {
            old: &old,
            early: &[],
            early_bodies: &found.early_bodies,
            bootconfig: None,
            squashfs: None,
            extra: &|_| vec![("etc/cmdline.d/x.conf".into(), b"x".to_vec())],
            front_end: &crate::codec::compress(&old, crate::codec::Encoding::Gzip).unwrap(),
            time: 1,
        };
        let mut out = Vec::new();
        let parts = image.write(&mut out).unwrap();
        let new = read(&out);
        assert_eq!(new.segments.iter().map(|s| s.early).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(
            (new.segments[1].offset, new.segments[2].offset),
            (parts.early, out.len() as u64 - parts.front_end)
        );
        assert!(new.early_bodies.is_empty());
        let files: Vec<_> =
            new.early_paths.iter().filter(|p| p.contains(&b'.')).map(|p| crate::tree::display(p)).collect();
        assert_eq!(files, ["kernel/x86/microcode/GenuineIntel.bin", "kernel/firmware/acpi/a.aml"]);
        let early = read(&out[..parts.early as usize].to_vec());
        let id = early.tree.get("kernel/x86/microcode/GenuineIntel.bin").unwrap();
        assert_eq!(early.tree.read(id, 100).unwrap().unwrap(), b"first");
        // Behind something compressed the kernel no longer looks.
        let mut behind = crate::codec::compress(&old, crate::codec::Encoding::Gzip).unwrap();
        behind.resize(behind.len().next_multiple_of(4), 0);
        behind.extend(&old);
        assert!(read(&behind).early_bodies.is_empty());
    }

    #[test]
    fn parts_add_up_and_are_read_again() {
        let squashfs = vec![7_u8; 10_001];
        for carry in [Carry::Regular, Carry::Retained] {
            let old = b"early!!!".to_vec();
            let image = Image {
                old: &old,
                early: &[],
                early_bodies: &[],
                bootconfig: None,
                squashfs: Some((&squashfs, carry)),
                extra: &|offset| vec![("etc/cmdline.d/x.conf".into(), offset.to_string().into_bytes())],
                front_end: &crate::codec::compress(
                    &NewcWriter::new(Vec::new(), 0).finish().unwrap(),
                    crate::codec::Encoding::Xz,
                )
                .unwrap(),
                time: 1,
            };
            let mut out = Vec::new();
            let parts = image.write(&mut out).unwrap();
            assert_eq!(parts.total, out.len() as u64);
            assert_eq!(parts.early + parts.squashfs_cpio + parts.front_end, parts.total);
            let at = parts.squashfs_offset as usize;
            assert_eq!(&out[at..at + squashfs.len()], squashfs);
            let read = initrd::read(&out, Path::new("x"), &initrd::Limits::default(), &|_| ()).unwrap();
            assert!(read.tree.get("etc/cmdline.d/x.conf").is_some());
            assert_eq!(read.segments.len(), 2);
            match carry {
                Carry::Regular => assert!(read.tree.get("squashfs.img").is_some()),
                Carry::Retained => {
                    assert!(at.is_multiple_of(4096));
                    let (name, range) = &read.skipped_bodies[0];
                    assert_eq!(name, RETAINED_ENTRY.as_bytes());
                    assert_eq!(*range, at as u64..(at + squashfs.len()) as u64);
                }
            }
        }
    }
}
