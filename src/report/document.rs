//! What a report says, before it is known on what it is shown: every exporter for people draws these blocks.

use super::data::Directory;

/// A report for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The first line.
    pub title: String,
    /// What it is about, under the title.
    pub subtitle: String,
    /// The rest, in order.
    pub blocks: Vec<Block>,
    /// How many of the blocks are the answer, which a terminal shows without `--full`; `None`: all of them.
    pub answer: Option<usize>,
}

/// How something is to be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Of lesser weight.
    Dim,
}

/// A piece of text with its tone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// The text.
    pub text: String,
    /// Its tone.
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

impl Cell {
    /// A cell with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
    /// A cell of lesser weight.
    pub fn dim(text: impl Into<String>) -> Self {
        Self::toned(text, Tone::Dim)
    }
}

/// On which side a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table: headings with their sides, and rows of as many cells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What it shows, for readers that cannot see where it stands.
    pub caption: String,
    /// Headings.
    pub columns: Vec<(String, Align)>,
    /// Rows.
    pub rows: Vec<Vec<Cell>>,
    /// How many rows text shows; with 0, not even the heading. A page and JSON have all.
    pub limit: Option<usize>,
}

impl Table {
    /// A table without rows; a heading that starts with `>` is a column of numbers.
    pub fn new(caption: impl Into<String>, columns: &[&str]) -> Self {
        let column = |heading: &&str| match heading.strip_prefix('>') {
            Some(name) => (name.to_owned(), Align::Right),
            None => ((*heading).to_owned(), Align::Left),
        };
        Self {
            caption: caption.into(),
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
            limit: None,
        }
    }

    /// A table of which text shows only the first `limit` rows.
    #[must_use]
    pub const fn limited(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The rows that text shows, and how many it leaves out.
    #[must_use]
    pub fn shown(&self) -> (&[Vec<Cell>], usize) {
        let shown = self.limit.unwrap_or(usize::MAX).min(self.rows.len());
        (&self.rows[..shown], self.rows.len() - shown)
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }
}

/// A figure before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// What it is.
    pub label: String,
    /// Before; empty where there is only one figure.
    pub before: String,
    /// After.
    pub after: String,
    /// The change, and where the figure comes from.
    pub note: String,
    /// Whether that is good news.
    pub tone: Tone,
}

/// A bar made of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// What it is.
    pub label: String,
    /// Its parts: name and bytes.
    pub parts: Vec<(String, u64)>,
}

impl Bar {
    /// Its whole length in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// Memory in use over the moments of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamCurve {
    /// What boots: `before`, `after`.
    pub label: String,
    /// The minimum memory of a machine that boots it, in bytes.
    pub minimum: Option<u64>,
    /// Whether `minimum` was measured.
    pub measured: bool,
    /// The minimum by the model, in bytes.
    pub computed: u64,
    /// The minimum in bytes for numbers of possible CPUs.
    pub by_cpus: Vec<(u32, u64)>,
    /// Moments: name, bytes in use by the model, bytes measured.
    pub points: Vec<RamPoint>,
}

/// A moment in a [`RamCurve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamPoint {
    /// Its name.
    pub name: String,
    /// Bytes in use.
    pub used: u64,
    /// Bytes in use as measured, next to the computed ones.
    pub measured: Option<u64>,
}

/// Machines of which people ask whether they boot: 128 MiB to 4 GiB.
pub const MACHINES: [(u64, &str); 6] = [
    (128 << 20, "128 MiB"),
    (256 << 20, "256 MiB"),
    (512 << 20, "512 MiB"),
    (1 << 30, "1 GiB"),
    (2 << 30, "2 GiB"),
    (4 << 30, "4 GiB"),
];

/// A piece of a [`Document`].
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Starts a part of the report.
    Section(String),
    /// Starts a part of the report that a page shows folded.
    Folded(String),
    /// A paragraph.
    Text(Cell),
    /// One line that says whether it is well.
    Verdict {
        /// Whether it is.
        good: bool,
        /// The line.
        text: String,
    },
    /// The figures that matter most.
    Tiles(Vec<Tile>),
    /// Names and values.
    Facts(Vec<(String, Cell)>),
    /// A table.
    Table(Table),
    /// Sentences.
    List(Vec<String>),
    /// A unified diff.
    Diff {
        /// The file.
        path: String,
        /// The diff.
        diff: String,
        /// Whether it was cut short.
        truncated: bool,
    },
    /// Lines of a console, each as it is.
    Console(Vec<String>),
    /// Bars of parts, on one scale.
    Bars {
        /// What they show.
        caption: String,
        /// The bars.
        bars: Vec<Bar>,
    },
    /// What follows in this section are the figures of its chart: a page folds them.
    Figures,
    /// A value over time.
    Trend {
        /// What it shows.
        caption: String,
        /// Whether the values are bytes of memory, not of a file.
        memory: bool,
        /// Names of the images with their values, the oldest first.
        points: Vec<(String, Option<u64>)>,
    },
    /// Memory over the boot, on one scale.
    Ram {
        /// What is shown.
        caption: String,
        /// One curve for each image.
        curves: Vec<RamCurve>,
    },
    /// A treemap (pages only: elsewhere the directories are listed).
    Treemap {
        /// What it shows.
        caption: String,
        /// The directories.
        root: Directory,
    },
}

impl Document {
    /// Marks the end of the answer: everything after it is for `--full`, for pages and for files.
    pub fn end_answer(&mut self) {
        self.answer = Some(self.blocks.len());
    }
    /// Adds a section heading.
    pub fn section(&mut self, title: impl Into<String>) {
        self.blocks.push(Block::Section(title.into()));
    }
    /// Adds the heading of a section that a page shows folded.
    pub fn folded(&mut self, title: impl Into<String>) {
        self.blocks.push(Block::Folded(title.into()));
    }
    /// Adds a paragraph.
    pub fn text(&mut self, text: impl Into<Cell>) {
        self.blocks.push(Block::Text(text.into()));
    }
    /// Adds a table unless it is empty.
    pub fn table(&mut self, table: Table) {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table(table));
        }
    }
    /// Adds a list unless it is empty.
    pub fn list(&mut self, sentences: Vec<String>) {
        if !sentences.is_empty() {
            self.blocks.push(Block::List(sentences));
        }
    }
    /// Adds a section with a list unless it is empty.
    pub fn notes(&mut self, title: &str, sentences: &[String]) {
        if !sentences.is_empty() {
            self.folded(title);
            self.list(sentences.to_vec());
        }
    }
}

/// `text` with everything escaped that could act on a terminal or reorder a line: control characters (also C1) and
/// the Unicode directional overrides. Paths were escaped before; this also guards what comes from os-release, module
/// names, consoles. Line breaks are escaped too.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if crate::tree::is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
