//! The frame protocol as clients speak it: verbs, pipelining, lines for plain nc, and every bad input.

mod cluster;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use cluster::{Cluster, PATIENCE};
use serde_json::{Value, json};

const MEMORY: &str = r#","durability":"memory","log":"off""#;

/// A connection that speaks frames.
struct Frames(TcpStream);

impl Frames {
    fn connect(address: &str) -> Frames {
        let stream = TcpStream::connect(address).expect("the replica listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Frames(stream)
    }

    fn send(&mut self, json: &[u8]) {
        let mut frame = (json.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(json);
        self.0.write_all(&frame).expect("the frame is written");
    }

    fn receive(&mut self) -> Value {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("a reply comes");
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut json).expect("the reply comes whole");
        serde_json::from_slice(&json).expect("a reply is JSON")
    }

    fn ask(&mut self, frame: Value) -> Value {
        self.send(frame.to_string().as_bytes());
        self.receive()
    }

    /// Whether the replica closes the connection, having said all.
    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0))
    }
}

#[test]
fn every_verb_is_answered_as_specified() {
    for mode in ["remote-write", "local-write"] {
        let cluster = Cluster::start(mode, 3, MEMORY);
        let mut frames = Frames::connect(&cluster.replicas[1]);
        let replica = cluster.replicas[1].as_str();
        for (request, reply) in [
            (
                json!({"type":"post","seq":1,"note":{"title":"a","body":"b"}}),
                json!({"type":"done","re":1,"res":200,"id":1,"version":[1,1]}),
            ),
            (
                json!({"type":"get","seq":2,"id":1}),
                json!({"type":"note","re":2,"res":200,"note":{"id":1,"title":"a","body":"b"},"version":[1,1]}),
            ),
            (
                json!({"type":"list","seq":3,"limit":100,"after":0}),
                json!({"type":"notes","re":3,"res":200,"data":[{"id":1,"title":"a","body":"b"}],"more":false}),
            ),
            (
                json!({"type":"put","seq":4,"id":1,"note":{"title":"a"},"if_match":[1,1]}),
                json!({"type":"done","re":4,"res":200,"id":1,"version":[1,2]}),
            ),
            (
                json!({"type":"patch","seq":18446744073709551615_u64,"id":1,"patch":{"body":"c"},"key":"k"}),
                json!({"type":"done","re":18446744073709551615_u64,"res":200,"id":1,"version":[1,3]}),
            ),
            (
                json!({"type":"patch","id":1,"patch":{"body":"c"},"key":"k"}),
                json!({"type":"done","res":200,"id":1,"version":[1,3]}),
            ),
            (json!({"type":"delete","seq":6,"id":1}), json!({"type":"done","re":6,"res":200,"id":1,"version":[1,4]})),
        ] {
            assert_eq!(frames.ask(request.clone()), reply, "{mode}: {request}");
        }
        let pong = frames.ask(json!({"type":"ping","seq":7}));
        assert_eq!(
            pong,
            json!({"type":"pong","re":7,"replica":replica,"epoch":1,"primary":cluster.replicas[0],"in_sync":true})
        );
        let status = frames.ask(json!({"seq":8,"type":"status"}));
        assert_eq!((&status["res"], &status["mode"], &status["replica"]), (&json!(200), &json!(mode), &json!(replica)));
        let timed = frames.ask(json!({"type":"post","timing":true,"note":{"title":"a","body":"b"}}));
        assert!(timed["timing"]["total_ms"].as_f64().is_some_and(|total| total > 0.0), "{timed}");
    }
}

#[test]
fn requests_are_pipelined_and_all_are_answered_after_the_clients_end() {
    let cluster = Cluster::start("remote-write", 4, MEMORY);
    let mut frames = Frames::connect(&cluster.replicas[2]);
    let count = 500_u64;
    let mut bytes = Vec::new();
    for seq in 1..=count {
        let json = json!({"type":"post","seq":seq,"note":{"title":"a","body":"b"}}).to_string();
        bytes.extend_from_slice(&(json.len() as u32).to_be_bytes());
        bytes.extend_from_slice(json.as_bytes());
    }
    frames.0.write_all(&bytes).expect("all are written");
    frames.0.shutdown(Shutdown::Write).expect("the sending end is closed");
    let mut answered: Vec<u64> = (0..count).filter_map(|_| frames.receive()["re"].as_u64()).collect();
    answered.sort_unstable();
    assert_eq!(answered, (1..=count).collect::<Vec<_>>());
    assert!(frames.is_closed());
}

#[test]
fn plain_lines_work_as_nc_sends_them() {
    let cluster = Cluster::start("local-write", 3, MEMORY);
    let mut stream = TcpStream::connect(&cluster.replicas[0]).expect("the replica listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let text = "{\"type\":\"post\",\"seq\":1,\"note\":{\"title\":\"a\",\"body\":\"b\"}}\r\n\n{\"type\":\"oops\"}\n{\"type\":\"ping\"}";
    stream.write_all(text.as_bytes()).expect("the lines are written");
    stream.shutdown(Shutdown::Write).expect("the sending end is closed");
    let lines: Vec<Value> = BufReader::new(stream)
        .lines()
        .map(|line| serde_json::from_str(&line.expect("lines come")).expect("each is JSON"))
        .collect();
    let types: Vec<_> = lines.iter().filter_map(|line| line["type"].as_str()).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for word in ["done", "error", "pong"] {
        assert!(types.contains(&word), "{types:?}");
    }
}

#[test]
fn bad_frames_get_a_clear_error_and_the_connection_goes_on() {
    let cluster = Cluster::start("remote-write", 3, MEMORY);
    let mut frames = Frames::connect(&cluster.replicas[0]);
    let cases: &[(&[u8], &str, u64, &str)] = &[
        (b"{\"type\":\"get\",", "bad_json", 400, "line 1 column 14"),
        (b"{\"type\":\"get\",\"seq\":9,\"id\":\"\xff\"}", "bad_json", 400, "line 1"),
        (b"[1,2]", "bad_frame", 400, "object"),
        (b"\"ping\"", "bad_frame", 400, "object"),
        (b"{\"seq\":9}", "bad_frame", 400, "type"),
        (b"{\"type\":7,\"seq\":9}", "bad_frame", 400, "type"),
        (b"{\"type\":\"ping\",\"seq\":-1}", "bad_frame", 400, "seq"),
        (b"{\"type\":\"ping\",\"type\":\"ping\"}", "bad_json", 400, "duplicate"),
        (b"{\"type\":\"fly\",\"seq\":9}", "unknown_type", 400, "fly"),
        (b"{\"type\":\"fly\",\"seq\":9,\"wings\":2}", "unknown_type", 400, "fly"),
        (b"{\"type\":\"get\",\"seq\":9,\"id\":1,\"titel\":\"x\"}", "bad_request", 400, "titel"),
        (b"{\"type\":\"get\",\"seq\":9,\"id\":1,\"limit\":2}", "bad_request", 400, "limit"),
        (b"{\"type\":\"get\",\"seq\":9}", "bad_id", 400, "id"),
        (b"{\"type\":\"get\",\"seq\":9,\"id\":\"one\"}", "bad_id", 400, "one"),
        (b"{\"type\":\"get\",\"seq\":9,\"id\":1.5}", "bad_id", 400, "1.5"),
        (b"{\"type\":\"get\",\"seq\":9,\"id\":18446744073709551616}", "bad_id", 400, "18446744073709551616"),
        (b"{\"type\":\"get\",\"seq\":9,\"id\":77}", "not_found", 404, "77"),
        (b"{\"type\":\"delete\",\"seq\":9,\"id\":77}", "not_found", 404, "77"),
        (b"{\"type\":\"get\",\"seq\":9,\"id\":0}", "not_found", 404, "0"),
        (b"{\"type\":\"put\",\"seq\":9,\"id\":0,\"note\":{}}", "not_found", 404, "0"),
        (b"{\"type\":\"delete\",\"seq\":9,\"id\":0}", "not_found", 404, "0"),
        (b"{\"type\":\"list\",\"seq\":9,\"limit\":0}", "bad_request", 400, "limit"),
        (b"{\"type\":\"list\",\"seq\":9,\"limit\":1001}", "bad_request", 400, "limit"),
        (b"{\"type\":\"post\",\"seq\":9}", "bad_note", 400, "note"),
        (b"{\"type\":\"post\",\"seq\":9,\"note\":[]}", "bad_note", 400, "object"),
        (b"{\"type\":\"post\",\"seq\":9,\"note\":{\"title\":\"a\"}}", "bad_note", 400, "body"),
        (b"{\"type\":\"post\",\"seq\":9,\"note\":{\"title\":1,\"body\":\"b\"}}", "bad_note", 400, "string"),
        (b"{\"type\":\"post\",\"seq\":9,\"note\":{\"title\":\"a\",\"body\":\"b\",\"c\":1}}", "bad_note", 400, "c"),
        (b"{\"type\":\"put\",\"seq\":9,\"id\":1,\"note\":{\"id\":2}}", "bad_note", 400, "2"),
        (b"{\"type\":\"put\",\"seq\":9,\"id\":1,\"note\":{},\"key\":\"\"}", "bad_request", 400, "key"),
        (b"{\"type\":\"put\",\"seq\":9,\"id\":1,\"note\":{},\"if_match\":\"x\"}", "bad_request", 400, "if_match"),
        (b"{\"type\":\"update\",\"epoch\":1,\"n\":1,\"records\":[]}", "not_a_peer", 403, "update"),
        (b"{\"type\":\"hello\"}", "not_a_peer", 403, "hello"),
    ];
    for (frame, code, res, told) in cases {
        let shown = String::from_utf8_lossy(frame);
        frames.send(frame);
        let reply = frames.receive();
        assert_eq!(
            (&reply["type"], &reply["code"], &reply["res"]),
            (&json!("error"), &json!(code), &json!(res)),
            "{shown}: {reply}"
        );
        assert!(reply["msg"].as_str().is_some_and(|msg| msg.contains(told)), "{shown}: {reply}");
        let has_seq = shown.contains("\"seq\":9") && *code != "bad_json";
        assert_eq!(reply.get("re").is_some(), has_seq, "{shown}: {reply}");
    }
    assert_eq!(frames.ask(json!({"type":"ping","seq":1}))["type"], "pong", "the connection still serves");
}

#[test]
fn streams_out_of_step_are_told_so_and_closed() {
    let cluster = Cluster::start("remote-write", 3, MEMORY);
    for (bytes, code) in [(&[0_u8, 0, 0, 0][..], "bad_frame"), (&[0, 0x80, 0, 1][..], "too_large")] {
        let mut frames = Frames::connect(&cluster.replicas[0]);
        frames.0.write_all(bytes).expect("the length is written");
        assert_eq!(frames.receive()["code"], code);
        assert!(frames.is_closed());
    }
    for (bytes, found) in
        [(&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "421"), (b"\x16\x03\x01", "0x16"), (b"hello", "0x68")]
    {
        let mut frames = Frames::connect(&cluster.replicas[0]);
        frames.0.write_all(bytes).expect("the bytes are written");
        let mut answer = String::new();
        frames.0.read_to_string(&mut answer).expect("an answer, and then the end");
        assert!(answer.contains(found), "{answer}");
        assert!(found != "421" || answer.contains(&cluster.service(0)), "it names the service port: {answer}");
    }
    let answer = cluster::try_http(&cluster.service(0), "\0\0\0\u{2}{}", "/", &[], "").expect("an HTTP answer");
    assert_eq!(answer.status, 400, "frames on the HTTP port");
}

#[test]
fn half_a_frame_and_silence_hold_nobody_up() {
    let cluster = Cluster::start("remote-write", 3, MEMORY);
    let mut half = Frames::connect(&cluster.replicas[0]);
    half.0.write_all(&[0, 0, 0, 50, b'{']).expect("half a frame is written");
    let mut other = Frames::connect(&cluster.replicas[0]);
    assert_eq!(other.ask(json!({"type":"ping"}))["type"], "pong");
    half.0.shutdown(Shutdown::Write).expect("the sending end is closed");
    assert!(half.is_closed(), "half a frame is no request");
}
