//! The way to standard error: a bounded queue, and a thread that writes.
//!
//! Whoever reads the log may be slow, stuck or gone. Each of those would stop every thread that
//! logs, so no thread of the service writes by itself: it queues the line, or loses it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// LIMIT: bytes that wait for a reader. What comes on top is lost, and counted.
const QUEUED_MAX: usize = 4 * 1024 * 1024;
/// What a line costs besides its text, so that empty lines are bounded too.
const LINE_COST: usize = 64;
/// LIMIT: how long a process that is about to end waits for whoever reads its log.
const FLUSH_MAX: Duration = Duration::from_secs(1);

static STANDARD_ERROR: OnceLock<LineQueue> = OnceLock::new();

/// Waits until all lines logged so far are written, for at most a second: nobody may be reading.
///
/// For programs that log until their end. [`Steadfast::serve`](crate::Steadfast::serve) does it
/// as its last step. It blocks; without [`Telemetry::install`](super::Telemetry::install) there
/// is nothing to wait for.
pub fn flush() {
    if let Some(queue) = STANDARD_ERROR.get() {
        queue.flush(FLUSH_MAX);
    }
}

/// Makes this queue the one that [`flush`] means.
pub(super) fn remember(queue: LineQueue) {
    // Whoever was first is the subscriber's; a second one was refused by `tracing` already.
    drop(STANDARD_ERROR.set(queue));
}

enum Order {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicUsize,
    lost: AtomicU64,
}

/// Takes lines without ever waiting. Clones share one thread, which ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct LineQueue {
    orders: Sender<Order>,
    counts: Arc<Counts>,
}

impl LineQueue {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    ///
    /// The operating system has no thread to give.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let write = move || write_all(&received, output, &shared);
        std::thread::Builder::new().name("log".into()).spawn(write)?;
        Ok(Self { orders, counts })
    }

    fn push(&self, text: &[u8]) {
        let cost = text.len() + LINE_COST;
        let queued = self.counts.queued.fetch_add(cost, Ordering::Relaxed);
        let fits = queued + cost <= QUEUED_MAX;
        if !fits || self.orders.send(Order::Line(text.to_vec())).is_err() {
            self.counts.queued.fetch_sub(cost, Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, within: Duration) {
        let (done, written) = mpsc::sync_channel(1);
        if self.orders.send(Order::Flush(done)).is_ok() {
            // Too late is as good as never: there is nobody to tell.
            let _in_time = written.recv_timeout(within);
        }
    }
}

fn write_all(orders: &Receiver<Order>, mut output: impl Write, counts: &Counts) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Line(text) => {
                // A reader that is gone may come back; the lines until then are lost.
                let _unread = output.write_all(&text);
                counts.queued.fetch_sub(text.len() + LINE_COST, Ordering::Relaxed);
                report_loss(counts);
            }
            Order::Flush(done) => {
                let _unread = output.flush();
                // Whoever asked may have given up.
                let _unheard = done.try_send(());
            }
        }
    }
}

/// Tells how many lines were lost, once there is room for more than that.
fn report_loss(counts: &Counts) {
    if counts.queued.load(Ordering::Relaxed) > QUEUED_MAX / 2 {
        return;
    }
    let lines = counts.lost.swap(0, Ordering::Relaxed);
    if lines > 0 {
        tracing::warn!(lines, "telemetry.lines_lost");
    }
}

impl Write for &LineQueue {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::SyncSender;

    /// Hands on what is written, and blocks while nobody takes it.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.send(text.to_vec()).map_err(|_gone| io::ErrorKind::BrokenPipe)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_in_order_before_a_flush_returns() {
        let (pipe, read) = mpsc::sync_channel(10);
        let queue = LineQueue::start(Pipe(pipe)).unwrap();
        for line in ["a\n", "b\n"] {
            (&queue).write_all(line.as_bytes()).unwrap();
        }
        queue.flush(Duration::from_secs(60));
        assert_eq!(read.try_iter().collect::<Vec<_>>(), [b"a\n", b"b\n"]);
    }

    #[test]
    fn what_a_stuck_reader_leaves_is_kept_up_to_the_limit_and_lost_past_it() {
        let (pipe, read) = mpsc::sync_channel(0);
        let queue = LineQueue::start(Pipe(pipe)).unwrap();
        let line = vec![b'x'; QUEUED_MAX / 4 - LINE_COST];
        for lost in [0, 0, 0, 0, 1, 2] {
            queue.push(&line);
            assert_eq!(queue.counts.lost.load(Ordering::Relaxed), lost);
        }
        queue.flush(Duration::from_millis(1));
        assert_eq!(read.iter().take(4).map(|text| text.len()).sum::<usize>(), line.len() * 4);
        queue.flush(Duration::from_secs(60));
        queue.push(&line);
        assert_eq!(read.recv().unwrap(), line, "and then there is room again");
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
        let (pipe, read) = mpsc::sync_channel(0);
        let queue = LineQueue::start(Pipe(pipe)).unwrap();
        drop(read);
        for _ in 0..100 {
            (&queue).write_all(b"unread\n").unwrap();
        }
        queue.flush(Duration::from_secs(60));
        assert_eq!(queue.counts.queued.load(Ordering::Relaxed), 0);
    }
}
