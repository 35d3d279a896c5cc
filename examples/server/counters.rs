//! Counters: two columns of a product that count rows of other tables, and can be put right.

use std::collections::BTreeMap;

use serde::Serialize;
use steadfast::counters::{CounterError, CounterReport, CounterSpec, Counters, CountersBuilder};
use steadfast::jobs::{JobId, QueueSpec};
use steadfast::store::Store;

use crate::database::Database;

/// The columns, each with the table whose rows it counts.
const COUNTED: [(&str, &str); 2] = [("orders_count", "orders"), ("reviews_count", "reviews")];

/// Declares both.
pub(crate) fn declare(store: &Store, database: &Database) -> CountersBuilder {
    let spec = |(column, child): (&str, &str)| {
        CounterSpec::new(column)
            .parent(&database.table("products"), "id")
            .column(column)
            .child(&database.table(child), "product_id")
    };
    COUNTED.into_iter().map(spec).fold(Counters::builder(store), CountersBuilder::counter)
}

/// One repair after the other: two at once would only take turns on the same rows.
pub(crate) fn queue() -> QueueSpec {
    QueueSpec::new("counters").workers(1)
}

/// What was begun.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Begun {
    /// The newest of `jobs`.
    job_id: Option<JobId>,
    /// The job of each counter. A counter is right when its own is done.
    jobs: BTreeMap<&'static str, JobId>,
    /// Whether a repair was under way already, and is one of these: it may be past what has been
    /// damaged since it began.
    joined: bool,
}

/// Begins to put both right.
///
/// # Errors
///
/// What the counters say.
///
/// # Cancel safety
///
/// Dropped, it may have been begun; asking again joins it then.
pub(crate) async fn repair(counters: &Counters) -> Result<Begun, CounterError> {
    let mut begun = Begun::default();
    for (column, _) in COUNTED {
        let started = counters.repair(column).await?;
        begun.jobs.insert(column, started.job);
        begun.job_id = begun.job_id.max(Some(started.job));
        begun.joined |= started.joined;
    }
    Ok(begun)
}

/// The newest run of each.
#[derive(Debug, Serialize)]
pub(crate) struct Reports {
    counters: Vec<CounterReport>,
}

/// What the newest runs have found.
///
/// # Errors
///
/// What the counters say.
///
/// # Cancel safety
///
/// Cancel safe.
pub(crate) async fn reports(counters: &Counters) -> Result<Reports, CounterError> {
    let mut found = Vec::new();
    for (column, _) in COUNTED {
        found.extend(counters.latest(column).await?);
    }
    Ok(Reports { counters: found })
}
