use super::*;
use crate::report::data::Verification;

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
    items_table(&mut page, "Missing", &report.missing);
    items_table(&mut page, "Neither in the original nor documented", &report.unexpected);
    changed_table(&mut page, "Different", &report.changed.iter().collect::<Vec<_>>());
    page.notes("Notes", &report.notes);
    page
}
