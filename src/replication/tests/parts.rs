//! Recovery goes through many items in parts, one a turn, so that no turn takes long and no link is given too much.

use super::cluster::{Cluster, Settings};
use crate::config::Mode;
use crate::note::{Note, NoteId};
use crate::protocol::ids::{Epoch, ReplicaId};
use crate::protocol::request::{Operation, Outcome, Request, Write};
use crate::protocol::view::View;
use crate::replication::replica::Standing;

const PER_TURN: usize = 10;

/// Notes, with the id sequence one less than ten parts.
const NOTES: u64 = 98;

/// Three replicas that start with the same notes in their stores, and have heard of the view in which all come back.
fn all_come_back() -> Cluster {
    let settings =
        Settings { replicas: 3, mode: Mode::RemoteWrite, min_in_sync: 1, leases: true, items_per_turn: PER_TURN };
    let mut cluster = Cluster::new(settings);
    give_view(&mut cluster, 1);
    cluster.run();
    cluster.post_notes(NOTES);
    cluster.all().for_each(|at| cluster.restart(at));
    cluster.take_lines();
    give_view(&mut cluster, 2);
    cluster
}

fn give_view(cluster: &mut Cluster, epoch: u64) {
    let in_sync = cluster.all().map(|replica| cluster.member(replica)).collect();
    let view = View { epoch: Epoch(epoch), primary: ReplicaId(0), in_sync, joining: Vec::new() };
    cluster.all().for_each(|at| cluster.apply_view(at, view.clone()));
}

/// What was sent since, a line each; none names more items than a part has.
fn sent(cluster: &mut Cluster) -> Vec<String> {
    let lines: Vec<String> = cluster.take_lines().into_iter().filter(|line| line.contains(" -> ")).collect();
    for line in &lines {
        let named = line.matches(" v").count();
        assert!(named <= PER_TURN, "{named} items in one message: {line}");
    }
    lines
}

#[test]
fn a_turn_sends_one_part() {
    let mut cluster = all_come_back();
    let mut lines = sent(&mut cluster);
    assert_eq!(
        lines.iter().filter(|line| line.contains("recover")).count(),
        2,
        "a first part of each backup: {lines:?}"
    );
    loop {
        let links = cluster.busy_links();
        let unfinished = cluster.unfinished();
        for at in &unfinished {
            cluster.proceed(*at);
            let more = sent(&mut cluster);
            assert!(more.len() <= 2, "one part, and at the end `ready`: {more:?}");
            lines.extend(more);
        }
        for (from, to) in &links {
            cluster.deliver(*from, *to, false);
            lines.extend(sent(&mut cluster));
        }
        if links.is_empty() && unfinished.is_empty() {
            break;
        }
    }
    let count = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert_eq!((count(" recover "), count(" update "), count(" commit "), count(" ready")), (20, 10, 10, 1));
    for (_, host) in cluster.hosts() {
        let replica = host.replica.as_ref().unwrap();
        assert_eq!((replica.standing(), replica.items().notes()), (Standing::Ready, NOTES));
    }
}

/// A member that hears of all commits in one turn serves once it has taken note of them, in several.
#[test]
fn a_member_behind_with_the_commits_serves_later() {
    let mut cluster = all_come_back();
    let (first, last) = (ReplicaId(0), ReplicaId(2));
    while !cluster.take_lines().iter().any(|line| line.ends_with(" commit 1")) {
        cluster.unfinished().into_iter().for_each(|at| cluster.proceed(at));
        cluster.busy_links().into_iter().for_each(|(from, to)| _ = cluster.deliver(from, to, false));
    }
    while cluster.unfinished().contains(&first) {
        cluster.proceed(first);
    }
    cluster.deliver_together(first, last);
    let standing =
        |cluster: &Cluster| cluster.hosts().last().and_then(|(_, host)| Some(host.replica.as_ref()?.standing()));
    assert_eq!(standing(&cluster), Some(Standing::Recovering));
    cluster.run();
    assert_eq!(standing(&cluster), Some(Standing::Ready));
    cluster.check_end();
}

/// Who takes a note over answers reads of it at once (R1): also where it has not yet taken note of all commits that came
/// before the note did. The simulation found it (seed 1169729).
#[test]
fn a_note_that_moves_is_read_with_what_was_committed_before() {
    let settings = Settings { replicas: 2, mode: Mode::LocalWrite, min_in_sync: 1, leases: true, items_per_turn: 1 };
    let (old, new) = (ReplicaId(0), ReplicaId(1));
    let mut cluster = Cluster::new(settings);
    give_view(&mut cluster, 1);
    cluster.run();
    let note = |text: &str| Note::from_post(format!(r#"{{"title":"{text}","body":""}}"#).as_bytes()).unwrap();
    let write = |operation| Request::Write(Write { operation, key: None, if_match: None });
    for number in 1..=20 {
        cluster.request(old, write(Operation::Post { note: note(&number.to_string()) }));
    }
    while cluster.deliver(old, new, false) {}
    let last = NoteId(20);
    cluster.request(new, write(Operation::Put { id: last, note: note("new") }));
    while cluster.deliver(new, old, false) {}
    while cluster.unfinished().contains(&old) {
        cluster.proceed(old);
    }
    cluster.deliver_together(old, new);
    assert_eq!(cluster.unfinished(), [new], "it goes on with the commits in later turns");
    cluster.take_answers();
    cluster.request(new, Request::Get(last));
    let answers = cluster.take_answers();
    assert!(matches!(answers.as_slice(), [(_, Outcome::Note { .. })]), "{answers:?}");
    cluster.run();
    cluster.check_end();
}
