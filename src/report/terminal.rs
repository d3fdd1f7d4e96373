//! The terminal: aligned, within the width of the window, coloured where the caller says so.

use super::data::Directory;
use super::document::{Align, Bar, Block, Cell, Document, MACHINES, RamCurve, Table, Tile, Tone, visible};
use super::{Exporter, Report, units};
use crate::error::Error;

/// Text for a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Whether to colour (the caller knows whether it is a terminal and whether `NO_COLOR` is set).
    pub colour: bool,
    /// Columns of the window; at least 40 are used, at most 100.
    pub width: usize,
}

/// Directories of one level that are listed.
const FOLDERS: usize = 12;
/// Directories that hold less than this part of everything are not listed.
const SMALL: u64 = 50;

impl Exporter for Terminal {
    fn export(&self, report: &Report) -> Result<String, Error> {
        let document = report.document();
        Ok(self.page(&document, &document.blocks))
    }
}

impl Terminal {
    /// The answer of a report alone, with a line that says how to see the rest.
    #[must_use]
    pub fn answer(&self, report: &Report) -> String {
        let document = report.document();
        let blocks = document.answer.and_then(|end| document.blocks.get(..end)).unwrap_or(&document.blocks);
        let mut text = self.page(&document, blocks);
        if blocks.len() < document.blocks.len() {
            let mut page = Page { out: text, ..Page::new(*self) };
            page.paragraph("--full shows the whole report", Tone::Dim, 2);
            text = page.out;
        }
        text
    }

    fn page(&self, document: &Document, blocks: &[Block]) -> String {
        let mut page = Page::new(*self);
        let title = page.paint(&visible(&document.title), "1");
        page.line(&title);
        if !document.subtitle.is_empty() {
            page.paragraph(&document.subtitle, Tone::Dim, 0);
        }
        for block in blocks {
            page.block(block);
        }
        page.out
    }
}

struct Page {
    out: String,
    /// The section's title: a table of the same name needs no caption.
    section: String,
    colour: bool,
    width: usize,
}

impl Page {
    fn new(terminal: Terminal) -> Self {
        Self {
            out: String::new(),
            section: String::new(),
            colour: terminal.colour,
            width: terminal.width.clamp(40, 100),
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    /// `text` in an ANSI style (SGR parameters), where colour is wanted.
    fn paint(&self, text: &str, style: &str) -> String {
        if self.colour && !style.is_empty() { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn tone(&self, text: &str, tone: Tone) -> String {
        self.paint(
            text,
            match tone {
                Tone::Plain => "",
                Tone::Good => "32",
                Tone::Bad => "31",
                Tone::Dim => "2",
            },
        )
    }

    fn paragraph(&mut self, text: &str, tone: Tone, indent: usize) {
        for line in wrap(&visible(text), self.width - indent) {
            let line = format!("{}{}", " ".repeat(indent), self.tone(&line, tone));
            self.line(&line);
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Section(title) | Block::Folded(title) => {
                self.section.clone_from(title);
                let title = self.paint(&visible(title), "1;36");
                self.line("");
                self.line(&title);
            }
            Block::Text(cell) => self.paragraph(&cell.text, cell.tone, 2),
            Block::Verdict { good, text } => {
                let (mark, tone) = if *good { ("✓", Tone::Good) } else { ("✗", Tone::Bad) };
                let lines = wrap(&visible(text), self.width - 2);
                for (i, line) in lines.iter().enumerate() {
                    let mark = if i == 0 { self.tone(mark, tone) } else { " ".into() };
                    self.line(&format!("{mark} {line}"));
                }
            }
            Block::Tiles(tiles) => self.tiles(tiles),
            Block::Facts(facts) => self.facts(facts),
            Block::Table(table) => self.table(table),
            Block::List(sentences) => {
                for sentence in sentences {
                    for (i, line) in wrap(&visible(sentence), self.width - 4).iter().enumerate() {
                        self.line(&format!("  {} {line}", if i == 0 { "•" } else { " " }));
                    }
                }
            }
            Block::Diff { path, diff, truncated } => self.diff(path, diff, *truncated),
            // Never wrapped by us: what a console says in one line stays one line, also when it is copied.
            Block::Console(lines) => {
                for line in lines {
                    let line = format!("  {}", self.tone(&visible(line), Tone::Dim));
                    self.line(&line);
                }
            }
            Block::Bars { bars, .. } => self.bars(bars),
            Block::Ram { curves, .. } => self.machines(curves),
            Block::Treemap { root, .. } => self.directories(root),
            // The table with it says the same.
            Block::Trend { .. } | Block::Figures => {}
        }
    }

    fn tiles(&mut self, tiles: &[Tile]) {
        let width = |text: fn(&Tile) -> &str| tiles.iter().map(|t| columns(text(t))).max().unwrap_or(0);
        let (label, before, after) = (width(|t| &t.label), width(|t| &t.before), width(|t| &t.after));
        self.line("");
        for tile in tiles {
            let arrow = if tile.before.is_empty() { " " } else { "→" };
            let figure = self.paint(&pad(&visible(&tile.after), after, Align::Right), "1");
            let was = if before == 0 {
                String::new()
            } else {
                format!("{} {arrow} ", pad(&visible(&tile.before), before, Align::Right))
            };
            let head = format!("  {}  {was}", pad(&visible(&tile.label), label, Align::Left));
            let room = self.width.saturating_sub(columns(&head) + after + 2).max(12);
            for (i, note) in wrap(&visible(&tile.note), room).iter().enumerate() {
                let note = self.tone(note, tile.tone);
                if i == 0 {
                    self.line(&format!("{head}{figure}  {note}"));
                } else {
                    self.line(&format!("{}{note}", " ".repeat(columns(&head) + after + 2)));
                }
            }
        }
    }

    fn facts(&mut self, facts: &[(String, Cell)]) {
        let name_width = facts.iter().map(|(name, _)| columns(name)).max().unwrap_or(0).min(24);
        for (name, value) in facts {
            let room = self.width.saturating_sub(name_width + 4).max(16);
            let text = visible(&value.text);
            // A path alone stays whole: it is there to be copied.
            let lines = if text.contains(' ') { wrap(&text, room) } else { vec![text] };
            for (i, line) in lines.iter().enumerate() {
                let name = if i == 0 { visible(name) } else { String::new() };
                let name = self.tone(&pad(&name, name_width, Align::Left), Tone::Dim);
                let line = self.tone(line, value.tone);
                self.line(&format!("  {name}  {line}"));
            }
        }
    }

    fn table(&mut self, table: &Table) {
        let (rows, more) = table.shown();
        if rows.is_empty() {
            return;
        }
        let widths = fit(table, self.width - 2);
        if !self.section.to_lowercase().starts_with(&table.caption.to_lowercase()) {
            let caption = self.paint(&visible(&table.caption), "1");
            self.line(&format!("  {caption}"));
        }
        let heading: Vec<Cell> =
            table.columns.iter().map(|(name, _)| Cell::toned(name.clone(), Tone::Dim)).collect();
        for row in std::iter::once(&heading).chain(rows) {
            let cells: Vec<Vec<String>> =
                row.iter().zip(&widths).map(|(cell, &width)| wrap(&visible(&cell.text), width)).collect();
            for i in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let mut line = String::from(" ");
                for (((_, align), width), (cell, lines)) in
                    table.columns.iter().zip(&widths).zip(row.iter().zip(&cells))
                {
                    let text = lines.get(i).map_or("", String::as_str);
                    let padded = pad(text, *width, *align);
                    line.push(' ');
                    line.push_str(&self.tone(&padded, if text.is_empty() { Tone::Plain } else { cell.tone }));
                    line.push(' ');
                }
                self.line(&line);
            }
        }
        if more > 0 {
            self.paragraph(&more_rows(more), Tone::Dim, 2);
        }
    }

    fn diff(&mut self, path: &str, diff: &str, truncated: bool) {
        let head = self.paint(&format!("  {}", visible(path)), "1");
        self.line(&head);
        for line in diff.lines() {
            let style = match line.as_bytes().first() {
                Some(b'+') => "32",
                Some(b'-') => "31",
                Some(b'@') => "36",
                _ => "",
            };
            // A tab shows as itself in a diff; everything else that could act on the terminal is escaped.
            let text = line.split('\t').map(visible).collect::<Vec<_>>().join("\t");
            let line = format!("  {}", self.paint(&text, style));
            self.out.push_str(&line);
            self.out.push('\n');
        }
        if truncated {
            self.paragraph("(cut short)", Tone::Dim, 2);
        }
    }

    fn bars(&mut self, bars: &[Bar]) {
        let longest = bars.iter().map(Bar::total).max().unwrap_or(0).max(1);
        let label = bars.iter().map(|bar| columns(&bar.label)).max().unwrap_or(0);
        let room = self.width.saturating_sub(label + 16).max(10);
        for bar in bars {
            let eighths = scaled(bar.total(), longest, room as u64 * 8);
            let size = units::size(bar.total());
            let name = pad(&visible(&bar.label), label, Align::Left);
            let drawn = pad(&blocks(eighths), room, Align::Left);
            self.line(&format!("  {name}  {drawn} {size:>10}"));
        }
    }

    /// Which machines boot: the picture of the curves in one line each.
    fn machines(&mut self, curves: &[RamCurve]) {
        let label = curves.iter().map(|curve| columns(&curve.label)).max().unwrap_or(0);
        for curve in curves {
            let Some(minimum) = curve.minimum else { continue };
            let mut line = format!("  {} ", pad(&visible(&curve.label), label, Align::Left));
            for (bytes, name) in MACHINES {
                let (mark, tone) = if bytes >= minimum { ("✓", Tone::Good) } else { ("✗", Tone::Bad) };
                line.push_str(&format!("  {} {name}", self.tone(mark, tone)));
            }
            self.line(&line);
        }
    }

    fn directories(&mut self, root: &Directory) {
        // A tree of names with a bar: every level down to the data's own depth, the largest directories of each that are
        // not too small to matter.
        let mut stack: Vec<(usize, &Directory)> = vec![(0, root)];
        let room = 16;
        while let Some((depth, directory)) = stack.pop() {
            let eighths = scaled(directory.bytes, root.bytes.max(1), room as u64 * 8);
            let bar = pad(&blocks(eighths), room, Align::Left);
            let size = pad(&units::size(directory.bytes), 10, Align::Right);
            let name_room = self.width.saturating_sub(room + 17 + depth * 2).max(12);
            let name = shorten(&visible(&directory.name), name_room);
            self.line(&format!("  {size}  {}  {}{name}", self.paint(&bar, "36"), "  ".repeat(depth)));
            let large = directory.directories.iter().filter(|child| child.bytes >= root.bytes / SMALL);
            for child in large.take(FOLDERS).collect::<Vec<_>>().into_iter().rev() {
                stack.push((depth + 1, child));
            }
        }
    }
}

/// What stands for the rows that are left out.
pub(super) fn more_rows(more: usize) -> String {
    format!("… and {} more; --json and --html list all", units::grouped(more as u64))
}

/// `value` of `whole` on a scale of `length`, rounded, at least 1 for what is not nothing.
fn scaled(value: u64, whole: u64, length: u64) -> u64 {
    if value == 0 {
        0
    } else {
        ((value as f64 / whole as f64 * length as f64).round() as u64).clamp(1, length)
    }
}

/// A bar of `eighths` of a column.
fn blocks(eighths: u64) -> String {
    let mut bar = "█".repeat((eighths / 8) as usize);
    if let Some(c) = ["▏", "▎", "▍", "▌", "▋", "▊", "▉"].get((eighths % 8).wrapping_sub(1) as usize)
    {
        bar.push_str(c);
    }
    bar
}

/// Columns that a text takes.
fn columns(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, width: usize, align: Align) -> String {
    let space = " ".repeat(width.saturating_sub(columns(text)));
    match align {
        Align::Left => format!("{text}{space}"),
        Align::Right => format!("{space}{text}"),
    }
}

/// `text` in at most `width` columns, its middle left out where it is longer.
fn shorten(text: &str, width: usize) -> String {
    let count = columns(text);
    if count <= width {
        return text.to_owned();
    }
    let (head, tail) = (width.saturating_sub(1) / 2, width.saturating_sub(1).div_ceil(2));
    let (head, tail): (String, String) =
        (text.chars().take(head).collect(), text.chars().skip(count.saturating_sub(tail)).collect());
    format!("{head}…{tail}")
}

/// Lines of at most `width` columns, broken at spaces, within words only where one is longer (after `/` at best).
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word = word;
        let lead = usize::from(used > 0);
        if used + lead + columns(word) > width && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        while used == 0 && columns(word) > width {
            let hard = word.char_indices().nth(width).map_or(word.len(), |(i, _)| i);
            let cut = word[..hard].rfind('/').map_or(hard, |slash| slash + 1);
            let (head, tail) = word.split_at(cut);
            if let Some(line) = lines.last_mut() {
                line.push_str(head);
            }
            lines.push(String::new());
            word = tail;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += columns(word);
        }
    }
    lines
}

/// Widths of a table's columns so that it fits `room`: the widest column of words gives way first.
fn fit(table: &Table, room: usize) -> Vec<usize> {
    const LEAST: usize = 12;
    let mut widths: Vec<usize> = table.columns.iter().map(|(name, _)| columns(name)).collect();
    for row in table.shown().0 {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(&visible(&cell.text)));
        }
    }
    let gaps = 2 * widths.len();
    while widths.iter().sum::<usize>() + gaps > room {
        let words = table.columns.iter().map(|(_, align)| *align == Align::Left);
        let widest =
            widths.iter_mut().zip(words).filter(|(w, left)| *left && **w > LEAST).max_by_key(|(w, _)| **w);
        let Some((width, _)) = widest else { break };
        *width -= 1;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_lose_nothing(text in "[a-z/é ]{0,120}", width in 1_usize..40) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| columns(line) <= width));
            let letters = |s: &str| s.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shorten("abcdefghij", 5), "ab…ij");
        assert_eq!(shorten("abc", 5), "abc");
    }
}
