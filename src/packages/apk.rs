//! apk's database of installed packages (apk-package(5): `installed`).

use super::{Database, Found, Manager, Package, file, text};
use crate::error::Error;
use crate::tree::Tree;

/// Where it is: since apk 3 below /usr.
const PLACES: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

/// The packages of the database in `tree`, if it has one.
pub(super) fn read(tree: &Tree) -> Result<Vec<(Database, Vec<Found>)>, Error> {
    for path in PLACES {
        if let Some(bytes) = file(tree, path)? {
            let found = packages(&bytes);
            let count = found.len() as u64;
            let database = Database {
                manager: Manager::Apk,
                path: path.into(),
                packages: Some(count),
                with_files: count,
            };
            return Ok(vec![(database, found)]);
        }
    }
    Ok(Vec::new())
}

/// One paragraph a package: `P:` name, `V:` version, `A:` architecture, `F:` a directory, `R:` a file in it.
fn packages(bytes: &[u8]) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    let mut open = false;
    let mut directory: &[u8] = b"";
    for line in bytes.split(|&byte| byte == b'\n') {
        let Some((key, value)) = line.split_at_checked(2) else {
            open = false;
            continue;
        };
        if key == b"P:" || !open {
            let package = Package { name: String::new(), version: String::new(), architecture: None };
            all.push(Found { package, files: Some(Vec::new()) });
            directory = b"";
            open = true;
        }
        let Some(Found { package, files: Some(files) }) = all.last_mut() else { continue };
        match key {
            b"P:" => package.name = text(value),
            b"V:" => package.version = text(value),
            b"A:" => package.architecture = Some(text(value)),
            b"F:" => directory = value,
            b"R:" => files.push([directory, b"/", value].concat()),
            _ => {}
        }
    }
    all.retain(|found| !found.package.name.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_before_the_name_belong_to_the_package() {
        let found = packages(b"C:Q1x=\nP:a\nV:1\nF:\nR:init\nF:etc\nR:a\n\nC:Q1y=\nP:b\nV:2\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].files.as_ref().unwrap(), &[b"/init".to_vec(), b"etc/a".to_vec()]);
        assert_eq!((found[1].package.name.as_str(), found[1].package.version.as_str()), ("b", "2"));
    }
}
