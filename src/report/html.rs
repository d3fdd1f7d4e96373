//! A page in one file: light and dark, on a phone and in print, without script and without anything to fetch.

use std::fmt::Write as _;

use super::band::{Band, Mark};
use super::charts;
use super::data::Directory;
use super::document::{Align, Bar, Block, Cell, Document, MACHINES, RamCurve, Table, Tile, Tone, visible};
use super::markup::{escape, prose};
use super::{Exporter, Report, units};
use crate::error::Error;

/// A self-contained page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Html;

/// Directories and files that the table of a treemap has.
const DIRECTORIES: usize = 100;
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
        let band = Band::of(report, &document);
        if let Some(band) = &band {
            self::band(band, &document, &mut out);
        }
        // Of the answer the band has everything but the tiles.
        let told = band.as_ref().is_some_and(|band| band.answer);
        let answer = document.answer.filter(|_| told).unwrap_or(0).min(document.blocks.len());
        let (answer, rest) = document.blocks.split_at(answer);
        for block in answer {
            if let Block::Tiles(list) = block {
                tiles(list, &mut out);
            }
        }
        contents(&document, &mut out);
        let mut page = Page { out, title: String::new(), number: 0, open: Vec::new() };
        for block in rest {
            match block {
                Block::Verdict { .. } if band.is_some() => {}
                other => page.block(other),
            }
        }
        page.close(0);
        let _ = write!(
            page.out,
            "<footer>{} {}</footer>\n</main>\n</body>\n</html>\n",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION")
        );
        Ok(page.out)
    }
}

/// A page while it is written.
struct Page {
    out: String,
    /// The section's heading.
    title: String,
    /// The section's number.
    number: usize,
    /// The end tags of what is open.
    open: Vec<&'static str>,
}

impl Page {
    /// Closes elements until `left` are open.
    fn close(&mut self, left: usize) {
        while self.open.len() > left {
            self.out.push_str(self.open.pop().unwrap_or_default());
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Section(title) | Block::Folded(title) => {
                self.close(0);
                self.number += 1;
                self.title.clone_from(title);
                let _ = write!(self.out, "<section id=\"s{}\">", self.number);
                if matches!(block, Block::Folded(_)) {
                    let _ = writeln!(self.out, "<details><summary><h2>{}</h2></summary>", escape(title));
                    self.open.push("</details></section>\n");
                } else {
                    let _ = writeln!(self.out, "<h2>{}</h2>", escape(title));
                    self.open.push("</section>\n");
                }
            }
            Block::Tiles(list) => tiles(list, &mut self.out),
            Block::Figures => {
                self.out.push_str("<details class=\"figures\"><summary>Figures</summary>\n");
                self.open.push("</details>\n");
            }
            other => {
                if self.open.is_empty() {
                    self.out.push_str("<section>\n");
                    self.open.push("</section>\n");
                }
                render(other, &self.title, self.number, &mut self.out);
            }
        }
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

/// The answer across the page: the verdict, and what it rests on.
fn band(band: &Band, document: &Document, out: &mut String) {
    let class = |mark| match mark {
        Mark::Good => "holds",
        Mark::Bad | Mark::Warning => "fails",
        Mark::Neutral => "open",
    };
    let sign = |mark| match mark {
        Mark::Good => "<span class=\"good\">✓</span> ",
        Mark::Bad => "<span class=\"bad\">✗</span> ",
        Mark::Warning => "<span class=\"bad\">⚠</span> ",
        Mark::Neutral => "",
    };
    let _ = writeln!(
        out,
        "<div class=\"band {}\" role=\"status\"><strong>{}{}</strong>\n<dl>",
        class(band.mark),
        sign(band.mark),
        escape(&band.headline)
    );
    for row in &band.rows {
        let text = prose(&row.text);
        let section = row.section.and_then(|name| titles(document).position(|title| title == name));
        let text = match section {
            _ if row.code => format!("<code>{text}</code>"),
            Some(number) => format!("<a href=\"#s{}\">{text}</a>", number + 1),
            None => text,
        };
        let _ = writeln!(out, "<dt>{}</dt><dd>{}{text}</dd>", escape(&row.name), sign(row.mark));
    }
    out.push_str("</dl></div>\n");
}

/// The headings, in order.
fn titles(document: &Document) -> impl Iterator<Item = &str> {
    document.blocks.iter().filter_map(|block| match block {
        Block::Section(title) | Block::Folded(title) => Some(title.as_str()),
        _ => None,
    })
}

/// Links to the sections.
fn contents(document: &Document, out: &mut String) {
    let links: Vec<String> = (1..)
        .zip(titles(document))
        .map(|(number, title): (u32, _)| format!("<a href=\"#s{number}\">{}</a>", escape(title)))
        .collect();
    if links.len() > 2 {
        let _ = writeln!(out, "<nav aria-label=\"Contents\">{}</nav>", links.join(" "));
    }
}

fn render(block: &Block, section: &str, number: usize, out: &mut String) {
    match block {
        Block::Section(_) | Block::Folded(_) | Block::Tiles(_) | Block::Figures => {}
        Block::Text(cell) => {
            let _ = writeln!(out, "<p{}>{}</p>", class(cell.tone), prose(&cell.text));
        }
        Block::Verdict { good, text } => {
            let (mark, class) = if *good { ("✓", "good") } else { ("✗", "bad") };
            let _ = writeln!(out, "<p class=\"verdict {class}\">{mark} {}</p>", prose(text));
        }
        Block::Facts(facts) => {
            out.push_str("<dl>\n");
            for (name, value) in facts {
                let _ = writeln!(
                    out,
                    "<dt>{}</dt><dd{}>{}</dd>",
                    escape(name),
                    class(value.tone),
                    prose(&value.text)
                );
            }
            out.push_str("</dl>\n");
        }
        Block::Table(rows) => table(rows, section, out),
        Block::List(sentences) => {
            out.push_str("<ul>\n");
            for sentence in sentences {
                let _ = writeln!(out, "<li>{}</li>", prose(sentence));
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
        Block::Trend { caption, memory, points } => {
            let _ = writeln!(
                out,
                "<figure><figcaption>{}</figcaption>{}</figure>",
                escape(caption),
                charts::trend(points, *memory)
            );
        }
        Block::Treemap { caption, root } => treemap(caption, root, number, out),
    }
}

fn treemap(caption: &str, root: &Directory, number: usize, out: &mut String) {
    let _ = writeln!(
        out,
        "<figure><figcaption>{} Choose a directory to look inside.</figcaption>{}</figure>",
        escape(caption),
        charts::treemap(root, number)
    );
    let mut largest: Vec<(String, &Directory)> = Vec::new();
    let mut open = vec![(String::new(), root)];
    while let Some((path, directory)) = open.pop() {
        for child in &directory.directories {
            let path = format!("{path}/{}", child.name);
            open.push((path.clone(), child));
            largest.push((path, child));
        }
    }
    let (image, compared) = (root.image_bytes.is_some(), root.old_bytes.is_some());
    largest.sort_by(|a, b| charts::weight(b.1).cmp(&charts::weight(a.1)).then_with(|| a.0.cmp(&b.0)));
    let mut columns = vec!["path", ">files", ">unpacked"];
    columns.extend(image.then_some(">in the image"));
    columns.extend(compared.then_some(">change"));
    let mut rows = Table::new("The largest directories and files", &columns);
    for (path, directory) in largest.into_iter().take(DIRECTORIES) {
        let mut row: Vec<Cell> =
            vec![path.into(), units::grouped(directory.files).into(), units::size(directory.bytes).into()];
        row.extend(directory.image_bytes.map(|bytes| units::size(bytes).into()));
        let before = charts::weight_before(directory);
        row.extend(before.map(|old| units::delta(old, charts::weight(directory)).into()));
        rows.rows.push(row);
    }
    out.push_str("<details class=\"figures\"><summary>Figures</summary>\n");
    table(&rows, "", out);
    out.push_str("</details>\n");
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
    // A table with sentences in it, or with many columns that are not narrow, becomes a list of cards on a phone; one of
    // short cells stays a table.
    let longest = rows.iter().flatten().map(|cell| cell.text.chars().count()).max().unwrap_or(0);
    let (long, columns) = (longest > 24, table.columns.len());
    let stack = if columns > 2 && (long || (columns > 5 && longest > 7)) {
        " class=\"stack\""
    } else if long {
        ""
    } else {
        " class=\"short\""
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
    // The colour of a part is the same in all bars; with one bar the legend says how large each is.
    out.push_str("<ul class=\"legend\">");
    for name in &names {
        let value = match bars {
            [bar] => bar.parts.iter().find(|part| part.0 == *name).map(|part| units::size(part.1)),
            _ => None,
        };
        let value = value.map_or_else(String::new, |value| format!(" {value}"));
        let _ =
            write!(out, "<li><span class=\"swatch c{}\"></span>{}{value}</li>", colour(name), escape(name));
    }
    out.push_str("</ul></figure>\n");
}

fn ram(caption: &str, curves: &[RamCurve], out: &mut String) {
    let top = charts::ram_top(curves);
    let _ = write!(
        out,
        "<figure><figcaption>Minimum RAM for numbers of possible CPUs, against the memory of machines (logarithmic)</figcaption>{}<ul class=\"legend\">",
        charts::machines(curves)
    );
    let class = |i: usize| charts::side(i, curves.len());
    for (i, curve) in curves.iter().enumerate() {
        let _ = write!(out, "<li><span class=\"swatch {}\"></span>{}</li>", class(i), escape(&curve.label));
    }
    if curves.iter().any(|curve| curve.measured) {
        out.push_str("<li><span class=\"swatch line\"></span>measured</li>");
    }
    out.push_str("</ul></figure>\n");
    let columns: Vec<&str> = std::iter::once("RAM").chain(MACHINES.map(|(_, name)| name)).collect();
    let mut rows = Table::new("Which machines boot", &columns);
    for curve in curves {
        let mut row = vec![Cell::from(visible(&curve.label))];
        row.extend(MACHINES.iter().map(|(bytes, _)| match curve.minimum {
            Some(minimum) if *bytes >= minimum => Cell::toned("✓ yes", Tone::Good),
            Some(_) => Cell::toned("✗ no", Tone::Bad),
            None => Cell::dim("not known"),
        }));
        rows.rows.push(row);
    }
    table(&rows, "", out);
    let _ = writeln!(out, "<figure><figcaption>{}</figcaption><div class=\"panels\">", escape(caption));
    for (i, curve) in curves.iter().enumerate() {
        let _ = writeln!(
            out,
            "<div><h3>{}</h3>{}</div>",
            escape(&curve.label),
            charts::ram(curve, top, class(i))
        );
    }
    out.push_str("</div></figure>\n");
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
