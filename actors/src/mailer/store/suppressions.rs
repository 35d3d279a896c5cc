//! Who gets no mail any more. Only hashes of addresses are kept.

use crate::jobs::tx::{JobTx, Rows, Value};
use crate::mailer::{EmailAddress, Mail};
use crate::store::{StoreError, Timestamp};

/// Whether any recipient of a mail gets none, from this tenant or from anybody.
pub(in crate::mailer) async fn is_suppressed(
    tx: &impl Rows,
    tenant: &str,
    mail: &Mail,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "select 1 from {mail_suppression} where tenant in (?1, '') and address_hash = ?2
        and (expires_at is null or expires_at > ?3) limit 1";
    for address in mail.recipients() {
        let params = [tenant.into(), Value::from(&address.hash()), now.0.into()];
        if tx.row(sql, &params).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts a recipient on the list; one that is there stays for at least as long.
pub(in crate::mailer) async fn suppress(
    tx: &impl JobTx,
    tenant: &str,
    hash: &[u8],
    [reason, source]: [&str; 2],
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "insert into {mail_suppression} (tenant, address_hash, reason, source, created_at,
        expires_at) values (?1, ?2, ?3, ?4, ?5, ?6)
        on conflict (tenant, address_hash) do update set reason = excluded.reason,
        source = excluded.source, expires_at = case
            when {mail_suppression}.expires_at is null or excluded.expires_at is null then null
            when {mail_suppression}.expires_at > excluded.expires_at
                then {mail_suppression}.expires_at
            else excluded.expires_at end";
    let until = until.map(|at| at.0);
    let params =
        [tenant.into(), hash.into(), reason.into(), source.into(), now.0.into(), until.into()];
    tx.rows(sql, &params).await.map(drop)
}

/// Takes a recipient off the list. `false`: it was not on it.
pub(in crate::mailer) async fn unsuppress(
    tx: &impl JobTx,
    tenant: &str,
    address: &EmailAddress,
) -> Result<bool, StoreError> {
    let sql = "delete from {mail_suppression} where tenant = ?1 and address_hash = ?2 returning 1";
    Ok(tx.row(sql, &[tenant.into(), Value::from(&address.hash())]).await?.is_some())
}

/// Forgets entries that hold no more; at most `limit`. How many.
pub(in crate::mailer) async fn prune(
    tx: &impl JobTx,
    now: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = "delete from {mail_suppression} where (tenant, address_hash) in (
        select tenant, address_hash from {mail_suppression} where expires_at <= ?1
        order by expires_at limit ?2) and expires_at <= ?1 returning 1";
    Ok(tx.rows(sql, &[now.0.into(), i64::from(limit).into()]).await?.len() as u64)
}
