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

/// One repair after the other, so that the last job is done when both counters are right.
pub(crate) fn queue() -> QueueSpec {
    QueueSpec::new("counters").workers(1)
}

/// What was begun.
#[derive(Debug, Serialize)]
pub(crate) struct Begun {
    /// When it is done, all counters are right.
    job_id: Option<JobId>,
    /// The job of each counter.
    jobs: BTreeMap<&'static str, JobId>,
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
    let mut jobs = BTreeMap::new();
    for (column, _) in COUNTED {
        jobs.insert(column, counters.repair(column).await?.job);
    }
    Ok(Begun { job_id: jobs.values().max().copied(), jobs })
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
