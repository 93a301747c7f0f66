use proptest::prelude::*;

use super::*;

const ONE: NoteId = NoteId(1);

fn put(body: &str) -> Result<Note, NoteError> {
    Note::from_put(ONE, body.as_bytes())
}

fn patch(body: &str) -> Result<Patch, NoteError> {
    Patch::parse(ONE, body.as_bytes())
}

#[test]
fn a_note_is_kept_in_canonical_form() {
    let cases = [
        (r#"{"title":"a","body":"b"}"#, r#"{"title":"a","body":"b"}"#),
        (r#" { "body" : "b" , "title" : "a" } "#, r#"{"title":"a","body":"b"}"#),
        (r#"{"id":1,"title":"a"}"#, r#"{"title":"a"}"#),
        (r#"{"body":""}"#, r#"{"body":""}"#),
        ("{}", "{}"),
        (r#"{"title":"\u00e9\/\u0041"}"#, r#"{"title":"é/A"}"#),
        (r#"{"title":"\ud83d\ude00\u0000\n\""}"#, r#"{"title":"😀\u0000\n\""}"#),
    ];
    for (body, kept) in cases {
        assert_eq!(put(body).unwrap().as_str(), kept, "{body}");
    }
}

#[test]
fn bodies_of_a_wrong_shape_are_refused_with_what_is_wrong() {
    let cases = [
        (r#"[]"#, "expected an object"),
        (r#"["a","b"]"#, "expected an object"),
        (r#""a""#, "expected an object"),
        ("null", "expected an object"),
        ("7", "expected an object"),
        (r#"{"title":7}"#, "invalid type: integer `7`, expected a string"),
        (r#"{"title":["a"]}"#, "expected a string"),
        (r#"{"body":{"a":"b"}}"#, "expected a string"),
        (r#"{"body":true}"#, "expected a string"),
        (r#"{"titel":"a"}"#, "unknown field `titel`"),
        (r#"{"Title":"a"}"#, "unknown field `Title`"),
        (r#"{"title":"a","title":"b"}"#, "duplicate field `title`"),
        (r#"{"id":"1"}"#, "expected u64"),
        (r#"{"id":-1}"#, "expected u64"),
        (r#"{"id":1.0}"#, "expected u64"),
        (r#"{"id":18446744073709551616}"#, "expected u64"),
        (r#"{"id":null}"#, "invalid type: null"),
    ];
    for (body, wrong) in cases {
        for error in [put(body).unwrap_err(), patch(body).unwrap_err(), Note::from_post(body.as_bytes()).unwrap_err()] {
            let text = error.to_string();
            assert!(matches!(error, NoteError::Shape(_)), "{body}: {text}");
            assert!(text.contains(wrong) && text.contains("`title` and `body`"), "{body}: {text}");
        }
    }
    let null = put(r#"{"title":null}"#).unwrap_err();
    assert!(matches!(null, NoteError::Shape(_)), "only a patch removes by null: {null}");
}

#[test]
fn bodies_that_are_no_json_are_refused_with_the_place() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "line 1 column 0"),
        (b"{", "line 1 column 1"),
        (b"{\"title\":\"a\"", "line 1 column 12"),
        (b"{\"title\":\n\"a\",}", "line 2 column 5"),
        (b"{\"title\":'a'}", "line 1 column 10"),
        (b"{} {}", "line 1 column 4"),
        (b"{\"title\":\"\\ud800\"}", "line 1"),
        (b"{\"title\":\"a\nb\"}", "control character"),
        (b"{\"title\":\"\xff\"}", "line 1"),
    ];
    for (body, place) in cases {
        let text = String::from_utf8_lossy(body);
        for error in [Note::from_put(ONE, body).unwrap_err(), Patch::parse(ONE, body).unwrap_err()] {
            let said = error.to_string();
            assert!(matches!(error, NoteError::Syntax(_)), "{text}: {said}");
            assert!(said.contains(place), "{text}: {said}");
        }
    }
}

#[test]
fn a_body_may_repeat_the_id_and_no_other() {
    assert!(put(r#"{"id":1,"title":"a"}"#).is_ok());
    assert!(patch(r#"{"id":1,"title":"a"}"#).is_ok());
    for error in [put(r#"{"id":2}"#).unwrap_err(), patch(r#"{"id":2}"#).unwrap_err()] {
        let expected = "the body's `id` is 2, but the request is for note 1; leave `id` out or make them equal";
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_post_needs_title_and_body_and_gives_the_id_itself() {
    let refused = |body: &str| Note::from_post(body.as_bytes()).unwrap_err().to_string();
    assert!(Note::from_post(br#"{"title":"","body":""}"#).is_ok());
    assert_eq!(refused(r#"{"body":"b"}"#), "the note has no `title`; POST needs both `title` and `body`");
    assert_eq!(refused(r#"{"title":"a"}"#), "the note has no `body`; POST needs both `title` and `body`");
    assert_eq!(
        refused(r#"{"id":1,"title":"a","body":"b"}"#),
        "the note has an `id`; POST gives the id itself, leave it out"
    );
}

/// RFC 7396 appendix A, as far as notes go: their members are strings.
#[test]
fn patches_merge_as_in_the_rfc() {
    let cases = [
        (r#"{"title":"b"}"#, r#"{"title":"c"}"#, r#"{"title":"c"}"#),
        (r#"{"title":"b"}"#, r#"{"body":"c"}"#, r#"{"title":"b","body":"c"}"#),
        (r#"{"title":"b"}"#, r#"{"title":null}"#, r#"{}"#),
        (r#"{"title":"b","body":"c"}"#, r#"{"title":null}"#, r#"{"body":"c"}"#),
        (r#"{}"#, r#"{"title":null}"#, r#"{}"#),
        (r#"{}"#, r#"{"title":"a","body":null}"#, r#"{"title":"a"}"#),
        (r#"{"title":"b"}"#, r#"{}"#, r#"{"title":"b"}"#),
        (r#"{"title":"b"}"#, r#"{"title":"","id":1}"#, r#"{"title":""}"#),
    ];
    for (before, by, after) in cases {
        let note = put(before).unwrap();
        assert_eq!(patch(by).unwrap().apply(&note).unwrap().as_str(), after, "{before} by {by}");
    }
}

#[test]
fn a_patch_is_the_same_after_a_trip_as_json() {
    for text in ["{}", r#"{"title":"a"}"#, r#"{"body":null}"#, r#"{"title":null,"body":""}"#] {
        let before = patch(text).unwrap();
        assert_eq!(before.to_json(), text);
        assert_eq!(patch(&before.to_json()).unwrap(), before);
    }
}

#[test]
fn a_note_is_never_longer_than_the_limit() {
    let frame = r#"{"title":""}"#.len();
    let longest = format!(r#"{{"title":"{}"}}"#, "x".repeat(NOTE_BYTES_MAX - frame));
    assert_eq!(put(&longest).unwrap().as_str().len(), NOTE_BYTES_MAX);
    let longer = format!(r#"{{"title":"{}"}}"#, "x".repeat(NOTE_BYTES_MAX - frame + 1));
    assert!(matches!(put(&longer).unwrap_err(), NoteError::TooLarge(bytes) if bytes == NOTE_BYTES_MAX + 1));

    // What counts is the note's JSON, not the request's: a letter that came escaped is one byte, a control character six.
    let escaped = format!(r#"{{"title":"{}"}}"#, r"\u0041".repeat(NOTE_BYTES_MAX - frame));
    assert!(put(&escaped).is_ok());

    let added = format!(r#"{{"body":"{}"}}"#, "y".repeat(NOTE_BYTES_MAX / 2));
    let half = put(&format!(r#"{{"title":"{}"}}"#, "x".repeat(NOTE_BYTES_MAX / 2))).unwrap();
    assert!(matches!(patch(&added).unwrap().apply(&half).unwrap_err(), NoteError::TooLarge(_)));
}

#[test]
fn clients_see_the_id_first() {
    let seen = |body: &str| {
        let mut out = Vec::new();
        put(body).unwrap().write_with_id(NoteId(u64::MAX), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(seen(r#"{"title":"a","body":"b"}"#), r#"{"id":18446744073709551615,"title":"a","body":"b"}"#);
    assert_eq!(seen("{}"), r#"{"id":18446744073709551615}"#);
}

#[test]
fn notes_inside_other_json_are_checked_as_well() {
    let read = serde_json::from_str::<Vec<Note>>;
    assert_eq!(read(r#"[{"body":"b","title":"a"}]"#).unwrap()[0].as_str(), r#"{"title":"a","body":"b"}"#);
    assert!(read(r#"[{"titel":"a"}]"#).is_err());
    assert!(read(r#"[["a","b"]]"#).is_err());
}

proptest! {
    /// Whatever strings a client sends, it gets them back.
    #[test]
    fn any_strings_survive(title in any::<String>(), body in any::<Option<String>>()) {
        let mut sent = serde_json::json!({ "title": title });
        if let Some(body) = body {
            sent["body"] = body.into();
        }
        let note = Note::from_put(ONE, sent.to_string().as_bytes()).unwrap();
        let seen: serde_json::Value = serde_json::from_str(note.as_str()).unwrap();
        prop_assert_eq!(&seen, &sent);
        prop_assert_eq!(Note::from_stored(note.as_str()).unwrap(), note);
    }
}
