//! What differs between two images: parts, folders, files.

use std::collections::{BTreeMap, HashSet};

use super::{Pair, ReadOrder, TreeDifference, bytes, kind, moves, text_difference, trees};
use crate::error::Error;
use crate::image::Opened;
use crate::inspect::image_file;
use crate::ram::Rootfs;
use crate::report::{
    self, Aspect, Changed, Counts, Difference, Folder, Item, Moved, Side, SizeChange, TextDifference, Tool,
};
use crate::tree::{Entry, InodeId, Node, Tree, display};

/// Levels of folders whose sizes are compared.
const DEPTH: usize = 4;
/// Bytes of all unified diffs together that are kept.
const TEXTS: usize = 16 << 20;

/// What a comparison is to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// Whether to show what changed inside text files.
    pub text: bool,
}

/// Compares two images.
///
/// # Errors
/// When a content cannot be read.
pub fn diff(old: &Opened, new: &Opened, options: &DiffOptions) -> Result<Difference, Error> {
    // The one whose blocks are large when they are unpacked decides the order.
    let order = if new.layers.is_empty() { ReadOrder::Old } else { ReadOrder::New };
    let found = trees(&old.system, &new.system, order)?;
    let moved = moves(&old.system, &new.system, &found)?;
    let mut notes: Vec<String> = Vec::new();
    let texts = if options.text { texts(old, new, &found, &mut notes)? } else { Vec::new() };
    for (side, image) in [("old", old), ("new", new)] {
        notes.extend(image.notes.iter().map(|note| format!("{side}: {note}")));
    }
    let (old_side, new_side) = (side(old), side(new));
    Ok(Difference {
        schema_version: report::SCHEMA_VERSION,
        tool: Tool::default(),
        counts: counts(&found, moved.len()),
        parts: parts(&old_side, &new_side),
        folders: folders(&old.system, &new.system),
        old: old_side,
        new: new_side,
        added: items(&new.system, &found.added),
        removed: items(&old.system, &found.removed),
        changed: found.changed.iter().map(|pair| changed(&old.system, &new.system, pair)).collect(),
        moved: moved
            .iter()
            .map(|(from, to)| Moved {
                from: display(&from.path),
                to: display(&to.path),
                bytes: bytes(new.system.inode(to.id)),
            })
            .collect(),
        texts,
        tree: Folder::map(&new.system),
        notes,
        budgets: Vec::new(),
    })
}

fn side(image: &Opened) -> Side {
    let (entries, content) = totals(&image.system);
    Side {
        image: image_file(image),
        verdict: image.identity().verdict,
        entries,
        content,
        ram: image.facts().map(|facts| facts.ram(Rootfs::Tmpfs)),
    }
}

/// Paths without the root, and bytes of all content, each file once.
fn totals(tree: &Tree) -> (u64, u64) {
    let mut seen = HashSet::new();
    tree.walk().skip(1).fold((0, 0), |(paths, content), entry| {
        let more = if seen.insert(entry.id) { bytes(tree.inode(entry.id)) } else { 0 };
        (paths + 1, content + more)
    })
}

fn counts(found: &TreeDifference, moved: usize) -> Counts {
    let mut counts = Counts {
        added: found.added.len() as u64,
        removed: found.removed.len() as u64,
        same: found.same,
        moved: moved as u64,
        ..Counts::default()
    };
    for pair in &found.changed {
        if pair.aspects.iter().any(|change| change.aspect.is_weighty()) {
            counts.changed += 1;
        } else {
            counts.only_times += 1;
        }
        for change in &pair.aspects {
            *match change.aspect {
                Aspect::Type => &mut counts.r#type,
                Aspect::Content => &mut counts.content,
                Aspect::Target => &mut counts.target,
                Aspect::Device => &mut counts.device,
                Aspect::Mode => &mut counts.mode,
                Aspect::Owner => &mut counts.owner,
                Aspect::Links => &mut counts.links,
                Aspect::Time => &mut counts.time,
            } += 1;
        }
    }
    counts
}

/// Parts by name, those of the old image first.
fn parts(old: &Side, new: &Side) -> Vec<SizeChange> {
    let mut list: Vec<SizeChange> = Vec::new();
    let sides = [(&old.image, true), (&new.image, false)];
    for (part, is_old) in
        sides.iter().flat_map(|(image, is_old)| image.parts.iter().map(move |p| (p, *is_old)))
    {
        let (was, is) = if is_old { (part.bytes, 0) } else { (0, part.bytes) };
        match list.iter_mut().find(|change| change.name == part.name) {
            Some(change) => {
                change.old += was;
                change.new += is;
            }
            None => list.push(SizeChange { name: part.name.clone(), old: was, new: is }),
        }
    }
    list
}

/// Bytes below each folder that is not too deep. A file with several names counts where its first one is.
fn sizes(tree: &Tree) -> BTreeMap<Vec<u8>, u64> {
    let mut sums: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut seen: HashSet<InodeId> = HashSet::new();
    for entry in tree.walk() {
        let size = bytes(tree.inode(entry.id));
        if size == 0 || !seen.insert(entry.id) {
            continue;
        }
        let folders = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in folders.take(DEPTH) {
            *sums.entry(entry.path[..end].to_vec()).or_default() += size;
        }
    }
    sums
}

/// Folders whose size differs, the largest change first.
fn folders(old: &Tree, new: &Tree) -> Vec<SizeChange> {
    let (old, new) = (sizes(old), sizes(new));
    let names: std::collections::BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    let size = |of: &BTreeMap<Vec<u8>, u64>, name: &Vec<u8>| of.get(name).copied().unwrap_or(0);
    let mut list: Vec<SizeChange> = names
        .into_iter()
        .map(|name| SizeChange { name: display(name), old: size(&old, name), new: size(&new, name) })
        .filter(|change| change.old != change.new)
        .collect();
    list.sort_by_key(|change| (std::cmp::Reverse(change.old.abs_diff(change.new)), change.name.clone()));
    list
}

/// What a report tells of paths that one side has.
pub(super) fn items(tree: &Tree, entries: &[Entry]) -> Vec<Item> {
    let item = |entry: &Entry| {
        let inode = tree.inode(entry.id);
        Item { path: display(&entry.path), kind: kind(inode).into(), bytes: bytes(inode) }
    };
    entries.iter().map(item).collect()
}

/// What a report tells of a path that differs.
pub(super) fn changed(old: &Tree, new: &Tree, pair: &Pair) -> Changed {
    // The root has an empty path, which says nothing to people.
    let path = if pair.path.is_empty() { ".".to_owned() } else { display(&pair.path) };
    Changed {
        path,
        old_bytes: bytes(old.inode(pair.old)),
        new_bytes: bytes(new.inode(pair.new)),
        aspects: pair.aspects.clone(),
    }
}

fn texts(
    old: &Opened,
    new: &Opened,
    found: &TreeDifference,
    notes: &mut Vec<String>,
) -> Result<Vec<TextDifference>, Error> {
    let (mut list, mut size) = (Vec::new(), 0);
    for pair in found.changed.iter().filter(|pair| pair.differs(Aspect::Content)) {
        let (Some(was), Some(is)) = (text(&old.system, pair.old, pair)?, text(&new.system, pair.new, pair)?)
        else {
            continue;
        };
        let Some(difference) = text_difference(&pair.path, &was, &is) else { continue };
        size += difference.diff.len();
        if size > TEXTS {
            notes.push("there are more text files that differ than are shown".into());
            break;
        }
        list.push(difference);
    }
    Ok(list)
}

fn text(tree: &Tree, id: InodeId, pair: &Pair) -> Result<Option<Vec<u8>>, Error> {
    if !matches!(tree.inode(id).node, Node::Regular(_)) {
        return Ok(None);
    }
    tree.read(id, super::TEXT_LIMIT)
        .map_err(|e| Error::input(format!("/{}: its content cannot be read: {e}", display(&pair.path))))
}
