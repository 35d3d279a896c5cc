//! Log lines: plain or JSON, each with the id of the request it was written for.
//!
//! The id is read from the current [`RequestContext`] while a line is written. So it is on every
//! line, in actors and libraries too, whether or not they know of spans.
//!
//! ```
//! use steadfast::telemetry::{Format, Telemetry};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! Telemetry::new().format(Format::Json).filter("info,my_service=debug").install()?;
//! tracing::info!(orders = 3, "orders.loaded");
//! # Ok(())
//! # }
//! ```
//!
//! One event is one line, whatever is in it: line breaks and control characters are escaped.
//!
//! Logging never waits for whoever reads the log: at most 4 MiB wait for a reader that is slow or
//! gone, and what comes on top is lost and counted (`telemetry.lines_lost`).

mod writer;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use steadfast_actors::kernel::{Code, Fault, RequestContext};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use writer::LineQueue;
pub use writer::flush;

const FILTER_DEFAULT: &str = "info";
const REQUEST_ID: &str = "request_id";
/// Its fields are on the line of `http.finished`; they need not be on each other line as well.
const REQUEST_SPAN: &str = "http.request";

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// For people: time, level, place, message, request id, fields.
    #[default]
    Plain,
    /// For machines: one JSON object per line.
    Json,
}

/// Sets up where log lines go and what they look like.
#[derive(Debug, Clone)]
#[must_use = "nothing is logged before `install`"]
pub struct Telemetry {
    format: Format,
    filter: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { format: Format::default(), filter: FILTER_DEFAULT.to_owned() }
    }
}

impl Telemetry {
    /// Plain lines from level `info` up.
    pub fn new() -> Self {
        Self::default()
    }

    /// How a line looks. Default [`Format::Plain`].
    pub const fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// What is logged, as in `info,my_service=debug`. Default `info`.
    pub fn filter(mut self, directives: impl Into<String>) -> Self {
        self.filter = directives.into();
        self
    }

    /// Writes the whole process's lines to standard error. The environment variable `RUST_LOG`,
    /// where it is set, replaces the filter.
    ///
    /// A thread of its own writes; [`flush`] waits for it.
    ///
    /// # Errors
    ///
    /// [`TelemetryError`]: the filter cannot be read, there is a subscriber already, or the
    /// thread could not be started.
    pub fn install(self) -> Result<(), TelemetryError> {
        let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
        let filter = from_environment.filter(|directives| !directives.is_empty());
        let telemetry = match filter {
            Some(directives) => self.filter(directives),
            None => self,
        };
        let queue = LineQueue::start(std::io::stderr()).map_err(TelemetryError::NoThread)?;
        let subscriber = telemetry.subscriber(queue.clone())?;
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|_already_set| TelemetryError::AlreadyInstalled)?;
        writer::remember(queue);
        Ok(())
    }

    /// The subscriber itself, with a writer of your own: to install it for a test, or to add
    /// layers to it.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::InvalidFilter`]: the filter cannot be read.
    pub fn subscriber<W>(
        self,
        writer: W,
    ) -> Result<impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync, TelemetryError>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let filter = EnvFilter::try_new(&self.filter).map_err(TelemetryError::InvalidFilter)?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
        Ok(builder.with_writer(writer).event_format(Lines(self.format)).finish())
    }
}

/// Why nothing is logged. Found at start: correct the program or its settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the log filter cannot be read")]
    InvalidFilter(#[source] tracing_subscriber::filter::ParseError),
    /// The process has a subscriber already. Keep one of the two.
    #[error("there is a log subscriber already")]
    AlreadyInstalled,
    /// The thread that writes could not be started. The system is out of resources.
    #[error("the log's thread cannot be started")]
    NoThread(#[source] std::io::Error),
}

impl Fault for TelemetryError {
    fn code(&self) -> Code {
        match self {
            Self::InvalidFilter(_) => Code::new("telemetry.invalid_filter"),
            Self::AlreadyInstalled => Code::new("telemetry.already_installed"),
            Self::NoThread(_) => Code::new("telemetry.no_thread"),
        }
    }
}

/// Formats an event as one line.
struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::of(event);
        for span in cx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if span.name() != REQUEST_SPAN {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<N>>();
                let fields = fields.map_or("", |fields| fields.fields.as_str());
                line.spans.push(format!("{}{{{fields}}}", span.name()));
            }
        }
        match self.0 {
            Format::Plain => line.write_plain(&mut writer),
            Format::Json => line.write_json(&mut writer),
        }
    }
}

/// What one event says.
struct Line {
    time: String,
    level: Level,
    target: String,
    message: String,
    request_id: Option<String>,
    trace_id: Option<String>,
    fields: Map<String, Value>,
    spans: Vec<String>,
}

impl Line {
    fn of(event: &Event<'_>) -> Self {
        let mut time = String::new();
        if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
            time.push('?');
        }
        let context = RequestContext::current();
        let mut line = Self {
            time,
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: String::new(),
            request_id: context.as_ref().map(|context| context.id().to_string()),
            trace_id: context.and_then(|context| context.trace()).map(|trace| trace.trace_id()),
            fields: Map::new(),
            spans: Vec::new(),
        };
        event.record(&mut line);
        line
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            // The line's own request stands first; the event's is a field only when it differs.
            (REQUEST_ID, Value::String(id))
                if self.request_id.as_ref().is_none_or(|own| *own == id) =>
            {
                self.request_id = Some(id);
            }
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }

    fn write_plain(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{} {:>5} {}: ", self.time, self.level, self.target)?;
        for span in &self.spans {
            write!(writer, "{}: ", OneLine(span))?;
        }
        write!(writer, "{}", OneLine(&self.message))?;
        if let Some(id) = &self.request_id {
            write!(writer, " {REQUEST_ID}={}", OneLine(id))?;
        }
        if let Some(id) = &self.trace_id {
            write!(writer, " trace_id={id}")?;
        }
        for (name, value) in &self.fields {
            match value.as_str() {
                Some(text) => write!(writer, " {name}={}", Quoted(text))?,
                None => write!(writer, " {name}={value}")?,
            }
        }
        writeln!(writer)
    }

    fn write_json(self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut object = Map::new();
        object.insert("timestamp".to_owned(), self.time.into());
        object.insert("level".to_owned(), self.level.as_str().into());
        object.insert("target".to_owned(), self.target.into());
        object.insert("message".to_owned(), self.message.into());
        if let Some(id) = self.request_id {
            object.insert(REQUEST_ID.to_owned(), id.into());
        }
        if let Some(id) = self.trace_id {
            object.insert("trace_id".to_owned(), id.into());
        }
        if !self.fields.is_empty() {
            object.insert("fields".to_owned(), self.fields.into());
        }
        if !self.spans.is_empty() {
            object.insert("spans".to_owned(), self.spans.into());
        }
        writeln!(writer, "{}", Value::Object(object))
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::String(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

/// Text that cannot break out of its line.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.chars().try_for_each(|character| match character {
            control if control.is_control() => write!(f, "{}", control.escape_default()),
            // Some readers take these for line breaks too.
            '\u{2028}' | '\u{2029}' => write!(f, "{}", character.escape_unicode()),
            other => f.write_char(other),
        })
    }
}

/// A field's value: quoted when it would not read as one word.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\');
        if !self.0.is_empty() && self.0.bytes().all(word) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use steadfast_actors::kernel::{RequestId, TraceParent};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `work` logs, without their times.
    fn lines(format: Format, filter: &str, work: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let writer = sink.clone();
        let telemetry = Telemetry::new().format(format).filter(filter);
        let subscriber = telemetry.subscriber(move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn context() -> RequestContext {
        RequestContext::new(RequestId::parse("id-7").unwrap())
    }

    #[test]
    fn every_line_inside_a_request_carries_its_id() {
        let lines = lines(Format::Plain, "info", || {
            tracing::info!("outside");
            context().sync_scope(|| {
                tracing::info!(count = 3, name = "a b", "inside");
                tracing::error!(request_id = "id-7", "said twice");
                tracing::error!(request_id = "id-8", "about another");
            });
        });
        let ends = [
            " INFO steadfast::telemetry::tests: outside",
            " INFO steadfast::telemetry::tests: inside request_id=id-7 count=3 name=\"a b\"",
            "ERROR steadfast::telemetry::tests: said twice request_id=id-7",
            "ERROR steadfast::telemetry::tests: about another request_id=id-7 request_id=id-8",
        ];
        for (line, end) in lines.iter().zip(ends) {
            assert!(line.ends_with(end), "{line}");
        }
        assert_eq!(lines.len(), ends.len());
    }

    #[test]
    fn a_json_line_is_one_object_with_id_trace_fields_and_spans() {
        let trace = TraceParent::generate();
        let lines = lines(Format::Json, "debug", || {
            let _span = tracing::info_span!("load", table = "orders").entered();
            context().with_trace(trace).sync_scope(|| {
                tracing::debug!(rows = 2_u64, ratio = 0.5, ok = true, "loaded\nall");
            });
        });
        let [line] = &lines[..] else { panic!("not one line: {lines:?}") };
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["request_id"], "id-7");
        assert_eq!(line["trace_id"], trace.trace_id());
        assert_eq!(line["level"], "DEBUG");
        assert_eq!(line["message"], "loaded\nall");
        assert_eq!(line["fields"], serde_json::json!({ "rows": 2, "ratio": 0.5, "ok": true }));
        assert_eq!(line["spans"][0], "load{table=\"orders\"}");
    }

    #[test]
    fn no_value_can_begin_a_line_of_its_own() {
        let forged = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{2028}";
        for format in [Format::Plain, Format::Json] {
            let lines = lines(format, "info", || {
                tracing::info!(a = forged, b = %forged, c = ?forged, "{forged}");
            });
            assert_eq!(lines.len(), 1, "{lines:?}");
        }
    }

    #[test]
    fn what_the_filter_leaves_out_is_not_written() {
        let quiet = lines(Format::Plain, "warn", || tracing::info!("too low"));
        assert!(quiet.is_empty(), "{quiet:?}");
        let error = Telemetry::new().filter("a=b=c").subscriber(io::sink).err().unwrap();
        assert_eq!(error.code().as_str(), "telemetry.invalid_filter");
    }
}
