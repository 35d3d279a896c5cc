//! Where actix is touched: everything that names its internal types is in this folder.
//!
//! actix's own `Supervisor` never restarts after a panic, and a panic drops the queue.
//! Both can be put right above its public `actix::dev` seam:
//!
//! - [`Context`] is the actor's execution context. It owns the factory, the failure
//!   count and this incarnation's work in flight.
//! - [`Letter`](letter::Letter) is the envelope. It decides at the dequeue whether its
//!   message still runs, and catches the panic if it does.
//! - [`Hosted`](hosted::Hosted) is the task. It drives actix's own `ContextFut`, obeys the
//!   control lane, and catches what panics outside a handler.
//!
//! **Invariants**
//!
//! 1. No panic of user code unwinds through `ContextFut`: a half-run poll of it must
//!    not be resumed, and dropping it while it unwinds would poll it again.
//! 2. A failed instance handles nothing: it is replaced before the next message, and
//!    until then the mailbox is paused by a `wait` or refused.
//! 3. A back-off is a `wait`, so messages stay in actix's own queue, in order.
//! 4. An envelope dropped with its message inside accounts for it.

mod call;
mod context;
mod hosted;
mod letter;
mod reference;
mod reply;
mod waits;
mod work;

pub use call::Call;
pub use context::Context;
pub use reference::Ref;
pub use reply::Reply;

pub(crate) use context::Factory;
pub(crate) use hosted::{Host, Unhosted, mailbox};
