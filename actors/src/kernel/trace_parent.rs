//! The trace a request belongs to.

use std::fmt;

/// The W3C `traceparent` of a request: which trace it belongs to, and its parent span.
///
/// Source: W3C Trace Context, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a header value; `None` for anything the specification calls invalid.
    ///
    /// A version above 00 is read by its first four fields, as the specification asks.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut fields = header.split('-');
        let version = hex(fields.next()?, 2)?;
        let trace_id = hex(fields.next()?, 32)?;
        let parent_id = u64::try_from(hex(fields.next()?, 16)?).ok()?;
        let flags = u8::try_from(hex(fields.next()?, 2)?).ok()?;
        let extra = fields.next().is_some();
        let valid = trace_id != 0 && parent_id != 0 && version != 0xff && !(version == 0 && extra);
        valid.then_some(Self { trace_id, parent_id, flags })
    }

    /// A new trace that begins here, sampled.
    #[must_use]
    pub fn generate() -> Self {
        Self { trace_id: fastrand::u128(1..), parent_id: fastrand::u64(1..), flags: 1 }
    }

    /// The same trace with a new span id, for an outbound call.
    #[must_use]
    pub fn child(self) -> Self {
        Self { parent_id: fastrand::u64(1..), ..self }
    }

    /// The 32 hexadecimal digits that name the trace.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

fn hex(field: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    let valid = field.len() == digits && field.bytes().all(lower);
    valid.then(|| u128::from_str_radix(field, 16).ok()).flatten()
}
