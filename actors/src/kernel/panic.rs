//! Catching a panic together with where it happened.
//!
//! The payload that [`catch_unwind`](std::panic::catch_unwind) returns has neither
//! location nor backtrace; only the panic hook sees those. So one hook, installed
//! once per process, stores them in a thread-local while a [`catch`] is on the stack,
//! and otherwise calls the hook that was there before. A panic that is caught here
//! is reported by whoever caught it, not printed twice.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Arc, Once};

/// The longest panic message that is kept, in bytes; the rest is cut.
pub const MESSAGE_MAX: usize = 1024;

/// The longest backtrace that is given as text, in bytes; the rest is cut.
pub const BACKTRACE_MAX: usize = 16 * 1024;

/// A panic that was caught: its message, and where it happened if the hook saw it.
#[derive(Clone)]
pub struct Panic {
    message: Arc<str>,
    location: Option<Arc<str>>,
    backtrace: Option<Arc<Backtrace>>,
}

impl Panic {
    /// The text given to `panic!`, at most [`MESSAGE_MAX`] bytes. For logs, never for clients.
    #[must_use]
    pub fn message(&self) -> &Arc<str> {
        &self.message
    }

    /// `file:line:column` of the panic, when the hook was installed.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The stack at the panic as text, at most [`BACKTRACE_MAX`] bytes. Finding the names in
    /// it takes milliseconds: not for each of many panics.
    #[must_use]
    pub fn backtrace_text(&self) -> Option<String> {
        let mut text = self.backtrace.as_ref()?.to_string();
        text.truncate(boundary(&text, BACKTRACE_MAX));
        Some(text)
    }

    /// The stack at the panic, when the hook was installed.
    #[must_use]
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.backtrace.as_deref()
    }

    fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let seen = SEEN.take();
        Self {
            message: Arc::from(cut(text.unwrap_or("a panic without a text"))),
            location: seen.as_ref().map(|seen| Arc::from(seen.location.as_str())),
            backtrace: seen.map(|seen| Arc::new(seen.backtrace)),
        }
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panic")
            .field("message", &self.message)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

struct Seen {
    location: String,
    backtrace: Backtrace,
}

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    static SEEN: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Runs `work` and turns a panic into an error.
///
/// The caller must throw away whatever `work` may have left half-changed: that is
/// why actors are rebuilt and never resumed.
///
/// # Errors
///
/// [`Panic`] says what was thrown and, once [`install_hook`] ran, where.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_payload(work).map_err(|payload| {
        let caught = Panic::from_payload(&*payload);
        // ORDER: the payload's own drop may panic too; it must not escape the catcher.
        let _panic_in_drop = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
        caught
    })
}

/// Like [`catch`], but hands back the raw payload, for a catcher that must tell a
/// sentinel from a real panic before it is reported.
///
/// # Errors
///
/// The payload as [`std::panic::catch_unwind`] returns it; pass it to [`describe`].
pub fn catch_payload<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    CATCHING.set(CATCHING.get() + 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(CATCHING.get() - 1);
    outcome
}

/// Turns a payload of [`catch_payload`] into a [`Panic`], with what the hook saw of it.
#[must_use]
pub fn describe(payload: &(dyn Any + Send)) -> Panic {
    Panic::from_payload(payload)
}

/// Installs the process-wide hook; later calls do nothing. The runtime calls it at start.
pub fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.try_with(Cell::get).unwrap_or(0) > 0 {
                note(info);
            } else {
                previous(info);
            }
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let location = info.location().map_or_else(String::new, ToString::to_string);
    let seen = Seen { location, backtrace: Backtrace::force_capture() };
    // The thread may be ending: then there is nobody left to read it either.
    let _ending = SEEN.try_with(|slot| slot.replace(Some(seen)));
}

fn cut(text: &str) -> &str {
    text.get(..boundary(text, MESSAGE_MAX)).unwrap_or_default()
}

/// The last place at or before `max` where the text can be cut.
fn boundary(text: &str, max: usize) -> usize {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}
