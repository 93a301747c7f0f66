//! The small names that frames, records and views are made of.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most replicas that a cluster can have. Sets of replicas are one machine word, and every write goes to all of them.
pub const REPLICAS_MAX: usize = 16;

/// A replica, by its place in `replicas` of config.json, from 0. All replicas hold the same list: hello compares it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct ReplicaId(pub u8);

impl<'de> Deserialize<'de> for ReplicaId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            place if usize::from(place) < REPLICAS_MAX => Ok(ReplicaId(place)),
            place => {
                Err(D::Error::custom(format_args!("{place} is no replica's place; there are at most {REPLICAS_MAX}")))
            }
        }
    }
}

impl ReplicaId {
    /// This replica's place in a list that follows config order.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of replicas, iterated in config order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ReplicaSet(u16);

impl ReplicaSet {
    /// The set of nobody.
    pub const EMPTY: ReplicaSet = ReplicaSet(0);

    /// Adds one.
    pub fn insert(&mut self, replica: ReplicaId) {
        self.0 |= 1 << replica.0;
    }

    /// Takes one out.
    pub fn remove(&mut self, replica: ReplicaId) {
        self.0 &= !(1 << replica.0);
    }

    /// The set without one.
    pub fn without(mut self, replica: ReplicaId) -> ReplicaSet {
        self.remove(replica);
        self
    }

    /// Everybody who is in either.
    pub fn union(self, other: ReplicaSet) -> ReplicaSet {
        ReplicaSet(self.0 | other.0)
    }

    /// Whether everybody of `other` is in this set.
    pub fn is_superset(self, other: ReplicaSet) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether `replica` is in it.
    pub fn contains(self, replica: ReplicaId) -> bool {
        self.0 & (1 << replica.0) != 0
    }

    /// How many are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether nobody is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members in config order.
    pub fn iter(self) -> impl Iterator<Item = ReplicaId> {
        (0..REPLICAS_MAX as u8).map(ReplicaId).filter(move |replica| self.contains(*replica))
    }
}

impl FromIterator<ReplicaId> for ReplicaSet {
    fn from_iter<I: IntoIterator<Item = ReplicaId>>(replicas: I) -> Self {
        let mut set = ReplicaSet::EMPTY;
        replicas.into_iter().for_each(|replica| set.insert(replica));
        set
    }
}

impl fmt::Debug for ReplicaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|replica| replica.0)).finish()
    }
}

/// On the wire a list of places, in config order.
impl Serialize for ReplicaSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for ReplicaSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<ReplicaId>::deserialize(deserializer).map(ReplicaSet::from_iter)
    }
}

/// The number of a view. Epochs only grow; no epoch is believed from a frame (L4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of a record: epoch first, then a counter; sent as `[epoch, counter]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version {
    /// The epoch in which the record was made.
    pub epoch: Epoch,
    /// Grows with every record of the item.
    pub counter: u64,
}

impl Version {
    /// The version of the next record of the same item, made in `epoch`.
    pub fn next(self, epoch: Epoch) -> Version {
        debug_assert!(epoch >= self.epoch, "a record of epoch {} is followed by one of {epoch}", self.epoch);
        Version { epoch, counter: self.counter + 1 }
    }
}

/// As ETags show it: `EPOCH-COUNTER`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.counter)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.epoch, self.counter).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (epoch, counter) = Deserialize::deserialize(deserializer)?;
        Ok(Version { epoch, counter })
    }
}

/// A random 64-bit number as JSON shows it: a string of 16 hex digits, since JSON numbers lose digits over 2^53.
macro_rules! random_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(D::Error::custom(format_args!("`{text}` is not a string of 16 hex digits")));
                }
                u64::from_str_radix(&text, 16).map($name).map_err(D::Error::custom)
            }
        }
    };
}

random_name!(
    /// Drawn at each process start: two incarnations of one replica are two different members.
    Incarnation
);
random_name!(
    /// Drawn when a record store is created, or when a joiner's copy replaces it.
    StoreId
);
random_name!(
    /// Drawn when the consensus store is created, never otherwise; the voter's id.
    ConsensusId
);
random_name!(
    /// Drawn when a cluster is first set up: it tells the folders of two clusters with the same addresses apart.
    ClusterId
);

/// Names one write of one client, wherever its record goes: who took it, and its number there. Sent as
/// `[replica, incarnation, number]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId {
    /// The contacted replica.
    pub replica: ReplicaId,
    /// Its incarnation: numbers start again with the process.
    pub incarnation: Incarnation,
    /// Counts the writes that this incarnation took, from 1.
    pub number: u64,
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.replica, self.incarnation, self.number).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (replica, incarnation, number) = Deserialize::deserialize(deserializer)?;
        Ok(RequestId { replica, incarnation, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_replicas_is_iterated_in_config_order() {
        let set: ReplicaSet = [3, 0, 15, 3].into_iter().map(ReplicaId).collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [ReplicaId(0), ReplicaId(3), ReplicaId(15)]);
        assert_eq!(set.len(), 3);
        assert!(set.contains(ReplicaId(15)) && !set.contains(ReplicaId(1)));
        assert_eq!(format!("{set:?}"), "{0, 3, 15}");
        assert!(ReplicaSet::EMPTY.is_empty());
    }

    #[test]
    fn sets_of_replicas_add_and_take_away() {
        let one = |place| std::iter::once(ReplicaId(place)).collect::<ReplicaSet>();
        let both = one(1).union(one(2));
        assert_eq!(both.without(ReplicaId(1)), one(2));
        assert_eq!(both.without(ReplicaId(7)), both);
        assert!(both.is_superset(one(2)) && both.is_superset(both) && !one(2).is_superset(both));
    }

    #[test]
    fn a_place_past_the_last_is_refused() {
        assert_eq!(serde_json::from_str::<ReplicaId>("15").unwrap(), ReplicaId(15));
        for text in ["16", "255", "256", "-1", "1.5", "\"1\"", "null"] {
            assert!(serde_json::from_str::<ReplicaId>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn versions_compare_by_epoch_and_then_counter() {
        let version = |epoch, counter| Version { epoch: Epoch(epoch), counter };
        assert!(version(1, 9) < version(2, 1) && version(2, 1) < version(2, 2));
        assert_eq!(version(1, 9).next(Epoch(1)), version(1, 10));
        assert_eq!(version(1, 9).next(Epoch(3)), version(3, 10));
    }

    #[test]
    fn a_version_is_a_pair_in_json_and_dashed_in_etags() {
        let version = Version { epoch: Epoch(3), counter: 10 };
        assert_eq!(serde_json::to_string(&version).unwrap(), "[3,10]");
        assert_eq!(serde_json::from_str::<Version>("[3,10]").unwrap(), version);
        assert_eq!(version.to_string(), "3-10");
        for text in ["[3]", "[3,10,1]", "\"3-10\"", "[3,-1]", "{}"] {
            assert!(serde_json::from_str::<Version>(text).is_err(), "{text}");
        }
    }

    /// JSON numbers lose digits over 2^53 in many readers.
    #[test]
    fn random_names_are_strings_of_16_hex_digits() {
        for (name, text) in [(0, "0000000000000000"), (0xab, "00000000000000ab"), (u64::MAX, "ffffffffffffffff")] {
            let json = format!("\"{text}\"");
            assert_eq!(serde_json::to_string(&Incarnation(name)).unwrap(), json);
            assert_eq!(serde_json::from_str::<Incarnation>(&json).unwrap(), Incarnation(name));
        }
        let bad = ["171", "\"ab\"", "\"+0000000000000ab\"", "\"00000000000000abc\"", "\"00000000000000ag\""];
        for json in bad {
            assert!(serde_json::from_str::<StoreId>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_request_is_named_by_replica_incarnation_and_number() {
        let request = RequestId { replica: ReplicaId(2), incarnation: Incarnation(255), number: 7 };
        let json = r#"[2,"00000000000000ff",7]"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        assert_eq!(serde_json::from_str::<RequestId>(json).unwrap(), request);
    }
}
