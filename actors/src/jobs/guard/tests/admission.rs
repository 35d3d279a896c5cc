//! The table of what is let in, and the numbers of an answer.

use super::*;

const CHOICES: [Overload; 3] = [Overload::Reschedule { max: 5 }, Overload::Skip, Overload::Reject];

fn snapshot(level: Level) -> GuardSnapshot {
    let mut snapshot = State::new(GuardConfig::default()).snapshot();
    snapshot.level = level;
    snapshot.threshold = PerClass([0, 64, 128, 128]);
    snapshot.put_off = PerClass([Some(40 * SECOND); 4]);
    snapshot.retry_after = PerClass([9 * SECOND; 4]);
    snapshot
}

const fn candidate(class: Class, overload: Overload) -> Candidate {
    Candidate {
        class,
        overload,
        cohort: 0,
        deferrals: 0,
        admitted_since: 0,
        expires_in: None,
        chance: 0.0,
    }
}

/// A letter for each answer.
const fn letter(answer: Admission) -> char {
    match answer {
        Admission::Accept => 'a',
        Admission::Defer { .. } => 'd',
        Admission::Skip => 's',
        Admission::Reject { .. } => 'r',
    }
}

fn row(snapshot: &GuardSnapshot) -> [String; 4] {
    Class::ALL.map(|class| {
        let ask = |overload| letter(snapshot.admit(&candidate(class, overload)));
        CHOICES.into_iter().map(ask).collect()
    })
}

#[test]
fn the_table_is_what_the_design_says() {
    // For each class, what is done with a kind that reschedules, skips, or rejects.
    for (level, expect) in [
        (Level::Normal, ["aaa", "aaa", "aaa", "aaa"]),
        (Level::Elevated, ["aaa", "aaa", "aaa", "dsr"]),
        (Level::Overloaded, ["aaa", "dsr", "dsr", "ssr"]),
        (Level::Critical, ["aaa", "rsr", "ssr", "ssr"]),
    ] {
        assert_eq!(row(&snapshot(level)), expect, "{level:?}");
    }
}

#[test]
fn the_hard_limit_turns_every_class_away_at_any_level() {
    for level in Level::ALL {
        let mut snapshot = snapshot(level);
        snapshot.credits = Some(10);
        let mut last = candidate(Class::Critical, Overload::Skip);
        last.admitted_since = 9;
        assert_eq!(snapshot.admit(&last), Admission::Accept);
        last.admitted_since = 10;
        assert_eq!(snapshot.admit(&last), Admission::Skip);
        snapshot.credits = Some(0);
        assert_eq!(row(&snapshot), ["rsr", "rsr", "ssr", "ssr"], "{level:?}");
    }
}

#[test]
fn credits_are_shared_out_among_the_processes() {
    let config = GuardConfig::builder().depth_max(100).build().unwrap();
    for (depth, nodes, credits) in [(0, 1, 100), (10, 4, 22), (99, 2, 0), (100, 1, 0), (150, 0, 0)]
    {
        let mut state = State::new(config.clone());
        state.observe(Reading { ready: [depth, 0, 0, 0], nodes, ..Reading::default() });
        assert_eq!(state.snapshot().credits, Some(credits), "{depth} jobs, {nodes} processes");
    }
    assert_eq!(State::new(GuardConfig::default()).snapshot().credits, None);
}

#[test]
fn a_cohort_below_the_threshold_is_held_back_and_no_other() {
    let snapshot = snapshot(Level::Overloaded);
    let mut held = 0;
    for cohort in 0..1_280 {
        let mut asks = candidate(Class::Normal, Overload::default());
        asks.cohort = cohort;
        let answers = [0.0, 0.3, 0.9].map(|chance| {
            asks.chance = chance;
            letter(snapshot.admit(&asks))
        });
        let expect = if cohort % 128 < 64 { 'd' } else { 'a' };
        assert_eq!(answers, [expect; 3], "cohort {cohort}");
        held += u32::from(expect == 'd');
    }
    assert_eq!(held, 640);
}

#[test]
fn a_job_put_off_as_often_as_its_kind_wants_is_given_up() {
    let snapshot = snapshot(Level::Overloaded);
    for (class, expect) in [(Class::Normal, "ddr"), (Class::Sheddable, "dds")] {
        let answers = [0, 1, 2].map(|deferrals| {
            let overload = Overload::Reschedule { max: 2 };
            letter(snapshot.admit(&Candidate { deferrals, ..candidate(class, overload) }))
        });
        assert_eq!(answers.into_iter().collect::<String>(), expect, "{class:?}");
    }
}

#[test]
fn a_stored_job_that_is_due_again_is_put_off_once_more_but_never_turned_away() {
    let overload = Overload::Reschedule { max: 2 };
    for (level, class, expect) in [
        (Level::Normal, Class::Bulk, [false; 3]),
        (Level::Elevated, Class::Sheddable, [false; 3]),
        (Level::Elevated, Class::Bulk, [true, true, false]),
        (Level::Overloaded, Class::Sheddable, [true, true, false]),
        (Level::Critical, Class::Normal, [true, true, false]),
        (Level::Critical, Class::Critical, [false; 3]),
    ] {
        let mut snapshot = snapshot(level);
        snapshot.credits = Some(0);
        let again = |deferrals| {
            snapshot.put_off_again(&Candidate { deferrals, ..candidate(class, overload) })
        };
        assert_eq!([0, 1, 2].map(|deferrals| again(deferrals).is_some()), expect, "{level:?}");
        for overload in [Overload::Skip, Overload::Reject] {
            assert_eq!(snapshot.put_off_again(&candidate(class, overload)), None);
        }
    }
}

#[test]
fn nothing_is_put_off_beyond_its_own_end() {
    let snapshot = snapshot(Level::Overloaded);
    for (class, expect) in [(Class::Normal, "rrd"), (Class::Sheddable, "ssd")] {
        let answers = [39, 40, 41].map(|seconds| {
            let expires_in = Some(seconds * SECOND);
            let overload = Overload::default();
            letter(snapshot.admit(&Candidate { expires_in, ..candidate(class, overload) }))
        });
        assert_eq!(answers.into_iter().collect::<String>(), expect, "{class:?}");
    }
    let expires_in = Some(39 * SECOND);
    let asks = Candidate { expires_in, ..candidate(Class::Normal, Overload::default()) };
    assert_eq!(snapshot.put_off_again(&asks), None, "it runs");
}

#[test]
fn a_job_is_put_off_by_the_drain_and_up_to_half_as_much_again() {
    let snapshot = snapshot(Level::Overloaded);
    let cases = [(0.0, 40), (0.5, 50), (1.0, 60), (7.0, 60), (-1.0, 40), (f64::NAN, 40)];
    for (chance, seconds) in cases {
        let asks = Candidate { chance, ..candidate(Class::Normal, Overload::default()) };
        assert_eq!(snapshot.admit(&asks), Admission::Defer { by: seconds * SECOND }, "{chance}");
    }
}

#[test]
fn what_cannot_be_done_in_time_is_not_put_off() {
    // At 10 a second and 15 min: cheap work up to 300 s ahead, dear work up to 600 s.
    for (waiting, deferred, bulk, normal) in [
        (0, 0, Some(1), Some(1)),
        (1_000, 0, Some(100), Some(1)),
        (1_500, 1_000, Some(300), Some(150)),
        (1_500, 1_010, None, Some(152)),
        (0, 4_000, None, Some(600)),
        (0, 4_010, None, None),
    ] {
        let mut state = State::new(GuardConfig::default());
        for second in 0..30 {
            let (at, finished) = (Duration::from_secs(second), second * 10);
            let ready = [0, 0, 0, waiting];
            state.observe(Reading { at, ready, finished, deferred, ..Reading::default() });
        }
        let found = state.snapshot().put_off.map(|by| by.map(|by| by.as_secs_f64().round()));
        assert_eq!(found.of(Class::Bulk), bulk.map(f64::from), "{waiting} and {deferred}");
        assert_eq!(found.of(Class::Normal), normal.map(f64::from), "{waiting} and {deferred}");
    }
}

#[test]
fn retry_after_is_the_drain_within_a_second_and_its_limit() {
    for (waiting, seconds) in [(0, 1), (5, 1), (300, 30), (5_990, 599), (1_000_000, 600)] {
        let mut state = State::new(GuardConfig::default());
        for second in 0..30 {
            let (at, finished) = (Duration::from_secs(second), second * 10);
            let ready = [0, waiting, 0, 0];
            state.observe(Reading { at, ready, finished, ..Reading::default() });
        }
        let found = state.snapshot().retry_after.of(Class::Normal);
        assert_eq!(found.as_secs_f64().round(), f64::from(seconds), "{waiting} jobs");
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let hour = 3_600 * SECOND;
    let cases = [
        (GuardConfig::builder().age_target(Class::Bulk, 25 * hour), "age_target"),
        (GuardConfig::builder().age_target(Class::Critical, SECOND / 2), "age_target"),
        (GuardConfig::builder().drain_target(Class::Normal, Duration::ZERO), "drain_target"),
        (GuardConfig::builder().depth_max(99), "depth_max"),
        (GuardConfig::builder().depth_max(100_000_001), "depth_max"),
        (GuardConfig::builder().window(SECOND / 2), "window"),
        (GuardConfig::builder().memory(hour), "memory"),
        (GuardConfig::builder().sustain(Duration::ZERO), "sustain"),
        (GuardConfig::builder().calm(hour), "calm"),
        (GuardConfig::builder().defer_max(SECOND), "defer_max"),
        (GuardConfig::builder().retry_after_max(Duration::ZERO), "retry_after_max"),
        (GuardConfig::builder().look_every(3 * SECOND), "look_every"),
    ];
    for (builder, setting) in cases {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
    assert_eq!(GuardConfig::builder().build(), Ok(GuardConfig::default()));
}

#[test]
fn a_probe_counts_as_far_as_the_limit_needs() {
    let limit = |jobs| GuardConfig::builder().depth_max(jobs).build().unwrap().probe_limit();
    assert_eq!(GuardConfig::default().probe_limit(), 100_000);
    assert_eq!((limit(100), limit(99_999), limit(100_000)), (100_000, 100_000, 100_001));
}

#[test]
fn the_snapshot_says_its_units() {
    let told = serde_json::to_value(snapshot(Level::Overloaded)).unwrap();
    assert_eq!(told["level"], "overloaded");
    assert_eq!(told["retry_after_ms"]["bulk"], 9_000);
    assert_eq!(told["threshold"]["normal"], 64);
    assert!(told["drain_ms"]["critical"].is_null());
}
