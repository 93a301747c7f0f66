//! What a cluster's replicas count and measure, against what was asked of them.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use cluster::{Cluster, wait_for};

/// Every sample of a replica's `/metrics`, by its name and labels.
fn samples(cluster: &Cluster, place: usize) -> BTreeMap<String, f64> {
    let answer = cluster.http(place, "GET", "/metrics", "");
    assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap())
        .collect()
}

fn sample(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    *samples.get(name).unwrap_or_else(|| panic!("there is no {name} among {:#?}", samples.keys()))
}

fn phase_count(mode: &str, operation: &str, phase: &str) -> String {
    format!("primacy_request_seconds_count{{mode=\"{mode}\",operation=\"{operation}\",phase=\"{phase}\"}}")
}

/// Ten writes and five reads by HTTP, a read and an error by lines, all at the last replica.
fn load(cluster: &Cluster) {
    for _ in 0..5 {
        assert_eq!(cluster.http(2, "POST", "/note", "{\"title\":\"a\",\"body\":\"b\"}").status, 201);
        assert_eq!(cluster.http(2, "PUT", "/note/1", "{\"title\":\"c\"}").status, 200);
        assert_eq!(cluster.http(2, "GET", "/note/1", "").status, 200);
    }
    assert_eq!(cluster.http(2, "GET", "/note/77", "").status, 404);
    let mut stream = TcpStream::connect(&cluster.replicas[2]).unwrap();
    stream.write_all(b"{\"type\":\"get\",\"id\":1}\n{\"type\":\"brew\"}\n").unwrap();
    assert_eq!(BufReader::new(stream).lines().take(2).filter(|line| line.is_ok()).count(), 2);
}

#[test]
fn what_was_asked_is_what_is_counted() {
    let cluster = Cluster::start("remote-write", 3, "");
    load(&cluster);
    let at_backup = samples(&cluster, 2);
    for (name, count) in [
        ("primacy_requests_total{code=\"201\",method=\"POST\",protocol=\"http\"}", 5.0),
        ("primacy_requests_total{code=\"200\",method=\"PUT\",protocol=\"http\"}", 5.0),
        ("primacy_requests_total{code=\"404\",method=\"GET\",protocol=\"http\"}", 1.0),
        ("primacy_requests_total{code=\"200\",method=\"GET\",protocol=\"frames\"}", 1.0),
        ("primacy_requests_total{code=\"400\",method=\"other\",protocol=\"frames\"}", 1.0),
        (&phase_count("remote-write", "write", "total"), 10.0),
        (&phase_count("remote-write", "write", "forward"), 10.0),
        (&phase_count("remote-write", "write", "move"), 0.0),
        (&phase_count("remote-write", "read", "total"), 7.0),
        ("primacy_notes", 5.0),
        ("primacy_ready", 1.0),
        ("primacy_view_members{set=\"in_sync\"}", 3.0),
        ("primacy_open_writes", 0.0),
    ] {
        assert_eq!(sample(&at_backup, name), count, "{name}");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "primacy_views_total"] {
        assert!(sample(&at_backup, name) > 0.0, "{name}");
    }
}

/// The names in the README's table of metrics.
fn described() -> BTreeSet<&'static str> {
    let readme = include_str!("../README.md");
    let section = readme.split("### Metrics").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`')).filter(|name| name.starts_with("primacy_")).collect()
}

#[test]
fn the_readme_names_exactly_the_metrics_that_there_are() {
    let cluster = Cluster::start("local-write", 3, "");
    assert_eq!(cluster.http(0, "POST", "/note", "{\"title\":\"a\",\"body\":\"b\"}").status, 201);
    assert_eq!(cluster.http(1, "PUT", "/note/1", "{\"title\":\"c\"}").status, 200);
    let text = cluster.http(1, "GET", "/metrics", "").body;
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let ours: BTreeSet<&str> = families.filter(|name| name.starts_with("primacy_")).collect();
    assert_eq!(ours, described());
}

#[test]
fn links_and_stores_are_counted_on_both_sides() {
    let cluster = Cluster::start("remote-write", 3, "");
    load(&cluster);
    let primary = samples(&cluster, 0);
    let records = sample(&primary, "primacy_store_batch_records_sum");
    let commits = sample(&primary, "primacy_store_commit_seconds_count");
    assert!(records >= 15.0 && commits > 0.0, "{records} records in {commits} commits: a POST has two, a PUT one");
    assert_eq!(commits, sample(&primary, "primacy_store_batch_records_count"));
    let link = |address: &str, what: &str, way: &str| {
        format!("primacy_link_{what}_total{{kind=\"data\",peer=\"{address}\",way=\"{way}\"}}")
    };
    // Every write is a forward there, and an update and its outcome back.
    let (first, last) = (&cluster.replicas[0], &cluster.replicas[2]);
    wait_for("both ends to have counted the same frames", || {
        let (primary, backup) = (samples(&cluster, 0), samples(&cluster, 2));
        let ends = ["frames", "bytes"].map(|what| {
            let sent = sample(&primary, &link(last, what, "out"));
            let received = sample(&backup, &link(first, what, "in"));
            assert!(sent >= 10.0, "{sent} {what}");
            sent == received
        });
        ends == [true, true]
    });
    let opens = format!("primacy_link_opens_total{{kind=\"data\",peer=\"{last}\"}}");
    assert_eq!(sample(&primary, &opens), 1.0, "one connection carries all");
}

#[test]
fn moves_are_counted_where_the_item_goes_and_where_it_was() {
    let cluster = Cluster::start("local-write", 3, r#","durability":"memory""#);
    assert_eq!(cluster.http(0, "POST", "/note", "{\"title\":\"a\",\"body\":\"b\"}").status, 201);
    for place in [1, 1, 0, 1] {
        assert_eq!(cluster.http(place, "PUT", "/note/1", "{\"title\":\"c\"}").status, 200);
    }
    let (there, here) = (samples(&cluster, 0), samples(&cluster, 1));
    assert_eq!(
        [sample(&here, "primacy_moves_total{way=\"in\"}"), sample(&here, "primacy_moves_total{way=\"out\"}")],
        [2.0, 1.0]
    );
    assert_eq!(
        [sample(&there, "primacy_moves_total{way=\"in\"}"), sample(&there, "primacy_moves_total{way=\"out\"}")],
        [1.0, 2.0]
    );
    assert_eq!(
        sample(&here, &phase_count("local-write", "write", "move")),
        2.0,
        "of four writes here, two had to move it"
    );
    assert_eq!(sample(&here, "primacy_items_owned"), 1.0);
}
