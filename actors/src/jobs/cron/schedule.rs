//! A checked cron expression in a time zone, and the moments it names.
//!
//! The expression only says which times of the wall clock are meant; what becomes of those
//! when the clock is put forward or back is decided here.

use std::fmt;
use std::sync::Arc;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::CronError;
use crate::store::Timestamp;

/// When a periodic job is due: a checked cron expression in a time zone.
///
/// The fields are minute, hour, day, month and weekday, with seconds before them if there are
/// six; or one of `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. `L` is the last day,
/// `15W` the working day nearest to the 15th, `5#2` the second Friday and `5L` the last one. If
/// both the day and the weekday are restricted, either will do; with `+` before the weekday,
/// both must fit.
///
/// # When the clock changes
///
/// A schedule that names its hours, like `30 2 * * *` or `0 */6 * * *`, goes by the wall clock:
/// each time that it names fires exactly once. One that is left out when the clock is put
/// forward fires at that moment (all those left out together, once); one that comes twice when
/// it is put back fires at the first. One that fires in every hour, like `*/5 * * * *`, goes by
/// the time that passes: it fires whenever
/// the clock shows such a time. This is how Vixie cron treats its two sorts of jobs.
#[derive(Clone)]
pub struct Schedule {
    expression: Arc<str>,
    zone_name: Arc<str>,
    zone: TimeZone,
    cron: Cron,
    pace: Pace,
}

/// What a schedule goes by when the clock changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// The wall clock: each time that is named, once.
    Clock,
    /// The time that passes.
    Elapsed,
}

/// LIMIT: bytes of an expression; longer ones are refused.
const EXPRESSION_MAX: usize = 256;

/// LIMIT: times of a repeated stretch that are passed over in one search. A day, in seconds:
/// no clock was ever put back further.
const REPEATED_MAX: u32 = 86_400;

/// LIMIT: changes of the clock that one search goes beyond. Two in a year are usual, and 40
/// years is the longest wait for a 29 February of a weekday.
const CHANGES_MAX: u32 = 1_000;

impl Schedule {
    /// Reads a cron expression, meant in the time zone of this IANA name.
    ///
    /// # Errors
    ///
    /// [`CronError`] says which part is wrong and what it may be.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, CronError> {
        let cron = read(expression)?;
        let beginning = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);
        if cron.find_next_occurrence(&beginning, true).is_err() {
            return Err(CronError::NeverFires { expression: expression.to_owned() });
        }
        let Ok(time_zone) = TimeZone::get(zone) else {
            return Err(CronError::UnknownTimeZone { zone: zone.to_owned() });
        };
        let every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        Ok(Self {
            expression: expression.into(),
            zone_name: zone.into(),
            zone: time_zone,
            cron,
            pace: if every_hour { Pace::Elapsed } else { Pace::Clock },
        })
    }

    /// The first tick after `after`; `None` at the end of time.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // Ticks are whole seconds, so none lies between this and `after`.
        let after = jiff::Timestamp::from_second(after.0.div_euclid(1_000)).ok()?;
        let next = match self.pace {
            Pace::Clock => self.next_by_the_clock(after),
            Pace::Elapsed => self.next_as_time_passes(after),
        };
        Some(Timestamp(next?.as_millisecond()))
    }

    /// The expression as it was given.
    #[must_use]
    pub const fn expression(&self) -> &Arc<str> {
        &self.expression
    }

    /// The name of the time zone as it was given.
    #[must_use]
    pub const fn time_zone(&self) -> &Arc<str> {
        &self.zone_name
    }

    fn next_by_the_clock(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut shown = self.zone.to_datetime(after);
        for _ in 0..=REPEATED_MAX {
            shown = self.cron.find_next_occurrence(&shown, false).ok()?;
            let at = self.moment(shown)?;
            // A time that is shown a second time was due at the first.
            if at > after {
                return Some(at);
            }
        }
        None
    }

    /// When the clock shows `shown`: the first time if twice, when it is passed over if never.
    fn moment(&self, shown: DateTime) -> Option<jiff::Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(shown);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(shown).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(shown).ok(),
            AmbiguousOffset::Gap { before, .. } => {
                let beyond = before.to_timestamp(shown).ok()?;
                let beyond = beyond.checked_add(jiff::SignedDuration::from_secs(1)).ok()?;
                Some(self.zone.preceding(beyond).next()?.timestamp())
            }
        }
    }

    /// Searches one stretch between two changes of the clock after the other.
    fn next_as_time_passes(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let (mut from, mut inclusive) = (after, false);
        for _ in 0..=CHANGES_MAX {
            let offset = self.zone.to_offset(from);
            let shown = offset.to_datetime(from);
            let next = self.cron.find_next_occurrence(&shown, inclusive).ok()?;
            let at = offset.to_timestamp(next).ok()?;
            match self.zone.following(from).next().map(|change| change.timestamp()) {
                Some(change) if change <= at => (from, inclusive) = (change, true),
                Some(_) | None => return Some(at),
            }
        }
        None
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expression, self.zone_name)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

/// A field of an expression: its name, what it may be, and where it is right.
type Field = (&'static str, &'static str, &'static str);

const FIELDS: [Field; 6] = [
    ("second", "0 to 59", "15 30 4 * * *"),
    ("minute", "0 to 59", "30 4 * * *"),
    ("hour", "0 to 23", "30 4 * * *"),
    ("day", "1 to 31, L, or 1W to 31W", "30 4 1,15 * *"),
    ("month", "1 to 12 or JAN to DEC", "30 4 1 JAN-MAR *"),
    ("weekday", "0 (Sunday) to 7, SUN to SAT, 5#2 or 5L", "30 4 * * MON-FRI"),
];

fn parser() -> CronParser {
    // Without years, whether an expression ever fires does not depend on when it is asked.
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build()
}

fn read(expression: &str) -> Result<Cron, CronError> {
    let short = expression.get(..expression.len().min(EXPRESSION_MAX));
    let shape = || CronError::Shape { expression: short.unwrap_or_default().to_owned() };
    if expression.len() > EXPRESSION_MAX {
        return Err(shape());
    }
    parser().parse(expression).map_err(|_unclear| wrong_field(expression).unwrap_or_else(shape))
}

/// The first field that is wrong by itself; the parser does not always tell.
fn wrong_field(expression: &str) -> Option<CronError> {
    let values: Vec<&str> = expression.split_whitespace().collect();
    let first = FIELDS.len().checked_sub(values.len()).filter(|missing| *missing <= 1)?;
    for (at, value) in values.into_iter().enumerate() {
        let at = at + first;
        let alone: Vec<&str> =
            (0..FIELDS.len()).map(|i| if i == at { value } else { "*" }).collect();
        if parser().parse(&alone.join(" ")).is_err() {
            let (field, allowed, example) = *FIELDS.get(at)?;
            let (expression, value) = (expression.to_owned(), value.to_owned());
            return Some(CronError::Field { expression, field, value, allowed, example });
        }
    }
    None
}
