//! A value through each driver and back.

use serde_json::json;

use super::lives::{Level, Native, Odd, Open, Renamed, Tag, Three};
use super::*;

#[test]
fn text_and_json_are_the_labels() {
    assert_eq!(Three::VALUES, [Three::Pending, Three::Paid, Three::OnHold]);
    assert_eq!(Three::OnHold.to_string(), "on_hold");
    assert_eq!(format!("{:>8}|", Three::Paid), "    paid|");
    assert_eq!("on_hold".parse(), Ok(Three::OnHold));
    assert_eq!(json!([Three::Paid, Level::High]), json!(["paid", "High"]));
    assert_eq!(serde_json::from_str::<Three>("\"paid\"").unwrap(), Three::Paid);
    let unknown = serde_json::from_str::<Three>("\"lost\"").unwrap_err().to_string();
    assert!(unknown.contains("expected pending, paid, on_hold"), "{unknown}");
    serde_json::from_str::<Three>("1").unwrap_err();

    let error = "ON_HOLD".parse::<Three>().unwrap_err();
    assert_eq!(error.to_string(), "`Three` has no value \"ON_HOLD\"");
    assert_eq!(error.code().as_str(), "schema_enum.unknown_value");
    let long = "ö".repeat(60).parse::<Three>().unwrap_err().to_string();
    assert!(long.len() < 120, "{long}");
}

#[test]
fn an_alias_is_read_and_never_written() {
    assert_eq!("paid".parse(), Ok(Renamed::Settled));
    assert_eq!(serde_json::from_str::<Renamed>("\"paid\"").unwrap(), Renamed::Settled);
    assert_eq!(json!(Renamed::Settled), "settled");
}

#[test]
fn a_catch_all_reads_anything_and_shows_it() {
    assert_eq!("paid".parse(), Ok(Open::Paid));
    let other: Open = "lost".parse().unwrap();
    assert_eq!((other.as_str(), json!(other)), ("lost", json!("lost")));
    assert_eq!(serde_json::from_str::<Open>("\"lost\"").unwrap(), other);
    assert_eq!(Open::VALUES.len(), 2);
}

#[test]
fn sqlite_keeps_labels_and_numbers() {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    let echo = |value: &dyn rusqlite::ToSql| -> rusqlite::Result<rusqlite::types::Value> {
        connection.query_row("select ?1", [value], |row| row.get(0))
    };
    assert_eq!(echo(&Three::OnHold).unwrap(), "on_hold".to_owned().into());
    assert_eq!(echo(&Level::Low).unwrap(), (-1).into());
    assert_eq!(echo(&None::<Three>).unwrap(), rusqlite::types::Null.into());
    let written = echo(&Open::Other("lost".into())).unwrap_err();
    assert!(written.to_string().contains("the catch-all of `Open` cannot be written"), "{written}");

    let read = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Three>(0));
    assert_eq!(read("select 'paid'").unwrap(), Three::Paid);
    read("select 'lost'").unwrap_err();
    read("select 1").unwrap_err();
    read("select null").unwrap_err();
    let level = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<Level>>(0));
    assert_eq!(level("select 10").unwrap(), Some(Level::High));
    assert_eq!(level("select null").unwrap(), None);
    level("select 11").unwrap_err();
    let open = connection.query_row("select 'lost'", [], |row| row.get::<_, Open>(0));
    assert_eq!(open.unwrap(), Open::Other("lost".into()));
}

#[tokio::test]
async fn postgres_keeps_labels_and_numbers_in_columns_of_any_fitting_type() {
    let Some(shop) = Shop::postgres().await else { return };
    shop.sql(
        "create type {order_status} as enum ('pending', 'on_hold', 'paid');
         create domain {state} as text check (value in ('pending', 'paid', 'on_hold'));
         create domain {substate} as {state};
         create table {t} (a text, b varchar(20), c char(12), d {state}, e {substate}, \
         f {order_status}, g smallint, h int, i bigint, j text[], k {order_status}[])",
    )
    .await
    .unwrap();
    let Store::Postgres(store) = &shop.store else { panic!() };
    let client = store.client().await.unwrap();
    let table = shop.table("t");
    let sql = format!("insert into {table} values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)");
    let (three, level) = (Three::OnHold, Level::Low);
    let tags = vec![Tag::Gift, Tag::Express];
    let natives = vec![Some(Native::Paid), None];
    client
        .execute(
            &sql,
            &[
                &three,
                &three,
                &three,
                &three,
                &three,
                &Native::OnHold,
                &level,
                &level,
                &level,
                &tags,
                &natives,
            ],
        )
        .await
        .unwrap();
    let row = client.query_one(&format!("select * from {table}"), &[]).await.unwrap();
    for column in 0..5 {
        assert_eq!(row.get::<_, Three>(column), three, "{column}");
    }
    assert_eq!(row.get::<_, Native>(5), Native::OnHold);
    for column in 6..9 {
        assert_eq!(row.get::<_, Option<Level>>(column), Some(level), "{column}");
    }
    assert_eq!(row.get::<_, Vec<Tag>>(9), tags);
    assert_eq!(row.get::<_, Vec<Option<Native>>>(10), natives);
    row.try_get::<_, Three>(5).unwrap_err();
    row.try_get::<_, Three>(6).unwrap_err();
    row.try_get::<_, Level>(0).unwrap_err();

    let sql = format!("insert into {table} (a) values ($1)");
    let refused = client.execute(&sql, &[&Open::Other("x".into())]).await.unwrap_err();
    assert!(StoreError::from(refused).wrote_nothing());
    client.execute(&sql, &[&Odd::Backslash]).await.unwrap();
    let read = format!("select a from {table} where a like '%\\\\%'");
    assert_eq!(client.query_one(&read, &[]).await.unwrap().get::<_, Odd>(0), Odd::Backslash);
    let read = client.query_one("select 'lost'", &[]).await.unwrap();
    read.try_get::<_, Three>(0).unwrap_err();
    assert_eq!(read.get::<_, Open>(0), Open::Other("lost".into()));

    let bogus = format!("insert into {table} (f) values ($1)");
    let bogus = client.execute(&bogus, &[&Three::Paid]).await.unwrap_err();
    assert!(bogus.to_string().contains("serializing"), "{bogus}");
    assert_rejected(shop.sql("insert into {t} (f) values ('bogus')").await);
}

#[test]
fn everything_with_a_column_is_registered() {
    let names: Vec<_> = registered().iter().map(|spec| spec.name).collect();
    for name in ["Two", "Three", "Native", "Tag", "Level"] {
        assert_eq!(names.iter().filter(|known| **known == name).count(), 1, "{name}");
    }
    let native = registered().into_iter().find(|spec| spec.name == "Native").unwrap();
    assert_eq!(
        native.columns().map(|one| one.to_string()).collect::<Vec<_>>(),
        ["orders.status", "order_events.to_status"]
    );
}

#[cfg(feature = "openapi")]
#[test]
fn the_schema_lists_the_labels() {
    use utoipa::{PartialSchema, ToSchema};

    let schema = serde_json::to_value(Three::schema()).unwrap();
    assert_eq!(schema, json!({ "type": "string", "enum": ["pending", "paid", "on_hold"] }));
    assert_eq!(serde_json::to_value(Open::schema()).unwrap(), json!({ "type": "string" }));
    assert_eq!(Three::name(), "Three");
}

#[cfg(feature = "sqlx")]
#[tokio::test]
async fn sqlx_keeps_labels_and_numbers() {
    use sqlx::Connection as _;

    let Some(shop) = Shop::postgres().await else { return };
    shop.sql(
        "create type {order_status} as enum ('pending', 'on_hold', 'paid');
         create table {t} (a text, b varchar(20), c char(12), g smallint, j text[])",
    )
    .await
    .unwrap();
    let Base::Postgres(schema) = &shop.base else { panic!() };
    let mut connection = sqlx::PgConnection::connect(&schema.address()).await.unwrap();
    let table = shop.table("t");
    let insert = format!("insert into {table} values ($1, $2, $3, $4, $5)");
    sqlx::query(sqlx::AssertSqlSafe(insert))
        .bind(Three::OnHold)
        .bind(Three::Paid)
        .bind(None::<Three>)
        .bind(Level::Low)
        .bind(vec![Tag::Gift])
        .execute(&mut connection)
        .await
        .unwrap();
    let select = sqlx::AssertSqlSafe(format!("select * from {table}"));
    type Columns = (Three, Three, Option<Three>, Level, Vec<Tag>);
    let read: Columns = sqlx::query_as(select).fetch_one(&mut connection).await.unwrap();
    assert_eq!(read, (Three::OnHold, Three::Paid, None, Level::Low, vec![Tag::Gift]));

    let path = format!("set search_path to {}", schema.name());
    sqlx::query(sqlx::AssertSqlSafe(path)).execute(&mut connection).await.unwrap();
    let (echo, list): (Native, Vec<Native>) = sqlx::query_as("select $1, array[$1]")
        .bind(Native::OnHold)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!((echo, list), (Native::OnHold, vec![Native::OnHold]));
    let refused = sqlx::query("select $1").bind(Open::Other("x".into()));
    assert!(refused.execute(&mut connection).await.unwrap_err().to_string().contains("catch-all"));
    let unknown = sqlx::query_scalar::<_, Three>("select 'lost'").fetch_one(&mut connection).await;
    assert!(unknown.unwrap_err().to_string().contains("has no value"));
    connection.close().await.unwrap();
}

/// diesel comes without a backend here: that its queries take the enums is what is checked.
#[cfg(feature = "diesel")]
#[test]
fn diesel_takes_the_enums_as_text_and_integers() {
    use diesel::deserialize::Queryable;
    use diesel::expression::AsExpression;
    use diesel::sql_types::{Nullable, SmallInt, Text};

    fn is_text<T: AsExpression<Text> + AsExpression<Nullable<Text>>>(_: &T) {}
    fn is_small<T: AsExpression<SmallInt>>(_: &T) {}
    fn reads<DB, ST, T>()
    where
        DB: diesel::backend::Backend,
        ST: diesel::sql_types::SingleValue,
        T: Queryable<ST, DB> + diesel::deserialize::FromSql<ST, DB>,
    {
    }
    #[expect(dead_code, reason = "that it compiles says it: whatever keeps text keeps the enum")]
    fn on_any<DB>()
    where
        DB: diesel::backend::Backend,
        String: diesel::deserialize::FromSql<Text, DB>,
    {
        reads::<DB, Text, Three>();
    }
    is_text(&Three::Paid);
    is_text(&&Three::Paid);
    is_small(&Level::High);
    assert_eq!(__private::small_number(&Level::Low).unwrap(), &-1);
    assert!(std::ptr::eq(
        __private::small_number(&Level::High).unwrap(),
        __private::small_number(&Level::High).unwrap()
    ));
}
