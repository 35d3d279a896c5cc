//! The service `rates`: what one unit of a currency costs in euros.

use serde_json::json;

use super::connection::{Answer, Request};
use super::faults::Voice;

/// Fixed, so that a test knows what to expect.
const RATES: [(&str, f64); 16] = [
    ("AUD", 0.5638),
    ("CAD", 0.6274),
    ("CHF", 1.0671),
    ("CNY", 0.1213),
    ("CZK", 0.0411),
    ("DKK", 0.1339),
    ("EUR", 1.0),
    ("GBP", 1.1486),
    ("HUF", 0.0026),
    ("INR", 0.0098),
    ("JPY", 0.0058),
    ("NOK", 0.0857),
    ("PLN", 0.2354),
    ("SEK", 0.0911),
    ("SGD", 0.6672),
    ("USD", 0.8617),
];

/// The service.
#[derive(Debug)]
pub(super) struct Rates;

impl Voice for Rates {
    fn answer(&self, request: &Request) -> Answer {
        quote(request)
    }

    fn failed(&self) -> Answer {
        Answer::problem(500, "Internal Server Error")
    }

    fn throttled(&self, _request: &Request) -> Answer {
        Answer::problem(429, "Too Many Requests").with_header("retry-after", "1")
    }

    fn resets_unread(&self) -> bool {
        false
    }
}

fn quote(request: &Request) -> Answer {
    if request.method != "GET" {
        return Answer::problem(405, "Method Not Allowed").with_header("allow", "GET");
    }
    let currency = request.path.strip_prefix("/rates/").unwrap_or_default();
    match RATES.iter().find(|(code, _)| *code == currency) {
        Some((currency, rate)) => Answer::json(200, &json!({ "currency": currency, "rate": rate })),
        None => Answer::problem(404, "Not Found"),
    }
}
