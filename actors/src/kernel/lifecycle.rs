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
pub struct Watch(watch::Receiver<LifecycleEvent>);

impl Watch {
    pub(crate) const fn new(receiver: watch::Receiver<LifecycleEvent>) -> Self {
        Self(receiver)
    }

    /// Where the actor is now.
    #[must_use]
    pub fn now(&self) -> LifecycleEvent {
        self.0.borrow().clone()
    }

    /// Waits for a change; `None` once the actor has stopped and its stop was seen.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change that was not returned is returned by the next call.
    pub async fn changed(&mut self) -> Option<LifecycleEvent> {
        let seen = self.0.borrow().state;
        if seen == ActorState::Stopped && !self.0.has_changed().unwrap_or(false) {
            return None;
        }
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// Waits until the actor is in `state`, or `None` once it never will be.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn reached(&mut self, state: ActorState) -> Option<LifecycleEvent> {
        let arrived =
            |event: &LifecycleEvent| event.state == state || event.state == ActorState::Stopped;
        let event = self.0.wait_for(arrived).await.ok()?.clone();
        (event.state == state).then_some(event)
    }
}
