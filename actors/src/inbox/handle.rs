//! The handle that everybody holds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::actor::InboxActor;
use super::core::{Core, Known, Shared};
use super::counts::InboxCounts;
use super::envelope::{Found, kept_id};
use super::error::InboxError;
use super::event::{Accepted, EventInfo, EventState, InboxId, NewEvent, Receipt, Row};
use super::filter::{EventFilter, PAGE_MAX, Replay, Replayed};
use super::headers::Headers;
use super::messages::StoreEvents;
use super::raw_json::{JsonLimits, RawJson, sha256};
use super::store::{Again, Inserted};
use super::verify::{Delivery, Verified};
use crate::kernel::Ref;

/// LIMIT: bytes of a header that is kept; a longer one is left out.
const HEADER_MAX: usize = 1_024;
/// How long one step of a replay is.
const REPLAY_STEP: Duration = Duration::from_millis(100);

/// The webhook inbox. Cheap to clone; clones are the same inbox.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
    actor: Ref<InboxActor>,
}

impl Inbox {
    pub(super) const fn new(shared: Arc<Shared>, actor: Ref<InboxActor>) -> Self {
        Self { shared, actor }
    }

    /// The largest body that a source may send, in bytes: so much is to be read, and not a byte
    /// more. `None`: there is no such source.
    #[must_use]
    pub fn body_max(&self, source: &str) -> Option<usize> {
        Some(self.core().sources.get(source)?.source.limits.bytes)
    }

    /// Counts a delivery whose body was cut off because it is too large, and says so.
    #[must_use]
    pub fn refuse_too_large(&self, source: &str) -> InboxError {
        let Some(known) = self.core().sources.get(source) else {
            self.core().unknown_source.add();
            return InboxError::UnknownSource;
        };
        known.tally.too_large.add();
        InboxError::TooLarge { limit: known.source.limits.bytes }
    }

    /// Verifies a delivery, stores its events as they came, and schedules their handling. When
    /// this returns, they are on disk: answer `202`.
    ///
    /// An event that is here already is counted and nothing more. One that is verified and cannot
    /// be read is kept and not handled: to refuse it would have its sender try again for days.
    ///
    /// # Errors
    ///
    /// | error | answer | the sender |
    /// |---|---|---|
    /// | [`InboxError::UnknownSource`] | 404 | is configured wrongly, or this service is |
    /// | [`InboxError::Unverified`] | 401 | is none, or a key is missing here |
    /// | [`InboxError::TooLarge`] | 413 | sends more than the source's limit |
    /// | any other | 503, `Retry-After` | tries again |
    ///
    /// # Cancel safety
    ///
    /// Dropped, the events may be stored or not. To receive them again is safe.
    pub async fn receive(
        &self,
        source: &str,
        headers: &Headers,
        body: Bytes,
    ) -> Result<Receipt, InboxError> {
        let known = match self.core().sources.get(source) {
            Some(known) if body.len() <= known.source.limits.bytes => known,
            Some(_) | None => return Err(self.refuse_too_large(source)),
        };
        let verified = self.verify(known, headers, &body).await?;
        let found = known.source.envelope.read(headers, &body, &known.source.limits);
        let kept = keep(known, headers);
        let events = found.into_iter().map(|one| self.new_event(known, &verified, &kept, one));
        let events: Vec<NewEvent> = events.collect();
        let inserted = self.store(known, events.clone()).await?;
        let all = events.iter().zip(inserted);
        let events = all.map(|(event, inserted)| accepted(known, event, inserted)).collect();
        Ok(Receipt { events, confirmation: verified.confirmation })
    }

    async fn verify(
        &self,
        known: &Known,
        headers: &Headers,
        body: &Bytes,
    ) -> Result<Verified, InboxError> {
        let Known { source, tally } = known;
        let now = self.core().clock().now();
        let delivery =
            Delivery { headers, body, limits: &source.limits, window: source.window, now };
        let prepared = source.verifier.prepare(delivery).await;
        prepared.inspect_err(|_| tally.unavailable.add())?;
        source.verifier.verify(&delivery).map_err(|refusal| {
            tally.refused(refusal);
            tracing::debug!(source = &*source.name, reason = refusal.as_str(), "inbox.unverified");
            InboxError::Unverified
        })
    }

    fn new_event(
        &self,
        known: &Known,
        verified: &Verified,
        headers: &Arc<str>,
        found: Found,
    ) -> NewEvent {
        let source = &known.source;
        let Found { event_id, bytes, meta } = found;
        let (meta, reason) = match meta {
            Ok(meta) => (Some(meta), None),
            Err(reason) => (None, Some(reason)),
        };
        let handled =
            |event_type: &str| self.core().handlers.find(&source.name, event_type).is_some();
        let state = match &meta {
            None => EventState::Unparsable,
            Some(meta) if handled(&meta.event_type) => EventState::Received,
            Some(_) => EventState::Ignored,
        };
        let subject = meta.as_ref().and_then(|meta| meta.subject.clone());
        NewEvent {
            source: Arc::clone(&source.name),
            event_id,
            version: meta.as_ref().and_then(|meta| meta.version.clone()),
            line: subject.clone().filter(|_| source.is_serial),
            subject,
            occurred_at: meta.as_ref().and_then(|meta| meta.occurred_at),
            event_type: meta.map(|meta| meta.event_type),
            state,
            reason,
            key: verified.key,
            headers: Arc::clone(headers),
            sha256: sha256(&bytes),
            body: bytes,
        }
    }

    async fn store(
        &self,
        known: &Known,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Inserted>, InboxError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let stored = match self.actor.call(StoreEvents { events }).await {
            Ok(stored) => stored,
            Err(error) => Err(error.into()),
        };
        stored.inspect_err(|error| {
            known.tally.unavailable.add();
            tracing::warn!(source = &*known.source.name, %error, "inbox.not_stored");
        })
    }

    /// An event as it is now; `None` if it is unknown or was forgotten.
    ///
    /// # Errors
    ///
    /// The store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn find(&self, id: InboxId) -> Result<Option<EventInfo>, InboxError> {
        Ok(self.core().load(id).await?.map(|(row, _)| row.info))
    }

    /// The number of the event that a source calls so; `None` if it is unknown or was forgotten.
    ///
    /// # Errors
    ///
    /// The store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn find_by_event_id(
        &self,
        source: &str,
        event_id: &str,
    ) -> Result<Option<InboxId>, InboxError> {
        Ok(self.core().find(source, kept_id(event_id.to_owned())).await?)
    }

    /// The body of an event, byte for byte as it came; `None` if it is unknown or was forgotten.
    ///
    /// # Errors
    ///
    /// The store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn raw(&self, id: InboxId) -> Result<Option<Bytes>, InboxError> {
        Ok(self.core().load(id).await?.map(|(_, body)| body))
    }

    /// Events in the order of their numbers, at most 1,000; go on after the last with
    /// [`EventFilter::after`].
    ///
    /// # Errors
    ///
    /// The store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn list(&self, filter: EventFilter) -> Result<Vec<EventInfo>, InboxError> {
        let rows = self.core().list(filter, PAGE_MAX).await?;
        Ok(rows.into_iter().map(|row| row.info).collect())
    }

    /// Events in each state. Counts rows: for operators, not for each request.
    ///
    /// # Errors
    ///
    /// The store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn states(&self) -> Result<BTreeMap<&'static str, u64>, InboxError> {
        let counts = self.core().counts().await?;
        Ok(counts.into_iter().map(|(state, count)| (state.as_str(), count)).collect())
    }

    /// Handles events again: each is received once more, with a new job and all its attempts, at
    /// the end of its line. At most so many in a second that a mended dependency is not brought
    /// down again.
    ///
    /// One that was unparsable is read anew, with the envelope and the limits that its source has
    /// now; if that fails again it stays as it is.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`] for events that wait already. The store failed: what was
    /// replayed before stays so, and asking again replays the rest.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the replay with the step under way.
    pub async fn replay(&self, replay: Replay) -> Result<Replayed, InboxError> {
        let Replay { mut filter, per_second, is_dry } = replay;
        if filter.state == EventState::Received {
            let (setting, expected) = ("filter", "events that do not wait already");
            return Err(InboxError::InvalidSetting { setting, expected });
        }
        let chunk = if is_dry { PAGE_MAX } else { (per_second / 10).clamp(1, PAGE_MAX) };
        let step = REPLAY_STEP.max(Duration::from_secs(1) / per_second.max(1));
        // What this replays may come to the same state again; it is not replayed twice.
        let mut all = Replayed::default();
        loop {
            let rows = self.core().list(filter.clone(), chunk).await?;
            let Some(last) = rows.last().map(|row| row.info.id) else { break };
            all.selected += rows.len() as u64;
            all.last = Some(last);
            filter.after = last;
            if !is_dry {
                all.replayed += self.again(rows).await?;
                sleep(step).await;
            }
        }
        let Replayed { selected, replayed, .. } = all;
        tracing::info!(state = filter.state.as_str(), selected, replayed, is_dry, "inbox.replayed");
        Ok(all)
    }

    async fn again(&self, rows: Vec<Row>) -> Result<u64, InboxError> {
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            let again = match row.info.state {
                EventState::Unparsable => self.read_again(row.info).await?,
                EventState::Received
                | EventState::Done
                | EventState::Dead
                | EventState::Ignored => Some(self.as_it_is(row.info)),
            };
            events.extend(again);
        }
        if events.is_empty() {
            return Ok(0);
        }
        self.core().again(self.shared.enqueuer.clone(), events).await
    }

    fn as_it_is(&self, info: EventInfo) -> Again {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let known = self.core().sources.get(&info.source);
        let is_serial = known.is_some_and(|known| known.source.is_serial);
        Again {
            id: info.id,
            state: info.state,
            replays: i64::try_from(info.replays).unwrap_or(i64::MAX),
            event_type: text(&info.event_type),
            version: text(&info.version),
            line: text(&info.subject).filter(|_| is_serial),
            subject: text(&info.subject),
            occurred_at: info.occurred_at,
            source: info.source,
        }
    }

    /// Reads an event that could not be read when it came.
    async fn read_again(&self, info: EventInfo) -> Result<Option<Again>, InboxError> {
        let Some(known) = self.core().sources.get(&info.source) else { return Ok(None) };
        let Some((_, body)) = self.core().load(info.id).await? else { return Ok(None) };
        let limits: &JsonLimits = &known.source.limits;
        if RawJson::parse(body.clone(), limits).is_err() {
            return Ok(None);
        }
        let kept = info.headers.iter().map(|(name, value)| (name, value.as_bytes()));
        let headers: Headers = kept.collect();
        let meta = known.source.envelope.read_one(&headers, body).meta;
        Ok(meta.ok().map(|meta| {
            let line = meta.subject.clone().filter(|_| known.source.is_serial);
            Again {
                event_type: Some(meta.event_type),
                version: meta.version,
                subject: meta.subject,
                occurred_at: meta.occurred_at,
                line,
                ..self.as_it_is(info)
            }
        }))
    }

    /// What has come to this process since it began. A read of shared memory.
    #[must_use]
    pub fn counts(&self) -> InboxCounts {
        let core = self.core();
        let of = |(name, known): (&Arc<str>, &Known)| (Arc::clone(name), known.tally.read());
        InboxCounts {
            unknown_source: core.unknown_source.read(),
            sources: core.sources.iter().map(of).collect(),
        }
    }

    /// The actor behind.
    #[must_use]
    pub const fn actor(&self) -> &Ref<InboxActor> {
        &self.actor
    }

    fn core(&self) -> &Core {
        &self.shared.core
    }
}

/// Counts what became of an event, and tells it.
fn accepted(known: &Known, event: &NewEvent, inserted: Inserted) -> Accepted {
    let Known { source, tally } = known;
    let Inserted { id, is_duplicate, is_conflict } = inserted;
    if is_duplicate {
        tally.duplicates.add();
    } else {
        tally.stored.add();
        match event.state {
            EventState::Ignored => tally.ignored.add(),
            EventState::Unparsable => tally.unparsable.add(),
            EventState::Received | EventState::Done | EventState::Dead => {}
        }
    }
    let (source, event_id) = (&*source.name, event.event_id.as_str().into());
    if is_conflict {
        tally.conflicts.add();
        tracing::warn!(source, event = id.0, "inbox.conflict");
    } else if let Some(reason) = event.reason {
        tracing::warn!(source, event = id.0, reason, "inbox.unparsable");
    } else {
        tracing::debug!(source, event = id.0, is_duplicate, "inbox.stored");
    }
    Accepted { id, event_id, duplicate: is_duplicate, conflict: is_conflict }
}

/// The headers that are kept, as JSON.
fn keep(known: &Known, headers: &Headers) -> Arc<str> {
    let kept = known.source.kept().filter_map(|name| {
        let value = headers.text(name).filter(|value| value.len() <= HEADER_MAX)?;
        // PostgreSQL takes no NUL in a text, and JSON would escape it.
        Some((name, value)).filter(|_| !value.contains(char::is_control))
    });
    let kept: BTreeMap<&str, &str> = kept.collect();
    serde_json::to_string(&kept).unwrap_or_default().into()
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("sources", &self.core().sources.keys())
            .finish_non_exhaustive()
    }
}
