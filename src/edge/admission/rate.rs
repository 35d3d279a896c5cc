//! How often one client may ask.
//!
//! The arithmetic (GCRA) is `governor`'s. Where it keeps its state is ours, because its own
//! stores grow with each address there is.

use std::cell::Cell;
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

pub(super) struct Rates {
    start: Instant,
    limiter: RateLimiter<IpAddr, Clients, AsTold, NoOpMiddleware<Nanos>>,
}

impl Rates {
    /// `None` if clients have no limit.
    pub(super) fn new(limits: &RateLimits, start: Instant) -> Option<Self> {
        let per_second = NonZeroU32::new(limits.per_second)?;
        let burst = NonZeroU32::new(limits.burst)?;
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let clients = Clients::new(limits.clients);
        // The limiter counts from what its clock says now, and we from `start`.
        NOW.set(Nanos::new(0));
        Some(Self { start, limiter: RateLimiter::new(quota, clients, AsTold) })
    }

    /// Counts one request that came `now`.
    ///
    /// # Errors
    ///
    /// How long the client must wait.
    pub(super) fn count(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let since_start = now.saturating_duration_since(self.start).as_nanos();
        let now = u64::try_from(since_start).unwrap_or(u64::MAX).into();
        NOW.set(now);
        self.limiter.check_key(&client).map_err(|until| until.wait_time_from(now))
    }
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

/// The clock that `governor` asks: when the request came, which is known.
#[derive(Debug, Clone)]
struct AsTold;

thread_local! {
    static NOW: Cell<Nanos> = const { Cell::new(Nanos::new(0)) };
}

impl Clock for AsTold {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        NOW.get()
    }
}

/// When each client will have its whole burst again.
///
/// LIMIT: a number of clients that is set. One more forgets the one that was silent for longest,
/// who then has its whole burst again; whoever is refused all the time is never that one.
struct Clients {
    shards: [Mutex<LruCache<IpAddr, Nanos>>; SHARDS],
    key: u64,
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
        Self { shards: std::array::from_fn(shard), key: fastrand::u64(..) }
    }

    fn shard(&self, client: &IpAddr) -> &Mutex<LruCache<IpAddr, Nanos>> {
        let [first, ..] = &self.shards;
        let bits = match client {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            // The network: clients of IPv6 are counted by it.
            IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or_default(),
        };
        // Fibonacci hashing (Knuth, volume 3, 6.4): the highest four bits of the product are the most
        // mixed. The key is drawn at random, so who shares a shard differs from process to process.
        let place = (bits ^ self.key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60;
        self.shards.get(usize::try_from(place).unwrap_or(0)).unwrap_or(first)
    }
}

impl StateStore for Clients {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, client: &IpAddr, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(client).lock();
        match shard.get_mut(client) {
            Some(at) => {
                let (verdict, next) = measure(Some(*at))?;
                *at = next;
                Ok(verdict)
            }
            None => {
                let (verdict, next) = measure(None)?;
                shard.put(*client, next);
                Ok(verdict)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(per_second: u32, burst: u32, clients: usize) -> Rates {
        Rates::new(&RateLimits { per_second, burst, clients }, Instant::now()).unwrap()
    }

    fn count(rates: &Rates, client: IpAddr) -> Result<(), Duration> {
        rates.count(client, Instant::now())
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let rates = rates(10, 3, 16);
        for _ in 0..3 {
            assert_eq!(count(&rates, client(1)), Ok(()));
        }
        assert_eq!(count(&rates, client(1)), Err(Duration::from_millis(100)));
        assert_eq!(count(&rates, client(2)), Ok(()), "another has its own");
        tokio::time::advance(Duration::from_millis(99)).await;
        assert_eq!(count(&rates, client(1)), Err(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(count(&rates, client(1)), Ok(()));
        assert!(count(&rates, client(1)).is_err());
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

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_made_later_has_a_time_of_its_own() {
        let first = rates(10, 1, 16);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(count(&first, client(1)), Ok(()));
        let second = rates(10, 1, 16);
        assert_eq!(count(&second, client(1)), Ok(()));
        assert_eq!(count(&second, client(1)), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(count(&second, client(1)), Ok(()));
        assert_eq!(count(&first, client(1)), Ok(()));
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let off = RateLimits { per_second: 0, burst: 1, clients: 16 };
        assert!(Rates::new(&off, Instant::now()).is_none());
    }
}
