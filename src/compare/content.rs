//! Content of regular files: compared byte by byte, or hashed where it is to be found again elsewhere.

use std::io;

use crate::error::Error;
use crate::tree::{Content, Tree, display};

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

/// The offset of the first byte in which two contents of the same size differ, or `None` where they are the same.
pub(crate) fn first_difference(
    (left_tree, left): (&Tree, &Content),
    (right_tree, right): (&Tree, &Content),
    path: &[u8],
    buffers: &mut Buffers,
) -> Result<Option<u64>, Error> {
    let mut at = 0;
    while at < left.size.min(right.size) {
        let len = usize::try_from(left.size.min(right.size) - at).map_or(CHUNK, |rest| rest.min(CHUNK));
        let (a, b) = (&mut buffers.left[..len], &mut buffers.right[..len]);
        left_tree.read_at(left, a, at).map_err(|e| unreadable(path, &e))?;
        right_tree.read_at(right, b, at).map_err(|e| unreadable(path, &e))?;
        if a != b {
            let same = a.iter().zip(b.iter()).take_while(|(x, y)| x == y).count();
            return Ok(Some(at + same as u64));
        }
        at += len as u64;
    }
    Ok((left.size != right.size).then_some(at))
}

/// BLAKE3 of a content: collisions cannot be made, so that equal hashes are equal contents even in a hostile image.
pub(crate) fn hash(
    tree: &Tree,
    content: &Content,
    path: &[u8],
    buffer: &mut Buffers,
) -> Result<[u8; 32], Error> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < content.size {
        let len = usize::try_from(content.size - at).map_or(CHUNK, |rest| rest.min(CHUNK));
        let bytes = &mut buffer.left[..len];
        tree.read_at(content, bytes, at).map_err(|e| unreadable(path, &e))?;
        hasher.update(bytes);
        at += len as u64;
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Where a content starts in its tree's data: reading in this order unpacks each block of a squashfs once.
pub(crate) fn place(content: &Content) -> u64 {
    content.extents.first().map_or(0, |extent| extent.data_offset)
}

fn unreadable(path: &[u8], error: &io::Error) -> Error {
    Error::input(format!("/{}: its content cannot be read: {error}", display(path)))
        .hint("the image is damaged there: fetch or make it again")
}
