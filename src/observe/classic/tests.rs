use super::*;

/// The lines that the README and the design show, character for character.
#[test]
fn lines_are_the_ancestors() {
    let (one, two) = ("127.0.0.1:10000", "127.0.0.1:20000");
    let note = br#"{"title":"Hello World","body":"this is new note"}"#;
    let shown = [
        Shown::ClientRequest { method: "POST", path: "/note", body: note },
        Shown::ReplicaRequest { step: Step::Forward, from: two, to: one, link: 2, frame: 17 },
        Shown::ReplicaRequest { step: Step::Tell, from: one, to: two, link: 1, frame: 40 },
        Shown::ReplicaReply { step: Step::Tell, from: two, to: one, took_ns: 180_123 },
        Shown::ReplicaReply { step: Step::Forward, from: one, to: two, took_ns: 409_999 },
        Shown::ClientReply { method: "POST", path: "/note", body: br#"{"res":200,"id":1}"#, took_ns: 470_000 },
        Shown::ReplicaRequest { step: Step::Move, from: two, to: one, link: 0, frame: 1 },
        Shown::ReplicaReply { step: Step::Move, from: one, to: two, took_ns: 1_234_567_890 },
        Shown::ClientRequest { method: "GET", path: "/note/1", body: b"" },
    ];
    let expected = [
        r#"CLIENT [REQUEST] [POST] /note [{"title":"Hello World","body":"this is new note"}]"#,
        "REPLICA [REQUEST] Forward request to primary  127.0.0.1:20000 > 127.0.0.1:10000 link=2 frame=17",
        "REPLICA [REQUEST] Tell backups to update      127.0.0.1:10000 > 127.0.0.1:20000 link=1 frame=40",
        "REPLICA [REPLY] Tell backups to update        127.0.0.1:20000 > 127.0.0.1:10000 0.18 ms",
        "REPLICA [REPLY] Forward request to primary    127.0.0.1:10000 > 127.0.0.1:20000 0.41 ms",
        r#"CLIENT [REPLY] [POST] /note [{"res":200,"id":1}] 0.47 ms"#,
        "REPLICA [REQUEST] Move item to new primary    127.0.0.1:20000 > 127.0.0.1:10000 link=- frame=1",
        "REPLICA [REPLY] Move item to new primary      127.0.0.1:10000 > 127.0.0.1:20000 1234.57 ms",
        "CLIENT [REQUEST] [GET] /note/1 []",
    ];
    assert_eq!(shown.map(|what| Event { what, at: one, note: None }.to_string()), expected);
    let view = Shown::View { epoch: 2, primary: one, in_sync: "127.0.0.1:10000,127.0.0.1:20000", joining: "" };
    assert_eq!(
        Event { what: view, at: two, note: None }.to_string(),
        "VIEW [NEW] 2 at 127.0.0.1:20000 primary=127.0.0.1:10000 in_sync=127.0.0.1:10000,127.0.0.1:20000 joining="
    );
}

#[test]
fn json_lines_have_the_same_members() {
    let shown = [
        Shown::ClientRequest { method: "POST", path: "/note", body: b"{\"title\":\"a\nb\"}" },
        Shown::ReplicaRequest { step: Step::Forward, from: "b:1", to: "a:1", link: 2, frame: 17 },
        Shown::ReplicaRequest { step: Step::Tell, from: "a:1", to: "b:1", link: 0, frame: 1 },
        Shown::ReplicaReply { step: Step::Move, from: "b:1", to: "a:1", took_ns: 180_123 },
        Shown::ClientReply { method: "GET", path: "/note", body: b"\xff", took_ns: 2_000_000 },
    ];
    let expected = [
        r#"{"event":"client_request","method":"POST","path":"/note","body":"{\"title\":\"a\nb\"}","at":"a:1"}"#,
        r#"{"event":"replica_request","step":"forward","from":"b:1","to":"a:1","link":2,"frame":17,"at":"a:1"}"#,
        r#"{"event":"replica_request","step":"tell","from":"a:1","to":"b:1","link":null,"frame":1,"at":"a:1"}"#,
        r#"{"event":"replica_reply","step":"move","from":"b:1","to":"a:1","ms":0.180123,"at":"a:1"}"#,
        r#"{"event":"client_reply","method":"GET","path":"/note","body":"�","ms":2.0,"at":"a:1"}"#,
    ];
    let json = |note| move |what| Json(&Event { what, at: "a:1", note }).to_string();
    assert_eq!(shown.map(json(None)), expected);
    let joined = json(Some(NoteId(7)))(Shown::Joined { epoch: 1, notes: 2 });
    assert_eq!(joined, r#"{"event":"joined","epoch":1,"notes":2,"at":"a:1","note":7}"#);
}

#[test]
fn what_a_terminal_would_act_on_is_escaped() {
    let body = b"a\r\nb\x1b[31m\x00\x7f \xe2\x80\xae \xc2\x9b \\ \"\xc3\xa4\"";
    assert_eq!(Text(body).to_string(), "a\\r\\nb\\u{1b}[31m\\u{0}\\u{7f} \\u{202e} \\u{9b} \\ \"ä\"");
    let forged = Shown::ClientRequest { method: "GET", path: "/\n[2026-11-22 20:58:53] CLIENT", body: b"" };
    assert_eq!(Event { what: forged, at: "a:1", note: None }.to_string().lines().count(), 1);
}

#[test]
fn invalid_utf8_is_shown_as_the_replacement_character() {
    assert_eq!(Text(b"a\xffb\xc3").to_string(), "a\u{fffd}b\u{fffd}");
}

#[test]
fn long_bodies_are_cut_between_characters() {
    let whole = "x".repeat(1024);
    assert_eq!(Text(whole.as_bytes()).to_string(), whole);
    assert_eq!(Text(format!("{whole}y").as_bytes()).to_string(), format!("{whole}…"));
    for (character, before) in [("ä", 1023), ("€", 1022), ("😀", 1021), ("😀", 1023)] {
        let text = format!("{}{character}{}", "x".repeat(before), "y".repeat(9));
        assert_eq!(Text(text.as_bytes()).to_string(), format!("{}…", "x".repeat(before)), "{character}");
    }
    let ends = format!("{}ä{}", "x".repeat(1022), "y");
    assert_eq!(Text(ends.as_bytes()).to_string(), format!("{}ä…", "x".repeat(1022)));
    assert_eq!(cut(&[0x80; 2000]).len(), 1024, "no character at all is cut as bytes");
}

#[test]
fn milliseconds_are_rounded_to_two_decimals() {
    let shown = [0, 4_999, 5_000, 999_994_999, 999_995_000].map(|ns| Ms(ns).to_string());
    assert_eq!(shown, ["0.00 ms", "0.00 ms", "0.01 ms", "999.99 ms", "1000.00 ms"]);
    assert!(Ms(u64::MAX).to_string().ends_with(" ms"));
}
