//! Limits on every connection, under attack. Each attack is cut in its limit, or up to a second
//! later, and the gauge of the server returns to zero.

mod bodies; // drips, refusals, other rates
mod connections; // floods, age, leaving
mod drain; // the way out, with what may be under way
#[cfg(feature = "tls")]
mod encrypted; // a server behind TLS
mod hardened; // what actix-web's own server can have
mod heads; // slow, large, second, smuggled
#[cfg(feature = "http2")]
mod http2; // many streams
mod leaving; // what becomes of the work
mod mixed; // all of it at once
mod pipelining; // more than is answered
mod readers; // stalled, trickling
mod support; // a server with short limits
#[cfg(feature = "tls")]
mod tls; // the same below a handshake
