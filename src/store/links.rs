//! What programs are linked with: with it, the data of a program lies near that of all it needs.
//!
//! A read of a page unpacks a whole block of the squashfs, up to 1 MiB. What runs early in a boot is small and needs
//! little: a shell, its C library, udev. Scattered among an X server and its toolkits, it cost the Debian installer twice
//! the blocks. Only the order of data depends on what is found here, so that whatever cannot be read is passed over.

use std::collections::HashMap;
use std::io;

use goblin::container::Ctx;
use goblin::elf::dynamic::{DT_NEEDED, DT_SONAME, DT_STRTAB};
use goblin::elf::program_header::{PT_DYNAMIC, PT_INTERP, PT_LOAD};
use goblin::elf::{Elf, ProgramHeader};

/// More program headers than any linker writes.
const MAX_HEADERS: u16 = 64;
/// Bytes of a dynamic section that are looked at: more than a thousand entries.
const MAX_DYNAMIC: u64 = 32 << 10;
/// Libraries of one program that are looked at: made-up ones shall not take more memory than the file's inode does.
const MAX_NEEDED: usize = 64;
/// Bytes of a library's name that are looked at: file names are not longer.
const MAX_NAME: u64 = 256;
/// Files in one closure that are looked at: a bound on the time that made-up links can take.
const MAX_CLOSURE: usize = 1024;

/// The names in a program or shared library by which it finds others and others find it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Links {
    /// Its own name (`DT_SONAME`).
    soname: Option<Name>,
    /// Names of the libraries and the interpreter that it needs (`DT_NEEDED`, `PT_INTERP`).
    needed: Vec<Name>,
}

/// The name of a library, as a hash: that takes the same few bytes however long a made-up name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name([u8; 8]);

impl Name {
    fn of(name: &[u8]) -> Self {
        let mut short = [0; 8];
        short.copy_from_slice(&blake3::hash(name).as_bytes()[..8]);
        Self(short)
    }
}

/// Reads the links of an ELF file of `size` bytes, of which `read` reads any range.
pub(super) fn read(size: u64, mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>) -> Option<Links> {
    let mut part = |offset: u64, most: u64| {
        let mut bytes = vec![0; size.checked_sub(offset)?.min(most) as usize];
        read(&mut bytes, offset).ok().map(|()| bytes)
    };
    let header = Elf::parse_header(&part(0, 64)?).ok()?;
    let ctx = Ctx::new(header.container().ok()?, header.endianness().ok()?);
    let count = header.e_phnum.min(MAX_HEADERS);
    let table = part(header.e_phoff, u64::from(count) * ProgramHeader::size(ctx) as u64)?;
    let headers = ProgramHeader::parse(&table, 0, usize::from(count), ctx).ok()?;

    let mut links = Links::default();
    let name = |bytes: Vec<u8>| {
        let name = file_name(bytes.split(|&b| b == 0).next()?);
        (!name.is_empty()).then(|| Name::of(name))
    };
    if let Some(header) = headers.iter().find(|h| h.p_type == PT_INTERP) {
        links.needed.extend(part(header.p_offset, header.p_filesz.min(MAX_NAME)).and_then(name));
    }
    let Some(header) = headers.iter().find(|h| h.p_type == PT_DYNAMIC) else { return Some(links) };
    let dynamic = part(header.p_offset, header.p_filesz.min(MAX_DYNAMIC))?;
    let entries = entries(&dynamic, ctx);
    let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?.1;
    let strings = headers.iter().filter(|h| h.p_type == PT_LOAD).find_map(|h| {
        let within = strings.checked_sub(h.p_vaddr).filter(|&at| at < h.p_filesz)?;
        h.p_offset.checked_add(within)
    })?;
    for (tag, value) in entries {
        let mut text = || strings.checked_add(value).and_then(|at| part(at, MAX_NAME)).and_then(name);
        match tag {
            DT_SONAME => links.soname = text(),
            DT_NEEDED if links.needed.len() < MAX_NEEDED => links.needed.extend(text()),
            _ => {}
        }
    }
    Some(links)
}

/// Tags and values of a dynamic section.
fn entries(bytes: &[u8], ctx: Ctx) -> Vec<(u64, u64)> {
    let word = |bytes: &[u8]| {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        if !ctx.is_little_endian() {
            all[..bytes.len()].reverse();
        }
        u64::from_le_bytes(all)
    };
    let half = if ctx.container.is_big() { 8 } else { 4 };
    bytes
        .chunks_exact(2 * half)
        .map(|entry| (word(&entry[..half]), word(&entry[half..])))
        .take_while(|(tag, _)| *tag != 0)
        .collect()
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or(path)
}

/// A program or library among those of an image.
pub(super) struct Linked<'a> {
    pub(super) path: &'a [u8],
    pub(super) size: u64,
    /// What has to agree for one to be linked with the other: class, byte order and machine.
    pub(super) kind: [u8; 4],
    pub(super) links: &'a Links,
}

/// For each of `files` the bytes of it and of all that it needs, directly or not, as far as that is among them; 0 for
/// what is not linked.
pub(super) fn closures(files: &[Option<Linked<'_>>]) -> Vec<u64> {
    let mut by_name: HashMap<([u8; 4], Name), usize> = HashMap::new();
    let linked = || files.iter().enumerate().filter_map(|(i, file)| Some((i, file.as_ref()?)));
    for (i, file) in linked() {
        if let Some(name) = file.links.soname {
            by_name.entry((file.kind, name)).or_insert(i);
        }
    }
    for (i, file) in linked() {
        by_name.entry((file.kind, Name::of(file_name(file.path)))).or_insert(i);
    }
    let mut needs: Vec<Vec<usize>> = vec![Vec::new(); files.len()];
    for (i, file) in linked() {
        needs[i].extend(file.links.needed.iter().filter_map(|&name| by_name.get(&(file.kind, name))));
    }
    let mut seen_by = vec![usize::MAX; files.len()];
    let mut closure = Vec::new();
    (0..files.len())
        .map(|root| {
            closure.clear();
            closure.push(root);
            seen_by[root] = root;
            let mut at = 0;
            while at < closure.len() {
                for &need in &needs[closure[at]] {
                    if seen_by[need] != root && closure.len() < MAX_CLOSURE {
                        seen_by[need] = root;
                        closure.push(need);
                    }
                }
                at += 1;
            }
            closure
                .iter()
                .filter_map(|&file| files[file].as_ref())
                .fold(0, |sum, file| file.size.saturating_add(sum))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use goblin::container::{Container, Endian};

    use super::*;

    fn of(bytes: &[u8]) -> Option<Links> {
        read(bytes.len() as u64, |buf, at| {
            let at = at as usize;
            buf.copy_from_slice(&bytes[at..at + buf.len()]);
            Ok(())
        })
    }

    fn links(soname: Option<&str>, needed: &[&str]) -> Links {
        Links {
            soname: soname.map(|name| Name::of(name.as_bytes())),
            needed: needed.iter().map(|name| Name::of(name.as_bytes())).collect(),
        }
    }

    #[test]
    fn links_are_those_that_goblin_finds() {
        let path = std::env::current_exe().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        let interpreter = elf.interpreter.map(|path| file_name(path.as_bytes()));
        let needed = interpreter.into_iter().chain(elf.libraries.iter().map(|l| l.as_bytes()));
        let soname = elf.soname.map(|name| Name::of(name.as_bytes()));
        assert_eq!(of(&bytes).unwrap(), Links { soname, needed: needed.map(Name::of).collect() });
    }

    #[test]
    fn dynamic_sections_are_read_in_either_class_and_byte_order() {
        for (container, endian, bytes) in [
            (Container::Big, Endian::Little, b"\x01\0\0\0\0\0\0\0\x02\x03\0\0\0\0\0\0".as_slice()),
            (Container::Big, Endian::Big, b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x03\x02"),
            (Container::Little, Endian::Little, b"\x01\0\0\0\x02\x03\0\0"),
            (Container::Little, Endian::Big, b"\0\0\0\x01\0\0\x03\x02"),
        ] {
            // What stands behind the end of the section (DT_NULL) is none of it.
            let section = [bytes, &vec![0; bytes.len()], bytes].concat();
            assert_eq!(entries(&section, Ctx::new(container, endian)), [(DT_NEEDED, 0x302)]);
        }
    }

    #[test]
    fn a_closure_counts_each_file_once() {
        let kind = [2, 1, 62, 0];
        let all = [
            (links(None, &["ld.so", "b.so.1", "c.so"]), "bin/a", 1),
            (links(Some("b.so.1"), &["c.so", "nowhere.so"]), "lib/b.so.1.2", 10),
            (links(None, &["b.so.1", "ld.so"]), "lib/c.so", 100),
            (links(None, &[]), "lib/ld.so", 1000),
        ];
        let of = |loader| {
            let kinds = [kind, kind, kind, loader];
            let files = all.iter().zip(kinds).map(|((links, path, size), kind)| {
                Some(Linked { path: path.as_bytes(), size: *size, kind, links })
            });
            closures(&files.chain([None]).collect::<Vec<_>>())
        };
        assert_eq!(of(kind), [1111, 1110, 1110, 1000, 0]);
        // A library of another machine is none.
        assert_eq!(of([1, 1, 3, 0]), [111, 110, 110, 1000, 0]);
    }
}
