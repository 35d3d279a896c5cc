//! How long it takes to work off what waits.

use std::time::Duration;

use super::PerClass;
use crate::jobs::Class;

/// How free workers are shared out, as [`Class`] says.
const WEIGHTS: PerClass<f64> = PerClass([8.0, 4.0, 2.0, 1.0]);

/// LIMIT: the longest estimate: a month, which is as good as never.
const ESTIMATE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long each class takes at this pace if nothing more comes and the workers are shared out by
/// weight among the classes that still wait: one after the other runs dry.
pub(super) fn drain(ready: [u64; 4], pace: f64) -> PerClass<Duration> {
    let mut left = PerClass(ready).map(|jobs| jobs as f64);
    let mut ends = PerClass([0.0; 4]);
    let mut now = 0.0;
    for _ in Class::ALL {
        let waits = left.zip(WEIGHTS, |jobs, weight| if jobs > 0.0 { weight } else { 0.0 });
        let all: f64 = waits.0.into_iter().sum();
        let times = left.zip(waits, |jobs, weight| if weight > 0.0 { jobs / weight } else { 0.0 });
        let next = times.0.into_iter().filter(|time| *time > 0.0).fold(f64::INFINITY, f64::min);
        if all <= 0.0 || next.is_infinite() {
            break;
        }
        now += next * all / pace;
        for (class, time) in times.iter() {
            if time > 0.0 {
                let rest = if time <= next { 0.0 } else { (time - next) * WEIGHTS.of(class) };
                left = left.with(class, rest);
                ends = ends.with(class, now);
            }
        }
    }
    ends.map(seconds)
}

/// How long `jobs` take at this pace, which is above zero.
pub(super) fn estimate(jobs: u64, pace: f64) -> Duration {
    seconds(jobs as f64 / pace)
}

pub(super) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(ESTIMATE_MAX).min(ESTIMATE_MAX)
}
