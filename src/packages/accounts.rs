//! What each package costs: bytes of content, and bytes in the image.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::Packages;
use crate::image::{Format, Opened};
use crate::tree::{Content, Entry, Inode, InodeId, Node, Tree};

/// Where the figures of bytes in the image come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// From the compressed sizes of the squashfs blocks that hold the data, each shared out by the bytes in it.
    Blocks,
    /// From the compressed size of the whole segment, shared out by the bytes of content: all files are taken to
    /// compress equally well.
    Segments,
    /// Nothing is compressed: sizes in the file system image.
    Plain,
}

/// What files cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Regular files, one with several names counted once.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Bytes of the image that hold it.
    pub stored: f64,
}

impl Usage {
    /// Bytes of the image, in whole bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        // Finite and not negative: a share of a file's size.
        self.stored.round() as u64
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.stored += other.stored;
    }
}

/// What everything in an image costs. `packages`, `no_package` and `structures` add up to `total`.
#[derive(Debug, Clone, PartialEq)]
pub struct Accounts {
    /// Where the figures of bytes in the image come from.
    pub basis: Basis,
    /// Bytes that hold the system: the squashfs with what was appended, or the whole of another image.
    pub total: u64,
    /// One for each of [`Packages::list`].
    pub packages: Vec<Usage>,
    /// Files of no package.
    pub no_package: Usage,
    /// What is not the content of a file: names, inodes and tables, and small files that btrfs keeps with them.
    pub structures: u64,
    /// Kernel modules by the directory of their kind (`drivers/net/wireless`). Part of the others, not of the sum.
    pub modules: BTreeMap<String, Usage>,
}

/// Bytes of an image that hold the content of each file of its system.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares {
    /// Where they come from.
    basis: Basis,
    /// Bytes that hold the system: the squashfs with what was appended, or the whole of another image.
    total: u64,
    /// By the number of the inode; 0 for one that is not a regular file.
    bytes: Vec<f64>,
}

impl Shares {
    /// Those of `image`.
    #[must_use]
    pub fn of(image: &Opened) -> Self {
        let (basis, total) = basis(image);
        let share = |(number, inode): (usize, &Inode)| match &inode.node {
            Node::Regular(content) => stored(image, basis, InodeId(number as u32), content),
            _ => 0.0,
        };
        let bytes = image.system.inodes.iter().enumerate().map(share).collect();
        Self { basis, total, bytes }
    }

    /// The bytes by the number of the inode; `None` if all files share one compressed stream, in which no file has a
    /// size of its own.
    #[must_use]
    pub fn by_inode(&self) -> Option<&[f64]> {
        (self.basis != Basis::Segments).then_some(&self.bytes)
    }

    /// What `packages` cost in the image whose system is `tree`.
    #[must_use]
    pub fn accounts(&self, tree: &Tree, packages: &Packages) -> Accounts {
        let mut accounts = Accounts {
            basis: self.basis,
            total: self.total,
            packages: vec![Usage::default(); packages.list.len()],
            no_package: Usage::default(),
            structures: 0,
            modules: BTreeMap::new(),
        };
        let mut seen = vec![false; tree.inodes.len()];
        for Entry { path, id } in tree.walk() {
            let number = id.0 as usize;
            let Node::Regular(content) = &tree.inode(id).node else { continue };
            if std::mem::replace(&mut seen[number], true) {
                continue;
            }
            let stored = self.bytes.get(number).copied().unwrap_or_default();
            let usage = Usage { files: 1, bytes: content.size, stored };
            match packages.owner(id) {
                Some(number) => accounts.packages[number] += usage,
                None => accounts.no_package += usage,
            }
            if let Some(group) = module_group(&path) {
                *accounts.modules.entry(group).or_default() += usage;
            }
        }
        let content: f64 =
            accounts.packages.iter().chain([&accounts.no_package]).map(|usage| usage.stored).sum();
        accounts.structures = (self.total as f64 - content).max(0.0).round() as u64;
        accounts
    }
}

fn basis(image: &Opened) -> (Basis, u64) {
    let squashfs = image.layers.iter().find(|layer| layer.format == Format::Squashfs);
    match (&image.initrd, squashfs) {
        (_, Some(layer)) => {
            let appended = image.initrd.iter().flat_map(|initrd| &initrd.segments);
            let appended = appended.filter(|segment| image.appended.segments.contains(&segment.number));
            (Basis::Blocks, layer.source.len() + appended.map(|segment| segment.size).sum::<u64>())
        }
        (Some(_), None) => (Basis::Segments, image.size()),
        (None, None) => (Basis::Plain, image.size()),
    }
}

/// Bytes of the image that hold the content of the inode `id`.
fn stored(image: &Opened, basis: Basis, id: InodeId, content: &Content) -> f64 {
    match (basis, &image.initrd) {
        (Basis::Segments, Some(initrd)) => {
            let segment = initrd
                .writers(id)
                .and_then(|writers| initrd.segments.iter().find(|segment| segment.number == writers.last));
            segment
                .filter(|segment| segment.unpacked > 0)
                .map_or(0.0, |segment| content.size as f64 * segment.size as f64 / segment.unpacked as f64)
        }
        _ => {
            let data = &image.system.data;
            content.extents.iter().map(|extent| data.stored_bytes(extent.data_offset, extent.len)).sum()
        }
    }
}

/// The kind of a kernel module by its path: `drivers/net/wireless`, `drivers/gpu`, `fs`, `sound`.
fn module_group(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let rest = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/")?;
    let (_release, rest) = rest.split_once('/')?;
    let rest = rest.strip_prefix("kernel/").unwrap_or(rest);
    let (directory, name) = rest.rsplit_once('/')?;
    let module = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|suffix| name.ends_with(suffix));
    let parts: Vec<&str> = directory.split('/').collect();
    let depth = match parts.as_slice() {
        ["drivers", "net", ..] => 3,
        ["drivers", ..] => 2,
        _ => 1,
    };
    module.then(|| parts[..depth.min(parts.len())].join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initrd::Limits;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn modules_are_grouped_by_what_they_drive() {
        let group = |path: &str| module_group(path.as_bytes());
        let base = "usr/lib/modules/6.1.0-50-amd64/kernel";
        assert_eq!(
            group(&format!("{base}/drivers/net/wireless/intel/iwlwifi/iwlwifi.ko.xz")).as_deref(),
            Some("drivers/net/wireless")
        );
        assert_eq!(group(&format!("{base}/drivers/gpu/drm/drm.ko")).as_deref(), Some("drivers/gpu"));
        assert_eq!(group("lib/modules/6.1/kernel/fs/ext4/ext4.ko").as_deref(), Some("fs"));
        assert_eq!(group("lib/modules/6.1/updates/dkms/zfs.ko").as_deref(), Some("updates"));
        assert_eq!(group("lib/modules/6.1/modules.dep"), None);
        assert_eq!(group("usr/share/x.ko"), None);
    }

    #[test]
    fn the_figures_add_up() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/tiny-initrd.gz");
        let bytes = std::fs::read(&file).unwrap();
        let image = crate::image::read(Arc::new(bytes), &file, &Limits::default(), &|_| ()).unwrap();
        let packages = Packages::read(&image.system, None).unwrap();
        let shares = Shares::of(&image);
        let accounts = shares.accounts(&image.system, &packages);
        assert_eq!(accounts.basis, Basis::Segments);
        let sizes = image.system.inodes.iter().map(|inode| match &inode.node {
            Node::Regular(content) if inode.nlink > 0 => content.size,
            _ => 0,
        });
        assert_eq!(accounts.no_package.bytes, sizes.sum::<u64>());
        assert_eq!(accounts.no_package.stored_bytes() + accounts.structures, image.size());
        assert!(accounts.no_package.bytes > 0);
        assert_eq!(shares.by_inode(), None);
    }
}
