//! The shell: it runs the board's work and fails when the board says so.

use std::sync::Arc;

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext};

use super::board::Board;
use crate::kernel::host::Context;

/// The actor that supervises a [`Group`](super::Group).
pub struct Supervisor {
    board: Arc<Board>,
}

impl Supervisor {
    pub(super) const fn new(board: Arc<Board>) -> Self {
        Self { board }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let board = Arc::clone(&self.board);
        let rebuilt = ctx.generation() > 1;
        let work = async move {
            if rebuilt {
                board.restart_all().await;
            } else {
                board.launch_all().await;
            }
            board.serve().await
        };
        let work = wrap_future::<_, Self>(work);
        // A child's escalation is this actor's own failure; its policy decides what follows.
        ctx.spawn(work.map(|reason, _, ctx| ctx.fail(reason)));
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").finish_non_exhaustive()
    }
}
