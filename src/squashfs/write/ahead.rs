//! Blocks compressed ahead, on every core, and taken in order.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::encode::{Encoder, Settings};
use super::image::Image;
use super::plan::{Plan, To};
use crate::cores::Cores;
use crate::squashfs::Options;

/// Bytes that a thread takes at once: with small blocks, one at a time would be mostly waiting for the lock.
const BATCH: u64 = 1 << 20;

/// A block as it is stored.
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    /// Whether it is compressed, which made it smaller.
    pub(super) compressed: bool,
}

/// Consecutive blocks, compressed by one thread in one go; `None` for one that holds zeros only.
type Batch = io::Result<Vec<Option<Packed>>>;

/// The blocks of an image, cut into batches.
pub(super) struct Blocks<'a> {
    image: &'a Image<'a>,
    plan: &'a Plan,
    batches: Vec<Range<usize>>,
    options: &'a Options,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(image: &'a Image<'a>, plan: &'a Plan, options: &'a Options) -> Self {
        let mut batches: Vec<Range<usize>> = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (number, block) in plan.blocks.iter().enumerate() {
            bytes += u64::from(block.len);
            if bytes >= BATCH {
                batches.push(start..number + 1);
                (start, bytes) = (number + 1, 0);
            }
        }
        if start < plan.blocks.len() {
            batches.push(start..plan.blocks.len());
        }
        Self { image, plan, batches, options }
    }

    fn compress(&self, encoder: &mut Encoder, batch: Range<usize>) -> Batch {
        let mut done = Vec::with_capacity(batch.len());
        for block in &self.plan.blocks[batch] {
            let mut plain = vec![0; block.len as usize];
            let mut rest = plain.as_mut_slice();
            for part in &self.plan.parts[block.parts.clone()] {
                let (now, more) = rest.split_at_mut(part.len as usize);
                self.image.blobs[part.blob as usize].content.read_exact_at(now, part.offset)?;
                rest = more;
            }
            if matches!(block.to, To::File { .. }) && is_zero(&plain) {
                done.push(None);
                continue;
            }
            let arch = block.arch.filter(|&arch| self.options.filters.contains(arch));
            let thorough = self.options.thorough || block.thorough;
            let settings = Settings { dictionary: self.options.block_size, arch, thorough };
            let packed = if self.options.stored { None } else { encoder.encode(&plain, &settings)? };
            let compressed = packed.is_some();
            done.push(Some(Packed { bytes: packed.unwrap_or(plain), compressed }));
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
    ready: BTreeMap<usize, Batch>,
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
        let mut encoder = Encoder::new(self.blocks.options.compression);
        loop {
            let mut state = self.lock();
            while !state.stop
                && state.next < self.blocks.batches.len()
                && state.next >= state.taken + self.window
            {
                state = self.wait(state);
            }
            let number = state.next;
            let batch = self.blocks.batches.get(number).filter(|_| !state.stop);
            let Some(batch) = batch.cloned() else { return };
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

    /// Waits for the next batch, and gives the numbers of its blocks too; `None` after the last.
    pub(super) fn take(&self) -> Option<(Range<usize>, Batch)> {
        let mut state = self.lock();
        let number = state.taken;
        let blocks = self.blocks.batches.get(number)?.clone();
        loop {
            if let Some(batch) = state.ready.remove(&number) {
                state.taken += 1;
                drop(state);
                self.changed.notify_all();
                return Some((blocks, batch));
            }
            if state.broken {
                return Some((blocks, Err(io::Error::other("a thread that compresses panicked"))));
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
