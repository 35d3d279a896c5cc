//! A hundred panics among a hundred thousand messages.

use std::time::{Duration, Instant};

use actix::{Actor, Handler, Message};
use futures_util::future::join_all;
use steadfast_actors::kernel::{Backoff, CallError, Context, Spec, Tree};

use super::milliseconds;
use crate::measure::verdict;

const MESSAGES: u32 = 100_000;
/// In every so many messages, the middle one panics.
const POISON_EVERY: u32 = 1000;

/// Answers with its own number, or panics.
#[derive(Message)]
#[rtype(result = "u32")]
struct Numbered(u32);

impl Numbered {
    fn answer(&self) -> u32 {
        assert!(self.0 % POISON_EVERY != POISON_EVERY / 2, "poison");
        self.0
    }
}

struct Plain;

impl Actor for Plain {
    type Context = actix::Context<Self>;
}

impl Handler<Numbered> for Plain {
    type Result = u32;

    fn handle(&mut self, message: Numbered, _: &mut Self::Context) -> u32 {
        message.answer()
    }
}

/// Remembers the last number of this incarnation, to see that the order is kept.
#[derive(Default)]
struct Supervised {
    last: u32,
}

impl Actor for Supervised {
    type Context = Context<Self>;
}

impl Handler<Numbered> for Supervised {
    type Result = u32;

    fn handle(&mut self, message: Numbered, _: &mut Self::Context) -> u32 {
        let answer = message.answer();
        assert!(answer > self.last, "{answer} came after {}", self.last);
        self.last = answer;
        answer
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    answered: u32,
    panicked: u32,
    lost: u32,
}

async fn plain() -> (Outcome, Duration) {
    let actor = Plain.start();
    let began = Instant::now();
    let mut outcome = Outcome::default();
    for answer in join_all((1..=MESSAGES).map(|n| actor.send(Numbered(n)))).await {
        match answer {
            Ok(_) => outcome.answered += 1,
            Err(_) => outcome.lost += 1,
        }
    }
    (outcome, began.elapsed())
}

async fn supervised() -> (Outcome, Duration, u64) {
    let spec = Spec::new("storm", Supervised::default)
        .capacity(MESSAGES as usize)
        .intensity(MESSAGES / POISON_EVERY, Duration::from_secs(60))
        .backoff(Backoff::NONE);
    let actor = Tree::new().start(spec);
    let began = Instant::now();
    let mut outcome = Outcome::default();
    for (n, answer) in
        (1..=MESSAGES).zip(join_all((1..=MESSAGES).map(|n| actor.call(Numbered(n)))).await)
    {
        match answer {
            Ok(own) if own == n => outcome.answered += 1,
            Err(CallError::Panicked { .. }) => outcome.panicked += 1,
            Ok(_) | Err(_) => outcome.lost += 1,
        }
    }
    (outcome, began.elapsed(), actor.info().restarts)
}

/// Prints what became of the messages of both.
pub(super) async fn run() -> bool {
    // A hundred panic messages would bury the report.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (plain, plain_took) = plain().await;
    let (supervised, took, restarts) = supervised().await;
    std::panic::set_hook(hook);
    let poison = MESSAGES / POISON_EVERY;
    let expected = Outcome { answered: MESSAGES - poison, panicked: poison, lost: 0 };
    let passes = supervised == expected && restarts == u64::from(poison);
    println!("### Storm: {MESSAGES} queued asks, {poison} of them panic\n");
    println!("| contender | answered | told of the panic | lost | restarts | ms | bar |");
    println!("|---|---:|---:|---:|---:|---:|---|");
    line("actix 0.13", &plain, 0, plain_took, "");
    line("steadfast", &supervised, restarts, took, verdict(passes));
    println!();
    passes
}

fn line(name: &str, outcome: &Outcome, restarts: u64, took: Duration, bar: &str) {
    let Outcome { answered, panicked, lost } = outcome;
    let took = milliseconds(took);
    println!("| {name} | {answered} | {panicked} | {lost} | {restarts} | {took:.0} | {bar} |");
}
