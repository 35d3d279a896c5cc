//! What we think of a connection and what `h2` does, side by side: they must never lose step.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::web::Bytes;
use futures_util::future::poll_immediate;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http_02::Response;
use proptest::prelude::*;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use super::super::frames::tests::wire;
use super::*;

/// A stream of which the state is told.
struct Told(DuplexStream, Rc<RefCell<State>>);

impl AsyncRead for Told {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer))?;
        let came = self.1.borrow_mut().received(&buffer.filled()[before..], Instant::now());
        came.expect("a client that keeps the limits");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Told {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.0).poll_write(cx, bytes))?;
        self.1.borrow_mut().wrote(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What one side does. The number picks the stream.
#[derive(Debug, Clone)]
enum Deed {
    Open { whole: bool, cut: usize, padded: bool },
    Data { which: usize, length: usize, last: bool, padded: bool },
    Tail(usize),
    Reset(usize),
    TooMuchRoom(usize),
    Small(u8),
    Answer { which: usize, whole: bool },
    More { which: usize, length: usize, last: bool },
    Read(usize),
    GiveUp(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let which = || 0_usize..6;
    let (length, yes) = (0_usize..200, any::<bool>);
    prop_oneof![
        3 => (yes(), 0_usize..12, yes())
            .prop_map(|(whole, cut, padded)| Deed::Open { whole, cut, padded }),
        3 => (which(), length.clone(), yes(), yes())
            .prop_map(|(which, length, last, padded)| Deed::Data { which, length, last, padded }),
        1 => which().prop_map(Deed::Tail),
        1 => which().prop_map(Deed::Reset),
        1 => which().prop_map(Deed::TooMuchRoom),
        1 => any::<u8>().prop_map(Deed::Small),
        3 => (which(), yes()).prop_map(|(which, whole)| Deed::Answer { which, whole }),
        2 => (which(), length, yes())
            .prop_map(|(which, length, last)| Deed::More { which, length, last }),
        2 => which().prop_map(Deed::Read),
        1 => which().prop_map(Deed::GiveUp),
    ]
}

/// A stream as its client knows it from what was said on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    ours: bool,
    theirs: bool,
    reset: bool,
}

impl Known {
    const fn is_open(self) -> bool {
        !(self.reset || self.ours && self.theirs)
    }
}

/// A request at the server.
struct Served {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    answer: Option<SendStream<Bytes>>,
}

#[derive(Default)]
struct Server {
    streams: BTreeMap<u32, Served>,
    leaves: bool,
}

struct Play {
    state: Rc<RefCell<State>>,
    client: DuplexStream,
    heard: Vec<u8>,
    known: BTreeMap<u32, Known>,
    server: Rc<RefCell<Server>>,
    connection: JoinHandle<Result<(), h2::Error>>,
    pieces: Vec<usize>,
}

async fn serve(io: Told, server: Rc<RefCell<Server>>) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(io).await?;
    let mut leaves = false;
    loop {
        let accepted = std::future::poll_fn(|cx| {
            if server.borrow().leaves && !std::mem::replace(&mut leaves, true) {
                connection.graceful_shutdown();
            }
            connection.poll_accept(cx)
        });
        let Some(accepted) = accepted.await else { return Ok(()) };
        let (request, respond) = accepted?;
        let id = respond.stream_id().into();
        let served = Served { body: request.into_body(), respond, answer: None };
        server.borrow_mut().streams.insert(id, served);
    }
}

impl Play {
    async fn begin(pieces: Vec<usize>) -> Self {
        let mut limits = tests::limits();
        (limits.streams, limits.resets, limits.requests) = (1000, 1000, 10_000);
        limits.head_max = 10_000;
        let now = Instant::now();
        let state = Rc::new(RefCell::new(State::new(limits, now + Duration::from_secs(3600))));
        let (client, io) = duplex(1 << 20);
        let server = Rc::new(RefCell::new(Server::default()));
        let connection = spawn_local(serve(Told(io, Rc::clone(&state)), Rc::clone(&server)));
        let (heard, known) = (Vec::new(), BTreeMap::new());
        let mut play = Self { state, client, heard, known, server, connection, pieces };
        play.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        play.say(&wire(4, 0, 0, &[])).await;
        play.settle().await;
        play
    }

    /// In pieces, each of which is read by itself.
    async fn say(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let piece = self.pieces.pop().unwrap_or(usize::MAX).min(bytes.len());
            self.pieces.insert(0, piece);
            let (now, later) = bytes.split_at(piece);
            self.client.write_all(now).await.unwrap();
            yield_now().await;
            bytes = later;
        }
    }

    /// Until nobody has anything to say any more.
    async fn settle(&mut self) {
        for _ in 0..20 {
            yield_now().await;
            let mut space = [0; 4096];
            if let Some(Ok(count)) = poll_immediate(self.client.read(&mut space)).await {
                self.heard.extend_from_slice(&space[..count]);
            }
            while let Some(pong) = self.hear() {
                self.say(&pong).await;
            }
        }
    }

    /// One frame of the server, and what is said to it.
    fn hear(&mut self) -> Option<Vec<u8>> {
        let &[l1, l2, l3, kind, flags, s1, s2, s3, s4, ref rest @ ..] = &self.heard[..] else {
            return None;
        };
        let length = usize::try_from(u32::from_be_bytes([0, l1, l2, l3])).unwrap();
        let payload = rest.get(..length)?.to_vec();
        self.heard.drain(..9 + length);
        if let Some(known) = self.known.get_mut(&u32::from_be_bytes([s1, s2, s3, s4])) {
            known.reset |= kind == 3;
            known.ours |= matches!(kind, 0 | 1) && flags & 1 != 0;
        }
        Some(match (kind, flags) {
            (4, 0) => wire(4, 1, 0, &[]),
            (6, 0) => wire(6, 1, 0, &payload),
            _ => Vec::new(),
        })
    }

    /// One of the streams to which the client may still say something.
    fn speaking(&self, which: usize) -> Option<u32> {
        let mut speaking = self.known.iter().filter(|(_, known)| !known.theirs && !known.reset);
        speaking.nth(which).map(|(id, _)| *id)
    }

    fn served(&self, which: usize) -> Option<u32> {
        self.server.borrow().streams.keys().nth(which).copied()
    }

    async fn does(&mut self, deed: Deed) {
        match deed {
            Deed::Open { whole, cut, padded } => self.opens(whole, cut, padded).await,
            Deed::Data { which, length, last, padded } => {
                let Some(id) = self.speaking(which) else { return };
                let mut payload = if padded { vec![7] } else { Vec::new() };
                payload.extend(vec![b'd'; length]);
                payload.extend(if padded { vec![0; 7] } else { Vec::new() });
                let flags = u8::from(last) | if padded { 8 } else { 0 };
                self.say(&wire(0, flags, id, &payload)).await;
                self.known.entry(id).and_modify(|known| known.theirs |= last);
            }
            Deed::Tail(which) => {
                let Some(id) = self.speaking(which) else { return };
                self.say(&wire(1, 5, id, b"\0\x01a\x01b")).await;
                self.known.entry(id).and_modify(|known| known.theirs = true);
            }
            Deed::Reset(which) => {
                let open = self.known.iter().filter(|(_, known)| known.is_open());
                let Some(id) = open.map(|(id, _)| *id).nth(which) else { return };
                self.say(&wire(3, 0, id, &[0, 0, 0, 8])).await;
                self.known.entry(id).and_modify(|known| known.reset = true);
            }
            Deed::TooMuchRoom(which) => {
                let open = self.known.iter().filter(|(_, known)| known.is_open());
                let Some(id) = open.map(|(id, _)| *id).nth(which) else { return };
                self.say(&wire(8, 0, id, &[0x7F, 0xFF, 0xFF, 0xFF])).await;
            }
            Deed::Small(which) => {
                let frames = [
                    wire(6, 0, 0, b"12345678"),
                    wire(4, 0, 0, &[0, 4, 0, 1, 0, 0]),
                    wire(8, 0, 0, &[0, 0, 0, 1]),
                    wire(0xFA, 0xFF, 1, b"unknown"),
                ];
                self.say(&frames[usize::from(which) % frames.len()]).await;
            }
            Deed::Answer { which, whole } => self.with(which, |served| {
                let sent = served.respond.send_response(Response::new(()), whole);
                served.answer = sent.ok();
            }),
            Deed::More { which, length, last } => self.with(which, |served| {
                if let Some(answer) = &mut served.answer {
                    let _gone = answer.send_data(vec![b'a'; length].into(), last);
                }
            }),
            Deed::Read(which) => self.with(which, |served| {
                let mut cx = Context::from_waker(futures_util::task::noop_waker_ref());
                while let Poll::Ready(Some(Ok(data))) = served.body.poll_data(&mut cx) {
                    served.body.flow_control().release_capacity(data.len()).unwrap();
                }
            }),
            Deed::GiveUp(which) => {
                let id = self.served(which);
                drop(id.and_then(|id| self.server.borrow_mut().streams.remove(&id)));
            }
        }
    }

    fn with(&self, which: usize, what: impl FnOnce(&mut Served)) {
        let id = self.served(which);
        id.and_then(|id| self.server.borrow_mut().streams.get_mut(&id).map(what));
    }

    async fn opens(&mut self, whole: bool, cut: usize, padded: bool) {
        let id = self.known.keys().last().map_or(1, |last| last + 2);
        let head = b"\x83\x87\x84\x01\x09localhost";
        let (first, rest) = head.split_at(cut);
        let mut payload = if padded { vec![3] } else { Vec::new() };
        payload.extend(first);
        payload.extend(if padded { vec![0; 3] } else { Vec::new() });
        let flags = u8::from(whole) | if padded { 8 } else { 0 };
        let middle = wire(9, 0, id, &[]);
        let bytes = [wire(1, flags, id, &payload), middle, wire(9, 4, id, rest)].concat();
        self.known.insert(id, Known { theirs: whole, ..Known::default() });
        self.say(&bytes).await;
    }

    /// What we think is what was said, stream by stream.
    fn check(&self) {
        let state = self.state.borrow();
        let thought = state.open.iter().map(|(id, ended)| (*id, (ended.ours, ended.theirs)));
        let open = self.known.iter().filter(|(_, known)| known.is_open());
        let known = open.map(|(id, known)| (*id, (known.ours, known.theirs)));
        assert_eq!(thought.collect::<Vec<_>>(), known.collect::<Vec<_>>());
        assert!(state.head.is_none() || state.opened == 0);
        assert!(state.received.is_between() && state.sent.is_between());
    }

    /// `h2` closes a connection that leaves when it has no streams; and that is what we think.
    async fn leaves(mut self) {
        self.server.borrow_mut().leaves = true;
        // So that it notices.
        self.say(&wire(6, 0, 0, b"12345678")).await;
        self.settle().await;
        self.check();
        let empty = self.state.borrow().open.is_empty();
        assert_eq!(self.connection.is_finished(), empty, "{:?}", self.known);
        self.server.borrow_mut().streams.clear();
        self.settle().await;
        self.check();
        assert!(self.state.borrow().open.is_empty(), "nobody serves any of them");
        self.connection.await.unwrap().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn we_and_h2_know_the_same_streams(
        deeds in proptest::collection::vec(deed(), 1..40),
        pieces in proptest::collection::vec(1_usize..30, 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let mut play = Play::begin(pieces).await;
            for deed in deeds {
                play.does(deed).await;
                play.settle().await;
                play.check();
            }
            play.leaves().await;
        });
    }
}
