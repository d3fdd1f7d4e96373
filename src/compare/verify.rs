//! Proves that a converted image holds what the kernel would have unpacked from the original.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use super::diff::{changed, items};
use super::{Links, ReadOrder, TreeDifference, aspects, content, trees};
use crate::btrfs;
use crate::bytes::{ReadAt, Slice};
use crate::convert::layout;
use crate::convert::split;
use crate::error::Error;
use crate::image::{FileSystem, Opened};
use crate::initrd::{self, Initrd, Limits, Segment};
use crate::report::{self, Added, Aspect, Item, Tool, Verification, units};
use crate::squashfs;
use crate::tree::{Node, Tree, display};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Verifies `new` against `old`.
///
/// What `old` unpacks to has to be in `new`'s runtime, all of it and nothing else, in every property that a tree has;
/// but for the additions and early files that [`split::split`] documents. Every checksum of the runtime's btrfs is
/// verified and every block of its squashfs read, also what no file leads to.
///
/// # Errors
/// [`crate::error::Kind::Usage`] where the runtime of either is in another file. When either image is damaged. Where
/// files differ as well, the damage is a note of the report.
pub fn verify(old: &Opened, new: &Opened) -> Result<Verification, Error> {
    for image in [old, new] {
        if image.apart {
            return Err(apart(image));
        }
    }
    let (mut expected, additions, early) = match (&old.initrd, &old.carried) {
        (Some(initrd), None) => {
            let split = split::split(initrd, &old.class, &[]);
            (split.runtime, split.additions, split.left_out)
        }
        _ => (old.system.clone(), Vec::new(), Vec::new()),
    };
    // An addition may be left out: the runtime is then all the more what the old image was.
    let (present, absent): (Vec<_>, Vec<_>) =
        additions.into_iter().partition(|addition| new.system.get(&addition.path).is_some());
    for addition in absent {
        let root = expected.root;
        if let Node::Directory(names) = &mut expected.inode_mut(root).node {
            names.remove(addition.path.as_bytes());
        }
    }
    let (found, whole) = thread::scope(|scope| {
        let whole = scope.spawn(|| read_all(&new.layers));
        let found = trees(&expected, &new.system, ReadOrder::New);
        let whole = whole.join().unwrap_or_else(|_| Err(Error::input("the runtime could not be read")));
        (found, whole)
    });
    let found = found.map_err(|e| if e.place.file.is_none() { e.file(&new.name) } else { e })?;
    let mut report = verify_trees(&expected, &new.system, &found);
    report.old = old.name.display().to_string();
    report.new = new.name.display().to_string();
    report.appended = new.appended.paths;
    if new.appended.init && report.changed.iter().all(|change| change.path != "init") {
        // The same program as ever, perhaps, but nothing of the runtime is there when it starts.
        report.unexpected.push(Item { path: "init".into(), kind: "file".into(), bytes: 0 });
        report.holds = false;
    }
    report.notes.extend(new.notes.iter().filter(|note| note.starts_with("appended")).cloned());
    report.additions = present.into_iter().map(|a| Added { path: a.path, why: a.why }).collect();
    if let Some(initrd) = &old.initrd
        && old.carried.is_none()
    {
        report.missing.extend(early_segments(old, initrd, &expected, new, early, &mut report.notes)?);
    }
    report.holds = report.missing.is_empty() && report.unexpected.is_empty() && report.changed.is_empty();
    match whole {
        Ok(notes) => report.notes.extend(notes),
        Err(damage) if report.holds => return Err(damage),
        Err(damage) => report.notes.push(damage.to_string()),
    }
    Ok(report)
}

/// The error for an image whose runtime is in another file.
fn apart(image: &Opened) -> Error {
    let runtime = layout::runtime_file(&image.name);
    Error::usage("is the front-end of a conversion into two parts: the runtime, which holds the system, is in another file")
        .file(&image.name)
        .hint(format!("give that one: {}, where convert wrote it", runtime.display()))
}

/// What a comparison of `expected` with `runtime` found, as a report without names.
#[must_use]
pub fn verify_trees(expected: &Tree, runtime: &Tree, found: &TreeDifference) -> Verification {
    Verification {
        schema_version: report::SCHEMA_VERSION,
        tool: Tool::default(),
        old: String::new(),
        new: String::new(),
        holds: found.is_empty(),
        // The root is one of them.
        compared: found.same + found.changed.len() as u64,
        bytes: found.bytes,
        additions: Vec::new(),
        appended: 0,
        missing: items(expected, &found.removed),
        unexpected: items(runtime, &found.added),
        changed: found.changed.iter().map(|pair| changed(expected, runtime, pair)).collect(),
        notes: Vec::new(),
    }
}

/// The early files, which are missing unless the new image begins with the old one's early segments, and with what was
/// early among other files in a segment of its own. Whatever `runtime` lacks of the old tree has to be in those
/// segments.
fn early_segments(
    old: &Opened,
    initrd: &Initrd,
    runtime: &Tree,
    new: &Opened,
    paths: Vec<String>,
    notes: &mut Vec<String>,
) -> Result<Vec<Item>, Error> {
    let early = |initrd: &Initrd| initrd.segments.iter().filter(|s| s.early).cloned().collect::<Vec<_>>();
    let olds = early(initrd);
    if olds.is_empty() && initrd.early_bodies.is_empty() {
        return Ok(Vec::new());
    }
    let Some(other) = &new.initrd else {
        notes.push("early segments were not compared: the new image is a bare file system image".into());
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
        .map(|(path, body)| Item { path: path.clone(), kind: "file".into(), bytes: body.end - body.start })
        .collect();
    if missing.is_empty() && !initrd.early_bodies.is_empty() {
        let files = units::count(initrd.early_bodies.len() as u64, "early file");
        notes.push(format!("{files} among others: in a segment of their own"));
    }
    let made = usize::from(!initrd.early_bodies.is_empty());
    let same = olds.len() + made == news.len()
        && olds.iter().zip(&news).all(|(a, b)| same_bytes(from, a.range(), to, b.range()));
    if same {
        if !olds.is_empty() {
            notes
                .push(format!("{} byte for byte the same", units::count(olds.len() as u64, "early segment")));
        }
        missing.extend(not_held(&initrd.tree, runtime, new, &news)?);
        return Ok(missing);
    }
    let size = |path: &str| {
        initrd.tree.get(path).map_or((0, "file"), |id| {
            let inode = initrd.tree.inode(id);
            (super::bytes(inode), super::kind(inode))
        })
    };
    missing.extend(paths.into_iter().map(|path| {
        let (bytes, kind) = size(&path);
        Item { path, kind: kind.into(), bytes }
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
    // They were read before, as a part of the image: whatever they unpack to was allowed.
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
                aspects(old, &held, &entry.path, (entry.id, id), differs, &mut links)
                    .iter()
                    // Another segment may have given it another name.
                    .all(|change| change.aspect == Aspect::Links)
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

/// Reads all of the file systems of a runtime and verifies all their checksums; says what was read.
fn read_all(layers: &[FileSystem]) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    let btrfs = layers.iter().find(|layer| layer.kind == "btrfs");
    if let Some(layer) = btrfs {
        // A second view of the same bytes: it has a cache of its own, and the comparison reads in another order.
        let source = match layers.iter().find(|outer| outer.kind == "squashfs") {
            Some(outer) => again(outer, &layer.path)?,
            None => Arc::clone(&layer.source),
        };
        let done = btrfs::scrub(source, &layer.name)?;
        notes.push(format!(
            "btrfs: checksums of {}, {} and {} of data are right",
            units::count(done.superblocks, "superblock"),
            units::count(done.trees, "tree"),
            units::size(done.data)
        ));
    }
    if let Some(layer) = layers.iter().find(|layer| layer.kind == "squashfs") {
        let inner = btrfs.map(|layer| layer.path.as_str());
        let mut buffer = vec![0; CHUNK];
        let mut files = 0;
        for entry in layer.tree.walk() {
            let Node::Regular(content) = &layer.tree.inode(entry.id).node else { continue };
            files += 1;
            if inner.is_some_and(|inner| inner.as_bytes() == entry.path) {
                // It was read just now.
                continue;
            }
            let mut at = 0;
            // Holes are stored nowhere.
            while let Some(next) = content.stored(at).filter(|&next| next < content.size) {
                at = next;
                let len = (content.size - at).min(CHUNK as u64) as usize;
                layer.tree.read_at(content, &mut buffer[..len], at).map_err(|e| {
                    Error::input(format!("/{} cannot be read from byte {at}: {e}", display(&entry.path)))
                        .file(&layer.name)
                })?;
                at += len as u64;
            }
        }
        notes.push(format!("squashfs: all of {} read", units::count(files, "file")));
    }
    Ok(notes)
}

/// The file at `path` of a squashfs, through a reader of its own.
fn again(outer: &FileSystem, path: &str) -> Result<Arc<dyn ReadAt>, Error> {
    let tree = squashfs::read(Arc::clone(&outer.source), &outer.name)?;
    tree.get(path)
        .and_then(|id| squashfs::file(&tree, id))
        .ok_or_else(|| Error::input(format!("/{path} is no file")).file(&outer.name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::codec::Encoding;
    use crate::initrd::NewcWriter;

    #[test]
    fn what_was_left_out_is_looked_for_in_the_early_segments() {
        let (folders, path) =
            (["kernel", "kernel/x86", "kernel/x86/microcode"], "kernel/x86/microcode/a.bin");
        let mut early = NewcWriter::new(Vec::new(), 0);
        folders.iter().for_each(|folder| early.directory(folder, 0o755).unwrap());
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
        assert_eq!(lost(&[(path, b"early")], &[]), [folders.as_slice(), &[path]].concat());
    }
}
