//! Inodes get their numbers and names, and the fs tree its items.

use super::image::{DataExtent, inline_header};
use super::pack::Items;
use crate::btrfs::Features;
use crate::btrfs::disk::{
    self, FILE_EXTENT_SIZE, INLINE_HEADER_SIZE, ITEM_SIZE, Key, Put, extent_type, id, kind,
};
use crate::error::Error;
use crate::store;
use crate::tree::{Device, InodeId, Node, Tree, display, mode};

/// All is written in one transaction.
pub(super) const GENERATION: u64 = 1;
/// Files up to this size are stored in their item: the kernel's own default (`max_inline`).
pub(super) const MAX_INLINE: u64 = 2048;

/// A name of an inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    parent: u64,
    index: u64,
    name: &'a [u8],
}

/// An inode as it will be on disk.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    /// The inode in the tree.
    pub id: InodeId,
    /// Number of the file in [`Namespace::files`].
    pub file: Option<u32>,
    names: Vec<Name<'a>>,
    /// Slots of a directory's names, in their order.
    children: Vec<u32>,
    /// Bytes that the names of the last parent take in their `INODE_REF`.
    ref_size: usize,
}

/// All inodes, numbered.
#[derive(Debug)]
pub(super) struct Namespace<'a> {
    /// Inode number [`id::FIRST_FREE`] + i is the ith.
    pub slots: Vec<Slot<'a>>,
    /// Regular files that are not empty, with the first path of each.
    pub files: Vec<(InodeId, Vec<u8>)>,
    /// What could not be kept as it was.
    pub notes: Vec<String>,
}

/// Inode number of a slot.
pub(super) const fn objectid(slot: usize) -> u64 {
    id::FIRST_FREE + slot as u64
}

/// The inodes while they get their numbers.
struct Numbers<'a, 'f> {
    space: Namespace<'a>,
    /// The slot that takes further names of an inode.
    current: Vec<Option<u32>>,
    /// Inodes added because another one had too many names.
    split: u64,
    features: &'f Features,
}

impl<'a> Numbers<'a, '_> {
    /// The slot for a name of `inode`: the one it has, or a new one if it has none or no more names fit there.
    fn slot(
        &mut self,
        inode: InodeId,
        node: &Node,
        name: &Name<'a>,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<u32, Error> {
        let room = self.features.leaf_data() - ITEM_SIZE;
        let slots = &self.space.slots;
        let file = match (node, self.current[inode.0 as usize]) {
            (Node::Directory(_), Some(_)) => {
                return Err(Error::input(format!("directory /{} has several names", display(&path()))));
            }
            (_, Some(slot)) if slots[slot as usize].takes(name.parent, name.name, self.features, room) => {
                return Ok(slot);
            }
            (_, Some(slot)) => {
                self.split += 1;
                slots[slot as usize].file
            }
            (Node::Regular(content), None) if content.size > 0 => {
                self.space.files.push((inode, path()));
                Some((self.space.files.len() - 1) as u32)
            }
            _ => None,
        };
        self.add(inode, file)
    }

    /// Adds a slot for `id`, which takes its next names.
    fn add(&mut self, id: InodeId, file: Option<u32>) -> Result<u32, Error> {
        let slots = &mut self.space.slots;
        let Some(slot) = u32::try_from(slots.len()).ok().filter(|&n| n < u32::MAX - 512) else {
            return Err(Error::input("the tree has more than 4 billion inodes"));
        };
        slots.push(Slot { id, file, names: Vec::new(), children: Vec::new(), ref_size: 0 });
        self.current[id.0 as usize] = Some(slot);
        Ok(slot)
    }
}

impl<'a> Namespace<'a> {
    /// Numbers all inodes that can be reached: the names of a directory one after the other, then those of its
    /// first subdirectory.
    ///
    /// # Errors
    /// For names that cannot be, directories with several names, more inodes than fit 32 bits.
    pub(super) fn collect(tree: &'a Tree, features: &Features) -> Result<Self, Error> {
        let mut numbers = Numbers {
            space: Self { slots: Vec::new(), files: Vec::new(), notes: Vec::new() },
            current: vec![None; tree.inodes.len()],
            split: 0,
            features,
        };
        if tree.inodes.get(tree.root.0 as usize).is_none_or(|inode| !matches!(inode.node, Node::Directory(_)))
        {
            return Err(Error::input("the tree has no root directory"));
        }
        numbers.add(tree.root, None)?;
        let mut stack = vec![(0_u32, Vec::new())];
        while let Some((directory, path)) = stack.pop() {
            let parent = objectid(directory as usize);
            let Some(names) = tree.names(numbers.space.slots[directory as usize].id) else { continue };
            let mut children = Vec::with_capacity(names.len());
            let mut directories = Vec::new();
            for (i, (name, &child)) in names.iter().enumerate() {
                store::check_name(&path, name)?;
                let full = || [path.as_slice(), name].concat();
                let Some(inode) = tree.inodes.get(child.0 as usize) else {
                    let what = format!("/{} names an inode that does not exist", display(&full()));
                    return Err(Error::input(what));
                };
                let name = Name { parent, index: 2 + i as u64, name };
                let slot = numbers.slot(child, &inode.node, &name, &full)?;
                numbers.space.slots[slot as usize].add(name);
                children.push(slot);
                if matches!(inode.node, Node::Directory(_)) {
                    let mut path = full();
                    path.push(b'/');
                    directories.push((slot, path));
                }
            }
            numbers.space.slots[directory as usize].children = children;
            stack.extend(directories.into_iter().rev());
        }
        let Numbers { mut space, split, .. } = numbers;
        if split > 0 {
            space.notes.push(format!(
                "hard links: some inodes have more names than btrfs for this kernel can give one inode; {split} further \
                 inodes with the same content (stored once) take the rest"
            ));
        }
        Ok(space)
    }

    /// The items of the fs tree. `places` tells by file number where its bytes lie.
    ///
    /// # Errors
    /// For what the format cannot hold: device numbers, link targets, too many names with one hash.
    pub(super) fn items(
        &self,
        tree: &Tree,
        features: &Features,
        places: &[FileData],
        extents: &[DataExtent],
    ) -> Result<Items, Error> {
        let mut items = Items::default();
        for (number, slot) in self.slots.iter().enumerate() {
            let writer = Writer { space: self, tree, features, ino: objectid(number), slot };
            writer.inode(&mut items, places, extents)?;
        }
        Ok(items)
    }
}

impl<'a> Slot<'a> {
    /// Whether one more name fits.
    fn takes(&self, parent: u64, name: &[u8], features: &Features, item_room: usize) -> bool {
        if self.names.len() >= disk::LINK_MAX as usize {
            return false;
        }
        let same = self.names.last().is_some_and(|last| last.parent == parent);
        let size = if same { self.ref_size } else { 0 };
        features.extended_iref || size + ref_size(name) <= item_room
    }

    fn add(&mut self, name: Name<'a>) {
        if self.names.last().is_none_or(|last| last.parent != name.parent) {
            self.ref_size = 0;
        }
        self.ref_size += ref_size(name.name);
        if self.names.is_empty() {
            // Most inodes have one name, and a list that grows by itself starts with room for four.
            self.names.reserve_exact(1);
        }
        self.names.push(name);
    }
}

/// Size of a name in an `INODE_REF`.
const fn ref_size(name: &[u8]) -> usize {
    10 + name.len()
}

/// Where the bytes of a file lie.
#[derive(Debug, Clone)]
pub(super) enum FileData {
    /// In the item: its number among the inline files, and its size.
    Inline(u32, u64),
    /// In these extents, by their numbers.
    Extents(std::ops::Range<usize>),
}

struct Writer<'a> {
    space: &'a Namespace<'a>,
    tree: &'a Tree,
    features: &'a Features,
    ino: u64,
    slot: &'a Slot<'a>,
}

impl Writer<'_> {
    fn error(&self, what: &str) -> Error {
        // The path is found by going up: only for the message.
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut slot = self.slot;
        while let Some(name) = slot.names.first().filter(|_| parts.len() < 4096) {
            parts.push(name.name);
            slot = &self.space.slots[(name.parent - id::FIRST_FREE) as usize];
        }
        parts.reverse();
        Error::input(format!("/{} {what}", display(&parts.join(&b'/'))))
    }

    fn inode(&self, items: &mut Items, places: &[FileData], extents: &[DataExtent]) -> Result<(), Error> {
        let inode = self.tree.inode(self.slot.id);
        let data = self.slot.file.and_then(|file| places.get(file as usize));
        let mut rdev = 0;
        let (size, bytes) = match &inode.node {
            Node::Directory(names) => (names.keys().map(|name| 2 * name.len() as u64).sum(), 0),
            Node::Regular(content) => {
                let bytes = match data {
                    Some(FileData::Inline(_, size)) => *size,
                    Some(FileData::Extents(range)) => extents[range.clone()].iter().map(|e| e.len).sum(),
                    None => 0,
                };
                (content.size, bytes)
            }
            Node::Symlink(target) => (target.len() as u64, target.len() as u64),
            Node::CharDevice(device) | Node::BlockDevice(device) => {
                rdev = self.device(*device)?;
                (0, 0)
            }
            Node::Fifo | Node::Socket => (0, 0),
        };
        let nlink = if matches!(inode.node, Node::Directory(_)) { 1 } else { self.slot.names.len() as u32 };
        let full_mode = inode.node.type_bits() | (inode.mode & 0o7777);
        let item = InodeItem {
            size,
            bytes,
            nlink,
            uid: inode.uid,
            gid: inode.gid,
            mode: full_mode,
            rdev,
            time: inode.mtime,
        };
        items.push(Key::new(self.ino, kind::INODE_ITEM, 0), &item.bytes());
        self.names(items)?;
        match &inode.node {
            Node::Directory(names) => self.directory(items, names.keys().map(AsRef::as_ref))?,
            Node::Regular(content) => match data {
                Some(FileData::Inline(number, size)) => {
                    let key = Key::new(self.ino, kind::EXTENT_DATA, 0);
                    items.push_inline(key, *number, (INLINE_HEADER_SIZE as u64 + size) as u32);
                }
                Some(FileData::Extents(range)) => self.extents(items, content.size, &extents[range.clone()]),
                None => {}
            },
            Node::Symlink(target) => {
                let room = self.features.leaf_data() - ITEM_SIZE - INLINE_HEADER_SIZE;
                if target.is_empty() || target.len() > room.min(4095) || target.contains(&0) {
                    let room = room.min(4095);
                    return Err(self.error(&format!(
                        "is a symbolic link to {} bytes; 1 to {room} without a zero byte can be stored",
                        target.len()
                    )));
                }
                let mut body = Vec::with_capacity(INLINE_HEADER_SIZE + target.len());
                inline_header(&mut body, GENERATION, target.len() as u64);
                body.bytes(target);
                items.push(Key::new(self.ino, kind::EXTENT_DATA, 0), &body);
            }
            _ => {}
        }
        Ok(())
    }

    /// The kernel's internal device number, 12 bits of major and 20 of minor: that is what btrfs stores
    /// (`btrfs_set_inode_rdev(leaf, item, inode->i_rdev)`, fs/btrfs/inode.c).
    fn device(&self, device: Device) -> Result<u64, Error> {
        if device.major >= 1 << 12 || device.minor >= 1 << 20 {
            let Device { major, minor } = device;
            return Err(self
                .error(&format!("is device {major}:{minor}; Linux knows 12 bits of major and 20 of minor")));
        }
        Ok(u64::from(device.major << 20 | device.minor))
    }

    /// `INODE_REF` items, and `INODE_EXTREF` items for the names that do not fit.
    fn names(&self, items: &mut Items) -> Result<(), Error> {
        if self.slot.names.is_empty() {
            let mut body = Vec::new();
            body.u64(0).u16(2).bytes(b"..");
            items.push(Key::new(self.ino, kind::INODE_REF, self.ino), &body);
            return Ok(());
        }
        let room = self.features.leaf_data() - ITEM_SIZE;
        let mut names = self.slot.names.clone();
        names.sort_unstable_by_key(|name| (name.parent, name.index));
        let mut rest = Vec::new();
        for group in names.chunk_by(|a, b| a.parent == b.parent) {
            let mut body = Vec::new();
            for name in group {
                if body.len() + ref_size(name.name) > room {
                    rest.push((disk::extref_hash(name.parent, name.name), *name));
                } else {
                    body.u64(name.index).u16(name.name.len() as u16).bytes(name.name);
                }
            }
            items.push(Key::new(self.ino, kind::INODE_REF, group[0].parent), &body);
        }
        rest.sort_unstable_by_key(|(hash, name)| (*hash, name.parent, name.index));
        for group in rest.chunk_by(|a, b| a.0 == b.0) {
            let mut body = Vec::new();
            for (_, name) in group {
                body.u64(name.parent).u64(name.index).u16(name.name.len() as u16).bytes(name.name);
            }
            if body.len() > room {
                return Err(self.error("has more names with one hash than a btrfs item can hold"));
            }
            items.push(Key::new(self.ino, kind::INODE_EXTREF, group[0].0), &body);
        }
        Ok(())
    }

    /// `DIR_ITEM` items, in which names with the same hash share an item, and `DIR_INDEX` items.
    fn directory<'n>(&self, items: &mut Items, names: impl Iterator<Item = &'n [u8]>) -> Result<(), Error> {
        let room = self.features.leaf_data() - ITEM_SIZE;
        let names: Vec<&[u8]> = names.collect();
        let entry = |body: &mut Vec<u8>, i: usize| {
            let child = self.slot.children[i];
            let inode = self.tree.inode(self.space.slots[child as usize].id);
            body.key(Key::new(objectid(child as usize), kind::INODE_ITEM, 0)).u64(GENERATION);
            body.u16(0).u16(names[i].len() as u16).u8(file_type(inode.node.type_bits())).bytes(names[i]);
        };
        let mut hashes: Vec<(u64, usize)> =
            names.iter().enumerate().map(|(i, name)| (disk::name_hash(name), i)).collect();
        hashes.sort_unstable();
        let mut body = Vec::new();
        for group in hashes.chunk_by(|a, b| a.0 == b.0) {
            body.clear();
            group.iter().for_each(|&(_, i)| entry(&mut body, i));
            if body.len() > room {
                return Err(self.error("holds more names with one hash than a btrfs item can hold"));
            }
            items.push(Key::new(self.ino, kind::DIR_ITEM, group[0].0), &body);
        }
        for i in 0..names.len() {
            body.clear();
            entry(&mut body, i);
            items.push(Key::new(self.ino, kind::DIR_INDEX, 2 + i as u64), &body);
        }
        Ok(())
    }

    fn extents(&self, items: &mut Items, size: u64, extents: &[DataExtent]) {
        let mut at = 0;
        let hole = |items: &mut Items, from: u64, to: u64| {
            if from < to && !self.features.no_holes {
                self.extent(items, from, 0, to - from);
            }
        };
        for extent in extents {
            hole(items, at, extent.file_offset);
            self.extent(items, extent.file_offset, extent.address, extent.len);
            at = extent.file_offset + extent.len;
        }
        hole(items, at, size.next_multiple_of(u64::from(self.features.sector_size)));
    }

    /// An extent at `address`, or a hole where that is 0.
    fn extent(&self, items: &mut Items, file_offset: u64, address: u64, len: u64) {
        let mut body = Vec::with_capacity(FILE_EXTENT_SIZE);
        body.u64(GENERATION).u64(len).u8(0).u8(0).u16(0).u8(extent_type::REGULAR);
        body.u64(address).u64(if address == 0 { 0 } else { len }).u64(0).u64(len);
        items.push(Key::new(self.ino, kind::EXTENT_DATA, file_offset), &body);
    }
}

/// What is not constant in a `btrfs_inode_item`.
#[derive(Debug, Default)]
pub(super) struct InodeItem {
    /// Size in bytes.
    pub size: u64,
    /// Bytes that extents take.
    pub bytes: u64,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Device number.
    pub rdev: u64,
    /// All four times.
    pub time: i64,
}

impl InodeItem {
    /// The item's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(disk::INODE_ITEM_SIZE);
        body.u64(GENERATION).u64(GENERATION).u64(self.size).u64(self.bytes).u64(0);
        body.u32(self.nlink).u32(self.uid).u32(self.gid).u32(self.mode).u64(self.rdev);
        body.u64(0).u64(0).zeros(32);
        body.time(self.time).time(self.time).time(self.time).time(self.time);
        body
    }
}

/// `btrfs_dir_item.type` (`BTRFS_FT_…`) of a file type.
pub(crate) const fn file_type(type_bits: u32) -> u8 {
    match type_bits {
        mode::S_IFREG => 1,
        mode::S_IFDIR => 2,
        mode::S_IFCHR => 3,
        mode::S_IFBLK => 4,
        mode::S_IFIFO => 5,
        mode::S_IFSOCK => 6,
        mode::S_IFLNK => 7,
        _ => 0,
    }
}
