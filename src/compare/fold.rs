//! What a release does to paths: the same file under another name. A merged /usr, the kernel's release in paths,
//! compressed kernel modules, the versions of Python, Perl and shared libraries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FileType, ReadOrder};
use crate::error::Error;
use crate::tree::{Entry, Node, Tree, content};

/// Directories that a merged /usr has below /usr.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What stands in a key for a version.
const ANY: char = '#';

/// Why a path of the old image has another name in the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A merged /usr, another kernel release, or kernel modules compressed in another way.
    Place,
    /// Another version of a shared library, of Python or of Perl.
    Version,
}

/// A removed and an added path that are one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The path in the old image.
    pub old: Entry,
    /// The path in the new image.
    pub new: Entry,
    /// Why they are not the same path.
    pub reason: Reason,
    /// Whether both have the same content or target.
    pub same: bool,
}

/// Takes the pairs out of `removed` and `added` whose paths differ only in what a release changes. A path that could be
/// paired in more than one way stays.
pub(super) fn fold(
    (old, removed): (&Tree, &mut Vec<Entry>),
    (new, added): (&Tree, &mut Vec<Entry>),
    order: ReadOrder,
) -> Result<Vec<Folded>, Error> {
    let mut folded = pairs((old, removed), (new, added), Reason::Place);
    folded.extend(pairs((old, removed), (new, added), Reason::Version));
    compare(old, new, &mut folded, order)?;
    folded.sort_by(|a, b| super::walk_order(&a.new.path, &b.new.path));
    Ok(folded)
}

/// Compares contents in the order in which they are stored.
fn compare(old: &Tree, new: &Tree, folded: &mut [Folded], order: ReadOrder) -> Result<(), Error> {
    let place = |pair: &Folded| {
        let inode = if order == ReadOrder::Old { old.inode(pair.old.id) } else { new.inode(pair.new.id) };
        if let Node::Regular(content) = &inode.node { content::place(content) } else { 0 }
    };
    folded.sort_by_key(place);
    let mut buffers = content::Buffers::new();
    for pair in folded {
        pair.same = match (&old.inode(pair.old.id).node, &new.inode(pair.new.id).node) {
            (Node::Regular(left), Node::Regular(right)) => {
                left.size == right.size
                    && content::first_difference((old, left), (new, right), &pair.new.path, &mut buffers)?
                        .is_none()
            }
            (Node::Directory(_), Node::Directory(_)) => true,
            (left, right) => left == right,
        };
    }
    Ok(())
}

/// The pairs that have one key for `reason`.
fn pairs(
    (old, removed): (&Tree, &mut Vec<Entry>),
    (new, added): (&Tree, &mut Vec<Entry>),
    reason: Reason,
) -> Vec<Folded> {
    let keys = |tree: &Tree, entries: &[Entry]| -> Vec<Option<(FileType, String)>> {
        let releases = releases(tree);
        let key =
            |entry: &Entry| Some((FileType::of(tree.inode(entry.id)), key(&entry.path, &releases, reason)?));
        entries.iter().map(key).collect()
    };
    let (old_keys, new_keys) = (keys(old, removed), keys(new, added));
    // For each key the place of its one path in either list; more than one is none.
    let mut places: BTreeMap<&(FileType, String), (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (at, key) in old_keys.iter().enumerate().filter_map(|(at, key)| Some((at, key.as_ref()?))) {
        places.entry(key).or_default().0.push(at);
    }
    for (at, key) in new_keys.iter().enumerate().filter_map(|(at, key)| Some((at, key.as_ref()?))) {
        places.entry(key).or_default().1.push(at);
    }
    let mut folded = Vec::new();
    let (mut old_taken, mut new_taken) = (vec![false; removed.len()], vec![false; added.len()]);
    for (from, to) in places.into_values() {
        if let ([from], [to]) = (from.as_slice(), to.as_slice()) {
            let (old, new) = (removed[*from].clone(), added[*to].clone());
            folded.push(Folded { old, new, reason, same: false });
            old_taken[*from] = true;
            new_taken[*to] = true;
        }
    }
    keep_others(removed, &old_taken);
    keep_others(added, &new_taken);
    folded
}

fn keep_others(entries: &mut Vec<Entry>, taken: &[bool]) {
    let mut taken = taken.iter();
    entries.retain(|_| taken.next() != Some(&true));
}

/// The kernel releases that have modules in `tree`.
fn releases(tree: &Tree) -> Vec<String> {
    let mut all: Vec<String> = ["lib/modules", "usr/lib/modules"]
        .iter()
        .filter_map(|path| tree.names(tree.resolve(path)?))
        .flat_map(|names| names.keys())
        .filter_map(|name| String::from_utf8(name.to_vec()).ok())
        .collect();
    // The longest first: one may start with another.
    all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    all.dedup();
    all
}

/// What the paths of one file have in common across releases; `None` for a path that is not text.
fn key(path: &[u8], releases: &[String], reason: Reason) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if MERGED.contains(&parts[0].as_str()) {
        parts.insert(0, "usr".into());
    }
    for at in 0..parts.len() {
        let below_perl = at > 0 && matches!(parts[at - 1].as_str(), "perl" | "perl5" | "perl-base");
        parts[at] = place(&parts[at], releases);
        if reason == Reason::Version {
            parts[at] = version(&parts[at], below_perl);
        }
    }
    Some(parts.join("/"))
}

/// A name without what says in which place or form the file is.
fn place(name: &str, releases: &[String]) -> String {
    let mut name = name.to_owned();
    if let Some(release) = releases.iter().find(|release| name.contains(release.as_str())) {
        name = name.replacen(release.as_str(), "#", 1);
    }
    for suffix in [".xz", ".zst", ".gz"] {
        if let Some(bare) = name.strip_suffix(suffix).filter(|bare| bare.ends_with(".ko")) {
            name = bare.to_owned();
        }
    }
    name
}

/// A name without the version that it states.
fn version(name: &str, below_perl: bool) -> String {
    let mut name = name.to_owned();
    if below_perl && is_version(&name) {
        return ANY.to_string();
    }
    for prefix in ["python", "perl", "cpython-"] {
        if let Some(at) = name.find(prefix) {
            name = without_version(&name, at + prefix.len());
        }
    }
    // libfoo.so.1.2.3: each number for itself, so that libfoo.so.1 and libfoo.so.1.2 stay apart.
    if let Some(at) = name.find(".so.") {
        let (head, numbers) = name.split_at(at + 4);
        if is_version(numbers) {
            let numbers: Vec<&str> = numbers.split('.').map(|_| "#").collect();
            return format!("{head}{}", numbers.join("."));
        }
    }
    // libfoo-1.2.so
    if let Some((head, version)) = name.strip_suffix(".so").and_then(|bare| bare.rsplit_once('-'))
        && is_version(version)
    {
        return format!("{head}-{ANY}.so");
    }
    name
}

fn is_version(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `name` with `#` instead of the digits and dots at byte `at`, if there are digits.
fn without_version(name: &str, at: usize) -> String {
    let (head, rest) = name.split_at(at);
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    // A dot at the end belongs to what follows: python3.11.pc.
    let version = rest[..end].trim_end_matches('.');
    if version.is_empty() { name.to_owned() } else { format!("{head}{ANY}{}", &rest[version.len()..]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::build::tree;
    use crate::tree::display;

    fn same(old: &str, new: &str) -> bool {
        let releases = ["6.1.0-50-amd64".into(), "6.12.117+deb13-amd64".into()];
        let key = |path: &str| key(path.as_bytes(), &releases, Reason::Version);
        key(old) == key(new)
    }

    #[test]
    fn one_file_has_one_key_in_each_release() {
        for (old, new) in [
            ("bin/busybox", "usr/bin/busybox"),
            (
                "lib/modules/6.1.0-50-amd64/kernel/fs/ext4/ext4.ko",
                "usr/lib/modules/6.12.117+deb13-amd64/kernel/fs/ext4/ext4.ko.xz",
            ),
            ("boot/vmlinuz-6.1.0-50-amd64", "boot/vmlinuz-6.12.117+deb13-amd64"),
            ("usr/lib/python3.11/os.py", "usr/lib/python3.13/os.py"),
            (
                "usr/lib/python3/x/__pycache__/a.cpython-311.pyc",
                "usr/lib/python3/x/__pycache__/a.cpython-313.pyc",
            ),
            ("usr/lib/x86_64-linux-gnu/perl/5.36.0/a.pm", "usr/lib/x86_64-linux-gnu/perl/5.40.1/a.pm"),
            ("usr/bin/perl5.36.0", "usr/bin/perl5.40.1"),
            ("usr/lib/libicuuc.so.72.1", "usr/lib/libicuuc.so.76.1"),
            ("lib/libbfd-2.40.so", "usr/lib/libbfd-2.44.so"),
        ] {
            assert!(same(old, new), "{old} {new}");
        }
        for (one, other) in [
            ("usr/lib/libz.so.1", "usr/lib/libz.so.1.2"),
            ("usr/share/a1.ttf", "usr/share/a2.ttf"),
            ("etc/bin/a", "etc/usr/bin/a"),
            ("usr/share/doc/python-doc", "usr/share/doc/python"),
            ("a.gz", "a.xz"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn only_what_can_be_paired_in_one_way_is_folded() {
        let old = tree(
            &[("bin/sh", b"1"), ("lib/libz.so.1", b""), ("lib/libz.so.2", b""), ("etc/old", b"")],
            &[("bin/link", "sh")],
        );
        let new = tree(
            &[
                ("usr/bin/sh", b"2"),
                ("usr/lib/libz.so.3", b""),
                ("usr/bin/link", b"now a file"),
                ("etc/new", b""),
            ],
            &[],
        );
        let mut removed: Vec<Entry> = old.walk().filter(|entry| new.get(&entry.path).is_none()).collect();
        let mut added: Vec<Entry> = new.walk().filter(|entry| old.get(&entry.path).is_none()).collect();
        let folded = fold((&old, &mut removed), (&new, &mut added), ReadOrder::New).unwrap();
        let same: Vec<bool> = folded.iter().map(|pair| pair.same).collect();
        assert_eq!(same, [true, false, true]);
        let pairs: Vec<String> = folded
            .iter()
            .map(|pair| format!("{} {}", display(&pair.old.path), display(&pair.new.path)))
            .collect();
        assert_eq!(pairs, ["bin usr/bin", "bin/sh usr/bin/sh", "lib usr/lib"]);
        let paths = |entries: &[Entry]| -> Vec<String> { entries.iter().map(|e| display(&e.path)).collect() };
        assert_eq!(paths(&removed), ["bin/link", "etc/old", "lib/libz.so.1", "lib/libz.so.2"]);
        assert_eq!(paths(&added), ["etc/new", "usr", "usr/bin/link", "usr/lib/libz.so.3"]);
    }
}
