//! An initramfs that is built into a kernel (CONFIG_INITRAMFS_SOURCE; usr/initramfs_data.S).

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::bytes::{ReadAt, Slice};
use crate::codec::{self, Encoding};
use crate::error::Error;
use crate::initrd::{self, HEADER, Header, Limits};
use crate::kernel;

/// The largest kernel that is searched.
const MAX_KERNEL: u64 = 512 << 20;
/// How many places with the signature of a compressed file are tried.
const MAX_TRIES: usize = 4096;
/// Entries of the initramfs that every kernel has (usr/default_cpio_list): /dev, /dev/console, /root.
const DEFAULT_ENTRIES: u64 = 3;

/// What an initramfs of `size` bytes in a kernel means for a conversion.
pub(super) fn note(size: u64) -> String {
    format!(
        "the image is the initramfs built into the kernel ({size} bytes). The converted image is a separate initrd, and the \
         kernel unpacks its own initramfs before it: to save that RAM, build the kernel with CONFIG_INITRAMFS_SOURCE=\"\" and \
         load the new image with the boot loader's initrd line"
    )
}

/// The initramfs built into the kernel that begins with `start`; `None` if it is not a kernel or has only the default one.
///
/// # Errors
/// When the source cannot be read.
pub(super) fn find(
    start: &[u8],
    source: &dyn ReadAt,
    limits: &Limits,
) -> Result<Option<Arc<dyn ReadAt>>, Error> {
    let name = crate::magic::name(start);
    let kernel =
        name.starts_with("a Linux kernel") || name.starts_with("an ELF file") || start.starts_with(b"MZ");
    if !kernel || source.len() > MAX_KERNEL {
        return Ok(None);
    }
    let mut bytes = vec![0; source.len() as usize];
    source.read_exact_at(&mut bytes, 0).map_err(Error::reading)?;
    let Some(kernel) = kernel::unpack(&bytes) else { return Ok(None) };
    drop(bytes);
    let kernel: Arc<Vec<u8>> = Arc::new(kernel);
    let mut best: Option<(u64, Slice)> = None;
    let (mut at, mut tries) = (0, 0);
    while let Some((found, encoding)) = next(&kernel, at) {
        at = found + 1;
        if !is_archive(&kernel[found..], encoding) {
            continue;
        }
        tries += 1;
        if tries > MAX_TRIES {
            break;
        }
        let rest = Slice::new(Arc::clone(&kernel) as Arc<dyn ReadAt>, found as u64..kernel.len() as u64);
        // The kernel's other data follows: the first segment is the initramfs, and its end is known only by reading it.
        let limits = Limits { accept_partial: true, ..*limits };
        let Ok(image) = initrd::read(&rest, Path::new("initramfs"), &limits, &|_| ()) else { continue };
        let Some(segment) = image.segments.first() else { continue };
        let whole =
            image.stopped.as_ref().is_none_or(|stop| stop.error.place.segment != Some(segment.number));
        if !whole || segment.entries <= DEFAULT_ENTRIES {
            continue;
        }
        at = found + usize::try_from(segment.size).unwrap_or(1).max(1);
        if best.as_ref().is_none_or(|(unpacked, _)| segment.unpacked > *unpacked) {
            let range = found as u64..found as u64 + segment.size;
            best = Some((segment.unpacked, Slice::new(Arc::clone(&kernel) as Arc<dyn ReadAt>, range)));
        }
    }
    Ok(best.map(|(_, slice)| Arc::new(slice) as Arc<dyn ReadAt>))
}

/// The first place from `from` on that has the signature of a compressed file or of a newc header.
fn next(kernel: &[u8], from: usize) -> Option<(usize, Encoding)> {
    // The signature of lzma is too short to search for.
    let signatures = || Encoding::SIGNATURES.into_iter().filter(|(_, encoding)| *encoding != Encoding::Lzma);
    (from..kernel.len()).find_map(|at| {
        let rest = &kernel[at..];
        if !matches!(rest[0], b'0' | 0x1f | 0xfd | 0x28 | b'B' | 0x02 | 0x89) {
            return None;
        }
        let plain = (rest.starts_with(b"070701") || rest.starts_with(b"070702")).then_some(Encoding::Plain);
        let found = plain.or_else(|| {
            signatures().find(|(magic, _)| rest.starts_with(magic)).map(|(_, encoding)| encoding)
        });
        found.map(|encoding| (at, encoding))
    })
}

/// Whether a newc archive begins here.
fn is_archive(bytes: &[u8], encoding: Encoding) -> bool {
    let mut header = [0; HEADER];
    let found = codec::decoder(encoding, bytes).and_then(|mut decoder| decoder.read_exact(&mut header));
    found.is_ok() && Header::parse(&header).is_ok()
}
