//! What a factory is told about the incarnation it builds, and watching an actor live.

use std::sync::Arc;

use tokio::sync::watch;

use super::shared::{ActorState, LifecycleEvent};

/// What a factory is told about the incarnation it builds.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    name: Arc<str>,
    generation: u32,
    last_failure: Option<Arc<str>>,
}

impl Lifecycle {
    pub(crate) const fn new(
        name: Arc<str>,
        generation: u32,
        last_failure: Option<Arc<str>>,
    ) -> Self {
        Self { name, generation, last_failure }
    }

    /// The actor's name in its tree.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which incarnation is being built; the first is 1.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Why the one before it failed, if it failed.
    #[must_use]
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }
}

/// Follows one actor's life, from [`Ref::watch`](super::Ref::watch).
///
/// It never lags: a slow watcher misses states in between, never the last one, and the
/// generation tells how many incarnations it missed.
#[derive(Debug)]
pub struct Watch {
    receiver: watch::Receiver<LifecycleEvent>,
    /// The stop was seen: nothing follows it.
    over: bool,
}

impl Watch {
    pub(crate) fn new(receiver: watch::Receiver<LifecycleEvent>) -> Self {
        let over = receiver.borrow().state == ActorState::Stopped;
        Self { receiver, over }
    }

    /// Where the actor is now.
    #[must_use]
    pub fn now(&self) -> LifecycleEvent {
        self.receiver.borrow().clone()
    }

    /// Waits for a change; `None` once the actor has stopped and its stop was seen.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change that was not returned is returned by the next call.
    pub async fn changed(&mut self) -> Option<LifecycleEvent> {
        if self.over {
            return None;
        }
        self.receiver.changed().await.ok()?;
        let event = self.receiver.borrow_and_update().clone();
        self.over = event.state == ActorState::Stopped;
        Some(event)
    }

    /// Waits until the actor is in `state`, or `None` once it never will be.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn reached(&mut self, state: ActorState) -> Option<LifecycleEvent> {
        let arrived =
            |event: &LifecycleEvent| event.state == state || event.state == ActorState::Stopped;
        let event = self.receiver.wait_for(arrived).await.ok()?.clone();
        self.over = event.state == ActorState::Stopped;
        (event.state == state).then_some(event)
    }
}
