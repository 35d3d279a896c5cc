//! What the guard promises.

mod admission;
mod episodes;
mod levels;
mod properties;
mod simulation;

use std::time::Duration;

use super::*;
use crate::jobs::Class;

const SECOND: Duration = Duration::from_secs(1);
