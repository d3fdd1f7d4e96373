//! What `packages` shows: each package with its bytes in the image.

use serde::{Deserialize, Serialize};

use super::data::{PackageTotals, SCHEMA_VERSION, Tool, UsageRow, share};
use super::document::{Block, Cell, Document, Table};
use super::units::{count, grouped, percent, size};
use crate::packages::{Accounts, Basis, Manager, Packages};

/// What `packages` found. The `image_bytes` of `packages` and `no_package`, and `structure_bytes`, add up to
/// `total_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The image, as the user named it.
    pub image: String,
    /// How `image_bytes` were found.
    pub basis: Basis,
    /// Bytes that hold the system: the squashfs with what was appended, or the whole image if it has none.
    pub total_bytes: u64,
    /// The package databases of the system.
    pub databases: Vec<DatabaseRow>,
    /// The installed packages, the largest in the image first.
    pub packages: Vec<PackageRow>,
    /// Files of no package.
    pub no_package: UsageRow,
    /// What is not the content of a file: names, inodes, tables, small files kept with them.
    pub structure_bytes: u64,
    /// Kernel modules by kind, the largest first. They are counted above too.
    pub modules: Vec<ModuleRow>,
    /// What else is to be known, a sentence each.
    pub notes: Vec<String>,
}

/// A package database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRow {
    /// Whose it is.
    pub manager: Manager,
    /// Its path.
    pub path: String,
    /// Installed packages; `None` if it cannot be read.
    pub packages: Option<u64>,
}

/// A package and what it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageRow {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, if stated.
    pub architecture: Option<String>,
    /// What its files cost.
    pub usage: UsageRow,
}

/// Kernel modules of one kind and what they cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRow {
    /// Their directory: `drivers/net/wireless`.
    pub kind: String,
    /// What they cost.
    pub usage: UsageRow,
}

impl PackageReport {
    /// The report of `packages` and what they cost in the image that the user named `image`.
    #[must_use]
    pub fn new(image: String, packages: &Packages, accounts: &Accounts) -> Self {
        let databases = packages.databases.iter().map(|database| DatabaseRow {
            manager: database.manager,
            path: database.path.clone(),
            packages: database.packages,
        });
        let mut rows: Vec<PackageRow> = packages
            .list
            .iter()
            .zip(&accounts.packages)
            .map(|(package, usage)| PackageRow {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                usage: (*usage).into(),
            })
            .collect();
        // Stable: what costs the same stays in the order of its names.
        rows.sort_by_key(|row| std::cmp::Reverse(row.usage.image_bytes));
        let mut modules: Vec<ModuleRow> = accounts
            .modules
            .iter()
            .map(|(kind, usage)| ModuleRow { kind: kind.clone(), usage: (*usage).into() })
            .collect();
        modules.sort_by_key(|row| std::cmp::Reverse(row.usage.image_bytes));
        let totals = PackageTotals::new(packages, accounts);
        let mut notes = vec![basis(totals.basis).to_owned()];
        notes.extend(totals.notes);
        Self {
            schema_version: SCHEMA_VERSION,
            tool: Tool::default(),
            image,
            basis: totals.basis,
            total_bytes: totals.total_bytes,
            databases: databases.collect(),
            packages: rows,
            no_package: totals.no_package,
            structure_bytes: totals.structure_bytes,
            modules,
            notes,
        }
    }

    /// What it says to people, with at most `top` packages.
    #[must_use]
    pub fn document(&self, top: usize) -> Document {
        let mut page = Document {
            title: self.image.clone(),
            subtitle: format!(
                "{}, {} that hold the system",
                count(self.packages.len() as u64, "package"),
                size(self.total_bytes)
            ),
            ..Document::default()
        };
        page.section("Packages by bytes in the image");
        let columns = ["package", "version", ">in the image", ">share", ">unpacked", ">files"];
        let mut table = Table::new("Packages by bytes in the image", &columns);
        let mut row = |name: Cell, version: &str, usage: &UsageRow| {
            table.row([
                name,
                version.to_owned().into(),
                grouped(usage.image_bytes).into(),
                percent(share(usage.image_bytes, self.total_bytes)).into(),
                grouped(usage.bytes).into(),
                grouped(usage.files).into(),
            ]);
        };
        for package in self.packages.iter().take(top) {
            row(package.name.clone().into(), &package.version, &package.usage);
        }
        let mut rest = UsageRow::default();
        for PackageRow { usage, .. } in self.packages.iter().skip(top) {
            rest.files += usage.files;
            rest.bytes += usage.bytes;
            rest.image_bytes += usage.image_bytes;
        }
        let more = self.packages.len().saturating_sub(top);
        if more > 0 {
            row(Cell::dim(format!("{more} more")), "--top all", &rest);
        }
        row(Cell::dim("files of no package"), "", &self.no_package);
        let structures = UsageRow { image_bytes: self.structure_bytes, ..UsageRow::default() };
        row(Cell::dim("file system structures"), "", &structures);
        page.table(table);
        if !self.modules.is_empty() {
            page.section("Kernel modules by kind");
            let columns = ["kind", ">in the image", ">share", ">unpacked", ">files"];
            let mut table = Table::new("Kernel modules by kind", &columns);
            for ModuleRow { kind, usage } in self.modules.iter().take(top) {
                table.row([
                    kind.clone().into(),
                    grouped(usage.image_bytes).into(),
                    percent(share(usage.image_bytes, self.total_bytes)).into(),
                    grouped(usage.bytes).into(),
                    grouped(usage.files).into(),
                ]);
            }
            page.table(table);
        }
        page.section("Notes");
        page.blocks.push(Block::List(self.notes.clone()));
        page
    }
}

impl PackageTotals {
    /// Those of `packages` and what they cost.
    #[must_use]
    pub fn new(packages: &Packages, accounts: &Accounts) -> Self {
        let no_package = UsageRow::from(accounts.no_package);
        let content: u64 = accounts.packages.iter().map(|usage| usage.stored_bytes()).sum();
        Self {
            basis: accounts.basis,
            total_bytes: accounts.total,
            no_package,
            structure_bytes: accounts.total.saturating_sub(content + no_package.image_bytes),
            notes: gaps(packages),
        }
    }
}

/// How bytes in the image were found.
const fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Blocks => {
            "bytes in the image: the compressed size of each squashfs block, shared out by the bytes in it"
        }
        Basis::Segments => {
            "bytes in the image: the compressed size of each segment, shared out by the bytes of content; an \
             estimate, because some files compress better than others"
        }
        Basis::Plain => "bytes in the image: as they are in the file system, which is not compressed",
    }
}

/// Why packages or their files are missing.
fn gaps(packages: &Packages) -> Vec<String> {
    let mut notes = Vec::new();
    if packages.databases.is_empty() {
        notes.push(if packages.list.is_empty() {
            "no package database found: not of dpkg, opkg, apk or rpm".into()
        } else {
            "no package database found: packages of the map with a file in the image are taken for installed"
                .into()
        });
    }
    for database in packages.databases.iter().filter(|database| database.packages.is_none()) {
        notes.push(format!(
            "/{} is a database of rpm, which cannot be read: its packages' files count as files of no package",
            database.path
        ));
    }
    let all = packages.list.len() as u64;
    if packages.with_files < all {
        let all = count(all, "package");
        let missing = if packages.with_files == 0 {
            format!("none of {all} has a list of files: all files count as files of no package")
        } else {
            let some = packages.with_files;
            format!(
                "of {all}, only {some} have a list of files: the files of the others count as files of no package"
            )
        };
        notes.push(format!("{missing}; convert, inspect, diff and packages take lists with --package-map"));
    }
    if let Some(first) = packages.other_versions.first() {
        notes.push(format!(
            "the package map has another version of {}, the first is {first}: what their files cost may be incomplete",
            count(packages.other_versions.len() as u64, "package")
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{Database, Package, Usage};
    use crate::report::{Exporter, Report, Terminal};

    #[test]
    fn the_table_adds_up_and_says_what_is_not_shown() {
        let package = |name: &str| Package { name: name.into(), version: "1.2-3".into(), architecture: None };
        let packages = Packages {
            databases: vec![
                Database {
                    manager: Manager::Dpkg,
                    path: "var/lib/dpkg/status".into(),
                    packages: Some(3),
                    with_files: 2,
                },
                Database {
                    manager: Manager::Rpm,
                    path: "var/lib/rpm/rpmdb.sqlite".into(),
                    packages: None,
                    with_files: 0,
                },
            ],
            list: vec![package("bash"), package("libc6"), package("udpkg")],
            with_files: 2,
            other_versions: vec!["bash".into()],
            ..Packages::default()
        };
        let usage = |files, bytes, stored| Usage { files, bytes, stored };
        let accounts = Accounts {
            basis: Basis::Blocks,
            total: 2_000_000,
            packages: vec![
                usage(4, 1_200_000, 500_000.4),
                usage(200, 3_000_000, 1_000_000.4),
                usage(1, 9, 3.3),
            ],
            no_package: usage(7, 700_000, 300_000.0),
            structures: 199_996,
            modules: [("drivers/net/wireless".to_owned(), usage(2, 90_000, 30_000.0))].into(),
        };
        let report = PackageReport::new("x.img".into(), &packages, &accounts);
        let rows: u64 = report.packages.iter().map(|row| row.usage.image_bytes).sum();
        assert_eq!(rows + report.no_package.image_bytes + report.structure_bytes, report.total_bytes);
        let terminal = Terminal { colour: false, width: 80 };
        let report = Report::Packages { report: &report, top: 2 };
        insta::assert_snapshot!(terminal.export(&report).unwrap());
    }
}
