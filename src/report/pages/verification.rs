use super::*;
use crate::report::data::Verification;

/// Paths that the answer names.
const FIRST: usize = 8;

/// Each path that is wrong, in a sentence.
pub(in crate::report) fn differences(report: &Verification) -> impl Iterator<Item = String> {
    let missing = report.missing.iter().map(|item| format!("missing: {}", item.path));
    let unexpected = report.unexpected.iter().map(|item| format!("not in the original: {}", item.path));
    let changed = report.changed.iter().map(|changed| {
        let what: Vec<&str> = changed.aspects.iter().map(|change| change.aspect.name()).collect();
        format!("different: {} ({})", changed.path, what.join(", "))
    });
    missing.chain(unexpected).chain(changed)
}

/// What `verify` found: one line where it holds.
pub(in crate::report) fn verification(report: &Verification) -> Document {
    let wrong = report.missing.len() + report.unexpected.len() + report.changed.len();
    if report.holds {
        let additions = match report.additions.len() as u64 {
            0 => String::new(),
            number => format!(", {}", count(number, "documented addition")),
        };
        let appended = match report.appended {
            0 => String::new(),
            number => format!(", {}", count(number, "appended path")),
        };
        let allowed = match report.allowed.len() as u64 {
            0 => String::new(),
            number => format!(", {} allowed", count(number, "difference")),
        };
        return Document {
            title: format!(
                "✓ {} holds the system of {}: {}, {} compared{additions}{appended}{allowed}",
                report.new,
                report.old,
                count(report.compared, "path"),
                size(report.bytes)
            ),
            ..Document::default()
        };
    }
    let mut page = Document {
        title: format!(
            "✗ {} does not hold the system of {}: {} wrong",
            report.new,
            report.old,
            if wrong == 1 { "1 path is".to_owned() } else { format!("{} are", count(wrong as u64, "path")) }
        ),
        ..Document::default()
    };
    let mut first: Vec<String> = differences(report).take(FIRST).collect();
    if wrong > FIRST {
        first.push(format!("… and {} more", count((wrong - FIRST) as u64, "path")));
    }
    page.blocks.push(Block::List(first));
    page.end_answer();
    items_table(&mut page, "Missing", &report.missing);
    items_table(&mut page, "Neither in the original nor documented", &report.unexpected);
    changed_table(&mut page, "Different", &report.changed.iter().collect::<Vec<_>>());
    page.notes("Notes", &report.notes);
    page
}
