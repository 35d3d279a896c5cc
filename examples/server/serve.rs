//! From the options to a serving process, and out again.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::{App, HttpServer};
use steadfast::Steadfast;
use steadfast::config::Settings;
use steadfast::edge::{Drained, Edge, EdgeLimits, EdgeServer};

use crate::database::{Database, Place};
use crate::options::{Options, UpstreamUrl};
use crate::routes;
use crate::services::Services;
use crate::simulator::Simulator;

/// Nobody balances load to a demonstration: a second is enough to tell clients to leave.
const DRAIN_DELAY: Duration = Duration::from_secs(1);
/// On loopback everybody has one address, and load tests come from there.
const CONNECTIONS_PER_ADDRESS: usize = 10_000;
/// LIMIT: how long the ready line waits for the first results of the checks.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Serves until the process is told to leave.
///
/// # Errors
///
/// An address is taken, a setting is wrong, the database cannot be opened, or the server failed.
pub(crate) async fn run(options: Options, settings: Settings) -> Result<Drained, Box<dyn Error>> {
    let place = Place::find(options.database.as_ref())
        .map_err(|error| format!("cannot make a temporary folder for the database: {error}"))?;
    let database = Database::open(&place, &options.schema).await?;
    let (upstream, _simulator) = upstream(options.upstream.clone())?;

    let limits = settings.edge.clone();
    let mut builder = Steadfast::builder().config(settings);
    let services = Services::declare(&mut builder, database.clone(), &upstream, &options).await?;
    let steadfast = builder.start()?;

    let app = bound(options.listen, steadfast.listen(options.listen))?;
    let admin = bound(options.admin, TcpListener::bind(options.admin))?;
    let ready = Ready { app: app.local_addr()?, admin: admin.local_addr()?, upstream };
    serve_admin(admin, &steadfast)?;
    actix_web::rt::spawn(announce(ready, steadfast.clone()));
    let drained = serve_app(app, &steadfast, services, limits).await?;
    database.close().await;
    Ok(drained)
}

/// The settings of the runtime: this server's own defaults, the file, the environment.
///
/// # Errors
///
/// A key is unknown, or a value is out of its range.
pub(crate) fn settings(options: &Options) -> Result<Settings, Box<dyn Error>> {
    let mut base = Settings::default();
    base.drain.delay = DRAIN_DELAY;
    base.edge.connections.per_address = CONNECTIONS_PER_ADDRESS;
    let loader = Settings::loader().base(base);
    let loader = match &options.config {
        Some(file) => loader.file(file),
        None => loader,
    };
    Ok(loader.load()?)
}

/// Says which address it was that could not be had.
fn bound(address: SocketAddr, listener: io::Result<TcpListener>) -> Result<TcpListener, String> {
    listener.map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// The third party: the one that was named, or a simulator that ends with the returned handle.
fn upstream(url: Option<UpstreamUrl>) -> io::Result<(UpstreamUrl, Option<Simulator>)> {
    if let Some(url) = url {
        return Ok((url, None));
    }
    let simulator = Simulator::start(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok((UpstreamUrl(simulator.url()), Some(simulator)))
}

async fn serve_app(
    listener: TcpListener,
    steadfast: &Steadfast,
    services: Services,
    limits: EdgeLimits,
) -> Result<Drained, Box<dyn Error>> {
    let connections = services.connections.clone();
    let runtime = steadfast.clone();
    let app = move || {
        App::new()
            .configure(|app| runtime.configure(app))
            .configure(|app| services.configure(app))
            .configure(routes::configure)
            .wrap(runtime.edge())
    };
    let server = EdgeServer::new(app).limits(limits)?.on_connect(move |_, data| {
        data.insert(connections.open());
    });
    Ok(steadfast.serve(server.listen(listener)?).await?)
}

/// Serves the administration on a thread of its own, so that it answers when all others are
/// stuck. It ends with the process, after everything else.
fn serve_admin(listener: TcpListener, steadfast: &Steadfast) -> io::Result<()> {
    let probes = steadfast.probes().with_reasons();
    let serve = move || {
        let edge = Edge::new();
        let app = move || App::new().configure(|app| probes.configure(app)).wrap(edge.clone());
        let server = HttpServer::new(app).workers(1).disable_signals();
        let served = server
            .listen(listener)
            .and_then(|server| actix_web::rt::System::new().block_on(server.run()));
        if let Err(error) = served {
            tracing::error!(%error, "the administration cannot be served");
        }
    };
    std::thread::Builder::new().name("admin".into()).spawn(serve).map(drop)
}

/// Where the server can be reached.
struct Ready {
    app: SocketAddr,
    admin: SocketAddr,
    upstream: UpstreamUrl,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, admin, upstream: UpstreamUrl(upstream) } = self;
        write!(f, "ready app=http://{app} admin=http://{admin} upstream={upstream}")
    }
}

/// Prints the ready line once the service is ready, or has taken too long to become so: then
/// its probes tell why.
async fn announce(ready: Ready, steadfast: Steadfast) {
    let is_ready = async {
        while !steadfast.health().readiness().is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(READY_WITHIN, is_ready).await.is_err() {
        tracing::warn!("serving, but not ready: see /readyz?verbose");
    }
    let mut output = io::stdout().lock();
    if let Err(error) = writeln!(output, "{ready}").and_then(|()| output.flush()) {
        tracing::warn!(%error, "nobody reads the ready line");
    }
}
