//! The house: each module uses only those that src/lib.rs declares before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules that may use a later one: `(module, later module, reason)`. Empty, and meant to stay so.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules of src/lib.rs in their order.
fn declared() -> Vec<String> {
    let text = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that `text` names by `crate::`, with the line: paths in code, and both forms of `use`. Unit tests are left
/// out: they may build their input with any part of the library.
fn used(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]"
            && text.lines().nth(number + 1).is_some_and(|next| next.contains("mod tests {"))
        {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let names = rest.strip_prefix('{').map_or(rest, |list| list);
            for name in names.split(',') {
                let name: String =
                    name.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if !name.is_empty() {
                    found.push((number + 1, name));
                }
                if !rest.starts_with('{') {
                    break;
                }
            }
        }
    }
    found
}

/// Every use of a later module by an earlier one.
fn violations(order: &[String], files: &[(PathBuf, String)]) -> Vec<String> {
    let rank: BTreeMap<&str, usize> =
        order.iter().enumerate().map(|(rank, name)| (name.as_str(), rank)).collect();
    let mut wrong = Vec::new();
    for (path, text) in files {
        let top = path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = top.strip_suffix(".rs").unwrap_or(&top);
        let Some(&own) = rank.get(module) else { continue };
        let test_file = path.file_name().is_some_and(|name| name == "tests.rs" || name == "build.rs");
        if test_file {
            continue;
        }
        for (line, name) in used(text) {
            let Some(&other) = rank.get(name.as_str()) else { continue };
            let excepted = EXCEPTIONS.iter().any(|(from, to, _)| *from == module && *to == name);
            if other > own && !excepted {
                wrong.push(format!("src/{}:{line}: {module} uses {name}, which comes later", path.display()));
            }
        }
    }
    wrong
}

#[test]
fn modules_use_only_earlier_ones() {
    let order = declared();
    assert!(order.len() > 15, "src/lib.rs is not understood: {order:?}");
    let mut paths = Vec::new();
    rust_files(&source(), &mut paths);
    paths.sort();
    let files: Vec<(PathBuf, String)> = paths
        .iter()
        .map(|path| (path.strip_prefix(source()).unwrap().to_owned(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let wrong = violations(&order, &files);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The test finds a wrong import where there is one, in each way to write it.
    let (first, last) = (&order[0], &order[order.len() - 1]);
    for bad in [
        format!("use crate::{last}::X;"),
        format!("use crate::{{error, {last}}};"),
        format!("let x = crate::{last}::f();"),
    ] {
        let file = [(PathBuf::from(format!("{first}/mod.rs")), bad.clone())];
        assert_eq!(violations(&order, &file).len(), 1, "{bad}");
    }
}
