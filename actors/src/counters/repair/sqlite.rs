//! A batch on SQLite: on the thread that writes, where nobody else writes meanwhile.

use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use tokio::time::Instant;

use super::{Committed, Order, Repair, Statements, Window};
use crate::counters::error::CounterError;
use crate::counters::report::{Key, Sample};
use crate::counters::spec::Mode;
use crate::counters::store::advance;
use crate::jobs::store::postgres::defect;
use crate::jobs::tx::{SqliteJobTx, at_once};
use crate::store::{SqliteStore, SqliteTx, StoreError};

pub(super) async fn batch(
    store: &SqliteStore,
    repair: Repair,
    order: Order,
) -> Result<Committed, CounterError> {
    match order.run.mode {
        Mode::Repair => {
            let work = move |tx: &SqliteTx<'_>| {
                let begun = Instant::now();
                let found = put_right(tx, &repair, &order)?;
                finish(tx, &repair, order, found, begun)
            };
            store.write(work).await
        }
        // Looked for beside those who write, at one snapshot.
        Mode::Report => {
            let begun = Instant::now();
            let read = move |connection: &Connection| {
                let found = find(connection, &repair, &order)?;
                Ok::<_, StoreError>((repair, order, found))
            };
            let (repair, order, found) = store.read(read).await?;
            store.write(move |tx| finish(tx, &repair, order, found, begun)).await
        }
    }
}

type Found = (Option<Window>, Vec<Sample>);

fn find(connection: &Connection, repair: &Repair, order: &Order) -> Result<Found, StoreError> {
    let keys = repair.subject.key.len();
    let Some(window) = window(connection, repair, order)? else { return Ok((None, Vec::new())) };
    let wrong =
        over(connection, &repair.statements.detect, order, &window, |row| sample(row, keys))?;
    Ok((Some(window), wrong))
}

/// Sets what is wrong, one row after the other: mostly there are few.
fn put_right(tx: &SqliteTx<'_>, repair: &Repair, order: &Order) -> Result<Found, StoreError> {
    let keys = repair.subject.key.len();
    let Some(window) = window(tx, repair, order)? else { return Ok((None, Vec::new())) };
    let suspects = over(tx, &repair.statements.suspects, order, &window, |row| {
        Ok((key(row, keys)?, row.get::<_, Option<String>>(keys)?))
    })?;
    let mut set = tx.prepare_cached(&repair.statements.set)?;
    let adds = repair.subject.agg.is_additive();
    let mut wrong = Vec::with_capacity(suspects.len());
    for (key, was) in suspects {
        let params = key.iter().map(Some).chain(adds.then_some(was.as_ref()));
        let set = set.query_row(params_from_iter(params), |row| Ok((row.get(0)?, row.get(1)?)));
        // A trigger of the table may refuse it.
        let Some((should_be, drift)) = set.optional()? else { continue };
        wrong.push(Sample { key, was, should_be, drift: whole(drift) });
    }
    Ok((Some(window), wrong))
}

/// Runs one of the statements over a window.
fn over<T>(
    connection: &Connection,
    both: &[String; 2],
    order: &Order,
    window: &Window,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let params = window.last.iter().chain(order.run.cursor.iter().flatten());
    let mut select = connection.prepare_cached(&Statements::of(both, &order.run))?;
    let rows = select.query_map(params_from_iter(params), read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn window(
    connection: &Connection,
    repair: &Repair,
    order: &Order,
) -> Result<Option<Window>, StoreError> {
    let Repair { statements, subject, .. } = repair;
    let (keys, size) = (subject.key.len(), order.size);
    let full = |row: &Row<'_>| Ok(Window { last: key(row, keys)?, count: size.into() });
    if let Some(window) =
        after(connection, &statements.window, order, size.saturating_sub(1), full)?
    {
        return Ok(Some(window));
    }
    let rest = |row: &Row<'_>| {
        let count: String = row.get(keys)?;
        let count = count.parse().or(Err(defect("a number of parents is none")))?;
        Ok(Window { last: key(row, keys)?, count })
    };
    after(connection, &statements.rest, order, size, rest)
}

/// Runs one of the statements about what comes after the cursor.
fn after<T>(
    connection: &Connection,
    both: &[String; 2],
    order: &Order,
    number: u32,
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let number = number.to_string();
    let params = std::iter::once(&number).chain(order.run.cursor.iter().flatten());
    let mut select = connection.prepare_cached(&Statements::of(both, &order.run))?;
    let mut rows = select.query(params_from_iter(params))?;
    rows.next()?.map(read).transpose()
}

fn finish(
    tx: &SqliteTx<'_>,
    repair: &Repair,
    order: Order,
    (window, wrong): Found,
    begun: Instant,
) -> Result<Committed, CounterError> {
    let took = begun.elapsed();
    let next = order.after(window.as_ref(), &wrong, took);
    at_once(advance(&SqliteJobTx::new(tx), &next, repair.clock.now()))?;
    Ok(Committed { run: next.of(order.run, &repair.clock), took })
}

fn key(row: &Row<'_>, keys: usize) -> rusqlite::Result<Key> {
    (0..keys).map(|column| row.get(column)).collect()
}

fn sample(row: &Row<'_>, keys: usize) -> rusqlite::Result<Sample> {
    let drift = whole(row.get(keys + 2)?);
    Ok(Sample { key: key(row, keys)?, was: row.get(keys)?, should_be: row.get(keys + 1)?, drift })
}

fn whole(difference: Option<String>) -> Option<i64> {
    difference.and_then(|text| text.parse().ok())
}
