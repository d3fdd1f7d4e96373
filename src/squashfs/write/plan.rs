//! Which bytes go into which block, decided before anything is compressed.
//!
//! A file's whole blocks lie one after the other. What is left of it, and files smaller than a block, go into fragments:
//! blocks that several files share, filled in the order in which contents are to lie.

use std::collections::BTreeMap;
use std::ops::Range;

use super::image::{Blob, Image};
use super::inodes::Place;
use crate::bytes::Hint;
use crate::elf::Arch;
use crate::squashfs::Options;

/// Fragments that are filled at once: a tail goes into the first that has room for it. More of them are fuller, but mix
/// what is less alike: with 2 instead of 4 the tails of a real image's kernel modules are 0.17% smaller.
const OPEN: usize = 2;

/// What a block is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The block of a content with this number.
    File { blob: u32, number: u32 },
    /// The fragment with this number.
    Fragment(u32),
}

/// A part of a content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) blob: u32,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// A block that is to be compressed.
#[derive(Debug)]
pub(super) struct Block {
    /// What it consists of, in [`Plan::parts`].
    pub(super) parts: Range<usize>,
    /// Its bytes.
    pub(super) len: u32,
    /// The machine whose code it holds.
    pub(super) arch: Option<Arch>,
    /// Whether it is worth more time than the rest.
    pub(super) thorough: bool,
    pub(super) to: To,
}

/// The blocks of an image in the order in which they lie in it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) blocks: Vec<Block>,
    pub(super) parts: Vec<Part>,
    /// Number of fragments.
    pub(super) fragments: u32,
}

/// A fragment that is being filled.
struct Open {
    number: u32,
    parts: Vec<Part>,
    len: u32,
}

/// What is known of each content before the compression: everything but sizes and starts of blocks.
struct Planner<'a> {
    plan: Plan,
    block_size: u64,
    open: Vec<Open>,
    /// What the open fragments hold.
    hint: Option<Hint>,
    blobs: &'a [Blob<'a>],
}

impl Plan {
    /// Plans the blocks of `image`; gives a place for each of its contents too.
    pub(super) fn new(image: &Image<'_>, options: &Options) -> (Self, Vec<Place>) {
        let mut planner = Planner {
            plan: Self::default(),
            block_size: options.block_size.into(),
            open: Vec::new(),
            hint: None,
            blobs: &image.blobs,
        };
        let places = (0..image.blobs.len()).map(|blob| planner.content(blob)).collect();
        planner.close_all();
        (planner.plan, places)
    }
}

impl Planner<'_> {
    fn content(&mut self, number: usize) -> Place {
        let blob = &self.blobs[number];
        let size = blob.content.len();
        let stored = |region: &&crate::bytes::Region| region.hint != Hint::Zero;
        let hint = blob.regions.iter().find(stored).map_or(Hint::Data, |region| region.hint);
        // A block is compressed in one way.
        if self.hint != Some(hint) {
            self.close_all();
        }
        self.hint = Some(hint);
        let tail = (size % self.block_size) as u32;
        let zeros = covered(blob, size - u64::from(tail), size);
        let in_fragment = tail > 0 && !zeros;
        let whole = if in_fragment { size / self.block_size } else { size.div_ceil(self.block_size) };
        let mut place = Place { sizes: vec![0; whole as usize], ..Place::default() };
        self.whole_blocks(number as u32, whole);
        if in_fragment {
            let part = Part { blob: number as u32, offset: size - u64::from(tail), len: tail };
            place.tail = Some(self.tail(part));
        }
        place
    }

    /// Adds the first `count` blocks of a content, except those known to be zeros.
    fn whole_blocks(&mut self, blob: u32, count: u64) {
        let content = &self.blobs[blob as usize];
        let size = content.content.len();
        let mut number = 0;
        while number < count {
            let offset = number * self.block_size;
            // Zeros of any length are passed over in one step.
            if let Some(end) = zeros_until(content, offset) {
                let next = if end >= size { count } else { end / self.block_size };
                if next > number {
                    number = next;
                    continue;
                }
            }
            let len = self.block_size.min(size - offset) as u32;
            let first = self.plan.parts.len();
            self.plan.parts.push(Part { blob, offset, len });
            self.plan.blocks.push(Block {
                parts: first..first + 1,
                len,
                arch: arch(content, offset, len.into()),
                thorough: self.hint == Some(Hint::Few),
                to: To::File { blob, number: number as u32 },
            });
            number += 1;
        }
    }

    /// Puts a tail into a fragment; says into which, and where in it.
    fn tail(&mut self, part: Part) -> (u32, u32) {
        let room = self.block_size as u32 - part.len;
        let index = self.open.iter().position(|open| open.len <= room).unwrap_or_else(|| {
            if self.open.len() == OPEN {
                // The fullest is the least useful.
                let fullest = (0..OPEN).rev().max_by_key(|&i| self.open[i].len).unwrap_or(0);
                let open = self.open.remove(fullest);
                self.close(open);
            }
            self.open.push(Open { number: self.plan.fragments, parts: Vec::new(), len: 0 });
            self.plan.fragments += 1;
            self.open.len() - 1
        });
        let open = &mut self.open[index];
        let at = (open.number, open.len);
        open.parts.push(part);
        open.len += part.len;
        at
    }

    fn close(&mut self, open: Open) {
        let first = self.plan.parts.len();
        let mut archs: BTreeMap<Arch, u64> = BTreeMap::new();
        for part in &open.parts {
            if let Some(arch) = arch(&self.blobs[part.blob as usize], part.offset, part.len.into()) {
                *archs.entry(arch).or_default() += u64::from(part.len);
            }
        }
        self.plan.parts.extend(open.parts);
        self.plan.blocks.push(Block {
            parts: first..self.plan.parts.len(),
            len: open.len,
            arch: most(&archs),
            thorough: self.hint == Some(Hint::Few),
            to: To::Fragment(open.number),
        });
    }

    fn close_all(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.close(open);
        }
    }
}

/// Where the zeros that `offset` lies in end; `None` where it does not lie in a region of zeros.
fn zeros_until(blob: &Blob<'_>, offset: u64) -> Option<u64> {
    let next = blob.regions.partition_point(|r| r.offset.saturating_add(r.len) <= offset);
    let region = blob.regions.get(next)?;
    let inside = region.offset <= offset && region.hint == Hint::Zero;
    inside.then(|| region.offset.saturating_add(region.len))
}

/// Whether all from `from` to `to` lies in one region of zeros.
fn covered(blob: &Blob<'_>, from: u64, to: u64) -> bool {
    zeros_until(blob, from).is_some_and(|end| end >= to)
}

/// The machine whose code lies in a part of a content; where there are several, that with the most bytes.
fn arch(blob: &Blob<'_>, offset: u64, len: u64) -> Option<Arch> {
    let end = offset + len;
    let first = blob.regions.partition_point(|r| r.offset.saturating_add(r.len) <= offset);
    let mut bytes: BTreeMap<Arch, u64> = BTreeMap::new();
    for region in blob.regions[first..].iter().take_while(|r| r.offset < end) {
        if let Hint::MachineCode(arch) = region.hint {
            let shared = region.offset.saturating_add(region.len).min(end) - region.offset.max(offset);
            *bytes.entry(arch).or_default() += shared;
        }
    }
    most(&bytes)
}

fn most(bytes: &BTreeMap<Arch, u64>) -> Option<Arch> {
    bytes.iter().max_by_key(|&(_, bytes)| bytes).map(|(&arch, _)| arch)
}
