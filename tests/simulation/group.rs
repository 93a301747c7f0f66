//! Consensus reduced to what it promises: one log of views. Only the leader of the newest term appends, and only while a
//! majority of the voters answers it. Who leads changes; who led may believe for a while that it still does; and what it had
//! proposed may be agreed later, by the next leader, or be lost.

use fastrand::Rng;
use primacy::protocol::ids::{ConsensusId, Epoch, ReplicaId};
use primacy::protocol::view::View;

use super::mutants::Mutant;

/// A view that a leader has appended, and no majority has confirmed yet.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Tells it from all others.
    pub(crate) key: u64,
    /// The epoch that it follows.
    pub(crate) follows: Epoch,
    pub(crate) view: View,
}

/// The group, as somebody who sees everything sees it.
#[derive(Debug)]
pub(crate) struct Group {
    /// The views agreed, by epoch from 1.
    pub(crate) log: Vec<View>,
    /// The newest term in which somebody was elected.
    pub(crate) term: u64,
    /// Who was.
    pub(crate) leader: Option<usize>,
    /// By replica: the id of its voter.
    pub(crate) voters: Vec<ConsensusId>,
    /// The newest term whose leader has had its first entry agreed.
    established: u64,
    undecided: Vec<Entry>,
    last_key: u64,
    /// Stands for the newest view while there is none.
    nothing: View,
    /// The rule that is switched off.
    pub(crate) mutant: Option<Mutant>,
}

impl Group {
    /// A group that was just founded by these voters.
    pub(crate) fn new(voters: Vec<ConsensusId>, mutant: Option<Mutant>) -> Group {
        let nothing = View { epoch: Epoch(0), primary: ReplicaId(0), in_sync: Vec::new(), joining: Vec::new() };
        Group {
            log: Vec::new(),
            term: 0,
            leader: None,
            voters,
            established: 0,
            undecided: Vec::new(),
            last_key: 0,
            nothing,
            mutant,
        }
    }

    /// The newest view that was agreed; before the first one of nobody.
    pub(crate) fn newest(&self) -> &View {
        self.log.last().unwrap_or(&self.nothing)
    }

    /// A view that was agreed.
    pub(crate) fn view(&self, epoch: Epoch) -> Option<&View> {
        self.log.get((epoch.0 as usize).wrapping_sub(1))
    }

    /// The leader of a term appends a view to its own log. Says the entry's key. Once a later leader has had its first entry
    /// agreed, nobody is elected whose log has this one instead.
    pub(crate) fn append(&mut self, term: u64, follows: Epoch, view: View) -> u64 {
        self.last_key += 1;
        if term >= self.established {
            self.undecided.push(Entry { key: self.last_key, follows, view });
        }
        self.last_key
    }

    /// Whether a view is proposed whose fate is open.
    pub(crate) fn is_deciding(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// A majority has an entry. Says whether its view is the newest one now: V1, an entry that does not follow the newest is
    /// void.
    pub(crate) fn agree(&mut self, key: u64) -> bool {
        let Some(place) = self.undecided.iter().position(|entry| entry.key == key) else { return false };
        let Entry { follows, view, .. } = self.undecided.remove(place);
        self.apply(follows, view)
    }

    /// A leader's first entry is agreed: with it those that its log had before, which may be any; the others never will be.
    /// Says whether there is a new view.
    pub(crate) fn settle(&mut self, rng: &mut Rng) -> bool {
        self.established = self.term;
        let mut any = false;
        for Entry { follows, view, .. } in std::mem::take(&mut self.undecided) {
            any |= rng.bool() && self.apply(follows, view);
        }
        any
    }

    fn apply(&mut self, follows: Epoch, view: View) -> bool {
        let newest = self.newest().epoch;
        let void = follows != newest || view.epoch <= follows;
        if void && self.mutant != Some(Mutant::OldTermEstablished) {
            return false;
        }
        self.log.push(view);
        true
    }
}
