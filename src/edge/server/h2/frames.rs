//! Pure: where frames begin and end.

/// Of the kinds of frames, those that say something about streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Continuation,
    Reset,
    Settings,
    Other,
}

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) length: u32,
    flags: u8,
    pub(super) stream: u32,
}

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Of a frame of data, to be worth what it costs to keep it.
const DATA_MIN: u32 = 32;
/// Bytes before the payload.
pub(super) const HEAD: usize = 9;

impl Frame {
    fn read(head: [u8; HEAD]) -> Self {
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = head;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::Reset,
            4 => Kind::Settings,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        let length = u32::from_be_bytes([0, l1, l2, l3]);
        // The highest bit is reserved.
        Self { kind, length, flags, stream: u32::from_be_bytes([s1 & 0x7F, s2, s3, s4]) }
    }

    pub(super) const fn ends_stream(self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Headers) && self.flags & END_STREAM != 0
    }

    pub(super) const fn ends_headers(self) -> bool {
        self.is_of_head() && self.flags & END_HEADERS != 0
    }

    pub(super) const fn is_of_head(self) -> bool {
        matches!(self.kind, Kind::Headers | Kind::Continuation)
    }

    /// Whether its payload begins with the length of its padding.
    pub(super) const fn is_padded(self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Headers) && self.flags & PADDED != 0
    }

    /// How many bytes there are of a priority, before the fields of a head.
    pub(super) const fn priority(self) -> usize {
        if matches!(self.kind, Kind::Headers) && self.flags & PRIORITY != 0 { 5 } else { 0 }
    }

    /// Whether it is data with little or nothing in it. Windows do not limit those: they count
    /// neither padding nor what it takes to keep a frame until somebody reads it.
    pub(super) const fn is_hollow(self) -> bool {
        let little = self.length < DATA_MIN || self.is_padded();
        matches!(self.kind, Kind::Data) && !self.ends_stream() && little
    }
}

/// What bytes come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Begins(Frame),
    /// So much of its payload.
    Moves(Frame, usize),
    Ends(Frame),
}

/// Reads one direction of a connection, in pieces of any size.
#[derive(Debug, Clone, Default)]
pub(super) struct Frames {
    head: [u8; HEAD],
    read: usize,
    current: Option<Frame>,
    left: usize,
    /// Of a head, not all frames have passed.
    in_head: bool,
}

impl Frames {
    /// Takes what makes up the next event. `None` when the bytes are used up.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Event> {
        let Some(frame) = self.current else { return self.next_head(bytes) };
        if self.left == 0 {
            self.current = None;
            self.in_head = frame.is_of_head() && !frame.ends_headers();
            return Some(Event::Ends(frame));
        }
        let count = self.left.min(bytes.len());
        *bytes = bytes.get(count..).unwrap_or_default();
        self.left -= count;
        (count > 0).then_some(Event::Moves(frame, count))
    }

    fn next_head(&mut self, bytes: &mut &[u8]) -> Option<Event> {
        while let Some(slot) = self.head.get_mut(self.read) {
            let (byte, rest) = bytes.split_first()?;
            (*slot, *bytes) = (*byte, rest);
            self.read += 1;
        }
        self.read = 0;
        let frame = Frame::read(self.head);
        self.current = Some(frame);
        self.left = usize::try_from(frame.length).unwrap_or(usize::MAX);
        Some(Event::Begins(frame))
    }

    /// Whether nothing of a frame is under way, nor of a head that takes several.
    pub(super) const fn is_between(&self) -> bool {
        self.read == 0 && self.current.is_none() && !self.in_head
    }
}

/// No more streams than those up to this one: the last that was, or any.
pub(super) fn go_away(last: u32) -> [u8; HEAD + 8] {
    let [a, b, c, d] = last.to_be_bytes();
    [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0]
}

/// The greeting of a server, if these bytes begin with one, told what it does not tell: how many
/// streams there may be, and how long a head. And how many of these bytes that was.
pub(super) fn greeting(bytes: &[u8], streams: u32, head_max: u32) -> Option<(Vec<u8>, usize)> {
    let mut rest = bytes;
    let Some(Event::Begins(frame)) = Frames::default().next(&mut rest) else { return None };
    let length = usize::try_from(frame.length).ok()?;
    let settings = rest.get(..length).filter(|_| frame.kind == Kind::Settings && frame.flags == 0);
    let ours = [(3_u16, streams), (6_u16, head_max)]
        .into_iter()
        .flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes()));
    let mut payload = settings?.to_vec();
    payload.extend(ours);
    let [_, l1, l2, l3] = u32::try_from(payload.len()).ok()?.to_be_bytes();
    let mut told = vec![l1, l2, l3, 4, 0, 0, 0, 0, 0];
    told.append(&mut payload);
    Some((told, HEAD + length))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame on the wire.
    pub(in super::super) fn wire(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut wire = vec![a, b, c, kind, flags];
        wire.extend(stream.to_be_bytes());
        wire.extend(payload);
        wire
    }

    fn events(frames: &mut Frames, mut bytes: &[u8]) -> Vec<Event> {
        std::iter::from_fn(|| frames.next(&mut bytes)).collect()
    }

    #[test]
    fn a_frame_begins_moves_and_ends_and_one_without_payload_only_does_both() {
        let mut frames = Frames::default();
        let data = Frame { kind: Kind::Data, length: 3, flags: 1, stream: 5 };
        let ping = Frame { kind: Kind::Other, length: 0, flags: 0, stream: 0 };
        let bytes = [wire(0, 1, 5 | 1 << 31, b"abc"), wire(6, 0, 0, b"")].concat();
        let expected = [
            Event::Begins(data),
            Event::Moves(data, 3),
            Event::Ends(data),
            Event::Begins(ping),
            Event::Ends(ping),
        ];
        assert_eq!(events(&mut frames, &bytes), expected);
        assert!(frames.is_between() && data.ends_stream() && !data.ends_headers());
        assert_eq!(events(&mut frames, &[0]), []);
        assert!(!frames.is_between());
    }

    #[test]
    fn nothing_may_stand_between_the_frames_of_one_head() {
        let mut frames = Frames::default();
        for (kind, flags, between) in [(1, 0x1, false), (9, 0, false), (9, 0x4, true)] {
            events(&mut frames, &wire(kind, flags, 1, b"part"));
            assert_eq!(frames.is_between(), between, "{kind} {flags}");
        }
    }

    #[test]
    fn hollow_is_data_that_is_empty_tiny_or_padded_and_not_the_last() {
        let hollow = |kind, flags, length: usize| {
            let wire = wire(kind, flags, 1, &vec![0; length]);
            Frame::read(*wire.first_chunk().unwrap()).is_hollow()
        };
        assert!(hollow(0, 0, 0) && hollow(0, 0, 31) && hollow(0, 0x8, 256));
        assert!(!hollow(0, 0, 32) && !hollow(0, 0x1, 0) && !hollow(1, 0x4, 0));
    }

    #[test]
    fn a_greeting_is_told_our_limits_and_nothing_else_is_touched() {
        let theirs = wire(4, 0, 0, &[0, 4, 0, 1, 0, 0]);
        let behind = [theirs.clone(), wire(6, 0, 0, b"behind!!")].concat();
        let (told, taken) = greeting(&behind, 100, 16384).unwrap();
        assert_eq!(taken, theirs.len());
        let ours = [0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0, 100, 0, 6, 0, 0, 64, 0];
        assert_eq!(told, wire(4, 0, 0, &ours));
        for other in [wire(4, 1, 0, b""), wire(6, 0, 0, b"12345678"), theirs[..12].to_vec()] {
            assert_eq!(greeting(&other, 1, 1), None, "{other:?}");
        }
    }

    proptest! {
        /// However the bytes are cut, the same frames begin and end, and all payload moves.
        #[test]
        fn cuts_change_nothing(
            all in proptest::collection::vec(
                (0_u8..12, any::<u8>(), 0_u32..1 << 31, 0_usize..40), 0..20),
            cuts in proptest::collection::vec(1_usize..30, 1..20),
        ) {
            let bytes: Vec<u8> = all.iter()
                .flat_map(|(kind, flags, id, length)| wire(*kind, *flags, *id, &vec![7; *length]))
                .collect();
            let frames_of = |pieces: Vec<&[u8]>| {
                let (mut frames, mut moved) = (Frames::default(), 0);
                let mut found = Vec::new();
                for piece in pieces {
                    for event in events(&mut frames, piece) {
                        match event {
                            Event::Moves(_, count) => moved += count,
                            Event::Begins(_) | Event::Ends(_) => found.push(event),
                        }
                    }
                }
                (found, moved, frames.is_between())
            };
            let (mut rest, mut pieces) = (&bytes[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            let whole = frames_of(vec![&bytes]);
            prop_assert_eq!(whole.0.len(), 2 * all.len());
            let open = |(kind, flags, ..): &(u8, u8, u32, usize)| {
                matches!(*kind, 1 | 9) && flags & END_HEADERS == 0
            };
            prop_assert_eq!(whole.2, !all.last().is_some_and(open));
            prop_assert_eq!(frames_of(pieces), whole);
        }
    }
}
