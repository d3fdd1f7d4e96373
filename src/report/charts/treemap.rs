//! A treemap that can be entered without script: each large directory has a map of its own, which a link to its name
//! (`:target` of the style sheet) shows in place of the whole.

use std::fmt::Write as _;

use super::squarify::{Rect, squarify};
use super::{COLOURS, LETTER, Width, cut};
use crate::report::data::Directory;
use crate::report::markup::escape;
use crate::report::units::{delta, percent, size};

/// Maps of one page, the whole included.
const MAPS: usize = 24;
/// Size of the letters.
const LABEL: f64 = 11.5;
/// A directory with more than this part of a map is divided.
const PART: u64 = 7;
/// Groups of a map.
const GROUPS: usize = 28;
/// What is smaller than this part of a map is not drawn for itself.
const SMALL: u64 = 300;

/// The maps of `root`. `number` tells the maps of a page apart.
pub(in crate::report) fn treemap(root: &Directory, number: usize) -> String {
    let views = views(root);
    let link = |directory: &Directory| {
        views
            .iter()
            .position(|view| std::ptr::eq(view.directory, directory))
            .map(|view| format!("m{number}-{view}"))
    };
    let mut out = String::from("<div class=\"maps\">\n");
    // The whole comes last: it is shown unless one of those before it is the target.
    for (i, view) in views.iter().enumerate().skip(1).chain(views.iter().enumerate().take(1)) {
        let class = if i == 0 { "map whole" } else { "map" };
        let _ = write!(out, "<div class=\"{class}\" id=\"m{number}-{i}\">");
        crumbs(view, &views, number, &mut out);
        for width in Width::BOTH {
            draw(view, root.old_bytes.is_some(), width, &link, &mut out);
        }
        out.push_str("</div>\n");
    }
    out.push_str("</div>");
    if root.old_bytes.is_some() {
        out.push_str("<ul class=\"legend\">");
        for (class, text) in LEGEND {
            let _ = write!(out, "<li><span class=\"swatch {class}\"></span>{text}</li>");
        }
        out.push_str("</ul>");
    }
    out
}

/// The colours of a comparison.
const LEGEND: [(&str, &str); 5] = [
    ("down2", "shrank by more than a quarter"),
    ("down1", "shrank"),
    ("same", "within 2%"),
    ("up1", "grew"),
    ("up2", "grew by more than a quarter, or new"),
];

/// One map: a directory, and which map it is entered from.
struct View<'a> {
    directory: &'a Directory,
    /// What is drawn of it.
    groups: Vec<Group<'a>>,
    /// Its path, without a leading `/`; empty for the root.
    path: String,
    parent: usize,
}

/// The root and the largest directories that have something to show.
fn views(root: &Directory) -> Vec<View<'_>> {
    let view =
        |directory, path: String, parent| View { directory, groups: groups(directory, &path), path, parent };
    let mut views = vec![view(root, String::new(), 0)];
    let mut at = 0;
    while at < views.len() && views.len() < MAPS {
        let mut found: Vec<(&Directory, String)> = Vec::new();
        for group in &views[at].groups {
            let Some(directory) = group.directory else { continue };
            found.push((directory, group.path.clone()));
            for cell in &group.cells {
                found.extend(cell.directory.map(|inner| (inner, format!("{}/{}", group.path, cell.name))));
            }
        }
        found.retain(|(directory, _)| directory.directories.len() > 1);
        found.sort_by_key(|(directory, _)| std::cmp::Reverse(weight(directory)));
        for (directory, path) in found {
            if views.len() < MAPS && !views.iter().any(|view| std::ptr::eq(view.directory, directory)) {
                views.push(view(directory, path, at));
            }
        }
        at += 1;
    }
    views
}

/// The way back.
fn crumbs(view: &View, views: &[View], number: usize, out: &mut String) {
    if view.path.is_empty() {
        return;
    }
    let parent = &views[view.parent];
    let name = if parent.path.is_empty() { "the whole" } else { &parent.path };
    let _ = write!(
        out,
        "<p class=\"crumbs\"><a href=\"#m{number}-{}\">← {}</a> <strong>/{}</strong>: {}</p>",
        view.parent,
        escape(name),
        escape(&view.path),
        escape(&words(weight(view.directory), weight_before(view.directory)))
    );
}

/// Bytes of the image, or of the content if those are not known.
pub(in crate::report) fn weight(directory: &Directory) -> u64 {
    directory.image_bytes.unwrap_or(directory.bytes)
}

/// The same before, in a comparison.
pub(in crate::report) fn weight_before(directory: &Directory) -> Option<u64> {
    directory.old_image_bytes.or(directory.old_bytes)
}

/// A size, with its change if there is a before.
fn words(bytes: u64, before: Option<u64>) -> String {
    match before {
        Some(before) => format!("{} ({})", size(bytes), delta(before, bytes)),
        None => size(bytes),
    }
}

/// A rectangle-to-be inside a group.
struct Cell<'a> {
    name: String,
    bytes: u64,
    before: Option<u64>,
    directory: Option<&'a Directory>,
}

/// A rectangle-to-be with what is inside.
struct Group<'a> {
    path: String,
    bytes: u64,
    before: Option<u64>,
    directory: Option<&'a Directory>,
    cells: Vec<Cell<'a>>,
}

/// The children of a directory that have at least `least` bytes, and what is in none of them: bytes, and bytes before.
fn divided(directory: &Directory, least: u64) -> (impl Iterator<Item = &Directory>, u64, Option<u64>) {
    let large = directory.directories.iter().filter(move |child| weight(child) >= least);
    let other = large.clone().map(weight).fold(weight(directory), u64::saturating_sub);
    let before = large.clone().filter_map(weight_before);
    (large, other, weight_before(directory).map(|all| before.fold(all, u64::saturating_sub)))
}

/// The directories that become groups: as long as one holds a large part of everything, its children stand for it.
fn groups<'a>(root: &'a Directory, path: &str) -> Vec<Group<'a>> {
    let total = weight(root);
    let mut open: Vec<(String, &Directory)> = vec![(path.to_owned(), root)];
    let mut rest: Vec<Group> = Vec::new();
    loop {
        let largest = open
            .iter()
            .enumerate()
            .filter(|(_, (_, directory))| {
                !directory.directories.is_empty()
                    && (std::ptr::eq(*directory, root) || weight(directory) > total / PART)
            })
            .max_by_key(|(_, (_, directory))| weight(directory))
            .map(|(i, _)| i);
        let Some(index) = largest.filter(|_| open.len() < GROUPS) else { break };
        let (path, directory) = open.remove(index);
        // What is too small to be a group of its own is one together.
        let (children, other, before) = divided(directory, total / 100);
        for child in children {
            let path = if path.is_empty() { child.name.clone() } else { format!("{path}/{}", child.name) };
            open.push(deepest(child, path));
        }
        if other > 0 {
            let label = if path.is_empty() { "other".into() } else { format!("{path}, other") };
            rest.push(Group { path: label, bytes: other, before, directory: None, cells: Vec::new() });
        }
    }
    let mut groups: Vec<Group> = open
        .into_iter()
        .map(|(path, directory)| Group {
            path,
            bytes: weight(directory),
            before: weight_before(directory),
            directory: Some(directory),
            cells: cells(directory, total / SMALL),
        })
        .chain(rest)
        .filter(|group| group.bytes > 0)
        .collect();
    groups.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    groups
}

/// The directory that `directory` is only a way to: its one child if that holds nearly everything, and so on.
fn deepest(mut directory: &Directory, mut path: String) -> (String, &Directory) {
    while let [child] = directory.directories.as_slice()
        && weight(child) >= weight(directory) / 50 * 49
        && !child.directories.is_empty()
    {
        path = format!("{path}/{}", child.name);
        directory = child;
    }
    (path, directory)
}

/// What is in a directory; everything smaller than `least` together.
fn cells(directory: &Directory, least: u64) -> Vec<Cell<'_>> {
    let (children, other, before) = divided(directory, least);
    let mut cells: Vec<Cell> = Vec::new();
    for child in children {
        let (name, inner) = deepest(child, child.name.clone());
        cells.push(Cell { name, bytes: weight(child), before: weight_before(child), directory: Some(inner) });
    }
    if !cells.is_empty() && other > 0 {
        cells.push(Cell { name: "other".into(), bytes: other, before, directory: None });
    }
    cells.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    cells
}

/// The class of a change.
fn change(bytes: u64, before: Option<u64>) -> &'static str {
    let Some(before) = before else { return "" };
    let grown = bytes as f64 - before as f64;
    match grown / (before as f64).max(1.0) {
        share if share > 0.25 => "up2",
        share if share > 0.02 => "up1",
        share if share >= -0.02 => "same",
        share if share >= -0.25 => "down1",
        _ => "down2",
    }
}

fn draw(
    view: &View,
    compared: bool,
    width: Width,
    link: &dyn Fn(&Directory) -> Option<String>,
    out: &mut String,
) {
    let (w, h) = if width == Width::Wide { (1100.0, 520.0) } else { (340.0, 560.0) };
    let total = weight(view.directory);
    let groups = &view.groups;
    let _ = write!(
        out,
        "<svg class=\"treemap {}{}\" viewBox=\"0 0 {w} {h}\" role=\"group\" aria-label=\"{}\">",
        width.class(),
        if compared { " delta" } else { "" },
        escape(&format!("Treemap of /{}, {}", view.path, size(total)))
    );
    let weights: Vec<u64> = groups.iter().map(|group| group.bytes).collect();
    let area = Rect { x: 0.0, y: 0.0, w, h };
    for (i, (group, rect)) in groups.iter().zip(squarify(&weights, area)).enumerate() {
        let rect = rect.inset(1.0);
        // Inside a directory its own path is in every name.
        let name = group.path.strip_prefix(&view.path).map(|rest| rest.trim_start_matches(['/', ',', ' ']));
        let name = name.filter(|name| !name.is_empty()).unwrap_or(&group.path);
        let share = percent(group.bytes as f64 / total.max(1) as f64);
        let title = format!("{}: {}, {share}", group.path, words(group.bytes, group.before));
        let head = if rect.h > 34.0 && rect.w > 40.0 && !group.cells.is_empty() { 18.0 } else { 0.0 };
        let colour =
            if compared { change(group.bytes, group.before).to_owned() } else { format!("c{}", i % COLOURS) };
        let _ = write!(out, "<g class=\"{colour}\">");
        let target = group.directory.and_then(link).filter(|_| head > 0.0);
        open(out, target.as_deref(), &title);
        let class = if head > 0.0 { "group" } else { "group cell" };
        let _ = write!(out, "<rect class=\"{class}\" {}/>", attributes(rect));
        if head > 0.0 {
            let (bytes, change) = (size(group.bytes), words(group.bytes, group.before));
            // The change only if there is room for it and for the path.
            let room = (rect.w / (LABEL * LETTER * 1.1)) as usize;
            let long = change.chars().count() + name.chars().count().min(12) + 4 > room;
            let text = format!("{name}  {}", if long { bytes } else { change });
            label(out, Rect { h: head, ..rect }, &text, None, "strong");
        } else {
            label(out, rect, name, Some(group.bytes), "strong");
        }
        close(out, target.as_deref());
        if head > 0.0 {
            let body = Rect { y: rect.y + head, h: rect.h - head, ..rect }.inset(1.0);
            let weights: Vec<u64> = group.cells.iter().map(|cell| cell.bytes).collect();
            for (cell, rect) in group.cells.iter().zip(squarify(&weights, body)) {
                draw_cell(cell, &group.path, rect.inset(0.5), link, out);
            }
        }
        out.push_str("</g>");
    }
    out.push_str("</svg>");
}

fn draw_cell(
    cell: &Cell,
    group: &str,
    rect: Rect,
    link: &dyn Fn(&Directory) -> Option<String>,
    out: &mut String,
) {
    let target = cell.directory.and_then(link);
    open(out, target.as_deref(), &format!("{group}/{}: {}", cell.name, words(cell.bytes, cell.before)));
    let _ = write!(
        out,
        "<rect class=\"cell {}\" {}/>",
        if cell.before.is_some() { change(cell.bytes, cell.before) } else { "" },
        attributes(rect)
    );
    label(out, rect, &cell.name, Some(cell.bytes), "");
    close(out, target.as_deref());
}

fn open(out: &mut String, target: Option<&str>, title: &str) {
    match target {
        Some(id) => {
            let _ = write!(out, "<a href=\"#{id}\"><title>{}</title>", escape(title));
        }
        None => {
            let _ = write!(out, "<g><title>{}</title>", escape(title));
        }
    }
}

fn close(out: &mut String, target: Option<&str>) {
    out.push_str(if target.is_some() { "</a>" } else { "</g>" });
}

fn attributes(rect: Rect) -> String {
    format!("x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"", rect.x, rect.y, rect.w, rect.h)
}

/// A name, and its size under it where there is room. Cut short with `…` by the mean width of letters, and clipped by
/// an SVG of its own where the font is wider than that.
fn label(out: &mut String, rect: Rect, name: &str, bytes: Option<u64>, class: &str) {
    // Bold letters are wider.
    let letter = if class == "strong" { LETTER * 1.1 } else { LETTER };
    let room = ((rect.w - 8.0) / (LABEL * letter)) as usize;
    if room < 3 || rect.h < 14.0 {
        return;
    }
    let _ = write!(
        out,
        "<svg {}><text class=\"name {class}\" x=\"5\" y=\"13\">{}</text>",
        attributes(rect),
        escape(&cut(name, room))
    );
    if let Some(bytes) = bytes.filter(|_| rect.h > 30.0) {
        let text = size(bytes);
        if text.chars().count() <= room {
            let _ = write!(out, "<text class=\"bytes\" x=\"5\" y=\"27\">{text}</text>");
        }
    }
    out.push_str("</svg>");
}
