//! The answer of a report in a few lines: what CI shows in a pull request, in annotations, as test results and in a table.

use super::data::{Budget, Growth, PackageDifferences, PackageSize, PackageVersion, Subject};
use super::document::{Block, Tile};
use super::units::{count, delta, grouped, size};
use super::{Report, budget, growth};

/// Something that can hold or fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    /// What is checked: `size`, `growth of package big`.
    pub name: String,
    /// Whether it holds.
    pub good: bool,
    /// The result as a sentence.
    pub text: String,
}

/// A figure in machine-readable form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metric {
    /// What kind it is: `image`, `ram`, `part`, `package`.
    pub kind: &'static str,
    /// The name of the part or package.
    pub name: String,
    /// Bytes before, if there is a before.
    pub before: Option<u64>,
    /// Bytes after.
    pub after: Option<u64>,
}

/// The answer of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Digest {
    /// The image, or both images.
    pub title: String,
    /// The figures that matter most.
    pub tiles: Vec<Tile>,
    /// Everything that can fail.
    pub checks: Vec<Check>,
    /// Further sentences, such as how many packages changed.
    pub facts: Vec<String>,
    /// Packages that changed: name, version before, version after, change in bytes in words.
    pub packages: Vec<[String; 4]>,
    /// All figures.
    pub metrics: Vec<Metric>,
}

impl Digest {
    /// The answer of `report`.
    pub(super) fn of(report: &Report) -> Self {
        let document = report.document();
        let tiles = document.blocks.iter().find_map(|block| match block {
            Block::Tiles(tiles) => Some(tiles.clone()),
            _ => None,
        });
        let mut digest = Self { title: document.title, tiles: tiles.unwrap_or_default(), ..Self::default() };
        match report {
            Report::Conversion(report) => {
                digest.budgets(&report.budgets);
                digest.checks.extend(report.verified.map(|verified| Check {
                    name: "verify".into(),
                    good: true,
                    text: format!("the same system: {} compared", count(verified.paths, "path")),
                }));
                if let Some(new) = &report.new {
                    digest.metric("image", "", Some(report.old.size), Some(new.size));
                    new.parts
                        .iter()
                        .for_each(|part| digest.metric("part", &part.name, None, Some(part.bytes)));
                }
                let ram = |ram: &super::Ram| ram.best().value;
                digest.metric("ram", "", Some(ram(&report.ram_before)), report.ram_after.as_ref().map(ram));
                digest.package_sizes(&report.packages);
            }
            Report::Inspection(report) => {
                digest.budgets(&report.budgets);
                digest.growth(report.growth.as_ref());
                digest.metric("image", "", None, Some(report.image.size));
                if let Some(ram) = &report.ram {
                    digest.metric("ram", "", None, Some(ram.best().value));
                }
                for part in &report.image.parts {
                    digest.metric("part", &part.name, None, Some(part.bytes));
                }
                digest.package_sizes(&report.packages);
            }
            Report::Difference(report) => {
                digest.budgets(&report.budgets);
                digest.growth(report.growth.as_ref());
                digest.metric("image", "", Some(report.old.image.size), Some(report.new.image.size));
                let ram = |side: &super::Side| side.ram.as_ref().map(|ram| ram.best().value);
                digest.metric("ram", "", ram(&report.old), ram(&report.new));
                report
                    .parts
                    .iter()
                    .for_each(|part| digest.metric("part", &part.name, Some(part.old), Some(part.new)));
                digest.difference(report);
            }
            Report::Verification(report) => digest.verification(report),
            Report::Boot(report) => digest.checks.push(Check {
                name: "boot".into(),
                good: report.booted,
                text: report.outcome.clone(),
            }),
            Report::Min(report) => digest.checks.push(Check {
                name: "boot".into(),
                good: report.minimum.is_some(),
                text: report.minimum.map_or_else(
                    || format!("does not boot with {} MiB or less", report.to_mib),
                    |minimum| format!("boots with {} and more", super::units::mebibytes(minimum.value)),
                ),
            }),
            Report::History(report) => digest.history(report),
            Report::Matrix(report) => digest.checks.extend(report.images.iter().map(|row| Check {
                name: row.image.clone(),
                good: row.exit_code == 0,
                text: row.sentence(),
            })),
            Report::Packages { report, .. } => {
                for package in &report.packages {
                    digest.metric("package", &package.name, None, Some(package.usage.image_bytes));
                }
            }
        }
        digest
    }

    /// Whether all checks hold.
    pub(super) fn good(&self) -> bool {
        self.checks.iter().all(|check| check.good)
    }

    fn metric(&mut self, kind: &'static str, name: &str, before: Option<u64>, after: Option<u64>) {
        self.metrics.push(Metric { kind, name: name.to_owned(), before, after });
    }

    fn package_sizes(&mut self, packages: &[PackageSize]) {
        for package in packages {
            self.metric("package", &package.name, None, Some(package.image_bytes));
        }
    }

    fn budgets(&mut self, budgets: &[Budget]) {
        self.checks.extend(budgets.iter().map(|limit| Check {
            name: if limit.what == "ram" { "minimum RAM".into() } else { limit.what.clone() },
            good: limit.kept,
            text: budget::sentence(limit),
        }));
    }

    fn growth(&mut self, found: Option<&Growth>) {
        let Some(found) = found else { return };
        let wrong = growth::exceeded(found);
        if wrong.is_empty() {
            self.checks.push(Check { name: "growth".into(), good: true, text: growth::summary(found) });
        }
        self.checks.extend(wrong.into_iter().map(|(name, text)| Check { name, good: false, text }));
        for change in found.changes.iter().filter(|change| change.subject == Subject::Package) {
            self.packages.push([
                change.name.clone(),
                size(change.old),
                size(change.new),
                delta(change.old, change.new),
            ]);
        }
    }

    fn history(&mut self, report: &super::History) {
        let mut before: Option<&super::HistoryEntry> = None;
        for entry in &report.entries {
            self.metric("image", &entry.name, before.map(|before| before.size), Some(entry.size));
            self.metric("ram", &entry.name, before.and_then(|before| before.ram), entry.ram);
            before = Some(entry);
        }
    }

    fn verification(&mut self, report: &super::Verification) {
        self.checks.push(Check {
            name: "same system".into(),
            good: report.holds,
            text: self.title.trim_start_matches(['✓', '✗', ' ']).to_owned(),
        });
        self.title = report.new.clone();
        self.facts.extend(super::pages::differences(report));
    }

    fn difference(&mut self, report: &super::Difference) {
        if report.is_same() {
            self.facts.push("both hold the same system".into());
            return;
        }
        if let Some(packages) = &report.packages {
            self.facts.push(format!("packages: {}", package_counts(packages)));
            self.packages.clear();
            let version =
                |side: &Option<PackageVersion>| side.as_ref().map_or("", |side| &side.version).to_owned();
            let bytes = |side: &Option<PackageVersion>| side.as_ref().map_or(0, |side| side.image_bytes);
            for package in &packages.list {
                let (old, new) = (bytes(&package.old), bytes(&package.new));
                let change = if packages.sizes { delta(old, new) } else { String::new() };
                self.packages.push([
                    package.name.clone(),
                    version(&package.old),
                    version(&package.new),
                    change,
                ]);
                self.metrics.push(Metric {
                    kind: "package",
                    name: package.name.clone(),
                    before: package.old.as_ref().map(|side| side.image_bytes),
                    after: package.new.as_ref().map(|side| side.image_bytes),
                });
            }
        }
        self.facts.push(format!("paths: {}", path_counts(&report.counts)));
    }
}

/// How the packages differ, in words.
pub(super) fn package_counts(packages: &PackageDifferences) -> String {
    format!(
        "{} of another version, {} added, {} removed, {} the same",
        grouped(packages.changed),
        grouped(packages.added),
        grouped(packages.removed),
        grouped(packages.same)
    )
}

/// How the paths differ, in words: the sums that JSON has.
pub(super) fn path_counts(counts: &super::Counts) -> String {
    let mut text = format!("{} added, {} removed", grouped(counts.added), grouped(counts.removed));
    if counts.replaced > 0 {
        text.push_str(&format!(" ({} of each: another version of the same file)", grouped(counts.replaced)));
    }
    text.push_str(&format!(", {} changed, {} renamed", grouped(counts.changed), grouped(counts.renamed)));
    text
}

/// `3 checks passed`, or `1 of 3 checks failed`.
pub(super) fn verdict(checks: &[Check]) -> String {
    let failed = checks.iter().filter(|check| !check.good).count() as u64;
    let all = count(checks.len() as u64, "check");
    match failed {
        0 if checks.is_empty() => "no limits set".into(),
        0 => format!("{all} passed"),
        _ => format!("{} of {all} failed", grouped(failed)),
    }
}
