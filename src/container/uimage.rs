//! U-Boot's legacy image format (uImage): a header of 64 bytes before a ramdisk, or before a kernel and a ramdisk
//! (include/image.h of U-Boot: `struct legacy_img_hdr`).

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use crate::bytes::{ReadAt, Slice, pieces};
use crate::error::Error;
use crate::tree::display;

const HEADER: u64 = 64;
const MAGIC: [u8; 4] = [0x27, 0x05, 0x19, 0x56];
/// `IH_TYPE_RAMDISK`.
const RAMDISK: u8 = 3;
/// `IH_TYPE_MULTI`: the sizes of several files, then the files.
const MULTI: u8 = 4;
/// How many files a multi-file image may have: kernel, ramdisk, device tree, and then some.
const MAX_FILES: usize = 16;

/// A uImage.
#[derive(Debug, Clone)]
pub struct UImage {
    header: [u8; HEADER as usize],
    source_files: Vec<Range<u64>>,
    /// Index of the ramdisk in `source_files`.
    ramdisk: usize,
    source: Source,
}

/// The file, without a need for its `Debug`.
#[derive(Clone)]
struct Source(Arc<dyn ReadAt>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

fn crc(source: &dyn ReadAt, range: Range<u64>) -> io::Result<u32> {
    let mut crc = flate2::Crc::new();
    pieces(source, range, |bytes| {
        crc.update(bytes);
        Ok(())
    })?;
    Ok(crc.sum())
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn name_of(kind: u8) -> &'static str {
    match kind {
        2 => "a kernel",
        5 => "firmware",
        6 => "a script",
        7 => "a file system",
        8 => "a device tree",
        _ => "something else",
    }
}

impl UImage {
    /// Reads the header; `None` if `start` does not begin with its magic.
    ///
    /// # Errors
    /// If a checksum is wrong, data is missing, or there is no ramdisk.
    pub(super) fn parse(start: &[u8], source: &Arc<dyn ReadAt>) -> Result<Option<Self>, Error> {
        if !start.starts_with(&MAGIC) {
            return Ok(None);
        }
        let damaged = |what: String| {
            Error::input(format!("is a uImage, but {what}"))
                .hint("the image is damaged or was cut short: fetch it again; mkimage -l shows its header")
        };
        let header: [u8; HEADER as usize] = start
            .get(..HEADER as usize)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| damaged("its header of 64 bytes is not complete".into()))?;
        let mut unsigned = header;
        unsigned[4..8].fill(0);
        let mut sum = flate2::Crc::new();
        sum.update(&unsigned);
        if sum.sum() != number(&header, 4) {
            return Err(damaged("the checksum of its header is wrong".into()));
        }
        let size = u64::from(number(&header, 12));
        let end = HEADER + size;
        if end > source.len() {
            return Err(damaged(format!("it has {} bytes: expected {end}", source.len())));
        }
        if crc(source.as_ref(), HEADER..end).map_err(Error::reading)? != number(&header, 24) {
            return Err(damaged("the checksum of its data is wrong".into()));
        }
        let (files, ramdisk) = match header[30] {
            RAMDISK => (std::iter::once(HEADER..end).collect(), 0),
            MULTI => (multi(start, end).ok_or_else(|| damaged("its list of files is wrong".into()))?, 1),
            kind => {
                return Err(Error::input(format!(
                    "is a uImage that holds {}: expected a ramdisk",
                    name_of(kind)
                ))
                .hint("give the uImage whose type is a ramdisk (mkimage -l shows the type)"));
            }
        };
        if files.get(ramdisk).is_none_or(Range::is_empty) {
            return Err(Error::input("is a uImage of several files without a ramdisk"));
        }
        let source = Source(Arc::clone(source));
        Ok(Some(Self { header, source_files: files, ramdisk, source }))
    }

    pub(super) fn initrd(&self, source: &Arc<dyn ReadAt>) -> Arc<dyn ReadAt> {
        Arc::new(Slice::new(Arc::clone(source), self.source_files[self.ramdisk].clone()))
    }

    pub(super) fn kernel(&self, source: &Arc<dyn ReadAt>) -> Option<Arc<dyn ReadAt>> {
        let range = self.source_files.first().filter(|_| self.ramdisk > 0)?;
        Some(Arc::new(Slice::new(Arc::clone(source), range.clone())))
    }

    pub(super) fn describe(&self) -> String {
        let name = self.header[32..].split(|&b| b == 0).next().unwrap_or_default();
        let kind = if self.ramdisk == 0 { "a ramdisk" } else { "a kernel and a ramdisk" };
        format!("the file is a uImage with {kind}, named '{}'", display(name))
    }

    /// Writes the image with another ramdisk.
    pub(super) fn write(&self, initrd: &dyn ReadAt, out: &mut dyn Write) -> io::Result<u64> {
        let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "a uImage holds less than 4 GiB");
        let mut table = Vec::new();
        let mut size = 0_u64;
        let multi = self.ramdisk > 0;
        if multi {
            for (index, range) in self.source_files.iter().enumerate() {
                let len = if index == self.ramdisk { initrd.len() } else { range.end - range.start };
                table.extend(u32::try_from(len).map_err(|_| too_large())?.to_be_bytes());
                size += len.next_multiple_of(4);
            }
            table.extend([0; 4]);
            size += table.len() as u64;
        } else {
            size = initrd.len();
        }
        let size = u32::try_from(size).map_err(|_| too_large())?;
        let mut sum = flate2::Crc::new();
        self.data(&table, initrd, &mut |bytes| {
            sum.update(bytes);
            Ok(())
        })?;
        let mut header = self.header;
        header[4..8].fill(0);
        header[12..16].copy_from_slice(&size.to_be_bytes());
        header[24..28].copy_from_slice(&sum.sum().to_be_bytes());
        let mut own = flate2::Crc::new();
        own.update(&header);
        header[4..8].copy_from_slice(&own.sum().to_be_bytes());
        out.write_all(&header)?;
        self.data(&table, initrd, &mut |bytes| out.write_all(bytes))?;
        Ok(HEADER + u64::from(size))
    }

    /// All that follows the header.
    fn data(
        &self,
        table: &[u8],
        initrd: &dyn ReadAt,
        with: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if table.is_empty() {
            return pieces(initrd, 0..initrd.len(), with);
        }
        with(table)?;
        for (index, range) in self.source_files.iter().enumerate() {
            let len = if index == self.ramdisk {
                pieces(initrd, 0..initrd.len(), &mut *with)?;
                initrd.len()
            } else {
                pieces(self.source.0.as_ref(), range.clone(), &mut *with)?;
                range.end - range.start
            };
            with(&[0; 4][..(len.next_multiple_of(4) - len) as usize])?;
        }
        Ok(())
    }
}

/// The files of a multi-file image whose data ends at `end`.
fn multi(start: &[u8], end: u64) -> Option<Vec<Range<u64>>> {
    let sizes = start.get(HEADER as usize..)?.chunks_exact(4).map(|b| u64::from(number(b, 0)));
    let sizes: Vec<u64> = sizes.take(MAX_FILES + 1).take_while(|&size| size != 0).collect();
    if sizes.len() > MAX_FILES {
        return None;
    }
    let mut at = HEADER + 4 * (sizes.len() as u64 + 1);
    let mut files = Vec::new();
    for size in sizes {
        files.push(at..at + size);
        if at + size > end {
            return None;
        }
        at = (at + size).next_multiple_of(4);
    }
    Some(files)
}
