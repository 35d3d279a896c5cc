//! The plot of the episodes under load, as SVG.

use std::fmt::Write as _;

use super::load::{Episode, Fate};
use super::{CLASSES, PATIENCE};
use crate::measure::to_float;
use crate::plot::{BETWEEN, GAP, LEFT, PANEL, Panel, TALL, TOP, begin, by_second, swatch};

const COLOURS: [&str; 4] = ["#c0392b", "#8e44ad", "#2c6fbb", "#d68910"];

/// Draws it: what is served in each second, and how long it took.
pub(super) fn svg(capacity: u64, episodes: &[Episode]) -> String {
    let mut out = begin(u32::try_from(episodes.len()).unwrap_or(u32::MAX));
    legend(&mut out);
    for (index, episode) in episodes.iter().enumerate() {
        let left = LEFT + to_float(index as u64) * (PANEL + GAP);
        let seconds = episode.warm + episode.seconds;
        let served = Panel { left, top: TOP, seconds, most: to_float(capacity) * 1.2 };
        let most = PATIENCE.as_secs_f64() * 1e3;
        let times = Panel { left, top: TOP + TALL + BETWEEN, seconds, most };
        let name = episode.mode.name();
        served.frame(&mut out, &format!("Served in time in a second, admission {name}"), "");
        times.frame(&mut out, &format!("p99 of those served, admission {name}"), " ms");
        line_of_capacity(&mut out, &served, to_float(capacity));
        let mut all = Vec::new();
        for (class, colour) in COLOURS.into_iter().enumerate() {
            let answers = episode.answers.get(class).map_or(&[][..], Vec::as_slice);
            let good = answers.iter().filter(|answer| answer.fate == Fate::Served);
            let good: Vec<(f64, f64)> = good.map(|answer| (answer.at, answer.took_ms)).collect();
            served.line(&mut out, colour, rate(&good, seconds).into_iter());
            times.line(&mut out, colour, by_second(&good).into_iter());
            all.extend(good);
        }
        served.line(&mut out, "black", rate(&all, seconds).into_iter());
    }
    out.push_str("</svg>\n");
    out
}

fn line_of_capacity(out: &mut String, panel: &Panel, capacity: f64) {
    let (y, right) = (panel.y(capacity), panel.left + PANEL);
    let _ = write!(
        out,
        "<line x1='{}' y1='{y:.1}' x2='{right}' y2='{y:.1}' stroke='black' \
         stroke-dasharray='4 3'/>",
        panel.left
    );
}

/// How many in each whole second.
fn rate(good: &[(f64, f64)], seconds: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let mut second = 0.0;
    while second + 1.0 <= seconds {
        let within = good.iter().filter(|(at, _)| (second..second + 1.0).contains(at)).count();
        points.push((second + 0.5, to_float(within as u64)));
        second += 1.0;
    }
    points
}

fn legend(out: &mut String) {
    let mut x = LEFT;
    for (name, colour) in CLASSES.into_iter().zip(COLOURS) {
        swatch(out, &mut x, colour, name);
    }
    swatch(out, &mut x, "black", "all; dashed: capacity");
}
