//! Markdown (GitHub's), for merge requests and release notes.

use super::data::Directory;
use super::document::{Align, Block, MACHINES, Table, Tone, visible};
use super::{Exporter, Report, units};
use crate::error::Error;

/// Markdown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Markdown;

impl Exporter for Markdown {
    fn export(&self, report: &Report) -> Result<String, Error> {
        let document = report.document();
        let mut out = format!("# {}\n\n", escape(&document.title));
        if !document.subtitle.is_empty() {
            out.push_str(&format!("{}\n\n", escape(&document.subtitle)));
        }
        for block in &document.blocks {
            render(block, &mut out);
        }
        while out.ends_with("\n\n") {
            out.pop();
        }
        Ok(out)
    }
}

fn render(block: &Block, out: &mut String) {
    match block {
        Block::Section(title) | Block::Folded(title) => out.push_str(&format!("## {}\n", escape(title))),
        Block::Text(cell) => out.push_str(&format!("{}\n", escape(&cell.text))),
        Block::Verdict { good, text } => {
            out.push_str(&format!("{} **{}**\n", if *good { "✅" } else { "❌" }, escape(text)));
        }
        Block::Tiles(tiles) => {
            out.push_str("| | before | after | |\n|---|---:|---:|---|\n");
            for tile in tiles {
                out.push_str(&format!(
                    "| {} | {} | **{}** | {} |\n",
                    escape(&tile.label),
                    escape(&tile.before),
                    escape(&tile.after),
                    escape(&tile.note)
                ));
            }
        }
        Block::Facts(facts) => {
            out.push_str("| | |\n|---|---|\n");
            for (name, value) in facts {
                out.push_str(&format!("| {} | {} |\n", escape(name), escape(&value.text)));
            }
        }
        Block::Table(rows) if rows.shown().0.is_empty() => return,
        Block::Table(rows) => table(rows, out),
        Block::List(sentences) => {
            for sentence in sentences {
                out.push_str(&format!("- {}\n", escape(sentence)));
            }
        }
        Block::Diff { path, diff, truncated } => self::diff(path, diff, *truncated, out),
        Block::Console(lines) => fenced("", lines.iter().map(|line| visible(line)), out),
        // The tables next to the charts say the same.
        Block::Bars { .. } | Block::Trend { .. } | Block::Figures => return,
        Block::Ram { curves, .. } => {
            out.push_str("| boots with |");
            MACHINES.iter().for_each(|(_, name)| out.push_str(&format!(" {name} |")));
            out.push_str("\n|---|");
            out.push_str(&":-:|".repeat(MACHINES.len()));
            out.push('\n');
            for curve in curves {
                let Some(minimum) = curve.minimum else { continue };
                out.push_str(&format!("| {} |", escape(&curve.label)));
                for (bytes, _) in MACHINES {
                    out.push_str(if bytes >= minimum { " ✅ |" } else { " ❌ |" });
                }
                out.push('\n');
            }
        }
        Block::Treemap { root, .. } => directories(root, out),
    }
    out.push('\n');
}

fn table(table: &Table, out: &mut String) {
    out.push('|');
    for (name, _) in &table.columns {
        out.push_str(&format!(" {} |", escape(name)));
    }
    out.push_str("\n|");
    for (_, align) in &table.columns {
        out.push_str(if *align == Align::Right { "---:|" } else { "---|" });
    }
    out.push('\n');
    let (rows, more) = table.shown();
    for row in rows {
        out.push('|');
        for cell in row {
            let text = escape(&cell.text);
            let text = if cell.tone == Tone::Bad && !text.is_empty() { format!("**{text}**") } else { text };
            out.push_str(&format!(" {text} |"));
        }
        out.push('\n');
    }
    if more > 0 {
        out.push_str(&format!("\n{}\n", escape(&super::terminal::more_rows(more))));
    }
}

fn directories(root: &Directory, out: &mut String) {
    out.push_str("| directory | size | files |\n|---|---:|---:|\n");
    let mut stack = vec![(String::new(), root)];
    while let Some((prefix, directory)) = stack.pop() {
        let path = if directory.name == "/" { "/".into() } else { format!("{prefix}/{}", directory.name) };
        let size = units::size(directory.bytes);
        out.push_str(&format!("| {} | {size} | {} |\n", escape(&path), units::grouped(directory.files)));
        let prefix = if directory.name == "/" { String::new() } else { path };
        stack.extend(directory.directories.iter().take(12).rev().map(|child| (prefix.clone(), child)));
    }
}

fn diff(path: &str, diff: &str, truncated: bool, out: &mut String) {
    out.push_str(&format!("{}{}\n\n", escape(path), if truncated { " (cut short)" } else { "" }));
    fenced(
        "diff",
        diff.lines().map(|line| line.split('\t').map(visible).collect::<Vec<_>>().join("\t")),
        out,
    );
}

/// Lines as code of a `language`.
fn fenced(language: &str, lines: impl Iterator<Item = String>, out: &mut String) {
    let text = lines.map(|line| line + "\n").collect::<String>();
    // A fence longer than any run of backticks inside cannot be closed by the text itself.
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    out.push_str(&format!("{fence}{language}\n{text}{fence}\n"));
}

/// Text of an image as text: nothing in it acts as Markdown or HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '@' | '$' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names() {
        assert_eq!(escape("a|b<script>*x*\u{1b}[31m"), "a\\|b&lt;script&gt;\\*x\\*\\\\u{1b}\\[31m");
    }

    #[test]
    fn a_diff_cannot_close_its_fence() {
        let mut out = String::new();
        diff("p", "+````\n+<b>\n", false, &mut out);
        assert!(out.contains("`````diff\n+````\n+<b>\n`````\n"), "{out}");
    }
}
