//! ISO 9660 images: which initrds and kernels are on them (ECMA-119, and the names of Rock Ridge, IEEE P1282).

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use crate::bytes::ReadAt;
use crate::codec::{self, Encoding};
use crate::error::Error;
use crate::magic;
use crate::tree::display;

const SECTOR: u64 = 2048;
/// The primary volume descriptor is the first of them that counts.
const DESCRIPTORS: u64 = 16 * SECTOR;
/// Bounds of what is read: directories, bytes of one, files that are looked into.
const MAX_DIRECTORIES: usize = 10_000;
const MAX_DIRECTORY: u64 = 4 << 20;
const MAX_FILES: usize = 50_000;
/// So many bytes of a file show what it is.
const HEAD: usize = 64 << 10;
/// Rows in the message.
const ROWS: usize = 6;

/// Whether the file that begins with `start` is an ISO 9660 image.
pub(super) fn is_iso(start: &[u8]) -> bool {
    start.get(DESCRIPTORS as usize + 1..).is_some_and(|at| at.starts_with(b"CD001"))
}

/// A file or directory.
pub(crate) struct Record {
    /// Without a leading `/`.
    pub(crate) path: Vec<u8>,
    /// Where its content starts, in bytes.
    pub(crate) at: u64,
    /// Its size in bytes.
    pub(crate) size: u64,
    directory: bool,
}

/// What a boot needs.
#[derive(Default)]
struct Found {
    initrds: Vec<String>,
    kernels: Vec<String>,
    systems: Vec<String>,
}

/// The error that says what is on the image.
pub(super) fn refuse(source: &dyn ReadAt, name: &Path) -> Error {
    let mut found = Found::default();
    for record in files(source) {
        let bytes = || format!("/{} ({} bytes)", display(&record.path), record.size);
        let mut head = vec![0; record.size.min(HEAD as u64) as usize];
        if source.read_exact_at(&mut head, record.at).is_err() {
            continue;
        }
        if is_initrd(&head) {
            found.initrds.push(bytes());
        } else if magic::name(&head).starts_with("a Linux kernel") {
            found.kernels.push(bytes());
        } else if head.starts_with(b"hsqs") {
            found.systems.push(bytes());
        }
    }
    let list = |list: &[String]| match list.len() {
        0 => "none".to_owned(),
        1..=ROWS => list.join(", "),
        more => format!("{} and {} more", list[..ROWS].join(", "), more - ROWS),
    };
    let error = Error::input("is an ISO 9660 image: expected an initrd");
    let mut hint = format!("initrds on it: {}; kernels: {}", list(&found.initrds), list(&found.kernels));
    if let Some(first) = found.initrds.first() {
        let path = first.rsplit_once(" (").map_or("", |(path, _)| path);
        let file = path.rsplit('/').next().unwrap_or_default();
        hint.push_str(&format!(
            "\n  take one out with: xorriso -osirrox on -indev {} -extract {path} {file}",
            name.display()
        ));
    }
    if !found.systems.is_empty() {
        hint.push_str(&format!(
            "\n  its system is in {}, which its initrd mounts: such an initrd has nothing to convert",
            list(&found.systems)
        ));
    }
    error.hint(hint)
}

/// Whether a newc archive, compressed or not, begins here.
fn is_initrd(head: &[u8]) -> bool {
    let Some(encoding) = Encoding::of(head) else { return false };
    let mut start = [0; 5];
    codec::decoder(encoding, head).and_then(|mut decoder| decoder.read_exact(&mut start)).is_ok()
        && start == *b"07070"
}

/// All regular files, in the order of their directories.
pub(crate) fn files(source: &dyn ReadAt) -> Vec<Record> {
    let mut descriptor = [0; SECTOR as usize];
    if source.read_exact_at(&mut descriptor, DESCRIPTORS).is_err() {
        return Vec::new();
    }
    let Some((root, _)) = record(&descriptor[156..], b"") else { return Vec::new() };
    let (mut todo, mut seen, mut found) = (vec![root], HashSet::new(), Vec::new());
    while let Some(directory) = todo.pop() {
        if seen.len() >= MAX_DIRECTORIES || directory.size > MAX_DIRECTORY || !seen.insert(directory.at) {
            continue;
        }
        let mut bytes = vec![0; directory.size as usize];
        if source.read_exact_at(&mut bytes, directory.at).is_err() {
            continue;
        }
        let mut at = 0;
        let mut below = Vec::new();
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match record(rest, &directory.path) {
                Some((entry, len)) => {
                    at += len;
                    if entry.path != directory.path {
                        below.push(entry);
                    }
                }
                // No record goes over the end of a sector.
                None => at = (at + 1).next_multiple_of(SECTOR as usize),
            }
        }
        for entry in below {
            if entry.directory {
                todo.push(entry);
            } else if found.len() < MAX_FILES {
                found.push(entry);
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The directory record at the start of `bytes`, and its length. That of a directory itself and of its parent has the
/// path of the directory.
fn record(bytes: &[u8], directory: &[u8]) -> Option<(Record, usize)> {
    let len = usize::from(*bytes.first()?);
    let record = bytes.get(..len).filter(|record| record.len() >= 34)?;
    let word = |at: usize| Some(u64::from(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?)));
    let name_len = usize::from(record[32]);
    let name = record.get(33..33 + name_len)?;
    let path = if matches!(name, [0] | [1]) {
        directory.to_vec()
    } else {
        let system_use = record.get((33 + name_len).next_multiple_of(2)..).unwrap_or_default();
        let name = rock_ridge(system_use).unwrap_or_else(|| plain(name));
        if directory.is_empty() { name } else { [directory, b"/", &name].concat() }
    };
    let entry = Record { path, at: word(2)? * SECTOR, size: word(10)?, directory: record[25] & 2 != 0 };
    Some((entry, len))
}

/// A name without its version and its empty extension.
fn plain(name: &[u8]) -> Vec<u8> {
    let name = name.split(|&b| b == b';').next().unwrap_or_default();
    name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase()
}

/// The name in the `NM` entries of a system use field.
fn rock_ridge(mut field: &[u8]) -> Option<Vec<u8>> {
    let mut name: Option<Vec<u8>> = None;
    while let [a, b, len, ..] = field {
        let entry = field.get(..usize::from(*len)).filter(|entry| entry.len() >= 4)?;
        if (a, b) == (&b'N', &b'M') && entry.len() > 5 {
            name.get_or_insert_default().extend_from_slice(&entry[5..]);
        }
        field = &field[entry.len()..];
    }
    name
}
