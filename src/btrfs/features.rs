//! What a kernel's btrfs can mount.

/// Features of a file system, chosen by the version of the kernel that mounts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Size of a tree block in bytes: 16 KiB since Linux 3.4 (`BIG_METADATA`), before that one page.
    pub node_size: u32,
    /// More hard links in a directory than fit into one item, since Linux 3.7 (`EXTENDED_IREF`).
    pub extended_iref: bool,
    /// Small back references of tree blocks, since Linux 3.10 (`SKINNY_METADATA`).
    pub skinny_metadata: bool,
    /// Holes without an item, since Linux 3.14 (`NO_HOLES`).
    pub no_holes: bool,
    /// A tree of subvolume UUIDs, since Linux 3.12.
    pub uuid_tree: bool,
}

/// Size of a data block. Kernels with pages of 64 KiB mount 4 KiB sectors since Linux 5.15 or so, older ones never.
pub const SECTOR: u32 = 4096;

impl Features {
    /// For the kernel with this release (`uname -r`), such as `6.1.0-50-amd64`; what cannot be read as a version gets
    /// what every kernel since 2.6.38 mounts.
    #[must_use]
    pub fn for_kernel(release: &str) -> Self {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map_while(|n| n.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self {
            node_size: if version >= (3, 4) { 16384 } else { 4096 },
            extended_iref: version >= (3, 7),
            skinny_metadata: version >= (3, 10),
            uuid_tree: version >= (3, 12),
            no_holes: version >= (3, 14),
        }
    }

    /// What mounts on all of `releases`.
    #[must_use]
    pub fn for_kernels<'a>(releases: impl IntoIterator<Item = &'a str>) -> Self {
        releases
            .into_iter()
            .map(Self::for_kernel)
            .reduce(|a, b| Self {
                node_size: a.node_size.min(b.node_size),
                extended_iref: a.extended_iref && b.extended_iref,
                skinny_metadata: a.skinny_metadata && b.skinny_metadata,
                no_holes: a.no_holes && b.no_holes,
                uuid_tree: a.uuid_tree && b.uuid_tree,
            })
            .unwrap_or_else(|| Self::for_kernel("2.6.38"))
    }

    /// The superblock's `incompat_flags`.
    #[must_use]
    pub const fn incompat_flags(self) -> u64 {
        let mixed_backref = 1;
        let big_metadata = if self.node_size > SECTOR { 1 << 5 } else { 0 };
        mixed_backref
            | big_metadata
            | (self.extended_iref as u64) << 6
            | (self.skinny_metadata as u64) << 8
            | (self.no_holes as u64) << 9
    }

    /// The choice in words, for the report.
    #[must_use]
    pub fn describe(self) -> String {
        let mut words = vec![format!("{} KiB nodes", self.node_size / 1024)];
        for (on, name) in [
            (self.extended_iref, "extended iref"),
            (self.skinny_metadata, "skinny metadata"),
            (self.no_holes, "no-holes"),
            (self.uuid_tree, "UUID tree"),
        ] {
            words.push(if on { name.to_owned() } else { format!("no {name}") });
        }
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_follow_the_kernel() {
        let old = Features::for_kernel("2.6.38.8-35.fc15.x86_64");
        assert_eq!((old.node_size, old.incompat_flags()), (4096, 1));
        let new = Features::for_kernel("6.1.0-50-amd64");
        assert_eq!((new.node_size, new.incompat_flags()), (16384, 0x361));
        assert_eq!(Features::for_kernels(["6.1.0", "3.5.1"]).incompat_flags(), 0x21);
        assert_eq!(Features::for_kernel("what"), Features::for_kernels([]));
    }
}
