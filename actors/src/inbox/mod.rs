//! The webhook inbox: verifies what others send, keeps it byte for byte, once, and handles it.
//!
//! ```
//! use serde::Deserialize;
//! use steadfast_actors::inbox::{EventCx, Headers, Inbox, Source, StoredEvent};
//! use steadfast_actors::jobs::{JobResult, Jobs};
//! use steadfast_actors::kernel::Tree;
//! use steadfast_actors::store::{SqliteOptions, SqliteStore, Store};
//!
//! #[derive(Deserialize)]
//! struct Push {
//!     after: String,
//! }
//!
//! async fn pushed(event: StoredEvent, cx: EventCx) -> JobResult {
//!     let push: Push = event.body.decode()?;
//!     // The key is the same in every run of this event.
//!     build(&push.after, &cx.idempotency_key()).await
//! }
//! # use std::sync::OnceLock;
//! # use tokio::sync::mpsc;
//! # static BUILT: OnceLock<mpsc::Sender<String>> = OnceLock::new();
//! # async fn build(commit: &str, _key: &str) -> JobResult {
//! #     BUILT.get().unwrap().send(commit.to_owned()).await?;
//! #     Ok(())
//! # }
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     # let (sent, mut built) = mpsc::channel(1);
//!     # BUILT.set(sent).unwrap();
//!     // In a service: Store::open("sqlite:jobs.db") or Store::open("postgres://…").
//!     let store = Store::from(SqliteStore::open(SqliteOptions::memory()).await?);
//!     let tree = Tree::new();
//!     let inbox = Inbox::builder(&store)
//!         .source(Source::github("github", ["It's a Secret to Everybody"])?)
//!         .on("github", "push", pushed);
//!     // Events are handled by jobs, so the queue must know the inbox before it starts.
//!     let (inbox, jobs) = inbox.register(Jobs::builder(&store))?;
//!     let jobs = jobs.start(&tree).await?;
//!     let inbox = inbox.start(&tree, &jobs);
//!
//!     // In a service, a route does this with the bytes of the body as they came.
//!     let body = r#"{"after":"6dcb09b"}"#;
//!     let headers: Headers = [
//!         ("X-GitHub-Event", "push"),
//!         ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
//!         ("X-Hub-Signature-256", SIGNATURE),
//!     ]
//!     .into_iter()
//!     .collect();
//!     # const SIGNATURE: &str =
//!     #     "sha256=df4aa5932ebcd7c150b4d06bb5ce8dd7eaf942102e9be7737549fc88a51f0c1c";
//!     let receipt = inbox.receive("github", &headers, body.into()).await?;
//!     // When this returns, the event is on disk, and will be handled whatever dies.
//!     assert!(!receipt.events[0].duplicate);
//!     # assert_eq!(built.recv().await.as_deref(), Some("6dcb09b"));
//!     # jobs.drain(std::time::Duration::from_secs(20)).await;
//!     # tree.stop(std::time::Duration::from_secs(5)).await;
//!     # store.close().await;
//!     Ok(())
//! }
//! ```
//!
//! # Guarantees
//!
//! - What is stored is what was sent, byte for byte. It is verified as it came, before anything
//!   reads it, and nothing that is not verified is stored.
//! - [`Inbox::receive`] returns after the commit that has both the event and the job that handles
//!   it: what was acknowledged is handled or dead, whatever dies.
//! - An event is stored once for each source and id, for as long as events are
//!   [kept](InboxBuilder::keep_for); how often it came again is counted, and whether it was with
//!   another body.
//! - An event is handled **at least once**. With [`InboxBuilder::on_sqlite`],
//!   [`InboxBuilder::on_postgres`], [`EventCx::complete_in`] or [`EventCx::complete_in_postgres`]
//!   the effect and the end of the event are one transaction: in that database it happens exactly
//!   once for each time the event is received or replayed.
//! - Of a source that is [serial](Source::serial_by_subject), at most one event of a subject is
//!   handled at a time, over all processes, in the order in which they were stored; one that is
//!   replayed goes to the end of the line. A dead event is passed over. Bring it back with
//!   [`Inbox::replay`]: [`Jobs::retry`](crate::jobs::Jobs::retry) puts it where it was, beside one
//!   that may be running.
//! - Signatures are compared in constant time, with all active keys; whoever is refused learns
//!   nothing of why.
//! - No secret, payload or header's value is in a log or in the `Debug` of anything here.
//!
//! # What it does not do
//!
//! - It does not put events into the order in which they happened: senders promise none. Let a
//!   handler look up how things are now.
//! - It fetches nothing by itself, but certificates of SNS through [`Certificates`]: whether a
//!   subscription is [confirmed](Confirmation) is for the caller to decide.
//! - It has no route: `steadfast::edge::receive` reads the body of a request within the limit of
//!   its source.
//! - GitHub signs no time and Mailgun does not sign the event: see [`GitHub`] and [`Mailgun`].
//!
//! # The life of an event
//!
//! | from | what happens | to |
//! |---|---|---|
//! | | verified, and its type has a handler | received, with a job |
//! | | verified, and nobody here handles its type | ignored |
//! | | verified, and its id or type cannot be read | unparsable |
//! | received | its handler returns `Ok` | done |
//! | received | its handler fails, panics or is out of time | received, as its job is tried again |
//! | received | its job is dead | dead |
//! | received | no process handles its type for an hour, or after a replay | ignored |
//! | done, dead, ignored, unparsable | [`Inbox::replay`] | received, with a new job |
//! | done, ignored, unparsable | older than [`keep_for`](InboxBuilder::keep_for) | forgotten |
//! | dead | older than [`keep_dead_for`](InboxBuilder::keep_dead_for) | forgotten |
//!
//! Attempts, back-off, leases, rescue and poison are those of the job: see [`jobs`](crate::jobs).
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | a body | 256 KiB, of `SendGrid` 1 MiB; up to 16 MiB ([`Source::body_max`]) |
//! | containers within each other; values and names | 64; 100,000 |
//! | events of a delivery | 1,000 |
//! | an id, a type, a version, a subject | 255 bytes |
//! | headers that are read; that are kept | 128 of 16 KiB; 16 and a few, of 1 KiB |
//! | sources; keys of one; signatures of a delivery | 256; 8; 16 |
//! | deliveries that are being stored at a time | 1,024, then [`CallError`](crate::kernel::CallError) |
//! | events of a replay's step, of a page | 1,000 |
//! | certificates of SNS that are kept; fetched in a minute | 32; 30 |
//!
//! # Events
//!
//! | log message | level | when |
//! |---|---|---|
//! | `inbox.stored` | debug | an event is on disk, or was already |
//! | `inbox.unparsable` | warn | one that cannot be read was kept; `reason` says why |
//! | `inbox.conflict` | warn | an id came again with another body |
//! | `inbox.unverified` | debug | a delivery was refused; `reason` says why |
//! | `inbox.not_stored` | warn | a delivery was verified and could not be stored |
//! | `inbox.certificate_not_fetched` | warn | a certificate of SNS could not be got |
//! | `inbox.replayed` | info | a replay is over |
//! | `inbox.pruned` | debug | old events were forgotten |
//!
//! [`Inbox::counts`] has the numbers.

mod actor;
mod builder;
mod core;
mod counts;
mod envelope;
mod error;
mod event;
mod filter;
mod handle;
mod handlers;
mod headers;
mod messages;
mod raw_json;
mod run;
mod scan;
mod source;
mod store;
mod upcast;
mod verify;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
pub(crate) mod tests;

pub use actor::InboxActor;
pub use builder::{InboxBuilder, RegisteredInbox};
pub use counts::{InboxCounts, SourceCounts, Unbelieved};
pub use envelope::{Envelope, Place};
pub use error::InboxError;
pub use event::{Accepted, EventInfo, EventState, InboxId, Receipt, StoredEvent};
pub use filter::{EventFilter, Replay, Replayed};
pub use handle::Inbox;
pub use handlers::EventCx;
pub use headers::Headers;
pub use raw_json::{DecodeError, JsonLimits, RawJson, RawJsonError};
pub use source::Source;
pub use verify::{
    Basic, CertificateUrl, Certificates, Confirmation, Delivery, FetchFailed, GitHub, Mailgun,
    Refusal, SendGrid, Sns, StandardWebhooks, Stripe, Unverified, Verified, Verifier, Window,
};
