//! The items of the default subvolume become inodes.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use super::data::{Csums, Data};
use super::disk::{self, Key, SUPER_OFFSET, Take, extent_type, id, kind};
use super::volume::{Root, Volume};
use crate::btrfs::write::file_type;
use crate::bytes::{ReadAt, Spool};
use crate::error::Error;
use crate::tree::{Content, Device, Extent, Inode, InodeId, Node, Tree, display, mode};

/// Compressed extents are no longer than this, unpacked or packed (`BTRFS_MAX_UNCOMPRESSED`, fs/btrfs/compression.h).
const MAX_COMPRESSED: u64 = 128 << 10;
/// What an inode and its place in the tree cost in memory, and what a name costs in addition to its bytes, roughly.
const INODE_COST: usize = 320;
const NAME_COST: usize = 64;
/// `BTRFS_INODE_NODATASUM`.
const NODATASUM: u64 = 1;

/// Reads the default subvolume.
pub(super) fn read(volume: Volume, max_unpacked: u64) -> Result<Tree, Error> {
    let mut roots: BTreeMap<u64, (Root, u64)> = BTreeMap::new();
    let mut default = id::FS_TREE;
    volume.items(volume.root, id::ROOT_TREE, &mut |key, body| {
        match key.kind {
            kind::ROOT_ITEM => {
                volume.grow(2 * size_of::<(u64, Root, u64)>())?;
                // A snapshot has the transaction of its making as offset; there is one item of each tree.
                let root = root_item(body);
                let root = root.ok_or_else(|| {
                    volume.damaged(SUPER_OFFSET, format!("tree {} has no sound root", key.objectid))
                })?;
                roots.insert(key.objectid, root);
            }
            kind::DIR_ITEM if key.objectid == volume.root_dir => {
                for entry in entries(body).unwrap_or_default() {
                    if entry.name == b"default" && entry.location.kind == kind::ROOT_ITEM {
                        default = entry.location.objectid;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let root = |owner: u64| {
        roots
            .get(&owner)
            .copied()
            .ok_or_else(|| volume.damaged(SUPER_OFFSET, format!("tree {owner} is missing")))
    };

    let sector = u64::from(volume.sector);
    let mut csums = Csums::default();
    if let Some((csum_root, _)) = roots.get(&id::CSUM_TREE) {
        volume.items(*csum_root, id::CSUM_TREE, &mut |key, body| {
            if key.kind != kind::EXTENT_CSUM {
                return Ok(());
            }
            volume.grow(Csums::cost(body))?;
            if csums.push(key.offset, body, sector) {
                Ok(())
            } else {
                Err(volume.damaged(SUPER_OFFSET, format!("the checksums at {} overlap others", key.offset)))
            }
        })?;
    }
    let base = volume.map.end();
    let data = Data {
        source: volume.source.clone(),
        map: volume.map.clone(),
        csums,
        sector: volume.sector,
        base,
        unpacked: None,
    };
    let spool = Spool::new().map_err(Error::temporary)?;
    let (fs_root, root_directory) = root(default)?;
    let mut files = Files {
        volume: &volume,
        data,
        spool,
        inodes: BTreeMap::new(),
        open: None,
        listed: Vec::new(),
        unpacked: BTreeMap::new(),
        max_unpacked,
        left: max_unpacked,
    };
    volume.items(fs_root, default, &mut |key, body| files.item(key, body))?;
    files.close()?;
    files.tree(root_directory)
}

/// `btrfs_root_item`: the root, and the inode of the root directory.
pub(super) fn root_item(body: &[u8]) -> Option<(Root, u64)> {
    let mut take = Take(body);
    take.bytes(disk::INODE_ITEM_SIZE)?;
    let (generation, directory, address) = (take.u64()?, take.u64()?, take.u64()?);
    take.bytes(54)?;
    let level = take.u8()?;
    (level < disk::MAX_LEVEL).then_some((Root { address, level, generation }, directory))
}

/// A `btrfs_dir_item`.
struct Entry<'a> {
    location: Key,
    kind: u8,
    name: &'a [u8],
}

fn entries(body: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut take = Take(body);
    let mut entries = Vec::new();
    while !take.0.is_empty() {
        let location = take.key()?;
        take.u64()?;
        let (data, name, kind) = (take.u16()?, take.u16()?, take.u8()?);
        let name = take.bytes(usize::from(name))?;
        take.bytes(usize::from(data))?;
        entries.push(Entry { location, kind, name });
    }
    Some(entries)
}

/// An inode as it is being read.
struct Raw {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    size: u64,
    rdev: u64,
    flags: u64,
    mtime: i64,
    names: BTreeMap<Box<[u8]>, (u64, u8)>,
    extents: Vec<Extent>,
    target: Option<Vec<u8>>,
}

fn inode_item(body: &[u8]) -> Option<Raw> {
    let mut take = Take(body);
    take.bytes(16)?;
    let size = take.u64()?;
    take.bytes(16)?;
    let (nlink, uid, gid, mode, rdev, flags) =
        (take.u32()?, take.u32()?, take.u32()?, take.u32()?, take.u64()?, take.u64()?);
    take.bytes(8 + 32 + 24)?;
    let mtime = take.u64()? as i64;
    let (names, extents, target) = (BTreeMap::new(), Vec::new(), None);
    Some(Raw { mode, uid, gid, nlink, size, rdev, flags, mtime, names, extents, target })
}

struct Files<'a> {
    volume: &'a Volume,
    data: Data,
    spool: Spool,
    inodes: BTreeMap<u64, Raw>,
    /// The inode whose items are being read.
    open: Option<u64>,
    /// Names in its `DIR_ITEM` items, with what they lead to.
    listed: Vec<(Box<[u8]>, u64)>,
    /// Where compressed extents lie unpacked, by address.
    unpacked: BTreeMap<u64, (u64, u64)>,
    /// How much may be unpacked, and how much of that is left.
    max_unpacked: u64,
    left: u64,
}

impl Files<'_> {
    fn damaged(&self, ino: u64, what: &str) -> Error {
        self.volume.damaged(SUPER_OFFSET, format!("inode {ino} {what}"))
    }

    fn item(&mut self, key: Key, body: &[u8]) -> Result<(), Error> {
        let ino = key.objectid;
        if key.kind == kind::INODE_ITEM {
            self.close()?;
            self.volume.grow(INODE_COST)?;
            let raw = inode_item(body).ok_or_else(|| self.damaged(ino, "ends early"))?;
            // MAX_LFS_FILESIZE, include/linux/fs.h.
            if raw.size > i64::MAX as u64 {
                return Err(self.damaged(ino, &format!("has a size of {} bytes", raw.size)));
            }
            self.inodes.insert(ino, raw);
            self.open = Some(ino);
            return Ok(());
        }
        if !matches!(key.kind, kind::DIR_ITEM | kind::DIR_INDEX | kind::EXTENT_DATA) {
            return Ok(());
        }
        if self.open != Some(ino) {
            return Err(self.damaged(ino, "has items and no inode"));
        }
        match key.kind {
            kind::EXTENT_DATA => self.extent(key, body),
            _ => self.names(key, body),
        }
    }

    fn names(&mut self, key: Key, body: &[u8]) -> Result<(), Error> {
        let ino = key.objectid;
        let Some(entries) = entries(body) else {
            return Err(self.damaged(ino, "has a directory entry that ends early"));
        };
        for entry in entries {
            let name = entry.name;
            let sound = (1..=disk::NAME_LEN).contains(&name.len())
                && name != b"."
                && name != b".."
                && !name.iter().any(|&b| b == b'/' || b == 0);
            if !sound {
                return Err(
                    self.damaged(ino, &format!("has an entry with an impossible name '{}'", display(name)))
                );
            }
            if entry.location.kind == kind::ROOT_ITEM {
                return Err(self.volume.unsupported(format!(
                    "'{}' is a subvolume inside the default one: that cannot be read",
                    display(name)
                )));
            }
            self.volume.grow(NAME_COST + 2 * name.len())?;
            if key.kind == kind::DIR_ITEM {
                if disk::name_hash(name) != key.offset {
                    return Err(self.damaged(ino, &format!("has '{}' under a wrong hash", display(name))));
                }
                self.listed.push((name.into(), entry.location.objectid));
            } else {
                let target = (entry.location.objectid, entry.kind);
                let twice =
                    self.inodes.get_mut(&ino).and_then(|raw| raw.names.insert(name.into(), target)).is_some();
                if twice {
                    return Err(self.damaged(ino, &format!("has '{}' twice", display(name))));
                }
            }
        }
        Ok(())
    }

    /// Ends the inode whose items were read: lookup and readdir have to agree on its names.
    fn close(&mut self) -> Result<(), Error> {
        let Some(ino) = self.open.take() else { return Ok(()) };
        let mut listed = std::mem::take(&mut self.listed);
        listed.sort_unstable();
        let Some(raw) = self.inodes.get(&ino) else { return Ok(()) };
        if !raw.names.iter().map(|(name, (to, _))| (name, to)).eq(listed.iter().map(|(name, to)| (name, to)))
        {
            return Err(self.damaged(ino, "has other names by hash than by index"));
        }
        Ok(())
    }

    fn extent(&mut self, key: Key, body: &[u8]) -> Result<(), Error> {
        let ino = key.objectid;
        let mut take = Take(body);
        let mut parse = || {
            take.u64()?;
            let unpacked = take.u64()?;
            let (compression, encryption, encoding) = (take.u8()?, take.u8()?, take.u16()?);
            (encryption == 0 && encoding == 0).then_some((unpacked, compression, take.u8()?))
        };
        let Some((unpacked, compression, kind)) = parse() else {
            return Err(self.damaged(ino, "has an extent that is encrypted or ends early"));
        };
        if kind == extent_type::INLINE {
            if key.offset != 0 || unpacked > MAX_COMPRESSED {
                return Err(self.damaged(ino, "has an inline extent where none can be"));
            }
            let bytes = self.unpack(ino, compression, take.0, unpacked)?;
            return self.inline(ino, bytes);
        }
        let mut parse = || Some((take.u64()?, take.u64()?, take.u64()?, take.u64()?));
        let Some((address, stored, offset, len)) = parse() else {
            return Err(self.damaged(ino, "has an extent that ends early"));
        };
        if address == 0 || kind == extent_type::PREALLOC {
            return Ok(());
        }
        let sector = u64::from(self.data.sector);
        let all = if compression == 0 { stored } else { unpacked };
        let sound = kind == extent_type::REGULAR
            && [address, stored, offset, len, key.offset].iter().all(|n| n % sector == 0)
            && len > 0
            && offset.checked_add(len).is_some_and(|end| end <= all)
            && key.offset.checked_add(len).is_some()
            && address.checked_add(stored).is_some_and(|end| end <= self.data.base);
        if !sound {
            return Err(self.damaged(ino, "has an impossible extent"));
        }
        let Some(raw) = self.inodes.get(&ino) else { return Ok(()) };
        let visible = len.min(raw.size.saturating_sub(key.offset));
        if visible == 0 {
            return Ok(());
        }
        if raw.flags & NODATASUM == 0 && !self.data.csums.cover(address, stored, sector) {
            return Err(self.damaged(ino, &format!("has data at address {address} without checksums")));
        }
        let data_offset = if compression == 0 {
            address + offset
        } else {
            self.compressed(ino, compression, address, stored, unpacked)? + offset
        };
        self.add(ino, Extent { file_offset: key.offset, data_offset, len: visible })
    }

    fn add(&mut self, ino: u64, extent: Extent) -> Result<(), Error> {
        self.volume.grow(2 * size_of::<Extent>())?;
        let Some(raw) = self.inodes.get_mut(&ino) else { return Ok(()) };
        match raw.extents.last_mut() {
            Some(last) if last.file_offset + last.len > extent.file_offset => {
                return Err(self.damaged(ino, "has extents that overlap"));
            }
            Some(last)
                if last.file_offset + last.len == extent.file_offset
                    && last.data_offset + last.len == extent.data_offset
                    && extent.data_offset < self.data.base =>
            {
                last.len += extent.len;
            }
            _ => raw.extents.push(extent),
        }
        Ok(())
    }

    /// A link's target or a small file's content.
    fn inline(&mut self, ino: u64, mut bytes: Vec<u8>) -> Result<(), Error> {
        let Some(raw) = self.inodes.get_mut(&ino) else { return Ok(()) };
        // Kernels before 3.x ended a link's target with a zero byte beyond its size.
        bytes.truncate(usize::try_from(raw.size).unwrap_or(usize::MAX));
        if raw.mode & mode::S_IFMT == mode::S_IFLNK {
            self.volume.grow(2 * bytes.len())?;
            raw.target = Some(bytes);
            return Ok(());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let at = self.spool(&bytes)?;
        self.add(ino, Extent { file_offset: 0, data_offset: at, len: bytes.len() as u64 })
    }

    /// Appends to the unpacked data and returns the offset in the tree's data.
    fn spool(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        self.spool
            .append(bytes)
            .map(|at| self.data.base + at)
            .map_err(|e| Error::temporary(e).hint("set TMPDIR to a larger place"))
    }

    /// Unpacks an extent, once, and returns the offset of its bytes in the tree's data.
    fn compressed(
        &mut self,
        ino: u64,
        compression: u8,
        address: u64,
        stored: u64,
        unpacked: u64,
    ) -> Result<u64, Error> {
        if stored > MAX_COMPRESSED || unpacked > MAX_COMPRESSED {
            return Err(self.damaged(ino, "has a compressed extent larger than 128 KiB"));
        }
        if let Some(&(at, len)) = self.unpacked.get(&address) {
            return if len == unpacked {
                Ok(at)
            } else {
                Err(self.damaged(ino, "shares an extent of another size"))
            };
        }
        self.volume.grow(2 * size_of::<[u64; 3]>())?;
        let mut packed = vec![0; stored as usize];
        self.data
            .read_exact_at(&mut packed, address)
            .map_err(|e| self.damaged(ino, "has an extent that cannot be read").caused_by(e))?;
        let bytes = self.unpack(ino, compression, &packed, unpacked)?;
        let at = self.spool(&bytes)?;
        self.unpacked.insert(address, (at, unpacked));
        Ok(at)
    }

    /// `unpacked` bytes out of `bytes` (`BTRFS_COMPRESS_…`).
    fn unpack(&mut self, ino: u64, compression: u8, bytes: &[u8], unpacked: u64) -> Result<Vec<u8>, Error> {
        self.left = self.left.checked_sub(unpacked).ok_or_else(|| {
            let limit = self.max_unpacked;
            self.volume
                .unsupported(format!(
                    "the btrfs file system's inline and compressed files unpack to more than the {limit} bytes allowed"
                ))
                .hint("if you trust it, raise --max-unpacked")
        })?;
        let mut out = Vec::new();
        let result = match compression {
            0 => bytes.take(unpacked).read_to_end(&mut out),
            1 => flate2::read::ZlibDecoder::new(bytes).take(unpacked).read_to_end(&mut out),
            3 => zstd::stream::read::Decoder::with_buffer(bytes).and_then(|mut decoder| {
                // ZSTD_BTRFS_MAX_WINDOWLOG, fs/btrfs/zstd.c.
                decoder.window_log_max(17)?;
                decoder.single_frame().take(unpacked).read_to_end(&mut out)
            }),
            2 => {
                return Err(self.volume.unsupported(format!(
                    "inode {ino} is compressed with lzo; only zlib and zstd can be read"
                )));
            }
            other => return Err(self.damaged(ino, &format!("is compressed with unknown method {other}"))),
        };
        match result {
            Ok(_) if out.len() as u64 == unpacked => Ok(out),
            Ok(_) => Err(self.damaged(ino, "has an extent that unpacks to too few bytes")),
            Err(e) => Err(self.damaged(ino, "has an extent that cannot be unpacked").caused_by(e)),
        }
    }

    /// Makes the tree: inodes by number, the root directory first.
    fn tree(mut self, root: u64) -> Result<Tree, Error> {
        let inodes = std::mem::take(&mut self.inodes);
        let ids: BTreeMap<u64, InodeId> = inodes.keys().zip(0..).map(|(&ino, i)| (ino, InodeId(i))).collect();
        let kinds: BTreeMap<u64, u32> =
            inodes.iter().map(|(&ino, raw)| (ino, raw.mode & mode::S_IFMT)).collect();
        if kinds.get(&root) != Some(&mode::S_IFDIR) {
            return Err(self.damaged(root, "is to be the root directory and is none"));
        }
        let mut tree =
            Tree { inodes: Vec::with_capacity(inodes.len()), root: ids[&root], data: Arc::new(Vec::new()) };
        for (ino, raw) in inodes {
            let node = self.node(ino, &raw, &ids, &kinds)?;
            let Raw { mode, uid, gid, mtime, nlink, .. } = raw;
            tree.inodes.push(Inode { mode: mode & 0o7777, uid, gid, mtime, nlink, node });
        }
        self.reach(&mut tree)?;
        let unpacked = self.spool.finish();
        self.data.unpacked = Some(unpacked.map_err(Error::temporary)?);
        tree.data = Arc::new(self.data);
        Ok(tree)
    }

    fn node(
        &self,
        ino: u64,
        raw: &Raw,
        ids: &BTreeMap<u64, InodeId>,
        kinds: &BTreeMap<u64, u32>,
    ) -> Result<Node, Error> {
        // The kernel keeps 12 bits of major and 20 of minor in its dev_t.
        let device = Device { major: (raw.rdev >> 20 & 0xfff) as u32, minor: (raw.rdev & 0xf_ffff) as u32 };
        let node = match raw.mode & mode::S_IFMT {
            mode::S_IFDIR => {
                let mut names = BTreeMap::new();
                for (name, (child, kind)) in &raw.names {
                    let Some(&id) = ids.get(child) else {
                        return Err(
                            self.damaged(ino, &format!("names '{}', which does not exist", display(name)))
                        );
                    };
                    if kinds.get(child).is_none_or(|&bits| file_type(bits) != *kind) {
                        return Err(
                            self.damaged(ino, &format!("names '{}' as another type of file", display(name)))
                        );
                    }
                    names.insert(name.clone(), id);
                }
                Node::Directory(names)
            }
            mode::S_IFREG => Node::Regular(Content { size: raw.size, extents: raw.extents.clone() }),
            mode::S_IFLNK => match &raw.target {
                Some(target) if target.len() as u64 == raw.size => Node::Symlink(target.as_slice().into()),
                _ => return Err(self.damaged(ino, "is a symbolic link without its target")),
            },
            mode::S_IFCHR => Node::CharDevice(device),
            mode::S_IFBLK => Node::BlockDevice(device),
            mode::S_IFIFO => Node::Fifo,
            mode::S_IFSOCK => Node::Socket,
            _ => return Err(self.damaged(ino, "is of no known type")),
        };
        if !matches!(node, Node::Directory(_)) && !raw.names.is_empty() {
            return Err(self.damaged(ino, "has names and is no directory"));
        }
        Ok(node)
    }

    /// Takes inodes without a name out of the tree; a directory with two is an error, so that no walk goes round.
    fn reach(&self, tree: &mut Tree) -> Result<(), Error> {
        let mut seen = vec![false; tree.inodes.len()];
        let mut stack = vec![tree.root];
        seen[tree.root.0 as usize] = true;
        while let Some(directory) = stack.pop() {
            let Some(names) = tree.names(directory) else { continue };
            for (name, &child) in names {
                let again = std::mem::replace(&mut seen[child.0 as usize], true);
                if matches!(tree.inode(child).node, Node::Directory(_)) {
                    if again {
                        let what = format!("directory '{}' has several names", display(name));
                        return Err(self.volume.damaged(SUPER_OFFSET, what));
                    }
                    stack.push(child);
                }
            }
        }
        for (inode, seen) in tree.inodes.iter_mut().zip(seen) {
            if !seen {
                // An orphan: deleted while it was open. Nothing leads to it, and its content must not count.
                inode.nlink = 0;
                inode.node = Node::Fifo;
            }
        }
        Ok(())
    }
}
