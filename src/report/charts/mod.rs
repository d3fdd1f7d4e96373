//! Charts as plain SVG: no script, nothing fetched, colours from the page's style so that light, dark and print fit.
//!
//! Each chart with words in it is drawn twice, for a wide and for a narrow page: an SVG that is merely scaled down
//! to a phone has letters that no one can read. The style sheet shows one of them.

use std::fmt::Write as _;

mod memory;
mod squarify;
mod treemap;
mod trend;

use super::document::Bar;
use super::markup::escape;
use super::units::{memory, percent, size};

pub(super) use memory::{machines, ram, ram_top};
pub(super) use treemap::{treemap, weight, weight_before};
pub(super) use trend::trend;

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

/// The class of the colour of an image among `count`: a single image has nothing before it.
pub(super) const fn side(index: usize, count: usize) -> &'static str {
    if index == 0 && count > 1 { "before" } else { "after" }
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

/// The vertical axis: values at multiples of `step` from `low` to `top`, with lines across the plot.
fn scale(
    out: &mut String,
    (low, top, step): (u64, u64, u64),
    y: &dyn Fn(u64) -> f64,
    (left, right): (f64, f64),
    shown: &dyn Fn(u64) -> String,
) {
    for value in (0..=8).map(|n| low + step * n).take_while(|value| *value <= top) {
        let at = y(value);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 5.0,
            at + 4.0,
            if value == 0 { "0".to_owned() } else { shown(value) }
        );
    }
}

/// A step of an axis for memory: a power of two that divides `range` into at most five.
fn binary_step(range: u64) -> u64 {
    (20..48).map(|bit| 1_u64 << bit).find(|step| range / step <= 5).unwrap_or(range.max(1))
}

/// A step of an axis for sizes: 1, 2 or 5 times a power of ten that divides `range` into at most five.
fn decimal_step(range: u64) -> u64 {
    let powers = (0..19).map(|power| 10_u64.pow(power));
    let steps = powers.flat_map(|power| [1, 2, 5].map(|times| power.saturating_mul(times)));
    let mut steps = steps;
    steps.find(|step| range / step <= 5).unwrap_or(range.max(1))
}

/// Memory without a decimal if it has none: `256 MiB`, `1 GiB`.
fn whole(bytes: u64) -> String {
    memory(bytes).replace(".0 ", " ")
}

/// `name` in at most `room` letters: the end of a path tells more than its beginning.
fn cut(name: &str, room: usize) -> String {
    let count = name.chars().count();
    if count <= room {
        name.to_owned()
    } else if name.contains('/') {
        std::iter::once('…').chain(name.chars().skip(count + 1 - room)).collect()
    } else {
        name.chars().take(room.saturating_sub(1)).chain(std::iter::once('…')).collect()
    }
}
