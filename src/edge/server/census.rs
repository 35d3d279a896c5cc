//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::counts::{Connections, Event, Tally};
use crate::edge::limits::ConnectionLimits;

/// So that workers seldom meet. A power of two.
const SHARDS: usize = 16;

/// Shared by all workers and listeners of one server.
#[derive(Debug)]
pub(super) struct Census {
    limits: ConnectionLimits,
    tally: Arc<Tally>,
    /// LIMIT: one entry per open connection at most.
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

impl Census {
    pub(super) fn new(limits: &ConnectionLimits, connections: &Connections) -> Arc<Self> {
        let tally = Arc::clone(connections.tally());
        Arc::new(Self { limits: limits.clone(), tally, shards: Default::default() })
    }

    /// Lets a connection in, until the [`Entry`] is dropped. `None` if there are too many.
    pub(super) fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Entry> {
        let address = peer.and_then(|peer| self.limits.client(peer));
        // The address first: a flood from one must not even for a moment take the place of others.
        if address.is_some_and(|address| !self.add(address)) {
            self.tally.count(Event::RefusedAddress);
            return None;
        }
        let open = self.tally.open.fetch_add(1, Ordering::Relaxed);
        // Whatever happens from here on, dropping it undoes both.
        let entry = Entry { census: Arc::clone(self), address };
        if open >= self.limits.total {
            self.tally.count(Event::RefusedTotal);
            return None;
        }
        self.tally.count(Event::Accepted);
        Some(entry)
    }

    fn add(&self, address: IpAddr) -> bool {
        let mut shard = self.shard(address).lock();
        let count = shard.entry(address).or_default();
        let fits = *count < self.limits.per_address;
        *count += usize::from(fits);
        fits
    }

    fn remove(&self, address: IpAddr) {
        let mut shard = self.shard(address).lock();
        if let Some(count) = shard.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&address);
            }
        }
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let [first, ..] = &self.shards;
        self.shards.get(index(address)).unwrap_or(first)
    }
}

/// Which shard has an address: all of its bytes decide.
fn index(address: IpAddr) -> usize {
    let fold = |bytes: &[u8]| bytes.iter().fold(0_u8, |all, byte| all.rotate_left(3) ^ byte);
    let byte = match address {
        IpAddr::V4(v4) => fold(&v4.octets()),
        IpAddr::V6(v6) => fold(&v6.octets()),
    };
    usize::from(byte) % SHARDS
}

/// One connection that was let in.
#[derive(Debug)]
pub(super) struct Entry {
    census: Arc<Census>,
    address: Option<IpAddr>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.census.remove(address);
        }
        self.census.tally.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(change: impl FnOnce(&mut ConnectionLimits)) -> (Arc<Census>, Connections) {
        let mut limits = ConnectionLimits { total: 4, per_address: 2, ..Default::default() };
        change(&mut limits);
        let connections = Connections::default();
        (Census::new(&limits, &connections), connections)
    }

    fn enter(census: &Arc<Census>, address: &str) -> Option<Entry> {
        census.enter(Some(address.parse().unwrap()))
    }

    #[test]
    fn an_address_has_its_limit_and_not_one_more() {
        let (census, connections) = census(|_| {});
        let first = enter(&census, "10.0.0.1").unwrap();
        let _second = enter(&census, "10.0.0.1").unwrap();
        assert!(enter(&census, "10.0.0.1").is_none());
        assert!(enter(&census, "::ffff:10.0.0.1").is_none(), "the same in other clothes");
        let _other = enter(&census, "10.0.0.2").unwrap();
        drop(first);
        let _third = enter(&census, "10.0.0.1").unwrap();
        let counts = connections.counts();
        assert_eq!((counts.open, counts.accepted, counts.refused_address), (3, 4, 2));
    }

    #[test]
    fn the_server_has_its_limit_and_not_one_more() {
        let (census, connections) = census(|_| {});
        let entries: Vec<_> = (1..=5).map(|n| enter(&census, &format!("10.0.0.{n}"))).collect();
        assert_eq!(entries.iter().filter(|entry| entry.is_some()).count(), 4);
        assert!(entries[4].is_none());
        drop(entries);
        let counts = connections.counts();
        assert_eq!((counts.open, counts.accepted, counts.refused_total), (0, 4, 1));
        assert!(census.shards.iter().all(|shard| shard.lock().is_empty()), "nothing is left");
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let (v6, _) = census(|_| {});
        let _one = enter(&v6, "2001:db8::1").unwrap();
        let _two = enter(&v6, "2001:db8::ffff:2").unwrap();
        assert!(enter(&v6, "2001:db8::3").is_none());
        assert!(enter(&v6, "2001:db8:0:1::3").is_some());
        let (v4, _) = census(|limits| limits.ipv4_prefix = 24);
        let _one = enter(&v4, "10.0.0.1").unwrap();
        let _two = enter(&v4, "10.0.0.2").unwrap();
        assert!(enter(&v4, "10.0.0.3").is_none());
        assert!(enter(&v4, "10.0.1.3").is_some());
    }

    #[test]
    fn a_trusted_proxy_is_only_counted_in_all() {
        let (census, _) = census(|limits| limits.trusted = vec!["10.0.0.0/8".parse().unwrap()]);
        let entries: Vec<_> = (1..=4).map(|_| enter(&census, "10.0.0.1").unwrap()).collect();
        assert!(enter(&census, "10.0.0.1").is_none(), "the limit in all holds");
        drop(entries);
        // A Unix socket has no address, and no limit per address.
        let entries: Vec<_> = (1..=4).map(|_| census.enter(None).unwrap()).collect();
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn neighbours_spread_over_the_shards() {
        let used: std::collections::HashSet<_> =
            (0..64).map(|n| index(IpAddr::from([10, 0, 0, n]))).collect();
        assert_eq!(used.len(), SHARDS);
    }
}
