//! What a database does in the name of a process that is dead already.

use super::clocks::beats;
use super::*;
use crate::jobs::store::{Beat, Claim};

on_each_database! {
    a_claim_that_is_carried_out_after_the_death_of_its_process_is_found_at_once,
}

/// Less than the time after which the leader looks for jobs that nobody holds.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn a_claim_that_is_carried_out_after_the_death_of_its_process_is_found_at_once(base: Base) {
    let bench = base
        .bench(|builder| {
            let builder = builder.expires_after(Duration::from_millis(500));
            builder.queue(QueueSpec::new("default").workers(0))
        })
        .await;
    let (store, now) = (bench.jobs.store(), bench.jobs.clock().now());
    let (name, report) = ("dies".into(), "{}".into());
    let beat = Beat { node: NodeId::fresh(), name, presence: None, report };
    let died = beat.node;
    let mut events = bench.jobs.events();
    store.beat(beat, now).await.unwrap();
    let id = bench.add("work").await;
    loop {
        let event = tokio::time::timeout(WITHIN, events.recv()).await.unwrap().unwrap();
        if matches!(event, JobEvent::Rescued { nodes, .. } if nodes.contains(&died)) {
            break;
        }
    }
    // It is forgotten here too, not only in the tables.
    let before = beats(&bench).await;
    let beaten = async || (beats(&bench).await >= before + 2).then_some(());
    eventually(beaten, "it beats").await;
    let claim = Claim { queue: "default".into(), node: died, wants: [1; 4], running_limit: None };
    let claimed = store.step(Vec::new(), Some(claim), bench.jobs.clock().now()).await.unwrap();
    assert_eq!(claimed.claimed.len(), 1, "the database knows nothing of its death");
    let since = Instant::now();
    bench.reaches(id, JobState::Ready).await;
    assert!(since.elapsed() < AT_ONCE, "found after {:?}", since.elapsed());
    bench.stop().await;
}
