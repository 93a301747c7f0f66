//! What was given for each key, by file, environment and flags; not yet read as what the key needs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ConfigError, Found, Origin, Place, nearest};
use super::limits::BOUNDS;
use super::load::{KEYS, Override, TLS_KEYS};

/// The keys whose values are objects of further keys, and how such a value looks.
const OUTER: [(&str, &str); 2] = [
    ("limits", "write a JSON object of limits, for instance {\"pipeline\":64}"),
    ("tls", "write a JSON object of files: {\"cert\":\"replica.pem\",\"key\":\"replica.key\",\"ca\":\"ca.pem\"}"),
];

/// A value as it was given.
#[derive(Debug)]
pub(super) enum Value {
    /// In the file: JSON.
    Json(Box<RawValue>),
    /// In a flag or variable: plain text; lists are separated by commas.
    Text(String),
}

/// One key's value and where it stands.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// The values that count: of each key, the one given by flag, else by environment, else by file. Keys inside
/// another one, as in `limits`, count for themselves, as `limits.NAME`; the outer one is kept as it was given, too.
#[derive(Debug)]
pub(super) struct Values {
    file: Origin,
    by_key: BTreeMap<String, Given>,
}

impl Values {
    /// Collects all that was given. Of two overrides for one key, the later counts.
    pub(super) fn collect(path: &Path, text: &str, overrides: &[Override]) -> Result<Values, ConfigError> {
        let file = Origin::File(path.to_owned());
        let members: Members =
            serde_json::from_str(text).map_err(|source| ConfigError::Syntax { path: path.to_owned(), source })?;
        let mut values = Values { file: file.clone(), by_key: BTreeMap::new() };
        values.take_members(&file, None, members)?;
        for over in overrides {
            let origin = over.origin.clone();
            let place = place(&origin, over.key);
            values.take_inner(&place, &over.text)?;
            values.put(place, Value::Text(over.text.clone()));
        }
        Ok(values)
    }

    /// What counts for `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Given> {
        self.by_key.get(key)
    }

    /// The place of `key`, or where it would stand in the file.
    pub(super) fn place(&self, key: &str) -> Place {
        self.get(key).map_or_else(|| place(&self.file, key), |given| given.place.clone())
    }

    fn put(&mut self, place: Place, value: Value) {
        self.by_key.insert(place.key.clone(), Given { place, value });
    }

    /// Takes the members of one object: the file itself, or the value of a key.
    fn take_members(&mut self, origin: &Origin, inside: Option<&str>, members: Members) -> Result<(), ConfigError> {
        let known: Vec<&str> = match inside {
            Some("tls") => TLS_KEYS.to_vec(),
            Some(_) => BOUNDS.iter().map(|bound| bound.name).collect(),
            None => KEYS.to_vec(),
        };
        let full = |key: &str| inside.map_or_else(|| key.to_owned(), |outer| format!("{outer}.{key}"));
        let mut seen: Vec<String> = Vec::new();
        for (key, value) in members.0 {
            let place = place(origin, &full(&key));
            if !known.contains(&key.as_str()) {
                let nearest = nearest(&key, known.iter().copied());
                return Err(ConfigError::UnknownKey { place, nearest: full(nearest) });
            }
            if seen.contains(&key) {
                return Err(ConfigError::DuplicateKey(place));
            }
            self.take_inner(&place, value.get())?;
            self.put(place, Value::Json(value));
            seen.push(key);
        }
        Ok(())
    }

    /// Takes the members of a key's value, where it is one of [`OUTER`].
    fn take_inner(&mut self, place: &Place, json: &str) -> Result<(), ConfigError> {
        let Some((outer, remedy)) = OUTER.iter().find(|(outer, _)| *outer == place.key) else { return Ok(()) };
        match serde_json::from_str::<Members>(json) {
            Ok(members) => self.take_members(&place.origin, Some(outer), members),
            Err(_) => Err(ConfigError::Value {
                place: place.clone(),
                found: Found(compact(json)),
                remedy: (*remedy).to_owned(),
            }),
        }
    }
}

impl Given {
    /// Reads the value by `read`, which returns none where it does not fit; `remedy` says what to write.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Value) -> Option<T>,
        remedy: impl FnOnce() -> String,
    ) -> Result<T, ConfigError> {
        read(&self.value).ok_or_else(|| self.refuse(remedy()))
    }

    /// The error that this value is not what its key needs.
    pub(super) fn refuse(&self, remedy: String) -> ConfigError {
        ConfigError::Value { place: self.place.clone(), found: self.value.found(), remedy }
    }
}

impl Value {
    /// As one string.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Value::Json(raw) => serde_json::from_str(raw.get()).ok(),
            Value::Text(text) => Some(text.clone()),
        }
    }

    /// As a list of strings.
    pub(super) fn list(&self) -> Option<Vec<String>> {
        match self {
            Value::Json(raw) => serde_json::from_str(raw.get()).ok(),
            Value::Text(text) if text.is_empty() => Some(Vec::new()),
            Value::Text(text) => Some(text.split(',').map(|item| item.trim().to_owned()).collect()),
        }
    }

    /// As a whole number.
    pub(super) fn whole(&self) -> Option<u64> {
        self.number_text().parse().ok()
    }

    /// As any number.
    pub(super) fn number(&self) -> Option<f64> {
        self.number_text().parse().ok()
    }

    /// As it was given: JSON, or plain text.
    pub(super) fn bare(&self) -> &str {
        match self {
            Value::Json(raw) => raw.get(),
            Value::Text(text) => text,
        }
    }

    /// The text if it could be a JSON number, so that `+1`, `inf` and `"1"` are none.
    fn number_text(&self) -> &str {
        let text = self.bare();
        if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') { text } else { "" }
    }

    /// As errors show it.
    pub(super) fn found(&self) -> Found {
        match self {
            Value::Json(raw) => Found(compact(raw.get())),
            Value::Text(text) => Found(text.clone()),
        }
    }
}

fn place(origin: &Origin, key: &str) -> Place {
    Place { origin: origin.clone(), key: key.to_owned(), item: None }
}

/// JSON without white space around its parts, so that errors stay on one line.
fn compact(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json).map_or_else(|_| json.to_owned(), |value| value.to_string())
}

/// An object's members in their order, repeated ones too.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
