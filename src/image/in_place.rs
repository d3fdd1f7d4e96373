//! An initramfs whose system is a file inside, which a converted image reads in the retained initrd
//! (`convert --runtime-from retained`): what goes where, and the initramfs as it was before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::classify::{Classification, Inside};
use super::split::{BootPart, Split, modules_of};
use crate::bytes::Joined;
use crate::contract::paths;
use crate::error::Error;
use crate::initrd::Initrd;
use crate::kernel::Kernel;
use crate::tree::{Content, Extent, Inode, Node, Tree};

/// The file inside that holds the system of an initramfs.
///
/// # Errors
/// [`crate::error::Kind::Input`] if it cannot be read in place.
pub fn file<'c>(image: &Initrd, class: &'c Classification) -> Result<&'c Inside, Error> {
    let inside = class.inside.first().ok_or_else(|| Error::input("has no file with a system inside"))?;
    let refused = |why: &str| {
        Error::input(format!("{} cannot be read in the retained initrd: {why}", inside.path))
            .hint("use the image as it is")
    };
    if image.tree.get(inside.path.as_bytes()) != Some(inside.id) || inside.path.contains('\n') {
        return Err(refused("its path has characters that cannot be written into the image's configuration"));
    }
    if image.tree.inode(inside.id).nlink > 1 {
        return Err(refused("it has hard links, and only one path can be served"));
    }
    if class.init.as_deref() != Some("/init") {
        return Err(refused("the image has no /init, which is where btrsquash's program starts"));
    }
    if image.tree.get(paths::OURS).is_some() {
        return Err(refused(&format!("the image has a /{} of its own", paths::OURS)));
    }
    Ok(inside)
}

/// What goes where: the file into the squashfs, all else stays in the boot initramfs.
#[must_use]
pub fn divide(image: &Initrd, inside: &Inside, kernels: &[Kernel]) -> Split {
    let old = &image.tree;
    let mut tree = Tree::new(Arc::clone(&old.data));
    let directory = |mtime| Inode {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime,
        nlink: 1,
        node: Node::Directory(BTreeMap::new()),
    };
    let time = old.inode(inside.id).mtime;
    let root = tree.root;
    *tree.inode_mut(root) = directory(time);
    let file = tree.add(old.inode(inside.id).clone());
    let live = tree.add(directory(time));
    let (parent, name) = paths::ROOTFS.split_once('/').unwrap_or((paths::LIVE, "rootfs.img"));
    for (at, name, id) in [(root, parent, live), (live, name, file)] {
        if let Node::Directory(names) = &mut tree.inode_mut(at).node {
            names.insert(name.as_bytes().into(), id);
        }
    }
    let files = old.inodes.iter().filter(|inode| inode.nlink > 0);
    let sizes = files.filter_map(|inode| match &inode.node {
        Node::Regular(content) => Some(content.size),
        _ => None,
    });
    let (files, bytes) =
        sizes.fold((0_u64, 0_u64), |(files, bytes), size| (files + 1, bytes.saturating_add(size)));
    let mut boot = vec![BootPart {
        what: "the old initramfs".into(),
        why: format!("it stays as it is, without the content of {}", inside.path),
        files: files.saturating_sub(1),
        bytes: bytes.saturating_sub(inside.size),
    }];
    boot.extend(kernels.iter().map(modules_of));
    Split { runtime: tree, boot, runtime_parts: Vec::new(), additions: Vec::new(), left_out: Vec::new() }
}

/// The initramfs as the old init finds it: with the content of the file `path`, which lies in `squashfs`, and without
/// anything of btrsquash's. `None` if something is missing.
pub(super) fn restore(initramfs: &Tree, path: &str, squashfs: &Tree) -> Option<Tree> {
    let mut tree = initramfs.clone();
    let base = tree.data.len();
    let init = tree.get(paths::KEPT_INIT)?;
    let root = tree.root;
    let Node::Directory(names) = &mut tree.inode_mut(root).node else { return None };
    names.remove(paths::OURS.as_bytes());
    names.insert(paths::INIT.as_bytes().into(), init);
    let file = squashfs.inode(squashfs.get(paths::ROOTFS)?);
    let Node::Regular(content) = &file.node else { return None };
    let shifted = |extent: &Extent| Extent { data_offset: extent.data_offset + base, ..*extent };
    let content = Content { size: content.size, extents: content.extents.iter().map(shifted).collect() };
    let id = tree.get(path)?;
    *tree.inode_mut(id) = Inode { nlink: 1, node: Node::Regular(content), ..file.clone() };
    let both = [Arc::clone(&tree.data), Arc::clone(&squashfs.data)];
    tree.data = Arc::new(Joined::new(both.into_iter(), 1));
    Some(tree)
}
