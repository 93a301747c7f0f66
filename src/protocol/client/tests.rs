use super::*;
use crate::protocol::ids::{Epoch, ReplicaId, Version};

fn call(json: &str) -> Call {
    match parse(json.as_bytes()).unwrap_or_else(|refused| panic!("{json}: {refused:?}")).what {
        Wanted::Call(call) => call,
        Wanted::Monitor(watch) => panic!("{json} is no call: {watch:?}"),
    }
}

#[test]
fn a_monitor_may_be_filtered() {
    let watch = |json: &str| match parse(json.as_bytes()).unwrap().what {
        Wanted::Monitor(watch) => watch,
        Wanted::Call(call) => panic!("{json} is no monitor: {call:?}"),
    };
    assert_eq!(watch(r#"{"type":"monitor"}"#), Watch::default());
    let both = Watch { id: Some(NoteId(7)), replica: Some("a:1".to_owned()) };
    assert_eq!(watch(r#"{"type":"monitor","id":7,"replica":"a:1"}"#), both);
    assert_eq!(refused(br#"{"type":"monitor","id":"x"}"#).1, Code::BadId);
    assert_eq!(refused(br#"{"type":"monitor","replica":7}"#).1, Code::BadRequest);
    assert_eq!(refused(br#"{"type":"monitor","limit":7}"#).1, Code::BadRequest);
    assert_eq!(refused(br#"{"type":"get","id":7,"replica":"a:1"}"#).1, Code::BadRequest);
    let mut out = Vec::new();
    write_monitoring(&mut out, Some(1), "a:1");
    write_event(&mut out, Some(1), r#"{"event":"quiet"}"#);
    write_event(&mut out, None, r#"{"event":"quiet"}"#);
    let expected = r#"{"type":"monitoring","re":1,"res":200,"replica":"a:1"}{"type":"event","re":1,"event":"quiet"}{"type":"event","event":"quiet"}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

fn refused(json: &[u8]) -> (Option<u64>, Code, String) {
    let shown = String::from_utf8_lossy(json).into_owned();
    let NotUnderstood { seq, failure } = parse(json).expect_err(&shown);
    (seq, failure.code, failure.msg)
}

fn write(operation: Operation) -> Write {
    Write { operation, key: None, if_match: None }
}

fn note(json: &str) -> Note {
    Note::from_put(NoteId(1), json.as_bytes()).unwrap()
}

#[test]
fn each_verb_is_understood() {
    let id = NoteId(7);
    let both = note(r#"{"title":"a","body":"b"}"#);
    let page = |limit, after| Request::List(Page { after: NoteId(after), limit, bytes_max: LIST_BYTES_MAX });
    let cases = [
        (r#"{"type":"get","id":7}"#, Request::Get(id)),
        (r#"{"type":"list"}"#, page(100, 0)),
        (r#"{"type":"list","limit":1,"after":3}"#, page(1, 3)),
        (r#"{"type":"list","limit":1000}"#, page(1000, 0)),
        (
            r#"{"type":"post","note":{"body":"b","title":"a"}}"#,
            Request::Write(write(Operation::Post { note: both.clone() })),
        ),
        (
            r#"{"type":"put","id":7,"note":{"id":7,"title":"a","body":"b"}}"#,
            Request::Write(write(Operation::Put { id, note: both })),
        ),
        (r#"{"type":"put","id":7,"note":{}}"#, Request::Write(write(Operation::Put { id, note: note("{}") }))),
        (
            r#"{"type":"patch","id":7,"patch":{"body":null}}"#,
            Request::Write(write(Operation::Patch { id, patch: Patch::parse(id, br#"{"body":null}"#).unwrap() })),
        ),
        (r#"{"type":"delete","id":7}"#, Request::Write(write(Operation::Delete { id }))),
    ];
    for (json, request) in cases {
        assert_eq!(call(json), Call::Note(request), "{json}");
    }
    assert_eq!(call(r#"{"type":"ping"}"#), Call::Ping);
    assert_eq!(call(r#"{"type":"status"}"#), Call::Status);
}

#[test]
fn the_type_may_stand_anywhere_and_be_escaped() {
    for json in [
        r#"{"type":"get","id":1}"#,
        r#"{"id":1,"type":"get"}"#,
        " {\t\"id\" : 1 ,\r\n \"type\":\"get\" } ",
        r#"{"t\u0079pe":"g\u0065t","id":1}"#,
    ] {
        assert_eq!(call(json), Call::Note(Request::Get(NoteId(1))), "{json}");
    }
}

#[test]
fn seq_and_timing_come_back() {
    for seq in [0, 1, u64::MAX] {
        let asked = parse(format!(r#"{{"type":"ping","seq":{seq},"timing":true}}"#).as_bytes()).unwrap();
        assert_eq!(asked, Asked { seq: Some(seq), timing: true, what: Wanted::Call(Call::Ping) });
    }
    let asked = parse(br#"{"type":"ping","timing":false}"#).unwrap();
    assert_eq!(asked, Asked { seq: None, timing: false, what: Wanted::Call(Call::Ping) });
}

#[test]
fn writes_take_a_key_and_versions_to_match() {
    let version = |counter| Version { epoch: Epoch(1), counter };
    for (json, versions) in [("[1,2]", vec![version(2)]), ("[[1,2],[1,3]]", vec![version(2), version(3)])] {
        let json = format!(r#"{{"type":"delete","id":1,"key":"k-1","if_match":{json}}}"#);
        let Call::Note(Request::Write(write)) = call(&json) else { panic!("{json}") };
        assert_eq!(write.key.as_ref().map(Key::as_str), Some("k-1"));
        assert_eq!(write.if_match, Some(versions));
    }
}

#[test]
fn what_is_wrong_is_named_and_seq_comes_back_where_it_could_be_read() {
    let cases: &[(&[u8], Option<u64>, Code, &str)] = &[
        (b"", None, Code::BadJson, "EOF"),
        (b"{", None, Code::BadJson, "line 1 column 1"),
        (b"{\"seq\":4,\n\"type\":\"ping\",}", None, Code::BadJson, "line 2"),
        (b"{\"type\":\"ping\",\"seq\":4} x", None, Code::BadJson, "trailing"),
        (b"{\"type\":\"\xff\",\"seq\":4}", None, Code::BadJson, "unicode"),
        (b"null", None, Code::BadFrame, "object"),
        (b"[\"ping\",4]", None, Code::BadFrame, "object"),
        (b"{\"seq\":4}", Some(4), Code::BadFrame, "`type`"),
        (b"{\"seq\":4,\"type\":null}", Some(4), Code::BadFrame, "`type`"),
        (b"{\"seq\":\"4\",\"type\":\"ping\"}", None, Code::BadFrame, "`seq`"),
        (b"{\"seq\":-4,\"type\":\"ping\"}", None, Code::BadFrame, "-4"),
        (b"{\"seq\":18446744073709551616,\"type\":\"ping\"}", None, Code::BadFrame, "18446744073709551616"),
        (b"{\"seq\":4,\"type\":\"Ping\"}", Some(4), Code::UnknownType, "`Ping`"),
        (b"{\"seq\":4,\"type\":\"auth\"}", Some(4), Code::BadRequest, "`auth` takes a `token`"),
        (b"{\"seq\":4,\"type\":\"auth\",\"token\":7}", Some(4), Code::BadRequest, "`auth` takes a `token`"),
        (b"{\"seq\":4,\"type\":\"fly\",\"wings\":1}", Some(4), Code::UnknownType, "`fly`"),
        (b"{\"seq\":4,\"type\":\"ping\",\"wings\":1}", Some(4), Code::BadRequest, "`wings`"),
        (b"{\"seq\":4,\"type\":\"ping\",\"id\":1}", Some(4), Code::BadRequest, "`id`"),
        (b"{\"seq\":4,\"type\":\"post\",\"if_match\":[1,2],\"note\":{}}", Some(4), Code::BadRequest, "`if_match`"),
        (b"{\"seq\":4,\"type\":\"ping\",\"timing\":1}", Some(4), Code::BadRequest, "`timing`"),
        (b"{\"seq\":4,\"type\":\"get\"}", Some(4), Code::BadId, "`id`"),
        (b"{\"seq\":4,\"type\":\"get\",\"id\":null}", Some(4), Code::BadId, "null"),
        (b"{\"seq\":4,\"type\":\"ping\",\"note\":null}", Some(4), Code::BadRequest, "`note`"),
        (b"{\"seq\":null,\"type\":\"ping\"}", None, Code::BadFrame, "`seq`"),
        (b"{\"seq\":4,\"type\":\"get\",\"id\":1e0}", Some(4), Code::BadId, "1e0"),
        (b"{\"seq\":4,\"type\":\"list\",\"limit\":1001}", Some(4), Code::BadRequest, "1 to 1000"),
        (b"{\"seq\":4,\"type\":\"list\",\"after\":\"x\"}", Some(4), Code::BadRequest, "`after`"),
        (b"{\"seq\":4,\"type\":\"put\",\"id\":1}", Some(4), Code::BadNote, "`note`"),
        (b"{\"seq\":4,\"type\":\"put\",\"id\":1,\"note\":{\"x\":1}}", Some(4), Code::BadNote, "`x`"),
        (b"{\"seq\":4,\"type\":\"put\",\"id\":1,\"note\":{\"id\":2}}", Some(4), Code::BadNote, "2"),
        (
            b"{\"seq\":4,\"type\":\"post\",\"note\":{\"id\":2,\"title\":\"\",\"body\":\"\"}}",
            Some(4),
            Code::BadNote,
            "`id`",
        ),
        (b"{\"seq\":4,\"type\":\"post\",\"note\":{\"title\":\"\"}}", Some(4), Code::BadNote, "`body`"),
        (b"{\"seq\":4,\"type\":\"patch\",\"id\":1,\"patch\":7}", Some(4), Code::BadNote, "note"),
        (b"{\"seq\":4,\"type\":\"delete\",\"id\":1,\"key\":\"a b\"}", Some(4), Code::BadRequest, "visible ASCII"),
        (b"{\"seq\":4,\"type\":\"delete\",\"id\":1,\"if_match\":[1]}", Some(4), Code::BadRequest, "`if_match`"),
    ];
    for (json, seq, code, told) in cases {
        let shown = String::from_utf8_lossy(json);
        let (found_seq, found, msg) = refused(json);
        assert_eq!((found_seq, found), (*seq, *code), "{shown}: {msg}");
        assert!(msg.contains(told), "{shown}: {msg}");
    }
}

#[test]
fn a_member_twice_is_refused() {
    let (_, code, msg) = refused(br#"{"type":"get","id":1,"id":2}"#);
    assert_eq!(code, Code::BadRequest);
    assert!(msg.contains("duplicate field `id`"), "{msg}");
}

#[test]
fn what_replicas_say_is_refused_to_others() {
    for word in Message::WORDS.iter().chain(&["hello", "got"]) {
        for members in ["", r#","epoch":1,"n":1"#] {
            let (seq, code, msg) = refused(format!(r#"{{"seq":1,"type":"{word}"{members}}}"#).as_bytes());
            assert_eq!((seq, code), (Some(1), Code::NotAPeer), "{word}: {msg}");
        }
    }
}

#[test]
fn a_note_that_is_too_long_is_said_to_be() {
    let long = format!(r#"{{"type":"put","seq":1,"id":1,"note":{{"title":"{}"}}}}"#, "x".repeat(1024 * 1024));
    let (seq, code, _) = refused(long.as_bytes());
    assert_eq!((seq, code), (Some(1), Code::TooLarge));
}

fn reply(said: &Said) -> String {
    let mut out = Vec::new();
    let names = ["one:1".to_owned(), "two:2".to_owned()];
    write_reply(&mut out, Some(3), said, &names, None);
    String::from_utf8(out).unwrap()
}

fn answer(outcome: Outcome) -> Said {
    Said::Answer(Answer { outcome, primary: None, phases: Phases::default() })
}

#[test]
fn each_reply_is_written_as_specified() {
    let version = Version { epoch: Epoch(1), counter: 2 };
    let (id, both) = (NoteId(1), note(r#"{"title":"a","body":"b"}"#));
    let cases = [
        (answer(Outcome::Done(Done { id, version })), r#"{"type":"done","re":3,"res":200,"id":1,"version":[1,2]}"#),
        (
            answer(Outcome::Note { id, note: both.clone(), written: version }),
            r#"{"type":"note","re":3,"res":200,"note":{"id":1,"title":"a","body":"b"},"version":[1,2]}"#,
        ),
        (
            answer(Outcome::Notes { notes: vec![(id, both), (NoteId(2), note("{}"))], more: true }),
            r#"{"type":"notes","re":3,"res":200,"data":[{"id":1,"title":"a","body":"b"},{"id":2}],"more":true}"#,
        ),
        (
            answer(Outcome::Failed(Failure::new(Code::NotFound, "no \"1\""))),
            r#"{"type":"error","re":3,"res":404,"code":"not_found","msg":"no \"1\""}"#,
        ),
        (
            Said::Pong(Pong { replica: ReplicaId(1), epoch: Epoch(4), primary: Some(ReplicaId(0)), in_sync: true }),
            r#"{"type":"pong","re":3,"replica":"two:2","epoch":4,"primary":"one:1","in_sync":true}"#,
        ),
        (
            Said::Pong(Pong { replica: ReplicaId(0), epoch: Epoch(0), primary: None, in_sync: false }),
            r#"{"type":"pong","re":3,"replica":"one:1","epoch":0,"primary":null,"in_sync":false}"#,
        ),
    ];
    for (said, json) in cases {
        assert_eq!(reply(&said), json);
    }
    let mut out = Vec::new();
    write_error(&mut out, None, &Failure::new(Code::BadJson, "what?"));
    assert_eq!(out, br#"{"type":"error","res":400,"code":"bad_json","msg":"what?"}"#, "no `re` where there is no seq");
}
