//! What a client is told that gets no answer of the app.
//!
//! The app gives each of its answers an id; these have one too, and a line in the log with it.

use steadfast_actors::kernel::RequestId;

use super::state::Reason;
use crate::edge::request_context::REQUEST_ID;

/// A client that waits to be told goes on; one that listens skips it; one that has left answers
/// with a reset.
pub(super) const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An answer below the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Farewell(&'static str);

const BAD_REQUEST: Farewell = Farewell("400 Bad Request");
const HEAD_TIMEOUT: Farewell = Farewell("408 Request Timeout");
const HEAD_TOO_LARGE: Farewell = Farewell("431 Request Header Fields Too Large");

impl Farewell {
    /// To one that is cut off.
    pub(super) const fn to(reason: Reason) -> Option<Self> {
        match reason {
            Reason::HeadTimeout => Some(HEAD_TIMEOUT),
            Reason::HeadTooLarge => Some(HEAD_TOO_LARGE),
            Reason::BodyTooSlow
            | Reason::BodyUnread
            | Reason::WriteTooSlow
            | Reason::Idle
            | Reason::Age
            | Reason::TooManyStreams
            | Reason::ResetFlood
            | Reason::FrameFlood
            | Reason::Outstayed => None,
        }
    }

    /// The one that actix-http says with these bytes.
    pub(super) fn said(bytes: &[u8]) -> Option<Self> {
        let line = bytes.strip_prefix(b"HTTP/1.1 ")?;
        [BAD_REQUEST, HEAD_TOO_LARGE]
            .into_iter()
            .find(|farewell| line.starts_with(farewell.0.as_bytes()))
    }

    /// On the wire, under this id.
    pub(super) fn under(self, id: &RequestId) -> String {
        let (status, name, id) = (self.0, REQUEST_ID, id.as_str());
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n{name}: {id}\r\n\r\n"
        )
    }

    pub(super) const fn status(self) -> &'static str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_actix_http_says_by_itself_is_a_farewell_of_its_own() {
        let said = |head: &str| Farewell::said(head.as_bytes());
        assert_eq!(said("HTTP/1.1 400 Bad Request\r\n"), Some(BAD_REQUEST));
        assert_eq!(said("HTTP/1.1 431 Request Header Fields Too Large\r\n"), Some(HEAD_TOO_LARGE));
        for other in [
            "",
            "HTTP/1.1 ",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.0 400 Bad Request",
            "HTTP/1.1 404 ",
        ] {
            assert_eq!(said(other), None, "{other}");
        }
    }

    #[test]
    fn it_is_a_whole_answer_with_an_id() {
        let id = RequestId::parse("abc").unwrap();
        let wire = HEAD_TIMEOUT.under(&id);
        assert!(wire.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{wire}");
        assert!(wire.contains("\r\nx-request-id: abc\r\n") && wire.ends_with("\r\n\r\n"), "{wire}");
    }
}
