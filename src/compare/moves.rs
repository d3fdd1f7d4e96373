//! Moves: a removed and an added path that are one file.

use std::collections::{BTreeMap, BTreeSet};

use super::TreeDifference;
use crate::error::Error;
use crate::tree::{Entry, Node, Tree, content};

/// Pairs of (removed, added) regular files with the same content: those with the same name first, then those for
/// which there is no other choice. Empty files are left out; only files whose size occurs on both sides are hashed.
///
/// # Errors
/// If a content cannot be read.
pub(super) fn moves(old: &Tree, new: &Tree, found: &TreeDifference) -> Result<Vec<(Entry, Entry)>, Error> {
    let sizes = |tree: &Tree, entries: &[Entry]| -> BTreeSet<u64> {
        entries.iter().map(|e| super::bytes(tree.inode(e.id))).filter(|&size| size > 0).collect()
    };
    let both: BTreeSet<u64> =
        sizes(old, &found.removed).intersection(&sizes(new, &found.added)).copied().collect();
    let mut groups: BTreeMap<[u8; 32], (Vec<&Entry>, Vec<&Entry>)> = BTreeMap::new();
    for (hash, entry) in hashes(old, &found.removed, &both)? {
        groups.entry(hash).or_default().0.push(entry);
    }
    for (hash, entry) in hashes(new, &found.added, &both)? {
        if let Some(group) = groups.get_mut(&hash) {
            group.1.push(entry);
        }
    }
    let mut pairs: Vec<(Entry, Entry)> = Vec::new();
    for (mut removed, mut added) in groups.into_values() {
        let mut by_name: BTreeMap<&[u8], (Vec<&Entry>, Vec<&Entry>)> = BTreeMap::new();
        for &entry in &removed {
            by_name.entry(name(&entry.path)).or_default().0.push(entry);
        }
        for &entry in &added {
            by_name.entry(name(&entry.path)).or_default().1.push(entry);
        }
        for (from, to) in by_name.into_values() {
            if let ([from], [to]) = (from.as_slice(), to.as_slice()) {
                pairs.push(((*from).clone(), (*to).clone()));
                removed.retain(|entry| entry.path != from.path);
                added.retain(|entry| entry.path != to.path);
            }
        }
        if let ([from], [to]) = (removed.as_slice(), added.as_slice()) {
            pairs.push(((*from).clone(), (*to).clone()));
        }
    }
    pairs.sort_by(|a, b| super::walk_order(&a.0.path, &b.0.path));
    Ok(pairs)
}

/// Hashes of those entries that are regular files of one of `sizes`, read in the order in which they are stored.
fn hashes<'a>(
    tree: &Tree,
    entries: &'a [Entry],
    sizes: &BTreeSet<u64>,
) -> Result<Vec<([u8; 32], &'a Entry)>, Error> {
    let mut work: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &tree.inode(entry.id).node {
            Node::Regular(content) if sizes.contains(&content.size) => Some((content, entry)),
            _ => None,
        })
        .collect();
    work.sort_by_key(|(content, _)| content::place(content));
    let mut buffers = content::Buffers::new();
    work.into_iter()
        .map(|(content, entry)| Ok((content::hash(tree, content, &entry.path, &mut buffers)?, entry)))
        .collect()
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}
