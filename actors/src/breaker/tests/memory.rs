//! What outlives the process, with a memory that the tests break.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::LocalSet;
use tokio::time::Instant;
use tracing::Metadata;
use tracing::field::Field;
use tracing::subscriber::Interest;
use tracing_subscriber::layer::{self, Layer, SubscriberExt};

use super::*;
use crate::breaker::{Cause, DependencyId, Memory, MemoryError, Remembered, Snapshot};
use crate::kernel::{CallError, Context, Ref, Tree};

/// What outlives each process of a test.
#[derive(Debug, Default)]
struct Disk {
    kept: Mutex<Option<(Instant, Remembered)>>,
    mood: Mutex<Mood>,
    recalls: AtomicU32,
    saves: AtomicU32,
    at_once: AtomicU32,
    most_at_once: AtomicU32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Works,
    TakesASecond,
    Fails,
    Hangs,
    Panics,
}

#[derive(Debug, Clone, Default)]
struct Shelf(Arc<Disk>);

impl Shelf {
    fn mood(&self, mood: Mood) {
        *self.0.mood.lock() = mood;
    }

    fn kept(&self) -> Option<Remembered> {
        self.0.kept.lock().clone().map(|(_, kept)| kept)
    }

    fn saves(&self) -> u32 {
        self.0.saves.load(Ordering::Relaxed)
    }

    fn answer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> T + Send + 'static,
    ) -> BoxFuture<'static, Result<T, MemoryError>> {
        let (mood, disk) = (*self.0.mood.lock(), Arc::clone(&self.0));
        async move {
            match mood {
                Mood::Works => Ok(work(&disk)),
                Mood::TakesASecond => {
                    tokio::time::sleep(SECOND).await;
                    Ok(work(&disk))
                }
                Mood::Fails => Err("the disk is gone".into()),
                Mood::Hangs => std::future::pending().await,
                Mood::Panics => panic!("the disk is on fire"),
            }
        }
        .boxed()
    }
}

impl Memory for Shelf {
    fn save(&self, remembered: Remembered) -> BoxFuture<'static, Result<(), MemoryError>> {
        let disk = Arc::clone(&self.0);
        disk.saves.fetch_add(1, Ordering::Relaxed);
        let at_once = disk.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        disk.most_at_once.fetch_max(at_once, Ordering::Relaxed);
        let answer = self.answer(move |disk| {
            *disk.kept.lock() = Some((Instant::now(), remembered));
        });
        async move {
            let answer = answer.await;
            disk.at_once.fetch_sub(1, Ordering::Relaxed);
            answer
        }
        .boxed()
    }

    fn recall(
        &self,
        dependency: DependencyId,
    ) -> BoxFuture<'static, Result<Option<Remembered>, MemoryError>> {
        self.0.recalls.fetch_add(1, Ordering::Relaxed);
        self.answer(move |disk| {
            let (since, mut kept) = disk.kept.lock().clone()?;
            assert_eq!(kept.dependency, dependency);
            kept.lasts = kept.lasts.map(|lasts| lasts.saturating_sub(since.elapsed()));
            kept.age += since.elapsed();
            Some(kept)
        })
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// One process: a breaker that uses the shelf, until its end.
async fn process<F: Future<Output = ()>>(shelf: &Shelf, work: impl FnOnce(Breaker) -> F) {
    let tree = Tree::new();
    let builder = settings(Breaker::builder("rates").clock(Clock::tokio()));
    let breaker = builder.memory(Arc::new(shelf.clone())).start(&tree).unwrap();
    sleep(MILLI).await;
    work(breaker).await;
    tree.stop(SECOND).await;
}

async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Begins another process and looks at its breaker.
async fn after_a_restart(shelf: &Shelf) -> Snapshot {
    let mut seen = None;
    process(shelf, |breaker| {
        seen = Some(breaker.snapshot());
        async {}
    })
    .await;
    seen.unwrap()
}

#[test]
fn a_restart_goes_on_with_what_is_left_of_the_pause() {
    run(async {
        let shelf = Shelf::default();
        process(&shelf, |breaker| async move {
            trip(&breaker);
            sleep(SECOND).await;
        })
        .await;
        sleep(SECOND).await;
        process(&shelf, |breaker| async move {
            let open = breaker.snapshot();
            assert_eq!((open.state, open.openings), (BreakerState::Open, 1));
            let remaining = open.remaining.unwrap();
            assert!((2_900 * MILLI..=3 * SECOND).contains(&remaining), "{remaining:?}");
            let cause = "4 of 4 calls failed".into();
            assert_eq!(open.cause, Cause::Remembered { cause });
            assert!(breaker.try_acquire().is_err());
            sleep(3 * SECOND).await;
            assert_eq!(breaker.snapshot().state, BreakerState::HalfOpen);
        })
        .await;
    });
}

#[test]
fn the_cause_survives_any_number_of_restarts() {
    run(async {
        let shelf = Shelf::default();
        process(&shelf, |breaker| async move {
            breaker.force_open(None, "maintenance").await.unwrap();
            sleep(MILLI).await;
        })
        .await;
        for _ in 0..3 {
            let cause = "an operator ordered it: maintenance".into();
            assert_eq!(after_a_restart(&shelf).await.cause, Cause::Remembered { cause });
        }
    });
}

#[test]
fn a_pause_that_is_over_is_tried_with_probes() {
    run(async {
        let shelf = Shelf::default();
        process(&shelf, |breaker| async move {
            trip(&breaker);
            sleep(MILLI).await;
        })
        .await;
        sleep(60 * SECOND).await;
        let tried = after_a_restart(&shelf).await;
        assert_eq!((tried.state, tried.cause), (BreakerState::HalfOpen, Cause::PauseOver));
        // And so is one whose process ended among its probes.
        assert_eq!(shelf.kept().unwrap().state, BreakerState::Open);
        assert_eq!(after_a_restart(&shelf).await.state, BreakerState::HalfOpen);
    });
}

#[test]
fn earlier_openings_lengthen_the_next_pause_after_a_restart() {
    run(async {
        let shelf = Shelf::default();
        process(&shelf, |breaker| async move {
            for _ in 0..2 {
                trip(&breaker);
                breaker.force_close("").await.unwrap();
            }
            sleep(MILLI).await;
        })
        .await;
        process(&shelf, |breaker| async move {
            let closed = breaker.snapshot();
            assert_eq!((closed.state, closed.openings), (BreakerState::Closed, 2));
            trip(&breaker);
            assert_eq!(breaker.snapshot().remaining, Some(20 * SECOND));
            breaker.force_close("").await.unwrap();
            sleep(MILLI).await;
        })
        .await;
        // One less for each two minutes, also while no process runs.
        sleep(250 * SECOND).await;
        assert_eq!(after_a_restart(&shelf).await.openings, 1);
    });
}

#[test]
fn an_operators_command_with_an_end_survives_and_ends_in_time() {
    run(async {
        let shelf = Shelf::default();
        let until = Instant::now() + 60 * SECOND;
        process(&shelf, |breaker| async move {
            breaker.force_open(Some(until), "").await.unwrap();
            sleep(MILLI).await;
        })
        .await;
        sleep(20 * SECOND).await;
        process(&shelf, |breaker| async move {
            assert_eq!(breaker.snapshot().state, BreakerState::ForcedOpen);
            tokio::time::sleep_until(until - 10 * MILLI).await;
            assert_eq!(breaker.snapshot().state, BreakerState::ForcedOpen);
            sleep(20 * MILLI).await;
            assert_eq!(breaker.snapshot().state, BreakerState::HalfOpen);
        })
        .await;
    });
}

#[test]
fn an_operators_command_without_an_end_stays() {
    for (forced, expect) in
        [(0, BreakerState::ForcedOpen), (1, BreakerState::Disabled), (2, BreakerState::MetricsOnly)]
    {
        run(async {
            let shelf = Shelf::default();
            process(&shelf, |breaker| async move {
                match forced {
                    0 => breaker.force_open(None, "").await.unwrap(),
                    1 => breaker.disable(None, "").await.unwrap(),
                    _ => breaker.metrics_only(None, "").await.unwrap(),
                };
                sleep(MILLI).await;
            })
            .await;
            sleep(30 * 86_400 * SECOND).await;
            let still = after_a_restart(&shelf).await;
            assert_eq!((still.state, still.remaining), (expect, None));
        });
    }
}

#[test]
fn closing_is_saved_and_so_is_a_reset() {
    run(async {
        let shelf = Shelf::default();
        process(&shelf, |breaker| async move {
            breaker.force_open(None, "").await.unwrap();
            sleep(MILLI).await;
            breaker.force_close("").await.unwrap();
            sleep(MILLI).await;
        })
        .await;
        assert_eq!(shelf.kept().unwrap().state, BreakerState::Closed);
        assert_eq!(after_a_restart(&shelf).await.state, BreakerState::Closed);
        process(&shelf, |breaker| async move {
            trip(&breaker);
            breaker.reset("").await.unwrap();
            sleep(MILLI).await;
        })
        .await;
        assert_eq!(shelf.kept().unwrap().openings, 0);
    });
}

#[test]
fn changes_during_a_save_are_saved_as_one() {
    run(async {
        let shelf = Shelf::default();
        let watched = shelf.clone();
        process(&shelf, |breaker| async move {
            watched.mood(Mood::TakesASecond);
            for round in 0..100 {
                trip(&breaker);
                breaker.force_close(&format!("round {round}")).await.unwrap();
            }
            sleep(5 * SECOND).await;
            assert_eq!(watched.saves(), 2);
            assert_eq!(watched.0.most_at_once.load(Ordering::Relaxed), 1);
            assert_eq!(&*watched.kept().unwrap().cause, "an operator ordered it: round 99");
        })
        .await;
    });
}

#[test]
fn a_memory_that_fails_hangs_or_panics_neither_stops_nor_delays_the_breaker() {
    for mood in [Mood::Fails, Mood::Hangs, Mood::Panics] {
        run(async {
            let shelf = Shelf::default();
            shelf.mood(mood);
            let watched = shelf.clone();
            process(&shelf, |breaker| async move {
                let began = Instant::now();
                trip(&breaker);
                breaker.force_open(None, "").await.unwrap();
                breaker.force_close("").await.unwrap();
                trip(&breaker);
                assert_eq!(began.elapsed(), Duration::ZERO, "{mood:?}");
                sleep(10 * SECOND + 5 * MILLI).await;
                assert_eq!(breaker.snapshot().state, BreakerState::HalfOpen, "{mood:?}");
                assert_eq!(watched.saves(), 0, "nothing is saved before it was recalled");
                watched.mood(Mood::Works);
                sleep(60 * SECOND).await;
                assert_eq!(watched.kept().unwrap().state, BreakerState::Open, "{mood:?}");
                watched.mood(mood);
                breaker.force_close("").await.unwrap();
                sleep(SECOND).await;
                watched.mood(Mood::Works);
                sleep(90 * SECOND).await;
                assert_eq!(watched.kept().unwrap().state, BreakerState::Closed, "{mood:?}");
            })
            .await;
        });
    }
}

#[test]
fn a_memory_that_fails_is_asked_ever_more_seldom() {
    run(async {
        let shelf = Shelf::default();
        let watched = shelf.clone();
        process(&shelf, |breaker| async move {
            watched.mood(Mood::Fails);
            trip(&breaker);
            sleep(3_600 * SECOND).await;
            let saves = watched.saves();
            assert!((60..=130).contains(&saves), "{saves} in an hour");
        })
        .await;
    });
}

/// The messages of the events on one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Other tests have no subscriber, or another one.
        Interest::sometimes()
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: layer::Context<'_, S>) {
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            if field.name() == "message" {
                self.0.lock().push(format!("{value:?}"));
            }
        });
    }
}

#[test]
fn an_outage_of_the_memory_is_logged_once_and_so_is_its_end() {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    tracing::subscriber::with_default(subscriber, || {
        run(async {
            let shelf = Shelf::default();
            let watched = shelf.clone();
            process(&shelf, |breaker| async move {
                for mood in [Mood::Fails, Mood::Works, Mood::Hangs, Mood::Works] {
                    watched.mood(mood);
                    breaker.force_open(None, "").await.unwrap();
                    sleep(300 * SECOND).await;
                }
            })
            .await;
        });
    });
    let mut told = log.0.lock().clone();
    told.retain(|message| message.starts_with("breaker.memory"));
    let (failed, recovered) = ("breaker.memory_failed", "breaker.memory_recovered");
    assert_eq!(told, [failed, recovered, failed, recovered]);
}

#[test]
fn what_calls_did_before_it_was_recalled_stands() {
    run(async {
        let shelf = Shelf::default();
        process(&shelf, |breaker| async move {
            trip(&breaker);
            breaker.force_close("").await.unwrap();
            sleep(MILLI).await;
        })
        .await;
        shelf.mood(Mood::TakesASecond);
        let watched = shelf.clone();
        process(&shelf, |breaker| async move {
            trip(&breaker);
            sleep(2 * SECOND).await;
            assert_eq!(breaker.snapshot().state, BreakerState::Open);
            sleep(2 * SECOND).await;
            assert_eq!(watched.kept().unwrap().state, BreakerState::Open);
        })
        .await;
    });
}

#[test]
fn an_operators_command_outlasts_what_calls_did_before_it_was_recalled() {
    run(async {
        let shelf = Shelf::default();
        process(&shelf, |breaker| async move {
            breaker.force_open(None, "maintenance").await.unwrap();
            sleep(MILLI).await;
        })
        .await;
        shelf.mood(Mood::TakesASecond);
        process(&shelf, |breaker| async move {
            trip(&breaker);
            sleep(2 * SECOND).await;
            assert_eq!(breaker.snapshot().state, BreakerState::ForcedOpen);
        })
        .await;
    });
}

#[test]
fn a_command_given_before_it_was_recalled_stands_and_is_saved() {
    run(async {
        let shelf = Shelf::default();
        process(&shelf, |breaker| async move {
            breaker.force_open(None, "").await.unwrap();
            sleep(MILLI).await;
        })
        .await;
        shelf.mood(Mood::TakesASecond);
        let watched = shelf.clone();
        process(&shelf, |breaker| async move {
            breaker.force_close("back").await.unwrap();
            sleep(5 * SECOND).await;
            assert_eq!(breaker.snapshot().state, BreakerState::Closed);
            assert_eq!(watched.kept().unwrap().state, BreakerState::Closed);
        })
        .await;
    });
}

#[test]
fn a_remembered_pause_is_never_longer_than_one_of_this_breaker() {
    run(async {
        let shelf = Shelf::default();
        let year = Remembered {
            dependency: DependencyId::parse("rates").unwrap(),
            state: BreakerState::Open,
            lasts: Some(365 * 86_400 * SECOND),
            openings: 1,
            cause: "a clock that was set back".into(),
            age: Duration::ZERO,
        };
        *shelf.0.kept.lock() = Some((Instant::now(), year));
        let remaining = after_a_restart(&shelf).await.remaining.unwrap();
        assert!(remaining <= 600 * SECOND, "{remaining:?}");
    });
}

/// Makes the actor panic while it handles it.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Stumble;

impl actix::Handler<Stumble> for crate::breaker::BreakerActor {
    type Result = ();

    fn handle(&mut self, _: Stumble, _: &mut Context<Self>) {
        panic!("stumbled");
    }
}

#[test]
fn a_new_incarnation_of_the_actor_saves_and_does_not_recall() {
    run(async {
        let shelf = Shelf::default();
        let tree = Tree::new();
        let builder = settings(Breaker::builder("rates").clock(Clock::tokio()));
        let builder = builder.memory(Arc::new(shelf.clone()));
        let mut started: Option<Ref<_>> = None;
        let breaker = builder.start_with(|spec| started.insert(tree.start(spec)).clone()).unwrap();
        breaker.force_open(None, "").await.unwrap();
        sleep(MILLI).await;
        shelf.mood(Mood::Hangs);
        breaker.force_close("").await.unwrap();
        sleep(MILLI).await;
        let stumbled = started.unwrap().call(Stumble).await;
        assert!(matches!(stumbled, Err(CallError::Panicked { .. })), "{stumbled:?}");
        shelf.mood(Mood::Works);
        sleep(5 * SECOND).await;
        assert_eq!(breaker.snapshot().state, BreakerState::Closed);
        assert_eq!(shelf.kept().unwrap().state, BreakerState::Closed);
        assert_eq!(shelf.0.recalls.load(Ordering::Relaxed), 1);
        tree.stop(SECOND).await;
    });
}

#[test]
fn a_memory_needs_the_actor() {
    let builder = Breaker::builder("rates").memory(Arc::new(Shelf::default()));
    assert_eq!(builder.without_actor().unwrap_err().setting(), "memory");
}
