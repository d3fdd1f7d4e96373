//! What each report says to people.

mod boot;
mod conversion;
mod difference;
mod inspection;
mod packages;
mod verification;

use super::data::{
    AspectChange, Budget, Changed, Directory, FrontEndPart, Growth, Identity, ImageFile, Item, Origin,
    Portion, Ram, RamRow, Subject, TextDifference,
};
use super::document::{Bar, Block, Cell, Document, RamCurve, RamPoint, Table, Tile, Tone};
use super::{budget, digest, growth};
use crate::ram::Phase;

use super::units::{change, count, delta, grouped, mebibytes, memory, percent, size};

pub(super) use boot::{boot, min};
pub(super) use conversion::conversion;
pub use conversion::written;
pub(super) use difference::difference;
pub(super) use inspection::inspection;
use packages::packages_section;
pub(super) use verification::{differences, verification};

/// Notes that the answer of a report shows.
const NOTES: usize = 3;

/// Rows of a listing that text shows; pages and JSON have all.
const ROWS: usize = 40;

/// What an image is, and what that was told from.
fn identity_facts(identity: &Identity) -> Vec<(String, Cell)> {
    let mut facts = vec![("what it is".to_owned(), Cell::from(identity.verdict.clone()))];
    facts.extend(identity.why.iter().map(|why| (String::new(), Cell::dim(why.clone()))));
    facts.extend(identity.distribution.clone().map(|name| ("distribution".to_owned(), name.into())));
    facts.extend(system_facts(identity));
    facts
}

/// The same without what the answer says: what it is, and the distribution.
fn evidence(identity: &Identity) -> Vec<(String, Cell)> {
    let names = std::iter::once("evidence").chain(std::iter::repeat(""));
    let mut facts: Vec<(String, Cell)> =
        names.zip(&identity.why).map(|(name, why)| (name.to_owned(), why.clone().into())).collect();
    facts.extend(system_facts(identity));
    facts
}

fn system_facts(identity: &Identity) -> Vec<(String, Cell)> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push((name.to_owned(), value.into()));
        }
    };
    add("architecture", identity.architecture.clone());
    add(if identity.kernels.len() > 1 { "kernels" } else { "kernel" }, Some(identity.kernels.join(", ")));
    let init = identity.init.as_ref().map(|init| {
        if identity.init_kind.is_empty() { init.clone() } else { format!("{init} ({})", identity.init_kind) }
    });
    add("init", init);
    add("state for init", Some(handover(&identity.handover)));
    if !identity.handover_why.is_empty() {
        facts.push((String::new(), Cell::dim(identity.handover_why.clone())));
    }
    facts
}

/// What init gets to see of the kernel's file systems.
fn handover(handover: &str) -> String {
    match handover {
        "bare" => "/proc, /sys, /dev and /run not mounted".into(),
        "mounted" => "/proc, /sys, /dev and /run mounted".into(),
        other => other.into(),
    }
}

/// The name of a phase.
fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::KernelStarts => "kernel starts",
        Phase::Unpacked => "unpacked",
        Phase::ImageFreed => "image freed",
        Phase::Init => "init",
        Phase::FirstScreen => "first screen",
    }
}

fn parts_table(document: &mut Document, caption: &str, image: &ImageFile) {
    let mut table = Table::new(caption, &["part", ">bytes", ">share", "why"]);
    for part in &image.parts {
        table.row([
            part.name.clone().into(),
            grouped(part.bytes).into(),
            percent(part.share).into(),
            Cell::dim(part.why.clone()),
        ]);
    }
    document.table(table);
}

fn bar(label: &str, image: &ImageFile) -> Bar {
    Bar {
        label: label.to_owned(),
        parts: image.parts.iter().map(|part| (part.name.clone(), part.bytes)).collect(),
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Measured => "measured",
        Origin::Computed => "computed",
    }
}

/// `592 MiB computed`, or `592 MiB measured, 584 MiB computed`.
fn minimum(ram: &Ram) -> String {
    match ram.measured {
        Some(measured) => {
            format!("{} measured, {} computed", mebibytes(measured.value), mebibytes(ram.minimum.value))
        }
        None => format!("{} {}", mebibytes(ram.minimum.value), origin(ram.minimum.origin)),
    }
}

fn ram_tile(before: Option<&Ram>, after: &Ram) -> Tile {
    let (old, new) = (before.map(|ram| ram.best().value), after.best().value);
    let mut note = old.map_or_else(String::new, |old| format!("{}, ", change(old, new)));
    match before.map(|ram| ram.best().origin) {
        Some(was) if was != after.best().origin => {
            note.push_str(&format!("{} → {}", origin(was), origin(after.best().origin)));
        }
        _ => note.push_str(origin(after.best().origin)),
    }
    Tile {
        label: "minimum RAM".into(),
        before: old.map_or_else(String::new, mebibytes),
        after: mebibytes(new),
        note,
        tone: tone_of(old, new),
    }
}

fn size_tile(label: &str, old: u64, new: u64) -> Tile {
    Tile {
        label: label.into(),
        before: size(old),
        after: size(new),
        note: change(old, new),
        tone: tone_of(Some(old), new),
    }
}

fn tone_of(old: Option<u64>, new: u64) -> Tone {
    match old.map(|old| new.cmp(&old)) {
        Some(std::cmp::Ordering::Less) => Tone::Good,
        Some(std::cmp::Ordering::Greater) => Tone::Bad,
        _ => Tone::Dim,
    }
}

fn curve(label: &str, ram: &Ram) -> RamCurve {
    let point = |point: &super::data::Phase| RamPoint {
        name: phase(point.phase).into(),
        used: point.used.value,
        measured: point.measured.map(|figure| figure.value),
    };
    RamCurve {
        label: label.to_owned(),
        minimum: Some(ram.best().value),
        measured: ram.best().origin == Origin::Measured,
        computed: ram.minimum.value,
        by_cpus: ram.table.iter().map(|row| (row.cpus, row.plain.value)).collect(),
        points: ram.phases.iter().map(point).collect(),
    }
}

/// The section on memory: curves, phases, terms and formula.
fn ram_section(document: &mut Document, rams: &[(&str, &Ram)]) {
    if rams.is_empty() {
        return;
    }
    document.section("Memory");
    document.blocks.push(Block::Ram {
        caption: "Memory in use over the boot, and which machines boot".into(),
        curves: rams.iter().map(|(label, ram)| curve(label, ram)).collect(),
    });
    document.blocks.push(Block::Figures);
    let several = rams.len() > 1;
    let named = |label: &str, text: &str| if several { format!("{label}: {text}") } else { text.to_owned() };
    for (label, ram) in rams {
        let mut phases = Table::new(named(label, "memory in use"), &[">#", "phase", ">in use", ">measured"]);
        if ram.phases.iter().any(|phase| phase.measured.is_some()) {
            for (number, row) in (1..).zip(&ram.phases) {
                phases.row([
                    Cell::dim(i64::to_string(&number)),
                    phase(row.phase).into(),
                    memory(row.used.value).into(),
                    row.measured.map_or_else(String::new, |figure| memory(figure.value)).into(),
                ]);
            }
        } else {
            phases.columns.truncate(3);
            for (number, row) in (1..).zip(&ram.phases) {
                phases.row([
                    Cell::dim(i64::to_string(&number)),
                    phase(row.phase).into(),
                    memory(row.used.value).into(),
                ]);
            }
        }
        let mut terms = Table::new(named(label, "what it is made of"), &["term", ">memory", "why"]);
        for part in &ram.parts {
            terms.row([
                part.name.clone().into(),
                memory(part.figure.value).into(),
                Cell::dim(part.why.clone()),
            ]);
        }
        let heading = if several { format!("{label} needs") } else { "needs".into() };
        document.blocks.push(Block::Facts(vec![
            (heading, minimum(ram).into()),
            ("limited by".into(), ram.formula.clone().into()),
        ]));
        document.table(table(named(label, "minimum RAM by possible CPUs (computed)"), &ram.table));
        document.table(phases);
        document.table(terms);
        if !ram.notes.is_empty() {
            document.blocks.push(Block::List(ram.notes.clone()));
        }
    }
}

/// The minimum for several numbers of possible CPUs and arguments of the kernel.
fn table(caption: String, rows: &[RamRow]) -> Table {
    let sized = rows.iter().any(|row| row.sized.is_some());
    let mut columns = vec![">CPUs", ">plain", ">root="];
    columns.extend(sized.then_some(">initramfs_options=size=95%"));
    let mut table = Table::new(caption, &columns);
    for row in rows {
        let mut cells: Vec<Cell> = vec![
            row.cpus.to_string().into(),
            mebibytes(row.plain.value).into(),
            mebibytes(row.root.value).into(),
        ];
        if sized {
            cells.push(row.sized.map_or_else(String::new, |figure| mebibytes(figure.value)).into());
        }
        table.rows.push(cells);
    }
    table
}

fn front_end_section(document: &mut Document, front_end: &FrontEndPart) {
    document.folded("Boot initramfs");
    document.blocks.push(Block::Facts(vec![
        ("made by".into(), front_end.maker.clone().into()),
        (
            "size".into(),
            format!(
                "{} as {}, {} unpacked",
                size(front_end.compressed),
                front_end.encoding,
                size(front_end.unpacked)
            )
            .into(),
        ),
    ]));
    for kernel in &front_end.kernels {
        let modules: Vec<String> =
            kernel.modules.iter().map(|module| format!("{} ({})", module.name, size(module.bytes))).collect();
        document.blocks.push(Block::Facts(vec![(
            kernel.version.clone(),
            format!(
                "adds {} in {}: {}",
                size(kernel.bytes),
                count(kernel.modules.len() as u64, "module"),
                modules.join(", ")
            )
            .into(),
        )]));
    }
    if !front_end.notes.is_empty() {
        document.blocks.push(Block::List(front_end.notes.clone()));
    }
}

fn portions_table(document: &mut Document, caption: &str, portions: &[Portion]) {
    let mut table = Table::new(caption, &["what", ">files", ">size", "why"]);
    for portion in portions {
        table.row([
            portion.what.clone().into(),
            grouped(portion.files).into(),
            size(portion.bytes).into(),
            Cell::dim(portion.why.clone()),
        ]);
    }
    document.table(table);
}

fn directories_section(document: &mut Document, title: &str, directories: &Directory) {
    if directories.bytes == 0 {
        return;
    }
    document.section(title);
    let before = |old: Option<u64>| old.map_or_else(String::new, |old| format!(" (before: {})", size(old)));
    let mut caption = format!(
        "{}{} in {}",
        size(directories.bytes),
        before(directories.old_bytes),
        count(directories.files, "file")
    );
    if let Some(bytes) = directories.image_bytes {
        caption.push_str(&format!(", {}{} in the image", size(bytes), before(directories.old_image_bytes)));
    }
    // Files in one compressed stream have no size of their own there.
    let areas = if directories.image_bytes.is_some() { "bytes in the image" } else { "unpacked bytes" };
    let colours = if directories.old_bytes.is_some() { ", colours the change" } else { "" };
    caption.push_str(&format!(". Areas show {areas}{colours}."));
    document.blocks.push(Block::Treemap { caption, root: directories.clone() });
}

fn items_table(document: &mut Document, title: &str, items: &[Item]) {
    if items.is_empty() {
        return;
    }
    document.folded(format!("{title}: {}", grouped(items.len() as u64)));
    let mut table = Table::new(title, &["path", "what", ">size"]).limited(ROWS);
    for item in items {
        let bytes = if item.kind == "file" { size(item.bytes) } else { String::new() };
        table.row([item.path.clone().into(), Cell::dim(item.kind.clone()), bytes.into()]);
    }
    document.table(table);
}

fn changed_table(document: &mut Document, title: &str, changed: &[&Changed]) {
    if changed.is_empty() {
        return;
    }
    document.folded(format!("{title}: {}", grouped(changed.len() as u64)));
    let mut table = Table::new(title, &["path", "what", "before → after"]).limited(ROWS);
    for path in changed {
        for (i, AspectChange { aspect, old, new }) in path.aspects.iter().enumerate() {
            let name = if i == 0 { path.path.clone() } else { String::new() };
            table.row([name.into(), aspect.name().into(), Cell::dim(format!("{old} → {new}"))]);
        }
    }
    document.table(table);
}

fn texts_section(document: &mut Document, title: &str, texts: &[TextDifference]) {
    if texts.is_empty() {
        return;
    }
    document.section(title);
    for text in texts {
        document.blocks.push(Block::Diff {
            path: text.path.clone(),
            diff: text.diff.clone(),
            truncated: text.truncated,
        });
    }
}

/// Every limit that was set, exceeded ones first.
fn verdicts(document: &mut Document, budgets: &[Budget], found: Option<&Growth>) {
    let mut list: Vec<(bool, String)> =
        budgets.iter().map(|limit| (limit.kept, budget::sentence(limit))).collect();
    if let Some(found) = found {
        let wrong = growth::exceeded(found);
        if wrong.is_empty() {
            list.push((true, growth::summary(found)));
        }
        list.extend(wrong.into_iter().map(|(_, text)| (false, text)));
    }
    list.sort_by_key(|(good, _)| *good);
    document.blocks.extend(list.into_iter().map(|(good, text)| Block::Verdict { good, text }));
}

/// The first notes, which may change what a reader does next; all of them are at the end of the report.
fn answer_notes(document: &mut Document, notes: &[String]) {
    let mut shown: Vec<String> = notes.iter().take(NOTES).cloned().collect();
    if notes.len() > NOTES {
        shown.push(format!("{} in the whole report", count((notes.len() - NOTES) as u64, "more note")));
    }
    if !shown.is_empty() {
        document.blocks.push(Block::List(shown));
    }
}

/// The sizes of parts and packages that changed since the baseline.
fn growth_section(document: &mut Document, found: Option<&Growth>) {
    let Some(found) = found else { return };
    document.section(format!("Growth since {}", found.baseline));
    let mut table =
        Table::new("Growth by part and package", &["what", ">before", ">now", ">change"]).limited(ROWS);
    for change in found.changes.iter().filter(|c| matches!(c.subject, Subject::Part | Subject::Package)) {
        let kind = if change.subject == Subject::Part { "part" } else { "package" };
        table.row([
            format!("{kind} {}", change.name).into(),
            size(change.old).into(),
            size(change.new).into(),
            Cell::toned(delta(change.old, change.new), tone_of(Some(change.old), change.new)),
        ]);
    }
    document.table(table);
}
