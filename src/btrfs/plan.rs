//! A tree of files → where everything lies in the image.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{io, thread};

use super::Options;
use super::disk::{
    self, Bytes, GENERATION, HEADER, ITEM, InodeItem, Key, MAX_EXTENT, STRIPE_LEN, SUPER_SIZE, SUPERBLOCKS, group, id,
    item,
};
use super::features::{Features, SECTOR};
use super::image::{Facts, Hint, Image, Piece, Region, Source};
use super::order::{self, Class};
use super::trees::{Item, Shape};
use crate::error::Error;
use crate::tree::{Content, Inode, InodeId, Node, Tree, display};

const MIB: u64 = 1 << 20;
/// Where the system chunk lies: the first MiB belongs to boot loaders and the first superblock.
const SYSTEM: u64 = MIB;
const SYSTEM_LEN: u64 = 4 * MIB;
const DATA: u64 = SYSTEM + SYSTEM_LEN;
/// Unallocated space at the end, from which the kernel can make another small chunk.
const SPARE: u64 = 32 * MIB;
/// `max_inline` of a mount without options.
const MAX_INLINE: u64 = 2048;

/// A run of whole sectors of a file that holds data.
#[derive(Debug, Clone, Copy)]
struct Run {
    offset: u64,
    len: u64,
}

/// Content that is stored once, whatever number of files has it.
struct Stored {
    content: Content,
    class: Class,
    key: (Vec<u8>, Vec<u8>),
    runs: Vec<Run>,
    /// crc32c of each sector of the runs.
    sums: Vec<u32>,
    /// Inode numbers of the files.
    files: Vec<u64>,
}

/// A data extent.
struct DataExtent {
    bytenr: u64,
    len: u64,
    file_offset: u64,
    stored: usize,
}

/// Gives out addresses one behind the other, around the places of superblocks.
struct Allocator {
    at: u64,
}

impl Allocator {
    /// The next free address, and how many bytes are free there.
    fn room(&mut self) -> u64 {
        for place in SUPERBLOCKS {
            let start = place / STRIPE_LEN * STRIPE_LEN;
            if (start..start + STRIPE_LEN).contains(&self.at) {
                self.at = start + STRIPE_LEN;
            }
        }
        SUPERBLOCKS.iter().map(|s| s / STRIPE_LEN * STRIPE_LEN).find(|&s| s > self.at).map_or(u64::MAX, |s| s - self.at)
    }

    /// `len` bytes in one piece.
    fn take(&mut self, len: u64) -> u64 {
        while self.room() < len {
            self.at += self.room();
        }
        let at = self.at;
        self.at += len;
        at
    }
}

fn read_error(error: &io::Error) -> Error {
    Error::input(format!("the runtime's content cannot be read back: {error}"))
}

/// Runs of sectors that hold data; the last may reach beyond the end of the file.
fn runs(content: &Content) -> Vec<Run> {
    let sector = u64::from(SECTOR);
    let mut runs: Vec<Run> = Vec::new();
    for extent in content.extents.iter().filter(|e| e.len > 0) {
        let start = extent.file_offset / sector * sector;
        let end = (extent.file_offset + extent.len).next_multiple_of(sector);
        match runs.last_mut() {
            Some(last) if last.offset + last.len >= start => last.len = last.len.max(end - last.offset),
            _ => runs.push(Run { offset: start, len: end - start }),
        }
    }
    runs
}

/// Digest of the content and checksums of its sectors: everything is read here, once.
fn digest(tree: &Tree, content: &Content, runs: &[Run]) -> io::Result<([u8; 32], Vec<u32>, Class)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&content.size.to_le_bytes());
    let mut sums = Vec::new();
    let mut start = Vec::new();
    let mut buffer = vec![0_u8; 256 << 10];
    for run in runs {
        hasher.update(&run.offset.to_le_bytes());
        let mut done = 0;
        while done < run.len {
            let count = (run.len - done).min(buffer.len() as u64) as usize;
            let at = run.offset + done;
            let real = content.size.saturating_sub(at).min(count as u64) as usize;
            tree.read_at(content, &mut buffer[..real], at)?;
            buffer[real..count].fill(0);
            if at == 0 {
                start = buffer[..real.min(64)].to_vec();
            }
            hasher.update(&buffer[..count]);
            sums.extend(buffer[..count].chunks(SECTOR as usize).map(crc32c::crc32c));
            done += count as u64;
        }
    }
    Ok((*hasher.finalize().as_bytes(), sums, order::class(&start)))
}

/// Names of one inode: parent's number, index in the parent, name.
type Names = Vec<(u64, u64, Box<[u8]>)>;

struct Numbered {
    /// In the order of the walk; the number of the first is 256.
    inodes: Vec<(InodeId, Names, Vec<u8>)>,
    number: HashMap<InodeId, u64>,
}

fn number(tree: &Tree) -> Numbered {
    let mut numbered = Numbered { inodes: Vec::new(), number: HashMap::new() };
    for entry in tree.walk() {
        numbered.number.entry(entry.id).or_insert_with(|| {
            numbered.inodes.push((entry.id, Vec::new(), entry.path));
            id::FIRST_FREE + numbered.inodes.len() as u64 - 1
        });
    }
    for at in 0..numbered.inodes.len() {
        let Some(names) = tree.names(numbered.inodes[at].0) else { continue };
        // Indices of a directory start at 2.
        for (index, (name, child)) in (2_u64..).zip(names) {
            let parent = id::FIRST_FREE + at as u64;
            if let Some(&child) = numbered.number.get(child) {
                numbered.inodes[(child - id::FIRST_FREE) as usize].1.push((parent, index, name.clone()));
            }
        }
    }
    numbered
}

/// Digest of each file that is too large to be stored inline, on every core.
fn store(tree: &Tree, numbered: &Numbered, inline: u64) -> Result<(Vec<Stored>, u64), Error> {
    let files: Vec<(u64, &Content, &[u8])> = (id::FIRST_FREE..)
        .zip(&numbered.inodes)
        .filter_map(|(ino, (inode, _, path))| match &tree.inode(*inode).node {
            Node::Regular(content) if content.size > inline => Some((ino, content, path.as_slice())),
            _ => None,
        })
        .collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(files.len()));
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(8));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((_, content, _)) = files.get(next.load(Ordering::Relaxed)) {
                    let _ = content;
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((_, content, _)) = files.get(at) else { break };
                    let runs = runs(content);
                    let result = digest(tree, content, &runs).map(|d| (runs, d));
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    let mut known: HashMap<[u8; 32], usize> = HashMap::new();
    let mut stored: Vec<Stored> = Vec::new();
    let mut shared = 0;
    for (at, result) in results {
        let (runs, (digest, sums, class)) = result.map_err(|e| read_error(&e))?;
        let (ino, content, path) = files[at];
        match known.get(&digest) {
            Some(&same) => {
                shared += content.size;
                stored[same].files.push(ino);
            }
            None => {
                known.insert(digest, stored.len());
                let key = order::key(path);
                stored.push(Stored { content: content.clone(), class, key, runs, sums, files: vec![ino] });
            }
        }
    }
    stored.sort_by(|a, b| (a.class, &a.key).cmp(&(b.class, &b.key)));
    Ok((stored, shared))
}

/// Addresses for all content: extents sorted by address, regions by class, and where the data ends.
fn lay_out(stored: &[Stored], block: u64) -> (Vec<DataExtent>, Vec<Region>, u64) {
    let mut allocator = Allocator { at: DATA };
    let mut extents = Vec::new();
    let mut regions: Vec<Region> = Vec::new();
    let mut class = None;
    for (at, stored) in stored.iter().enumerate() {
        if class != Some(stored.class) {
            class = Some(stored.class);
            allocator.at = allocator.at.next_multiple_of(block);
        }
        let hint = match stored.class {
            Class::Code(arch) => Hint::MachineCode(arch),
            Class::Plain | Class::Packed => Hint::Data,
        };
        for run in &stored.runs {
            let mut done = 0;
            while done < run.len {
                let len = (run.len - done).min(MAX_EXTENT).min(allocator.room());
                let bytenr = allocator.take(len);
                extents.push(DataExtent { bytenr, len, file_offset: run.offset + done, stored: at });
                match regions.last_mut() {
                    Some(last) if last.hint == hint && last.offset + last.len == bytenr => last.len += len,
                    _ => regions.push(Region { offset: bytenr, len, hint }),
                }
                done += len;
            }
        }
    }
    (extents, regions, allocator.at)
}

/// Keyed items of the tree of files.
fn fs_items(
    tree: &Tree,
    numbered: &Numbered,
    stored: &[Stored],
    extents: &[DataExtent],
    features: Features,
    inline: u64,
) -> Result<Vec<Item>, Error> {
    let mut data: HashMap<u64, Vec<&DataExtent>> = HashMap::new();
    for extent in extents {
        for ino in &stored[extent.stored].files {
            data.entry(*ino).or_default().push(extent);
        }
    }
    let room = features.node_size as usize - HEADER - ITEM;
    let mut items: Vec<Item> = Vec::new();
    for (ino, (inode_id, names, path)) in (id::FIRST_FREE..).zip(&numbered.inodes) {
        let inode = tree.inode(*inode_id);
        let mut record = inode_item(inode, names.len());
        put_names(&mut items, ino, names, features, room, path)?;
        match &inode.node {
            Node::Directory(children) => {
                put_children(&mut items, tree, numbered, ino, children);
                record.size = children.keys().map(|name| 2 * name.len() as u64).sum();
            }
            Node::Symlink(target) => {
                if target.len() > room - 21 || target.len() as u64 >= u64::from(SECTOR) {
                    return Err(too_long(path, "link target"));
                }
                record.size = target.len() as u64;
                record.nbytes = record.size;
                items.push((Key::new(ino, item::EXTENT_DATA, 0), inline_extent(target)));
            }
            Node::Regular(content) => {
                record.size = content.size;
                if content.size > inline {
                    let extents = data.get(&ino).map_or(&[][..], Vec::as_slice);
                    record.nbytes = extents.iter().map(|e| e.len).sum();
                    put_extents(&mut items, ino, content.size, extents, features.no_holes);
                } else if content.size > 0 {
                    let mut bytes = vec![0; content.size as usize];
                    tree.read_at(content, &mut bytes, 0).map_err(|e| read_error(&e))?;
                    record.nbytes = content.size;
                    items.push((Key::new(ino, item::EXTENT_DATA, 0), inline_extent(&bytes)));
                }
            }
            Node::CharDevice(_) | Node::BlockDevice(_) | Node::Fifo | Node::Socket => {}
        }
        let mut out = Bytes::default();
        record.put(&mut out);
        items.push((Key::new(ino, item::INODE_ITEM, 0), out.0));
    }
    items.sort_by_key(|item| item.0);
    Ok(items)
}

fn inode_item(inode: &Inode, names: usize) -> InodeItem {
    let rdev = match inode.node {
        // The kernel keeps its own dev_t here: twelve bits of major, twenty of minor.
        Node::CharDevice(d) | Node::BlockDevice(d) => u64::from(d.major & 0xfff) << 20 | u64::from(d.minor & 0xf_ffff),
        _ => 0,
    };
    InodeItem {
        size: 0,
        nbytes: 0,
        nlink: if matches!(inode.node, Node::Directory(_)) { 1 } else { names as u32 },
        uid: inode.uid,
        gid: inode.gid,
        mode: inode.mode & 0o7777 | inode.node.type_bits(),
        rdev,
        time: inode.mtime,
    }
}

fn too_long(path: &[u8], what: &str) -> Error {
    Error::input(format!("{} has a {what} too long for btrfs as this kernel knows it", display(path)))
}

fn put_names(
    items: &mut Vec<Item>,
    ino: u64,
    names: &Names,
    features: Features,
    room: usize,
    path: &[u8],
) -> Result<(), Error> {
    if ino == id::FIRST_FREE {
        items.push((Key::new(ino, item::INODE_REF, ino), disk::inode_ref(0, b"..")));
        return Ok(());
    }
    let mut refs: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut extended: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (parent, index, name) in names {
        if name.len() > 255 {
            return Err(too_long(path, "name"));
        }
        let record = disk::inode_ref(*index, name);
        let item = refs.entry(*parent).or_default();
        if item.len() + record.len() <= room {
            item.extend(record);
        } else if features.extended_iref {
            let mut out = Bytes::default();
            out.u64(*parent).u64(*index).u16(name.len() as u16).put(name);
            extended.entry(disk::extref_hash(*parent, name)).or_default().extend(out.0);
        } else {
            return Err(Error::input(format!(
                "{} has more hard links in one folder than the btrfs of this kernel can hold",
                display(path)
            )));
        }
    }
    items.extend(refs.into_iter().map(|(parent, data)| (Key::new(ino, item::INODE_REF, parent), data)));
    items.extend(extended.into_iter().map(|(hash, data)| (Key::new(ino, item::INODE_EXTREF, hash), data)));
    Ok(())
}

fn put_children(
    items: &mut Vec<Item>,
    tree: &Tree,
    numbered: &Numbered,
    ino: u64,
    children: &BTreeMap<Box<[u8]>, InodeId>,
) {
    // Names with one hash share an item.
    let mut by_hash: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (index, (name, child)) in (2_u64..).zip(children) {
        let Some(&number) = numbered.number.get(child) else { continue };
        let kind = match tree.inode(*child).node {
            Node::Regular(_) => 1,
            Node::Directory(_) => 2,
            Node::CharDevice(_) => 3,
            Node::BlockDevice(_) => 4,
            Node::Fifo => 5,
            Node::Socket => 6,
            Node::Symlink(_) => 7,
        };
        let record = disk::dir_item(Key::new(number, item::INODE_ITEM, 0), kind, name);
        by_hash.entry(disk::name_hash(name)).or_default().extend(&record);
        items.push((Key::new(ino, item::DIR_INDEX, index), record));
    }
    items.extend(by_hash.into_iter().map(|(hash, data)| (Key::new(ino, item::DIR_ITEM, hash), data)));
}

/// `struct btrfs_file_extent_item` with its data inline.
fn inline_extent(bytes: &[u8]) -> Vec<u8> {
    let mut out = Bytes::default();
    out.u64(GENERATION).u64(bytes.len() as u64).u8(0).u8(0).u16(0).u8(0).put(bytes);
    out.0
}

fn put_extents(items: &mut Vec<Item>, ino: u64, size: u64, extents: &[&DataExtent], no_holes: bool) {
    let mut put = |offset: u64, bytenr: u64, len: u64| {
        let mut out = Bytes::default();
        out.u64(GENERATION).u64(len).u8(0).u8(0).u16(0).u8(1);
        out.u64(bytenr).u64(if bytenr == 0 { 0 } else { len }).u64(0).u64(len);
        items.push((Key::new(ino, item::EXTENT_DATA, offset), out.0));
    };
    let mut at = 0;
    for extent in extents {
        if extent.file_offset > at && !no_holes {
            put(at, 0, extent.file_offset - at);
        }
        put(extent.file_offset, extent.bytenr, extent.len);
        at = extent.file_offset + extent.len;
    }
    let end = size.next_multiple_of(u64::from(SECTOR));
    if end > at && !no_holes {
        put(at, 0, end - at);
    }
}

/// Items of the tree of checksums: as many sums an item as a leaf holds.
fn csum_items(stored: &[Stored], extents: &[DataExtent], node_size: u32) -> Vec<Item> {
    // MAX_CSUM_ITEMS of the kernel's file-item.c.
    let most = (node_size as usize - HEADER - 2 * ITEM) / 4 - 1;
    let mut items: Vec<Item> = Vec::new();
    let mut next = 0;
    let mut first_sum = vec![0; stored.len()];
    for extent in extents {
        let used = &mut first_sum[extent.stored];
        let count = (extent.len / u64::from(SECTOR)) as usize;
        for (i, sum) in stored[extent.stored].sums[*used..*used + count].iter().enumerate() {
            let at = extent.bytenr + i as u64 * u64::from(SECTOR);
            match items.last_mut() {
                Some((_, data)) if at == next && data.len() < most * 4 => data.extend(sum.to_le_bytes()),
                _ => items.push((Key::new(id::EXTENT_CSUM, item::EXTENT_CSUM, at), sum.to_le_bytes().to_vec())),
            }
            next = at + u64::from(SECTOR);
        }
        *used += count;
    }
    items
}

/// Items of the extent tree for data: references to each extent, inline as far as they fit.
fn data_extent_items(stored: &[Stored], extents: &[DataExtent], node_size: u32) -> Vec<Item> {
    // BTRFS_MAX_EXTENT_ITEM_SIZE of the kernel's extent-tree.c.
    let largest = (node_size as usize - HEADER) / 16 - ITEM;
    let inline = (largest - 24) / 29;
    let mut items = Vec::new();
    for extent in extents {
        let files = &stored[extent.stored].files;
        // Inline references stand in descending order of their hash.
        let mut refs: Vec<(u64, u64)> =
            files.iter().map(|&ino| (disk::data_ref_hash(id::FS_TREE, ino, extent.file_offset), ino)).collect();
        refs.sort_by(|a, b| b.cmp(a));
        let mut out = Bytes::default();
        out.u64(refs.len() as u64).u64(GENERATION).u64(1);
        let keyed = refs.split_off(refs.len().min(inline));
        let put = |out: &mut Bytes, ino: u64| {
            out.u64(id::FS_TREE).u64(ino).u64(extent.file_offset).u32(1);
        };
        for (_, ino) in refs {
            out.u8(item::EXTENT_DATA_REF);
            put(&mut out, ino);
        }
        items.push((Key::new(extent.bytenr, item::EXTENT_ITEM, extent.len), out.0));
        let mut taken = BTreeMap::new();
        for (mut hash, ino) in keyed {
            // Equal hashes take the next free key.
            while taken.contains_key(&hash) {
                hash += 1;
            }
            let mut out = Bytes::default();
            put(&mut out, ino);
            taken.insert(hash, out.0);
        }
        items.extend(
            taken.into_iter().map(|(hash, data)| (Key::new(extent.bytenr, item::EXTENT_DATA_REF, hash), data)),
        );
    }
    items
}

/// The item of the extent tree for a tree block.
fn block_item(bytenr: u64, level: u8, first: Key, owner: u64, features: Features) -> Item {
    let mut out = Bytes::default();
    out.u64(1).u64(GENERATION).u64(2);
    let key = if features.skinny_metadata {
        Key::new(bytenr, item::METADATA_ITEM, u64::from(level))
    } else {
        first.put(&mut out);
        out.u8(level);
        Key::new(bytenr, item::EXTENT_ITEM, u64::from(features.node_size))
    };
    out.u8(item::TREE_BLOCK_REF).u64(owner);
    (key, out.0)
}

/// A tree with its items and the addresses of its blocks.
struct Placed {
    items: Vec<Item>,
    shape: Shape,
    addresses: Vec<u64>,
}

impl Placed {
    fn new(owner: u64, items: Vec<Item>, node_size: u32, allocator: &mut Allocator) -> Self {
        let shape = Shape::new(owner, &items, node_size);
        let addresses = shape.blocks.iter().map(|_| allocator.take(u64::from(node_size))).collect();
        Self { items, shape, addresses }
    }

    fn root(&self) -> u64 {
        self.addresses.last().copied().unwrap_or(0)
    }

    fn used(&self, node_size: u32) -> u64 {
        self.addresses.len() as u64 * u64::from(node_size)
    }

    fn root_item(&self, node_size: u32, directory: bool, time: i64) -> Item {
        let data = disk::root_item(self.root(), self.shape.level(), self.used(node_size), directory, time);
        (Key::new(self.shape.owner, item::ROOT_ITEM, 0), data)
    }
}

/// An empty directory 256: all that the tree for relocation holds.
fn reloc_items(time: i64) -> Vec<Item> {
    let mut out = Bytes::default();
    InodeItem { nlink: 1, mode: 0o40755, time, ..InodeItem::default() }.put(&mut out);
    vec![
        (Key::new(id::FIRST_FREE, item::INODE_ITEM, 0), out.0),
        (Key::new(id::FIRST_FREE, item::INODE_REF, id::FIRST_FREE), disk::inode_ref(0, b"..")),
    ]
}

fn uuid(label: &str, digest: &[u8; 32]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(digest);
    hasher.update(label.as_bytes());
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    // RFC 9562: version 8 (made from other data), variant 1.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Plans an image of `tree`. All content is read once, for checksums; the image reads it again on demand.
///
/// # Errors
/// [`crate::error::Kind::Input`] where content cannot be read or the tree holds what btrfs cannot (a name of more than
/// 255 bytes, say).
pub fn plan(tree: &Tree, options: &Options) -> Result<Image, Error> {
    let features = options.features;
    let node_size = features.node_size;
    let inline = MAX_INLINE.min(u64::from(node_size) / 2);
    let numbered = number(tree);
    let (stored, shared) = store(tree, &numbered, inline)?;
    let (extents, mut regions, data_end) = lay_out(&stored, u64::from(options.block_size.max(SECTOR)));
    let fs = fs_items(tree, &numbered, &stored, &extents, features, inline)?;
    let csums = csum_items(&stored, &extents, node_size);

    let mut hasher = blake3::Hasher::new();
    for (key, data) in fs.iter().chain(&csums) {
        hasher.update(&key.object.to_le_bytes()).update(&[key.kind]).update(&key.offset.to_le_bytes());
        hasher.update(&(data.len() as u64).to_le_bytes()).update(data);
    }
    hasher.update(options_digest(options).as_bytes());
    let digest = *hasher.finalize().as_bytes();
    let [fsid, device, chunk_tree, fs_uuid] = ["fsid", "device", "chunk tree", "fs tree"].map(|l| uuid(l, &digest));
    let _ = fs_uuid;

    let data_len = (data_end - DATA + options.free_space.max(MIB)).next_multiple_of(MIB);
    let metadata_at = DATA + data_len;
    let mut allocator = Allocator { at: metadata_at };
    let mut place = |owner, items| Placed::new(owner, items, node_size, &mut allocator);
    let fs = place(id::FS_TREE, fs);
    let csum = place(id::CSUM_TREE, csums);
    let uuid_tree = features.uuid_tree.then(|| place(id::UUID_TREE, Vec::new()));
    let reloc = place(id::DATA_RELOC_TREE, reloc_items(options.time));

    // The shapes of the remaining trees do not depend on where anything lies: the sizes of their items are fixed.
    let data_extents: u64 = extents.iter().map(|e| e.len).sum();
    let blocks_so_far = [Some(&fs), Some(&csum), uuid_tree.as_ref(), Some(&reloc)]
        .into_iter()
        .flatten()
        .map(|t| t.addresses.len() as u64)
        .sum::<u64>();
    // A guess that is never too small: twice what there is, and room for the kernel to write.
    let extent_tree_guess = (extents.len() as u64 * 64 + blocks_so_far * 64) / u64::from(node_size) * 2 + 64;
    let needed = (blocks_so_far + extent_tree_guess) * u64::from(node_size) + 2 * STRIPE_LEN;
    let metadata_len = (needed + needed.max(32 * MIB)).next_multiple_of(MIB);
    let total = metadata_at + metadata_len + SPARE;
    let chunks = [
        (SYSTEM, SYSTEM_LEN, group::SYSTEM),
        (DATA, data_len, group::DATA),
        (metadata_at, metadata_len, group::METADATA),
    ];
    let allocated: u64 = chunks.iter().map(|c| c.1).sum();
    let dev_item = disk::dev_item(total, allocated, &device, &fsid);

    let mut chunk_items = vec![(Key::new(id::DEV_ITEMS, item::DEV_ITEM, 1), dev_item.clone())];
    let mut dev_items = Vec::new();
    for (at, len, kind) in chunks {
        let data = disk::chunk_item(len, kind, at, &device);
        chunk_items.push((Key::new(id::FIRST_CHUNK_TREE, item::CHUNK_ITEM, at), data));
        let mut out = Bytes::default();
        out.u64(id::CHUNK_TREE).u64(id::FIRST_CHUNK_TREE).u64(at).u64(len).put(&chunk_tree);
        dev_items.push((Key::new(1, item::DEV_EXTENT, at), out.0));
    }
    let sys_chunk = {
        let mut out = Bytes::default();
        Key::new(id::FIRST_CHUNK_TREE, item::CHUNK_ITEM, SYSTEM).put(&mut out);
        out.put(&disk::chunk_item(SYSTEM_LEN, group::SYSTEM, SYSTEM, &device));
        out.0
    };
    let chunk = Placed::new(id::CHUNK_TREE, chunk_items, node_size, &mut Allocator { at: SYSTEM });
    let dev = Placed::new(id::DEV_TREE, dev_items, node_size, &mut allocator);
    let root_items = |extent: &Placed| {
        let mut items = vec![
            extent.root_item(node_size, false, options.time),
            dev.root_item(node_size, false, options.time),
            (Key::new(id::FS_TREE, item::INODE_REF, id::ROOT_TREE_DIR), disk::inode_ref(0, b"default")),
            fs.root_item(node_size, true, options.time),
            csum.root_item(node_size, false, options.time),
            reloc.root_item(node_size, true, options.time),
        ];
        items.extend(uuid_tree.as_ref().map(|t| t.root_item(node_size, false, options.time)));
        let mut out = Bytes::default();
        InodeItem { nlink: 1, mode: 0o40755, nbytes: 16384, time: options.time, ..Default::default() }.put(&mut out);
        let directory = id::ROOT_TREE_DIR;
        items.push((Key::new(directory, item::INODE_ITEM, 0), out.0));
        items.push((Key::new(directory, item::INODE_REF, directory), disk::inode_ref(0, b"..")));
        let location = Key::new(id::FS_TREE, item::ROOT_ITEM, u64::MAX);
        let entry = disk::dir_item(location, 2, b"default");
        items.push((Key::new(directory, item::DIR_ITEM, disk::name_hash(b"default")), entry));
        items.sort_by_key(|item| item.0);
        items
    };
    let unplaced = Placed { items: Vec::new(), shape: Shape::new(id::EXTENT_TREE, &[], node_size), addresses: vec![] };
    let mut root = Placed::new(id::ROOT_TREE, root_items(&unplaced), node_size, &mut allocator);

    // The extent tree describes its own blocks too: it grows until it has room for them.
    let others: Vec<&Placed> =
        [Some(&fs), Some(&csum), uuid_tree.as_ref(), Some(&reloc), Some(&chunk), Some(&dev), Some(&root)]
            .into_iter()
            .flatten()
            .collect();
    let mut fixed = data_extent_items(&stored, &extents, node_size);
    let mut metadata_used = 0;
    for tree in &others {
        for (block, &at) in tree.shape.blocks.iter().zip(&tree.addresses) {
            fixed.push(block_item(at, block.level, block.first, tree.shape.owner, features));
        }
        if tree.shape.owner != id::CHUNK_TREE {
            metadata_used += tree.used(node_size);
        }
    }
    let mut shape = Shape::new(id::EXTENT_TREE, &fixed, node_size);
    let (items, addresses) = loop {
        let mut allocator = Allocator { at: allocator.at };
        let addresses: Vec<u64> = shape.blocks.iter().map(|_| allocator.take(u64::from(node_size))).collect();
        let mut items = fixed.clone();
        for (block, &at) in shape.blocks.iter().zip(&addresses) {
            items.push(block_item(at, block.level, block.first, id::EXTENT_TREE, features));
        }
        let used = metadata_used + addresses.len() as u64 * u64::from(node_size);
        for ((at, len, kind), used) in chunks.into_iter().zip([chunk.used(node_size), data_extents, used]) {
            let mut out = Bytes::default();
            out.u64(used).u64(id::FIRST_CHUNK_TREE).u64(kind);
            items.push((Key::new(at, item::BLOCK_GROUP_ITEM, len), out.0));
        }
        items.sort_by_key(|item| item.0);
        let next = Shape::new(id::EXTENT_TREE, &items, node_size);
        let stable = next.blocks.len() == shape.blocks.len()
            && next.blocks.iter().zip(&shape.blocks).all(|(a, b)| a.first == b.first && a.level == b.level);
        shape = next;
        if stable {
            break (items, addresses);
        }
    };
    metadata_used += addresses.len() as u64 * u64::from(node_size);
    let extent = Placed { items, shape, addresses };
    root.items = root_items(&extent);
    let metadata_end = extent.addresses.last().map_or(0, |a| a + u64::from(node_size));
    if metadata_end > metadata_at + metadata_len {
        return Err(Error::input("the runtime has more metadata than was planned for").hint("this is a bug: report it"));
    }

    let mut pieces = Vec::new();
    for tree in [Some(&fs), Some(&csum), uuid_tree.as_ref(), Some(&reloc), Some(&chunk), Some(&dev), Some(&root), Some(&extent)]
        .into_iter()
        .flatten()
    {
        let mut bytes = Vec::new();
        tree.shape.write(&tree.items, node_size, &fsid, &chunk_tree, &|i| tree.addresses[i], &mut bytes);
        for (block, &at) in bytes.chunks(node_size as usize).zip(&tree.addresses) {
            pieces.push(Piece { offset: at, len: u64::from(node_size), source: Source::Bytes(block.to_vec()) });
        }
    }
    let used = chunk.used(node_size) + data_extents + metadata_used;
    for place in SUPERBLOCKS.into_iter().filter(|place| place + SUPER_SIZE as u64 <= total) {
        let mut out = Bytes::default();
        out.zeros(32).put(&fsid).u64(place).u64(1).put(disk::MAGIC).u64(GENERATION);
        out.u64(root.root()).u64(chunk.root()).u64(0).u64(0).u64(total).u64(used).u64(id::ROOT_TREE_DIR).u64(1);
        out.u32(SECTOR).u32(node_size).u32(node_size).u32(SECTOR).u32(sys_chunk.len() as u32);
        out.u64(GENERATION).u64(0).u64(0).u64(features.incompat_flags()).u16(0);
        out.u8(root.shape.level()).u8(chunk.shape.level()).u8(0).put(&dev_item);
        // No label; a cache of free space was never written (cache_generation -1).
        out.zeros(256).u64(u64::MAX).u64(if features.uuid_tree { GENERATION } else { 0 });
        let rest = 0x32b - out.0.len();
        out.zeros(rest).put(&sys_chunk);
        let rest = SUPER_SIZE - out.0.len();
        out.zeros(rest);
        disk::set_checksum(&mut out.0);
        pieces.push(Piece { offset: place, len: SUPER_SIZE as u64, source: Source::Bytes(out.0) });
    }
    for piece in &pieces {
        regions.push(Region { offset: piece.offset, len: piece.len, hint: Hint::Metadata });
    }
    for extent in &extents {
        let content = stored[extent.stored].content.clone();
        pieces.push(Piece {
            offset: extent.bytenr,
            len: extent.len,
            source: Source::File(content, extent.file_offset),
        });
    }
    pieces.sort_by_key(|piece| piece.offset);
    let facts = Facts {
        data: data_extents,
        metadata: metadata_used + chunk.used(node_size),
        shared,
        inodes: numbered.inodes.len() as u64,
    };
    let regions = cover(regions, total);
    Ok(Image { tree: tree.clone(), pieces, regions, len: total, facts })
}

fn options_digest(options: &Options) -> blake3::Hash {
    blake3::hash(
        format!("{:?} {} {} {}", options.features, options.free_space, options.time, options.block_size).as_bytes(),
    )
}

/// Sorts and joins regions, and fills what is between with zeros.
fn cover(mut regions: Vec<Region>, total: u64) -> Vec<Region> {
    regions.sort_by_key(|r| r.offset);
    let mut all: Vec<Region> = Vec::new();
    let mut at = 0;
    for region in regions {
        if region.offset > at {
            all.push(Region { offset: at, len: region.offset - at, hint: Hint::Zero });
        }
        match all.last_mut() {
            Some(last) if last.hint == region.hint => last.len += region.len,
            _ => all.push(region),
        }
        at = region.offset + region.len;
    }
    if total > at {
        all.push(Region { offset: at, len: total - at, hint: Hint::Zero });
    }
    all
}
