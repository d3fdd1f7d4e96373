//! Blocks compressed ahead, on every core, and taken in order.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::encode::Encoder;
use crate::bytes::ReadAt;
use crate::bytes::{Hint, Region};
use crate::codec::Compression;
use crate::cores::Cores;
use crate::elf::Arch;
use crate::squashfs::Options;

/// Bytes that a thread takes at once: with small blocks, one at a time would be mostly waiting for the lock.
const BATCH: u64 = 1 << 20;

/// A block as it leaves a thread.
pub(super) struct Block {
    /// Its content.
    pub(super) plain: Vec<u8>,
    /// The same compressed; `None` where that is no smaller, or where all is zero.
    pub(super) packed: Option<Vec<u8>>,
}

/// Consecutive blocks that are compressed by one thread in one go.
#[derive(Clone, Copy)]
struct Batch {
    first: u64,
    blocks: u64,
}

/// A file cut into blocks, and which of them have content.
pub(super) struct Blocks<'a> {
    content: &'a dyn ReadAt,
    len: u64,
    block_size: u64,
    compression: Compression,
    bcj: bool,
    regions: &'a [Region],
    batches: Vec<Batch>,
}

impl<'a> Blocks<'a> {
    /// `regions` are sorted by offset. What none covers is taken for data.
    pub(super) fn new(content: &'a dyn ReadAt, regions: &'a [Region], options: &Options) -> Self {
        let len = content.len();
        let block_size = u64::from(options.block_size);
        let mut batches: Vec<Batch> = Vec::new();
        let per_batch = (BATCH / block_size).max(1);
        let mut add = |from: u64, to: u64| {
            let (mut first, end) = (from / block_size, to.div_ceil(block_size));
            if let Some(last) = batches.last() {
                first = first.max(last.first + last.blocks);
            }
            while first < end {
                let blocks = per_batch.min(end - first);
                batches.push(Batch { first, blocks });
                first += blocks;
            }
        };
        let mut at = 0;
        for zero in regions.iter().filter(|region| region.hint == Hint::Zero) {
            let from = zero.offset.min(len);
            if from > at {
                add(at, from);
            }
            at = at.max(zero.offset.saturating_add(zero.len).min(len));
        }
        if at < len {
            add(at, len);
        }
        Self {
            content,
            len,
            block_size,
            compression: options.compression,
            bcj: options.bcj && options.compression == Compression::Xz,
            regions,
            batches,
        }
    }

    /// Number of bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The size of all blocks but the last.
    pub(super) fn block_size(&self) -> u64 {
        self.block_size
    }

    /// The size of block `number`: the last may be short.
    pub(super) fn size(&self, number: u64) -> usize {
        self.block_size.min(self.len - (number * self.block_size).min(self.len)) as usize
    }

    /// The machine whose code lies in a part of the file; where there are several, that with the most bytes.
    fn arch(&self, offset: u64, len: u64) -> Option<Arch> {
        let end = offset + len;
        let first = self.regions.partition_point(|r| r.offset.saturating_add(r.len) <= offset);
        let mut bytes: BTreeMap<Arch, u64> = BTreeMap::new();
        for region in self.regions[first..].iter().take_while(|r| r.offset < end) {
            if let Hint::MachineCode(arch) = region.hint {
                let shared = region.offset.saturating_add(region.len).min(end) - region.offset.max(offset);
                *bytes.entry(arch).or_default() += shared;
            }
        }
        bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map(|(arch, _)| arch)
    }

    fn compress(&self, encoder: &mut Encoder, batch: Batch) -> io::Result<Vec<(u64, Block)>> {
        let mut done = Vec::with_capacity(batch.blocks as usize);
        for number in batch.first..batch.first + batch.blocks {
            let offset = number * self.block_size;
            let mut plain = vec![0; self.size(number)];
            self.content.read_exact_at(&mut plain, offset)?;
            if is_zero(&plain) {
                // Left out: what has no block is zeros.
                continue;
            }
            let arch = if self.bcj { self.arch(offset, plain.len() as u64) } else { None };
            let packed = encoder.encode(&plain, self.block_size as u32, arch)?;
            done.push((number, Block { plain, packed }));
        }
        Ok(done)
    }
}

/// Whether all of `bytes` are zero.
fn is_zero(bytes: &[u8]) -> bool {
    // In whole chunks, without a branch inside, so that it is done in wide registers.
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |all, &byte| all | byte) == 0)
}

/// What the threads and the taker share.
struct State {
    /// The batch that the next free thread takes.
    next: usize,
    /// Batches that the taker is done with.
    taken: usize,
    /// Finished batches that the taker has not reached.
    ready: BTreeMap<usize, io::Result<Vec<(u64, Block)>>>,
    /// The taker is gone.
    stop: bool,
    /// A thread panicked: what it had taken never comes.
    broken: bool,
}

/// Compresses [`Blocks`] on several threads, never far ahead of the taker.
pub(super) struct Ahead<'a> {
    blocks: &'a Blocks<'a>,
    cores: &'a Cores,
    /// Batches that may be under way or wait at once.
    window: usize,
    state: Mutex<State>,
    /// Told whenever `state` has changed.
    changed: Condvar,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(blocks: &'a Blocks<'a>, cores: &'a Cores) -> Self {
        Self {
            blocks,
            cores,
            // One more than is being compressed, for each thread: a slow batch does not stop the others at once.
            window: cores.count() * 2,
            state: Mutex::new(State {
                next: 0,
                taken: 0,
                ready: BTreeMap::new(),
                stop: false,
                broken: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked left nothing half done here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, guard: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread runs, until all is compressed or [`Ahead::stop`].
    pub(super) fn work(&self) {
        let _alarm = Alarm(self);
        let mut encoder = Encoder::new(self.blocks.compression);
        loop {
            let mut state = self.lock();
            while !state.stop
                && state.next < self.blocks.batches.len()
                && state.next >= state.taken + self.window
            {
                state = self.wait(state);
            }
            let number = state.next;
            let Some(&batch) = self.blocks.batches.get(number).filter(|_| !state.stop) else { return };
            state.next += 1;
            drop(state);
            let core = self.cores.acquire();
            let done = match &mut encoder {
                Ok(encoder) => self.blocks.compress(encoder, batch),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            drop(core);
            self.lock().ready.insert(number, done);
            self.changed.notify_all();
        }
    }

    /// Ends the threads, finished or not.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    /// The finished blocks, in order.
    pub(super) fn taker(&'a self) -> Taker<'a> {
        Taker { ahead: self, batch: Vec::new().into_iter().peekable() }
    }

    /// Waits for the first batch that was not taken yet; `None` after the last.
    fn take(&self) -> Option<io::Result<Vec<(u64, Block)>>> {
        let mut state = self.lock();
        if state.taken == self.blocks.batches.len() {
            return None;
        }
        loop {
            let number = state.taken;
            if let Some(batch) = state.ready.remove(&number) {
                state.taken += 1;
                drop(state);
                self.changed.notify_all();
                return Some(batch);
            }
            if state.broken {
                return Some(Err(io::Error::other("a thread that compresses panicked")));
            }
            state = self.wait(state);
        }
    }
}

/// Wakes the taker when its thread panics: without it, it would wait for ever.
struct Alarm<'a>(&'a Ahead<'a>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().broken = true;
            self.0.changed.notify_all();
        }
    }
}

/// Takes finished blocks in order.
pub(super) struct Taker<'a> {
    ahead: &'a Ahead<'a>,
    batch: std::iter::Peekable<std::vec::IntoIter<(u64, Block)>>,
}

impl Taker<'_> {
    /// Block `number`, which must grow from call to call; `None` where it holds zeros only.
    pub(super) fn block(&mut self, number: u64) -> io::Result<Option<Block>> {
        loop {
            match self.batch.peek() {
                Some(&(first, _)) if first > number => return Ok(None),
                Some(&(first, _)) if first == number => return Ok(self.batch.next().map(|(_, block)| block)),
                Some(_) => {
                    self.batch.next();
                }
                None => match self.ahead.take() {
                    Some(batch) => self.batch = batch?.into_iter().peekable(),
                    None => return Ok(None),
                },
            }
        }
    }
}
