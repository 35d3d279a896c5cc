//! The supervision tree of one process: every actor in it, by name and in start order.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::Actor;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use super::dead_letters::DeadLetters;
use super::gate::Gate;
use super::host::{Context, Host, Ref, Unhosted, mailbox};
use super::shared::{ActorState, Parent, Seat, Shared};
use super::spec::{Overflow, Placement, Spec};
use super::supervisor::{Board, Child, stop_all};
use super::timer::in_time;

/// The supervision tree: starts actors, finds them by name, shows them, stops them.
///
/// One per process is usual; a test makes its own. Cheap to clone. An actor started
/// directly under it is supervised one for one.
#[derive(Clone)]
pub struct Tree(Arc<Inner>);

struct Inner {
    next_id: AtomicU64,
    nodes: Mutex<Nodes>,
    dead_letters: Arc<DeadLetters>,
    escalated: AtomicBool,
    on_escalation: RwLock<Option<EscalationHook>>,
    root: Arc<Root>,
}

/// Actors of one name are numbered one by one below this.
const SMALL_NUMBERS: u64 = 16;

type EscalationHook = Arc<dyn Fn(&str, &str) + Send + Sync>;

#[derive(Default)]
struct Nodes {
    /// By id, which is start order.
    by_id: BTreeMap<u64, Node>,
    by_name: HashMap<Arc<str>, u64>,
    fallen: VecDeque<NodeInfo>,
}

struct Node {
    shared: Arc<Shared>,
    parent: Option<u64>,
    drain: Duration,
    /// The `Ref`, which keeps the mailbox open and answers [`Tree::find`].
    reference: Box<dyn Any + Send + Sync>,
    board: Option<Arc<Board>>,
}

impl Tree {
    /// LIMIT: actors that stopped because they failed too often and are still shown.
    const FALLEN_SHOWN: usize = 64;

    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        super::panic::install_hook();
        Self(Arc::new_cyclic(|inner| Inner {
            next_id: AtomicU64::new(1),
            nodes: Mutex::default(),
            dead_letters: Arc::new(DeadLetters::new()),
            escalated: AtomicBool::new(false),
            on_escalation: RwLock::new(None),
            root: Arc::new(Root(Weak::clone(inner))),
        }))
    }

    /// Starts an actor. The handle is valid at once; messages queue until it is up.
    ///
    /// If the name is taken, a number is added to it.
    ///
    /// # Panics
    ///
    /// With [`Placement::Here`], outside of an actix runtime or a tokio `LocalSet`.
    pub fn start<A>(&self, spec: Spec<A>) -> Ref<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let (reference, child) = self.prepare(spec, None, None);
        self.seat_under_root(&child);
        child.launch();
        reference
    }

    pub(super) fn seat_under_root(&self, child: &Child) {
        let parent: Arc<dyn Parent> = Arc::clone(&self.0.root) as _;
        child.sit(Seat { parent, index: usize::try_from(child.id()).unwrap_or(usize::MAX) });
    }

    /// Puts a node prepared on its own under another.
    pub(super) fn adopt(&self, id: u64, parent: u64) {
        if let Some(node) = self.0.nodes.lock().by_id.get_mut(&id) {
            node.parent = Some(parent);
        }
    }

    /// The actor of this type and name, while it lives.
    #[must_use]
    pub fn find<A>(&self, name: &str) -> Option<Ref<A>>
    where
        A: Actor<Context = Context<A>>,
    {
        let nodes = self.0.nodes.lock();
        let node = nodes.by_id.get(nodes.by_name.get(name)?)?;
        node.reference.downcast_ref::<Ref<A>>().cloned()
    }

    /// What every actor is doing, in start order; then the last ones that fell for good.
    ///
    /// Reads atomics under one short lock: cheap enough for every scrape and probe.
    #[must_use]
    pub fn snapshot(&self) -> TreeSnapshot {
        let nodes = self.0.nodes.lock();
        let live =
            nodes.by_id.values().map(|node| NodeInfo::with_parent(&node.shared, node.parent));
        TreeSnapshot {
            nodes: live.chain(nodes.fallen.iter().cloned()).collect(),
            dead_letters: self.0.dead_letters.total(),
            escalated: self.has_escalated(),
        }
    }

    /// Messages that were accepted and never run.
    #[must_use]
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.0.dead_letters
    }

    /// Whether a failure reached the root: something the service cannot do without is
    /// gone, and the process should be replaced.
    #[must_use]
    pub fn has_escalated(&self) -> bool {
        self.0.escalated.load(Ordering::Acquire)
    }

    /// Calls `hook` with the actor's name and the reason when a failure reaches the root.
    /// It runs on the failed actor's thread and must not block; a panic in it is ignored.
    pub fn on_escalation(&self, hook: impl Fn(&str, &str) + Send + Sync + 'static) {
        *self.0.on_escalation.write() = Some(Arc::new(hook));
    }

    /// Stops every actor: in reverse start order, groups from their last child to their
    /// first, each draining for its own time, all within `within`.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropped half-way, the actors not reached yet keep running. Call
    /// it again to go on.
    pub async fn stop(&self, within: Duration) -> StopReport {
        let deadline = in_time(within);
        let roots = {
            let nodes = self.0.nodes.lock();
            let roots = nodes.by_id.values().filter(|node| node.parent.is_none());
            roots.map(|node| (Arc::clone(&node.shared), node.board.clone(), node.drain)).collect()
        };
        let unfinished = stop_all(roots, deadline).await;
        self.forget_the_unseated();
        StopReport { unfinished }
    }

    pub(super) fn prepare<A>(
        &self,
        spec: Spec<A>,
        parent: Option<u64>,
        board: Option<Arc<Board>>,
    ) -> (Ref<A>, Child)
    where
        A: Actor<Context = Context<A>>,
    {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let name = self.free_name(&spec.name, id);
        let kind = std::any::type_name::<A>();
        let dead_letters = Arc::clone(&self.0.dead_letters);
        let gate = match spec.overflow {
            Overflow::Wait => Gate::with_line(spec.capacity),
            Overflow::Reject | Overflow::DropOldest => Gate::new(spec.capacity),
        };
        let shared = Shared::new(id, name, kind, gate, dead_letters);
        let (addr, receiver) = mailbox::<A>();
        let reference = Ref::new(addr, Arc::clone(&shared), spec.overflow);
        self.0.nodes.lock().by_id.insert(
            id,
            Node {
                shared: Arc::clone(&shared),
                parent,
                drain: spec.drain,
                reference: Box::new(reference.clone()),
                board: board.clone(),
            },
        );
        let host = Host::new(Unhosted {
            myself: reference.clone(),
            receiver,
            factory: spec.factory,
            policy: spec.policy,
            budget: spec.budget,
        });
        let child = Child::new(shared, board, spec.drain, spec.start_within, move || {
            match spec.placement {
                Placement::Here => host.run(),
                // Where the thread is gone, the host ends the actor as it is dropped.
                Placement::On(arbiter) => drop(arbiter.spawn_fn(move || host.run())),
            }
        });
        (reference, child)
    }

    /// Groups that were declared and never started have nobody who would take them out.
    fn forget_the_unseated(&self) {
        let over = |node: &Node| node.shared.state() == ActorState::Stopped;
        let over: Vec<_> = {
            let nodes = self.0.nodes.lock();
            nodes.by_id.iter().filter(|(_, node)| over(node)).map(|(&id, _)| id).collect()
        };
        over.into_iter().for_each(|id| self.remove(id));
    }

    fn free_name(&self, wanted: &Arc<str>, id: u64) -> Arc<str> {
        let mut nodes = self.0.nodes.lock();
        let mut name = Arc::clone(wanted);
        // Small numbers for the few, and then the id: a search through thousands of actors
        // of one name would make each start slower than the one before.
        let mut numbers = (2..SMALL_NUMBERS).chain(id.max(SMALL_NUMBERS)..);
        while nodes.by_name.contains_key(&name) {
            let Some(number) = numbers.next() else { break };
            name = Arc::from(format!("{wanted}-{number}"));
        }
        nodes.by_name.insert(Arc::clone(&name), id);
        name
    }

    /// Forgets an actor that is gone.
    pub(super) fn remove(&self, id: u64) {
        let removed = {
            let mut nodes = self.0.nodes.lock();
            let node = nodes.by_id.remove(&id);
            if let Some(node) = &node {
                nodes.by_name.remove(&node.shared.name);
                nodes.keep_fallen(node);
                nodes.orphan(id, node);
            }
            node
        };
        if let Some(board) = removed.and_then(|node| node.board) {
            board.orphan();
        }
    }

    pub(super) fn downgrade(&self) -> WeakTree {
        WeakTree(Arc::downgrade(&self.0))
    }
}

impl Nodes {
    /// Puts the children of a supervisor that is gone directly under the tree, which stops
    /// them in the end.
    fn orphan(&mut self, id: u64, supervisor: &Node) {
        if supervisor.board.is_some() {
            let children = self.by_id.values_mut().filter(|node| node.parent == Some(id));
            children.for_each(|child| child.parent = None);
        }
    }

    fn keep_fallen(&mut self, node: &Node) {
        if !node.shared.has_fallen() {
            return;
        }
        if self.fallen.len() == Tree::FALLEN_SHOWN {
            self.fallen.pop_front();
        }
        self.fallen.push_back(NodeInfo::with_parent(&node.shared, node.parent));
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("nodes", &self.0.nodes.lock().by_id.len())
            .finish_non_exhaustive()
    }
}

/// A tree that its own actors refer to without keeping it alive.
#[derive(Clone)]
pub(super) struct WeakTree(Weak<Inner>);

impl WeakTree {
    pub(super) fn remove(&self, id: u64) {
        if let Some(inner) = self.0.upgrade() {
            Tree(inner).remove(id);
        }
    }
}

/// The parent of the actors directly under the tree.
struct Root(Weak<Inner>);

impl Parent for Root {
    fn child_failed(&self, _: usize, _: Duration) -> bool {
        false
    }

    fn child_escalated(&self, child: usize, reason: Arc<str>) -> bool {
        if let Some(inner) = self.0.upgrade() {
            inner.escalate(u64::try_from(child).unwrap_or(u64::MAX), &reason);
        }
        false
    }

    fn child_stopped(&self, child: usize) {
        if let Some(inner) = self.0.upgrade() {
            Tree(inner).remove(u64::try_from(child).unwrap_or(u64::MAX));
        }
    }
}

impl Inner {
    fn escalate(&self, id: u64, reason: &str) {
        self.escalated.store(true, Ordering::Release);
        let name = self.nodes.lock().by_id.get(&id).map(|node| Arc::clone(&node.shared.name));
        let name = name.unwrap_or_else(|| Arc::from("unknown"));
        tracing::error!(actor = &*name, reason, "tree.escalated");
        let hook = self.on_escalation.read().clone();
        if let Some(hook) = hook {
            // A user's hook must not take the failed actor's thread with it.
            let _panicked = super::panic::catch(|| hook(&name, reason));
        }
    }
}

/// What a stop could not finish in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Actors whose accepted work was cut: still queued or in flight at their deadline.
    pub unfinished: Vec<Arc<str>>,
}

impl StopReport {
    /// Whether all accepted work was finished.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unfinished.is_empty()
    }
}

/// What every actor of a tree is doing.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct TreeSnapshot {
    /// In start order, then the last ones that fell for good.
    pub nodes: Vec<NodeInfo>,
    /// Messages accepted and never run, since the start.
    pub dead_letters: u64,
    /// Whether a failure reached the root.
    pub escalated: bool,
}

/// What one actor is doing.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its number in the tree; rises in start order.
    pub id: u64,
    /// The number of its supervisor; `None` directly under the tree.
    pub parent: Option<u64>,
    /// Its name.
    pub name: Arc<str>,
    /// Its Rust type, for developers.
    pub kind: &'static str,
    /// Where it is in its life.
    pub state: ActorState,
    /// Which incarnation; 0 before the first was built.
    pub generation: u32,
    /// Incarnations after the first.
    pub restarts: u64,
    /// Panics of the actor, failed builds and failures it declared.
    pub failures: u64,
    /// Panics of reply tasks, which cost one message each.
    pub task_panics: u64,
    /// Why it failed last.
    pub last_failure: Option<Arc<str>>,
    /// Messages accepted and not finished.
    pub depth: u64,
    /// The bound on `depth`.
    pub capacity: u64,
    /// Time left of its quarantine, in milliseconds; 0 outside of one.
    pub rest_ms: u64,
    /// Messages accepted since the start. Once all are finished, it is the sum of the
    /// five counts below.
    pub sent: u64,
    /// Messages whose handler returned.
    pub handled: u64,
    /// Messages skipped because their deadline had passed.
    pub expired: u64,
    /// Messages skipped because their caller had left.
    pub abandoned: u64,
    /// Messages whose handler panicked.
    pub panicked: u64,
    /// Messages dropped unrun: the actor stopped, rested, or dropped its oldest.
    pub dead_lettered: u64,
}

impl NodeInfo {
    pub(super) fn of(shared: &Shared) -> Self {
        Self::with_parent(shared, shared.parent())
    }

    fn with_parent(shared: &Shared, parent: Option<u64>) -> Self {
        let outcomes = &shared.outcomes;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            id: shared.id,
            parent,
            name: Arc::clone(&shared.name),
            kind: shared.kind,
            state: shared.state(),
            generation: shared.generation(),
            restarts: count(&shared.restarts),
            failures: count(&shared.failures),
            task_panics: count(&shared.task_panics),
            last_failure: shared.last_failure(),
            depth: shared.gate.depth(),
            capacity: shared.gate.capacity(),
            rest_ms: u64::try_from(shared.rest_left().as_millis()).unwrap_or(u64::MAX),
            sent: (shared.gate.entered() + count(&shared.foreign))
                .saturating_sub(count(&shared.bounced)),
            handled: count(&outcomes.handled),
            expired: count(&outcomes.expired),
            abandoned: count(&outcomes.abandoned),
            panicked: count(&outcomes.panicked),
            dead_lettered: count(&outcomes.dead_lettered),
        }
    }
}
