use bytes::BytesMut;

use super::{Chunked, EXTRA_BYTES_MAX, LINE_BYTES_MAX};
use crate::rest::Refusal;

const BODY_MAX: usize = 64;

/// The body, and how many bytes of the input it took; none where more is needed.
fn decode(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Refusal> {
    decode_cut(input, input.len())
}

/// Shows the input in two pieces that meet at `cut`.
fn decode_cut(input: &[u8], cut: usize) -> Result<Option<(Vec<u8>, usize)>, Refusal> {
    let mut chunks = Chunked::default();
    let mut buffer = BytesMut::from(&input[..cut]);
    if chunks.take(&mut buffer, BODY_MAX)? {
        return Ok(Some((chunks.body, cut - buffer.len())));
    }
    buffer.extend_from_slice(&input[cut..]);
    let done = chunks.take(&mut buffer, BODY_MAX)?;
    Ok(done.then_some((chunks.body, input.len() - buffer.len())))
}

const GOOD: &[(&[u8], &[u8], &str)] = &[
    (b"0\r\n\r\n", b"", "an empty body"),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", "one chunk"),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", "two chunks"),
    (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789", "digits of either case"),
    (b"0005\r\nhello\r\n000\r\n\r\n", b"hello", "leading zeros"),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", "data that looks like a line end"),
    (b"5;a=b\r\nhello\r\n0;c=\"d e\"\r\n\r\n", b"hello", "extensions"),
    (b"5 ; a\r\nhello\r\n0\r\n\r\n", b"hello", "RFC 9112 section 7.1.1 allows space before an extension"),
    (b"5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n", b"hello", "trailer fields"),
];

#[test]
fn good_bodies_are_read_wherever_they_are_cut() {
    for (input, body, why) in GOOD {
        let next = [input, b"GET / HTTP/1.1\r\n".as_slice()].concat();
        let expected = Some((body.to_vec(), input.len()));
        assert_eq!(decode(&next), Ok(expected.clone()), "{why}");
        for cut in 0..=input.len() {
            assert_eq!(decode_cut(&next, cut), Ok(expected.clone()), "{why}, cut at {cut}");
        }
        for end in 0..input.len() {
            assert_eq!(decode(&input[..end]), Ok(None), "{why}, ended at {end}");
        }
    }
}

#[test]
fn bad_bodies_are_refused_wherever_they_are_cut() {
    let long_line = [b"1;", [b'x'; LINE_BYTES_MAX].as_slice()].concat();
    let trailer = b"A: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(EXTRA_BYTES_MAX / 40);
    let long_trailer = [b"0\r\n".as_slice(), &trailer].concat();
    let table: &[(&[u8], u16, &str)] = &[
        (b"\r\nhello", 400, "a size is missing"),
        (b"x\r\n", 400, "a size is hexadecimal"),
        (b"-5\r\nhello\r\n0\r\n\r\n", 400, "no sign"),
        (b"+5\r\nhello\r\n0\r\n\r\n", 400, "no sign"),
        (b"0x5\r\nhello\r\n0\r\n\r\n", 400, "no prefix"),
        (b" 5\r\nhello\r\n0\r\n\r\n", 400, "no space before the size"),
        (b"5 \r\nhello\r\n0\r\n\r\n", 400, "no space behind the size but before an extension"),
        (b"5\nhello\r\n0\r\n\r\n", 400, "a lone LF behind the size"),
        (b"5\rhello\r\n0\r\n\r\n", 400, "a lone CR behind the size"),
        (b"5;a\nhello\r\n0\r\n\r\n", 400, "a lone LF behind an extension"),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", 400, "a CR within an extension"),
        (b"5;a\0b\r\nhello\r\n0\r\n\r\n", 400, "a NUL within an extension"),
        (b"5a\r\nhello\r\n0\r\n\r\n", 413, "5a is 90, more than the bound"),
        (b"5\r\nhello!\r\n0\r\n\r\n", 400, "more data than the size says"),
        (b"5\r\nhello\n0\r\n\r\n", 400, "a lone LF behind the data"),
        (b"5\r\nhello\rX0\r\n\r\n", 400, "a lone CR behind the data"),
        (b"5\r\nhello0\r\n\r\n", 400, "no line end behind the data"),
        (b"41\r\n", 413, "one byte more than the bound, refused before it comes"),
        (b"40\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n1\r\n", 413, "in pieces"),
        (b"ffffffffffffffffffffffffffffffff\r\n", 413, "more than any integer holds"),
        (b"10000000000000000\r\n", 413, "two to the 64th"),
        (b"0\r\nA b: c\r\n\r\n", 400, "a space in a trailer field's name"),
        (b"0\r\n: c\r\n\r\n", 400, "a trailer field without name"),
        (b"0\r\nA\r\n\r\n", 400, "a trailer field without colon"),
        (b"0\r\nA: b\n\r\n", 400, "a lone LF in the trailer section"),
        (b"0\r\nA: b\0\r\n\r\n", 400, "a NUL in the trailer section"),
        (b"0\r\nA: b\r\n c\r\n\r\n", 400, "a folded trailer field"),
        (b"0\r\n\n", 400, "a lone LF at the end"),
        (&long_line, 400, "a line without end"),
        (&long_trailer, 400, "trailer fields without end"),
    ];
    for (input, status, why) in table {
        for cut in 0..=input.len().min(200) {
            match decode_cut(input, cut) {
                Err(refusal) => assert_eq!(refusal.status, *status, "{why}, cut at {cut}: {refusal}"),
                Ok(body) => panic!("{why}, cut at {cut}: {body:?}"),
            }
        }
    }
}
