use super::*;

#[test]
fn requests_are_counted_by_method_and_code() {
    let metrics = Metrics::new("remote-write");
    metrics.requests.answered(Protocol::Http, "PUT", 200);
    metrics.requests.answered(Protocol::Http, "PUT", 200);
    metrics.requests.answered(Protocol::Frames, "PUT", 404);
    metrics.requests.answered(Protocol::Http, "BREW", 418);
    let text = metrics.text();
    for line in [
        "primacy_requests_total{code=\"200\",method=\"PUT\",protocol=\"http\"} 2",
        "primacy_requests_total{code=\"404\",method=\"PUT\",protocol=\"frames\"} 1",
        "primacy_requests_total{code=\"other\",method=\"other\",protocol=\"http\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn phases_that_took_no_time_are_left_out() {
    let metrics = Metrics::new("local-write");
    let names = ["queue", "forward", "move", "replicate", "store", "update", "respond", "total"];
    metrics.requests.took(true, names.map(|name| (name, if name == "forward" { 0 } else { 30 })));
    let text = metrics.text();
    let count =
        |phase| format!("primacy_request_seconds_count{{mode=\"local-write\",operation=\"write\",phase=\"{phase}\"}} ");
    assert!(text.contains(&(count("move") + "1")), "{text}");
    assert!(text.contains(&(count("forward") + "0")), "{text}");
    let bucket =
        "primacy_request_seconds_bucket{mode=\"local-write\",operation=\"write\",phase=\"total\",le=\"0.00004\"} 1";
    assert!(text.contains(bucket), "{text}");
}

#[test]
fn counters_follow_what_is_counted_elsewhere() {
    let metrics = Metrics::new("remote-write");
    let link = |frames| LinkFigures {
        peer: "b:1".to_owned(),
        kind: "data",
        up: true,
        opened: 3,
        round_trip_seconds: Some(0.002),
        waiting_bytes: 7,
        sent: Traffic { frames, bytes: 10 * frames },
        received: Traffic::default(),
    };
    metrics.state.set(&Sizes { epoch: 4, ..Sizes::default() }, &[link(5)]);
    metrics.state.set(&Sizes { epoch: 5, ..Sizes::default() }, &[link(8)]);
    let text = metrics.text();
    for line in [
        "primacy_epoch 5",
        "primacy_link_frames_total{kind=\"data\",peer=\"b:1\",way=\"out\"} 8",
        "primacy_link_bytes_total{kind=\"data\",peer=\"b:1\",way=\"out\"} 80",
        "primacy_link_opens_total{kind=\"data\",peer=\"b:1\"} 3",
        "primacy_link_reconnects_total{kind=\"data\",peer=\"b:1\"} 2",
        "primacy_link_round_trip_seconds{kind=\"data\",peer=\"b:1\"} 0.002",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

/// Prometheus' conventions (practices/naming): a prefix, base units, `_total` for counters and for nothing else.
#[test]
fn names_keep_the_conventions() {
    let text = Metrics::new("remote-write").text();
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(types.len() > 20, "{text}");
    for (name, kind) in types {
        assert!(name.starts_with("primacy_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(!["_ms", "_us", "_ns", "_kib"].iter().any(|unit| name.ends_with(unit)), "{name}: no base unit");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}
