//! What was measured, and the tables it is printed in.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::measure::{median, median_ratio, percentile, to_float, verdict};

/// Why something was not measured, in words.
pub(crate) type Failure = String;

/// What one scenario came to in one round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// In the unit of the sheet.
    pub(crate) value: Option<f64>,
    /// The median and the 99th percentile of single operations, in milliseconds.
    pub(crate) latency: Option<[f64; 2]>,
    /// Processor time of this process for one operation, in microseconds.
    pub(crate) processor: Option<f64>,
}

impl Sample {
    /// A single number.
    pub(crate) const fn of(value: f64) -> Self {
        Self { value: Some(value), latency: None, processor: None }
    }

    /// How long `count` operations kept a processor busy.
    #[must_use]
    pub(crate) fn busy(mut self, since: Duration, count: u64) -> Self {
        let spent = processor_time().saturating_sub(since);
        self.processor = Some(spent.as_secs_f64() * 1e6 / to_float(count));
        self
    }

    /// How long single operations took, in milliseconds.
    #[must_use]
    pub(crate) fn with(mut self, milliseconds: &[f64]) -> Self {
        self.latency = Some([percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)]);
        self
    }
}

/// What must hold for a line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// The median is at least this.
    AtLeast(f64),
    /// The median is at most this.
    AtMost(f64),
    /// The ratio to the baseline is at least this.
    Times(f64),
    /// The median latency in milliseconds is at most this.
    MedianWithin(f64),
    /// The 99th percentile in milliseconds is at most this.
    TailWithin(f64),
}

/// Runs a scenario once.
pub(crate) type Run = Rc<dyn Fn() -> LocalBoxFuture<'static, Result<Sample, Failure>>>;

/// One line of a sheet, and how it is measured.
#[derive(Clone)]
pub(crate) struct Scenario {
    /// Scenarios with the same heading make a table.
    pub(crate) sheet: &'static str,
    name: String,
    bars: Vec<Bar>,
    baseline: bool,
    run: Run,
}

impl Scenario {
    /// A scenario that `run` runs.
    pub(crate) fn new<F>(
        sheet: &'static str,
        name: impl Into<String>,
        run: impl Fn() -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Sample, Failure>> + 'static,
    {
        Self {
            sheet,
            name: name.into(),
            bars: Vec::new(),
            baseline: false,
            run: Rc::new(move || Box::pin(run())),
        }
    }

    /// States what must hold.
    #[must_use]
    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bars.push(bar);
        self
    }

    /// The ratios of its sheet refer to it.
    #[must_use]
    pub(crate) const fn baseline(mut self) -> Self {
        self.baseline = true;
        self
    }

    fn title(&self) -> String {
        format!("{}: {}", self.sheet, self.name)
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("sheet", &self.sheet).field("name", &self.name).finish()
    }
}

/// A scenario and its samples.
struct Line {
    scenario: Scenario,
    samples: Vec<Sample>,
    failure: Option<Failure>,
}

/// Runs all scenarios, taking turns within each round, and prints the sheets. Returns whether
/// every bar was reached.
pub(crate) async fn measure(scenarios: Vec<Scenario>, rounds: u16) -> bool {
    let new = |scenario| Line { scenario, samples: Vec::new(), failure: None };
    let mut lines: Vec<Line> = scenarios.into_iter().map(new).collect();
    for round in 0..usize::from(rounds) {
        let count = lines.len();
        for turn in 0..count {
            // Begins with another one each round.
            let Some(line) = lines.get_mut((turn + round * count / usize::from(rounds)) % count)
            else {
                continue;
            };
            line.turn(round).await;
        }
    }
    print(&lines)
}

impl Line {
    async fn turn(&mut self, round: usize) {
        if self.failure.is_some() {
            return;
        }
        eprint_progress(round, &self.scenario.title());
        match (self.scenario.run)().await {
            Ok(sample) => self.samples.push(sample),
            Err(failure) => self.failure = Some(failure),
        }
    }

    fn values(&self) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.value).collect()
    }

    /// The medians of both latencies.
    fn latency(&self) -> [f64; 2] {
        [0, 1].map(|which| {
            let each = self.samples.iter().filter_map(|sample| sample.latency);
            median(&each.filter_map(|pair| pair.get(which).copied()).collect::<Vec<_>>())
        })
    }

    fn holds(&self, bar: Bar, ratio: f64) -> (String, bool) {
        let [p50, p99] = self.latency();
        let middle = median(&self.values());
        let (text, holds) = match bar {
            Bar::AtLeast(least) => (format!("≥ {least:.0}"), middle >= least),
            Bar::AtMost(most) => (format!("≤ {most:.0}"), middle <= most),
            Bar::Times(least) => (format!("≥ {least:.2}×"), ratio >= least),
            Bar::MedianWithin(most) => (format!("p50 ≤ {most} ms"), p50 <= most),
            Bar::TailWithin(most) => (format!("p99 ≤ {most} ms"), p99 <= most),
        };
        (format!("{text} {}", verdict(holds)), holds)
    }

    fn print(&self, baseline: Option<&Self>) -> bool {
        if let Some(failure) = &self.failure {
            println!("| {} | not measured: {failure} | | | | | | | |", self.scenario.name);
            return self.scenario.bars.is_empty();
        }
        let values = self.values();
        let ratio = baseline.map_or(f64::NAN, |other| median_ratio(&values, &other.values()));
        let bars: Vec<_> = self.scenario.bars.iter().map(|bar| self.holds(*bar, ratio)).collect();
        let passes = bars.iter().all(|(_, holds)| *holds);
        let bars: Vec<_> = bars.into_iter().map(|(text, _)| text).collect();
        let [p50, p99] = self.latency();
        let processor: Vec<f64> =
            self.samples.iter().filter_map(|sample| sample.processor).collect();
        let rounds = self.samples.len();
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {rounds} | {} |",
            self.scenario.name,
            number(median(&values)),
            number(values.iter().copied().fold(f64::NAN, f64::max)),
            number(p50),
            number(p99),
            number(median(&processor)),
            number(ratio),
            bars.join(", ")
        );
        passes
    }
}

fn print(lines: &[Line]) -> bool {
    let mut passes = true;
    let mut sheets: Vec<&'static str> = Vec::new();
    for line in lines {
        if !sheets.contains(&line.scenario.sheet) {
            sheets.push(line.scenario.sheet);
        }
    }
    for sheet in sheets {
        println!("\n### {sheet}\n");
        println!("| what | median | best | p50 ms | p99 ms | CPU µs | ratio | rounds | bar |");
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---|");
        let own: Vec<_> = lines.iter().filter(|line| line.scenario.sheet == sheet).collect();
        let baseline = own.iter().find(|line| line.scenario.baseline && line.failure.is_none());
        for line in &own {
            passes &= line.print(baseline.copied());
        }
    }
    passes
}

/// Nothing for what was not measured; as many digits as mean something.
fn number(value: f64) -> String {
    if value.is_nan() {
        String::new()
    } else if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// Processor time that this process has had, in steps of 10 ms.
pub(crate) fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may have spaces; it ends with the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    Duration::from_millis(ticks * 10)
}

#[allow(clippy::print_stderr, reason = "progress is not part of the result")]
fn eprint_progress(round: usize, title: &str) {
    eprintln!("round {}: {title}", round + 1);
}
