//! When a feeder looks again: a moment that is over would keep it looking without a pause.

use super::*;
use crate::jobs::pool::{Claims, Pool};
use crate::jobs::store::{Settle, Settlement};

fn end() -> Settle {
    let key = RunKey { id: JobId(1), run: 1 };
    let how = Settlement::Done { keep: true };
    Settle { key, how, queued: Duration::ZERO, ran: Duration::ZERO }
}

#[test]
fn nothing_is_looked_at_while_a_question_is_under_way() {
    let (pool, now) = (Pool::new(&QueueSpec::new("default")), Instant::now());
    pool.end(end(), false, now);
    assert!(pool.ask(NodeId::fresh(), Claims::Room, now).is_some());
    pool.end(end(), false, now);
    let later = now + Duration::from_secs(10);
    assert!(pool.ask(NodeId::fresh(), Claims::Room, later).is_none());
    assert!(pool.look_at(Claims::Room, later) > later);
}

#[test]
fn an_end_makes_room_in_a_queue_with_a_limit_at_once() {
    let pool = Pool::new(&QueueSpec::new("default").running_limit(1));
    let (node, now) = (NodeId::fresh(), Instant::now());
    // The limit was reached: nothing comes, of whatever class, although there may be more.
    while let Some(ask) = pool.ask(node, Claims::Room, now) {
        pool.answered(&ask, store::Step::default(), now);
    }
    pool.end(end(), false, now);
    assert!(pool.ask(node, Claims::Room, now).unwrap().claim.is_some());
}

#[test]
fn who_claims_nothing_looks_for_ends_only() {
    let (pool, now) = (Pool::new(&QueueSpec::new("default")), Instant::now());
    pool.due_in(Duration::from_millis(1), now);
    let later = now + Duration::from_secs(10);
    assert!(pool.ask(NodeId::fresh(), Claims::Nothing, later).is_none());
    assert!(pool.look_at(Claims::Nothing, later) > later);
    pool.end(end(), false, later);
    assert!(pool.ask(NodeId::fresh(), Claims::Nothing, later).is_some());
}
