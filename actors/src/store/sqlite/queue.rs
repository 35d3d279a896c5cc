//! The bounded queue between callers on any runtime and our own threads.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;
use tokio::task::unconstrained;

use crate::store::StoreError;

/// Work that waits for a thread. Callers wait asynchronously for room, in turn.
#[derive(Debug)]
pub(super) struct Queue<W> {
    state: Mutex<State<W>>,
    ready: Condvar,
    room: Semaphore,
}

#[derive(Debug)]
struct State<W> {
    works: VecDeque<W>,
    /// From how many works on a thread that sleeps is to be woken.
    goal: usize,
    closed: bool,
}

/// What a thread found.
#[derive(Debug)]
pub(super) enum Taken {
    Works,
    /// Nothing came in time.
    Nothing,
    /// It was closed, and everything in it was taken.
    Closed,
}

impl<W> Queue<W> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State { works: VecDeque::new(), goal: 1, closed: false }),
            ready: Condvar::new(),
            room: Semaphore::new(capacity),
        }
    }

    /// Waits for room and puts it in.
    ///
    /// CANCEL: dropped while it waits, it puts nothing in and loses its turn.
    pub(super) async fn push(&self, work: W) -> Result<(), StoreError> {
        // ORDER: out of turn is what tokio would let come first, of more than a task may do at
        // once.
        let room = unconstrained(self.room.acquire()).await;
        let Ok(room) = room else { return Err(StoreError::Closed) };
        let mut state = self.state.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        room.forget();
        state.works.push_back(work);
        let wake = state.works.len() >= state.goal;
        drop(state);
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits for work, until the deadline if there is one, and moves up to `max` into `taken`.
    pub(super) fn take(&self, max: usize, until: Option<Instant>, taken: &mut Vec<W>) -> Taken {
        let mut state = self.state.lock();
        while state.works.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            match until {
                None => self.ready.wait(&mut state),
                Some(until) if self.ready.wait_until(&mut state, until).timed_out() => {
                    if state.works.is_empty() && !state.closed {
                        return Taken::Nothing;
                    }
                }
                Some(_) => {}
            }
        }
        let count = state.works.len().min(max);
        taken.extend(state.works.drain(..count));
        drop(state);
        self.room.add_permits(count);
        Taken::Works
    }

    /// Waits until `goal` works are in it, at most until the deadline. Whether they came.
    ///
    /// INVARIANT: only where a single thread takes.
    pub(super) fn gather(&self, goal: usize, until: Instant) -> bool {
        let mut state = self.state.lock();
        state.goal = goal;
        while state.works.len() < goal && !state.closed {
            if self.ready.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.goal = 1;
        state.works.len() >= goal
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().works.len()
    }

    /// Refuses what comes from now on, also what waits for room. What is in it is still taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.room.close();
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn taken(queue: &Queue<u32>, max: usize) -> Vec<u32> {
        let mut works = Vec::new();
        let _taken = queue.take(max, Some(Instant::now()), &mut works);
        works
    }

    #[test]
    fn one_past_the_limit_waits_and_comes_next() {
        let queue = Queue::new(2);
        assert!(queue.push(1).now_or_never().is_some());
        assert!(queue.push(2).now_or_never().is_some());
        let mut third = Box::pin(queue.push(3));
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(taken(&queue, 1), [1]);
        assert!(third.as_mut().now_or_never().is_some());
        assert_eq!(taken(&queue, 9), [2, 3]);
    }

    #[test]
    fn a_caller_that_gives_up_frees_its_place() {
        let queue = Queue::new(1);
        assert!(queue.push(1).now_or_never().is_some());
        let mut given_up = Box::pin(queue.push(2));
        let mut next = Box::pin(queue.push(3));
        assert!(given_up.as_mut().now_or_never().is_none());
        assert!(next.as_mut().now_or_never().is_none());
        drop(given_up);
        assert_eq!(taken(&queue, 1), [1]);
        assert!(next.as_mut().now_or_never().is_some());
        assert_eq!(taken(&queue, 9), [3]);
    }

    #[test]
    fn what_was_accepted_is_still_taken_after_the_close() {
        let queue = Queue::new(1);
        assert!(queue.push(1).now_or_never().is_some());
        let mut waits = Box::pin(queue.push(2));
        assert!(waits.as_mut().now_or_never().is_none());
        queue.close();
        assert!(matches!(waits.now_or_never(), Some(Err(StoreError::Closed))));
        assert!(matches!(queue.push(3).now_or_never(), Some(Err(StoreError::Closed))));
        assert_eq!(taken(&queue, 9), [1]);
        assert!(matches!(queue.take(9, None, &mut Vec::new()), Taken::Closed));
    }

    #[test]
    fn gathering_ends_with_the_goal_the_deadline_or_the_close() {
        let queue = Queue::new(9);
        assert!(queue.push(1).now_or_never().is_some());
        assert!(queue.gather(1, Instant::now() + Duration::from_secs(60)));
        assert!(!queue.gather(2, Instant::now()));
        queue.close();
        assert!(!queue.gather(2, Instant::now() + Duration::from_secs(60)));
    }
}
