//! The library's own tables.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use super::super::migrate::{TURN, lock_key, migrate};
use super::super::testing::TestSchema;
use super::super::{PgOptions, PgStore};
use crate::store::migrations::{ALL, Migration};
use crate::store::{StoreError, migrations};

async fn try_migrate(
    store: &PgStore,
    known: &[Migration],
    turn: Duration,
) -> Result<(), StoreError> {
    let mut client = store.client().await.unwrap();
    migrate(&mut client, &store.schema().into(), known, turn).await
}

fn and(postgres: &'static str) -> Vec<Migration> {
    let version = ALL.last().unwrap().version + 1;
    let next = Migration { version, name: "next", sqlite: "", postgres };
    ALL.iter().copied().chain([next]).collect()
}

#[tokio::test]
async fn processes_that_start_together_take_turns() {
    let Some(schema) = TestSchema::find().await else { return };
    let starting = (0..8).map(|_| PgStore::connect(schema.options()));
    let stores: Vec<_> = futures_util::future::try_join_all(starting).await.unwrap();
    let applied = stores.first().unwrap().applied_migrations().await.unwrap();
    let found: Vec<_> = applied.iter().map(|one| (one.version, &*one.name)).collect();
    let known: Vec<_> = ALL.iter().map(|one| (one.version, one.name)).collect();
    assert_eq!(found, known);
    let last = ALL.last().unwrap();
    assert_eq!(*applied.last().unwrap().checksum, migrations::checksum(last.postgres));
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = schema.store().await;
    let newer =
        store.sql("insert into {schema}.schema_version values ('steadfast', 99, '', '', 0)");
    schema.observer().await.batch_execute(&newer).await.unwrap();
    let refused = PgStore::connect(schema.options()).await;
    assert!(matches!(refused, Err(StoreError::NewerSchema { found: 99, .. })), "{refused:?}");
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = schema.store().await;
    let edit = store.sql("update {schema}.schema_version set checksum = '' where version = 1");
    schema.observer().await.batch_execute(&edit).await.unwrap();
    let refused = PgStore::connect(schema.options()).await;
    assert!(matches!(refused, Err(StoreError::MigrationChanged { version: 1 })), "{refused:?}");
}

#[tokio::test]
async fn a_migration_is_applied_wholly_or_not_at_all() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = schema.store().await;
    let broken = and("create table {schema}.half (); select 1 / 0");
    let failed = try_migrate(&store, &broken, TURN).await;
    assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
    assert_eq!(store.applied_migrations().await.unwrap().len(), ALL.len());
    let whole = and("create table {schema}.half ()");
    try_migrate(&store, &whole, TURN).await.unwrap();
    assert_eq!(store.applied_migrations().await.unwrap().len(), whole.len());
}

#[tokio::test]
async fn who_waits_too_long_for_its_turn_is_told_so() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, other) = (schema.store().await, schema.observer().await);
    other.execute("select pg_advisory_lock($1)", &[&lock_key(schema.name())]).await.unwrap();
    let turn = Duration::from_millis(50);
    let waited = try_migrate(&store, &and("create table {schema}.next ()"), turn).await;
    assert!(matches!(waited, Err(StoreError::Timeout)), "{waited:?}");
    try_migrate(&store, ALL, turn).await.expect("needs no turn where nothing is missing");
}

#[tokio::test]
async fn a_reserved_word_is_no_schema() {
    let Some(schema) = TestSchema::find().await else { return };
    let refused = PgStore::connect(schema.options().schema("order")).await;
    let setting = match refused {
        Err(StoreError::InvalidSetting { setting, .. }) => setting,
        other => panic!("{other:?}"),
    };
    assert_eq!(setting, "schema");
}

#[test]
fn a_script_is_only_printed_for_a_schema() {
    assert!(PgStore::print_migrations("x; drop table users").is_err());
}

#[tokio::test]
async fn a_role_that_may_not_is_told_so_and_the_script_helps_it() {
    let Some(schema) = TestSchema::find().await else { return };
    let (role, observer) = (Role::make(&schema).await, schema.observer().await);
    let refused = PgStore::connect(role.options(&schema)).await;
    let script = PgStore::print_migrations(schema.name()).unwrap();
    observer.batch_execute(&script).await.unwrap();
    role.grant(&schema).await;
    let helped = PgStore::connect(role.options(&schema)).await;
    role.unmake(&schema).await;
    match refused {
        Err(error @ StoreError::ReadOnly(_)) => {
            let why = error.source().unwrap().to_string();
            assert!(why.contains("may not make the tables"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(helped.unwrap().schema(), schema.name());
}

/// A role with the name of the schema and no rights.
struct Role(Arc<str>);

impl Role {
    async fn make(schema: &TestSchema) -> Self {
        let role = Self(schema.name().into());
        role.execute(schema, &format!("create role {} login", role.0)).await;
        role
    }

    async fn grant(&self, schema: &TestSchema) {
        let (name, role) = (schema.name(), &self.0);
        let grant = format!(
            "grant usage on schema {name} to {role};
             grant select, insert, update, delete on all tables in schema {name} to {role}"
        );
        self.execute(schema, &grant).await;
    }

    async fn unmake(&self, schema: &TestSchema) {
        let role = &self.0;
        self.execute(schema, &format!("drop owned by {role}; drop role {role}")).await;
    }

    fn options(&self, schema: &TestSchema) -> PgOptions {
        let address = format!("{}&user={}", schema.address(), self.0);
        PgOptions::parse(&address).unwrap().schema(schema.name())
    }

    async fn execute(&self, schema: &TestSchema, sql: &str) {
        schema.observer().await.batch_execute(sql).await.unwrap();
    }
}
