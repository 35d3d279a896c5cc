//! The catalogue of codes: every kind of failure a client or an operator can meet.
//!
//! Codes are public API. The list is append-only: a code never disappears, and never gets another
//! status or meaning. `codes.txt` beside this file records what has been released, and a test
//! compares the two.

use actix_web::http::StatusCode;
use steadfast_actors::kernel::Code;

/// What one code means, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The code, as it stands in the problem document.
    pub code: Code,
    /// The HTTP status it is answered with.
    pub status: u16,
    /// A short summary that is the same for every occurrence.
    pub title: &'static str,
    /// What happened.
    pub meaning: &'static str,
    /// What whoever reads it should do.
    pub reaction: &'static str,
    /// Whether sending the same request again is safe: `Some(true)` when nothing of it ran.
    pub retryable: Option<bool>,
}

/// Everything this project can answer, by concern.
#[must_use]
pub const fn catalogue() -> &'static [Entry] {
    CATALOGUE
}

/// The entry of a code; `None` for a code that an application made up for itself.
#[must_use]
pub fn find(code: Code) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.code == code)
}

/// The code that stands for a bare status, for an error nobody said more about.
#[must_use]
pub(crate) fn for_status(status: StatusCode) -> &'static Entry {
    let of_status = |entry: &&Entry| {
        entry.status == status.as_u16()
            && entry.code.as_str().starts_with("http.")
            && !matches!(entry.code.as_str(), "http.client_error" | "http.server_error")
    };
    let generic = if status.is_client_error() { &CLIENT_ERROR } else { &SERVER_ERROR };
    CATALOGUE.iter().find(of_status).unwrap_or(generic)
}

const fn entry(
    code: &'static str,
    status: u16,
    title: &'static str,
    meaning: &'static str,
    reaction: &'static str,
) -> Entry {
    Entry { code: Code::new(code), status, title, meaning, reaction, retryable: None }
}

/// The same, for what certainly did not run.
const fn not_run(entry: Entry) -> Entry {
    Entry { retryable: Some(true), ..entry }
}

/// The same, for what ran, perhaps partly.
const fn ran(entry: Entry) -> Entry {
    Entry { retryable: Some(false), ..entry }
}

const fn status(
    code: &'static str,
    status: u16,
    title: &'static str,
    meaning: &'static str,
) -> Entry {
    entry(code, status, title, meaning, "See the status.")
}

const fn at_start(code: &'static str, title: &'static str, meaning: &'static str) -> Entry {
    entry(code, 500, title, meaning, "Correct the program or its settings.")
}

const CLIENT_ERROR: Entry = status(
    "http.client_error",
    400,
    "The request cannot be served",
    "A 4xx status without a code of its own.",
);
const SERVER_ERROR: Entry = status(
    "http.server_error",
    500,
    "The server failed",
    "A 5xx status without a code of its own.",
);

// One line per code, however long: it is a table.
#[rustfmt::skip]
const CATALOGUE: &[Entry] = &[
    // Actors.
    not_run(entry("actor.overloaded", 503, "Too busy", "An actor's mailbox is full.", "Try again after the wait.")),
    not_run(entry("actor.expired", 503, "Not served in time", "The deadline passed while the message waited its turn.", "Try again with more time.")),
    not_run(entry("actor.stopped", 503, "Shutting down", "An actor has stopped, or takes no new work.", "Try again; another instance may answer.")),
    not_run(entry("actor.quarantined", 503, "Temporarily unavailable", "An actor failed too often and rests.", "Try again after the wait.")),
    ran(entry("actor.panicked", 500, "Internal failure", "An actor panicked over this message and was rebuilt.", "Try again only what is idempotent; report it.")),
    ran(entry("actor.cancelled", 500, "Cut short", "An actor began on the message and was cut short.", "Try again only what is idempotent.")),
    // Requests.
    entry("request.deadline_exceeded", 504, "Deadline exceeded", "The answer was not ready before the request's deadline.", "Try again with more time, if it is idempotent."),
    entry("request.client_gone", 499, "Client closed request", "The client left before the answer was ready.", "Nobody reads it."),
    entry("request.shutdown", 503, "Shutting down", "The server gave the request up because it shuts down.", "Try again; another instance may answer."),
    // Admission.
    not_run(entry("admission.overloaded", 503, "Too busy", "The service has more requests than it can serve, and this one was not among the first.", "Try again after the wait.")),
    not_run(entry("admission.expired", 503, "Not served in time", "The deadline passed, or would have, while the request waited its turn.", "Try again after the wait, with more time.")),
    not_run(entry("admission.rate_limited", 429, "Too many requests", "The client has sent more requests than one client may.", "Try again after the wait, and more slowly.")),
    // Breakers.
    not_run(entry("breaker.open", 503, "A dependency is unavailable", "A dependency failed too often and is left alone.", "Try again after the wait.")),
    not_run(entry("breaker.trials_taken", 503, "A dependency is unavailable", "A dependency is being tried, and every trial is taken.", "Try again after the wait.")),
    not_run(entry("breaker.forced_open", 503, "A dependency is out of service", "An operator took a dependency out of service.", "Try again after the wait.")),
    // Cached reads.
    entry("cache_fill.absent", 404, "Not found", "There is nothing under this key.", "Ask for something else."),
    entry("cache_fill.loader_failed", 503, "The value could not be loaded", "A value was not cached and its loader failed.", "Try again after the wait."),
    entry("cache_fill.loader_panicked", 500, "Internal failure", "A value was not cached and its loader panicked.", "Report it."),
    entry("cache_fill.fill_timeout", 503, "The value could not be loaded in time", "The load took too long and was given up.", "Try again after the wait."),
    entry("cache_fill.wait_timeout", 504, "The value could not be loaded in time", "The value did not come within this caller's wait; the load goes on.", "Try again soon."),
    not_run(entry("cache_fill.cooldown", 503, "The value could not be loaded", "The last load failed and the next may not begin yet.", "Try again after the wait.")),
    not_run(entry("cache_fill.overloaded", 503, "Too busy", "Too many loads are under way.", "Try again after the wait.")),
    entry("cache_fill.recursion", 500, "Internal failure", "A loader waits for its own result.", "Change the loader; report it."),
    entry("cache_fill.aborted", 503, "The load was dropped", "A load was dropped before it ended.", "Try again."),
    not_run(entry("cache_fill.closed", 503, "Shutting down", "The cache has been stopped.", "Try again; another instance may answer.")),
    // The store.
    not_run(entry("store.unavailable", 503, "The database is unavailable", "The database cannot be reached; nothing was written.", "Try again after the wait.")),
    not_run(entry("store.timeout", 503, "The database is too slow", "The database did not answer in time; nothing was written.", "Try again after the wait.")),
    ran(entry("store.outcome_unknown", 503, "The outcome is unknown", "The connection to the database broke during a commit, which may have been made.", "Look before you try again, or try again only what is idempotent.")),
    not_run(entry("store.full", 503, "No room left", "The database has no room left; nothing was written.", "Try again after the wait; make room.")),
    not_run(entry("store.read_only", 503, "The database is read-only", "The database cannot be written to.", "Try again later; mend its permissions.")),
    not_run(entry("store.closed", 503, "Shutting down", "The store has been closed.", "Try again; another instance may answer.")),
    not_run(entry("store.constraint", 409, "Conflict with what is stored", "A constraint of the database refused the row.", "Correct what is written.")),
    entry("store.corrupt", 500, "Internal failure", "The database is damaged.", "Report it; restore it from a backup."),
    entry("store.panicked", 500, "Internal failure", "A transaction panicked and was rolled back.", "Report it."),
    entry("store.failed", 500, "Internal failure", "The database refused a statement.", "Report it."),
    // Schema-backed enums.
    not_run(entry("schema_enum.rejected", 422, "Not one of the allowed values", "The database does not allow this value in its column; nothing was written.", "Send one of the allowed values.")),
    not_run(entry("schema_enum.unknown_value", 422, "Not one of the allowed values", "A value is none of those that are allowed.", "Send one of the allowed values.")),
    not_run(entry("schema_enum.not_writable", 422, "Not one of the allowed values", "A value that this service does not know cannot be written.", "Send one of the allowed values.")),
    entry("schema_enum.invalid_name", 500, "Internal failure", "An enum is bound to a table or a column whose name cannot be one.", "Report it; correct the program."),
    not_run(entry("schema_enum.refused", 409, "Change refused", "A change of the allowed values cannot be made as things are; nothing was written.", "See the log for what is in the way.")),
    entry("schema_enum.lock_busy", 503, "Table busy", "The table's lock was not free in time.", "Try again after the wait."),
    entry("schema_enum.rows_do_not_fit", 409, "Rows do not fit", "Rows that are stored already have values that are not allowed.", "Correct them and try again."),
    entry("schema_enum.still_written", 409, "Still written", "Old code still writes a label that is being replaced.", "End it and try again."),
    // Jobs.
    not_run(entry("jobs.rejected", 503, "Too much work", "There is too much work for a job of this class; nothing was stored.", "Try again after the wait.")),
    not_run(entry("jobs.queue_full", 503, "Too much work", "The queue is at its limit; nothing was stored.", "Try again after the wait.")),
    not_run(entry("jobs.payload_too_large", 413, "Job too large", "The arguments of a job are larger than its queue takes.", "Make them smaller, or store them elsewhere.")),
    entry("jobs.unencodable", 500, "Internal failure", "The arguments of a job cannot be written as JSON.", "Report it; correct their type."),
    entry("jobs.invalid_setting", 500, "Invalid setting", "A name or a setting of a job is out of its range.", "Report it; correct the program."),
    entry("jobs.fenced", 409, "Superseded", "This run of the job is over; another one has begun.", "Undo what it did."),
    entry("jobs.foreign_transaction", 500, "Internal failure", "A transaction belongs to another kind of database than the queue.", "Report it; correct the program."),
    // Counters.
    entry("counters.unknown", 404, "Not found", "No counter has this name.", "Correct the name, or declare the counter."),
    entry("counters.unknown_run", 404, "Not found", "There is no run of this job, or it was forgotten.", "Correct the number of the job."),
    entry("counters.invalid_spec", 500, "Counter does not fit", "The declaration of a counter does not fit the tables; nothing was written.", "Do what the log says: correct the declaration, or make the index."),
    not_run(entry("counters.busy", 503, "Busy", "Somebody else is repairing this counter.", "Try again after the wait.")),
    entry("counters.superseded", 409, "Superseded", "Another run of the same job has taken over.", "Look at its report."),
    // Webhooks.
    entry("inbox.unknown_source", 404, "Not found", "No source of webhooks has this name.", "Correct the address, or the settings of the service."),
    entry("inbox.unverified", 401, "Not verified", "The delivery is not proved to be from its source; nothing was stored.", "Sign it with a key that is active; why it was refused is in the counters."),
    entry("inbox.too_large", 413, "Body too large", "The delivery is larger than its source may send; nothing was stored.", "Send less, or raise the limit of the source."),
    not_run(entry("inbox.certificate_unavailable", 503, "Cannot verify now", "The certificate of the sender cannot be fetched now; nothing was stored.", "Try again after the wait.")),
    entry("inbox.superseded", 409, "Superseded", "This run of the event is over; another one has the say.", "Undo what it did."),
    entry("inbox.foreign_transaction", 500, "Internal failure", "A transaction belongs to another kind of database than the inbox.", "Report it; correct the program."),
    // Mail.
    not_run(entry("mailer.key_conflict", 409, "Conflict with another mail", "The idempotency key belongs to a mail with other content; nothing was stored.", "Take another key, or send the same mail.")),
    not_run(entry("mailer.suppressed", 422, "Recipient suppressed", "A recipient wants no mail, or cannot get any; nothing was stored.", "Send to others.")),
    entry("mailer.fenced", 409, "Superseded", "This run of the mail is over; another one has begun.", "Stop."),
    not_run(entry("mailer.not_started", 503, "Starting", "The mailer has not been started yet; nothing was stored.", "Try again after the wait.")),
    not_run(entry("mailer.not_sent", 503, "Not sent", "Nothing was sent to the mail provider.", "Try again after the wait.")),
    ran(entry("mailer.outcome_unknown", 503, "The outcome is unknown", "The mail provider may have accepted the mail.", "Look before you try again.")),
    not_run(entry("mailer.invalid_setting", 422, "Invalid setting", "A key, a kind, a tenant or a setting of the mailer is out of its range.", "Correct it.")),
    entry("mailer.unsupported", 422, "Mail not supported", "A provider cannot send a mail like this.", "Send it in another form."),
    entry("mailer.request_too_large", 413, "Mail too large", "The mail is larger than its provider takes.", "Send less."),
    not_run(entry("mailer.address_domain", 422, "Invalid mail", "The domain of an address is none.", "Correct it.")),
    not_run(entry("mailer.address_local", 422, "Invalid mail", "The part of an address before its `@` is none.", "Correct it.")),
    not_run(entry("mailer.address_non_ascii_local", 422, "Invalid mail", "The part of an address before its `@` has letters that no provider takes.", "Correct it.")),
    not_run(entry("mailer.address_syntax", 422, "Invalid mail", "A text is no address.", "Correct it.")),
    not_run(entry("mailer.address_too_long", 422, "Invalid mail", "An address is longer than mail can be sent to.", "Correct it.")),
    not_run(entry("mailer.attachment_content_id", 422, "Invalid mail", "The content id of an attachment is none.", "Correct it.")),
    not_run(entry("mailer.attachment_content_type", 422, "Invalid mail", "The content type of an attachment is none.", "Correct it.")),
    not_run(entry("mailer.attachment_empty", 422, "Invalid mail", "An attachment has no content.", "Correct it.")),
    not_run(entry("mailer.attachment_name", 422, "Invalid mail", "The name of an attachment is none.", "Correct it.")),
    not_run(entry("mailer.attachment_too_large", 422, "Invalid mail", "An attachment is larger than the limit.", "Correct it.")),
    not_run(entry("mailer.duplicate_content_id", 422, "Invalid mail", "Two attachments have the same content id.", "Correct it.")),
    not_run(entry("mailer.duplicate_header", 422, "Invalid mail", "A header occurs twice.", "Correct it.")),
    not_run(entry("mailer.duplicate_recipient", 422, "Invalid mail", "A recipient occurs twice.", "Correct it.")),
    not_run(entry("mailer.header_control_character", 422, "Invalid mail", "A header has a line break or another control character.", "Correct it.")),
    not_run(entry("mailer.header_empty", 422, "Invalid mail", "A header is empty.", "Correct it.")),
    not_run(entry("mailer.header_invalid_name", 422, "Invalid mail", "The name of a header is none.", "Correct it.")),
    not_run(entry("mailer.header_reserved", 422, "Invalid mail", "A header is one that the mailer writes itself.", "Correct it.")),
    not_run(entry("mailer.header_too_long", 422, "Invalid mail", "A header is longer than the limit.", "Correct it.")),
    not_run(entry("mailer.metadata_key", 422, "Invalid mail", "The name of a piece of metadata is none.", "Correct it.")),
    not_run(entry("mailer.metadata_value", 422, "Invalid mail", "A piece of metadata is out of its range.", "Correct it.")),
    not_run(entry("mailer.no_body", 422, "Invalid mail", "A mail has neither text nor HTML.", "Correct it.")),
    not_run(entry("mailer.no_recipient", 422, "Invalid mail", "A mail has no recipient.", "Correct it.")),
    not_run(entry("mailer.no_subject", 422, "Invalid mail", "A mail has no subject.", "Correct it.")),
    not_run(entry("mailer.nul_in_body", 422, "Invalid mail", "The body of a mail has a zero character.", "Correct it.")),
    not_run(entry("mailer.tag", 422, "Invalid mail", "The tag of a mail is none.", "Correct it.")),
    not_run(entry("mailer.too_many_recipients", 422, "Invalid mail", "A mail has more recipients than the limit.", "Correct it.")),
    not_run(entry("mailer.too_much", 422, "Invalid mail", "A mail has more of something than the limit.", "Correct it.")),
    entry("mailer.template_failed", 500, "Internal failure", "A template failed while it was rendered.", "Report it; correct the template or what it is given."),
    entry("mailer.template_name", 500, "Internal failure", "The name of a template is none.", "Report it; correct the template or what it is given."),
    entry("mailer.template_no_body", 500, "Internal failure", "A template has neither text nor HTML.", "Report it; correct the template or what it is given."),
    entry("mailer.template_subject", 500, "Internal failure", "The subject that a template made is none.", "Report it; correct the template or what it is given."),
    entry("mailer.template_syntax", 500, "Internal failure", "A template cannot be read.", "Report it; correct the template or what it is given."),
    entry("mailer.template_too_large", 500, "Internal failure", "A template made more than the limit.", "Report it; correct the template or what it is given."),
    entry("mailer.template_too_much_work", 500, "Internal failure", "A template did more work than the limit.", "Report it; correct the template or what it is given."),
    entry("mailer.template_undefined", 500, "Internal failure", "A template uses a value that it was not given.", "Report it; correct the template or what it is given."),
    entry("mailer.template_unknown", 500, "Internal failure", "There is no template of this name.", "Report it; correct the template or what it is given."),
    entry("mailer.event_malformed", 422, "Event not readable", "An event of a mail provider is not of the form that it documents; nothing was recorded.", "Look at it, correct its source, and replay it."),
    entry("mailer.event_too_many_recipients", 422, "Event not readable", "An event of a mail provider names more recipients than a mail can have; nothing was recorded.", "Look at it, and correct its source."),
    // What a client sends.
    entry("json.syntax", 400, "Malformed JSON", "The body is not JSON; `line` and `column` say where.", "Correct the body."),
    entry("json.invalid", 422, "Invalid JSON", "The body is JSON, but not what this route takes; `errors` points at it.", "Correct the members that `errors` names."),
    entry("json.too_deep", 422, "JSON too deep", "The body is nested more deeply than the route takes.", "Send it flatter."),
    entry("json.too_many_tokens", 422, "JSON too long", "The body has more values and names than the route takes.", "Send less."),
    entry("json.duplicate_name", 422, "Duplicate name", "A name occurs twice in the outermost object of the body.", "Send each name once."),
    entry("form.invalid", 422, "Invalid form", "The form is not what this route takes.", "Correct the form."),
    entry("query.invalid", 400, "Invalid query", "The query string is not what this route takes.", "Correct the query."),
    entry("path.invalid", 404, "Not found", "A part of the path is not what this route takes.", "Correct the path."),
    entry("body.unsupported_type", 415, "Unsupported content type", "The route does not take bodies of this `Content-Type`.", "Send the type the route takes."),
    entry("body.unsupported_encoding", 415, "Unsupported content encoding", "The route does not take bodies of this `Content-Encoding`.", "Send the body as it is."),
    entry("body.too_large", 413, "Body too large", "The body is larger than the route takes.", "Send less."),
    entry("body.length_required", 411, "Length required", "The body has no usable `Content-Length`.", "Send the length."),
    entry("body.encoding", 400, "Unreadable body", "The body is not in the encoding it claims.", "Correct the encoding."),
    entry("body.incomplete", 400, "Incomplete body", "The body ended before its end.", "Send all of it."),
    entry("body.timeout", 408, "Body too slow", "The body did not come in time.", "Send it faster."),
    entry("body.unreadable", 400, "Unreadable body", "The body could not be read.", "Try again."),
    // Routes.
    entry("route.not_found", 404, "Not found", "No route has this path.", "Correct the path."),
    entry("route.method_not_allowed", 405, "Method not allowed", "The path has routes, none of them for this method; `Allow` lists those there are.", "Use a method that `Allow` lists."),
    not_run(entry("route.resting", 503, "Temporarily unavailable", "The route panicked too often and rests; others are served.", "Try again after the wait.")),
    // The server itself.
    ran(entry("internal.panic", 500, "Internal failure", "The code that served the request panicked.", "Try again only what is idempotent; report it with the request id.")),
    entry("internal.error", 500, "Internal failure", "The server failed in a way it has no code for.", "Report it with the request id."),
    // A bare status.
    status("http.bad_request", 400, "Bad request", "The request is wrong."),
    status("http.unauthorized", 401, "Unauthorized", "The request has no valid credentials."),
    status("http.payment_required", 402, "Payment required", "Payment is required."),
    status("http.forbidden", 403, "Forbidden", "The credentials do not allow it."),
    status("http.not_found", 404, "Not found", "The route knows no such thing."),
    status("http.method_not_allowed", 405, "Method not allowed", "The method is not allowed here."),
    status("http.not_acceptable", 406, "Not acceptable", "There is no form of it that `Accept` takes."),
    status("http.request_timeout", 408, "Request timeout", "The request did not come in time."),
    status("http.conflict", 409, "Conflict", "It conflicts with the present state."),
    status("http.gone", 410, "Gone", "It was there once."),
    status("http.length_required", 411, "Length required", "`Content-Length` is missing."),
    status("http.precondition_failed", 412, "Precondition failed", "A precondition of the request is false."),
    status("http.content_too_large", 413, "Content too large", "The body is too large."),
    status("http.uri_too_long", 414, "URI too long", "The target of the request is too long."),
    status("http.unsupported_media_type", 415, "Unsupported media type", "The body's type is not supported."),
    status("http.range_not_satisfiable", 416, "Range not satisfiable", "The range is outside of the content."),
    status("http.expectation_failed", 417, "Expectation failed", "`Expect` cannot be met."),
    status("http.misdirected_request", 421, "Misdirected request", "This server does not answer for that authority."),
    status("http.unprocessable_content", 422, "Unprocessable content", "The content is well formed but wrong."),
    status("http.locked", 423, "Locked", "It is locked."),
    status("http.precondition_required", 428, "Precondition required", "The request must be conditional."),
    status("http.too_many_requests", 429, "Too many requests", "The client sends too many requests."),
    status("http.header_fields_too_large", 431, "Header fields too large", "The header is too large."),
    status("http.unavailable_for_legal_reasons", 451, "Unavailable for legal reasons", "It is withheld for legal reasons."),
    status("http.internal_server_error", 500, "Internal failure", "The server failed."),
    status("http.not_implemented", 501, "Not implemented", "The server does not do this."),
    status("http.bad_gateway", 502, "Bad gateway", "A dependency gave a bad answer."),
    status("http.service_unavailable", 503, "Service unavailable", "The server cannot serve it now."),
    status("http.gateway_timeout", 504, "Gateway timeout", "A dependency did not answer in time."),
    CLIENT_ERROR,
    SERVER_ERROR,
    // Found at start; no client sees them.
    at_start("cache_fill.invalid_setting", "Invalid setting", "A setting of a cache is out of its range."),
    at_start("config.invalid", "Invalid setting", "A setting cannot be read or is out of its range."),
    at_start("config.unknown_key", "Unknown setting", "There is no setting of this name."),
    at_start("config.unreadable", "Unreadable settings", "A settings file cannot be read."),
    at_start("edge.invalid_limit", "Invalid limit", "A limit of the server is out of its range, or contradicts another."),
    at_start("health.out_of_range", "Invalid setting", "A setting of a check is out of its range."),
    at_start("health.name_taken", "Name taken", "Two checks have the same name."),
    at_start("health.invalid_name", "Invalid name", "The name of a check is not usable."),
    at_start("health.too_many", "Too many checks", "There are more checks than the limit."),
    at_start("runtime.settings_too_late", "Settings too late", "Settings were given after they had been used."),
    at_start("telemetry.invalid_filter", "Invalid log filter", "The log filter cannot be read."),
    at_start("telemetry.already_installed", "Log subscriber installed", "There is a log subscriber already."),
    at_start("telemetry.no_thread", "No thread for the log", "The thread that writes the log could not be started."),
    at_start("store.credentials", "Database refused", "The database refused the user, or there is no such database."),
    at_start("store.untrusted", "Database not trusted", "The certificate of the database is not to be trusted."),
    at_start("store.invalid_setting", "Invalid setting", "The address of the database or one of its options cannot be used."),
    at_start("store.newer_schema", "Newer tables", "The tables were made by a newer version of this library."),
    at_start("store.migration_changed", "Other tables", "The tables were made by other statements than this version has."),
    at_start("jobs.kind_taken", "Kind taken", "Two handlers are for the same kind of job."),
    at_start("jobs.guard_out_of_range", "Invalid setting", "A setting of a queue's guard is out of its range."),
    at_start("jobs.invalid_backoff", "Invalid setting", "A setting of a back-off is out of its range."),
    at_start("jobs.invalid_cron", "Invalid cron expression", "The schedule of a periodic job cannot be read, or never comes."),
    at_start("jobs.unknown_time_zone", "Unknown time zone", "The time zone of a periodic job is not known."),
    at_start("inbox.invalid_setting", "Invalid setting", "A source, a key or a setting of an inbox is of the wrong form."),
    at_start("inbox.taken", "Declared twice", "Two sources, handlers or upcasters of an inbox are for the same."),
    at_start("counters.invalid_setting", "Invalid setting", "A setting of the counters is out of its range."),
    at_start("counters.taken", "Declared twice", "Two counters have the same name or the same column."),
    at_start("mailer.providers", "Invalid setting", "A mailer has no provider, or two of the same name."),
    at_start("mailer.http_client", "Invalid setting", "The HTTP client of a mail provider cannot be made."),
    at_start("runtime.threads", "No thread", "The actors' threads could not be started."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    const RELEASED: &str = include_str!("codes.txt");

    #[test]
    fn no_code_disappears_or_changes_its_status() {
        for line in RELEASED.lines() {
            let (code, status) = line.split_once(' ').unwrap();
            let entry = CATALOGUE.iter().find(|entry| entry.code.as_str() == code);
            let entry = entry.unwrap_or_else(|| panic!("{code} has been released"));
            assert_eq!(entry.status.to_string(), status, "{code} has been released with {status}");
        }
    }

    #[test]
    fn every_code_is_listed_once_and_recorded_as_released() {
        let mut seen = BTreeSet::new();
        for entry in CATALOGUE {
            let (code, status) = (entry.code.as_str(), entry.status);
            assert!(seen.insert(code), "{code} is listed twice");
            let line = format!("{code} {status}");
            assert!(RELEASED.lines().any(|known| known == line), "append to codes.txt: {line}");
            for text in [entry.title, entry.meaning, entry.reaction] {
                assert!(!text.is_empty(), "{code} does not say all");
            }
        }
    }

    #[test]
    fn every_code_in_the_source_is_in_the_catalogue() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let known: BTreeSet<&str> = CATALOGUE.iter().map(|entry| entry.code.as_str()).collect();
        let mut found = 0;
        for file in ["src", "actors/src"].iter().flat_map(|folder| rust_files(&root.join(folder))) {
            let source = fs::read_to_string(&file).unwrap();
            let product = source.split("#[cfg(test)]").next().unwrap();
            let code_only = |line: &&str| !line.trim_start().starts_with("//");
            let product: String = product.lines().filter(code_only).collect();
            for piece in product.split("Code::new(\"").skip(1) {
                let code = piece.split('"').next().unwrap();
                assert!(known.contains(code), "{} uses {code}", file.display());
                found += 1;
            }
        }
        assert!(found > 20, "only {found} codes found: is the search broken?");
    }

    fn rust_files(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(rust_files(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
        files
    }

    #[test]
    fn every_error_status_has_a_code() {
        for status in (400..600).map(|number| StatusCode::from_u16(number).unwrap()) {
            let entry = for_status(status);
            let generic = entry.code == CLIENT_ERROR.code || entry.code == SERVER_ERROR.code;
            assert!(
                generic || entry.status == status.as_u16(),
                "{status} is answered as {entry:?}"
            );
            assert_eq!(entry.status < 500, status.is_client_error(), "{status}");
        }
    }
}
