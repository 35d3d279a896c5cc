//! What the actor understands. Readers use the [`Cache`](super::Cache) handle; these
//! are for operators and for code that knows only an address.

use std::fmt;
use std::sync::Arc;

use actix::Message;
use parking_lot::Mutex;

use super::flight::FlightGuard;
use super::loader::Key;

/// Renews one value in the background, as [`Cache::refresh`](super::Cache::refresh)
/// does. A reply means the load was started, joined or refused, not that it ended.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Refresh<K: 'static> {
    /// What to load.
    pub key: K,
}

/// Removes one value; see [`Cache::invalidate`](super::Cache::invalidate). The reply
/// says whether there was one. The fence holds once the reply is there.
#[derive(Debug, Clone, Message)]
#[rtype(result = "bool")]
pub struct Invalidate<K: 'static> {
    /// What to remove.
    pub key: K,
}

/// Removes everything; see [`Cache::clear`](super::Cache::clear). The fence holds once
/// the reply is there.
#[derive(Debug, Clone, Copy, Default, Message)]
#[rtype(result = "()")]
pub struct Clear;

/// Admits one load. Dropped unhandled, it tells the waiters that it was lost.
pub(super) struct Fill<K: Key, V: Send + Sync + 'static>(
    pub(super) Arc<Mutex<Option<FlightGuard<K, V>>>>,
);

impl<K: Key, V: Send + Sync + 'static> Message for Fill<K, V> {
    type Result = ();
}

impl<K: Key, V: Send + Sync + 'static> fmt::Debug for Fill<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fill(..)")
    }
}
