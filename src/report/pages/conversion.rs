use super::*;
use crate::report::data::Conversion;

/// What `convert` did.
pub(in crate::report) fn conversion(report: &Conversion) -> Document {
    let mut page = Document {
        title: match (&report.new, report.dry_run) {
            (Some(new), false) => format!("{} → {}", report.old.path, new.path),
            _ => format!("{}: what a conversion would do", report.old.path),
        },
        subtitle: format!("{} {}", report.tool.name, report.tool.version),
        blocks: Vec::new(),
    };
    let mut tiles = Vec::new();
    if let Some(new) = &report.new {
        tiles.push(size_tile("file", report.old.size, new.size));
    }
    match &report.ram_after {
        Some(after) => tiles.push(ram_tile(Some(&report.ram_before), after)),
        None => tiles.push(ram_tile(None, &report.ram_before)),
    }
    page.blocks.push(Block::Tiles(tiles));
    budgets_section(&mut page, &report.budgets);

    page.section("The image");
    page.blocks.push(Block::Facts(identity_facts(&report.identity)));

    page.section("Size by part");
    let mut bars = vec![bar("before", &report.old)];
    bars.extend(report.new.as_ref().map(|new| bar("after", new)));
    page.blocks.push(Block::Bars { caption: "The files by part, on one scale".into(), bars });
    parts_table(&mut page, "before", &report.old);
    if let Some(new) = &report.new {
        parts_table(&mut page, "after", new);
    }

    let mut rams = vec![("before", &report.ram_before)];
    rams.extend(report.ram_after.as_ref().map(|ram| ("after", ram)));
    ram_section(&mut page, &rams);

    if !report.choices.is_empty() {
        page.section("Choices");
        let mut table = Table::new("Choices", &["what", "chosen", "why"]);
        for choice in &report.choices {
            table.row([
                choice.what.clone().into(),
                choice.chosen.clone().into(),
                Cell::dim(choice.why.clone()),
            ]);
        }
        page.table(table);
    }
    if let Some(front_end) = &report.front_end {
        front_end_section(&mut page, front_end);
    }
    if !report.boot.is_empty() || !report.runtime.is_empty() {
        page.section("What went where");
        portions_table(&mut page, "needed to boot", &report.boot);
        portions_table(&mut page, "in the runtime", &report.runtime);
    }
    if !report.additions.is_empty() {
        page.section("Added to the runtime");
        let mut table = Table::new("Added to the runtime", &["path", "why"]);
        for added in &report.additions {
            table.row([added.path.clone().into(), Cell::dim(added.why.clone())]);
        }
        page.table(table);
    }
    directories_section(&mut page, "The runtime", &report.directories);
    page.notes("Notes", &report.notes);
    page
}
