//! Growth against a baseline: `--baseline` and `--max-growth`.

use std::collections::BTreeMap;
use std::path::Path;

use super::data::{
    Conversion, Difference, Grown, Growth, Inspection, PackageSize, PackageTotals, PackageVersion, Part, Ram,
    Subject,
};
use super::saved::{Saved, read_report};
use super::units::{change, delta, mebibytes, size};
use crate::error::Error;

/// How many of the packages that grew the most are named as the cause.
const CAUSES: usize = 3;

/// How much growth is allowed. Growth that exceeds each limit that is set fails.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limit {
    /// In percent of the old image.
    pub percent: Option<f64>,
    /// In bytes.
    pub bytes: Option<u64>,
}

impl Limit {
    /// Whether growth from `old` to `new` exceeds it; percentages are of `whole`.
    fn exceeded(&self, old: u64, new: u64, whole: u64) -> bool {
        let grown = new.saturating_sub(old);
        let by_percent = self.percent.map(|percent| grown as f64 > whole as f64 * percent / 100.0);
        let by_bytes = self.bytes.map(|bytes| grown > bytes);
        grown > 0
            && (by_percent.is_some() || by_bytes.is_some())
            && by_percent.unwrap_or(true)
            && by_bytes.unwrap_or(true)
    }
}

/// The limits on growth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Of the image, its parts and its packages.
    pub size: Limit,
    /// Of the minimum RAM; percentages are of the old minimum.
    pub ram: Limit,
}

/// The sizes of an image that are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the file.
    pub image: u64,
    /// Time of the newest file of the system in seconds since 1970.
    pub newest_time: Option<i64>,
    /// The minimum RAM in bytes, if it is known.
    pub ram: Option<u64>,
    /// The parts of the file.
    pub parts: BTreeMap<String, u64>,
    /// Bytes of the image that hold each package; `None` if packages were not looked at.
    pub packages: Option<BTreeMap<String, u64>>,
}

fn parts(parts: &[Part]) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for part in parts {
        *sizes.entry(part.name.clone()).or_default() += part.bytes;
    }
    sizes
}

fn minimum(ram: Option<&Ram>) -> Option<u64> {
    ram.map(|ram| ram.best().value)
}

/// The packages by name; `None` if they were not looked at, or could not be. Reports of inspect had packages before they had
/// totals.
fn packages(list: &[PackageSize], totals: Option<&PackageTotals>) -> Option<BTreeMap<String, u64>> {
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for package in list {
        *sizes.entry(package.name.clone()).or_default() += package.image_bytes;
    }
    (totals.is_some() || !sizes.is_empty()).then_some(sizes)
}

impl From<&Inspection> for Sizes {
    fn from(report: &Inspection) -> Self {
        Self {
            image: report.image.size,
            newest_time: report.image.newest_time,
            ram: minimum(report.ram.as_ref()),
            parts: parts(&report.image.parts),
            packages: packages(&report.packages, report.package_totals.as_ref()),
        }
    }
}

impl Sizes {
    /// The sizes of both images of a comparison. Packages that are the same on both sides are left out.
    #[must_use]
    pub fn of_both(report: &Difference) -> (Self, Self) {
        let packages = |side: fn(&super::PackageDifference) -> &Option<PackageVersion>| {
            report.packages.as_ref().map(|packages| {
                let sizes = packages.list.iter();
                sizes.filter_map(|p| Some((p.name.clone(), side(p).as_ref()?.image_bytes))).collect()
            })
        };
        let sizes = |side: &super::Side, packages| Self {
            image: side.image.size,
            newest_time: side.image.newest_time,
            ram: minimum(side.ram.as_ref()),
            parts: parts(&side.image.parts),
            packages,
        };
        (
            sizes(&report.old, packages(|package| &package.old)),
            sizes(&report.new, packages(|package| &package.new)),
        )
    }

    /// The sizes of the new image of a conversion; `None` of a dry run.
    fn of_new(report: &Conversion) -> Option<Self> {
        let new = report.new.as_ref()?;
        Some(Self {
            image: new.size,
            newest_time: report.old.newest_time,
            ram: minimum(report.ram_after.as_ref()),
            parts: parts(&new.parts),
            packages: packages(&report.packages, report.package_totals.as_ref()),
        })
    }

    /// The sizes in a file that `inspect --json` or `convert --json` wrote: those of the new image.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if the file cannot be read or is no such report.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = read_report(file)
            .map_err(|e| Error::usage("the report cannot be read").caused_by(e).file(file))?;
        let without = |why: &str| {
            Error::usage(format!("is not a report with sizes: {why}"))
                .file(file)
                .hint("make one with: btrsquash inspect IMG --json >FILE.json")
        };
        match Saved::parse(&text).map_err(|e| without(&e.to_string()))? {
            Saved::Inspection(report) => Ok(Self::from(report.as_ref())),
            Saved::Conversion(report) => {
                Self::of_new(&report).ok_or_else(|| without("a dry run writes no image"))
            }
            _ => Err(without("it is neither of inspect nor of convert")),
        }
    }
}

/// Compares `new` with the baseline `old`, which is in the file `baseline`.
#[must_use]
pub fn compare(baseline: String, old: &Sizes, new: &Sizes, limits: Limits) -> Growth {
    let mut changes = Vec::new();
    let add = |changes: &mut Vec<Grown>, subject, name: &str, (was, is): (u64, u64)| {
        if was != is {
            let (limit, whole) =
                if subject == Subject::Ram { (limits.ram, was) } else { (limits.size, old.image) };
            let exceeded = limit.exceeded(was, is, whole);
            changes.push(Grown { subject, name: name.to_owned(), old: was, new: is, exceeded });
        }
    };
    add(&mut changes, Subject::Image, "", (old.image, new.image));
    if let Some(sizes) = old.ram.zip(new.ram) {
        add(&mut changes, Subject::Ram, "", sizes);
    }
    for (name, sizes) in both(&old.parts, &new.parts) {
        add(&mut changes, Subject::Part, name, sizes);
    }
    if let (Some(was), Some(is)) = (&old.packages, &new.packages) {
        for (name, sizes) in both(was, is) {
            add(&mut changes, Subject::Package, name, sizes);
        }
    }
    // Stable: the image and its RAM stay first, equal changes in the order of names.
    changes.sort_by_key(|change| (change.subject as u8, std::cmp::Reverse(change.old.abs_diff(change.new))));
    Growth {
        baseline,
        max_percent: limits.size.percent,
        max_bytes: limits.size.bytes,
        max_ram_percent: limits.ram.percent,
        max_ram_bytes: limits.ram.bytes,
        changes,
    }
}

/// The names of both maps with the sizes in each, 0 where a name is missing.
fn both<'a>(
    old: &'a BTreeMap<String, u64>,
    new: &'a BTreeMap<String, u64>,
) -> impl Iterator<Item = (&'a str, (u64, u64))> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let size = |sizes: &BTreeMap<String, u64>, name: &String| sizes.get(name).copied().unwrap_or(0);
    names.into_iter().map(move |name| (name.as_str(), (size(old, name), size(new, name))))
}

/// What changed.
fn subject(change: &Grown) -> String {
    match change.subject {
        Subject::Image => "the image".to_owned(),
        Subject::Ram => "the minimum RAM".to_owned(),
        Subject::Part => format!("part {}", change.name),
        Subject::Package => format!("package {}", change.name),
    }
}

/// A change in words: `the image grew by 3.1 MB (+6.2%) to 53.1 MB`.
pub(super) fn sentence(change: &Grown) -> String {
    let what = subject(change);
    let shown = |bytes: u64| if change.subject == Subject::Ram { mebibytes(bytes) } else { size(bytes) };
    let (verb, by) = if change.new < change.old {
        ("shrank", change.old - change.new)
    } else {
        ("grew", change.new - change.old)
    };
    if change.old == 0 {
        return format!("{what} is new: {}", shown(change.new));
    }
    if change.new == 0 {
        return format!("{what} is gone: {} less", shown(change.old));
    }
    let percent = self::change(change.old, change.new);
    format!("{what} {verb} by {} ({percent}) to {}", shown(by), shown(change.new))
}

/// The limit of what `subject` is in words: `1% and 1.0 MB`; empty if there is none.
fn limit(growth: &Growth, subject: Subject) -> String {
    let (percent, bytes) = match subject {
        Subject::Ram => (growth.max_ram_percent, growth.max_ram_bytes.map(mebibytes)),
        _ => (growth.max_percent, growth.max_bytes.map(size)),
    };
    let percent = percent.map(|percent| format!("{percent}%"));
    percent.into_iter().chain(bytes).collect::<Vec<_>>().join(" and ")
}

/// The packages that grew the most, with their growth: `big +3.0 MB, libc6 +12.0 kB`; empty if none did.
pub(super) fn causes(growth: &Growth) -> String {
    let grown = growth.changes.iter().filter(|c| c.subject == Subject::Package && c.new > c.old);
    grown
        .take(CAUSES)
        .map(|change| format!("{} {}", change.name, delta(change.old, change.new)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Each limit that is exceeded as a sentence, with the packages that did it.
pub(super) fn exceeded(growth: &Growth) -> Vec<(String, String)> {
    let causes = causes(growth);
    let wrong = growth.changes.iter().filter(|change| change.exceeded);
    wrong
        .map(|change| {
            let mut text = format!("{}, more than {}", sentence(change), limit(growth, change.subject));
            if change.subject != Subject::Package && !causes.is_empty() {
                text.push_str(&format!("; packages that grew: {causes}"));
            }
            (format!("growth of {}", subject(change)), text)
        })
        .collect()
}

/// The growth of the whole in a sentence, for a report without an exceeded limit.
pub(super) fn summary(growth: &Growth) -> String {
    let found = |subject| growth.changes.iter().find(|change| change.subject == subject).map(sentence);
    let mut text = found(Subject::Image).unwrap_or_else(|| "the image has the same size".to_owned());
    let within = limit(growth, Subject::Image);
    if !within.is_empty() {
        text.push_str(&format!("; growth is within {within}"));
    }
    let within = limit(growth, Subject::Ram);
    if !within.is_empty() {
        let ram = found(Subject::Ram).unwrap_or_else(|| "the minimum RAM is the same".to_owned());
        text.push_str(&format!("; {ram}; its growth is within {within}"));
    }
    text
}

/// Fails with everything that grew by more than what is allowed.
///
/// # Errors
/// [`crate::error::Kind::Failed`], naming what grew, the limits and the packages that did it.
pub fn check(growth: Option<&Growth>) -> Result<(), Error> {
    let wrong: Vec<String> =
        growth.iter().flat_map(|growth| exceeded(growth)).map(|(_, text)| text).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Error::failed(wrong.join("\n  "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(image: u64, packages: &[(&str, u64)]) -> Sizes {
        Sizes {
            image,
            ram: Some(image * 3),
            parts: [("squashfs".to_owned(), image - 10)].into(),
            packages: Some(packages.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()),
            ..Sizes::default()
        }
    }

    #[test]
    fn ram_has_a_limit_of_its_own() {
        let with = |ram: u64| Sizes { ram: Some(ram << 20), ..sizes(50_000_000, &[]) };
        let limit = |bytes: u64| Limits {
            ram: Limit { percent: Some(1.0), bytes: Some(bytes << 20) },
            ..Limits::default()
        };
        let grown = |bytes| compare("base.json".into(), &with(216), &with(228), limit(bytes));
        let error = check(Some(&grown(8))).unwrap_err().to_string();
        assert_eq!(error, "the minimum RAM grew by 12 MiB (+5.6%) to 228 MiB, more than 1% and 8 MiB");
        assert!(grown(12).kept());
        assert_eq!(
            summary(&grown(12)),
            "the image has the same size; the minimum RAM grew by 12 MiB (+5.6%) to 228 MiB; its growth is within 1% and 12 MiB"
        );
    }

    #[test]
    fn an_inspection_without_totals_has_its_packages() {
        let report = crate::report::samples::inspection();
        let all = Sizes::from(&report).packages;
        assert!(all.as_ref().is_some_and(|packages| !packages.is_empty()));
        let earlier = Inspection { package_totals: None, ..report };
        assert_eq!(Sizes::from(&earlier).packages, all);
        let damaged = Inspection { packages: Vec::new(), ..earlier };
        assert_eq!(Sizes::from(&damaged).packages, None);
    }

    #[test]
    fn growth_fails_only_beyond_both_limits_and_names_the_package() {
        let size = Limit { percent: Some(1.0), bytes: Some(1_000_000) };
        let limit = Limits { size, ram: Limit::default() };
        let old = sizes(50_000_000, &[("libc6", 1_000_000), ("gone", 20)]);
        let new = sizes(53_000_000, &[("libc6", 1_000_500), ("big", 3_000_000)]);
        let growth = compare("base.json".into(), &old, &new, limit);
        assert!(!growth.kept());
        let error = check(Some(&growth)).unwrap_err().to_string();
        assert!(
            error.contains("the image grew by 3.0 MB (+6.0%) to 53.0 MB, more than 1% and 1.0 MB; packages that grew: big +3.0 MB, libc6 +500 bytes"),
            "{error}"
        );
        assert!(error.contains("package big is new: 3.0 MB"), "{error}");
        let subjects: Vec<_> =
            growth.changes.iter().map(|c| (c.subject, c.name.as_str(), c.exceeded)).collect();
        assert_eq!(
            subjects,
            [
                (Subject::Image, "", true),
                (Subject::Ram, "", false),
                (Subject::Part, "squashfs", true),
                (Subject::Package, "big", true),
                (Subject::Package, "libc6", false),
                (Subject::Package, "gone", false),
            ]
        );
        // Below one of the limits is enough.
        let small = sizes(10_000_000, &[]);
        let grown = sizes(10_900_000, &[("big", 900_000)]);
        let passes = compare("base.json".into(), &small, &grown, limit);
        assert!(passes.kept(), "{passes:?}");
        let large = sizes(500_000_000, &[]);
        let grown = sizes(503_000_000, &[("big", 3_000_000)]);
        assert!(compare("base.json".into(), &large, &grown, limit).kept());
        // Without limits nothing fails.
        assert!(compare("base.json".into(), &old, &new, Limits::default()).kept());
        // Shrinking never fails.
        let none = Limits { size: Limit { percent: Some(0.0), bytes: None }, ..Limits::default() };
        assert!(compare("base.json".into(), &new, &old, none).changes[0].new < 53_000_000);
        assert!(check(Some(&compare("b".into(), &old, &old, none))).is_ok());
    }
}
