//! A client of a cluster: asynchronous, pipelined over one persistent connection to each replica, and failing over.
//!
//! ```text
//!  Client::put …       a future for each request
//!      |
//!  failover            which replica, and once more at another one: under the same key, so it takes effect once
//!      |
//!  connection          a task: dials, writes, reads, dials again
//!      |
//!  exchange            requests numbered, those on their way, deadlines: no socket
//! ```
//!
//! It speaks the frames of protocol.md. All requests of a client share its connections: while one waits for its reply the
//! next are sent, and whatever is ready goes out in one write. So ask for many things at once, from as many tasks as you
//! like; a [`Client`] is cheap to clone.
//!
//! ```
#![doc = concat!("# mod live { include!(\"", env!("CARGO_MANIFEST_DIR"), "/tests/support/example_cluster.rs\"); }")]
//! # live::with_cluster(async |addresses| {
//! use primacy::client::Client;
//! use primacy::note::Note;
//!
//! // The addresses are those of config.json, such as 127.0.0.1:10000.
//! let client = Client::new(addresses)?;
//! let made = client.post(Note::new(Some("Hello"), Some("World"))?).await?;
//! let found = client.get(made.id).await?;
//! assert_eq!(found.note.title().as_deref(), Some("Hello"));
//! assert_eq!(found.version, made.version);
//! # Ok(())
//! # });
//! ```
//!
//! # What may fail
//!
//! A replica that is gone, hangs, or has lost touch with the others is passed over, and the next one is asked. That is safe
//! for reads; writes carry an idempotency key, which each gets where it has none ([`Options::keys`]), so that one sent
//! twice takes effect once. What fails in the end is an [`Error`], which says by [`Error::effect`] whether it may have
//! happened all the same. A future that is dropped before its request was sent takes its request with it; after that, the
//! request is on its way.
//!
//! # Encrypted
//!
//! Where the replicas speak TLS, [`Options::authority`] says who must have signed their certificates.
//!
//! # What is bounded
//!
//! Requests on their way and in the queue of each connection, the time of a request, of an attempt, of a dial
//! ([`Options`]); a reply is at most 8 MiB.
//!
//! It has no transactions, caches nothing, and does not look for replicas that it was not told of.

mod connection;
mod error;
mod exchange;
mod failover;
mod options;
mod reply;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::note::{Note, NoteId, Patch};
use crate::protocol::client::{LIST_BYTES_MAX, LIST_LIMIT_MAX};
use crate::protocol::port::Call;
use crate::protocol::request::{Done, Key, Operation, Page, Request, Write};
use crate::protocol::status::Status;
use crate::random::Random;
use failover::{Nature, Replicas};
use reply::Reply;
use request::Asking;

pub use error::{Cause, Effect, Error, Refusal};
pub use options::{Options, OptionsError, Token};
pub use reply::{Found, List, Pong};
pub use request::frame_of;

/// A client of one cluster. Clones share its connections, which are closed when all are gone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    replicas: Replicas,
    keys: bool,
    /// What the keys of this client begin with: nobody else's do.
    name: u64,
    keys_made: AtomicU64,
}

impl Client {
    /// A client of these replicas with the default [`Options`]. Nothing is dialed before the first request.
    ///
    /// # Errors
    ///
    /// Where there is no address, or one is none.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, in which its connections live.
    pub fn new<A: AsRef<str>>(replicas: impl IntoIterator<Item = A>) -> Result<Client, OptionsError> {
        Options::new(replicas).map(|options| Client::with(&options))
    }

    /// A client with these options.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, in which its connections live; and where the system gives no random numbers.
    pub fn with(options: &Options) -> Client {
        let name = Random::system().draw().expect("a system that runs an async runtime has random numbers");
        let replicas = Replicas::new(options, name);
        Client(Arc::new(Shared { replicas, keys: options.keys, name, keys_made: AtomicU64::new(0) }))
    }

    /// Reads a note.
    pub async fn get(&self, id: NoteId) -> Result<Found, Error> {
        self.ask(&Call::Note(Request::Get(id)), Nature::Reads, |reply| match reply {
            Reply::Note(found) => Some(found),
            _ => None,
        })
        .await
    }

    /// Reads a page of the list: at most `limit` notes, 1 to 1,000, with ids larger than `after`.
    ///
    /// ```
    #[doc = concat!("# mod live { include!(\"", env!("CARGO_MANIFEST_DIR"), "/tests/support/example_cluster.rs\"); }")]
    /// # live::with_cluster(async |addresses| {
    /// # use primacy::{client::Client, note::{Note, NoteId}};
    /// # let client = Client::new(addresses)?;
    /// # for title in ["a", "b", "c"] { client.post(Note::new(Some(title), Some(""))?).await?; }
    /// let (mut all, mut after) = (Vec::new(), NoteId(0));
    /// loop {
    ///     let page = client.list(after, 2).await?;
    ///     after = page.notes.last().map_or(after, |(id, _)| *id);
    ///     all.extend(page.notes);
    ///     if !page.more {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(all.len(), 3);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn list(&self, after: NoteId, limit: usize) -> Result<List, Error> {
        let page = Page { after, limit: limit.clamp(1, LIST_LIMIT_MAX), bytes_max: LIST_BYTES_MAX };
        self.ask(&Call::Note(Request::List(page)), Nature::Reads, |reply| match reply {
            Reply::Notes(list) => Some(list),
            _ => None,
        })
        .await
    }

    /// Makes a new note, which needs both members.
    pub async fn post(&self, note: Note) -> Result<Done, Error> {
        self.write(Operation::Post { note }.into()).await
    }

    /// Replaces a note.
    pub async fn put(&self, id: NoteId, note: Note) -> Result<Done, Error> {
        self.write(Operation::Put { id, note }.into()).await
    }

    /// Merges a patch into a note (RFC 7396).
    pub async fn patch(&self, id: NoteId, patch: Patch) -> Result<Done, Error> {
        self.write(Operation::Patch { id, patch }.into()).await
    }

    /// Removes a note for good.
    pub async fn delete(&self, id: NoteId) -> Result<Done, Error> {
        self.write(Operation::Delete { id }.into()).await
    }

    /// Writes under a key of your own, or only where the note is at a certain version.
    ///
    /// ```
    #[doc = concat!("# mod live { include!(\"", env!("CARGO_MANIFEST_DIR"), "/tests/support/example_cluster.rs\"); }")]
    /// # live::with_cluster(async |addresses| {
    /// use primacy::client::Client;
    /// use primacy::note::{Note, Patch};
    /// use primacy::protocol::request::{Code, Key, Operation, Write};
    ///
    /// let client = Client::new(addresses)?;
    /// let made = client.post(Note::new(Some("a"), Some("b"))?).await?;
    /// // Only if nobody has changed it since; and once, however often it is sent.
    /// let patch = Patch::default().title(Some("changed"));
    /// let write = Write {
    ///     operation: Operation::Patch { id: made.id, patch },
    ///     key: Some(Key::try_from("order-17")?),
    ///     if_match: Some(vec![made.version]),
    /// };
    /// let first = client.write(write.clone()).await?;
    /// assert_eq!(client.write(write.clone()).await?, first);
    /// // Under another key it is another write, and comes too late.
    /// let error = client.write(Write { key: None, ..write }).await.unwrap_err();
    /// assert_eq!(error.code(), Some(Code::PreconditionFailed));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn write(&self, mut write: Write) -> Result<Done, Error> {
        if write.key.is_none() && self.0.keys {
            write.key = Some(self.next_key());
        }
        let nature = if write.key.is_some() { Nature::Keyed } else { Nature::Keyless };
        self.ask(&Call::Note(Request::Write(write)), nature, |reply| match reply {
            Reply::Done(done) => Some(done),
            _ => None,
        })
        .await
    }

    /// Asks whether a replica is there, and whose view it is in.
    pub async fn ping(&self) -> Result<Pong, Error> {
        self.ask(&Call::Ping, Nature::Reads, |reply| match reply {
            Reply::Pong(pong) => Some(pong),
            _ => None,
        })
        .await
    }

    /// Asks a replica for all that it says of itself.
    pub async fn status(&self) -> Result<Box<Status>, Error> {
        self.ask(&Call::Status, Nature::Reads, |reply| match reply {
            Reply::Status(status) => Some(status),
            _ => None,
        })
        .await
    }

    /// How many connections this client and its clones have opened so far: more than one to a replica means that it was
    /// lost in between.
    pub fn connections_opened(&self) -> u64 {
        self.0.replicas.opened()
    }

    async fn ask<T>(&self, call: &Call, nature: Nature, pick: impl Fn(Reply) -> Option<T>) -> Result<T, Error> {
        self.0.replicas.ask(&Asking::new(call), nature, pick).await
    }

    fn next_key(&self) -> Key {
        let count = self.0.keys_made.fetch_add(1, Ordering::Relaxed);
        Key::try_from(format!("{:016x}-{count}", self.0.name)).expect("hex digits and a hyphen are visible ASCII")
    }
}
