//! Counters of the example server: damaged, and put right while orders come in.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::database::TestDatabase;
use crate::support::eventually;
use crate::support::server::Server;

/// Rows whose counter is not what it counts.
const WRONG: &str = "select count(*) from {shop}products p
    where orders_count <> (select count(*) from {shop}orders o where o.product_id = p.id)
       or reviews_count <> (select count(*) from {shop}reviews r where r.product_id = p.id)";

async fn post(server: &Server, path: &str, status: u16) -> Value {
    let answer = server.post(path).send().await.unwrap();
    assert_eq!(answer.status(), status, "{path}");
    answer.json().await.unwrap()
}

async fn done(server: &Server, job: &Value) {
    let path = format!("/jobs/{job}");
    let is_done = async || {
        let found: Value = server.get(&path).send().await.unwrap().json().await.unwrap();
        (found["state"] == "done", found)
    };
    eventually(Duration::from_secs(30), is_done, "the counters are repaired").await;
}

async fn order(server: &Server, product: u32) {
    let body = json!({"product_id": product, "quantity": 1, "email": "ada@example.com"});
    let answer = server.post("/orders").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
}

async fn review(server: &Server, product: u32) {
    let path = format!("/products/{product}/reviews");
    let body = json!({"rating": 4, "text": "Good"});
    let answer = server.post(&path).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn counters_are_put_right_while_orders_and_reviews_come_in() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let reports: Value =
            server.get("/demo/counters/report").send().await.unwrap().json().await.unwrap();
        assert_eq!(reports, json!({"counters": []}), "none yet");
        order(&server, 1).await;
        assert_eq!(post(&server, "/demo/counters/damage", 200).await, json!({"damaged": 100}));
        assert_eq!(database.numbers(WRONG).await, [100]);

        let writing = async {
            for product in 1..=20 {
                order(&server, product).await;
                review(&server, product).await;
            }
        };
        let repairing = async {
            let begun = post(&server, "/demo/counters/repair", 202).await;
            assert_eq!(begun["joined"], false);
            for counter in ["orders_count", "reviews_count"] {
                done(&server, &begun["jobs"][counter]).await;
            }
            begun
        };
        let ((), begun) = tokio::join!(writing, repairing);
        assert_eq!(database.numbers(WRONG).await, [0]);

        let reports: Value =
            server.get("/demo/counters/report").send().await.unwrap().json().await.unwrap();
        for (report, counter) in
            reports["counters"].as_array().unwrap().iter().zip(["orders_count", "reviews_count"])
        {
            assert_eq!((&report["counter"], &report["state"]), (&json!(counter), &json!("done")));
            assert_eq!(report["job"], begun["jobs"][counter]);
            for (member, count) in [("scanned", 100), ("drifted", 100), ("repaired", 100)] {
                assert_eq!(report[member], count, "{member}: {report}");
            }
        }
    }
}
