//! What of the format a kernel version can mount.

use std::fmt::Write as _;

use crate::kernel::Release;

/// The parts of the on-disk format that came after its first stable form, and the block sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Size of a tree block in bytes.
    pub node_size: u32,
    /// Size of a data block in bytes: 4096, or 65536 for kernels that can mount only sectors of their page size.
    pub sector_size: u32,
    /// `INODE_EXTREF` items for inodes with more names than fit one item (Linux 3.7).
    pub extended_iref: bool,
    /// Short extent items for tree blocks (Linux 3.10).
    pub skinny_metadata: bool,
    /// A UUID tree; a kernel that knows it makes one at the first writable mount where it is missing (Linux 3.12).
    pub uuid_tree: bool,
    /// Holes of files have no items (Linux 3.14).
    pub no_holes: bool,
    notes: Vec<String>,
}

impl Features {
    /// The newest features that every kernel from `release` (as `uname -r` gives it) on can mount. Where the release
    /// cannot be understood, the features of 2.6.38.
    ///
    /// Versions are those in which mainline got the feature (fs/btrfs history); backports are not counted on.
    #[must_use]
    pub fn for_kernel(release: &str) -> Self {
        let known = Release::parse(release);
        let at_least = |major, minor| Release::new(major, minor, 0).reached_by(release);
        let mut notes = Vec::new();
        if known.is_none() {
            notes.push(format!(
                "kernel release '{release}' is not understood: btrfs features of Linux 2.6.38 are used"
            ));
        } else if known < Some(Release::new(2, 6, 31)) {
            notes.push(format!(
                "Linux {release} is older than btrfs's present format (2.6.31): it cannot mount the runtime"
            ));
        }
        // Nodes larger than a page came with 3.4. Sectors smaller than a page could not be mounted at all before
        // 5.12 and not written before 5.15; distributions' 64-bit PowerPC kernels and the +64k flavours have pages
        // of 64 KiB, and so had RHEL 7's and 8's for arm64.
        let large_pages = ["powerpc64", "ppc64", "64k", "el7.aarch64", "el8.aarch64", "el8_"]
            .iter()
            .any(|part| release.contains(part) && (*part != "el8_" || release.ends_with("aarch64")));
        let sector_size = if large_pages && !at_least(5, 15) { 65_536 } else { 4096 };
        let node_size = if sector_size > 4096 {
            notes.push(format!("data blocks and tree blocks of 64 KiB: Linux {release} has pages of 64 KiB and mounts no smaller"));
            sector_size
        } else if at_least(3, 4) {
            16_384
        } else {
            4096
        };
        let features = Self {
            node_size,
            sector_size,
            extended_iref: at_least(3, 7),
            skinny_metadata: at_least(3, 10),
            uuid_tree: at_least(3, 12),
            no_holes: at_least(3, 14),
            notes,
        };
        features.with_summary(release)
    }

    fn with_summary(mut self, release: &str) -> Self {
        let mut text = format!("btrfs for Linux {release}: tree blocks of {} KiB", self.node_size >> 10);
        let mut without = Vec::new();
        for (has, name, since) in [
            (self.node_size > 4096, "larger tree blocks", "3.4"),
            (self.extended_iref, "extended inode references", "3.7"),
            (self.skinny_metadata, "skinny metadata", "3.10"),
            (self.no_holes, "no-holes", "3.14"),
        ] {
            if !has {
                without.push(format!("{name} ({since})"));
            }
        }
        if without.is_empty() {
            text.push_str(", extended inode references, skinny metadata, no-holes");
        } else {
            let _ = write!(text, ", without {}", without.join(", "));
        }
        self.notes.push(text);
        self
    }

    /// What all of `releases` can mount; of none, what Linux 2.6.38 can.
    #[must_use]
    pub fn for_kernels<'a>(releases: impl IntoIterator<Item = &'a str>) -> Self {
        releases
            .into_iter()
            .map(Self::for_kernel)
            .reduce(|a, b| a.common(&b))
            .unwrap_or_else(|| Self::for_kernel("2.6.38"))
    }

    /// What was chosen and why, a sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The features that both can mount: for an image with several kernels.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut notes = self.notes.clone();
        notes.extend(other.notes.iter().filter(|note| !self.notes.contains(note)).cloned());
        let (a, b) = (self, other);
        Self {
            node_size: if a.sector_size == b.sector_size {
                a.node_size.min(b.node_size)
            } else {
                a.node_size.max(b.node_size)
            },
            sector_size: a.sector_size.max(b.sector_size),
            extended_iref: a.extended_iref && b.extended_iref,
            skinny_metadata: a.skinny_metadata && b.skinny_metadata,
            uuid_tree: a.uuid_tree && b.uuid_tree,
            no_holes: a.no_holes && b.no_holes,
            notes,
        }
    }

    /// Bytes for items and their headers in a leaf (`BTRFS_LEAF_DATA_SIZE`).
    pub(super) fn leaf_data(&self) -> usize {
        self.node_size as usize - super::disk::HEADER_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(release: &str) -> (u32, u32, [bool; 4]) {
        let f = Features::for_kernel(release);
        assert!(f.notes().iter().any(|n| n.contains("tree blocks")));
        (f.node_size, f.sector_size, [f.extended_iref, f.skinny_metadata, f.uuid_tree, f.no_holes])
    }

    #[test]
    fn features_follow_the_version() {
        assert_eq!(flags("2.6.38-8-generic"), (4096, 4096, [false; 4]));
        assert_eq!(flags("3.2.0-4-amd64"), (4096, 4096, [false; 4]));
        assert_eq!(flags("3.4"), (16384, 4096, [false; 4]));
        assert_eq!(flags("3.7.10-1.el"), (16384, 4096, [true, false, false, false]));
        assert_eq!(flags("3.12.0"), (16384, 4096, [true, true, true, false]));
        assert_eq!(flags("6.1.0-50-amd64"), (16384, 4096, [true; 4]));
        assert_eq!(flags("5.10.0-8-powerpc64le"), (65536, 65536, [true; 4]));
        assert_eq!(flags("6.1.0-50-powerpc64le"), (16384, 4096, [true; 4]));
        assert_eq!(flags("4.18.0-80.el8.aarch64"), (65536, 65536, [true; 4]));
        assert_eq!(flags("nonsense"), (4096, 4096, [false; 4]));
        assert!(Features::for_kernel("nonsense").notes()[0].contains("not understood"));
        assert!(Features::for_kernel("2.6.18").notes()[0].contains("cannot mount"));
    }

    #[test]
    fn several_kernels_get_what_all_can_mount() {
        let both = Features::for_kernel("6.1.0").common(&Features::for_kernel("3.2.0"));
        assert_eq!((both.node_size, both.sector_size, both.no_holes), (4096, 4096, false));
        assert_eq!(both.notes().len(), 2);
        let pages = Features::for_kernel("5.10.0-powerpc64le").common(&Features::for_kernel("6.1.0"));
        assert_eq!((pages.node_size, pages.sector_size), (65536, 65536));
    }
}
