//! The band across the top of a page: the verdict, and what it rests on.

use super::data::{Inspection, Origin, Ram};
use super::digest::{Digest, verdict};
use super::document::{Block, Document};
use super::units::{grouped, time};
use super::{Conversion, Difference, Report};

/// What stands in front of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Bad,
    Warning,
    /// Neither good nor bad.
    Neutral,
}

/// One line of the band.
pub(super) struct Row {
    pub name: String,
    pub mark: Mark,
    pub text: String,
    /// Whether the text is to be copied letter by letter.
    pub code: bool,
    /// The section that it leads to.
    pub section: Option<&'static str>,
}

/// The band.
pub(super) struct Band {
    /// Whether it has the facts and notes of the answer.
    pub answer: bool,
    pub mark: Mark,
    pub headline: String,
    pub rows: Vec<Row>,
}

impl Band {
    /// The band of `report`; `None` if there is nothing to judge.
    pub(super) fn of(report: &Report, document: &Document) -> Option<Self> {
        let digest = Digest::of(report);
        let mut band = Self { answer: false, mark: Mark::Neutral, headline: String::new(), rows: Vec::new() };
        match report {
            Report::Conversion(report) => {
                band.headline = match (report.dry_run, report.verified) {
                    (true, _) => "A dry run: nothing was written",
                    (false, Some(_)) => "Converted, and it holds the same system",
                    (false, None) => "Converted",
                }
                .into();
                band.answer(document);
                band.checks(&digest);
                band.conversion(report);
            }
            Report::Difference(report) => {
                band.headline =
                    if report.is_same() { "Both hold the same system" } else { "The systems differ" }.into();
                band.answer(document);
                band.checks(&digest);
                band.difference(report);
            }
            Report::Inspection(report) => {
                band.headline = capital(&report.identity.verdict);
                band.answer(document);
                band.checks(&digest);
                band.inspection(report);
            }
            // The table has those that are well.
            Report::Matrix(_) => {
                for check in digest.checks.iter().filter(|check| !check.good) {
                    band.row(&check.name, Mark::Bad, check.text.clone());
                }
            }
            _ if digest.checks.is_empty() => return None,
            _ => band.checks(&digest),
        }
        if !digest.checks.is_empty() {
            band.mark = if digest.good() { Mark::Good } else { Mark::Bad };
            let verdict = verdict(&digest.checks);
            band.headline = match band.headline.as_str() {
                "" => verdict,
                headline => format!("{headline} ({verdict})"),
            };
        }
        Some(band)
    }

    fn row(&mut self, name: &str, mark: Mark, text: impl Into<String>) {
        self.rows.push(Row { name: name.to_owned(), mark, text: text.into(), code: false, section: None });
    }

    /// The facts of the answer, which are shown nowhere else on the page.
    fn answer(&mut self, document: &Document) {
        self.answer = true;
        let answer = document.answer.and_then(|end| document.blocks.get(..end)).unwrap_or_default();
        for block in answer {
            if let Block::Facts(facts) = block {
                facts.iter().for_each(|(name, value)| self.row(name, Mark::Neutral, value.text.clone()));
            }
        }
    }

    fn checks(&mut self, digest: &Digest) {
        let (good, wrong): (Vec<_>, Vec<_>) = digest.checks.iter().partition(|check| check.good);
        for check in wrong.into_iter().chain(good) {
            self.row(&check.name, if check.good { Mark::Good } else { Mark::Bad }, check.text.clone());
        }
    }

    fn conversion(&mut self, report: &Conversion) {
        if report.verified.is_none() && !report.dry_run {
            self.row(
                "same system",
                Mark::Neutral,
                "not compared in this run: btrsquash verify OLD NEW does it",
            );
        }
        self.limits(report.budgets.len());
        self.figures([Some(&report.ram_before), report.ram_after.as_ref()]);
        let several = report.files.len() > 1;
        for file in &report.files {
            self.checksum(several.then_some(&file.path), Some(&file.sha256));
        }
        self.date([report.old.newest_time, None]);
        self.warnings(&report.notes);
    }

    fn difference(&mut self, report: &Difference) {
        self.limits(report.budgets.len() + usize::from(report.growth.is_some()));
        self.figures([report.old.ram.as_ref(), report.new.ram.as_ref()]);
        for (name, side) in [("before", &report.old), ("after", &report.new)] {
            self.checksum(Some(name), side.image.sha256.as_deref());
        }
        self.date([report.old.image.newest_time, report.new.image.newest_time]);
        self.warnings(&report.notes);
    }

    fn inspection(&mut self, report: &Inspection) {
        self.limits(report.budgets.len() + usize::from(report.growth.is_some()));
        self.figures([report.ram.as_ref(), None]);
        self.checksum(None::<&str>, report.image.sha256.as_deref());
        self.date([report.image.newest_time, None]);
        self.warnings(&report.notes);
    }

    fn limits(&mut self, number: usize) {
        if number == 0 {
            self.row("limits", Mark::Neutral, "none were set (--max-size, --max-ram, --max-growth)");
        }
    }

    /// Whether figures were measured or computed.
    fn figures(&mut self, rams: [Option<&Ram>; 2]) {
        let known: Vec<&Ram> = rams.into_iter().flatten().collect();
        let measured = known.iter().filter(|ram| ram.best().origin == Origin::Measured).count();
        let ram = match (known.as_slice(), measured) {
            ([], _) => return,
            (all, measured) if measured == all.len() => {
                "minimum RAM measured on a running machine".to_owned()
            }
            ([ram, ..], 0) => format!(
                "minimum RAM {}",
                ram.notes.first().map_or("computed by the RAM model", String::as_str)
            ),
            _ => "minimum RAM measured for one image and computed for the other".to_owned(),
        };
        self.row("figures", Mark::Neutral, format!("sizes measured, {ram}"));
    }

    fn checksum(&mut self, of: Option<impl AsRef<str>>, sha256: Option<impl AsRef<str>>) {
        if let Some(sha256) = sha256 {
            let name = of.map_or_else(|| "SHA-256".to_owned(), |of| format!("SHA-256, {}", of.as_ref()));
            self.rows.push(Row {
                name,
                mark: Mark::Neutral,
                text: sha256.as_ref().to_owned(),
                code: true,
                section: None,
            });
        }
    }

    /// The date of the images: that of the newest file in them. The day on which the report was written is not in it, so
    /// that the same image gives the same page on every machine and in every run.
    fn date(&mut self, newest: [Option<i64>; 2]) {
        let dates: Vec<String> = newest.into_iter().flatten().map(time).collect();
        if !dates.is_empty() {
            self.row("date", Mark::Neutral, format!("{}, of the newest file inside", dates.join(" → ")));
        }
    }

    fn warnings(&mut self, notes: &[String]) {
        for note in super::warnings(notes) {
            self.row("warning", Mark::Warning, note);
        }
        if !notes.is_empty() {
            self.row(
                "notes",
                Mark::Neutral,
                format!("{} at the end of this page", grouped(notes.len() as u64)),
            );
            if let Some(row) = self.rows.last_mut() {
                row.section = Some("Notes");
            }
        }
    }
}

/// `text` with a capital letter at its start.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
