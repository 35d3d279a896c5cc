//! The enums on real databases: `claims` (what holds on each of them), `postgres` and `sqlite`
//! (what one of them alone has), `codecs`, `locks` (the lock file), `plans` (the statements).

mod claims;
mod codecs;
mod locks;
mod plans;
mod postgres;
mod sqlite;

use std::sync::Arc;

use super::drift::{ColumnReport, Sample, Severity, Verdict};
use super::*;
use crate::jobs::tests::Base;
use crate::kernel::Fault;
use crate::store::{Store, StoreError};

/// A database of its own, and how SQLite is made to refuse.
pub(super) struct Shop {
    base: Base,
    store: Store,
    strategy: SqliteStrategy,
}

impl Shop {
    async fn sqlite(strategy: SqliteStrategy) -> Self {
        let base = Base::sqlite();
        Self { store: base.open().await, base, strategy }
    }

    async fn postgres() -> Option<Self> {
        let base = Base::postgres().await?;
        Some(Self { store: base.open().await, base, strategy: SqliteStrategy::Constraint })
    }

    fn is_sqlite(&self) -> bool {
        matches!(self.base, Base::Sqlite(_))
    }

    /// A table's name as bindings and statements have it, if it needs no quotes.
    fn table(&self, name: &str) -> String {
        self.store.schema().map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"))
    }

    /// Runs statements, with the table for each `{name}`.
    async fn sql(&self, template: &str) -> Result<(), StoreError> {
        let prefix = self.store.schema().map(|schema| format!("{schema}.")).unwrap_or_default();
        let sql = template.replace('{', &prefix).replace('}', "");
        match &self.store {
            Store::Sqlite(store) => store.write(move |tx| Ok(tx.execute_batch(&sql)?)).await,
            Store::Postgres(store) => Ok(store.client().await?.batch_execute(&sql).await?),
        }
    }

    /// A number out of the database.
    async fn number(&self, template: &str) -> i64 {
        let prefix = self.store.schema().map(|schema| format!("{schema}.")).unwrap_or_default();
        let sql = template.replace('{', &prefix).replace('}', "");
        match &self.store {
            Store::Sqlite(store) => {
                let read = store.read(move |connection| {
                    Ok::<i64, StoreError>(connection.query_row(&sql, [], |row| row.get(0))?)
                });
                read.await.unwrap()
            }
            Store::Postgres(store) => {
                store.client().await.unwrap().query_one(&sql, &[]).await.unwrap().get(0)
            }
        }
    }

    /// The enums of a spec, in tables of this shop.
    fn enums(&self, spec: &'static EnumSpec) -> SchemaEnums {
        let place = |mut column: ColumnSpec| {
            column.table = self.table(&column.table);
            if let (Repr::Native(name), Some(schema)) = (&mut column.repr, self.store.schema()) {
                *name = format!("{schema}.{name}");
            }
            column
        };
        let columns: Arc<[_]> = spec.columns().map(place).collect();
        SchemaEnums::of_columns(columns).sqlite_strategy(self.strategy)
    }

    /// The table `orders (id, status text)` with the constraint of an enum as it was made once.
    async fn orders(&self, spec: &'static EnumSpec) -> SchemaEnums {
        let enums = self.bare_orders(spec).await;
        self.apply(&enums, Phase::Expand).await;
        enums
    }

    /// The table without a constraint.
    async fn bare_orders(&self, spec: &'static EnumSpec) -> SchemaEnums {
        self.sql("create table {orders} (id integer primary key, status text)").await.unwrap();
        self.enums(spec)
    }

    async fn insert(&self, id: i64, status: &str) -> Result<(), StoreError> {
        self.sql(&format!("insert into {{orders}} (id, status) values ({id}, {status})")).await
    }

    #[track_caller]
    fn report(&self, enums: &SchemaEnums) -> impl Future<Output = ColumnReport> {
        let (enums, store) = (enums.clone(), self.store.clone());
        async move { enums.check(&store).await.unwrap().columns[0].clone() }
    }

    async fn verdicts(&self, enums: &SchemaEnums) -> Vec<Verdict> {
        self.report(enums).await.verdicts
    }

    async fn is_clean(&self, enums: &SchemaEnums) -> bool {
        let report = self.report(enums).await;
        let plan = enums.plan(&self.store).await.unwrap();
        let clean = report.severity == Severity::Clean && plan.is_empty();
        if !clean {
            eprintln!("{report}\n{plan}");
        }
        clean
    }

    async fn apply(&self, enums: &SchemaEnums, phase: Phase) -> Vec<Step> {
        enums.apply(&self.store, phase).await.unwrap()
    }

    /// What is in the way of a phase.
    async fn refused(&self, enums: &SchemaEnums, phase: Phase) -> Vec<Obstacle> {
        match enums.apply(&self.store, phase).await {
            Err(SchemaEnumError::Refused(refusals)) => {
                refusals.into_iter().map(|refusal| refusal.obstacle).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Everything the catalogue says of constraints and triggers, to see that nothing was written.
    async fn catalogue(&self) -> i64 {
        match self.base {
            Base::Sqlite(_) => self.number("select sum(length(sql)) from sqlite_schema").await,
            Base::Postgres(_) => {
                let schema = self.store.schema().unwrap();
                self.number(&format!(
                    "select coalesce(sum(oid::bigint + convalidated::int), 0)::bigint \
                     from pg_constraint where connamespace = '{schema}'::regnamespace"
                ))
                .await
            }
        }
    }
}

/// A write that was refused for its value, on either database.
#[track_caller]
fn assert_rejected(written: Result<(), StoreError>) {
    let error = written.unwrap_err();
    assert_eq!(error.code().as_str(), "schema_enum.rejected", "{error:?}");
    assert!(error.wrote_nothing() && !error.is_transient());
}

fn samples(rows: &Rows) -> Vec<(Option<&str>, i64)> {
    match rows {
        Rows::Counted(samples) => {
            let pair = |sample: &'_ Sample| sample.rows;
            samples.iter().map(|one| (one.value.as_deref(), pair(one))).collect()
        }
        Rows::Vouched | Rows::NotCounted => panic!("{rows:?}"),
    }
}

/// Makes a test of each claim for each database and each way to refuse.
macro_rules! on_each_database {
    ($($claim:ident,)*) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $claim() {
                    let strategy = crate::schema_enum::SqliteStrategy::of_library();
                    super::$claim(crate::schema_enum::tests::Shop::sqlite(strategy).await).await;
                }
            )*
        }

        mod on_sqlite_by_triggers {
            $(
                #[tokio::test]
                async fn $claim() {
                    let strategy = crate::schema_enum::SqliteStrategy::Trigger;
                    super::$claim(crate::schema_enum::tests::Shop::sqlite(strategy).await).await;
                }
            )*
        }

        mod on_postgres {
            $(
                #[tokio::test]
                async fn $claim() {
                    if let Some(shop) = crate::schema_enum::tests::Shop::postgres().await {
                        super::$claim(shop).await;
                    }
                }
            )*
        }
    };
}
pub(super) use on_each_database;

/// The same enum at four points of its life.
mod lives {
    use crate::schema_enum::SchemaEnum;

    #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
    #[schema_enum(crate = "crate", table = "orders", column = "status", rename_all = "snake_case")]
    pub(super) enum Two {
        Pending,
        Paid,
    }

    #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
    #[schema_enum(crate = "crate", table = "orders", column = "status", rename_all = "snake_case")]
    pub(super) enum Three {
        Pending,
        Paid,
        OnHold,
    }

    #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
    #[schema_enum(crate = "crate", table = "orders", column = "status", rename_all = "snake_case")]
    pub(super) enum Renamed {
        Pending,
        #[schema_enum(alias = "paid")]
        Settled,
    }

    #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
    #[schema_enum(
        crate = "crate",
        table = "orders",
        column = "status",
        nullable,
        rename_all = "snake_case"
    )]
    pub(super) enum Nullable {
        Pending,
        Paid,
    }

    #[derive(SchemaEnum, Debug, Clone, PartialEq, Eq)]
    #[schema_enum(crate = "crate", table = "orders", column = "status", rename_all = "snake_case")]
    pub(super) enum Open {
        Pending,
        Paid,
        #[schema_enum(unknown)]
        Other(Box<str>),
    }

    #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
    #[schema_enum(crate = "crate", table = "orders", column = "level", repr = "int2")]
    pub(super) enum Level {
        Low = -1,
        Normal = 0,
        High = 10,
    }

    #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
    #[schema_enum(crate = "crate", table = "orders", column = "status")]
    pub(super) enum Odd {
        #[schema_enum(rename = "it's")]
        Quote,
        #[schema_enum(rename = "a\\b\"c\"")]
        Backslash,
        #[schema_enum(rename = "größe 日本 🦀")]
        Unicode,
        #[schema_enum(rename = "")]
        Empty,
        #[schema_enum(rename = "-- x\n; drop table orders")]
        Lines,
    }

    #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
    #[schema_enum(
        crate = "crate",
        table = "orders",
        column = "status",
        native = "order_status",
        rename_all = "snake_case"
    )]
    #[schema_enum(bind(table = "order_events", column = "to_status", nullable))]
    pub(super) enum Native {
        Pending,
        OnHold,
        Paid,
    }

    #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
    #[schema_enum(
        crate = "crate",
        table = "orders",
        column = "tags",
        array,
        rename_all = "snake_case"
    )]
    pub(super) enum Tag {
        Gift,
        #[schema_enum(alias = "fast")]
        Express,
    }
}
