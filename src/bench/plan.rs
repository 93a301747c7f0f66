//! Which scenarios are run, for how long, and how often.

use std::time::Duration;

use super::BenchError;
use super::pattern;
use super::scenario::{By, Clients, Load, Scenario, Setup, Work};
use crate::config::{Durability, LinkUse, Mode};

/// Fewest samples of a scenario in each round, where a second has few.
const ROUND_SAMPLES: f64 = 8.0;

/// Most connections of the load generator to one cluster; each has a note of its own.
pub const CONNECTIONS_MAX: usize = 1024;

/// Requests that a client which pipelines has on its way: as many as a replica takes from one connection, and as the
/// client library sends.
const IN_FLIGHT: usize = 128;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The textbook's claims, in about half a minute.
    Quick,
    /// Every kind of scenario, in about two minutes.
    Normal,
    /// All combinations that are of interest, in about a quarter of an hour.
    Full,
}

/// What clients speak in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP only.
    Http,
    /// Frames only.
    Frames,
    /// HTTP, and frames beside it where the difference shows: without link delay.
    #[default]
    Both,
}

/// What was asked for beside the effort; none is the effort's default.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Seconds of one scenario in one round.
    pub window: Option<Duration>,
    /// Rounds.
    pub rounds: Option<usize>,
    /// Requests a second of the open loops.
    pub per_s: Option<f64>,
    /// Connections: of the closed loops, and at most of the open ones.
    pub connections: Option<usize>,
    /// One-way delays in microseconds.
    pub delays_us: Option<Vec<u64>>,
    /// What clients speak.
    pub by: Spoken,
    /// Patterns of the scenarios' names that are run; empty for all.
    pub only: Vec<String>,
}

/// The scenarios and their times.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// In the order of the table.
    pub(super) scenarios: Vec<Scenario>,
    /// How often each is run.
    pub(super) rounds: usize,
    /// How long an undelayed scenario is measured in one round.
    pub(super) window: Duration,
    /// How long a delayed one is: it shows medians, which need fewer samples.
    pub(super) window_delayed: Duration,
    /// Connections of the load generator that open loops have.
    pub(super) connections: usize,
}

impl Plan {
    /// The plan for own clusters.
    pub(super) fn new(effort: Effort, wishes: &Wishes) -> Result<Plan, BenchError> {
        let delays = wishes.delays_us.clone().unwrap_or_else(|| match effort {
            Effort::Quick => vec![0, 5_000],
            Effort::Normal | Effort::Full => vec![0, 5_000, 20_000],
        });
        Plan::of(List::new(effort, wishes).of(&delays), effort, wishes)
    }

    /// The plan for a cluster that runs already: what can be asked of it as it is.
    pub(super) fn for_target(mode: Mode, effort: Effort, wishes: &Wishes) -> Result<Plan, BenchError> {
        Plan::of(List::new(effort, wishes).plain(mode), effort, wishes)
    }

    fn of(scenarios: Vec<Scenario>, effort: Effort, wishes: &Wishes) -> Result<Plan, BenchError> {
        let wanted = |scenario: &Scenario| {
            let name = scenario.to_string();
            wishes.only.is_empty() || wishes.only.iter().any(|pattern| pattern::fits(pattern, &name))
        };
        let all: Vec<String> = scenarios.iter().map(ToString::to_string).collect();
        let scenarios: Vec<Scenario> = scenarios.into_iter().filter(wanted).collect();
        if scenarios.is_empty() {
            return Err(BenchError::NothingToRun { only: wishes.only.join(", "), names: all.join("\n  ") });
        }
        let (rounds, window, window_delayed) = match effort {
            Effort::Quick => (3, 200, 150),
            Effort::Normal => (3, 700, 400),
            Effort::Full => (5, 2_000, 1_500),
        };
        let ms = Duration::from_millis;
        Ok(Plan {
            scenarios,
            rounds: wishes.rounds.unwrap_or(rounds),
            window: wishes.window.unwrap_or(ms(window)),
            window_delayed: wishes.window.unwrap_or(ms(window_delayed)),
            connections: wishes.connections.unwrap_or(64),
        })
    }

    /// How long this scenario is measured in one round: long enough for a few samples at its rate.
    pub(super) fn window_of(&self, scenario: &Scenario) -> Duration {
        let window = if scenario.setup.delay_us > 0 { self.window_delayed } else { self.window };
        match scenario.load {
            Load::Open { per_s } => window.max(Duration::from_secs_f64(ROUND_SAMPLES / per_s)),
            Load::Closed { .. } => window,
        }
    }

    /// Each cluster that is needed, once, in the order of first use.
    pub(super) fn setups(&self) -> Vec<Setup> {
        let mut setups = Vec::new();
        for scenario in &self.scenarios {
            if !setups.contains(&scenario.setup) {
                setups.push(scenario.setup);
            }
        }
        setups
    }

    /// What all measured windows last together.
    pub(super) fn duration(&self) -> Duration {
        self.scenarios.iter().map(|scenario| self.window_of(scenario)).sum::<Duration>() * self.rounds as u32
    }
}

/// Makes the list of scenarios.
struct List {
    effort: Effort,
    by: Spoken,
    per_s: f64,
    connections: usize,
}

impl List {
    fn new(effort: Effort, wishes: &Wishes) -> List {
        let (per_s, connections) = (wishes.per_s.unwrap_or(500.0), wishes.connections.unwrap_or(64));
        List { effort, by: wishes.by, per_s, connections }
    }

    fn of(&self, delays: &[u64]) -> Vec<Scenario> {
        let mut scenarios = Vec::new();
        let modes = [Mode::RemoteWrite, Mode::LocalWrite];
        for delay_us in delays {
            for mode in modes {
                match delay_us {
                    0 => scenarios.extend(self.plain(mode)),
                    _ => scenarios.extend(self.delayed(Setup { delay_us: *delay_us, ..Setup::plain(mode) })),
                }
            }
        }
        if delays.contains(&0) && self.effort != Effort::Quick {
            for mode in modes {
                scenarios.extend(self.memory(mode));
            }
        }
        scenarios.extend(self.per_frame(delays));
        scenarios
    }

    /// The three or four requests that theory tells apart.
    fn basics(&self, setup: Setup) -> Vec<Scenario> {
        let works = match setup.mode {
            Mode::RemoteWrite => [Work::Primary, Work::Backup, Work::Read],
            Mode::LocalWrite => [Work::ItemPrimary, Work::Elsewhere, Work::Read],
        };
        works.map(|work| self.open(setup, work)).to_vec()
    }

    /// All that is asked of a cluster without delay.
    fn plain(&self, mode: Mode) -> Vec<Scenario> {
        let setup = Setup::plain(mode);
        let mut scenarios = self.basics(setup);
        // Against these the mixed ones count their round trips.
        scenarios.extend(self.mixed(setup));
        let near = scenarios[0];
        scenarios.push(Scenario { clients: Clients::New, ..near });
        let closed = |connections| Scenario { load: Load::closed(connections), ..near };
        match self.effort {
            Effort::Full => {
                scenarios.extend([closed(1), closed(self.connections)]);
                scenarios.push(Scenario { load: Load::closed(self.connections), ..scenarios[2] });
            }
            Effort::Quick | Effort::Normal => scenarios.push(closed(self.connections)),
        }
        self.spoken(scenarios)
    }

    fn memory(&self, mode: Mode) -> Vec<Scenario> {
        let basics = self.basics(Setup { durability: Durability::Memory, ..Setup::plain(mode) });
        let scenarios = match self.effort {
            Effort::Full => [&basics[..], &[Scenario { load: Load::closed(self.connections), ..basics[0] }]].concat(),
            Effort::Quick | Effort::Normal => basics[..1].to_vec(),
        };
        let pipelined = |basic: Scenario, keys| {
            let load = Load::Closed { connections: 1, in_flight: IN_FLIGHT };
            Scenario { by: By::Frames { keys }, load, ..basic }
        };
        let mut scenarios = self.spoken(scenarios);
        if self.by != Spoken::Http {
            // Without a disk, which would be all that shows: what one connection carries.
            scenarios.extend([pipelined(basics[0], false), pipelined(basics[0], true), pipelined(basics[2], false)]);
        }
        scenarios
    }

    fn delayed(&self, setup: Setup) -> Vec<Scenario> {
        let mut scenarios = self.basics(setup);
        scenarios.extend(self.mixed(setup));
        self.spoken(scenarios)
    }

    /// These scenarios in what is to be spoken. Frames stand beside HTTP where nothing hides what HTTP costs.
    fn spoken(&self, by_http: Vec<Scenario>) -> Vec<Scenario> {
        let shows_http = |scenario: &Scenario| {
            let plain = scenario.setup.delay_us == 0 && scenario.setup.links == LinkUse::Persistent;
            let is_asked = self.effort != Effort::Quick || matches!(scenario.work, Work::Primary | Work::ItemPrimary);
            plain && is_asked && scenario.clients == Clients::Kept && !scenario.work.is_mixed()
        };
        let wanted = |scenario: &&Scenario| self.by == Spoken::Frames || shows_http(scenario);
        let by_frames = by_http.iter().filter(wanted).map(|it| Scenario { by: By::Frames { keys: false }, ..*it });
        let by_frames: Vec<Scenario> = by_frames.collect();
        match self.by {
            Spoken::Http => by_http,
            Spoken::Frames => by_frames,
            Spoken::Both => [by_http, by_frames].concat(),
        }
    }

    /// What local-write costs depends on where the writes come from; remote-write beside it. Its ends, no write and every
    /// write at the item's primary, are among the basics.
    fn mixed(&self, setup: Setup) -> Vec<Scenario> {
        let is_first_delay = (1..=5_000).contains(&setup.delay_us);
        if self.effort == Effort::Quick || !(is_first_delay || self.effort == Effort::Full) {
            return Vec::new();
        }
        let works: &[Work] = match (setup.mode, self.effort) {
            (Mode::RemoteWrite, _) => &[Work::Anywhere],
            (Mode::LocalWrite, Effort::Full) => &[10, 25, 40, 50, 60, 75, 90].map(Work::Locality),
            (Mode::LocalWrite, _) => &[25, 50, 75].map(Work::Locality),
        };
        works.iter().map(|work| self.open(setup, *work)).collect()
    }

    /// Connections that carry one turn's frames: a write must find all links idle, so they come slowly. All at the rate of
    /// the longest delay, for a machine that is idle in between takes longer for each, and the delay is not why.
    fn per_frame(&self, delays: &[u64]) -> Vec<Scenario> {
        let is_asked = |delay_us: u64| match self.effort {
            Effort::Quick => (1..=5_000).contains(&delay_us),
            Effort::Normal => delay_us <= 5_000,
            Effort::Full => true,
        };
        let delays = delays.iter().copied().filter(|delay_us| is_asked(*delay_us));
        let per_s = delays.clone().map(unhurried).fold(self.per_s, f64::min);
        let mut scenarios = Vec::new();
        for delay_us in delays {
            for mode in [Mode::RemoteWrite, Mode::LocalWrite] {
                let setup = Setup { links: LinkUse::PerFrame, delay_us, ..Setup::plain(mode) };
                let mut basics = self.basics(setup);
                basics.truncate(if self.effort == Effort::Quick { 1 } else { 2 });
                let slowly = basics.into_iter().map(|it| Scenario { load: Load::Open { per_s }, ..it });
                scenarios.extend(self.spoken(slowly.collect()));
            }
        }
        scenarios
    }

    fn open(&self, setup: Setup, work: Work) -> Scenario {
        let load = Load::Open { per_s: self.per_s };
        Scenario { setup, work, by: By::Http, clients: Clients::Kept, load }
    }
}

/// The rate at which writes over per-frame links do not meet: six round trips for the longest, two and more until the
/// `commit` behind it has had its connection.
fn unhurried(delay_us: u64) -> f64 {
    const ROUND_TRIPS: f64 = 10.0;
    const AT_MOST: f64 = 200.0;
    match delay_us {
        0 => AT_MOST,
        _ => (1e6 / (ROUND_TRIPS * 2.0 * delay_us as f64)).min(AT_MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(effort: Effort, wishes: &Wishes) -> Vec<String> {
        Plan::new(effort, wishes).unwrap().scenarios.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_name_is_one_scenarios() {
        for effort in [Effort::Quick, Effort::Normal, Effort::Full] {
            for by in [Spoken::Http, Spoken::Frames, Spoken::Both] {
                let mut names = names(effort, &Wishes { by, ..Wishes::default() });
                let count = names.len();
                names.sort();
                names.dedup();
                assert_eq!(names.len(), count, "{effort:?} {by:?}");
                let by_frames = names.iter().filter(|name| name.contains("/frames")).count();
                assert_eq!((by_frames > 0, by_frames < count), (by != Spoken::Http, by != Spoken::Frames), "{by:?}");
            }
        }
    }

    #[test]
    fn every_delayed_scenario_has_its_like_without_delay() {
        for (effort, by) in
            [(Effort::Normal, Spoken::Both), (Effort::Normal, Spoken::Frames), (Effort::Full, Spoken::Both)]
        {
            let plan = Plan::new(effort, &Wishes { by, ..Wishes::default() }).unwrap();
            for scenario in plan.scenarios.iter().filter(|scenario| !scenario.work.is_mixed()) {
                let near = scenario.without_delay();
                assert!(plan.scenarios.iter().any(|other| other.is_like(&near)), "{scenario}");
            }
        }
    }

    #[test]
    fn efforts_last_as_long_as_they_say() {
        let seconds = |effort| Plan::new(effort, &Wishes::default()).unwrap().duration().as_secs_f64();
        assert!((5.0..20.0).contains(&seconds(Effort::Quick)), "{}", seconds(Effort::Quick));
        assert!((60.0..120.0).contains(&seconds(Effort::Normal)), "{}", seconds(Effort::Normal));
        assert!((300.0..1200.0).contains(&seconds(Effort::Full)), "{}", seconds(Effort::Full));
    }

    #[test]
    fn a_slow_scenario_lasts_until_it_has_samples() {
        let plan = Plan::new(Effort::Quick, &Wishes::default()).unwrap();
        let slow = plan.scenarios.iter().find(|scenario| scenario.to_string() == "remote-write/primary/per-frame/5ms");
        // Ten a second: room for a write of six round trips of 10 ms, and the commit behind it.
        assert_eq!(plan.window_of(slow.unwrap()), Duration::from_millis(800));
    }

    #[test]
    fn only_what_is_asked_for() {
        let only = |pattern: &str| Wishes { only: vec![pattern.to_owned()], ..Wishes::default() };
        assert_eq!(names(Effort::Quick, &only("local-write/read*")), ["local-write/read", "local-write/read/5ms"]);
        let error = Plan::new(Effort::Quick, &only("nothing")).unwrap_err().to_string();
        assert!(error.contains("nothing") && error.contains("remote-write/primary"), "{error}");
    }
}
