//! What a large backlog costs: claims beside a million jobs for later and 100,000 parked ones,
//! and a look of the guard at all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use steadfast_actors::jobs::store::{Claim, JobStore, NewJob, Settle, Settlement};
use steadfast_actors::jobs::{Class, Jobs, NodeId};
use steadfast_actors::store::{Durability, Store, WallClock};

use super::Settings;
use super::rig::{Place, Site, connect, words};
use super::sheet::{Bar, Failure, Sample, Scenario};
use crate::measure::to_float;

const SQLITE_CLAIMS: &str = "SQLite, claim and end 250 at a time, jobs/s";
const POSTGRES_CLAIMS: &str = "PostgreSQL, claim and end 250 at a time, jobs/s";
const LOOKS: &str = "One look of the guard, ms";
const LATER: u32 = 1_000_000;
const PARKED: u32 = 100_000;
const READY: u32 = 100_000;
const CLAIMED: usize = 20_000;
const BATCH: u16 = 250;
/// What the guard counts up to by default.
const PROBE: u32 = 100_000;

/// The scenarios on both databases.
pub(super) fn scenarios(settings: &Settings) -> Vec<Scenario> {
    let file = Place::Sqlite(settings.folder.clone(), Durability::Full);
    let server = Place::Postgres(settings.postgres.clone());
    let mut all = Vec::new();
    for (name, place) in [("SQLite", file), ("PostgreSQL", server)] {
        let [empty, full] = [Tables::new(&place, false), Tables::new(&place, true)];
        let sheet = if name == "SQLite" { SQLITE_CLAIMS } else { POSTGRES_CLAIMS };
        all.push(claims(sheet, "nothing else in the table", &empty).baseline());
        let backlog = claims(sheet, "1,000,000 later, 100,000 parked, 100,000 ready", &full);
        all.push(backlog.bar(Bar::Times(0.85)));
        all.push(look(&format!("{name}, that backlog"), &full).bar(Bar::AtMost(30.0)));
    }
    all
}

/// Tables that are filled once and used in all rounds.
struct Tables {
    site: Site,
    place: Place,
    filled: bool,
    open: Mutex<Option<(Store, Arc<dyn JobStore>)>>,
}

impl Tables {
    fn new(place: &Place, filled: bool) -> Arc<Self> {
        let (site, place) = (Site::new(place), place.clone());
        Arc::new(Self { site, place, filled, open: Mutex::default() })
    }

    fn known(&self) -> Option<Arc<dyn JobStore>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|(_, tables)| Arc::clone(tables))
    }

    async fn get(&self) -> Result<Arc<dyn JobStore>, Failure> {
        if let Some(tables) = self.known() {
            return Ok(tables);
        }
        let store = self.site.open().await?;
        let tables = tables(&store)?;
        if self.filled {
            self.fill(&store).await?;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = Some((store, Arc::clone(&tables)));
        Ok(tables)
    }

    async fn fill(&self, store: &Store) -> Result<(), Failure> {
        match (store, &self.place) {
            (Store::Sqlite(store), _) => {
                for (state, count, later) in PARTS {
                    let rows = sqlite_rows(state, count, later);
                    store
                        .write(move |tx| {
                            tx.execute_batch(&rows)
                                .map_err(steadfast_actors::store::StoreError::from)
                        })
                        .await
                        .map_err(words)?;
                }
            }
            (_, Place::Postgres(url)) => {
                let client = connect(url).await?;
                let schema = self.site.name();
                for (state, count, later) in PARTS {
                    let rows = postgres_rows(schema, state, count, later);
                    client.batch_execute(&rows).await.map_err(words)?;
                }
                let analyze = format!("analyze {schema}.job");
                client.batch_execute(&analyze).await.map_err(words)?;
            }
            (_, Place::Sqlite(..)) => {}
        }
        Ok(())
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        if let Some(path) = self.site.path() {
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// State, how many, and how many milliseconds from now they are due.
const PARTS: [(i16, u32, i64); 3] = [(0, LATER, 3_600_000), (2, PARKED, 0), (0, READY, -1_000)];

const COLUMNS: &str = "queue, kind, class, state, run_at, due_at, max_attempts, dependency, args,
    args_format, created_at";

fn sqlite_rows(state: i16, count: u32, later: i64) -> String {
    let at = WallClock::system().now().0 + later;
    format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})
        insert into sf_job ({COLUMNS})
        select 'default', 'noop', 1, {state}, {at} + i / 100, {at}, 10, 'mail', x'7b7d', 0, {at}
        from n"
    )
}

fn postgres_rows(schema: &str, state: i16, count: u32, later: i64) -> String {
    let at = WallClock::system().now().0 + later;
    format!(
        "insert into {schema}.job ({COLUMNS})
        select 'default', 'noop', 1, {state}, {at} + i / 100, {at}, 10, 'mail', '\\x7b7d', 0, {at}
        from generate_series(1, {count}) as i"
    )
}

/// The tables without a queue that works on them.
fn tables(store: &Store) -> Result<Arc<dyn JobStore>, Failure> {
    let mut tables = None;
    drop(Jobs::builder(store).wrap(|inner| {
        tables = Some(Arc::clone(&inner));
        inner
    }));
    tables.ok_or_else(|| "the builder has no tables".to_owned())
}

/// Claims and ends jobs of a queue whose only ready ones are those that were put there for it.
fn claims(sheet: &'static str, name: &str, tables: &Arc<Tables>) -> Scenario {
    let tables = Arc::clone(tables);
    Scenario::new(sheet, name, move || {
        let tables = Arc::clone(&tables);
        async move {
            let store = tables.get().await?;
            if !tables.filled {
                let now = WallClock::system().now();
                let jobs = vec![job(now); CLAIMED];
                for chunk in jobs.chunks(500) {
                    store.insert(chunk.to_vec(), now).await.map_err(words)?;
                }
            }
            let began = Instant::now();
            let done = claim_all(&*store).await?;
            Ok(Sample::of(to_float(done as u64) / began.elapsed().as_secs_f64()))
        }
    })
}

async fn claim_all(store: &dyn JobStore) -> Result<usize, Failure> {
    let (clock, node) = (WallClock::system(), NodeId::fresh());
    let (mut settles, mut done) = (Vec::new(), 0);
    while done < CLAIMED {
        let wants = [0, BATCH, 0, 0];
        let claim = Claim { queue: "default".into(), node, wants, running_limit: None };
        let ends = std::mem::take(&mut settles);
        let step = store.step(ends, Some(claim), clock.now()).await.map_err(words)?;
        if step.claimed.is_empty() {
            return Err(format!("only {done} were there to claim"));
        }
        done += step.claimed.len();
        settles.extend(step.claimed.iter().map(|claimed| Settle {
            key: claimed.key,
            how: Settlement::Done { keep: true },
            queued: std::time::Duration::ZERO,
            ran: std::time::Duration::ZERO,
        }));
    }
    store.step(settles, None, clock.now()).await.map_err(words)?;
    Ok(done)
}

/// A look of the guard, as often as one second of a queue in trouble has.
fn look(name: &str, tables: &Arc<Tables>) -> Scenario {
    let tables = Arc::clone(tables);
    Scenario::new(LOOKS, name, move || {
        let tables = Arc::clone(&tables);
        async move {
            let store = tables.get().await?;
            let mut milliseconds = Vec::new();
            for _ in 0..20 {
                let (began, now) = (Instant::now(), WallClock::system().now());
                let depths = store.depths("default".into(), PROBE, now).await.map_err(words)?;
                if depths.parked == 0 {
                    return Err("the parked jobs are gone".to_owned());
                }
                milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
            }
            Ok(Sample::of(crate::measure::median(&milliseconds)).with(&milliseconds))
        }
    })
}

fn job(now: steadfast_actors::store::Timestamp) -> NewJob {
    NewJob {
        queue: "default".into(),
        kind: "noop".into(),
        class: Class::Normal,
        run_at: now,
        expires_at: None,
        max_attempts: 10,
        dependency: Some("mail".into()),
        unique: None,
        args: Arc::from(*b"{}"),
        args_format: 0,
        meta: None,
        deferred: false,
        depth_limit: None,
    }
}
