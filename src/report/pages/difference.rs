use super::*;
use crate::compare::Aspect;
use crate::report::data::{Difference, FoldedPath, PackageDifferences, PackageVersion, Side};

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
        ..Document::default()
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
    summary(&mut page, report);
    verdicts(&mut page, &report.budgets, report.growth.as_ref());
    answer_notes(&mut page, &report.notes);
    page.end_answer();
    if let Some(packages) = &report.packages {
        packages_section(&mut page, packages);
    }
    growth_section(&mut page, report.growth.as_ref());
    directories_section(&mut page, "The new system", &report.tree);

    page.section("Size by part");
    page.blocks.push(Block::Bars {
        caption: "The files by part, on one scale".into(),
        bars: vec![bar("before", &report.old.image), bar("after", &report.new.image)],
    });
    page.blocks.push(Block::Figures);
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

    counts(&mut page, report);
    if !report.directories.is_empty() {
        page.folded("Directories that grew or shrank");
        let mut table =
            Table::new("Directories that grew or shrank", &["directory", ">before", ">after", ">change"])
                .limited(ROWS);
        for directory in &report.directories {
            table.row([
                directory.name.clone().into(),
                size(directory.old).into(),
                size(directory.new).into(),
                changed_size(directory.old, directory.new),
            ]);
        }
        page.table(table);
    }
    if !report.moved.is_empty() {
        page.folded(format!("Moved: {}", grouped(report.moved.len() as u64)));
        let mut table = Table::new("Moved", &["from", "to", ">size"]).limited(ROWS);
        for moved in &report.moved {
            table.row([moved.from.clone().into(), moved.to.clone().into(), size(moved.bytes).into()]);
        }
        page.table(table);
    }
    folded_section(&mut page, report);
    items_table(&mut page, "Added", &report.added);
    items_table(&mut page, "Removed", &report.removed);
    let (weighty, only_times): (Vec<_>, Vec<_>) = report
        .changed
        .iter()
        .partition(|changed| changed.aspects.iter().any(|change| change.aspect.is_weighty()));
    changed_table(&mut page, "Changed", &weighty);
    changed_table(&mut page, "Only the time or the link count differs", &only_times);
    texts_section(&mut page, "Text", &report.texts);
    page.notes("Notes", &report.notes);
    page
}

fn changed_size(old: u64, new: u64) -> Cell {
    Cell::toned(delta(old, new), tone_of(Some(old), new))
}

/// The answer: whether they are the same, and if not, how many packages and files are not.
fn summary(page: &mut Document, report: &Difference) {
    if report.is_same() {
        page.blocks.push(Block::Verdict { good: true, text: "both hold the same system".into() });
        return;
    }
    page.blocks.push(Block::Verdict { good: false, text: "the systems differ".into() });
    let mut facts: Vec<(String, Cell)> = Vec::new();
    if let Some(packages) = &report.packages {
        facts.push(("packages".into(), digest::package_counts(packages).into()));
    }
    facts.push(("paths".into(), digest::path_counts(&report.counts).into()));
    page.blocks.push(Block::Facts(facts));
}

fn packages_section(page: &mut Document, packages: &PackageDifferences) {
    if packages.list.is_empty() {
        return;
    }
    page.section("Packages");
    if !packages.sizes {
        page.text(Cell::dim(
            "An image has no lists of its packages' files, so their sizes are unknown: see --package-map.",
        ));
    }
    let columns = ["package", "before", "after", ">in the image", ">change"];
    let mut table =
        Table::new("Packages", if packages.sizes { &columns[..] } else { &columns[..3] }).limited(ROWS);
    let version = |side: &Option<PackageVersion>| side.as_ref().map_or("", |side| &side.version).to_owned();
    let bytes = |side: &Option<PackageVersion>| side.as_ref().map_or(0, |side| side.image_bytes);
    for package in &packages.list {
        let (old, new) = (bytes(&package.old), bytes(&package.new));
        let mut row: Vec<Cell> = vec![
            package.name.clone().into(),
            version(&package.old).into(),
            version(&package.new).into(),
            size(new).into(),
            changed_size(old, new),
        ];
        row.truncate(table.columns.len());
        table.rows.push(row);
    }
    page.table(table);
}

/// What a release renamed and changed; what it only renamed is counted.
fn folded_section(page: &mut Document, report: &Difference) {
    if report.folded.is_empty() {
        return;
    }
    page.folded(format!("Renamed or replaced by the release: {}", grouped(report.folded.len() as u64)));
    let same = report.folded.iter().filter(|path| path.same).count() as u64;
    page.text(Cell::dim(format!(
        "{} under another path (merged /usr, kernel release, compressed modules): neither added nor removed. {} of another \
         version (shared libraries, Python, Perl): the old file is among the removed, the new one among the added. {} with \
         the same content. --no-fold counts all of them as removed and added.",
        grouped(report.counts.renamed),
        grouped(report.counts.replaced),
        grouped(same)
    )));
    let mut list: Vec<&FoldedPath> = report.folded.iter().filter(|path| !path.same).collect();
    list.sort_by_key(|path| std::cmp::Reverse(path.old_bytes.abs_diff(path.new_bytes)));
    let mut table =
        Table::new("Renamed or replaced, with another content", &["path", ">before", ">after", ">change"])
            .limited(ROWS);
    for path in list {
        table.row([
            path.to.clone().into(),
            size(path.old_bytes).into(),
            size(path.new_bytes).into(),
            changed_size(path.old_bytes, path.new_bytes),
        ]);
    }
    page.table(table);
}

fn counts(page: &mut Document, report: &Difference) {
    page.folded("Files");
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
    if c.renamed > 0 {
        facts.insert(2, ("renamed by the release".into(), grouped(c.renamed).into()));
    }
    // Pairs: each counts once among the added and once among the removed.
    for (name, pairs) in [("… moved", c.moved), ("… another version", c.replaced)] {
        if pairs > 0 {
            facts.insert(2, (name.into(), format!("{} of both", grouped(pairs)).into()));
        }
    }
    if !aspects.is_empty() {
        facts.push(("by what differs".into(), aspects.join(", ").into()));
    }
    page.blocks.push(Block::Facts(facts));
}
