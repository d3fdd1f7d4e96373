//! Squarified treemaps: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000).

/// A rectangle in the chart's own units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Rect {
    /// The same, smaller by `by` on every side.
    pub(super) fn inset(self, by: f64) -> Self {
        Self {
            x: self.x + by,
            y: self.y + by,
            w: (self.w - 2.0 * by).max(0.0),
            h: (self.h - 2.0 * by).max(0.0),
        }
    }
}

/// Rectangles that fill `area` in proportion to `weights` (largest first), as square as they can be made.
pub(super) fn squarify(weights: &[u64], area: Rect) -> Vec<Rect> {
    let total: f64 = weights.iter().map(|&w| w as f64).sum();
    if total <= 0.0 || area.w <= 0.0 || area.h <= 0.0 {
        return weights.iter().map(|_| Rect { w: 0.0, h: 0.0, ..area }).collect();
    }
    let scale = area.w * area.h / total;
    let sizes: Vec<f64> = weights.iter().map(|&w| w as f64 * scale).collect();
    let mut out = Vec::with_capacity(sizes.len());
    let mut free = area;
    let mut rest = sizes.as_slice();
    while !rest.is_empty() {
        let side = free.w.min(free.h);
        // As many as make the worst of the row squarer, at least one.
        let mut count = 1;
        while count < rest.len() && worst(&rest[..=count], side) <= worst(&rest[..count], side) {
            count += 1;
        }
        let (row, later) = rest.split_at(count);
        let sum: f64 = row.iter().sum();
        let thickness = if side > 0.0 { (sum / side).min(free.w.max(free.h)) } else { 0.0 };
        let mut at = 0.0;
        for &size in row {
            let length = if thickness > 0.0 { size / thickness } else { 0.0 };
            out.push(if free.w >= free.h {
                Rect { x: free.x, y: free.y + at, w: thickness, h: length }
            } else {
                Rect { x: free.x + at, y: free.y, w: length, h: thickness }
            });
            at += length;
        }
        if free.w >= free.h {
            free = Rect { x: free.x + thickness, w: (free.w - thickness).max(0.0), ..free };
        } else {
            free = Rect { y: free.y + thickness, h: (free.h - thickness).max(0.0), ..free };
        }
        rest = later;
    }
    out
}

/// The worst ratio of sides in a row of areas along a `side`.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let (least, most) = row.iter().fold((f64::MAX, 0.0_f64), |(a, b), &s| (a.min(s), b.max(s)));
    if least <= 0.0 || sum <= 0.0 || side <= 0.0 {
        return f64::MAX;
    }
    let (side2, sum2) = (side * side, sum * sum);
    (side2 * most / sum2).max(sum2 / (side2 * least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn areas_are_in_proportion_and_inside(mut weights in prop::collection::vec(1_u64..1_000_000, 1..40)) {
            weights.sort_unstable_by(|a, b| b.cmp(a));
            let area = Rect { x: 3.0, y: 5.0, w: 900.0, h: 400.0 };
            let total: u64 = weights.iter().sum();
            let rects = squarify(&weights, area);
            prop_assert_eq!(rects.len(), weights.len());
            for (rect, &weight) in rects.iter().zip(&weights) {
                let wanted = weight as f64 / total as f64 * area.w * area.h;
                prop_assert!((rect.w * rect.h - wanted).abs() < 0.01 * wanted + 0.01);
                prop_assert!(rect.x >= area.x - 0.01 && rect.x + rect.w <= area.x + area.w + 0.01);
                prop_assert!(rect.y >= area.y - 0.01 && rect.y + rect.h <= area.y + area.h + 0.01);
            }
        }
    }
}
