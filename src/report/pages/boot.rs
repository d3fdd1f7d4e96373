use super::*;
use crate::report::data::{BootReport, MinReport};
use crate::report::units::duration;

/// Lines of the console that a failed boot shows.
const CONSOLE: usize = 30;

/// What `boot` saw.
pub(in crate::report) fn boot(report: &BootReport) -> Document {
    let mut page = Document {
        title: report.image.clone(),
        subtitle: format!("kernel {}, {} MiB, {}", report.kernel, report.ram_mib, report.accelerator),
        blocks: vec![Block::Verdict {
            good: report.booted,
            text: format!("{}, after {}", report.outcome, duration(report.milliseconds)),
        }],
    };
    if !report.moments.is_empty() {
        page.section("Memory");
        let mut table = Table::new("Memory", &["moment", ">in use", ">available"]);
        for moment in &report.moments {
            table.row([
                moment.name.clone().into(),
                memory(moment.used.value).into(),
                memory(moment.available.value).into(),
            ]);
        }
        page.table(table);
    }
    if !report.booted && !report.console.is_empty() {
        page.section("The console's last lines");
        for line in report.console.iter().rev().take(CONSOLE).rev() {
            page.text(line.clone());
        }
    }
    page.notes("Notes", &report.notes);
    page
}

/// What `boot --find-min` found.
pub(in crate::report) fn min(report: &MinReport) -> Document {
    let (good, text) = match report.least {
        Some(least) => (true, format!("boots with {} and more", mebibytes(least.value))),
        None => (false, format!("does not boot with {} MiB or less", report.to_mib)),
    };
    let mut page = Document {
        title: report.image.clone(),
        subtitle: format!("kernel {}, {}", report.kernel, report.accelerator),
        blocks: vec![Block::Verdict { good, text }],
    };
    let mut facts: Vec<(String, Cell)> = Vec::new();
    if let Some(least) = report.least {
        facts.push(("measured".into(), mebibytes(least.value).into()));
    }
    if let Some(computed) = report.computed {
        let off = report.least.map_or_else(String::new, |least| {
            format!(" ({} of the measured)", change(least.value, computed.value))
        });
        facts.push(("computed".into(), format!("{}{off}", mebibytes(computed.value)).into()));
    }
    if !report.why_less_fails.is_empty() {
        facts.push(("why less fails".into(), report.why_less_fails.clone().into()));
    }
    facts.push((
        "searched".into(),
        format!("{} to {} MiB in steps of {}", report.from_mib, report.to_mib, report.step_mib).into(),
    ));
    page.blocks.push(Block::Facts(facts));
    page.section("Tries");
    let mut table = Table::new("Tries", &[">RAM", "booted", ">time", "why not"]);
    for try_ in &report.tries {
        let (word, tone) = if try_.booted { ("yes", Tone::Good) } else { ("no", Tone::Bad) };
        table.row([
            format!("{} MiB", try_.ram_mib).into(),
            Cell::toned(word, tone),
            duration(try_.milliseconds).into(),
            try_.why.clone().into(),
        ]);
    }
    page.table(table);
    page.notes("Notes", &report.notes);
    page
}
