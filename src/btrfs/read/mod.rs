//! A btrfs image becomes a [`Tree`]; nothing is believed that a checksum does not vouch for.

mod data;
mod files;
mod scrub;
mod volume;

use std::path::Path;
use std::sync::Arc;

pub use scrub::{Scrubbed, scrub};

use super::disk;
use crate::bytes::ReadAt;
use crate::error::Error;
use crate::tree::Tree;
#[cfg(test)]
use crate::tree::{Node, display};

/// Whether `source` holds a btrfs file system: its magic number is there.
#[must_use]
pub fn is_btrfs(source: &dyn ReadAt) -> bool {
    let mut magic = [0; 8];
    source.read_exact_at(&mut magic, disk::SUPER_OFFSET + 64).is_ok() && &magic == disk::MAGIC
}

/// Reads the file tree of the default subvolume. `name` is how errors call the image.
///
/// The checksums of the superblock and of every tree block on the way are verified here, those of data whenever it is
/// read through [`Tree::data`] (`verify_data` reads it all). Offsets in the tree's data are logical addresses of the
/// file system; inline and compressed files lie, unpacked in a temporary file, behind the last of them: at most
/// `max_unpacked` bytes.
///
/// # Errors
/// For anything damaged or too large, and for what is not supported: checksums other than crc32c, several devices,
/// RAID, a log that waits to be replayed, subvolumes inside the default one.
pub fn read(source: Arc<dyn ReadAt>, name: &Path, max_unpacked: u64) -> Result<Tree, Error> {
    let volume = volume::Volume::open(source, name)?;
    let tree = files::read(volume, max_unpacked)?;
    tree.check().map_err(|error| error.file(name))?;
    Ok(tree)
}

/// Reads all data of `tree` and so verifies all checksums.
///
/// # Errors
/// Names the first file whose data cannot be read or fails its checksum.
#[cfg(test)]
pub(crate) fn verify_data(tree: &Tree) -> Result<(), Error> {
    let mut seen = vec![false; tree.inodes.len()];
    let mut buffer = vec![0; 1 << 20];
    for entry in tree.walk() {
        if std::mem::replace(&mut seen[entry.id.0 as usize], true) {
            continue;
        }
        let Node::Regular(content) = &tree.inode(entry.id).node else { continue };
        for extent in &content.extents {
            let mut done = 0;
            while done < extent.len {
                let len = (extent.len - done).min(buffer.len() as u64);
                tree.data.read_exact_at(&mut buffer[..len as usize], extent.data_offset + done).map_err(
                    |e| {
                        Error::input(format!(
                            "/{} cannot be read from byte {}: {e}",
                            display(&entry.path),
                            extent.file_offset + done
                        ))
                    },
                )?;
                done += len;
            }
        }
    }
    Ok(())
}
