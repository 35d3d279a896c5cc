//! A mailer that runs on a database.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use steadfast_actors::jobs::{Job, Jobs, QueueSpec};
use steadfast_actors::kernel::Tree;
use steadfast_actors::mailer::provider::HttpProvider;
use steadfast_actors::mailer::{Deliver, Mail, Mailer, ProviderSpec};
use steadfast_actors::store::Store;
use tokio::time::sleep;

use crate::jobs::{Failure, Site, words};

/// LIMIT: longer than any scenario takes on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(300);
/// Mails that are stored at a time.
const BATCH: u64 = 250;

/// A mailer with one provider, and its queue.
pub(super) struct Post {
    mailer: Mailer,
    jobs: Jobs,
    store: Store,
    tree: Tree,
}

impl Post {
    pub(super) async fn start(
        site: &Site,
        provider: HttpProvider,
        at_a_time: u16,
    ) -> Result<Self, Failure> {
        let (store, tree) = (site.open().await?, Tree::new());
        let provider = ProviderSpec::new(provider).at_a_time(at_a_time.into());
        let mailer = Mailer::builder(&store).provider(provider).build(&tree).map_err(words)?;
        let queue = QueueSpec::new(Deliver::QUEUE).workers(at_a_time);
        let jobs = mailer.declare(Jobs::builder(&store).queue(queue));
        let jobs = jobs.start(&tree).await.map_err(words)?;
        drop(mailer.start(&jobs, &tree));
        Ok(Self { mailer, jobs, store, tree })
    }

    /// Stores mails while the queue is paused, so that sending them can be timed.
    pub(super) async fn fill(&self, mail: &Mail, count: u64) -> Result<(), Failure> {
        self.jobs.pause(Deliver::QUEUE).await.map_err(words)?;
        let mut left = count;
        while left > 0 {
            let some = left.min(BATCH);
            let stored = (0..some).map(|_| self.mailer.enqueue(mail.clone()).into_future());
            for one in join_all(stored).await {
                one.map_err(words)?;
            }
            left -= some;
        }
        Ok(())
    }

    /// Lets the queue go on, and waits until the provider has `count` mails and no job is left.
    pub(super) async fn work_off(
        &self,
        count: u64,
        arrived: impl Fn() -> u64,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        self.jobs.resume(Deliver::QUEUE).await.map_err(words)?;
        while arrived() < count || !self.is_over().await? {
            if began.elapsed() > WITHIN {
                return Err(format!("{} of {count} sent within {WITHIN:?}", arrived()));
            }
            sleep(Duration::from_millis(2)).await;
        }
        match arrived() {
            all if all == count => Ok(()),
            more => Err(format!("{more} mails arrived, and {count} were sent")),
        }
    }

    async fn is_over(&self) -> Result<bool, Failure> {
        let counts = self.jobs.counts().await.map_err(words)?;
        Ok(counts.ready + counts.running + counts.parked == 0)
    }

    pub(super) async fn stop(self) {
        let _report = self.jobs.drain(Duration::from_secs(5)).await;
        self.tree.stop(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}
