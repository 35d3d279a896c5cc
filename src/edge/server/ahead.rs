//! Pure: how far the dispatcher may read ahead of the answers.
//!
//! actix-http reads whatever there is, up to 128 KiB, and makes requests of all of it at once: of
//! the smallest ones 9,000, at almost 5 KiB each. It looks at its own limit of 16 only before that.
//! And while the body of the last one is not whole, it closes the connection after each answer to
//! those before. So we look for the ends of heads ourselves, and hand out one at a time, or
//! several when they look as if they had no body; then the body, exactly.

use super::chunks::Chunks;

/// LIMIT: requests handed out at once; as many as actix-http means to queue.
const REQUESTS_MAX: u32 = 16;
/// The shortest request: `A / HTTP/1.0` and an empty line. An end that is nearer to the one before is
/// that of no request.
const REQUEST_MIN: usize = 14;

/// What is known of the body of the request that was read last.
#[derive(Debug, Clone, Copy)]
enum Body {
    /// There is none, it was handed out, or it came mixed with others: then its reader asks.
    Unknown,
    /// So many bytes to come are certainly its.
    Length(u64),
    Chunks(Chunks),
}

/// What may still be handed out before the dispatcher has taken up what it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// Heads that may still end.
    heads: u32,
    /// Heads that ended.
    ended: u32,
    /// Bytes handed out since the first of them ended.
    beyond: u64,
    body: Body,
    ends: Ends,
    /// Something came that was not handed out.
    pub(super) held: bool,
}

impl Ahead {
    pub(super) const fn new() -> Self {
        Self {
            heads: REQUESTS_MAX,
            ended: 0,
            beyond: 0,
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
        self.heads = REQUESTS_MAX;
        self.ended = 0;
        self.beyond = 0;
    }

    /// A request with a body of this length was read.
    pub(super) const fn body_length(&mut self, length: u64) {
        // Some of it may have been handed out, taken for other requests.
        self.body = match length.saturating_sub(self.beyond) {
            0 => Body::Unknown,
            left => Body::Length(left),
        };
    }

    /// A request with a body in chunks was read.
    pub(super) const fn body_chunks(&mut self) {
        if self.beyond == 0 {
            self.body = Body::Chunks(Chunks::BEGIN);
        }
    }

    pub(super) const fn is_exhausted(&self) -> bool {
        self.heads == 0 && matches!(self.body, Body::Unknown)
    }

    /// How many of these bytes may be handed out. At least one, unless it is
    /// [exhausted](Self::is_exhausted) or there is none.
    pub(super) fn hand_out(&mut self, bytes: &[u8]) -> usize {
        let body = self.body(bytes);
        let rest = bytes.get(body..).unwrap_or_default();
        body + if self.heads == 0 || rest.is_empty() { 0 } else { self.heads(rest) }
    }

    fn body(&mut self, bytes: &[u8]) -> usize {
        let (count, over) = match &mut self.body {
            Body::Unknown => return 0,
            Body::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= wide(count);
                (count, *left == 0)
            }
            Body::Chunks(chunks) => (chunks.pass(bytes), chunks.is_over()),
        };
        if over {
            self.body = Body::Unknown;
        }
        count
    }

    fn heads(&mut self, bytes: &[u8]) -> usize {
        let mut ends = self.ends;
        let mut place = 0;
        while let Some(end) = ends.next(bytes, place) {
            self.passed(end - place);
            let ended = bytes.get(place..end).unwrap_or_default();
            place = end;
            self.heads -= 1;
            self.ended += 1;
            let next = bytes.get(place..).unwrap_or_default();
            if self.heads == 0 || !(bodiless(ended) && bodiless(next)) {
                // The body of what has ended, or a request that may have one.
                self.heads = 0;
                return place + self.alone(ended, next, ends);
            }
        }
        self.ends = ends;
        self.passed(bytes.len() - place);
        bytes.len()
    }

    /// How much of what follows a head goes with it: as much of its body as came, if it says how
    /// long that is, nothing else waits, and no other head ends there. So most requests with a body
    /// are handed out in one piece. What the dispatcher makes of the head decides; this is a guess.
    fn alone(&mut self, head: &[u8], rest: &[u8], ends: Ends) -> usize {
        self.ends = ends;
        let mut after = ends;
        if self.ended > 1 || after.next(rest, 0).is_some() {
            return 0;
        }
        let count = content_length(head).unwrap_or(0).min(rest.len());
        self.passed(count);
        count
    }

    fn passed(&mut self, bytes: usize) {
        if self.ended > 0 {
            self.beyond = self.beyond.saturating_add(wide(bytes));
        }
    }
}

/// Whether what begins like this looks as if it had no body.
fn bodiless(request: &[u8]) -> bool {
    request.starts_with(b"GET ") || request.starts_with(b"HEAD ")
}

/// What a head says of its body's length, if it says it once.
fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let values = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    let mut values = values.fuse();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let digits = value.trim_ascii();
    let is_number = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
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

    /// The place behind the next end, from this place on.
    fn next(&mut self, bytes: &[u8], from: usize) -> Option<usize> {
        for (place, byte) in bytes.iter().enumerate().skip(from) {
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
    fn as_many_heads_are_handed_out_as_may_wait_and_not_one_more() {
        let (mut ahead, wire) = (Ahead::new(), HEAD.repeat(40));
        assert_eq!(ahead.hand_out(&wire), 16 * HEAD.len());
        assert!(ahead.is_exhausted());
        assert_eq!(ahead.hand_out(&wire), 0);
        ahead.waits_for_head();
        assert_eq!(ahead.hand_out(&wire), 16 * HEAD.len());
    }

    #[test]
    fn heads_end_in_every_way_that_is_read_as_an_end() {
        for end in ["\n\n", "\n\r\n", "\r\n\n", "\r\n\r\n"] {
            let head = format!("GET /a/path HTTP/1.1\r\nhost: test{end}");
            assert_eq!(Ahead::new().hand_out(head.repeat(40).as_bytes()), 16 * head.len());
        }
    }

    #[test]
    fn a_request_that_may_have_a_body_goes_out_alone() {
        let post = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n";
        for (wire, first) in [
            (format!("{post}some body{post}some body"), post.len()),
            (format!("GET / HTTP/1.0\n\n{post}some body"), 16),
            ("A / HTTP/1.0\n\n".repeat(9), 14),
        ] {
            let mut ahead = Ahead::new();
            assert_eq!(ahead.hand_out(wire.as_bytes()), first, "{wire}");
            assert!(ahead.is_exhausted());
        }
    }

    #[test]
    fn what_follows_a_head_goes_with_it_unless_another_head_ends_there() {
        let post = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n";
        for (first, second, left) in
            [("", "some body", 9), ("some", " body", 5), ("some body", "", 0)]
        {
            let (mut ahead, wire) = (Ahead::new(), format!("{post}{first}"));
            assert_eq!(ahead.hand_out(wire.as_bytes()), wire.len());
            ahead.body_length(9);
            let next = format!("{second}{post}");
            assert_eq!(ahead.hand_out(next.as_bytes()), left);
            assert!(ahead.is_exhausted());
        }
        // Nor may it follow others.
        let (mut ahead, gets) = (Ahead::new(), HEAD.repeat(2));
        let wire = [&gets[..], post.as_bytes(), b"some body"].concat();
        assert_eq!(ahead.hand_out(&wire), gets.len());
        // Nor what is none of its body.
        let (mut ahead, wire) = (Ahead::new(), format!("{post}some bodyGET / HTTP/1.0\n"));
        assert_eq!(ahead.hand_out(wire.as_bytes()), post.len() + 9);
        for length in ["", "content-length: 4\r\ncontent-length: 4\r\n", "content-length: +4\r\n"] {
            let head = format!("POST / HTTP/1.1\r\n{length}\r\n");
            assert_eq!(Ahead::new().hand_out(format!("{head}some").as_bytes()), head.len());
        }
    }

    #[test]
    fn a_body_is_handed_out_to_its_end_and_no_further() {
        let (mut ahead, requests) = (Ahead::new(), HEAD.repeat(20));
        for body in [&requests[..], b"", b"b"] {
            assert_eq!(ahead.hand_out(&[b"A / HTTP/1.0\n\n", &requests[..]].concat()), 14);
            ahead.body_length(wide(body.len()));
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

    #[test]
    fn a_body_that_was_taken_for_requests_gains_nothing() {
        let mut ahead = Ahead::new();
        assert_eq!(ahead.hand_out(&HEAD.repeat(40)), 16 * HEAD.len());
        ahead.body_length(15 * wide(HEAD.len()));
        assert!(ahead.is_exhausted());
        ahead.body_chunks();
        assert!(ahead.is_exhausted());
        // Until its reader has found nothing more.
        ahead.waits_for_body();
        assert_eq!(ahead.hand_out(&HEAD.repeat(40)), 16 * HEAD.len());
    }

    proptest! {
        /// However the bytes come and whatever is between the heads, no more of these end than may.
        #[test]
        fn no_more_heads_end_than_may_wait(
            between in proptest::collection::vec("[\r\na]{0,20}", 40),
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
            prop_assert!(heads <= 16, "{}", heads);
        }
    }
}
