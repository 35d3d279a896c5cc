//! One binary for all integration tests: linking is what takes time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that meets the unexpected should stop there, and say why"
)]

mod edge; // ids, deadlines, panics and error documents, through real servers
mod health; // probes, and a thread that is stuck
mod runtime; // assembly, and the way out under load
mod schema_enum; // an enum as a service has it, and readiness
mod server_counters;
mod server_drain; // SIGTERM under load
mod server_edge; // what clients do wrong
mod server_faults;
mod server_hostile; // panics, poison, deadlines
mod server_jobs; // who dies, shares, drowns
mod server_logs; // whoever reads the log may be slow or gone
mod server_mails; // mails, their ledger, and kill -9
mod server_options; // the command line
mod server_orders; // a row, a counter and a job
mod server_products; // cached reads
mod server_rates; // a third party behind a breaker
mod server_reviews;
mod server_simulator; // each fault of the third party
mod server_simulator_mail; // its mail service: two providers, and what is recorded
mod server_webhooks; // events of others, kept byte for byte
mod support; // real servers, problem documents and raw connections
mod tidy; // what the repository says about itself
mod wire; // a raw client for servers in this process
