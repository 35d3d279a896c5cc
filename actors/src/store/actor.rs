//! The store's place in the tree.

use std::time::Duration;

use actix::{Actor, Handler, Message};

use super::{Store, StoreError};
use crate::kernel::{Context, Exhausted, Reply, Spec};

/// Stands for the store in the tree, and answers for it.
///
/// The store works without it: connections and threads are the store's own.
#[derive(Debug)]
pub struct StoreActor {
    store: Store,
}

impl StoreActor {
    /// The actor `store`, for this store.
    pub fn spec(store: Store) -> Spec<Self> {
        let spec = Spec::new("store", move || Self { store: store.clone() });
        spec.exhausted(Exhausted::Quarantine { cooldown: Duration::from_secs(5) })
    }
}

impl Actor for StoreActor {
    type Context = Context<Self>;
}

/// Asks the database whether it answers.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct PingStore;

impl Handler<PingStore> for StoreActor {
    type Result = Reply<Result<(), StoreError>>;

    fn handle(&mut self, _: PingStore, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        Reply::task(async move { store.ping().await })
    }
}
