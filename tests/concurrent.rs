//! Many clients at all replicas at once: hot notes, POSTs and deletes everywhere, and in the end equal replicas.

mod cluster;

use std::sync::atomic::{AtomicU64, Ordering};

use cluster::{Cluster, wait_for};
use serde_json::Value;

const CLIENTS: u64 = 8;
const WRITES: u64 = 2_000;
const HOT: u64 = 3;

fn run(mode: &str) {
    let cluster = Cluster::start(mode, 4, r#","durability":"memory","log":"off""#);
    for _ in 0..HOT {
        assert_eq!(cluster.http(0, "POST", "/note", r#"{"title":"hot","body":""}"#).status, 201);
    }
    let posts = AtomicU64::new(HOT);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (cluster, posts) = (&cluster, &posts);
            scope.spawn(move || {
                for n in 0..WRITES / CLIENTS {
                    one_write(cluster, client, n, posts);
                }
            });
        }
    });
    let notes = |place: usize| cluster.http(place, "GET", "/note", "").json()["data"].clone();
    let first = notes(0);
    for place in 1..4 {
        assert_eq!(notes(place), first, "replica {place} and replica 0 in {mode}");
    }
    let ids: Vec<u64> = first.as_array().expect("a list").iter().filter_map(|note| note["id"].as_u64()).collect();
    let expected: Vec<u64> = (1..=posts.load(Ordering::Relaxed)).collect();
    assert_eq!(ids, expected, "ids have no gap in {mode}");
    let owned = |place: usize| cluster.http(place, "GET", "/status", "").json()["items_owned"].as_u64();
    let items = expected.len() as u64 + 1;
    wait_for("every item to have one primary", || (0..4).filter_map(owned).sum::<u64>() == items);
}

/// A client's n-th write, and now and then a read of what it wrote, at another replica.
fn one_write(cluster: &Cluster, client: u64, n: u64, posts: &AtomicU64) {
    let place = ((client + n) % 4) as usize;
    let title = format!("{client}-{n}");
    if n.is_multiple_of(3) {
        let answer = cluster.http(place, "POST", "/note", &format!(r#"{{"title":"{title}","body":""}}"#));
        assert_eq!(answer.status, 201, "{answer:?}");
        posts.fetch_add(1, Ordering::Relaxed);
        let path = answer.field("Location").expect("a Location").to_owned();
        let read: Value = cluster.http((place + 1) % 4, "GET", &path, "").json();
        assert_eq!(read["note"]["title"], title.as_str(), "a write is read everywhere once it is answered");
        return;
    }
    let path = format!("/note/{}", 1 + n % HOT);
    let answer = match n % 2 {
        0 => cluster.http(place, "PUT", &path, &format!(r#"{{"title":"{title}","body":""}}"#)),
        _ => cluster.http(place, "PATCH", &path, &format!(r#"{{"title":"{title}"}}"#)),
    };
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn remote_write_under_concurrent_clients() {
    run("remote-write");
}

#[test]
fn local_write_under_concurrent_clients() {
    run("local-write");
}

#[test]
fn a_delete_that_races_with_moves_leaves_every_replica_without_the_note() {
    let cluster = Cluster::start("local-write", 4, r#","durability":"memory","log":"off""#);
    for id in 1..=30_u64 {
        assert_eq!(cluster.http(0, "POST", "/note", r#"{"title":"t","body":""}"#).status, 201);
        let path = format!("/note/{id}");
        std::thread::scope(|scope| {
            for place in 0..4 {
                let (cluster, path) = (&cluster, &path);
                scope.spawn(move || {
                    let method = if place == 3 { "DELETE" } else { "PUT" };
                    let answer = cluster.http(place, method, path, r#"{"title":"x"}"#);
                    assert!(answer.status == 200 || (place < 3 && answer.status == 404), "{answer:?}");
                });
            }
        });
        for place in 0..4 {
            assert_eq!(cluster.http(place, "GET", &path, "").status, 404, "note {id} at {place}");
        }
    }
}
