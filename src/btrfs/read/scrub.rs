//! Every checksum of an image, also of what no file leads to.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::data::{Csums, Data};
use super::disk::{SUPER_MIRRORS, SUPER_SIZE, id, kind};
use super::files::root_item;
use super::volume::Volume;
use crate::bytes::ReadAt;
use crate::cores::share;
use crate::error::Error;

/// Bytes read at a time: the largest block of a squashfs.
const CHUNK: u64 = 1 << 20;

/// What [`scrub`] verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Superblocks, the copies included.
    pub superblocks: u64,
    /// Trees, each with all of its blocks.
    pub trees: u64,
    /// Bytes of data with a checksum.
    pub data: u64,
}

/// Verifies the checksums of all superblocks, of all blocks of all trees and of all data, and reads every byte of the
/// image in order, so that whatever holds it is read as well.
///
/// Of what is mirrored (DUP, RAID1) the first copy is read, as [`super::read`] does.
///
/// # Errors
/// Where a checksum is wrong or a byte cannot be read.
pub fn scrub(source: Arc<dyn ReadAt>, name: &Path) -> Result<Scrubbed, Error> {
    let volume = Volume::open(Arc::clone(&source), name)?;
    let superblocks = superblocks(&volume, &*source)?;
    let (trees, csums) = trees(&volume)?;
    let runs = runs(&volume, &csums)?;
    let data = Data {
        source: Arc::clone(&source),
        map: volume.map.clone(),
        csums,
        sector: volume.sector,
        base: volume.map.end(),
        unpacked: None,
    };
    let data = data_in_order(&volume, &*source, &data, &runs)?;
    Ok(Scrubbed { superblocks, trees, data })
}

/// Verifies the superblock and its copies; returns how many there are.
fn superblocks(volume: &Volume, source: &dyn ReadAt) -> Result<u64, Error> {
    let mut count = 0;
    let mut block = vec![0; SUPER_SIZE];
    for at in SUPER_MIRRORS.into_iter().filter(|at| at + SUPER_SIZE as u64 <= source.len()) {
        source
            .read_exact_at(&mut block, at)
            .map_err(|e| volume.damaged(at, "a superblock cannot be read").caused_by(e))?;
        if block[..4] != crc32c::crc32c(&block[32..]).to_le_bytes() {
            return Err(volume.damaged(at, "the checksum of a superblock is wrong"));
        }
        count += 1;
    }
    Ok(count)
}

/// Reads every block of every tree, which verifies it; returns how many trees there are, and the checksums of data.
fn trees(volume: &Volume) -> Result<(u64, Csums), Error> {
    let mut roots = BTreeMap::new();
    volume.items(volume.root, id::ROOT_TREE, &mut |key, body| {
        if key.kind == kind::ROOT_ITEM
            && let Some((root, _)) = root_item(body)
        {
            volume.grow(2 * size_of_val(&root))?;
            roots.insert((key.objectid, key.offset), root);
        }
        Ok(())
    })?;
    let sector = u64::from(volume.sector);
    let mut csums = Csums::default();
    for (&(owner, _), root) in &roots {
        volume.items(*root, owner, &mut |key, body| {
            if owner != id::CSUM_TREE || key.kind != kind::EXTENT_CSUM {
                return Ok(());
            }
            volume.grow(Csums::cost(body))?;
            let sound = csums.push(key.offset, body, sector);
            if sound { Ok(()) } else { Err(volume.damaged(key.offset, "checksums overlap others")) }
        })?;
    }
    // The chunk tree was read when the volume was opened; the root tree just now.
    Ok((roots.len() as u64 + 2, csums))
}

/// Data with checksums that lies in one piece and is read at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    /// Where it lies in the image.
    physical: u64,
    /// Its logical address.
    address: u64,
    len: u64,
}

/// What has checksums, in the order in which it lies in the image.
fn runs(volume: &Volume, csums: &Csums) -> Result<Vec<Run>, Error> {
    let mut runs = Vec::new();
    for (mut address, mut len) in csums.runs(u64::from(volume.sector)) {
        while len > 0 {
            let Some((physical, room)) = volume.map.find(address) else {
                return Err(volume.damaged(address, "data with a checksum is in no chunk"));
            };
            // Cut at the borders of what is read at a time.
            let part = len.min(room).min(CHUNK - physical % CHUNK);
            volume.grow(size_of::<Run>())?;
            runs.push(Run { physical, address, len: part });
            (address, len) = (address + part, len - part);
        }
    }
    runs.sort_unstable();
    Ok(runs)
}

/// Why a part of the image is damaged.
enum Damage {
    Unreadable(u64, io::Error),
    Wrong(u64, io::Error),
    BehindTheEnd(u64),
}

/// Reads all of the image on every core, and verifies `runs`; returns how many bytes these are.
fn data_in_order(volume: &Volume, source: &dyn ReadAt, data: &Data, runs: &[Run]) -> Result<u64, Error> {
    let (verified, size) = (AtomicU64::new(0), source.len());
    let chunk = |buffer: &mut Vec<u8>, number: usize| {
        let at = number as u64 * CHUNK;
        let end = size.min(at + CHUNK);
        let bytes = &mut buffer[..(end - at) as usize];
        source.read_exact_at(bytes, at).map_err(|e| Damage::Unreadable(at, e))?;
        let first = runs.partition_point(|run| run.physical < at);
        for run in runs[first..].iter().take_while(|run| run.physical < end) {
            let start = (run.physical - at) as usize;
            let bytes = bytes.get(start..start + run.len as usize);
            let bytes = bytes.ok_or(Damage::BehindTheEnd(run.physical))?;
            data.verify(bytes, run.address, run.physical).map_err(|e| Damage::Wrong(run.physical, e))?;
            verified.fetch_add(run.len, Ordering::Relaxed);
        }
        Ok(())
    };
    let chunks = usize::try_from(size.div_ceil(CHUNK)).unwrap_or(usize::MAX);
    let read = share(chunks, || vec![0; CHUNK as usize], chunk);
    let read = read.and_then(|()| match runs.last() {
        Some(run) if run.physical >= size => Err(Damage::BehindTheEnd(size)),
        _ => Ok(verified.into_inner()),
    });
    read.map_err(|damage| match damage {
        Damage::Unreadable(at, e) => volume.damaged(at, "the image cannot be read").caused_by(e),
        Damage::Wrong(at, e) => volume.damaged(at, e.to_string()),
        Damage::BehindTheEnd(at) => {
            volume.damaged(at, "data with a checksum lies beyond the end of the image")
        }
    })
}
