//! The kernel beside its peers: the `kernel` command.

use std::time::Duration;

use clap::Args;

use crate::measure::{Comparison, Contender, Effort};

mod fairness;
mod kameo;
mod peer;
mod ractor;
mod raw_actix;
mod replies;
mod steadfast;
mod storm;
mod tokio_mpsc;

pub use self::kameo::Kameo;
pub use self::peer::{Peer, WITHIN, start_on};
pub use self::ractor::Ractor;
pub use self::raw_actix::RawActix;
pub use self::steadfast::Steadfast;
pub use self::tokio_mpsc::TokioMpsc;

/// The bars we set ourselves, as ratios to a plain actix ask or tell.
mod bar {
    pub(super) const CALL: f64 = 1.20;
    pub(super) const CALL_WITH_DEADLINE: f64 = 1.40;
    pub(super) const TELL: f64 = 1.30;
}

/// Callers in the rows with many asks at once.
const CALLERS: u64 = 100;

/// What the `kernel` command measures, and how long.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Rounds that count, 1 or more.
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Messages of each contender in each round, in thousands.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    thousands: u16,
    /// Only the rows whose short name contains this: ask, deadline, in-flight, tell, across,
    /// replies, pending, fairness, storm.
    #[arg(long)]
    row: Option<String>,
    /// Only the contenders whose name contains this, for a profiler. Ratios mean nothing then.
    #[arg(long)]
    contender: Option<String>,
}

impl Settings {
    fn wants(&self, row: &str) -> bool {
        self.row.as_deref().is_none_or(|wanted| row.contains(wanted))
    }

    /// `share` of the messages, for rows whose messages cost more.
    fn effort(&self, share: u64) -> Effort {
        let operations = u64::from(self.thousands) * 1000 / share;
        Effort { rounds: usize::from(self.rounds), operations }
    }
}

/// Runs the rows on this thread. Returns whether every bar was reached.
pub async fn run(settings: &Settings) -> bool {
    let same_thread: [RowEntry; 6] = [
        ("ask", 1, || Box::pin(ask())),
        ("deadline", 1, || Box::pin(ask_with_deadline())),
        ("in-flight", 1, || Box::pin(ask_in_flight())),
        ("tell", 1, || Box::pin(tell())),
        ("replies", 1, || Box::pin(async { replies::ready() })),
        ("pending", 25, || Box::pin(async { replies::pending() })),
    ];
    let mut passes = true;
    for (name, share, row) in same_thread {
        if settings.wants(name) {
            passes &= report(row().await, settings, share).await;
        }
    }
    passes &= run_across(settings).await;
    if settings.wants("fairness") {
        passes &= fairness::run().await;
    }
    if settings.wants("storm") {
        passes &= storm::run().await;
    }
    passes
}

/// A row's short name, the share of the messages it takes, and how it is made.
type RowEntry = (&'static str, u64, fn() -> Row);
type Row = futures_util::future::LocalBoxFuture<'static, Comparison>;

async fn report(comparison: Comparison, settings: &Settings, share: u64) -> bool {
    let comparison = comparison.only(settings.contender.as_deref());
    let report = comparison.run(settings.effort(share)).await;
    println!("{report}");
    report.passes()
}

/// The rows with the actor on a thread of its own.
async fn run_across(settings: &Settings) -> bool {
    if !settings.wants("across") {
        return true;
    }
    let arbiter = actix_rt::Arbiter::new();
    let serial = across(&arbiter.handle(), None).await;
    let in_flight = across(&arbiter.handle(), Some(CALLERS)).await;
    let passes = report(serial, settings, 10).await & report(in_flight, settings, 1).await;
    arbiter.stop();
    passes
}

/// One peer in one of the loops of [`peer`].
fn contender<P, F>(peer: P, batch: fn(P, u64) -> F) -> Contender
where
    P: Peer,
    F: Future<Output = ()> + 'static,
{
    Contender::new(P::NAME, move |n| batch(peer.clone(), n))
}

async fn ask() -> Comparison {
    Comparison::with(
        "Ask, same thread, one at a time",
        contender(RawActix::start().await, peer::serial),
    )
    .against(contender(Steadfast::start().await, peer::serial).bar(bar::CALL))
    .against(contender(TokioMpsc::start().await, peer::serial))
    .against(contender(Kameo::start().await, peer::serial))
    .against(contender(Ractor::start().await, peer::serial))
}

async fn ask_with_deadline() -> Comparison {
    let plain = RawActix::start().await;
    let supervised = Steadfast::start().await;
    Comparison::with(
        "Ask with a deadline, same thread, one at a time (ratios to an actix ask without)",
        contender(plain.clone(), peer::serial),
    )
    .against(named("actix 0.13, .timeout(1s)", plain, peer::serial_within))
    .against(
        named("steadfast, .deadline(1s)", supervised.clone(), peer::serial_within)
            .bar(bar::CALL_WITH_DEADLINE),
    )
    .against(named("steadfast, inherited from the request", supervised, steadfast::in_request))
    .against(named("tokio mpsc + oneshot, timeout", TokioMpsc::start().await, peer::serial_within))
    .against(named("kameo 0.22, reply_timeout", Kameo::start().await, peer::serial_within))
    .against(named("ractor 0.16, timeout", Ractor::start().await, peer::serial_within))
}

fn named<P, F>(name: &str, peer: P, batch: fn(P, u64) -> F) -> Contender
where
    P: Peer,
    F: Future<Output = ()> + 'static,
{
    Contender::new(name, move |n| batch(peer.clone(), n))
}

/// A contender with many callers at once.
fn many<P: Peer>(peer: P) -> Contender {
    Contender::new(P::NAME, move |n| peer::in_flight(peer.clone(), CALLERS, n))
}

async fn ask_in_flight() -> Comparison {
    Comparison::with(
        format!("Ask, same thread, {CALLERS} in flight"),
        many(RawActix::start().await),
    )
    .against(many(Steadfast::start().await).bar(bar::CALL))
    .against(many(TokioMpsc::start().await))
    .against(many(Kameo::start().await))
    .against(many(Ractor::start().await))
}

async fn tell() -> Comparison {
    Comparison::with(
        "Tell, same thread, bursts of 1,000",
        contender(RawActix::start().await, peer::tell),
    )
    .against(contender(Steadfast::start().await, peer::tell).bar(bar::TELL))
    .against(contender(TokioMpsc::start().await, peer::tell))
    .against(contender(Kameo::start().await, peer::tell))
    .against(contender(Ractor::start().await, peer::tell))
}

async fn across(arbiter: &actix_rt::ArbiterHandle, callers: Option<u64>) -> Comparison {
    fn placed<P: Peer>(peer: P, callers: Option<u64>) -> Contender {
        match callers {
            Some(_) => many(peer),
            None => contender(peer, peer::serial),
        }
    }
    let how = match callers {
        Some(callers) => format!("{callers} in flight"),
        None => "one at a time".to_owned(),
    };
    Comparison::with(
        format!("Ask, actor on another thread, {how}"),
        placed(start_on::<RawActix>(arbiter).await, callers),
    )
    .against(placed(start_on::<Steadfast>(arbiter).await, callers).bar(bar::CALL))
    .against(placed(start_on::<TokioMpsc>(arbiter).await, callers))
    .against(placed(start_on::<Kameo>(arbiter).await, callers))
    .against(placed(start_on::<Ractor>(arbiter).await, callers))
}

/// Time as milliseconds, for the rows that are no ratios.
fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
