use super::{Phase, Reader};
use crate::config::{Config, Limits, Mode};
use crate::rest::{Ask, Hosts, Plan, Refusal};

const HOST: &str = "Host: localhost\r\n";

fn hosts() -> Hosts {
    Hosts::of(&Config::new(Mode::RemoteWrite, Vec::new(), 0))
}

fn limits() -> Limits {
    Limits { request_line_bytes: 100, head_bytes: 1000, fields: 10, body_bytes: 100, ..Limits::default() }
}

/// All requests in pieces that are read one after another, and why the last could not be read.
fn read(pieces: &[&[u8]]) -> (Vec<(Plan, Ask)>, Option<Refusal>) {
    let hosts = hosts();
    let mut reader = Reader::default();
    let mut requests = Vec::new();
    for piece in pieces {
        reader.buffer().extend_from_slice(piece);
        loop {
            match reader.next(&limits(), &hosts) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(refusal) => return (requests, Some(refusal)),
            }
        }
    }
    (requests, None)
}

fn bytes_of(text: &[u8]) -> Vec<&[u8]> {
    text.chunks(1).collect()
}

const NOTE: &str = r#"{"title":"a","body":"b"}"#;

fn good() -> Vec<String> {
    vec![
        format!("GET /note HTTP/1.1\r\n{HOST}\r\n"),
        format!("GET /note/1?x=%20 HTTP/1.1\r\n{HOST}Accept: */*\r\nIf-None-Match: \"1-1\"\r\n\r\n"),
        "GET /note/1 HTTP/1.0\r\n\r\n".to_owned(),
        "GET /note/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
        format!("GET http://localhost:1/note HTTP/1.1\r\n{HOST}\r\n"),
        format!("\r\nGET /note HTTP/1.1\r\n{HOST}\r\n"),
        format!("\r\n\r\nGET /note HTTP/1.1\r\n{HOST}\r\n"),
        format!("GET /note HTTP/1.1\r\nhOsT:localhost\r\nX:\r\nY: \ta \t\r\nZ: \u{e9}\r\n\r\n"),
        format!("POST /note HTTP/1.1\r\n{HOST}Content-Length: 24\r\n\r\n{NOTE}"),
        format!("POST /note HTTP/1.1\r\n{HOST}Content-Length: 0024\r\nIdempotency-Key: k\r\n\r\n{NOTE}"),
        format!("POST /note HTTP/1.1\r\n{HOST}Transfer-Encoding: Chunked\r\n\r\n18\r\n{NOTE}\r\n0\r\n\r\n"),
        format!(
            "PUT /note/1 HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\nA: b\r\n\r\n"
        ),
        format!("PATCH /note/1 HTTP/1.1\r\n{HOST}Content-Length: 2\r\nIf-Match: \"1-2\"\r\n\r\n{{}}"),
        format!("DELETE /note/1 HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"),
        format!("DELETE /note/1 HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc"),
        format!("GET /note/1 HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nGET"),
        format!("GET /nowhere HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nGET"),
        format!("OPTIONS * HTTP/1.1\r\n{HOST}\r\n"),
    ]
}

#[test]
fn good_requests_are_the_same_wherever_they_are_cut() {
    for text in good() {
        let (whole, refusal) = read(&[text.as_bytes()]);
        assert_eq!((whole.len(), refusal), (1, None), "{text:?}");
        for cut in 0..=text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            assert_eq!(read(&[first, second]), (read(&[text.as_bytes()]).0, None), "{text:?} cut at {cut}");
            if cut < text.len() {
                assert_eq!(read(&[first]).0.len(), 0, "{text:?} ended at {cut}");
            }
        }
        assert_eq!(read(&bytes_of(text.as_bytes())), (whole, None), "{text:?} byte by byte");
    }
}

#[test]
fn pipelined_requests_come_one_after_another() {
    let all: String = good().into_iter().filter(|text| !text.contains("close") && !text.contains("1.0")).collect();
    let (requests, refusal) = read(&[all.as_bytes()]);
    assert_eq!((requests.len(), refusal), (good().len() - 3, None));
    assert_eq!(read(&bytes_of(all.as_bytes())), (requests, None));
}

/// What is wrong with framing, what it gets, and why.
fn bad() -> Vec<(Vec<u8>, u16, &'static str)> {
    let get = |fields: &str| format!("GET /note HTTP/1.1\r\n{HOST}{fields}\r\n").into_bytes();
    let post = |fields: &str| format!("POST /note HTTP/1.1\r\n{HOST}{fields}\r\n").into_bytes();
    let long_line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100)).into_bytes();
    let many_fields = get(&"A: b\r\n".repeat(10));
    let long_head = get(&format!("A: {}\r\n", "x".repeat(1000)));
    let endless_line = [b"GET /".as_slice(), &[b'x'; 200]].concat();
    let endless_head = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'x'; 1200]].concat();
    vec![
        // RFC 9112 section 6.3: which of the two lengths holds is how requests are smuggled.
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "both framings"),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400, "both framings, the other way round"),
        (post("Transfer-Encoding: x, chunked\r\nContent-Length: 5\r\n"), 400, "both, though the coding is unknown"),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, "two lengths"),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "two equal lengths"),
        (post("Content-Length: 5, 5\r\n"), 400, "a list of lengths"),
        (post("Content-Length: +5\r\n"), 400, "a sign"),
        (post("Content-Length: -5\r\n"), 400, "a sign"),
        (post("Content-Length: 5 5\r\n"), 400, "a space"),
        (post("Content-Length: 0x5\r\n"), 400, "a prefix"),
        (post("Content-Length: 5.0\r\n"), 400, "a fraction"),
        (post("Content-Length:\r\n"), 400, "no length"),
        (post("Content-Length: \u{665}\r\n"), 400, "a digit that is not ASCII"),
        (post("Content-Length: 18446744073709551616\r\n"), 413, "a length that overflows is too long all the same"),
        (post("Content-Length: 101\r\n"), 413, "too long, from the length alone"),
        (post("Content-Length: 101\r\nExpect: 100-continue\r\n"), 413, "before any 100"),
        (get("Content-Length: 101\r\n"), 413, "too long, though nobody wants it"),
        (post("Transfer-Encoding: gzip\r\n"), 400, "without `chunked` the end is not known"),
        (post("Transfer-Encoding: chunked, gzip\r\n"), 400, "`chunked` must be last"),
        (post("Transfer-Encoding: chunked, chunked\r\n"), 400, "`chunked` twice"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, "`chunked` twice, in two fields"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 400, "`chunked` must be last"),
        (post("Transfer-Encoding: identity\r\n"), 400, "no longer a coding"),
        (post("Transfer-Encoding: \"chunked\"\r\n"), 400, "quoted"),
        (post("Transfer-Encoding: chunked;a=b\r\n"), 400, "`chunked` has no parameters"),
        (post("Transfer-Encoding: chunked,\r\n"), 400, "an empty element"),
        (post("Transfer-Encoding:\r\n"), 400, "empty"),
        (post("Transfer-Encoding: \u{b}chunked\r\n"), 400, "a control character"),
        (post("Transfer-Encoding: xchunked\r\n"), 400, "another word"),
        (post("Transfer-Encoding: gzip, chunked\r\n"), 501, "a coding that is not known, though the end is"),
        (b"POST /note HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), 400, "not in HTTP/1.0"),
        (post("Transfer-Encoding : chunked\r\n"), 400, "a space before the colon"),
        (post("Transfer-Encoding\t: chunked\r\n"), 400, "a tab before the colon"),
        (post("Content-Length : 5\r\n"), 400, "a space before the colon"),
        (post("A: b\r\n Transfer-Encoding: chunked\r\n"), 400, "a folded line"),
        (b"GET /note HTTP/1.1\r\n Host: localhost\r\n\r\n".to_vec(), 400, "a space before the first field"),
        (post("Transfer-Encoding: chunked\n"), 400, "a lone LF"),
        (b"GET /note HTTP/1.1\nHost: localhost\n\n".to_vec(), 400, "lone LFs"),
        (b"GET /note HTTP/1.1\r\nHost: localhost\r\n\n".to_vec(), 400, "a lone LF at the end"),
        (b"\nGET /note HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), 400, "a lone LF before it all"),
        (b"\r\n\r\n\r\nGET /note HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), 400, "three empty lines before it"),
        (get("A: b\rC: d\r\n"), 400, "a lone CR"),
        (get("A: b\r\r\n"), 400, "a CR too many"),
        (get("A: b\0\r\n"), 400, "a NUL"),
        (get("A: \u{7f}\r\n"), 400, "a control character"),
        (get("A\0: b\r\n"), 400, "a NUL in a name"),
        (get("A b: c\r\n"), 400, "a space in a name"),
        (get("\u{e9}: c\r\n"), 400, "a name that is not ASCII"),
        (get(": c\r\n"), 400, "no name"),
        (get("A\r\n"), 400, "no colon"),
        (b"GET /note HTTP/1.1\r\n\r\n".to_vec(), 400, "no Host"),
        (get(HOST), 400, "two Hosts, though equal"),
        (b"GET /note HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), 400, "two Hosts in HTTP/1.0"),
        (b"GET http://localhost/note HTTP/1.1\r\n\r\n".to_vec(), 400, "no Host beside an absolute target"),
        (b"GET  /note HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "two spaces"),
        (b"GET /note  HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "two spaces"),
        (b"GET\t/note HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "a tab"),
        (b"GET /no te HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "a space in the target"),
        (b"GET /note\r\n\r\n".to_vec(), 400, "HTTP/0.9"),
        (b"GET /note HTTP/1.1 \r\nHost: a\r\n\r\n".to_vec(), 400, "a space behind the version"),
        (b"GET /note http/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "a version in small letters"),
        (b"GET /note HTTP/1.10\r\nHost: a\r\n\r\n".to_vec(), 400, "a version of three digits"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "a target that is not ASCII"),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "a bad escape"),
        (b"GET note HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "a target without slash"),
        (b"GET ftp://a/note HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "another scheme"),
        (b"G@T /note HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "a method that is no token"),
        (b"GET /note HTTP/2.0\r\nHost: a\r\n\r\n".to_vec(), 505, "another version"),
        (b"GET /note HTTP/1.2\r\nHost: a\r\n\r\n".to_vec(), 505, "another version"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505, "the preface of HTTP/2"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400, "the hello of TLS"),
        (b"\x00\x00\x00\x0f{\"type\":\"ping\"}".to_vec(), 400, "a frame"),
        (b"{\"type\":\"ping\"}\n".to_vec(), 400, "a line of JSON"),
        (b"\0".to_vec(), 400, "a NUL"),
        (long_line, 414, "a request line that is too long"),
        (endless_line, 414, "a request line without end"),
        (many_fields, 431, "too many fields"),
        (long_head, 431, "a head that is too long"),
        (endless_head, 431, "a head without end"),
    ]
}

#[test]
fn bad_framing_is_refused_and_nothing_behind_it_is_read() {
    for (bytes, status, why) in bad() {
        let smuggled = format!("GET /health HTTP/1.1\r\n{HOST}\r\n");
        let ahead = format!("GET /note/1 HTTP/1.1\r\n{HOST}\r\n");
        let bytes = [ahead.as_bytes(), &bytes, smuggled.as_bytes()].concat();
        for pieces in [vec![bytes.as_slice()], bytes_of(&bytes)] {
            let (requests, refusal) = read(&pieces);
            assert_eq!(refusal.map(|refusal| refusal.status), Some(status), "{why}");
            assert_eq!(requests.len(), 1, "{why}: only the request ahead of it is served");
        }
    }
}

#[test]
fn some_requests_are_refused_but_end_where_they_say() {
    let table = [
        (format!("POST /note HTTP/1.1\r\n{HOST}\r\n"), 411, false, "whether a body follows is not known"),
        (format!("CONNECT localhost:1 HTTP/1.1\r\n{HOST}\r\n"), 501, false, "what follows may be no HTTP"),
        (format!("BREW /note HTTP/1.1\r\n{HOST}Content-Length: 1\r\n\r\nx"), 501, true, "its body is known"),
        (format!("GET /x HTTP/1.1\r\n{HOST}Content-Length: 1\r\n\r\nx"), 404, true, "its body is known"),
        (format!("GET /x HTTP/1.1\r\n{HOST}Expect: x\r\n\r\n"), 404, true, "it has no body"),
        (format!("GET /note HTTP/1.1\r\n{HOST}Expect: x\r\n\r\n"), 417, true, "it has no body"),
        (format!("PUT /note/1 HTTP/1.1\r\n{HOST}Expect: x\r\nContent-Length: 9\r\n\r\n"), 417, false, "held back"),
        (
            format!("PUT /x HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"),
            404,
            false,
            "held back",
        ),
        ("POST /x HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\n\r\nx".to_owned(), 404, false, "no Expect in HTTP/1.0"),
        ("POST /note HTTP/1.1\r\nHost: evil\r\nContent-Length: 1\r\n\r\nx".to_owned(), 421, true, "for another host"),
    ];
    for (text, status, keep_alive, why) in table {
        let (requests, refusal) = read(&[text.as_bytes()]);
        assert_eq!(refusal, None, "{text:?}");
        let [(plan, Err(refusal))] = requests.as_slice() else { panic!("{text:?}: {requests:?}") };
        assert_eq!((refusal.status, plan.keep_alive), (status, keep_alive), "{text:?}: {why}");
    }
}

#[test]
fn connections_stay_open_as_the_version_says() {
    for (version, fields, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: Close\r\n", false),
        ("1.1", "Connection: x, close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let (requests, _) = read(&[format!("GET /note HTTP/{version}\r\n{HOST}{fields}\r\n").as_bytes()]);
        assert_eq!(requests[0].0.keep_alive, keep_alive, "{version} {fields:?}");
    }
}

#[test]
fn a_reader_knows_what_it_waits_for() {
    let hosts = hosts();
    let mut reader = Reader::default();
    let text = format!("PUT /note/1 HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}");
    let body_at = text.len() - 2;
    for (at, byte) in text.bytes().enumerate() {
        let phase = match at {
            0 => Phase::Idle,
            at if at < body_at => Phase::Head,
            _ => Phase::Body,
        };
        assert_eq!(reader.phase(), phase, "before byte {at}");
        assert_eq!(reader.take_continue(), at == body_at, "before byte {at}");
        reader.buffer().extend_from_slice(&[byte]);
        assert_eq!(reader.next(&limits(), &hosts).unwrap().is_some(), at + 1 == text.len());
    }
    assert_eq!(reader.phase(), Phase::Idle);
}

/// Draws numbers from a seed (xorshift64*), so that a failure can be had again.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// Good and bad requests one after another, with some bytes changed, left out or doubled.
fn garble(draw: &mut Draw, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..1 + draw.below(3)).flat_map(|_| samples[draw.below(samples.len())].clone()).collect();
    for _ in 0..draw.below(4) {
        let at = draw.below(bytes.len());
        match draw.below(4) {
            0 => bytes[at] = draw.below(256) as u8,
            1 => bytes[at] = b"\r\n\0 \t:;,0\"%"[draw.below(11)],
            2 => drop(bytes.drain(at..(at + 1 + draw.below(8)).min(bytes.len()))),
            _ => bytes.insert(at, bytes[at]),
        }
        if bytes.is_empty() {
            bytes.push(b'G');
        }
    }
    bytes
}

#[test]
fn garbled_requests_are_read_the_same_wherever_they_are_cut() {
    let seed = std::env::var("PRIMACY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x9e37_79b9_7f4a_7c15);
    println!("again with PRIMACY_SEED={seed}");
    let mut draw = Draw(seed);
    let samples: Vec<Vec<u8>> =
        good().into_iter().map(String::into_bytes).chain(bad().into_iter().map(|(bytes, ..)| bytes)).collect();
    let mut refused = 0;
    for round in 0..5000 {
        let bytes = garble(&mut draw, &samples);
        let whole = read(&[&bytes]);
        refused += usize::from(whole.1.is_some());
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(1 + draw.below(rest.len().min(40)));
            pieces.push(piece);
            rest = behind;
        }
        let (requests, refusal) = read(&pieces);
        let text = bytes.escape_ascii();
        assert_eq!(requests, whole.0, "round {round}: {text}");
        // What is wrong may show earlier in pieces, but it is wrong all the same.
        assert_eq!(refusal.is_some(), whole.1.is_some(), "round {round}: {text}");
    }
    assert!((1000..5000).contains(&refused), "{refused} were refused: both ways must be tried");
}
