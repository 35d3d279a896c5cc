//! The example server of steadfast.

mod connections;
mod database;
mod demo;
mod errors;
mod flaky;
mod interim;
mod options;
mod products;
mod rates;
mod routes;
mod simulator;
mod slow;
mod upstream;

use actix_web::{App, HttpServer, web::Data};
use clap::Parser;
use steadfast_actors::kernel::Tree;
use tracing_subscriber::EnvFilter;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options::Options::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .init();
    let database = database::Database::open(options.database.as_ref())?;
    let (upstream, _sim) = match options.upstream {
        Some(url) => (url, None),
        None => {
            let sim = simulator::Simulator::start(([127, 0, 0, 1], 0).into())?;
            (sim.url().parse()?, Some(sim))
        }
    };
    let tree = Tree::new();
    let flaky = tree.start(flaky::Flaky::spec());
    let products = products::Products::new(database);
    let rates = rates::Rates::new(&upstream)?;
    let control = upstream::UpstreamControl::new(&upstream)?;
    let slow = slow::SlowWork::default();
    let connections = connections::Connections::default();
    let open = connections.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(flaky.clone()))
            .app_data(Data::new(products.clone()))
            .app_data(Data::new(rates.clone()))
            .app_data(Data::new(control.clone()))
            .app_data(Data::new(slow.clone()))
            .app_data(Data::new(connections.clone()))
            .app_data(Data::new(tree.clone()))
            .configure(routes::configure)
    })
    .on_connect(move |_, ext| {
        ext.insert(open.open());
    })
    .workers(2)
    .bind(options.listen)?;
    use std::io::Write;
    writeln!(
        std::io::stdout().lock(),
        "ready app=http://{} admin=http://{} upstream={}",
        server.addrs()[0],
        options.admin,
        upstream.0
    )?;
    Ok(server.run().await?)
}
