//! What the program shows of its work: the log on stdout, diagnostics on stderr.
//!
//! Both are made with tracing, formatted where they arise, and written by a thread each, so that a terminal that is
//! slow, or stopped, slows no replica down. [`classic`] has the log's lines; warnings and errors of all other targets
//! are the diagnostics. `RUST_LOG` filters both in the way of tracing's `EnvFilter`.

pub mod classic;
mod lines;
pub mod metrics;
pub mod monitor;

use std::fmt;
use std::io;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::config::LogStyle;
use lines::{Lines, Prefix, Writer};

/// What is shown where `RUST_LOG` says nothing: the log, and what somebody should look at. The consensus library calls
/// each peer that is away an error, at every try; the links say it once.
const FILTER_DEFAULT: &str = "warn,openraft=off,primacy::classic=info";

/// Why the log cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// `RUST_LOG` is no filter.
    #[error("`RUST_LOG` is no filter: {0}; write for instance RUST_LOG=warn,primacy::classic=info, or unset it")]
    Filter(#[from] ParseError),
    /// The system gives no thread.
    #[error("cannot start a thread for the log: {0}")]
    Thread(#[from] io::Error),
    /// Somebody else in this process takes tracing's events.
    #[error("another subscriber takes this process's events already")]
    Taken(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Ends the log: when it is dropped, all queued lines are written, unless nobody reads them for two seconds.
#[derive(Debug)]
#[must_use = "lines that are queued when the process ends are lost without it"]
pub struct Guard {
    _stdout: Writer,
    _stderr: Writer,
}

/// Begins the log on stdout in this style, and the diagnostics on stderr. Once per process.
pub fn start(style: LogStyle) -> Result<Guard, ObserveError> {
    let filter = filter(style, std::env::var("RUST_LOG").ok().as_deref())?;
    let (stdout, log) = Writer::start("log", prefix(style), io::stdout())?;
    let (stderr, diagnostics) = Writer::start("diagnostics", Prefix::Plain, io::stderr())?;
    let layer = LogLayer { style, log, diagnostics };
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer))?;
    Ok(Guard { _stdout: stdout, _stderr: stderr })
}

fn prefix(style: LogStyle) -> Prefix {
    if style == LogStyle::Json { Prefix::Json } else { Prefix::Plain }
}

/// What is shown. Without a log, its events are filtered out where they arise, which costs one load each.
fn filter(style: LogStyle, rust_log: Option<&str>) -> Result<EnvFilter, ParseError> {
    let given = rust_log.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(FILTER_DEFAULT);
    match style {
        LogStyle::Off => EnvFilter::try_new(format!("{given},{}=off", classic::TARGET)),
        LogStyle::Classic | LogStyle::Json => EnvFilter::try_new(given),
    }
}

/// Turns tracing's events into lines.
struct LogLayer {
    style: LogStyle,
    log: Lines,
    diagnostics: Lines,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == classic::TARGET {
            let mut line = classic::Line::new(self.style);
            event.record(&mut line);
            self.log.push(line.text);
        } else {
            self.diagnostics.push(diagnostic(event));
        }
    }
}

/// `WARN primacy::link: the message key=value`.
fn diagnostic(event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let mut parts = Parts::default();
    event.record(&mut parts);
    let mut line = format!("{} {}:", metadata.level(), metadata.target());
    for part in [parts.message, parts.fields] {
        classic::escape_into(&mut line, &part);
    }
    line
}

/// An event's message and its other fields, each with a space in front.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a String cannot fail; a value whose own Debug fails is left as far as it came.
        let _ = match field.name() {
            "message" => write!(self.message, " {value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests;
