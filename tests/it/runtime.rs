//! Assembly, and leaving without losing a request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::{Actor, Handler, Message};
use actix_web::dev::Service;
use actix_web::{App, HttpResponse, HttpServer, web};
use steadfast::Steadfast;
use steadfast::breaker::Breaker;
use steadfast::config::Settings;
use steadfast::edge::{Drained, ShutdownTrigger};
use steadfast::health::Status;
use steadfast::kernel::{Context, Fault, Spec, Strategy};
use steadfast::runtime::{Builder, StartError};

use crate::wire::{Answer, eventually, get};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn settings(delay: Duration, requests: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.drain.delay = delay;
    settings.drain.requests = requests;
    settings
}

#[derive(Debug)]
struct Recorder {
    name: &'static str,
    log: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn spec(name: &'static str, log: &Arc<Mutex<Vec<String>>>) -> Spec<Self> {
        let log = Arc::clone(log);
        Spec::new(name, move || Self { name, log: Arc::clone(&log) })
    }

    fn note(&self, event: &str) {
        self.log.lock().unwrap().push(format!("{} {event}", self.name));
    }
}

impl Actor for Recorder {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.note("started");
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.note("stopped");
    }
}

#[derive(Debug, Message)]
#[rtype(result = "std::thread::ThreadId")]
struct WhereAreYou;

impl Handler<WhereAreYou> for Recorder {
    type Result = actix::MessageResult<WhereAreYou>;

    fn handle(&mut self, _: WhereAreYou, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult(std::thread::current().id())
    }
}

#[tokio::test]
async fn actors_start_in_order_on_threads_of_their_own_and_stop_in_reverse() {
    let log = Arc::default();
    let mut settings = Settings::default();
    settings.actors.threads = 2;
    let mut runtime = Steadfast::builder().config(settings);
    let first = runtime.actor(Recorder::spec("first", &log));
    let second = runtime.critical_actor(Recorder::spec("second", &log));
    let inner = runtime
        .group("chain", Strategy::RestForOne, |group| group.add(Recorder::spec("inner", &log)));
    let steadfast = runtime.start().unwrap();
    let mut threads = Vec::new();
    for actor in [&first, &second, &inner] {
        threads.push(actor.call(WhereAreYou).deadline(ms(5_000)).await.unwrap());
    }
    assert!(!threads.contains(&std::thread::current().id()));
    assert_ne!(threads[0], threads[1], "two threads, in turn");
    assert_eq!(steadfast.find::<Recorder>("second"), Some(second));
    eventually("it becomes ready", || steadfast.health().readiness().is_ready());
    let report = steadfast.stop().await;
    assert!(report.is_clean(), "{report:?}");
    let expected = [
        "first started",
        "second started",
        "inner started",
        "inner stopped",
        "second stopped",
        "first stopped",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
    assert!(!steadfast.health().readiness().is_ready());
}

#[test]
fn the_runtime_needs_no_actix_system_around_it() {
    let log = Arc::default();
    let mut runtime = Steadfast::builder();
    let actor = runtime.actor(Recorder::spec("alone", &log));
    let steadfast = runtime.start().unwrap();
    eventually("it becomes ready", || steadfast.health().readiness().is_ready());
    assert_eq!(actor.name(), "alone");
    drop(steadfast);
    eventually("its threads end with it", || Arc::strong_count(&log) <= 2);
}

#[tokio::test]
async fn an_open_breaker_degrades_readiness_and_does_not_end_it() {
    let mut runtime = Steadfast::builder();
    let rates = runtime.breaker(Breaker::builder("rates")).unwrap();
    let steadfast = runtime.start().unwrap();
    eventually("all is up", || steadfast.health().readiness().status == Status::Up);
    rates.force_open(None, "a test").await.unwrap();
    steadfast.health().recheck("breaker:rates");
    eventually("it is degraded", || {
        let report = steadfast.health().readiness();
        report.status == Status::Degraded && report.is_ready()
    });
    steadfast.stop().await;
    let wrong = Steadfast::builder().breaker(Breaker::builder("not a name"));
    assert!(wrong.is_err());
}

#[track_caller]
fn refused(builder: Builder, code: &str) {
    let error: StartError = builder.start().unwrap_err();
    assert_eq!(error.code().as_str(), code, "{error}");
}

#[test]
fn what_is_wrong_with_the_assembly_is_told_by_start() {
    let mut wrong = Settings::default();
    wrong.actors.threads = 65;
    refused(Steadfast::builder().config(wrong), "config.invalid");
    let mut late = Steadfast::builder();
    late.actor(Recorder::spec("early", &Arc::default()));
    refused(late.config(Settings::default()), "runtime.settings_too_late");
}

/// What a test server saw and did.
#[derive(Debug, Clone, Default)]
struct Seen {
    begun: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
}

/// Serves `/work/{ms}` until told otherwise, on a thread of its own.
fn serve(
    steadfast: &Steadfast,
) -> (SocketAddr, Seen, ShutdownTrigger, std::thread::JoinHandle<Drained>) {
    let socket = steadfast.listen("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let seen = Seen::default();
    let (wired, noted) = (steadfast.clone(), seen.clone());
    let serving = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let runtime = wired.clone();
            let server = HttpServer::new(move || {
                let (wired, noted, in_flight) =
                    (wired.clone(), noted.clone(), wired.in_flight().clone());
                App::new()
                    .wrap_fn(move |request, next| {
                        let guard = in_flight.enter();
                        let answer = next.call(request);
                        async move {
                            let answer = answer.await;
                            drop(guard);
                            answer
                        }
                    })
                    .configure(move |app| wired.configure(app))
                    .app_data(web::Data::new(noted))
                    .route("/work/{ms}", web::get().to(work))
            });
            let server = server.workers(2).listen(socket).unwrap();
            runtime.serve(server).await.unwrap()
        })
    });
    eventually("it answers", || get(address, "/readyz").status() == 200);
    (address, seen, steadfast.shutdown(), serving)
}

async fn work(path: web::Path<u64>, seen: web::Data<Seen>) -> HttpResponse {
    seen.begun.fetch_add(1, Ordering::SeqCst);
    actix_web::rt::time::sleep(ms(*path)).await;
    seen.finished.fetch_add(1, Ordering::SeqCst);
    HttpResponse::Ok().body("x".repeat(10_000))
}

#[test]
fn a_drain_under_load_loses_no_accepted_request() {
    let steadfast = Steadfast::builder().config(settings(ms(400), ms(5_000))).start().unwrap();
    let (address, seen, trigger, serving) = serve(&steadfast);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..12)
        .map(|client| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut answers = Vec::new();
                // A client behind a balancer: it sends as long as readiness says so.
                while !stop.load(Ordering::SeqCst) && get(address, "/readyz").status() == 200 {
                    answers.push(get(address, &format!("/work/{}", 20 + client * 40)));
                }
                answers
            })
        })
        .collect();
    eventually("the load is on", || seen.begun.load(Ordering::SeqCst) > 40);
    let pulled = Instant::now();
    trigger.pull();
    let answers: Vec<Answer> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    stop.store(true, Ordering::SeqCst);
    let bad: Vec<_> = answers.iter().filter(|answer| answer.status() != 200).collect();
    assert!(bad.is_empty(), "of {}: {bad:?}", answers.len());
    assert_eq!(answers.len(), seen.finished.load(Ordering::SeqCst));
    assert_eq!(serving.join().unwrap(), Drained::default());
    assert!(pulled.elapsed() >= ms(400), "the balancer gets its time");
    assert_eq!(get(address, "/readyz"), Answer::Refused);
}

#[test]
fn what_is_in_flight_when_the_listeners_close_is_finished() {
    let steadfast = Steadfast::builder().config(settings(ms(50), ms(10_000))).start().unwrap();
    let (address, seen, trigger, serving) = serve(&steadfast);
    let slow: Vec<_> =
        (0..8).map(|_| std::thread::spawn(move || get(address, "/work/900").status())).collect();
    eventually("all are in flight", || seen.begun.load(Ordering::SeqCst) == 8);
    trigger.pull();
    assert_eq!(slow.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>(), [200; 8]);
    assert!(serving.join().unwrap().is_clean());
}

#[test]
fn what_outlives_its_budget_is_cut_and_the_exit_says_so() {
    let steadfast = Steadfast::builder().config(settings(ms(0), ms(300))).start().unwrap();
    let (address, seen, trigger, serving) = serve(&steadfast);
    let endless = std::thread::spawn(move || get(address, "/work/60000"));
    eventually("it is in flight", || seen.begun.load(Ordering::SeqCst) == 1);
    let pulled = Instant::now();
    trigger.pull();
    let drained = serving.join().unwrap();
    assert!(pulled.elapsed() < ms(10_000), "{:?}", pulled.elapsed());
    assert_eq!((drained.requests_cut, drained.actors_cut), (1, 0));
    assert!(!drained.is_clean());
    assert!(steadfast.in_flight().cut_token().is_cancelled());
    assert!(matches!(endless.join().unwrap(), Answer::Lost(_)));
}

#[tokio::test]
async fn a_burst_of_clients_stands_in_the_queue_until_it_is_accepted() {
    let steadfast = Steadfast::builder().start().unwrap();
    // Nobody accepts, so all of them stand there at once.
    let listener = steadfast.listen("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for number in 0..600 {
        let connecting = tokio::net::TcpStream::connect(address);
        let connected = tokio::time::timeout(ms(900), connecting).await;
        clients.push(connected.unwrap_or_else(|_| panic!("client {number} waits")).unwrap());
    }
}

#[test]
fn a_second_signal_skips_the_delay() {
    let steadfast = Steadfast::builder().config(settings(ms(60_000), ms(5_000))).start().unwrap();
    let (address, _, trigger, serving) = serve(&steadfast);
    let pulled = Instant::now();
    trigger.pull();
    eventually("readiness falls at once", || get(address, "/readyz").status() == 503);
    assert_eq!(get(address, "/work/1").status(), 200, "it still serves");
    assert!(steadfast.in_flight().is_closing());
    trigger.pull();
    assert!(serving.join().unwrap().is_clean());
    assert!(pulled.elapsed() < ms(30_000));
}

#[test]
fn actors_stop_after_the_last_request_and_not_before() {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut runtime = Steadfast::builder().config(settings(ms(0), ms(10_000)));
    runtime.actor(Recorder::spec("store", &log));
    let steadfast = runtime.start().unwrap();
    let (address, seen, trigger, serving) = serve(&steadfast);
    let slow = std::thread::spawn(move || get(address, "/work/700").status());
    eventually("it is in flight", || seen.begun.load(Ordering::SeqCst) == 1);
    trigger.pull();
    eventually("nobody is let in", || get(address, "/readyz") == Answer::Refused);
    assert_eq!(seen.finished.load(Ordering::SeqCst), 0);
    assert_eq!(*log.lock().unwrap(), ["store started"]);
    assert_eq!(slow.join().unwrap(), 200);
    assert!(serving.join().unwrap().is_clean());
    assert_eq!(*log.lock().unwrap(), ["store started", "store stopped"]);
}

/// Asks on a new connection each time, whatever readiness says, until it gets no 200.
fn stubborn(address: SocketAddr) -> Answer {
    loop {
        let answer = get(address, "/work/2");
        if answer.status() != 200 {
            return answer;
        }
    }
}

#[test]
fn clients_that_ignore_readiness_are_answered_or_refused_and_never_reset() {
    for _ in 0..3 {
        let steadfast = Steadfast::builder().config(settings(ms(50), ms(5_000))).start().unwrap();
        let (address, seen, trigger, serving) = serve(&steadfast);
        let clients: Vec<_> =
            (0..16).map(|_| std::thread::spawn(move || stubborn(address))).collect();
        eventually("the load is on", || seen.begun.load(Ordering::SeqCst) > 200);
        trigger.pull();
        for client in clients {
            let last = client.join().unwrap();
            assert!(last == Answer::Refused || last.status() == 503, "{last:?}");
        }
        assert!(serving.join().unwrap().is_clean());
    }
}
