//! HTTP/2: a connection with many streams, seen from outside.
//!
//! actix-http gives its HTTP/2 no limit but the sizes of its windows, never cancels a request, and
//! takes no leave of its clients. So the stream below it reads the frames that pass, which is
//! enough to know when a connection has too much of something, and writes a frame of its own now
//! and then, between those of actix-http. What is in the frames remains the business of `h2`.
//!
//! | file | what it knows |
//! |---|---|
//! | `frames` | pure: where frames begin and end |
//! | `fields` | pure: how many fields a head has |
//! | `state` | pure: which streams are open, and how long the connection may stay |
//! | `io` | bytes, and the timer |
//! | `service` | requests and responses |
//! | `streams` | what these share |

mod fields;
mod frames;
mod io;
mod service;
mod state;
mod streams;

pub(super) use io::StreamsIo;
pub(super) use service::StreamsFactory;
pub(super) use state::Limits;
pub(crate) use streams::Stream;
pub(super) use streams::Streams;
