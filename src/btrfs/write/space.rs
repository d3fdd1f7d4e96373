//! Addresses in the image: the chunks, and the blocks and extents that are placed in them one after the other.

use std::ops::Range;

use crate::btrfs::disk::{self, STRIPE_LEN, SUPER_MIRRORS};
use crate::bytes::{Hint, Region};

pub(super) const MIB: u64 = 1 << 20;
/// Chunks are no longer than those that the kernel makes.
const MAX_CHUNK: u64 = 1 << 30;
/// The first MiB of a device is never allocated (`BTRFS_DEVICE_RANGE_RESERVED`); the system chunk follows.
pub(super) const SYSTEM: Range<u64> = MIB..5 * MIB;
/// Smallest data chunk, as mkfs.btrfs makes it.
pub(super) const MIN_DATA_CHUNK: u64 = 8 * MIB;
/// Room for the metadata of what is written at run time, so that no chunk has to be allocated for it at once.
pub(super) const METADATA_ROOM: u64 = 64 * MIB;

/// Gives out addresses one after the other, around superblocks and up to the ends of chunks.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    start: u64,
    pub(super) at: u64,
}

impl Cursor {
    pub(super) const fn new(start: u64) -> Self {
        Self { start, at: start }
    }

    pub(super) fn align(&mut self, to: u64) {
        self.at = self.at.next_multiple_of(to);
    }

    /// Takes at most `len` bytes (a multiple of the sector size) and returns where they lie and how many they are.
    pub(super) fn take(&mut self, len: u64) -> (u64, u64) {
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
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) kind: u64,
}

pub(super) fn chunks(zone: Range<u64>, kind: u64) -> impl Iterator<Item = Chunk> {
    let end = zone.end;
    zone.step_by(MAX_CHUNK as usize).map(move |start| Chunk { start, len: MAX_CHUNK.min(end - start), kind })
}

/// What each part of the image holds, without gaps: whatever is not known to hold something is zeros.
pub(super) fn regions(
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
