//! A deadline timer per call that costs little when the answer comes first.
//!
//! Almost every call is answered before its deadline, so almost every timer is set and
//! thrown away, and tokio takes a lock for both. A timer that is kept registered and
//! only moved to a later time costs one compare-and-swap instead. So finished calls leave
//! their timer to the next call on the same thread.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep};

/// LIMIT: timers kept per thread; more in flight than this fall back to new ones.
const KEPT: usize = 128;

/// What stands for "for ever" where the clock cannot reach.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The moment `after` from now; a caller may well say `Duration::MAX`.
pub(crate) fn in_time(after: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(after).unwrap_or_else(|| now + FOR_EVER)
}

thread_local! {
    static KEPT_TIMERS: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
}

struct Timer {
    sleep: Pin<Box<Sleep>>,
    runtime: Id,
}

/// Completes at a deadline, to about a millisecond. For deadlines that mostly do not come:
/// dropping it keeps the timer for the next one on the same thread, which makes both cheap.
///
/// # Cancel safety
///
/// Dropping it gives the timer up.
#[must_use = "a timer does nothing until it is awaited"]
pub struct DeadlineTimer(Option<Timer>);

impl DeadlineTimer {
    /// A timer for `deadline`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its time driver on.
    pub fn at(deadline: Instant) -> Self {
        let runtime = Handle::current().id();
        let mut kept = KEPT_TIMERS.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
        // A timer belongs to the runtime it was made on; tests make many on one thread.
        let timer = match kept.take_if(|timer| timer.runtime == runtime) {
            Some(mut timer) => {
                timer.sleep.as_mut().reset(deadline);
                timer
            }
            None => Timer { sleep: Box::pin(tokio::time::sleep_until(deadline)), runtime },
        };
        Self(Some(timer))
    }
}

impl Future for DeadlineTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(timer) => timer.sleep.poll_unpin(cx),
            None => Poll::Ready(()),
        }
    }
}

impl fmt::Debug for DeadlineTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deadline = self.0.as_ref().map(|timer| timer.sleep.deadline());
        f.debug_tuple("DeadlineTimer").field(&deadline).finish()
    }
}

impl Drop for DeadlineTimer {
    fn drop(&mut self) {
        let Some(timer) = self.0.take() else { return };
        // The thread may be ending, and its store with it: then the timer just drops.
        let _ending = KEPT_TIMERS.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT {
                kept.push(timer);
            }
        });
    }
}
