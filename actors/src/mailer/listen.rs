//! From a source of an inbox to the mailer.

use std::sync::Arc;

use super::Mailer;
use super::core::Core;
use super::events::{DeliveryEvent, EventReader, Recorded};
use super::store;
use crate::inbox::{InboxBuilder, Source, StoredEvent};
use crate::jobs::store::postgres::Session;
use crate::jobs::tx::{PostgresTx, SqliteJobTx, at_once};
use crate::jobs::{JobError, JobResult};
use crate::store::Store;

impl Mailer {
    /// Adds a source of delivery events to an inbox, and has the mailer take in what it tells: the
    /// delivery of mails rises, those whose fate was unknown are settled, and the suppression list
    /// is filled.
    ///
    /// That an event is taken in and that the inbox is done with it is one transaction. The inbox
    /// must be in the mailer's store.
    ///
    /// An event that cannot be read is dead at once, as [`EventError`](super::events::EventError)
    /// says; [replay](crate::inbox::Inbox::replay) it when the cause is mended. A handler of your
    /// own for one type of the source's events stands in for the mailer's.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_actors::inbox::{InboxBuilder, InboxError, Source};
    /// use steadfast_actors::mailer::Mailer;
    /// use steadfast_actors::mailer::events::EventReader;
    ///
    /// # fn example(mailer: &Mailer, inbox: InboxBuilder) -> Result<InboxBuilder, InboxError> {
    /// # let (secret, user, password) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "u", "p");
    /// let resend = Source::svix("resend-mail", [secret])?;
    /// let postmark = Source::postmark("postmark-mail", [(user, password)])?;
    /// let inbox = mailer.listen(inbox, resend, EventReader::resend());
    /// let inbox = mailer.listen(inbox, postmark, EventReader::postmark());
    /// # Ok(inbox)
    /// # }
    /// ```
    pub fn listen(&self, inbox: InboxBuilder, source: Source, reader: EventReader) -> InboxBuilder {
        let (name, types) = (source.name(), reader.types());
        let inbox = inbox.source(source);
        let core = Arc::clone(&self.core);
        match &self.core.store {
            Store::Sqlite(_) => inbox.on_sqlite(&name, types, move |event, tx| {
                let tx = SqliteJobTx::new(tx);
                for event in read(&reader, event)? {
                    note(&event, at_once(store::record(&tx, &event, core.now()))?);
                }
                Ok(())
            }),
            Store::Postgres(postgres) => {
                let schema: Arc<str> = postgres.schema().into();
                inbox.on_postgres(&name, types, move |event, tx| {
                    let (core, schema) = (Arc::clone(&core), Arc::clone(&schema));
                    let events = read(&reader, event);
                    Box::pin(async move {
                        let tx = PostgresTx::new(Session::foreign(tx), &schema);
                        record(&core, &tx, events?).await
                    })
                })
            }
        }
    }
}

async fn record(core: &Core, tx: &PostgresTx<'_>, events: Vec<DeliveryEvent>) -> JobResult {
    for event in events {
        note(&event, store::record(tx, &event, core.now()).await?);
    }
    Ok(())
}

/// What cannot be read now cannot be read in an hour.
fn read(reader: &EventReader, event: &StoredEvent) -> Result<Vec<DeliveryEvent>, JobError> {
    let read = reader.read(&event.info.event_id, event.info.received_at, &event.body);
    read.map_err(JobError::discard)
}

fn note(event: &DeliveryEvent, recorded: Recorded) {
    let (provider, kind) = (&*event.provider, event.kind.as_str());
    match recorded {
        Recorded::Mail(mail) => tracing::debug!(provider, kind, %mail, "mailer.event_recorded"),
        Recorded::Duplicate => tracing::debug!(provider, kind, "mailer.event_known"),
        Recorded::UnknownMail => tracing::debug!(provider, kind, "mailer.event_of_unknown_mail"),
    }
}
