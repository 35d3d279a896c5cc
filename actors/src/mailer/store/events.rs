//! What providers tell later, or before anybody here knows what they call the mail.

use std::sync::Arc;

use super::{Change, ProviderId, content, deliver, id_of, rows, settle, suppress};
use crate::jobs::store::postgres::defect;
use crate::jobs::tx::{JobTx, Value};
use crate::mailer::MailId;
use crate::mailer::events::{DeliveryEvent, DeliveryKind, Recorded};
use crate::mailer::state::{Delivery, MailState};
use crate::store::{StoreError, Timestamp};

/// LIMIT: events that are linked to a mail when its provider's name for it is known. They came
/// between the provider's acceptance and our note of it; there are a few for each recipient.
const LINKED_MAX: i64 = 1_000;

/// Takes an event in, once.
pub(in crate::mailer) async fn record(
    tx: &impl JobTx,
    event: &DeliveryEvent,
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    let provider = || Arc::clone(&event.provider);
    let called = event.provider_id.clone().map(|id| ProviderId { provider: provider(), id });
    if let Some(called) = &called {
        lock(tx, called).await?;
    }
    let mail = find(tx, event).await?;
    let insert = "insert into {mail_event} (provider, event_id, mail_id, kind, recipient_hash,
        happened_at, recorded_at, provider_id) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
        on conflict (provider, event_id) do nothing returning 1";
    let hash = event.recipient.as_ref().map(|address| address.hash());
    let params = [
        (&*event.provider).into(),
        (&*event.event_id).into(),
        mail.as_ref().map_or(Value::Null, |mail| id_of(mail.id)),
        event.kind.as_str().into(),
        hash.as_ref().map(Value::from).unwrap_or_default(),
        event.happened_at.0.into(),
        now.0.into(),
        event.provider_id.as_deref().into(),
    ];
    if tx.row(insert, &params).await?.is_none() {
        return Ok(Recorded::Duplicate);
    }
    // Of somebody else's mail nothing follows: an account may be shared.
    let Some(mail) = mail else { return Ok(Recorded::UnknownMail) };
    if event.kind.delivery().is_some() {
        accept(tx, mail.id, called, now).await?;
    }
    let hash = hash.map(|hash| hash.to_vec());
    follow(tx, &mail, &event.provider, event.kind, hash, now).await?;
    Ok(Recorded::Mail(mail.id))
}

/// Holds what a provider calls a mail. Else an event could look for the mail while the mail looks
/// for its events, and neither would find the other. To be held before any row is, so that nobody
/// waits for it who is waited for.
pub(super) async fn lock(tx: &impl JobTx, called: &ProviderId) -> Result<(), StoreError> {
    tx.lock(&format!("mail:{}:{}", called.provider, called.id)).await
}

/// Whatever a provider tells of a mail's way, it has taken the mail.
async fn accept(
    tx: &impl JobTx,
    id: MailId,
    called: Option<ProviderId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let change = Change { accepted_as: called, ..Change::to(id, MailState::Accepted) };
    if settle(tx, &change, now).await? {
        deliver(tx, id, Delivery::Sent, now).await?;
    }
    Ok(())
}

/// Gives a mail the events that came before it was known what its provider calls it.
pub(super) async fn link(
    tx: &impl JobTx,
    id: MailId,
    called: &ProviderId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "update {mail_event} set mail_id = ?1 where provider = ?2 and event_id in (
        select event_id from {mail_event} where provider = ?2 and provider_id = ?3
        and mail_id is null order by recorded_at limit ?4) returning kind, recipient_hash";
    let (provider, provider_id) = (&*called.provider, &*called.id);
    let params = [id_of(id), provider.into(), provider_id.into(), LINKED_MAX.into()];
    let linked = tx.rows(sql, &params).await?;
    if linked.is_empty() {
        return Ok(());
    }
    let mail = by(tx, "id = ?1", &[id_of(id)]).await?.ok_or_else(|| defect("a mail is gone"))?;
    for mut row in linked {
        let kind = DeliveryKind::parse(&row.text(0)?);
        let kind = kind.ok_or_else(|| defect("an event has a kind that is not known"))?;
        follow(tx, &mail, provider, kind, row.blob_or_none(1)?, now).await?;
    }
    Ok(())
}

/// What follows from an event for its mail and for its recipient.
async fn follow(
    tx: &impl JobTx,
    mail: &Owner,
    provider: &str,
    kind: DeliveryKind,
    recipient: Option<Vec<u8>>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Some(reason) = kind.suppresses() {
        let recipient = match recipient {
            Some(hash) => Some(hash),
            None => only_recipient(tx, mail.id).await?,
        };
        if let Some(hash) = recipient {
            suppress(tx, &mail.tenant, &hash, [reason, provider], None, now).await?;
        }
    }
    if let Some(delivery) = kind.delivery() {
        deliver(tx, mail.id, delivery, now).await?;
    }
    Ok(())
}

/// To whom an event is about that names nobody, if the mail has one recipient.
async fn only_recipient(tx: &impl JobTx, id: MailId) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mail) = content(tx, id).await? else { return Ok(None) };
    let mut recipients = mail.recipients();
    let first = recipients.next().map(|address| address.hash().to_vec());
    Ok(first.filter(|_| recipients.next().is_none()))
}

/// A mail and whose it is.
struct Owner {
    id: MailId,
    tenant: String,
}

/// The mail of an event: by our own number, or by the provider's.
async fn find(tx: &impl JobTx, event: &DeliveryEvent) -> Result<Option<Owner>, StoreError> {
    match (event.mail, &event.provider_id) {
        (Some(id), _) => by(tx, "id = ?1", &[id_of(id)]).await,
        (None, Some(id)) => {
            let params = [(&*event.provider).into(), (&**id).into()];
            by(tx, "provider = ?1 and provider_id = ?2", &params).await
        }
        (None, None) => Ok(None),
    }
}

async fn by(
    tx: &impl JobTx,
    condition: &'static str,
    params: &[Value],
) -> Result<Option<Owner>, StoreError> {
    let sql = format!("select id, tenant from {{mail}} where {condition}");
    let row = tx.row(&sql, params).await?;
    row.map(|mut row| Ok(Owner { id: rows::mail_id(row.blob(0)?)?, tenant: row.text(1)? }))
        .transpose()
}
