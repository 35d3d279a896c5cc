//! The request edge, through real servers and raw connections.

mod admission; // who is served, who waits, who is refused
mod dev_mailbox; // mails in a browser
mod errors; // each error as a problem document
mod in_flight; // what operators see of the requests being served
mod logs; // what is recorded of a request
mod panics; // what a panic costs
mod requests; // ids, deadlines, cancellation
mod resting; // a route that panics too often
mod server; // limits on every connection, under attack
mod support; // a server per test, and a client that shows every byte
mod webhooks; // raw JSON, and what becomes of a delivery
