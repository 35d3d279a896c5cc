//! Old versions of an event, made into newer ones when they are read.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::error::InboxError;
use super::raw_json::{JsonLimits, RawJson};

/// How much larger an event may become with each version.
const GROWTH: usize = 4;

/// What makes a version of an event into the next.
pub(super) type Make =
    dyn Fn(&RawJson) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> + Send + Sync;

/// The upcasters of all types of events.
#[derive(Default)]
pub(super) struct Upcasters(HashMap<Version, Upcaster>);

/// A version of a type of events; without one, the empty text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Version {
    source: Arc<str>,
    event_type: Arc<str>,
    version: Arc<str>,
}

struct Upcaster {
    to: Arc<str>,
    make: Box<Make>,
}

/// An upcaster failed, or what it made is not JSON within its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an upcaster could not make the event into its next version")]
pub(super) struct UpcastFailed;

impl Upcasters {
    pub(super) fn add(
        &mut self,
        source: &str,
        event_type: &str,
        from: &str,
        to: &str,
        make: Box<Make>,
    ) -> Result<(), InboxError> {
        let version = Version::new(source, event_type, from);
        if self.0.contains_key(&version) {
            return Err(InboxError::Taken(event_type.into()));
        }
        self.0.insert(version, Upcaster { to: to.into(), make });
        Ok(())
    }

    /// Whether each chain has an end.
    pub(super) fn check(&self) -> Result<(), InboxError> {
        for first in self.0.keys() {
            let (mut seen, mut at) = (HashSet::new(), first.clone());
            while let Some(upcaster) = self.0.get(&at) {
                if !seen.insert(Arc::clone(&at.version)) {
                    let (setting, expected) = ("upcast", "a chain without a circle");
                    return Err(InboxError::InvalidSetting { setting, expected });
                }
                at.version = Arc::clone(&upcaster.to);
            }
        }
        Ok(())
    }

    /// Whose events they are for.
    pub(super) fn sources(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|version| &*version.source)
    }

    /// The newest version of an event, and its number.
    pub(super) fn newest(
        &self,
        source: &str,
        event_type: &str,
        version: Option<Arc<str>>,
        body: RawJson,
        limits: &JsonLimits,
    ) -> Result<(Option<Arc<str>>, RawJson), UpcastFailed> {
        let limits = limits.bytes(limits.bytes.saturating_mul(GROWTH));
        let first = version.as_deref().unwrap_or_default();
        let mut at = Version::new(source, event_type, first);
        let (mut version, mut body) = (version, body);
        while let Some(upcaster) = self.0.get(&at) {
            let made = (upcaster.make)(&body).or(Err(UpcastFailed))?;
            body = RawJson::parse(made.into(), &limits).or(Err(UpcastFailed))?;
            at.version = Arc::clone(&upcaster.to);
            version = Some(Arc::clone(&upcaster.to));
        }
        Ok((version, body))
    }
}

impl Version {
    fn new(source: &str, event_type: &str, version: &str) -> Self {
        let (source, event_type) = (source.into(), event_type.into());
        Self { source, event_type, version: version.into() }
    }
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(steps: &[(&str, &str)]) -> Upcasters {
        let mut all = Upcasters::default();
        for (from, to) in steps {
            let made = format!("\"made {to}\"");
            all.add("s", "t", from, to, Box::new(move |_| Ok(made.clone().into()))).unwrap();
        }
        all
    }

    #[track_caller]
    fn check(steps: &[(&str, &str)], from: Option<&str>, expected: (Option<&str>, &str)) {
        let limits = JsonLimits::default();
        let body = RawJson::parse("\"sent\"".into(), &limits).unwrap();
        let found = chain(steps).newest("s", "t", from.map(Arc::from), body, &limits).unwrap();
        assert_eq!((found.0.as_deref(), &found.1[..]), (expected.0, expected.1.as_bytes()));
    }

    #[test]
    fn each_version_is_led_to_the_newest() {
        let steps = [("1", "2"), ("2", "3")];
        check(&steps, Some("1"), (Some("3"), "\"made 3\""));
        check(&steps, Some("2"), (Some("3"), "\"made 3\""));
        check(&steps, Some("3"), (Some("3"), "\"sent\""));
        check(&steps, None, (None, "\"sent\""));
        check(&[("", "1")], None, (Some("1"), "\"made 1\""));
    }

    #[test]
    fn a_chain_has_an_end_and_no_fork() {
        assert!(chain(&[("1", "2"), ("2", "3")]).check().is_ok());
        assert!(chain(&[("1", "2"), ("2", "1")]).check().is_err());
        assert!(chain(&[("1", "1")]).check().is_err());
        let mut all = chain(&[("1", "2")]);
        assert!(all.add("s", "t", "1", "3", Box::new(|_| Ok(Vec::new()))).is_err());
    }

    #[test]
    fn what_is_made_must_be_json_within_limits() {
        let limits = JsonLimits::default().bytes(4);
        for (made, expected) in [(16, true), (17, false)] {
            let mut all = Upcasters::default();
            let made = format!("\"{}\"", "x".repeat(made - 2));
            all.add("s", "t", "1", "2", Box::new(move |_| Ok(made.clone().into()))).unwrap();
            let body = RawJson::parse("1".into(), &limits).unwrap();
            let found = all.newest("s", "t", Some("1".into()), body, &limits);
            assert_eq!(found.is_ok(), expected);
        }
    }
}
