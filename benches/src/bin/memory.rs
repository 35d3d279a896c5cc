//! Counts the bytes of actors and queued messages, and the allocations of a call.
//!
//! ```text
//! cargo run --profile bench -p steadfast-bench --bin memory
//! ```
//!
//! A program of its own, because counting every allocation would slow the timed rows down.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints its result, and a peer that fails has none"
)]

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use steadfast_bench::kernel::{Kameo, Peer, Ractor, RawActix, Steadfast, TokioMpsc, WITHIN};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Idle actors that are started at once.
const ACTORS: usize = 10_000;
/// Messages that are queued at once; steadfast's default capacity less a few.
const QUEUED: usize = 1000;
/// Calls over which allocations are averaged.
const CALLS: usize = 10_000;

fn main() {
    actix_rt::System::new().block_on(async {
        println!("| peer | bytes per idle actor | bytes per queued message | allocations per ask | … with a deadline | … per tell |");
        println!("|---|---:|---:|---:|---:|---:|");
        row::<RawActix>().await;
        row::<Steadfast>().await;
        row::<TokioMpsc>().await;
        row::<Kameo>().await;
        row::<Ractor>().await;
    });
}

async fn row<P: Peer>() {
    let actor = bytes_per_actor::<P>().await;
    let message = bytes_per_message::<P>().await;
    let peer = P::start().await;
    let ask = allocations(async || _ = peer.ask().await).await;
    let deadline = allocations(async || _ = peer.ask_within(WITHIN).await).await;
    let tell = allocations(async || {
        peer.tell();
        tokio::task::yield_now().await;
    })
    .await;
    println!("| {} | {actor} | {message} | {ask:.2} | {deadline:.2} | {tell:.2} |", P::NAME);
}

async fn bytes_per_actor<P: Peer>() -> usize {
    // What the runtime keeps once is not the actors'.
    let first = P::start().await;
    first.ask().await;
    let mut actors = Vec::with_capacity(ACTORS);
    let region = Region::new(ALLOCATOR);
    for _ in 0..ACTORS {
        actors.push(P::start().await);
    }
    for actor in &actors {
        actor.ask().await;
    }
    held(&region) / ACTORS
}

async fn bytes_per_message<P: Peer>() -> usize {
    let peer = P::start().await;
    peer.ask().await;
    let region = Region::new(ALLOCATOR);
    for _ in 0..QUEUED {
        peer.tell();
    }
    let held = held(&region);
    peer.ask().await;
    held / QUEUED
}

/// Bytes allocated and not freed since the region began.
fn held(region: &Region<'_, System>) -> usize {
    let change = region.change();
    let grown = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
    grown.saturating_add_signed(change.bytes_reallocated)
}

async fn allocations(work: impl AsyncFn()) -> f64 {
    for _ in 0..CALLS {
        work().await;
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..CALLS {
        work().await;
    }
    let change = region.change();
    steadfast_bench::measure::to_float((change.allocations + change.reallocations) as u64)
        / steadfast_bench::measure::to_float(CALLS as u64)
}
