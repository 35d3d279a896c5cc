//! Leaving without losing a request: the drain sequence.
//!
//! A signal begins it, each further one skips to the next step:
//!
//! | phase | begins with | ends when |
//! |---|---|---|
//! | serving | | a signal comes, or the server ends by itself |
//! | announced | readiness false, `Connection: close` on responses, job queues begin to drain | `delay` has passed |
//! | finishing | the listeners close | all connections are done, or `requests` has passed |
//! | cutting | requests in flight are given up with `Stopped::Shutdown` | they are done, or a second has passed |
//! | stopping | connections still open are closed; the actors stop in order | they have stopped, or `actors` has passed |
//!
//! The delay is for whoever routes traffic here: it needs time to see that readiness is false.

use std::io;
use std::pin::Pin;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use actix_web::dev::Server;
use steadfast_actors::health::Health;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backlog::Backlog;
use super::in_flight::InFlight;
use super::trigger::ShutdownTrigger;

/// LIMIT: long enough to write the problem documents of requests that were given up.
const CUT_GRACE: Duration = Duration::from_secs(1);
/// LIMIT: for handlers of jobs to clean up, and for their ends to be written.
const JOBS_GRACE: Duration = Duration::from_secs(5);
/// For farewells to those in the listeners' queues, and for an actor's thread to notice that its
/// time is over.
const SLACK: Duration = Duration::from_millis(1_500);
/// What a process says when it cut work short; 75 is `EX_TEMPFAIL` of `sysexits.h`.
const EXIT_WORK_CUT: u8 = 75;

/// How long each step of a shutdown may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainPlan {
    /// From readiness going false to the listeners closing. Default 5 s.
    pub delay: Duration,
    /// From the listeners closing to requests being given up. Default 15 s.
    pub requests: Duration,
    /// From readiness going false to running jobs being told to stop. Default 10 s.
    pub jobs: Duration,
    /// For all actors to stop. Default 5 s.
    pub actors: Duration,
}

impl Default for DrainPlan {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { delay: seconds(5), requests: seconds(15), jobs: seconds(10), actors: seconds(5) }
    }
}

impl DrainPlan {
    /// The longest a shutdown can take. Keep it below the time your orchestrator grants before
    /// it kills (30 s is the default of Kubernetes).
    #[must_use]
    pub fn longest(&self) -> Duration {
        let requests = self.delay + self.requests + CUT_GRACE;
        requests.max(self.jobs + JOBS_GRACE) + self.actors + SLACK
    }

    /// What actix may take for its own part; always longer than ours, so that ours decides.
    pub(crate) fn server_timeout(&self) -> u64 {
        (self.requests + CUT_GRACE).as_secs() + 2
    }
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Requests that were given up because their time was over.
    pub requests_cut: usize,
    /// Actors that were stopped before they had finished what they had accepted.
    pub actors_cut: usize,
    /// Jobs that did not stop, or whose end could not be written: another process rescues them.
    /// Not those that were given back in order.
    pub jobs_cut: usize,
}

impl Drained {
    /// Whether everything that was accepted was finished.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.requests_cut == 0 && self.actors_cut == 0 && self.jobs_cut == 0
    }

    /// 0 when nothing was cut, otherwise 75 (`EX_TEMPFAIL`).
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WORK_CUT) }
    }
}

/// So that `main` can return it.
impl Termination for Drained {
    fn report(self) -> ExitCode {
        self.exit_code()
    }
}

/// The pure sequence: events and the time in, what to do next out.
#[derive(Debug)]
struct Sequence {
    plan: DrainPlan,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Announced { until: Instant },
    Finishing { until: Instant },
    Cutting { until: Instant },
    Stopping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Signal,
    Elapsed,
    ServerEnded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Announce,
    CloseListeners,
    CutRequests,
    StopActors,
}

impl Sequence {
    const fn new(plan: DrainPlan) -> Self {
        Self { plan, phase: Phase::Serving }
    }

    /// When [`Event::Elapsed`] is due.
    const fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Serving | Phase::Stopping => None,
            Phase::Announced { until } | Phase::Finishing { until } | Phase::Cutting { until } => {
                Some(until)
            }
        }
    }

    fn on(&mut self, event: Event, now: Instant) -> Option<Action> {
        if self.phase == Phase::Stopping {
            return None;
        }
        let (phase, action) = match (event, self.phase) {
            (Event::ServerEnded, _) | (_, Phase::Cutting { .. } | Phase::Stopping) => {
                (Phase::Stopping, Action::StopActors)
            }
            (_, Phase::Serving) => {
                (Phase::Announced { until: now + self.plan.delay }, Action::Announce)
            }
            (_, Phase::Announced { .. }) => {
                (Phase::Finishing { until: now + self.plan.requests }, Action::CloseListeners)
            }
            (_, Phase::Finishing { .. }) => {
                (Phase::Cutting { until: now + CUT_GRACE }, Action::CutRequests)
            }
        };
        self.phase = phase;
        Some(action)
    }
}

/// What the sequence acts on.
#[derive(Debug, Clone)]
pub(crate) struct Draining {
    pub(crate) plan: DrainPlan,
    pub(crate) health: Health,
    pub(crate) in_flight: InFlight,
    pub(crate) trigger: ShutdownTrigger,
    pub(crate) backlog: Backlog,
}

impl Draining {
    /// Serves until the trigger is pulled, then drains; `leave` is called when that begins. Returns when the actors may be stopped,
    /// with how many requests were cut.
    ///
    /// # Errors
    ///
    /// The server failed by itself; what was in flight is gone with it.
    pub(crate) async fn serve(&self, server: Server, leave: impl Fn()) -> io::Result<usize> {
        let handle = server.handle();
        let mut server = Some(server);
        let mut sequence = Sequence::new(self.plan);
        let mut pulls = self.trigger.pulls();
        let mut cut = 0;
        let mut ended = Ok(());
        // Dropped with this future, so that nothing closes in the background.
        let mut closing = JoinSet::new();
        loop {
            let event = tokio::select! {
                biased;
                result = until_ended(&mut server) => {
                    ended = result;
                    Event::ServerEnded
                }
                () = pulls.next() => Event::Signal,
                () = elapsed(sequence.until()) => Event::Elapsed,
            };
            match sequence.on(event, Instant::now()) {
                Some(Action::StopActors) => break,
                Some(Action::Announce) => {
                    self.announce();
                    leave();
                }
                Some(Action::CloseListeners) => {
                    tracing::info!(in_flight = self.in_flight.count(), "shutdown.finishing");
                    let (backlog, handle) = (self.backlog.clone(), handle.clone());
                    closing.spawn(async move { backlog.close(handle).await });
                }
                Some(Action::CutRequests) => cut = self.cut(),
                None => {}
            }
        }
        // ORDER: dropping the server closes what is left open; nothing may wait for actors then.
        drop(server);
        while closing.join_next().await.is_some() {}
        self.health.drain();
        ended.map(|()| cut)
    }

    fn announce(&self) {
        self.health.drain();
        self.in_flight.close();
        let delay_ms = u64::try_from(self.plan.delay.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(in_flight = self.in_flight.count(), delay_ms, "shutdown.announced");
    }

    fn cut(&self) -> usize {
        let in_flight = self.in_flight.count();
        self.in_flight.cut();
        tracing::warn!(in_flight, "shutdown.cut");
        // Without the middleware nobody counted: whatever is still open may be work.
        in_flight.max(usize::from(!self.in_flight.is_used()))
    }
}

async fn until_ended(server: &mut Option<Server>) -> io::Result<()> {
    match server {
        Some(running) => {
            let result = Pin::new(running).await;
            *server = None;
            result
        }
        None => std::future::pending().await,
    }
}

async fn elapsed(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays events to a fresh sequence: `s` a signal, `t` its time is over, `x` the server ended.
    #[track_caller]
    fn check(script: &str, expected: &[Action]) {
        let mut now = Instant::now();
        let mut sequence = Sequence::new(DrainPlan::default());
        let mut actions = Vec::new();
        for event in script.chars() {
            let event = match event {
                's' => Event::Signal,
                'x' => Event::ServerEnded,
                't' => {
                    now = sequence.until().expect("no time runs in this phase");
                    Event::Elapsed
                }
                other => panic!("not an event: {other}"),
            };
            actions.extend(sequence.on(event, now));
        }
        assert_eq!(actions, expected, "after `{script}`");
    }

    #[test]
    fn drains_in_order() {
        use Action::{Announce, CloseListeners, CutRequests, StopActors};
        check("s", &[Announce]);
        check("st", &[Announce, CloseListeners]);
        check("stx", &[Announce, CloseListeners, StopActors]);
        check("stt", &[Announce, CloseListeners, CutRequests]);
        check("sttx", &[Announce, CloseListeners, CutRequests, StopActors]);
        check("sttt", &[Announce, CloseListeners, CutRequests, StopActors]);
    }

    #[test]
    fn a_second_signal_skips_the_delay_and_a_third_gives_requests_up() {
        use Action::{Announce, CloseListeners, CutRequests, StopActors};
        check("ss", &[Announce, CloseListeners]);
        check("ssx", &[Announce, CloseListeners, StopActors]);
        check("sss", &[Announce, CloseListeners, CutRequests]);
        check("ssssss", &[Announce, CloseListeners, CutRequests, StopActors]);
    }

    #[test]
    fn a_server_that_ends_by_itself_leaves_only_the_actors_to_stop() {
        check("x", &[Action::StopActors]);
        check("sx", &[Action::Announce, Action::StopActors]);
    }

    #[test]
    fn each_phase_takes_its_own_time() {
        let start = Instant::now();
        let mut sequence = Sequence::new(DrainPlan::default());
        assert_eq!(sequence.until(), None);
        sequence.on(Event::Signal, start);
        assert_eq!(sequence.until(), Some(start + Duration::from_secs(5)));
        sequence.on(Event::Elapsed, start + Duration::from_secs(5));
        assert_eq!(sequence.until(), Some(start + Duration::from_secs(20)));
        sequence.on(Event::Elapsed, start + Duration::from_secs(20));
        assert_eq!(sequence.until(), Some(start + Duration::from_secs(21)));
        assert_eq!(DrainPlan::default().longest(), Duration::from_millis(27_500));
    }

    #[test]
    fn only_a_shutdown_that_cut_nothing_exits_with_zero() {
        let code = |drained: Drained| format!("{:?}", drained.exit_code());
        let zero = format!("{:?}", ExitCode::SUCCESS);
        assert_eq!(code(Drained::default()), zero);
        assert_ne!(code(Drained { requests_cut: 1, ..Drained::default() }), zero);
        assert_ne!(code(Drained { actors_cut: 1, ..Drained::default() }), zero);
    }
}
