//! What raises the level and what lowers it, reading by reading.

use super::*;

/// A guard whose queue is looked at on whole quarters of a second.
struct Watched {
    state: State,
    at: Duration,
    finished: u64,
}

impl Watched {
    fn new(config: GuardConfig) -> Self {
        Self { state: State::new(config), at: Duration::ZERO, finished: 0 }
    }

    /// Lets this stand for so many quarters of a second; what changed when.
    fn stands(&mut self, quarters: u32, reading: Reading) -> Vec<(Duration, LevelChanged)> {
        let mut changes = Vec::new();
        for _ in 0..quarters {
            self.at += SECOND / 4;
            let reading = Reading { at: self.at, finished: self.finished, ..reading };
            changes.extend(self.state.observe(reading).map(|change| (self.at, change)));
        }
        changes
    }
}

fn aged(seconds: u32) -> Reading {
    let oldest = [None, Some(seconds * SECOND), None, None];
    Reading { ready: [0, 10, 0, 0], oldest, ..Reading::default() }
}

fn calm() -> Reading {
    Reading { nodes: 1, ..Reading::default() }
}

fn levels(changes: &[(Duration, LevelChanged)]) -> Vec<Level> {
    changes.iter().map(|(_, change)| change.to).collect()
}

#[test]
fn an_age_counts_when_it_has_stood_for_the_window_and_then_3_s() {
    let mut watched = Watched::new(GuardConfig::default());
    watched.stands(1, calm());
    assert_eq!(watched.stands(52, aged(70)), []);
    let changes = watched.stands(2, aged(70));
    assert_eq!(levels(&changes), [Level::Overloaded]);
    let target = 60 * SECOND;
    let expect = Cause::Age { class: Class::Normal, age: 70 * SECOND, target };
    assert_eq!(changes[0].1.cause, expect);
}

#[test]
fn one_empty_look_within_the_window_is_calm() {
    let mut watched = Watched::new(GuardConfig::default());
    for _ in 0..20 {
        assert_eq!(watched.stands(35, aged(500)), []);
        assert_eq!(watched.stands(1, calm()), []);
    }
}

#[test]
fn stuck_workers_are_seen_by_the_age_of_what_waits() {
    let mut watched = Watched::new(GuardConfig::default());
    let changes = watched.stands(80, aged(95));
    assert_eq!(levels(&changes), [Level::Critical]);
    let snapshot = watched.state.snapshot();
    assert_eq!((snapshot.draining_per_second, snapshot.drain), (None, PerClass::default()));
}

#[test]
fn the_hard_limit_does_not_wait() {
    let config = GuardConfig::builder().depth_max(1_000).build().unwrap();
    for (reading, expect) in [
        (Reading { ready: [0, 999, 0, 0], ..calm() }, vec![]),
        (Reading { ready: [0, 1_000, 0, 0], ..calm() }, vec![Level::Critical]),
        (Reading { deferred: 400, parked: 300, running: 300, ..calm() }, vec![Level::Critical]),
    ] {
        let mut watched = Watched::new(config.clone());
        assert_eq!(levels(&watched.stands(1, reading)), expect, "{reading:?}");
    }
}

#[test]
fn depth_presses_from_80_percent_of_the_limit() {
    let config = GuardConfig::builder().depth_max(1_000).build().unwrap();
    for (depth, expect) in [(799, vec![]), (800, vec![Level::Overloaded])] {
        let mut watched = Watched::new(config.clone());
        let changes = watched.stands(16, Reading { parked: depth, ..calm() });
        assert_eq!(levels(&changes), expect, "{depth} jobs");
    }
}

#[test]
fn the_level_falls_by_one_after_each_20_s_of_calm() {
    let mut watched = Watched::new(GuardConfig::default());
    watched.stands(100, aged(600));
    let began = watched.at;
    let changes = watched.stands(400, calm());
    assert_eq!(levels(&changes), [Level::Overloaded, Level::Elevated, Level::Normal]);
    let mut last = began;
    for (at, change) in &changes {
        assert!(*at - last >= 20 * SECOND, "{change:?}");
        assert!(matches!(change.cause, Cause::Calm { .. }), "{change:?}");
        last = *at;
    }
    assert!(last - began < 95 * SECOND, "{:?}", last - began);
}

#[test]
fn a_little_less_than_what_raised_the_level_keeps_it() {
    let mut watched = Watched::new(GuardConfig::default());
    watched.stands(100, aged(70));
    assert_eq!(watched.stands(2_000, aged(43)), []);
    assert_eq!(levels(&watched.stands(2_000, aged(5))).last(), Some(&Level::Normal));
}

#[test]
fn what_was_seen_before_a_gap_raises_nothing() {
    let mut watched = Watched::new(GuardConfig::default());
    watched.stands(50, aged(600));
    watched.at += 3_600 * SECOND;
    assert_eq!(watched.stands(1, aged(600)), []);
    assert_eq!(watched.stands(11, aged(600)), []);
    assert_eq!(levels(&watched.stands(2, aged(600))), [Level::Critical]);
}

#[test]
fn a_paused_queue_is_not_overloaded() {
    let mut watched = Watched::new(GuardConfig::default());
    assert_eq!(watched.stands(4_000, Reading { paused: true, ..aged(10_000) }), []);
    assert_eq!(watched.state.pull_forward(), 0);
}

#[test]
fn queued_bulk_work_is_given_up_only_while_critical_and_pressed() {
    let mut watched = Watched::new(GuardConfig::default());
    watched.stands(1, calm());
    assert_eq!(watched.state.shed(), None);
    watched.stands(60, aged(70));
    assert_eq!(watched.state.shed(), Some(Shed { class: None, limit: 1_000 }));
    watched.stands(60, aged(100));
    assert_eq!(watched.state.shed(), Some(Shed { class: Some(Class::Bulk), limit: 1_000 }));
    watched.stands(1, calm());
    assert_eq!(watched.state.snapshot().level, Level::Critical);
    assert_eq!(watched.state.shed(), Some(Shed { class: None, limit: 1_000 }));
}

#[test]
fn a_queue_that_is_not_calm_is_looked_at_four_times_as_often() {
    let mut watched = Watched::new(GuardConfig::default());
    assert_eq!(watched.state.next_look(), SECOND);
    watched.stands(100, aged(70));
    assert_eq!(watched.state.next_look(), SECOND / 4);
    assert!(watched.state.snapshot().is_degraded());
}

#[test]
fn jobs_are_pulled_forward_only_as_far_as_there_is_room() {
    for (waiting, deferred, expect) in
        [(0, 1_000, 50), (30, 1_000, 20), (50, 1_000, 0), (0, 7, 7), (0, 0, 0)]
    {
        let mut state = State::new(GuardConfig::default());
        for second in 0..30 {
            let (at, finished) = (Duration::from_secs(second), second * 10);
            let ready = [0, waiting, 0, 0];
            state.observe(Reading { at, ready, finished, deferred, ..calm() });
        }
        assert_eq!(state.pull_forward(), expect, "{waiting} wait, {deferred} are put off");
    }
}

#[test]
fn a_change_says_its_numbers_in_json() {
    let mut watched = Watched::new(GuardConfig::default());
    let changes = watched.stands(80, aged(95));
    let told = serde_json::to_value(&changes[0].1).unwrap();
    assert_eq!((&told["from"], &told["to"]), (&"normal".into(), &"critical".into()));
    assert_eq!(told["cause"]["age"]["age_ms"], 95_000);
    assert_eq!(told["cause"]["age"]["target_ms"], 60_000);
    assert_eq!(
        (&told["ready"]["normal"], &told["oldest_ms"]["normal"]),
        (&10.into(), &95_000.into())
    );
    changes[0].1.report("mail");
}
