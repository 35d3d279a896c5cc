//! Brings the library's own schema to the version this process knows.
//!
//! Each migration is one transaction that begins with a lock named after the schema, so that
//! processes which start together take turns. The lock is the transaction's and not the
//! session's: it works behind `PgBouncer`, and nobody can forget to release it.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::Row;

use super::config::{SCHEMA_EXPECTED, check_schema};
use super::error::commit;
use crate::store::migrations::{self, AppliedMigration, COMPONENT, Migration};
use crate::store::{StoreError, Timestamp};

/// How long a process waits for another that migrates, and a migration for locks.
pub(super) const TURN: Duration = Duration::from_secs(60);

/// Why the tables could not be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "the role may not make the tables of schema `{schema}`: run the printed migrations as one \
     that may, and grant this role its use"
)]
struct MayNotMigrate {
    schema: Arc<str>,
    source: StoreError,
}

/// Applies what is missing. Writes nothing, and needs no right to, if nothing is.
pub(super) async fn migrate(
    client: &mut ClientWrapper,
    schema: &Arc<str>,
    known: &[Migration],
    turn: Duration,
) -> Result<(), StoreError> {
    check_unreserved(client, schema).await?;
    while !pending(known, &applied(client, schema).await?)?.is_empty() {
        let made = step(client, schema, known, turn).await;
        made.map_err(|error| explained(error, schema))?;
    }
    Ok(())
}

/// What the database says it has; nothing if the schema is missing.
pub(super) async fn applied(
    client: &ClientWrapper,
    schema: &str,
) -> Result<Vec<AppliedMigration>, StoreError> {
    let table = format!("{schema}.schema_version");
    let found = client.query_one("select to_regclass($1) is not null", &[&table]).await?;
    if !found.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = client.query(&versions(schema), &[&COMPONENT]).await?;
    rows.iter().map(read).collect()
}

/// All migrations as a script for `psql`.
pub(super) fn script(schema: &str, known: &[Migration]) -> Result<String, StoreError> {
    check_schema(schema)?;
    let mut script = format!("begin;\n{}{}", create_schema(schema), create_versions(schema));
    for migration in known {
        let (version, name) = (migration.version, migration.name);
        let checksum = migrations::checksum(migration.postgres);
        script.push_str(&format!("\n-- {version}: {name}\n{}", body(migration, schema)));
        script.push_str(&format!(
            "\ninsert into {schema}.schema_version (component, version, name, checksum, \
             applied_at)\n  values ('{COMPONENT}', {version}, '{name}', '{checksum}', {NOW_MS});\n"
        ));
    }
    script.push_str("commit;\n");
    Ok(script)
}

const NOW_MS: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

/// Applies the first migration that is missing, if it still is once it is our turn.
async fn step(
    client: &mut ClientWrapper,
    schema: &str,
    known: &[Migration],
    turn: Duration,
) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    let millis = turn.as_millis();
    let patience = format!(
        "set local lock_timeout = {millis}; set local statement_timeout = {}",
        millis.saturating_mul(10)
    );
    transaction.batch_execute(&patience).await?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&lock_key(schema)]).await?;
    lay_foundation(&transaction, schema).await?;
    let rows = transaction.query(&versions(schema), &[&COMPONENT]).await?;
    let had: Vec<_> = rows.iter().map(read).collect::<Result<_, _>>()?;
    if let Some(next) = pending(known, &had)?.first() {
        apply(&transaction, schema, next).await?;
        tracing::info!(version = next.version, name = next.name, "store.migrated");
    }
    commit(transaction).await
}

async fn apply(
    transaction: &Transaction<'_>,
    schema: &str,
    migration: &Migration,
) -> Result<(), StoreError> {
    transaction.batch_execute(&body(migration, schema)).await?;
    let insert = format!(
        "insert into {schema}.schema_version (component, version, name, checksum, applied_at)
         values ($1, $2, $3, $4, {NOW_MS})"
    );
    let version = i64::from(migration.version);
    let checksum = migrations::checksum(migration.postgres);
    transaction.execute(&insert, &[&COMPONENT, &version, &migration.name, &checksum]).await?;
    Ok(())
}

/// A schema that somebody made for this role is not made again: even `if not exists` takes a
/// right to make schemas.
async fn lay_foundation(transaction: &Transaction<'_>, schema: &str) -> Result<(), StoreError> {
    let missing = "select to_regnamespace($1) is null";
    if transaction.query_one(missing, &[&schema]).await?.try_get(0)? {
        transaction.batch_execute(&create_schema(schema)).await?;
    }
    Ok(transaction.batch_execute(&create_versions(schema)).await?)
}

fn create_schema(schema: &str) -> String {
    format!("create schema if not exists {schema};\n")
}

fn create_versions(schema: &str) -> String {
    format!(
        "create table if not exists {schema}.schema_version (
  component  text   not null,
  version    bigint not null,
  name       text   not null,
  checksum   text   not null,
  applied_at bigint not null,
  primary key (component, version)
);
"
    )
}

fn body(migration: &Migration, schema: &str) -> String {
    migration.postgres.replace("{schema}", schema)
}

fn versions(schema: &str) -> String {
    format!(
        "select version, name, checksum, applied_at from {schema}.schema_version
         where component = $1 order by version"
    )
}

fn read(row: &Row) -> Result<AppliedMigration, StoreError> {
    let version = u32::try_from(row.try_get::<_, i64>(0)?);
    Ok(AppliedMigration {
        version: version.map_err(|error| StoreError::Corrupt(StoreError::source(error)))?,
        name: row.try_get::<_, String>(1)?.into(),
        checksum: row.try_get::<_, String>(2)?.into(),
        applied_at: Timestamp(row.try_get(3)?),
    })
}

fn pending<'a>(
    known: &'a [Migration],
    had: &[AppliedMigration],
) -> Result<Vec<&'a Migration>, StoreError> {
    migrations::pending(known, had, |migration| migration.postgres)
}

/// Only the server knows its reserved words.
async fn check_unreserved(client: &ClientWrapper, schema: &str) -> Result<(), StoreError> {
    let row = client.query_one("select quote_ident($1) = $1", &[&schema]).await?;
    if row.try_get(0)? {
        return Ok(());
    }
    Err(StoreError::InvalidSetting { setting: "schema", expected: SCHEMA_EXPECTED })
}

fn explained(error: StoreError, schema: &Arc<str>) -> StoreError {
    if !matches!(error, StoreError::ReadOnly(_)) {
        return error;
    }
    let schema = Arc::clone(schema);
    StoreError::ReadOnly(StoreError::source(MayNotMigrate { schema, source: error }))
}

/// FNV-1a of 64 bits over the name, so that all processes agree on it.
pub(super) fn lock_key(schema: &str) -> i64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = format!("{COMPONENT}:{schema}").bytes().fold(0xcbf2_9ce4_8422_2325, step);
    i64::from_ne_bytes(hash.to_ne_bytes())
}
