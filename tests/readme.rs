//! README.md's sessions, run at a live cluster as a reader would: what is printed is what the page shows, but for times,
//! dates and the numbers of connections.

mod cluster;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use cluster::{Cluster, Process, wait_for};

const DOCUMENT: &str = include_str!("../README.md");

/// A command of a session, and what is shown below it.
struct Turn {
    command: String,
    shown: Vec<String>,
}

/// The lines of all blocks with this fence, in the page's order.
fn blocks(fence: &str) -> Vec<&'static str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in DOCUMENT.lines() {
        match inside {
            true if line == "```" => inside = false,
            true => lines.push(line),
            false => inside = line == fence,
        }
    }
    assert!(!inside && !lines.is_empty(), "there is no whole block {fence}");
    lines
}

/// A line of the page as this cluster has it: the page's fourth port lies where systems take ports for dialing.
fn here(line: &str, cluster: &Cluster) -> String {
    let line = line.replace("127.0.0.1:40000", &cluster.replicas[3]).replace("127.0.0.1", &cluster.host);
    line.replace("target/release/primacy", env!("CARGO_BIN_EXE_primacy"))
}

/// The turns of all sessions: a command is a line behind `$ `.
fn turns(cluster: &Cluster) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for line in blocks("```console session") {
        let line = here(line, cluster);
        match (line.strip_prefix("$ "), turns.last_mut()) {
            (Some(command), _) => turns.push(Turn { command: command.to_owned(), shown: Vec::new() }),
            (None, Some(turn)) => turn.shown.push(line),
            (None, None) => panic!("a session begins with a command, not with {line}"),
        }
    }
    turns
}

/// A line without what differs from run to run: what follows these marks, up to the next of these ends.
fn masked(line: &str) -> String {
    const MARKS: &[(&str, &[char])] = &[
        ("Date: ", &[]),
        ("dur=", &[',']),
        ("Primacy-Connection: ", &[';']),
        ("\"opened\":", &[',']),
        ("\"frames\":", &[',']),
        ("\"rtt_ms\":", &['}']),
        ("\"lease_ms\":", &[',']),
        // Whoever was elected first.
        ("\"controller\":", &[',']),
        ("link=", &[' ']),
        ("frame=", &[' ']),
    ];
    let mut text = line.trim_end().to_owned();
    for (mark, ends) in MARKS {
        let mut parts = text.split(mark);
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(*ends).unwrap_or(part.len());
            masked.extend([mark, "…", &part[end..]]);
        }
        text = masked;
    }
    text
}

fn run(command: &str) -> Vec<String> {
    run_in(Path::new("."), command)
}

fn run_in(folder: &Path, command: &str) -> Vec<String> {
    let output = Command::new("bash").args(["-c", command]).current_dir(folder).output().expect("bash runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}\nthe sessions need curl and nc");
    String::from_utf8(output.stdout).expect("what is printed is UTF-8").lines().map(masked).collect()
}

#[test]
fn the_sessions_print_what_is_shown_in_both_modes() {
    for mode in ["remote-write", "local-write"] {
        let cluster = Cluster::start(mode, 4, "");
        for Turn { command, shown } in turns(&cluster) {
            let shown: Vec<_> = shown.iter().map(|line| masked(line)).collect();
            // Only the shown mode's phases and versions are comparable in full.
            let (shown, printed) = match mode {
                "remote-write" => (shown, run(&command)),
                _ => (without_costs(shown), without_costs(run(&command))),
            };
            assert_eq!(printed, shown, "{mode}: {command}");
        }
    }
}

/// Without the lines that say what a write or its mode cost.
fn without_costs(lines: Vec<String>) -> Vec<String> {
    let costs = ["Server-Timing:", "ETag:", "Primacy-Primary:", "{\"replica\":"];
    lines.into_iter().filter(|line| !costs.iter().any(|cost| line.starts_with(cost))).collect()
}

/// A line of the log without its time stamp and its duration, columns set apart by one space.
fn without_times(line: &str) -> String {
    let line = line.split_once("] ").map_or(line, |(_, rest)| rest);
    let line = line.strip_suffix(" ms").and_then(|line| line.rsplit_once(' ')).map_or(line, |(rest, _)| rest);
    masked(line)
}

#[test]
fn the_log_shows_what_is_shown() {
    let mut cluster = Cluster::start("remote-write", 4, "");
    let shown: Vec<_> = blocks("```text log").iter().map(|line| without_times(&here(line, &cluster))).collect();
    let patch =
        turns(&cluster).into_iter().find(|turn| turn.command.contains("PATCH")).expect("the session has a PATCH");
    cluster.http(0, "POST", "/note", r#"{"title":"Hello World","body":"this is new note"}"#);
    run(&patch.command);
    let last = shown.last().expect("the log is shown").clone();
    let mut lines = Vec::new();
    wait_for(&format!("the log to show {last}"), || {
        lines = cluster.process(0).out().iter().map(|line| without_times(line)).collect();
        lines.contains(&last)
    });
    let start = lines.iter().position(|line| *line == shown[0]).unwrap_or_else(|| panic!("{lines:#?}"));
    let printed: BTreeSet<_> = lines[start..].iter().cloned().collect();
    let shown: BTreeSet<_> = shown.into_iter().collect();
    // The replies of three backups come in any order.
    assert_eq!(printed, shown);
}

/// A command of the page's `sh` blocks, without its comment.
fn shell_lines(cluster: &Cluster) -> Vec<String> {
    let lines = blocks("```sh").into_iter().map(|line| line.split("  #").next().unwrap_or(line).trim_end());
    lines.map(|line| here(line, cluster)).collect()
}

/// The arguments of a line that runs the program, through cargo or not.
fn arguments(line: &str) -> Option<Vec<&str>> {
    let rest = line.strip_prefix("cargo run --release").map(|rest| rest.trim_start().trim_start_matches("-- "));
    let rest = rest.or_else(|| line.strip_prefix(env!("CARGO_BIN_EXE_primacy")))?;
    Some(rest.split_whitespace().map(|word| word.trim_matches('\'')).collect())
}

/// Where the source is, without its extension, of the example, bench, test or fuzz target that a line runs.
fn long_runner(line: &str) -> Option<String> {
    let runs = [
        (" --example ", "examples"),
        (" --bench ", "benches"),
        ("cargo test --test ", "tests"),
        ("cargo fuzz run ", "fuzz/fuzz_targets"),
    ];
    runs.into_iter().find_map(|(command, folder)| {
        let name = line.split_once(command)?.1.split(' ').next()?;
        Some(format!("{folder}/{name}"))
    })
}

#[test]
fn every_shell_line_does_what_it_says() {
    let mut cluster = Cluster::start("remote-write", 4, "");
    for _ in 0..2 {
        cluster.http(0, "POST", "/note", r#"{"title":"a","body":"b"}"#);
    }
    for line in shell_lines(&cluster) {
        // What these run is long, and is tested by itself; but it has to be there.
        if let Some(source) = long_runner(&line) {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
            assert!(source.with_extension("rs").is_file() || source.is_dir(), "{line}");
            continue;
        }
        match arguments(&line).as_deref() {
            // Its own test measures what it can do.
            Some(["bench", ..]) => {}
            Some(["call", ..]) => assert!(run(&line).concat().contains(" 0 errors; ms: min "), "{line}"),
            Some(["monitor", ..]) => {
                let mut monitor = Process::spawn(cluster.folder.path(), &arguments(&line).expect("it has arguments"));
                wait_for(&line, || {
                    cluster.http(1, "PUT", "/note/2", r#"{"title":"b"}"#);
                    !monitor.out().is_empty()
                });
                monitor.signal("INT");
                assert_eq!(monitor.wait(), 0, "{line}");
            }
            Some(replicas) => starts(&cluster.host, replicas),
            // Programs of others, which measure for seconds; the requests are those of the sessions.
            None if ["wrk ", "hey ", "echo 'wrk."].iter().any(|other| line.starts_with(other)) => {}
            None => {
                let printed = run_in(cluster.folder.path(), &line).concat();
                assert!(!line.starts_with("curl ") || printed.starts_with("{\"res\":200,"), "{line}: {printed}");
            }
        }
    }
    cluster.process(0).signal("TERM");
    assert_eq!(cluster.process(0).wait(), 0);
}

/// Whether replicas that are started so do start, in a folder and on a loopback address of their own.
fn starts(host: &str, arguments: &[&str]) {
    let mut cluster = Cluster::configure("remote-write", 4, "");
    let own = |word: &&str| {
        word.replace(host, &cluster.host).replace("/tmp/", &format!("{}/", cluster.folder.path().display()))
    };
    let arguments: Vec<_> = arguments.iter().map(own).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let process = cluster.spawn(&arguments);
    match arguments.first() {
        // By itself it waits for the others.
        Some(&"replica") => wait_for("the banner", || !cluster.process(process).out().is_empty()),
        _ => cluster.wait_ready(),
    }
    cluster.process(process).signal("TERM");
    assert_eq!(cluster.process(process).wait(), 0, "{arguments:?}");
}

#[test]
fn an_event_of_a_monitor_has_the_members_that_are_shown() {
    let cluster = Cluster::start("remote-write", 4, "");
    let shown = here(blocks("```text event")[0], &cluster);
    for _ in 0..2 {
        cluster.http(0, "POST", "/note", r#"{"title":"a","body":"b"}"#);
    }
    let arguments = ["monitor", &cluster.replicas[1], "--note", "2", "--replica", &cluster.replicas[0]];
    let monitor = Process::spawn(cluster.folder.path(), &arguments);
    let mut printed = None;
    wait_for("an event", || {
        cluster.http(1, "PUT", "/note/2", r#"{"title":"b"}"#);
        printed = monitor.out().into_iter().find(|line| line.contains("replica_request"));
        printed.is_some()
    });
    let members = |line: &str| {
        let mut event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).expect("it is JSON");
        for differs in ["time", "link", "frame"] {
            assert!(event.remove(differs).is_some(), "{line} has no {differs}");
        }
        event
    };
    assert_eq!(printed.as_deref().map(members), Some(members(&shown)));
}

#[test]
fn every_key_of_the_configuration_is_in_the_table() {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    let keys: BTreeSet<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    for key in primacy::config::load::KEYS {
        assert!(keys.contains(key), "the README's table has no key `{key}`");
    }
}

#[test]
fn every_limit_is_in_its_table_with_its_default() {
    let rows = DOCUMENT.lines().skip_while(|line| !line.starts_with("| in `limits`")).skip(2);
    let shown: BTreeSet<String> = rows
        .map_while(|row| row.strip_prefix("| `"))
        .map(|row| row.replace("` |", ":").split(" |").next().unwrap().to_owned())
        .collect();
    let limits = format!("{:?}", primacy::config::Limits::default());
    let limits = limits.strip_prefix("Limits { ").unwrap().strip_suffix(" }").unwrap();
    assert_eq!(shown, limits.split(", ").map(str::to_owned).collect());
}
