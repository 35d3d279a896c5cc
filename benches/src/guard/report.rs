//! The table of both episodes.

use steadfast_actors::jobs::Level;

use super::episode::{CALM, Course, Episode};
use crate::measure::{median, percentile, to_float, verdict};

const CLASSES: [&str; 4] = ["Critical", "Normal", "Sheddable", "Bulk"];
/// The bars we set ourselves.
const CRITICAL_AGE: f64 = 1.0;
const ESTIMATE_OFF: f64 = 0.30;
const RECOVERY: f64 = 1.5;

/// Prints it. Returns whether every bar was reached.
pub(super) fn print(course: &Course, episodes: &[Episode]) -> bool {
    println!(
        "### {} jobs waiting, then {} s of twice what the workers can do\n",
        course.backlog,
        course.overload.as_secs()
    );
    println!("| guard | what | p50 age s | p99 age s | accepted | put off | turned away | bar |");
    println!("|---|---|---:|---:|---:|---:|---:|---|");
    let mut passes = true;
    for episode in episodes {
        for class in 0..CLASSES.len() {
            passes &= class_line(episode, class);
        }
    }
    println!("\n| guard | measure | value | bar |\n|---|---|---:|---|");
    for episode in episodes {
        passes &= lines(course, episode);
    }
    passes
}

fn class_line(episode: &Episode, class: usize) -> bool {
    let (Some(name), Some(ages), Some(fates)) =
        (CLASSES.get(class), episode.ages.get(class), episode.fates.get(class))
    else {
        return false;
    };
    let ages: Vec<f64> = ages.iter().map(|(_, age)| *age).collect();
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&ages, share));
    let has_bar = episode.guarded && class == 0;
    let holds = !has_bar || p99 <= CRITICAL_AGE;
    let bar = if has_bar {
        format!("p99 ≤ {CRITICAL_AGE} s {}", verdict(holds))
    } else {
        String::new()
    };
    println!(
        "| {} | {name} | {p50:.2} | {p99:.2} | {} | {} | {} | {bar} |",
        on(episode),
        fates.accepted,
        fates.deferred,
        fates.turned_away
    );
    holds
}

fn lines(course: &Course, episode: &Episode) -> bool {
    let guarded = episode.guarded;
    let net = episode.pace - to_float(CALM.iter().sum());
    let ideal = to_float(episode.left) / net.max(1.0);
    let ratio = episode.recovery.map_or(f64::INFINITY, |took| took / ideal.max(1.0));
    let recovery = episode.recovery.map_or_else(
        || format!("not within {} s", course.watch.as_secs()),
        |took| format!("{took:.1} s, ideal {ideal:.1} s"),
    );
    let off = estimate_off(episode);
    let [rises, falls] = episode.changes;
    let ended = episode.moments.last().is_some_and(|moment| moment.level == Level::Normal);
    let after =
        episode.moments.last().map_or(0.0, |moment| moment.at) - course.overload.as_secs_f64();
    let all = [
        ("jobs done in a second, under load", format!("{:.0}", episode.pace), None),
        ("waiting at the end of the overload", episode.left.to_string(), None),
        ("given up after they were stored", episode.shed.to_string(), None),
        (
            "recovery from then on",
            recovery,
            guarded.then_some((format!("≤ {RECOVERY}× ideal"), ratio <= RECOVERY)),
        ),
        (
            "estimate of the wait, off by (median)",
            format!("{:.0} %", off * 100.0),
            (!guarded).then_some(("≤ 30 %".to_owned(), off <= ESTIMATE_OFF)),
        ),
        (
            "the level rose, then fell step by step, times",
            format!("{rises}, {falls}"),
            guarded.then_some(("no turn but one".to_owned(), rises <= 1)),
        ),
        (
            "the level is normal again after the overload",
            if ended { format!("{after:.1} s") } else { "not".to_owned() },
            guarded.then_some(("≤ 60 s".to_owned(), ended && after <= 60.0)),
        ),
    ];
    let mut passes = true;
    for (what, value, bar) in all {
        let bar = bar.map_or_else(String::new, |(text, holds)| {
            passes &= holds;
            format!("{text} {}", verdict(holds))
        });
        println!("| {} | {what} | {value} | {bar} |", on(episode));
    }
    passes
}

const fn on(episode: &Episode) -> &'static str {
    if episode.guarded { "on" } else { "off" }
}

/// By what share the guard's estimate was off for jobs that waited for 2 s or more: what it said
/// when a job was enqueued beside how long that job then waited.
fn estimate_off(episode: &Episode) -> f64 {
    let mut off = Vec::new();
    for (class, ages) in episode.ages.iter().enumerate() {
        for (began, age) in ages.iter().filter(|(_, age)| *age >= 2.0).step_by(50) {
            let said = episode
                .moments
                .iter()
                .rfind(|moment| moment.at <= began - age)
                .and_then(|moment| moment.estimates.get(class).copied().flatten());
            if let Some(said) = said {
                off.push((said - age).abs() / age);
            }
        }
    }
    median(&off)
}
