//! Declaring a group.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;

use super::actor::Supervisor;
use super::board::{Board, Child};
use crate::kernel::host::{Context, Ref};
use crate::kernel::restart::Exhausted;
use crate::kernel::spec::{Placement, Spec};
use crate::kernel::tree::Tree;

/// Who is restarted when a child fails (the words are Erlang/OTP's).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// The child alone. For children that do not know each other. The default.
    #[default]
    OneForOne,
    /// All children. For children that are wrong about each other once one is new.
    OneForAll,
    /// The child and those started after it. For a chain in which each builds on the one
    /// before.
    RestForOne,
}

impl Strategy {
    /// The children that restart when `failed` of `count` fails.
    pub(super) const fn affected(self, failed: usize, count: usize) -> Range<usize> {
        match self {
            Self::OneForOne => failed..failed + 1,
            Self::OneForAll => 0..count,
            Self::RestForOne => failed..count,
        }
    }
}

/// Actors that start in order, restart by a [`Strategy`], and stop in reverse order.
///
/// A child that rests in quarantine or stopped by itself is not part of a restart until
/// it is back.
///
/// # Examples
///
/// ```no_run
/// use steadfast_actors::kernel::{Context, Group, Spec, Strategy, Tree};
/// # #[derive(Default)] struct Connection;
/// # impl actix::Actor for Connection { type Context = Context<Self>; }
/// # #[derive(Default)] struct Session;
/// # impl actix::Actor for Session { type Context = Context<Self>; }
///
/// let tree = Tree::new();
/// let mut group = Group::new(&tree, "feed", Strategy::RestForOne);
/// let connection = group.add(Spec::new("connection", Connection::default));
/// let session = group.add(Spec::new("session", Session::default));
/// group.start();
/// ```
#[must_use = "a group does nothing until it is started"]
pub struct Group {
    tree: Tree,
    supervisor: Ref<Supervisor>,
    itself: Child,
    board: Arc<Board>,
    children: Vec<Child>,
}

impl Group {
    /// A group on the thread that starts it. Its supervisor escalates once its own
    /// intensity (5 in 30 s) is exhausted.
    pub fn new(tree: &Tree, name: impl Into<Arc<str>>, strategy: Strategy) -> Self {
        Self::placed(tree, name, strategy, Placement::Here)
    }

    /// A group whose supervisor, and every child that names no thread of its own, runs at
    /// `placement`.
    pub fn placed(
        tree: &Tree,
        name: impl Into<Arc<str>>,
        strategy: Strategy,
        placement: Placement,
    ) -> Self {
        let board = Arc::new(Board::new(strategy, tree.downgrade()));
        let supervised = Arc::clone(&board);
        // It has nothing of its own to finish: its children have drained before it stops.
        let spec = Spec::new(name, move || Supervisor::new(Arc::clone(&supervised)))
            .exhausted(Exhausted::Escalate)
            .drain(Duration::ZERO)
            .place(placement);
        let (supervisor, itself) = tree.prepare(spec, None, Some(Arc::clone(&board)));
        Self { tree: tree.clone(), supervisor, itself, board, children: Vec::new() }
    }

    /// Adds an actor. The handle is valid at once; messages queue until it is up.
    pub fn add<A>(&mut self, spec: Spec<A>) -> Ref<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let (reference, child) = self.tree.prepare(spec, Some(self.itself.id()), None);
        self.children.push(child);
        reference
    }

    /// Adds a group as one child.
    pub fn add_group(&mut self, group: Self) -> Ref<Supervisor> {
        let Self { supervisor, itself, board, children, .. } = group;
        self.tree.adopt(itself.id(), self.supervisor.shared().id);
        board.seat(itself.id(), children);
        self.children.push(itself);
        supervisor
    }

    /// Starts the supervisor, which starts the children in the order they were added.
    ///
    /// The group stops with the tree. To stop the returned supervisor alone leaves its
    /// children to themselves: they go on directly under the tree, one for one; those it
    /// had not started yet, and those that waited for it, stop.
    ///
    /// # Panics
    ///
    /// With [`Placement::Here`], outside of an actix runtime or a tokio `LocalSet`.
    pub fn start(self) -> Ref<Supervisor> {
        let Self { tree, supervisor, itself, board, children } = self;
        board.seat(itself.id(), children);
        tree.seat_under_root(&itself);
        itself.launch();
        supervisor
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.supervisor.name())
            .field("children", &self.children.len())
            .finish_non_exhaustive()
    }
}
