//! Which paths of an image are meant.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::Error;
use crate::tree::{Entry, Tree};

/// Patterns for paths. A pattern with a `/` is matched against the whole path, one without against the name alone, in
/// any directory. `*` and `?` do not match a `/`, `**` does. What matches a directory selects all that is below it.
#[derive(Debug, Clone)]
pub struct Selection {
    patterns: Vec<String>,
    globs: GlobSet,
}

impl Selection {
    /// The selection of `patterns`; none select everything.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if one is not a glob.
    pub fn new(patterns: &[String]) -> Result<Self, Error> {
        let wrong = |e: globset::Error| Error::usage("not a glob pattern").caused_by(e);
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let stripped = pattern.strip_prefix("./").unwrap_or(pattern);
            let rooted = stripped.starts_with('/') || stripped.trim_end_matches('/').contains('/');
            let bare = stripped.trim_matches('/');
            let glob = if rooted { bare.to_owned() } else { format!("**/{bare}") };
            set.add(GlobBuilder::new(&glob).literal_separator(true).build().map_err(wrong)?);
        }
        Ok(Self { patterns: patterns.to_vec(), globs: set.build().map_err(wrong)? })
    }

    /// Whether every path is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` itself matches (not only a directory above it).
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.globs.is_match(Path::new(OsStr::from_bytes(path)))
    }

    /// Whether `path` or a directory above it matches.
    #[must_use]
    pub fn covers(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| self.matches(&path[..end]))
    }

    /// The selected paths of `tree`, a directory before its content.
    ///
    /// # Errors
    /// [`crate::error::Kind::Failed`] if a pattern matches nothing.
    pub fn select(&self, tree: &Tree) -> Result<Vec<Entry>, Error> {
        if self.is_everything() {
            return Ok(tree.walk().collect());
        }
        let mut used = vec![false; self.patterns.len()];
        let mut hits = Vec::new();
        // The selected directory that the walk is in.
        let mut within: Option<Vec<u8>> = None;
        let mut found = Vec::new();
        for entry in tree.walk() {
            let path = Path::new(OsStr::from_bytes(&entry.path));
            self.globs.matches_into(path, &mut hits);
            for &hit in &hits {
                used[hit] = true;
            }
            let below = within.as_ref().is_some_and(|above| {
                above.is_empty()
                    || entry
                        .path
                        .strip_prefix(above.as_slice())
                        .is_some_and(|rest| rest.first() == Some(&b'/'))
            });
            if !below {
                within = None;
            }
            if below || !hits.is_empty() {
                if !below && tree.names(entry.id).is_some() {
                    within = Some(entry.path.clone());
                }
                found.push(entry);
            }
        }
        match used.iter().zip(&self.patterns).find(|(used, _)| !**used) {
            Some((_, pattern)) => Err(Error::failed(format!("nothing in the image matches '{pattern}'"))
                .hint("a pattern with a / has to match the whole path; ** matches any directories")),
            None => Ok(found),
        }
    }
}

/// `entries` and the directories above them, in the order of a walk.
#[must_use]
pub fn with_parents(tree: &Tree, entries: &[Entry]) -> Vec<Entry> {
    let mut wanted: HashSet<&[u8]> = HashSet::new();
    for entry in entries {
        let mut path = entry.path.as_slice();
        while wanted.insert(path) && !path.is_empty() {
            path = path.iter().rposition(|&byte| byte == b'/').map_or(&[][..], |at| &path[..at]);
        }
    }
    tree.walk().filter(|entry| wanted.contains(entry.path.as_slice())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::build::tree;
    use crate::tree::display;

    fn selected(patterns: &[&str]) -> Result<Vec<String>, Error> {
        let tree = tree(
            &[
                ("bin/sh", b""),
                ("etc/a.conf", b""),
                ("etc/a.conf.d/b.conf", b""),
                ("etc/a.conf.d/c", b""),
                ("etcetera", b""),
                ("usr/bin/sh", b""),
            ],
            &[],
        );
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let entries = Selection::new(&patterns)?.select(&tree)?;
        Ok(entries.iter().map(|entry| display(&entry.path)).collect())
    }

    #[test]
    fn patterns_select_as_documented() {
        assert_eq!(selected(&["sh"]).unwrap(), ["bin/sh", "usr/bin/sh"]);
        assert_eq!(selected(&["/bin/sh"]).unwrap(), ["bin/sh"]);
        assert_eq!(selected(&["./bin/*"]).unwrap(), ["bin/sh"]);
        assert_eq!(
            selected(&["etc"]).unwrap(),
            ["etc", "etc/a.conf", "etc/a.conf.d", "etc/a.conf.d/b.conf", "etc/a.conf.d/c"]
        );
        assert_eq!(selected(&["etc/*.conf"]).unwrap(), ["etc/a.conf"]);
        assert_eq!(selected(&["etc/**/*.conf"]).unwrap(), ["etc/a.conf", "etc/a.conf.d/b.conf"]);
        assert_eq!(selected(&["/etc/"]).unwrap().len(), 5);
        assert_eq!(selected(&["/"]).unwrap().len(), 12);
        assert_eq!(selected(&[]).unwrap().len(), 12);
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error() {
        let error = selected(&["sh", "nothing"]).unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Failed);
        assert!(error.what.contains("'nothing'"), "{error}");
        assert_eq!(selected(&["a[b"]).unwrap_err().kind, crate::error::Kind::Usage);
    }
}
