//! The example server of steadfast.

mod options;
mod simulator;

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
