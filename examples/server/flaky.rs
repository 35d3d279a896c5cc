//! An actor with a defect: it counts, and one message makes it panic.

use std::time::Duration;

use actix::{Actor, Handler, Message, MessageResponse};
use serde::Serialize;
use steadfast::kernel::{Context, Exhausted, Spec};

/// How long it rests after too many panics; short, so that a demonstration stays short.
const REST: Duration = Duration::from_secs(5);

/// Counts in memory. A restart begins at zero, because the state that led to a panic is not
/// trusted again.
#[derive(Debug, Default)]
pub(crate) struct Flaky {
    count: u64,
}

impl Flaky {
    /// The name it has in the tree and in `/demo/stats`.
    pub(crate) const NAME: &'static str = "flaky";

    pub(crate) fn spec() -> Spec<Self> {
        Spec::new(Self::NAME, Self::default).exhausted(Exhausted::Quarantine { cooldown: REST })
    }
}

impl Actor for Flaky {
    type Context = Context<Self>;
}

/// Counts one up.
#[derive(Debug, Message)]
#[rtype(result = "Counted")]
pub(crate) struct Count;

/// How far the actor has counted, and which of its incarnations did.
#[derive(Debug, Clone, Copy, Serialize, MessageResponse)]
pub(crate) struct Counted {
    count: u64,
    generation: u32,
}

impl Handler<Count> for Flaky {
    type Result = Counted;

    fn handle(&mut self, _: Count, ctx: &mut Self::Context) -> Counted {
        self.count += 1;
        Counted { count: self.count, generation: ctx.generation() }
    }
}

/// Cannot be digested.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Poison;

impl Handler<Poison> for Flaky {
    type Result = ();

    #[expect(clippy::panic, reason = "the defect that the supervisor is there for")]
    fn handle(&mut self, _: Poison, _: &mut Self::Context) {
        panic!("boom: the flaky actor was poisoned");
    }
}
