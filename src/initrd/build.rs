//! Small initrds for tests.

use super::{Initrd, Writers};
use crate::tree::Tree;

/// An initrd that unpacks to `tree`.
pub(crate) fn initrd(tree: Tree) -> Initrd {
    Initrd::of_tree(tree)
}

/// Has early segments, and no others, write these paths of an initrd.
pub(crate) fn early<'p>(initrd: &mut Initrd, paths: impl IntoIterator<Item = &'p str>) {
    initrd.early_paths = paths.into_iter().map(|path| path.as_bytes().to_vec()).collect();
    initrd.writers = vec![Writers::default(); initrd.tree.inodes.len()];
    for path in &initrd.early_paths {
        if let Some(id) = initrd.tree.get(path) {
            initrd.writers[id.0 as usize] = Writers { first: 1, last: 1, early: true };
        }
    }
}
