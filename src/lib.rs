//! An actor-model resilience runtime for actix-web services.
//!
//! Each fragile concern of a service becomes a supervised actor with a bounded mailbox, a
//! deadline on every message, and a place in one tree: a cache fill, a circuit breaker, a health
//! check. Handlers hold cheap handles; nobody hand-writes the concern again.
//!
//! ```no_run
//! use actix_web::{App, HttpServer, web};
//! use steadfast::prelude::*;
//!
//! #[derive(Default)]
//! struct Visits(u64);
//!
//! impl actix::Actor for Visits {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(actix::Message)]
//! #[rtype(result = "u64")]
//! struct Visit;
//!
//! impl actix::Handler<Visit> for Visits {
//!     type Result = u64;
//!     fn handle(&mut self, _: Visit, _: &mut Self::Context) -> u64 {
//!         self.0 += 1;
//!         self.0
//!     }
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<Drained, Box<dyn std::error::Error>> {
//!     let mut runtime = Steadfast::builder();
//!     let visits = runtime.critical_actor(Spec::new("visits", Visits::default));
//!     let steadfast = runtime.start()?;
//!
//!     let wired = steadfast.clone();
//!     let server = HttpServer::new(move || {
//!         let visits = visits.clone();
//!         let count = move || {
//!             let visits = visits.clone();
//!             async move { Ok::<_, Problem>(visits.call(Visit).await?.to_string()) }
//!         };
//!         App::new()
//!             .configure(|app| wired.configure(app))
//!             .route("/", web::get().to(count))
//!             .wrap(wired.edge())
//!     });
//!     let listener = steadfast.listen("127.0.0.1:8080")?;
//!     Ok(steadfast.serve(server.listen(listener)?).await?)
//! }
//! ```
//!
//! A panic in the handler costs one answer: the actor is rebuilt, its queue is kept. `/livez`,
//! `/readyz` and `/startupz` tell the truth without asking anybody. SIGTERM drains.
//!
//! | concern | module |
//! |---|---|
//! | supervision, deadlines, request context | [`kernel`] |
//! | circuit breaker per dependency | [`breaker`] |
//! | single-flight cache | [`cache_fill`] |
//! | durable jobs with back-pressure | [`jobs`] |
//! | mail that is never lost, doubled or late | [`mailer`] |
//! | webhooks, verified, stored as they came and handled once | [`inbox`] |
//! | counters that drifted, put right while others write | [`counters`] |
//! | SQLite and PostgreSQL behind one seam | [`store`] |
//! | enums that are one thing with their columns | [`schema_enum`] |
//! | checks, readiness, liveness, start-up | [`health`] |
//! | request ids, deadlines, panics, error documents, probes, drain | [`edge`], [`problem`] |
//! | log formats | [`telemetry`] |
//! | settings | [`config`] |
//! | assembly | [`runtime`] |

pub mod config;
pub mod edge;
pub mod problem;
pub mod runtime;
pub mod telemetry;

pub use runtime::Steadfast;
#[doc(inline)]
pub use steadfast_actors::schema_enum::SchemaEnum;
#[doc(inline)]
pub use steadfast_actors::{
    assert_enums_migrated, breaker, cache_fill, counters, health, inbox, jobs, kernel, mailer,
    schema_enum, store, tls,
};

/// What a `main` and its handlers usually need: `use steadfast::prelude::*;`.
pub mod prelude {
    pub use crate::Steadfast;
    pub use crate::breaker::{Breaker, BreakerError};
    pub use crate::cache_fill::{Cache, FillCtx, FillError, Loaded};
    pub use crate::config::Settings;
    pub use crate::edge::{Ctx, Drained, Json};
    pub use crate::health::{CheckCx, CheckError, CheckSpec, Detail, StartTask};
    pub use crate::jobs::{Enqueued, Job, JobCx, JobError, JobPolicy, JobResult, Jobs, QueueSpec};
    pub use crate::kernel::{
        CallError, Context, Fault, Group, Ref, Reply, RequestContext, Spec, Strategy,
    };
    pub use crate::problem::Problem;
    pub use crate::schema_enum::SchemaEnum;
    pub use crate::store::Store;
}
