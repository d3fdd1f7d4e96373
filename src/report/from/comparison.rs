//! What `diff` and `verify` found → their reports.

use std::collections::HashMap;

use super::directories::Before;
use super::opened;
use crate::compare::{
    self, Aspect, Change, FileType, Folded, Note, PackageComparison, PackageSide, Pair, Reason, Totals,
};
use crate::image::Opened;
use crate::ram::{DEFAULT_CPUS, Facts, Kernel, Machine};
use crate::report::data::{
    Added, AspectChange, Changed, Counts, Difference, Directory, FoldedPath, Identity, ImageFile, Item,
    Moved, PackageDifference, PackageDifferences, PackageVersion, Ram, SCHEMA_VERSION, Side, SizeChange,
    TextDifference, Tool, Verification,
};
use crate::report::units::{count, size, time};
use crate::tree::{Entry, Inode, InodeId, Node, Tree, display};

/// The report of a comparison of `old` with `new`.
#[must_use]
pub fn difference(old: &Opened, new: &Opened, found: &compare::Difference) -> Difference {
    let mut notes = Vec::new();
    if found.more_texts {
        notes.push("more text files differ than are shown".into());
    }
    for (side, image) in [("old", old), ("new", new)] {
        notes.extend(image.notes.iter().map(|note| format!("{side}: {}", opened(note))));
    }
    let (old_side, new_side) = (side(old, found.old), side(new, found.new));
    Difference {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        counts: counts(found),
        packages: found.packages.as_ref().map(packages),
        parts: parts(&old_side, &new_side),
        directories: found
            .directories
            .iter()
            .map(|change| SizeChange { name: display(&change.path), old: change.old, new: change.new })
            .collect(),
        old: old_side,
        new: new_side,
        added: items(&new.system, &found.trees.added),
        removed: items(&old.system, &found.trees.removed),
        changed: found.trees.changed.iter().map(|pair| changed(&old.system, &new.system, pair)).collect(),
        moved: found
            .moved
            .iter()
            .map(|(from, to)| Moved {
                from: display(&from.path),
                to: display(&to.path),
                bytes: bytes(new.system.inode(to.id)),
            })
            .collect(),
        folded: found.folded.iter().map(|pair| folded(&old.system, &new.system, pair)).collect(),
        texts: found
            .texts
            .iter()
            .map(|text| TextDifference {
                path: text.path.clone(),
                diff: text.diff.clone(),
                truncated: text.truncated,
            })
            .collect(),
        tree: tree(old, new, found),
        notes,
        budgets: Vec::new(),
        growth: None,
    }
}

/// The directories of the new system with what each holds in both images.
fn tree(old: &Opened, new: &Opened, found: &compare::Difference) -> Directory {
    // Shares of compressed files are compared only if both are known.
    let (was, is) = found.shares.0.by_inode().zip(found.shares.1.by_inode()).unzip();
    let before = before(&old.system, &new.system, was, found);
    Directory::map(&new.system, is, Some(&before))
}

/// What the old image held of each inode of the new system: of the file that it was, and of a directory also the files that
/// are gone from it.
fn before(old: &Tree, new: &Tree, was: Option<&[f64]>, found: &compare::Difference) -> Before {
    let folded = found.folded.iter().map(|pair| (&pair.old.path, pair.new.id));
    let moved = found.moved.iter().map(|(from, to)| (&from.path, to.id));
    let renamed: HashMap<&[u8], InodeId> =
        folded.chain(moved).map(|(path, id)| (path.as_slice(), id)).collect();
    let place = |path: &[u8]| renamed.get(path).copied().or_else(|| new.resolve(path));
    let mut content = vec![0.0; new.inodes.len()];
    let mut stored = was.map(|_| content.clone());
    let mut seen = vec![false; old.inodes.len()];
    for entry in old.walk() {
        let size = bytes(old.inode(entry.id));
        if size == 0 || std::mem::replace(&mut seen[entry.id.0 as usize], true) {
            continue;
        }
        let mut path = entry.path.as_slice();
        let id = loop {
            // A file that is gone counts in the nearest of its directories that is still there.
            if let Some(id) = place(path) {
                break id;
            }
            match path.iter().rposition(|&byte| byte == b'/') {
                Some(end) => path = &path[..end],
                None => break new.root,
            }
        };
        content[id.0 as usize] += size as f64;
        if let (Some(stored), Some(was)) = (&mut stored, was) {
            stored[id.0 as usize] += was[entry.id.0 as usize];
        }
    }
    Before { content, stored }
}

/// The report of a verification of `new` against `old`.
#[must_use]
pub fn verification(old: &Opened, new: &Opened, found: &compare::Verification) -> Verification {
    let items = |items: &[compare::Item]| {
        let row = |item: &compare::Item| Item {
            path: item.path.clone(),
            kind: file_type(item.kind).into(),
            bytes: item.bytes,
        };
        items.iter().map(row).collect()
    };
    Verification {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        old: old.name.display().to_string(),
        new: new.name.display().to_string(),
        holds: found.holds(),
        compared: found.compared,
        bytes: found.bytes,
        additions: found
            .additions
            .iter()
            .map(|addition| Added { path: addition.path.clone(), why: addition.why.clone() })
            .collect(),
        appended: found.appended,
        missing: items(&found.missing),
        allowed: found.allowed.clone(),
        unexpected: items(&found.unexpected),
        changed: found.changed.iter().map(|pair| changed(&found.expected, new.whole(), pair)).collect(),
        notes: found.notes.iter().map(note).collect(),
    }
}

fn note(note: &Note) -> String {
    match note {
        Note::Image(note) => opened(note),
        Note::EarlyNotCompared => {
            "early segments were not compared: the new image is a bare file system image".into()
        }
        Note::EarlyFilesSeparate(files) => {
            format!(
                "{} in a segment of their own; the old image had them among other files",
                count(*files, "early file")
            )
        }
        Note::EarlySegmentsEqual(segments) => {
            format!("{} equal byte for byte", count(*segments, "early segment"))
        }
        Note::Expanded(done) => format!(
            "{} stored unpacked, {} instead of {}: each is what the original's unpacks to, unless listed as changed",
            count(done.modules, "kernel module"),
            size(done.unpacked),
            size(done.packed)
        ),
        Note::Btrfs(done) => format!(
            "btrfs: the checksums of {}, {} and {} of data are correct",
            count(done.superblocks, "superblock"),
            count(done.trees, "tree"),
            size(done.data)
        ),
        Note::Squashfs(files) => format!("squashfs: {} read completely", count(*files, "file")),
        Note::Damaged(error) => error.to_string(),
    }
}

fn side(image: &Opened, totals: Totals) -> Side {
    let machine = Machine::new(Kernel::TYPICAL, DEFAULT_CPUS);
    Side {
        image: ImageFile::from(image),
        verdict: Identity::from(image).verdict,
        entries: totals.paths,
        content: totals.content,
        ram: Facts::of(image, &machine.kernel).map(|facts| Ram::from(&facts.estimate(&machine))),
    }
}

fn folded(old: &Tree, new: &Tree, pair: &Folded) -> FoldedPath {
    FoldedPath {
        from: display(&pair.old.path),
        to: display(&pair.new.path),
        reason: pair.reason,
        old_bytes: bytes(old.inode(pair.old.id)),
        new_bytes: bytes(new.inode(pair.new.id)),
        same: pair.same,
    }
}

fn packages(found: &PackageComparison) -> PackageDifferences {
    let side = |side: &PackageSide| PackageVersion {
        version: side.version.clone(),
        bytes: side.bytes,
        image_bytes: side.image_bytes,
    };
    let mut all = PackageDifferences {
        changed: 0,
        added: 0,
        removed: 0,
        same: 0,
        sizes: found.sizes,
        list: Vec::new(),
    };
    for package in &found.packages {
        match (&package.old, &package.new) {
            (Some(old), Some(new)) if old.version == new.version => all.same += 1,
            (Some(_), Some(_)) => all.changed += 1,
            (None, _) => all.added += 1,
            (_, None) => all.removed += 1,
        }
        if package.old != package.new {
            let (old, new) = (package.old.as_ref().map(side), package.new.as_ref().map(side));
            all.list.push(PackageDifference { name: package.name.clone(), old, new });
        }
    }
    let change = |package: &PackageDifference| {
        let bytes = |side: &Option<PackageVersion>| side.as_ref().map_or(0, |side| side.image_bytes);
        bytes(&package.old).abs_diff(bytes(&package.new))
    };
    // Stable: equal changes stay in the order of names.
    all.list.sort_by_key(|package| std::cmp::Reverse(change(package)));
    all
}

fn counts(difference: &compare::Difference) -> Counts {
    let found = &difference.trees;
    let folded = |reason| difference.folded.iter().filter(|pair| pair.reason == reason).count() as u64;
    let mut counts = Counts {
        renamed: folded(Reason::Place),
        replaced: folded(Reason::Version),
        added: found.added.len() as u64,
        removed: found.removed.len() as u64,
        same: found.same,
        moved: difference.moved.len() as u64,
        ..Counts::default()
    };
    for pair in &found.changed {
        if pair.changes.iter().any(|change| change.aspect().is_weighty()) {
            counts.changed += 1;
        } else {
            counts.only_times += 1;
        }
        for change in &pair.changes {
            *match change.aspect() {
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
    let old = old.image.parts.iter().map(|part| (&part.name, part.bytes, 0));
    let new = new.image.parts.iter().map(|part| (&part.name, 0, part.bytes));
    for (name, was, is) in old.chain(new) {
        match list.iter_mut().find(|change| change.name == *name) {
            Some(change) => {
                change.old += was;
                change.new += is;
            }
            None => list.push(SizeChange { name: name.clone(), old: was, new: is }),
        }
    }
    list
}

fn items(tree: &Tree, entries: &[Entry]) -> Vec<Item> {
    let item = |entry: &Entry| {
        let inode = tree.inode(entry.id);
        Item { path: display(&entry.path), kind: file_type(FileType::of(inode)).into(), bytes: bytes(inode) }
    };
    entries.iter().map(item).collect()
}

fn changed(old: &Tree, new: &Tree, pair: &Pair) -> Changed {
    // The root has an empty path, which would show as nothing.
    let path = if pair.path.is_empty() { ".".to_owned() } else { display(&pair.path) };
    let (left, right) = (old.inode(pair.old), new.inode(pair.new));
    Changed {
        old_bytes: bytes(left),
        new_bytes: bytes(right),
        aspects: pair.changes.iter().map(|change| values(change, &path, left, right)).collect(),
        path,
    }
}

/// The values before and after a change.
fn values(change: &Change, path: &str, left: &Inode, right: &Inode) -> AspectChange {
    let (old, new) = match change {
        Change::Type => (file_type(FileType::of(left)).into(), file_type(FileType::of(right)).into()),
        Change::Content(at) if bytes(left) == bytes(right) => {
            (format!("{} bytes", bytes(left)), format!("differs from byte {at}"))
        }
        Change::Content(_) => (format!("{} bytes", bytes(left)), format!("{} bytes", bytes(right))),
        Change::Target => (target(left), target(right)),
        Change::Device => (device(left), device(right)),
        Change::Mode => (format!("{:04o}", left.mode), format!("{:04o}", right.mode)),
        Change::Owner => (format!("{}:{}", left.uid, left.gid), format!("{}:{}", right.uid, right.gid)),
        Change::LinkCount => (count(left.nlink.into(), "name"), count(right.nlink.into(), "name")),
        Change::Partners(old, new) => (partner(path, old), partner(path, new)),
        Change::Time => (time(left.mtime), time(right.mtime)),
    };
    AspectChange { aspect: change.aspect(), old, new }
}

fn partner(path: &str, first: &[u8]) -> String {
    let first = display(first);
    if first == path { "a separate file".to_owned() } else { format!("hard link to /{first}") }
}

fn target(inode: &Inode) -> String {
    match &inode.node {
        Node::Symlink(target) => display(target),
        _ => String::new(),
    }
}

fn device(inode: &Inode) -> String {
    match &inode.node {
        Node::CharDevice(device) | Node::BlockDevice(device) => format!("{}:{}", device.major, device.minor),
        _ => String::new(),
    }
}

fn bytes(inode: &Inode) -> u64 {
    match &inode.node {
        Node::Regular(content) => content.size,
        _ => 0,
    }
}

const fn file_type(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Directory => "directory",
        FileType::Regular => "file",
        FileType::Symlink => "symlink",
        FileType::CharDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
    }
}
