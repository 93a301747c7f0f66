//! What a terminal shows while it runs; nothing where stderr is none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::Plan;

/// How often the bar moves by itself.
const TICK: Duration = Duration::from_millis(500);

/// A bar of all rounds, and the scenario at work.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar for the plan, from its first cluster on.
    pub(super) fn new(plan: &Plan) -> Progress {
        let bar = ProgressBar::new((plan.scenarios.len() * plan.rounds) as u64);
        let style = ProgressStyle::with_template("{bar:30.cyan/blue} {pos}/{len} {elapsed} of about {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("{} s  starting clusters", plan.duration().as_secs()));
        bar.enable_steady_tick(TICK);
        Progress(bar)
    }

    /// A scenario of a round begins.
    pub(super) fn at(&self, plan: &Plan, round: usize, name: &str) {
        self.0.set_message(format!("{} s  round {}  {name}", plan.duration().as_secs(), round + 1));
    }

    /// It is over.
    pub(super) fn done(&self) {
        self.0.inc(1);
    }

    /// Something else is done.
    pub(super) fn says(&self, what: &'static str) {
        self.0.set_message(what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
