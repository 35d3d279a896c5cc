//! What names a job, and one run of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a job: unique in its database for ever, rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One run of a job. `run` rises with every claim and every rescue and never falls, so it is
/// the fence: what an earlier run has to say is told from what the present one says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunKey {
    /// The job.
    pub id: JobId,
    /// Which run of it.
    pub run: i32,
}

/// A process that runs jobs: a fresh number with every start, so that a restarted process is
/// never taken for the one that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(uuid::Uuid);

impl NodeId {
    /// A number nobody else has.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// Reads one as it was written.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
