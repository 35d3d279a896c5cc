//! Claims about processes, their runs, and leadership.

use super::stage::{DONE, NOW, Stage, at, claim, job, job_of};
use crate::jobs::store::Beat;
use crate::jobs::{Class, NodeId};
use crate::store::Timestamp;

pub(crate) async fn a_beat_is_counted_and_seen_by_all(stage: Stage) {
    let (one, other) = (NodeId::fresh(), NodeId::fresh());
    let beat = |node, report: &str| Beat {
        node,
        name: "host".into(),
        presence: Some("/run/lock".into()),
        report: report.into(),
    };
    let first = stage.beat(beat(one, "{}"), NOW).await.unwrap();
    assert_eq!(first.nodes.len(), 1);
    assert_eq!((first.nodes[0].id, first.nodes[0].beats), (one, 1));
    stage.beat(beat(one, r#"{"rate":1}"#), at(1)).await.unwrap();
    let mut seen = stage.beat(beat(other, "{}"), at(2)).await.unwrap().nodes;
    seen.sort_by_key(|node| node.id != one);
    assert_eq!((seen.len(), seen[0].id, seen[0].beats), (2, one, 2));
    assert_eq!((&*seen[0].name, seen[0].presence.as_deref()), ("host", Some("/run/lock")));
    assert_eq!(seen[0].report.as_deref(), Some(r#"{"rate":1}"#));
    assert_eq!((seen[1].id, seen[1].beats), (other, 1));
}

pub(crate) async fn a_process_that_leaves_is_forgotten(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    stage.leave(one).await.unwrap();
    stage.leave(one).await.unwrap();
    let nodes = stage.pulse(other).await.nodes;
    assert!(nodes.iter().map(|node| node.id).eq([other]));
}

pub(crate) async fn a_restarted_process_of_the_same_name_is_another(stage: Stage) {
    let died = stage.node().await;
    let key = stage.running(died, job()).await;
    let restarted = stage.node().await;
    let seen = stage.pulse(restarted).await.nodes;
    assert!(seen.len() == 2 && seen[0].name == seen[1].name);
    assert!(stage.runs_of(restarted, at(60)).await.unwrap().is_empty());
    assert_eq!(stage.runs_of(died, at(60)).await.unwrap(), [key]);
    stage.rescue(vec![died], 3, NOW).await.unwrap();
    assert!(!stage.end(key, DONE).await, "the new one cannot end what the old one began");
}

pub(crate) async fn runs_are_told_that_were_claimed_before(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    stage.add_all([job(), job_of(Class::Critical)]).await;
    let mut keys: Vec<_> = stage.claim(claim(one, 9)).await.iter().map(|one| one.key).collect();
    keys.sort();
    stage.running(other, job()).await;
    assert!(stage.runs_of(one, NOW).await.unwrap().is_empty());
    let mut found = stage.runs_of(one, Timestamp(NOW.0 + 1)).await.unwrap();
    found.sort();
    assert_eq!(found, keys);
    assert!(stage.end(keys[0], DONE).await);
    assert_eq!(stage.runs_of(one, at(1)).await.unwrap(), keys[1..]);
}

pub(crate) async fn nobody_is_elected_while_another_leads(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let term = stage.elect("jobs", one, at(15), NOW).await.unwrap();
    assert!(term.is_some());
    let almost = Timestamp(at(15).0 - 1);
    assert_eq!(stage.elect("jobs", other, at(30), almost).await.unwrap(), None);
    assert!(stage.elect("mail", other, at(30), almost).await.unwrap().is_some());
}

pub(crate) async fn a_leader_that_stays_keeps_its_term(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let term = stage.elect("jobs", one, at(15), NOW).await.unwrap();
    assert_eq!(stage.elect("jobs", one, at(20), at(5)).await.unwrap(), term);
    assert_eq!(stage.elect("jobs", other, at(30), at(16)).await.unwrap(), None);
    assert_eq!(stage.elect("jobs", one, at(60), at(45)).await.unwrap(), term, "nobody came");
}

pub(crate) async fn each_change_of_leader_raises_the_term(stage: Stage) {
    let nodes = [stage.node().await, stage.node().await];
    let mut last = 0;
    for turn in 0..4 {
        let node = nodes[usize::try_from(turn % 2).unwrap()];
        let (until, now) = (at((turn + 1) * 10), at(turn * 10));
        let term = stage.elect("jobs", node, until, now).await.unwrap().unwrap();
        assert!(term > last);
        last = term;
    }
}

pub(crate) async fn a_leader_that_resigns_makes_room(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let first = stage.elect("jobs", one, at(15), NOW).await.unwrap().unwrap();
    stage.resign("jobs", one, first).await.unwrap();
    let second = stage.elect("jobs", other, at(15), NOW).await.unwrap().unwrap();
    assert!(second > first);
}

pub(crate) async fn a_leader_whose_process_is_forgotten_makes_room(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    // By a clock that was an hour ahead.
    let first = stage.elect("jobs", one, at(3_615), at(3_600)).await.unwrap().unwrap();
    assert_eq!(stage.elect("jobs", other, at(15), NOW).await.unwrap(), None);
    stage.rescue(vec![one], 3, NOW).await.unwrap();
    let second = stage.elect("jobs", other, at(15), NOW).await.unwrap().unwrap();
    assert!(second > first);
}

pub(crate) async fn resigning_from_an_old_term_changes_nothing(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let old = stage.elect("jobs", one, at(15), NOW).await.unwrap().unwrap();
    let between = stage.elect("jobs", other, at(30), at(15)).await.unwrap().unwrap();
    let present = stage.elect("jobs", one, at(45), at(30)).await.unwrap().unwrap();
    stage.resign("jobs", one, old).await.unwrap();
    stage.resign("jobs", other, between).await.unwrap();
    stage.resign("jobs", other, present).await.unwrap();
    assert_eq!(stage.elect("jobs", other, at(60), at(31)).await.unwrap(), None);
    assert_eq!(stage.elect("jobs", one, at(60), at(31)).await.unwrap(), Some(present));
}

pub(crate) async fn of_many_racers_one_is_elected(stage: Stage) {
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let stage = stage.clone();
            tokio::spawn(async move {
                let node = stage.node().await;
                stage.elect("jobs", node, at(15), NOW).await
            })
        })
        .collect();
    let mut elected = 0;
    for racer in racers {
        elected += usize::from(racer.await.unwrap().unwrap().is_some());
    }
    assert_eq!(elected, 1);
}
