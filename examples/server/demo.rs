//! The routes that break things on purpose, and the one that counts what happened.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::web::{self, Data, Query, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use steadfast::Steadfast;
use steadfast::counters::Counters;
use steadfast::edge::{Admit, Deadline, Json};
use steadfast::jobs::{Counts, Jobs};
use steadfast::kernel::Ref;
use steadfast::problem::Problem;

use crate::connections::Connections;
use crate::counters::{self, Reports};
use crate::database::Database;
use crate::flaky::{Count, Counted, Flaky, Poison};
use crate::products::Products;
use crate::simulator::Switch;
use crate::slow::{SlowCounts, SlowWork};
use crate::upstream::UpstreamControl;

/// Longer than any work that may be asked for; a client shortens it with `X-Request-Timeout-Ms`.
const SLOW_DEADLINE: Duration = Duration::from_secs(90);

pub(crate) fn configure(app: &mut ServiceConfig) {
    app.service(
        web::resource("/demo/upstream")
            .get(upstream_report)
            .head(upstream_report)
            .put(upstream_switch)
            .wrap(Admit::always()),
    )
    .service(web::resource("/demo/panic").get(panic).head(panic))
    .service(web::resource("/demo/slow").get(slow).head(slow).wrap(Deadline::after(SLOW_DEADLINE)))
    .service(web::resource("/demo/actors/flaky/count").post(count))
    .service(web::resource("/demo/actors/flaky/poison").post(poison))
    .service(web::resource("/demo/counters/damage").post(damage_counters))
    .service(web::resource("/demo/counters/repair").post(repair_counters))
    .service(web::resource("/demo/counters/report").get(counter_reports).head(counter_reports))
    .service(web::resource("/demo/stats").get(stats).head(stats).wrap(Admit::always()));
}

async fn upstream_report(upstream: Data<UpstreamControl>) -> Result<Json<Value>, Problem> {
    Ok(Json(upstream.report().await?))
}

async fn upstream_switch(
    order: Json<Switch>,
    upstream: Data<UpstreamControl>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(upstream.switch(order.into_inner()).await?))
}

#[expect(clippy::panic, reason = "the defect that this route is there for")]
async fn panic() -> HttpResponse {
    panic!("boom: a handler panicked");
}

/// How long `/demo/slow` works.
#[derive(Debug, Deserialize)]
struct SlowFor {
    ms: WorkTime,
}

/// Milliseconds from 0 to 60,000.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
struct WorkTime(u64);

impl TryFrom<u64> for WorkTime {
    type Error = &'static str;

    fn try_from(work_ms: u64) -> Result<Self, Self::Error> {
        if work_ms <= 60_000 { Ok(Self(work_ms)) } else { Err("ms is at most 60000") }
    }
}

#[derive(Debug, Serialize)]
struct Slept {
    ms: u64,
}

async fn slow(wish: Query<SlowFor>, work: Data<SlowWork>) -> Json<Slept> {
    let WorkTime(ms) = wish.ms;
    work.run(Duration::from_millis(ms)).await;
    Json(Slept { ms })
}

async fn count(flaky: Data<Ref<Flaky>>) -> Result<Json<Counted>, Problem> {
    Ok(Json(flaky.call(Count).await?))
}

async fn poison(flaky: Data<Ref<Flaky>>) -> Result<HttpResponse, Problem> {
    flaky.call(Poison).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// How many products have wrong counters now.
#[derive(Debug, Serialize)]
struct Damaged {
    damaged: u64,
}

async fn damage_counters(
    database: Data<Database>,
    products: Data<Products>,
) -> Result<Json<Damaged>, Problem> {
    let damaged = database.damage_counters().await?;
    products.forget_all();
    Ok(Json(Damaged { damaged }))
}

async fn repair_counters(counters: Data<Counters>) -> Result<impl Responder, Problem> {
    Ok(HttpResponse::Accepted().json(counters::repair(&counters).await?))
}

async fn counter_reports(counters: Data<Counters>) -> Result<Json<Reports>, Problem> {
    Ok(Json(counters::reports(&counters).await?))
}

/// What a test needs to count.
#[derive(Debug, Serialize)]
struct Stats {
    product_loads: u64,
    slow: SlowCounts,
    restarts: BTreeMap<String, u64>,
    /// Nobody knows while the store is away.
    jobs: Option<Counts>,
    connections: u64,
    inflight: usize,
}

async fn stats(
    products: Data<Products>,
    work: Data<SlowWork>,
    jobs: Data<Jobs>,
    steadfast: Data<Steadfast>,
    connections: Data<Connections>,
) -> Json<Stats> {
    let nodes = steadfast.tree().snapshot().nodes;
    Json(Stats {
        product_loads: products.loads(),
        slow: work.counts(),
        jobs: jobs.counts().await.ok(),
        restarts: nodes.iter().map(|node| (node.name.to_string(), node.restarts)).collect(),
        connections: connections.count(),
        inflight: steadfast.in_flight().count(),
    })
}
