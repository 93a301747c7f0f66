//! How messages, answers and states read in a trace: one line each, in words that a script's reader can guess.

use super::cluster::Host;
use crate::note::{Note, NoteId};
use crate::protocol::ids::{ReplicaId, RequestId, Version};
use crate::protocol::message::{Copy, Message, Recover, Update};
use crate::protocol::record::{KeyEntry, Record, Value};
use crate::protocol::request::{Done, Failure, Operation, Outcome, Write};
use crate::protocol::view::View;
use crate::replication::action::{Action, Persist};
use crate::replication::replica::Replica;

/// A longer text is shown by its first letter and length.
const LONG: usize = 100;

/// A replica's letter.
pub(super) fn name(replica: ReplicaId) -> char {
    char::from(b'A' + replica.0)
}

fn names(replicas: impl Iterator<Item = ReplicaId>) -> String {
    replicas.map(|replica| name(replica).to_string()).collect::<Vec<_>>().join(",")
}

/// What a replica does, where there is something to see: a disk that is not held is too quick to be seen.
pub(super) fn action(at: ReplicaId, action: &Action, disk_held: bool) -> Option<String> {
    let at = name(at);
    match action {
        Action::Send { to, message, .. } => Some(format!("{at} -> {} {}", names(to.iter()), self::message(message))),
        Action::Answer { token, answer } => {
            let primary = match (&answer.outcome, answer.primary) {
                (Outcome::Done(_), Some(primary)) => format!(", primary {}", name(primary)),
                _ => String::new(),
            };
            Some(format!("{at} answers #{} {}{primary}", token.0, outcome(&answer.outcome)))
        }
        Action::Persist(persist) => disk_held.then(|| format!("{at} waits for its disk: {}", self::persist(persist))),
        Action::BeginCopy => Some(format!("{at} begins an empty store beside its own")),
        Action::SwitchStore => Some(format!("{at} puts the copy in the place of its store")),
        Action::ReportSynced { epoch, store } => {
            Some(format!("{at} reports itself synced under view {epoch}, with store {}", store.0))
        }
        Action::Distrust { peer, why } => Some(format!("{at} distrusts {}: {why}", name(*peer))),
    }
}

fn persist(persist: &Persist) -> String {
    let records = persist.records.iter().map(|record| version((record.id, record.version)));
    let keys = persist.keys.iter().map(|entry| format!("key {}", entry.key.as_str()));
    let forget = persist.forget.iter().map(|id| format!("forget {}", item(*id)));
    records.chain(keys).chain(forget).collect::<Vec<_>>().join(", ")
}

/// A message's word, and the number that tells it from others.
pub(super) fn brief(message: &Message) -> String {
    match message {
        Message::Update(Update { n, .. }) => format!("update {n}"),
        Message::Ack(ack) => format!("ack {}", ack.n),
        Message::Commit(commit) => format!("commit {}", commit.n),
        other => other.word().to_owned(),
    }
}

fn message(message: &Message) -> String {
    let members = match message {
        Message::Forward(forward) => format!("{}: {}", forward.number, write(&forward.write)),
        Message::Forwarded(forwarded) => {
            let result = match (&forwarded.done, &forwarded.failed) {
                (Some(done), _) => self::done(done),
                (None, Some(failed)) => failure(failed),
                (None, None) => "nothing".to_owned(),
            };
            format!("{}: {result}", forwarded.number)
        }
        Message::Move(asked) => item(asked.id),
        Message::Moved(moved) => record(&moved.record),
        Message::MovedTo(moved) => format!("{}: ask {}", item(moved.id), name(moved.to)),
        Message::Gone(gone) => item(gone.id),
        Message::Update(members) => update(members),
        Message::Ack(ack) => ack.n.to_string(),
        Message::Commit(commit) => commit.n.to_string(),
        Message::Recover(members) => recover(members),
        Message::Fetch(fetch) => versions(&fetch.items),
        Message::Fetched(fetched) => fetched.records.iter().map(record).collect::<Vec<_>>().join("; "),
        Message::Ready(_) | Message::Synced(_) | Message::Counted(_) => String::new(),
        Message::Heartbeat(_) | Message::Lease(_) | Message::Raft(_) => unreachable!("the state machine sends none"),
        Message::Copy(members) => copy(members),
        Message::Want(want) => want.items.iter().map(|id| item(*id)).collect::<Vec<_>>().join(", "),
        Message::Copied(copied) => {
            let gone = copied.gone.iter().map(|id| format!("{} is gone", item(*id)));
            copied.records.iter().map(record).chain(gone).collect::<Vec<_>>().join("; ")
        }
        Message::Stale(stale) => view(&stale.view),
    };
    format!("{} {members}", message.word()).trim_end().to_owned()
}

fn update(update: &Update) -> String {
    let chosen = (!update.chosen.is_empty()).then(|| format!("chosen {}", versions(&update.chosen)));
    let parts = update.records.iter().map(record).chain(tail(&update.requests, &update.keys)).chain(chosen);
    format!("{}: {}", update.n, parts.collect::<Vec<_>>().join("; "))
}

fn recover(recover: &Recover) -> String {
    let pending = match recover.pending.as_slice() {
        [] => "nothing".to_owned(),
        some => versions(some),
    };
    let more = recover.more.then(|| "more follows".to_owned());
    let parts = std::iter::once(pending).chain(tail(&recover.requests, &recover.keys)).chain(more);
    parts.collect::<Vec<_>>().join("; ")
}

fn copy(copy: &Copy) -> String {
    let items = (!copy.items.is_empty()).then(|| versions(&copy.items));
    let more = copy.more.then(|| "more follows".to_owned());
    let parts = items.into_iter().chain(tail(&[], &copy.keys)).chain(more);
    parts.collect::<Vec<_>>().join("; ")
}

fn tail<'a>(
    requests: &'a [(NoteId, Version, RequestId)],
    keys: &'a [KeyEntry],
) -> impl Iterator<Item = String> + use<'a> {
    let requests = requests.iter().map(|(id, wrote, request)| {
        format!("request {}/{} made {}", name(request.replica), request.number, version((*id, *wrote)))
    });
    let keys = keys.iter().map(|entry| {
        let KeyEntry { item, key, done, .. } = entry;
        format!("key {} of {} made {}", key.as_str(), self::item(*item), version((done.id, done.version)))
    });
    requests.chain(keys)
}

fn item(id: NoteId) -> String {
    match id.is_sequence() {
        true => "sequence".to_owned(),
        false => format!("note {id}"),
    }
}

fn version((id, version): (NoteId, Version)) -> String {
    format!("{} v{version}", item(id))
}

fn versions(items: &[(NoteId, Version)]) -> String {
    items.iter().map(|item| version(*item)).collect::<Vec<_>>().join(", ")
}

/// A record: what it says, and who is its primary.
pub(super) fn record(record: &Record) -> String {
    let value = match &record.value {
        Value::Note(note) => self::note(note),
        Value::Deleted => "deleted".to_owned(),
        Value::Next(next) => format!("next={next}"),
    };
    let written = match record.written == record.version {
        true => String::new(),
        false => format!(" (written {})", record.written),
    };
    format!("{}{written} {value} primary {}", version((record.id, record.version)), name(record.primary))
}

/// A note as a script's command has it.
fn note(note: &Note) -> String {
    let members: serde_json::Value = serde_json::from_str(note.as_str()).unwrap();
    match members_of(&members) {
        empty if empty.is_empty() => "empty".to_owned(),
        members => members,
    }
}

/// `title=a body=b`, in that order.
fn members_of(json: &serde_json::Value) -> String {
    let member = |name: &str| {
        let text = json.get(name)?.as_str().unwrap_or("null");
        match text.len() > LONG {
            true => Some(format!("{name}={}*{}", &text[..1], text.len())),
            false => Some(format!("{name}={text}")),
        }
    };
    ["title", "body"].into_iter().filter_map(member).collect::<Vec<_>>().join(" ")
}

fn write(write: &Write) -> String {
    let operation = match &write.operation {
        Operation::Post { note } => format!("post {}", self::note(note)),
        Operation::Put { id, note } => format!("put {id} {}", self::note(note)),
        Operation::Patch { id, patch } => {
            format!("patch {id} {}", members_of(&serde_json::from_str(&patch.to_json()).unwrap()))
        }
        Operation::Delete { id } => format!("delete {id}"),
    };
    let key = write.key.iter().map(|key| format!("key={}", key.as_str()));
    let if_match = write
        .if_match
        .iter()
        .map(|versions| format!("if_match={}", versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")));
    std::iter::once(operation).chain(key).chain(if_match).collect::<Vec<_>>().join(" ")
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(done) => self::done(done),
        Outcome::Note { id, note, written } => format!("{} {}", version((*id, *written)), self::note(note)),
        Outcome::Notes { notes, more } => {
            let notes = notes.iter().map(|(id, note)| format!("{id} {}", self::note(note)));
            let more = more.then(|| "and more".to_owned());
            format!("notes [{}]", notes.chain(more).collect::<Vec<_>>().join("; "))
        }
        Outcome::Failed(failed) => failure(failed),
    }
}

fn done(done: &Done) -> String {
    format!("done {}", version((done.id, done.version)))
}

/// A failure up to its advice.
fn failure(failure: &Failure) -> String {
    let said = failure.msg.split(';').next().unwrap_or_default();
    format!("{} {}: {said}", failure.code.status(), failure.code)
}

fn view(view: &View) -> String {
    let in_sync = names(view.in_sync.iter().map(|member| member.replica));
    let joining = match view.joining.is_empty() {
        true => String::new(),
        false => format!(" joining={}", names(view.joining.iter().map(|member| member.replica))),
    };
    format!("view {} primary={} in_sync={in_sync}{joining}", view.epoch, name(view.primary))
}

/// All that a replica knows: its view, its committed records, its pending chains.
pub(super) fn state(at: ReplicaId, host: &Host) -> String {
    let Some(replica) = &host.replica else { return format!("{} is dead", name(at)) };
    let items = replica.items();
    let clean = items.committed_from(NoteId::SEQUENCE).map(record);
    let pending = items.chains_from(NoteId::SEQUENCE).map(|(id, chain)| {
        let versions: Vec<_> = chain.versions().map(|version| format!("v{version}")).collect();
        let newest = items.newest(id).map(|record| name(record.primary)).unwrap_or('?');
        format!("pending {} {} primary {newest}", item(id), versions.join(" "))
    });
    let epoch = replica.view().map_or(0, |view| view.epoch.0);
    let standing = standing(replica);
    let head = format!("{} in view {epoch} {standing}", name(at));
    std::iter::once(head).chain(clean).chain(pending).collect::<Vec<_>>().join("; ")
}

fn standing(replica: &Replica) -> String {
    format!("{:?}", replica.standing()).to_lowercase()
}

/// What a replica's disk holds.
pub(super) fn disk(at: ReplicaId, host: &Host) -> String {
    let records = host.disk.store.records.values().map(record);
    let keys = host.disk.store.keys.iter().map(|entry| format!("key {}", entry.key.as_str()));
    let all: Vec<_> = records.chain(keys).collect();
    let all = if all.is_empty() { "nothing".to_owned() } else { all.join("; ") };
    format!("{}'s disk holds {all}", name(at))
}
