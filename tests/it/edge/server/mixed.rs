//! All attacks at once, against fifty who mean well.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;

use super::support::{Guarded, ms};
use crate::support::attackers::{Attacker, Ended, Honest};

/// Of each kind.
const ATTACKERS: u8 = 12;

#[derive(Debug, Clone, Copy)]
enum Attack {
    SlowHead,
    SlowBody,
    Stall,
    Trickle,
    Silence,
    HeadWithoutEnd,
}

const ATTACKS: [Attack; 6] = [
    Attack::SlowHead,
    Attack::SlowBody,
    Attack::Stall,
    Attack::Trickle,
    Attack::Silence,
    Attack::HeadWithoutEnd,
];

async fn attack(attack: Attack, server: SocketAddr, source: Ipv4Addr) -> Ended {
    let big = "GET /big HTTP/1.1\r\nhost: test\r\n\r\n";
    let mut attacker = Attacker::connect_from(server, source).await.unwrap();
    attacker.begin();
    match attack {
        Attack::SlowHead => attacker.drip(b"GET / HTTP/1.1\r\na: b\r\n", ms(50)).await,
        Attack::SlowBody => {
            let head = "POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 9999\r\n\r\n";
            attacker.send(head).await;
            attacker.drip(b"b", ms(50)).await
        }
        Attack::Stall => {
            attacker.send(big).await;
            attacker.stall().await
        }
        Attack::Trickle => {
            attacker.send(big).await;
            attacker.trickle(512, ms(50)).await
        }
        Attack::Silence => attacker.ended().await,
        Attack::HeadWithoutEnd => {
            attacker.send([b'a'; 4000]).await;
            attacker.ended().await
        }
    }
}

#[tokio::test]
async fn fifty_who_mean_well_are_served_through_all_attacks_at_once() {
    let server = Guarded::start();
    let honest = Honest::start(server.address, "/", 50);
    let mut attackers = JoinSet::new();
    for (kind, what) in (0..).zip(ATTACKS) {
        for number in 0..ATTACKERS {
            let source = Ipv4Addr::new(127, 1, kind, number);
            attackers.spawn(attack(what, server.address, source));
        }
    }
    let ended = attackers.join_all().await;
    let latest = ended.iter().map(|ended| ended.after).max().unwrap();
    // The slowest is told 408 and then listened to for a second.
    assert!(latest < Duration::from_secs(4), "{latest:?}");
    let mut waits = honest.stop().await;
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "of {}: {p99:?}", waits.len());
    server.empty().await;
    let (counts, each) = (server.counts(), u64::from(ATTACKERS));
    assert_eq!(counts.head_timeout, 2 * each, "{counts:?}");
    assert_eq!(counts.body_too_slow, each, "{counts:?}");
    assert_eq!(counts.write_too_slow, 2 * each, "{counts:?}");
    assert_eq!(counts.head_too_large + counts.malformed, each, "{counts:?}");
}
