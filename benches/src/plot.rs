//! What plots are made of: panels side by side, two above one another, as SVG.

use std::fmt::Write as _;

use crate::measure::{percentile, to_float};

const HEIGHT: f64 = 640.0;
pub(crate) const LEFT: f64 = 70.0;
pub(crate) const PANEL: f64 = 400.0;
pub(crate) const GAP: f64 = 60.0;
pub(crate) const TOP: f64 = 70.0;
pub(crate) const TALL: f64 = 200.0;
pub(crate) const BETWEEN: f64 = 70.0;

/// A picture as wide as this many panels.
pub(crate) fn begin(panels: u32) -> String {
    let width = 60.0 + f64::from(panels) * (PANEL + GAP);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{HEIGHT}' \
         viewBox='0 0 {width} {HEIGHT}' font-family='sans-serif' font-size='12'>\
         <rect width='100%' height='100%' fill='white'/>"
    )
}

/// A panel and its scales.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    pub(crate) left: f64,
    pub(crate) top: f64,
    /// What the right and the upper edge stand for.
    pub(crate) seconds: f64,
    pub(crate) most: f64,
}

impl Panel {
    pub(crate) fn x(&self, at: f64) -> f64 {
        self.left + PANEL * (at / self.seconds).min(1.0)
    }

    pub(crate) fn y(&self, value: f64) -> f64 {
        self.top + TALL * (1.0 - (value / self.most).min(1.0))
    }

    pub(crate) fn frame(&self, out: &mut String, title: &str, unit: &str) {
        let Self { left, top, .. } = *self;
        text(out, left, top - 8.0, "start", title);
        for part in 0..=4 {
            let share = f64::from(part) / 4.0;
            let (y, x) = (top + TALL * (1.0 - share), left + PANEL * share);
            let _ = write!(
                out,
                "<line x1='{left}' y1='{y:.1}' x2='{:.1}' y2='{y:.1}' stroke='#ddd'/>",
                left + PANEL
            );
            text(out, left - 6.0, y + 4.0, "end", &short(self.most * share, unit));
            text(out, x, top + TALL + 16.0, "middle", &format!("{:.0} s", self.seconds * share));
        }
    }

    pub(crate) fn line(
        &self,
        out: &mut String,
        colour: &str,
        points: impl Iterator<Item = (f64, f64)>,
    ) {
        let mut path = String::new();
        for (at, value) in points {
            let _ = write!(path, "{:.1},{:.1} ", self.x(at), self.y(value));
        }
        let _ = write!(
            out,
            "<polyline fill='none' stroke='{colour}' stroke-width='1.8' points='{path}'/>"
        );
    }
}

pub(crate) fn swatch(out: &mut String, x: &mut f64, colour: &str, name: &str) {
    let _ = write!(
        out,
        "<rect x='{x:.0}' y='18' width='12' height='12' fill='{colour}' stroke='#999'/>"
    );
    text(out, *x + 17.0, 28.0, "start", name);
    *x += 34.0 + 6.6 * to_float(name.len() as u64);
}

pub(crate) fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = write!(out, "<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{words}</text>");
}

fn short(value: f64, unit: &str) -> String {
    if value >= 10_000.0 {
        format!("{:.0} k{unit}", value / 1000.0)
    } else {
        format!("{value:.0}{unit}")
    }
}

/// The 99th percentile within each second.
pub(crate) fn by_second(ages: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let mut sorted = ages.to_vec();
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
    for second in sorted.chunk_by(|one, other| one.0.floor() == other.0.floor()) {
        let each: Vec<f64> = second.iter().map(|(_, age)| *age).collect();
        if let Some((at, _)) = second.first() {
            points.push((at.floor() + 0.5, percentile(&each, 0.99)));
        }
    }
    points
}
