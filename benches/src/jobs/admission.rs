//! What the guard costs each enqueue: the read of what it published, and the table.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use steadfast_actors::jobs::Class;
use steadfast_actors::jobs::guard::{Candidate, GuardConfig, GuardSnapshot, Overload, State};

use crate::measure::{median, to_float, verdict};

const CHECKS: u64 = 5_000_000;
/// The bar we set ourselves, in nanoseconds.
const BAR: f64 = 100.0;

/// Measures it on one thread and on two at once. Returns whether the bar was reached.
pub(super) fn run(rounds: u16) -> bool {
    println!("\n### Guard, admission of one job\n");
    println!("| threads | median ns | bar |");
    println!("|---|---:|---|");
    let mut passes = true;
    for threads in [1, 2] {
        let each: Vec<f64> = (0..rounds).map(|_| nanoseconds(threads)).collect();
        let middle = median(&each);
        passes &= middle <= BAR;
        println!("| {threads} | {middle:.1} | ≤ {BAR:.0} {} |", verdict(middle <= BAR));
    }
    passes
}

/// How long one check takes when so many threads check at once.
fn nanoseconds(threads: usize) -> f64 {
    let snapshot = State::new(GuardConfig::default()).snapshot();
    let published = Arc::new(ArcSwap::from_pointee(snapshot));
    let began = Instant::now();
    let all: Vec<_> = (0..threads)
        .map(|_| {
            let published = Arc::clone(&published);
            std::thread::spawn(move || check(&published))
        })
        .collect();
    for thread in all {
        thread.join().expect("checks do not panic");
    }
    began.elapsed().as_secs_f64() * 1e9 / to_float(CHECKS)
}

fn check(published: &ArcSwap<GuardSnapshot>) {
    for number in 0..CHECKS {
        let candidate = Candidate {
            expires_in: None,
            class: Class::Normal,
            overload: Overload::default(),
            cohort: number,
            deferrals: 0,
            admitted_since: number,
            chance: 0.5,
        };
        let _let_in = black_box(published.load().admit(black_box(&candidate)));
    }
}
