//! The clients: each asks one thing at a time, of any replica, and may ask again under the same key.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use primacy::note::NoteId;
use primacy::protocol::ids::Version;
use tokio::time::{sleep, timeout};

use super::history::{Ask, Attempt, History, Reply};
use super::network::Connections;
use super::plan::{Plan, pick};
use super::talk::{Talk, Wish};

/// How long the first connection of a client may take.
const CONNECT: Duration = Duration::from_secs(1);

/// How long an answer may take after all has healed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Faults and requests.
    Faults,
    /// No more faults; a few more requests each.
    Healing,
}

/// What the clients and the world know together.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) stage: Cell<Stage>,
    /// Whether any write was done: the cluster is founded.
    pub(crate) serves: Cell<bool>,
    pub(crate) history: RefCell<History>,
    known: RefCell<Known>,
    /// What was wrong at the end.
    pub(crate) wrong: RefCell<Option<String>>,
    /// When all had come back after healing.
    pub(crate) converged_after: Cell<Option<Duration>>,
}

#[derive(Debug, Default)]
struct Known {
    last_tag: u32,
    last_key: u32,
    largest: u64,
    seen: Vec<(NoteId, Version)>,
}

impl Shared {
    pub(crate) fn new(plan: Plan) -> Rc<Shared> {
        Rc::new(Shared {
            plan,
            stage: Cell::new(Stage::Faults),
            serves: Cell::new(false),
            history: RefCell::default(),
            known: RefCell::default(),
            wrong: RefCell::default(),
            converged_after: Cell::default(),
        })
    }

    fn wish(&self, rng: &mut Rng) -> Wish {
        let mut known = self.known.borrow_mut();
        let id = NoteId(rng.u64(known.largest.saturating_sub(4).max(1)..=known.largest + 1));
        known.last_tag += 1;
        let tag = known.last_tag;
        let ask = match rng.u8(0..100) {
            0..35 => Ask::Get(id),
            35..42 => Ask::List,
            42..54 => Ask::Post((tag, tag)),
            54..74 => Ask::Put(id, *pick(rng, &[(tag, 0), (0, tag), (tag, tag)])),
            74..92 => {
                let (title, body) = *pick(rng, &[(Some(tag), None), (None, Some(tag)), (Some(tag), Some(0))]);
                Ask::Patch(id, title, body)
            }
            _ => Ask::Delete(id),
        };
        let key = (ask.is_write() && rng.u8(0..3) == 0).then(|| {
            known.last_key += 1;
            known.last_key
        });
        let seen = known.seen.iter().rev().find(|(seen, _)| *seen == id && !matches!(ask, Ask::Post(_)));
        let if_match = seen.filter(|_| ask.is_write() && rng.u8(0..5) == 0).map(|(_, version)| *version);
        Wish { ask, key, if_match }
    }

    fn learn(&self, ask: &Ask, reply: &Reply) {
        let mut known = self.known.borrow_mut();
        match (ask, reply) {
            (_, Reply::Done(id, version)) => {
                self.serves.set(true);
                known.largest = known.largest.max(id.0);
                known.seen.extend(version.map(|version| (*id, version)));
            }
            (Ask::Get(id), Reply::Found(_, version)) => known.seen.push((*id, *version)),
            (_, Reply::Notes(notes)) => {
                known.largest = known.largest.max(notes.keys().last().map_or(0, |id| id.0));
            }
            _ => {}
        }
        let surplus = known.seen.len().saturating_sub(16);
        known.seen.drain(..surplus);
    }

    /// Sends a wish over a connection; none where it broke.
    async fn attempt(
        &self,
        client: usize,
        talk: Option<Talk>,
        wish: &Wish,
        patience: Duration,
    ) -> (Reply, Option<Talk>) {
        let Some(mut talk) = talk else { return (Reply::NoEffect, None) };
        let called = self.history.borrow_mut().tick();
        let answered = timeout(patience, talk.ask(wish)).await;
        let mut history = self.history.borrow_mut();
        let returned = history.tick();
        let replica = talk.replica;
        let (reply, talk) = match answered {
            Ok(Ok(reply)) => (reply, Some(talk)),
            Ok(Err(_)) | Err(_) => (Reply::Unknown, None),
        };
        let Wish { ask, key, if_match } = wish;
        let (ask, key, if_match) = (ask.clone(), *key, *if_match);
        history.attempts.push(Attempt { client, replica, ask, key, if_match, called, returned, reply: reply.clone() });
        drop(history);
        self.learn(&wish.ask, &reply);
        (reply, talk)
    }
}

/// One client, until all has healed and it has asked a few things more.
pub(crate) async fn client(number: usize, shared: Rc<Shared>, network: Connections, mut rng: Rng) {
    let (mut talk, mut left) = (None, 8);
    while left > 0 {
        if shared.stage.get() == Stage::Healing {
            left -= 1;
        }
        sleep(Duration::from_millis(rng.u64(0..=shared.plan.think_ms))).await;
        let wish = shared.wish(&mut rng);
        let sends = if wish.key.is_some() { rng.u32(1..=3) } else { 1 };
        for _ in 0..sends {
            if rng.u8(0..4) == 0 {
                talk = None;
            }
            if talk.is_none() {
                let (replica, http) = (rng.usize(..shared.plan.replicas), rng.bool());
                talk = match timeout(CONNECT, Talk::connect(&network, replica, http)).await {
                    Ok(Ok(talk)) => Some(talk),
                    Ok(Err(_)) | Err(_) => None,
                };
            }
            let patience = Duration::from_millis(rng.u64(300..7_000));
            let (reply, kept) = shared.attempt(number, talk.take(), &wish, patience).await;
            talk = kept;
            if !matches!(reply, Reply::Unknown | Reply::NoEffect) && rng.u8(0..4) > 0 {
                break;
            }
        }
    }
}

/// Invariant 9: when faults stop, every replica comes back in sync, in bounded time.
pub(crate) async fn until_all_are_back(shared: &Shared, network: &Connections, bound: Duration) -> Result<(), String> {
    let begun = tokio::time::Instant::now();
    loop {
        let missing = match timeout(PATIENCE, look(shared, network)).await {
            Ok(Ok(())) => {
                shared.converged_after.set(Some(begun.elapsed()));
                return Ok(());
            }
            Ok(Err(missing)) => missing,
            Err(_) => "a status did not come".to_owned(),
        };
        if begun.elapsed() > bound {
            return Err(format!("invariant 9: when faults stop, all come back in sync; after {bound:?}: {missing}"));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn look(shared: &Shared, network: &Connections) -> Result<(), String> {
    let mut epochs = Vec::new();
    for replica in 0..shared.plan.replicas {
        let mut talk = Talk::connect(network, replica, true).await.map_err(|error| format!("{replica}: {error}"))?;
        let status = talk.status().await.map_err(|error| format!("{replica}: {error}"))?;
        let in_sync = status["view"]["in_sync"].as_array().map_or(0, Vec::len);
        epochs.push(status["view"]["epoch"].as_u64());
        if status["ready"] != true || in_sync != shared.plan.replicas {
            return Err(format!("{replica}: {status}"));
        }
    }
    match epochs.iter().all(|epoch| *epoch == epochs[0]) {
        true => Ok(()),
        false => Err(format!("they are in epochs {epochs:?}")),
    }
}

/// Writes a note at every replica, then reads every note at every one: all of it must be answered, and be the same.
pub(crate) async fn ask_everything(shared: &Shared, network: &Connections) -> Result<(), String> {
    let client = shared.plan.clients;
    for replica in 0..shared.plan.replicas {
        let tag = {
            let mut known = shared.known.borrow_mut();
            known.last_tag += 1;
            known.last_tag
        };
        let wish = Wish { ask: Ask::Post((tag, tag)), key: None, if_match: None };
        ask_last(shared, network, client, replica, wish).await?;
    }
    let largest = shared.known.borrow().largest;
    for replica in 0..shared.plan.replicas {
        for ask in (1..=largest).map(|id| Ask::Get(NoteId(id))).chain([Ask::List]) {
            ask_last(shared, network, client, replica, Wish { ask, key: None, if_match: None }).await?;
        }
    }
    Ok(())
}

async fn ask_last(
    shared: &Shared,
    network: &Connections,
    client: usize,
    replica: usize,
    wish: Wish,
) -> Result<(), String> {
    let refused = |why: String| {
        format!("when faults have stopped, every request is answered: {:?} at {replica}: {why}", wish.ask)
    };
    let talk =
        Talk::connect(network, replica, replica.is_multiple_of(2)).await.map_err(|error| refused(error.to_string()))?;
    match shared.attempt(client, Some(talk), &wish, PATIENCE).await.0 {
        Reply::Unknown | Reply::NoEffect => Err(refused("it was not".to_owned())),
        _ => Ok(()),
    }
}
