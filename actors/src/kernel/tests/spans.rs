//! A message's span is linked to its sender's, across the mailbox.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Once};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Instrument, Metadata};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::support::{Add, CurrentSpan, Journal, paused, start, worker};
use crate::kernel::{RequestContext, RequestId};

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<u64, Span>>>);

#[derive(Debug, Clone, Default)]
struct Span {
    name: &'static str,
    fields: BTreeMap<&'static str, String>,
    follows: Vec<u64>,
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

thread_local! {
    static SEEN: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Records the spans of threads that ask for it, and only of those.
///
/// It is the whole process's subscriber: with one per test, what other tests do at the
/// same time decides whether a span is wanted.
struct ThisThread;

impl ThisThread {
    fn seen(&self, work: impl FnOnce(&mut BTreeMap<u64, Span>)) {
        SEEN.with_borrow(|seen| {
            if let Some(seen) = seen {
                work(&mut seen.0.lock());
            }
        });
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ThisThread {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>, _: Context<'_, S>) -> bool {
        SEEN.with_borrow(Option::is_some)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut span = Span { name: attributes.metadata().name(), ..Span::default() };
        attributes.record(&mut span);
        self.seen(|seen| drop(seen.insert(id.into_u64(), span)));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        self.seen(|seen| {
            if let Some(span) = seen.get_mut(&id.into_u64()) {
                span.follows.push(follows.into_u64());
            }
        });
    }
}

/// Runs `work` and returns the spans it made, with what it returned.
fn spans_of<T>(work: impl FnOnce() -> T) -> (BTreeMap<u64, Span>, T) {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(ThisThread);
        tracing::subscriber::set_global_default(subscriber).expect("the only one");
    });
    let seen = Seen::default();
    SEEN.set(Some(seen.clone()));
    let done = work();
    SEEN.set(None);
    let spans = seen.0.lock().clone();
    (spans, done)
}

#[test]
fn a_message_span_names_its_request_and_follows_from_its_sender() {
    let (seen, answer) = spans_of(|| {
        paused(|| async {
            let (_tree, worker) = start(worker("w", &Journal::default()));
            let request = RequestContext::new(RequestId::parse("r-9").expect("valid"));
            let asked = async { worker.call(Add(1)).await };
            let span = tracing::info_span!("sender");
            request.scope(asked).instrument(span).await
        })
    });
    assert_eq!(answer, Ok(1));
    let sender = seen.iter().find(|(_, span)| span.name == "sender").expect("the sender's span");
    let message = seen.values().find(|span| span.name == "message").expect("the message's span");
    assert_eq!(message.fields.get("request_id").map(String::as_str), Some("r-9"));
    assert_eq!(message.fields.get("actor").map(String::as_str), Some("w"));
    assert!(message.fields["message"].ends_with("Add"), "{message:?}");
    assert_eq!(message.follows, [*sender.0], "linked, and not nested");
}

#[test]
fn a_reply_task_runs_in_its_messages_span() {
    let (seen, inside) = spans_of(|| {
        paused(|| async {
            let (_tree, worker) = start(worker("w", &Journal::default()));
            worker.call(CurrentSpan).await
        })
    });
    let inside = inside.expect("answered").expect("the task is inside a span");
    assert!(seen[&inside].fields["message"].ends_with("CurrentSpan"), "{seen:?}");
}
