//! What the fuzzer says: requests, good and bad, changed at random.

/// Draws numbers from a seed (xorshift64*), so that a failure can be had again.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Draw {
        // Neighbouring seeds must not give similar numbers (splitmix64), and nought would only give noughts.
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Draw((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// Whole requests. None is a HEAD: whether its answer has a body could not be told once the request is changed.
const REQUESTS: &[&str] = &[
    "GET /note/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /note HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /note HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET /note?limit=3&after=7 HTTP/1.1\r\nHost: localhost\r\nAccept: application/problem+json\r\n\r\n",
    "GET http://127.0.0.1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET /ready HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 24\r\n\r\n{\"title\":\"a\",\"body\":\"b\"}",
    "POST /note HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 24\r\n\r\n{\"title\":\"a\",\"body\":\"b\"}",
    "PUT /note/1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4;x=\"y\"\r\n{\"ti\r\n8\r\ntle\":1}\n\r\n0\r\nA: b\r\n\r\n",
    "PATCH /note/1 HTTP/1.1\r\nHost: localhost\r\nIf-Match: \"1-1\", W/\"2-2\"\r\nContent-Length: 2\r\n\r\n{}",
    "DELETE /note/2 HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k\r\nOrigin: http://localhost\r\n\r\n",
    "POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /note/1 HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Pieces that parsers stumble over.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "\"",
    "%",
    "%00",
    "0",
    "-1",
    "+1",
    "0x10",
    "ffffffffffffffff",
    "18446744073709551616",
    "\r\n\r\n",
    "\r\n ",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "chunked",
    "identity, chunked",
    "Content-Length: 7\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Host: localhost\r\n",
    "Host: evil.example\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Content-Encoding: gzip\r\n",
    "If-None-Match: *\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "{\"title\":\"\\ud800\"}",
    "[[[[[[[[",
    "\u{0}",
    "\u{7f}",
    "\u{e9}",
    "GET ",
    "POST ",
    "/note/",
    "/note?limit=1000",
];

/// One connection's bytes: requests that are whole, and behind them one that may be anything.
pub(crate) struct Talk {
    /// How many whole requests come first. Each is answered before anything else.
    pub(crate) whole: usize,
    pub(crate) bytes: Vec<u8>,
}

/// `marker` is the number of a note that does not exist; asking for it ends the talk.
pub(crate) fn talk(draw: &mut Draw, marker: u64) -> Talk {
    let whole = draw.below(3);
    let mut bytes = b"GET /note/1 HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(whole);
    for _ in 0..1 + draw.below(3) {
        bytes.extend(changed(draw));
    }
    bytes.extend(format!("GET /note/{marker} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    Talk { whole, bytes }
}

fn changed(draw: &mut Draw) -> Vec<u8> {
    let mut bytes = draw.of(REQUESTS).as_bytes().to_vec();
    for _ in 0..draw.below(5) {
        let at = draw.below(bytes.len() + 1);
        let end = (at + 1 + draw.below(12)).min(bytes.len());
        match draw.below(8) {
            0 if at < bytes.len() => bytes[at] = draw.below(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << draw.below(8),
            2 => drop(bytes.drain(at..end)),
            3 => insert(&mut bytes, at, &vec![b"x0 \r"[draw.below(4)]; draw.below(12_000)]),
            4 => {
                let copy = bytes[at..end].to_vec();
                insert(&mut bytes, at, &copy);
            }
            5 => insert(&mut bytes, at, &format!("X-{at}: y\r\n").repeat(draw.below(130)).into_bytes()),
            _ => insert(&mut bytes, at, draw.of(PIECES).as_bytes()),
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}
