//! A page in one file: light and dark, on a phone and in print, without script and without anything to fetch.

use std::fmt::Write as _;

use super::charts;
use super::digest::{self, Digest};
use super::document::{Align, Bar, Block, Cell, Document, MACHINES, RamCurve, Table, Tile, Tone, visible};
use super::markup::escape;
use super::{Exporter, Report, units};
use crate::error::Error;

/// A self-contained page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Html;

/// Rows of a table that are always shown, when it has more than a few beyond them.
const ROWS: usize = 15;

/// Nothing may be loaded and nothing may run, whatever an image's names hold: the policy is the second lock after
/// escaping.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
    <link rel=\"icon\" href=\"data:,\">\n";

impl Exporter for Html {
    fn export(&self, report: &Report) -> Result<String, Error> {
        let document = report.document();
        let mut out = String::from(HEAD);
        let _ = write!(
            out,
            "<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n<header><h1>{heading}</h1><p>{subtitle}</p></header>\n",
            title = escape(&document.title),
            heading = heading(&document.title),
            style = include_str!("style.css"),
            subtitle = escape(&document.subtitle)
        );
        let digest = Digest::of(report);
        band(&digest, &mut out);
        contents(&document, &mut out);
        let (mut open, mut section, mut number) = ("", "", 0);
        for block in &document.blocks {
            match block {
                Block::Section(title) | Block::Folded(title) => {
                    number += 1;
                    let _ = write!(out, "{open}<section id=\"s{number}\">");
                    open = if matches!(block, Block::Folded(_)) {
                        let _ = writeln!(out, "<details><summary><h2>{}</h2></summary>", escape(title));
                        "</details></section>\n"
                    } else {
                        let _ = writeln!(out, "<h2>{}</h2>", escape(title));
                        "</section>\n"
                    };
                    section = title;
                }
                Block::Tiles(list) => tiles(list, &mut out),
                // The band says it.
                Block::Verdict { text, .. } if digest.checks.iter().any(|check| check.text == *text) => {}
                other => {
                    if open.is_empty() {
                        out.push_str("<section>\n");
                        open = "</section>\n";
                    }
                    render(other, section, &mut out);
                }
            }
        }
        out.push_str(open);
        let _ = write!(
            out,
            "<footer>{} {}</footer>\n</main>\n</body>\n</html>\n",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION")
        );
        Ok(out)
    }
}

/// The title: names of files stand out, the directories they are in do not. Long paths break between directories.
fn heading(title: &str) -> String {
    let part = |path: &str| {
        let (directory, name) =
            path.rsplit_once('/').map_or(("", path), |(directory, name)| (directory, name));
        let directory = if directory.is_empty() {
            String::new()
        } else {
            format!("<span class=\"dir\">{}/<wbr></span>", escape(directory).replace('/', "/<wbr>"))
        };
        format!("{directory}{}", escape(name))
    };
    title.split(" → ").map(part).collect::<Vec<_>>().join(" → ")
}

/// The answer across the page: what holds and what fails. Without a limit there is nothing to judge.
fn band(digest: &Digest, out: &mut String) {
    if digest.checks.is_empty() {
        return;
    }
    let class = if digest.good() { "holds" } else { "fails" };
    let _ = writeln!(
        out,
        "<div class=\"band {class}\" role=\"status\"><strong>{}</strong>\n<ul>",
        escape(&digest::verdict(&digest.checks))
    );
    let (good, wrong): (Vec<_>, Vec<_>) = digest.checks.iter().partition(|check| check.good);
    for check in wrong.into_iter().chain(good) {
        let (mark, class) = if check.good { ("✓", "good") } else { ("✗", "bad") };
        let _ = writeln!(out, "<li><span class=\"{class}\">{mark}</span> {}</li>", escape(&check.text));
    }
    out.push_str("</ul></div>\n");
}

/// Links to the sections.
fn contents(document: &Document, out: &mut String) {
    let titles = document.blocks.iter().filter_map(|block| match block {
        Block::Section(title) | Block::Folded(title) => Some(title),
        _ => None,
    });
    let links: Vec<String> = (1..)
        .zip(titles)
        .map(|(number, title): (u32, _)| format!("<a href=\"#s{number}\">{}</a>", escape(title)))
        .collect();
    if links.len() > 2 {
        let _ = writeln!(out, "<nav aria-label=\"Contents\">{}</nav>", links.join(" "));
    }
}

fn render(block: &Block, section: &str, out: &mut String) {
    match block {
        Block::Section(_) | Block::Folded(_) | Block::Tiles(_) => {}
        Block::Text(cell) => {
            let _ = writeln!(out, "<p{}>{}</p>", class(cell.tone), escape(&cell.text));
        }
        Block::Verdict { good, text } => {
            let (mark, class) = if *good { ("✓", "good") } else { ("✗", "bad") };
            let _ = writeln!(out, "<p class=\"verdict {class}\">{mark} {}</p>", escape(text));
        }
        Block::Facts(facts) => {
            out.push_str("<dl>\n");
            for (name, value) in facts {
                let _ = writeln!(
                    out,
                    "<dt>{}</dt><dd{}>{}</dd>",
                    escape(name),
                    class(value.tone),
                    escape(&value.text)
                );
            }
            out.push_str("</dl>\n");
        }
        Block::Table(rows) => table(rows, section, out),
        Block::List(sentences) => {
            out.push_str("<ul>\n");
            for sentence in sentences {
                let _ = writeln!(out, "<li>{}</li>", escape(sentence));
            }
            out.push_str("</ul>\n");
        }
        Block::Diff { path, diff, truncated } => self::diff(path, diff, *truncated, out),
        Block::Console(lines) => {
            let lines = lines.iter().map(|line| escape(line)).collect::<Vec<_>>().join("\n");
            let _ = writeln!(out, "<pre>{lines}</pre>");
        }
        Block::Bars { caption, bars } => self::bars(caption, bars, out),
        Block::Ram { caption, curves } => ram(caption, curves, out),
        Block::Treemap { caption, root } => {
            let _ = writeln!(
                out,
                "<figure><figcaption>{}</figcaption>{}</figure>",
                escape(caption),
                charts::treemap(root)
            );
            let mut rows = Table::new("The largest directories", &["directory", ">files", ">size"]);
            for directory in root.directories.iter().take(12) {
                rows.row([
                    format!("/{}", directory.name).into(),
                    units::grouped(directory.files).into(),
                    units::size(directory.bytes).into(),
                ]);
            }
            table(&rows, "", out);
        }
    }
}

fn tiles(tiles: &[Tile], out: &mut String) {
    out.push_str("<div class=\"tiles\">\n");
    for tile in tiles {
        let before = if tile.before.is_empty() {
            String::new()
        } else {
            format!("<span class=\"before\">{} → </span>", escape(&tile.before))
        };
        let _ = writeln!(
            out,
            "<div class=\"tile\"><div class=\"label\">{}</div><div class=\"figures\">{before}{}</div><div{}>{}</div></div>",
            escape(&tile.label),
            escape(&tile.after),
            class(tile.tone),
            escape(&tile.note)
        );
    }
    out.push_str("</div>\n");
}

fn table(table: &Table, section: &str, out: &mut String) {
    let more = table.rows.len().saturating_sub(ROWS);
    if more <= ROWS / 2 {
        return rows(table, &table.rows, section, out);
    }
    rows(table, &table.rows[..ROWS], section, out);
    let _ = write!(out, "<details><summary>{} more</summary>", units::grouped(more as u64));
    // The caption is there for those who hear the page.
    rows(table, &table.rows[ROWS..], &table.caption, out);
    out.push_str("</details>\n");
}

fn rows(table: &Table, rows: &[Vec<Cell>], section: &str, out: &mut String) {
    // A table with sentences in it becomes a list of cards on a phone; one of short cells stays a table.
    let long = rows.iter().flatten().any(|cell| cell.text.chars().count() > 24);
    let stack = match (long, table.columns.len() > 2) {
        (true, true) => " class=\"stack\"",
        (true, false) => "",
        (false, _) => " class=\"short\"",
    };
    // A caption that repeats the heading is for those who hear the page.
    let hidden = if section.to_lowercase().starts_with(&table.caption.to_lowercase()) {
        " class=\"hear\""
    } else {
        ""
    };
    let _ = write!(
        out,
        "<div class=\"scroll\"><table{stack}><caption{hidden}>{}</caption><thead><tr>",
        escape(&table.caption)
    );
    for (name, align) in &table.columns {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", side(*align), escape(name));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (cell, (name, align)) in row.iter().zip(&table.columns) {
            let _ = write!(out, "<td{} data-h=\"{}\">{}</td>", side(*align), escape(name), toned(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn toned(cell: &Cell) -> String {
    match cell.tone {
        Tone::Plain => escape(&cell.text),
        _ if cell.text.is_empty() => String::new(),
        tone => format!("<span{}>{}</span>", class(tone), escape(&cell.text)),
    }
}

fn diff(path: &str, diff: &str, truncated: bool, out: &mut String) {
    let _ = write!(out, "<h3>{}</h3>\n<pre>", escape(path));
    for line in diff.lines() {
        // A tab shows as itself; everything else that could disturb is escaped.
        let text = line.split('\t').map(escape).collect::<Vec<_>>().join("\t");
        let class = match line.as_bytes().first() {
            Some(b'+') => "add",
            Some(b'-') => "del",
            Some(b'@') => "at",
            _ => "",
        };
        if class.is_empty() {
            let _ = writeln!(out, "{text}");
        } else {
            let _ = writeln!(out, "<span class=\"{class}\">{text}</span>");
        }
    }
    out.push_str("</pre>\n");
    if truncated {
        out.push_str("<p class=\"dim\">(cut short)</p>\n");
    }
}

fn bars(caption: &str, bars: &[Bar], out: &mut String) {
    let longest = bars.iter().map(Bar::total).max().unwrap_or(0);
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in bars.iter().flat_map(|bar| &bar.parts) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let colour = |name: &str| names.iter().position(|n| *n == name).unwrap_or(0) % charts::COLOURS;
    let _ = writeln!(out, "<figure><figcaption>{}</figcaption>", escape(caption));
    for bar in bars {
        let _ = writeln!(
            out,
            "<div class=\"barline\"><span>{}</span>{}<span>{}</span></div>",
            escape(&bar.label),
            charts::bar(bar, longest, &colour),
            units::size(bar.total())
        );
    }
    let _ = writeln!(
        out,
        "<div class=\"barline ticks\" aria-hidden=\"true\"><span></span><span><span>0</span><span>{}</span><span>{}</span></span><span></span></div>",
        units::size(longest / 2),
        units::size(longest)
    );
    out.push_str("<ul class=\"legend\">");
    for name in &names {
        let _ = write!(out, "<li><span class=\"swatch c{}\"></span>{}</li>", colour(name), escape(name));
    }
    out.push_str("</ul></figure>\n");
}

fn ram(caption: &str, curves: &[RamCurve], out: &mut String) {
    let top = charts::ram_top(curves);
    let _ = writeln!(
        out,
        "<figure><figcaption>Minimum RAM against the memory of machines (logarithmic), for numbers of possible CPUs</figcaption>{}</figure>",
        charts::machines(curves)
    );
    let _ = writeln!(out, "<figure><figcaption>{}</figcaption><div class=\"panels\">", escape(caption));
    for (i, curve) in curves.iter().enumerate() {
        // A single image has nothing before it.
        let colour = if i == 0 && curves.len() > 1 { "before" } else { "after" };
        let _ =
            writeln!(out, "<div><h3>{}</h3>{}</div>", escape(&curve.label), charts::ram(curve, top, colour));
    }
    out.push_str("</div></figure>\n");
    let mut columns = vec!["machine"];
    let labels: Vec<String> = curves.iter().map(|curve| visible(&curve.label)).collect();
    columns.extend(labels.iter().map(String::as_str));
    let mut rows = Table::new("Which machines boot", &columns);
    for (bytes, name) in MACHINES {
        let mut row = vec![Cell::from(name)];
        row.extend(curves.iter().map(|curve| match curve.minimum {
            Some(minimum) if bytes >= minimum => Cell::toned("✓ boots", Tone::Good),
            Some(_) => Cell::toned("✗ too small", Tone::Bad),
            None => Cell::dim("not known"),
        }));
        rows.rows.push(row);
    }
    table(&rows, "", out);
}

fn class(tone: Tone) -> String {
    match tone {
        Tone::Plain => String::new(),
        Tone::Good => " class=\"good\"".into(),
        Tone::Bad => " class=\"bad\"".into(),
        Tone::Dim => " class=\"dim\"".into(),
    }
}

const fn side(align: Align) -> &'static str {
    match align {
        Align::Left => "",
        Align::Right => " class=\"n\"",
    }
}
