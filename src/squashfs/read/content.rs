//! The content of files in an image: blocks unpacked when they are asked for.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::decode::decode;
use crate::bytes::ReadAt;
use crate::codec::Compression;
use crate::squashfs::STORED;
use crate::tree::{Content, Extent, InodeId, Node, Tree};

/// How much unpacked content is kept.
const CACHE: usize = 16 << 20;
/// Every how many blocks of a file it is noted where the block lies.
const STEP: usize = 64;

/// A fragment: the tail of a file, in a block that it shares with others.
#[derive(Clone, Copy)]
pub(super) struct Fragment {
    /// Where the block starts in the image.
    pub(super) start: u64,
    /// Its size there, with [`STORED`].
    pub(super) size: u32,
    /// Where the tail starts in the unpacked block.
    pub(super) offset: u32,
}

/// Where a file's bytes lie in the image.
pub(super) struct Layout {
    /// Where the file starts in the address space of [`Data`].
    base: u64,
    /// Bytes of the file.
    len: u64,
    /// For each block its size in the image, with [`STORED`]; 0 for a hole.
    sizes: Box<[u32]>,
    /// Where every [`STEP`]th block starts in the image.
    starts: Box<[u64]>,
    fragment: Option<Fragment>,
}

impl Layout {
    /// `start` is where the first block lies. `None` where the blocks end behind `end`.
    pub(super) fn new(
        base: u64,
        len: u64,
        start: u64,
        sizes: Vec<u32>,
        fragment: Option<Fragment>,
        end: u64,
    ) -> Option<Self> {
        let mut starts = Vec::with_capacity(sizes.len().div_ceil(STEP));
        let mut at = start;
        for (number, size) in sizes.iter().enumerate() {
            if number % STEP == 0 {
                starts.push(at);
            }
            at = at.checked_add(u64::from(size & !STORED)).filter(|&at| at <= end || *size == 0)?;
        }
        Some(Self { base, len, sizes: sizes.into(), starts: starts.into(), fragment })
    }

    /// The file as extents: all but its holes.
    pub(super) fn content(&self, block_size: u32) -> Content {
        let block_size = u64::from(block_size);
        let mut extents: Vec<Extent> = Vec::new();
        let tail = self.fragment.map(|_| self.sizes.len());
        let blocks = self.sizes.iter().enumerate().filter(|&(_, &size)| size != 0).map(|(number, _)| number);
        for number in blocks.chain(tail) {
            let file_offset = number as u64 * block_size;
            let len = block_size.min(self.len - file_offset);
            match extents.last_mut() {
                Some(last) if last.file_offset + last.len == file_offset => last.len += len,
                _ => extents.push(Extent { file_offset, data_offset: self.base + file_offset, len }),
            }
        }
        Content { size: self.len, extents }
    }

    /// Where the block that holds the byte at `offset` lies in the image.
    fn block_of(&self, offset: u64, block_size: u32) -> u64 {
        let number = (offset / u64::from(block_size)) as usize;
        match &self.fragment {
            Some(fragment) if number >= self.sizes.len() => fragment.start,
            _ => self.start(number.min(self.sizes.len())),
        }
    }

    /// Where block `number` lies in the image.
    fn start(&self, number: usize) -> u64 {
        let from = number / STEP * STEP;
        let before = self.sizes[from..number].iter().map(|size| u64::from(size & !STORED)).sum::<u64>();
        self.starts[number / STEP] + before
    }
}

/// An unpacked block, or why there is none.
type Unpacked = Result<Vec<u8>, String>;

/// The content of all files, one after the other: the address space of a tree's extents.
pub(super) struct Data {
    source: Arc<dyn ReadAt>,
    compression: Compression,
    block_size: u32,
    /// Sorted by `base`; each starts where the one before ends.
    files: Vec<Layout>,
    len: u64,
    cache: Mutex<Cache>,
}

/// The blocks unpacked last, by where they lie in the image.
struct Cache {
    blocks: HashMap<u64, (u64, Arc<OnceLock<Unpacked>>)>,
    /// Counts the uses: the block whose use is the oldest has to go.
    uses: u64,
    room: usize,
}

impl Cache {
    fn slot(&mut self, start: u64) -> Arc<OnceLock<Unpacked>> {
        self.uses += 1;
        if let Some((used, slot)) = self.blocks.get_mut(&start) {
            *used = self.uses;
            return Arc::clone(slot);
        }
        if self.blocks.len() >= self.room
            && let Some(oldest) =
                self.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(&start, _)| start)
        {
            self.blocks.remove(&oldest);
        }
        let slot = Arc::new(OnceLock::new());
        self.blocks.insert(start, (self.uses, Arc::clone(&slot)));
        slot
    }
}

impl Data {
    pub(super) fn new(
        source: Arc<dyn ReadAt>,
        compression: Compression,
        block_size: u32,
        files: Vec<Layout>,
    ) -> Self {
        let len = files.last().map_or(0, |file| file.base + file.len);
        let room = (CACHE / block_size as usize).clamp(4, 256);
        let cache = Mutex::new(Cache { blocks: HashMap::new(), uses: 0, room });
        Self { source, compression, block_size, files, len, cache }
    }

    /// Fills `buf` from `offset` of the block that starts at byte `start` of the image and has to unpack to
    /// `unpacked` bytes (a block of fragments: to that or fewer).
    fn block(
        &self,
        buf: &mut [u8],
        offset: usize,
        start: u64,
        size: u32,
        unpacked: usize,
        exactly: bool,
    ) -> io::Result<()> {
        // Two threads that want one block unpack it once.
        let slot = self.cache.lock().unwrap_or_else(PoisonError::into_inner).slot(start);
        let block = slot.get_or_init(|| {
            let mut bytes = vec![0; (size & !STORED) as usize];
            self.source.read_exact_at(&mut bytes, start).map_err(|e| e.to_string())?;
            let bytes = if size & STORED == 0 { decode(self.compression, &bytes, unpacked)? } else { bytes };
            if exactly && bytes.len() != unpacked {
                return Err(format!("it unpacks to {} bytes, not {unpacked}", bytes.len()));
            }
            Ok(bytes)
        });
        let damaged = |why: &str| {
            let what = format!("squashfs block at byte {start} ({}) is damaged: {why}", self.compression);
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let block = block.as_ref().map_err(|why| damaged(why))?;
        let bytes = offset.checked_add(buf.len()).and_then(|end| block.get(offset..end));
        buf.copy_from_slice(bytes.ok_or_else(|| damaged("it ends early"))?);
        Ok(())
    }

    /// Fills as much of `buf` as lies in one block, and says how much that was.
    fn part(&self, file: &Layout, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let block_size = u64::from(self.block_size);
        let number = (offset / block_size) as usize;
        let within = offset % block_size;
        let left = block_size.min(file.len - (offset - within)) - within;
        let count = (buf.len() as u64).min(left) as usize;
        let buf = &mut buf[..count];
        match (file.sizes.get(number), &file.fragment) {
            (Some(0), _) => buf.fill(0),
            (Some(&size), _) => {
                let unpacked = (within + left) as usize;
                self.block(buf, within as usize, file.start(number), size, unpacked, true)?;
            }
            (None, Some(fragment)) => {
                let within = fragment.offset as usize + within as usize;
                self.block(buf, within, fragment.start, fragment.size, self.block_size as usize, false)?;
            }
            (None, None) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(count)
    }
}

impl Data {
    /// Bytes of the image for as many of the `len` bytes from `offset` of `file` on as lie in one block, and how many
    /// those are.
    fn part_stored(&self, file: &Layout, len: u64, offset: u64) -> (f64, u64) {
        let block_size = u64::from(self.block_size);
        let number = (offset / block_size) as usize;
        let within = offset % block_size;
        let block = block_size.min(file.len - (offset - within));
        let count = len.min(block - within);
        let (size, unpacked) = match (file.sizes.get(number), &file.fragment) {
            (Some(&size), _) => (size, block),
            // How full a block of fragments is stands nowhere; all but the last are.
            (None, Some(fragment)) => (fragment.size, block_size),
            (None, None) => (0, block_size),
        };
        let stored = f64::from(size & !STORED) * count as f64 / unpacked as f64;
        (stored, count)
    }
}

impl ReadAt for Data {
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let number = self.files.partition_point(|file| file.base + file.len <= offset);
            let file = self.files.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
            let count = self.part(file, buf, offset - file.base)?;
            buf = &mut buf[count..];
            offset += count as u64;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn unpacked_with(&self, offset: u64) -> u64 {
        let number = self.files.partition_point(|file| file.base + file.len <= offset);
        self.files.get(number).map_or(offset, |file| file.block_of(offset - file.base, self.block_size))
    }

    fn stored_bytes(&self, mut offset: u64, mut len: u64) -> f64 {
        let mut sum = 0.0;
        while len > 0 {
            let number = self.files.partition_point(|file| file.base + file.len <= offset);
            let Some(file) = self.files.get(number) else { break };
            let (stored, count) = self.part_stored(file, len, offset - file.base);
            sum += stored;
            offset += count;
            len -= count;
        }
        sum
    }
}

/// The content of one regular file of a tree: what another reader can look into.
pub struct FileContent {
    tree: Tree,
    content: Content,
}

impl ReadAt for FileContent {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.tree.read_at(&self.content, buf, offset)
    }

    fn len(&self) -> u64 {
        self.content.size
    }

    fn stored_bytes(&self, offset: u64, len: u64) -> f64 {
        let end = offset.saturating_add(len);
        let first = self.content.extents.partition_point(|e| e.file_offset + e.len <= offset);
        let extents = self.content.extents[first..].iter().take_while(|e| e.file_offset < end);
        let parts = extents.map(|extent| {
            let from = extent.file_offset.max(offset);
            let to = (extent.file_offset + extent.len).min(end);
            self.tree.data.stored_bytes(extent.data_offset + (from - extent.file_offset), to - from)
        });
        parts.sum()
    }
}

/// The content of the regular file `id`, unpacked as it is read; `None` where it is something else.
#[must_use]
pub fn file(tree: &Tree, id: InodeId) -> Option<Arc<dyn ReadAt>> {
    let Node::Regular(content) = &tree.inode(id).node else { return None };
    // Only its data is needed, not all of the tree's inodes.
    let data = Tree::new(Arc::clone(&tree.data));
    Some(Arc::new(FileContent { tree: data, content: content.clone() }))
}
