//! Reading an initrd by the rules of the kernel's init/initramfs.c, and writing what that code unpacks.
//!
//! An initrd is a sequence of *segments*: newc archives, each plain or compressed, with zero padding between. [`read`]
//! gives the rootfs that the kernel would have had, and the place of each segment.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::bytes::{self, ReadAt, Spool};
use crate::codec::Encoding;
use crate::error::Error;
use crate::tree::{InodeId, Tree};

mod archive;
#[cfg(test)]
pub(crate) mod build;
mod header;
mod newc;
mod rootfs;
mod source;
mod stop;

pub use archive::find_body;
pub(crate) use header::{Fault, HEADER, Header, c_string};
pub use newc::NewcWriter;
pub(crate) use source::bootconfig;
pub use stop::Stop;

/// Opens an image. Rejects anything but a regular file: a pipe has no size and cannot be read twice.
///
/// # Errors
/// [`crate::error::Kind::Usage`] if it cannot be opened, [`crate::error::Kind::Input`] if it is not a regular file.
pub fn open(path: &Path) -> Result<File, Error> {
    let cannot = |e: io::Error| Error::usage("cannot be opened").caused_by(e).file(path);
    let metadata = path.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(Error::input("is a directory: expected an image")
            .file(path)
            .hint("if it is the root of a system, pack it with find . | cpio -o -H newc | gzip >initrd.gz"));
    }
    if !metadata.is_file() {
        return Err(Error::input(format!(
            "is {}: expected a regular file",
            bytes::name(metadata.file_type())
        ))
        .file(path)
        .hint("copy its content into a file, or give - and pipe it into standard input"));
    }
    File::open(path).map_err(cannot)
}

/// What reading an image may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes that all segments together may unpack to. The files of each file system inside may hold as many.
    pub max_unpacked: u64,
    /// Whether an image in which Linux stops early is read up to there; it is refused otherwise.
    pub accept_partial: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_unpacked: 16 << 30, accept_partial: false }
    }
}

/// One archive of an initrd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Counted from 1.
    pub number: usize,
    /// Where it starts in the file.
    pub offset: u64,
    /// Bytes in the file, without the zero padding after it.
    pub size: u64,
    /// Zero bytes after it.
    pub padding: u64,
    /// How it is packed.
    pub encoding: Encoding,
    /// Bytes of the archive when unpacked: headers, names and content.
    pub unpacked: u64,
    /// Entries, the trailer not counted.
    pub entries: u64,
    /// Whether it is an early cpio: microcode or ACPI tables that the kernel takes before it unpacks anything.
    pub early: bool,
    /// Memory that unpacking it takes in the kernel in addition to input and output (its dictionary or window), bytes.
    pub dictionary: u64,
}

impl Segment {
    /// Where it lies in the file.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }
}

/// The segments that wrote an inode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writers {
    /// Number of the one that made it; 0 for what the kernel's own initramfs holds.
    pub first: usize,
    /// Number of the last one that gave it a content, an owner, a mode or a time.
    pub last: usize,
    /// Whether all of them are early.
    pub early: bool,
}

/// An initrd that was read.
#[derive(Debug, Clone)]
pub struct Initrd {
    /// The rootfs that the kernel would have had, its built-in /dev, /dev/console and /root included.
    pub tree: Tree,
    /// The segments in order.
    pub segments: Vec<Segment>,
    /// The segments that wrote each inode of `tree`; none are known of inodes beyond the end.
    pub writers: Vec<Writers>,
    /// Size of the file in bytes.
    pub size: u64,
    /// Paths that early segments wrote (no leading `/`), directories too. What is there may be another segment's: see
    /// [`Initrd::only_early`].
    pub early_paths: Vec<Vec<u8>>,
    /// Microcode and ACPI tables among other files of the plain segments at the start: name and place in the file. The
    /// kernel takes them from there before it unpacks anything, and unpacks them like all else.
    pub early_bodies: Vec<(String, Range<u64>)>,
    /// Bodies of entries that the kernel skips because they are neither regular files nor symbolic links: name and
    /// place in the file. A retained squashfs is one. Of plain segments only.
    pub skipped_bodies: Vec<(Vec<u8>, Range<u64>)>,
    /// The place of the boot configuration at the end of the file (`#BOOTCONFIG`).
    pub bootconfig: Option<Range<u64>>,
    /// What the kernel skips with a message or without one, a sentence each.
    pub notes: Vec<String>,
    /// Entries that the kernel drops because their directory does not exist at that point, in order; at most 10,000.
    pub dropped: Vec<Dropped>,
    /// Where Linux stops before the end of the image; only with [`Limits::accept_partial`].
    pub stopped: Option<Stop>,
}

/// An entry that the kernel drops because its directory does not exist when it is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Its path, without a leading `/`.
    pub path: Vec<u8>,
    /// The number of its segment.
    pub segment: usize,
}

impl Initrd {
    /// An initrd that unpacks to `tree` and is nothing else.
    #[must_use]
    pub fn of_tree(tree: Tree) -> Self {
        Self {
            tree,
            segments: Vec::new(),
            writers: Vec::new(),
            size: 0,
            early_paths: Vec::new(),
            bootconfig: None,
            early_bodies: Vec::new(),
            skipped_bodies: Vec::new(),
            notes: Vec::new(),
            dropped: Vec::new(),
            stopped: None,
        }
    }

    /// The segments that wrote `id`, if they are known.
    #[must_use]
    pub fn writers(&self, id: InodeId) -> Option<Writers> {
        self.writers.get(id.0 as usize).copied()
    }

    /// The paths, directories too, whose inode only early segments wrote. What another segment made or changed, even only
    /// its mode, belongs to the system.
    pub fn only_early(&self) -> impl Iterator<Item = &[u8]> {
        let only = |path: &&[u8]| {
            self.tree.get(path).and_then(|id| self.writers(id)).is_some_and(|writers| writers.early)
        };
        self.early_paths.iter().map(Vec::as_slice).filter(only)
    }
}

/// Reads an initrd from `source`; `name` is its name in errors, and `progress` gets the number of bytes that are done.
///
/// # Errors
/// [`crate::error::Kind::Input`] with segment and byte offset where data is too large or, without
/// [`Limits::accept_partial`], where the kernel stops unpacking; [`crate::error::Kind::Io`] if the source cannot be read
/// or the temporary file cannot be written.
pub fn read(
    source: &dyn ReadAt,
    name: &Path,
    limits: &Limits,
    progress: &dyn Fn(u64),
) -> Result<Initrd, Error> {
    let named = |mut e: Error| {
        e.place.file.get_or_insert_with(|| name.to_owned());
        e
    };
    let rootfs = rootfs::Reader::new(Spool::new().map_err(Error::temporary)?, limits.max_unpacked);
    let mut initrd = source::read_segments(source, rootfs, progress).map_err(named)?;
    match &initrd.stopped {
        Some(stop) if !limits.accept_partial => {
            let error = named(stop.error.clone());
            let hint = error.hint.as_deref().unwrap_or_default();
            let hint = format!("{hint}\n  to use what Linux unpacks until then, add --accept-partial");
            return Err(error.hint(hint));
        }
        Some(stop) => initrd.notes.push(format!(
            "warning: {stop}. A kernel with CONFIG_BLK_DEV_RAM=y also copies the whole image to /initrd.image, and before Linux 5.9 \
             removes what it had unpacked"
        )),
        None => {}
    }
    Ok(initrd)
}
