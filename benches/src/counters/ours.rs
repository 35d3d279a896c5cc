//! Our own way, as a service has it: a job of a queue.

use std::time::{Duration, Instant};

use steadfast_actors::counters::{CounterReport, CounterSpec, Counters, RunState};
use steadfast_actors::jobs::Jobs;
use steadfast_actors::kernel::Tree;
use steadfast_actors::store::Store;
use tokio::time::sleep;

use super::Failure;

/// LIMIT: longer than a repair takes on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(600);

/// Counters with a queue that works.
#[derive(Debug)]
pub(super) struct Ours {
    tree: Tree,
    store: Store,
    jobs: Jobs,
    counters: Counters,
}

impl Ours {
    pub(super) async fn start(store: Store, tables: &str) -> Result<Self, Failure> {
        let tree = Tree::new();
        let spec = CounterSpec::new("topic_posts")
            .parent(&format!("{tables}topics"), "id")
            .column("posts_count")
            .child(&format!("{tables}posts"), "topic_id")
            .filter("deleted_at is null");
        let counters = Counters::builder(&store).counter(spec);
        let (counters, jobs) = counters.register(Jobs::builder(&store))?;
        let jobs = jobs.start(&tree).await?;
        let counters = counters.start(&tree, &jobs);
        Ok(Self { tree, store, jobs, counters })
    }

    /// From asking for it to its end.
    pub(super) async fn repair(&self) -> Result<(Duration, CounterReport), Failure> {
        let begun = Instant::now();
        let started = self.counters.repair("topic_posts").await?;
        while begun.elapsed() < WITHIN {
            let report = self.counters.report(started.job).await?;
            if let Some(report) = report.filter(|report| report.state == RunState::Done) {
                return Ok((begun.elapsed(), report));
            }
            sleep(Duration::from_millis(2)).await;
        }
        Err("the repair does not end".into())
    }

    pub(super) async fn stop(self) {
        let within = Duration::from_secs(10);
        self.jobs.drain(within).await;
        self.tree.stop(within).await;
        self.store.close().await;
    }
}
