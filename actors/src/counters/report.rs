//! What a run found, and what it put right.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::{Maintain, Mode};
use crate::jobs::JobId;
use crate::store::Timestamp;

/// LIMIT: examples that a report keeps.
pub(super) const SAMPLES_MAX: usize = 20;
/// LIMIT: bytes of a key or a value in an example.
const SHOWN_MAX: usize = 200;

/// The key of a parent: a text for each column.
pub(super) type Key = Vec<String>;

/// What a run found, and what it put right.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CounterReport {
    /// The counter.
    pub counter: Arc<str>,
    /// The job that does it.
    pub job: JobId,
    /// Whether wrong counters are put right.
    pub mode: Mode,
    /// How far it is.
    pub state: RunState,
    /// Who keeps the counter true; `None` once this process does not know the counter any more.
    pub maintain: Option<Maintain>,
    /// Whether the counter is only as true as the service's own statements keep it.
    pub relies_on_application: bool,
    /// What it has found so far.
    #[serde(flatten)]
    pub totals: Totals,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last went on.
    pub updated_at: Timestamp,
    /// When it had seen all parents.
    pub finished_at: Option<Timestamp>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunState {
    /// Its job runs, or waits for its next turn.
    Running,
    /// It has seen all parents.
    Done,
    /// Its job is over and it has not seen all parents: cancelled, or dead. What was put right
    /// stays right. [`Jobs::retry`](crate::jobs::Jobs::retry) has it go on where it was.
    Stopped,
}

/// What a run has found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Parents that were looked at.
    pub scanned: u64,
    /// Those whose counter was wrong.
    pub drifted: u64,
    /// Those that were put right.
    pub repaired: u64,
    /// By how much counters were too high, all together, in whole units.
    pub too_high: u64,
    /// By how much they were too low.
    pub too_low: u64,
    /// Wrong counters by how far off they were.
    pub histogram: Histogram,
    /// Examples, those that were the farthest off first; at most 20.
    pub samples: Vec<Sample>,
    /// Batches that were committed.
    pub batches: u64,
    /// Batches that were rolled back and tried again. Those that a process took with it when it
    /// died are not among them.
    pub retries: u64,
    /// The longest a batch took, in milliseconds: no lock was held for longer.
    pub slowest_batch_ms: u64,
}

/// Wrong counters by how far off they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Histogram {
    /// By less than 2.
    pub one: u64,
    /// By 2 to 10.
    pub up_to_10: u64,
    /// By 11 to 100.
    pub up_to_100: u64,
    /// By 101 to 1,000.
    pub up_to_1000: u64,
    /// By more.
    pub more: u64,
    /// Those that were null.
    pub null: u64,
    /// Those that have no difference: a largest or smallest value.
    pub other: u64,
}

/// A counter that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sample {
    /// The key of its parent, a text for each column.
    pub key: Vec<String>,
    /// What it was; `None`: null.
    pub was: Option<String>,
    /// What it should have been at that moment.
    pub should_be: Option<String>,
    /// The difference, in whole units, where there is one.
    pub drift: Option<i64>,
}

impl Sample {
    /// As a report keeps it.
    fn cut(&self) -> Self {
        let cut = |text: &String| {
            let mut end = text.len().min(SHOWN_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.get(..end).unwrap_or_default().to_owned()
        };
        let Self { key, was, should_be, drift } = self;
        let key = key.iter().map(cut).collect();
        let (was, should_be) = (was.as_ref().map(cut), should_be.as_ref().map(cut));
        Self { key, was, should_be, drift: *drift }
    }

    fn distance(&self) -> u64 {
        self.drift.map_or(0, i64::unsigned_abs)
    }
}

impl Totals {
    /// These and what one more batch has found.
    pub(super) fn and(mut self, scanned: u64, wrong: &[Sample], mode: Mode) -> Self {
        let found = wrong.len() as u64;
        self.scanned += scanned;
        self.drifted += found;
        if mode == Mode::Repair {
            self.repaired += found;
        }
        self.batches += 1;
        for one in wrong {
            self.histogram.add(one);
            match one.drift {
                Some(by) if by < 0 => {
                    self.too_high = self.too_high.saturating_add(by.unsigned_abs());
                }
                Some(by) => self.too_low = self.too_low.saturating_add(by.unsigned_abs()),
                None => {}
            }
        }
        self.samples.extend(wrong.iter().map(Sample::cut));
        // The sort is stable: of equals, those that were found first stay.
        self.samples.sort_by_key(|sample| std::cmp::Reverse(sample.distance()));
        self.samples.truncate(SAMPLES_MAX);
        self
    }

    pub(super) fn took(&mut self, longest: Duration) {
        let took = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        self.slowest_batch_ms = self.slowest_batch_ms.max(took);
    }

    /// In a line, for the job's progress.
    pub(super) fn line(&self, key: Option<&Key>) -> String {
        let Self { scanned, drifted, .. } = self;
        let at = key.map(|key| format!(", at {}", key.join(", "))).unwrap_or_default();
        format!("{scanned} parents seen, {drifted} wrong{at}")
    }
}

impl Histogram {
    fn add(&mut self, sample: &Sample) {
        let bucket = match (sample.was.is_none(), sample.drift) {
            (_, None) => &mut self.other,
            (true, Some(_)) => &mut self.null,
            (false, Some(by)) => match by.unsigned_abs() {
                0..=1 => &mut self.one,
                2..=10 => &mut self.up_to_10,
                11..=100 => &mut self.up_to_100,
                101..=1_000 => &mut self.up_to_1000,
                _ => &mut self.more,
            },
        };
        *bucket += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: i64, drift: i64) -> Sample {
        let (was, should_be) = (Some("0".to_owned()), Some(drift.to_string()));
        Sample { key: vec![id.to_string()], was, should_be, drift: Some(drift) }
    }

    #[test]
    fn drift_is_counted_by_direction_and_distance() {
        let wrong: Vec<_> = [1, -1, 2, 10, 11, 100, 101, 1_000, 1_001, i64::MIN]
            .iter()
            .map(|by| sample(1, *by))
            .collect();
        let totals = Totals::default().and(50, &wrong, Mode::Repair);
        let found = totals.histogram;
        let counts = [found.one, found.up_to_10, found.up_to_100, found.up_to_1000, found.more];
        assert_eq!(counts, [2, 2, 2, 2, 2]);
        assert_eq!((totals.scanned, totals.drifted, totals.repaired), (50, 10, 10));
        assert_eq!((totals.too_low, totals.too_high), (2_226, 1 + i64::MIN.unsigned_abs()));
    }

    #[test]
    fn what_is_only_told_of_is_not_repaired() {
        let totals = Totals::default().and(5, &[sample(1, 1)], Mode::Report);
        assert_eq!((totals.drifted, totals.repaired), (1, 0));
    }

    #[test]
    fn the_twenty_farthest_are_kept_and_no_more() {
        let mut totals = Totals::default();
        for batch in 0..10 {
            let wrong: Vec<_> = (0..100).map(|id| sample(batch * 100 + id, id)).collect();
            totals = totals.and(100, &wrong, Mode::Report);
            assert!(totals.samples.len() <= SAMPLES_MAX);
        }
        assert!(totals.samples.iter().all(|sample| sample.drift >= Some(98)));
        let long = Sample { key: vec!["ö".repeat(500)], was: None, should_be: None, drift: None };
        let totals = Totals::default().and(1, &[long], Mode::Report);
        assert_eq!(totals.samples[0].key[0].len(), SHOWN_MAX);
    }
}
