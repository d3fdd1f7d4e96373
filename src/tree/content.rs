//! Contents of regular files: compared byte by byte, or hashed to find equal ones.

use std::io;

use super::{Content, Tree, display};
use crate::error::Error;

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;

/// Buffers to read two files side by side, made once for a whole comparison.
pub(crate) struct Buffers {
    left: Vec<u8>,
    right: Vec<u8>,
}

impl Buffers {
    /// Two empty buffers.
    pub(crate) fn new() -> Self {
        Self { left: vec![0; CHUNK], right: vec![0; CHUNK] }
    }
}

/// The offset of the first byte in which two contents differ, or `None` if they are equal.
pub(crate) fn first_difference(
    (left_tree, left): (&Tree, &Content),
    (right_tree, right): (&Tree, &Content),
    path: &[u8],
    buffers: &mut Buffers,
) -> Result<Option<u64>, Error> {
    let end = left.size.min(right.size);
    let mut at = 0;
    // Two holes are equal, however long they are.
    while let Some(next) =
        [left.stored(at), right.stored(at)].into_iter().flatten().min().filter(|&n| n < end)
    {
        at = next / CHUNK as u64 * CHUNK as u64;
        let len = usize::try_from(end - at).map_or(CHUNK, |rest| rest.min(CHUNK));
        let (a, b) = (&mut buffers.left[..len], &mut buffers.right[..len]);
        left_tree.read_at(left, a, at).map_err(|e| unreadable(path, &e))?;
        right_tree.read_at(right, b, at).map_err(|e| unreadable(path, &e))?;
        if a != b {
            let same = a.iter().zip(b.iter()).take_while(|(x, y)| x == y).count();
            return Ok(Some(at + same as u64));
        }
        at += len as u64;
    }
    Ok((left.size != right.size).then_some(end))
}

/// Bytes of a content that are hashed at a time, from a multiple of this.
pub(crate) const WINDOW: u64 = 1 << 20;
/// Zeros are left out of a hash in units of this size, if the reader has no larger ones.
const SECTOR: usize = 4096;

/// BLAKE3 of a content's size and of its runs of sectors that are not zeros, each with its place. Zeros count for the same
/// whether they are stored or holes. Collisions cannot be constructed, so equal hashes mean equal contents even in a
/// hostile image.
pub(crate) struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// For a content of `size` bytes.
    pub(crate) fn new(size: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&size.to_le_bytes());
        Self(hasher)
    }

    /// Adds the window that starts at `start`, padded with zeros to whole sectors, and calls `each` with every sector and
    /// whether it is not zeros. Windows of zeros may be left out.
    pub(crate) fn window(
        &mut self,
        start: u64,
        bytes: &[u8],
        sector: usize,
        mut each: impl FnMut(&[u8], bool),
    ) {
        let mut run = None;
        for (i, sector_bytes) in bytes.chunks_exact(sector).enumerate() {
            let stored = sector_bytes.iter().any(|&byte| byte != 0);
            if stored {
                run.get_or_insert(i * sector);
            } else if let Some(from) = run.take() {
                self.run(start, from, &bytes[from..i * sector]);
            }
            each(sector_bytes, stored);
        }
        if let Some(from) = run {
            self.run(start, from, &bytes[from..]);
        }
    }

    fn run(&mut self, window: u64, from: usize, bytes: &[u8]) {
        self.0.update(&(window + from as u64).to_le_bytes());
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The hash.
    pub(crate) fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// The hash of a content; see [`ContentHasher`].
pub(crate) fn hash(
    tree: &Tree,
    content: &Content,
    path: &[u8],
    buffer: &mut Buffers,
) -> Result<[u8; 32], Error> {
    let mut hasher = ContentHasher::new(content.size);
    let mut at = 0;
    while let Some(next) = content.stored(at).filter(|&next| next < content.size) {
        at = next / WINDOW * WINDOW;
        let len = (content.size - at).min(WINDOW) as usize;
        let window = &mut buffer.left;
        window.clear();
        window.resize(len.next_multiple_of(SECTOR), 0);
        tree.read_at(content, &mut window[..len], at).map_err(|e| unreadable(path, &e))?;
        hasher.window(at, window, SECTOR, |_, _| ());
        at += len as u64;
    }
    // Comparisons use the buffer at its full length.
    buffer.left.resize(CHUNK, 0);
    Ok(hasher.finish())
}

/// Where a content starts in its tree's data: reading in this order unpacks each block of a squashfs only once.
pub(crate) fn place(content: &Content) -> u64 {
    content.extents.first().map_or(0, |extent| extent.data_offset)
}

fn unreadable(path: &[u8], error: &io::Error) -> Error {
    Error::input(format!("/{}: content cannot be read: {error}", display(path)))
        .hint("the image is damaged: download it or make it again")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tree::Extent;

    /// 1 MiB of zeros with a mark in its middle.
    fn tree() -> Tree {
        let mut data = vec![0; 1 << 20];
        data[1 << 19] = 1;
        Tree::new(Arc::new(data))
    }

    fn content(size: u64, extents: &[(u64, u64, u64)]) -> Content {
        let extent = |&(file_offset, data_offset, len)| Extent { file_offset, data_offset, len };
        Content { size, extents: extents.iter().map(extent).collect() }
    }

    #[test]
    fn holes_are_zeros_of_any_length() {
        let (tree, mut buffers, far) = (tree(), Buffers::new(), i64::MAX as u64 - 5);
        let mut compare = |a: &Content, b: &Content| {
            let hash = |content, buffers: &mut Buffers| hash(&tree, content, b"x", buffers).unwrap();
            let same = hash(a, &mut buffers) == hash(b, &mut buffers);
            let difference = first_difference((&tree, a), (&tree, b), b"x", &mut buffers).unwrap();
            assert_eq!(same, difference.is_none(), "{a:?} {b:?}");
            difference
        };
        let hole = content(far, &[]);
        assert_eq!(compare(&hole, &hole), None);
        assert_eq!(compare(&hole, &content(far - 1, &[])), Some(far - 1));
        // Stored zeros equal those of a hole.
        assert_eq!(compare(&hole, &content(far, &[(700_000, 0, 1000), (far - 7, 9, 7)])), None);
        assert_eq!(compare(&hole, &content(far, &[(far - 7, 1 << 19, 7)])), Some(far - 7));
        let (one, two) = (content(1 << 20, &[(0, 0, 1 << 20)]), content(1 << 20, &[(1 << 19, 1 << 19, 1)]));
        assert_eq!(compare(&one, &two), None);
        assert_eq!(compare(&one, &content(1 << 20, &[(1 << 18, 1 << 19, 1)])), Some(1 << 18));
    }
}
