//! `primacy call --count`: the same request again and again, one after the other, and how long the replies took.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::call::{Call, CallError, Kind, Line};
use super::signals;

/// What is sent where no frame is given.
const PING: &str = r#"{"type":"ping"}"#;

/// Significant digits of the times that are kept.
const DIGITS: u8 = 3;

/// The longest time that is kept as it is, in ns: an hour. Longer ones count as that.
const NS_MAX: u64 = 3_600_000_000_000;

/// From one line of progress to the next.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The round trips so far.
struct Times {
    /// In ns.
    histogram: Histogram<u64>,
    errors: u64,
    began: Instant,
}

/// Sends the frame so many times, each after the reply to the one before, and prints the times; an interrupt ends it early.
pub(super) async fn ping(call: &Call, count: u64) -> Result<(), CallError> {
    let json = Bytes::from(call.frame.clone().unwrap_or_else(|| PING.to_owned()));
    let mut line = Line::open(call).await?;
    let interrupt = signals::interrupt().map_err(CallError::Start)?;
    tokio::pin!(interrupt);
    let mut times = Times::begin();
    let mut shown = times.began;
    for _ in 0..count {
        let start = Instant::now();
        let kind = tokio::select! {
            biased;
            () = &mut interrupt => break,
            kind = line.ask(&json) => kind?,
        };
        times.record(start.elapsed(), kind)?;
        if shown.elapsed() >= PROGRESS_EVERY {
            shown = Instant::now();
            progress(&times);
        }
    }
    writeln!(io::stdout(), "{times}").map_err(CallError::Stdout)?;
    match times.errors {
        0 => Ok(()),
        errors => Err(CallError::Errors { errors, replies: times.histogram.len() }),
    }
}

/// On a terminal, the times so far.
fn progress(times: &Times) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // Where stderr is gone, nobody misses it.
        let _ = writeln!(stderr, "{times}");
    }
}

impl Times {
    fn begin() -> Times {
        let histogram = Histogram::new_with_bounds(1, NS_MAX, DIGITS).expect("the bounds and three digits are allowed");
        Times { histogram, errors: 0, began: Instant::now() }
    }

    fn record(&mut self, took: Duration, kind: Kind) -> Result<(), CallError> {
        if kind == Kind::Monitoring {
            return Err(CallError::Endless);
        }
        self.errors += u64::from(kind == Kind::Error);
        self.histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        Ok(())
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| format!("{:.3}", ns as f64 / 1e6);
        let at = |quantile: f64| ms(self.histogram.value_at_quantile(quantile));
        let (count, errors, seconds) = (self.histogram.len(), self.errors, self.began.elapsed().as_secs_f64());
        let (min, max) = (ms(self.histogram.min()), ms(self.histogram.max()));
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(at);
        write!(
            f,
            "{count} replies in {seconds:.2} s, {errors} errors; ms: min {min}, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 \
             {p999}, max {max}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn times_are_told_in_ms() {
        let mut times = Times::begin();
        for us in 1..=1000 {
            let kind = if us == 7 { Kind::Error } else { Kind::Answer };
            times.record(Duration::from_micros(us), kind).unwrap();
        }
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(
            times.to_string(),
            "1000 replies in 1.50 s, 1 errors; ms: min 0.001, p50 0.500, p90 0.900, p99 0.990, p99.9 0.999, max 1.000"
        );
        assert!(matches!(times.record(Duration::ZERO, Kind::Monitoring), Err(CallError::Endless)));
    }
}
