//! The probes `/livez`, `/readyz` and `/startupz`.
//!
//! A probe reads what the background checks published and does nothing else. It answers 200, or
//! 503 with `Retry-After`; always with `Cache-Control: no-store`.
//!
//! The body is `ok`, or one line per check when `?verbose` is given or the probe fails:
//!
//! ```text
//! [+]db ok
//! [-]mail failed: reason withheld
//! readyz check failed
//! ```
//!
//! `?exclude=NAME` (any number of times) leaves checks out, `?group=NAME` asks another group of
//! checks than readiness, and `Accept: application/health+json` (or `application/json`) gets a
//! document instead of lines. Reasons may name hosts and files, so they are shown only where the
//! probes are mounted [`with_reasons`](Probes::with_reasons).

use std::collections::HashSet;
use std::fmt::Write;

use super::admission::Admit;
use actix_web::dev::ServiceRequest;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use steadfast_actors::health::{Health, Heartbeats, Item, Report, Status};

/// Probes are asked every few seconds; a client that wants a ready server may ask as often.
const RETRY_AFTER_SECONDS: &str = "5";
const HEALTH_JSON: &str = "application/health+json";

/// The probe routes of one runtime. Mount them on as many apps as you like.
#[derive(Debug, Clone)]
pub struct Probes {
    health: Health,
    heartbeats: Heartbeats,
    reasons: bool,
}

impl Probes {
    /// Probes for the public: they name the checks but withhold why one fails.
    #[must_use]
    pub const fn new(health: Health, heartbeats: Heartbeats) -> Self {
        Self { health, heartbeats, reasons: false }
    }

    /// Also says why a check fails. Only for a listener that the public cannot reach.
    #[must_use]
    pub const fn with_reasons(mut self) -> Self {
        self.reasons = true;
        self
    }

    /// Mounts `/livez`, `/readyz` and `/startupz` for GET and HEAD.
    pub fn configure(&self, app: &mut web::ServiceConfig) {
        let probe = |path: &str, answer: fn(&Self, &Wish) -> Option<Report>| {
            let name = path.trim_start_matches('/').to_owned();
            let probes = self.clone();
            let handler = move |request: HttpRequest| {
                let response = probes.answer(&name, &request, answer);
                async move { response }
            };
            // A probe that is shed would have a busy process killed.
            web::resource(path)
                .route(web::get().to(handler.clone()))
                .route(web::head().to(handler))
                .wrap(Admit::always())
        };
        app.app_data(Mounted)
            .service(probe("/livez", |probes, _| Some(probes.liveness())))
            .service(probe("/readyz", |probes, wish| match &wish.group {
                None => Some(probes.health.readiness()),
                Some(group) => probes.health.group(group),
            }))
            .service(probe("/startupz", |probes, _| Some(probes.health.startup())));
    }

    /// The process itself: its event loops and its supervision, never a dependency.
    fn liveness(&self) -> Report {
        let mut items = self.heartbeats.liveness().items;
        items.push(self.health.supervision());
        Report::new(items)
    }

    fn answer(
        &self,
        probe: &str,
        request: &HttpRequest,
        report: fn(&Self, &Wish) -> Option<Report>,
    ) -> HttpResponse {
        let mut wish = Wish::of(request);
        let Some(report) = report(self, &wish) else {
            return HttpResponse::NotFound().insert_header(NO_STORE).finish();
        };
        let excluded = std::mem::take(&mut wish.excluded);
        let report = report.excluding(|name| excluded.contains(name));
        self.render(probe, &wish, &report)
    }

    fn render(&self, probe: &str, wish: &Wish, report: &Report) -> HttpResponse {
        let mut response = if report.is_ready() {
            HttpResponse::Ok()
        } else {
            let mut response = HttpResponse::build(StatusCode::SERVICE_UNAVAILABLE);
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER_SECONDS));
            response
        };
        response.insert_header(NO_STORE).insert_header((header::VARY, "accept"));
        if wish.json {
            response.content_type(HEALTH_JSON).body(document(report, self.reasons).to_string())
        } else if report.is_ready() && !wish.verbose {
            response.content_type(TEXT).body("ok")
        } else {
            response.content_type(TEXT).body(lines(probe, report, self.reasons))
        }
    }
}

/// Data of an app that has the probes.
#[derive(Debug)]
struct Mounted;

/// Whether a request that is not routed yet is for a probe of its app, not of a scope.
pub(super) fn is_probe(request: &ServiceRequest) -> bool {
    matches!(request.path(), "/livez" | "/readyz" | "/startupz")
        && request.app_data::<Mounted>().is_some()
}

const NO_STORE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-store");
const TEXT: &str = "text/plain; charset=utf-8";

/// What the client asked to see.
#[derive(Debug, Default)]
struct Wish {
    verbose: bool,
    json: bool,
    group: Option<String>,
    excluded: HashSet<String>,
}

impl Wish {
    fn of(request: &HttpRequest) -> Self {
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let accept = accept.unwrap_or_default();
        let json = accept.contains(HEALTH_JSON) || accept.contains("application/json");
        let mut wish = Self { json, ..Self::default() };
        // A query that cannot be read asks for nothing: a probe must not fail over its decoration.
        let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        for (key, value) in query.map(web::Query::into_inner).unwrap_or_default() {
            match key.as_str() {
                "verbose" => wish.verbose = !matches!(value.as_str(), "0" | "false"),
                "exclude" => drop(wish.excluded.insert(value)),
                "group" => wish.group = Some(value),
                _ => {}
            }
        }
        wish
    }
}

fn lines(probe: &str, report: &Report, reasons: bool) -> String {
    let mut page = String::new();
    for item in &report.items {
        line(&mut page, item, reasons);
    }
    let verdict = if report.is_ready() { "passed" } else { "failed" };
    page.push_str(probe);
    page.push_str(" check ");
    page.push_str(verdict);
    page.push('\n');
    page
}

fn line(page: &mut String, item: &Item, reasons: bool) {
    let reason = item.reason.as_deref().filter(|_| reasons);
    let name = &item.name;
    let optional = if item.critical { "" } else { ", not critical" };
    // Writing to a String cannot fail.
    let _infallible = match (item.status, reason) {
        (Status::Up, None) => writeln!(page, "[+]{name} ok"),
        (Status::Up, Some(reason)) => writeln!(page, "[+]{name} ok: {reason}"),
        (Status::Degraded, reason) => {
            writeln!(page, "[+]{name} degraded: {}", reason.unwrap_or(WITHHELD))
        }
        (_, reason) => {
            writeln!(page, "[-]{name} failed{optional}: {}", reason.unwrap_or(WITHHELD))
        }
    };
}

const WITHHELD: &str = "reason withheld";

fn document(report: &Report, reasons: bool) -> Value {
    let mut checks = Map::new();
    for item in &report.items {
        let mut check = Map::new();
        check.insert("status".into(), word(item.status).into());
        check.insert("critical".into(), item.critical.into());
        if reasons {
            check.insert("state".into(), item.status.as_str().into());
            if let Some(reason) = &item.reason {
                check.insert("output".into(), (&**reason).into());
            }
            if let Some(age) = item.age {
                check.insert("age_ms".into(), u64::try_from(age.as_millis()).ok().into());
            }
        }
        checks.insert(item.name.to_string(), json!([check]));
    }
    json!({ "status": word(report.status), "checks": checks })
}

/// The draft's word for a status: there are three.
fn word(status: Status) -> &'static str {
    if status == Status::Up {
        "pass"
    } else if status.is_ready() {
        "warn"
    } else {
        "fail"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Item::new("db", Status::Up),
            Item::new("rates", Status::Degraded).because("breaker open"),
            Item::new("mail", Status::Down).critical(false).because("refused by 10.0.0.7"),
        ])
    }

    #[track_caller]
    fn check_lines(report: &Report, reasons: bool, expected: &str) {
        assert_eq!(lines("readyz", report, reasons), expected);
    }

    #[test]
    fn lines_withhold_reasons_from_the_public() {
        check_lines(
            &report(),
            false,
            "[+]db ok\n[+]rates degraded: reason withheld\n\
             [-]mail failed, not critical: reason withheld\nreadyz check passed\n",
        );
    }

    #[test]
    fn lines_give_reasons_to_operators() {
        let mut items = report().items;
        items.push(Item::new("disk", Status::Unknown).because("not checked yet"));
        check_lines(
            &Report::new(items),
            true,
            "[+]db ok\n[+]rates degraded: breaker open\n\
             [-]mail failed, not critical: refused by 10.0.0.7\n\
             [-]disk failed: not checked yet\nreadyz check failed\n",
        );
    }

    #[test]
    fn the_document_names_each_check_and_keeps_reasons_for_operators() {
        let public = document(&report(), false);
        assert_eq!(public["status"], "warn");
        assert_eq!(public["checks"]["mail"][0], json!({ "status": "fail", "critical": false }));
        assert!(!public.to_string().contains("10.0.0.7"));
        let private = document(&report(), true);
        assert_eq!(private["checks"]["mail"][0]["output"], "refused by 10.0.0.7");
        assert_eq!(private["checks"]["mail"][0]["state"], "down");
    }
}
