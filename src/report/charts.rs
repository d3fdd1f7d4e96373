//! Charts as plain SVG: no script, nothing fetched, colours from the page's style so that light, dark and print fit.
//!
//! Each chart with words in it is drawn twice, for a wide and for a narrow page: an SVG that is merely scaled down
//! to a phone has letters that no one can read. The style sheet shows one of them.

use std::fmt::Write as _;

use super::data::Directory;
use super::document::{Bar, MACHINES, RamCurve};
use super::markup::escape;
use super::squarify::{Rect, squarify};
use super::units::{memory, percent, size};

/// Colours of the style sheet: `c0` to `c7`.
pub(super) const COLOURS: usize = 8;

/// Width of a letter in relation to its size: a little more than the mean of the system's sans-serif fonts.
const LETTER: f64 = 0.58;

/// A page's width for which a chart is drawn.
#[derive(Clone, Copy, PartialEq)]
enum Width {
    Wide,
    Narrow,
}

impl Width {
    const BOTH: [Self; 2] = [Self::Wide, Self::Narrow];

    const fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }
}

/// One horizontal bar, its parts side by side; `longest` is the full width. It has no words, so one drawing fits all.
pub(super) fn bar(bar: &Bar, longest: u64, colour_of: &dyn Fn(&str) -> usize) -> String {
    let mut out = format!(
        "<svg class=\"bar\" viewBox=\"0 0 1000 28\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        escape(&format!("{}: {}", bar.label, size(bar.total())))
    );
    let mut at = 0_u64;
    for (name, bytes) in &bar.parts {
        let x = at as f64 / longest.max(1) as f64 * 1000.0;
        let w = (*bytes as f64 / longest.max(1) as f64 * 1000.0).max(1.0);
        let share = *bytes as f64 / bar.total().max(1) as f64;
        let title = escape(&format!("{name}: {} ({})", size(*bytes), percent(share)));
        let _ = write!(
            out,
            "<rect class=\"c{}\" x=\"{x:.1}\" width=\"{w:.1}\" height=\"28\"><title>{title}</title></rect>",
            colour_of(name)
        );
        at = at.saturating_add(*bytes);
    }
    out.push_str("</svg>");
    out
}

/// Memory over the moments of a boot as an area, with the sizes of machines marked. `top` is the scale's end in bytes,
/// the same for every curve of a figure.
pub(super) fn ram(curve: &RamCurve, top: u64, class: &str) -> String {
    Width::BOTH.iter().map(|&width| ram_at(curve, top, class, width)).collect()
}

/// The end of the scale for `curves`: room above the largest figure, and the next machine where it is near.
pub(super) fn ram_top(curves: &[RamCurve]) -> u64 {
    let points = curves.iter().flat_map(|curve| &curve.points);
    let used = points.flat_map(|point| [Some(point.used), point.measured]).flatten();
    let most = used.chain(curves.iter().filter_map(|curve| curve.minimum)).max().unwrap_or(0);
    let near = |bytes: &u64| (most..=most.saturating_add(most / 3)).contains(bytes);
    let end = MACHINES.iter().map(|(bytes, _)| *bytes).find(near).unwrap_or(most).max(1);
    end.saturating_add(end / 8)
}

fn ram_at(curve: &RamCurve, top: u64, class: &str, width: Width) -> String {
    let (w, h) = if width == Width::Wide { (560.0, 320.0) } else { (340.0, 270.0) };
    let (left, right, up, low) = (56.0, 10.0, 12.0, if width == Width::Wide { 52.0 } else { 26.0 });
    let (plot_w, plot_h) = (w - left - right, h - up - low);
    let y = |bytes: u64| up + plot_h - bytes as f64 / top.max(1) as f64 * plot_h;
    let count = curve.points.len();
    // Half a step of room at both sides keeps the first and the last label inside.
    let step = plot_w / count.max(1) as f64;
    let x = |i: usize| left + step * (i as f64 + 0.5);
    let title = format!("Memory over the boot, {}", curve.label);
    let mut out = format!(
        "<svg class=\"ram {class} {}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{}\">",
        width.class(),
        escape(&title)
    );
    scale(&mut out, top, &y, (left, w - right));
    for (bytes, name) in MACHINES.iter().filter(|(bytes, _)| *bytes <= top) {
        let boots = curve.minimum.is_none_or(|minimum| *bytes >= minimum);
        let (word, tone) = if boots { ("boots", "good") } else { ("too small", "bad") };
        let at = y(*bytes);
        let _ = write!(
            out,
            "<line class=\"machine {tone}\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"label {tone}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name} {word}</text>",
            w - right,
            w - right,
            at - 4.0
        );
    }
    area(&mut out, &curve.points.iter().map(|p| p.used).collect::<Vec<_>>(), &x, &y, (left, w - right));
    if let Some(minimum) = curve.minimum {
        let at = y(minimum);
        let origin = if curve.measured { "measured" } else { "computed" };
        let text = format!("needs {} ({origin})", super::units::mebibytes(minimum));
        // Above its line: the curve stays below it, and the machines' labels stand at the other side.
        let _ = write!(
            out,
            "<line class=\"least\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"label strong\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            w - right,
            left + 4.0,
            at - 5.0,
            escape(&text)
        );
    }
    for (i, point) in curve.points.iter().enumerate() {
        let (px, py) = (x(i), y(point.used));
        let label = escape(&format!("{}: {}", point.name, memory(point.used)));
        let _ = write!(
            out,
            "<circle class=\"dot\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\"><title>{label}</title></circle>"
        );
        if let Some(measured) = point.measured {
            let label = escape(&format!("{}: {} measured", point.name, memory(measured)));
            let _ = write!(
                out,
                "<circle class=\"seen\" cx=\"{px:.1}\" cy=\"{:.1}\" r=\"4\"><title>{label}</title></circle>",
                y(measured)
            );
        }
        moment(&mut out, i, &point.name, px, h - low, step, width);
    }
    let base = y(0);
    let _ = write!(
        out,
        "<line class=\"axis\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{base:.1}\" y2=\"{base:.1}\"/></svg>",
        w - right
    );
    out
}

/// The vertical axis: at most six values, with lines across the plot.
fn scale(out: &mut String, top: u64, y: &dyn Fn(u64) -> f64, (left, right): (f64, f64)) {
    let step = (23..48).map(|bit| 1_u64 << bit).find(|step| top / step <= 5).unwrap_or(top.max(1));
    for value in (0..=5).map(|n| step * n).take_while(|value| *value <= top) {
        let at = y(value);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 5.0,
            at + 4.0,
            if value == 0 { "0".to_owned() } else { whole(value) }
        );
    }
}

/// Memory without a decimal if it has none: `256 MiB`, `1 GiB`.
fn whole(bytes: u64) -> String {
    memory(bytes).replace(".0 ", " ")
}

/// The minimum RAM of each image as a bar against the sizes of machines, on a logarithmic scale: for the number of
/// possible CPUs that the report is about, and below it for others.
pub(super) fn machines(curves: &[RamCurve]) -> String {
    Width::BOTH.iter().map(|&width| machines_at(curves, width)).collect()
}

/// The smallest memory on the scale of [`machines`].
const SMALLEST: u64 = 64 << 20;

fn machines_at(curves: &[RamCurve], width: Width) -> String {
    let w = if width == Width::Wide { 1100.0 } else { 340.0 };
    let (left, right, up) = (if width == Width::Wide { 150.0 } else { 78.0 }, 70.0, 6.0);
    let largest = curves
        .iter()
        .flat_map(|curve| curve.by_cpus.iter().map(|(_, bytes)| *bytes).chain(curve.minimum))
        .fold(4_u64 << 30, u64::max);
    let span = (largest as f64 / SMALLEST as f64).log2();
    let length =
        |bytes: u64| ((bytes.max(SMALLEST) as f64 / SMALLEST as f64).log2() / span) * (w - left - right);
    let rows: Vec<(usize, String, u64, bool)> = curves
        .iter()
        .enumerate()
        .flat_map(|(i, curve)| {
            let main = curve.minimum.map(|minimum| (i, curve.label.clone(), minimum, true));
            let others =
                curve.by_cpus.iter().map(move |(cpus, bytes)| (i, format!("{cpus} CPUs"), *bytes, false));
            main.into_iter().chain(others)
        })
        .collect();
    let height = |main: bool| if main { 30.0 } else { 18.0 };
    let plot: f64 = rows.iter().map(|row| height(row.3)).sum();
    let h = up + plot + 26.0;
    let mut out = format!(
        "<svg class=\"machines {}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"Minimum RAM against machines; the tables below say the same\">",
        width.class()
    );
    for (i, (bytes, name)) in MACHINES.into_iter().enumerate() {
        let x = left + length(bytes);
        // A phone has room for every other one.
        let name = if width == Width::Narrow && i % 2 == 1 { "" } else { name };
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{up}\" y2=\"{:.1}\"/>\
             <text class=\"label\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            up + plot,
            up + plot + 16.0
        );
    }
    let mut y = up;
    for (curve, label, bytes, main) in rows {
        let (class, thick) = (if curve == 0 && curves.len() > 1 { "before" } else { "after" }, height(main));
        let (bar, weight) = if main { (thick - 10.0, " strong") } else { (thick - 8.0, "") };
        let middle = y + thick / 2.0;
        let _ = write!(
            out,
            "<text class=\"label{weight}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}{weight}\" x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{bar}\"/>\
             <text class=\"label{weight}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left - 8.0,
            middle + 4.0,
            escape(&label),
            middle - bar / 2.0,
            length(bytes).max(2.0),
            left + length(bytes) + 6.0,
            middle + 4.0,
            super::units::mebibytes(bytes)
        );
        y += thick;
    }
    out.push_str("</svg>");
    out
}

/// The filled curve through `values`, level at both ends.
fn area(
    out: &mut String,
    values: &[u64],
    x: &dyn Fn(usize) -> f64,
    y: &dyn Fn(u64) -> f64,
    ends: (f64, f64),
) {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return };
    let mut line = format!("M{:.1} {:.1}", ends.0, y(*first));
    for (i, &value) in values.iter().enumerate() {
        let _ = write!(line, " L{:.1} {:.1}", x(i), y(value));
    }
    let _ = write!(line, " L{:.1} {:.1}", ends.1, y(*last));
    let base = y(0);
    let _ = write!(
        out,
        "<path class=\"area\" d=\"{line} L{:.1} {base:.1} L{:.1} {base:.1} Z\"/><path class=\"curve\" d=\"{line}\"/>",
        ends.1, ends.0
    );
}

/// A moment's name under the axis; on a narrow page its number, which the table repeats.
fn moment(out: &mut String, index: usize, name: &str, x: f64, y: f64, step: f64, width: Width) {
    if width == Width::Narrow {
        let _ = write!(
            out,
            "<text class=\"label\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y + 17.0,
            index + 1
        );
        return;
    }
    let room = ((step - 4.0) / (11.0 * LETTER)) as usize;
    let words = format!("{} {name}", index + 1);
    for (i, line) in super::terminal::wrap(&words, room.max(6)).iter().take(3).enumerate() {
        let _ = write!(
            out,
            "<text class=\"label\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y + 15.0 + i as f64 * 13.0,
            escape(line)
        );
    }
}

/// A squarified treemap: groups of directories in their colours, the directories and large files of each inside.
pub(super) fn treemap(root: &Directory) -> String {
    Width::BOTH.iter().map(|&width| treemap_at(root, width)).collect()
}

/// A rectangle-to-be: a label and its bytes.
struct Group {
    path: String,
    bytes: u64,
    cells: Vec<(String, u64)>,
}

/// The directories that become groups: as long as one holds more than a quarter of everything, its children stand for it.
fn groups(root: &Directory) -> Vec<Group> {
    let mut open: Vec<(String, &Directory)> = vec![(String::new(), root)];
    let mut rest: Vec<Group> = Vec::new();
    loop {
        let largest = open
            .iter()
            .enumerate()
            .filter(|(_, (path, directory))| {
                !directory.directories.is_empty() && (path.is_empty() || directory.bytes > root.bytes / 4)
            })
            .max_by_key(|(_, (_, directory))| directory.bytes)
            .map(|(i, _)| i);
        let Some(index) = largest.filter(|_| open.len() < 24) else { break };
        let (path, directory) = open.remove(index);
        // What is too small to be a group of its own is one together.
        let mut other = unlisted(directory);
        for child in &directory.directories {
            if child.bytes < root.bytes / 100 {
                other += child.bytes;
                continue;
            }
            let name = if path.is_empty() { child.name.clone() } else { format!("{path}/{}", child.name) };
            open.push((name, child));
        }
        if other > 0 {
            let label = if path.is_empty() { "other".into() } else { format!("{path}, other") };
            rest.push(Group { path: label, bytes: other, cells: Vec::new() });
        }
    }
    let mut groups: Vec<Group> = open
        .into_iter()
        .map(|(path, directory)| {
            let mut cells: Vec<(String, u64)> =
                directory.directories.iter().map(|child| (child.name.clone(), child.bytes)).collect();
            if !cells.is_empty() && unlisted(directory) > 0 {
                cells.push(("other".into(), unlisted(directory)));
            }
            cells.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            Group { path, bytes: directory.bytes, cells }
        })
        .chain(rest)
        .filter(|group| group.bytes > 0)
        .collect();
    groups.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    groups
}

/// Bytes of a directory that no listed child holds.
fn unlisted(directory: &Directory) -> u64 {
    directory.directories.iter().fold(directory.bytes, |rest, child| rest.saturating_sub(child.bytes))
}

fn treemap_at(root: &Directory, width: Width) -> String {
    let (w, h) = if width == Width::Wide { (1100.0, 520.0) } else { (340.0, 560.0) };
    let groups = groups(root);
    let mut out = format!(
        "<svg class=\"treemap {}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{}\">",
        width.class(),
        escape(&format!("Treemap of {}", size(root.bytes)))
    );
    let weights: Vec<u64> = groups.iter().map(|group| group.bytes).collect();
    for (i, (group, rect)) in groups.iter().zip(squarify(&weights, Rect { x: 0.0, y: 0.0, w, h })).enumerate()
    {
        let rect = rect.inset(1.0);
        let title = format!(
            "{}: {} ({})",
            group.path,
            size(group.bytes),
            percent(group.bytes as f64 / root.bytes.max(1) as f64)
        );
        let _ = write!(
            out,
            "<g class=\"c{}\"><title>{}</title><rect class=\"group\" {}/>",
            i % COLOURS,
            escape(&title),
            attributes(rect)
        );
        let head = if rect.h > 34.0 && rect.w > 40.0 { 18.0 } else { 0.0 };
        let body = Rect { y: rect.y + head, h: rect.h - head, ..rect }.inset(1.0);
        if group.cells.is_empty() || head == 0.0 {
            label(&mut out, rect, &group.path, Some(group.bytes), "strong");
        } else {
            label(
                &mut out,
                Rect { h: head, ..rect },
                &format!("{}  {}", group.path, size(group.bytes)),
                None,
                "strong",
            );
            let weights: Vec<u64> = group.cells.iter().map(|cell| cell.1).collect();
            for ((name, bytes), cell) in group.cells.iter().zip(squarify(&weights, body)) {
                let title = format!("{}/{name}: {}", group.path, size(*bytes));
                let _ = write!(
                    out,
                    "<g><title>{}</title><rect class=\"cell\" {}/>",
                    escape(&title),
                    attributes(cell.inset(0.5))
                );
                label(&mut out, cell, name, Some(*bytes), "");
                out.push_str("</g>");
            }
        }
        out.push_str("</g>");
    }
    out.push_str("</svg>");
    out
}

fn attributes(rect: Rect) -> String {
    format!("x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"", rect.x, rect.y, rect.w, rect.h)
}

/// A name, and its size under it where there is room. Cut short with `…` by the mean width of letters, and clipped by
/// an SVG of its own where the font is wider than that.
fn label(out: &mut String, rect: Rect, name: &str, bytes: Option<u64>, class: &str) {
    const SIZE: f64 = 11.5;
    let room = ((rect.w - 8.0) / (SIZE * LETTER)) as usize;
    if room < 3 || rect.h < 14.0 {
        return;
    }
    let cut = |text: &str| -> String {
        let count = text.chars().count();
        if count <= room {
            text.to_owned()
        } else if text.contains('/') {
            // The end of a path tells more than its beginning.
            std::iter::once('…').chain(text.chars().skip(count + 1 - room)).collect()
        } else {
            text.chars().take(room - 1).chain(std::iter::once('…')).collect()
        }
    };
    let _ = write!(
        out,
        "<svg {}><text class=\"name {class}\" x=\"5\" y=\"13\">{}</text>",
        attributes(rect),
        escape(&cut(name))
    );
    if let Some(bytes) = bytes.filter(|_| rect.h > 30.0) {
        let text = size(bytes);
        if text.chars().count() <= room {
            let _ = write!(out, "<text class=\"bytes\" x=\"5\" y=\"27\">{text}</text>");
        }
    }
    out.push_str("</svg>");
}
