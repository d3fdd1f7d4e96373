//! A value over time as a line.

use std::fmt::Write as _;

use super::{Width, binary_step, cut, decimal_step, scale, whole};
use crate::report::markup::escape;
use crate::report::units::{mebibytes, size};

/// Points that have their values next to them.
const VALUES: usize = 12;

/// The values of images, the oldest first; those that are not known are left out.
pub(in crate::report) fn trend(points: &[(String, Option<u64>)], memory: bool) -> String {
    Width::BOTH.iter().map(|&width| trend_at(points, memory, width)).collect()
}

fn trend_at(points: &[(String, Option<u64>)], memory: bool, width: Width) -> String {
    let wide = width == Width::Wide;
    let (w, h) = if wide { (1100.0, 250.0) } else { (340.0, 220.0) };
    let (left, right, up, low) = (66.0, 16.0, 22.0, 28.0);
    let known = || points.iter().filter_map(|point| point.1);
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    // A change of a few percent has to be seen: the axis starts below the smallest value, not at 0.
    let range = (most - least).max(most / 20).max(1);
    let step = if memory { binary_step(range) } else { decimal_step(range) };
    let bottom = least.saturating_sub(range / 4) / step * step;
    let top = (most + range / 8).div_ceil(step) * step;
    let y = |value: u64| {
        let share = value.saturating_sub(bottom) as f64 / (top - bottom).max(1) as f64;
        up + (1.0 - share) * (h - up - low)
    };
    let slot = (w - left - right) / points.len().max(1) as f64;
    let x = |i: usize| left + slot * (i as f64 + 0.5);
    let exact = |bytes: u64| if memory { mebibytes(bytes) } else { size(bytes) };
    let round = |bytes: u64| if memory { whole(bytes) } else { size(bytes).replace(".0 ", " ") };
    let what = if memory { "Minimum RAM over time" } else { "Size over time" };
    let mut out = format!(
        "<svg class=\"trend {}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{what}; the table below says the same\">",
        width.class()
    );
    scale(&mut out, (bottom, top, step), &y, (left, w - right), &round);
    let mut line = String::new();
    for (i, value) in points.iter().enumerate().filter_map(|(i, point)| Some((i, point.1?))) {
        let _ = write!(line, "{}{:.1} {:.1}", if line.is_empty() { "M" } else { " L" }, x(i), y(value));
    }
    let _ = write!(out, "<path class=\"curve\" d=\"{line}\"/>");
    // A name takes about 70 units: with more images only some have theirs.
    let every = (70.0 / slot).ceil().max(1.0) as usize;
    for (i, (name, value)) in points.iter().enumerate() {
        if i % every == 0 {
            let room = (slot * every as f64 / 7.0) as usize;
            let _ = write!(
                out,
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x(i),
                h - low + 18.0,
                escape(&cut(name, room.max(4)))
            );
        }
        let Some(value) = value else { continue };
        let title = escape(&format!("{name}: {}", exact(*value)));
        let _ = write!(
            out,
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{title}</title></circle>",
            x(i),
            y(*value)
        );
        let last = i + 1 == points.len();
        // On the side of the point where the line is not.
        let beside = [points[..i].last(), points.get(i + 1)].map(|point| point.and_then(|point| point.1));
        let falls =
            beside.iter().flatten().map(|beside| i128::from(*beside) - i128::from(*value)).sum::<i128>() > 0;
        let below = if falls { 19.0 } else { -9.0 };
        if (points.len() <= VALUES && wide) || i == 0 || last {
            let _ = write!(
                out,
                "<text class=\"label strong\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x(i),
                y(*value) + below,
                exact(*value)
            );
        }
    }
    let base = h - low;
    let _ = write!(
        out,
        "<line class=\"axis\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{base:.1}\" y2=\"{base:.1}\"/></svg>",
        w - right
    );
    out
}
