//! Pure: how far the dispatcher may read ahead of the answers.
//!
//! actix-http reads whatever there is, up to 128 KiB, and makes requests of all of it at once: of
//! the smallest ones 9,000, at almost 5 KiB each. And what it knows of the last of them it takes to
//! be true of those before: an answer loses its body if a HEAD came behind its request, and says
//! that it is the last if a later one will be. So we look for the ends of heads ourselves, and hand
//! out one request at a time; then its body, exactly.
//!
//! What came of a body together with its head goes with it, if the head says how long the body is and
//! nothing in there could end another head. Most bodies come like this, and would cost a second turn.

use memchr::{memchr, memchr_iter};

use super::chunks::Chunks;

/// The shortest request: `A / HTTP/1.0` and an empty line. An end that is nearer to the one before is
/// that of no request.
const REQUEST_MIN: usize = 14;

/// What is known of the body of the request that was read last.
#[derive(Debug, Clone, Copy)]
enum Body {
    /// There is none, or it was handed out; if it was not, its reader asks.
    Unknown,
    /// All of it was handed out, to the last byte of its length.
    Over,
    /// So many bytes to come are certainly its.
    Length(u64),
    Chunks(Chunks),
}

/// What may still be handed out before the dispatcher has taken up what it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// A part of a head was handed out.
    begun: bool,
    /// A head came to its end.
    ended: bool,
    /// Bytes of the body that went with it.
    along: usize,
    body: Body,
    ends: Ends,
    /// Something came that was not handed out.
    pub(super) held: bool,
}

impl Ahead {
    pub(super) const fn new() -> Self {
        Self {
            begun: false,
            ended: false,
            along: 0,
            body: Body::Unknown,
            ends: Ends::new(),
            held: false,
        }
    }

    /// The dispatcher has taken up all that was handed out, and waits for a head.
    pub(super) const fn waits_for_head(&mut self) {
        self.body = Body::Unknown;
        self.taken_up();
    }

    /// It has, and a body is read on.
    pub(super) const fn waits_for_body(&mut self) {
        // If it is known where the body ends, the next request does not come with it.
        if matches!(self.body, Body::Unknown) {
            self.taken_up();
        }
    }

    const fn taken_up(&mut self) {
        self.ended = false;
        self.along = 0;
    }

    /// A request with a body of this length was read.
    pub(super) fn body_length(&mut self, length: u64) {
        self.body = match length.saturating_sub(wide(self.along)) {
            0 if length == 0 => Body::Unknown,
            0 => Body::Over,
            left => Body::Length(left),
        };
    }

    /// A request with a body in chunks was read.
    pub(super) const fn body_chunks(&mut self) {
        // If some of it went along, the head was read in two ways: then its reader asks.
        if self.along == 0 {
            self.body = Body::Chunks(Chunks::BEGIN);
        }
    }

    pub(super) const fn is_exhausted(&self) -> bool {
        self.ended && matches!(self.body, Body::Unknown | Body::Over)
    }

    /// How many of these bytes may be handed out. At least one, unless it is
    /// [exhausted](Self::is_exhausted) or there is none.
    pub(super) fn hand_out(&mut self, bytes: &[u8]) -> usize {
        let body = self.body(bytes);
        if self.ended {
            return body;
        }
        let rest = bytes.get(body..).unwrap_or_default();
        let Some(end) = self.ends.next(rest) else {
            self.begun |= !rest.is_empty();
            return bytes.len();
        };
        self.ended = true;
        if !std::mem::take(&mut self.begun)
            && let Some((head, rest @ [_, ..])) = rest.split_at_checked(end)
        {
            self.along = self.goes_along(head, rest);
        }
        body + end + self.along
    }

    /// How much of what follows a head goes with it. What the dispatcher makes of the head decides
    /// what it is; whatever that may be, it is no other request.
    fn goes_along(self, head: &[u8], rest: &[u8]) -> usize {
        let body = rest.get(..content_length(head).unwrap_or(0)).unwrap_or(rest);
        let mut ends = self.ends;
        if ends.next(body).is_none() { body.len() } else { 0 }
    }

    fn body(&mut self, bytes: &[u8]) -> usize {
        let (count, next) = match &mut self.body {
            Body::Unknown | Body::Over => return 0,
            Body::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left = left.saturating_sub(wide(count));
                (count, (*left == 0).then_some(Body::Over))
            }
            Body::Chunks(chunks) => (chunks.pass(bytes), chunks.is_over().then_some(Body::Unknown)),
        };
        self.body = next.unwrap_or(self.body);
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
        let mut place = 0;
        loop {
            let rest = bytes.get(place..).unwrap_or_default();
            let Some(line) = memchr(b'\n', rest) else {
                self.pass(rest);
                return None;
            };
            self.pass(rest.get(..line).unwrap_or_default());
            place += line + 1;
            self.distance = self.distance.saturating_add(1);
            if self.empty && self.distance >= REQUEST_MIN {
                self.distance = 0;
                return Some(place);
            }
            self.empty = true;
        }
    }

    /// Bytes within a line.
    fn pass(&mut self, bytes: &[u8]) {
        self.distance = self.distance.saturating_add(bytes.len());
        self.empty &= bytes.iter().all(|byte| *byte == b'\r');
    }
}

/// What a head says of the length of its body, if it says that once and nothing else of its body.
fn content_length(head: &[u8]) -> Option<usize> {
    let (mut length, mut from) = (None, 0);
    for to in memchr_iter(b'\n', head) {
        let line = head.get(std::mem::replace(&mut from, to + 1)..to)?;
        if let Some(digits) = value(line, b"content-length:") {
            let is_number = length.is_none() && digits.iter().all(u8::is_ascii_digit);
            length = Some(std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?);
        } else if value(line, b"transfer-encoding:").or_else(|| value(line, b"upgrade:")).is_some()
        {
            return None;
        }
    }
    length
}

/// The value in a line of a head that begins with this name.
fn value<'line>(line: &'line [u8], name: &[u8]) -> Option<&'line [u8]> {
    let (its, value) = line.split_at_checked(name.len())?;
    its.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
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
            ahead.waits_for_body();
            assert!(ahead.is_exhausted() || body.is_empty(), "all that its reader waits for came");
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

    /// What goes along of a body behind this head, of one more request, and what its reader gets.
    #[track_caller]
    fn check_along(head: &str, body: &str, expected: usize) {
        let (mut ahead, head) = (Ahead::new(), format!("POST / HTTP/1.1\r\n{head}\r\n\r\n"));
        let wire = [head.as_bytes(), body.as_bytes(), HEAD].concat();
        assert_eq!(ahead.hand_out(&wire), head.len() + expected, "{head}");
        assert_eq!(ahead.hand_out(&wire[head.len() + expected..]), 0, "{head}");
        assert!(ahead.is_exhausted(), "{head}");
        ahead.body_length(u64::try_from(body.len()).unwrap());
        assert_eq!(ahead.hand_out(&wire[head.len() + expected..]), body.len() - expected, "{head}");
        assert!(ahead.is_exhausted(), "{head}");
        ahead.waits_for_head();
        assert_eq!(ahead.hand_out(HEAD), HEAD.len(), "{head}");
    }

    #[test]
    fn a_body_goes_along_with_a_head_that_says_its_length_if_it_cannot_be_a_request() {
        check_along("Content-Length: 4", "body", 4);
        check_along("host: a\r\ncontent-length:4\r\nx: y", "body", 4);
        check_along("content-length: 8", "a\n\nb\r\n\r\n", 8);
        check_along("content-length: 17", "a\n0123456789ab\n\nb", 0);
        for other in ["content-length: 4", "transfer-encoding: chunked", "upgrade: websocket"] {
            check_along(&format!("content-length: 4\r\n{other}"), "body", 0);
            check_along(&format!("{other}\r\ncontent-length: 4"), "body", 0);
        }
        for value in ["", "+4", "4,4", "0x4", "4 4", "99999999999999999999"] {
            check_along(&format!("content-length: {value}"), "body", 0);
        }
        check_along("x-content-length: 4", "body", 0);
        check_along("x: y\r\n content-length: 4", "body", 0);
    }

    #[test]
    fn what_has_come_of_a_body_goes_along_and_the_rest_follows() {
        let (mut ahead, head) = (Ahead::new(), b"A / HTTP/1.0\ncontent-length: 6\n\n");
        assert_eq!(ahead.hand_out(&[&head[..], b"bod"].concat()), head.len() + 3);
        assert!(ahead.is_exhausted());
        ahead.body_length(6);
        assert_eq!(ahead.hand_out(&[b"ies", HEAD].concat()), 3);
        assert!(ahead.is_exhausted());
    }

    #[test]
    fn nothing_goes_along_with_a_head_that_came_in_pieces() {
        let head = b"A / HTTP/1.0\ncontent-length: 16\n\n";
        for split in 1..head.len() {
            let (mut ahead, (one, other)) = (Ahead::new(), head.split_at(split));
            assert_eq!(ahead.hand_out(one), one.len());
            assert_eq!(ahead.hand_out(&[other, &[b'b'; 16], HEAD].concat()), other.len());
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
