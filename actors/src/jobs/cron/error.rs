//! Why a periodic job cannot be declared.

use crate::kernel::{Code, Fault};

/// Why a periodic job cannot be declared. Correct what it names; nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// The expression has too few or too many fields, or a nickname that is not one. Write five,
    /// or six with seconds first.
    #[error(
        "`{expression}` must have 5 fields (minute, hour, day, month, weekday) or 6 with seconds \
         first, such as `30 4 * * 1-5`, or be @hourly, @daily, @weekly, @monthly or @yearly"
    )]
    Shape {
        /// What was given.
        expression: String,
    },
    /// One of the fields cannot be used. Correct it.
    #[error(
        "the {field} of `{expression}` is `{value}` but must be {allowed}, such as `{example}`"
    )]
    Field {
        /// What was given.
        expression: String,
        /// Which field.
        field: &'static str,
        /// What is in it.
        value: String,
        /// What it may be.
        allowed: &'static str,
        /// An expression in which it is right.
        example: &'static str,
    },
    /// There is no such day, in any year. Correct the day or the month.
    #[error("`{expression}` never fires: no month it names has such a day; the last is `L`")]
    NeverFires {
        /// What was given.
        expression: String,
    },
    /// Nobody has heard of the time zone. Correct its name.
    #[error("`{zone}` is not a time zone; write an IANA name such as `Europe/Berlin` or `UTC`")]
    UnknownTimeZone {
        /// What was given.
        zone: String,
    },
}

impl Fault for CronError {
    fn code(&self) -> Code {
        match self {
            Self::Shape { .. } | Self::Field { .. } | Self::NeverFires { .. } => {
                Code::new("jobs.invalid_cron")
            }
            Self::UnknownTimeZone { .. } => Code::new("jobs.unknown_time_zone"),
        }
    }
}
