//! Kernel modules stored unpacked under their unchanged names (`.ko.xz`, `.ko.zst`, `.ko.gz`).
//!
//! A squashfs compresses what is unpacked better than it stores what is packed already. Programs built on libkmod tell by
//! the first bytes of a module whether it is packed, not by its name (libkmod/libkmod-file.c, `kmod_file_open`), so that
//! modules.dep can stay as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bytes::{Joined, ReadAt, Spool};
use crate::codec::{self, Encoding};
use crate::error::Error;
use crate::tree::{Content, Extent, InodeId, Node, Tree, display};

/// The largest module, unpacked.
const MAX_MODULE: u64 = 256 << 20;
/// The largest program that is looked into for what it is.
const MAX_PROGRAM: u64 = 16 << 20;

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Number of modules.
    pub modules: u64,
    /// Their bytes before.
    pub packed: u64,
    /// Their bytes now.
    pub unpacked: u64,
}

/// Unpacks the packed modules of `tree`, of those for which `wanted` is true.
///
/// # Errors
/// When a module is damaged or unpacks to more than 256 MiB, or all together to more than `limit` bytes.
pub fn modules(tree: &mut Tree, limit: u64, wanted: &dyn Fn(&[u8]) -> bool) -> Result<Expanded, Error> {
    let packed: BTreeMap<InodeId, Vec<u8>> = tree
        .walk()
        .filter(|entry| is_packed_module(&entry.path) && wanted(&entry.path))
        .map(|entry| (entry.id, entry.path))
        .collect();
    let mut done = Expanded::default();
    let mut spool = Spool::new().map_err(Error::temporary)?;
    let base = tree.data.len();
    for (id, path) in packed {
        let fail = |what: String| Error::input(format!("/{}: {what}", display(&path)));
        let bytes = tree.read(id, MAX_MODULE).map_err(|e| fail("it cannot be read".into()).caused_by(e))?;
        let Some(bytes) = bytes.filter(|bytes| Encoding::by_signature(bytes).is_some()) else { continue };
        let unpacked = codec::unpack(&bytes, MAX_MODULE)
            .map_err(|e| fail("the module cannot be unpacked".into()).caused_by(e))?;
        if !unpacked.starts_with(b"\x7fELF") {
            continue;
        }
        done.modules += 1;
        done.packed += bytes.len() as u64;
        done.unpacked += unpacked.len() as u64;
        if done.unpacked > limit {
            return Err(Error::input(format!("the modules unpack to more than the {limit} bytes allowed"))
                .hint("if you trust the image, raise --max-unpacked"));
        }
        let offset = base + spool.append(&unpacked).map_err(Error::temporary)?;
        let len = unpacked.len() as u64;
        let extents = vec![Extent { file_offset: 0, data_offset: offset, len }];
        tree.inode_mut(id).node = Node::Regular(Content { size: len, extents });
    }
    let unpacked: Arc<dyn ReadAt> = Arc::new(spool.finish().map_err(Error::temporary)?);
    tree.data = Arc::new(Joined::new([Arc::clone(&tree.data), unpacked].into_iter(), 1));
    Ok(done)
}

fn is_packed_module(path: &[u8]) -> bool {
    let below = [b"lib/modules/".as_slice(), b"usr/lib/modules/"].iter().any(|dir| path.starts_with(dir));
    below && [b".ko.xz".as_slice(), b".ko.zst", b".ko.gz"].iter().any(|suffix| path.ends_with(suffix))
}

/// Fails unless the programs of `tree` that load modules tell by their first bytes whether they are packed. The result
/// names the evidence.
///
/// # Errors
/// [`crate::error::Kind::Missing`] if modprobe is another program than kmod, such as busybox, which goes by names, or if
/// there is none.
pub fn loader(tree: &Tree) -> Result<String, Error> {
    let hint = "leave --expand-modules out";
    let mut kmod = None;
    for directory in ["sbin", "bin", "usr/sbin", "usr/bin"] {
        for name in ["modprobe", "insmod"] {
            let path = format!("{directory}/{name}");
            let Some(real) = tree.real_path(&path) else { continue };
            let bytes = tree.get(&real).and_then(|id| tree.read(id, MAX_PROGRAM).ok().flatten());
            // kmod is one program with many names: it lists its commands and asks for libkmod, linked in or not.
            let is_kmod = bytes.is_some_and(|bytes| contains(&bytes, b"kmod_module_new_from"));
            if !is_kmod {
                return Err(Error::missing(format!(
                    "/{path} of the image is {}, not kmod: it may tell by a module's name whether it is packed",
                    display(&real)
                ))
                .hint(hint));
            }
            kmod.get_or_insert(real);
        }
    }
    match kmod {
        Some(kmod) => {
            Ok(format!("/{} is kmod, which tells packed modules by their first bytes", display(&kmod)))
        }
        None => {
            Err(Error::missing("the image has no modprobe that would show how its modules are loaded")
                .hint(hint))
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::build::tree;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        codec::compress(bytes, Encoding::Xz).unwrap()
    }

    #[test]
    fn packed_modules_are_stored_unpacked_under_their_names() {
        let elf = [b"\x7fELF".as_slice(), &[7; 5000]].concat();
        let (xz, text) = (packed(&elf), packed(b"no module"));
        let mut tree = tree(
            &[
                ("lib/modules/1/a.ko.xz", &xz),
                ("lib/modules/1/plain.ko.xz", &elf),
                ("lib/modules/1/text.ko.xz", &text),
                ("srv/b.ko.xz", &xz),
            ],
            &[],
        );
        let done = modules(&mut tree, 1 << 20, &|_| true).unwrap();
        assert_eq!(done, Expanded { modules: 1, packed: xz.len() as u64, unpacked: elf.len() as u64 });
        let read = |path: &str| tree.read(tree.get(path).unwrap(), 1 << 20).unwrap().unwrap();
        assert_eq!(read("lib/modules/1/a.ko.xz"), elf);
        assert_eq!(read("lib/modules/1/plain.ko.xz"), elf);
        assert_eq!(read("lib/modules/1/text.ko.xz"), text);
        assert_eq!(read("srv/b.ko.xz"), xz);
    }

    #[test]
    fn only_kmod_is_known_to_go_by_content() {
        let kmod = b"... kmod_module_new_from_lookup ...".as_slice();
        let with = |program: &[u8]| loader(&tree(&[("bin/x", program)], &[("sbin/modprobe", "../bin/x")]));
        assert!(with(kmod).unwrap().contains("/bin/x is kmod"));
        assert!(with(b"BusyBox").unwrap_err().what.contains("/sbin/modprobe of the image is bin/x"));
        assert!(loader(&tree(&[], &[])).is_err());
    }
}
