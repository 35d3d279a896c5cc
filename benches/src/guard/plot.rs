//! The plot of both episodes, as SVG.

use std::fmt::Write as _;

use steadfast_actors::jobs::Level;

use super::episode::{Course, Episode, Moment};
use crate::measure::{percentile, to_float};

const WIDTH: f64 = 980.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 70.0;
const PANEL: f64 = 400.0;
const GAP: f64 = 60.0;
const TOP: f64 = 70.0;
const TALL: f64 = 200.0;
const BETWEEN: f64 = 70.0;
const COLOURS: [&str; 4] = ["#c0392b", "#2c6fbb", "#d68910", "#7d7d7d"];
const CLASSES: [&str; 4] = ["Critical", "Normal", "Sheddable", "Bulk"];

/// A panel and its scales.
#[derive(Clone, Copy)]
struct Panel {
    left: f64,
    top: f64,
    /// What the right and the upper edge stand for.
    seconds: f64,
    most: f64,
}

impl Panel {
    fn x(&self, at: f64) -> f64 {
        self.left + PANEL * (at / self.seconds).min(1.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + TALL * (1.0 - (value / self.most).min(1.0))
    }

    fn frame(&self, out: &mut String, title: &str, unit: &str) {
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

    fn line(&self, out: &mut String, colour: &str, points: impl Iterator<Item = (f64, f64)>) {
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

/// Draws it.
pub(super) fn svg(course: &Course, episodes: &[Episode]) -> String {
    let last = |episode: &Episode| episode.moments.last().map_or(1.0, |moment| moment.at);
    let seconds = episodes.iter().map(last).fold(1.0, f64::max).ceil();
    let depths = episodes.iter().flat_map(|episode| &episode.moments).map(waiting);
    let deepest = depths.fold(1.0, f64::max) * 1.05;
    let oldest = episodes.iter().flat_map(|episode| &episode.ages).flatten();
    let oldest = oldest.map(|(_, age)| *age).fold(1.0, f64::max) * 1.05;
    let mut out = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT}' \
         viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='12'>\
         <rect width='100%' height='100%' fill='white'/>"
    );
    legend(&mut out);
    for (index, episode) in episodes.iter().enumerate() {
        let left = LEFT + to_float(index as u64) * (PANEL + GAP);
        let title = if episode.guarded { "guard on" } else { "guard off" };
        let depth = Panel { left, top: TOP, seconds, most: deepest };
        let ages = Panel { left, top: TOP + TALL + BETWEEN, seconds, most: oldest };
        for panel in [depth, ages] {
            shade(&mut out, &panel, course, episode);
        }
        depth.frame(&mut out, &format!("Jobs waiting, {title}"), "");
        ages.frame(&mut out, &format!("Age of jobs when they begin, p99, {title}"), " s");
        for (class, colour) in COLOURS.into_iter().enumerate() {
            let ready = |moment: &Moment| moment.ready.get(class).copied().unwrap_or(0);
            let points = episode.moments.iter().map(|moment| (moment.at, to_float(ready(moment))));
            depth.line(&mut out, colour, points);
            let each = episode.ages.get(class).map_or(&[][..], Vec::as_slice);
            ages.line(&mut out, colour, by_second(each).into_iter());
        }
    }
    out.push_str("</svg>\n");
    out
}

fn waiting(moment: &Moment) -> f64 {
    to_float(moment.ready.iter().copied().max().unwrap_or(0))
}

/// The overload as a band, and the guard's level as a strip under the panel's upper edge.
fn shade(out: &mut String, panel: &Panel, course: &Course, episode: &Episode) {
    let end = panel.x(course.overload.as_secs_f64());
    let _ = write!(
        out,
        "<rect x='{:.1}' y='{:.1}' width='{:.1}' height='{TALL}' fill='#fdf2e9'/>",
        panel.left,
        panel.top,
        end - panel.left
    );
    for pair in episode.moments.windows(2) {
        let [now, next] = pair else { continue };
        let colour = match now.level {
            Level::Normal => continue,
            Level::Elevated => "#f7dc6f",
            Level::Overloaded => "#eb984e",
            Level::Critical => "#cb4335",
            _ => "black",
        };
        let (from, to) = (panel.x(now.at), panel.x(next.at));
        let _ = write!(
            out,
            "<rect x='{from:.1}' y='{:.1}' width='{:.1}' height='6' fill='{colour}'/>",
            panel.top,
            to - from + 0.2
        );
    }
}

fn legend(out: &mut String) {
    let mut x = LEFT;
    for (name, colour) in CLASSES.into_iter().zip(COLOURS) {
        swatch(out, &mut x, colour, name);
    }
    let levels = [("#f7dc6f", "elevated"), ("#eb984e", "overloaded"), ("#cb4335", "critical")];
    for (colour, name) in levels {
        swatch(out, &mut x, colour, &format!("level {name}"));
    }
    swatch(out, &mut x, "#fdf2e9", "overload");
}

fn swatch(out: &mut String, x: &mut f64, colour: &str, name: &str) {
    let _ = write!(
        out,
        "<rect x='{x:.0}' y='18' width='12' height='12' fill='{colour}' stroke='#999'/>"
    );
    text(out, *x + 17.0, 28.0, "start", name);
    *x += 34.0 + 6.6 * to_float(name.len() as u64);
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
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
fn by_second(ages: &[(f64, f64)]) -> Vec<(f64, f64)> {
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
