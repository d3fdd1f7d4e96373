use super::*;
use crate::report::data::Inspection;

/// Packages that text lists.
const PACKAGES: usize = 10;

/// What `inspect` found.
pub(in crate::report) fn inspection(report: &Inspection) -> Document {
    let mut page = Document {
        title: report.image.path.clone(),
        subtitle: format!(
            "{}, {} of content in {}",
            size(report.image.size),
            size(report.content),
            count(report.entries, "path")
        ),
        ..Document::default()
    };
    verdicts(&mut page, &report.budgets, report.growth.as_ref());
    let mut facts = identity_facts(&report.identity);
    if let Some(ram) = &report.ram {
        facts.push(("minimum RAM".into(), minimum(ram).into()));
    }
    page.blocks.push(Block::Facts(facts));
    answer_notes(&mut page, &report.notes);
    page.end_answer();
    growth_section(&mut page, report.growth.as_ref());

    packages_section(&mut page, &report.packages, report.package_totals.as_ref(), PACKAGES);
    if !report.segments.is_empty() {
        page.folded("Segments");
        let mut table =
            Table::new("Segments", &[">#", ">offset", ">size", "packed", ">unpacked", ">entries", "kind"]);
        for segment in &report.segments {
            table.row([
                segment.number.to_string().into(),
                grouped(segment.offset).into(),
                grouped(segment.size).into(),
                segment.encoding.clone().into(),
                grouped(segment.unpacked).into(),
                grouped(segment.entries).into(),
                match (segment.early, segment.appended) {
                    (true, _) => "early",
                    (_, true) => "appended",
                    _ => "",
                }
                .into(),
            ]);
        }
        page.table(table);
    }
    if !report.layers.is_empty() {
        page.folded("File systems inside");
        let mut table = Table::new("File systems inside", &["kind", "file", ">bytes", ">paths"]);
        for layer in &report.layers {
            table.row([
                layer.kind.clone().into(),
                layer.path.clone().into(),
                grouped(layer.bytes).into(),
                grouped(layer.entries).into(),
            ]);
        }
        page.table(table);
    }
    page.section("Size by part");
    page.blocks
        .push(Block::Bars { caption: "The file by part".into(), bars: vec![bar("image", &report.image)] });
    page.blocks.push(Block::Figures);
    parts_table(&mut page, "size by part", &report.image);
    if let Some(front_end) = &report.front_end {
        front_end_section(&mut page, front_end);
    }
    if let Some(ram) = &report.ram {
        ram_section(&mut page, &[("image", ram)]);
    }
    directories_section(&mut page, "Largest directories", &report.directories);
    files(&mut page, report);
    page.notes("Notes", &report.notes);
    page
}

fn files(page: &mut Document, report: &Inspection) {
    if !report.largest.is_empty() {
        page.folded("Largest files");
        let mut table = Table::new("Largest files", &[">size", "path"]);
        for file in &report.largest {
            table.row([size(file.bytes).into(), file.path.clone().into()]);
        }
        page.table(table);
    }
    if !report.weight.is_empty() {
        page.folded("Files not needed at boot");
        let mut table = Table::new("Files not needed at boot", &["what", ">files", ">size", "why"]);
        for weight in &report.weight {
            table.row([
                weight.what.clone().into(),
                grouped(weight.files).into(),
                size(weight.bytes).into(),
                Cell::dim(weight.why.clone()),
            ]);
        }
        page.table(table);
    }
    if !report.duplicates.is_empty() {
        page.folded("Duplicate content");
        page.text(format!("{} could be saved", size(report.duplicate_bytes)));
        let mut table = Table::new("Duplicate content", &[">wasted", "copies"]);
        for duplicate in &report.duplicates {
            table.row([size(duplicate.wasted).into(), duplicate.paths.join(" ").into()]);
        }
        page.table(table);
    }
}
