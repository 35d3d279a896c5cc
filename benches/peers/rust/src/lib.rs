//! What the peers share: how they are called, and what they print.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Jobs that are done.
pub static DONE: AtomicU64 = AtomicU64::new(0);

/// `ADDRESS JOBS AT_A_TIME MODE`
pub struct Call {
    pub address: String,
    pub jobs: u64,
    pub at_a_time: usize,
    pub mode: String,
}

impl Call {
    pub fn read() -> Self {
        let mut words = std::env::args().skip(1);
        let mut next = || words.next().expect("ADDRESS JOBS AT_A_TIME MODE");
        let (address, jobs, at_a_time, mode) = (next(), next(), next(), next());
        Self {
            address,
            jobs: jobs.parse().expect("a count"),
            at_a_time: at_a_time.parse().expect("a count"),
            mode,
        }
    }

    /// Says how long it took.
    pub fn tell(&self, began: Instant) {
        println!("seconds {} {}", self.jobs, began.elapsed().as_secs_f64());
    }

    /// Waits until all jobs have run.
    pub async fn all_ran(&self) {
        while DONE.load(Ordering::Relaxed) < self.jobs {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub fn ran() {
    DONE.fetch_add(1, Ordering::Relaxed);
}

/// Has `callers` tasks take numbers below `jobs`.
pub async fn callers<F, Fut>(callers: usize, jobs: u64, one: F)
where
    F: Fn(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let next = std::sync::Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (next, one) = (next.clone(), one.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs {
                        return;
                    }
                    one(number).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no caller fails");
    }
}
