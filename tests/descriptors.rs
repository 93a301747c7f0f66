//! File descriptors run short: clients never take those that replicas need, and a process without any waits for some.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod cluster;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use cluster::{Cluster, try_http, wait_for};

const NOTE: &str = r#"{"title":"a","body":"b"}"#;

/// Connections to one replica's two ports, half to each, that say nothing.
fn flood(cluster: &Cluster, place: usize, count: usize) -> Vec<TcpStream> {
    let targets = [cluster.service(place), cluster.replicas[place].clone()];
    (0..count).map(|number| TcpStream::connect(&targets[number % 2]).unwrap()).collect()
}

#[test]
fn clients_leave_descriptors_for_the_links() {
    // The second replica is started when clients have taken all that they get at the first one.
    let mut cluster = Cluster::configure("remote-write", 2, r#","min_in_sync":1"#);
    let address = cluster.replicas[0].clone();
    cluster.spawn_limited(200, &["replica", &address]);
    wait_for("the service to listen", || TcpStream::connect(cluster.service(0)).is_ok());
    let flood = flood(&cluster, 0, 400);
    cluster.spawn_replica(1);
    cluster.wait_ready_at(1);
    let made = cluster.http(1, "POST", "/note", NOTE);
    assert_eq!(made.status, 201, "{}\n{}", made.body, cluster.printed());
    let served = try_http(&cluster.service(0), "GET", "/health", &[], "");
    let closed = served.is_err();
    // Told so, or, past those that are told, closed without a word.
    assert!(
        served.is_ok_and(|answer| answer.status == 503) || closed,
        "clients have no place left at the first replica"
    );
    drop(flood);
    cluster.wait_ready_at(0);
}

/// Processor time of a process so far, in ms (proc(5): fields 14 and 15 of stat, in hundredths of a second).
fn processor_ms(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    [11, 12].map(|field| fields[field].parse::<u64>().unwrap()).iter().sum::<u64>() * 10
}

#[test]
fn a_process_without_descriptors_waits_and_goes_on() {
    let mut cluster = Cluster::configure("remote-write", 1, "");
    let number = cluster.spawn_limited(48, &[]);
    cluster.wait_ready();
    let flood = flood(&cluster, 0, 200);
    wait_for("accepting to pause", || {
        cluster.process(number).err().iter().any(|line| line.contains("accepting connections pauses"))
    });
    let id = cluster.process(number).id();
    let (before, began) = (processor_ms(id), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let used = Duration::from_millis(processor_ms(id) - before);
    assert!(used < began.elapsed() / 2, "{used:?} of processor time while there was nothing to do");
    drop(flood);
    wait_for("the service to go on", || {
        try_http(&cluster.service(0), "POST", "/note", &[], NOTE).is_ok_and(|answer| answer.status == 201)
    });
}
