//! How often one client may ask.
//!
//! The arithmetic (GCRA) is `governor`'s. Where it keeps its state is ours, because its own
//! stores grow with each address there is.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::limits::RateLimits;

/// So that workers seldom meet. A power of two, and not more than the fewest clients.
const SHARDS: usize = 16;

pub(super) struct Rates(RateLimiter<IpAddr, Clients, SinceStart, NoOpMiddleware<Nanos>>);

impl Rates {
    /// `None` if clients have no limit.
    pub(super) fn new(limits: &RateLimits, now: Instant) -> Option<Self> {
        let per_second = NonZeroU32::new(limits.per_second)?;
        let burst = NonZeroU32::new(limits.burst)?;
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let clients = Clients::new(limits.clients);
        Some(Self(RateLimiter::new(quota, clients, SinceStart(now))))
    }

    /// Counts one request.
    ///
    /// # Errors
    ///
    /// How long the client must wait.
    pub(super) fn count(&self, client: IpAddr) -> Result<(), Duration> {
        self.0.check_key(&client).map_err(|until| until.wait_time_from(self.0.clock().now()))
    }
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

/// The clock of everything else at the edge.
#[derive(Debug)]
struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX).into()
    }
}

/// When each client will have its whole burst again.
///
/// LIMIT: a number of clients that is set. One more forgets the one that was silent for longest,
/// who then has its whole burst again; whoever is refused all the time is never that one.
struct Clients {
    shards: [Mutex<LruCache<IpAddr, Nanos>>; SHARDS],
    hasher: std::hash::RandomState,
}

impl Clients {
    fn new(most: usize) -> Self {
        let each = NonZeroUsize::new(most / SHARDS).unwrap_or(NonZeroUsize::MIN);
        // Grown as they are needed: room for all of them would be taken at the start.
        let shard = |_| {
            let mut shard = LruCache::unbounded();
            shard.resize(each);
            Mutex::new(shard)
        };
        // Its keys are drawn at random, so nobody can choose addresses that share a shard.
        Self { shards: std::array::from_fn(shard), hasher: std::hash::RandomState::new() }
    }

    fn shard(&self, client: &IpAddr) -> &Mutex<LruCache<IpAddr, Nanos>> {
        let [first, ..] = &self.shards;
        let place = usize::try_from(self.hasher.hash_one(client) % 16).unwrap_or(0);
        self.shards.get(place).unwrap_or(first)
    }
}

impl StateStore for Clients {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, client: &IpAddr, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(client).lock();
        let (verdict, next) = measure(shard.get(client).copied())?;
        shard.put(*client, next);
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(per_second: u32, burst: u32, clients: usize) -> Rates {
        Rates::new(&RateLimits { per_second, burst, clients }, Instant::now()).unwrap()
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let rates = rates(10, 3, 16);
        for _ in 0..3 {
            assert_eq!(rates.count(client(1)), Ok(()));
        }
        assert_eq!(rates.count(client(1)), Err(Duration::from_millis(100)));
        assert_eq!(rates.count(client(2)), Ok(()), "another has its own");
        tokio::time::advance(Duration::from_millis(99)).await;
        assert_eq!(rates.count(client(1)), Err(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(rates.count(client(1)), Ok(()));
        assert!(rates.count(client(1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_forgotten_from_the_most_silent_on_and_one_that_floods_is_not() {
        let clients = Clients::new(32);
        let measure = |client: IpAddr| {
            let seen = |at: Option<Nanos>| Ok::<_, ()>((at.is_some(), Nanos::from(1)));
            clients.measure_and_replace(&client, seen).unwrap()
        };
        let flooding = client(u32::MAX);
        assert!(!measure(flooding));
        for number in 0..10_000 {
            assert!(!measure(client(number)));
            assert!(measure(flooding), "known after {number} others");
        }
        let kept: usize = clients.shards.iter().map(|shard| shard.lock().len()).sum();
        assert_eq!(kept, 32);
        // A refusal is a sign of life too.
        for number in 10_000..20_000 {
            assert!(!measure(client(number)));
            let refuse = |at: Option<Nanos>| Err::<((), Nanos), _>(at);
            let known = clients.measure_and_replace(&flooding, refuse).unwrap_err();
            assert!(known.is_some(), "known after {number} others");
        }
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let off = RateLimits { per_second: 0, burst: 1, clients: 16 };
        assert!(Rates::new(&off, Instant::now()).is_none());
    }
}
