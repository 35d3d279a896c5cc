//! Claims about the tables in SQLite, beyond what every store must do.
//!
//! [`plans`]: which index each statement goes by, and what a backlog costs. [`own`]: enqueuing
//! and completing in a user's own transaction.

mod own;
mod plans;

use std::sync::Arc;

use proptest::prelude::*;

use super::SqliteJobs;
use crate::jobs::store::conformance::{Fixture, model, store_conformance};
use crate::store::{SqliteOptions, SqliteStore};

async fn in_memory() -> Option<Fixture> {
    let store = SqliteStore::open(SqliteOptions::memory()).await.unwrap();
    Some(Fixture::new(Arc::new(SqliteJobs::new(store)), ()))
}

async fn in_a_file() -> Option<Fixture> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.db");
    let store = SqliteStore::open(SqliteOptions::file(file)).await.unwrap();
    Some(Fixture::new(Arc::new(SqliteJobs::new(store)), folder))
}

store_conformance!(memory, crate::jobs::store::sqlite::tests::in_memory);
store_conformance!(file, crate::jobs::store::sqlite::tests::in_a_file);

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_operations_departs_from_the_model(
        operations in prop::collection::vec(model::operation(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let fixture = in_memory().await.unwrap();
            model::play(&fixture.stage(), operations).await;
        });
    }
}
