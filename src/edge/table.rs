//! The requests in flight, one row each, for operators.
//!
//! Each worker writes into a table of its own, so its lock is free unless somebody is just
//! reading. It can be read while the worker is stuck: that is when it is wanted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use parking_lot::Mutex;
use slab::Slab;
use steadfast_actors::kernel::RequestId;
use tokio::time::Instant;

/// LIMIT: rows of one worker. More requests than a person reads; the rest is only counted.
const ROWS_MAX: usize = 4096;

/// The requests in flight at one moment. Workers are read one after the other.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct InFlightRequests {
    /// The oldest first.
    pub requests: Vec<InFlightRequest>,
    /// How many more there are: a worker lists 4096 at most.
    pub unlisted: usize,
}

/// One request in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InFlightRequest {
    /// Its id, as in the log.
    pub id: RequestId,
    /// The pattern of its route. `None` if it has none, and for a request that has never waited
    /// yet, but for its body: one that keeps its worker busy, or whose body does not come.
    pub route: Option<Arc<str>>,
    /// Its method.
    pub method: Method,
    /// How long ago its head arrived.
    pub age: Duration,
    /// What is left until its deadline; zero once that passed, `None` without one.
    pub remaining: Option<Duration>,
    /// How far it has come.
    pub phase: FlightPhase,
}

/// How far a request in flight has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FlightPhase {
    /// It waits to be [admitted](super::Admission).
    Queued,
    /// Its route, or a middleware, has it.
    Handling,
    /// Its body is streamed.
    Writing,
}

impl FlightPhase {
    /// One word, for pages and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Handling => "handling",
            Self::Writing => "writing",
        }
    }
}

impl fmt::Display for FlightPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The requests of one worker.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    rows: Slab<Row>,
    unlisted: usize,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: RequestId,
    pub(super) method: Method,
    pub(super) started: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) phase: FlightPhase,
    pub(super) route: Option<Arc<str>>,
}

impl Row {
    fn read(&self, now: Instant) -> InFlightRequest {
        InFlightRequest {
            id: self.id.clone(),
            route: self.route.clone(),
            method: self.method.clone(),
            age: now.saturating_duration_since(self.started),
            remaining: self.deadline.map(|at| at.saturating_duration_since(now)),
            phase: self.phase,
        }
    }
}

impl Table {
    /// Lists a request until the [`Listed`] is dropped.
    pub(super) fn list(self: &Arc<Self>, row: Row) -> Listed {
        let mut table = self.0.lock();
        let key = if table.rows.len() < ROWS_MAX {
            Some(table.rows.insert(row))
        } else {
            table.unlisted += 1;
            None
        };
        drop(table);
        Listed { table: Arc::clone(self), key }
    }

    pub(super) fn read(&self, now: Instant, into: &mut InFlightRequests) {
        let table = self.0.lock();
        into.unlisted += table.unlisted;
        into.requests.extend(table.rows.iter().map(|(_, row)| row.read(now)));
    }
}

/// One request that is listed.
#[derive(Debug)]
pub(super) struct Listed {
    table: Arc<Table>,
    key: Option<usize>,
}

impl Listed {
    pub(super) fn change(&self, change: impl FnOnce(&mut Row)) {
        let Some(key) = self.key else { return };
        if let Some(row) = self.table.0.lock().rows.get_mut(key) {
            change(row);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut table = self.table.0.lock();
        let row = match self.key {
            Some(key) => table.rows.try_remove(key),
            None => {
                table.unlisted -= 1;
                None
            }
        };
        // ORDER: the lock is given back before the row's texts are.
        drop(table);
        drop(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: usize) -> Row {
        let id = RequestId::parse(&format!("r{number}")).unwrap();
        let (started, phase) = (Instant::now(), FlightPhase::Handling);
        Row { id, method: Method::GET, started, deadline: None, phase, route: None }
    }

    fn read(table: &Table) -> InFlightRequests {
        let mut all = InFlightRequests::default();
        table.read(Instant::now(), &mut all);
        all
    }

    #[test]
    fn one_past_the_limit_is_counted_and_leaves_without_a_trace() {
        let table = Arc::new(Table::default());
        let mut listed: Vec<_> = (0..ROWS_MAX).map(|number| table.list(row(number))).collect();
        assert_eq!((read(&table).requests.len(), read(&table).unlisted), (ROWS_MAX, 0));
        let one_more = table.list(row(ROWS_MAX));
        assert_eq!((read(&table).requests.len(), read(&table).unlisted), (ROWS_MAX, 1));
        one_more.change(|row| row.phase = FlightPhase::Queued);
        listed.pop();
        drop(one_more);
        assert_eq!((read(&table).requests.len(), read(&table).unlisted), (ROWS_MAX - 1, 0));
        drop(listed);
        assert_eq!(read(&table).requests, []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_tells_age_and_what_is_left() {
        let table = Arc::new(Table::default());
        let listed = table.list(row(1));
        let deadline = Instant::now() + Duration::from_millis(30);
        listed.change(|row| {
            (row.deadline, row.phase) = (Some(deadline), FlightPhase::Writing);
            row.route = Some("/a/{b}".into());
        });
        for (age, left) in [(20, 10), (50, 0)] {
            tokio::time::advance(Duration::from_millis(age) - age_now(&table)).await;
            let found = read(&table).requests.remove(0);
            assert_eq!(found.age, Duration::from_millis(age));
            assert_eq!(found.remaining, Some(Duration::from_millis(left)));
            assert_eq!((found.route.as_deref(), found.phase.as_str()), (Some("/a/{b}"), "writing"));
        }
    }

    fn age_now(table: &Table) -> Duration {
        read(table).requests.remove(0).age
    }
}
