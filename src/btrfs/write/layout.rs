//! Lays a file system out: data in an order that compresses well, then the trees that tell where it lies.

use std::collections::BTreeMap;
use std::ops::Range;

use super::image::{DataExtent, Facts, Image, PlacedTree};
use super::links::{self, Linked};
use super::namespace::{FileData, GENERATION, InodeItem, MAX_INLINE, Namespace, objectid};
use super::order::{self, Group};
use super::pack::{Items, Packed, Stamp};
use super::scan::{self, Scanned};
use crate::btrfs::disk::{
    self, DEV_ITEM_SIZE, ITEM_SIZE, Key, MAX_EXTENT, Put, ROOT_ITEM_SIZE, STRIPE_LEN, SUPER_MIRRORS, flag,
    id, incompat, kind,
};
use crate::btrfs::{Features, Options};
use crate::bytes::{Hint, Region};
use crate::error::Error;
use crate::tree::{Content, Node, Tree, mode};

const MIB: u64 = 1 << 20;
/// Chunks are no longer than those that the kernel makes.
const MAX_CHUNK: u64 = 1 << 30;
/// The first MiB of a device is never allocated (`BTRFS_DEVICE_RANGE_RESERVED`); the system chunk follows.
const SYSTEM: Range<u64> = MIB..5 * MIB;
/// Smallest data chunk, as mkfs.btrfs makes it.
const MIN_DATA_CHUNK: u64 = 8 * MIB;
/// Room for the metadata of what is written at run time, so that no chunk has to be allocated for it at once.
const METADATA_ROOM: u64 = 64 * MIB;
const DEVICE_ID: u64 = 1;

/// Gives out addresses one after the other, around superblocks and up to the ends of chunks.
#[derive(Debug, Clone)]
struct Cursor {
    start: u64,
    at: u64,
}

impl Cursor {
    const fn new(start: u64) -> Self {
        Self { start, at: start }
    }

    fn align(&mut self, to: u64) {
        self.at = self.at.next_multiple_of(to);
    }

    /// Takes at most `len` bytes (a multiple of the sector size) and returns where they lie and how many they are.
    fn take(&mut self, len: u64) -> (u64, u64) {
        for mirror in SUPER_MIRRORS {
            if (mirror..mirror + STRIPE_LEN).contains(&self.at) {
                self.at = mirror + STRIPE_LEN;
            }
        }
        let chunk_end = self.start + ((self.at - self.start) / MAX_CHUNK + 1) * MAX_CHUNK;
        let mirror = SUPER_MIRRORS.into_iter().find(|&m| m > self.at).unwrap_or(u64::MAX);
        let at = self.at;
        let taken = len.min(chunk_end.min(mirror) - at);
        self.at += taken;
        (at, taken)
    }
}

/// A chunk, which is a block group and a device extent too: one stripe at its own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    start: u64,
    len: u64,
    kind: u64,
}

fn chunks(zone: Range<u64>, kind: u64) -> impl Iterator<Item = Chunk> {
    let end = zone.end;
    zone.step_by(MAX_CHUNK as usize).map(move |start| Chunk { start, len: MAX_CHUNK.min(end - start), kind })
}

/// Data that is stored: contents without their repetitions, in extents.
#[derive(Debug, Default)]
struct Data {
    contents: Vec<Content>,
    /// Slots that have the content, by content.
    users: Vec<Vec<u32>>,
    extents: Vec<DataExtent>,
    inline: Vec<Content>,
    /// By file number.
    files: Vec<FileData>,
    /// (offset, end, hint), ascending.
    spans: Vec<(u64, u64, Hint)>,
    stored: u64,
    shared: u64,
    end: u64,
}

/// Lays `tree` out as a btrfs file system.
///
/// All data is read once, on every core. The same tree and options give the same image, byte for byte.
///
/// # Errors
/// When data cannot be read, or for what btrfs cannot hold: names over 255 bytes, link targets that do not fit a tree
/// block, device numbers beyond 12:20 bits, directories with several names. The path is in the error.
pub fn plan(tree: &Tree, options: &Options) -> Result<Image, Error> {
    let features = &options.features;
    check_options(options)?;
    let space = Namespace::collect(tree, features)?;
    let files: Vec<&Content> = space
        .files
        .iter()
        .filter_map(|(id, _)| match &tree.inode(*id).node {
            Node::Regular(content) => Some(content),
            _ => None,
        })
        .collect();
    let scanned = scan::all(tree, &files, features.sector_size).map_err(|(i, mut error)| {
        error.what = format!("/{}: {}", space.path(i), error.what);
        error
    })?;
    let mut content_hash = blake3::Hasher::new();
    scanned.iter().for_each(|s| {
        content_hash.update(&s.hash);
    });
    let (data, csums) = place_data(&space, &files, scanned, options)?;
    let fs = space.items(tree, features, &data.files, &data.extents)?;

    let mut hasher = blake3::Hasher::new_derive_key("btrsquash 2026 btrfs file system identity");
    hasher.update(content_hash.finalize().as_bytes());
    hasher.update(&options.free_space.to_le_bytes()).update(&options.time.to_le_bytes());
    hasher.update(&features.node_size.to_le_bytes()).update(&incompat_flags(features).to_le_bytes());
    fs.hash(&mut hasher);
    let identity = Identity::new(&hasher);

    let trees = Trees {
        fs: fs.pack(id::FS_TREE, features.node_size),
        csum: csum_items(&data.extents, &csums, features).pack(id::CSUM_TREE, features.node_size),
        reloc: reloc_items(options.time).pack(id::DATA_RELOC_TREE, features.node_size),
        uuid: uuid_items(&identity).pack(id::UUID_TREE, features.node_size),
    };
    drop(csums);
    finish(tree, options, space, data, trees, &identity)
}

fn check_options(options: &Options) -> Result<(), Error> {
    let f = &options.features;
    let power = |n: u32, from: u32, to: u32| n.is_power_of_two() && (from..=to).contains(&n);
    if !power(f.sector_size, 4096, 65_536) || !power(f.node_size, f.sector_size, 65_536) {
        return Err(Error::usage(format!(
            "btrfs cannot have sectors of {} and nodes of {} bytes",
            f.sector_size, f.node_size
        )));
    }
    if !power(options.block_size, 4096, 1 << 30) || options.free_space > 1 << 60 {
        return Err(Error::usage("the block size or the free space is out of range"));
    }
    Ok(())
}

/// UUIDs that follow from the content.
struct Identity {
    fsid: [u8; 16],
    device: [u8; 16],
    chunk_tree: [u8; 16],
    subvolume: [u8; 16],
}

impl Identity {
    fn new(hasher: &blake3::Hasher) -> Self {
        let mut output = hasher.finalize_xof();
        let mut next = || {
            let mut uuid = [0; 16];
            output.fill(&mut uuid);
            // RFC 9562: version 8 (made in a way of one's own), variant 10.
            uuid[6] = uuid[6] & 0x0f | 0x80;
            uuid[8] = uuid[8] & 0x3f | 0x80;
            uuid
        };
        Self { fsid: next(), device: next(), chunk_tree: next(), subvolume: next() }
    }
}

/// A content that is to be stored.
struct Blob {
    file: usize,
    scanned: Scanned,
}

/// Decides where each content lies. The second result holds the checksums of all extents, in their order.
fn place_data(
    space: &Namespace,
    files: &[&Content],
    scanned: Vec<Scanned>,
    options: &Options,
) -> Result<(Data, Vec<u32>), Error> {
    let mut data = Data::default();
    let mut blobs: Vec<Blob> = Vec::new();
    let mut known: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    // By file: the blob, or none where the file is inline.
    let mut blob_of: Vec<Option<usize>> = Vec::with_capacity(files.len());
    for (file, scanned) in scanned.into_iter().enumerate() {
        let size = files[file].size;
        if size <= MAX_INLINE {
            data.inline.push(files[file].clone());
            blob_of.push(None);
            continue;
        }
        let blob = *known.entry(scanned.hash).or_insert(blobs.len());
        if blob == blobs.len() {
            blobs.push(Blob { file, scanned });
        } else {
            data.shared += blobs[blob].scanned.pieces.iter().map(|p| p.len).sum::<u64>();
        }
        blob_of.push(Some(blob));
    }
    drop(known);

    let order = in_order(space, files, &blobs);
    let block = u64::from(options.block_size);
    let mut cursor = Cursor::new(SYSTEM.end.next_multiple_of(block.max(MIB)));
    let mut ranges: Vec<Range<usize>> = vec![0..0; blobs.len()];
    let mut content_of: Vec<u32> = vec![0; blobs.len()];
    let mut csums = Vec::with_capacity(blobs.iter().map(|b| b.scanned.csums.len()).sum());
    let mut group: Option<Group> = None;
    for (place, blob) in order {
        let Blob { file, scanned } = &mut blobs[blob];
        if scanned.pieces.is_empty() {
            continue;
        }
        if group.is_none_or(|group| hint(group) != hint(place.group)) {
            cursor.align(block);
        }
        group = Some(place.group);
        content_of[blob] = data.contents.len() as u32;
        data.contents.push(files[*file].clone());
        let first = data.extents.len();
        for piece in &scanned.pieces {
            let mut done = 0;
            while done < piece.len {
                let (address, len) = cursor.take((piece.len - done).min(MAX_EXTENT));
                let file_offset = piece.offset + done;
                data.extents.push(DataExtent { address, len, content: content_of[blob], file_offset });
                data.span(address, address + len, hint(place.group));
                data.stored += len;
                done += len;
            }
            if cursor.at > 1 << 60 {
                return Err(Error::input("the files together are larger than a btrfs device can be"));
            }
        }
        ranges[blob] = first..data.extents.len();
        csums.append(&mut scanned.csums);
    }
    data.users = vec![Vec::new(); data.contents.len()];
    let mut inline = 0;
    for (file, blob) in blob_of.iter().enumerate() {
        data.files.push(match blob {
            Some(blob) => FileData::Extents(ranges[*blob].clone()),
            None => {
                inline += 1;
                FileData::Inline(inline - 1, files[file].size)
            }
        });
    }
    for (number, slot) in space.slots.iter().enumerate() {
        let blob = slot.file.and_then(|file| blob_of[file as usize]).filter(|&blob| !ranges[blob].is_empty());
        if let Some(blob) = blob {
            data.users[content_of[blob] as usize].push(number as u32);
        }
    }
    data.end = cursor.at;
    Ok((data, csums))
}

/// The order in which `blobs` lie, each with its place.
fn in_order(space: &Namespace, files: &[&Content], blobs: &[Blob]) -> Vec<(order::Place, usize)> {
    let linked: Vec<Option<Linked<'_>>> = blobs
        .iter()
        .map(|Blob { file, scanned }| {
            let kind = crate::elf::code(&scanned.head)?;
            let (path, size) = (space.files[*file].1.as_slice(), files[*file].size);
            Some(Linked { path, size, kind, links: scanned.links.as_ref()? })
        })
        .collect();
    let closures = links::closures(&linked);
    let mut places: Vec<_> = blobs
        .iter()
        .zip(closures)
        .map(|(Blob { file, scanned }, closure)| {
            order::place(&space.files[*file].1, &scanned.head, scanned.entropy, files[*file].size, closure)
        })
        .zip(0..)
        .collect();
    places.sort();
    places
}

const fn hint(group: Group) -> Hint {
    match group {
        Group::Code(arch) => Hint::MachineCode(arch),
        _ => Hint::Data,
    }
}

impl Data {
    fn span(&mut self, from: u64, to: u64, hint: Hint) {
        match self.spans.last_mut() {
            Some((_, end, last)) if *end == from && *last == hint => *end = to,
            _ => self.spans.push((from, to, hint)),
        }
    }
}

/// Checksums of neighbouring sectors share an item, up to the kernel's limit (`MAX_CSUM_ITEMS`, fs/btrfs/file-item.c).
fn csum_items(extents: &[DataExtent], csums: &[u32], features: &Features) -> Items {
    let sector = u64::from(features.sector_size);
    let most = ((features.leaf_data() - 2 * ITEM_SIZE) / 4 - 1).min(4096);
    let mut items = Items::default();
    let mut body = Vec::new();
    let mut start = 0;
    let mut end = 0;
    let mut next = csums.iter();
    let mut flush = |start: u64, body: &mut Vec<u8>| {
        if !body.is_empty() {
            items.push(Key::new(id::EXTENT_CSUM, kind::EXTENT_CSUM, start), body);
            body.clear();
        }
    };
    for extent in extents {
        for address in (extent.address..extent.address + extent.len).step_by(sector as usize) {
            if address != end || body.len() == most * 4 {
                flush(start, &mut body);
                start = address;
            }
            body.u32(next.next().copied().unwrap_or_default());
            end = address + sector;
        }
    }
    flush(start, &mut body);
    items
}

/// An empty directory: the tree that balancing moves data through.
fn reloc_items(time: i64) -> Items {
    let mut items = Items::default();
    let inode = InodeItem { nlink: 1, mode: mode::S_IFDIR | 0o755, time, ..InodeItem::default() };
    items.push(Key::new(id::FIRST_FREE, kind::INODE_ITEM, 0), &inode.bytes());
    let mut body = Vec::new();
    body.u64(0).u16(2).bytes(b"..");
    items.push(Key::new(id::FIRST_FREE, kind::INODE_REF, id::FIRST_FREE), &body);
    items
}

fn uuid_items(identity: &Identity) -> Items {
    let half = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&identity.subvolume[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let mut items = Items::default();
    items.push(Key::new(half(0), kind::UUID_SUBVOL, half(8)), &id::FS_TREE.to_le_bytes());
    items
}

struct Trees {
    fs: Packed,
    csum: Packed,
    reloc: Packed,
    uuid: Packed,
}

/// What the root tree says of a tree.
#[derive(Debug, Clone, Copy, Default)]
struct Root {
    address: u64,
    level: u8,
    blocks: u64,
}

impl Root {
    fn of(tree: &Packed, addresses: &[u64]) -> Self {
        let address = addresses.last().copied().unwrap_or_default();
        Self { address, level: tree.height(), blocks: addresses.len() as u64 }
    }
}

/// `btrfs_root_item` of a tree.
fn root_item(root: Root, owner: u64, node_size: u32, identity: &Identity, time: i64) -> Vec<u8> {
    // BTRFS_INODE_ROOT_ITEM_INIT: the fields that kernels before 2.6.38 left uninitialised are initialised.
    const ROOT_ITEM_INIT: u64 = 1 << 31;
    let subvolume = owner == id::FS_TREE || owner == id::DATA_RELOC_TREE;
    let mut body = Vec::with_capacity(ROOT_ITEM_SIZE);
    body.u64(1).u64(0).u64(3).u64(u64::from(node_size)).u64(0);
    body.u32(1).u32(0).u32(0).u32(mode::S_IFDIR | 0o755).u64(0);
    body.u64(if subvolume { ROOT_ITEM_INIT } else { 0 }).zeros(160 - 72);
    body.u64(GENERATION).u64(if subvolume { id::FIRST_FREE } else { 0 }).u64(root.address).u64(0);
    body.u64(root.blocks * u64::from(node_size)).u64(0).u64(0).u32(1).zeros(17).u8(0).u8(root.level);
    body.u64(GENERATION);
    let uuid = if owner == id::FS_TREE { identity.subvolume } else { [0; 16] };
    let time = if owner == id::FS_TREE { time } else { 0 };
    body.bytes(&uuid).zeros(32).zeros(32).time(time).time(time).time(0).time(0).zeros(64);
    debug_assert_eq!(body.len(), ROOT_ITEM_SIZE);
    body
}

/// The root tree, with the directory that names the default subvolume.
fn root_items(roots: &BTreeMap<u64, Root>, features: &Features, identity: &Identity, time: i64) -> Items {
    let mut items = Items::default();
    for (&owner, &root) in roots {
        if owner == id::FS_TREE {
            let mut body = Vec::new();
            body.u64(0).u16(7).bytes(b"default");
            items.push(Key::new(owner, kind::INODE_REF, id::ROOT_TREE_DIR), &body);
        }
        items.push(
            Key::new(owner, kind::ROOT_ITEM, 0),
            &root_item(root, owner, features.node_size, identity, time),
        );
        if owner == id::FS_TREE {
            let bytes = u64::from(features.node_size);
            let inode =
                InodeItem { bytes, nlink: 1, mode: mode::S_IFDIR | 0o755, time, ..InodeItem::default() };
            items.push(Key::new(id::ROOT_TREE_DIR, kind::INODE_ITEM, 0), &inode.bytes());
            let mut body = Vec::new();
            body.u64(0).u16(2).bytes(b"..");
            items.push(Key::new(id::ROOT_TREE_DIR, kind::INODE_REF, id::ROOT_TREE_DIR), &body);
            body.clear();
            body.key(Key::new(id::FS_TREE, kind::ROOT_ITEM, u64::MAX))
                .u64(0)
                .u16(0)
                .u16(7)
                .u8(2)
                .bytes(b"default");
            items.push(Key::new(id::ROOT_TREE_DIR, kind::DIR_ITEM, disk::name_hash(b"default")), &body);
        }
    }
    items
}

fn dev_item(total: u64, used: u64, features: &Features, identity: &Identity) -> Vec<u8> {
    let mut body = Vec::with_capacity(DEV_ITEM_SIZE);
    let sector = features.sector_size;
    body.u64(DEVICE_ID).u64(total).u64(used).u32(sector).u32(sector).u32(sector);
    body.u64(0).u64(0).u64(0).u32(0).u8(0).u8(0).bytes(&identity.device).bytes(&identity.fsid);
    body
}

fn chunk_item(chunk: Chunk, features: &Features, identity: &Identity) -> Vec<u8> {
    let mut body = Vec::with_capacity(disk::CHUNK_SIZE);
    body.u64(chunk.len).u64(id::EXTENT_TREE).u64(STRIPE_LEN).u64(chunk.kind);
    body.u32(STRIPE_LEN as u32).u32(STRIPE_LEN as u32).u32(features.sector_size).u16(1).u16(1);
    body.u64(DEVICE_ID).u64(chunk.start).bytes(&identity.device);
    body
}

fn chunk_items(chunks: &[Chunk], total: u64, features: &Features, identity: &Identity) -> Items {
    let mut items = Items::default();
    let used = chunks.iter().map(|c| c.len).sum();
    items
        .push(Key::new(id::DEV_ITEMS, kind::DEV_ITEM, DEVICE_ID), &dev_item(total, used, features, identity));
    for &chunk in chunks {
        let key = Key::new(id::FIRST_CHUNK_TREE, kind::CHUNK_ITEM, chunk.start);
        items.push(key, &chunk_item(chunk, features, identity));
    }
    items
}

fn dev_items(chunks: &[Chunk], identity: &Identity) -> Items {
    let mut items = Items::default();
    for chunk in chunks {
        let mut body = Vec::new();
        body.u64(id::CHUNK_TREE).u64(id::FIRST_CHUNK_TREE).u64(chunk.start).u64(chunk.len);
        body.bytes(&identity.chunk_tree);
        items.push(Key::new(DEVICE_ID, kind::DEV_EXTENT, chunk.start), &body);
    }
    items
}

/// A tree block as the extent tree sees it.
#[derive(Debug, Clone, Copy)]
struct Block {
    address: u64,
    owner: u64,
    level: u8,
    first_key: Key,
}

fn blocks<'a>(tree: &'a Packed, addresses: &'a [u64]) -> impl Iterator<Item = Block> + 'a {
    addresses.iter().enumerate().map(|(number, &address)| {
        let (level, i) = tree.place(number);
        Block { address, owner: tree.owner, level, first_key: tree.first_key(level, i) }
    })
}

/// The extent tree: every extent with all references to it, and every block group.
struct ExtentWriter<'a> {
    items: Items,
    groups: std::iter::Peekable<std::vec::IntoIter<(Chunk, u64)>>,
    features: &'a Features,
}

impl ExtentWriter<'_> {
    fn push(&mut self, key: Key, body: &[u8]) {
        while let Some((chunk, used)) =
            self.groups.next_if(|(c, _)| Key::new(c.start, kind::BLOCK_GROUP_ITEM, c.len) < key)
        {
            let mut body = Vec::new();
            body.u64(used).u64(id::FIRST_CHUNK_TREE).u64(chunk.kind);
            self.items.push(Key::new(chunk.start, kind::BLOCK_GROUP_ITEM, chunk.len), &body);
        }
        self.items.push(key, body);
    }

    fn block(&mut self, block: Block) {
        let mut body = Vec::new();
        body.u64(1).u64(GENERATION).u64(flag::EXTENT_TREE_BLOCK);
        let key = if self.features.skinny_metadata {
            Key::new(block.address, kind::METADATA_ITEM, u64::from(block.level))
        } else {
            body.key(block.first_key).u8(block.level);
            Key::new(block.address, kind::EXTENT_ITEM, u64::from(self.features.node_size))
        };
        body.u8(kind::TREE_BLOCK_REF).u64(block.owner);
        self.push(key, &body);
    }

    /// References go into the item up to the kernel's limit (`BTRFS_MAX_EXTENT_ITEM_SIZE`), by falling hash; the others
    /// get items of their own.
    fn data(&mut self, extent: &DataExtent, users: &[u32]) {
        const REF_SIZE: usize = 29;
        let mut refs: Vec<(u64, u64)> = users
            .iter()
            .map(|&slot| objectid(slot as usize))
            .map(|ino| (disk::data_ref_hash(id::FS_TREE, ino, extent.file_offset), ino))
            .collect();
        refs.sort_unstable_by(|a, b| b.cmp(a));
        let room = (self.features.leaf_data() >> 4) - ITEM_SIZE - 24;
        let (inline, keyed) = refs.split_at(refs.len().min(room / REF_SIZE));
        let mut body = Vec::new();
        body.u64(refs.len() as u64).u64(GENERATION).u64(flag::EXTENT_DATA);
        for &(_, ino) in inline {
            body.u8(kind::EXTENT_DATA_REF).u64(id::FS_TREE).u64(ino).u64(extent.file_offset).u32(1);
        }
        self.push(Key::new(extent.address, kind::EXTENT_ITEM, extent.len), &body);
        let mut next = 0;
        for &(hash, ino) in keyed.iter().rev() {
            body.clear();
            body.u64(id::FS_TREE).u64(ino).u64(extent.file_offset).u32(1);
            // References with one hash take the offsets after it.
            let offset = hash.max(next);
            self.push(Key::new(extent.address, kind::EXTENT_DATA_REF, offset), &body);
            next = offset + 1;
        }
    }

    fn finish(mut self) -> Items {
        self.push(Key::new(u64::MAX, 0, 0), &[]);
        self.items.pop();
        self.items
    }
}

fn incompat_flags(features: &Features) -> u64 {
    let mut flags = incompat::MIXED_BACKREF;
    for (has, flag) in [
        // Only nodes above the smallest page need it; 2.6.38 does not know it.
        (features.node_size > 4096, incompat::BIG_METADATA),
        (features.extended_iref, incompat::EXTENDED_IREF),
        (features.skinny_metadata, incompat::SKINNY_METADATA),
        (features.no_holes, incompat::NO_HOLES),
    ] {
        if has {
            flags |= flag;
        }
    }
    flags
}

/// Places the trees and writes the superblock.
fn finish(
    tree: &Tree,
    options: &Options,
    space: Namespace,
    data: Data,
    trees: Trees,
    identity: &Identity,
) -> Result<Image, Error> {
    let features = &options.features;
    let node = u64::from(features.node_size);
    let block = u64::from(options.block_size).max(MIB);
    let data_zone = Cursor::new(SYSTEM.end.next_multiple_of(block)).start;
    let data_zone = data_zone..data.end.max(data_zone + MIN_DATA_CHUNK).next_multiple_of(block);
    let owners = [id::EXTENT_TREE, id::DEV_TREE, id::FS_TREE, id::CSUM_TREE, id::DATA_RELOC_TREE];
    let mut roots: BTreeMap<u64, Root> = owners.into_iter().map(|owner| (owner, Root::default())).collect();
    if features.uuid_tree {
        roots.insert(id::UUID_TREE, Root::default());
    }
    let mut root =
        root_items(&roots, features, identity, options.time).pack(id::ROOT_TREE, features.node_size);

    // The extent tree holds its own blocks, and all chunks depend on its size: it is built until it stays the same.
    let mut extent = Items::default().pack(id::EXTENT_TREE, features.node_size);
    let mut dev = Items::default().pack(id::DEV_TREE, features.node_size);
    let mut rounds = 0;
    let (addresses, all_chunks, chunk, system, total, used, metadata_end) = loop {
        let mut cursor = Cursor::new(data_zone.end);
        let mut place =
            |tree: &Packed| -> Vec<u64> { (0..tree.blocks()).map(|_| cursor.take(node).0).collect() };
        let mut placed = vec![
            place(&trees.fs),
            place(&extent),
            place(&trees.csum),
            place(&dev),
            place(&root),
            place(&trees.reloc),
        ];
        let mut order: Vec<&Packed> = vec![&trees.fs, &extent, &trees.csum, &dev, &root, &trees.reloc];
        if features.uuid_tree {
            placed.push(place(&trees.uuid));
            order.push(&trees.uuid);
        }
        let metadata_end = cursor.at;
        let metadata = data_zone.end..(metadata_end + METADATA_ROOM).next_multiple_of(block);
        let total =
            metadata.end + options.free_space.next_multiple_of(MIB.max(u64::from(features.sector_size)));
        let all: Vec<Chunk> = chunks(SYSTEM, flag::GROUP_SYSTEM)
            .chain(chunks(data_zone.clone(), flag::GROUP_DATA))
            .chain(chunks(metadata, flag::GROUP_METADATA))
            .collect();
        let chunk = chunk_items(&all, total, features, identity).pack(id::CHUNK_TREE, features.node_size);
        let mut cursor = Cursor::new(SYSTEM.start);
        let system: Vec<u64> = (0..chunk.blocks()).map(|_| cursor.take(node).0).collect();

        let mut groups: Vec<(Chunk, u64)> = all.iter().map(|&chunk| (chunk, 0)).collect();
        let mut count = |address: u64, len: u64| {
            let i = groups.partition_point(|(c, _)| c.start + c.len <= address);
            groups[i].1 += len;
        };
        system.iter().chain(placed.iter().flatten()).for_each(|&address| count(address, node));
        data.extents.iter().for_each(|e| count(e.address, e.len));
        let used: u64 = groups.iter().map(|(_, used)| used).sum();

        let mut writer =
            ExtentWriter { items: Items::default(), groups: groups.into_iter().peekable(), features };
        blocks(&chunk, &system).for_each(|block| writer.block(block));
        data.extents.iter().for_each(|e| writer.data(e, &data.users[e.content as usize]));
        for (tree, addresses) in order.iter().zip(&placed) {
            blocks(tree, addresses).for_each(|block| writer.block(block));
        }
        let next_extent = writer.finish().pack(id::EXTENT_TREE, features.node_size);
        let next_dev = dev_items(&all, identity).pack(id::DEV_TREE, features.node_size);
        let same = next_extent.same_shape(&extent) && next_dev.same_shape(&dev);
        (extent, dev) = (next_extent, next_dev);
        if same {
            break (placed, all, chunk, system, total, used, metadata_end);
        }
        rounds += 1;
        if rounds > 64 {
            return Err(Error::input(
                "the extent tree finds no size that holds itself; please report this image",
            ));
        }
    };

    let mut order = vec![&trees.fs, &extent, &trees.csum, &dev, &root, &trees.reloc];
    if features.uuid_tree {
        order.push(&trees.uuid);
    }
    for (tree, addresses) in order.iter().zip(&addresses) {
        if let Some(root) = roots.get_mut(&tree.owner) {
            *root = Root::of(tree, addresses);
        }
    }
    let root_root = Root::of(&root, &addresses[4]);
    root = root_items(&roots, features, identity, options.time).pack(id::ROOT_TREE, features.node_size);
    let chunk_root = Root::of(&chunk, &system);
    let superblock = superblock(&Super {
        options,
        identity,
        root: root_root,
        chunk_root,
        total,
        used,
        device_used: all_chunks.iter().map(|c| c.len).sum(),
        system: all_chunks[0],
    });

    let regions = regions(&data.spans, &system, node, data_zone.end..metadata_end, total);
    let mut placed = vec![PlacedTree { tree: chunk, addresses: system }];
    let all = [Some(trees.fs), Some(extent), Some(trees.csum), Some(dev), Some(root), Some(trees.reloc)];
    let uuid = features.uuid_tree.then_some(trees.uuid);
    placed.extend(
        all.into_iter()
            .chain([uuid])
            .flatten()
            .zip(addresses)
            .map(|(tree, addresses)| PlacedTree { tree, addresses }),
    );
    let space_inodes = space.slots.len() as u64;
    let blocks_in_all = placed.iter().map(|tree| tree.addresses.len() as u64).sum::<u64>();
    Ok(Image {
        len: total,
        features: features.clone(),
        fsid: identity.fsid,
        stamp: Stamp { fsid: identity.fsid, chunk_tree: identity.chunk_tree, generation: GENERATION },
        superblock,
        source: Tree::new(tree.data.clone()),
        contents: data.contents,
        inline: data.inline,
        extents: data.extents,
        trees: placed,
        regions,
        facts: Facts {
            data: data.stored,
            metadata: blocks_in_all * node,
            shared: data.shared,
            inodes: space_inodes,
        },
        notes: space.notes,
    })
}

struct Super<'a> {
    options: &'a Options,
    identity: &'a Identity,
    root: Root,
    chunk_root: Root,
    total: u64,
    used: u64,
    device_used: u64,
    system: Chunk,
}

/// `btrfs_super_block`.
fn superblock(s: &Super) -> Vec<u8> {
    let features = &s.options.features;
    let (identity, node, sector) = (s.identity, features.node_size, features.sector_size);
    let mut block = Vec::with_capacity(disk::SUPER_SIZE);
    block
        .zeros(32)
        .bytes(&identity.fsid)
        .u64(disk::SUPER_OFFSET)
        .u64(disk::HEADER_FLAG_WRITTEN)
        .bytes(disk::MAGIC);
    block.u64(GENERATION).u64(s.root.address).u64(s.chunk_root.address).u64(0).u64(0);
    block.u64(s.total).u64(s.used).u64(id::ROOT_TREE_DIR).u64(1);
    let system = chunk_item(s.system, features, identity);
    // leafsize and stripesize repeat what older kernels looked at.
    block.u32(sector).u32(node).u32(node).u32(sector).u32((17 + system.len()) as u32).u64(GENERATION);
    block.u64(0).u64(0).u64(incompat_flags(features)).u16(0).u8(s.root.level).u8(s.chunk_root.level).u8(0);
    block.bytes(&dev_item(s.total, s.device_used, features, identity)).zeros(256);
    // No space cache (cache_generation 0): the kernel reads the few block groups from the extent tree and writes no
    // cache files into the overlay.
    block.u64(0).u64(if features.uuid_tree { GENERATION } else { 0 });
    block.resize(0x32b, 0);
    block.key(Key::new(id::FIRST_CHUNK_TREE, kind::CHUNK_ITEM, s.system.start)).bytes(&system);
    block.resize(disk::SUPER_SIZE, 0);
    let csum = crc32c::crc32c(&block[32..]);
    block[..4].copy_from_slice(&csum.to_le_bytes());
    block
}

/// The hint map: what is not known to hold something is zeros.
fn regions(
    data: &[(u64, u64, Hint)],
    system: &[u64],
    node: u64,
    metadata: Range<u64>,
    total: u64,
) -> Vec<Region> {
    let mut spans: Vec<(u64, u64, Hint)> = SUPER_MIRRORS
        .into_iter()
        .map(|at| (at, at + disk::SUPER_SIZE as u64, Hint::Metadata))
        .filter(|&(_, end, _)| end <= total)
        .collect();
    spans.extend(system.iter().map(|&at| (at, at + node, Hint::Metadata)));
    spans.extend_from_slice(data);
    // A superblock may lie within the metadata.
    let mut from = metadata.start;
    for mirror in SUPER_MIRRORS {
        if metadata.contains(&mirror) {
            spans.push((from, mirror, Hint::Metadata));
            from = (mirror + STRIPE_LEN).min(metadata.end);
        }
    }
    spans.push((from, metadata.end, Hint::Metadata));
    spans.sort_unstable_by_key(|&(from, ..)| from);
    let mut regions: Vec<Region> = Vec::new();
    let mut push = |from: u64, to: u64, hint: Hint| match regions.last_mut() {
        _ if from >= to => {}
        Some(last) if last.hint == hint => last.len += to - from,
        _ => regions.push(Region { offset: from, len: to - from, hint }),
    };
    let mut at = 0;
    for (from, to, hint) in spans {
        push(at, from, Hint::Zero);
        push(from.max(at), to, hint);
        at = at.max(to);
    }
    push(at, total, Hint::Zero);
    regions
}
