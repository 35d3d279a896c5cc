//! Claims about the tables in PostgreSQL, beyond what every store must do.
//!
//! [`plans`]: no statement reads a whole table. [`sharing`]: callers that share a commit.
//! [`transactions`]: jobs in a transaction of the user's own.

mod plans;
mod sharing;
mod transactions;

use std::sync::Arc;

use proptest::prelude::*;

use super::PgJobs;
use crate::jobs::store::conformance::{Fixture, model, store_conformance};
use crate::store::PgStore;
use crate::store::postgres::testing::TestSchema;

/// Without a listening connection, which wakes everybody whenever it connects.
pub(super) async fn fixture() -> Option<Fixture> {
    let schema = TestSchema::find().await?;
    let store = PgStore::connect(schema.options().listen(false)).await.unwrap();
    Some(Fixture::new(Arc::new(PgJobs::new(store)), schema))
}

/// Tables of their own, and what is done to them.
async fn jobs() -> Option<(PgJobs, TestSchema)> {
    let schema = TestSchema::find().await?;
    Some((PgJobs::new(schema.store().await), schema))
}

store_conformance!(every_store, crate::jobs::store::postgres::tests::fixture);

proptest! {
    // Each case makes tables of its own.
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_operations_departs_from_the_model(
        operations in prop::collection::vec(model::operation(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            if let Some(fixture) = fixture().await {
                model::play(&fixture.stage(), operations).await;
            }
        });
    }
}
