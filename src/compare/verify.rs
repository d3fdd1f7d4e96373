//! Proves that a converted image holds what the kernel would have unpacked from the original.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::{Aspect, FileType, Links, Pair, ReadOrder, bytes, changes, trees};
use crate::btrfs;
use crate::bytes::{ReadAt, Slice};
use crate::contract::paths::ROOTFS;
use crate::cores::share;
use crate::error::Error;
use crate::extract::Selection;
use crate::image::expand::{self, Expanded};
use crate::image::split::{self, Addition};
use crate::image::{self, FileSystem, Format, Opened, runtime_file};
use crate::initrd::{self, Initrd, Limits, Segment};
use crate::squashfs;
use crate::tree::{Content, Entry, Node, Tree, content, display};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A path that only one side has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The path, escaped for display.
    pub path: String,
    /// Its type.
    pub kind: FileType,
    /// Bytes of its content.
    pub bytes: u64,
}

/// What else was checked or found.
#[derive(Debug, Clone)]
pub enum Note {
    /// What was found when the new image was opened.
    Image(image::Note),
    /// Early segments were not compared, because the new image is a bare file system image.
    EarlyNotCompared,
    /// So many early files, which shared a segment with others, are in a segment of their own.
    EarlyFilesSeparate(u64),
    /// So many early segments are equal byte for byte.
    EarlySegmentsEqual(u64),
    /// Kernel modules are stored unpacked, and equal to what the original's unpack to.
    Expanded(Expanded),
    /// All checksums of the btrfs file system hold.
    Btrfs(btrfs::Scrubbed),
    /// Every block of so many files of the squashfs was read.
    Squashfs(u64),
    /// The file systems of the new image are damaged.
    Damaged(Error),
}

/// What [`verify`] finds.
#[derive(Debug, Clone)]
pub struct Verification {
    /// What the runtime should hold.
    pub expected: Tree,
    /// Number of paths that were compared, the root included.
    pub compared: u64,
    /// Bytes of content that were compared.
    pub bytes: u64,
    /// Documented additions that the runtime has.
    pub additions: Vec<Addition>,
    /// How many paths were appended to the new image and laid over its runtime.
    pub appended: u64,
    /// What the new image lacks.
    pub missing: Vec<Item>,
    /// Added and replaced paths that [`Verification::allow`] took out of `unexpected` and `changed`, escaped.
    pub allowed: Vec<String>,
    /// What is neither in the original nor documented.
    pub unexpected: Vec<Item>,
    /// Paths that differ.
    pub changed: Vec<Pair>,
    /// What else was checked or found.
    pub notes: Vec<Note>,
}

impl Verification {
    /// Takes the added and replaced paths that `selection` covers out of what is wrong. A missing path stays wrong.
    pub fn allow(&mut self, selection: &Selection) {
        let Self { allowed, unexpected, changed, .. } = self;
        unexpected.retain(|item| {
            let covered = selection.covers(item.path.as_bytes());
            allowed.extend(covered.then(|| item.path.clone()));
            !covered
        });
        changed.retain(|pair| {
            let covered = selection.covers(&pair.path);
            allowed.extend(covered.then(|| display(&pair.path)));
            !covered
        });
    }

    /// Whether the runtime holds what the kernel would have unpacked from the original.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.changed.is_empty()
    }
}

/// Verifies `new` against `old`.
///
/// Everything that `old` unpacks to has to be in the runtime of `new`, with nothing else, in every property that a tree
/// has, except for the additions and early files that [`split::split`] documents. Every checksum of the runtime's btrfs
/// is verified and every block of its squashfs is read, including those that belong to no file.
///
/// # Errors
/// [`crate::error::Kind::Usage`] if the runtime of either image is in a separate file; an error if either is damaged. If
/// files differ as well, the damage is a [`Note`].
pub fn verify(old: &Opened, new: &Opened) -> Result<Verification, Error> {
    for image in [old, new] {
        if image.apart {
            return Err(separate(image));
        }
    }
    if !old.layers.is_empty() && new.layers.is_empty() && old.initrd.is_some() {
        return Err(Error::usage("is not converted, but the image before it is")
            .file(&new.name)
            .hint("give the original first, then the converted image"));
    }
    let (mut expected, additions, early) = expected(old, new);
    let system = new.whole();
    let expanded = expand(&mut expected, system)?;
    let (found, whole) = thread::scope(|scope| {
        let read = || read_all(&new.layers);
        let whole = thread::Builder::new().spawn_scoped(scope, read);
        let found = trees(&expected, system, ReadOrder::New);
        let whole = match whole {
            Ok(thread) => {
                thread.join().unwrap_or_else(|_| Err(Error::input("the runtime could not be read")))
            }
            // No thread is to be had: one after the other.
            Err(_) => read(),
        };
        (found, whole)
    });
    let found = found.map_err(|e| if e.place.file.is_none() { e.file(&new.name) } else { e })?;
    let mut result = Verification {
        // The root is one of them.
        compared: found.same + found.changed.len() as u64,
        bytes: found.bytes,
        additions,
        appended: new.appended.paths,
        missing: items(&expected, &found.removed),
        allowed: Vec::new(),
        unexpected: items(system, &found.added),
        changed: found.changed,
        notes: Vec::new(),
        expected,
    };
    if new.appended.init && result.changed.iter().all(|pair| pair.path != b"init") {
        // It may be the same program as before, but nothing of the runtime is there when it starts.
        result.unexpected.push(Item { path: "init".into(), kind: FileType::Regular, bytes: 0 });
    }
    if expanded.modules > 0 {
        result.notes.push(Note::Expanded(expanded));
    }
    let appended = new.notes.iter().filter(|note| note.is_about_appended());
    result.notes.extend(appended.cloned().map(Note::Image));
    if let Some(initrd) = &old.initrd
        && old.carried.is_none()
    {
        let missing = early_segments(old, initrd, &result.expected, new, early, &mut result.notes)?;
        result.missing.extend(missing);
    }
    match whole {
        Ok(notes) => result.notes.extend(notes),
        Err(damage) if result.holds() => return Err(damage),
        Err(damage) => result.notes.push(Note::Damaged(damage)),
    }
    Ok(result)
}

/// The tree that the runtime of `new` should hold, the documented additions that it has, and the paths that came from
/// early segments only.
fn expected(old: &Opened, new: &Opened) -> (Tree, Vec<Addition>, Vec<String>) {
    let (Some(initrd), None) = (&old.initrd, &old.carried) else {
        return (old.system.clone(), Vec::new(), Vec::new());
    };
    if new.kept.is_some() {
        return (initrd.tree.clone(), Vec::new(), Vec::new());
    }
    let split = split::split(initrd, &old.class, &[]);
    let mut expected = split.runtime;
    // An addition may be left out: the runtime is then even more like the old image.
    let (present, absent): (Vec<_>, Vec<_>) =
        split.additions.into_iter().partition(|addition| new.system.get(&addition.path).is_some());
    for addition in absent {
        let root = expected.root;
        if let Node::Directory(names) = &mut expected.inode_mut(root).node {
            names.remove(addition.path.as_bytes());
        }
    }
    (expected, present, split.left_out)
}

/// Unpacks those kernel modules of `expected` that `new` holds unpacked under the same name.
fn expand(expected: &mut Tree, new: &Tree) -> Result<Expanded, Error> {
    let is_elf = |path: &[u8]| {
        let Some(Node::Regular(content)) = new.get(path).map(|id| &new.inode(id).node) else { return false };
        let mut magic = [0; 4];
        content.size >= 4 && new.read_at(content, &mut magic, 0).is_ok() && &magic == b"\x7fELF"
    };
    // What was unpacked when the image was opened was bounded; a module that is equal is as large as that of `new`.
    expand::modules(expected, u64::MAX, &is_elf)
}

/// The error for an image whose runtime is in a separate file.
fn separate(image: &Opened) -> Error {
    let runtime = runtime_file(&image.name);
    Error::usage("is the boot initramfs of a conversion into two files: the runtime, which holds the system, is in the other")
        .file(&image.name)
        .hint(format!("give that file: {}, if convert's name was kept", runtime.display()))
}

fn items(tree: &Tree, entries: &[Entry]) -> Vec<Item> {
    let item = |entry: &Entry| {
        let inode = tree.inode(entry.id);
        Item { path: display(&entry.path), kind: FileType::of(inode), bytes: bytes(inode) }
    };
    entries.iter().map(item).collect()
}

/// The early files that are missing. None is if the new image begins with the old one's early segments, followed by a
/// segment with the early files that shared one with others. Whatever `runtime` lacks of the old tree has to be in
/// those segments.
fn early_segments(
    old: &Opened,
    initrd: &Initrd,
    runtime: &Tree,
    new: &Opened,
    paths: Vec<String>,
    notes: &mut Vec<Note>,
) -> Result<Vec<Item>, Error> {
    let early = |initrd: &Initrd| initrd.segments.iter().filter(|s| s.early).cloned().collect::<Vec<_>>();
    let olds = early(initrd);
    if olds.is_empty() && initrd.early_bodies.is_empty() {
        return Ok(Vec::new());
    }
    let Some(other) = &new.initrd else {
        notes.push(Note::EarlyNotCompared);
        return Ok(Vec::new());
    };
    let news = early(other);
    let (from, to) = (old.source.as_ref(), new.source.as_ref());
    let lost = initrd.early_bodies.iter().filter(|(path, body)| {
        let file = other.tree.get(path).and_then(|id| squashfs::file(&other.tree, id));
        let same = file.is_some_and(|file| same_bytes(from, body.clone(), file.as_ref(), 0..file.len()));
        !same || !other.early_paths.iter().any(|early| early == path.as_bytes())
    });
    let mut missing: Vec<Item> = lost
        .map(|(path, body)| Item {
            path: path.clone(),
            kind: FileType::Regular,
            bytes: body.end - body.start,
        })
        .collect();
    if missing.is_empty() && !initrd.early_bodies.is_empty() {
        notes.push(Note::EarlyFilesSeparate(initrd.early_bodies.len() as u64));
    }
    let made = usize::from(!initrd.early_bodies.is_empty());
    let same = olds.len() + made == news.len()
        && olds.iter().zip(&news).all(|(a, b)| same_bytes(from, a.range(), to, b.range()));
    if same {
        if !olds.is_empty() {
            notes.push(Note::EarlySegmentsEqual(olds.len() as u64));
        }
        missing.extend(not_held(&initrd.tree, runtime, new, &news)?);
        return Ok(missing);
    }
    missing.extend(paths.into_iter().map(|path| {
        let (kind, bytes) = initrd.tree.get(&path).map_or((FileType::Regular, 0), |id| {
            let inode = initrd.tree.inode(id);
            (FileType::of(inode), bytes(inode))
        });
        Item { path, kind, bytes }
    }));
    Ok(missing)
}

/// What `runtime` lacks of `old` and the early segments of the new image do not hold as it was.
fn not_held(old: &Tree, runtime: &Tree, new: &Opened, early: &[Segment]) -> Result<Vec<Item>, Error> {
    let left_out: Vec<_> = old.walk().filter(|entry| runtime.get(&entry.path).is_none()).collect();
    let end = early.iter().map(|segment| segment.range().end).max().unwrap_or(0);
    if left_out.is_empty() || end == 0 {
        return Ok(items(old, &left_out));
    }
    // They were read before as part of the image, so their size was accepted.
    let limits = Limits { max_unpacked: u64::MAX, accept_partial: false };
    let held = initrd::read(&Slice::new(Arc::clone(&new.source), 0..end), &new.name, &limits, &|_| ())?.tree;
    let (mut lost, mut buffers) = (Vec::new(), content::Buffers::new());
    for entry in left_out {
        let same = match held.get(&entry.path) {
            None => false,
            Some(id) => {
                let differs = match (&old.inode(entry.id).node, &held.inode(id).node) {
                    (Node::Regular(was), Node::Regular(is)) => {
                        content::first_difference((old, was), (&held, is), &entry.path, &mut buffers)?
                    }
                    _ => None,
                };
                let mut links = Links::default();
                changes(old, &held, &entry.path, (entry.id, id), differs, &mut links)
                    .iter()
                    // Another segment may have given it another name.
                    .all(|change| change.aspect() == Aspect::Links)
            }
        };
        if !same {
            lost.push(entry);
        }
    }
    Ok(items(old, &lost))
}

fn same_bytes(left: &dyn ReadAt, a: Range<u64>, right: &dyn ReadAt, b: Range<u64>) -> bool {
    let size = a.end - a.start;
    let (mut x, mut y) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    while size == b.end - b.start && at < size {
        let len = (size - at).min(CHUNK as u64) as usize;
        let read = left.read_exact_at(&mut x[..len], a.start + at).is_ok()
            && right.read_exact_at(&mut y[..len], b.start + at).is_ok();
        if !read || x[..len] != y[..len] {
            return false;
        }
        at += len as u64;
    }
    size == b.end - b.start
}

/// Reads all of a squashfs that holds a runtime, which verifies the checksums of every block, and the btrfs inside.
///
/// # Errors
/// If a block is damaged or cannot be read.
pub(crate) fn read_runtime(squashfs: &Arc<dyn ReadAt>, holds_btrfs: bool, name: &Path) -> Result<(), Error> {
    let tree = squashfs::read(Arc::clone(squashfs), name)?;
    let inner = tree.get(ROOTFS).filter(|_| holds_btrfs).and_then(|id| squashfs::file(&tree, id));
    if let Some(inner) = &inner {
        btrfs::scrub(Arc::clone(inner), name)?;
    }
    read_files(&tree, name, inner.map(|_| ROOTFS)).map(drop)
}

/// Reads all of the file systems of a runtime and verifies all their checksums.
fn read_all(layers: &[FileSystem]) -> Result<Vec<Note>, Error> {
    let mut notes = Vec::new();
    let outer = layers.iter().find(|layer| layer.format == Format::Squashfs);
    let btrfs = layers.iter().find(|layer| layer.format == Format::Btrfs);
    if let Some(layer) = btrfs {
        // A second view of the same bytes: it has a cache of its own, and the comparison reads in another order.
        let source = match outer {
            Some(outer) => again(outer, &layer.path)?,
            None => Arc::clone(&layer.source),
        };
        notes.push(Note::Btrfs(btrfs::scrub(source, &layer.name)?));
    }
    if let Some(layer) = outer {
        let just_read = btrfs.map(|layer| layer.path.as_str());
        notes.push(Note::Squashfs(read_files(&layer.tree, &layer.name, just_read)?));
    }
    Ok(notes)
}

/// A part of a file that is read at a time.
struct Piece<'a> {
    /// See [`ReadAt::unpacked_with`].
    block: u64,
    /// The file, by its number among those of the tree.
    file: usize,
    content: &'a Content,
    offset: u64,
    len: usize,
}

/// Reads every stored block of the files of a squashfs on every core, except for the file that was `just_read`; says how
/// many files there are.
fn read_files(tree: &Tree, name: &Path, just_read: Option<&str>) -> Result<u64, Error> {
    let (mut paths, mut pieces) = (Vec::new(), Vec::new());
    for entry in tree.walk() {
        let Node::Regular(content) = &tree.inode(entry.id).node else { continue };
        let file = paths.len();
        paths.push(entry.path);
        if just_read.is_some_and(|path| path.as_bytes() == paths[file]) {
            continue;
        }
        let mut offset = 0;
        // Holes are not stored.
        while let Some(next) = content.stored(offset).filter(|&next| next < content.size) {
            offset = next;
            let len = (content.size - offset).min(CHUNK as u64) as usize;
            pieces.push(Piece { block: content.unpacked_with(tree, offset), file, content, offset, len });
            offset += len as u64;
        }
    }
    pieces.sort_unstable_by_key(|piece| (piece.block, piece.file, piece.offset));
    // Whoever takes a piece takes all that are unpacked with it.
    let blocks: Vec<&[Piece<'_>]> = pieces.chunk_by(|a, b| a.block == b.block).collect();
    share(
        blocks.len(),
        || vec![0; CHUNK],
        |buffer, number| {
            blocks[number].iter().try_for_each(|piece| {
                tree.read_at(piece.content, &mut buffer[..piece.len], piece.offset).map_err(|e| {
                    let path = display(&paths[piece.file]);
                    Error::input(format!("/{path} cannot be read from byte {}", piece.offset))
                        .caused_by(e)
                        .file(name)
                })
            })
        },
    )?;
    Ok(paths.len() as u64)
}

/// The file at `path` of a squashfs, through a reader of its own.
fn again(outer: &FileSystem, path: &str) -> Result<Arc<dyn ReadAt>, Error> {
    let tree = squashfs::read(Arc::clone(&outer.source), &outer.name)?;
    tree.get(path)
        .and_then(|id| squashfs::file(&tree, id))
        .ok_or_else(|| Error::input(format!("/{path} is not a regular file")).file(&outer.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoding;
    use crate::initrd::NewcWriter;

    #[test]
    fn what_was_left_out_is_looked_for_in_the_early_segments() {
        let (directories, path) =
            (["kernel", "kernel/x86", "kernel/x86/microcode"], "kernel/x86/microcode/a.bin");
        let mut early = NewcWriter::new(Vec::new(), 0);
        directories.iter().for_each(|directory| early.directory(directory, 0o755).unwrap());
        early.file(path, 0o755, b"early").unwrap();
        let mut rest = NewcWriter::new(Vec::new(), 0);
        rest.file("init", 0o755, b"#!/bin/sh\n").unwrap();
        let mut image = early.finish().unwrap();
        image.extend(crate::codec::compress(&rest.finish().unwrap(), Encoding::Gzip).unwrap());
        let new = crate::image::read(Arc::new(image), Path::new("x"), &Limits::default(), &|_| ()).unwrap();
        let segments = &new.initrd.as_ref().unwrap().segments[..1];
        assert!(segments[0].early);
        let lost = |files: &[(&str, &[u8])], segments: &[Segment]| -> Vec<String> {
            let runtime = crate::tree::build::tree(&[("init", b"#!/bin/sh\n")], &[]);
            let items = not_held(&crate::tree::build::tree(files, &[]), &runtime, &new, segments).unwrap();
            items.into_iter().map(|item| item.path).collect()
        };
        assert!(lost(&[("init", b""), (path, b"early")], segments).is_empty());
        assert_eq!(lost(&[(path, b"later")], segments), [path]);
        assert_eq!(lost(&[("kernel/other", b"")], segments), ["kernel/other"]);
        assert_eq!(lost(&[(path, b"early")], &[]), [directories.as_slice(), &[path]].concat());
    }
}
