use super::*;
use crate::certificates::Issuer;
use crate::protocol::ids::ReplicaId;

const REPLICAS: &str = r#""replicas": ["127.0.0.1:10000", "127.0.0.1:20000", "127.0.0.1:30000"]"#;

/// A file with the three required keys and `more`.
fn file(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!("{{ \"service\": 9988, \"sync\": \"remote-write\", {REPLICAS}{comma}{more} }}")
}

fn over(origin: Origin, key: &'static str, text: &str) -> Override {
    assert!(KEYS.contains(&key));
    Override { key, origin, text: text.to_owned() }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    check(Path::new("config.json"), text, &[])
}

fn error(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// The error that `more` gives beside the three required keys.
fn error_with(more: &str) -> String {
    error(&file(more))
}

fn error_of_flag(key: &'static str, text: &str) -> String {
    let flags = [over(Origin::Flag, key, text)];
    check(Path::new("config.json"), &file(""), &flags).expect_err(text).to_string()
}

#[test]
fn three_keys_are_enough() {
    let config = parse(&file("")).unwrap();
    assert_eq!(config, Config::new(Mode::RemoteWrite, config.replicas.clone(), 9988));
    assert_eq!(config.replicas.len(), 3);
}

#[test]
fn the_projects_own_file_is_right() {
    let config = load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config.json")), &[]).unwrap();
    let replicas: Vec<String> = config.replicas.iter().map(ToString::to_string).collect();
    assert_eq!(replicas, ["127.0.0.1:10000", "127.0.0.1:20000", "127.0.0.1:30000", "127.0.0.1:40000"]);
    let services: Vec<u16> = config.ids().map(|replica| config.service_port(replica)).collect();
    assert_eq!(services, [9988, 9989, 9990, 9991]);
}

#[test]
fn every_key_is_read_from_the_file() {
    let config = parse(&file(
        r#""min_in_sync": 3, "failure_timeout_ms": 200, "link_delay_ms": 12.5, "links": "per-frame", "data": "elsewhere",
           "durability": "memory", "log": "json", "request_timeout_ms": 1, "read_wait_ms": 600000,
           "hosts": ["notes.example.org", "[::1]"], "listen": "::", "limits": { "pipeline": 1, "head_ms": 100 },
           "insecure": true"#,
    ))
    .unwrap();
    assert_eq!(config.min_in_sync, 3);
    assert_eq!(config.failure_timeout_ms, 200);
    assert_eq!(config.link_delay_us, 12_500);
    assert_eq!(config.links, LinkUse::PerFrame);
    assert_eq!(config.data, Path::new("elsewhere"));
    assert_eq!(config.durability, Durability::Memory);
    assert_eq!(config.log, LogStyle::Json);
    assert_eq!((config.request_timeout_ms, config.read_wait_ms), (1, 600_000));
    assert_eq!(config.hosts, ["notes.example.org", "::1"]);
    assert_eq!(config.listen, Some("::".parse().unwrap()));
    assert_eq!((config.limits.pipeline, config.limits.head_ms, config.limits.body_ms), (1, 100, 30_000));
    assert!(config.insecure);
}

#[test]
fn every_key_is_read_from_flags_and_environment() {
    let folder = Secrets::new();
    let values = [
        ("service", "80"),
        ("sync", "local-write"),
        ("replicas", "a:1, b:2"),
        ("min_in_sync", "2"),
        ("failure_timeout_ms", "300"),
        ("link_delay_ms", "500"),
        ("links", "per-frame"),
        ("data", "d"),
        ("durability", "memory"),
        ("log", "off"),
        ("request_timeout_ms", "7"),
        ("read_wait_ms", "8"),
        ("hosts", "x,y"),
        ("listen", "127.0.0.1"),
        ("limits", r#"{"fields":20}"#),
        ("secret_file", folder.secret()),
        ("insecure", "true"),
        ("token_file", folder.secret()),
        ("tls", folder.tls()),
    ];
    assert_eq!(values.map(|(key, _)| key), KEYS);
    for origin in [Origin::Environment, Origin::Flag] {
        let overrides = values.map(|(key, text)| over(origin.clone(), key, text));
        let config = check(Path::new("config.json"), "{}", &overrides).unwrap();
        let mut expected = Config::new(Mode::LocalWrite, vec!["a:1".parse().unwrap(), "b:2".parse().unwrap()], 80);
        expected.min_in_sync = 2;
        expected.failure_timeout_ms = 300;
        expected.link_delay_us = 500_000;
        expected.links = LinkUse::PerFrame;
        expected.data = PathBuf::from("d");
        expected.durability = Durability::Memory;
        expected.log = LogStyle::Off;
        expected.request_timeout_ms = 7;
        expected.read_wait_ms = 8;
        expected.hosts = vec!["x".to_owned(), "y".to_owned()];
        expected.listen = Some("127.0.0.1".parse().unwrap());
        expected.limits.fields = 20;
        expected.secret = Some(SECRET_TEXT.parse().unwrap());
        expected.insecure = true;
        expected.tokens = Some(SECRET_TEXT.parse().unwrap());
        // Each reading of the files is another one.
        assert!(config.tls.is_some());
        expected.tls = config.tls.clone();
        assert_eq!(config, expected);
    }
}

#[test]
fn flags_win_over_environment_and_environment_over_the_file() {
    let path = Path::new("config.json");
    let text = file(r#""read_wait_ms": 1, "request_timeout_ms": 1, "limits": { "fields": 30, "pipeline": 30 }"#);
    let overrides = [
        over(Origin::Environment, "read_wait_ms", "2"),
        over(Origin::Environment, "request_timeout_ms", "2"),
        over(Origin::Environment, "limits", r#"{"fields":31}"#),
        over(Origin::Flag, "read_wait_ms", "3"),
    ];
    let config = check(path, &text, &overrides).unwrap();
    assert_eq!((config.read_wait_ms, config.request_timeout_ms), (3, 2));
    assert_eq!((config.limits.fields, config.limits.pipeline), (31, 30), "each limit counts for itself");
}

#[test]
fn a_missing_file_is_named_with_a_file_to_write() {
    let missing = std::env::temp_dir().join("primacy-no-such-folder").join("config.json");
    let text = load(&missing, &[]).unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("there is no file {}; name another by --config PATH, or make", missing.display()))
    );
    let example = &text[text.find('{').unwrap()..];
    parse(example).expect("the example that the error shows is a configuration");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_cause() {
    let folder = std::env::temp_dir();
    let text = load(&folder, &[]).unwrap_err().to_string();
    assert!(text.starts_with(&format!("cannot read {}: ", folder.display())), "{text}");
}

#[test]
fn syntax_errors_name_file_line_and_column() {
    assert_eq!(
        error("{ \"service\": 9988,\n  \"sync\": remote }"),
        "config.json: expected value at line 2 column 11; write one JSON object"
    );
    assert_eq!(
        error("[]"),
        "config.json: invalid type: sequence, expected an object at line 1 column 0; write one JSON object"
    );
    assert_eq!(error(""), "config.json: EOF while parsing a value at line 1 column 0; write one JSON object");
    assert_eq!(error("{} {}"), "config.json: trailing characters at line 1 column 4; write one JSON object");
}

#[test]
fn unknown_keys_name_the_nearest() {
    let cases = [
        (r#""sinc": 1"#, "config.json: `sinc` is no key; the nearest is `sync`: write that, or leave it out"),
        (
            r#""failure-timeout": 1"#,
            "config.json: `failure-timeout` is no key; the nearest is `failure_timeout_ms`: write that, or leave it out",
        ),
        (
            r#""limits": { "field": 1 }"#,
            "config.json: `limits.field` is no key; the nearest is `limits.fields`: write that, or leave it out",
        ),
    ];
    for (more, message) in cases {
        assert_eq!(error_with(more), message);
    }
    assert_eq!(
        error_of_flag("limits", r#"{"field":1}"#),
        "`field` in `--limits` is no key; the nearest is `limits.fields`: write that, or leave it out"
    );
}

#[test]
fn keys_given_twice_are_refused() {
    assert_eq!(error_with("\"service\": 9988"), "config.json: `service` is there twice; leave one out");
    assert_eq!(
        error_with(r#""limits": { "fields": 50, "fields": 50 }"#),
        "config.json: `limits.fields` is there twice; leave one out"
    );
}

#[test]
fn missing_keys_say_how_to_write_them() {
    assert_eq!(
        error("{}"),
        "config.json: `service` is missing; write \"service\": 9988, the port of the first HTTP service"
    );
    assert_eq!(
        error(r#"{"service":1}"#),
        "config.json: `sync` is missing; write \"sync\": \"remote-write\" or \"sync\": \"local-write\""
    );
    assert_eq!(
        error(r#"{"service":1,"sync":"local-write"}"#),
        "config.json: `replicas` is missing; write \"replicas\": [\"127.0.0.1:10000\", …], one for each"
    );
}

#[test]
fn values_that_do_not_fit_say_what_would() {
    let cases = [
        (r#""min_in_sync": 0"#, "`min_in_sync` is 0; write a whole number from 1 to 3, the number of replicas"),
        (r#""min_in_sync": 4"#, "`min_in_sync` is 4; write a whole number from 1 to 3, the number of replicas"),
        (r#""min_in_sync": "2""#, "`min_in_sync` is \"2\"; write a whole number from 1 to 3, the number of replicas"),
        (r#""failure_timeout_ms": 199"#, "`failure_timeout_ms` is 199; write a whole number from 200 to 600000"),
        (r#""failure_timeout_ms": 1e3"#, "`failure_timeout_ms` is 1000.0; write a whole number from 200 to 600000"),
        (r#""link_delay_ms": 500.1"#, "`link_delay_ms` is 500.1; write a number of milliseconds from 0 to 500"),
        (r#""link_delay_ms": -1"#, "`link_delay_ms` is -1; write a number of milliseconds from 0 to 500"),
        (r#""link_delay_ms": "5""#, "`link_delay_ms` is \"5\"; write a number of milliseconds from 0 to 500"),
        (r#""links": "per_frame""#, "`links` is \"per_frame\"; write \"persistent\" or \"per-frame\""),
        (r#""data": """#, "`data` is \"\"; write the path of a folder"),
        (r#""data": 1"#, "`data` is 1; write the path of a folder"),
        (r#""durability": true"#, "`durability` is true; write \"disk\" or \"memory\""),
        (r#""log": null"#, "`log` is null; write \"classic\" or \"json\" or \"off\""),
        (r#""request_timeout_ms": 0"#, "`request_timeout_ms` is 0; write a whole number from 1 to 600000"),
        (r#""request_timeout_ms": 600001"#, "`request_timeout_ms` is 600001; write a whole number from 1 to 600000"),
        (r#""read_wait_ms": 1.5"#, "`read_wait_ms` is 1.5; write a whole number from 1 to 600000"),
        (r#""hosts": "a""#, "`hosts` is \"a\"; write a list of host names, for instance [\"notes.example.org\"]"),
        (r#""hosts": ["a", "b:80"]"#, "`hosts[1]` is \"b:80\"; write a host name alone, without scheme, port and path"),
        (
            r#""listen": "localhost""#,
            "`listen` is \"localhost\"; write an IP address of this host, for instance 0.0.0.0 for all; names are not \
             looked up",
        ),
        (r#""insecure": 1"#, "`insecure` is 1; write true or false"),
        (r#""insecure": "true""#, "`insecure` is \"true\"; write true or false"),
        (r#""secret_file": """#, "`secret_file` is \"\"; write the path of a file"),
        (r#""limits": 3"#, "`limits` is 3; write a JSON object of limits, for instance {\"pipeline\":64}"),
        (r#""limits": { "pipeline": 0 }"#, "`limits.pipeline` is 0; write a whole number from 1 to 4096"),
        (r#""limits": { "head_ms": 600001 }"#, "`limits.head_ms` is 600001; write a whole number from 100 to 600000"),
        (
            r#""limits": { "head_bytes": 4096 }"#,
            "`limits.head_bytes` is 4096; the request line is part of the head: write at least 8192, which is \
             `limits.request_line_bytes`",
        ),
        (
            r#""limits": { "request_line_bytes": 65536 }"#,
            "`limits.request_line_bytes` is 65536; the request line is part of the head: write at most 32768, which is \
             `limits.head_bytes`",
        ),
    ];
    for (more, message) in cases {
        assert_eq!(error_with(more), format!("config.json: {message}"));
    }
    let many = vec!["\"a\""; 65].join(",");
    assert!(error_with(&format!("\"hosts\": [{many}]")).ends_with("write at most 64 host names, not 65"));
}

#[test]
fn required_values_that_do_not_fit_say_what_would() {
    let message = |service: &str, sync: &str| error(&format!("{{\"service\":{service},\"sync\":{sync},{REPLICAS}}}"));
    for service in ["0", "65536", "-1", "\"9988\"", "9988.5", "[9988]"] {
        assert_eq!(
            message(service, "\"remote-write\""),
            format!("config.json: `service` is {service}; write a port, a whole number from 1 to 65535")
        );
    }
    assert_eq!(
        message("9988", "\"remote\""),
        "config.json: `sync` is \"remote\"; write \"remote-write\" or \"local-write\""
    );
}

#[test]
fn lists_of_replicas_are_checked() {
    let message = |replicas: &str| error(&format!(r#"{{"service":9988,"sync":"local-write","replicas":{replicas}}}"#));
    let many = format!("[{}]", (1..=17).map(|n| format!("\"a:{n}\"")).collect::<Vec<_>>().join(","));
    let list = "write a list of addresses, for instance [\"127.0.0.1:10000\", \"127.0.0.1:20000\"]";
    let cases = [
        ("[]", "`replicas` is []; write 1 to 16 addresses, not 0".to_owned()),
        ("\"a:1\"", format!("`replicas` is \"a:1\"; {list}")),
        ("[10000]", format!("`replicas` is [10000]; {list}")),
        (
            r#"["a:1","a"]"#,
            "`replicas[1]` is \"a\"; it has no port; write HOST:PORT, for instance 127.0.0.1:10000".to_owned(),
        ),
        (
            r#"["a:0"]"#,
            "`replicas[0]` is \"a:0\"; it has port 0; write the port that the replica shall listen on, from 1 to 65535"
                .to_owned(),
        ),
        (
            r#"["a:1","b:1","a:1"]"#,
            "`replicas[2]` is \"a:1\"; replica 1 has this address already: write each replica once".to_owned(),
        ),
    ];
    for (replicas, expected) in cases {
        assert_eq!(message(replicas), format!("config.json: {expected}"));
    }
    assert!(message(&many).ends_with("…; write 1 to 16 addresses, not 17"), "{}", message(&many));
}

#[test]
fn service_ports_stay_below_the_last_and_off_the_replicas_own() {
    let message = |service: u16, replicas: &str| {
        error(&format!(r#"{{"service":{service},"sync":"local-write","replicas":[{replicas}]}}"#))
    };
    assert_eq!(
        message(65534, r#""a:1","b:1","a:2","a:3""#),
        "config.json: `service` is 65534; the service of replica a:3 would need port 65536: write at most 65533"
    );
    assert_eq!(
        message(9999, r#""a:10000","a:20000""#),
        "config.json: `service` is 9999; the service of replica a:20000 would need port 10000, where replica a:10000 \
         listens: write a port away from the replicas' own"
    );
    parse(r#"{"service":9999,"sync":"local-write","replicas":["a:10000","b:9998"]}"#)
        .expect("hosts have their own ports");
}

#[test]
fn errors_name_the_flag_or_the_variable() {
    assert_eq!(error_of_flag("sync", "remote"), "`--sync` is remote; write remote-write or local-write");
    assert_eq!(error_of_flag("sync", ""), "`--sync` is empty; write remote-write or local-write");
    assert_eq!(error_of_flag("service", "+80"), "`--service` is +80; write a port, a whole number from 1 to 65535");
    assert_eq!(
        error_of_flag("link_delay_ms", "inf"),
        "`--link-delay` is inf; write a number of milliseconds from 0 to 500"
    );
    assert_eq!(
        error_of_flag("replicas", "a:1,b"),
        "item 2 of `--replicas` is \"b\"; it has no port; write HOST:PORT, for instance 127.0.0.1:10000"
    );
    assert_eq!(error_of_flag("replicas", ""), "`--replicas` is empty; write 1 to 16 addresses, not 0");
    assert_eq!(
        error_of_flag("limits", r#"{"fields":0}"#),
        "`fields` in `--limits` is 0; write a whole number from 20 to 256"
    );
    assert_eq!(
        error_of_flag("limits", "pipeline=1"),
        "`--limits` is pipeline=1; write a JSON object of limits, for instance {\"pipeline\":64}"
    );
    let variable = [over(Origin::Environment, "min_in_sync", "two")];
    assert_eq!(
        check(Path::new("config.json"), &file(""), &variable).unwrap_err().to_string(),
        "`PRIMACY_MIN_IN_SYNC` is two; write a whole number from 1 to 3, the number of replicas"
    );
}

const SECRET_TEXT: &str = "0123456789abcdef0123456789abcdef";

/// A folder with files for secrets, removed at its end.
struct Secrets(PathBuf);

impl Secrets {
    fn new() -> Secrets {
        let path = std::env::temp_dir().join(format!("primacy-secrets-{}", getrandom::u64().unwrap()));
        std::fs::create_dir(&path).unwrap();
        Secrets(path)
    }

    /// The path of a file with this text that only its owner may read.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        Secrets::set_mode(&path, 0o600);
        path.to_str().unwrap().to_owned()
    }

    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn secret(&self) -> &'static str {
        Box::leak(self.file("secret", &format!("{SECRET_TEXT}\n")).into_boxed_str())
    }

    /// The value of `tls` with files for the host `a`.
    fn tls(&self) -> &'static str {
        Issuer::new(&self.0, "ca").sign(&self.0, "replica", &["a"]);
        let file = |name: &str| self.0.join(name).display().to_string();
        let text = serde_json::json!({ "cert": file("replica.pem"), "key": file("replica.key"), "ca": file("ca.pem") });
        Box::leak(text.to_string().into_boxed_str())
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_secret_comes_from_a_file_or_from_the_environment_and_is_never_shown() {
    let folder = Secrets::new();
    let path = folder.secret();
    let named = file(&format!("\"secret_file\": \"{path}\""));
    let expected = Some(SECRET_TEXT.parse().unwrap());
    assert_eq!(parse(&named).unwrap().secret, expected, "without its newline");
    let check = |text: &str, overrides: &[Override]| check(Path::new("config.json"), text, overrides);
    let variable = |text| Override { key: SECRET, origin: Origin::Environment, text: String::from(text) };
    assert_eq!(check(&file(""), &[variable(SECRET_TEXT)]).unwrap().secret, expected);
    assert_eq!(
        check(&named, &[variable(SECRET_TEXT)]).unwrap_err().to_string(),
        "`PRIMACY_SECRET` and config.json: `secret_file` are both given; leave one out"
    );
    let said = check(&file(""), &[variable("too short")]).unwrap_err().to_string();
    assert!(said.starts_with("`PRIMACY_SECRET`: a secret has 32 to 1024 visible ASCII"), "{said}");
    assert!(!said.contains("too short"), "{said}");
    assert!(error_with("\"secret\": \"x\"").contains("`secret` is no key"), "not in a file that is not closed");
}

#[test]
fn a_file_that_is_no_secret_is_refused_with_the_reason() {
    let folder = Secrets::new();
    let said = |path: &str| error_with(&format!("\"secret_file\": \"{path}\""));
    let path = folder.secret();
    for (mode, refused) in [(0o604, true), (0o602, true), (0o601, true), (0o640, false), (0o400, false)] {
        Secrets::set_mode(Path::new(path), mode);
        match parse(&file(&format!("\"secret_file\": \"{path}\""))) {
            Ok(_) => assert!(!refused, "{mode:o}"),
            Err(error) => assert_eq!(
                error.to_string(),
                format!(
                    "config.json: `secret_file`: {path} is open to every user of this host (mode {mode:o}), so it holds \
                     no secret; close it with `chmod 600`"
                )
            ),
        }
    }
    let path = folder.file("short", "0123456789\n");
    let expected = format!("config.json: `secret_file`: {path} holds no secret: a secret has 32 to 1024 visible ASCII");
    assert!(said(&path).starts_with(&expected), "{}", said(&path));
    assert!(said(&folder.file("long", &"a".repeat(70_000))).contains("is over 65536 bytes, so it is another file"));
    let missing = said("/no/such/secret");
    assert!(
        missing.starts_with("config.json: `secret_file`: /no/such/secret cannot be read: No such file"),
        "{missing}"
    );
}

#[test]
fn tokens_come_from_a_file_that_others_cannot_read() {
    let folder = Secrets::new();
    let named = |path: &str| file(&format!("\"token_file\": \"{path}\""));
    let path = folder.file("tokens", "0123456789abcdef\nfedcba9876543210\n");
    let tokens = parse(&named(&path)).unwrap().tokens.unwrap();
    assert!(tokens.allow(b"fedcba9876543210") && !tokens.allow(b""));
    Secrets::set_mode(Path::new(&path), 0o644);
    assert!(error(&named(&path)).contains("is open to every user of this host (mode 644)"));
    let path = folder.file("none", "short\n");
    let expected =
        format!("config.json: `token_file`: {path} holds no tokens: tokens are 1 to 64, one a line, each 16");
    assert!(error(&named(&path)).starts_with(&expected), "{}", error(&named(&path)));
}

#[test]
fn members_of_tls_count_for_themselves_and_none_may_be_missing() {
    let folder = Secrets::new();
    let tls: serde_json::Value = serde_json::from_str(folder.tls()).unwrap();
    let text = file(&format!(r#""tls": {{ "cert": {}, "key": {}, "ca": "nowhere" }}"#, tls["cert"], tls["key"]));
    let given = over(Origin::Flag, "tls", &format!("{{\"ca\":{}}}", tls["ca"]));
    let config = check(Path::new("config.json"), &text, &[given]).unwrap();
    config.tls.as_ref().unwrap().check("a").unwrap();
    assert!(config.tls.as_ref().unwrap().check("b").is_err(), "it does not name this host");
    assert_eq!(config.service_url(ReplicaId(0)), "https://127.0.0.1:9988");
    assert_eq!(format!("{:?}", config.tls.unwrap()), "Tls(…)", "the key is never shown");
    let said = error_with(r#""tls": {}"#);
    assert!(said.starts_with("config.json: `tls.cert` is missing; write \"cert\": \"replica.pem\""), "{said}");
}
