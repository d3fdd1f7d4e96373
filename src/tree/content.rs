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

/// BLAKE3 of a content, in a form of our own. Collisions cannot be constructed, so equal hashes mean equal contents even
/// in a hostile image.
pub(crate) fn hash(
    tree: &Tree,
    content: &Content,
    path: &[u8],
    buffer: &mut Buffers,
) -> Result<[u8; 32], Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&content.size.to_le_bytes());
    let mut at = 0;
    // Chunks of zeros are left out, whether they are stored or holes, so that a long hole takes no time.
    while let Some(next) = content.stored(at).filter(|&next| next < content.size) {
        at = next / CHUNK as u64 * CHUNK as u64;
        let len = usize::try_from(content.size - at).map_or(CHUNK, |rest| rest.min(CHUNK));
        let bytes = &mut buffer.left[..len];
        tree.read_at(content, bytes, at).map_err(|e| unreadable(path, &e))?;
        if bytes.iter().any(|&byte| byte != 0) {
            hasher.update(&at.to_le_bytes());
            hasher.update(bytes);
        }
        at += len as u64;
    }
    Ok(*hasher.finalize().as_bytes())
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
