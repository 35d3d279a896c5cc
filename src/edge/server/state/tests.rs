//! Claims about what cuts a connection, and what does not.

use proptest::prelude::*;

use super::*;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Head 500 ms and 100 bytes, body 100 B/s with 300 ms of grace and 900 idle, write 100 B/s with
/// 400 ms, idle 2 s, 3 requests, 10 s old.
fn limits() -> Limits {
    Limits {
        head_timeout: ms(500),
        head_max: 100,
        body: Rate::at_least(100).grace(ms(300)).idle(ms(900)),
        write: Rate::at_least(100).grace(ms(400)).idle(ms(400)),
        idle: ms(2000),
        requests: 3,
    }
}

const HEAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A connection and the time.
struct Line {
    state: State,
    start: Instant,
    now: Instant,
}

impl Line {
    fn new() -> Self {
        let start = Instant::now();
        let mut line = Self { state: State::new(limits(), start + ms(10_000)), start, now: start };
        line.turns(Some(500));
        line
    }

    /// A turn that ends in waiting, until this many milliseconds after the beginning.
    #[track_caller]
    fn turns(&mut self, due: Option<u64>) {
        let due = due.map(|due| self.start + ms(due));
        assert_eq!(self.state.tick(self.now), Turn::Wait(due), "at {:?}", self.now - self.start);
    }

    /// The next turn is at this time, and does this.
    #[track_caller]
    fn at(&mut self, time: u64, turn: Turn) {
        self.now = self.start + ms(time);
        assert_eq!(self.state.tick(self.now), turn, "at {time}");
    }

    fn later(&mut self, time: u64) {
        self.now = self.start + ms(time);
    }

    /// A whole request without a body, answered within the turn.
    fn exchange(&mut self) -> bool {
        self.state.read(HEAD);
        self.state.called(Framing::Empty);
        let last = self.state.answered(Answer::Usual);
        self.state.wrote(100);
        self.state.over();
        self.state.flushed();
        last
    }
}

#[test]
fn a_first_head_has_its_time_from_the_beginning() {
    let mut line = Line::new();
    line.at(499, Turn::Wait(Some(line.start + ms(500))));
    line.state.read(b"G");
    line.at(500, Turn::Kill(Reason::HeadTimeout));
}

#[test]
fn a_later_head_has_its_time_from_its_first_byte() {
    let mut line = Line::new();
    assert!(!line.exchange());
    line.turns(Some(2000));
    line.later(1999);
    line.state.read(b"G");
    line.turns(Some(2499));
    line.state.read(b"E");
    line.at(2498, Turn::Wait(Some(line.start + ms(2499))));
    line.at(2499, Turn::Kill(Reason::HeadTimeout));
}

#[test]
fn a_head_that_came_with_the_request_before_it_is_timed_too() {
    let mut line = Line::new();
    line.state.read(b"GET / HTTP/1.1\r\n\r\nGET / HT");
    line.state.called(Framing::Empty);
    line.turns(Some(10_000));
    line.later(100);
    line.state.over();
    line.turns(Some(600));
    line.at(600, Turn::Kill(Reason::HeadTimeout));
}

#[test]
fn a_head_that_came_with_the_body_before_it_is_timed_too() {
    let mut line = Line::new();
    line.state.read(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhelloGET / HT");
    line.state.called(Framing::Length);
    line.state.body_came(b"hello");
    line.state.body_ended();
    line.state.over();
    line.turns(Some(500));
}

#[test]
fn after_a_whole_request_of_any_kind_the_connection_is_idle() {
    for (framing, wire, body) in [
        (Framing::Empty, "GET / HTTP/1.1\r\n\r\n", ""),
        (Framing::Empty, "GET / HTTP/1.1\n\n", ""),
        (Framing::Length, "POST / HTTP/1.1\r\n\r\nhello", "hello"),
        (Framing::Length, "POST / HTTP/1.1\r\n\r\na", "a"),
        (Framing::Open, "POST / HTTP/1.1\r\n\r\n1\r\na\r\n0\r\n\r\n", "a"),
    ] {
        let mut line = Line::new();
        line.state.read(wire.as_bytes());
        line.state.called(framing);
        for byte in body.as_bytes() {
            line.state.body_came(&[*byte]);
        }
        line.state.body_ended();
        line.state.over();
        line.turns(Some(2000));
        line.at(2000, Turn::Close(Reason::Idle));
        line.turns(None);
    }
}

#[test]
fn a_head_is_too_large_one_byte_past_the_limit() {
    let mut line = Line::new();
    line.state.read(&[b'a'; 100]);
    line.turns(Some(500));
    line.state.read(b"a");
    assert_eq!(line.state.tick(line.now), Turn::Kill(Reason::HeadTooLarge));
}

#[test]
fn a_head_that_comes_with_a_large_body_is_measured_and_not_cut() {
    let mut line = Line::new();
    line.state.read(&[b'a'; 500]);
    assert_eq!(line.state.called(Framing::Length), Call::Measure);
    line.turns(Some(10_000));
    let mut line = Line::new();
    line.state.read(&[b'a'; 100]);
    assert_eq!(line.state.called(Framing::Length), Call::Serve);
}

#[test]
fn a_body_is_timed_only_while_the_handler_waits_for_it() {
    let mut line = Line::new();
    line.state.read(HEAD);
    line.state.called(Framing::Open);
    line.turns(Some(10_000));
    line.later(5000);
    assert!(line.state.body_waits());
    line.turns(Some(5300));
    assert!(!line.state.body_waits(), "no news");
    line.later(5200);
    line.state.body_came(&[0; 1]);
    line.state.body_waits();
    line.turns(Some(5310));
    line.at(5310, Turn::FailBody);
    assert!(line.state.body_too_slow());
    line.turns(Some(10_000));
    assert!(line.state.answered(Answer::Usual), "the last answer");
    line.state.over();
    line.turns(Some(7310));
    line.at(7310, Turn::End);
}

#[test]
fn a_body_that_nobody_reads_makes_the_answer_the_last() {
    let mut line = Line::new();
    line.state.read(HEAD);
    line.state.called(Framing::Length);
    line.state.body_dropped();
    assert!(line.state.answered(Answer::Usual));
    line.state.over();
    line.turns(Some(2000));
    line.at(2000, Turn::Kill(Reason::BodyUnread));
}

#[test]
fn a_reader_is_timed_while_the_kernel_takes_no_more_in_every_phase() {
    let mut line = Line::new();
    line.state.read(HEAD);
    line.state.called(Framing::Empty);
    line.state.write_blocked();
    line.turns(Some(400));
    line.later(300);
    line.state.wrote(10);
    line.turns(Some(500));
    line.state.over();
    line.later(400);
    line.turns(Some(500));
    line.at(500, Turn::Kill(Reason::WriteTooSlow));
}

#[test]
fn a_flush_stops_the_clock_of_the_reader() {
    let mut line = Line::new();
    line.state.read(HEAD);
    line.state.called(Framing::Empty);
    line.state.write_blocked();
    line.turns(Some(400));
    line.later(399);
    line.state.flushed();
    line.turns(Some(10_000));
    line.later(9000);
    line.turns(Some(10_000));
}

#[test]
fn the_last_request_is_told_so() {
    let mut line = Line::new();
    assert!(!line.exchange());
    assert!(!line.exchange());
    assert!(line.exchange());
}

#[test]
fn what_follows_the_last_answer_is_ignored_until_all_is_written() {
    let mut line = Line::new();
    line.state.read(HEAD);
    line.state.called(Framing::Empty);
    line.state.write_blocked();
    assert!(line.state.answered(Answer::Last));
    line.state.over();
    assert_eq!(line.state.called(Framing::Empty), Call::Ignore);
    line.turns(Some(400));
    line.state.flushed();
    assert_eq!(line.state.tick(line.now), Turn::End);
}

#[test]
fn an_old_connection_is_closed_when_idle_and_told_so_when_not() {
    let mut line = Line::new();
    line.later(9000);
    line.exchange();
    line.turns(Some(10_000));
    line.at(10_000, Turn::Close(Reason::Age));

    let mut line = Line::new();
    line.state.read(HEAD);
    line.state.called(Framing::Empty);
    line.turns(Some(10_000));
    line.later(10_000);
    line.turns(None);
    assert!(line.state.answered(Answer::Usual));
}

#[test]
fn an_upgraded_connection_has_only_the_clock_of_the_reader() {
    let mut line = Line::new();
    line.state.read(HEAD);
    line.state.called(Framing::Open);
    line.state.body_waits();
    assert!(!line.state.answered(Answer::Upgrade));
    line.turns(None);
    line.later(60_000);
    line.turns(None);
    line.state.write_blocked();
    line.turns(Some(60_400));
}

#[test]
fn the_rates_of_a_route_hold_for_one_request() {
    let mut line = Line::new();
    line.state.read(HEAD);
    line.state.called(Framing::Open);
    let rate = Rate::at_least(1).grace(ms(5000)).idle(ms(5000));
    line.state.set_rates(Some(rate), Some(rate));
    line.state.body_waits();
    line.turns(Some(5000));
    line.state.body_came(b"");
    line.state.body_ended();
    line.state.write_blocked();
    line.turns(Some(5000));
    line.state.flushed();
    line.state.over();
    line.state.read(HEAD);
    line.state.called(Framing::Open);
    line.state.body_waits();
    line.turns(Some(300));
}

proptest! {
    /// Where a message ends does not depend on how its bytes were cut into pieces.
    #[test]
    fn a_boundary_is_found_however_the_bytes_come(
        body in proptest::collection::vec(any::<u8>(), 1..40),
        cuts in proptest::collection::vec(1_usize..9, 1..20),
    ) {
        let wire = [HEAD, &body].concat();
        let tail = |mut bytes: &[u8]| {
            let (mut tail, mut cuts) = (Tail::EMPTY, cuts.iter().cycle());
            while let Some(cut) = cuts.next().filter(|_| !bytes.is_empty()) {
                let (piece, rest) = bytes.split_at(bytes.len().min(*cut));
                tail.push(piece);
                bytes = rest;
            }
            tail
        };
        let (whole, body) = (tail(&wire), tail(&body));
        prop_assert!(whole.ends_with_message(Some(body)));
        prop_assert!(tail(HEAD).ends_with_message(None));
        let more = tail(&[&wire[..], b"GET /\xff\xfe"].concat());
        prop_assert!(!more.ends_with_message(None));
    }
}

/// What can happen to a connection.
#[derive(Debug, Clone, Copy)]
enum Event {
    Read(u8),
    Called(Framing),
    BodyWaits,
    BodyCame(u8),
    BodyEnded,
    BodyDropped,
    Answered,
    Over,
    Blocked,
    Wrote(u8),
    Flushed,
    Passes(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<u8>().prop_map(Event::Read),
        Just(Event::Called(Framing::Empty)),
        Just(Event::Called(Framing::Length)),
        Just(Event::Called(Framing::Open)),
        Just(Event::BodyWaits),
        any::<u8>().prop_map(Event::BodyCame),
        Just(Event::BodyEnded),
        Just(Event::BodyDropped),
        Just(Event::Answered),
        Just(Event::Over),
        Just(Event::Blocked),
        any::<u8>().prop_map(Event::Wrote),
        Just(Event::Flushed),
        (0_u16..3000).prop_map(Event::Passes),
    ]
}

fn play(state: &mut State, event: Event) {
    let bytes = [b'x'; 256];
    match event {
        Event::Read(count) => state.read(&bytes[..usize::from(count)]),
        Event::Called(framing) => drop(state.called(framing)),
        Event::BodyWaits => drop(state.body_waits()),
        Event::BodyCame(count) => state.body_came(&bytes[..usize::from(count)]),
        Event::BodyEnded => state.body_ended(),
        Event::BodyDropped => state.body_dropped(),
        Event::Answered => drop(state.answered(Answer::Usual)),
        Event::Over => state.over(),
        Event::Blocked => state.write_blocked(),
        Event::Wrote(count) => state.wrote(count.into()),
        Event::Flushed => state.flushed(),
        Event::Passes(_) => {}
    }
}

proptest! {
    /// Whatever happens, a connection for which nobody works has an end, the end is not in the
    /// past, and it does not come before its limit is over.
    #[test]
    fn a_connection_for_which_nobody_works_has_an_end(
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut now = Instant::now();
        let mut state = State::new(limits(), now + ms(10_000));
        for event in events {
            play(&mut state, event);
            if let Event::Passes(time) = event {
                now += ms(time.into());
            }
            match state.tick(now) {
                Turn::Wait(Some(due)) => {
                    prop_assert!(due > now);
                    let works = matches!(state.phase, Phase::Handling);
                    prop_assert!(works || due <= now + ms(2000), "the longest limit");
                }
                Turn::Wait(None) => {
                    let works = matches!(state.phase, Phase::Handling | Phase::Closed);
                    prop_assert!(works, "{:?}", state.phase);
                }
                Turn::FailBody => prop_assert!(state.body_too_slow()),
                Turn::Close(_) => prop_assert_eq!(state.phase, Phase::Closed),
                Turn::Kill(_) | Turn::End => return Ok(()),
            }
        }
    }
}

#[test]
fn requests_behind_one_being_handled_wait_outside() {
    let mut line = Line::new();
    assert_eq!(line.state.hand_out(&HEAD.repeat(2)), HEAD.len());
    line.state.called(Framing::Empty);
    line.turns(Some(10_000));
    assert_eq!(line.state.hand_out(HEAD), 0);
    assert_eq!(line.state.hold(), Reading::Later);
    assert!(!line.state.release());
    line.state.over();
    assert!(line.state.release(), "its turn has come");
    assert!(!line.state.release(), "and it was told so");
    line.state.tick(line.now);
    assert_eq!(line.state.hand_out(HEAD), HEAD.len());
}

#[test]
fn a_request_comes_a_turn_after_the_one_before() {
    let mut line = Line::new();
    assert_eq!(line.state.hand_out(&HEAD.repeat(17)), HEAD.len());
    assert_eq!(line.state.hold(), Reading::NextTurn);
    line.exchange();
    line.state.tick(line.now);
    assert_eq!(line.state.reading(), Reading::Ahead);
}

#[test]
fn a_body_is_handed_out_to_its_end() {
    let mut line = Line::new();
    line.state.hand_out(HEAD);
    line.state.called(Framing::Open);
    line.state.body_ends(BodyEnd::Chunks);
    assert_eq!(line.state.hand_out(b"1\r\na\r\n0\r\n\r\nGET"), 11);
    assert_eq!(line.state.hold(), Reading::Later);
    line.state.tick(line.now);
    assert!(!line.state.release(), "nobody asked for it");
    // A decoder that sees another end than we do is not left waiting for it.
    line.state.body_waits();
    assert!(line.state.release());
    line.state.body_ended();
    assert_eq!(line.state.reading(), Reading::Later, "what comes now is another request");
}

#[test]
fn nothing_is_held_back_after_an_upgrade() {
    let mut line = Line::new();
    line.state.hand_out(HEAD);
    line.state.called(Framing::Open);
    line.state.answered(Answer::Upgrade);
    assert_eq!(line.state.hand_out(&HEAD.repeat(40)), 40 * HEAD.len());
}
