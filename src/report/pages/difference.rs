use super::*;
use crate::compare::Aspect;
use crate::report::data::{Difference, Side};
use crate::report::units::delta;

impl Aspect {
    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Target => "target",
            Self::Device => "device",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Links => "links",
            Self::Time => "time",
        }
    }
}

/// What `diff` found.
pub(in crate::report) fn difference(report: &Difference) -> Document {
    let mut page = Document {
        title: format!("{} → {}", report.old.image.path, report.new.image.path),
        subtitle: format!("{} → {}", report.old.verdict, report.new.verdict),
        blocks: Vec::new(),
    };
    let mut tiles = vec![
        size_tile("file", report.old.image.size, report.new.image.size),
        size_tile("content", report.old.content, report.new.content),
    ];
    match (&report.old.ram, &report.new.ram) {
        (Some(old), Some(new)) => tiles.push(ram_tile(Some(old), new)),
        (None, Some(only)) | (Some(only), None) => tiles.push(ram_tile(None, only)),
        (None, None) => {}
    }
    page.blocks.push(Block::Tiles(tiles));
    budgets_section(&mut page, &report.budgets);
    counts(&mut page, report);

    page.section("Size by part");
    page.blocks.push(Block::Bars {
        caption: "The files by part, on one scale".into(),
        bars: vec![bar("before", &report.old.image), bar("after", &report.new.image)],
    });
    let mut parts = Table::new("Size by part", &["part", ">before", ">after", ">change"]);
    for part in &report.parts {
        parts.row([
            part.name.clone().into(),
            grouped(part.old).into(),
            grouped(part.new).into(),
            changed_size(part.old, part.new),
        ]);
    }
    page.table(parts);

    let side = |label: &'static str, side: &'_ Side| side.ram.clone().map(|ram| (label, ram));
    let rams: Vec<_> =
        [side("before", &report.old), side("after", &report.new)].into_iter().flatten().collect();
    ram_section(&mut page, &rams.iter().map(|(label, ram)| (*label, ram)).collect::<Vec<_>>());

    if !report.directories.is_empty() {
        page.section("Directories that grew or shrank");
        let mut table =
            Table::new("Directories that grew or shrank", &["directory", ">before", ">after", ">change"]);
        for directory in report.directories.iter().take(ROWS) {
            table.row([
                directory.name.clone().into(),
                size(directory.old).into(),
                size(directory.new).into(),
                changed_size(directory.old, directory.new),
            ]);
        }
        page.table(table);
        more(&mut page, report.directories.len());
    }
    if !report.moved.is_empty() {
        page.section(format!("Moved: {}", grouped(report.moved.len() as u64)));
        let mut table = Table::new("Moved", &["from", "to", ">size"]);
        for moved in report.moved.iter().take(ROWS) {
            table.row([moved.from.clone().into(), moved.to.clone().into(), size(moved.bytes).into()]);
        }
        page.table(table);
        more(&mut page, report.moved.len());
    }
    items_table(&mut page, "Added", &report.added);
    items_table(&mut page, "Removed", &report.removed);
    let (weighty, only_times): (Vec<_>, Vec<_>) = report
        .changed
        .iter()
        .partition(|changed| changed.aspects.iter().any(|change| change.aspect.is_weighty()));
    changed_table(&mut page, "Changed", &weighty);
    changed_table(&mut page, "Only the time or the link count differs", &only_times);
    texts_section(&mut page, "Text", &report.texts);
    directories_section(&mut page, "The new system", &report.tree);
    page.notes("Notes", &report.notes);
    page
}

fn changed_size(old: u64, new: u64) -> Cell {
    Cell::toned(delta(old, new), tone_of(Some(old), new))
}

fn counts(page: &mut Document, report: &Difference) {
    page.section("Files");
    if report.is_same() {
        page.blocks.push(Block::Verdict { good: true, text: "both hold the same system".into() });
    }
    let c = &report.counts;
    let aspects: Vec<String> = [
        (Aspect::Type, c.r#type),
        (Aspect::Content, c.content),
        (Aspect::Target, c.target),
        (Aspect::Device, c.device),
        (Aspect::Mode, c.mode),
        (Aspect::Owner, c.owner),
        (Aspect::Links, c.links),
        (Aspect::Time, c.time),
    ]
    .iter()
    .filter(|(_, number)| *number > 0)
    .map(|(aspect, number)| format!("{} {}", aspect.name(), grouped(*number)))
    .collect();
    let mut facts: Vec<(String, Cell)> = vec![
        ("added".into(), grouped(c.added).into()),
        ("removed".into(), grouped(c.removed).into()),
        ("changed".into(), grouped(c.changed).into()),
        ("only time or links".into(), grouped(c.only_times).into()),
        ("the same".into(), grouped(c.same).into()),
    ];
    if c.moved > 0 {
        facts.insert(2, ("of these moved".into(), grouped(c.moved).into()));
    }
    if !aspects.is_empty() {
        facts.push(("by what differs".into(), aspects.join(", ").into()));
    }
    page.blocks.push(Block::Facts(facts));
}
