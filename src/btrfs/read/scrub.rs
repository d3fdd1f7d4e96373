//! Every checksum of an image, also of what no file leads to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::data::{Csums, Data};
use super::disk::{SUPER_MIRRORS, SUPER_SIZE, id, kind};
use super::files::root_item;
use super::volume::Volume;
use crate::bytes::ReadAt;
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
    let mut found = Scrubbed::default();
    let mut block = vec![0; SUPER_SIZE];
    for at in SUPER_MIRRORS.into_iter().filter(|at| at + SUPER_SIZE as u64 <= source.len()) {
        source
            .read_exact_at(&mut block, at)
            .map_err(|e| volume.damaged(at, format!("a superblock cannot be read: {e}")))?;
        if block[..4] != crc32c::crc32c(&block[32..]).to_le_bytes() {
            return Err(volume.damaged(at, "the checksum of a superblock is wrong"));
        }
        found.superblocks += 1;
    }
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
    found.trees = roots.len() as u64 + 2;
    let mut runs: Vec<(u64, u64, u64)> = Vec::new();
    for (mut address, mut len) in csums.runs(sector) {
        while len > 0 {
            let Some((physical, room)) = volume.map.find(address) else {
                return Err(volume.damaged(address, "data with a checksum is in no chunk"));
            };
            // Cut at the borders of what is read at a time.
            let part = len.min(room).min(CHUNK - physical % CHUNK);
            volume.grow(size_of::<(u64, u64, u64)>())?;
            runs.push((physical, address, part));
            (address, len) = (address + part, len - part);
        }
    }
    runs.sort_unstable();
    let data = Data {
        source: Arc::clone(&source),
        map: volume.map.clone(),
        csums,
        sector: volume.sector,
        base: volume.map.end(),
        unpacked: None,
    };
    let mut buffer = vec![0; CHUNK as usize];
    let mut runs = runs.into_iter().peekable();
    let mut at = 0;
    while at < source.len() {
        let len = CHUNK.min(source.len() - at);
        let bytes = &mut buffer[..len as usize];
        source
            .read_exact_at(bytes, at)
            .map_err(|e| volume.damaged(at, format!("the image cannot be read: {e}")))?;
        while let Some((physical, address, left)) = runs.next_if(|&(physical, ..)| physical < at + len) {
            let start = (physical - at) as usize;
            let Some(bytes) = bytes.get(start..start + left as usize) else {
                return Err(volume.damaged(physical, "data with a checksum lies behind the image's end"));
            };
            data.verify(bytes, address, physical).map_err(|e| volume.damaged(physical, e.to_string()))?;
            found.data += left;
        }
        at += len;
    }
    if runs.peek().is_some() {
        return Err(volume.damaged(source.len(), "data with a checksum lies behind the image's end"));
    }
    Ok(found)
}
