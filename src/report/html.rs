//! A page in one file: light and dark, on a phone and in print, without script and without anything to fetch.

use std::fmt::Write as _;

use super::charts;
use super::document::{Align, Bar, Block, Cell, MACHINES, RamCurve, Table, Tile, Tone, visible};
use super::markup::escape;
use super::{Exporter, Report, units};
use crate::error::Error;

/// A self-contained page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Html;

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
            // Long paths break between directories.
            heading = escape(&document.title).replace('/', "/<wbr>"),
            style = include_str!("style.css"),
            subtitle = escape(&document.subtitle)
        );
        let (mut open, mut section) = (false, "");
        for block in &document.blocks {
            match block {
                Block::Section(title) => {
                    let end = if open { "</section>\n" } else { "" };
                    let _ = writeln!(out, "{end}<section><h2>{}</h2>", escape(title));
                    open = true;
                    section = title;
                }
                Block::Tiles(list) => tiles(list, &mut out),
                other => {
                    if !open {
                        out.push_str("<section>\n");
                        open = true;
                    }
                    render(other, section, &mut out);
                }
            }
        }
        if open {
            out.push_str("</section>\n");
        }
        let _ = write!(
            out,
            "<footer>{} {}</footer>\n</main>\n</body>\n</html>\n",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION")
        );
        Ok(out)
    }
}

fn render(block: &Block, section: &str, out: &mut String) {
    match block {
        Block::Section(_) | Block::Tiles(_) => {}
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
    // A table with sentences in it becomes a list of cards on a phone; one of short cells stays a table.
    let long = table.rows.iter().flatten().any(|cell| cell.text.chars().count() > 24);
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
    for row in &table.rows {
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
    out.push_str("<ul class=\"legend\">");
    for name in &names {
        let _ = write!(out, "<li><span class=\"swatch c{}\"></span>{}</li>", colour(name), escape(name));
    }
    out.push_str("</ul></figure>\n");
}

fn ram(caption: &str, curves: &[RamCurve], out: &mut String) {
    let top = charts::ram_top(curves);
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
