//! Which package each file of a system belongs to, and what each package costs in the image.
//!
//! Read are the databases of dpkg (also udpkg's of the Debian installer and distroless images' `status.d`), opkg and
//! apk. Nothing of the image is run. A file that a package lists under a path through a symlink (`/lib` of a merged
//! `/usr`) is found where the symlink leads.

mod accounts;
mod apk;
mod dpkg;
mod map;

use std::collections::HashMap;

pub use accounts::{Accounts, Basis, Shares, Usage};
pub use map::{MappedPackage, PackageMap};

use crate::error::Error;
use crate::tree::{InodeId, Tree, display};

/// Most bytes of one file of a database: dpkg's status file of a full desktop has 5 MB.
const MAX_FILE: u64 = 64 << 20;

/// Which package manager wrote a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// dpkg, or udpkg of the Debian installer.
    Dpkg,
    /// opkg of OpenWrt and Yocto.
    Opkg,
    /// apk of Alpine.
    Apk,
    /// rpm, whose databases (sqlite, ndb, Berkeley DB) are recognized but not read.
    Rpm,
}

/// A database that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Whose it is.
    pub manager: Manager,
    /// Its path in the image.
    pub path: String,
    /// Packages it says are installed; `None` if it cannot be read.
    pub packages: Option<u64>,
    /// Packages of these whose list of files is there.
    pub with_files: u64,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as its manager writes it.
    pub version: String,
    /// Its architecture, if stated.
    pub architecture: Option<String>,
}

/// The packages of a system and the files that are theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages {
    /// The databases that were found.
    pub databases: Vec<Database>,
    /// All installed packages, by name.
    pub list: Vec<Package>,
    /// Packages that have a list of files, in the image or in the package map.
    pub with_files: u64,
    /// Packages whose list comes from the package map but for another version.
    pub other_versions: Vec<String>,
    /// Numbers in `list`, by inode.
    pub(crate) owners: HashMap<InodeId, usize>,
}

/// A package as it is read from a database.
struct Found {
    package: Package,
    /// The paths it lists; `None` if the image has no list.
    files: Option<Vec<Vec<u8>>>,
}

impl Packages {
    /// Reads the databases of `tree`; packages without a list of files get that of `map`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Input`] if a database cannot be read or is larger than 64 MiB.
    pub fn read(tree: &Tree, map: Option<&PackageMap>) -> Result<Self, Error> {
        let mut packages = Self::default();
        let mut found = Vec::new();
        for (database, list) in [dpkg::read(tree)?, apk::read(tree)?].into_iter().flatten() {
            packages.databases.push(database);
            found.extend(list);
        }
        packages.databases.extend(rpm(tree));
        if let Some(map) = map {
            packages.mapped(tree, &mut found, map);
        }
        // Stable: of packages with one name (two architectures) the first stays the first.
        found.sort_by(|a, b| a.package.name.cmp(&b.package.name));
        for Found { package, files } in found {
            let number = packages.list.len();
            packages.list.push(package);
            packages.with_files += u64::from(files.is_some());
            for path in files.into_iter().flatten() {
                if let Some(id) = tree.lookup(&path, false).filter(|&id| tree.names(id).is_none()) {
                    packages.owners.entry(id).or_insert(number);
                }
            }
        }
        Ok(packages)
    }

    /// Gives the packages without a list that of the map; without any database, all packages of the map that have a
    /// file in the image are taken for installed.
    fn mapped(&mut self, tree: &Tree, found: &mut Vec<Found>, map: &PackageMap) {
        let known = map.by_name();
        let files = |package: &MappedPackage| {
            Some(package.files.iter().map(|path| path.as_bytes().to_vec()).collect::<Vec<_>>())
        };
        if found.is_empty() {
            let there = |package: &&MappedPackage| {
                package.files.iter().any(|path| tree.lookup(path.as_bytes(), false).is_some())
            };
            found.extend(map.packages.iter().filter(there).map(|package| Found {
                package: Package {
                    name: package.name.clone(),
                    version: package.version.clone(),
                    architecture: package.architecture.clone(),
                },
                files: files(package),
            }));
            return;
        }
        for found in found.iter_mut().filter(|found| found.files.is_none()) {
            let Some(candidates) = known.get(found.package.name.as_str()) else { continue };
            let same = candidates.iter().find(|package| package.version == found.package.version);
            if same.is_none() {
                self.other_versions.push(found.package.name.clone());
            }
            found.files = same.or(candidates.first()).and_then(|package| files(package));
        }
    }

    /// The number in [`Packages::list`] of the package that `id` belongs to.
    #[must_use]
    pub fn owner(&self, id: InodeId) -> Option<usize> {
        self.owners.get(&id).copied()
    }
}

/// A file of a database; `None` if it is not there.
fn file(tree: &Tree, path: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(id) = tree.resolve(path) else { return Ok(None) };
    read(tree, id, path)
}

fn read(tree: &Tree, id: InodeId, path: &str) -> Result<Option<Vec<u8>>, Error> {
    if tree.names(id).is_some() {
        return Ok(None);
    }
    let bytes =
        tree.read(id, MAX_FILE).map_err(|e| Error::input(format!("/{path} cannot be read")).caused_by(e))?;
    match bytes {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error::input(format!(
            "/{path} is not a regular file of at most {} MiB, as a package database is",
            MAX_FILE >> 20
        ))),
    }
}

/// Text of a database, for people.
fn text(bytes: &[u8]) -> String {
    display(bytes.trim_ascii())
}

/// The rpm databases: they are named, because a system that has one is not one without packages.
fn rpm(tree: &Tree) -> Vec<Database> {
    let mut seen = Vec::new();
    for directory in ["usr/lib/sysimage/rpm", "var/lib/rpm"] {
        for name in ["rpmdb.sqlite", "Packages.db", "Packages"] {
            let path = format!("{directory}/{name}");
            if let Some(id) = tree.resolve(&path)
                && !seen.iter().any(|(other, _)| *other == id)
            {
                seen.push((id, path));
            }
        }
    }
    let database = |path| Database { manager: Manager::Rpm, path, packages: None, with_files: 0 };
    seen.into_iter().map(|(_, path)| database(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::build::tree;

    fn owned(packages: &Packages, tree: &Tree, path: &str) -> Option<String> {
        packages.owner(tree.get(path)?).map(|number| {
            let package = &packages.list[number];
            format!("{} {}", package.name, package.version)
        })
    }

    #[test]
    fn files_of_dpkg_are_found_through_a_merged_usr_and_diversions() {
        let tree = tree(
            &[
                (
                    "var/lib/dpkg/status",
                    b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n\
                      Description: C library\n with a second line\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\n\
                      Package: vi\nStatus: install ok installed\nVersion: 9\n\
                      \nPackage: nolist\nStatus: install ok unpacked\nVersion: 3\n",
                ),
                ("var/lib/dpkg/info/libc6:amd64.list", b"/.\n/lib\n/lib/libc.so.6\n/usr/bin/ldd\n"),
                ("var/lib/dpkg/info/gone.list", b"/usr/bin/gone\n"),
                ("var/lib/dpkg/info/vi.list", b"/usr/bin/ldd\n"),
                ("var/lib/dpkg/diversions", b"/usr/bin/ldd\n/usr/bin/ldd.real\nvi\n"),
                ("usr/lib/libc.so.6", b"1234"),
                ("usr/bin/ldd", b"vi's"),
                ("usr/bin/ldd.real", b"libc's"),
                ("usr/bin/gone", b"x"),
            ],
            &[("lib", "usr/lib")],
        );
        let packages = Packages::read(&tree, None).unwrap();
        let names: Vec<&str> = packages.list.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["libc6", "nolist", "vi"]);
        assert_eq!(packages.with_files, 2);
        assert_eq!(packages.databases[0].packages, Some(3));
        assert_eq!(owned(&packages, &tree, "usr/lib/libc.so.6").as_deref(), Some("libc6 2.36-9"));
        assert_eq!(owned(&packages, &tree, "usr/bin/ldd").as_deref(), Some("vi 9"));
        assert_eq!(owned(&packages, &tree, "usr/bin/ldd.real").as_deref(), Some("libc6 2.36-9"));
        assert_eq!(owned(&packages, &tree, "usr/bin/gone"), None);
    }

    #[test]
    fn distroless_opkg_and_apk_are_read_and_rpm_is_named() {
        let tree = tree(
            &[
                ("var/lib/dpkg/status.d/base", b"Package: base-files\nVersion: 12\n"),
                ("var/lib/dpkg/status.d/base.md5sums", b"d41d8cd98f00b204e9800998ecf8427e  etc/issue\n"),
                ("etc/issue", b""),
                (
                    "usr/lib/opkg/status",
                    b"Package: dropbear\nVersion: 2022\nStatus: install user installed\n",
                ),
                ("usr/lib/opkg/info/dropbear.list", b"/usr/sbin/dropbear\n"),
                ("usr/sbin/dropbear", b"x"),
                (
                    "lib/apk/db/installed",
                    b"P:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:libc.so\na:0:0:755\nF:etc\n\nP:none\nV:1\n",
                ),
                ("lib/libc.so", b"x"),
                ("var/lib/rpm/rpmdb.sqlite", b"x"),
            ],
            &[],
        );
        let packages = Packages::read(&tree, None).unwrap();
        assert_eq!(owned(&packages, &tree, "etc/issue").as_deref(), Some("base-files 12"));
        assert_eq!(owned(&packages, &tree, "usr/sbin/dropbear").as_deref(), Some("dropbear 2022"));
        assert_eq!(owned(&packages, &tree, "lib/libc.so").as_deref(), Some("musl 1.2.5-r0"));
        let managers: Vec<Manager> = packages.databases.iter().map(|database| database.manager).collect();
        assert_eq!(managers, [Manager::Dpkg, Manager::Opkg, Manager::Apk, Manager::Rpm]);
        assert_eq!(packages.databases[3].packages, None);
    }

    #[test]
    fn a_map_gives_lists_to_packages_without() {
        let status = b"Package: busybox-udeb\nVersion: 2\nStatus: install ok installed\n\n\
                       Package: other\nVersion: 1\nStatus: install ok installed\n";
        let tree = tree(&[("var/lib/dpkg/status", status), ("bin/busybox", b"x")], &[]);
        let mapped = |version: &str| MappedPackage {
            name: "busybox-udeb".into(),
            version: version.into(),
            architecture: None,
            files: vec!["bin/busybox".into()],
        };
        let map = PackageMap { packages: vec![mapped("1"), mapped("2")], ..PackageMap::default() };
        let packages = Packages::read(&tree, Some(&map)).unwrap();
        assert_eq!(owned(&packages, &tree, "bin/busybox").as_deref(), Some("busybox-udeb 2"));
        assert!(packages.other_versions.is_empty() && packages.with_files == 1);
        let map = PackageMap { packages: vec![mapped("1")], ..PackageMap::default() };
        let packages = Packages::read(&tree, Some(&map)).unwrap();
        assert_eq!(owned(&packages, &tree, "bin/busybox").as_deref(), Some("busybox-udeb 2"));
        assert_eq!(packages.other_versions, ["busybox-udeb"]);
    }
}
