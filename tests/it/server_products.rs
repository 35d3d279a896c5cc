//! Cached reads of the example server: how many loads really happen, and of what.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::problem::{expect_problem, header};
use crate::support::server::Server;
use crate::support::wire::Wire;

/// Long enough that a burst ends before it, short enough to wait for.
const TTL: Duration = Duration::from_secs(2);

fn with_ttl(ttl: Duration) -> Server {
    Server::start_with(|command| {
        command.env("STEADFAST_PRODUCT_TTL_MS", ttl.as_millis().to_string());
    })
}

fn on_file(file: &Path) -> Server {
    Server::start_with(|command| {
        command.arg("--database").arg(format!("sqlite:{}", file.display()));
        command.env("STEADFAST_PRODUCT_TTL_MS", "100");
    })
}

async fn loads(server: &Server) -> u64 {
    server.stats().await["product_loads"].as_u64().unwrap()
}

/// Asks for one product on as many connections at the same time; the `x-cache` of each answer.
async fn burst(server: &Server, path: &'static str, size: usize) -> HashMap<String, usize> {
    let mut wires = Vec::new();
    for _ in 0..size {
        wires.push(Wire::connect(server.address()).await);
    }
    let readers: Vec<_> = wires
        .into_iter()
        .map(|mut wire| tokio::spawn(async move { wire.get(path).await.unwrap() }))
        .collect();
    let mut served = HashMap::new();
    for reader in readers {
        let answer = reader.await.unwrap();
        assert_eq!((answer.status, answer.json()["id"].clone()), (200, json!(1)));
        *served.entry(answer.headers["x-cache"].clone()).or_default() += 1;
    }
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_readers_of_an_expired_product_make_one_load() {
    let server = with_ttl(TTL);
    let cold = burst(&server, "/products/1", 500).await;
    assert_eq!(loads(&server).await, 1, "{cold:?}");
    assert_eq!(cold.get("filled"), Some(&1), "{cold:?}");
    tokio::time::sleep(TTL + TTL / 2).await;
    let expired = burst(&server, "/products/1", 500).await;
    assert_eq!(loads(&server).await, 2, "{expired:?}");
    let known = ["hit", "filled", "joined", "stale"];
    assert!(expired.keys().all(|how| known.contains(&how.as_str())), "{expired:?}");
}

#[tokio::test]
async fn a_second_read_is_a_hit() {
    let server = Server::start();
    for (id, how) in [(7, "filled"), (7, "hit"), (8, "filled"), (7, "hit")] {
        let answer = server.get(&format!("/products/{id}")).send().await.unwrap();
        assert_eq!(header(&answer, "x-cache").as_deref(), Some(how));
        assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["id"], id);
    }
    assert_eq!(loads(&server).await, 2);
}

#[tokio::test]
async fn a_product_is_the_row_of_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let server = on_file(&file);
    let read = async || {
        let answer = server.get("/products/3").send().await.unwrap();
        answer.json::<serde_json::Value>().await.unwrap()
    };
    let seeded = read().await;
    let members: Vec<_> = seeded.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["id", "name", "orders_count", "price_cents", "reviews_count"]);
    let row = "UPDATE products SET name = 'Lamp', price_cents = 1990, orders_count = 4, \
               reviews_count = 2 WHERE id = 3";
    rusqlite::Connection::open(&file).unwrap().execute(row, []).unwrap();
    let expected = json!({
        "id": 3, "name": "Lamp", "price_cents": 1990, "orders_count": 4, "reviews_count": 2,
    });
    let begun = std::time::Instant::now();
    while read().await != expected {
        assert!(begun.elapsed() < Duration::from_secs(5), "the entry never expires");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn two_servers_can_start_on_one_file_and_keep_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let path = file.clone();
    let other = tokio::task::spawn_blocking(move || on_file(&path));
    let one = on_file(&file);
    let other = other.await.unwrap();
    for server in [&one, &other] {
        for (id, status) in [(1, 200), (100, 200), (101, 404)] {
            let answer = server.get(&format!("/products/{id}")).send().await.unwrap();
            assert_eq!(answer.status(), status, "product {id}");
        }
    }
    let changed = "UPDATE products SET orders_count = 9 WHERE id = 1";
    rusqlite::Connection::open(&file).unwrap().execute(changed, []).unwrap();
    drop((one, other));
    let again = on_file(&file);
    let answer = again.get("/products/1").send().await.unwrap();
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["orders_count"], 9);
}

#[tokio::test]
async fn an_unknown_product_is_looked_up_once() {
    let server = Server::start();
    for _ in 0..10 {
        let answer = server.get("/products/101").send().await.unwrap();
        expect_problem(answer, 404, "product.unknown").await;
    }
    assert_eq!(loads(&server).await, 1);
}

#[tokio::test]
async fn what_is_no_product_id_is_not_found_and_not_looked_up() {
    let server = Server::start();
    for id in ["abc", "-1", "4294967296", "1.5", "%00"] {
        let answer = server.get(&format!("/products/{id}")).send().await.unwrap();
        expect_problem(answer, 404, "path.invalid").await;
    }
    assert_eq!(loads(&server).await, 0);
}

#[tokio::test]
async fn an_old_row_is_better_than_none_when_the_database_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let server = on_file(&file);
    let fresh = server.get("/products/5").send().await.unwrap().text().await.unwrap();
    rusqlite::Connection::open(&file).unwrap().execute("DROP TABLE products", []).unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let answer = server.get("/products/5").send().await.unwrap();
    assert_eq!(header(&answer, "x-cache").as_deref(), Some("stale"));
    assert_eq!(answer.text().await.unwrap(), fresh);
    let answer = server.get("/products/6").send().await.unwrap();
    expect_problem(answer, 503, "cache_fill.loader_failed").await;
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let server = Server::start();
    for (path, status) in [
        ("/products/1", 200),
        ("/rates/USD", 200),
        ("/products/101", 404),
        ("/demo/upstream", 200),
        ("/demo/slow?ms=1", 200),
        ("/demo/stats", 200),
        ("/demo/panic", 500),
    ] {
        let get = server.get(path).send().await.unwrap();
        let head = server.request(reqwest::Method::HEAD, path).send().await.unwrap();
        assert_eq!((head.status().as_u16(), get.status().as_u16()), (status, status), "{path}");
        assert_eq!(header(&head, "content-type"), header(&get, "content-type"), "{path}");
        assert_eq!(head.text().await.unwrap(), "", "{path}");
    }
}
