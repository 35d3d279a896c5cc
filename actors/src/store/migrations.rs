//! The library's own tables: numbered, checksummed, never edited once released.
//!
//! Only tables of the library are named here: those in its own schema on PostgreSQL, those
//! that begin with `sf_` on SQLite. A user's tables are never touched.

use std::sync::Arc;

use super::clock::Timestamp;
use super::error::StoreError;

/// One step from one version of the tables to the next.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its number; they begin with 1 and have no gap.
    pub version: u32,
    /// What it brings, in a word.
    pub name: &'static str,
    /// Its statements for SQLite.
    pub sqlite: &'static str,
    /// Its statements for PostgreSQL, with `{schema}` for the schema.
    pub postgres: &'static str,
}

/// Whose tables these are; other parts of the library may have some of their own one day.
pub(crate) const COMPONENT: &str = "steadfast";

/// All of them, in order.
pub(crate) const ALL: &[Migration] = &[
    Migration {
        version: 1,
        name: "spine",
        sqlite: include_str!("../../migrations/sqlite/0001_spine.sql"),
        postgres: include_str!("../../migrations/postgres/0001_spine.sql"),
    },
    Migration {
        version: 2,
        name: "mail",
        sqlite: include_str!("../../migrations/sqlite/0002_mail.sql"),
        postgres: include_str!("../../migrations/postgres/0002_mail.sql"),
    },
    Migration {
        version: 3,
        name: "inbox",
        sqlite: include_str!("../../migrations/sqlite/0003_inbox.sql"),
        postgres: include_str!("../../migrations/postgres/0003_inbox.sql"),
    },
    Migration {
        version: 4,
        name: "mail_event_provider_id",
        sqlite: include_str!("../../migrations/sqlite/0004_mail_event_provider_id.sql"),
        postgres: include_str!("../../migrations/postgres/0004_mail_event_provider_id.sql"),
    },
    Migration {
        version: 5,
        name: "mail_retention",
        sqlite: include_str!("../../migrations/sqlite/0005_mail_retention.sql"),
        postgres: include_str!("../../migrations/postgres/0005_mail_retention.sql"),
    },
    Migration {
        version: 6,
        name: "counters",
        sqlite: include_str!("../../migrations/sqlite/0006_counters.sql"),
        postgres: include_str!("../../migrations/postgres/0006_counters.sql"),
    },
];

/// A migration that a database has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct AppliedMigration {
    /// Its number.
    pub version: u32,
    /// What it brought, in a word.
    pub name: Arc<str>,
    /// The checksum of its statements.
    pub checksum: Arc<str>,
    /// When it was applied.
    pub applied_at: Timestamp,
}

/// Which of `known` are still to be applied, given those `applied`.
///
/// # Errors
///
/// [`StoreError::NewerSchema`] when the database is ahead, [`StoreError::MigrationChanged`] when
/// it was migrated with other statements.
pub(crate) fn pending<'a>(
    known: &'a [Migration],
    applied: &[AppliedMigration],
    sql: fn(&Migration) -> &'static str,
) -> Result<Vec<&'a Migration>, StoreError> {
    let newest = known.last().map_or(0, |migration| migration.version);
    let found = applied.iter().map(|one| one.version).max().unwrap_or(0);
    if found > newest {
        return Err(StoreError::NewerSchema { found, known: newest });
    }
    let mut pending = Vec::new();
    for migration in known {
        match applied.iter().find(|one| one.version == migration.version) {
            Some(one) if *one.checksum == checksum(sql(migration)) => {}
            Some(_) => return Err(StoreError::MigrationChanged { version: migration.version }),
            None => pending.push(migration),
        }
    }
    Ok(pending)
}

/// FNV-1a of 64 bits, as 16 hexadecimal digits: tells an edit, not an attack.
pub(crate) fn checksum(sql: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", sql.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn migration(version: u32, sqlite: &'static str) -> Migration {
        Migration { version, name: "test", sqlite, postgres: "" }
    }

    fn applied(version: u32, sql: &str) -> AppliedMigration {
        let (checksum, applied_at) = (checksum(sql).into(), Timestamp::default());
        AppliedMigration { version, name: "test".into(), checksum, applied_at }
    }

    #[track_caller]
    fn check(had: &[AppliedMigration], expected: Result<&[u32], &str>) {
        let known = [migration(1, "one"), migration(2, "two")];
        let found = pending(&known, had, |migration| migration.sqlite);
        let found = found.map(|all| all.iter().map(|one| one.version).collect::<Vec<_>>());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn only_what_is_missing_is_applied() {
        check(&[], Ok(&[1, 2]));
        check(&[applied(1, "one")], Ok(&[2]));
        check(&[applied(1, "one"), applied(2, "two")], Ok(&[]));
    }

    #[test]
    fn a_newer_database_is_refused() {
        let newer = "the database has version 3 of the tables; this process knows 2";
        check(&[applied(1, "one"), applied(2, "two"), applied(3, "three")], Err(newer));
    }

    #[test]
    fn an_edited_migration_is_refused() {
        let edited = "migration 1 was applied in another form than this process has";
        check(&[applied(1, "uno")], Err(edited));
    }

    #[test]
    fn the_list_has_no_gap() {
        assert!(ALL.iter().map(|one| one.version).eq(1..=u32::try_from(ALL.len()).unwrap()));
    }
}
