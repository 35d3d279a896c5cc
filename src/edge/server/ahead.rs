//! Pure: how far the dispatcher may read ahead of the answers.
//!
//! actix-http reads whatever there is, up to 128 KiB, and makes requests of all of it at once: of
//! the smallest ones 9,000, at almost 5 KiB each. And what it knows of the last of them it takes to
//! be true of those before: an answer loses its body if a HEAD came behind its request, and says
//! that it is the last if a later one will be. So we look for the ends of heads ourselves, and hand
//! out one request at a time; then its body, exactly.

use super::chunks::Chunks;

/// The shortest request: `A / HTTP/1.0` and an empty line. An end that is nearer to the one before is
/// that of no request.
const REQUEST_MIN: usize = 14;

/// What is known of the body of the request that was read last.
#[derive(Debug, Clone, Copy)]
enum Body {
    /// There is none, or it was handed out; if it was not, its reader asks.
    Unknown,
    /// So many bytes to come are certainly its.
    Length(u64),
    Chunks(Chunks),
}

/// What may still be handed out before the dispatcher has taken up what it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// A head came to its end.
    ended: bool,
    body: Body,
    ends: Ends,
    /// Something came that was not handed out.
    pub(super) held: bool,
}

impl Ahead {
    pub(super) const fn new() -> Self {
        Self { ended: false, body: Body::Unknown, ends: Ends::new(), held: false }
    }

    /// The dispatcher has taken up all that was handed out, and waits for a head.
    pub(super) const fn waits_for_head(&mut self) {
        self.body = Body::Unknown;
        self.ended = false;
    }

    /// It has, and a body is read on.
    pub(super) const fn waits_for_body(&mut self) {
        // If it is known where the body ends, the next request does not come with it.
        if matches!(self.body, Body::Unknown) {
            self.ended = false;
        }
    }

    /// A request with a body of this length was read.
    pub(super) const fn body_length(&mut self, length: u64) {
        self.body = if length == 0 { Body::Unknown } else { Body::Length(length) };
    }

    /// A request with a body in chunks was read.
    pub(super) const fn body_chunks(&mut self) {
        self.body = Body::Chunks(Chunks::BEGIN);
    }

    pub(super) const fn is_exhausted(&self) -> bool {
        self.ended && matches!(self.body, Body::Unknown)
    }

    /// How many of these bytes may be handed out. At least one, unless it is
    /// [exhausted](Self::is_exhausted) or there is none.
    pub(super) fn hand_out(&mut self, bytes: &[u8]) -> usize {
        let body = self.body(bytes);
        if self.ended {
            return body;
        }
        let rest = bytes.get(body..).unwrap_or_default();
        let end = self.ends.next(rest);
        self.ended = end.is_some();
        body + end.unwrap_or(rest.len())
    }

    fn body(&mut self, bytes: &[u8]) -> usize {
        let (count, over) = match &mut self.body {
            Body::Unknown => return 0,
            Body::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
                (count, *left == 0)
            }
            Body::Chunks(chunks) => (chunks.pass(bytes), chunks.is_over()),
        };
        if over {
            self.body = Body::Unknown;
        }
        count
    }
}

/// Finds the ends of heads: empty lines.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// Bytes since the last one.
    distance: usize,
    /// There is nothing on this line yet.
    empty: bool,
}

impl Ends {
    const fn new() -> Self {
        Self { distance: REQUEST_MIN, empty: false }
    }

    /// The place behind the next end.
    fn next(&mut self, bytes: &[u8]) -> Option<usize> {
        for (place, byte) in bytes.iter().enumerate() {
            self.distance = self.distance.saturating_add(1);
            match byte {
                b'\n' if self.empty && self.distance >= REQUEST_MIN => {
                    self.distance = 0;
                    return Some(place + 1);
                }
                b'\n' => self.empty = true,
                b'\r' => {}
                _ => self.empty = false,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &[u8] = b"GET / HTTP/1.0\n\n";

    #[test]
    fn one_head_is_handed_out_and_the_next_when_it_was_taken_up() {
        let (mut ahead, wire) = (Ahead::new(), HEAD.repeat(3));
        for _ in 0..3 {
            assert_eq!(ahead.hand_out(&wire), HEAD.len());
            assert!(ahead.is_exhausted());
            assert_eq!(ahead.hand_out(&wire), 0);
            ahead.waits_for_head();
        }
    }

    #[test]
    fn heads_end_in_every_way_that_is_read_as_an_end() {
        for end in ["\n\n", "\n\r\n", "\r\n\n", "\r\n\r\n"] {
            let head = format!("GET /a/path HTTP/1.1\r\nhost: test{end}");
            assert_eq!(Ahead::new().hand_out(head.repeat(2).as_bytes()), head.len());
        }
    }

    #[test]
    fn a_body_is_handed_out_to_its_end_and_no_further() {
        let (mut ahead, requests) = (Ahead::new(), HEAD.repeat(20));
        for body in [&requests[..], b"", b"b"] {
            assert_eq!(ahead.hand_out(&[b"A / HTTP/1.0\n\n", &requests[..]].concat()), 14);
            ahead.body_length(u64::try_from(body.len()).unwrap());
            assert_eq!(ahead.hand_out(&[body, &requests[..]].concat()), body.len());
            assert!(ahead.is_exhausted());
            ahead.waits_for_head();
        }
        for body in ["20\r\nGET / HTTP/1.0\n\nGET / HTTP/1.0\n\n\r\n0\r\n\r\n", "0\r\n\r\n"] {
            assert_eq!(ahead.hand_out(&[b"A / HTTP/1.0\n\n", &requests[..]].concat()), 14);
            ahead.body_chunks();
            ahead.waits_for_body();
            assert_eq!(ahead.hand_out(&[body.as_bytes(), &requests[..]].concat()), body.len());
            assert!(ahead.is_exhausted());
            ahead.waits_for_head();
        }
    }

    proptest! {
        /// However the bytes come and whatever is between the heads, no more than one ends.
        #[test]
        fn no_more_than_one_head_ends(
            between in proptest::collection::vec("[\r\na]{0,20}", 4),
            pieces in proptest::collection::vec(1_usize..100, 1..50),
        ) {
            let wire: Vec<u8> =
                between.iter().flat_map(|filler| [filler.as_bytes(), HEAD].concat()).collect();
            let (mut ahead, mut place) = (Ahead::new(), 0);
            for piece in pieces.iter().cycle() {
                let bytes = &wire[place..wire.len().min(place + piece)];
                let count = ahead.hand_out(bytes);
                place += count;
                if count == 0 || place == wire.len() {
                    break;
                }
                prop_assert!(count == bytes.len() || ahead.is_exhausted());
            }
            let out = &wire[..place];
            let heads = out.windows(HEAD.len()).filter(|window| *window == HEAD).count();
            prop_assert!(heads <= 1, "{}", heads);
        }
    }
}
