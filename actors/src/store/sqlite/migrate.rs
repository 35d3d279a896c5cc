//! Brings a database to the tables that this process knows.

use std::fmt::Write as _;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::store::migrations::{self, AppliedMigration, COMPONENT, Migration};
use crate::store::{StoreError, Timestamp, WallClock};

const VERSIONS: &str = "\
create table if not exists sf_schema_version (
  component  text    not null,
  version    integer not null,
  name       text    not null,
  checksum   text    not null,
  applied_at integer not null,
  primary key (component, version)
) strict, without rowid";

const RECORD: &str = "\
insert into sf_schema_version (component, version, name, checksum, applied_at)
values (?1, ?2, ?3, ?4, ?5)";

/// Applies what is missing. Processes that start together take turns; one that has nothing to
/// apply writes nothing and waits for nobody.
pub(super) fn migrate(connection: &mut Connection, known: &[Migration]) -> Result<(), StoreError> {
    if missing(connection, known)?.is_empty() {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(VERSIONS)?;
    // Once more, now that nobody else can: another process may have been faster.
    for migration in missing(&tx, known)? {
        tx.execute_batch(migration.sqlite)?;
        let checksum = migrations::checksum(migration.sqlite);
        let now = WallClock::system().now().0;
        let Migration { version, name, .. } = migration;
        tx.execute(RECORD, params![COMPONENT, version, name, checksum, now])?;
    }
    Ok(tx.commit()?)
}

/// What a database has; nothing if it was never migrated.
pub(super) fn applied(connection: &Connection) -> Result<Vec<AppliedMigration>, StoreError> {
    let table = "select 1 from sqlite_schema where type = 'table' and name = 'sf_schema_version'";
    if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let sql = "select version, name, checksum, applied_at from sf_schema_version
               where component = ?1 order by version";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([COMPONENT], |row| {
        Ok(AppliedMigration {
            version: row.get(0)?,
            name: row.get(1)?,
            checksum: row.get(2)?,
            applied_at: Timestamp(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// All statements, with those that record them, as one script that may be run once.
pub(super) fn script(known: &[Migration]) -> String {
    let mut script = format!("begin immediate;\n\n{VERSIONS};\n\n");
    for Migration { version, name, sqlite, .. } in known {
        let checksum = migrations::checksum(sqlite);
        script.push_str(sqlite);
        // Writing to a string cannot fail.
        let _infallible = write!(
            script,
            "\ninsert into sf_schema_version (component, version, name, checksum, applied_at)\n\
             values ('{COMPONENT}', {version}, '{name}', '{checksum}', unixepoch() * 1000);\n\n",
        );
    }
    script.push_str("commit;\n");
    script
}

fn missing<'a>(
    connection: &Connection,
    known: &'a [Migration],
) -> Result<Vec<&'a Migration>, StoreError> {
    migrations::pending(known, &applied(connection)?, |migration| migration.sqlite)
}
