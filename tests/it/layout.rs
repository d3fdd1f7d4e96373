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

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
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
        let found = violations(&order, &file);
        assert!(found.iter().any(|line| line.contains(&format!("uses {last},"))), "{bad}: {found:?}");
    }
}

/// Most lines of a function in src, its signature included.
const FUNCTION_LINES: usize = 80;
/// Most lines of a file in src.
const FILE_LINES: usize = 600;
/// Files and functions (`path` or `path: function`) that may be longer, each with its reason. Meant to be empty.
const LONG: [(&str, &str); 0] = [];

/// The Rust files in src by their paths inside it, with their text.
fn files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    rust_files(&source(), &mut paths);
    paths.sort();
    let name = |path: &PathBuf| path.strip_prefix(source()).unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The functions of a file that rustfmt formatted, with the number of lines of each.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words: Vec<&str> = code.split_whitespace().collect();
        let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
        let Some(at) = words.iter().position(|word| !qualifiers.contains(word)) else { continue };
        if words[at] != "fn" {
            continue;
        }
        let name = words[at + 1].split(['(', '<']).next().unwrap().to_owned();
        // A declaration, or a function on one line.
        if code.ends_with(';') || code.ends_with('}') {
            continue;
        }
        let indent = line.len() - code.len();
        // A declaration of which each argument has its line.
        let end = lines[start..].iter().find(|line| line.trim_start().starts_with(')'));
        if !code.contains(')') && end.is_some_and(|end| end.ends_with(';')) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let length =
            lines[start..].iter().position(|line| *line == closing).expect("rustfmt's closing brace");
        found.push((name, length + 1));
    }
    found
}

#[test]
fn functions_and_files_are_short() {
    let mut wrong = Vec::new();
    let allowed = |what: &str| LONG.iter().any(|(name, _)| *name == what);
    for (path, text) in files() {
        let lines = text.lines().count();
        if lines > FILE_LINES && !allowed(&path) {
            wrong.push(format!("src/{path}: {lines} lines, the limit is {FILE_LINES}"));
        }
        for (name, lines) in functions(&text) {
            if lines > FUNCTION_LINES && !allowed(&format!("{path}: {name}")) {
                wrong.push(format!("src/{path}: {name}: {lines} lines, the limit is {FUNCTION_LINES}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The count is right.
    let text = "impl X {\n    pub const fn f(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n}\nfn g() {}\nfn h(\n    b: u8,\n) -> u8;\n";
    assert_eq!(functions(text), [("f".to_owned(), 5)]);
}

/// Words of the image format, which the `contract` alone spells.
const CONTRACT: [&str; 4] = [".btrsquash/", "usr/lib/btrsquash", "squashfs.img", "LiveOS"];

/// The string literals of the code, outside comments and unit tests, that hold one of the words of the image format.
fn spelled(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.trim() == "#[cfg(test)]" && lines.get(number + 1).is_some_and(|l| l.contains("mod tests")) {
            break;
        }
        if line.trim_start().starts_with("//") {
            continue;
        }
        let literals = line.split('"').skip(1).step_by(2);
        if literals.into_iter().any(|text| CONTRACT.iter().any(|word| text.contains(word))) {
            found.push(number + 1);
        }
    }
    found
}

#[test]
fn only_the_contract_spells_the_image_format() {
    let mut wrong = Vec::new();
    for (path, text) in files() {
        let excepted =
            path.starts_with("contract/") || path.ends_with("tests.rs") || path == "report/samples.rs";
        if !excepted {
            wrong.extend(spelled(&text).iter().map(|line| format!("src/{path}:{line}")));
        }
    }
    assert!(wrong.is_empty(), "use the constants of src/contract instead:\n{}", wrong.join("\n"));
    assert_eq!(spelled("// \"LiveOS\"\nlet a = \"x/LiveOS/y\";\nlet b = \"z\";"), [2]);
}
