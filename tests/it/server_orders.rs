//! Orders of the example server: a row, a counter and a job, all or nothing.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::database::TestDatabase;
use crate::support::eventually;
use crate::support::problem::{expect_problem, header};
use crate::support::server::Server;

fn order(product: u32) -> Value {
    json!({"product_id": product, "quantity": 2, "email": "ada@example.com"})
}

async fn place(server: &Server, body: &Value) -> Response {
    server.post("/orders").json(body).send().await.unwrap()
}

async fn move_to(server: &Server, path: &str, status: &str) -> Response {
    let change = json!({"status": status});
    server.request(Method::PATCH, path).json(&change).send().await.unwrap()
}

async fn read(server: &Server, path: &str) -> Value {
    let answer = server.get(path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

/// How many orders of a product the database has counted.
async fn counted(database: &TestDatabase, product: u32) -> i64 {
    let sql = format!("select orders_count from {{shop}}products where id = {product}");
    database.numbers(&sql).await[0]
}

/// Jobs that are over or not.
async fn jobs(database: &TestDatabase) -> i64 {
    let sql = "select (select count(*) from {library}job) + (select count(*) from {library}done)";
    database.numbers(sql).await[0]
}

#[tokio::test]
async fn an_order_is_placed_counted_and_confirmed() {
    for database in TestDatabase::each().await {
        let server = database.server_with(|command| {
            command.env("STEADFAST_PRODUCT_TTL_MS", "3600000");
        });
        assert_eq!(read(&server, "/products/7").await["orders_count"], 0);
        let answer = place(&server, &order(7)).await;
        assert_eq!(answer.status(), 201);
        let path = header(&answer, "location").unwrap();
        let placed: Value = answer.json().await.unwrap();
        let id = placed["id"].as_i64().unwrap();
        assert_eq!(path, format!("/orders/{id}"));
        let expected = json!({
            "id": id, "product_id": 7, "quantity": 2, "email": "ada@example.com",
            "status": "pending",
        });
        assert_eq!(placed, expected);
        assert_eq!(read(&server, &path).await, expected);
        assert_eq!(read(&server, "/products/7").await["orders_count"], 1, "it is read anew");
        let found = async || {
            let job = read(&server, "/jobs/1").await;
            (job["state"] == "done", job)
        };
        let job = eventually(Duration::from_secs(20), found, "it is confirmed").await;
        let expected = json!({
            "id": 1, "kind": "mail.deliver", "class": "critical", "state": "done",
            "attempt": 1, "run": 1,
        });
        assert_eq!(job, expected);
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_order_is_pointed_at() {
    let long = format!("{}@example.com", "a".repeat(243));
    for database in TestDatabase::each().await {
        let server = database.server();
        for (member, values) in [
            (
                "quantity",
                vec![json!(0), json!(1001), json!(-1), json!(1.5), json!("2"), json!(null)],
            ),
            ("product_id", vec![json!("one"), json!(-1), json!(1e30)]),
            (
                "email",
                vec![
                    json!(""),
                    json!("ada"),
                    json!("@example.com"),
                    json!("ada@"),
                    json!("ada@love@lace"),
                    json!("ada@example.com\r\nBcc: eve@example.com"),
                    json!("ada @example.com"),
                    json!("ada\u{0}@example.com"),
                    json!(long),
                    json!(7),
                ],
            ),
        ] {
            for value in values {
                let mut body = order(1);
                body[member] = value.clone();
                let problem =
                    expect_problem(place(&server, &body).await, 422, "json.invalid").await;
                let pointer = format!("/{member}");
                assert_eq!(problem["errors"][0]["pointer"], pointer, "{value}: {problem}");
            }
            let mut body = order(1);
            body.as_object_mut().unwrap().remove(member);
            let problem = expect_problem(place(&server, &body).await, 422, "json.invalid").await;
            assert!(problem["detail"].as_str().unwrap().contains(member), "{problem}");
        }
        expect_problem(place(&server, &order(101)).await, 404, "product.unknown").await;
        expect_problem(place(&server, &order(u32::MAX)).await, 404, "product.unknown").await;
        let broken = server.post("/orders").header("content-type", "application/json").body("{");
        expect_problem(broken.send().await.unwrap(), 400, "json.syntax").await;
        let untyped = server.post("/orders").body(order(1).to_string());
        expect_problem(untyped.send().await.unwrap(), 415, "body.unsupported_type").await;
        assert_eq!(jobs(&database).await, 0, "nothing of it was stored");
        assert_eq!(database.numbers("select count(*) from {shop}orders").await, [0]);
    }
}

#[tokio::test]
async fn the_limits_of_an_order_are_in_it() {
    let server = Server::start();
    // RFC 5321: 64 bytes before the `@`, 63 in a label, 254 in all.
    let [a, b, c] = [64, 63, 57].map(|length| "a".repeat(length));
    let longest = format!("{a}@{b}.{b}.{c}.com");
    assert_eq!(longest.len(), 254);
    for (quantity, email) in [(1, "a@b"), (1000, longest.as_str())] {
        let body = json!({"product_id": 100, "quantity": quantity, "email": email});
        assert_eq!(place(&server, &body).await.status(), 201, "{body}");
    }
}

#[tokio::test]
async fn an_order_only_goes_where_it_may() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let all = ["pending", "paid", "shipped", "cancelled"];
        let reached: [(&[&str], &[&str]); 5] = [
            (&[], &["paid", "cancelled"]),
            (&["paid"], &["shipped", "cancelled"]),
            (&["paid", "shipped"], &[]),
            (&["cancelled"], &[]),
            (&["paid", "cancelled"], &[]),
        ];
        for (steps, legal) in reached {
            for to in all {
                let answer = place(&server, &order(1)).await;
                let path = header(&answer, "location").unwrap();
                for step in steps {
                    assert_eq!(move_to(&server, &path, step).await.status(), 200);
                }
                let here = steps.last().copied().unwrap_or("pending");
                let answer = move_to(&server, &path, to).await;
                let now = if to == here || legal.contains(&to) {
                    assert_eq!(answer.status(), 200, "from {here} to {to}");
                    assert_eq!(answer.json::<Value>().await.unwrap()["status"], to);
                    to
                } else {
                    expect_problem(answer, 409, "order.illegal_transition").await;
                    here
                };
                assert_eq!(read(&server, &path).await["status"], now);
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_status_or_no_order_is_refused() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let path = header(&place(&server, &order(1)).await, "location").unwrap();
        for body in [json!({"status": "lost"}), json!({"status": 7}), json!({"status": null})] {
            let change = server.request(Method::PATCH, &path).json(&body);
            let problem = expect_problem(change.send().await.unwrap(), 422, "json.invalid").await;
            assert_eq!(problem["errors"][0]["pointer"], "/status", "{problem}");
        }
        for path in ["/orders/99999", "/orders/0", "/orders/-1", "/orders/9223372036854775807"] {
            let answer = server.get(path).send().await.unwrap();
            expect_problem(answer, 404, "order.unknown").await;
            expect_problem(move_to(&server, path, "paid").await, 404, "order.unknown").await;
        }
        for path in ["/orders/one", "/orders/9223372036854775808"] {
            let answer = server.get(path).send().await.unwrap();
            expect_problem(answer, 404, "path.invalid").await;
        }
    }
}

#[tokio::test]
async fn an_order_whose_job_cannot_be_stored_leaves_nothing() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let (refuse, allow) = if database.is_sqlite() {
            let refuse = "create trigger refuse before insert on {library}job \
                          begin select raise(abort, 'refused'); end";
            (refuse, "drop trigger refuse")
        } else {
            let refuse = "create function {library}refuse() returns trigger language plpgsql \
                          as 'begin raise exception ''refused''; end'; \
                          create trigger refuse before insert on {library}job \
                          for each row execute function {library}refuse()";
            (refuse, "drop trigger refuse on {library}job")
        };
        database.execute(refuse).await;
        let answer = place(&server, &order(3)).await;
        assert!(!answer.status().is_success(), "{answer:?}");
        assert!(answer.text().await.unwrap().contains("\"code\":\"store."));
        assert_eq!(counted(&database, 3).await, 0);
        assert_eq!(jobs(&database).await, 0);
        assert_eq!(database.numbers("select count(*) from {shop}orders").await, [0]);
        database.execute(allow).await;
        assert_eq!(place(&server, &order(3)).await.status(), 201);
        assert_eq!((counted(&database, 3).await, jobs(&database).await), (1, 1));
        assert_eq!(read(&server, "/products/3").await["orders_count"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_orders_at_once_are_counted_exactly() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let sending: Vec<_> =
            (0..50).map(|_| tokio::spawn(server.post("/orders").json(&order(5)).send())).collect();
        let mut ids = Vec::new();
        for sent in sending {
            let answer = sent.await.unwrap().unwrap();
            assert_eq!(answer.status(), 201);
            ids.push(answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap());
        }
        ids.sort_unstable();
        let stored = database.numbers("select id from {shop}orders order by id").await;
        assert_eq!(ids, stored, "each has a number of its own");
        assert_eq!(counted(&database, 5).await, 50);
        assert_eq!(read(&server, "/products/5").await["orders_count"], 50);
        let done = async || {
            let stats = server.stats().await;
            (stats["jobs"]["done"] == 50, stats["jobs"].clone())
        };
        eventually(Duration::from_secs(30), done, "all are confirmed").await;
        let kinds = "select count(*) from {library}done where kind = 'mail.deliver'";
        assert_eq!(database.numbers(kinds).await, [50]);
    }
}

#[tokio::test]
async fn a_job_belongs_to_the_request_that_enqueued_it() {
    for database in TestDatabase::each().await {
        let server = database.server_with(|command| {
            command.env("STEADFAST_LOG__FORMAT", "json");
        });
        let placing = server.post("/orders").header("x-request-id", "req-of-ada").json(&order(1));
        assert_eq!(placing.send().await.unwrap().status(), 201);
        let parts = ["mailer.attempted", "\"request_id\":\"req-of-ada\""];
        let log = server.logged(&parts).await;
        assert!(!log.contains("ada@example.com"), "no address in the log");
    }
}

/// What the constraint of the status is called: by the labels that it lets in.
const CONSTRAINT: &str = "sf_orders_status_3f33181b";

#[tokio::test]
async fn the_database_itself_refuses_what_is_no_status() {
    for database in TestDatabase::each().await {
        let server = database.server();
        assert_eq!(place(&server, &order(1)).await.status(), 201);
        let bogus = "update {shop}orders set status = 'bogus' where id = 1";
        let refused = database.try_execute(bogus).await.unwrap_err();
        assert!(refused.contains(CONSTRAINT), "{refused}");
        assert_eq!(read(&server, "/orders/1").await["status"], "pending");
    }
}

#[tokio::test]
async fn readiness_tells_of_a_database_that_lets_in_other_statuses() {
    // (what an older or newer program left, whether this one can serve on it)
    for (labels, is_ready) in
        [("'pending', 'paid'", false), ("'pending', 'paid', 'shipped', 'cancelled', 'lost'", true)]
    {
        for database in TestDatabase::each().await {
            drop(database.server());
            let swap = format!(
                "alter table {{shop}}orders drop constraint {CONSTRAINT};
                 alter table {{shop}}orders add constraint other check (status in ({labels}))"
            );
            database.execute(&swap).await;
            let server = database.server();
            let told = async || {
                let answer = server.get("/readyz?verbose").send().await.unwrap();
                let serves = answer.status() == 200;
                let text = answer.text().await.unwrap();
                let is_told = serves == is_ready && !text.contains("schema_enums ok");
                (is_told, json!({"serves": serves, "text": text}))
            };
            eventually(Duration::from_secs(20), told, "readiness tells of it").await;
        }
    }
}
