//! What becomes of the work for a client that leaves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use actix::{Actor, Handler, Message, MessageResult};
use actix_web::dev::ServerHandle;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpResponse};
use steadfast::Steadfast;
use steadfast::edge::{
    Connections, Ctx, Deadline, Disconnect, Edge, EdgeLimits, EdgeServer, InFlight,
};
use steadfast::kernel::{Context, Ref, Spec, Stopped};

use super::support::{limits, ms};
use crate::edge::support::{Sink, eventually, log_to};
use crate::support::attackers::Attacker;

/// How long the work takes where nobody stops it.
const WORK: Duration = Duration::from_millis(700);

/// What became of the work.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicUsize,
    finished: AtomicUsize,
    dropped: AtomicUsize,
    /// Told by its context that the client is gone.
    told: AtomicUsize,
}

impl Counts {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

struct Work<'a>(&'a Counts, bool);

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let count = if self.1 { &self.0.finished } else { &self.0.dropped };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

async fn work(counts: web::Data<Counts>, context: Ctx) -> &'static str {
    counts.begun.fetch_add(1, Ordering::SeqCst);
    let told = web::Data::clone(&counts);
    actix_web::rt::spawn(async move {
        context.cancelled().await;
        if context.stopped() == Some(Stopped::ClientGone) {
            told.told.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut work = Work(&counts, false);
    tokio::time::sleep(WORK).await;
    work.1 = true;
    "done"
}

/// Waits in its mailbox behind whoever holds the actor.
#[derive(Debug, Default)]
struct Busy {
    noted: usize,
}

impl Actor for Busy {
    type Context = Context<Self>;
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Hold(mpsc::Receiver<()>);

impl Handler<Hold> for Busy {
    type Result = ();

    fn handle(&mut self, hold: Hold, _: &mut Self::Context) {
        let _let_go = hold.0.recv();
    }
}

/// One more; with the number of those before.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
struct Note;

impl Handler<Note> for Busy {
    type Result = MessageResult<Note>;

    fn handle(&mut self, _: Note, _: &mut Self::Context) -> Self::Result {
        self.noted += 1;
        MessageResult(self.noted - 1)
    }
}

async fn note(counts: web::Data<Counts>, actor: web::Data<Ref<Busy>>) -> HttpResponse {
    counts.begun.fetch_add(1, Ordering::SeqCst);
    match actor.call(Note).await {
        Ok(_) => HttpResponse::Ok().finish(),
        Err(error) => HttpResponse::from_error(steadfast::problem::Problem::from(error)),
    }
}

fn routes(app: &mut ServiceConfig) {
    let route = |path: &str, disconnect| web::resource(path).wrap(disconnect).to(work);
    let short = Deadline::after(ms(100));
    app.service(route("/cancel", Disconnect::Cancel))
        .service(route("/finish", Disconnect::Finish))
        .service(route("/detach", Disconnect::Detach))
        .service(web::resource("/short").wrap(short).wrap(Disconnect::Detach).to(work))
        .route("/work", web::route().to(work))
        .route("/note", web::route().to(note));
}

struct Served {
    address: SocketAddr,
    counts: web::Data<Counts>,
    in_flight: InFlight,
    edge: Edge,
    connections: Connections,
    handle: ServerHandle,
    sink: Sink,
}

impl Served {
    fn start(actor: Option<Ref<Busy>>) -> Self {
        Self::with(limits(), actor)
    }

    fn with(limits: EdgeLimits, actor: Option<Ref<Busy>>) -> Self {
        let (in_flight, sink) = (InFlight::new(), Sink::default());
        let edge = Edge::new().in_flight(in_flight.clone());
        let counts = web::Data::new(Counts::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (started, starting) = mpsc::channel();
        let (wrapper, data, log) = (edge.clone(), counts.clone(), sink.clone());
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    log_to(&log);
                    let app = App::new().app_data(data.clone()).configure(routes);
                    let app = match actor.clone() {
                        Some(actor) => app.app_data(web::Data::new(actor)),
                        None => app,
                    };
                    app.wrap(wrapper.clone())
                };
                let server = EdgeServer::new(app).limits(limits).unwrap().workers(1);
                let connections = server.connections();
                let server = server.disable_signals().listen(listener).unwrap().run().unwrap();
                started.send((server.handle(), connections)).unwrap();
                server.await.unwrap();
            });
        });
        let (handle, connections) = starting.recv_timeout(Duration::from_secs(10)).unwrap();
        Self { address, counts, in_flight, edge, connections, handle, sink }
    }

    /// A client whose work has begun.
    async fn begin(&self, method: &str, path: &str, id: &str) -> Attacker {
        let before = self.counts.begun();
        let mut client = Attacker::connect(self.address).await;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nx-request-id: {id}\r\n\r\n");
        client.send(head).await;
        eventually("the work begins", || self.counts.begun() > before).await;
        client
    }

    #[track_caller]
    fn recorded(record: &serde_json::Value, status: u16, outcome: &str) {
        let fields = &record["fields"];
        assert_eq!((&fields["status"], &fields["outcome"]), (&status.into(), &outcome.into()));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Close,
    Reset,
}

impl Leaving {
    fn now(self, client: Attacker) {
        match self {
            Self::Close => client.close(),
            Self::Reset => client.reset(),
        }
    }
}

#[tokio::test]
async fn work_is_dropped_when_the_client_closes_or_resets() {
    let server = Served::start(None);
    for (round, (method, path)) in
        [("GET", "/work"), ("GET", "/cancel"), ("POST", "/cancel")].into_iter().enumerate()
    {
        for leaving in [Leaving::Close, Leaving::Reset] {
            let dropped = server.counts.dropped();
            let id = format!("cancel-{round}-{leaving:?}");
            let client = server.begin(method, path, &id).await;
            leaving.now(client);
            eventually("it is dropped", || server.counts.dropped() > dropped).await;
            Served::recorded(&server.sink.record(&id).await, 499, "cancelled");
        }
    }
    assert_eq!(server.counts.finished(), 0);
    eventually("all were told", || server.counts.told.load(Ordering::SeqCst) == 6).await;
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
    assert_eq!(server.edge.counts().clients_gone, 6);
}

#[tokio::test]
async fn work_goes_on_when_the_client_closes_or_resets() {
    let server = Served::start(None);
    for (method, path) in [("POST", "/work"), ("GET", "/detach"), ("GET", "/finish")] {
        for leaving in [Leaving::Close, Leaving::Reset] {
            let finished = server.counts.finished();
            let id = format!("{}-{leaving:?}", &path[1..]);
            let client = server.begin(method, path, &id).await;
            leaving.now(client);
            tokio::time::sleep(WORK / 3).await;
            assert_eq!(server.in_flight.count(), 1, "a drain would wait for it");
            eventually("it is finished", || server.counts.finished() > finished).await;
            let record = server.sink.record(&id).await;
            // Whoever does not ask answers into the void.
            match (path, leaving) {
                ("/finish", Leaving::Close) => Served::recorded(&record, 200, "complete"),
                _ => Served::recorded(&record, 499, "detached"),
            }
        }
    }
    assert_eq!(server.counts.dropped(), 0);
    assert_eq!(server.counts.told.load(Ordering::SeqCst), 0);
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
    assert_eq!(server.edge.counts().clients_gone, 5);
}

#[tokio::test]
async fn who_closes_its_half_is_answered_whatever_becomes_of_those_who_leave() {
    let server = Served::start(None);
    for (method, path) in
        [("GET", "/work"), ("POST", "/work"), ("GET", "/cancel"), ("GET", "/finish")]
    {
        let mut client = server.begin(method, path, "half").await;
        client.half_close().await;
        let ended = client.ended().await;
        assert!(!ended.reset, "{ended:?}");
        let statuses = ended.statuses();
        assert_eq!(statuses.last(), Some(&200), "{ended:?}");
        let asked = usize::from(path != "/finish");
        assert_eq!(statuses.len(), 1 + asked, "asked whether it is there, at most once: {ended:?}");
        assert!(ended.heard.ends_with("done"));
    }
    assert_eq!(server.counts.finished(), 4);
}

#[tokio::test]
async fn a_client_of_http_1_0_is_not_asked() {
    let server = Served::start(None);
    let mut client = Attacker::connect(server.address).await;
    client.send("GET /work HTTP/1.0\r\n\r\n").await;
    client.half_close().await;
    let ended = client.ended().await;
    assert!(ended.heard.ends_with("done"), "{ended:?}");
    assert!(!ended.heard.contains("100 Continue"), "{ended:?}");
}

#[tokio::test]
async fn work_without_a_client_ends_at_its_deadline() {
    let server = Served::start(None);
    let client = server.begin("GET", "/short", "late").await;
    client.reset();
    eventually("it is dropped", || server.counts.dropped() == 1).await;
    Served::recorded(&server.sink.record("late").await, 499, "detached");
    assert_eq!(server.edge.counts().deadlines, 1);
}

#[tokio::test]
async fn nobody_leaves_more_work_behind_than_it_may_have_connections() {
    let mut limits = limits();
    limits.connections.per_address = 3;
    let server = Served::with(limits, None);
    for _ in 0..3 {
        server.begin("POST", "/work", "left").await.reset();
    }
    tokio::time::sleep(ms(50)).await;
    assert!(Attacker::is_refused(server.address, Ipv4Addr::LOCALHOST).await);
    eventually("the work is done", || server.counts.finished() == 3).await;
    eventually("its place is free", || server.connections.counts().open == 0).await;
    let client = server.begin("GET", "/work", "next").await;
    assert_eq!(client.ended().await.statuses(), [200]);
}

#[tokio::test]
async fn a_graceful_stop_waits_for_work_without_a_client() {
    let server = Served::start(None);
    let client = server.begin("POST", "/work", "left").await;
    client.reset();
    tokio::time::sleep(ms(100)).await;
    server.handle.stop(true).await;
    assert_eq!((server.counts.finished(), server.counts.dropped()), (1, 0));
}

#[tokio::test]
async fn a_cut_ends_work_without_a_client() {
    let server = Served::start(None);
    let client = server.begin("POST", "/work", "left").await;
    client.reset();
    tokio::time::sleep(ms(100)).await;
    server.in_flight.cut();
    eventually("it is dropped", || server.counts.dropped() == 1).await;
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
}

#[tokio::test]
async fn a_stop_without_grace_leaves_no_work_behind() {
    let server = Served::start(None);
    let client = server.begin("POST", "/work", "left").await;
    server.handle.stop(false).await;
    eventually("it is dropped", || server.counts.dropped() == 1).await;
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
    drop(client);
}

#[tokio::test]
async fn a_message_to_an_actor_is_not_run_when_the_client_has_left() {
    let mut runtime = Steadfast::builder();
    let actor = runtime.actor(Spec::new("busy", Busy::default));
    let steadfast = runtime.start().unwrap();
    let server = Served::start(Some(actor.clone()));
    let mut noted = 0;
    for leaving in [Leaving::Close, Leaving::Reset] {
        for (method, run) in [("GET", 0), ("POST", 1)] {
            let (let_go, held) = mpsc::channel();
            let holding = tokio::spawn({
                let actor = actor.clone();
                async move { actor.call(Hold(held)).await }
            });
            // The actor is held before the request comes to it.
            tokio::time::sleep(ms(50)).await;
            let client = server.begin(method, "/note", "note").await;
            tokio::time::sleep(ms(50)).await;
            leaving.now(client);
            if method == "GET" {
                eventually("it is given up", || server.in_flight.count() == 0).await;
            } else {
                tokio::time::sleep(ms(100)).await;
            }
            let_go.send(()).unwrap();
            holding.await.unwrap().unwrap();
            noted += run;
            assert_eq!(actor.call(Note).await.unwrap(), noted, "{method} {leaving:?}");
            noted += 1;
        }
    }
    let report = steadfast.stop().await;
    assert!(report.is_clean(), "{report:?}");
}
