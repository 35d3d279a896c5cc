//! The headers of a delivery, without an HTTP library.

use std::fmt;

/// LIMIT: headers that are looked at; a server allows about as many.
const HEADERS_MAX: usize = 128;
/// LIMIT: bytes of a value; a longer one is left out, and what needs it is refused.
const VALUE_MAX: usize = 16 * 1024;

/// The headers of a delivery. Collect them from pairs of name and value:
///
/// ```
/// use steadfast_actors::inbox::Headers;
///
/// let headers: Headers = [("X-GitHub-Event", "push")].into_iter().collect();
/// assert_eq!(headers.text("x-github-event"), Some("push"));
/// ```
///
/// The first 128 are kept, and of those the ones whose value has at most 16 KiB.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Box<str>, Box<[u8]>)>);

impl Headers {
    /// The value of a header, by its name in lower case. `None` if it is not there, and if it is
    /// there more than once: of two signatures nobody knows which one is meant.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.0.iter().filter(|(known, _)| **known == *name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The same as text. `None` also if it is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.value(name)?).ok()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let kept = pairs.into_iter().take(HEADERS_MAX);
        let kept = kept.filter(|(_, value)| value.as_ref().len() <= VALUE_MAX);
        Self(kept.map(|(name, value)| (lower(name.as_ref()), value.as_ref().into())).collect())
    }
}

fn lower(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

/// Only the names: there are credentials among the values.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
