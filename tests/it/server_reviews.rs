//! Reviews of the example server: a row and a counter, both or neither.

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::database::TestDatabase;
use crate::support::problem::expect_problem;
use crate::support::server::Server;

async fn write(server: &Server, product: &str, body: &Value) -> Response {
    server.post(&format!("/products/{product}/reviews")).json(body).send().await.unwrap()
}

async fn counted(server: &Server, product: u32) -> Value {
    let answer = server.get(&format!("/products/{product}")).send().await.unwrap();
    let product: Value = answer.json().await.unwrap();
    product["reviews_count"].clone()
}

async fn rows(database: &TestDatabase) -> i64 {
    database.numbers("select count(*) from {shop}reviews").await[0]
}

#[tokio::test]
async fn a_review_is_written_and_counted_at_its_product() {
    for database in TestDatabase::each().await {
        let server = database.server_with(|command| {
            command.env("STEADFAST_PRODUCT_TTL_MS", "3600000");
        });
        assert_eq!(counted(&server, 7).await, 0);
        for (rating, text) in [(1, "x".to_owned()), (5, "\u{1F600}".repeat(2_000))] {
            let answer = write(&server, "7", &json!({"rating": rating, "text": text})).await;
            assert_eq!(answer.status(), 201);
            let review: Value = answer.json().await.unwrap();
            let expected =
                json!({"id": review["id"], "product_id": 7, "rating": rating, "text": text});
            assert_eq!(review, expected);
        }
        assert_eq!(counted(&server, 7).await, 2, "it is read anew");
        assert_eq!(rows(&database).await, 2);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_review_is_pointed_at() {
    for database in TestDatabase::each().await {
        let server = database.server();
        for (body, pointer) in [
            (json!({"rating": 0, "text": "Good"}), "/rating"),
            (json!({"rating": 6, "text": "Good"}), "/rating"),
            (json!({"rating": -1, "text": "Good"}), "/rating"),
            (json!({"rating": 4.5, "text": "Good"}), "/rating"),
            (json!({"rating": "5", "text": "Good"}), "/rating"),
            (json!({"rating": 5, "text": ""}), "/text"),
            (json!({"rating": 5, "text": "a\u{0}b"}), "/text"),
            (json!({"rating": 5, "text": "x".repeat(2_001)}), "/text"),
        ] {
            let answer = write(&server, "1", &body).await;
            let problem = expect_problem(answer, 422, "json.invalid").await;
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
        let good = json!({"rating": 5, "text": "Good"});
        for product in ["0", "101", "4294967295"] {
            let answer = write(&server, product, &good).await;
            expect_problem(answer, 404, "product.unknown").await;
        }
        expect_problem(write(&server, "one", &good).await, 404, "path.invalid").await;
        assert_eq!(rows(&database).await, 0);
    }
}

#[tokio::test]
async fn fifty_reviews_at_once_are_counted_exactly() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let good = json!({"rating": 5, "text": "Good"});
        let all = (0..50).map(|_| write(&server, "3", &good));
        for answer in futures_util::future::join_all(all).await {
            assert_eq!(answer.status(), 201);
        }
        assert_eq!(counted(&server, 3).await, 50);
        assert_eq!(rows(&database).await, 50);
    }
}
