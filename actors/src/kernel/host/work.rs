//! This incarnation's futures: replies, timers and streams the actor spawned.
//!
//! actix owns a future once it is spawned, and drops it only when it is polled. So actix
//! gets a [`WorkFuture`], which is a key; the future itself stays here, where a restart
//! can drop all of them at once and their callers learn it at once.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};

use actix::{Actor, ActorFuture, SpawnHandle};
use slab::Slab;

use super::context::Context;
use crate::kernel::error::{CallError, CutShort};
use crate::kernel::panic;
use crate::kernel::request::Ambient;
use crate::kernel::shared::{Shared, Slot};

type BoxedWork<A> = Pin<Box<dyn ActorFuture<A, Output = ()>>>;

/// Past this many futures in one actor, each of its messages pays for polling them all.
const MANY: usize = 64;

/// Whose work a future is.
pub(super) struct Origin {
    /// The message it is the reply to.
    ticket: Option<u64>,
    /// Held until the work is done.
    _slot: Option<Slot>,
    ambient: Ambient,
}

impl Origin {
    pub(super) const fn background(ambient: Ambient) -> Self {
        Self { ticket: None, _slot: None, ambient }
    }

    pub(super) const fn reply(ticket: Option<u64>, slot: Option<Slot>, ambient: Ambient) -> Self {
        Self { ticket, _slot: slot, ambient }
    }

    /// Tells the caller why there will be no reply, if there is a caller.
    ///
    /// ORDER: before the future is dropped, because that closes the reply channel. The
    /// channel is inside the future, so whether the caller still listens is not known
    /// here: the caller forgets the verdict if it was answered after all.
    fn settle(&self, shared: &Shared, verdict: CallError) {
        if let Some(ticket) = self.ticket {
            shared.verdicts.record_unsure(ticket, verdict);
        }
    }
}

struct Work<A: Actor> {
    /// Tells two futures apart that used the same place one after the other.
    serial: u64,
    /// Absent while it is being polled.
    future: Option<BoxedWork<A>>,
    origin: Option<Origin>,
    handle: Rc<Cell<Option<SpawnHandle>>>,
}

pub(super) struct WorkInFlight<A: Actor> {
    places: Slab<Work<A>>,
    next_serial: u64,
    warned: bool,
}

#[derive(Clone, Copy)]
pub(super) struct WorkKey {
    place: usize,
    serial: u64,
}

impl<A: Actor> WorkInFlight<A> {
    pub(super) const fn new() -> Self {
        Self { places: Slab::new(), next_serial: 0, warned: false }
    }

    pub(super) fn insert(
        &mut self,
        future: BoxedWork<A>,
        origin: Origin,
        handle: Rc<Cell<Option<SpawnHandle>>>,
    ) -> WorkKey {
        let serial = self.next_serial;
        self.next_serial += 1;
        let work = Work { serial, future: Some(future), origin: Some(origin), handle };
        let place = self.places.insert(work);
        if self.places.len() > MANY && !self.warned {
            self.warned = true;
            tracing::warn!(
                actor = std::any::type_name::<A>(),
                futures = self.places.len(),
                "actor.many_futures: each message polls all of them; answer with Reply::task"
            );
        }
        WorkKey { place, serial }
    }

    /// Drops everything, telling each caller why.
    pub(super) fn clear(&mut self, shared: &Shared, why: CutShort) {
        for work in self.places.drain() {
            if let Some(origin) = &work.origin {
                origin.settle(shared, CallError::Cancelled(why));
            }
            drop_quietly(shared, work.future);
        }
    }

    pub(super) fn cancel(&mut self, handle: SpawnHandle) {
        let found = self.places.iter().find(|(_, work)| work.handle.get() == Some(handle));
        if let Some((place, _)) = found {
            drop(self.places.try_remove(place));
        }
    }

    /// Takes a future out to poll it. `None` when a restart dropped it meanwhile.
    fn take(&mut self, key: WorkKey) -> Option<(BoxedWork<A>, Origin)> {
        let work = self.at(key)?;
        Some((work.future.take()?, work.origin.take()?))
    }

    /// Puts a pending future back, unless a restart came while it was polled.
    fn put_back(
        &mut self,
        key: WorkKey,
        future: BoxedWork<A>,
        origin: Origin,
    ) -> Result<(), (BoxedWork<A>, Origin)> {
        let Some(work) = self.at(key) else { return Err((future, origin)) };
        work.future = Some(future);
        work.origin = Some(origin);
        Ok(())
    }

    fn remove(&mut self, key: WorkKey) {
        if self.at(key).is_some() {
            drop(self.places.try_remove(key.place));
        }
    }

    fn at(&mut self, key: WorkKey) -> Option<&mut Work<A>> {
        self.places.get_mut(key.place).filter(|work| work.serial == key.serial)
    }
}

/// Drops the future of an incarnation that has ended, and tells its caller, if it has one.
pub(super) fn refuse<T>(shared: &Shared, origin: &Origin, future: T) {
    origin.settle(shared, CallError::Cancelled(CutShort::Restart));
    drop_quietly(shared, future);
}

fn drop_quietly<T>(shared: &Shared, value: T) {
    if let Err(caught) = panic::catch(|| drop(value)) {
        tracing::error!(actor = &*shared.name, panic = %caught.message(), "actor.panic_in_drop");
    }
}

/// What actix holds instead of the future.
pub(super) struct WorkFuture {
    key: WorkKey,
}

impl WorkFuture {
    pub(super) const fn new(key: WorkKey) -> Self {
        Self { key }
    }
}

impl<A> ActorFuture<A> for WorkFuture
where
    A: Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        act: &mut A,
        ctx: &mut Context<A>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        let Some((mut future, origin)) = ctx.work().take(self.key) else {
            return Poll::Ready(());
        };
        let polled = panic::catch(|| origin.ambient.enter(|| future.as_mut().poll(act, ctx, task)));
        let shared = Arc::clone(ctx.shared());
        match polled {
            Ok(Poll::Pending) => match ctx.work().put_back(self.key, future, origin) {
                Ok(()) => Poll::Pending,
                Err((future, origin)) => {
                    // Its own poll ended the incarnation.
                    refuse(&shared, &origin, future);
                    Poll::Ready(())
                }
            },
            Ok(Poll::Ready(())) => {
                ctx.work().remove(self.key);
                drop_quietly(&shared, future);
                Poll::Ready(())
            }
            Err(caught) => {
                origin.settle(&shared, ctx.verdict(&caught));
                ctx.work().remove(self.key);
                drop_quietly(&shared, future);
                ctx.panicked(&caught, None);
                Poll::Ready(())
            }
        }
    }
}
