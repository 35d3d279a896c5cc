//! Killing the queue's actors while it works.

use actix::{Actor, Handler, Message};

use super::*;
use crate::jobs::actor::JobQueue;
use crate::jobs::dependencies::DependenciesActor;
use crate::jobs::feeder::Feeder;
use crate::jobs::keeper::Keeper;
use crate::jobs::watchman::Watchman;
use crate::kernel::Context;

/// Ends an incarnation.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
enum Die {
    /// With a panic.
    Panic,
    /// As an actor does that gives itself up.
    Fail,
}

macro_rules! mortal {
    ($($actor:ty),*) => {$(
        impl Handler<Die> for $actor {
            type Result = ();

            fn handle(&mut self, how: Die, ctx: &mut Self::Context) {
                match how {
                    Die::Panic => panic!("killed by a test"),
                    Die::Fail => ctx.fail("killed by a test"),
                }
            }
        }
    )*};
}

mortal!(Keeper, JobQueue, DependenciesActor, Feeder, Watchman);

on_each_database! {
    killing_the_actors_loses_nothing_and_runs_nothing_twice,
}

async fn kill<A>(bench: &Bench, name: &str, how: Die)
where
    A: Actor<Context = Context<A>> + Handler<Die>,
{
    let actor = bench.tree.find::<A>(name).unwrap_or_else(|| panic!("{name} is in the tree"));
    // It may be dead already, or rest.
    let _dead = actor.tell(how);
}

pub(super) async fn kill_keeper(bench: &Bench) {
    kill::<Keeper>(bench, "jobs.keeper", Die::Panic).await;
}

async fn killing_the_actors_loses_nothing_and_runs_nothing_twice(base: Base) {
    const JOBS: u64 = 2_000;
    let bench = base.bench(|builder| builder).await;
    let tasks = |from: u64| (from..from + 100).map(|number| task(format!("{number}")));
    let mut added = 0;
    let mut round = 0_u32;
    while bench.jobs.counts().await.map_or(0, |counts| counts.done) < JOBS {
        assert!(round < 2_000, "it gets nowhere: {:?}", bench.jobs.counts().await);
        if added < JOBS {
            // Refused while its actor is down; then nothing was stored.
            match bench.jobs.enqueue_many(tasks(added)).await {
                Ok(_) => added += 100,
                Err(error) => assert!(error.stored_nothing(), "{error}"),
            }
        }
        let how = if round.is_multiple_of(2) { Die::Panic } else { Die::Fail };
        match round % 10 {
            0 => kill::<Feeder>(&bench, "jobs.feeder.default", how).await,
            3 => kill::<Keeper>(&bench, "jobs.keeper", how).await,
            5 => kill::<Watchman>(&bench, "jobs.guard.default", how).await,
            7 => kill::<DependenciesActor>(&bench, "jobs.dependencies", how).await,
            9 => kill::<JobQueue>(&bench, "jobs.queue", how).await,
            _ => {}
        }
        round += 1;
        sleep(Duration::from_millis(10)).await;
    }
    let alive = async || bench.jobs.counts().await.ok();
    eventually(alive, "the queue answers again").await;
    bench.finishes(JOBS).await;
    let mut lines = bench.log.lines();
    assert_eq!(lines.len() as u64, JOBS, "each ran once");
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len() as u64, JOBS, "none is missing");
    bench.stop().await;
}
