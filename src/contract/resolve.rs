//! Paths as a process finds them whose root directory is a given tree.

use std::borrow::Cow;

/// The most symbolic links that one lookup follows: MAXSYMLINKS of the kernel's include/linux/namei.h.
pub const MAX_SYMLINKS: usize = 40;

/// What a lookup meets at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met<'t, At> {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory(At),
    /// A symbolic link with this target.
    Symlink(At, Cow<'t, [u8]>),
    /// Anything else.
    Other(At),
}

/// A tree in which paths are looked up.
pub trait Lookup {
    /// An inode of the tree, in whatever way it is named.
    type At: Clone;
    /// Why a look failed.
    type Error;

    /// The root directory.
    fn root(&self) -> Self::At;

    /// What `name` is in the directory `at`.
    ///
    /// # Errors
    /// Those of reading the tree.
    fn look(&self, at: &Self::At, name: &[u8]) -> Result<Met<'_, Self::At>, Self::Error>;
}

/// The names from the root to an inode, each with what it names.
pub type Trail<'t, At> = Vec<(Cow<'t, [u8]>, At)>;

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved<E> {
    /// A name on the way is missing (ENOENT).
    Missing,
    /// A name on the way is not a directory (ENOTDIR).
    NotADirectory,
    /// There are more than [`MAX_SYMLINKS`] symbolic links on the way (ELOOP).
    TooManySymlinks,
    /// The tree cannot be read.
    Failed(E),
}

/// The names and inodes from the root to the end of `path`, by the rules of the kernel's fs/namei.c: an absolute symlink
/// starts at the root of the tree, and `..` never leaves it. The last name is followed if it is a symlink and either
/// `follow` is set or a `/` stands behind it. `steps` counts the names that were looked up: 40 links can lead through
/// 80,000.
///
/// openat2(2) has `RESOLVE_IN_ROOT` for this, but only since Linux 5.6.
///
/// # Errors
/// [`Unresolved`].
pub fn resolve<'t, L: Lookup>(
    tree: &'t L,
    path: &'t [u8],
    follow: bool,
    steps: &mut u64,
) -> Result<Trail<'t, L::At>, Unresolved<L::Error>> {
    let mut links = 0;
    let mut todo = Vec::new();
    parts(Cow::Borrowed(path), &mut todo);
    let mut trail: Trail<'t, L::At> = Vec::new();
    // Whether the end of the trail is a directory, which every further name needs.
    let mut directory = true;
    while let Some(part) = todo.pop() {
        *steps += 1;
        if !directory {
            return Err(Unresolved::NotADirectory);
        }
        match &*part {
            b"." => continue,
            b".." => {
                trail.pop();
                continue;
            }
            _ => {}
        }
        let at = trail.last().map_or_else(|| tree.root(), |(_, at)| at.clone());
        match tree.look(&at, &part).map_err(Unresolved::Failed)? {
            Met::Nothing => return Err(Unresolved::Missing),
            Met::Directory(at) => trail.push((part, at)),
            Met::Symlink(_, target) if follow || !todo.is_empty() => {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(Unresolved::TooManySymlinks);
                }
                if target.first() == Some(&b'/') {
                    trail.clear();
                }
                parts(target, &mut todo);
            }
            Met::Symlink(at, _) | Met::Other(at) => {
                trail.push((part, at));
                directory = false;
            }
        }
    }
    Ok(trail)
}

/// Puts the names of `path` onto `todo`, the first on top. A `/` at the end asks for a directory, as `.` does.
fn parts<'t>(path: Cow<'t, [u8]>, todo: &mut Vec<Cow<'t, [u8]>>) {
    if path.last() == Some(&b'/') {
        todo.push(Cow::Borrowed(b"."));
    }
    let is_name = |part: &&[u8]| !part.is_empty();
    match path {
        Cow::Borrowed(path) => {
            todo.extend(path.split(|&b| b == b'/').rev().filter(is_name).map(Cow::Borrowed));
        }
        Cow::Owned(path) => {
            todo.extend(
                path.split(|&b| b == b'/').rev().filter(is_name).map(|part| Cow::Owned(part.to_vec())),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    /// Paths and, for symlinks, targets; a path that ends in `/` is a directory.
    struct Small(BTreeMap<String, Option<&'static str>>);

    impl Lookup for Small {
        type At = String;
        type Error = Infallible;
        fn root(&self) -> String {
            String::new()
        }
        fn look(&self, at: &String, name: &[u8]) -> Result<Met<'_, String>, Infallible> {
            let path = format!("{at}/{}", String::from_utf8_lossy(name));
            Ok(match self.0.get(&path) {
                Some(Some(target)) => Met::Symlink(path, target.as_bytes().into()),
                Some(None) => Met::Other(path),
                None if self.0.contains_key(&format!("{path}/")) => Met::Directory(path),
                None => Met::Nothing,
            })
        }
    }

    fn small(entries: &[(&str, Option<&'static str>)]) -> Small {
        Small(entries.iter().map(|(path, target)| ((*path).to_owned(), *target)).collect())
    }

    fn at(tree: &Small, path: &str) -> Result<String, Unresolved<Infallible>> {
        let trail = resolve(tree, path.as_bytes(), true, &mut 0)?;
        Ok(trail.last().map(|(_, at)| at.clone()).unwrap_or_default())
    }

    #[test]
    fn links_stay_inside_the_tree() {
        let tree = small(&[
            ("/only-here/", None),
            ("/only-here/bin/", None),
            ("/only-here/bin/init", None),
            ("/only-here/text", None),
            ("/sbin", Some("/only-here/bin")),
            ("/up", Some("../../../only-here")),
            ("/first", Some("/sbin/init")),
            ("/round", Some("round")),
            ("/lost", Some("/nowhere")),
        ]);
        let found = |path: &str| at(&tree, path);
        assert_eq!(found("/first"), Ok("/only-here/bin/init".into()));
        assert_eq!(found("sbin/../bin/init"), Ok("/only-here/bin/init".into()));
        assert_eq!(found("up/text"), Ok("/only-here/text".into()));
        assert_eq!(found("/../.."), Ok(String::new()));
        assert_eq!(found("lost"), Err(Unresolved::Missing));
        assert_eq!(found("first/.."), Err(Unresolved::NotADirectory));
        assert_eq!(found("first/"), Err(Unresolved::NotADirectory));
        assert_eq!(found("round/x"), Err(Unresolved::TooManySymlinks));
        let link = resolve(&tree, b"first", false, &mut 0).unwrap();
        assert_eq!(link.last().map(|(_, at)| at.as_str()), Some("/first"));
    }

    #[test]
    fn forty_links_are_followed_and_no_more() {
        let mut tree = small(&[("/end", None)]);
        let targets: Vec<&'static str> = (1..=41)
            .map(|n| if n == 1 { "end" } else { Box::leak(format!("l{}", n - 1).into_boxed_str()) })
            .collect();
        for (number, target) in targets.into_iter().enumerate() {
            tree.0.insert(format!("/l{}", number + 1), Some(target));
        }
        assert_eq!(at(&tree, "l40"), Ok("/end".into()));
        assert_eq!(at(&tree, "l41"), Err(Unresolved::TooManySymlinks));
    }
}
