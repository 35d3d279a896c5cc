//! Claims about checks, readiness, start-up and heartbeats.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::{Actor, Handler, Message};
use proptest::prelude::*;
use tokio::time::Instant;

use super::handle::{Health, Standing};
use super::report::{Item, Report, Status};
use super::run::run;
use super::state::{Finding, Hysteresis, State, jittered};
use super::{
    Check, CheckCx, CheckError, CheckSpec, Detail, HealthActor, HealthError, HealthRegistry,
    Heartbeats, Recheck, StartTask, blocking,
};
use crate::kernel::{ActorState, Context, Exhausted, Fault, Ref, Spec, Tree};

fn rules() -> Hysteresis {
    let count = |n| NonZeroU32::new(n).unwrap();
    let ttl = Duration::from_secs(15);
    Hysteresis { fail_after: count(3), recover_after: count(2), ttl }
}

/// Plays `script` to a check that falls after 3 failures, rises after 2 passes and expires after
/// 15 s. `+` a pass, `~` a degraded pass, `-` a failure, `?` nothing found out, `.` five idle
/// seconds.
#[track_caller]
fn check(script: &str, expected: Status) {
    let mut now = Instant::now();
    let mut state = State::new();
    for event in script.chars() {
        match event {
            '+' => state.record(Finding::Passed, now, &rules()),
            '~' => state.record(Finding::Degraded, now, &rules()),
            '-' => state.record(Finding::Failed, now, &rules()),
            '?' => state.record(Finding::Unknown, now, &rules()),
            '.' => now += Duration::from_secs(5),
            other => panic!("not an event: {other}"),
        }
    }
    assert_eq!(state.status(now, rules().ttl), expected, "after `{script}`");
}

#[test]
fn is_unknown_until_the_first_result_which_decides_alone() {
    check("", Status::Unknown);
    check("+", Status::Up);
    check("~", Status::Degraded);
    check("-", Status::Down);
}

#[test]
fn a_run_that_found_nothing_out_changes_nothing_until_the_last_finding_is_stale() {
    check("?", Status::Unknown);
    check("+?", Status::Up);
    check("-??", Status::Down);
    check("~.?.?.", Status::Degraded);
    check("+.?.?.?.", Status::Unknown);
    check("+--?-", Status::Down);
}

#[test]
fn falls_at_the_third_failure_in_a_row_and_not_before() {
    check("+-", Status::Up);
    check("+--", Status::Up);
    check("+---", Status::Down);
    check("+--+--", Status::Up);
    check("~--", Status::Degraded);
}

#[test]
fn rises_at_the_second_pass_in_a_row_and_not_before() {
    check("-+", Status::Down);
    check("-++", Status::Up);
    check("-+-+", Status::Down);
    check("-+~", Status::Degraded);
}

#[test]
fn a_degraded_pass_needs_no_patience_in_either_direction() {
    check("+~", Status::Degraded);
    check("~+", Status::Up);
}

#[test]
fn expires_after_its_time_to_live_whatever_it_was() {
    check("+...", Status::Up);
    check("+....", Status::Unknown);
    check("-....", Status::Unknown);
    check("~....", Status::Unknown);
}

#[test]
fn a_failure_after_a_silence_counts_at_once_and_a_pass_does_not() {
    check("+....-", Status::Down);
    check("+....+", Status::Up);
    check("-+....+", Status::Down);
    check("-+....++", Status::Up);
}

proptest! {
    #[test]
    fn whatever_happened_silence_ends_in_unknown_and_passes_in_up(script in "[-+~.]{0,40}") {
        check(&format!("{script}...."), Status::Unknown);
        check(&format!("{script}++"), Status::Up);
        check(&format!("{script}---"), Status::Down);
    }

    #[test]
    fn jitter_moves_a_pause_by_a_tenth_at_most(ms in 10_u64..3_600_000, chance in 0.0..1.0) {
        let every = Duration::from_millis(ms);
        let pause = jittered(every, chance);
        prop_assert!(pause >= every.mul_f64(0.8999) && pause <= every.mul_f64(1.1001));
    }
}

#[track_caller]
fn verdict(items: &[(Status, bool)], expected: Status) {
    let item = |&(status, critical): &(Status, bool)| Item::new("x", status).critical(critical);
    assert_eq!(Report::new(items.iter().map(item).collect()).status, expected, "{items:?}");
}

#[test]
fn the_worst_critical_line_decides_and_the_others_only_degrade() {
    use Status::{Degraded, Down, Unknown, Up};
    verdict(&[], Up);
    verdict(&[(Up, true), (Degraded, true)], Degraded);
    verdict(&[(Down, true), (Up, true)], Down);
    verdict(&[(Unknown, true), (Up, true)], Unknown);
    verdict(&[(Up, true), (Down, false)], Degraded);
    verdict(&[(Up, true), (Unknown, false)], Degraded);
    verdict(&[(Up, true), (Up, false)], Up);
}

#[test]
fn what_is_excluded_has_no_say() {
    let items = vec![Item::new("a", Status::Up), Item::new("b", Status::Down)];
    let report = Report::new(items).excluding(|name| name == "b");
    assert_eq!((report.status, report.items.len()), (Status::Up, 1));
}

async fn pass(_: CheckCx) -> Result<Detail, CheckError> {
    Ok(Detail::ok())
}

async fn hang(_: CheckCx) -> Result<Detail, CheckError> {
    std::future::pending().await
}

async fn explode(_: CheckCx) -> Result<Detail, CheckError> {
    panic!("boom\nsecond line")
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_its_timeout_and_a_panic_is_a_failure() {
    let reason = async |check: &dyn Check| {
        let outcome = run(check, Duration::from_millis(250)).await;
        (outcome.finding, outcome.reason.as_deref().unwrap_or_default().to_owned())
    };
    assert_eq!(reason(&pass).await, (Finding::Passed, String::new()));
    assert_eq!(reason(&hang).await, (Finding::Failed, "no answer in 250 ms".into()));
    let panicked = (Finding::Failed, "panicked: boom second line".into());
    assert_eq!(reason(&explode).await, panicked);
    let sudden =
        |_: CheckCx| -> std::future::Ready<Result<Detail, CheckError>> { panic!("at once") };
    assert_eq!(reason(&sudden).await, (Finding::Failed, "panicked: at once".into()));
    let worse = |_: CheckCx| std::future::ready(Ok(Detail::degraded("slow disk")));
    assert_eq!(reason(&worse).await, (Finding::Degraded, "slow disk".into()));
}

#[tokio::test(start_paused = true)]
async fn a_check_sees_its_own_deadline() {
    let ask = |cx: CheckCx| async move {
        assert_eq!(cx.remaining(), Duration::from_millis(70));
        tokio::time::sleep_until(cx.deadline() - Duration::from_millis(1)).await;
        Ok(Detail::note("in time"))
    };
    let outcome = run(&ask, Duration::from_millis(70)).await;
    assert_eq!(outcome.reason.as_deref(), Some("in time"));
}

#[test]
fn a_reason_is_one_line_of_at_most_256_bytes() {
    let reason = CheckError::new(format!("a\tb\n{}", "ä".repeat(400))).into_reason();
    assert!(reason.starts_with("a b ä") && (255..=256).contains(&reason.len()), "{reason}");
}

#[tokio::test]
async fn blocking_code_that_has_not_returned_is_not_begun_again() {
    let (release, held) = mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    let check = blocking(move || {
        held.lock().recv()?;
        Ok(Detail::ok())
    });
    let soon = Duration::from_millis(20);
    assert_eq!(run(&check, soon).await.reason.as_deref(), Some("no answer in 20 ms"));
    let second = run(&check, soon).await;
    assert_eq!(second.reason.as_deref(), Some("the previous run has not returned"));
    drop(release);
    // The blocked run ends on its own thread; wait for it as an operator would, by asking again.
    let deadline = Instant::now() + Duration::from_secs(10);
    while run(&check, Duration::from_secs(5)).await.reason.as_deref()
        != Some("receiving on a closed channel")
    {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

fn health(registry: HealthRegistry) -> Health {
    Health::new(registry, Box::new(Standing::default)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_report_nobody_renews_stops_being_ready_by_itself() {
    // No actor runs here at all: the reader alone must notice.
    let health = health(HealthRegistry::new().check(CheckSpec::new("db", pass)));
    assert_eq!(health.readiness().status, Status::Unknown);
    health.0.slots[0].run_once().await;
    assert_eq!(health.readiness().status, Status::Up);
    tokio::time::advance(Duration::from_secs(18)).await;
    assert_eq!(health.readiness().status, Status::Up);
    tokio::time::advance(Duration::from_millis(1)).await;
    let report = health.readiness();
    assert_eq!(report.status, Status::Unknown);
    let db = report.items.iter().find(|item| &*item.name == "db").unwrap();
    assert_eq!(db.reason.as_deref(), Some("the last result is 18001 ms old"));
    assert_eq!(health.flips(), 2);
}

#[tokio::test(start_paused = true)]
async fn draining_is_not_ready_whatever_the_checks_say() {
    let health = health(HealthRegistry::new());
    assert!(health.readiness().is_ready());
    health.drain();
    assert_eq!(health.readiness().status, Status::Down);
    assert_eq!(health.flips(), 2, "becoming ready, and ceasing to be");
}

#[tokio::test(start_paused = true)]
async fn two_runs_of_one_check_never_overlap() {
    let inside = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&inside);
    let slow = move |_: CheckCx| {
        let inside = Arc::clone(&seen);
        async move {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "overlap");
            tokio::time::sleep(Duration::from_millis(100)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok(Detail::ok())
        }
    };
    let health = health(HealthRegistry::new().check(CheckSpec::new("slow", slow)));
    let slot = &health.0.slots[0];
    tokio::join!(slot.run_once(), slot.run_once(), slot.run_once());
    assert_eq!(health.readiness().status, Status::Up);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_answered_apart_from_readiness() {
    let fail = |_: CheckCx| std::future::ready(Err(CheckError::new("gone")));
    let registry = HealthRegistry::new()
        .check(CheckSpec::new("mail", fail).groups(["outbound"]))
        .check(CheckSpec::new("db", pass).groups(["outbound", super::READY]));
    let health = health(registry);
    for slot in &health.0.slots {
        slot.run_once().await;
    }
    assert_eq!(health.readiness().status, Status::Up);
    assert_eq!(health.group("outbound").unwrap().status, Status::Down);
    assert_eq!(health.group("nobody"), None);
}

fn one_actor(status: Status) -> Standing {
    Standing { actors: vec![Item::new("orders", status)], escalated: false }
}

#[test]
fn a_failure_that_reached_the_root_is_neither_ready_nor_alive() {
    let fallen = || Standing { escalated: true, ..Standing::default() };
    let health = Health::new(HealthRegistry::new(), Box::new(fallen)).unwrap();
    assert_eq!(health.readiness().status, Status::Down);
    assert_eq!(health.supervision().status, Status::Down);
}

#[test]
fn only_critical_actors_decide_and_a_missing_one_counts_as_down() {
    let status = |state: Status, critical: &'static str| {
        let registry = HealthRegistry::new().critical_actor(critical);
        let actors = move || one_actor(state);
        Health::new(registry, Box::new(actors)).unwrap().readiness().status
    };
    assert_eq!(status(Status::Up, "orders"), Status::Up);
    assert_eq!(status(Status::Down, "orders"), Status::Down);
    assert_eq!(status(Status::Up, "payments"), Status::Down);
    let registry = HealthRegistry::new();
    let down = || one_actor(Status::Down);
    let health = Health::new(registry, Box::new(down)).unwrap();
    assert_eq!(health.readiness().status, Status::Degraded);
}

#[track_caller]
fn refused(registry: HealthRegistry, code: &str) {
    let error = Health::new(registry, Box::new(Standing::default)).unwrap_err();
    assert_eq!(error.code().as_str(), code, "{error}");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let with = |change: fn(CheckSpec) -> CheckSpec| {
        HealthRegistry::new().check(change(CheckSpec::new("db", pass)))
    };
    let range = "health.out_of_range";
    refused(with(|spec| spec.timeout(Duration::ZERO)), range);
    refused(with(|spec| spec.timeout(Duration::from_secs(61)).ttl(Duration::from_secs(99))), range);
    refused(with(|spec| spec.every(Duration::from_millis(9))), range);
    refused(with(|spec| spec.every(Duration::from_secs(3601))), range);
    refused(with(|spec| spec.fail_after(0)), range);
    refused(with(|spec| spec.recover_after(101)), range);
    refused(with(|spec| spec.ttl(Duration::from_millis(6499))), range);
    refused(with(|spec| spec.groups(["a b"])), "health.invalid_name");
    let edges = with(|spec| {
        let spec = spec.timeout(Duration::from_secs(60)).every(Duration::from_secs(3600));
        spec.fail_after(100).recover_after(1).ttl(Duration::from_secs(24 * 3600))
    });
    assert!(Health::new(edges, Box::new(Standing::default)).is_ok());
}

#[test]
fn names_are_unique_short_and_safe_on_a_line() {
    let named = |name: &str| HealthRegistry::new().check(CheckSpec::new(name, pass));
    refused(named(""), "health.invalid_name");
    refused(named(&"x".repeat(81)), "health.invalid_name");
    refused(named("a\n[+]b"), "health.invalid_name");
    refused(named("db").check(CheckSpec::new("db", pass)), "health.name_taken");
    assert!(Health::new(named(&"x".repeat(80)), Box::new(Standing::default)).is_ok());
}

#[test]
fn takes_256_checks_and_not_one_more() {
    let many = |count: usize| {
        (0..count).fold(HealthRegistry::new(), |registry, n| {
            registry.check(CheckSpec::new(format!("check-{n}"), pass))
        })
    };
    assert!(Health::new(many(256), Box::new(Standing::default)).is_ok());
    let error = Health::new(many(257), Box::new(Standing::default)).unwrap_err();
    assert_eq!(error, HealthError::TooMany { what: "checks", limit: 256 });
}

#[tokio::test(start_paused = true)]
async fn start_tasks_run_in_order_and_are_tried_again_until_done() {
    let log = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let step = |name: &'static str, failures: usize| {
        let log = Arc::clone(&log);
        let tries = AtomicUsize::new(0);
        StartTask::new(name, move || {
            log.lock().push(name);
            let fail = tries.fetch_add(1, Ordering::SeqCst) < failures;
            async move { if fail { Err(CheckError::new("not yet")) } else { Ok(()) } }
        })
    };
    let registry = HealthRegistry::new().start_task(step("migrate", 2)).start_task(step("warm", 0));
    let health = health(registry);
    assert_eq!(health.startup().status, Status::Unknown);
    assert!(!health.readiness().is_ready());
    health.0.start_tasks.run().await;
    assert_eq!(*log.lock(), ["migrate", "migrate", "migrate", "warm"]);
    assert!(health.startup().is_ready() && health.readiness().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_start_task_that_hangs_is_cut_off_and_its_failure_is_shown() {
    let stuck = StartTask::new("stuck", || async { std::future::pending().await });
    let registry = HealthRegistry::new().start_task(stuck.timeout(Duration::from_secs(2)));
    let health = health(registry);
    let tasks = health.0.start_tasks.clone();
    let soon = tokio::time::timeout(Duration::from_millis(2_050), tasks.run());
    assert!(soon.await.is_err(), "it is tried again for ever");
    let report = health.startup();
    assert_eq!(report.status, Status::Down);
    assert_eq!(report.items[0].reason.as_deref(), Some("try 1 failed: timed out"));
}

/// Waits for a claim about another thread. Real time, because the watcher is a real thread.
#[track_caller]
fn eventually(claim: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {claim}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_wedged_thread_is_named_by_a_reader_on_another_one_and_can_recover() {
    let beats = Heartbeats::start(Duration::from_millis(500)).unwrap();
    let (wedge, wedged) = mpsc::channel::<()>();
    let stuck = beats.pulse("worker-1").unwrap();
    let well = beats.pulse("worker-2").unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (quit, mut told) = tokio::sync::watch::channel(false);
    let mut told_too = told.clone();
    let first = std::thread::spawn(move || {
        runtime().block_on(async move {
            let beating = tokio::spawn(stuck.run());
            // The handler that blocks its event loop, until the channel closes.
            let _closed = wedged.recv();
            let _quit = told.wait_for(|quit| *quit).await;
            beating.abort();
        });
    });
    let second = std::thread::spawn(move || {
        runtime().block_on(async move {
            let beating = tokio::spawn(well.run());
            let _quit = told_too.wait_for(|quit| *quit).await;
            beating.abort();
        });
    });
    eventually("worker-1 is wedged", || !beats.liveness().is_ready());
    let report = beats.liveness();
    let down: Vec<_> = report.items.iter().filter(|item| item.status == Status::Down).collect();
    assert_eq!(down.iter().map(|item| &*item.name).collect::<Vec<_>>(), ["worker-1"]);
    drop(wedge);
    eventually("worker-1 recovers", || beats.liveness().is_ready());
    quit.send(true).unwrap();
    first.join().unwrap();
    second.join().unwrap();
    assert_eq!(beats.liveness().items.len(), 1, "threads that ended are not watched");
}

#[test]
fn watches_1024_threads_and_not_one_more() {
    let beats = Heartbeats::start(Duration::from_secs(10)).unwrap();
    let pulses: Vec<_> = (0..1024).map_while(|n| beats.pulse(format!("t{n}"))).collect();
    assert_eq!(pulses.len(), 1024);
    assert!(beats.pulse("one more").is_none());
    drop(pulses);
    assert!(beats.pulse("again").is_some());
}

/// Runs `test` where actors can live, on a paused clock.
fn with_actors(test: impl AsyncFnOnce(Tree)) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test(Tree::new())));
}

fn start(tree: &Tree, registry: HealthRegistry) -> (Health, Ref<HealthActor>) {
    let (health, spec) = Health::prepare(registry, tree).unwrap();
    (health, tree.start(spec))
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[test]
fn checks_run_by_themselves_and_a_hang_makes_readiness_say_so() {
    with_actors(async |tree| {
        let hanging = Arc::new(AtomicBool::new(false));
        let hangs = Arc::clone(&hanging);
        let check = move |_: CheckCx| {
            let hang = hangs.load(Ordering::SeqCst);
            async move { if hang { std::future::pending().await } else { Ok(Detail::ok()) } }
        };
        let registry = HealthRegistry::new().check(CheckSpec::new("db", check));
        let (health, _actor) = start(&tree, registry);
        seconds(60).await;
        assert_eq!(health.readiness().status, Status::Up, "{:?}", health.readiness());
        hanging.store(true, Ordering::SeqCst);
        seconds(25).await;
        let report = health.readiness();
        assert_eq!(report.status, Status::Down);
        let db = report.items.iter().find(|item| &*item.name == "db").unwrap();
        assert_eq!(db.reason.as_deref(), Some("no answer in 1000 ms"));
        hanging.store(false, Ordering::SeqCst);
        seconds(20).await;
        assert_eq!(health.readiness().status, Status::Up);
        assert_eq!(health.flips(), 3, "ready, not ready, ready");
    });
}

#[test]
fn when_the_actor_is_gone_its_results_grow_stale_and_that_is_not_ready() {
    with_actors(async |tree| {
        let registry = HealthRegistry::new().check(CheckSpec::new("db", pass));
        let (health, actor) = start(&tree, registry);
        seconds(10).await;
        assert!(health.readiness().is_ready());
        actor.stop(Duration::ZERO);
        seconds(30).await;
        assert_eq!(actor.state(), ActorState::Stopped);
        let report = health.readiness();
        assert_eq!(report.status, Status::Unknown, "{report:?}");
    });
}

#[test]
fn a_recheck_does_not_wait_for_the_next_turn() {
    with_actors(async |tree| {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let check = move |_: CheckCx| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok(Detail::ok()))
        };
        let spec = CheckSpec::new("db", check).every(Duration::from_secs(3600));
        let (health, actor) = start(&tree, HealthRegistry::new().check(spec));
        seconds(60).await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(actor.call(Recheck { name: "db".into() }).await.unwrap());
        assert!(!actor.call(Recheck { name: "nobody".into() }).await.unwrap());
        seconds(1).await;
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        assert!(health.recheck("db"));
        seconds(1).await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    });
}

#[derive(Debug)]
struct Fragile;

impl Actor for Fragile {
    type Context = Context<Self>;
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Break;

impl Handler<Break> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Break, _: &mut Self::Context) {
        panic!("broken");
    }
}

#[test]
fn a_critical_actor_in_quarantine_is_not_ready_until_it_is_back() {
    with_actors(async |tree| {
        let spec = Spec::new("orders", || Fragile).intensity(1, Duration::from_secs(30));
        let cooldown = Duration::from_secs(60);
        let orders = tree.start(spec.exhausted(Exhausted::Quarantine { cooldown }));
        let (health, _actor) = start(&tree, HealthRegistry::new().critical_actor("orders"));
        seconds(1).await;
        assert!(health.readiness().is_ready());
        for _ in 0..2 {
            let _panicked = orders.call(Break).await;
            seconds(1).await;
        }
        assert_eq!(orders.state(), ActorState::Quarantined);
        let report = health.readiness();
        assert_eq!(report.status, Status::Down);
        let line = report.items.iter().find(|item| &*item.name == "actor:orders").unwrap();
        assert!(line.reason.as_deref().unwrap().contains("quarantined"), "{line:?}");
        seconds(65).await;
        assert!(health.readiness().is_ready(), "{:?}", health.readiness());
        orders.stop(Duration::ZERO);
        seconds(1).await;
        assert_eq!(health.readiness().status, Status::Down, "stopped for good");
    });
}

#[test]
fn start_tasks_run_in_the_background_until_the_process_is_ready() {
    with_actors(async |tree| {
        let warm = || async {
            seconds(3).await;
            Ok(())
        };
        let registry = HealthRegistry::new().start_task(StartTask::new("warm", warm));
        let (health, _actor) = start(&tree, registry);
        seconds(1).await;
        assert_eq!(health.startup().status, Status::Unknown);
        assert!(!health.readiness().is_ready());
        seconds(3).await;
        assert!(health.startup().is_ready() && health.readiness().is_ready());
    });
}
