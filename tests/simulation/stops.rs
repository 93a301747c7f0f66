//! Stopping in order (V11): no new requests, those under way finish, then the replica asks for a view without itself, and
//! ends with everything written.

use primacy::replication::replica::Standing;

use super::history::Reply;
use super::mutants::Mutant;
use super::plan::MS;
use super::world::{Happening, World};

/// How long requests may go on, how long the replica asks to be left out, and how often the world looks.
const FINISHES_WITHIN: u64 = 5_000 * MS;
const LEAVES_WITHIN: u64 = 1_000 * MS;
const LOOKS_EVERY: u64 = 5 * MS;

/// How far a process has come that was asked to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// It takes no new requests.
    Finishing { since: u64 },
    /// It reads no more and asks for a view without itself.
    Leaving { since: u64 },
}

impl World {
    /// Asks a process to stop. Says whether there is one that was not asked before.
    pub(crate) fn ask_to_stop(&mut self, node: usize) -> bool {
        let it = &mut self.nodes[node];
        if !it.is_up() || it.stop.is_some() {
            return false;
        }
        it.stop = Some(Stop::Finishing { since: self.now });
        self.after(0, Happening::Stop { node, life: self.nodes[node].life });
        true
    }

    /// Whether clients can connect to it.
    pub(crate) fn takes_requests(&self, node: usize) -> bool {
        self.nodes[node].is_up() && (self.nodes[node].stop.is_none() || self.stops_and_reads())
    }

    fn stops_and_reads(&self) -> bool {
        self.plan.mutant == Some(Mutant::StopsAndReads)
    }

    /// Looks how far the stop is.
    pub(crate) fn stop_goes_on(&mut self, node: usize) {
        let Some(stop) = self.nodes[node].stop else { return };
        match stop {
            Stop::Finishing { since } if self.has_finished(node) || self.now > since + FINISHES_WITHIN => {
                if !self.stops_and_reads() {
                    self.close_all(node);
                }
                self.nodes[node].stop = Some(Stop::Leaving { since: self.now });
                if self.may_leave(node) {
                    self.leave(node);
                } else {
                    return self.end_in_order(node);
                }
            }
            Stop::Leaving { since } if self.has_left(node) || self.now > since + LEAVES_WITHIN => {
                self.counts.left_in_time += u64::from(self.has_left(node));
                return self.end_in_order(node);
            }
            _ => {}
        }
        self.after(LOOKS_EVERY, Happening::Stop { node, life: self.nodes[node].life });
    }

    fn has_finished(&self, node: usize) -> bool {
        self.nodes[node].open.is_empty() || self.stops_and_reads()
    }

    /// What is open is never answered.
    fn close_all(&mut self, node: usize) {
        let open = std::mem::take(&mut self.nodes[node].open);
        open.into_iter().for_each(|attempt| self.resolve(attempt, Reply::Unknown));
    }

    /// Whether enough others would stay in sync, as far as this process knows.
    fn may_leave(&self, node: usize) -> bool {
        let view = self.nodes[node].replica.as_ref().and_then(|replica| replica.view());
        let others = view.map_or(0, |view| view.in_sync.len()).saturating_sub(1);
        others >= self.plan.min_in_sync.max(self.nodes.len() / 2 + 1)
    }

    fn leave(&mut self, node: usize) {
        if let Some(seat) = &mut self.nodes[node].seat {
            seat.standing.stopping = true;
        }
        self.beat(node);
    }

    fn has_left(&self, node: usize) -> bool {
        let standing = self.nodes[node].replica.as_ref().map(|replica| replica.standing());
        !matches!(standing, Some(Standing::Recovering | Standing::Ready))
    }

    /// The process ends: what it wrote is on its disk, what it sent is on its way.
    fn end_in_order(&mut self, node: usize) {
        self.note(|| format!("r{node} STOPS"));
        self.close_all(node);
        self.nodes[node].disk.flush(&mut self.rng);
        self.nodes[node].end();
        self.plan_start(node);
    }
}
