//! `primacy bench` as a process: exit codes, what it prints, and the files that it writes.
//!
//! What the figures are is not asserted, but that they add up: how fast a machine is says nothing of the program.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use primacy::bench::{RESULT_FILE, RunResult};

mod cluster;
use cluster::{Cluster, Folder};

/// Both modes with links of both kinds, for as short as there is something to see.
const SHORT: &[&str] = &["--quick", "--rounds", "2", "--duration", "0.1", "--rate", "150", "--connections", "4"];

fn bench(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.current_dir(folder).env_remove("RUST_LOG").env("TMPDIR", folder).arg("bench").args(arguments);
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

#[test]
fn a_run_measures_every_scenario_and_writes_its_report() {
    let folder = Folder::new();
    let output = bench(folder.path(), &[SHORT, &["--delays", "0,2", "--out", "a"]].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.contains("hold what was written last, the same at every replica"), "{printed}");

    let out = folder.path().join("a");
    let result = RunResult::read(&out).expect("a result");
    assert_eq!(result.measured.rounds, 2);
    let names: BTreeSet<&str> = result.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    for name in [
        "remote-write/backup/2ms",
        "local-write/elsewhere",
        "local-write/item-primary/per-frame/2ms",
        "remote-write/primary/frames",
        "local-write/item-primary/frames/4-clients",
    ] {
        assert!(names.contains(name) && printed.contains(name), "{name} in {names:?}");
    }
    result.scenarios.iter().for_each(check_scenario);
    assert_eq!(result.checks.len(), 6, "a cluster for each mode, link and delay");
    assert!(result.is_consistent() && result.checks.iter().all(|check| check.notes == 4));

    check_report(&fs::read_to_string(out.join("report.html")).expect("a report"));
    check_histograms(&out.join("histograms.hlog"), &result);
    let left: Vec<PathBuf> = fs::read_dir(folder.path()).expect("a folder").flatten().map(|it| it.path()).collect();
    assert_eq!(left, [out], "no cluster's data is left");
}

/// Counts add up, times are in order, and what the protocol must send was sent.
fn check_scenario(scenario: &primacy::bench::ScenarioResult) {
    let name = &scenario.name;
    assert_eq!(scenario.requests, scenario.done + scenario.error_count(), "{name}");
    assert_eq!(scenario.error_count(), 0, "{name}: {:?}", scenario.errors);
    assert!(scenario.done > 0 && scenario.rounds.len() == 2, "{name}");
    if let Some(per_s) = scenario.offered_per_s {
        // Two rounds of 0.1 s, or of eight requests where they come slowly.
        let meant = 2 * ((0.1 * per_s).max(8.0).round() as u64);
        assert_eq!(scenario.requests, meant, "{name}");
    }
    let ms = &scenario.latency_ms;
    let known: Vec<f64> = [ms.p50, ms.p90, ms.p99, ms.p99_9, ms.max].into_iter().flatten().collect();
    assert!(known.is_sorted() && known.iter().all(|ms| *ms > 0.0), "{name}: {known:?}");
    assert_eq!(ms.p50.is_some(), scenario.done >= 20, "{name}: ten samples on either side of a median");
    assert_eq!(ms.p99, None, "{name}: {} samples are too few", scenario.done);
    let is_read = scenario.work == "read";
    assert_eq!(scenario.frames_per_write.is_none(), is_read, "{name}");
    // The round trips that theory says are waited for, whatever else the machine does.
    let longest_wait = scenario.round_trips.theory * 2.0 * scenario.delay_ms;
    let mean = scenario.mean_ms.expect("something was done");
    assert!(mean >= longest_wait, "{name}: {mean} ms is faster than {longest_wait} ms");
    assert_eq!(scenario.link_connections > 0, scenario.links == "per-frame", "{name}: {}", scenario.link_connections);
    assert_eq!(scenario.client_connections >= scenario.done, scenario.clients == "new", "{name}");
    assert_eq!(scenario.phases_ms.is_none(), scenario.by == "frames", "{name}: {:?}", scenario.phases_ms);
}

fn check_report(report: &str) {
    for title in [
        "Latency by percentile",
        "Latency against link delay",
        "Connections kept or not",
        "HTTP beside frames",
        "Requests a second",
        "Where the time goes",
    ] {
        assert!(report.contains(&format!("<h2>{title}</h2>")), "{title}");
    }
    assert_eq!(report.matches("<svg").count(), 6);
    assert_eq!(report.matches("How to read it:").count(), 6);
    assert!(!report.contains("src=") && !report.contains("href="), "it needs nothing beside itself");
}

/// Every latency that was counted is in the histograms.
fn check_histograms(file: &Path, result: &RunResult) {
    let bytes = fs::read(file).expect("histograms");
    let mut counts = Vec::new();
    let mut deserializer = hdrhistogram::serialization::Deserializer::new();
    for entry in IntervalLogIterator::new(&bytes) {
        if let Ok(LogEntry::Interval(interval)) = entry {
            let tag = interval.tag().expect("a tag").as_str().to_owned();
            let encoded = base64(interval.encoded_histogram());
            let histogram: hdrhistogram::Histogram<u64> =
                deserializer.deserialize(&mut BufReader::new(&encoded[..])).expect("a histogram");
            counts.push((tag, histogram.len()));
        }
    }
    let expected: Vec<(String, u64)> = result.scenarios.iter().map(|it| (it.name.clone(), it.done)).collect();
    assert_eq!(counts, expected);
}

/// Decodes base64 (RFC 4648 section 4).
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes().filter_map(|byte| ALPHABET.iter().position(|known| *known == byte)) {
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

#[test]
fn thresholds_end_with_3_and_are_checked_before_the_run() {
    let folder = Folder::new();
    let only = ["--only", "remote-write/primary", "--only", "remote-write/read"];
    let run = |more: &[&str]| bench(folder.path(), &[SHORT, &["--delays", "0"], &only, more].concat());
    let missed = run(&["--fail-if", "remote-write/primary p50 > 1us", "--fail-if", "*/read errors > 0"]);
    assert_eq!(code(&missed), 3, "{missed:?}");
    let told = text(&missed.stderr);
    assert!(told.contains("remote-write/primary: remote-write/primary p50 > 1us (it is "), "{told}");
    assert!(!told.contains("errors"), "{told}");

    let unknown = run(&["--fail-if", "*/primary p99 > 10s"]);
    assert_eq!(code(&unknown), 3, "a percentile that is not known is not kept: {unknown:?}");
    assert!(text(&unknown.stderr).contains("too few samples"), "{unknown:?}");

    assert_eq!(code(&run(&["--fail-if", "*/primary p50 > 60s"])), 0);
    let nobody = run(&["--fail-if", "local-write/read p50 > 1s"]);
    assert_eq!(code(&nobody), 2, "{nobody:?}");
    assert!(text(&nobody.stderr).contains("no scenario of this run is named so"), "{nobody:?}");
    assert_eq!(code(&run(&["--only", "nothing", "--fail-if", "a p98 > 1ms"])), 2);
}

#[test]
fn two_results_are_compared() {
    let folder = Folder::new();
    for out in ["a", "b"] {
        let only = ["--only", "remote-write/primary*", "--delays", "0", "--out", out];
        assert_eq!(code(&bench(folder.path(), &[SHORT, &only].concat())), 0);
    }
    let file = format!("b/{RESULT_FILE}");
    let output = bench(folder.path(), &["compare", "a", &file]);
    assert_eq!(code(&output), 0, "{output:?}");
    let printed = text(&output.stdout);
    assert!(printed.contains("remote-write/primary/4-clients"), "{printed}");
    assert!(printed.contains("noise") && !printed.contains("worse"), "two rounds tell nothing apart: {printed}");

    let none = bench(folder.path(), &["compare", "a", "c"]);
    assert_eq!((code(&none), text(&none.stderr).contains("cannot read c")), (1, true), "{none:?}");
    fs::write(folder.path().join("c"), "{}").expect("a file");
    let bad = bench(folder.path(), &["compare", "a", "c"]);
    assert_eq!((code(&bad), text(&bad.stderr).contains("is no result")), (1, true), "{bad:?}");
}

/// Every kind of scenario by frames: kept and new connections, open and closed loops, pipelined, with and without keys.
#[test]
fn frames_are_measured_through_the_client_library() {
    let folder = Folder::new();
    let only = ["--only", "*-write/*primary/frames*", "--only", "*/read/frames*", "--only", "*/memory/*in-flight"];
    let short = ["--rounds", "1", "--duration", "0.05", "--rate", "400", "--connections", "4", "--delays", "0"];
    let output = bench(folder.path(), &[&["--by", "frames", "--out", "a"], &short[..], &only].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let result = RunResult::read(&folder.path().join("a")).expect("a result");
    let names: BTreeSet<&str> = result.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    for mode in ["remote-write/primary", "local-write/item-primary"] {
        for rest in [
            "/frames",
            "/frames/new-connections",
            "/frames/4-clients",
            "/memory/frames/1-client/128-in-flight",
            "/memory/frames/keys/1-client/128-in-flight",
        ] {
            assert!(names.contains(format!("{mode}{rest}").as_str()), "{mode}{rest} in {names:?}");
        }
    }
    for scenario in &result.scenarios {
        let name = &scenario.name;
        assert_eq!((scenario.by.as_str(), scenario.error_count()), ("frames", 0), "{name}: {:?}", scenario.errors);
        assert!(scenario.done > 0, "{name}");
        let opened = if scenario.clients == "new" { scenario.done } else { 0 };
        assert_eq!(scenario.client_connections, opened, "{name}: those that are kept were open before");
    }
    assert!(result.is_consistent());
}

#[test]
fn a_cluster_that_runs_is_measured_and_left_as_it_was() {
    let cluster = Cluster::start("local-write", 3, r#","log":"off""#);
    let services = [0, 1, 2].map(|place| cluster.service(place)).join(",");
    let output = bench(cluster.folder.path(), &[SHORT, &["--target", &services]].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.contains("local-write/elsewhere") && !printed.contains("remote-write"), "{printed}");
    assert_eq!(cluster.http(0, "GET", "/note", "").body.trim(), r#"{"res":200,"data":[]}"#, "its notes are removed");

    let nobody = bench(cluster.folder.path(), &["--target", "127.0.0.1:1"]);
    let told = text(&nobody.stderr);
    assert_eq!((code(&nobody), told.contains("127.0.0.1:1 cannot be asked")), (1, true), "{told}");

    let one = bench(cluster.folder.path(), &[SHORT, &["--target", &cluster.service(1)]].concat());
    assert_eq!((code(&one), text(&one.stderr).contains("name the services of all replicas")), (2, true), "{one:?}");
}
