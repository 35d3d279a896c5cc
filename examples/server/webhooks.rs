//! Webhooks: what two sources send is kept byte for byte, and handled once.

use std::sync::Arc;

use serde::Serialize;
use steadfast::inbox::{
    EventCx, EventInfo, EventState, Inbox, InboxBuilder, InboxError, InboxId, Source, StoredEvent,
};
use steadfast::jobs::JobResult;
use steadfast::store::Store;

use crate::options::Options;

const STANDARD: &str = "standard";
const GITHUB: &str = "github";

/// Declares the sources and what is done with their events.
///
/// # Errors
///
/// A secret is of the wrong form.
pub(crate) fn declare(store: &Store, options: &Options) -> Result<InboxBuilder, InboxError> {
    let standard = Source::standard_webhooks(STANDARD, [&options.webhook_standard_secret])?;
    let github = Source::github(GITHUB, [&options.webhook_github_secret])?;
    let inbox = Inbox::builder(store).source(standard).source(github);
    Ok(inbox.on(STANDARD, "*", handled).on(GITHUB, "*", handled))
}

/// A shop would do something here.
async fn handled(event: StoredEvent, _: EventCx) -> JobResult {
    let EventInfo { id, source, .. } = &event.info;
    tracing::info!(event = %id, source = &**source, "webhook.handled");
    Ok(())
}

/// What a sender is told.
#[derive(Debug, Serialize)]
pub(crate) struct Received {
    pub(crate) id: InboxId,
    pub(crate) event_id: Arc<str>,
    pub(crate) duplicate: bool,
}

/// An event, as a client sees it.
#[derive(Debug, Serialize)]
pub(crate) struct EventView {
    id: InboxId,
    source: Arc<str>,
    event_id: Arc<str>,
    #[serde(rename = "type")]
    event_type: Option<Arc<str>>,
    version: Option<Arc<str>>,
    state: EventState,
}

impl From<EventInfo> for EventView {
    fn from(event: EventInfo) -> Self {
        let EventInfo { id, source, event_id, event_type, version, state, .. } = event;
        Self { id, source, event_id, event_type, version, state }
    }
}
