//! dpkg's database (dpkg-query(1), deb-diversions), and those made like it: udpkg's, opkg's, distroless images'.

use std::collections::HashMap;

use super::{Database, Found, Manager, Package, file, read as read_file, text};
use crate::error::Error;
use crate::tree::Tree;

/// Where databases are, and whose.
const PLACES: [(Manager, &str); 3] =
    [(Manager::Dpkg, "var/lib/dpkg"), (Manager::Opkg, "usr/lib/opkg"), (Manager::Opkg, "var/lib/opkg")];

/// The fields of a paragraph of a control file that count here.
#[derive(Default)]
struct Fields {
    name: String,
    version: String,
    architecture: Option<String>,
    /// The last word of Status: `installed`, `config-files`, …
    state: Option<String>,
}

/// The paragraphs of a control file (deb822(5)).
fn paragraphs(bytes: &[u8]) -> Vec<Fields> {
    let mut all = Vec::new();
    let mut fields = Fields::default();
    for line in bytes.split(|&byte| byte == b'\n').chain([&b""[..]]) {
        if line.trim_ascii().is_empty() {
            let done = std::mem::take(&mut fields);
            if !done.name.is_empty() {
                all.push(done);
            }
            continue;
        }
        let Some(colon) =
            line.iter().position(|&byte| byte == b':').filter(|_| !line[0].is_ascii_whitespace())
        else {
            continue;
        };
        let value = text(&line[colon + 1..]);
        match &line[..colon] {
            b"Package" => fields.name = value,
            b"Version" => fields.version = value,
            b"Architecture" => fields.architecture = Some(value),
            b"Status" => fields.state = value.split_whitespace().last().map(str::to_owned),
            _ => {}
        }
    }
    all
}

/// The one package that a control file describes.
pub(super) fn control(bytes: &[u8]) -> Option<Package> {
    let fields = paragraphs(bytes).into_iter().next()?;
    Some(Package { name: fields.name, version: fields.version, architecture: fields.architecture })
}

/// Paths that a package's files were moved to because another package diverts them: path to (new path, who diverts).
fn diversions(bytes: &[u8]) -> HashMap<Vec<u8>, (Vec<u8>, String)> {
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let groups = lines.chunks_exact(3);
    groups.map(|group| (group[0].to_vec(), (group[1].to_vec(), text(group[2])))).collect()
}

/// The packages of every database of this kind in `tree`.
pub(super) fn read(tree: &Tree) -> Result<Vec<(Database, Vec<Found>)>, Error> {
    let mut all = Vec::new();
    let mut seen = Vec::new();
    for (manager, place) in PLACES {
        let Some(id) = tree.resolve(place).filter(|id| !seen.contains(id)) else { continue };
        seen.push(id);
        let mut found = Vec::new();
        let status = format!("{place}/status");
        let main = file(tree, &status)?;
        if let Some(bytes) = &main {
            installed(tree, place, bytes, &mut found)?;
        }
        let directory = format!("{place}/status.d");
        let before = found.len();
        distroless(tree, &directory, &mut found)?;
        if main.is_none() && found.is_empty() {
            continue;
        }
        let path = if before == 0 && !found.is_empty() { directory } else { status };
        let with_files = found.iter().filter(|found| found.files.is_some()).count() as u64;
        all.push((Database { manager, path, packages: Some(found.len() as u64), with_files }, found));
    }
    Ok(all)
}

/// The installed packages of a status file, with their `info/NAME[:ARCH].list`.
fn installed(tree: &Tree, place: &str, status: &[u8], found: &mut Vec<Found>) -> Result<(), Error> {
    let diverted = diversions(&file(tree, &format!("{place}/diversions"))?.unwrap_or_default());
    for fields in paragraphs(status) {
        // A package that was removed, or was never there.
        if matches!(fields.state.as_deref(), Some("config-files" | "not-installed")) {
            continue;
        }
        let Fields { name, version, architecture, .. } = fields;
        let qualified = architecture.as_ref().map(|arch| format!("{place}/info/{name}:{arch}.list"));
        let mut list = None;
        for path in [Some(format!("{place}/info/{name}.list")), qualified].into_iter().flatten() {
            if list.is_none() {
                list = file(tree, &path)?;
            }
        }
        let files = list.map(|bytes| {
            let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            // opkg writes mode and target after a tab.
            let paths = lines.map(|line| line.split(|&byte| byte == b'\t').next().unwrap_or(line));
            let moved = |path: &[u8]| match diverted.get(path) {
                Some((to, by)) if *by != name => to.clone(),
                _ => path.to_vec(),
            };
            paths.map(moved).collect()
        });
        found.push(Found { package: Package { name, version, architecture }, files });
    }
    Ok(())
}

/// `status.d`: a control file for each package, and next to it the checksums of its files.
fn distroless(tree: &Tree, directory: &str, found: &mut Vec<Found>) -> Result<(), Error> {
    let Some(names) = tree.resolve(directory).and_then(|id| tree.names(id)) else { return Ok(()) };
    for (name, &id) in names.iter().filter(|(name, _)| !name.ends_with(b".md5sums")) {
        let path = format!("{directory}/{}", text(name));
        let Some(package) = read_file(tree, id, &path)?.as_deref().and_then(control) else { continue };
        let sums = [name, &b".md5sums"[..]].concat();
        let sums = match names.get(sums.as_slice()) {
            Some(&id) => read_file(tree, id, &format!("{path}.md5sums"))?,
            None => None,
        };
        let files = sums.map(|bytes| {
            let lines = bytes.split(|&byte| byte == b'\n');
            // 32 digits, two blanks, the path.
            lines.filter_map(|line| line.get(34..).map(<[u8]>::to_vec)).collect()
        });
        found.push(Found { package, files });
    }
    Ok(())
}
