//! The example server of steadfast.

mod connections;
mod database;
mod flaky;
mod options;
mod rates;
mod simulator;
mod slow;
mod upstream;

use clap::Parser;

fn main() -> std::io::Result<()> {
    let options = options::Options::parse();
    let sim = simulator::Simulator::start(([127, 0, 0, 1], 0).into())?;
    use std::io::Write;
    writeln!(
        std::io::stdout().lock(),
        "ready app=http://{} admin=http://{} upstream={}",
        options.listen,
        options.admin,
        sim.url()
    )?;
    std::thread::park();
    Ok(())
}
