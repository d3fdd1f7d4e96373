//! Memory: over a boot, and against the sizes of machines.

use std::fmt::Write as _;

use super::{LETTER, Width, binary_step, scale, side, whole};
use crate::report::document::{MACHINES, RamCurve};
use crate::report::markup::escape;
use crate::report::units::{mebibytes, memory};

/// Memory over the moments of a boot as an area, with the sizes of machines marked. `top` is the scale's end in bytes,
/// the same for every curve of a figure.
pub(in crate::report) fn ram(curve: &RamCurve, top: u64, class: &str) -> String {
    Width::BOTH.iter().map(|&width| ram_at(curve, top, class, width)).collect()
}

/// The end of the scale for `curves`: room above the largest figure, and the next machine where it is near.
pub(in crate::report) fn ram_top(curves: &[RamCurve]) -> u64 {
    let points = curves.iter().flat_map(|curve| &curve.points);
    let used = points.flat_map(|point| [Some(point.used), point.measured]).flatten();
    let most = used.chain(curves.iter().filter_map(|curve| curve.minimum)).max().unwrap_or(0);
    let near = |bytes: &u64| (most..=most.saturating_add(most / 3)).contains(bytes);
    let end = MACHINES.iter().map(|(bytes, _)| *bytes).find(near).unwrap_or(most).max(1);
    end.saturating_add(end / 8)
}

fn ram_at(curve: &RamCurve, top: u64, class: &str, width: Width) -> String {
    let (w, h) = if width == Width::Wide { (560.0, 320.0) } else { (340.0, 270.0) };
    // At the right the machines have their names: inside they would lie on the curve.
    let (left, right, up, low) = (56.0, 72.0, 16.0, if width == Width::Wide { 52.0 } else { 26.0 });
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
    scale(&mut out, (0, top, binary_step(top)), &y, (left, w - right), &whole);
    for (bytes, name) in MACHINES.iter().filter(|(bytes, _)| *bytes <= top) {
        let boots = curve.minimum.is_none_or(|minimum| *bytes >= minimum);
        let (mark, word, tone) = if boots { ('✓', "boots", "good") } else { ('✗', "too small", "bad") };
        let at = y(*bytes);
        let _ = write!(
            out,
            "<line class=\"machine {tone}\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"label {tone}\" x=\"{:.1}\" y=\"{:.1}\"><title>{name}: {word}</title>{mark} {name}</text>",
            w - right,
            w - right + 6.0,
            at + 4.0
        );
    }
    area(&mut out, &curve.points.iter().map(|p| p.used).collect::<Vec<_>>(), &x, &y, (left, w - right));
    if let Some(minimum) = curve.minimum {
        let at = y(minimum);
        let origin = if curve.measured { "measured" } else { "computed" };
        let text = format!("needs {} ({origin})", mebibytes(minimum));
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

/// The minimum RAM of each image against the sizes of machines, on a logarithmic scale, for numbers of possible CPUs: those
/// that the report is about stand out, with what was measured.
pub(in crate::report) fn machines(curves: &[RamCurve]) -> String {
    Width::BOTH.iter().map(|&width| machines_at(curves, width)).collect()
}

/// The smallest memory on the scale of [`machines`].
const SMALLEST: u64 = 64 << 20;

/// The bars of one number of CPUs.
struct Group {
    label: String,
    /// Whether the report's own figures are for this number.
    main: bool,
    /// For each curve the computed minimum.
    bars: Vec<Option<u64>>,
}

fn cpu_groups(curves: &[RamCurve]) -> Vec<Group> {
    let mut numbers: Vec<u32> = curves.iter().flat_map(|c| c.by_cpus.iter().map(|(cpus, _)| *cpus)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let at = |curve: &RamCurve, cpus: u32| curve.by_cpus.iter().find(|row| row.0 == cpus).map(|row| row.1);
    let is_main = |cpus: u32| curves.iter().all(|curve| at(curve, cpus) == Some(curve.computed));
    // Neighbouring numbers can have the same figures: the report is about the default then.
    let main = numbers.iter().copied().filter(|&cpus| is_main(cpus)).min_by_key(|cpus| cpus.abs_diff(8));
    let mut groups: Vec<Group> = numbers
        .iter()
        .map(|&cpus| Group {
            label: format!("{cpus} CPUs"),
            main: Some(cpus) == main,
            bars: curves.iter().map(|curve| at(curve, cpus)).collect(),
        })
        .collect();
    if main.is_none() {
        let bars = curves.iter().map(|curve| Some(curve.computed)).collect();
        groups.insert(0, Group { label: "this report".into(), main: true, bars });
    }
    groups
}

fn machines_at(curves: &[RamCurve], width: Width) -> String {
    let wide = width == Width::Wide;
    let w = if wide { 1100.0 } else { 340.0 };
    let (left, right, up) = (if wide { 96.0 } else { 72.0 }, if wide { 150.0 } else { 72.0 }, 22.0);
    let groups = cpu_groups(curves);
    let largest = groups
        .iter()
        .flat_map(|group| group.bars.iter().flatten().copied())
        .chain(curves.iter().filter_map(|curve| curve.minimum))
        .fold(4_u64 << 30, u64::max);
    let span = (largest as f64 / SMALLEST as f64).log2();
    let length =
        |bytes: u64| ((bytes.max(SMALLEST) as f64 / SMALLEST as f64).log2() / span) * (w - left - right);
    let thick = |main: bool| if main { 19.0 } else { 14.0 };
    let plot: f64 = groups.iter().map(|group| thick(group.main) * curves.len() as f64 + 12.0).sum();
    let h = up + plot + 6.0;
    let mut out = format!(
        "<svg class=\"machines {}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"Minimum RAM against machines; the tables below say the same\">",
        width.class()
    );
    for (i, (bytes, name)) in MACHINES.into_iter().enumerate() {
        let x = left + length(bytes);
        // A phone has room for every other one.
        let name = if !wide && i % 2 == 0 { "" } else { name };
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{up}\" y2=\"{:.1}\"/>\
             <text class=\"label\" x=\"{x:.1}\" y=\"14\" text-anchor=\"middle\">{name}</text>",
            up + plot
        );
    }
    let mut y = up + 6.0;
    for group in &groups {
        let height = thick(group.main);
        let weight = if group.main { " strong" } else { "" };
        let _ = write!(
            out,
            "<text class=\"label{weight}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            y + height * curves.len() as f64 / 2.0 + 4.0,
            escape(&group.label)
        );
        for (i, (curve, bytes)) in curves.iter().zip(&group.bars).enumerate() {
            let Some(bytes) = bytes else { continue };
            let class = side(i, curves.len());
            let measured = curve.minimum.filter(|_| group.main && curve.measured);
            let text = match measured {
                Some(measured) if wide => {
                    format!("{} measured, {} computed", mebibytes(measured), mebibytes(*bytes))
                }
                _ => mebibytes(*bytes),
            };
            let title = escape(&format!("{}, {}: {text}", curve.label, group.label));
            let end = left + length(*bytes).max(2.0).max(measured.map_or(0.0, &length));
            let _ = write!(
                out,
                "<rect class=\"{class}{weight}\" x=\"{left}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{title}</title></rect>\
                 <text class=\"label{weight}\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                length(*bytes).max(2.0),
                height - 2.0,
                end + 6.0,
                y + height / 2.0 + 3.0,
            );
            if let Some(measured) = measured {
                let x = left + length(measured);
                let _ = write!(
                    out,
                    "<line class=\"seen\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                    y - 1.0,
                    y + height - 1.0
                );
            }
            y += height;
        }
        y += 12.0;
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
    for (i, line) in crate::report::terminal::wrap(&words, room.max(6)).iter().take(3).enumerate() {
        let _ = write!(
            out,
            "<text class=\"label\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y + 15.0 + i as f64 * 13.0,
            escape(line)
        );
    }
}
