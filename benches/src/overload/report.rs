//! The table of all episodes.

use super::load::{Episode, Fate};
use super::server::Mode;
use super::{CLASSES, OVERLOAD, PATIENCE};
use crate::measure::{median, percentile, to_float, verdict};

/// The bars we set ourselves.
const GOODPUT: f64 = 0.90;
const CRITICAL_P99: f64 = 2.0;

/// Prints it. Returns whether every bar was reached.
pub(super) fn print(
    capacity: u64,
    offered: [u64; 4],
    unloaded: &Episode,
    episodes: &[Episode],
) -> bool {
    println!(
        "### {} requests a second where {capacity} can be served ({OVERLOAD}×), each worth \
         something for {} ms\n",
        offered.iter().sum::<u64>(),
        PATIENCE.as_millis()
    );
    println!("| admission | class | offered | served | shed | late | p50 ms | p99 ms |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    class_line(unloaded, 0, "(nobody else there)");
    for episode in episodes {
        for class in 0..CLASSES.len() {
            class_line(episode, class, episode.mode.name());
        }
    }
    println!("\n| admission | measure | value | bar |\n|---|---|---:|---|");
    let alone = p99(unloaded, 0);
    let mut passes = true;
    for episode in episodes {
        passes &= lines(capacity, alone, episode);
    }
    passes
}

fn class_line(episode: &Episode, class: usize, name: &str) {
    let Some(class_name) = CLASSES.get(class) else { return };
    let [served, shed, late] = fates(episode, class);
    let times = times(episode, class);
    let [p50, p99] = [median(&times), percentile(&times, 0.99)];
    let offered = served + shed + late;
    let (p50, p99) = (show(p50, ""), show(p99, ""));
    println!("| {name} | {class_name} | {offered} | {served} | {shed} | {late} | {p50} | {p99} |");
}

fn lines(capacity: u64, alone: f64, episode: &Episode) -> bool {
    let has_bar = episode.mode != Mode::Off;
    let served: u64 = (0..CLASSES.len()).map(|class| fates(episode, class)[0]).sum();
    let goodput = to_float(served) / episode.seconds / to_float(capacity);
    let slower = p99(episode, 0) / alone;
    let shares: Vec<f64> = (0..CLASSES.len()).map(|class| shed_share(episode, class)).collect();
    let lowest_first = shares.is_sorted();
    let shares: Vec<String> =
        shares.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
    let all = [
        (
            "served in time, of capacity",
            format!("{:.0} %", goodput * 100.0),
            format!("≥ {:.0} %", GOODPUT * 100.0),
            goodput >= GOODPUT,
        ),
        (
            "p99 of critical, to that with nobody else there",
            show(slower, "×"),
            format!("≤ {CRITICAL_P99}×"),
            slower <= CRITICAL_P99,
        ),
        (
            "not served in time, by class",
            shares.join(", "),
            "the lowest the most".to_owned(),
            lowest_first,
        ),
    ];
    let mut passes = true;
    for (what, value, bar, holds) in all {
        let bar = if has_bar { format!("{bar} {}", verdict(holds)) } else { String::new() };
        passes &= holds || !has_bar;
        println!("| {} | {what} | {value} | {bar} |", episode.mode.name());
    }
    if has_bar {
        println!("| {} | limit at the end | {} | |", episode.mode.name(), episode.limit);
    }
    passes
}

/// There is no percentile of nothing.
fn show(value: f64, unit: &str) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.2}{unit}") }
}

fn fates(episode: &Episode, class: usize) -> [u64; 3] {
    let mut fates = [0; 3];
    for answer in episode.measured(class) {
        let [served, shed, late] = &mut fates;
        *match answer.fate {
            Fate::Served => served,
            Fate::Shed => shed,
            Fate::Late => late,
        } += 1;
    }
    fates
}

fn shed_share(episode: &Episode, class: usize) -> f64 {
    let [served, shed, late] = fates(episode, class);
    to_float(shed + late) / to_float((served + shed + late).max(1))
}

/// Of those that were served.
fn times(episode: &Episode, class: usize) -> Vec<f64> {
    let served = episode.measured(class).filter(|answer| answer.fate == Fate::Served);
    served.map(|answer| answer.took_ms).collect()
}

fn p99(episode: &Episode, class: usize) -> f64 {
    percentile(&times(episode, class), 0.99)
}
