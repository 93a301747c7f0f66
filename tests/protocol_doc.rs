//! protocol.md says what the program does: its examples are decoded and encoded again byte for byte, its tables name
//! exactly the messages, codes and limits that the code has, and every rule that the code cites is in it.

use std::collections::BTreeSet;
use std::path::Path;

use futures::FutureExt as _;
use primacy::client::frame_of;
use primacy::config::{Address, Config, Mode, Secret};
use primacy::link::proof::{Hellos, Role};
use primacy::link::{LINK_BYTES_MAX, Refusal};
use primacy::node::{OPEN_WRITE_BYTES_MAX, OPEN_WRITES_MAX};
use primacy::note::{NOTE_BYTES_MAX, NoteId};
use primacy::observe::classic::{Log, Step};
use primacy::observe::monitor::{Filter, MONITOR_BYTES_MAX, MONITOR_EVENTS_MAX, MONITORS_MAX};
use primacy::protocol::client::{self, LIST_LIMIT_MAX, Wanted, Watch};
use primacy::protocol::codec::{self, FRAME_BYTES_MAX, GREETING_BYTES_MAX};
use primacy::protocol::ids::{Epoch, REPLICAS_MAX, Version};
use primacy::protocol::message::{Got, Hello, Message, Proof};
use primacy::protocol::port::Said;
use primacy::protocol::record::{KeyEntry, Record};
use primacy::protocol::request::{Answer, Code, Done, IF_MATCH_MAX, KEY_BYTES_MAX, Outcome, Phases};
use primacy::protocol::view::View;
use primacy::wire::{FRAME_MS_MAX, IDLE_MS_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;

const DOCUMENT: &str = include_str!("../protocol.md");

/// A fenced block: what stands behind its first fence, and its lines.
struct Block {
    info: &'static str,
    lines: Vec<&'static str>,
}

fn blocks() -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for line in DOCUMENT.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some(Block { info, lines: Vec::new() }),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.lines.push(line);
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block has no end");
    blocks
}

/// The examples in the blocks of this kind, one a line.
fn examples(info: &str) -> Vec<&'static str> {
    let lines: Vec<_> = blocks().into_iter().filter(|block| block.info == info).flat_map(|block| block.lines).collect();
    assert!(!lines.is_empty(), "there is no block ```{info}");
    lines
}

/// The text from this heading to the next one of the same or a higher level.
fn section(heading: &str) -> &'static str {
    let start = DOCUMENT.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no heading {heading}"));
    let rest = &DOCUMENT[start + 1 + heading.len()..];
    let level = heading.bytes().take_while(|byte| *byte == b'#').count();
    let ends = (1..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

/// The cells of the rows of all tables in a section, headings left out.
fn rows(text: &'static str) -> Vec<Vec<&'static str>> {
    let lines: Vec<_> = text.lines().collect();
    let is_row = |line: &str| line.starts_with('|');
    let mut rows = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let heads = lines.get(at + 1).is_some_and(|next| next.starts_with("| --- "));
        if is_row(line) && !heads && !line.starts_with("| --- ") {
            rows.push(line.trim_matches('|').split(" | ").map(str::trim).collect());
        }
    }
    rows
}

fn word(cell: &str) -> &str {
    cell.trim_matches('`')
}

fn assert_same_json<T: Serialize + DeserializeOwned>(json: &str) {
    let value: T = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(serde_json::to_string(&value).expect("what was read can be written"), json);
}

fn framed(json: &str) -> Vec<u8> {
    let mut frame = bytes::BytesMut::new();
    codec::frame(json.as_bytes(), &mut frame);
    frame.to_vec()
}

#[test]
fn every_block_of_json_is_of_a_kind_that_is_tested() {
    let kinds =
        ["request", "reply", "timing", "link", "refusal", "record", "key", "view", "replica", "monitor", "event"];
    for block in blocks() {
        if let Some(kind) = block.info.strip_prefix("json") {
            assert!(kinds.contains(&kind.trim()), "```{} is not tested", block.info);
        }
    }
}

#[test]
fn messages_are_decoded_and_encoded_byte_for_byte() {
    for json in examples("json replica") {
        let envelope = codec::decode(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
        let frame = codec::encode(envelope.epoch, &envelope.message);
        assert_eq!(String::from_utf8_lossy(&frame[codec::LENGTH_BYTES..]), json);
        assert_eq!(frame, framed(json), "{json}");
    }
}

#[test]
fn there_is_an_example_of_every_message() {
    let shown: BTreeSet<String> =
        examples("json replica").iter().map(|json| codec::word_of(json.as_bytes()).expect("it has a type")).collect();
    let known: BTreeSet<String> = Message::WORDS.iter().map(ToString::to_string).collect();
    assert_eq!(shown, known);
}

#[test]
fn the_table_of_messages_names_exactly_those_that_exist_in_their_order() {
    let text = section("## Messages between replicas");
    let table = &text[..text.find("### Their members").expect("the members follow the table")];
    let words: Vec<_> = rows(table).iter().map(|row| word(row[0])).collect();
    assert_eq!(words, Message::WORDS);
}

#[test]
fn the_frames_of_a_link_are_decoded_and_encoded_byte_for_byte() {
    for json in examples("json link") {
        let failed = |error: serde_json::Error| -> bytes::Bytes { panic!("{error}: {json}") };
        let frame = match codec::word_of(json.as_bytes()).expect("it has a type").as_str() {
            "hello" => {
                serde_json::from_str::<Hello>(json).map_or_else(failed, |hello| codec::encode_link("hello", &hello))
            }
            "got" => serde_json::from_str::<Got>(json).map_or_else(failed, |got| codec::encode_link("got", &got)),
            other => panic!("`{other}` is no frame of a link"),
        };
        assert_eq!(String::from_utf8_lossy(&frame[codec::LENGTH_BYTES..]), json);
    }
}

#[test]
fn records_keys_and_views_are_decoded_and_encoded_byte_for_byte() {
    examples("json record").into_iter().for_each(assert_same_json::<Record>);
    examples("json key").into_iter().for_each(assert_same_json::<KeyEntry>);
    examples("json view").into_iter().for_each(assert_same_json::<View>);
}

#[test]
fn requests_of_clients_are_decoded_and_encoded_byte_for_byte() {
    for json in examples("json request") {
        let asked = client::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error:?}"));
        let (Some(seq), Wanted::Call(call)) = (asked.seq, asked.what) else { panic!("{json} is no numbered call") };
        assert_eq!(frame_of(&call, seq), framed(json), "{json}");
    }
}

#[test]
fn monitors_are_asked_for_and_shown_as_shown() {
    for json in examples("json monitor") {
        let asked = client::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error:?}"));
        let watch = Watch { id: Some(NoteId(7)), replica: Some(SECOND.to_owned()) };
        assert_eq!((asked.seq, asked.what), (Some(1), Wanted::Monitor(watch)));
    }
    let (first, rest) = examples("json event").split_first().map(|(first, rest)| (*first, rest.to_vec())).unwrap();
    let mut out = Vec::new();
    client::write_monitoring(&mut out, Some(1), FIRST);
    assert_eq!(String::from_utf8_lossy(&out), first);
    let made = events();
    assert_eq!(made.len(), rest.len());
    for (event, shown) in made.iter().zip(rest) {
        // Everything but the time, which stands behind `re`.
        let shown_time =
            shown.split("\"time\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("each has a time");
        let time = event.split('"').nth(3).expect("the time is first");
        assert_eq!(time.len(), shown_time.len(), "{event}");
        let mut out = Vec::new();
        client::write_event(&mut out, Some(1), &event.replace(time, shown_time));
        assert_eq!(String::from_utf8_lossy(&out), shown);
    }
}

const FIRST: &str = "127.0.0.1:10000";
const SECOND: &str = "127.0.0.1:20000";

/// One of each kind of event, as the page shows them.
fn events() -> Vec<String> {
    let note = Some(NoteId(7));
    let log = Log::new(FIRST);
    let mut monitor = log.monitor(Filter::default()).expect("it is the first");
    log.client_request(note, "PUT", "/note/7", br#"{"title":"a"}"#);
    log.replica_request(note, Step::Tell, FIRST, SECOND, 3, 17);
    log.replica_reply(note, Step::Tell, SECOND, FIRST, 612_500);
    log.client_reply(note, "PUT", "/note/7", br#"{"res":200}"#, 750_000);
    log.view(2, FIRST, "127.0.0.1:10000,127.0.0.1:30000", "");
    let mut events = monitor.next().now_or_never().expect("they are there");
    let joiner = Log::new(SECOND);
    let mut monitor = joiner.monitor(Filter::default()).expect("it is the first");
    joiner.joined(3, 42);
    events.extend(monitor.next().now_or_never().expect("it is there"));
    (0..MONITOR_EVENTS_MAX + 12).for_each(|_| joiner.joined(3, 42));
    events.extend(monitor.next().now_or_never().and_then(|mut all| all.pop()));
    events.push(monitor.quiet());
    events
}

#[test]
fn the_table_of_events_names_exactly_those_that_are_shown() {
    let kind =
        |json: &str| json.split("\"event\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
    let shown: BTreeSet<_> = rows(section("### Monitoring")).iter().map(|row| Some(word(row[0]).to_owned())).collect();
    assert_eq!(shown, events().iter().map(|event| kind(event)).collect());
    for (row, event) in rows(section("### Monitoring")).iter().zip(events_by_table()) {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&event).expect("it is an object");
        for member in object.keys().filter(|key| !["time", "event", "at", "note"].contains(&key.as_str())) {
            let same = row[2].starts_with("the same") && ["method", "path", "body"].contains(&member.as_str());
            assert!(same || row[2].contains(&format!("`{member}`")), "{} has `{member}`", row[0]);
        }
    }
}

/// The events in the order of the table.
fn events_by_table() -> Vec<String> {
    let events = events();
    let of = |kind: &str| events.iter().find(|event| event.contains(&format!("\"event\":\"{kind}\""))).cloned();
    rows(section("### Monitoring")).iter().filter_map(|row| of(word(row[0]))).collect()
}

/// The text of a source file.
fn source(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fields of each struct in a source file.
fn structs(text: &str) -> Vec<(String, Vec<String>)> {
    let mut structs: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        if let Some(rest) = line.strip_prefix("struct ") {
            inside = line.ends_with('{');
            structs.push((rest.split([' ', '<', '(']).next().unwrap_or(rest).to_owned(), Vec::new()));
        } else if line == "}" {
            inside = false;
        } else if inside && !line.trim_start().starts_with(['/', '#']) {
            let field = line.trim().trim_start_matches("pub ").split(':').next().unwrap_or_default();
            structs.last_mut().expect("a struct is open").1.push(field.trim_start_matches("r#").to_owned());
        }
    }
    structs
}

/// `MovedTo` as `moved_to`.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for char in name.chars() {
        if char.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(char.to_ascii_lowercase());
    }
    text
}

#[test]
fn every_member_of_every_message_is_described() {
    let headings: Vec<_> = DOCUMENT.lines().filter(|line| line.starts_with("#### ")).collect();
    let mut described = 0;
    for (name, fields) in structs(&source("src/protocol/message.rs")) {
        let message = format!("`{}`", snake(&name));
        let text = match name.as_str() {
            "Envelope" | "Payload" => continue,
            "Hello" | "Settings" | "Position" | "Got" | "Proof" => section("## Links between replicas"),
            _ => match headings.iter().find(|heading| heading.contains(&message)) {
                Some(heading) => section(heading),
                None => section(&format!("#### {message}")),
            },
        };
        for field in fields {
            let named = text.contains(&format!("`{field}`")) || text.contains(&format!("\"{field}\""));
            assert!(named, "{message} has a member `{field}`, which its section does not name");
            described += 1;
        }
    }
    assert!(described > 60, "{described} members: the source is read wrongly");
}

#[test]
fn the_tables_of_requests_name_exactly_the_verbs_and_members() {
    let unknown = client::parse(br#"{"type":"?"}"#).expect_err("there is no such verb").failure.msg;
    let verbs: Vec<_> = unknown.rsplit("clients may send ").next().unwrap_or_default().split(", ").collect();
    let rows = rows(section("### Requests"));
    let words: Vec<_> = rows.iter().map(|row| word(row[0])).collect();
    assert_eq!(words[..verbs.len()], verbs);
    let mut members: BTreeSet<String> = words[verbs.len()..].iter().map(ToString::to_string).collect();
    members.insert("type".to_owned());
    let text = source("src/protocol/client.rs");
    let known = structs(&text).into_iter().find(|(name, _)| name == "Members").expect("members are read by a struct").1;
    assert_eq!(members, known.into_iter().collect());
}

#[test]
fn the_table_of_refused_hellos_names_exactly_the_words_of_the_code() {
    let text = source("src/link/hello.rs");
    let start = text.find("fn word(&self) -> &'static str").expect("a refusal has a word");
    let body = text[start..].split("\n    }\n").next().unwrap_or_default();
    let words: BTreeSet<_> = body.split('"').skip(1).step_by(2).collect();
    let shown: BTreeSet<_> = rows(section("### Hello")).iter().map(|row| word(row[0])).collect();
    let unknown: Vec<_> = words.iter().filter(|word| !shown.contains(*word)).collect();
    assert!(words.len() > 4 && unknown.is_empty(), "not in the table: {unknown:?}");
}

#[test]
fn timing_is_written_as_shown() {
    let outcome = Outcome::Done(Done { id: NoteId(1), version: Version { epoch: Epoch(1), counter: 1 } });
    let phases =
        Phases { queue: 12_000, forward: 110_000, replicate: 350_000, store: 20_000, update: 350_000, moved: 0 };
    let said = Said::Answer(Answer { outcome, primary: None, phases });
    let mut json = Vec::new();
    client::write_reply(&mut json, Some(1), &said, &[], Some(487_000));
    assert_eq!(examples("json timing"), [String::from_utf8_lossy(&json)]);
}

#[test]
fn a_refused_hello_is_told_as_shown() {
    let refusal = Refusal::Settings {
        key: "sync",
        ours: "remote-write".to_owned(),
        theirs: "local-write".to_owned(),
        from: "127.0.0.1:20000".to_owned(),
        me: "127.0.0.1:10000".to_owned(),
    };
    let (code, msg) = (refusal.word(), refusal.to_string());
    let json = format!(r#"{{"type":"error","res":403,"code":"{code}","msg":"{msg}"}}"#);
    assert_eq!(examples("json refusal"), [json]);
}

#[test]
fn examples_of_clients_use_the_verbs_of_the_tables() {
    for (heading, info) in [("### Requests", "json request"), ("### Replies", "json reply")] {
        let known: BTreeSet<_> = rows(section(heading)).iter().map(|row| word(row[0])).collect();
        for json in examples(info) {
            let shown = codec::word_of(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
            assert!(known.contains(shown.as_str()), "`{shown}` is in no table of {heading}");
        }
    }
}

/// Every code. The match makes the compiler ask for new ones.
fn codes() -> Vec<Code> {
    let (mut codes, mut next) = (Vec::new(), Some(Code::BadJson));
    while let Some(code) = next {
        codes.push(code);
        next = match code {
            Code::BadJson => Some(Code::BadNote),
            Code::BadNote => Some(Code::BadId),
            Code::BadId => Some(Code::BadRequest),
            Code::BadRequest => Some(Code::BadFrame),
            Code::BadFrame => Some(Code::UnknownType),
            Code::UnknownType => Some(Code::NotFound),
            Code::NotFound => Some(Code::MethodNotAllowed),
            Code::MethodNotAllowed => Some(Code::PreconditionFailed),
            Code::PreconditionFailed => Some(Code::KeyReused),
            Code::KeyReused => Some(Code::TooLarge),
            Code::TooLarge => Some(Code::Timeout),
            Code::Timeout => Some(Code::NotAPeer),
            Code::NotAPeer => Some(Code::Unauthorized),
            Code::Unauthorized => Some(Code::Forbidden),
            Code::Forbidden => Some(Code::Misdirected),
            Code::Misdirected => Some(Code::Unsupported),
            Code::Unsupported => Some(Code::Unavailable),
            Code::Unavailable => Some(Code::Unknown),
            Code::Unknown => None,
        };
    }
    codes
}

#[test]
fn the_table_of_errors_names_exactly_the_codes_with_their_statuses() {
    let shown: Vec<_> = rows(section("### Errors")).iter().map(|row| format!("{} {}", word(row[0]), row[1])).collect();
    let known: Vec<_> = codes().iter().map(|code| format!("{} {}", code.word(), code.status())).collect();
    assert_eq!(shown, known);
}

#[test]
fn the_proofs_shown_are_those_of_the_hellos_shown() {
    let lines: Vec<(&str, &str)> =
        examples("proof").into_iter().map(|line| line.split_once(' ').expect("a name, and what it says")).collect();
    let [(_, secret), (_, dialer), (_, accepter), proofs @ ..] = &lines[..] else { panic!("{lines:?}") };
    let secret: Secret = secret.parse().expect("it is long enough");
    let (dialer, accepter) = (dialer.trim(), accepter.trim());
    for hello in [dialer, accepter] {
        let read: Hello = serde_json::from_str(hello).unwrap_or_else(|error| panic!("{error}: {hello}"));
        assert_eq!(codec::encode_link("hello", &read), framed(hello), "{hello}");
    }
    let hellos = Hellos { dialer: dialer.as_bytes(), accepter: accepter.as_bytes(), binding: None };
    let expected = [("accepter", Role::Accepter), ("dialer", Role::Dialer)];
    assert_eq!(proofs.len(), expected.len());
    for ((name, json), (role_name, role)) in proofs.iter().zip(expected) {
        assert_eq!(*name, role_name);
        assert_eq!(codec::encode_link("proof", &hellos.prove(&secret, role)), framed(json.trim()), "{name}");
        let proof: Proof = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert!(hellos.are_proved(&secret, role, &proof));
    }
}

#[test]
fn the_vectors_bytes_are_the_frames_of_their_json() {
    let lines = examples("vector");
    let vectors: Vec<_> = lines.split(|line| line.is_empty()).collect();
    assert!(vectors.len() > 3, "the vectors are separated by empty lines");
    for vector in vectors {
        let (json, hex) = vector.split_first().expect("a vector has its JSON first");
        let bytes: Vec<u8> = hex
            .iter()
            .flat_map(|line| line.split_whitespace())
            .map(|pair| u8::from_str_radix(pair, 16).expect("hex digits in pairs"))
            .collect();
        assert_eq!(bytes, framed(json), "{json}");
        let mut buffer = bytes::BytesMut::from(bytes.as_slice());
        let frame = tokio_util::codec::Decoder::decode(&mut codec::length_delimited(), &mut buffer);
        let frame = frame.expect("its length is allowed").expect("it is complete");
        assert_eq!(frame, json.as_bytes());
        assert!(buffer.is_empty());
    }
}

#[test]
fn limits_are_those_of_the_code() {
    let text = section("## Limits");
    let config = Config::new(Mode::RemoteWrite, vec![Address::new("a", 1)], 2);
    let limits = &config.limits;
    let stated = [
        ("a frame, a line", grouped(FRAME_BYTES_MAX)),
        ("a `hello`, a `proof`", grouped(GREETING_BYTES_MAX)),
        ("a frame, a line, before a token was shown that is asked for", grouped(GREETING_BYTES_MAX)),
        ("TLS's handshake, from the connection's beginning", seconds(limits.prove_ms)),
        ("a client's token, from the connection's beginning", seconds(limits.prove_ms)),
        ("callers that have said hello and not proved themselves", grouped(limits.unproved)),
        ("a proof, from the hello that asks for it", seconds(limits.prove_ms)),
        ("a note's compact JSON, without its id", grouped(NOTE_BYTES_MAX)),
        ("`key`", grouped(KEY_BYTES_MAX)),
        ("versions in If-Match", grouped(IF_MATCH_MAX)),
        ("notes in a `notes` reply", grouped(LIST_LIMIT_MAX)),
        ("messages that a link keeps for a peer", mebibytes(LINK_BYTES_MAX)),
        ("open writes at a replica", grouped(OPEN_WRITES_MAX)),
        ("open writes at a replica", mebibytes(OPEN_WRITE_BYTES_MAX)),
        ("monitors of a replica; of a connection", grouped(MONITORS_MAX)),
        ("events that wait for a monitor", grouped(MONITOR_EVENTS_MAX)),
        ("events that wait for a monitor", mebibytes(MONITOR_BYTES_MAX)),
        ("a monitor without an event", minutes(IDLE_MS_MAX)),
        ("a connection of a client with nothing to do", minutes(IDLE_MS_MAX)),
        ("a frame or line, from its first byte to its last; and the first byte of a connection", seconds(FRAME_MS_MAX)),
        ("open requests of a connection", grouped(limits.pipeline)),
        ("connections of clients at a replica", grouped(limits.connections)),
        ("connections of clients at a replica", grouped(limits.connections_per_address)),
        ("requests that are not complete, of all clients at a port of a replica", mebibytes(limits.unfinished_bytes)),
        ("replicas", grouped(REPLICAS_MAX)),
        ("a reply that the client doesn't take", seconds(limits.write_ms)),
        ("a connection of a client with nothing to do", seconds(limits.idle_ms)),
        ("a write, from its arrival", seconds(config.request_timeout_ms)),
        ("a read, from its arrival", seconds(config.read_wait_ms)),
    ];
    for (what, value) in stated {
        let row = rows(text).into_iter().find(|row| row[0] == what).unwrap_or_else(|| panic!("no limit of {what}"));
        let has = row[1].split(|char: char| !char.is_ascii_alphanumeric() && char != ',' && char != ' ');
        assert!(row[1].starts_with(&value) || has.into_iter().any(|part| part.contains(&value)), "{what}: {value}");
    }
}

/// A number with commas between its thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

fn minutes(ms: u64) -> String {
    format!("{} minutes", ms / 60_000)
}

fn seconds(ms: u64) -> String {
    format!("{} s", ms / 1000)
}

#[test]
fn worked_clients_are_under_thirty_lines() {
    for language in ["bash", "python", "rust"] {
        let client = examples(language);
        assert!(client.len() < 30, "{language}: {} lines", client.len());
    }
}

/// The rules that a text cites, as W3 or V10.
fn cited(text: &str) -> impl Iterator<Item = &str> {
    let names = text.split(|char: char| !char.is_ascii_alphanumeric());
    names.filter(|name| {
        let number = name.strip_prefix(|char| "LWMRVKJ".contains(char)).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The rules that the document states, each at the beginning of a line, and those whose numbers it keeps free.
fn stated() -> BTreeSet<&'static str> {
    let firsts = DOCUMENT.lines().filter_map(|line| line.split_once(". ")).map(|(first, _)| first);
    let mut rules: BTreeSet<_> = firsts.filter(|first| cited(first).any(|rule| rule == *first)).collect();
    rules.extend(["R3", "R4", "R5", "V1", "V4", "V5", "V6", "V11", "J1", "J4", "J5", "J6"]);
    rules
}

#[test]
fn every_rule_that_the_code_cites_is_stated() {
    let rules = stated();
    let unknown = |text: &str| cited(text).find(|rule| !rules.contains(rule)).map(str::to_owned);
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("the file can be read");
                let comments: String =
                    text.lines().filter_map(|line| line.split_once("//")).map(|(_, text)| text).collect();
                assert_eq!(unknown(&comments), None, "{} cites a rule that protocol.md doesn't state", path.display());
            }
        }
    }
    let ours = &DOCUMENT[..DOCUMENT.find("\n## History\n").expect("the history is last")];
    assert_eq!(unknown(ours), None, "protocol.md cites a rule that it doesn't state");
}

#[test]
fn links_within_the_page_lead_somewhere() {
    let headings: BTreeSet<String> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
        .collect();
    for link in DOCUMENT.split("](#").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
        assert!(headings.contains(link), "there is no heading for #{link}");
    }
}

#[test]
fn the_traces_that_are_named_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/replication/traces");
    let named: Vec<_> = DOCUMENT.split('`').filter(|name| name.ends_with(".txt")).collect();
    assert!(!named.is_empty(), "traces are named");
    for name in named {
        assert!(folder.join(name).is_file(), "there is no trace {name}");
    }
}
