//! The files of packages whose lists an image does not have, as the Debian installer's: taken from the packages
//! themselves and kept in a JSON file.

use std::collections::HashMap;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dpkg;
use crate::bytes::{open_regular, read_regular};
use crate::error::Error;
use crate::kernel::archive;
use crate::tree::display;

/// The files of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, if stated.
    pub architecture: Option<String>,
    /// Its regular files, without a leading `/`.
    pub files: Vec<String>,
}

/// A package map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageMap {
    /// 1.
    pub schema_version: u32,
    /// The packages, by name and version.
    pub packages: Vec<MappedPackage>,
}

impl Default for PackageMap {
    fn default() -> Self {
        Self { schema_version: 1, packages: Vec::new() }
    }
}

/// The largest map that is read, in bytes.
const MAX_MAP: u64 = 256 << 20;

fn mapped(path: &Path) -> Result<MappedPackage, Error> {
    let open = || {
        let file =
            open_regular(path).map_err(|e| Error::usage("cannot be opened").caused_by(e).file(path))?;
        Ok(BufReader::with_capacity(256 << 10, file))
    };
    let control = archive::control(open()?).map_err(|e| e.file(path))?;
    let package = dpkg::control(&control)
        .ok_or_else(|| Error::input("the package's control file does not name it").file(path))?;
    let mut files = Vec::new();
    archive::package(open()?, &mut |path, _, _| {
        let path = display(path);
        files.push(path.trim_start_matches("./").trim_start_matches('/').to_owned());
        Ok(ControlFlow::Continue(()))
    })
    .map_err(|e| e.file(path))?;
    files.sort();
    Ok(MappedPackage {
        name: package.name,
        version: package.version,
        architecture: package.architecture,
        files,
    })
}

impl PackageMap {
    /// The map of `.deb` and `.udeb` files.
    ///
    /// # Errors
    /// [`crate::error::Kind::Input`] if one cannot be read or is not such a package.
    pub fn of(packages: &[impl AsRef<Path>]) -> Result<Self, Error> {
        let list: Result<Vec<_>, Error> = packages.iter().map(|path| mapped(path.as_ref())).collect();
        let mut map = Self { packages: list?, ..Self::default() };
        map.packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        map.packages.dedup();
        Ok(map)
    }

    /// Reads a map from the file at `path`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if it cannot be read, [`crate::error::Kind::Input`] if it is not one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_regular(path, MAX_MAP).map_err(|e| Error::unreadable(e).file(path))?;
        let map: Self = serde_json::from_slice(&text).map_err(|e| {
            Error::input("is not a package map")
                .caused_by(e)
                .file(path)
                .hint("make one with: btrsquash package-map *.udeb > FILE")
        })?;
        if map.schema_version != 1 {
            let what = format!("is a package map of version {}, expected version 1", map.schema_version);
            return Err(Error::input(what).file(path));
        }
        Ok(map)
    }

    /// The packages of each name.
    pub(super) fn by_name(&self) -> HashMap<&str, Vec<&MappedPackage>> {
        let mut names: HashMap<&str, Vec<&MappedPackage>> = HashMap::new();
        for package in &self.packages {
            names.entry(&package.name).or_default().push(package);
        }
        names
    }
}
