use super::{Phase, Reader};
use crate::accept::Unfinished;
use crate::config::{Config, Limits, Mode};
use crate::observe::classic::Log;
use crate::rest::{Ask, Hosts, Plan, Refusal};

#[path = "../../../tests/support/http_samples.rs"]
mod samples;

use samples::{HOST, bad, good};

fn hosts() -> Hosts {
    Hosts::of(&Config::new(Mode::RemoteWrite, Vec::new(), 0))
}

fn limits() -> Limits {
    Limits {
        request_line_bytes: samples::REQUEST_LINE_BYTES,
        head_bytes: samples::HEAD_BYTES,
        fields: samples::FIELDS,
        body_bytes: samples::BODY_BYTES,
        ..Limits::default()
    }
}

/// All requests in pieces that are read one after another, and why the last could not be read.
fn read(pieces: &[&[u8]]) -> (Vec<(Plan, Ask)>, Option<Refusal>) {
    let hosts = hosts();
    let mut reader = Reader::new(Unfinished::new(usize::MAX).share());
    let mut requests = Vec::new();
    for piece in pieces {
        reader.buffer().extend_from_slice(piece);
        loop {
            match reader.next(&limits(), &hosts, &Log::new("a:1")) {
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

/// Two pieces that meet at each place; of what is long, near its ends only.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = [&[u8]; 2]> {
    let near = |at: &usize| *at < 300 || *at + 300 > bytes.len();
    (0..=bytes.len()).filter(near).map(|at| bytes.split_at(at)).map(|(first, second)| [first, second])
}

#[test]
fn good_requests_are_the_same_wherever_they_are_cut() {
    for (text, why) in good() {
        let (whole, refusal) = read(&[text.as_bytes()]);
        assert_eq!((whole.len(), refusal), (1, None), "{why}: {text:?}");
        for pieces in cuts(text.as_bytes()) {
            assert_eq!(read(&pieces), (read(&[text.as_bytes()]).0, None), "{why}: {text:?} cut at {}", pieces[0].len());
            if !pieces[1].is_empty() {
                assert_eq!(read(&pieces[..1]), (Vec::new(), None), "{why}: {text:?} ended at {}", pieces[0].len());
            }
        }
        assert_eq!(read(&bytes_of(text.as_bytes())), (whole, None), "{why}: {text:?} byte by byte");
    }
}

#[test]
fn pipelined_requests_come_one_after_another() {
    let keeps = |text: &String| !text.contains("close") && !text.contains("HTTP/1.0");
    let all: Vec<String> = good().into_iter().map(|(text, _)| text).filter(keeps).collect();
    let (requests, refusal) = read(&[all.concat().as_bytes()]);
    assert_eq!((requests.len(), refusal), (all.len(), None));
    assert!(requests.len() > 25);
    assert_eq!(read(&bytes_of(all.concat().as_bytes())), (requests, None));
}

#[test]
fn bad_framing_is_refused_and_nothing_behind_it_is_read_wherever_it_is_cut() {
    let smuggled = format!("GET /health HTTP/1.1\r\n{HOST}\r\n");
    let ahead = format!("GET /note/1 HTTP/1.1\r\n{HOST}\r\n");
    for (bytes, status, why) in bad() {
        let bytes = [ahead.as_bytes(), &bytes, smuggled.as_bytes()].concat();
        for pieces in cuts(&bytes).map(|pieces| pieces.to_vec()).chain([bytes_of(&bytes)]) {
            let (requests, refusal) = read(&pieces);
            let cut = format!("{why}: {}, cut at {}", bytes.escape_ascii(), pieces[0].len());
            assert_eq!(refusal.map(|refusal| refusal.status), Some(status), "{cut}");
            assert_eq!(requests.len(), 1, "{cut}: only the request ahead of it is served");
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
    let mut reader = Reader::new(Unfinished::new(usize::MAX).share());
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
        assert_eq!(reader.next(&limits(), &hosts, &Log::new("a:1")).unwrap().is_some(), at + 1 == text.len());
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
    let samples: Vec<Vec<u8>> = good()
        .into_iter()
        .map(|(text, _)| text.into_bytes())
        .chain(bad().into_iter().map(|(bytes, ..)| bytes))
        .collect();
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
