//! The control route: the fault switch, and what has arrived.

use serde_json::{Value, json};

use super::connection::{Answer, Request};
use super::switch::{Service, Switchboard};

pub(super) fn answer(request: &Request, board: &Switchboard) -> Answer {
    match request.method.as_str() {
        "GET" => Answer::json(200, &report(board)),
        "PUT" => switch(request, board),
        _ => Answer::problem(405, "Method Not Allowed").with_header("allow", "GET, PUT"),
    }
}

fn switch(request: &Request, board: &Switchboard) -> Answer {
    match serde_json::from_slice(&request.body) {
        Ok(order) => {
            board.apply(order);
            Answer::json(200, &report(board))
        }
        Err(_) => Answer::problem(422, "Unprocessable Content"),
    }
}

fn report(board: &Switchboard) -> Value {
    let (rates, mail) = (board.line(Service::Rates), board.line(Service::Mail));
    let (accepted, messages) = board.providers.snapshot();
    json!({
        "rates": { "mode": rates.mode(), "calls": rates.calls() },
        "mail": {
            "mode": mail.mode(),
            "calls": mail.calls(),
            "accepted": accepted,
            "messages": messages,
        },
    })
}
