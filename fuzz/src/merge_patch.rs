//! Merge patches against RFC 7396, whose pseudocode is short enough to be written down again.

use primacy::note::{NOTE_BYTES_MAX, Note, NoteId, Patch};
use serde_json::{Map, Value};

const ID: NoteId = NoteId(1);

/// The bytes are the note's JSON, a line end, and the patch's JSON.
pub fn run(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (note, patch) = (&data[..end], &data[end + 1..]);
    let (Ok(note), Ok(patch_read)) = (Note::from_put(ID, note), Patch::parse(ID, patch)) else { return };
    let patched = patch_read.apply(&note).expect("patches this short make no long note");
    let mut expected = merged(value(note.as_str().as_bytes()), &without_id(value(patch)));
    assert_eq!(value(patched.as_str().as_bytes()), expected, "RFC 7396 has another result");
    // The patch as replicas send it does the same.
    let sent = Patch::parse(ID, patch_read.to_json().as_bytes()).expect("a patch is written as one");
    assert_eq!(sent.apply(&note).expect("it is as long as before"), patched);
    // A note is kept in one form, whoever writes it.
    let again = Note::from_put(ID, patched.as_str().as_bytes()).expect("a note is written as one");
    assert_eq!(again, patched);
    assert!(patched.as_str().len() <= NOTE_BYTES_MAX);
    // To patch twice is to patch once.
    assert_eq!(patch_read.apply(&patched).expect("it is as long as before"), patched);
    expected["id"] = ID.0.into();
    let mut shown = Vec::new();
    patched.write_with_id(ID, &mut shown);
    assert_eq!(value(&shown), expected, "clients see another note");
}

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("it was read before")
}

/// `id` may stand in a patch, to no effect.
fn without_id(mut patch: Value) -> Value {
    patch.as_object_mut().expect("a patch is an object").remove("id");
    patch
}

/// MergePatch(Target, Patch) of RFC 7396 section 2.
fn merged(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.remove(name)),
            value => {
                let before = target.remove(name).unwrap_or(Value::Null);
                target.insert(name.clone(), merged(before, value));
            }
        }
    }
    Value::Object(target)
}
