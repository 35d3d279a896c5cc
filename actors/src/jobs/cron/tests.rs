//! What periodic jobs promise, across months, leap years and changes of the clock.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::jobs::Class;
use crate::jobs::store::CronRow;
use crate::kernel::Fault;
use crate::store::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

#[track_caller]
fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::parse(expression, zone).unwrap()
}

/// A moment as RFC 3339 writes it.
#[track_caller]
fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// The first ticks after a moment, in UTC.
#[track_caller]
fn check(expression: &str, zone: &str, after: &str, expect: &[&str]) {
    let schedule = schedule(expression, zone);
    let mut last = at(after);
    for expect in expect {
        last = schedule.next_after(last).unwrap();
        let got = jiff::Timestamp::from_millisecond(last.0).unwrap();
        assert_eq!(got.to_string(), *expect, "{schedule}");
    }
}

#[test]
fn a_time_left_out_in_new_york_fires_once_when_the_clock_jumps() {
    let expect = ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"];
    check("30 2 * * *", "America/New_York", "2026-03-07T00:00:00Z", &expect);
}

#[test]
fn a_time_left_out_in_berlin_fires_once_when_the_clock_jumps() {
    let expect = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    check("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", &expect);
}

#[test]
fn a_time_that_comes_twice_in_new_york_fires_at_the_first() {
    let expect = ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"];
    check("30 1 * * *", "America/New_York", "2026-10-31T00:00:00Z", &expect);
    // From between the two.
    let expect = ["2026-11-02T06:30:00Z"];
    check("30 1 * * *", "America/New_York", "2026-11-01T06:00:00Z", &expect);
    check("30 1 * * *", "America/New_York", "2026-11-01T06:30:00Z", &expect);
}

#[test]
fn a_time_that_comes_twice_in_berlin_fires_at_the_first() {
    let expect = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    check("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", &expect);
}

#[test]
fn several_times_left_out_together_fire_as_one() {
    let expect = ["2026-03-29T01:00:00Z", "2026-03-29T12:00:00Z", "2026-03-29T12:15:00Z"];
    check("0,15 2,14 * * *", "Europe/Berlin", "2026-03-28T13:15:00Z", &expect);
}

#[test]
fn several_hours_of_a_day_fire_once_each_when_one_comes_twice() {
    let expect = ["2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z", "2026-10-25T05:00:00Z"];
    check("0 */2 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z", &expect);
}

#[test]
fn what_fires_every_hour_goes_by_the_time_that_passes() {
    let expect = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
    check("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &expect);
    let expect = ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
    check("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &expect);
    let expect = ["2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"];
    check("@hourly", "America/New_York", "2026-11-01T04:00:00Z", &expect);
}

#[test]
fn a_clock_that_changes_by_half_an_hour_is_no_exception() {
    let expect = ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"];
    check("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T16:00:00Z", &expect);
    let expect = ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"];
    check("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T15:00:00Z", &expect);
}

#[test]
fn a_day_that_was_left_out_fires_when_it_is_passed_over() {
    let expect = ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"];
    check("0 12 * * *", "Pacific/Apia", "2011-12-28T22:00:00Z", &expect);
}

#[test]
fn midnight_left_out_fires_in_the_same_night() {
    let expect = ["2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"];
    check("0 0 * * *", "America/Sao_Paulo", "2018-11-02T04:00:00Z", &expect);
}

#[test]
fn months_end_when_they_end() {
    let expect = ["2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"];
    check("0 0 31 * *", "UTC", "2026-01-01T00:00:00Z", &expect);
    let expect = ["2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"];
    check("0 0 L * *", "UTC", "2026-01-01T00:00:00Z", &expect);
}

#[test]
fn a_leap_day_comes_every_four_years_but_for_the_century() {
    let expect = ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"];
    check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &expect);
    let expect = ["2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"];
    check("0 * 29 2 *", "Europe/Berlin", "2096-02-28T22:00:00Z", &["2096-02-28T23:00:00Z"]);
    check("0 0 29 2 *", "UTC", "2092-03-01T00:00:00Z", &expect);
    // A leap day on a Monday.
    check("0 0 29 2 +1", "UTC", "2026-01-01T00:00:00Z", &["2044-02-29T00:00:00Z"]);
}

#[test]
fn seconds_come_first_if_there_are_six_fields() {
    let expect = ["2026-01-01T00:00:15Z", "2026-01-01T00:00:30Z"];
    check("*/15 * * * * *", "UTC", "2026-01-01T00:00:00.999Z", &expect);
}

#[test]
fn nicknames_are_known() {
    for (name, expect) in [
        ("@hourly", "2026-01-01T01:00:00Z"),
        ("@daily", "2026-01-02T00:00:00Z"),
        ("@weekly", "2026-01-04T00:00:00Z"),
        ("@monthly", "2026-02-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
    ] {
        check(name, "UTC", "2026-01-01T00:00:00Z", &[expect]);
    }
}

#[test]
fn an_expression_that_is_wrong_is_refused_and_told_why() {
    for (expression, says) in [
        ("", "must have 5 fields"),
        ("* * * *", "must have 5 fields"),
        ("0 0 0 1 1 * 2030", "must have 5 fields"),
        ("@fortnightly", "@hourly, @daily"),
        ("60 * * * *", "the minute of `60 * * * *` is `60` but must be 0 to 59"),
        ("60 * * * * *", "the second of"),
        ("0 24 * * *", "the hour of"),
        ("0 0 32 * *", "the day of"),
        ("0 0 0 * *", "the day of"),
        ("0 0 * 13 *", "the month of"),
        ("0 0 * * 8", "the weekday of"),
        ("0 0 * * FOO", "such as `30 4 * * MON-FRI`"),
        ("*/0 * * * *", "the minute of"),
        ("5-1 * * * *", "the minute of"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 2,4,6,9,11 *", "never fires"),
    ] {
        let refused = Schedule::parse(expression, "UTC").unwrap_err();
        assert!(refused.to_string().contains(says), "{expression}: {refused}");
        assert_eq!(refused.code().as_str(), "jobs.invalid_cron");
    }
}

#[test]
fn a_time_zone_nobody_knows_is_refused() {
    for zone in ["", "Europe/Atlantis", "../../etc/passwd", "+02:00"] {
        let refused = Schedule::parse("@daily", zone).unwrap_err();
        assert_eq!(refused.code().as_str(), "jobs.unknown_time_zone", "{zone}");
    }
}

#[test]
fn an_expression_is_at_most_256_bytes() {
    let padded = |length: usize| format!("0 0 * * 1{}", " ".repeat(length - 9));
    assert!(Schedule::parse(&padded(256), "UTC").is_ok());
    assert!(Schedule::parse(&padded(257), "UTC").is_err());
}

#[test]
fn the_end_of_time_has_no_next_tick() {
    let daily = schedule("@daily", "UTC");
    for end in [i64::MAX, i64::MIN, at("9999-12-30T00:00:00Z").0] {
        assert_eq!(daily.next_after(Timestamp(end)), None);
    }
}

fn row(schedule: &Schedule, backfill: Duration, next_at: Timestamp) -> CronRow {
    CronRow {
        name: "nightly".into(),
        spec: Arc::clone(schedule.expression()),
        time_zone: Arc::clone(schedule.time_zone()),
        queue: "default".into(),
        kind: "report".into(),
        class: Class::Normal,
        max_attempts: 3,
        args: Arc::from(*b"{}"),
        args_format: 0,
        backfill_ms: i64::try_from(backfill.as_millis()).unwrap(),
        next_at,
        last_at: None,
        paused: false,
    }
}

/// A process that looks at one periodic job, as the leader does.
struct Looker {
    schedule: Schedule,
    row: CronRow,
    looked: Option<Timestamp>,
    fired: Vec<Timestamp>,
}

impl Looker {
    fn new(expression: &str, backfill: Duration, next_at: &str) -> Self {
        let schedule = schedule(expression, "UTC");
        let row = row(&schedule, backfill, at(next_at));
        Self { schedule, row, looked: None, fired: Vec::new() }
    }

    fn look(&mut self, now: Timestamp) -> usize {
        let ticks = due(&self.row, &self.schedule, self.looked, now);
        self.looked = Some(now);
        self.row.next_at = ticks.next;
        self.fired.extend(&ticks.fire);
        ticks.fire.len()
    }

    /// Looks at `now` and, if more is due than fires at a time, at once again.
    fn look_at(&mut self, now: &str) -> usize {
        let mut fired = self.look(at(now));
        while self.row.next_at <= at(now) {
            fired += self.look(at(now));
        }
        fired
    }

    fn restart(&mut self) {
        self.looked = None;
    }
}

#[test]
fn nothing_fires_early() {
    let mut hourly = Looker::new("@hourly", Duration::ZERO, "2026-01-01T10:00:00Z");
    assert_eq!(hourly.look_at("2026-01-01T09:59:59.999Z"), 0);
    assert_eq!(hourly.row.next_at, at("2026-01-01T10:00:00Z"));
    assert_eq!(hourly.look_at("2026-01-01T10:00:00Z"), 1);
    assert_eq!(hourly.row.next_at, at("2026-01-01T11:00:00Z"));
    assert_eq!(hourly.look_at("2026-01-01T10:00:00Z"), 0);
}

#[test]
fn without_a_backfill_a_missed_tick_is_made_up_for_within_a_minute_only() {
    for (now, expect) in [("2026-01-01T10:01:00Z", 1), ("2026-01-01T10:01:00.001Z", 0)] {
        let mut hourly = Looker::new("@hourly", Duration::ZERO, "2026-01-01T10:00:00Z");
        assert_eq!(hourly.look_at(now), expect, "{now}");
        assert_eq!(hourly.row.next_at, at("2026-01-01T11:00:00Z"));
    }
}

#[test]
fn without_a_backfill_ticks_that_became_due_together_fire_as_the_newest() {
    let mut often = Looker::new("* * * * * *", Duration::ZERO, "2025-01-01T00:00:00Z");
    assert_eq!(often.look_at("2026-01-01T10:00:07.500Z"), 1);
    assert_eq!(often.fired, [at("2026-01-01T10:00:07Z")]);
    assert_eq!(often.row.next_at, at("2026-01-01T10:00:08Z"));
}

#[test]
fn five_hours_are_made_up_for() {
    let mut four_hourly = Looker::new("0 */4 * * *", DAY, "2026-01-01T08:00:00Z");
    assert_eq!(four_hourly.look_at("2026-01-01T12:30:00Z"), 2);
    assert_eq!(four_hourly.fired, [at("2026-01-01T08:00:00Z"), at("2026-01-01T12:00:00Z")]);
    assert_eq!(four_hourly.row.next_at, at("2026-01-01T16:00:00Z"));
}

#[test]
fn of_twenty_five_hours_a_day_is_made_up_for_if_a_day_is_the_backfill() {
    let mut four_hourly = Looker::new("0 */4 * * *", DAY, "2026-01-01T08:00:00Z");
    assert_eq!(four_hourly.look_at("2026-01-02T08:30:00Z"), 6);
    assert_eq!(four_hourly.fired[0], at("2026-01-01T12:00:00Z"));
    let mut exact = Looker::new("0 */4 * * *", DAY, "2026-01-01T08:00:00Z");
    assert_eq!(exact.look_at("2026-01-02T08:00:00Z"), 7, "the limit counts");
}

#[test]
fn a_thousand_ticks_fire_in_one_look_and_the_rest_in_the_next() {
    let mut often = Looker::new("* * * * * *", HOUR, "2026-01-01T00:00:00Z");
    let now = at("2026-01-01T00:16:40Z");
    assert_eq!(often.look(now), 1_000);
    assert!(often.row.next_at <= now, "look again at once");
    assert_eq!(often.look(now), 1);
    let mut distinct = often.fired.clone();
    distinct.dedup();
    assert_eq!(distinct.len(), 1_001);
}

#[test]
fn a_clock_that_jumps_an_hour_ahead_skips_no_tick() {
    for backfill in [Duration::ZERO, DAY] {
        let mut nightly = Looker::new("0 3 * * *", backfill, "2026-01-01T03:00:00Z");
        nightly.look_at("2026-01-01T02:30:00Z");
        assert_eq!(nightly.look_at("2026-01-01T03:30:01Z"), 1);
        assert_eq!(nightly.row.next_at, at("2026-01-02T03:00:00Z"));
    }
}

#[test]
fn a_clock_that_is_set_back_an_hour_repeats_no_tick() {
    for backfill in [Duration::ZERO, DAY] {
        let mut half_hourly = Looker::new("*/30 * * * *", backfill, "2026-01-01T03:00:00Z");
        assert_eq!(half_hourly.look_at("2026-01-01T03:00:05Z"), 1);
        half_hourly.restart();
        for now in ["02:00:05", "02:30:00", "03:00:00", "03:29:59"] {
            assert_eq!(half_hourly.look_at(&format!("2026-01-01T{now}Z")), 0, "{now}");
        }
        assert_eq!(half_hourly.look_at("2026-01-01T03:30:00Z"), 1);
    }
}

#[test]
fn a_clock_that_was_a_year_ahead_does_not_stop_the_schedule_for_a_year() {
    let mut hourly = Looker::new("@hourly", Duration::ZERO, "2026-01-01T03:00:00Z");
    hourly.look_at("2027-01-01T02:30:00Z");
    assert_eq!(hourly.row.next_at, at("2027-01-01T03:00:00Z"));
    assert_eq!(hourly.look_at("2026-01-01T02:30:00Z"), 0);
    assert_eq!(hourly.row.next_at, at("2026-01-01T03:00:00Z"));
    assert_eq!(hourly.look_at("2026-01-01T03:00:00Z"), 1);
}

#[test]
fn a_paused_job_passes_its_ticks_over() {
    let mut hourly = Looker::new("@hourly", DAY, "2026-01-01T03:00:00Z");
    hourly.row.paused = true;
    assert_eq!(hourly.look_at("2026-01-01T06:00:00Z"), 0);
    hourly.row.paused = false;
    assert_eq!(hourly.look_at("2026-01-01T06:30:00Z"), 0);
    assert_eq!(hourly.look_at("2026-01-01T07:00:00Z"), 1);
}

const EXPRESSIONS: [&str; 9] = [
    "30 2 * * *",
    "0,45 1-3 * * *",
    "*/7 */3 * * *",
    "*/20 * * * *",
    "17 * * * * *",
    "0 0 L * *",
    "59 59 23 * * *",
    "0 3 * * 7",
    "@hourly",
];

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
];

proptest! {
    #[test]
    fn the_next_tick_is_later_and_none_lies_between(
        expression in proptest::sample::select(EXPRESSIONS.to_vec()),
        zone in proptest::sample::select(ZONES.to_vec()),
        from in 1_400_000_000_000_i64..2_000_000_000_000,
        step in 0_i64..40 * 24 * 3_600_000,
    ) {
        let schedule = schedule(expression, zone);
        let next = schedule.next_after(Timestamp(from)).unwrap();
        prop_assert!(next > Timestamp(from));
        // From any moment up to it, the next one is the same.
        let between = from + step.rem_euclid(next.0 - from);
        prop_assert_eq!(schedule.next_after(Timestamp(between)).unwrap(), next);
        prop_assert!(schedule.next_after(next).unwrap() > next);
    }

    #[test]
    fn with_a_backfill_every_tick_fires_exactly_once_however_the_looks_fall(
        expression in proptest::sample::select(EXPRESSIONS.to_vec()),
        zone in proptest::sample::select(ZONES.to_vec()),
        from in 1_700_000_000_000_i64..1_800_000_000_000,
        looks in proptest::collection::vec(-3_600_000_i64..3_600_000 * 6, 1..30),
    ) {
        let schedule = schedule(expression, zone);
        let first = schedule.next_after(Timestamp(from)).unwrap();
        let row = row(&schedule, 30 * DAY, first);
        let mut looker = Looker { schedule, row, looked: None, fired: Vec::new() };
        let (mut now, mut latest) = (from, from);
        for step in looks {
            now += step;
            latest = latest.max(now);
            while looker.look(Timestamp(now)) == 1_000 {}
        }
        let mut expect = Vec::new();
        let mut tick = first;
        while tick <= Timestamp(latest) {
            expect.push(tick);
            tick = looker.schedule.next_after(tick).unwrap();
        }
        prop_assert_eq!(looker.fired, expect);
    }
}

#[test]
fn the_grace_covers_a_look_that_came_late() {
    let mut minutely = Looker::new("* * * * *", Duration::ZERO, "2026-01-01T00:01:00Z");
    let mut now = at("2026-01-01T00:00:30Z");
    for _ in 0..60 {
        now = now.after(MINUTE);
        assert_eq!(minutely.look(now), 1);
    }
}
