//! File data, verified when it is read.

use std::io;
use std::sync::Arc;

use super::volume::Map;
use crate::bytes::{ReadAt, Spooled};

/// Checksums of data sectors.
#[derive(Debug, Default)]
pub(super) struct Csums {
    /// Runs of neighbouring sectors: logical address of the first, and the place of its checksum in `all`.
    runs: Vec<(u64, usize)>,
    all: Vec<u32>,
}

impl Csums {
    /// The memory that an item of checksums takes.
    pub(super) const fn cost(item: &[u8]) -> usize {
        item.len() + size_of::<(u64, usize)>()
    }

    /// Appends an item's checksums; `false` where they are not behind all that came before.
    pub(super) fn push(&mut self, address: u64, bytes: &[u8], sector: u64) -> bool {
        let count = (bytes.len() / 4) as u64;
        let end = count.checked_mul(sector).and_then(|len| address.checked_add(len));
        let sound = address.is_multiple_of(sector)
            && end.is_some()
            && self.end(sector).is_none_or(|end| end <= address);
        if sound {
            if self.end(sector) != Some(address) {
                self.runs.push((address, self.all.len()));
            }
            self.all.extend(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
        sound
    }

    fn end(&self, sector: u64) -> Option<u64> {
        self.runs.last().map(|&(address, first)| address + (self.all.len() - first) as u64 * sector)
    }

    /// The checksums of the sectors from `address` on, as far as they follow one another.
    fn from(&self, address: u64, sector: u64) -> &[u32] {
        let Some(run) = self.runs.partition_point(|&(start, _)| start <= address).checked_sub(1) else {
            return &[];
        };
        let (start, first) = self.runs[run];
        let end = self.runs.get(run + 1).map_or(self.all.len(), |&(_, next)| next);
        let skip = usize::try_from((address - start) / sector).unwrap_or(usize::MAX);
        self.all[first..end].get(skip..).unwrap_or_default()
    }

    /// Address and length of all runs of sectors with checksums.
    pub(super) fn runs(&self, sector: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = self.runs.iter().skip(1).map(|&(_, next)| next).chain([self.all.len()]);
        self.runs
            .iter()
            .zip(ends)
            .map(move |(&(address, first), end)| (address, (end - first) as u64 * sector))
    }

    /// Whether all sectors of a range have checksums.
    pub(super) fn cover(&self, address: u64, len: u64, sector: u64) -> bool {
        self.from(address, sector).len() as u64 >= len.div_ceil(sector)
    }
}

/// The data of a file system: logical addresses, then what was unpacked.
pub(super) struct Data {
    /// The image.
    pub source: Arc<dyn ReadAt>,
    /// Where logical addresses lie.
    pub map: Map,
    /// Checksums.
    pub csums: Csums,
    /// Size of a sector.
    pub sector: u32,
    /// Where unpacked files begin.
    pub base: u64,
    /// Unpacked files, once there are all.
    pub unpacked: Option<Spooled>,
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Data {
    /// Compares the checksums of whole sectors from `address` on, which lie at `physical`.
    pub(super) fn verify(&self, bytes: &[u8], address: u64, physical: u64) -> io::Result<()> {
        let sector = self.sector as usize;
        let mut csums = self.csums.from(address, sector as u64);
        for (i, block) in bytes.chunks_exact(sector).enumerate() {
            let at = (i * sector) as u64;
            if csums.is_empty() {
                // Between runs, or where a file was written without checksums (NODATASUM).
                csums = self.csums.from(address + at, sector as u64);
            }
            if let Some((&expected, rest)) = csums.split_first() {
                csums = rest;
                let found = crc32c::crc32c(block);
                if found != expected {
                    return Err(invalid(format!(
                        "the checksum of the data at byte {} of the btrfs image is {found:08x}, not {expected:08x}",
                        physical + at
                    )));
                }
            }
        }
        Ok(())
    }

    /// Reads within logical addresses.
    fn read_logical(&self, mut buf: &mut [u8], mut address: u64) -> io::Result<()> {
        let sector = u64::from(self.sector);
        let mut block = Vec::new();
        while !buf.is_empty() {
            let within = address % sector;
            let start = address - within;
            let Some((physical, room)) = self.map.find(start) else {
                return Err(invalid(format!("logical address {address} is in no chunk")));
            };
            let done = if within == 0 && buf.len() as u64 >= sector {
                let len = (buf.len() as u64 / sector * sector).min(room) as usize;
                self.source.read_exact_at(&mut buf[..len], physical)?;
                self.verify(&buf[..len], address, physical)?;
                len
            } else {
                block.resize(sector as usize, 0);
                self.source.read_exact_at(&mut block, physical)?;
                self.verify(&block, start, physical)?;
                let len = ((sector - within) as usize).min(buf.len());
                buf[..len].copy_from_slice(&block[within as usize..within as usize + len]);
                len
            };
            buf = &mut buf[done..];
            address += done as u64;
        }
        Ok(())
    }
}

impl ReadAt for Data {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.len());
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (&self.unpacked, offset.checked_sub(self.base)) {
            (Some(unpacked), Some(at)) => unpacked.read_exact_at(buf, at),
            _ => self.read_logical(buf, offset),
        }
    }

    fn stored_bytes(&self, mut offset: u64, mut len: u64) -> f64 {
        // What was unpacked lay in the tree of inodes, or compressed: in both cases its place is not kept.
        let mut sum = 0.0;
        while len > 0 && offset < self.base {
            let Some((physical, room)) = self.map.find(offset) else { break };
            let count = len.min(room);
            if count == 0 {
                break;
            }
            sum += self.source.stored_bytes(physical, count);
            offset += count;
            len -= count;
        }
        sum
    }

    fn len(&self) -> u64 {
        self.base + self.unpacked.as_ref().map_or(0, ReadAt::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_found_by_address() {
        let mut csums = Csums::default();
        assert!(csums.push(8192, &[1, 0, 0, 0, 2, 0, 0, 0], 4096));
        assert!(csums.push(16384, &[3, 0, 0, 0], 4096));
        assert!(csums.push(40960, &[4, 0, 0, 0], 4096));
        assert!(!csums.push(16384, &[3, 0, 0, 0], 4096));
        assert!(!csums.push(!4095, &[3, 0, 0, 0, 3, 0, 0, 0], 4096));
        assert_eq!(csums.from(12288, 4096), [2, 3]);
        assert!(csums.from(4096, 4096).is_empty() && csums.from(20480, 4096).is_empty());
        assert!(csums.cover(8192, 12288, 4096) && !csums.cover(8192, 12289, 4096));
    }
}
