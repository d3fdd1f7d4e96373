use super::*;
use crate::report::data::{BootReport, MinReport, Moment};
use crate::report::units::duration;

/// Lines of the console that the answer shows of a failed boot.
const CONSOLE: usize = 5;

/// A computed figure among measured ones says so.
fn figure(figure: crate::report::data::Figure) -> String {
    match figure.origin {
        Origin::Measured => memory(figure.value),
        Origin::Computed => format!("{} computed", memory(figure.value)),
    }
}

fn moment_name(moment: &Moment) -> String {
    match (moment.phase, moment.milliseconds) {
        (Some(name), _) => phase(name).into(),
        (None, Some(at)) => format!("least available, {}", duration(at)),
        (None, None) => "least available".into(),
    }
}

/// What `boot` saw.
pub(in crate::report) fn boot(report: &BootReport) -> Document {
    let mut page = Document {
        title: report.image.clone(),
        blocks: vec![Block::Verdict { good: report.booted, text: report.outcome.clone() }],
        ..Document::default()
    };
    page.blocks.push(Block::Facts(vec![
        ("memory".into(), format!("{} MiB", report.ram_mib).into()),
        ("time".into(), duration(report.milliseconds).into()),
        ("kernel".into(), report.kernel.clone().into()),
        ("machine".into(), Cell::dim(report.accelerator.clone())),
    ]));
    if !report.moments.is_empty() {
        page.section("Memory");
        let mut table = Table::new("Memory", &["phase", ">in use", ">available"]);
        for moment in &report.moments {
            table.row([
                moment_name(moment).into(),
                figure(moment.used).into(),
                figure(moment.available).into(),
            ]);
        }
        page.table(table);
    }
    if !report.booted && !report.console.is_empty() {
        page.section("Last lines of the console");
        let from = report.console.len().saturating_sub(CONSOLE);
        page.blocks.push(Block::Console(report.console[from..].to_vec()));
        if from > 0 {
            page.end_answer();
            page.folded("More of the console");
            page.blocks.push(Block::Console(report.console.clone()));
        }
    }
    page.notes("Notes", &report.notes);
    page
}

/// What `boot --find-min` found.
pub(in crate::report) fn min(report: &MinReport) -> Document {
    let (good, text) = match report.minimum {
        Some(least) => (true, format!("boots with {} and more", mebibytes(least.value))),
        None => (false, format!("does not boot with {} MiB or less", report.to_mib)),
    };
    let mut page = Document {
        title: report.image.clone(),
        blocks: vec![Block::Verdict { good, text }],
        ..Document::default()
    };
    let mut facts: Vec<(String, Cell)> = Vec::new();
    if !report.why_less_fails.is_empty() {
        facts.push(("why less fails".into(), report.why_less_fails.clone().into()));
    }
    if let Some(computed) = report.computed {
        let off = report.minimum.map_or_else(String::new, |least| {
            format!(" ({} of the measured)", change(least.value, computed.value))
        });
        facts.push(("computed".into(), format!("{}{off}", mebibytes(computed.value)).into()));
    }
    facts.push((
        "searched".into(),
        format!("{} to {} MiB in steps of {}", report.from_mib, report.to_mib, report.step_mib).into(),
    ));
    facts.push(("kernel".into(), report.kernel.clone().into()));
    facts.push(("machine".into(), Cell::dim(report.accelerator.clone())));
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
