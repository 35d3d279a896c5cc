//! What may happen on a connection of many streams, and how it ends.

use proptest::prelude::*;

use super::super::frames::tests::wire;
use super::*;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Three streams at a time, two resets a second, five requests.
pub(super) fn limits() -> Limits {
    Limits {
        head_timeout: ms(500),
        head_max: 200,
        body: Rate::none(),
        write: Rate::at_least(100).grace(ms(1000)).idle(ms(1000)),
        idle: ms(2000),
        requests: 5,
        streams: 3,
        resets: 2,
    }
}

struct Case {
    state: State,
    now: Instant,
    start: Instant,
}

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const PING: u8 = 6;
const END: u8 = 0x5;

impl Case {
    /// A client that has greeted.
    fn new() -> Self {
        let now = Instant::now();
        let mut case = Self { state: State::new(limits(), now + ms(60_000)), now, start: now };
        assert_eq!(case.comes(&[b'P'; PREFACE]), Ok(()));
        case
    }

    /// One that has had an answer.
    fn idle() -> Self {
        let mut case = Self::new();
        case.request(1).unwrap();
        case.answer(1);
        case
    }

    fn comes(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.state.received(bytes, self.now)
    }

    fn request(&mut self, stream: u32) -> Result<(), Reason> {
        self.comes(&wire(HEADERS, END, stream, b"head"))
    }

    fn reset(&mut self, stream: u32) -> Result<(), Reason> {
        self.comes(&wire(RESET, 0, stream, &[0, 0, 0, 8]))
    }

    fn answer(&mut self, stream: u32) {
        self.state.wrote(&wire(HEADERS, END, stream, b"ok"));
    }

    fn after(&mut self, time: Duration) -> Turn {
        self.now += time;
        self.state.tick(self.now)
    }

    #[track_caller]
    fn waits_until(&mut self, due: Duration) {
        assert_eq!(self.after(ms(0)), Turn::Wait(Some(self.start + due)));
    }
}

#[test]
fn a_first_head_is_waited_for_from_the_beginning() {
    let mut case = Case::new();
    case.waits_until(ms(500));
    assert_eq!(case.after(ms(499)), Turn::Wait(Some(case.start + ms(500))));
    assert_eq!(case.after(ms(1)), Turn::Close(Some(Reason::HeadTimeout)));

    let mut case = Case::new();
    case.waits_until(ms(500));
    assert_eq!(case.comes(&wire(HEADERS, 1, 1, b"half")), Ok(()));
    assert_eq!(case.after(ms(500)), Turn::Kill(Reason::HeadTimeout));

    let now = Instant::now();
    let mut mute = State::new(limits(), now + ms(60_000));
    assert_eq!(mute.tick(now), Turn::Wait(Some(now + ms(500))));
    assert!(!mute.is_greeted());
    assert_eq!(mute.tick(now + ms(500)), Turn::Kill(Reason::HeadTimeout));
}

#[test]
fn a_later_head_is_timed_from_its_first_frame_to_the_end_of_its_last() {
    let mut case = Case::idle();
    case.waits_until(ms(2000));
    case.now += ms(1000);
    let whole = wire(9, 0x4, 3, b"tail");
    assert_eq!(case.comes(&wire(HEADERS, 1, 3, b"half")), Ok(()));
    assert_eq!(case.comes(&whole[..whole.len() - 1]), Ok(()));
    case.waits_until(ms(1500));
    assert_eq!(case.comes(&whole[whole.len() - 1..]), Ok(()));
    case.state.working(1);
    case.waits_until(ms(60_000));
}

#[test]
fn a_head_has_its_size_and_not_one_byte_more_and_empty_frames_count() {
    assert_eq!(Case::new().comes(&wire(HEADERS, END, 1, &[0; 191])), Ok(()));
    let large = Case::new().comes(&wire(HEADERS, END, 1, &[0; 192])[..9]);
    assert_eq!(large, Err(Reason::HeadTooLarge), "before it has come");
    let mut case = Case::new();
    assert_eq!(case.comes(&wire(HEADERS, 1, 1, &[0; 1])), Ok(()));
    let empty = wire(9, 0, 1, b"");
    for _ in 0..21 {
        assert_eq!(case.comes(&empty), Ok(()));
    }
    assert_eq!(case.comes(&empty), Err(Reason::HeadTooLarge));
}

#[test]
fn a_head_has_its_fields_and_not_one_more_wherever_they_stand() {
    type Makes = fn(usize) -> Vec<u8>;
    let heads: [(usize, Makes); 4] = [
        (500, |count| wire(HEADERS, END, 1, &vec![0x82; count])),
        // Padding and priority look like fields, and are none.
        (500, |count| {
            let head = [&[3][..], &[0x82; 5], &vec![0x82; count], &[0x82; 3]].concat();
            wire(HEADERS, END | 0x28, 1, &head)
        }),
        (200, |count| {
            let first = wire(HEADERS, 1, 1, &[0x82; 300]);
            [first, wire(9, 0, 1, &[]), wire(9, 4, 1, &vec![0x82; count])].concat()
        }),
        // Neither is what is in one.
        (400, |count| {
            let head = [&[0x82; 99][..], &[0x10, 3, 0x82, 0x82, 0x82, 1, 0x82], &vec![0x82; count]];
            wire(HEADERS, END, 1, &head.concat())
        }),
    ];
    for (most, head) in heads {
        for piece in [1, 7, 1000] {
            let comes = |count| {
                let mut case = Case::new();
                case.state.limits.head_max = 1000;
                head(count).chunks(piece).try_for_each(|piece| case.comes(piece))
            };
            assert_eq!(comes(most), Ok(()));
            assert_eq!(comes(most + 1), Err(Reason::HeadTooLarge));
        }
    }
}

#[test]
fn there_are_as_many_streams_as_there_may_be_and_not_one_more() {
    let mut case = Case::new();
    for stream in [1, 3, 5] {
        assert_eq!(case.request(stream), Ok(()));
    }
    case.answer(3);
    assert_eq!(case.request(7), Ok(()));
    assert_eq!(case.request(9), Err(Reason::TooManyStreams));
}

#[test]
fn a_stream_is_over_when_both_sides_end_it_or_one_resets_it() {
    let ends: [fn(&mut Case); 4] = [
        |case| case.answer(1),
        |case| case.reset(1).unwrap(),
        |case| case.state.wrote(&wire(RESET, 0, 1, &[0; 4])),
        |case| {
            case.state.wrote(&wire(HEADERS, 0x4, 1, b"ok"));
            case.state.wrote(&wire(0, 0, 1, b"body"));
            case.state.wrote(&wire(0, 1, 1, b""));
        },
    ];
    for end in ends {
        let mut case = Case::new();
        case.request(1).unwrap();
        assert!(!case.state.is_quiet());
        end(&mut case);
        assert!(case.state.is_quiet());
    }
    let mut uploads = Case::new();
    assert_eq!(uploads.comes(&wire(HEADERS, 0x4, 1, b"head")), Ok(()));
    assert!(!uploads.state.is_quiet());
    uploads.answer(1);
    assert!(uploads.state.is_quiet(), "nobody waits for the rest of its body");
    assert_eq!(uploads.state.open.len(), 1, "but it counts until it is over");
    assert_eq!(uploads.comes(&wire(0, 1, 1, b"")), Ok(()));
    assert_eq!(uploads.state.open.len(), 0);
}

#[test]
fn resets_are_granted_by_the_second() {
    let mut case = Case::new();
    assert_eq!((case.reset(1), case.reset(3)), (Ok(()), Ok(())));
    case.now += ms(499);
    assert_eq!(case.reset(5), Err(Reason::ResetFlood));
    let mut case = Case::new();
    assert_eq!((case.reset(1), case.reset(3)), (Ok(()), Ok(())));
    case.now += ms(500);
    assert_eq!(case.reset(5), Ok(()));
    assert_eq!(case.reset(7), Err(Reason::ResetFlood));
    let mut case = Case::new();
    case.reset(1).unwrap();
    case.now += ms(60_000);
    assert_eq!((case.reset(3), case.reset(5)), (Ok(()), Ok(())));
    assert_eq!(case.reset(7), Err(Reason::ResetFlood), "what is not used does not add up");
}

#[test]
fn frames_that_bring_nothing_are_granted_by_the_second() {
    let chatter = [wire(PING, 0, 0, &[0; 8]), wire(4, 0, 0, &[]), wire(0xFA, 0, 7, &[0; 99])];
    let hollow = [wire(0, 0, 1, &[]), wire(0, 0, 1, &[0; 31]), wire(0, 0x8, 1, &[0; 256])];
    for frame in chatter.iter().chain(&hollow) {
        let mut case = Case::new();
        case.comes(&wire(HEADERS, 0x4, 1, b"head")).unwrap();
        assert_eq!(case.comes(&frame.repeat(1000)), Ok(()));
        assert_eq!(case.comes(frame), Err(Reason::FrameFlood), "{frame:?}");
        let mut case = Case::new();
        assert_eq!(case.comes(&frame.repeat(1000)), Ok(()));
        case.now += ms(10);
        assert_eq!(case.comes(&frame.repeat(10)), Ok(()));
        assert_eq!(case.comes(frame), Err(Reason::FrameFlood), "{frame:?}");
    }
    let useful = [wire(0, 0, 1, &[0; 32]), wire(0, 1, 1, &[]), wire(HEADERS, END, 1, b"tail")];
    for frame in useful {
        assert_eq!(Case::new().comes(&frame.repeat(5000)), Ok(()), "{frame:?}");
    }
}

#[test]
fn who_takes_data_may_say_so_and_who_sends_it_hollow_gains_nothing() {
    let (room, hollow) = (wire(8, 0, 0, &[0, 0, 0, 1]), wire(0, 0, 1, &[]));
    let mut case = Case::new();
    assert_eq!(case.comes(&room.repeat(1000)), Ok(()));
    assert_eq!(case.comes(&hollow.repeat(1000)), Ok(()));
    case.state.wrote(&wire(0, 0, 1, &[0; 50]));
    assert_eq!(case.comes(&room.repeat(10)), Ok(()));
    assert_eq!(case.comes(&room), Err(Reason::FrameFlood));
    assert_eq!(case.comes(&hollow), Err(Reason::FrameFlood));
}

#[test]
fn resets_are_seen_whoever_made_them() {
    let mut case = Case::new();
    case.request(1).unwrap();
    case.request(3).unwrap();
    case.reset(1).unwrap();
    assert_eq!(case.state.resets_seen(), 1);
    case.state.wrote(&wire(RESET, 0, 3, &[0; 4]));
    assert_eq!(case.state.resets_seen(), 2);
}

#[test]
fn idle_is_who_has_no_stream_and_pings_change_nothing() {
    let mut case = Case::idle();
    case.waits_until(ms(2000));
    case.now += ms(1000);
    assert_eq!(case.comes(&wire(PING, 0, 0, &[0; 8])), Ok(()));
    case.state.wrote(&wire(PING, 1, 0, &[0; 8]));
    case.waits_until(ms(2000));
    case.request(3).unwrap();
    case.answer(3);
    case.waits_until(ms(3000));
    assert_eq!(case.after(ms(2000)), Turn::Close(Some(Reason::Idle)));
    assert_eq!(case.after(ms(0)), Turn::Wait(None));
}

#[test]
fn work_without_a_stream_keeps_the_connection() {
    let mut case = Case::idle();
    case.state.working(1);
    case.waits_until(ms(60_000));
    case.state.working(0);
    case.waits_until(ms(2000));
}

#[test]
fn who_owes_us_room_has_the_time_of_the_rate() {
    let blocks: [fn(&mut State); 3] = [
        State::write_blocked,
        |state| state.owes(true),
        // Nobody works on it, and it is not answered.
        |state| {
            while state.takes_turn() {}
            state.working(0);
        },
    ];
    for block in blocks {
        let mut case = Case::new();
        case.request(1).unwrap();
        case.state.working(1);
        case.waits_until(ms(60_000));
        block(&mut case.state);
        case.waits_until(ms(1000));
        case.state.wrote(&wire(PING, 1, 0, &[0; 8]));
        case.now += ms(900);
        case.waits_until(ms(1000));
        case.state.wrote(&wire(0, 0, 1, &[0; 50]));
        case.waits_until(ms(1500));
        assert_eq!(case.after(ms(600)), Turn::Kill(Reason::WriteTooSlow));
    }
}

#[test]
fn nobody_waits_for_a_client_whose_request_the_app_was_not_asked_yet() {
    let mut case = Case::new();
    case.request(1).unwrap();
    assert!(case.state.takes_turn());
    case.waits_until(ms(60_000));
    assert!(case.state.takes_turn());
    case.state.working(1);
    assert!(!case.state.takes_turn());
    case.waits_until(ms(60_000));
    case.state.working(0);
    case.waits_until(ms(1000));
}

#[test]
fn a_more_patient_rate_holds_until_there_is_no_request() {
    let mut case = Case::new();
    case.request(1).unwrap();
    case.state.working(1);
    case.state.set_write_rate(Rate::at_least(1).grace(ms(5000)).idle(ms(5000)));
    case.state.set_write_rate(Rate::at_least(10_000).grace(ms(100)).idle(ms(100)));
    case.state.owes(true);
    case.waits_until(ms(5000));
    case.state.owes(false);
    case.answer(1);
    case.state.working(0);
    case.request(3).unwrap();
    case.state.working(1);
    case.state.write_blocked();
    case.waits_until(ms(1000));
}

#[test]
fn who_has_to_leave_is_asked_once_and_closed_when_quiet() {
    type Leaves = fn(&mut Case);
    let all_requests: Leaves = |case| {
        for stream in [9, 11, 13, 15] {
            case.request(stream).unwrap();
            case.answer(stream);
        }
    };
    let leaving: [(Leaves, Option<Reason>); 3] = [
        (|case| case.state.drains(), None),
        (|case| case.now += ms(60_000), Some(Reason::Age)),
        (all_requests, None),
    ];
    for (leaves, reason) in leaving {
        let mut case = Case::new();
        case.request(1).unwrap();
        case.state.working(1);
        leaves(&mut case);
        assert_eq!(case.after(ms(0)), Turn::Leave);
        assert_eq!(case.after(ms(0)), Turn::Wait(None));
        for stream in [101, 103, 105] {
            assert_eq!(case.request(stream), Ok(()), "it may not have heard it yet");
            case.answer(stream);
        }
        case.state.working(0);
        case.answer(1);
        assert_eq!(case.state.highest(), 105);
        assert_eq!(case.after(ms(0)), Turn::Close(reason));
    }
}

#[test]
fn who_was_asked_to_leave_may_open_so_many_streams_and_not_one_more() {
    let mut case = Case::new();
    case.request(1).unwrap();
    case.state.drains();
    assert_eq!(case.after(ms(0)), Turn::Leave);
    for stream in [3, 5, 7] {
        assert_eq!(case.request(stream), Ok(()));
        case.answer(stream);
    }
    assert_eq!(case.request(9), Err(Reason::Outstayed));
}

#[test]
fn at_a_stop_who_has_asked_nothing_is_closed_at_once() {
    let mut case = Case::new();
    case.waits_until(ms(500));
    case.state.drains();
    assert_eq!(case.after(ms(0)), Turn::Close(None));
}

proptest! {
    /// Whatever comes, in whatever pieces: nothing exceeds its limit, and no turn is endless.
    #[test]
    fn limits_hold_whatever_comes(
        frames in proptest::collection::vec((0_u8..11, any::<u8>(), 0_u32..40, 0_usize..60), 0..60),
        ours in any::<Vec<u8>>(),
        piece in 1_usize..50,
    ) {
        let mut case = Case::new();
        let bytes: Vec<u8> = frames.iter()
            .flat_map(|(kind, flags, id, length)| wire(*kind, *flags, *id, &vec![0; *length]))
            .collect();
        case.state.wrote(&ours);
        for piece in bytes.chunks(piece) {
            let came = case.comes(piece);
            let open = case.state.open.len();
            if came.is_ok() {
                prop_assert!(open <= 3);
                prop_assert!(case.state.head.is_none_or(|head| head.bytes <= 200));
            } else {
                prop_assert!(open <= 4);
                break;
            }
            if let Turn::Wait(Some(due)) = case.after(ms(1)) {
                prop_assert!(due > case.now);
            }
        }
    }
}
