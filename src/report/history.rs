//! What `history` shows: size and minimum RAM of images over time, with the packages that changed them.

use serde::{Deserialize, Serialize};

use super::data::{Growth, SCHEMA_VERSION, Tool};
use super::document::{Block, Cell, Document, Table, Tile, Tone};
use super::growth::{self, Limits, Sizes};
use super::units::{change, count, delta, mebibytes, size, time};

/// Images in the order of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The images, the oldest first.
    pub entries: Vec<HistoryEntry>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEntry {
    /// Its name: that of the file with its report.
    pub name: String,
    /// Time of the newest file of the system in seconds since 1970, if the report has it.
    #[serde(default)]
    pub newest_time: Option<i64>,
    /// Bytes of the image.
    pub size: u64,
    /// The minimum RAM in bytes, if it is known.
    pub ram: Option<u64>,
    /// How it compares with the one before; `None` for the first.
    pub growth: Option<Growth>,
}

impl History {
    /// The history of `images`, the oldest first.
    #[must_use]
    pub fn new(images: &[(String, Sizes)]) -> Self {
        let before = std::iter::once(None).chain(images.iter().map(Some));
        let entries = images
            .iter()
            .zip(before)
            .map(|((name, sizes), before)| HistoryEntry {
                name: name.clone(),
                newest_time: sizes.newest_time,
                size: sizes.image,
                ram: sizes.ram,
                growth: before
                    .map(|(before, old)| growth::compare(before.clone(), old, sizes, Limits::default())),
            })
            .collect();
        Self { schema_version: SCHEMA_VERSION, tool: Tool::default(), entries }
    }

    /// What it says to people.
    #[must_use]
    pub fn document(&self) -> Document {
        let mut page = Document {
            title: format!("History of {}", count(self.entries.len() as u64, "image")),
            subtitle: "size and minimum RAM, the oldest first".into(),
            ..Document::default()
        };
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
            let mut tiles = vec![tile("file", first.size, last.size, size)];
            if let (Some(was), Some(is)) = (first.ram, last.ram) {
                tiles.push(tile("minimum RAM", was, is, mebibytes));
            }
            page.blocks.push(Block::Tiles(tiles));
        }
        page.section("Over time");
        let points = |value: fn(&HistoryEntry) -> Option<u64>| {
            self.entries.iter().map(|entry| (entry.name.clone(), value(entry))).collect()
        };
        page.blocks.push(Block::Trend {
            caption: "Size of the image file (the axis does not start at 0)".into(),
            memory: false,
            points: points(|entry| Some(entry.size)),
        });
        if self.entries.iter().any(|entry| entry.ram.is_some()) {
            page.blocks.push(Block::Trend {
                caption: "Minimum RAM (the axis does not start at 0)".into(),
                memory: true,
                points: points(|entry| entry.ram),
            });
        }
        let columns =
            ["image", "date", ">size", ">change", ">minimum RAM", ">change", "packages that grew the most"];
        let mut table = Table::new("Over time", &columns);
        let mut before: Option<&HistoryEntry> = None;
        for entry in &self.entries {
            let by = |was: Option<u64>, is: Option<u64>| match (was, is) {
                (Some(was), Some(is)) => Cell::toned(change(was, is), tone(was, is)),
                _ => Cell::default(),
            };
            table.row([
                entry.name.clone().into(),
                // The day is enough; the time of day is in the JSON.
                entry.newest_time.map_or_else(String::new, |at| time(at).chars().take(10).collect()).into(),
                size(entry.size).into(),
                by(before.map(|before| before.size), Some(entry.size)),
                entry.ram.map_or_else(String::new, mebibytes).into(),
                by(before.and_then(|before| before.ram), entry.ram),
                entry.growth.as_ref().map_or_else(String::new, growth::causes).into(),
            ]);
            before = Some(entry);
        }
        page.table(table);
        page
    }
}

fn tile(label: &str, was: u64, is: u64, shown: fn(u64) -> String) -> Tile {
    let note =
        if label == "file" { format!("{}, {}", change(was, is), delta(was, is)) } else { change(was, is) };
    Tile { label: label.into(), before: shown(was), after: shown(is), note, tone: tone(was, is) }
}

fn tone(was: u64, is: u64) -> Tone {
    match is.cmp(&was) {
        std::cmp::Ordering::Less => Tone::Good,
        std::cmp::Ordering::Greater => Tone::Bad,
        std::cmp::Ordering::Equal => Tone::Dim,
    }
}
