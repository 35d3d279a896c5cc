//! Rounds, medians, ratios and the table they are printed in.
//!
//! The machine is shared and noisy, so contenders take turns within a round (A B C A B C …,
//! beginning with another one each round), and a ratio is the median of the ratios *within*
//! the rounds: a disturbance that lasts longer than a round hits both sides of it.

use std::fmt;
use std::time::Instant;

use futures_util::future::LocalBoxFuture;

/// Runs that many operations, and returns when all are done.
pub type Batch = Box<dyn Fn(u64) -> LocalBoxFuture<'static, ()>>;

/// One side of a comparison.
pub struct Contender {
    name: String,
    batch: Batch,
    bar: Option<f64>,
}

impl Contender {
    /// A contender whose `batch` runs the given number of operations.
    pub fn new<F>(name: impl Into<String>, batch: impl Fn(u64) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self { name: name.into(), batch: Box::new(move |n| Box::pin(batch(n))), bar: None }
    }

    /// States the highest ratio to the baseline that is good enough.
    #[must_use]
    pub fn bar(mut self, at_most: f64) -> Self {
        self.bar = Some(at_most);
        self
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).field("bar", &self.bar).finish()
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds that count; one more is run before them to warm up.
    pub rounds: usize,
    /// Operations of each contender in each round.
    pub operations: u64,
}

/// A row of the report: contenders that do the same thing.
#[derive(Debug)]
pub struct Comparison {
    title: String,
    contenders: Vec<Contender>,
}

impl Comparison {
    /// A comparison with `baseline`, to which every ratio refers.
    pub fn with(title: impl Into<String>, baseline: Contender) -> Self {
        Self { title: title.into(), contenders: vec![baseline] }
    }

    /// Adds a contender.
    #[must_use]
    pub fn against(mut self, contender: Contender) -> Self {
        self.contenders.push(contender);
        self
    }

    /// Keeps the contenders that `keep` names, for profiling one of them.
    #[must_use]
    pub fn only(mut self, keep: Option<&str>) -> Self {
        if let Some(keep) = keep {
            self.contenders.retain(|contender| contender.name.contains(keep));
        }
        self
    }

    /// Runs all rounds.
    pub async fn run(self, effort: Effort) -> Report {
        let mut nanoseconds = vec![Vec::with_capacity(effort.rounds); self.contenders.len()];
        for round in 0..=effort.rounds {
            for turn in 0..self.contenders.len() {
                let index = (turn + round) % self.contenders.len();
                let (Some(contender), Some(column)) =
                    (self.contenders.get(index), nanoseconds.get_mut(index))
                else {
                    continue;
                };
                let began = Instant::now();
                (contender.batch)(effort.operations).await;
                let each = began.elapsed().as_secs_f64() * 1e9 / to_float(effort.operations);
                if round > 0 {
                    column.push(each);
                }
            }
        }
        Report::new(self, nanoseconds)
    }
}

/// What a comparison came to.
#[derive(Debug)]
pub struct Report {
    title: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    best: f64,
    median: f64,
    ratio: f64,
    bar: Option<f64>,
}

impl Report {
    fn new(comparison: Comparison, nanoseconds: Vec<Vec<f64>>) -> Self {
        let baseline = nanoseconds.first().cloned().unwrap_or_default();
        let lines = comparison.contenders.into_iter().zip(nanoseconds);
        let lines = lines.map(|(contender, column)| Line {
            name: contender.name,
            best: column.iter().copied().fold(f64::INFINITY, f64::min),
            median: median(&column),
            ratio: median_ratio(&column, &baseline),
            bar: contender.bar,
        });
        Self { title: comparison.title, lines: lines.collect() }
    }

    /// Whether every contender with a bar reached it.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.lines.iter().all(|line| line.bar.is_none_or(|bar| line.ratio <= bar))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        writeln!(f, "| contender | best ns | median ns | ratio | bar |")?;
        writeln!(f, "|---|---:|---:|---:|---|")?;
        for line in &self.lines {
            let Line { name, best, median, ratio, bar } = line;
            write!(f, "| {name} | {best:.0} | {median:.0} | {ratio:.2} | ")?;
            match bar {
                Some(bar) => writeln!(f, "≤ {bar:.2} {} |", verdict(ratio <= bar))?,
                None => writeln!(f, "|")?,
            }
        }
        Ok(())
    }
}

/// How a bar that was reached, or not, is printed.
#[must_use]
pub const fn verdict(passed: bool) -> &'static str {
    if passed { "PASS" } else { "MISS" }
}

/// The middle value; the mean of the two middle ones when their number is even.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which this share of the values lies, interpolated; NaN for none.
#[must_use]
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share.clamp(0.0, 1.0) * to_float(last as u64);
    let at = |index: f64| sorted.get(to_index(index)).copied().unwrap_or(f64::NAN);
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

/// The median of the ratios of the values that were measured in the same round.
#[must_use]
pub fn median_ratio(values: &[f64], baseline: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(baseline).map(|(own, other)| own / other).collect();
    median(&ratios)
}

/// A count as a number to divide by; exact below 2⁵³.
#[must_use]
pub fn to_float(count: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
    let float = count as f64;
    float
}

fn to_index(place: f64) -> usize {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list: whole, not negative and small"
    )]
    let index = place as usize;
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], share: f64, expected: f64) {
        let found = percentile(values, share);
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }

    #[test]
    fn a_percentile_lies_between_its_neighbours() {
        check(&[3.0, 1.0, 2.0], 0.5, 2.0);
        check(&[4.0, 1.0, 2.0, 3.0], 0.5, 2.5);
        check(&[1.0, 2.0], 1.0, 2.0);
        check(&[7.0], 0.99, 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The third round was disturbed on both sides; the ratio of the medians would be 2.0.
        let ratio = median_ratio(&[12.0, 24.0, 120.0], &[10.0, 20.0, 100.0]);
        assert!((ratio - 1.2).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn contenders_take_turns_and_all_do_the_same_amount() {
        use std::cell::RefCell;
        use std::rc::Rc;

        let log = Rc::new(RefCell::new(Vec::new()));
        let contender = |name: &'static str| {
            let log = Rc::clone(&log);
            Contender::new(name, move |n| {
                log.borrow_mut().push((name, n));
                std::future::ready(())
            })
        };
        let comparison = Comparison::with("test", contender("a")).against(contender("b"));
        let run = comparison.run(Effort { rounds: 2, operations: 5 });
        let report = futures_util::FutureExt::now_or_never(run).expect("nothing waits");
        let order: Vec<_> = log.borrow().iter().map(|(name, _)| *name).collect();
        assert_eq!(order, ["a", "b", "b", "a", "a", "b"]);
        assert!(log.borrow().iter().all(|(_, n)| *n == 5));
        assert!(report.passes(), "without a bar there is nothing to miss");
    }
}
