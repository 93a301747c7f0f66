//! The language of the scripts. Replicas are letters, in config order.
//!
//! | command | does |
//! | --- | --- |
//! | `cluster A,B,C remote-write [min_in_sync=2] [leases=none]` | makes replicas; they know no view; leases run for ever |
//! | `start … [notes=1]` | the same, a first view, and notes that A's clients posted, without a word |
//! | `view 2 primary=B in_sync=B,C [joining=A] [to=B]` | gives a view to its members, or to those named |
//! | `A post title=a body=b [key=K]` | a client asks A, as do `put 1 …`, `patch 1 body=null`, `delete 1`; `if_match=1-1`; `body=x*1000` is long |
//! | `A get 1`, `A list [after=1] [limit=2]` | a client reads at A |
//! | `deliver A>B [all]` | the first message from A to B arrives, or all that are there |
//! | `drop A>B` | all messages from A to B are lost |
//! | `run` | everything arrives, one message of each link in turn, until nothing is left |
//! | `hold A disk`, `release A disk` | A's disk is slow until it is released; else it is quick |
//! | `wait [A] 5000` | that many ms pass, and A, or everybody, is told so |
//! | `lease A 100` | A's lease runs for that many ms from now |
//! | `crash A`, `restart A` | A dies; A starts with what its disk has |
//! | `inject B>A [incarnation=9] {…}` | a frame arrives at A, whatever the links have |
//! | `state`, `disks` | shows what every replica knows, and what its disk holds |

use std::collections::BTreeMap;

use super::cluster::{Cluster, Settings};
use super::show;
use crate::config::Mode;
use crate::note::{Note, NoteId, Patch};
use crate::protocol::codec;
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId, Version};
use crate::protocol::request::{Key, Operation, Page, Request, Write};
use crate::protocol::view::View;

/// Runs a script; the same text with what happened under each command.
pub(super) fn run(name: &str, text: &str) -> String {
    let mut cluster = None;
    let mut found = String::new();
    for line in text.lines() {
        let kept = line.is_empty() || line.starts_with('#') || line.starts_with('>');
        if kept {
            found.push_str(line);
            found.push('\n');
        }
        if let Some(command) = line.strip_prefix("> ") {
            carry_out(&mut cluster, command).unwrap_or_else(|| panic!("{name}: no such command: {command}"));
            let lines = cluster.as_mut().map(Cluster::take_lines).unwrap_or_default();
            lines.iter().for_each(|line| found.extend([line.as_str(), "\n"]));
        }
    }
    println!("{found}");
    cluster.unwrap_or_else(|| panic!("{name}: begins no cluster")).check_end();
    found
}

/// A command's words: those in order, and the `name=value` ones.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(command: &'a str) -> Words<'a> {
        let (command, json) = match command.find('{') {
            Some(at) => (&command[..at], Some(&command[at..])),
            None => (command, None),
        };
        let (mut plain, mut named) = (Vec::new(), BTreeMap::new());
        for word in command.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) => drop(named.insert(name, value)),
                None => plain.push(word),
            }
        }
        plain.extend(json);
        Words { plain, named }
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.named.get(name).map_or(default, |value| value.parse().unwrap())
    }
}

/// None where there is no such command.
fn carry_out(cluster: &mut Option<Cluster>, command: &str) -> Option<()> {
    let words = Words::of(command);
    if let ["cluster" | "start", all, mode] = words.plain.as_slice() {
        let fresh = cluster.insert(Cluster::new(settings(all, mode, &words)));
        if words.plain[0] == "start" {
            give_view(fresh, 1, &Words::of("primary=A"));
            fresh.run();
            fresh.post_notes(words.number("notes", 0));
            fresh.take_lines();
        }
        return Some(());
    }
    let cluster = cluster.as_mut()?;
    match words.plain.as_slice() {
        ["view", epoch] => give_view(cluster, epoch.parse().ok()?, &words),
        ["deliver", link] => {
            let (from, to) = self::link(link)?;
            assert!(cluster.deliver(from, to, true), "{command}: there is nothing to deliver");
        }
        ["deliver", link, "all"] => {
            let (from, to) = self::link(link)?;
            while cluster.deliver(from, to, true) {}
        }
        ["drop", link] => self::link(link).map(|(from, to)| cluster.drop_link(from, to))?,
        ["run"] => cluster.run(),
        ["hold", at, "disk"] => cluster.hold_disk(replica(at)?),
        ["release", at, "disk"] => cluster.release_disk(replica(at)?),
        ["wait", ms] => cluster.wait(None, ms.parse().ok()?),
        ["wait", at, ms] => cluster.wait(Some(replica(at)?), ms.parse().ok()?),
        ["lease", at, ms] => cluster.lease(replica(at)?, ms.parse().ok()?),
        ["crash", at] => cluster.crash(replica(at)?),
        ["restart", at] => cluster.restart(replica(at)?),
        ["inject", link, json] => inject(cluster, self::link(link)?, json, &words),
        ["state"] => {
            let lines: Vec<_> = cluster.hosts().map(|(at, host)| show::state(at, host)).collect();
            lines.into_iter().for_each(|line| cluster.say(line));
        }
        ["disks"] => {
            let lines: Vec<_> = cluster.hosts().map(|(at, host)| show::disk(at, host)).collect();
            lines.into_iter().for_each(|line| cluster.say(line));
        }
        [at, verb @ ..] => {
            let (at, request) = (replica(at)?, request(verb, &words)?);
            cluster.request(at, request);
        }
        [] => return None,
    }
    Some(())
}

fn settings(all: &str, mode: &str, words: &Words<'_>) -> Settings {
    let replicas = u8::try_from(all.split(',').count()).unwrap();
    let mode = match mode {
        "remote-write" => Mode::RemoteWrite,
        "local-write" => Mode::LocalWrite,
        other => panic!("{other} is no mode"),
    };
    let min_in_sync = words.number("min_in_sync", if replicas < 3 { 1 } else { 2 }) as usize;
    let leases = words.named.get("leases") != Some(&"none");
    Settings { replicas, mode, min_in_sync, leases, items_per_turn: 1_000 }
}

fn give_view(cluster: &mut Cluster, epoch: u64, words: &Words<'_>) {
    let list = |name| words.named.get(name).map(|letters| replicas(letters));
    let in_sync = list("in_sync").unwrap_or_else(|| cluster.all().collect());
    let joining = list("joining").unwrap_or_default();
    let view = View {
        epoch: Epoch(epoch),
        primary: replica(words.named["primary"]).unwrap(),
        in_sync: in_sync.iter().map(|replica| cluster.member(*replica)).collect(),
        joining: joining.iter().map(|replica| cluster.member(*replica)).collect(),
    };
    for at in list("to").unwrap_or_else(|| [in_sync, joining].concat()) {
        cluster.apply_view(at, view.clone());
    }
}

fn inject(cluster: &mut Cluster, (from, to): (ReplicaId, ReplicaId), json: &str, words: &Words<'_>) {
    let envelope = codec::decode(json.as_bytes()).unwrap();
    let incarnation = Incarnation(words.number("incarnation", cluster.member(from).incarnation.0));
    cluster.message(from, to, incarnation, envelope);
}

fn replica(letter: &str) -> Option<ReplicaId> {
    match letter.as_bytes() {
        [letter @ b'A'..=b'P'] => Some(ReplicaId(letter - b'A')),
        _ => None,
    }
}

fn replicas(letters: &str) -> Vec<ReplicaId> {
    letters.split(',').map(|letter| replica(letter).unwrap()).collect()
}

fn link(link: &str) -> Option<(ReplicaId, ReplicaId)> {
    let (from, to) = link.split_once('>')?;
    Some((replica(from)?, replica(to)?))
}

fn request(verb: &[&str], words: &Words<'_>) -> Option<Request> {
    let id = |text: &str| text.parse().ok().map(NoteId);
    let body = members(words);
    let operation = match *verb {
        ["get", of] => return Some(Request::Get(id(of)?)),
        ["list"] => {
            let limit = words.number("limit", 100) as usize;
            let bytes_max = words.number("bytes_max", 1 << 20) as usize;
            return Some(Request::List(Page { after: NoteId(words.number("after", 0)), limit, bytes_max }));
        }
        ["post"] => Operation::Post { note: Note::from_post(body.as_bytes()).unwrap() },
        ["put", of] => Operation::Put { id: id(of)?, note: Note::from_put(id(of)?, body.as_bytes()).unwrap() },
        ["patch", of] => Operation::Patch { id: id(of)?, patch: Patch::parse(id(of)?, body.as_bytes()).unwrap() },
        ["delete", of] => Operation::Delete { id: id(of)? },
        _ => return None,
    };
    let key = words.named.get("key").map(|key| Key::try_from(*key).unwrap());
    let if_match = words.named.get("if_match").map(|list| list.split(',').map(version).collect());
    Some(Request::Write(Write { operation, key, if_match }))
}

/// `null`, a text, or `x*1000`: a long one.
fn member(value: &str) -> serde_json::Value {
    match (value, value.split_once('*')) {
        ("null", _) => serde_json::Value::Null,
        (_, Some((letter, times))) => letter.repeat(times.parse().unwrap()).into(),
        (short, None) => short.into(),
    }
}

/// The JSON of `title=a body=null`.
fn members(words: &Words<'_>) -> String {
    let mut body = serde_json::Map::new();
    for name in ["title", "body"] {
        if let Some(value) = words.named.get(name) {
            body.insert(name.to_owned(), member(value));
        }
    }
    serde_json::Value::Object(body).to_string()
}

fn version(text: &str) -> Version {
    let (epoch, counter) = text.split_once('-').unwrap();
    Version { epoch: Epoch(epoch.parse().unwrap()), counter: counter.parse().unwrap() }
}
