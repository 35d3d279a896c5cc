//! Claims about periodic jobs.

use super::stage::{NOW, QUEUE, Stage, at, job, keyed};
use crate::jobs::Class;
use crate::jobs::store::CronRow;

fn nightly() -> CronRow {
    CronRow {
        name: "nightly".into(),
        spec: "0 3 * * *".into(),
        time_zone: "Europe/Berlin".into(),
        queue: QUEUE.into(),
        kind: "report".into(),
        class: Class::Bulk,
        max_attempts: 5,
        args: b"\xff{}".as_slice().into(),
        args_format: 2,
        backfill_ms: 60_000,
        next_at: at(10),
        last_at: None,
        paused: false,
    }
}

async fn the_one(stage: &Stage) -> CronRow {
    let mut crons = stage.crons().await.unwrap();
    assert_eq!(crons.len(), 1);
    crons.pop().unwrap()
}

pub(crate) async fn a_periodic_job_is_kept_as_declared(stage: Stage) {
    stage.put_cron(nightly()).await.unwrap();
    assert_eq!(the_one(&stage).await, nightly());
    assert!(stage.remove_cron("nightly".into()).await.unwrap());
    assert!(!stage.remove_cron("nightly".into()).await.unwrap());
    assert_eq!(stage.crons().await.unwrap(), []);
}

pub(crate) async fn declaring_it_again_keeps_its_tick_and_its_pause(stage: Stage) {
    stage.put_cron(nightly()).await.unwrap();
    assert!(stage.tick_cron("nightly".into(), at(10), at(20), vec![], NOW).await.unwrap());
    assert!(stage.pause_cron("nightly".into(), true).await.unwrap());
    let again = CronRow {
        kind: "another".into(),
        class: Class::Normal,
        max_attempts: 1,
        args: b"2".as_slice().into(),
        next_at: at(99),
        ..nightly()
    };
    stage.put_cron(again.clone()).await.unwrap();
    let expected = CronRow { next_at: at(20), last_at: Some(at(10)), paused: true, ..again };
    assert_eq!(the_one(&stage).await, expected);
}

pub(crate) async fn another_expression_or_zone_has_another_tick(stage: Stage) {
    let expression = CronRow { spec: "0 4 * * *".into(), next_at: at(44), ..nightly() };
    let zone = CronRow { time_zone: "UTC".into(), next_at: at(55), ..expression.clone() };
    for cron in [nightly(), expression, zone] {
        stage.put_cron(cron.clone()).await.unwrap();
        assert_eq!(the_one(&stage).await, cron);
    }
}

pub(crate) async fn a_periodic_job_is_paused_and_resumed(stage: Stage) {
    stage.put_cron(nightly()).await.unwrap();
    for paused in [true, false] {
        assert!(stage.pause_cron("nightly".into(), paused).await.unwrap());
        assert_eq!(the_one(&stage).await, CronRow { paused, ..nightly() });
    }
    assert!(!stage.pause_cron("unknown".into(), true).await.unwrap());
}

pub(crate) async fn a_tick_is_taken_once(stage: Stage) {
    stage.put_cron(nightly()).await.unwrap();
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let stage = stage.clone();
            let tick = async move {
                stage.tick_cron("nightly".into(), at(10), at(20), vec![job()], at(10)).await
            };
            tokio::spawn(tick)
        })
        .collect();
    let mut taken = 0;
    for racer in racers {
        taken += usize::from(racer.await.unwrap().unwrap());
    }
    assert_eq!((taken, stage.counts().await.unwrap().ready), (1, 1));
    let expected = CronRow { next_at: at(20), last_at: Some(at(10)), ..nightly() };
    assert_eq!(the_one(&stage).await, expected);
}

pub(crate) async fn a_tick_from_elsewhere_stores_nothing(stage: Stage) {
    stage.put_cron(nightly()).await.unwrap();
    let tick = |name: &str, from| stage.tick_cron(name.into(), from, at(30), vec![job()], NOW);
    assert!(!tick("nightly", at(11)).await.unwrap());
    assert!(!tick("unknown", at(10)).await.unwrap());
    assert_eq!(the_one(&stage).await, nightly());
    assert_eq!(stage.counts().await.unwrap().ready, 0);
}

pub(crate) async fn a_tick_stores_none_or_many(stage: Stage) {
    stage.put_cron(nightly()).await.unwrap();
    stage.add(keyed(b"k")).await;
    assert!(stage.tick_cron("nightly".into(), at(10), at(20), vec![], NOW).await.unwrap());
    let jobs = vec![job(), keyed(b"k"), job()];
    assert!(stage.tick_cron("nightly".into(), at(20), at(30), jobs, NOW).await.unwrap());
    assert_eq!(stage.counts().await.unwrap().ready, 3, "a duplicate hinders nothing");
}
