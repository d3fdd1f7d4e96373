use super::*;
use crate::report::data::Conversion;
use crate::report::units::duration;

/// The last line of `convert`: what was written, what it needs, how long it took and what to do next; `None` if nothing
/// was written.
#[must_use]
pub fn written(report: &Conversion, milliseconds: u64) -> Option<String> {
    let file = report.files.first()?;
    let ram = report.ram_after.as_ref().map_or_else(String::new, |ram| {
        format!(", minimum RAM {} {}", mebibytes(ram.best().value), origin(ram.best().origin))
    });
    let more = match report.files.len() {
        1 => String::new(),
        files => format!(" (and {})", count(files as u64 - 1, "more file")),
    };
    let next = match &report.verified {
        Some(verified) => {
            format!("verified: {}, {} compared", count(verified.paths, "path"), size(verified.bytes))
        }
        None => {
            let largest = report.files.iter().max_by_key(|file| file.bytes).unwrap_or(file);
            format!("next: btrsquash verify {} {}", quoted(&report.old.path), quoted(&largest.path))
        }
    };
    Some(format!(
        "wrote {}{more}: {}{ram}, in {}, SHA-256 {}; {next}",
        file.path,
        size(file.bytes),
        duration(milliseconds),
        file.sha256,
    ))
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

/// What `convert` did.
pub(in crate::report) fn conversion(report: &Conversion) -> Document {
    let mut page = Document {
        title: match (&report.new, report.dry_run) {
            (Some(new), false) => format!("{} → {}", report.old.path, new.path),
            _ => format!("{}: what a conversion would do", report.old.path),
        },
        subtitle: format!("{} {}", report.tool.name, report.tool.version),
        ..Document::default()
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
    verdicts(&mut page, &report.budgets, None);
    let mut facts = vec![("what it is".to_owned(), Cell::from(report.identity.verdict.clone()))];
    facts.extend(report.identity.distribution.clone().map(|name| ("distribution".to_owned(), name.into())));
    if let Some(front_end) = &report.front_end {
        let kernels: Vec<&str> = front_end.kernels.iter().map(|kernel| kernel.version.as_str()).collect();
        let kernels = if kernels.is_empty() { String::new() } else { format!(" for {}", kernels.join(", ")) };
        facts.push(("boot initramfs".to_owned(), format!("{}{kernels}", front_end.maker).into()));
    }
    page.blocks.push(Block::Facts(facts));
    answer_notes(&mut page, &report.notes);
    page.end_answer();

    let mut rams = vec![("before", &report.ram_before)];
    rams.extend(report.ram_after.as_ref().map(|ram| ("after", ram)));
    ram_section(&mut page, &rams);

    page.section("Size by part");
    let mut bars = vec![bar("before", &report.old)];
    bars.extend(report.new.as_ref().map(|new| bar("after", new)));
    page.blocks.push(Block::Bars { caption: "The files by part, on one scale".into(), bars });
    page.blocks.push(Block::Figures);
    parts_table(&mut page, "before", &report.old);
    if let Some(new) = &report.new {
        parts_table(&mut page, "after", new);
    }
    directories_section(&mut page, "The runtime", &report.directories);
    packages_section(&mut page, &report.packages, report.package_totals.as_ref(), 0);

    if !report.files.is_empty() {
        page.folded("Files");
        let mut table = Table::new("Files", &["file", ">bytes", "SHA-256"]);
        for file in &report.files {
            table.row([file.path.clone().into(), grouped(file.bytes).into(), file.sha256.clone().into()]);
        }
        page.table(table);
    }
    page.folded("The old image");
    page.blocks.push(Block::Facts(evidence(&report.identity)));
    if !report.choices.is_empty() {
        page.folded("Choices");
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
        page.folded("What went where");
        portions_table(&mut page, "needed to boot", &report.boot);
        portions_table(&mut page, "in the runtime", &report.runtime);
    }
    if !report.additions.is_empty() {
        page.folded("Added to the runtime");
        let mut table = Table::new("Added to the runtime", &["path", "why"]);
        for added in &report.additions {
            table.row([added.path.clone().into(), Cell::dim(added.why.clone())]);
        }
        page.table(table);
    }
    page.notes("Notes", &report.notes);
    page
}
