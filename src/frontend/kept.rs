//! The old initramfs as its own boot initramfs: the file that holds its system is read in the retained initrd instead of
//! being unpacked, and all else stays as it is.
//!
//! btrsquash's program starts first. It mounts the squashfs that holds the file, binds the file to its old path, puts the
//! old /init back and starts it (src/guest/init/in_place.rs).

use std::io;

use super::common::config;
use super::{FrontEnd, Plan, guest};
use crate::contract::{self, Config, paths};
use crate::error::Error;
use crate::initrd::{Initrd, NewcWriter};
use crate::tree::{Inode, Node, Tree, display};

/// A file of a boot initramfs is read into memory.
const MAX_FILE: u64 = 1 << 30;

/// Makes the boot initramfs from `image`, without the content of the file `path` (no leading `/`).
///
/// # Errors
/// [`crate::error::Kind::Input`] if a file cannot be read.
pub(crate) fn build(plan: &Plan<'_>, image: &Initrd, path: &str) -> Result<FrontEnd, Error> {
    let program = guest::program(plan.machine)?;
    let cpio = archive(plan, image, path, program)
        .map_err(|e| Error::input("the boot initramfs cannot be written").caused_by(e))?;
    Ok(FrontEnd {
        cpio,
        maker: format!("the old image's own, started by btrsquash {}", env!("CARGO_PKG_VERSION")),
        notes: vec![
            format!(
                "/{path} is read where the boot loader put it; it appears at its old path, and /init starts as before"
            ),
            "boot with retain_initrd on the kernel's command line, and with the arguments of the old image"
                .into(),
        ],
    })
}

fn archive(plan: &Plan<'_>, image: &Initrd, path: &str, program: &[u8]) -> io::Result<Vec<u8>> {
    let tree = &image.tree;
    let early: std::collections::BTreeSet<&[u8]> = image.only_early().collect();
    let mut newc = NewcWriter::new(Vec::new(), plan.time);
    for entry in tree.walk() {
        let inode = tree.inode(entry.id);
        // The early segments are kept, and Linux unpacks them too.
        if early.contains(entry.path.as_slice()) && !matches!(inode.node, Node::Directory(_)) {
            continue;
        }
        let name = match entry.path.as_slice() {
            b"" => b".".as_slice(),
            init if init == paths::INIT.as_bytes() => paths::KEPT_INIT.as_bytes(),
            other => other,
        };
        newc.owner(inode.uid, inode.gid);
        newc.time(inode.mtime);
        if name == paths::KEPT_INIT.as_bytes() {
            newc.directory(paths::OURS, 0o755)?;
        }
        if inode.nlink > 1 && !matches!(inode.node, Node::Directory(_)) {
            newc.linked(entry.id.0, inode.nlink);
        }
        let body = if entry.path == path.as_bytes() { Vec::new() } else { body(tree, &entry.path, inode)? };
        write(&mut newc, name, inode, &body)?;
    }
    newc.owner(0, 0);
    newc.time(plan.time);
    for directory in [paths::OURS, paths::MODULES] {
        newc.directory(directory, 0o755)?;
    }
    newc.file(paths::INIT, 0o755, program)?;
    super::common::modules(&mut newc, plan)?;
    let config =
        Config { in_place: Some(format!("/{path}")), ..config(plan, contract::FrontEnd::BuiltIn, plan.time) };
    newc.file(paths::CONFIG, 0o644, config.to_string().as_bytes())?;
    newc.finish()
}

fn body(tree: &Tree, path: &[u8], inode: &Inode) -> io::Result<Vec<u8>> {
    let Node::Regular(content) = &inode.node else { return Ok(Vec::new()) };
    if content.size > MAX_FILE {
        return Err(io::Error::other(format!("/{} has {} bytes", display(path), content.size)));
    }
    let mut bytes = vec![0; content.size as usize];
    tree.read_at(content, &mut bytes, 0)?;
    Ok(bytes)
}

fn write(newc: &mut NewcWriter<Vec<u8>>, name: &[u8], inode: &Inode, body: &[u8]) -> io::Result<()> {
    match &inode.node {
        Node::Directory(_) => newc.directory(name, inode.mode),
        Node::Regular(_) => newc.file(name, inode.mode, body),
        Node::Symlink(target) => newc.symlink(name, target),
        node => newc.device(name, inode.mode, node),
    }
}
