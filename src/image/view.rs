//! The tree of an image as a process that runs in it sees it.

use crate::tree::{InodeId, Node, Tree, display};

/// Texts larger than this are not read.
const MAX_TEXT: u64 = 512 << 10;

pub(super) struct Image<'a>(pub &'a Tree);

impl Image<'_> {
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.resolve(path).is_some()
    }

    pub(super) fn bytes(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        self.0.read(self.0.resolve(path)?, limit).ok().flatten()
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.bytes(path, MAX_TEXT).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first `count` bytes of a regular file.
    pub(super) fn head(&self, id: InodeId, count: u64) -> Option<Vec<u8>> {
        let Node::Regular(content) = &self.0.inode(id).node else { return None };
        let mut head = vec![0; content.size.min(count) as usize];
        self.0.read_at(content, &mut head, 0).ok()?;
        Some(head)
    }

    /// `path` with all symlinks followed, as an absolute path.
    pub(super) fn real_path(&self, path: &str) -> Option<String> {
        self.0.real_path(path).map(|path| format!("/{}", display(&path)))
    }
}
