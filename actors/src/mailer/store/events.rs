//! What providers tell later.

use super::{Change, deliver, id_of, rows, settle, suppress};
use crate::jobs::tx::{JobTx, Value};
use crate::mailer::MailId;
use crate::mailer::events::{DeliveryEvent, Recorded};
use crate::mailer::state::{Delivery, MailState};
use crate::store::{StoreError, Timestamp};

/// Takes an event in, once.
pub(in crate::mailer) async fn record(
    tx: &impl JobTx,
    event: &DeliveryEvent,
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    let mail = find(tx, event).await?;
    let insert = "insert into {mail_event} (provider, event_id, mail_id, kind, recipient_hash,
        happened_at, recorded_at) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        on conflict (provider, event_id) do nothing returning 1";
    let hash = event.recipient.as_ref().map(|address| address.hash());
    let params = [
        (&*event.provider).into(),
        (&*event.event_id).into(),
        mail.as_ref().map_or(Value::Null, |(id, _)| id_of(*id)),
        event.kind.as_str().into(),
        hash.as_ref().map(Value::from).unwrap_or_default(),
        event.happened_at.0.into(),
        now.0.into(),
    ];
    if tx.row(insert, &params).await?.is_none() {
        return Ok(Recorded::Duplicate);
    }
    // Of somebody else's mail nothing follows: an account may be shared.
    let Some((id, tenant)) = mail else { return Ok(Recorded::UnknownMail) };
    if let (Some(reason), Some(hash)) = (event.kind.suppresses(), &hash) {
        suppress(tx, &tenant, hash, [reason, &event.provider], None, now).await?;
    }
    if let Some(delivery) = event.kind.delivery() {
        accept(tx, id, event, now).await?;
        deliver(tx, id, delivery, now).await?;
    }
    Ok(Recorded::Mail(id))
}

/// Whatever a provider tells of a mail's way, it has taken the mail.
async fn accept(
    tx: &impl JobTx,
    id: MailId,
    event: &DeliveryEvent,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut change = Change::to(id, MailState::Accepted);
    change.provider_id.clone_from(&event.provider_id);
    if settle(tx, &change, now).await? {
        deliver(tx, id, Delivery::Sent, now).await?;
    }
    Ok(())
}

/// The mail of an event and its tenant: by our own number, or by the provider's.
async fn find(
    tx: &impl JobTx,
    event: &DeliveryEvent,
) -> Result<Option<(MailId, String)>, StoreError> {
    let by_id = "select id, tenant from {mail} where id = ?1";
    let by_provider = "select id, tenant from {mail} where provider = ?1 and provider_id = ?2";
    let row = match (event.mail, &event.provider_id) {
        (Some(id), _) => tx.row(by_id, &[id_of(id)]).await?,
        (None, Some(id)) => {
            tx.row(by_provider, &[(&*event.provider).into(), (&**id).into()]).await?
        }
        (None, None) => None,
    };
    row.map(|mut row| Ok((rows::mail_id(row.blob(0)?)?, row.text(1)?))).transpose()
}
