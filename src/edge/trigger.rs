//! What begins a shutdown: a signal of the operating system, or the program itself.

use std::future::Future;
use std::io;

use tokio::sync::watch;

/// Begins a shutdown from code; each further call skips to the next step. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShutdownTrigger(watch::Sender<u32>);

impl ShutdownTrigger {
    /// A trigger nobody has pulled.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Does what SIGTERM does.
    pub fn pull(&self) {
        self.0.send_modify(|pulls| *pulls = pulls.saturating_add(1));
    }

    /// Every pull, also those from before this call.
    pub(crate) fn pulls(&self) -> Pulls {
        Pulls { count: self.0.subscribe(), seen: 0 }
    }

    /// Pulls whenever the process gets SIGTERM or SIGINT, until dropped.
    ///
    /// # Errors
    ///
    /// The operating system refused the signal handler.
    pub(crate) fn on_signals(&self) -> io::Result<impl Future<Output = ()> + use<>> {
        let mut signals = Signals::new()?;
        let trigger = self.clone();
        Ok(async move {
            loop {
                let signal = signals.next().await;
                tracing::info!(signal, "shutdown.signal");
                trigger.pull();
            }
        })
    }
}

/// The pulls of a trigger, one by one.
#[derive(Debug)]
pub(crate) struct Pulls {
    count: watch::Receiver<u32>,
    seen: u32,
}

impl Pulls {
    /// Waits for the next pull.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a pull that was not returned is returned by the next call.
    pub(crate) async fn next(&mut self) {
        if self.count.wait_for(|count| *count > self.seen).await.is_err() {
            // Nobody can pull any more.
            std::future::pending::<()>().await;
        }
        self.seen += 1;
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        let (name, came) = tokio::select! {
            came = self.terminate.recv() => ("SIGTERM", came),
            came = self.interrupt.recv() => ("SIGINT", came),
        };
        if came.is_none() {
            std::future::pending::<()>().await; // the runtime is going away
        }
        name
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "CTRL-C"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn every_pull_counts_also_those_from_before_anybody_looked() {
        let trigger = ShutdownTrigger::new();
        trigger.pull();
        trigger.pull();
        let mut pulls = trigger.pulls();
        assert!(pulls.next().now_or_never().is_some());
        assert!(pulls.next().now_or_never().is_some());
        assert!(pulls.next().now_or_never().is_none());
        trigger.pull();
        assert!(pulls.next().now_or_never().is_some());
    }
}
