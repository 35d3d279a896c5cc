//! Who sends a request: the peer, or whom a trusted proxy names.

use std::net::{IpAddr, SocketAddr};

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderMap, HeaderName};

use crate::edge::limits::ConnectionLimits;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// LIMIT: proxies between a client and us. A longer list was made to cost time.
const HOPS_MAX: usize = 32;

/// The address, or the network, that a request counts for; `None` if it is trusted or there is
/// none.
pub(super) fn of(request: &ServiceRequest, limits: &ConnectionLimits) -> Option<IpAddr> {
    let peer = request.peer_addr().as_ref().map(SocketAddr::ip)?;
    of_peer(peer, request.headers(), limits)
}

/// Each proxy appends the address it was called from, so the list is read from its end for as
/// long as those who wrote it are trusted. What stands before is whatever the client wrote.
fn of_peer(peer: IpAddr, headers: &HeaderMap, limits: &ConnectionLimits) -> Option<IpAddr> {
    if let Some(client) = limits.client(peer) {
        return Some(client);
    }
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).filter_map(|line| line.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        let client = limits.client(address(hop.trim())?);
        if client.is_some() {
            return client;
        }
    }
    None
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:4711`, `::1`, `[::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse().ok();
    plain.or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    /// `10.0.0.0/8` is trusted.
    #[track_caller]
    fn check(peer: &str, lines: &[&str], expected: Option<&str>) {
        let trusted = vec!["10.0.0.0/8".parse().unwrap()];
        let limits = ConnectionLimits { trusted, ..ConnectionLimits::default() };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let found = of_peer(peer.parse().unwrap(), &headers, &limits);
        assert_eq!(found, expected.map(|address| address.parse().unwrap()), "{peer} {lines:?}");
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client_whatever_it_writes() {
        check("192.0.2.1", &[], Some("192.0.2.1"));
        check("192.0.2.1", &["198.51.100.7"], Some("192.0.2.1"));
        check("::ffff:192.0.2.1", &["10.0.0.1"], Some("192.0.2.1"));
        check("2001:db8:0:1:2:3:4:5", &[], Some("2001:db8:0:1::"));
    }

    #[test]
    fn behind_trusted_proxies_it_is_the_last_that_is_not_one() {
        check("10.0.0.1", &["198.51.100.7"], Some("198.51.100.7"));
        check("10.0.0.1", &["198.51.100.7, 10.0.0.2"], Some("198.51.100.7"));
        check("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"], Some("198.51.100.7"));
        check("10.0.0.1", &["1.1.1.1", "198.51.100.7"], Some("198.51.100.7"));
        check("10.0.0.1", &["198.51.100.7:4711"], Some("198.51.100.7"));
        check("10.0.0.1", &["[2001:db8::1]:4711"], Some("2001:db8::"));
    }

    #[test]
    fn a_trusted_client_and_one_that_nobody_names_have_no_limit() {
        check("10.0.0.1", &[], None);
        check("10.0.0.1", &["10.0.0.9"], None);
        check("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.9"], None);
        let long = vec!["10.0.0.9"; HOPS_MAX].join(",");
        check("10.0.0.1", &[&format!("1.1.1.1,{long}")], None);
        let longest_read = vec!["10.0.0.9"; HOPS_MAX - 1].join(",");
        check("10.0.0.1", &[&format!("1.1.1.1,{longest_read}")], Some("1.1.1.1"));
    }
}
