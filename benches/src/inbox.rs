//! The envelope of an event, with its payload left as it is, beside all of it as values: the
//! `inbox` command.

use std::borrow::Cow;
use std::hint::black_box;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use steadfast::inbox::{JsonLimits, RawJson};

use crate::measure::{Comparison, Contender, Effort};

/// All of it as values may take this much of the time that the envelope does.
const BAR: f64 = 1.0 / 5.0;

/// How the `inbox` command is run.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Rounds; each contender runs once in each.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Events in each round, in thousands.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    thousands: u32,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Measures, and prints the table. Returns whether the bar was reached.
///
/// # Panics
///
/// If the event of the benchmark cannot be read.
pub async fn run(settings: &Settings) -> bool {
    let body = event();
    let bytes = body.len();
    let effort = Effort {
        rounds: settings.rounds as usize,
        operations: u64::from(settings.thousands) * 1_000,
    };
    let contender = |name: &str, work: fn(&[u8])| {
        let body = body.clone();
        Contender::new(name, move |count| {
            (0..count).for_each(|_| work(black_box(&body)));
            std::future::ready(())
        })
    };
    let title = format!("An event of {bytes} bytes");
    let report = Comparison::with(title, contender("serde_json::Value", as_values))
        .against(contender("envelope and raw payload", as_envelope).bar(BAR))
        .against(contender("the inbox's own check", checked))
        .run(effort)
        .await;
    println!("{report}");
    report.passes()
}

fn as_values(body: &[u8]) {
    let value: Value = serde_json::from_slice(body).expect("the event is JSON");
    black_box(value);
}

fn as_envelope(body: &[u8]) {
    let envelope: Envelope<'_> = serde_json::from_slice(body).expect("the event has an envelope");
    black_box((envelope.id.len(), envelope.kind.len(), envelope.data.get().len()));
}

/// One pass for grammar, depth, size and names that come twice; includes a copy of the bytes.
fn checked(body: &[u8]) {
    let json = RawJson::parse(body.to_vec().into(), &JsonLimits::default());
    black_box(json.expect("the event is within the limits"));
}

/// Of 20 kB, as a shop sends it: an order with its lines.
fn event() -> Vec<u8> {
    let line = |number: u32| {
        json!({
            "id": format!("li_{number:024}"), "object": "line_item", "amount": 1_999 + number,
            "currency": "eur", "description": "Three pairs of socks, \u{201c}warm\u{201d}",
            "quantity": 3, "discountable": true, "discounts": [], "proration": false,
            "period": { "start": 1_700_000_000, "end": 1_702_592_000 },
            "metadata": { "order": format!("{number}"), "shelf": "B-17" }, "tax": null,
        })
    };
    let lines: Vec<Value> = (0..62).map(line).collect();
    let event = json!({
        "id": "evt_1", "type": "invoice.paid", "api_version": "2025-01-01", "created": 1_700_000_000,
        "data": { "object": { "id": "in_1", "lines": { "data": lines, "total_count": 62 } } },
    });
    serde_json::to_vec(&event).expect("a value is JSON")
}
