//! The handle.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::actor::CacheFill;
use super::begin::Ask;
use super::config::CacheBuilder;
use super::error::FillError;
use super::flight::{FlightGuard, FlightInfo};
use super::get::Get;
use super::hit::{Hit, Lookup};
use super::loader::{Key, Loader, Meta};
use super::messages::Fill;
use super::shared::{Seen, Shared};
use super::stats::Stats;
use crate::kernel::{Ref, Refused};

/// A read-through cache: reads what is stored, and loads what is not, once for all.
///
/// Cheap to clone and to be used from any thread. A hit never leaves the calling
/// thread. See the [module](super) for what it guarantees.
pub struct Cache<K: Key, V: Send + Sync + 'static>(Arc<Inner<K, V>>);

struct Inner<K: Key, V: Send + Sync + 'static> {
    shared: Arc<Shared<K, V>>,
    actor: Ref<CacheFill<K, V>>,
}

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    /// Begins to set up a cache that `loader` fills. `name` names its actor and its
    /// log lines.
    pub fn builder(name: impl Into<Arc<str>>, loader: impl Loader<K, V>) -> CacheBuilder<K, V> {
        CacheBuilder::new(name, loader)
    }

    pub(super) fn new(shared: Arc<Shared<K, V>>, actor: Ref<CacheFill<K, V>>) -> Self {
        Self(Arc::new(Inner { shared, actor }))
    }

    /// Reads a value: from the store if it is fresh, otherwise by a load that all
    /// readers of the key share.
    ///
    /// The key is looked up at once. On a hit the future is ready and nothing was
    /// allocated; otherwise joining or starting a load happens at its first poll.
    ///
    /// # Errors
    ///
    /// The future fails with a [`FillError`], when no old value may stand in.
    pub fn get<Q>(&self, key: &Q) -> Get<K, V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let shared = self.shared();
        let hash = shared.hash(key);
        match shared.see(hash, key) {
            Seen::Fresh(hit) => {
                shared.count_hit(hash);
                Get::ready(Ok(hit))
            }
            Seen::Absent => {
                shared.counters.absent_hits.add();
                Get::ready(Err(FillError::Absent))
            }
            Seen::Renewable(_) | Seen::Fallback(_) | Seen::Expired | Seen::Nothing => {
                Get::asked(self.clone(), Ask { key: key.to_owned(), hash, forced: false })
            }
        }
    }

    /// Loads a value even if a fresh one is stored; readers who do the same meanwhile
    /// share the load. Never serves an old value: on an error what is stored stays.
    ///
    /// # Errors
    ///
    /// The future fails with a [`FillError`].
    pub fn refresh<Q>(&self, key: &Q) -> Get<K, V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.shared().hash(key);
        Get::asked(self.clone(), Ask { key: key.to_owned(), hash, forced: true })
    }

    /// What may be served now without a load. Counts as a use of the entry.
    #[must_use]
    pub fn try_get<Q>(&self, key: &Q) -> Lookup<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shared = self.shared();
        match shared.see(shared.hash(key), key) {
            Seen::Fresh(hit) => Lookup::Fresh(hit),
            Seen::Renewable(hit) | Seen::Fallback(hit) => Lookup::Stale(hit.unasked()),
            Seen::Absent => Lookup::Absent,
            Seen::Expired | Seen::Nothing => Lookup::Miss,
        }
    }

    /// The value that may be served now, fresh or old, without a load and without a
    /// trace: it does not count as a use.
    #[must_use]
    pub fn peek<Q>(&self, key: &Q) -> Option<Hit<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shared = self.shared();
        match shared.glance(shared.hash(key), key) {
            Seen::Fresh(hit) => Some(hit),
            Seen::Renewable(hit) | Seen::Fallback(hit) => Some(hit.unasked()),
            Seen::Absent | Seen::Expired | Seen::Nothing => None,
        }
    }

    /// Stores a value. Loads of this key that have begun are not stored any more, and
    /// its cool-down ends.
    pub fn insert(&self, key: K, value: V) {
        self.insert_with(key, value, &Meta::default());
    }

    /// Stores a value with a TTL of its own.
    pub fn insert_with(&self, key: K, value: V, meta: &Meta) {
        self.shared().insert(key, value, meta);
    }

    /// Removes what is stored under a key; whether there was a value.
    ///
    /// A read that begins after this returned never gets anything that was loaded by a
    /// load begun before it. Reads that wait already get the result they wait for.
    pub fn invalidate<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shared().invalidate(key)
    }

    /// Ends the freshness of a value without removing it; whether there was one. It may
    /// still be served as an old value, as the settings allow. Loads that have begun
    /// are not stored any more.
    pub fn expire<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shared().expire(key)
    }

    /// Removes everything, as [`invalidate`](Cache::invalidate) of every key would.
    pub fn clear(&self) {
        self.shared().clear();
    }

    /// What the cache has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// The loads that have not ended, oldest first.
    #[must_use]
    pub fn flights(&self) -> Vec<FlightInfo<K>> {
        self.shared().flights()
    }

    /// The actor behind this handle, for messages and for its state.
    #[must_use]
    pub fn actor(&self) -> &Ref<CacheFill<K, V>> {
        &self.0.actor
    }

    pub(super) fn shared(&self) -> &Arc<Shared<K, V>> {
        &self.0.shared
    }

    /// Hands a new load to the actor, under the reader's request but without its
    /// deadline: the load is not for that reader alone.
    pub(super) fn launch(&self, guard: FlightGuard<K, V>) {
        let request = guard.flight.request.clone();
        // A refused message is dropped where it was refused; the second holder lets the
        // waiters hear why instead of "lost".
        let parcel = Arc::new(Mutex::new(Some(guard)));
        let message = Fill(Arc::clone(&parcel));
        let sent = match request {
            Some(request) => request.sync_scope(|| self.0.actor.tell(message)),
            None => self.0.actor.tell(message),
        };
        if let Err(refused) = sent
            && let Some(guard) = parcel.lock().take()
        {
            self.shared().refuse(guard, refusal(&refused));
        }
    }
}

fn refusal(refused: &Refused) -> FillError {
    match refused {
        Refused::Stopped => FillError::Closed,
        Refused::Quarantined { retry_after } => FillError::Overloaded { retry_after: *retry_after },
        Refused::Overloaded | Refused::Expired => {
            FillError::Overloaded { retry_after: Duration::from_secs(1) }
        }
    }
}

impl<K: Key, V: Send + Sync + 'static> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Key, V: Send + Sync + 'static> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.shared().name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
