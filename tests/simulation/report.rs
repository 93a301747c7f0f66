//! What really happened in the runs, counted.

use std::fmt;

use super::history::{Ask, Reply};

/// Declares the kinds of faults and their words.
macro_rules! faults {
    ($($variant:ident = $word:literal,)*) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault { $($variant,)* }

        impl Fault {
            /// All of them.
            pub(crate) const ALL: &[Fault] = &[$(Fault::$variant),*];

            fn word(self) -> &'static str {
                match self { $(Fault::$variant => $word,)* }
            }
        }
    };
}

faults! {
    Crash = "crash between turns",
    CrashWithin = "crash between two actions",
    CrashAll = "crash of all",
    Wipe = "start with empty disks",
    Damage = "start with a damaged store",
    Stop = "stop in order",
    Pause = "pause between turns",
    PauseAll = "pause of all",
    PauseWithin = "pause within a turn",
    Cut = "link cut, both ways",
    CutOneWay = "link cut, one way",
    Partial = "some links of one cut",
    Isolate = "all links of one cut",
    Flap = "link flaps",
    NoControl = "control links of one cut",
    Suspicion = "false suspicion",
    NoCalls = "consensus calls of one lost",
    SlowLink = "slow link",
    SlowDisk = "slow disk",
    DiskFails = "disk fails",
    DiskLies = "disk lied before a crash",
    Jump = "wall clock jumps",
    Drift = "clock at the bound of its drift",
    UnsyncedKept = "crash kept some of what was unsynced",
    UnsyncedLost = "crash lost what was unsynced",
}

impl Fault {
    /// Those that a plan draws from; the others come with crashes.
    pub(crate) const DRAWN: &[Fault] = Fault::ALL.split_at(Fault::UnsyncedKept as usize).0;

    /// How often it has fired, and its words.
    pub(crate) fn fired_in(self, counts: &Counts) -> (&'static str, u64) {
        (self.word(), counts.faults[self as usize])
    }
}

/// Declares the counters and their words.
macro_rules! counters {
    ($($name:ident = $word:literal,)*) => {
        /// Counts of one run, or of many.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Counts { pub(crate) faults: [u64; Fault::ALL.len()], $(pub(crate) $name: u64,)* }

        impl Counts {
            /// Adds those of another run.
            pub(crate) fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
                self.faults.iter_mut().zip(other.faults).for_each(|(sum, more)| *sum += more);
            }

            fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$(($word, self.$name),)*]
            }
        }
    };
}

counters! {
    runs = "runs",
    simulated_ms = "simulated milliseconds",
    requests = "client requests",
    posts = "POST done",
    puts = "PUT done",
    patches = "PATCH done",
    deletes = "DELETE done",
    gets = "GET answered",
    lists = "lists answered",
    not_found = "404",
    mismatches = "412",
    reused = "422",
    unavailable = "unavailable",
    unknown = "unknown",
    given_up = "given up by the client",
    retries = "sent again under the same key",
    elections = "elections",
    rivals = "elections while another one still led",
    voters_replaced = "voters replaced",
    views = "views",
    removals = "members left out",
    joins = "joins begun",
    synced = "joins completed",
    left_in_time = "stops that a view left out in time",
    revivals = "views after all had died",
    stranded = "runs in which every store of a view was lost",
    moves = "moves of items",
    frames = "frames",
    stale = "frames refused as stale",
    turns = "turns",
    undecided = "histories too long to decide",
}

impl Counts {
    /// A fault has fired.
    pub(crate) fn fired(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// A fault has fired, if it has.
    pub(crate) fn fired_if(&mut self, fired: bool, fault: Fault) {
        self.faults[fault as usize] += u64::from(fired);
    }

    /// A client's request has ended.
    pub(crate) fn answered(&mut self, ask: Ask, reply: &Reply) {
        let count = match (reply, ask) {
            (Reply::Done(_), Ask::Post(_)) => &mut self.posts,
            (Reply::Done(_), Ask::Put(..)) => &mut self.puts,
            (Reply::Done(_), Ask::Patch(..)) => &mut self.patches,
            (Reply::Done(_), _) => &mut self.deletes,
            (Reply::Found(..), _) => &mut self.gets,
            (Reply::Notes { .. }, _) => &mut self.lists,
            (Reply::NotFound, _) => &mut self.not_found,
            (Reply::Mismatch, _) => &mut self.mismatches,
            (Reply::Reused, _) => &mut self.reused,
            (Reply::NoEffect, _) => &mut self.unavailable,
            (Reply::Unknown | Reply::Open, _) => &mut self.unknown,
        };
        *count += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = Fault::ALL.iter().map(|fault| fault.fired_in(self));
        for (word, count) in self.rows().into_iter().chain(faults) {
            writeln!(f, "{word:<34} {count:>14}")?;
        }
        Ok(())
    }
}
