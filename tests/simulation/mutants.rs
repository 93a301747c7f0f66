//! Proof of the checks: each mutant switches one rule off, and some seed must notice. The rule is broken from outside, in
//! what links, disks, leases or views do, so that the core has no switches in it.

use primacy::note::NoteId;
use primacy::protocol::message::{Ack, Commit, Message, Ready};
use primacy::protocol::record::Value;

use super::report::Fault;

/// Declares the mutants, with the rule that each breaks.
macro_rules! mutants {
    ($($(#[$doc:meta])* $variant:ident,)*) => {
        /// A rule that is switched off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutant { $($(#[$doc])* $variant,)* }

        impl Mutant {
            pub(crate) const ALL: &[Mutant] = &[$(Mutant::$variant),*];
        }
    };
}

mutants! {
    /// W3: a backup acknowledges before its store has the update.
    AckBeforeDurable,
    /// W3: a store says that it has what it has not written.
    DurableBeforeWritten,
    /// W4: a primary commits without the acknowledgement of one who counts: the last one's is forged.
    CommitWithoutOneAck,
    /// R1: a backup takes an update for committed as it comes, and is read while the record is pending.
    ReadWhilePending,
    /// R5: a replica is left out though its lease still runs.
    NoWaitForLease,
    /// R5: the controller adds nothing to a lease for clocks that drift.
    NoDriftMargin,
    /// R3: a lease never ends.
    EndlessLease,
    /// R3: a lease runs from its arrival, not from when the heartbeat was sent.
    LeaseFromItsArrival,
    /// R4: the controller takes its lead for confirmed without asking anybody.
    LeadNotConfirmed,
    /// V1: a new leader acts before an entry of its own term is applied, and an entry is never void. (Each of the two rules
    /// alone keeps an older leader's entry from counting.)
    OldTermEstablished,
    /// V11: a replica that stops gives its lease back and goes on reading.
    StopsAndReads,
    /// R4, R5: who believes to lead answers every heartbeat with a lease.
    LeaseForEverybody,
    /// V2: who begins to join is in sync at once.
    JoinsWithoutCopy,
    /// J3: a joiner is in sync before all count it.
    InSyncUncounted,
    /// J2: what a joiner had before stays in its store.
    OldRecordsKept,
    /// J1: stores come back that the last view does not list.
    AnyStoreRevived,
    /// J1: a new store has the name of the one that was lost.
    WipedStoreTrusted,
    /// A store loses the newest record with a crash.
    StoreLosesRecord,
    /// V7: recovery does not tell which requests made the records.
    RequestsNotReported,
    /// K1: recovery does not pass on key entries.
    KeysNotReported,
    /// K1: updates do not carry key entries.
    KeysNotReplicated,
    /// K1: the table of keys is not copied to a joiner.
    KeysNotCopied,
    /// V8: recovery forgets the id sequence.
    SequenceNotReported,
    /// V8: recovery asks only for the newest half of what is pending.
    PendingHalfReported,
    /// V9: members serve before what recovery chose is everywhere.
    ReadyBeforeAcks,
    /// M4: the id sequence moves as it was at first, not as it is.
    SequenceNotMoved,
    /// L2: a link brings forwards twice.
    ForwardTwice,
}

impl Mutant {
    /// The faults without which nothing would be seen of it, where those that a seed draws are rarely these.
    pub(crate) fn needs(self) -> Option<&'static [Fault]> {
        match self {
            // The view that leaves it out must reach it late.
            Mutant::StopsAndReads => Some(&[Fault::Stop, Fault::SlowLink]),
            _ => None,
        }
    }

    /// What a link makes of a message, maybe one to the last replica: what it brings instead, in order. Each comes with whether
    /// it goes back to the sender.
    pub(crate) fn tamper(self, to_the_last: bool, mut message: Message) -> Vec<(bool, Message)> {
        let with = |message: Message, back: Message| vec![(false, message), (true, back)];
        match (self, &mut message) {
            (Mutant::AckBeforeDurable | Mutant::CommitWithoutOneAck, Message::Update(update))
                if to_the_last || self == Mutant::AckBeforeDurable =>
            {
                let ack = Ack { n: update.n };
                return with(message, ack.into());
            }
            (Mutant::ReadWhilePending, Message::Update(update)) if update.chosen.is_empty() => {
                let commit = Commit { n: update.n };
                return vec![(false, message), (false, commit.into())];
            }
            (Mutant::RequestsNotReported, Message::Recover(recover)) => recover.requests.clear(),
            (Mutant::RequestsNotReported, Message::Update(update)) if !update.chosen.is_empty() => {
                update.requests.clear()
            }
            (Mutant::KeysNotReported, Message::Recover(recover)) => recover.keys.clear(),
            (Mutant::KeysNotReplicated, Message::Update(update)) => update.keys.clear(),
            (Mutant::KeysNotCopied, Message::Copy(copy)) => copy.keys.clear(),
            (Mutant::SequenceNotReported, Message::Recover(recover)) => {
                recover.pending.retain(|(id, _)| *id != NoteId::SEQUENCE);
            }
            (Mutant::PendingHalfReported, Message::Recover(recover)) => {
                let half = recover.pending.len() / 2;
                recover.pending.drain(..half);
            }
            (Mutant::ReadyBeforeAcks, Message::Update(update)) if update.n == 1 && !update.chosen.is_empty() => {
                let commit = Commit { n: 1 };
                return vec![(false, message), (false, commit.into()), (false, Ready {}.into())];
            }
            (Mutant::SequenceNotMoved, Message::Moved(moved)) if moved.record.id.is_sequence() => {
                moved.record.value = Value::Next(NoteId(1));
            }
            (Mutant::ForwardTwice, Message::Forward(_)) => return vec![(false, message.clone()), (false, message)],
            _ => {}
        }
        vec![(false, message)]
    }
}
