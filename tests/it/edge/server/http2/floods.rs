//! Frames that bring nothing, in numbers, and streams that are over before they have begun.

use std::time::Duration;

use super::support::{
    Client, DATA, HEADERS, PING, PRIORITY, RESET, RESET_STATUS, Raw, SETTINGS, WINDOW, frame, head,
    start,
};
use crate::edge::server::support::limits;
use crate::edge::support::eventually;

#[tokio::test]
async fn who_sends_frames_that_bring_nothing_is_cut_while_others_are_served() {
    let (server, _) = start(limits());
    let mut honest = Client::connect(&server).await;
    let floods = [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, 0, 0, &[]),
        frame(WINDOW, 0, 0, &[0, 0, 0, 1]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        frame(0xFA, 0, 0, b"nobody knows what it is"),
        frame(DATA, 0, 1, &[]),
        frame(DATA, 0, 1, b"a"),
        frame(DATA, 0x8, 1, &[255; 256]),
    ];
    for (count, nothing) in (1..).zip(&floods) {
        let mut attacker = Raw::connect(&server).await;
        attacker.send(frame(HEADERS, 0x4, 1, &head("/work/60000"))).await;
        attacker.send(nothing.repeat(4000)).await;
        let (_, after, in_good_order) = attacker.ended().await;
        assert!(!in_good_order && after < Duration::from_secs(2), "{nothing:?}: {after:?}");
        assert_eq!(server.counts().frame_flood, count, "{nothing:?}");
        assert_eq!(honest.get("/").await.0, 200);
    }
    drop(honest);
    server.empty().await;
    assert_eq!(server.counts().malformed, 0);
}

#[tokio::test]
async fn who_grants_room_in_small_pieces_for_what_it_takes_is_no_flood() {
    let (server, _) = start(limits());
    let mut client = Raw::connect(&server).await;
    client.get(1, "/big").await;
    let (mut taken, mut granted) = (0, 0);
    loop {
        let (kind, flags, _, payload) = client.next().await.expect("it goes on to the end");
        if kind != DATA {
            continue;
        }
        taken += payload.len();
        if flags & 1 != 0 {
            break;
        }
        let piece = u32::try_from(payload.len() / 4).unwrap().max(1).to_be_bytes();
        let both = [frame(WINDOW, 0, 0, &piece), frame(WINDOW, 0, 1, &piece)].concat();
        client.send(both.repeat(4)).await;
        granted += 8;
    }
    assert_eq!(taken, super::support::BIG);
    assert!(granted > 10_000, "{granted}");
    assert_eq!(server.counts().frame_flood, 0);
}

#[tokio::test]
async fn work_of_streams_that_were_reset_before_it_began_is_dropped_too() {
    let (server, seen) = start(limits());
    let mut client = Raw::connect(&server).await;
    for round in 0..5_u32 {
        let resets = (0..15).flat_map(|n| {
            let id = 1000 * round + 2 * n + 1;
            let request = frame(HEADERS, 0x5, id, &head("/work/60000"));
            [request, frame(RESET, 0, id, &8_u32.to_be_bytes())].concat()
        });
        client.send(resets.collect::<Vec<u8>>()).await;
        let id = 1000 * round + 999;
        client.get(id, "/").await;
        assert_eq!(client.answer(id).await.0, 200);
    }
    eventually("nothing goes on", || seen.dropped() == seen.begun()).await;
    assert_eq!(client_is_cut(&server), 0);
}

fn client_is_cut(server: &crate::edge::server::encrypted::Encrypted) -> u64 {
    let counts = server.counts();
    counts.reset_flood + counts.malformed + counts.frame_flood
}

#[tokio::test]
async fn work_of_streams_that_the_client_had_us_reset_is_dropped_and_there_is_an_end_of_it() {
    let mut limits = limits();
    limits.connections.requests = 100_000;
    let (server, seen) = start(limits);
    let mut attacker = Raw::connect(&server).await;
    for id in (0..1024).map(|n| 2 * n + 1) {
        attacker.get(id, "/work/60000").await;
        attacker.send(frame(WINDOW, 0, id, &[0x7F, 0xFF, 0xFF, 0xFF])).await;
        assert_eq!(attacker.answer(id).await.0, RESET_STATUS);
    }
    eventually("their work is dropped", || seen.dropped() == seen.begun()).await;
    assert_eq!(server.counts().open, 1);
    attacker.get(2049, "/work/60000").await;
    attacker.send(frame(WINDOW, 0, 2049, &[0x7F, 0xFF, 0xFF, 0xFF])).await;
    attacker.ended().await;
    server.empty().await;
    assert_eq!(server.counts().reset_flood, 1, "{:?}", server.counts());
}
