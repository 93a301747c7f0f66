//! Requests as raw bytes, good and bad, each with what is right or wrong about it. Unit tests read them without a socket,
//! `tests/http_raw.rs` over one.

/// The limits by which the samples are long or short.
pub(crate) const REQUEST_LINE_BYTES: usize = 100;
pub(crate) const HEAD_BYTES: usize = 1000;
pub(crate) const FIELDS: usize = 10;
pub(crate) const BODY_BYTES: usize = 100;

pub(crate) const HOST: &str = "Host: localhost\r\n";

const NOTE: &str = r#"{"title":"a","body":"b"}"#;

fn get(fields: &str) -> String {
    format!("GET /note HTTP/1.1\r\n{HOST}{fields}\r\n")
}

fn post(fields: &str) -> String {
    format!("POST /note HTTP/1.1\r\n{HOST}{fields}\r\n")
}

fn put_chunks(body: &str) -> String {
    format!("PUT /note/1 HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}")
}

/// Requests that are read, and why they are good.
pub(crate) fn good() -> Vec<(String, &'static str)> {
    let longest_line = format!("GET /note?{}", "&".repeat(REQUEST_LINE_BYTES - "GET /note? HTTP/1.1".len()));
    let longest_body = format!("{{\"title\":\"\",\"body\":\"{}\"}}", "x".repeat(BODY_BYTES - 22));
    let longest_head = get(&format!("A: {}\r\n", "x".repeat(HEAD_BYTES - get("A: \r\n").len() - 2)));
    vec![
        (get(""), "the plainest"),
        (get("Accept: */*\r\nUser-Agent: x/1.0 (y; z)\r\nAccept-Language: de, en;q=0.5\r\n"), "as browsers send it"),
        (format!("GET /note/1?x=%20 HTTP/1.1\r\n{HOST}If-None-Match: \"1-1\"\r\n\r\n"), "a query with an escape"),
        ("GET /note/1 HTTP/1.0\r\n\r\n".into(), "HTTP/1.0 needs no Host"),
        ("GET /note/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), "an old client that keeps its connection"),
        (format!("GET http://localhost:1/note HTTP/1.1\r\n{HOST}\r\n"), "absolute form (RFC 9112 section 3.2.2)"),
        (format!("GET http://localhost HTTP/1.1\r\n{HOST}\r\n"), "absolute form without a path"),
        (format!("GET HTTP://[::1]:80?x HTTP/1.1\r\n{HOST}\r\n"), "absolute form with an address"),
        (format!("\r\nGET /note HTTP/1.1\r\n{HOST}\r\n"), "an empty line before it (section 2.2)"),
        (format!("\r\n\r\nGET /note HTTP/1.1\r\n{HOST}\r\n"), "two of them"),
        (
            "GET /note HTTP/1.1\r\nhOsT:localhost\r\nX:\r\nY: \ta \t\r\nZ: \u{e9}\r\n\r\n".into(),
            "names of any case, values",
        ),
        ("GET /note HTTP/1.1\r\nHost: [::1]:9988\r\n\r\n".into(), "an IPv6 host"),
        (format!("{longest_line} HTTP/1.1\r\n{HOST}\r\n"), "the longest request line"),
        (longest_head, "the longest head"),
        (get(&"A: b\r\n".repeat(FIELDS - 1)), "as many fields as may be"),
        (format!("{}{NOTE}", post("Content-Length: 24\r\n")), "a body by its length"),
        (format!("{}{NOTE}", post("Content-Length: \t24 \r\n")), "white space around a value is none of it"),
        (format!("{}{NOTE}", post("Content-Length: 0024\r\nIdempotency-Key: k\r\n")), "zeros in front"),
        (format!("{}{NOTE}", post("Expect: 100-Continue\r\nContent-Length: 24\r\n")), "a body that did not wait"),
        (format!("{}{longest_body}", post("Content-Length: 100\r\n")), "the longest body"),
        (format!("POST /note HTTP/1.0\r\nContent-Length: 24\r\n\r\n{NOTE}"), "a body in HTTP/1.0"),
        (format!("{}18\r\n{NOTE}\r\n0\r\n\r\n", post("Transfer-Encoding: Chunked \r\n")), "a body in one chunk"),
        (put_chunks("1\r\n{\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n"), "two chunks and a trailer field"),
        (put_chunks("2;a;b=c;d=\"e;f\"\r\n{}\r\n000;g\r\n\r\n"), "chunk extensions"),
        (put_chunks(&format!("64\r\n{longest_body}\r\n0\r\n\r\n")), "the longest body, in a chunk"),
        (format!("PATCH /note/1 HTTP/1.1\r\n{HOST}Content-Length: 2\r\nIf-Match: \"1-2\"\r\n\r\n{{}}"), "a condition"),
        (format!("DELETE /note/1 HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"), "the last request"),
        (format!("DELETE /note/1 HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc"), "a body that nobody wants"),
        (format!("GET /note/1 HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nGET"), "a GET's body is no request"),
        (format!("{}3\r\nGET\r\n0\r\n\r\n", get("Transfer-Encoding: chunked\r\n")), "nor is one in chunks"),
        (format!("GET /nowhere HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nGET"), "nor is one of a refused request"),
        (format!("OPTIONS * HTTP/1.1\r\n{HOST}\r\n"), "asterisk form (section 3.2.4)"),
    ]
}

/// Requests after which nothing can be read: the status, and what is wrong.
pub(crate) fn bad() -> Vec<(Vec<u8>, u16, &'static str)> {
    let texts = bad_framings().into_iter().chain(bad_chunks()).chain(bad_hosts()).chain(bad_fields()).chain(too_long());
    texts.map(|(text, status, why)| (text.into_bytes(), status, why)).chain(bad_bytes()).collect()
}

/// RFC 9112 section 6.3: where hops disagree on a body's end, requests are smuggled.
fn bad_framings() -> Vec<(String, u16, &'static str)> {
    vec![
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "both framings"),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400, "both framings, the other way round"),
        (post("Transfer-Encoding: x, chunked\r\nContent-Length: 5\r\n"), 400, "both, though the coding is unknown"),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, "two lengths"),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "two equal lengths"),
        (post("Content-Length: 5, 5\r\n"), 400, "a list of equal lengths"),
        (post("Content-Length: 5,6\r\n"), 400, "a list of lengths"),
        (post("Content-Length: +5\r\n"), 400, "a sign"),
        (post("Content-Length: -5\r\n"), 400, "a sign"),
        (post("Content-Length: 5 5\r\n"), 400, "a space"),
        (post("Content-Length: 5;\r\n"), 400, "a parameter"),
        (post("Content-Length: \"5\"\r\n"), 400, "quoted"),
        (post("Content-Length: 0x5\r\n"), 400, "a prefix"),
        (post("Content-Length: 5.0\r\n"), 400, "a fraction"),
        (post("Content-Length: 5e0\r\n"), 400, "an exponent"),
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
        (post("Transfer-Encoding: 'chunked'\r\n"), 400, "quoted otherwise"),
        (post("Transfer-Encoding: chunked;a=b\r\n"), 400, "`chunked` has no parameters"),
        (post("Transfer-Encoding: chunked,\r\n"), 400, "an empty element"),
        (post("Transfer-Encoding: ,chunked\r\n"), 501, "an empty element before it"),
        (post("Transfer-Encoding:\r\n"), 400, "empty"),
        (post("Transfer-Encoding: \u{b}chunked\r\n"), 400, "a control character"),
        (post("Transfer-Encoding: xchunked\r\n"), 400, "another word"),
        (post("Transfer-Encoding: chunked chunked\r\n"), 400, "two words"),
        (post("Transfer-Encoding: gzip, chunked\r\n"), 501, "a coding that is not known, though the end is"),
        ("POST /note HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400, "not in HTTP/1.0"),
        (post("Transfer-Encoding : chunked\r\n"), 400, "a space before the colon"),
        (post("Transfer-Encoding\t: chunked\r\n"), 400, "a tab before the colon"),
        (post("Content-Length : 5\r\n"), 400, "a space before the colon"),
        (post("A: b\r\n Transfer-Encoding: chunked\r\n"), 400, "a folded line (section 5.2)"),
        (post("Transfer-Encoding:\r\n chunked\r\n"), 400, "a folded value"),
        (post("Transfer-Encoding: chunked\n"), 400, "a lone LF"),
    ]
}

/// Section 7.1. `src/http/body/tests.rs` has more of them.
fn bad_chunks() -> Vec<(String, u16, &'static str)> {
    let long_extension = format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(1024));
    let many_extensions = format!("1;{0}\r\n \r\n1;{0}\r\n \r\n", "x".repeat(1000)).repeat(5);
    vec![
        (put_chunks("x\r\n"), 400, "a size is hexadecimal"),
        (put_chunks("-2\r\n{}\r\n0\r\n\r\n"), 400, "a sign"),
        (put_chunks("2\n{}\r\n0\r\n\r\n"), 400, "a lone LF behind the size"),
        (put_chunks("2\r\n{}0\r\n\r\n"), 400, "no line end behind the data"),
        (put_chunks("2;a\0\r\n{}\r\n0\r\n\r\n"), 400, "a NUL in an extension"),
        (put_chunks("2;a\nb\r\n{}\r\n0\r\n\r\n"), 400, "a lone LF in an extension"),
        (put_chunks("2\r\n{}\r\n0\r\nA: \0\r\n\r\n"), 400, "a NUL in a trailer field"),
        (put_chunks("2\r\n{}\r\n0\r\nA: b\n\r\n"), 400, "a lone LF behind a trailer field"),
        (put_chunks("2\r\n{}\r\n0\r\nA : b\r\n\r\n"), 400, "a space before a trailer field's colon"),
        (put_chunks("65\r\n"), 413, "one byte more than may come"),
        (put_chunks("ffffffffffffffffff\r\n"), 413, "more than an integer holds"),
        (put_chunks(&long_extension), 400, "an extension that is too long"),
        (put_chunks(&many_extensions), 400, "extensions that are too long together"),
        (put_chunks(&format!("0\r\n{}", "A: b\r\n".repeat(2500))), 400, "trailer fields without end"),
    ]
}

/// Section 3.2.
fn bad_hosts() -> Vec<(String, u16, &'static str)> {
    let host = |host: &str| format!("GET /note HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\n{HOST}\r\n");
    vec![
        ("GET /note HTTP/1.1\r\n\r\n".into(), 400, "no Host"),
        (get(HOST), 400, "two Hosts, though equal"),
        (get("Host: evil.example\r\n"), 400, "two Hosts"),
        ("GET /note HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into(), 400, "two Hosts in HTTP/1.0"),
        ("GET http://localhost/note HTTP/1.1\r\n\r\n".into(), 400, "no Host beside an absolute target"),
        ("GET http://localhost/note HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400, "a bad Host beside an absolute target"),
        ("GET /note HTTP/1.0\r\nHost: a b\r\n\r\n".into(), 400, "a bad Host in HTTP/1.0"),
        (host(""), 400, "nobody"),
        (host("a b"), 400, "a space"),
        (host("a,b"), 400, "a list"),
        (host("user@localhost"), 400, "a user"),
        (host("localhost/"), 400, "a path"),
        (host("localhost:x"), 400, "a port that is no number"),
        (host("localhost:65536"), 400, "a port that is none"),
        (host("localhost:-1"), 400, "a port with a sign"),
        (host("localhost:1:2"), 400, "two ports"),
        (host("[::1"), 400, "half a bracket"),
        (host("::1"), 400, "an IPv6 address without brackets"),
        (host("[evil]"), 400, "no address in brackets"),
        (host("l\u{f6}calhost"), 400, "a letter that is not ASCII"),
        (host("localhost%00"), 400, "an escape"),
        (target("note"), 400, "a target without slash"),
        (target("*"), 400, "`*` is for OPTIONS"),
        (target("localhost/note"), 400, "a target without scheme"),
        (target("ftp://localhost/note"), 400, "another scheme"),
        (target("https://localhost/note"), 400, "another scheme"),
        (target("http:///note"), 400, "an absolute target without a host"),
        (target("http://u@localhost/note"), 400, "a user in the target"),
        (target("http://[::1/note"), 400, "half a bracket in the target"),
        (target("/note#x"), 400, "a fragment"),
        (target("/no\\te"), 400, "a backslash"),
        (target("/<note>"), 400, "what RFC 3986 does not allow"),
        (target("/\"note\""), 400, "quotes"),
        (target("/%zz"), 400, "a bad escape"),
        (target("/%2"), 400, "half an escape"),
        (target("/no te"), 400, "a space in the target"),
        (target("/\u{e9}"), 400, "a target that is not ASCII"),
        (target("/\0"), 400, "a NUL in the target"),
        (target("/\u{7f}"), 400, "a control character in the target"),
    ]
}

/// Sections 2.2, 2.3, 3 and 5.
fn bad_fields() -> Vec<(String, u16, &'static str)> {
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    vec![
        ("GET /note HTTP/1.1\r\n Host: localhost\r\n\r\n".into(), 400, "a space before the first field"),
        ("GET /note HTTP/1.1\nHost: localhost\n\n".into(), 400, "lone LFs"),
        ("GET /note HTTP/1.1\r\nHost: localhost\r\n\n".into(), 400, "a lone LF at the end"),
        ("\nGET /note HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 400, "a lone LF before it all"),
        ("\rGET /note HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 400, "a lone CR before it all"),
        ("\r\n\r\n\r\nGET /note HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 400, "three empty lines before it"),
        (" GET /note HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 400, "a space before it all"),
        (get("A: b\rC: d\r\n"), 400, "a lone CR"),
        (get("A: b\r\r\n"), 400, "a CR too many"),
        (get("A: b\nC: d\r\n"), 400, "a lone LF"),
        (get("A: b\0\r\n"), 400, "a NUL"),
        (get("A: \u{7f}\r\n"), 400, "a control character"),
        (get("A: \u{1b}[2J\r\n"), 400, "another one"),
        (get("A\0: b\r\n"), 400, "a NUL in a name"),
        (get("A b: c\r\n"), 400, "a space in a name"),
        (get("\u{e9}: c\r\n"), 400, "a name that is not ASCII"),
        (get("(A): c\r\n"), 400, "a name that is no token"),
        (get(": c\r\n"), 400, "no name"),
        (get("A\r\n"), 400, "no colon"),
        (line("GET  /note HTTP/1.1"), 400, "two spaces"),
        (line("GET /note  HTTP/1.1"), 400, "two spaces"),
        (line("GET\t/note HTTP/1.1"), 400, "a tab"),
        (line("GET /note HTTP/1.1 "), 400, "a space behind the version"),
        (line("GET /note http/1.1"), 400, "a version in small letters"),
        (line("GET /note HTTP/1.10"), 400, "a version of three digits"),
        (line("GET /note HTTP/x.y"), 400, "a version without digits"),
        (line("GET /note HTTP"), 400, "no version"),
        ("GET /note\r\n\r\n".into(), 400, "HTTP/0.9"),
        (line("GET"), 400, "a method alone"),
        (line("G@T /note HTTP/1.1"), 400, "a method that is no token"),
        (line("GET /note HTTP/0.9"), 505, "an older version"),
        (line("GET /note HTTP/1.2"), 505, "another version"),
        (line("GET /note HTTP/2.0"), 505, "another version"),
        (line("GET /note HTTP/3.0"), 505, "another version"),
    ]
}

/// 414 and 431, also where the end never comes.
fn too_long() -> Vec<(String, u16, &'static str)> {
    vec![
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(REQUEST_LINE_BYTES - 13)), 414, "a request line that is too long"),
        (format!("GET /{}", "x".repeat(2 * REQUEST_LINE_BYTES)), 414, "a request line without end"),
        (get(&"A: b\r\n".repeat(FIELDS)), 431, "too many fields"),
        (get(&format!("A: {}\r\n", "x".repeat(HEAD_BYTES))), 431, "a head that is too long"),
        (format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(HEAD_BYTES + 200)), 431, "a head without end"),
    ]
}

/// What is no HTTP/1 at all.
fn bad_bytes() -> Vec<(Vec<u8>, u16, &'static str)> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0d\0\x04@\0\0\0\0\x02\0\0\0\0";
    vec![
        (preface.to_vec(), 505, "the preface of HTTP/2, and its settings"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400, "the hello of TLS"),
        (b"\x80\x2e\x01\x00\x02".to_vec(), 400, "the hello of SSL 2"),
        (b"\x05\x01\x00".to_vec(), 400, "SOCKS"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec(), 400, "SSH"),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), 400, "a proxy's own line"),
        (b"\x00\x00\x00\x0f{\"type\":\"ping\"}".to_vec(), 400, "a frame"),
        (b"{\"type\":\"ping\"}\n".to_vec(), 400, "a line of JSON"),
        (b"\0".to_vec(), 400, "a NUL"),
        (b"\xff\xfe\xfd".to_vec(), 400, "bytes that are no text"),
    ]
}
