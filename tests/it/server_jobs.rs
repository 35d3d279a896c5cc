//! Jobs of the example server: what is acknowledged is done, whoever dies.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::database::TestDatabase;
use crate::support::eventually;
use crate::support::problem::{expect_problem, header};
use crate::support::server::Server;

/// Generous: a machine under test may be busy.
const DONE_WITHIN: Duration = Duration::from_secs(90);

async fn request_report(server: &Server, name: &Value) -> reqwest::Response {
    server.post("/reports").json(&json!({"name": name})).send().await.unwrap()
}

/// Stores so many reports at once, past the guard: whatever the machine, there is work that waits.
async fn pile_up(database: &TestDatabase, count: u32) {
    let (from, args) = if database.is_sqlite() {
        let numbers = "with recursive n (i) as (select 1 union all select i + 1 from n \
                       where i < {count}) ";
        (numbers, "cast('{\"name\":\"r\"}' as blob)")
    } else {
        (
            "with n (i) as (select generate_series(1, {count})) ",
            "convert_to('{\"name\":\"r\"}', 'UTF8')",
        )
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let from = from.replace("{count}", &count.to_string());
    let insert = format!(
        "insert into {{library}}job \
         (queue, kind, class, run_at, due_at, max_attempts, args, created_at) \
         {from} select 'reports', 'report', 2, {now}, {now}, 10, {args}, {now} from n"
    );
    database.execute(&insert).await;
}

/// Waits until no job is left to do; the last counts.
async fn all_over(server: &Server) -> Value {
    let over = async || {
        let jobs = server.stats().await["jobs"].clone();
        let left = ["ready", "running", "parked"].iter().any(|state| jobs[state] != 0);
        (!left, jobs)
    };
    eventually(DONE_WITHIN, over, "all jobs are over").await
}

#[tokio::test]
async fn a_report_is_written_once() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let answer = request_report(&server, &json!("monthly")).await;
        assert_eq!(answer.status(), 202);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer, json!({"outcome": "accepted", "job_id": 1}));
        let counts = all_over(&server).await;
        let expected = json!({"ready": 0, "running": 0, "parked": 0, "dead": 0, "done": 1});
        assert_eq!(counts, expected);
        let job: Value = server.get("/jobs/1").send().await.unwrap().json().await.unwrap();
        let expected = json!({
            "id": 1, "kind": "report", "class": "sheddable", "state": "done", "attempt": 1,
            "run": 1,
        });
        assert_eq!(job, expected);
    }
}

#[tokio::test]
async fn a_report_has_a_name_of_one_to_two_hundred_characters() {
    let server = Server::start();
    for name in ["x".to_owned(), "ü".repeat(200)] {
        assert_eq!(request_report(&server, &json!(name)).await.status(), 202);
    }
    for name in [json!(""), json!("x".repeat(201)), json!(7), json!(null)] {
        let answer = request_report(&server, &name).await;
        let problem = expect_problem(answer, 422, "json.invalid").await;
        assert_eq!(problem["errors"][0]["pointer"], "/name", "{name}");
    }
}

#[tokio::test]
async fn a_job_that_nobody_knows_is_not_found() {
    for database in TestDatabase::each().await {
        let server = database.server();
        for id in ["99", "0", "-1", "9223372036854775807"] {
            let answer = server.get(&format!("/jobs/{id}")).send().await.unwrap();
            expect_problem(answer, 404, "job.unknown").await;
        }
        let answer = server.get("/jobs/one").send().await.unwrap();
        expect_problem(answer, 404, "path.invalid").await;
    }
}

#[tokio::test]
async fn a_server_that_leaves_gives_its_jobs_back() {
    for database in TestDatabase::each().await {
        let leaving = database.server_with(|command| {
            command.env("STEADFAST_DRAIN__DELAY", "0ms").env("STEADFAST_DRAIN__JOBS", "0ms");
        });
        let process = leaving.process();
        let terminating = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            process.terminate();
        });
        let acknowledged = clients(&leaving).await;
        terminating.await.unwrap();
        let (leaving, status) = exited(leaving).await;
        assert_eq!(status, Some(0), "{}", leaving.log());
        let running = "select count(*) from {library}job where state = 1";
        assert_eq!(database.numbers(running).await, [0], "nothing is held by nobody");
        let left = "select count(*) from {library}job";
        assert!(database.numbers(left).await[0] > 0, "it had more to do");
        let next = database.server();
        assert_eq!(all_over(&next).await["dead"], 0);
        let done = database.numbers("select id from {library}done order by id").await;
        for job in &acknowledged.jobs {
            assert!(done.binary_search(job).is_ok(), "report {job} is lost");
        }
    }
}

async fn exited(mut server: Server) -> (Server, Option<i32>) {
    let waiting = tokio::task::spawn_blocking(move || {
        let status = server.exit_status();
        (server, status.code())
    });
    waiting.await.unwrap()
}

/// Logs each report it writes, and little else.
fn telling(database: &TestDatabase) -> Server {
    database.server_with(|command| {
        command.env("STEADFAST_LOG__FILTER", "warn,server=debug");
    })
}

fn written(server: &Server) -> usize {
    server.log().lines().filter(|line| line.contains("report.written")).count()
}

#[tokio::test]
async fn two_servers_share_the_work() {
    for database in TestDatabase::each().await {
        let (one, other) = (telling(&database), telling(&database));
        pile_up(&database, 600).await;
        assert_eq!(all_over(&one).await["done"], 600);
        one.logged(&["report.written"]).await;
        other.logged(&["report.written"]).await;
        let shares = [written(&one), written(&other)];
        assert_eq!(shares.iter().sum::<usize>(), 600, "each once: {shares:?}");
    }
}

#[tokio::test]
async fn the_jobs_of_a_server_that_is_killed_are_done_by_the_other() {
    for database in TestDatabase::each().await {
        let (one, mut other) = (telling(&database), telling(&database));
        pile_up(&database, 1_000).await;
        other.logged(&["report.written"]).await;
        freeze_at_work(&other, &database).await;
        other.kill();
        // Less than the time after which a process that is silent counts as dead.
        let rescued = async || (one.log().contains("jobs.rescued"), json!(null));
        eventually(Duration::from_secs(15), rescued, "its jobs are rescued").await;
        let counts = all_over(&one).await;
        assert_eq!((&counts["done"], &counts["dead"]), (&json!(1_000), &json!(0)));
        let twice = "select count(*) from {library}done where run > 1";
        assert!(database.numbers(twice).await[0] > 0, "it died in the midst of some");
    }
}

/// Stops one of two servers at a moment at which it holds jobs.
async fn freeze_at_work(server: &Server, database: &TestDatabase) {
    let at_work = "select count(distinct node) from {library}job where state = 1";
    let both = async || {
        server.process().freeze();
        let both = database.numbers(at_work).await[0] == 2;
        if !both {
            server.process().go_on();
        }
        (both, json!(null))
    };
    eventually(Duration::from_secs(10), both, "both are at work").await;
}

/// What clients of a server that dies or leaves were told is stored.
#[derive(Debug, Default)]
struct Acknowledged {
    orders: Vec<i64>,
    jobs: Vec<i64>,
}

/// Orders and asks for reports until the server is gone.
async fn client(server: &Server) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let order = json!({"product_id": 1, "quantity": 1, "email": "ada@example.com"});
    loop {
        let Some(placed) = post(server, "/orders", &order, 201).await else { break };
        acknowledged.orders.push(placed["id"].as_i64().unwrap());
        let report = json!({"name": "daily"});
        let Some(requested) = post(server, "/reports", &report, 202).await else { break };
        acknowledged.jobs.extend(requested["job_id"].as_i64());
    }
    acknowledged
}

/// `None`: the server is gone, or says that it is about to be. Any other answer must have this
/// status.
async fn post(server: &Server, path: &str, body: &Value, status: u16) -> Option<Value> {
    let answer = server.post(path).json(body).send().await.ok()?;
    let answered = answer.status();
    let body: Value = answer.json().await.ok()?;
    if body["code"] == "request.shutdown" {
        return None;
    }
    assert_eq!(answered, status, "{path}: {body}");
    Some(body)
}

/// Eight clients at once, until the server is gone.
async fn clients(server: &Server) -> Acknowledged {
    let mut all = Acknowledged::default();
    let clients = std::iter::repeat_with(|| client(server)).take(8);
    for told in futures_util::future::join_all(clients).await {
        all.orders.extend(told.orders);
        all.jobs.extend(told.jobs);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_nine_again_and_again() {
    let database = TestDatabase::sqlite();
    let mut acknowledged = Acknowledged::default();
    for round in 0..6 {
        let server = database.server();
        let process = server.process();
        let killing = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300 + 70 * round)).await;
            process.kill();
        });
        let told = clients(&server).await;
        acknowledged.orders.extend(told.orders);
        acknowledged.jobs.extend(told.jobs);
        killing.await.unwrap();
    }
    let server = database.server();
    let counts = all_over(&server).await;
    assert_eq!(counts["dead"], 0, "{counts}");
    let orders = database.numbers("select id from {shop}orders order by id").await;
    let done = database.numbers("select id from {library}done order by id").await;
    assert!(acknowledged.orders.len() > 50, "{}", acknowledged.orders.len());
    for order in &acknowledged.orders {
        assert!(orders.binary_search(order).is_ok(), "order {order} is lost");
    }
    for job in &acknowledged.jobs {
        assert!(done.binary_search(job).is_ok(), "report {job} is lost");
    }
    let confirmed = "select count(*) from {library}done where kind = 'mail.deliver'";
    let stored = i64::try_from(orders.len()).unwrap();
    assert_eq!(database.numbers(confirmed).await, [stored], "one for each order that is there");
    let counted = "select orders_count from {shop}products where id = 1";
    assert_eq!(database.numbers(counted).await, [stored]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_reports_is_answered_sensibly_and_worked_off() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let clients = (0..30).map(|_| flood(&server, 100));
        let mut outcomes = BTreeMap::<String, usize>::new();
        for told in futures_util::future::join_all(clients).await {
            for (outcome, count) in told {
                *outcomes.entry(outcome).or_default() += count;
            }
        }
        assert_eq!(outcomes.values().sum::<usize>(), 3_000, "{outcomes:?}");
        let verbose = server.get("/readyz?verbose").send().await.unwrap();
        assert_eq!(verbose.status(), 200, "too much work is no reason to be sent away");
        assert!(verbose.text().await.unwrap().contains("jobs:reports"));
        let counts = all_over(&server).await;
        let stored = ["accepted", "deferred"].iter().filter_map(|name| outcomes.get(*name));
        let stored = stored.sum::<usize>();
        assert!(stored > 0, "{outcomes:?}");
        assert_eq!((&counts["done"], &counts["dead"]), (&json!(stored), &json!(0)), "{outcomes:?}");
    }
}

/// Asks for reports one after the other; what came of them.
async fn flood(server: &Server, count: usize) -> BTreeMap<String, usize> {
    let mut outcomes = BTreeMap::new();
    for _ in 0..count {
        let answer = request_report(server, &json!("flood")).await;
        let outcome = if answer.status() == 503 {
            assert!(header(&answer, "retry-after").is_some(), "{answer:?}");
            let problem: Value = answer.json().await.unwrap();
            let code = problem["code"].as_str().unwrap().to_owned();
            assert!(["jobs.rejected", "jobs.queue_full"].contains(&&*code), "{problem}");
            code
        } else {
            assert_eq!(answer.status(), 202);
            let body: Value = answer.json().await.unwrap();
            let outcome = body["outcome"].as_str().unwrap().to_owned();
            let is_stored = ["accepted", "deferred"].contains(&&*outcome);
            assert!(is_stored || outcome == "skipped", "{body}");
            assert_eq!(body["job_id"].is_i64(), is_stored, "{body}");
            outcome
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}
