//! What the binary says of a wrong configuration or usage, and with which exit code it ends.

mod cluster;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use cluster::{Cluster, wait_for};

/// Runs the binary in the cluster's folder until it ends by itself.
fn run(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.args(arguments).current_dir(cluster.folder.path()).stdin(Stdio::null()).env_remove("RUST_LOG");
    command.envs(environment.iter().copied()).output().expect("the binary starts")
}

/// Runs it; it must refuse with exit code 2 and one line, which is returned without the program's name.
#[track_caller]
fn refused(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(cluster, arguments, environment);
    let said = String::from_utf8(output.stderr).expect("errors are UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "nothing is printed on stdout");
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim_end().strip_prefix("primacy: ").expect("the program names itself").to_owned()
}

fn configured() -> Cluster {
    Cluster::configure("remote-write", 3, "")
}

#[test]
fn a_wrong_file_is_refused_with_one_line() {
    let cluster = Cluster::configure("remote-wriet", 3, "");
    let expected = "./config.json: `sync` is \"remote-wriet\"; write \"remote-write\" or \"local-write\"";
    assert_eq!(refused(&cluster, &[], &[]), expected);
    let first = cluster.replicas[0].clone();
    assert_eq!(refused(&cluster, &["replica", &first], &[]), expected, "the same for one replica");

    let cluster = Cluster::configure("remote-write", 3, r#","min_insync":2"#);
    let said = refused(&cluster, &[], &[]);
    assert_eq!(
        said,
        "./config.json: `min_insync` is no key; the nearest is `min_in_sync`: write that, or leave it out"
    );

    fs::write(cluster.folder.path().join("config.json"), "{\n  \"service\": 9988,\n}").unwrap();
    let said = refused(&cluster, &[], &[]);
    assert_eq!(said, "./config.json: trailing comma at line 3 column 1; write one JSON object");
}

#[test]
fn a_missing_file_is_named() {
    let cluster = configured();
    let said = refused(&cluster, &["--config", "other.json"], &[]);
    assert!(said.starts_with("there is no file other.json; name another by --config PATH, or make it"), "{said}");
    assert_eq!(refused(&cluster, &[], &[("PRIMACY_CONFIG", "other.json")]), said);
}

#[test]
fn flags_and_variables_are_named_where_they_are_wrong() {
    let cluster = configured();
    assert_eq!(
        refused(&cluster, &[], &[("PRIMACY_MIN_IN_SYNC", "4")]),
        "`PRIMACY_MIN_IN_SYNC` is 4; write a whole number from 1 to 3, the number of replicas"
    );
    assert_eq!(
        refused(&cluster, &["--link-delay", "501"], &[("PRIMACY_LINK_DELAY_MS", "wrong, but not what counts")]),
        "`--link-delay` is 501; write a number of milliseconds from 0 to 500"
    );
    let first = cluster.replicas[0].clone();
    assert_eq!(
        refused(&cluster, &["replica", &first, "--log", "loud"], &[("PRIMACY_SYNC", "local-write")]),
        "`--log` is loud; write classic or json or off"
    );
}

#[test]
fn a_replica_that_is_not_configured_is_refused_with_those_that_are() {
    let cluster = configured();
    let said = refused(&cluster, &["replica", "127.0.0.1:1"], &[]);
    let known = cluster.replicas.join(", ");
    let expected =
        format!("ADDRESS is 127.0.0.1:1, which is not in `replicas` of the configuration; write one of {known}");
    assert_eq!(said, expected);
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let said = refused(&configured(), &[], &[("RUST_LOG", "primacy=loud")]);
    assert!(said.starts_with("`RUST_LOG` is no filter: "), "{said}");
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let cluster = configured();
    for arguments in [&["replica"][..], &["--sinc", "remote-write"], &["start"], &["--data", "x", "replica", "a:1"]] {
        assert_eq!(run(&cluster, arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["replica", "--help"], &["--version"]] {
        let output = run(&cluster, arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_names_its_key_and_how_to_free_it() {
    let cluster = configured();
    let replica = cluster.replicas[1].clone();
    let (host, port) = replica.split_once(':').unwrap();
    let held = TcpListener::bind(&replica).unwrap();
    let expected = format!(
        "`replicas`: port {port} of {host}: it is in use; end the program that has it (`ss -tanp sport = :{port}` \
         shows it), or write another port"
    );
    assert_eq!(refused(&cluster, &[], &[]), expected);
    assert_eq!(refused(&cluster, &["replica", &replica], &[]), expected);
    drop(held);

    let service = cluster.service(2);
    let (_, port) = service.split_once(':').unwrap();
    let _held = TcpListener::bind(&service).unwrap();
    let said = refused(&cluster, &[], &[]);
    let owner = &cluster.replicas[2];
    let expected = format!("`service`: port {port} of {host}, for the service of replica {owner}: it is in use; end ");
    assert!(said.starts_with(&expected), "{said}");
}

/// 40000 is in the configuration that comes with the program, and in Linux's default range of outgoing ports.
#[test]
#[cfg(target_os = "linux")]
fn a_port_that_an_outgoing_connection_may_have_says_how_to_keep_it() {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let port = range.split_whitespace().next().expect("the range has a first port");
    let cluster = configured();
    let address = format!("{}:{port}", cluster.host);
    let _held = TcpListener::bind(&address).unwrap();
    let said = refused(&cluster, &["--replicas", &address], &[]);
    assert!(said.contains(&format!("; {port} is one of the ports that this system gives to outgoing conn")), "{said}");
    assert!(said.ends_with(&format!("with `sysctl -w net.ipv4.ip_local_reserved_ports={port}`")), "{said}");
}

#[test]
fn an_address_of_another_host_says_where_to_start_the_replica() {
    // For documentation (RFC 5737): no host has it.
    let said = refused(&configured(), &["--replicas", "203.0.113.77:10000"], &[]);
    assert!(said.contains("start this replica there with `primacy replica 203.0.113.77:10000`"), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_that_cannot_be_written_is_a_failure_not_a_usage_error() {
    let cluster = configured();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    let output = command.current_dir(cluster.folder.path()).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("primacy: cannot write to standard output: "), "{said}");
}

#[test]
fn the_banner_tells_where_everything_is_and_signals_end_it_with_0() {
    for (signal, alone) in [("TERM", false), ("INT", false), ("TERM", true)] {
        let mut cluster = Cluster::configure("remote-write", 4, r#","durability":"memory""#);
        let number = if alone { cluster.spawn_replica(1) } else { cluster.spawn(&[]) };
        let (replicas, host) = (cluster.replicas.clone(), cluster.host.clone());
        let process = cluster.process(number);
        // The last line of the banner is the command for the last replica.
        let last = format!(" replica {}", replicas[3]);
        wait_for("the banner", || process.out().iter().any(|line| line.ends_with(&last)));
        let text = process.out().join("\n");
        assert!(text.contains("remote-write, 4 replicas"), "{text}");
        assert!(text.contains("Any 1 of 4 replicas may die"), "{text}");
        for (place, replica) in replicas.iter().enumerate() {
            let role = if place == 0 { "primary" } else { "backup " };
            assert!(text.contains(&format!("{replica}  {role}  http://{host}:{}", 9988 + place)), "{text}");
        }
        assert_eq!(text.contains("(this process)"), alone, "{text}");
        process.signal(signal);
        assert_eq!(process.wait(), 0);
        wait_for("the word on stderr", || process.err().iter().any(|line| line.starts_with("primacy: stopping")));
    }
}
