//! One pass over all data: which contents are equal, where they are zeros, the checksums of their sectors.

use std::io;
use std::sync::OnceLock;

use super::links::{self, Links};
use crate::cores::share;
use crate::error::Error;
use crate::tree::content::{ContentHasher, WINDOW};
use crate::tree::{Content, Tree};

/// Runs of zeros shorter than this are stored: a hole costs an extent of metadata.
const SHORTEST_HOLE: u64 = 64 << 10;
/// A run of a file that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it starts in the file, on a sector.
    pub(crate) offset: u64,
    /// Its length in bytes, whole sectors.
    pub(crate) len: u64,
}

/// What one file's bytes are.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Equal where size and bytes are equal.
    pub(crate) hash: [u8; 32],
    /// How the content is to be stored, unless the caller keeps it. Boxed, because most files of a large system are small
    /// and kept: they cost only the hash.
    pub(crate) data: Option<Box<Data>>,
}

/// How one file's bytes are to be stored.
#[derive(Debug)]
pub(crate) struct Data {
    /// What is stored; all else is zeros.
    pub(crate) pieces: Vec<Piece>,
    /// CRC-32C of each stored sector, in order.
    pub(crate) csums: Vec<u32>,
    /// The first bytes of the file.
    pub(crate) head: Vec<u8>,
    /// Bits of entropy a byte, counted over the first window: 8 where it is random or compressed.
    pub(crate) entropy: f32,
    /// Of a program or shared library, what it is linked with.
    pub(crate) links: Option<Links>,
}

/// Bytes kept of a file's beginning.
const HEAD: usize = 64;

/// Checks that the extents of `content` are what [`Content`] says they are.
fn check(content: &Content) -> bool {
    let mut end = 0_u64;
    content.size < i64::MAX as u64
        && content.extents.iter().all(|e| {
            let from = e.file_offset;
            let to = from.checked_add(e.len);
            let sorted = from >= end;
            end = to.unwrap_or(u64::MAX);
            sorted && end <= content.size && e.data_offset.checked_add(e.len).is_some()
        })
}

fn entropy(bytes: &[u8]) -> f32 {
    let mut counts = [0_u32; 256];
    for &byte in bytes {
        counts[byte as usize] += 1;
    }
    let total = bytes.len() as f32;
    counts.iter().filter(|&&n| n > 0).map(|&n| n as f32 / total).map(|p| -p * p.log2()).sum()
}

/// Collects stored runs; short runs of zeros between them are stored too.
struct Runs {
    sector: u64,
    zero_csum: u32,
    /// Sectors of zeros since the last stored one, and where the next sector lies.
    pending: u64,
    at: u64,
    pieces: Vec<Piece>,
    csums: Vec<u32>,
}

impl Runs {
    fn zeros(&mut self, sectors: u64) {
        self.pending += sectors;
        self.at += sectors * self.sector;
    }

    fn data(&mut self, csum: u32) {
        self.settle();
        match self.pieces.last_mut() {
            Some(piece) if piece.offset + piece.len == self.at => piece.len += self.sector,
            _ => self.pieces.push(Piece { offset: self.at, len: self.sector }),
        }
        self.csums.push(csum);
        self.at += self.sector;
    }

    /// Stores pending zeros where they are too few for a hole.
    fn settle(&mut self) {
        let zeros = self.pending * self.sector;
        self.pending = 0;
        if zeros == 0 || zeros >= SHORTEST_HOLE {
            return;
        }
        match self.pieces.last_mut() {
            Some(piece) => piece.len += zeros,
            None => self.pieces.push(Piece { offset: self.at - zeros, len: zeros }),
        }
        self.csums.extend(std::iter::repeat_n(self.zero_csum, (zeros / self.sector) as usize));
    }
}

fn scan(tree: &Tree, content: &Content, settings: Settings, buffer: &mut Vec<u8>) -> io::Result<Scanned> {
    let sector = u64::from(settings.sector);
    let zero_csum = crc32c::crc32c(&vec![0; sector as usize]);
    let mut runs = Runs { sector, zero_csum, pending: 0, at: 0, pieces: Vec::new(), csums: Vec::new() };
    let mut hasher = ContentHasher::new(content.size);
    let mut head = Vec::new();
    let mut bits = 0.0;
    let mut start = 0;
    while start < content.size {
        // Windows that no extent reaches are zeros without a look.
        let next = content.extents.partition_point(|e| e.file_offset + e.len <= start);
        let reached = content.extents[next..].iter().find(|e| e.len > 0);
        let first = reached.map_or(content.size, |e| e.file_offset.max(start));
        let skip = (first - start) / WINDOW * WINDOW;
        if skip > 0 || reached.is_none() {
            let end = if reached.is_none() { content.size } else { start + skip };
            runs.zeros((end - start).div_ceil(sector));
            start = end;
            continue;
        }
        let len = (content.size - start).min(WINDOW) as usize;
        buffer.clear();
        buffer.resize(len.next_multiple_of(sector as usize), 0);
        tree.read_at(content, &mut buffer[..len], start)?;
        if start == 0 {
            head = buffer[..len.min(HEAD)].to_vec();
            bits = entropy(&buffer[..len]);
        }
        hasher.window(start, buffer, sector as usize, |bytes, stored| {
            if stored { runs.data(crc32c::crc32c(bytes)) } else { runs.zeros(1) }
        });
        start += len as u64;
    }
    if !runs.pieces.is_empty() {
        runs.settle();
    }
    runs.pieces.shrink_to_fit();
    runs.csums.shrink_to_fit();
    let hash = hasher.finish();
    if content.size <= settings.kept {
        return Ok(Scanned { hash, data: None });
    }
    let links = crate::elf::code(&head)
        .and_then(|_| links::read(content.size, |bytes, offset| tree.read_at(content, bytes, offset)));
    let data = Data { pieces: runs.pieces, csums: runs.csums, head, entropy: bits, links };
    Ok(Scanned { hash, data: Some(Box::new(data)) })
}

/// What holds for all files of a scan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Size of a sector, bytes.
    pub(crate) sector: u32,
    /// Contents of at most so many bytes are kept by the caller.
    pub(crate) kept: u64,
}

/// Scans `files` on every core; the results come in their order.
///
/// # Errors
/// When a file's extents are not in order or its data cannot be read; the file is named by its place in `files`.
pub(crate) fn all(
    tree: &Tree,
    files: &[&Content],
    settings: Settings,
) -> Result<Vec<Scanned>, (usize, Error)> {
    let done: Vec<OnceLock<Scanned>> = files.iter().map(|_| OnceLock::new()).collect();
    share(files.len(), Vec::new, |buffer, i| {
        if !check(files[i]) {
            return Err((i, Error::input("the extents are not in order or reach beyond the size")));
        }
        let scanned = scan(tree, files[i], settings, buffer)
            .map_err(|e| (i, Error::input("the content cannot be read").caused_by(e)))?;
        // Each number is given out once.
        drop(done[i].set(scanned));
        Ok(())
    })?;
    Ok(done.into_iter().filter_map(OnceLock::into_inner).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tree::Extent;

    const SETTINGS: Settings = Settings { sector: 4096, kept: 0 };

    fn one(data: Vec<u8>, content: &Content) -> ([u8; 32], Data) {
        let tree = Tree::new(Arc::new(data));
        let scanned = all(&tree, &[content], SETTINGS).unwrap().remove(0);
        (scanned.hash, *scanned.data.unwrap())
    }

    #[test]
    fn of_what_is_kept_only_the_hash_is_known() {
        let content =
            Content { size: 100, extents: vec![Extent { file_offset: 0, data_offset: 0, len: 100 }] };
        let tree = Tree::new(Arc::new(vec![1; 100]));
        let [stored, kept] =
            [99, 100].map(|kept| all(&tree, &[&content], Settings { kept, ..SETTINGS }).unwrap().remove(0));
        assert_eq!(stored.hash, kept.hash);
        assert!(stored.data.is_some() && kept.data.is_none());
    }

    #[test]
    fn zeros_are_holes_however_they_are_written() {
        let size = 5 << 20;
        let mut dense = vec![0; size];
        dense[3_000_000..3_000_100].fill(7);
        let whole = Content {
            size: size as u64,
            extents: vec![Extent { file_offset: 0, data_offset: 0, len: size as u64 }],
        };
        let sparse = Content {
            size: size as u64,
            extents: vec![Extent { file_offset: 3_000_000, data_offset: 3_000_000, len: 100 }],
        };
        let ((hash, a), (same, b)) = (one(dense.clone(), &whole), one(dense, &sparse));
        assert_eq!(hash, same);
        assert_eq!(a.pieces, b.pieces);
        assert_eq!(a.pieces, [Piece { offset: 2_998_272, len: 4096 }]);
        assert_eq!(a.csums, b.csums);
        assert_eq!(a.csums.len(), 1);
    }

    #[test]
    fn short_zeros_are_stored() {
        let mut data = vec![0; 100_000];
        data[50_000] = 1;
        let content =
            Content { size: 100_000, extents: vec![Extent { file_offset: 0, data_offset: 0, len: 100_000 }] };
        let (_, scanned) = one(data, &content);
        assert_eq!(scanned.pieces, [Piece { offset: 0, len: 102_400 }]);
        assert_eq!(scanned.csums.len(), 25);
    }

    #[test]
    fn all_zeros_are_one_hole() {
        let content = Content { size: 10_000_000_000_000, extents: Vec::new() };
        let (_, scanned) = one(Vec::new(), &content);
        assert!(scanned.pieces.is_empty() && scanned.csums.is_empty());
    }

    #[test]
    fn size_tells_apart() {
        let content =
            |size| Content { size, extents: vec![Extent { file_offset: 0, data_offset: 0, len: 3 }] };
        let data = b"abc".to_vec();
        assert_ne!(one(data.clone(), &content(3)).0, one(data, &content(4)).0);
    }

    #[test]
    fn bad_extents_are_an_error() {
        let tree = Tree::new(Arc::new(vec![0; 10]));
        let extent = |file_offset, len| Extent { file_offset, data_offset: 0, len };
        for extents in [vec![extent(0, 11)], vec![extent(5, 2), extent(0, 2)], vec![extent(u64::MAX, 2)]] {
            assert!(all(&tree, &[&Content { size: 10, extents }], SETTINGS).is_err());
        }
        let beyond = Content { size: 20, extents: vec![extent(0, 20)] };
        assert!(all(&tree, &[&beyond], SETTINGS).is_err());
    }
}
