//! Assembly: the runtime a service builds once in `main`.

mod builder;
mod error;
mod leaving;
mod server;
mod threads;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::Actor;
use actix_web::web;
use steadfast_actors::health::{Health, Heartbeats};
use steadfast_actors::kernel::{Context, Ref, StopReport, Tree};

pub use builder::Builder;
pub use error::StartError;
pub use server::IntoServer;

use crate::config::Settings;
use crate::edge::backlog::Backlog;
use crate::edge::shutdown::Draining;
use crate::edge::{Drained, Edge, InFlight, Probes, ShutdownTrigger};
use crate::telemetry;
use leaving::Leaving;
use threads::ActorThreads;

/// The running runtime: supervised actors on threads of their own, health, and the way out.
///
/// Cheap to clone. When the last clone is dropped, the actors' threads end.
#[derive(Clone)]
pub struct Steadfast(Arc<Inner>);

struct Inner {
    /// Tells runtimes of one process apart.
    id: u64,
    settings: Settings,
    tree: Tree,
    health: Health,
    heartbeats: Heartbeats,
    in_flight: InFlight,
    edge: Edge,
    trigger: ShutdownTrigger,
    backlog: Backlog,
    leaving: Leaving,
    threads: ActorThreads,
    web_threads: AtomicU64,
}

thread_local! {
    /// The runtimes whose heartbeat this thread already gives.
    static BEATING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Steadfast {
    /// Declares what the runtime is made of. Makes ring the process's default provider of
    /// cryptography, unless there is one: see [`tls`](crate::tls).
    pub fn builder() -> Builder {
        crate::tls::install_default_provider();
        Builder::new()
    }

    /// Wires an app to the runtime: mounts `/livez`, `/readyz` and `/startupz`, puts this handle
    /// into the app's data, and begins to watch the worker thread it is called on.
    ///
    /// ```no_run
    /// # fn wire(steadfast: steadfast::Steadfast) {
    /// use actix_web::App;
    ///
    /// let app = App::new().configure(|app| steadfast.configure(app));
    /// # }
    /// ```
    pub fn configure(&self, app: &mut web::ServiceConfig) {
        self.watch_thread();
        self.probes().configure(app);
        app.app_data(web::Data::new(self.clone()));
    }

    /// The probes, to mount on another app; see [`Probes::with_reasons`].
    #[must_use]
    pub fn probes(&self) -> Probes {
        Probes::new(self.0.health.clone(), self.0.heartbeats.clone())
    }

    /// The settings it was started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The supervision tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.0.tree
    }

    /// The actor of this type and name, while it lives.
    #[must_use]
    pub fn find<A>(&self, name: &str) -> Option<Ref<A>>
    where
        A: Actor<Context = Context<A>>,
    {
        self.0.tree.find(name)
    }

    /// Whether this process should get traffic.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// Whether its threads still turn.
    #[must_use]
    pub fn heartbeats(&self) -> &Heartbeats {
        &self.0.heartbeats
    }

    /// The request edge, set up by the settings `request`, `admission` and `panics`: wrap an app
    /// with it last, so that it is outermost. All clones share one count of what went wrong, and
    /// the places that admission gives away.
    ///
    /// ```no_run
    /// # fn wire(steadfast: steadfast::Steadfast) {
    /// use actix_web::App;
    ///
    /// let app = App::new().configure(|app| steadfast.configure(app)).wrap(steadfast.edge());
    /// # }
    /// ```
    #[must_use]
    pub fn edge(&self) -> Edge {
        self.0.edge.clone()
    }

    /// The requests being served.
    #[must_use]
    pub fn in_flight(&self) -> &InFlight {
        &self.0.in_flight
    }

    /// Begins a shutdown from code, as SIGTERM does.
    #[must_use]
    pub fn shutdown(&self) -> ShutdownTrigger {
        self.0.trigger.clone()
    }

    /// Binds a listener for `HttpServer::listen` that closes without resetting anybody: whoever
    /// connected and was not accepted yet when it closes is answered 503 with `Retry-After`.
    /// `HttpServer::bind` resets them, as every plain listener does.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub fn listen(&self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        self.0.backlog.bind(address)
    }

    /// Serves until SIGTERM, SIGINT or [`shutdown`](Self::shutdown), then drains: readiness
    /// false, a delay for the load balancer to see it, listeners closed, requests in flight
    /// finished, actors stopped in order. A second signal skips the delay, a third gives up what
    /// is in flight. Return the result from `main`: it exits with 0 when nothing was cut. At last the
    /// log is [flushed](telemetry::flush).
    ///
    /// Other servers of the process, such as one for operators, are not conducted: spawn them
    /// with their signals disabled, and they answer until the process ends.
    ///
    /// # Errors
    ///
    /// The operating system refused a signal handler, or the server failed by itself. The
    /// actors are stopped in any case.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping it closes all connections and leaves the actors running. Use
    /// [`shutdown`](Self::shutdown).
    pub async fn serve(&self, server: impl IntoServer) -> io::Result<Drained> {
        let plan = self.0.settings.drain.plan();
        let draining = Draining {
            plan,
            health: self.0.health.clone(),
            in_flight: self.0.in_flight.clone(),
            trigger: self.0.trigger.clone(),
            backlog: self.0.backlog.clone(),
        };
        let signals = self.0.trigger.on_signals()?;
        let leave = || self.0.leaving.begin(plan.jobs);
        let served = match server.into_server(&plan) {
            Ok(server) => tokio::select! {
                served = draining.serve(server, leave) => served,
                () = signals => Ok(0),
            },
            Err(error) => Err(error),
        };
        let (stopped, jobs_cut) = self.leave().await;
        let actors_cut = stopped.unfinished.len();
        let drained = Drained { requests_cut: served?, actors_cut, jobs_cut };
        tracing::info!(?drained, "shutdown.done");
        // A panic in it would have been reported; there is nothing else it could tell.
        drop(tokio::task::spawn_blocking(telemetry::flush).await);
        Ok(drained)
    }

    /// Drains the job queues and stops the actors in order, within
    /// [`DrainSettings::jobs`](crate::config::DrainSettings) and [`DrainSettings::actors`](crate::config::DrainSettings),
    /// and their threads. For a program that serves no HTTP; [`serve`](Self::serve) does it by
    /// itself.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the actors not reached yet keep running. Call it again to go on.
    pub async fn stop(&self) -> StopReport {
        self.leave().await.0
    }

    /// Drains the job queues and stops the actors. How many jobs were abandoned.
    async fn leave(&self) -> (StopReport, usize) {
        self.0.health.drain();
        self.0.leaving.begin(self.0.settings.drain.jobs);
        let abandoned = self.0.leaving.end().await;
        let report = self.0.tree.stop(self.0.settings.drain.actors).await;
        self.0.threads.stop();
        (report, usize::try_from(abandoned).unwrap_or(usize::MAX))
    }

    /// Gives this thread a heartbeat, once, however many apps it builds.
    fn watch_thread(&self) {
        let id = self.0.id;
        if BEATING.with_borrow(|runtimes| runtimes.contains(&id)) {
            return;
        }
        let Ok(event_loop) = tokio::runtime::Handle::try_current() else {
            tracing::warn!("health.thread_unwatched: the app was built outside of a runtime");
            return;
        };
        let number = self.0.web_threads.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(pulse) = self.0.heartbeats.pulse(format!("web-{number}")) {
            BEATING.with_borrow_mut(|runtimes| runtimes.push(id));
            event_loop.spawn(pulse.run());
        }
    }
}

impl fmt::Debug for Steadfast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steadfast")
            .field("tree", &self.0.tree)
            .field("health", &self.0.health)
            .field("in_flight", &self.0.in_flight)
            .finish_non_exhaustive()
    }
}
