//! Superblock, chunks and tree blocks.

use std::cell::Cell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{
    self, HEADER_SIZE, ITEM_SIZE, Key, POINTER_SIZE, SUPER_OFFSET, SUPER_SIZE, Take, id, incompat, kind,
};
use crate::bytes::ReadAt;
use crate::error::Error;

/// Larger addresses are rejected, so that sums of two cannot overflow.
const MAX_ADDRESS: u64 = 1 << 62;

/// What an image may make its reader hold: names, inodes, extents, checksums. A million files take half of it, and
/// checksums a thousandth of the data. Inside a squashfs even a large image can be a few KiB.
const MAX_MEMORY: usize = 512 << 20;

/// A range of logical addresses and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    /// First logical address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where it lies on the device.
    pub physical: u64,
}

/// Where the bytes of logical addresses lie: sorted, not overlapping.
#[derive(Debug, Clone, Default)]
pub(super) struct Map(pub Vec<Mapping>);

impl Map {
    /// Where `logical` lies, and how many bytes follow there without a break.
    pub(super) fn find(&self, logical: u64) -> Option<(u64, u64)> {
        let next = self.0.partition_point(|m| m.start <= logical);
        let mapping = self.0.get(next.checked_sub(1)?)?;
        let within = logical - mapping.start;
        (within < mapping.len).then(|| (mapping.physical + within, mapping.len - within))
    }

    fn insert(&mut self, mapping: Mapping) -> bool {
        let next = self.0.partition_point(|m| m.start < mapping.start);
        let apart = next.checked_sub(1).is_none_or(|i| self.0[i].start + self.0[i].len <= mapping.start)
            && self.0.get(next).is_none_or(|m| mapping.start + mapping.len <= m.start);
        if apart {
            self.0.insert(next, mapping);
        }
        apart
    }

    /// The first address after all chunks.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |m| m.start + m.len)
    }
}

/// Root of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    /// Logical address of the root block.
    pub address: u64,
    /// Its level.
    pub level: u8,
    /// Transaction that wrote it.
    pub generation: u64,
}

/// An image whose superblock and chunks are known.
pub(super) struct Volume {
    /// The image.
    pub source: Arc<dyn ReadAt>,
    /// Where logical addresses lie.
    pub map: Map,
    /// Size of a data block.
    pub sector: u32,
    /// Root of the root tree.
    pub root: Root,
    /// Directory in the root tree that names the default subvolume.
    pub root_dir: u64,
    name: PathBuf,
    node_size: u32,
    fsid: [u8; 16],
    generation: u64,
    /// What is left of [`MAX_MEMORY`].
    memory: Cell<usize>,
}

struct Super {
    volume: Volume,
    chunk_root: Root,
    system: Vec<u8>,
}

impl Volume {
    /// Reads the superblock and the chunk tree.
    pub(super) fn open(source: Arc<dyn ReadAt>, name: &Path) -> Result<Self, Error> {
        let mut block = vec![0; SUPER_SIZE];
        source.read_exact_at(&mut block, SUPER_OFFSET).map_err(|e| {
            Error::input("no btrfs superblock can be read").caused_by(e).file(name).at(SUPER_OFFSET)
        })?;
        let Super { mut volume, chunk_root, system } = superblock(source, name, &block)?;
        let mut take = Take(&system);
        while !take.0.is_empty() {
            let key = take.key().filter(|key| key.kind == kind::CHUNK_ITEM);
            let Some(key) = key else {
                return Err(volume
                    .damaged(SUPER_OFFSET, "the superblock's list of system chunks is not one of chunks"));
            };
            let mapping = volume.chunk(key, &mut take)?;
            if !volume.map.insert(mapping) {
                return Err(volume.damaged(SUPER_OFFSET, "system chunks overlap"));
            }
        }
        let mut map = Map::default();
        volume.items(chunk_root, id::CHUNK_TREE, &mut |key, body| {
            if key.kind == kind::CHUNK_ITEM {
                volume.grow(size_of::<Mapping>())?;
                let mapping = volume.chunk(key, &mut Take(body))?;
                if !map.insert(mapping) {
                    return Err(volume.damaged(mapping.physical, "chunks overlap"));
                }
            }
            Ok(())
        })?;
        volume.map = map;
        Ok(volume)
    }

    /// An error about what lies at `offset` of the image.
    pub(super) fn damaged(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::input(what)
            .file(self.name.clone())
            .at(offset)
            .hint("the btrfs file system is damaged: make the image anew")
    }

    /// Notes that what is held of the image grows by `bytes`.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), Error> {
        let left = self.memory.get().checked_sub(bytes).ok_or_else(|| {
            self.unsupported(format!(
                "the btrfs file system's files need more than {} MiB of memory",
                MAX_MEMORY >> 20
            ))
            .hint("an image with more than a million files is not what this is for; or it is damaged")
        })?;
        self.memory.set(left);
        Ok(())
    }

    /// An error about something that is sound but not supported.
    pub(super) fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::input(what).file(self.name.clone())
    }

    /// A chunk item (`btrfs_chunk`).
    fn chunk(&self, key: Key, take: &mut Take) -> Result<Mapping, Error> {
        const RAID0: u64 = 1 << 3;
        const STRIPED: u64 = RAID0 | 1 << 6 | 1 << 7 | 1 << 8;
        let mut parse = || {
            let len = take.u64()?;
            take.bytes(16)?;
            let flags = take.u64()?;
            take.bytes(12)?;
            let stripes = take.u16()?;
            take.u16()?;
            take.u64()?;
            let physical = take.u64()?;
            take.bytes(16)?;
            take.bytes(32 * usize::from(stripes.checked_sub(1)?))?;
            Some((Mapping { start: key.offset, len, physical }, flags, stripes))
        };
        let Some((mapping, flags, stripes)) = parse() else {
            return Err(self.damaged(SUPER_OFFSET, "a chunk ends early"));
        };
        if flags & STRIPED != 0 && stripes > 1 {
            return Err(self.unsupported(
                "a chunk is striped over several places; only single, DUP and RAID1 can be read",
            ));
        }
        let sector = u64::from(self.sector);
        let sound = mapping.len > 0
            && [mapping.start, mapping.len, mapping.physical]
                .iter()
                .all(|n| n % sector == 0 && *n <= MAX_ADDRESS);
        if !sound {
            return Err(
                self.damaged(SUPER_OFFSET, format!("chunk {} has an impossible place or length", key.offset))
            );
        }
        Ok(mapping)
    }

    /// Reads a tree block, verifies its checksum and that it is the one which was meant.
    fn block(&self, root: Root, owner: u64) -> Result<Vec<u8>, Error> {
        let Root { address, level, generation } = root;
        let node = u64::from(self.node_size);
        let found =
            self.map.find(address).filter(|&(_, room)| room >= node && address % u64::from(self.sector) == 0);
        let Some((at, _)) = found else {
            return Err(self.damaged(SUPER_OFFSET, format!("tree {owner}: block {address} is in no chunk")));
        };
        let mut block = vec![0; self.node_size as usize];
        self.source.read_exact_at(&mut block, at).map_err(|e| {
            self.damaged(at, format!("tree {owner}: block {address} cannot be read")).caused_by(e)
        })?;
        let computed = crc32c::crc32c(&block[32..]);
        if block[..4] != computed.to_le_bytes() {
            return Err(self.damaged(at, format!("tree {owner}: the checksum of block {address} is wrong")));
        }
        let mut take = Take(&block[32..HEADER_SIZE]);
        let header = (
            take.uuid(),
            take.u64(),
            take.bytes(24).is_some(),
            take.u64(),
            take.u64().is_some(),
            take.u32(),
            take.u8(),
        );
        let expected = (Some(self.fsid), Some(address), true, Some(generation), true, header.5, Some(level));
        if header != expected || generation > self.generation {
            return Err(self.damaged(
                at,
                format!("tree {owner}: block {address} is not the one expected (level {level}, generation {generation})"),
            ));
        }
        Ok(block)
    }

    /// Calls `each` with every item of a tree, in the order of keys.
    pub(super) fn items(
        &self,
        root: Root,
        owner: u64,
        each: &mut dyn FnMut(Key, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut walk = Walk { volume: self, owner, seen: HashSet::new(), last: None, each };
        walk.block(root, None)
    }
}

struct Walk<'a> {
    volume: &'a Volume,
    owner: u64,
    /// A block that is met twice is a loop, or makes of a small image a large tree.
    seen: HashSet<u64>,
    last: Option<Key>,
    each: &'a mut dyn FnMut(Key, &[u8]) -> Result<(), Error>,
}

impl Walk<'_> {
    /// Goes down at most eight levels: the level of a child is one less, and `Volume::block` holds it to that.
    fn block(&mut self, root: Root, first: Option<Key>) -> Result<(), Error> {
        let (volume, owner) = (self.volume, self.owner);
        let damaged =
            |what: &str| volume.damaged(SUPER_OFFSET, format!("tree {owner}: block {} {what}", root.address));
        volume.grow(size_of::<u64>())?;
        if !self.seen.insert(root.address) {
            return Err(damaged("is used twice"));
        }
        let block = volume.block(root, owner)?;
        let count = u32::from_le_bytes([block[96], block[97], block[98], block[99]]) as usize;
        let body = &block[HEADER_SIZE..];
        let size = if root.level == 0 { ITEM_SIZE } else { POINTER_SIZE };
        if count > body.len() / size || (root.level > 0 && count == 0) {
            return Err(damaged(&format!("cannot have {count} items")));
        }
        let mut heads = Take(&body[..count * size]);
        for i in 0..count {
            let Some(key) = heads.key() else { break };
            if i == 0 && first.is_some_and(|first| first != key) {
                return Err(damaged("does not begin with the key that leads to it"));
            }
            if root.level > 0 {
                let (Some(address), Some(generation)) = (heads.u64(), heads.u64()) else { break };
                self.block(Root { address, level: root.level - 1, generation }, Some(key))?;
            } else {
                if self.last.is_some_and(|last| last >= key) {
                    return Err(damaged("has keys out of order"));
                }
                self.last = Some(key);
                let (Some(offset), Some(len)) = (heads.u32(), heads.u32()) else { break };
                let item = body.get(offset as usize..).and_then(|rest| rest.get(..len as usize));
                let Some(item) = item.filter(|_| offset as usize >= count * size) else {
                    return Err(damaged("has an item beyond its end"));
                };
                (self.each)(key, item)?;
            }
        }
        Ok(())
    }
}

/// Checks the superblock and takes from it what is needed.
fn superblock(source: Arc<dyn ReadAt>, name: &Path, block: &[u8]) -> Result<Super, Error> {
    let damaged = |what: &str| Error::input(what).file(name).at(SUPER_OFFSET);
    let fields = Fields::parse(block).ok_or_else(|| damaged("the superblock ends early"))?;
    fields.check(block).map_err(|error| error.file(name).at(SUPER_OFFSET))?;
    let system = block.get(0x32b..0x32b + 2048).and_then(|list| list.get(..fields.system_size as usize));
    let system = system.ok_or_else(|| damaged("the superblock's list of system chunks is too long"))?;
    let mut fsid = fields.fsid;
    if fields.features & incompat::METADATA_UUID != 0 {
        // Behind the label, cache_generation and uuid_tree_generation.
        fsid.copy_from_slice(&block[0x23b..0x24b]);
    }
    let volume = Volume {
        source,
        map: Map::default(),
        sector: fields.sector,
        root: fields.root,
        root_dir: fields.root_dir,
        name: name.to_owned(),
        node_size: fields.node_size,
        fsid,
        generation: fields.root.generation,
        memory: Cell::new(MAX_MEMORY),
    };
    Ok(Super { volume, chunk_root: fields.chunk_root, system: system.to_vec() })
}

/// The fields of `btrfs_super_block` that matter to a reader.
struct Fields {
    fsid: [u8; 16],
    /// Where the superblock says that it lies.
    address: u64,
    has_magic: bool,
    root: Root,
    chunk_root: Root,
    log_root: u64,
    root_dir: u64,
    devices: u64,
    sector: u32,
    node_size: u32,
    /// Bytes of the list of system chunks.
    system_size: u32,
    /// Incompatible features.
    features: u64,
    csum_type: u16,
}

impl Fields {
    fn parse(block: &[u8]) -> Option<Self> {
        let mut take = Take(block.get(32..)?);
        let fsid = take.uuid()?;
        let address = take.u64()?;
        let _flags = take.u64()?;
        let has_magic = take.bytes(8)? == disk::MAGIC;
        let generation = take.u64()?;
        let (root, chunk_root, log_root) = (take.u64()?, take.u64()?, take.u64()?);
        let _log_root_transid = take.u64()?;
        let (_total, _used) = (take.u64()?, take.u64()?);
        let (root_dir, devices) = (take.u64()?, take.u64()?);
        let (sector, node_size) = (take.u32()?, take.u32()?);
        let (_leaf_size, _stripe_size) = (take.u32()?, take.u32()?);
        let system_size = take.u32()?;
        let chunk_generation = take.u64()?;
        let (_compat, _compat_ro, features) = (take.u64()?, take.u64()?, take.u64()?);
        let csum_type = take.u16()?;
        let (level, chunk_level) = (take.u8()?, take.u8()?);
        Some(Self {
            fsid,
            address,
            has_magic,
            root: Root { address: root, level, generation },
            chunk_root: Root { address: chunk_root, level: chunk_level, generation: chunk_generation },
            log_root,
            root_dir,
            devices,
            sector,
            node_size,
            system_size,
            features,
            csum_type,
        })
    }

    /// Fails if it is not btrfs, is damaged, or cannot be read.
    fn check(&self, block: &[u8]) -> Result<(), Error> {
        let fail = |what: String| Err(Error::input(what));
        if !self.has_magic {
            return fail("no btrfs file system: the superblock's magic number is missing".to_owned());
        }
        if self.csum_type != 0 {
            let kind = match self.csum_type {
                1 => "xxhash64".to_owned(),
                2 => "sha256".to_owned(),
                3 => "blake2b".to_owned(),
                other => format!("type {other}"),
            };
            return Err(Error::input(format!("the checksums are {kind}; only crc32c can be read"))
                .hint("make the file system with 'mkfs.btrfs --csum crc32c'"));
        }
        if block[..4] != crc32c::crc32c(&block[32..]).to_le_bytes() || self.address != SUPER_OFFSET {
            return fail("the superblock's checksum is wrong".to_owned());
        }
        let unknown = self.features & !incompat::READABLE;
        if unknown != 0 {
            return fail(format!("unsupported btrfs features (incompat flags {unknown:#x})"));
        }
        let (sector, node) = (self.sector, self.node_size);
        let power = |n: u32, from: u32| n.is_power_of_two() && (from..=65_536).contains(&n);
        let levels = [self.root.level, self.chunk_root.level];
        if !power(sector, 4096) || !power(node, sector) || levels.iter().any(|&l| l >= disk::MAX_LEVEL) {
            return fail(format!("impossible sizes: sectors of {sector} bytes, nodes of {node} bytes"));
        }
        if self.devices != 1 {
            return fail(format!("the file system spans {} devices; only one is supported", self.devices));
        }
        if self.log_root != 0 {
            return Err(Error::input("the file system was not unmounted: its log has to be replayed")
                .hint("mount it once and unmount it"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;
    use crate::btrfs::{Features, Options, plan};
    use crate::tree::{Content, Extent, Inode, Node, Tree};

    #[test]
    fn addresses_are_found_in_their_chunk_only() {
        let mut map = Map::default();
        let mapping = |start, len, physical| Mapping { start, len, physical };
        assert!(map.insert(mapping(100, 10, 0)));
        assert!(map.insert(mapping(200, 10, 50)));
        assert!(!map.insert(mapping(95, 6, 0)));
        assert!(!map.insert(mapping(209, 6, 0)));
        assert!(map.insert(mapping(110, 90, 20)));
        assert_eq!(map.find(99), None);
        assert_eq!(map.find(100), Some((0, 10)));
        assert_eq!(map.find(205), Some((55, 5)));
        assert_eq!(map.find(210), None);
        assert_eq!(map.end(), 210);
    }

    #[test]
    fn what_is_held_of_an_image_is_bounded() {
        let image = |files: u32, size: u32| {
            let bytes: Vec<u8> =
                (0..files * size / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
            let mut tree = Tree::new(Arc::new(bytes));
            for file in 0..files {
                let (data_offset, len) = (u64::from(file * size), u64::from(size));
                let extents = vec![Extent { file_offset: 0, data_offset, len }];
                let node = Node::Regular(Content { size: len, extents });
                let id = tree.add(Inode { mode: 0, uid: 0, gid: 0, mtime: 0, nlink: 1, node });
                let root = tree.root;
                if let Node::Directory(names) = &mut tree.inode_mut(root).node {
                    names.insert(format!("file{file}").into_bytes().into(), id);
                }
            }
            let options = Options { free_space: 1 << 20, ..Options::new(Features::for_kernel("6.1")) };
            Arc::new(plan(&tree, &options).unwrap())
        };
        // Many inodes and names; checksums, of which one item has all.
        for (files, size, memory) in [(200, 0, 50_000), (1, 4 << 20, 4000)] {
            let image = image(files, size);
            for (budget, enough) in [(MAX_MEMORY, true), (memory, false)] {
                let volume = Volume::open(image.clone(), Path::new("image")).unwrap();
                volume.memory.set(budget);
                match files::read(volume, u64::MAX) {
                    Ok(_) => assert!(enough, "{files} files"),
                    Err(error) => assert!(!enough && error.what.contains("of memory"), "{error}"),
                }
            }
        }
    }
}
