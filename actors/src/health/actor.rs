//! The shell: it keeps one loop per check running. What they find is published past it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Handler, Message};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::error::HealthError;
use super::handle::{Health, Shared, Slot, Standing};
use super::report::{Item, Status};
use super::spec::HealthRegistry;
use super::state::jittered;
use crate::kernel::{ActorState, Context, Exhausted, NodeInfo, Spec, Tree};

/// How often somebody looks whether readiness changed, when no probe does.
const OBSERVE_EVERY: Duration = Duration::from_millis(250);

/// Runs the checks and the start-up tasks in the background.
///
/// Its loops live and die with its incarnation. While it is being rebuilt, quarantined or gone,
/// what was published grows old and turns into [`Status::Unknown`] by itself.
pub struct HealthActor {
    shared: Arc<Shared>,
    /// Dropping it aborts the loops.
    loops: JoinSet<()>,
}

impl Health {
    /// Prepares health for the actors of `tree`: the handle, and the actor to start under it.
    ///
    /// Until the actor runs, every check is [`Status::Unknown`].
    ///
    /// # Errors
    ///
    /// [`HealthError`] names the check or the task whose settings are wrong.
    pub fn prepare(
        registry: HealthRegistry,
        tree: &Tree,
    ) -> Result<(Self, Spec<HealthActor>), HealthError> {
        let tree = tree.clone();
        let health = Self::new(registry, Box::new(move || standing(&tree)))?;
        let shared = Arc::clone(&health.0);
        let spec = Spec::new("health", move || HealthActor {
            shared: Arc::clone(&shared),
            loops: JoinSet::new(),
        });
        // Nothing waits in its mailbox and its loops are cut anyway: no need to drain.
        let spec = spec.drain(Duration::from_millis(100));
        let cooldown = Duration::from_secs(5);
        Ok((health, spec.exhausted(Exhausted::Quarantine { cooldown })))
    }
}

fn standing(tree: &Tree) -> Standing {
    let snapshot = tree.snapshot();
    let actors = snapshot.nodes.iter().map(item).collect();
    Standing { actors, escalated: snapshot.escalated }
}

fn item(node: &NodeInfo) -> Item {
    let name = Arc::clone(&node.name);
    let because = node.last_failure.as_deref().unwrap_or("nothing failed");
    match node.state {
        ActorState::Running => Item::new(name, Status::Up),
        ActorState::Starting => Item::new(name, Status::Unknown).because("is being started"),
        ActorState::Restarting | ActorState::Suspended => {
            Item::new(name, Status::Degraded).because(format!("is being rebuilt: {because}"))
        }
        ActorState::Quarantined => {
            let rest = node.rest_ms;
            let reason = format!("is quarantined for another {rest} ms: {because}");
            Item::new(name, Status::Down).because(reason)
        }
        ActorState::Draining => Item::new(name, Status::Down).because("is stopping"),
        ActorState::Stopped => {
            Item::new(name, Status::Down).because(format!("has stopped: {because}"))
        }
    }
}

impl Actor for HealthActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        for index in 0..self.shared.slots.len() {
            self.loops.spawn(keep_checking(Arc::clone(&self.shared), index));
        }
        let tasks = self.shared.start_tasks.clone();
        self.loops.spawn(async move { tasks.run().await });
        let shared = Arc::clone(&self.shared);
        self.loops.spawn(async move {
            loop {
                shared.observe();
                sleep(OBSERVE_EVERY).await;
            }
        });
    }
}

async fn keep_checking(shared: Arc<Shared>, index: usize) {
    let Some(slot) = shared.slots.get(index) else { return };
    loop {
        slot.run_once().await;
        shared.observe();
        rest(slot).await;
    }
}

/// Waits for the next turn, or until somebody wants to know now.
async fn rest(slot: &Slot) {
    let pause = jittered(slot.plan().every, fastrand::f64());
    tokio::select! {
        () = slot.wake.notified() => {}
        () = sleep(pause) => {}
    }
}

impl fmt::Debug for HealthActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthActor").field("loops", &self.loops.len()).finish_non_exhaustive()
    }
}

/// Runs a check now instead of at its next turn.
///
/// The reply says whether there is a check of this name, not how it went: read that from
/// [`Health::readiness`] or [`Health::group`].
#[derive(Debug, Clone, Message)]
#[rtype(result = "bool")]
pub struct Recheck {
    /// The name of the check.
    pub name: Arc<str>,
}

impl Handler<Recheck> for HealthActor {
    type Result = bool;

    fn handle(&mut self, Recheck { name }: Recheck, _: &mut Self::Context) -> bool {
        self.shared.recheck(&name)
    }
}
