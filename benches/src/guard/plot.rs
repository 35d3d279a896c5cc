//! The plot of both episodes, as SVG.

use std::fmt::Write as _;

use steadfast_actors::jobs::Level;

use super::episode::{Course, Episode, Moment};
use crate::measure::to_float;
use crate::plot::{BETWEEN, GAP, LEFT, PANEL, Panel, TALL, TOP, begin, by_second, swatch};

const COLOURS: [&str; 4] = ["#c0392b", "#2c6fbb", "#d68910", "#7d7d7d"];
const CLASSES: [&str; 4] = ["Critical", "Normal", "Sheddable", "Bulk"];

/// Draws it.
pub(super) fn svg(course: &Course, episodes: &[Episode]) -> String {
    let last = |episode: &Episode| episode.moments.last().map_or(1.0, |moment| moment.at);
    let seconds = episodes.iter().map(last).fold(1.0, f64::max).ceil();
    let depths = episodes.iter().flat_map(|episode| &episode.moments).map(waiting);
    let deepest = depths.fold(1.0, f64::max) * 1.05;
    let oldest = episodes.iter().flat_map(|episode| &episode.ages).flatten();
    let oldest = oldest.map(|(_, age)| *age).fold(1.0, f64::max) * 1.05;
    let mut out = begin(2);
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
