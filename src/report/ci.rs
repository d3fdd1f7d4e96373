//! What CI systems read: a comment for a pull request, annotations of GitHub, JUnit's XML, CSV.

use super::digest::{Digest, verdict};
use super::document::visible;
use super::markdown::escape;
use super::{Exporter, Matrix, Report, markup};
use crate::error::Error;

/// Markdown for a comment on a pull request: at most [`LINES`] lines, details folded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Comment;

/// The longest comment.
pub const LINES: usize = 30;
/// Checks that a comment lists; failed ones come first.
const CHECKS: usize = 4;
/// Further sentences that a comment lists.
const FACTS: usize = 3;
/// Packages that a comment lists.
const PACKAGES: usize = 5;

impl Exporter for Comment {
    fn export(&self, report: &Report) -> Result<String, Error> {
        let digest = Digest::of(report);
        let mark = if digest.good() { "✅" } else { "❌" };
        let mut lines = vec![
            format!("### {mark} btrsquash: {}", verdict(&digest.checks)),
            String::new(),
            escape(&digest.title),
            String::new(),
        ];
        if !digest.tiles.is_empty() {
            lines.extend(["| | before | after | change |".into(), "|---|---:|---:|---|".into()]);
            lines.extend(digest.tiles.iter().take(3).map(|tile| {
                let cells = [&tile.label, &tile.before, &tile.after, &tile.note].map(|cell| escape(cell));
                format!("| {} |", cells.join(" | "))
            }));
            lines.push(String::new());
        }
        let (good, wrong): (Vec<_>, Vec<_>) = digest.checks.iter().partition(|check| check.good);
        let mut items: Vec<String> = wrong
            .iter()
            .chain(&good)
            .map(|check| format!("- {} {}", if check.good { "✅" } else { "❌" }, escape(&check.text)))
            .collect();
        shorten(&mut items, CHECKS);
        let mut facts: Vec<String> = digest.facts.iter().map(|fact| format!("- {}", escape(fact))).collect();
        shorten(&mut facts, FACTS);
        lines.extend(items.into_iter().chain(facts));
        if !digest.packages.is_empty() {
            lines.extend([
                String::new(),
                format!(
                    "<details><summary>The largest changes of {} packages</summary>",
                    digest.packages.len()
                ),
                String::new(),
                "| package | before | after | change |".into(),
                "|---|---|---|---:|".into(),
            ]);
            lines.extend(digest.packages.iter().take(PACKAGES).map(|row| {
                let cells: Vec<String> = row.iter().map(|cell| escape(cell)).collect();
                format!("| {} |", cells.join(" | "))
            }));
            lines.extend([String::new(), "</details>".into()]);
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }
}

/// At most `most` lines; the last of them says how many are missing.
fn shorten(lines: &mut Vec<String>, most: usize) {
    if lines.len() > most {
        let more = lines.len() - (most - 1);
        lines.truncate(most - 1);
        lines.push(format!("- … and {more} more"));
    }
}

/// Workflow commands of GitHub Actions:
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>.
#[derive(Debug, Clone, Copy, Default)]
pub struct Annotations;

impl Exporter for Annotations {
    fn export(&self, report: &Report) -> Result<String, Error> {
        let digest = Digest::of(report);
        // A runner reads commands line by line, and its own characters are escaped as its toolkit does.
        let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
        let mut out = String::new();
        for check in &digest.checks {
            let level = if check.good { "notice" } else { "error" };
            let title = property(&visible(&format!("btrsquash: {}", check.name)));
            let text = data(&visible(&format!("{}: {}", digest.title, check.text)));
            out.push_str(&format!("::{level} title={title}::{text}\n"));
        }
        for fact in &digest.facts {
            let level = if digest.good() { "notice" } else { "error" };
            out.push_str(&format!("::{level} title=btrsquash::{}\n", data(&visible(fact))));
        }
        Ok(out)
    }
}

/// JUnit's XML: one test case a check, as GitLab and Jenkins read it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Junit;

impl Exporter for Junit {
    fn export(&self, report: &Report) -> Result<String, Error> {
        let digest = Digest::of(report);
        let failures = digest.checks.iter().filter(|check| !check.good).count();
        let escape = markup::escape;
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\">\n",
            escape(&digest.title),
            digest.checks.len()
        );
        for check in &digest.checks {
            out.push_str(&format!(
                "<testcase classname=\"{}\" name=\"{}\">",
                escape(env!("CARGO_PKG_NAME")),
                escape(&check.name)
            ));
            if !check.good {
                out.push_str(&format!("<failure message=\"{}\">", escape(&check.text)));
                digest.facts.iter().for_each(|fact| out.push_str(&format!("{}\n", escape(fact))));
                out.push_str("</failure>");
            }
            out.push_str("</testcase>\n");
        }
        out.push_str("</testsuite>\n</testsuites>\n");
        Ok(out)
    }
}

/// CSV (RFC 4180): one row a figure, in bytes; of several images one row an image.
#[derive(Debug, Clone, Copy, Default)]
pub struct Csv;

impl Exporter for Csv {
    fn export(&self, report: &Report) -> Result<String, Error> {
        if let Report::Matrix(matrix) = report {
            return Ok(self::matrix(matrix));
        }
        let digest = Digest::of(report);
        let mut out = String::from("image,kind,name,bytes_before,bytes_after\r\n");
        for metric in &digest.metrics {
            let cells = [
                field(&digest.title),
                metric.kind.to_owned(),
                field(&metric.name),
                number(metric.before),
                number(metric.after),
            ];
            out.push_str(&format!("{}\r\n", cells.join(",")));
        }
        Ok(out)
    }
}

/// One row an image.
fn matrix(matrix: &Matrix) -> String {
    let mut out = String::from(
        "image,exit_code,message,verdict,distribution,bytes_before,bytes_after,ram_bytes_before,ram_bytes_after,new,sha256,warnings\r\n",
    );
    let text = |text: &Option<String>| text.as_deref().map_or_else(String::new, field);
    for row in &matrix.images {
        let cells = [
            field(&row.image),
            row.exit_code.to_string(),
            text(&row.message),
            text(&row.verdict),
            text(&row.distribution),
            number(row.size),
            number(row.new_size),
            number(row.ram.map(|ram| ram.value)),
            number(row.new_ram.map(|ram| ram.value)),
            text(&row.new),
            text(&row.sha256),
            field(&row.warnings.join("; ")),
        ];
        out.push_str(&format!("{}\r\n", cells.join(",")));
    }
    out
}

/// A number as one field, empty if it is not known.
fn number(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| bytes.to_string())
}

/// Text of an image as one field: quoted where it has to be, and nothing that a spreadsheet takes for a formula.
pub(super) fn field(text: &str) -> String {
    let mut text = visible(text);
    if text.starts_with(['=', '+', '-', '@']) {
        text.insert(0, '\'');
    }
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stay_fields() {
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(field("=1+1"), "'=1+1");
        assert_eq!(field("x\ny"), "x\\ny");
    }

    #[test]
    fn long_lists_say_what_they_leave_out() {
        let mut lines: Vec<String> = (0..7).map(|n| format!("- {n}")).collect();
        shorten(&mut lines, 3);
        assert_eq!(lines, ["- 0", "- 1", "- … and 5 more"]);
    }
}
