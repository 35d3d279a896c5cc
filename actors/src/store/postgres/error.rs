//! What an error of PostgreSQL means for whoever gets it.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::store::{Source, StoreError, is_of_enum};

/// For statements that wrote nothing yet, or whose transaction was not about to be committed:
/// a connection that is lost takes the open transaction with it. For the others there are
/// [`commit`] and [`outcome`].
impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let code = error.code().map(|state| state.code().to_owned());
        let constraint = error.as_db_error().and_then(DbError::constraint).map(Into::into);
        match code {
            Some(_) if is_no_label(&error) => {
                Self::EnumRejected { constraint, source: Self::source(error) }
            }
            Some(code) => refused(&code, constraint, Self::source(error)),
            None if is_lost(&error) => Self::Unavailable(Self::source(error)),
            None => Self::Failed(Self::source(error)),
        }
    }
}

/// Commits, and tells an end that nobody knows from one that is known.
///
/// # Errors
///
/// [`StoreError::OutcomeUnknown`] when the connection broke meanwhile: look before you write
/// again. Any other: nothing was written.
///
/// # Cancel safety
///
/// Dropping this leaves it open whether the commit is made.
pub async fn commit(transaction: Transaction<'_>) -> Result<(), StoreError> {
    transaction.commit().await.map_err(outcome)
}

/// What an error means that came from a statement which commits by itself: one outside of a
/// transaction, or a `commit`. If the connection was lost, it may have been made.
#[must_use]
pub fn outcome(error: Error) -> StoreError {
    let error = StoreError::from(error);
    if let StoreError::Unavailable(source) = error {
        StoreError::OutcomeUnknown(source)
    } else {
        error
    }
}

/// What an error means that came while connecting, before anything was asked.
pub(super) fn connecting(error: Error) -> StoreError {
    if error.as_db_error().is_some() {
        return error.into();
    }
    if has_certificate_error(&error) {
        return StoreError::Untrusted(StoreError::source(error));
    }
    // Only the text tells these from the others: no password where one is asked for, or one
    // that fails before the server has seen it.
    match error.to_string().as_str() {
        "authentication error" | "invalid configuration" => {
            StoreError::Credentials(StoreError::source(error))
        }
        _ => StoreError::Unavailable(StoreError::source(error)),
    }
}

/// A failure to reach the server that has no error of its own.
pub(super) fn unreachable(why: &'static str) -> StoreError {
    StoreError::Unavailable(silence(why))
}

/// A source for when nobody said anything.
pub(super) fn silence(why: &'static str) -> Source {
    StoreError::source(io::Error::new(io::ErrorKind::TimedOut, why))
}

/// What was decided about a code, apart from the source that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    Credentials,
    Timeout,
    Full,
    ReadOnly,
    Constraint,
    Unavailable,
    Corrupt,
    Failed,
}

/// A check refused the row.
const CHECK: &str = "23514";

/// See <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(super) fn reaction(code: &str) -> Reaction {
    match code {
        // Password or user, database: unknown, dropped.
        "3D000" | "57P04" => Reaction::Credentials,
        _ if code.starts_with("28") => Reaction::Credentials,
        // Cancelled or too slow, lock not free; deadlock and serialization want another try.
        "57014" | "55P03" | "25P03" | "25P04" | "40P01" | "40001" => Reaction::Timeout,
        "53100" => Reaction::Full,
        // Read-only, and a role that may not: permissions mend both.
        "25006" | "42501" => Reaction::ReadOnly,
        "57P01" | "57P02" | "57P03" | "57P05" => Reaction::Unavailable,
        _ if code.starts_with("23") => Reaction::Constraint,
        _ if code.starts_with("08") || code.starts_with("53") => Reaction::Unavailable,
        _ if code.starts_with("XX00") && code != "XX000" => Reaction::Corrupt,
        _ => Reaction::Failed,
    }
}

/// The server refused a statement and said why.
pub(crate) fn refused(code: &str, name: Option<Arc<str>>, source: Source) -> StoreError {
    match reaction(code) {
        Reaction::Credentials => StoreError::Credentials(source),
        Reaction::Timeout => StoreError::Timeout,
        Reaction::Full => StoreError::Full(source),
        Reaction::ReadOnly => StoreError::ReadOnly(source),
        Reaction::Constraint if code == CHECK && name.as_deref().is_some_and(is_of_enum) => {
            StoreError::EnumRejected { constraint: name, source }
        }
        Reaction::Constraint => StoreError::Constraint { name, source },
        Reaction::Unavailable => StoreError::Unavailable(source),
        Reaction::Corrupt => StoreError::Corrupt(source),
        Reaction::Failed => StoreError::Failed(source),
    }
}

/// Whether a type refused what is no label of it. Its code stands for other texts too, and what it
/// says is in the server's language; who says it tells them apart.
fn is_no_label(error: &Error) -> bool {
    let routine = error.as_db_error().and_then(DbError::routine);
    error.code() == Some(&SqlState::INVALID_TEXT_REPRESENTATION)
        && matches!(routine, Some("enum_in" | "enum_recv"))
}

/// What could not be encoded is an `io::Error` as well, but no loss.
fn is_lost(error: &Error) -> bool {
    let lost = |error: &io::Error| error.kind() != io::ErrorKind::InvalidInput;
    error.is_closed() || causes(error).any(|cause| cause.downcast_ref().is_some_and(lost))
}

/// An `io::Error` hides what it wraps from `source()`.
fn has_certificate_error(error: &Error) -> bool {
    causes(error).any(|cause| {
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = match wrapped {
            Some(inner) => inner.downcast_ref::<rustls::Error>(),
            None => cause.downcast_ref::<rustls::Error>(),
        };
        matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
    })
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source())
}
