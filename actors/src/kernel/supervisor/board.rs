//! What a supervisor and its children know of each other.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::group::Strategy;
use crate::kernel::shared::{ActorState, Command, Parent, Seat, Shared};
use crate::kernel::timer::in_time;
use crate::kernel::tree::WeakTree;

/// LIMIT: how long a supervisor waits for a child to drop its work. A child that blocks
/// its thread cannot answer, and must not hold up the rest of its group.
const SUSPEND_WITHIN: Duration = Duration::from_secs(5);

/// LIMIT: how long past its deadline a stopping actor's thread may take to notice.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// One actor as its supervisor sees it.
pub(crate) struct Child {
    shared: Arc<Shared>,
    /// Its own children, when it is a supervisor.
    board: Option<Arc<Board>>,
    drain: Duration,
    start_within: Duration,
    launch: Mutex<Option<Launch>>,
}

type Launch = Box<dyn FnOnce() + Send>;

impl Child {
    pub(crate) fn new(
        shared: Arc<Shared>,
        board: Option<Arc<Board>>,
        drain: Duration,
        start_within: Duration,
        launch: impl FnOnce() + Send + 'static,
    ) -> Self {
        let launch: Launch = Box::new(launch);
        Self { shared, board, drain, start_within, launch: Mutex::new(Some(launch)) }
    }

    pub(crate) fn id(&self) -> u64 {
        self.shared.id
    }

    /// Puts the child under its supervisor; the first seat stands.
    pub(crate) fn sit(&self, seat: Seat) {
        self.shared.sit(seat);
    }

    /// Starts its task; `false` if that was done before, or it was stopped before that.
    pub(crate) fn launch(&self) -> bool {
        let launch = self.launch.lock().take();
        let launch = launch.filter(|_| self.shared.state() != ActorState::Stopped);
        let launch = launch.inspect(|_| self.shared.note_launched());
        launch.map(|launch| launch()).is_some()
    }

    /// Sees to it that it is never started, if it was not yet.
    fn withhold(&self) {
        // ORDER: after the lock: an actor that ends tells its supervisor.
        let launch = self.launch.lock().take();
        drop(launch);
    }

    /// Waits until it is up, or cannot be for now, or the time is over.
    async fn settled(&self, reason: &'static str) {
        let mut life = self.shared.watch();
        let settled = life.wait_for(|event| {
            !matches!(event.state, ActorState::Starting | ActorState::Restarting)
        });
        if timeout(self.start_within, settled).await.is_err() {
            tracing::warn!(actor = &*self.shared.name, within = ?self.start_within, reason);
        }
    }

    async fn suspend(&self) {
        let (done, obeyed) = oneshot::channel();
        self.shared.command(Command::Suspend { done });
        if !self.obeyed(obeyed, SUSPEND_WITHIN).await {
            tracing::warn!(actor = &*self.shared.name, "supervisor.suspend_timeout");
        }
    }

    async fn rebuild(&self) {
        let (done, obeyed) = oneshot::channel();
        self.shared.command(Command::Rebuild { done });
        if self.obeyed(obeyed, self.start_within).await {
            self.settled("supervisor.slow_restart").await;
        }
    }

    /// Waits until a command is obeyed, or nobody is left to obey it; `false` when neither
    /// happens in time.
    async fn obeyed(&self, done: oneshot::Receiver<()>, within: Duration) -> bool {
        let mut life = self.shared.watch();
        let either = async {
            tokio::select! {
                _ = done => {}
                _ = life.wait_for(|event| event.state == ActorState::Stopped) => {}
            }
        };
        timeout(within, either).await.is_ok()
    }

    /// Whether it restarts with its group: it runs, or would if it had not failed.
    fn takes_part(&self) -> bool {
        self.shared.was_launched()
            && !matches!(self.shared.state(), ActorState::Quarantined | ActorState::Stopped)
    }
}

/// What a child asks of its supervisor.
pub(super) enum Report {
    /// Restart me and whoever depends on me, after this pause.
    Failed { after: Duration },
    /// Fail with me.
    Escalated { reason: Arc<str> },
}

pub(crate) struct Board {
    strategy: Strategy,
    tree: WeakTree,
    node: OnceLock<u64>,
    children: OnceLock<Vec<Child>>,
    /// The latest report of each child. LIMIT: one per child.
    reports: Mutex<BTreeMap<usize, Report>>,
    reported: Notify,
    stopping: AtomicBool,
}

impl Board {
    pub(super) const fn new(strategy: Strategy, tree: WeakTree) -> Self {
        Self {
            strategy,
            tree,
            node: OnceLock::new(),
            children: OnceLock::new(),
            reports: Mutex::new(BTreeMap::new()),
            reported: Notify::const_new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Seats the children; done once, when the group starts.
    pub(super) fn seat(self: &Arc<Self>, node: u64, children: Vec<Child>) {
        for (index, child) in children.iter().enumerate() {
            let parent: Arc<dyn Parent> = Arc::clone(self) as _;
            child.sit(Seat { parent, index });
        }
        let _seated_already = self.node.set(node);
        let _seated_already = self.children.set(children);
    }

    fn children(&self) -> &[Child] {
        self.children.get().map_or(&[], Vec::as_slice)
    }

    /// Starts the children that were not started yet, in order, each after the one
    /// before it is up.
    pub(super) async fn launch_all(&self) {
        for child in self.children() {
            if child.launch() {
                child.settled("supervisor.slow_start").await;
            }
        }
    }

    /// Restarts all children: the supervisor itself was rebuilt.
    pub(super) async fn restart_all(&self) {
        let all = 0..self.children().len();
        self.suspend(all.clone(), None).await;
        // ORDER: those that are held report nothing more, and this answers all they said.
        self.reports.lock().clear();
        self.rebuild(all).await;
        self.launch_all().await;
    }

    /// Serves reports until one asks the group to fail; returns why.
    pub(super) async fn serve(&self) -> Arc<str> {
        loop {
            let next = self.reports.lock().pop_first();
            match next {
                None => self.reported.notified().await,
                Some((_, Report::Escalated { reason })) => return reason,
                Some((child, Report::Failed { after })) => self.restart(child, after).await,
            }
        }
    }

    /// Restarts a failed child and, by the strategy, others with it: they stop from the
    /// last to the first and start from the first to the last.
    async fn restart(&self, failed: usize, after: Duration) {
        let affected = self.strategy.affected(failed, self.children().len());
        self.suspend(affected.clone(), Some(failed)).await;
        tokio::time::sleep(after).await;
        self.forget_failures(&affected);
        self.rebuild(affected).await;
    }

    async fn suspend(&self, affected: Range<usize>, except: Option<usize>) {
        for (index, child) in self.numbered(affected).rev() {
            if Some(index) != except && child.takes_part() {
                child.suspend().await;
            }
        }
    }

    /// Rebuilds in order, up to the first that does not come up: it has reported again,
    /// and serving that report goes on from there.
    async fn rebuild(&self, affected: Range<usize>) {
        for (index, child) in self.numbered(affected) {
            if !child.takes_part() {
                continue;
            }
            child.rebuild().await;
            if self.reports.lock().contains_key(&index) {
                return;
            }
        }
    }

    fn numbered(
        &self,
        affected: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = (usize, &Child)> + ExactSizeIterator {
        let children = self.children().get(affected.clone()).unwrap_or_default();
        children.iter().enumerate().map(move |(offset, child)| (affected.start + offset, child))
    }

    /// Failures of children that are about to be rebuilt anyway. Escalations stay.
    fn forget_failures(&self, affected: &Range<usize>) {
        self.reports.lock().retain(|index, report| {
            !affected.contains(index) || matches!(report, Report::Escalated { .. })
        });
    }

    fn report(&self, child: usize, report: Report) -> bool {
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        self.reports.lock().insert(child, report);
        self.reported.notify_one();
        true
    }

    /// Takes the children's failures no more and stops them, last to first.
    async fn stop(&self, deadline: Instant) -> Vec<Arc<str>> {
        self.stopping.store(true, Ordering::Release);
        self.children().iter().for_each(Child::withhold);
        stop_all(self.children().iter().map(Child::stoppable).collect(), deadline).await
    }

    /// The supervisor is gone for good. Its children go on by themselves; those that
    /// waited for it stop, because nobody else would ever wake them.
    pub(crate) fn orphan(&self) {
        self.stopping.store(true, Ordering::Release);
        for child in self.children() {
            child.withhold();
            // ORDER: through the control lane, so that a child that is about to wait, because
            // it has just reported or still has a `Suspend` to obey, is told as well.
            child.shared.command(Command::Abandon);
        }
    }
}

impl Child {
    fn stoppable(&self) -> Stoppable {
        (Arc::clone(&self.shared), self.board.clone(), self.drain)
    }
}

/// An actor to stop, its own children if it is a supervisor, and its time to drain.
type Stoppable = (Arc<Shared>, Option<Arc<Board>>, Duration);

/// Stops actors from the last to the first, their children before them; returns the
/// names of those whose accepted work was cut.
pub(crate) fn stop_all(
    actors: Vec<Stoppable>,
    deadline: Instant,
) -> std::pin::Pin<Box<dyn Future<Output = Vec<Arc<str>>> + Send>> {
    // Boxed because groups nest.
    Box::pin(async move {
        let mut unfinished = Vec::new();
        for (shared, board, drain) in actors.into_iter().rev() {
            if let Some(board) = board {
                unfinished.extend(board.stop(deadline).await);
            }
            if shared.state() == ActorState::Stopped {
                // By itself, or by an operator: whatever was cut then is not this stop's doing.
                continue;
            }
            if !shared.was_launched() {
                shared.close();
                shared.stopped();
                continue;
            }
            let own = deadline.min(in_time(drain));
            let mut life = shared.watch();
            shared.drain(own);
            let stopped = life.wait_for(|event| event.state == ActorState::Stopped);
            let in_time = timeout_at(own + STOP_GRACE, stopped).await.is_ok();
            if !in_time || shared.was_cut() {
                tracing::warn!(
                    actor = &*shared.name,
                    depth = shared.gate.depth(),
                    "tree.cut_short"
                );
                unfinished.push(Arc::clone(&shared.name));
            }
        }
        unfinished
    })
}

impl Parent for Board {
    fn child_failed(&self, child: usize, after: Duration) -> bool {
        self.strategy != Strategy::OneForOne && self.report(child, Report::Failed { after })
    }

    fn child_escalated(&self, child: usize, reason: Arc<str>) -> bool {
        self.report(child, Report::Escalated { reason })
    }

    fn child_stopped(&self, child: usize) {
        if let Some(child) = self.children().get(child) {
            self.tree.remove(child.id());
        }
    }

    fn node(&self) -> Option<u64> {
        self.node.get().copied()
    }
}
