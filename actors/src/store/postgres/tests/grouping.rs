//! Claims about items that many callers have stored together.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::until;
use crate::store::postgres::testing::TestSchema;
use crate::store::postgres::{Batch, Group};
use crate::store::{PgStore, StoreError};

/// LIMIT: longer than a machine that is busy takes.
const SOON: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, Default)]
struct Item {
    number: usize,
    bytes: usize,
    is_kept: bool,
    /// Spoils the batch, and alone waits until it is told to go on.
    spoils: bool,
}

/// Notes which items were stored together, one batch for each permit.
#[derive(Debug, Clone)]
struct Notes {
    batches: Arc<Mutex<Vec<Vec<usize>>>>,
    go: Arc<Semaphore>,
    last: Arc<Semaphore>,
}

impl Notes {
    fn new() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self { batches: Arc::default(), go: none(), last: none() }
    }

    fn batches(&self) -> Vec<Vec<usize>> {
        self.batches.lock().clone()
    }
}

impl Batch for Notes {
    type Item = Item;
    type Answer = usize;

    const ITEMS_MAX: usize = 100;

    fn bytes(item: &Item) -> usize {
        item.bytes
    }

    fn is_kept(item: &Item) -> bool {
        item.is_kept
    }

    async fn store(&self, _: &PgStore, items: Vec<Item>) -> Result<Vec<usize>, StoreError> {
        let numbers: Vec<_> = items.iter().map(|item| item.number).collect();
        self.batches.lock().push(numbers.clone());
        self.go.acquire().await.unwrap().forget();
        if items.iter().any(|item| item.spoils) {
            if items.len() > 1 {
                return Err(StoreError::Failed(StoreError::source(std::io::Error::other("one"))));
            }
            self.last.acquire().await.unwrap().forget();
        }
        Ok(numbers)
    }
}

/// A group of which all batches that may be under way are held up, with one item each.
async fn held_up(schema: &TestSchema) -> (Group<Notes>, Notes) {
    let notes = Notes::new();
    let group = Group::new(schema.store().await, notes.clone());
    for number in [0, 1] {
        let group = group.clone();
        let item = Item { number, ..Item::default() };
        drop(tokio::spawn(async move { group.store(item).await }));
        until("a batch is under way", async || notes.batches().len() > number).await;
    }
    (group, notes)
}

#[actix::test]
async fn what_nobody_waits_for_is_stored_only_if_it_is_kept() {
    let Some(schema) = TestSchema::find().await else { return };
    let (group, notes) = held_up(&schema).await;
    let gone = |number| {
        let item = Item { number, is_kept: number % 2 == 0, ..Item::default() };
        timeout(Duration::from_millis(50), group.store(item))
    };
    assert!(join_all((2..6).map(gone)).await.iter().all(Result::is_err));
    notes.go.add_permits(100);
    let last = Item { number: 6, ..Item::default() };
    assert_eq!(group.store(last).await.unwrap(), 6);
    let mut stored = notes.batches().concat();
    stored.sort_unstable();
    assert_eq!(stored, [0, 1, 2, 4, 6]);
}

#[actix::test]
async fn a_batch_has_eight_mebibytes_or_one_item() {
    let Some(schema) = TestSchema::find().await else { return };
    let (group, notes) = held_up(&schema).await;
    const MIB: usize = 1024 * 1024;
    let sizes = [4 * MIB, 4 * MIB, 1, 9 * MIB, 8 * MIB, 0, 1];
    let items = sizes.iter().enumerate();
    let items = items.map(|(place, &bytes)| Item { number: place + 2, bytes, ..Item::default() });
    let storing = join_all(items.map(|item| group.store(item)));
    let going = async {
        until("all wait", async || group.waiting() == sizes.len()).await;
        notes.go.add_permits(100);
    };
    let (answers, ()) = tokio::join!(storing, going);
    assert!(answers.into_iter().map(Result::unwrap).eq(2..9));
    let mut batches = notes.batches();
    batches.sort();
    assert_eq!(batches, [vec![0], vec![1], vec![2, 3], vec![4], vec![5], vec![6, 7], vec![8]]);
}

#[actix::test]
async fn one_that_spoils_a_batch_and_waits_keeps_no_other_waiting() {
    let Some(schema) = TestSchema::find().await else { return };
    let (group, notes) = held_up(&schema).await;
    let store = |number| {
        let group = group.clone();
        let item = Item { number, spoils: number == 2, ..Item::default() };
        tokio::spawn(async move { group.store(item).await })
    };
    let spoils = store(2);
    until("it waits", async || group.waiting() == 1).await;
    let others = join_all((3..50).map(store));
    until("all wait", async || group.waiting() == 48).await;
    notes.go.add_permits(1_000);
    let others = timeout(SOON, others).await.expect("the others do not wait for it");
    assert!(others.into_iter().map(|answer| answer.unwrap().unwrap()).eq(3..50));
    notes.last.add_permits(1);
    assert_eq!(spoils.await.unwrap().unwrap(), 2);
}
