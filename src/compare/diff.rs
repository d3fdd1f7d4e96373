//! What differs between two images: totals, directories, files.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::fold::{Folded, Reason, fold};
use super::moves::moves;
use super::packages::{PackageComparison, packages};
use super::text::{TEXT_LIMIT, TextDifference, text_difference};
use super::{Aspect, Pair, ReadOrder, TreeDifference, bytes, trees_where, walk_order};
use crate::error::Error;
use crate::extract::Selection;
use crate::image::Opened;
use crate::packages::{PackageMap, Shares};
use crate::tree::{Entry, InodeId, Node, Tree, display};

/// Levels of directories whose sizes are compared.
const DEPTH: usize = 4;
/// Bytes of all unified diffs together that are kept.
const TEXTS: usize = 16 << 20;

/// What a comparison is to show.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// Whether to show what changed inside text files.
    pub text: bool,
    /// Whether paths that a release renames count as removed and added.
    pub no_fold: bool,
    /// Properties whose differences do not count.
    pub ignore: Vec<Aspect>,
    /// The only paths to compare.
    pub only: Option<Selection>,
    /// Paths not to compare.
    pub exclude: Option<Selection>,
    /// The files of packages whose lists the images do not have.
    pub package_map: Option<PackageMap>,
}

/// How much one image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Paths, the root not counted.
    pub paths: u64,
    /// Bytes of all content, each file counted once.
    pub content: u64,
}

/// A directory whose size differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeChange {
    /// Its path, without a leading `/`.
    pub path: Vec<u8>,
    /// Bytes before.
    pub old: u64,
    /// Bytes after.
    pub new: u64,
}

/// What [`diff`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// How much the old image holds.
    pub old: Totals,
    /// How much the new image holds.
    pub new: Totals,
    /// The paths that differ.
    pub trees: TreeDifference,
    /// What a release renamed ([`Reason::Place`]), which is in none of the lists of `trees`, and what another version
    /// replaced ([`Reason::Version`]), which is among both the removed and the added: the old file is gone.
    pub folded: Vec<Folded>,
    /// Bytes of the old and of the new image that hold each of their files.
    pub shares: (Shares, Shares),
    /// The packages of both; `None` if neither has a package database.
    pub packages: Option<PackageComparison>,
    /// Pairs of a removed and an added path that are one file.
    pub moved: Vec<(Entry, Entry)>,
    /// Directories whose size differs, the largest change first.
    pub directories: Vec<SizeChange>,
    /// How text files differ, if that was requested.
    pub texts: Vec<TextDifference>,
    /// Whether more text files differ than are in `texts`.
    pub more_texts: bool,
}

/// Compares two images.
///
/// # Errors
/// If a content cannot be read.
pub fn diff(old: &Opened, new: &Opened, options: &DiffOptions) -> Result<Difference, Error> {
    // The image whose blocks are large when they are unpacked decides the order.
    let order = if new.layers.is_empty() { ReadOrder::Old } else { ReadOrder::New };
    let wanted = |path: &[u8]| {
        options.only.as_ref().is_none_or(|only| only.covers(path))
            && !options.exclude.as_ref().is_some_and(|exclude| exclude.covers(path))
    };
    let mut trees = trees_where(&old.system, &new.system, order, &wanted)?;
    ignore(&mut trees, &options.ignore);
    let folded = if options.no_fold {
        Vec::new()
    } else {
        fold((&old.system, &mut trees.removed), (&new.system, &mut trees.added), order)?
    };
    let moved = moves(&old.system, &new.system, &trees)?;
    for pair in folded.iter().filter(|pair| pair.reason == Reason::Version) {
        trees.removed.push(pair.old.clone());
        trees.added.push(pair.new.clone());
    }
    for list in [&mut trees.removed, &mut trees.added] {
        list.sort_by(|a, b| walk_order(&a.path, &b.path));
    }
    let (texts, more_texts) = if options.text { texts(old, new, &trees)? } else { (Vec::new(), false) };
    let shares = (Shares::of(old), Shares::of(new));
    Ok(Difference {
        old: totals(&old.system),
        new: totals(&new.system),
        packages: packages((old, &shares.0), (new, &shares.1), options.package_map.as_ref())?,
        shares,
        folded,
        moved,
        directories: directories(&old.system, &new.system),
        texts,
        more_texts,
        trees,
    })
}

/// Takes the differences in `aspects` out of `found`; a path without any other is the same.
fn ignore(found: &mut TreeDifference, aspects: &[Aspect]) {
    found.changed.retain_mut(|pair| {
        pair.changes.retain(|change| !aspects.contains(&change.aspect()));
        found.same += u64::from(pair.changes.is_empty());
        !pair.changes.is_empty()
    });
}

fn totals(tree: &Tree) -> Totals {
    let mut seen = HashSet::new();
    let mut totals = Totals { paths: 0, content: 0 };
    for entry in tree.walk().skip(1) {
        totals.paths += 1;
        if seen.insert(entry.id) {
            totals.content += bytes(tree.inode(entry.id));
        }
    }
    totals
}

/// Bytes below each directory that is not too deep. A file with several names counts where its first name is.
fn sizes(tree: &Tree) -> BTreeMap<Vec<u8>, u64> {
    let mut sums: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut seen: HashSet<InodeId> = HashSet::new();
    for entry in tree.walk() {
        let size = bytes(tree.inode(entry.id));
        if size == 0 || !seen.insert(entry.id) {
            continue;
        }
        let parents = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in parents.take(DEPTH) {
            *sums.entry(entry.path[..end].to_vec()).or_default() += size;
        }
    }
    sums
}

/// Directories whose size differs, the largest change first.
fn directories(old: &Tree, new: &Tree) -> Vec<SizeChange> {
    let (old, new) = (sizes(old), sizes(new));
    let paths: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    let size = |of: &BTreeMap<Vec<u8>, u64>, path: &Vec<u8>| of.get(path).copied().unwrap_or(0);
    let mut list: Vec<SizeChange> = paths
        .into_iter()
        .map(|path| SizeChange { path: path.clone(), old: size(&old, path), new: size(&new, path) })
        .filter(|change| change.old != change.new)
        .collect();
    list.sort_by(|a, b| b.old.abs_diff(b.new).cmp(&a.old.abs_diff(a.new)).then_with(|| a.path.cmp(&b.path)));
    list
}

/// How text files differ, and whether more of them do.
fn texts(old: &Opened, new: &Opened, found: &TreeDifference) -> Result<(Vec<TextDifference>, bool), Error> {
    let (mut list, mut size) = (Vec::new(), 0);
    for pair in found.changed.iter().filter(|pair| pair.differs(Aspect::Content)) {
        let (Some(was), Some(is)) = (text(&old.system, pair.old, pair)?, text(&new.system, pair.new, pair)?)
        else {
            continue;
        };
        let Some(difference) = text_difference(&pair.path, &was, &is) else { continue };
        size += difference.diff.len();
        if size > TEXTS {
            return Ok((list, true));
        }
        list.push(difference);
    }
    Ok((list, false))
}

fn text(tree: &Tree, id: InodeId, pair: &Pair) -> Result<Option<Vec<u8>>, Error> {
    if !matches!(tree.inode(id).node, Node::Regular(_)) {
        return Ok(None);
    }
    tree.read(id, TEXT_LIMIT)
        .map_err(|e| Error::input(format!("/{}: content cannot be read", display(&pair.path))).caused_by(e))
}
