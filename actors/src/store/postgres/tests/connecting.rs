//! Options, TLS, and what each way not to get in means.

use std::time::Duration;

use tokio_postgres::config::SslMode;

use super::super::config::check_schema;
use super::super::error::{Reaction, reaction};
use super::super::testing::TestSchema;
use super::super::{PgOptions, PgStore};
use super::proxy::{LOCALHOST, answering, tls_server};
use super::sleeping;
use crate::store::StoreError;

const NOBODY: &str = "postgres://user:secret@127.0.0.1:1/test";

fn options() -> PgOptions {
    PgOptions::parse(NOBODY).unwrap()
}

#[track_caller]
fn check(options: PgOptions, refused: Option<&str>) {
    let found = match options.check() {
        Ok(_) => None,
        Err(StoreError::InvalidSetting { setting, .. }) => Some(setting),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(found, refused);
}

#[test]
fn options_are_checked_at_their_limits() {
    check(options(), None);
    check(options().connections(200), None);
    check(options().connections(201), Some("connections"));
    check(options().connections(0), Some("connections"));
    check(options().statement_timeout(Duration::ZERO), Some("statement_timeout"));
    check(options().call_timeout(Duration::from_secs(3_601)), Some("call_timeout"));
    check(options().connect_timeout(Duration::from_secs(61)), Some("connect_timeout"));
    check(options().acquire_timeout(Duration::ZERO), Some("acquire_timeout"));
    check(options().root_certificates("not PEM"), Some("root_certificates"));
    check(options().schema("Upper"), Some("schema"));
}

#[test]
fn a_schema_is_a_plain_identifier() {
    let longest = "s".repeat(63);
    for good in ["s", "steadfast", "_s1", &longest] {
        assert!(check_schema(good).is_ok(), "{good}");
    }
    let too_long = "s".repeat(64);
    for bad in ["", "1s", "pg_s", "s-s", "s s", "s\"", "s;drop", "ß", "S", &too_long] {
        assert!(check_schema(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_secret_is_shown() {
    assert!(!format!("{:?}", options()).contains("secret"));
    let wrong = PgOptions::parse("postgres://user:secret@host:no-port/").unwrap_err();
    assert!(!format!("{wrong:?} {wrong}").contains("secret"));
}

#[test]
fn each_code_of_the_server_has_its_reaction() {
    let table = [
        ("28P01", Reaction::Credentials),
        ("28000", Reaction::Credentials),
        ("3D000", Reaction::Credentials),
        ("57014", Reaction::Timeout),
        ("55P03", Reaction::Timeout),
        ("40P01", Reaction::Timeout),
        ("40001", Reaction::Timeout),
        ("53100", Reaction::Full),
        ("25006", Reaction::ReadOnly),
        ("42501", Reaction::ReadOnly),
        ("23505", Reaction::Constraint),
        ("23514", Reaction::Constraint),
        ("08006", Reaction::Unavailable),
        ("53300", Reaction::Unavailable),
        ("57P01", Reaction::Unavailable),
        ("57P03", Reaction::Unavailable),
        ("XX001", Reaction::Corrupt),
        ("XX000", Reaction::Failed),
        ("42P01", Reaction::Failed),
    ];
    for (code, expected) in table {
        assert_eq!(reaction(code), expected, "{code}");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let refused = PgStore::connect(options()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_after_the_connect_timeout() {
    let silent = answering(b"").await;
    let options = PgOptions::parse(&format!("postgres://user@{silent}/test")).unwrap();
    let refused = PgStore::connect(options.connect_timeout(Duration::from_millis(100))).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_password_that_is_missing_is_a_matter_of_credentials() {
    let asking = answering(b"R\0\0\0\x08\0\0\0\x03").await;
    let options = PgOptions::parse(&format!("postgres://user@{asking}/test")).unwrap();
    let refused = PgStore::connect(options).await;
    assert!(matches!(refused, Err(StoreError::Credentials(_))), "{refused:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let plain = answering(b"N").await;
    for mode in ["require", "verify-full"] {
        let address = format!("postgres://user@{plain}/test?sslmode={mode}");
        let refused = PgStore::connect(PgOptions::parse(&address).unwrap()).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
}

/// How connecting to a server with a certificate for `localhost` ends.
async fn over_tls(host: &str, mode: &str, roots: Option<&[u8]>) -> Result<PgStore, StoreError> {
    let port = tls_server();
    let address = format!("postgres://user@{host}:{port}/test?hostaddr=127.0.0.1&sslmode={mode}");
    let options = PgOptions::parse(&address).unwrap();
    let options = roots.into_iter().fold(options, |options, pem| options.root_certificates(pem));
    PgStore::connect(options).await
}

#[tokio::test]
async fn a_certificate_is_verified_whenever_tls_is_used() {
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let unknown = over_tls("localhost", mode, None).await;
        assert!(matches!(unknown, Err(StoreError::Untrusted(_))), "{mode}: {unknown:?}");
        let misnamed = over_tls("elsewhere.test", mode, Some(LOCALHOST)).await;
        assert!(matches!(misnamed, Err(StoreError::Untrusted(_))), "{mode}: {misnamed:?}");
        let trusted = over_tls("localhost", mode, Some(LOCALHOST)).await;
        assert!(matches!(trusted, Err(StoreError::Credentials(_))), "{mode}: {trusted:?}");
    }
}

#[test]
fn tls_is_left_out_where_nothing_goes_over_a_wire_and_nobody_asked_for_it() {
    for (address, expected) in [
        ("postgres://u@127.0.0.1/d", SslMode::Disable),
        ("postgres://u@[::1]/d", SslMode::Disable),
        ("postgres://u@localhost/d", SslMode::Disable),
        ("postgres://u@%2Frun%2Fpostgresql/d", SslMode::Disable),
        ("postgres://u@localhost/d?sslmode=require", SslMode::Require),
        ("postgres://u@localhost/d?hostaddr=192.0.2.1", SslMode::Prefer),
        ("postgres://u@db.test/d", SslMode::Prefer),
        ("postgres://u@localhost,db.test/d", SslMode::Prefer),
    ] {
        let settings = PgOptions::parse(address).unwrap().check().unwrap();
        assert_eq!(settings.config.get_ssl_mode(), expected, "{address}");
    }
}

#[tokio::test]
async fn an_unknown_role_or_database_is_a_matter_of_credentials() {
    let Some(schema) = TestSchema::find().await else { return };
    for parameter in ["user=sf_nobody", "dbname=sf_nowhere"] {
        let address = format!("{}&{parameter}", schema.address());
        let refused = PgStore::connect(PgOptions::parse(&address).unwrap()).await;
        assert!(matches!(refused, Err(StoreError::Credentials(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn each_connection_has_the_bounds_that_were_asked_for() {
    let Some(schema) = TestSchema::find().await else { return };
    let options = schema.options().statement_timeout(Duration::from_secs(3));
    let store = PgStore::connect(options.call_timeout(Duration::from_secs(7))).await.unwrap();
    let client = store.client().await.unwrap();
    for (setting, expected) in [
        ("statement_timeout", "3s"),
        ("lock_timeout", "1500ms"),
        ("idle_in_transaction_session_timeout", "7s"),
        ("plan_cache_mode", "force_custom_plan"),
    ] {
        let shown = client.query_one(&format!("show {setting}"), &[]).await.unwrap();
        assert_eq!(shown.get::<_, &str>(0), expected, "{setting}");
    }
}

#[tokio::test]
async fn what_the_address_says_wins() {
    let Some(schema) = TestSchema::find().await else { return };
    let address = format!("{}&options=-c%20lock_timeout%3D77ms", schema.address());
    let options = PgOptions::parse(&address).unwrap().schema(schema.name());
    let client = PgStore::connect(options).await.unwrap().client().await.unwrap();
    let shown = client.query_one("show lock_timeout", &[]).await.unwrap();
    assert_eq!(shown.get::<_, &str>(0), "77ms");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_a_timeout() {
    let Some(schema) = TestSchema::find().await else { return };
    let options = schema.options().statement_timeout(Duration::from_millis(50));
    let store = PgStore::connect(options).await.unwrap();
    let ended = sleeping(&store, 30.0).await;
    assert!(matches!(ended, Err(StoreError::Timeout)), "{ended:?}");
}

#[tokio::test]
async fn a_constraint_is_named() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = schema.store().await;
    let insert = store.sql("insert into {schema}.queue values ('q', true, 0), ('q', true, 0)");
    let refused = store
        .run(async move |client| Ok::<_, StoreError>(client.execute(&insert, &[]).await?))
        .await;
    match refused {
        Err(StoreError::Constraint { name, .. }) => assert_eq!(name.as_deref(), Some("queue_pkey")),
        other => panic!("{other:?}"),
    }
}
