//! A message's span is linked to its sender's, across the mailbox.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::Instrument;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
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

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut span = Span { name: attributes.metadata().name(), ..Span::default() };
        attributes.record(&mut span);
        self.0.lock().insert(id.into_u64(), span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(span) = self.0.lock().get_mut(&id.into_u64()) {
            values.record(span);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        if let Some(span) = self.0.lock().get_mut(&id.into_u64()) {
            span.follows.push(follows.into_u64());
        }
    }
}

#[test]
fn a_message_span_names_its_request_and_follows_from_its_sender() {
    let seen = Seen::default();
    let subscriber = tracing_subscriber::registry().with(seen.clone());
    tracing::subscriber::with_default(subscriber, || {
        paused(|| async {
            let (_tree, worker) = start(worker("w", &Journal::default()));
            let request = RequestContext::new(RequestId::parse("r-9").expect("valid"));
            let asked = async { worker.call(Add(1)).await };
            let span = tracing::info_span!("sender");
            assert_eq!(request.scope(asked).instrument(span).await, Ok(1));
        });
    });
    let seen = seen.0.lock().clone();
    let sender = seen.iter().find(|(_, span)| span.name == "sender").expect("the sender's span");
    let message = seen.values().find(|span| span.name == "message").expect("the message's span");
    assert_eq!(message.fields.get("request_id").map(String::as_str), Some("r-9"));
    assert_eq!(message.fields.get("actor").map(String::as_str), Some("w"));
    assert!(message.fields["message"].ends_with("Add"), "{message:?}");
    assert_eq!(message.follows, [*sender.0], "linked, and not nested");
}

#[test]
fn a_reply_task_runs_in_its_messages_span() {
    let seen = Seen::default();
    let subscriber = tracing_subscriber::registry().with(seen.clone());
    let inside = tracing::subscriber::with_default(subscriber, || {
        paused(|| async {
            let (_tree, worker) = start(worker("w", &Journal::default()));
            worker.call(CurrentSpan).await
        })
    });
    let inside = inside.expect("answered").expect("the task is inside a span");
    let seen = seen.0.lock();
    assert!(seen[&inside].fields["message"].ends_with("CurrentSpan"), "{seen:?}");
}
