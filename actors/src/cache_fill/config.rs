//! The settings of a cache, and its start.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::actor::CacheFill;
use super::cache::Cache;
use super::error::ConfigError;
use super::loader::{AnyLoader, Key, Loader};
use super::shards::Room;
use super::shared::Shared;
use super::state::Limits;
use crate::kernel::{Backoff, Group, Placement, Spec, Tree};

/// What happens to a load for which nobody waits any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandon {
    /// It goes on and fills the cache. The default: the next reader finds the value,
    /// also when every single client gives up too early.
    #[default]
    Finish,
    /// It is dropped once nobody has waited for this long, to spare the source.
    CancelAfter(Duration),
}

/// LIMIT: a cache is no archive; and far below where times overflow.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Builds and starts a [`Cache`]; from [`Cache::builder`].
///
/// The defaults suit reads of a database or an API on the same network.
#[must_use = "a cache does nothing until it is started"]
pub struct CacheBuilder<K, V> {
    name: Arc<str>,
    loader: Arc<dyn AnyLoader<K, V>>,
    placement: Placement,
    capacity: usize,
    negative_share: f64,
    shards: Option<usize>,
    ttl: Duration,
    jitter: f64,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    negative_ttl: Duration,
    cooldown: (Duration, Duration),
    max_fills: usize,
    max_queue: usize,
    max_fill_time: Duration,
    on_no_waiters: Abandon,
}

/// Checked settings, as the rest of the cache uses them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) room: Room,
    pub(super) ttl: Duration,
    pub(super) jitter: f64,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) negative_ttl: Duration,
    pub(super) max_fill_time: Duration,
    pub(super) on_no_waiters: Abandon,
    pub(super) limits: Limits,
}

impl<K: Key, V: Send + Sync + 'static> CacheBuilder<K, V> {
    pub(super) fn new(name: impl Into<Arc<str>>, loader: impl Loader<K, V>) -> Self {
        Self {
            name: name.into(),
            loader: Arc::new(loader),
            placement: Placement::default(),
            capacity: 10_000,
            negative_share: 0.1,
            shards: None,
            ttl: Duration::from_secs(60),
            jitter: 0.1,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            negative_ttl: Duration::from_secs(5),
            cooldown: (Duration::from_millis(250), Duration::from_secs(30)),
            max_fills: 64,
            max_queue: 1024,
            max_fill_time: Duration::from_secs(30),
            on_no_waiters: Abandon::default(),
        }
    }

    /// Values held at most. Default 10,000; 1 to 2³². Too low evicts what is still
    /// read; too high costs memory.
    pub const fn capacity(mut self, values: usize) -> Self {
        self.capacity = values;
        self
    }

    /// Room for keys that have no value, as a part of `capacity` and in addition to it.
    /// Default 0.1; 0.0 to 1.0, and at least one per shard. It is apart, so that a flood
    /// of unknown keys evicts no value.
    pub const fn negative_share(mut self, share: f64) -> Self {
        self.negative_share = share;
        self
    }

    /// Parts with a lock each. Default four per core; 1 to 4,096, rounded down to a power
    /// of two and to what leaves each at least 32 values. Too few make cores wait for
    /// each other.
    pub const fn shards(mut self, count: usize) -> Self {
        self.shards = Some(count);
        self
    }

    /// How long a value is fresh. Default 60 s; 1 ms to 365 days. A loader may say
    /// otherwise for each value.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// By up to which part each `ttl` is shortened at random, so that values stored
    /// together do not expire together. Default 0.1; 0.0 to 0.9. Never lengthens it.
    pub const fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// How long after its `ttl` a value is still served at once while one load renews
    /// it in the background. Default 0, off; up to 365 days.
    pub const fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
        self
    }

    /// How long after its `ttl` a value is served when it cannot be renewed: the loader
    /// fails or cools down, the caller's wait ends, too many loads are under way.
    /// Default 0, off; up to 365 days.
    pub const fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// How long it is remembered that a key has no value. Default 5 s; 0 (off) to 365
    /// days. Too high hides new values, unless whoever adds them calls `invalidate`.
    pub const fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// The pause of a key after a failed load: drawn evenly from zero up to a bound that
    /// begins at `min` and doubles with every failure in a row up to `max`. Default
    /// 250 ms and 30 s; `min` up to `max`, `max` 0 (off) to one hour. Until it is over the
    /// source is left alone; then one load tries.
    pub const fn cooldown(mut self, min: Duration, max: Duration) -> Self {
        self.cooldown = (min, max);
        self
    }

    /// Loads that run at once. Default 64; 1 to 65,536. A load that a loader itself waits
    /// for runs on the permit of the load it serves and is not counted. Too high lets a
    /// burst of cold keys overrun the source; too low makes them queue.
    pub const fn max_fills(mut self, count: usize) -> Self {
        self.max_fills = count;
        self
    }

    /// Loads that wait for their turn. Default 1,024; 0 to 1,048,576. Beyond it, and after
    /// `max_fill_time` in the queue, readers get an old value or
    /// [`FillError::Overloaded`](super::FillError::Overloaded).
    pub const fn max_queue(mut self, count: usize) -> Self {
        self.max_queue = count;
        self
    }

    /// How long one load may take; then it is dropped and the key cools down. Default
    /// 30 s; 1 ms to 1 hour. It is what frees a key whose source never answers.
    pub const fn max_fill_time(mut self, limit: Duration) -> Self {
        self.max_fill_time = limit;
        self
    }

    /// What happens to a load for which nobody waits any more. Default
    /// [`Abandon::Finish`]; a grace up to one hour. Background renewals always finish.
    pub const fn on_no_waiters(mut self, abandon: Abandon) -> Self {
        self.on_no_waiters = abandon;
        self
    }

    /// The thread that loaders run on. Default [`Placement::Here`].
    pub fn place(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Checks the settings and starts the cache directly under `tree`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting and the range it must be in.
    ///
    /// # Panics
    ///
    /// With [`Placement::Here`], outside of an actix runtime or a tokio `LocalSet`.
    pub fn start(self, tree: &Tree) -> Result<Cache<K, V>, ConfigError> {
        let (shared, spec) = self.prepare()?;
        Ok(Cache::new(shared, tree.start(spec)))
    }

    /// Checks the settings and adds the cache to `group`, which starts it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting and the range it must be in.
    pub fn start_in(self, group: &mut Group) -> Result<Cache<K, V>, ConfigError> {
        let (shared, spec) = self.prepare()?;
        Ok(Cache::new(shared, group.add(spec)))
    }

    fn prepare(self) -> Result<Prepared<K, V>, ConfigError> {
        let settings = self.settings()?;
        let Self { name, loader, placement, .. } = self;
        let shared = Arc::new(Shared::new(Arc::clone(&name), settings, loader));
        let state = Arc::clone(&shared);
        // Each load holds a place in the mailbox until it ends, nested ones too.
        let capacity = 1024 + settings.limits.max_fills + settings.limits.max_queue;
        let spec = Spec::new(name, move || CacheFill::new(Arc::clone(&state)))
            .capacity(capacity)
            .place(placement);
        Ok((shared, spec))
    }

    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        check(!self.name.is_empty(), "name", "a text that is not empty")?;
        let capacity = u64::try_from(self.capacity).unwrap_or(u64::MAX);
        check((1..=1 << 32).contains(&capacity), "capacity", "1 to 4294967296 values")?;
        check((0.0..=1.0).contains(&self.negative_share), "negative_share", "0.0 to 1.0")?;
        check((0.0..=0.9).contains(&self.jitter), "jitter", "0.0 to 0.9")?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let shards = self.shards.unwrap_or_else(|| (4 * cores).next_power_of_two().min(4096));
        check((1..=4096).contains(&shards), "shards", "1 to 4096")?;
        self.check_times()?;
        check((1..=1 << 16).contains(&self.max_fills), "max_fills", "1 to 65536")?;
        check(self.max_queue <= 1 << 20, "max_queue", "0 to 1048576")?;
        let (min, max) = self.cooldown;
        Ok(Settings {
            room: Room::new(self.capacity, part(self.capacity, self.negative_share), shards),
            ttl: self.ttl,
            jitter: self.jitter,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            negative_ttl: self.negative_ttl,
            max_fill_time: self.max_fill_time,
            on_no_waiters: self.on_no_waiters,
            limits: Limits {
                max_fills: self.max_fills,
                max_queue: self.max_queue,
                max_wait: self.max_fill_time,
                cooldown: Backoff { min, max, factor: 2.0 },
            },
        })
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        const HOUR: Duration = Duration::from_secs(3600);
        let (millisecond, (min, max)) = (Duration::from_millis(1), self.cooldown);
        check((millisecond..=YEAR).contains(&self.ttl), "ttl", "1 ms to 365 days")?;
        let window = "0 to 365 days";
        check(self.stale_while_revalidate <= YEAR, "stale_while_revalidate", window)?;
        check(self.stale_if_error <= YEAR, "stale_if_error", window)?;
        check(self.negative_ttl <= YEAR, "negative_ttl", window)?;
        check(min <= max && max <= HOUR, "cooldown", "min up to max, max up to 1 hour")?;
        let fill_time = millisecond..=HOUR;
        check(fill_time.contains(&self.max_fill_time), "max_fill_time", "1 ms to 1 hour")?;
        let grace = match self.on_no_waiters {
            Abandon::Finish => Duration::ZERO,
            Abandon::CancelAfter(grace) => grace,
        };
        check(grace <= HOUR, "on_no_waiters", "a grace of 0 to 1 hour")
    }
}

type Prepared<K, V> = (Arc<Shared<K, V>>, Spec<CacheFill<K, V>>);

fn check(holds: bool, setting: &'static str, range: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(setting, range)) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of 0 to 1 of at most 2^32: exact enough and within range"
)]
fn part(whole: usize, share: f64) -> usize {
    (whole as f64 * share) as usize
}

impl<K, V> fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("name", &self.name)
            .field("capacity", &self.capacity)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
