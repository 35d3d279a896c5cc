//! A schema-backed enum as a service has it: by the name `steadfast` alone.

use steadfast::health::{HealthActor, Recheck, Status};
use steadfast::problem::Problem;
use steadfast::schema_enum::{Phase, SchemaEnums, Severity, registered};
use steadfast::store::{SqliteOptions, SqliteStore, Store, StoreError};
use steadfast::{SchemaEnum, Steadfast};

use crate::wire::eventually;

#[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
#[schema_enum(table = "it_orders", column = "status", rename_all = "snake_case")]
enum OrderStatus {
    Pending,
    OnHold,
}

/// One that no table has.
#[derive(SchemaEnum, Debug, Clone, PartialEq, Eq)]
enum Colour {
    Red,
    #[schema_enum(unknown)]
    Other(String),
}

#[test]
fn a_service_needs_no_other_dependency() {
    assert_eq!(OrderStatus::OnHold.to_string(), "on_hold");
    assert_eq!(serde_json::to_string(&OrderStatus::Pending).unwrap(), "\"pending\"");
    assert_eq!("red".parse(), Ok(Colour::Other("red".to_owned())));
    assert_eq!(Colour::VALUES, [Colour::Red]);
    let bound = registered();
    assert!(bound.iter().any(|spec| spec.name == "OrderStatus"));
    assert!(bound.iter().all(|spec| spec.name != "Colour"), "it has no column to look after");
}

#[test]
fn the_lock_file_says_what_the_enums_say() {
    let enums = SchemaEnums::of::<OrderStatus>();
    steadfast::assert_enums_migrated!("tests/it/schema_enums.lock", enums);
}

#[actix_web::test]
async fn readiness_waits_for_the_database_to_allow_what_the_code_writes() {
    let store = Store::from(SqliteStore::open(SqliteOptions::memory()).await.unwrap());
    let mut runtime = Steadfast::builder();
    let enums = runtime.schema_enums(&store);
    let steadfast = runtime.start().unwrap();
    let status = || {
        let report = steadfast.health().readiness();
        report.items.iter().find(|item| &*item.name == "schema_enums").unwrap().status
    };
    eventually("the table is missed", || status() == Status::Down);

    execute(&store, "create table it_orders (status text)").await.unwrap();
    enums.apply(&store, Phase::Expand).await.unwrap();
    assert_eq!(enums.check(&store).await.unwrap().severity(), Severity::Clean);
    steadfast.find::<HealthActor>("health").unwrap().call(recheck()).await.unwrap();
    eventually("the table is there", || status() == Status::Up);

    let refused = execute(&store, "insert into it_orders values ('bogus')").await.unwrap_err();
    let problem = Problem::from_fault(refused);
    assert_eq!((problem.status().as_u16(), problem.code().as_str()), (422, "schema_enum.rejected"));
    steadfast.stop().await;
}

fn recheck() -> Recheck {
    Recheck { name: "schema_enums".into() }
}

async fn execute(store: &Store, sql: &'static str) -> Result<(), StoreError> {
    let Store::Sqlite(store) = store else { panic!("it is SQLite") };
    store.write(move |tx| Ok(tx.execute_batch(sql)?)).await
}
