//! Bytes that are read at any offset: files, parts of them, several of them joined, and unlinked temporary files for what
//! is too large for memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that can be read at any offset, from several threads at once.
pub trait ReadAt: Send + Sync {
    /// Fills `buf` from `offset`; fails with `UnexpectedEof` if there are too few bytes.
    ///
    /// # Errors
    /// Those of the source.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Number of bytes.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes of the outermost image file hold the `len` bytes from `offset` on: fewer than `len` if they are
    /// compressed. A block that holds other bytes too is shared out by length. 0 for what is kept apart from the data of
    /// files, as btrfs keeps small ones, and for what is not there.
    fn stored_bytes(&self, _offset: u64, len: u64) -> f64 {
        len as f64
    }

    /// A number that is the same for bytes that are unpacked together, and grows in the order in which they are stored:
    /// whoever reads in this order unpacks nothing twice.
    fn unpacked_with(&self, offset: u64) -> u64 {
        offset
    }
}

/// An unlinked temporary file in `TMPDIR` that grows at its end.
#[derive(Debug)]
pub struct Spool {
    file: File,
    len: u64,
    buffer: Vec<u8>,
}

/// Smaller pieces are collected before they are written.
const BUFFER: usize = 256 * 1024;

impl Spool {
    /// An empty spool.
    ///
    /// # Errors
    /// When a temporary file cannot be made in `TMPDIR`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, len: 0, buffer: Vec::new() })
    }

    /// Appends `bytes` and returns their offset. They can be read only after [`Spool::finish`].
    ///
    /// # Errors
    /// When the temporary file cannot be written (no space).
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.len;
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            FileExt::write_all_at(&self.file, bytes, at)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.len += bytes.len() as u64;
        Ok(at)
    }

    /// Appends `count` zero bytes as a hole that takes no space, and returns their offset.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    pub fn append_hole(&mut self, count: u64) -> io::Result<u64> {
        self.flush()?;
        let at = self.len;
        self.len += count;
        self.file.set_len(self.len)?;
        Ok(at)
    }

    /// Bytes appended so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.len
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            FileExt::write_all_at(&self.file, &self.buffer, self.len - self.buffer.len() as u64)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Ends writing and makes the bytes readable.
    ///
    /// # Errors
    /// When the last bytes cannot be written.
    pub fn finish(mut self) -> io::Result<Spooled> {
        self.flush()?;
        Ok(Spooled { file: self.file, len: self.len })
    }
}

/// A [`Spool`] that is complete.
#[derive(Debug)]
pub struct Spooled {
    file: File,
    len: u64,
}

impl ReadAt for Spooled {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buf, offset)
    }
    fn len(&self) -> u64 {
        self.len
    }
}

/// A part of a source, as a separate source.
pub struct Slice {
    source: Arc<dyn ReadAt>,
    range: Range<u64>,
}

impl Slice {
    /// The bytes of `source` in `range`, as far as `source` has them.
    #[must_use]
    pub fn new(source: Arc<dyn ReadAt>, range: Range<u64>) -> Self {
        let end = range.end.min(source.len());
        Self { source, range: range.start.min(end)..end }
    }
}

impl ReadAt for Slice {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.range.start.checked_add(offset);
        match at.filter(|at| at.checked_add(buf.len() as u64).is_some_and(|end| end <= self.range.end)) {
            Some(at) => self.source.read_exact_at(buf, at),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
    fn stored_bytes(&self, offset: u64, len: u64) -> f64 {
        self.range.start.checked_add(offset).map_or(0.0, |at| self.source.stored_bytes(at, len))
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buf.len()))
            .map(|bytes| buf.copy_from_slice(bytes))
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
    fn len(&self) -> u64 {
        self.metadata().map_or(0, |m| m.len())
    }
}

/// Passes the bytes of `range` of `from` to `with`, piece by piece.
///
/// # Errors
/// Those of reading and of `with`.
pub(crate) fn pieces(
    from: &dyn ReadAt,
    range: Range<u64>,
    mut with: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; (range.end - range.start).min(1 << 20) as usize];
    let mut at = range.start;
    while at < range.end {
        let count = (range.end - at).min(buffer.len() as u64) as usize;
        from.read_exact_at(&mut buffer[..count], at)?;
        with(&buffer[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Several sources one after the other, each at a multiple of some number of bytes, with zeros between.
pub(crate) struct Joined {
    parts: Vec<(u64, Arc<dyn ReadAt>)>,
    len: u64,
}

impl Joined {
    /// Joins `sources`, each at a multiple of `align`.
    pub(crate) fn new(sources: impl Iterator<Item = Arc<dyn ReadAt>>, align: u64) -> Self {
        let (mut parts, mut len) = (Vec::new(), 0_u64);
        for source in sources {
            let at = len.next_multiple_of(align);
            len = at + source.len();
            parts.push((at, source));
        }
        Self { parts, len }
    }
}

impl ReadAt for Joined {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.fill(0);
        for (at, source) in &self.parts {
            let (from, to) = (offset.max(*at), end.min(at + source.len()));
            if from < to {
                // Both lie within `buf`.
                source
                    .read_exact_at(&mut buf[(from - offset) as usize..(to - offset) as usize], from - at)?;
            }
        }
        Ok(())
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn stored_bytes(&self, offset: u64, len: u64) -> f64 {
        let end = offset.saturating_add(len);
        let stored = self.parts.iter().filter_map(|(at, source)| {
            let (from, to) = (offset.max(*at), end.min(at + source.len()));
            (from < to).then(|| source.stored_bytes(from - at, to - from))
        });
        stored.sum()
    }
}
