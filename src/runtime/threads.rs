//! The threads actors run on: an actix system of its own.
//!
//! Apart from the web workers, so that neither can starve the other; and apart from the system
//! `main` runs in, so that it does not end with the server before the actors have drained.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use actix_rt::{Arbiter, ArbiterHandle, System};

pub(super) struct ActorThreads {
    system: System,
    arbiters: Vec<ArbiterHandle>,
    next: AtomicUsize,
}

impl ActorThreads {
    /// Starts `count` threads; returns when all are up.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (up, told) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("steadfast-actors".into()).spawn(move || {
            let runner = System::new();
            let system = System::current();
            let first = system.arbiter().clone();
            let rest = (1..count).map(|_| Arbiter::try_new().map(|arbiter| arbiter.handle()));
            let arbiters = std::iter::once(Ok(first)).chain(rest).collect::<io::Result<Vec<_>>>();
            let failed = arbiters.is_err();
            let told = up.send(arbiters.map(|arbiters| (system, arbiters)));
            if failed || told.is_err() {
                System::current().stop();
            }
            if let Err(error) = runner.run() {
                tracing::error!(%error, "runtime.actor_threads_failed");
            }
        })?;
        let died = |_| io::Error::other("the actors' first thread died while it started");
        let (system, arbiters) = told.recv().map_err(died)??;
        Ok(Self { system, arbiters, next: AtomicUsize::new(0) })
    }

    /// The thread for the next actor, in turn.
    pub(super) fn next(&self) -> ArbiterHandle {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.arbiters.len().max(1);
        self.arbiters.get(index).unwrap_or_else(|| self.system.arbiter()).clone()
    }

    pub(super) fn all(&self) -> &[ArbiterHandle] {
        &self.arbiters
    }

    /// Ends the threads once they come to it. Actors still there are dropped.
    pub(super) fn stop(&self) {
        self.system.stop();
    }
}

impl Drop for ActorThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for ActorThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorThreads").field("count", &self.arbiters.len()).finish_non_exhaustive()
    }
}
