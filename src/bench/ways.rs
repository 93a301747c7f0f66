//! A client's ways to the replicas: HTTP to their services, or frames to their addresses by the client library.

use std::io;

use super::bed::Bed;
use super::http::{self, ANSWER_WAIT, Connection, Phases, Service};
use super::scenario::{By, Clients, Scenario};
use crate::client::{self, Cause, Client, Effect, Options};
use crate::note::{Note, NoteId};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    /// To read a note.
    Get(u64),
    /// To write it: its id, and its JSON.
    Put(u64, &'a str),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// The replica's word, or one of ours.
    pub(super) code: String,
    /// Whether it may have taken effect all the same.
    pub(super) perhaps: bool,
}

/// One client's connections, at most one to each replica.
pub(super) struct Ways {
    kind: Kind,
    clients: Clients,
    /// Connections that were opened here; the library counts its own.
    opened: u64,
}

/// By replica.
enum Kind {
    Http(Vec<Option<Connection>>),
    Frames(Vec<Options>, Vec<Client>),
}

impl Ways {
    /// Ways to all replicas; none is open yet.
    pub(super) fn new(bed: &Bed, scenario: &Scenario) -> Ways {
        let kind = match scenario.by {
            By::Http => Kind::Http(bed.replicas.iter().map(|_| None).collect()),
            By::Frames { keys } => {
                let options: Vec<Options> = bed.replicas.iter().map(|replica| options(&replica.frames, keys)).collect();
                let kept = match scenario.clients {
                    Clients::Kept => options.iter().map(Client::with).collect(),
                    Clients::New => Vec::new(),
                };
                Kind::Frames(options, kept)
            }
        };
        Ways { kind, clients: scenario.clients, opened: 0 }
    }

    /// The same ways for another of the client's requests at the same time: by frames they share the connections, by
    /// HTTP each has its own.
    pub(super) fn share(&self) -> Ways {
        let kind = match &self.kind {
            Kind::Http(connections) => Kind::Http(connections.iter().map(|_| None).collect()),
            Kind::Frames(options, clients) => Kind::Frames(options.clone(), clients.clone()),
        };
        Ways { kind, clients: self.clients, opened: 0 }
    }

    /// Opens the way to a replica, where it is to be kept. Where it cannot be had, the requests say so.
    pub(super) async fn open(&mut self, bed: &Bed, place: usize) {
        match (&mut self.kind, self.clients) {
            (_, Clients::New) => {}
            (Kind::Http(connections), Clients::Kept) => {
                connections[place] = Connection::open(&bed.replicas[place].service).await.ok();
            }
            (Kind::Frames(_, clients), Clients::Kept) => drop(clients[place].ping().await),
        }
    }

    /// How many connections were opened so far.
    pub(super) fn opened(&self) -> u64 {
        match &self.kind {
            Kind::Http(_) => self.opened,
            Kind::Frames(_, clients) => self.opened + clients.iter().map(Client::connections_opened).sum::<u64>(),
        }
    }

    /// Asks a replica, and says where its time went, where the answer does.
    pub(super) async fn ask(&mut self, bed: &Bed, place: usize, ask: Ask<'_>) -> Result<Option<Phases>, Failed> {
        match &mut self.kind {
            Kind::Http(connections) => {
                let service = &bed.replicas[place].service;
                let request = request(service, ask, self.clients);
                let mut connection = match connections[place].take() {
                    Some(connection) => connection,
                    None => {
                        self.opened += 1;
                        Connection::open(service).await.map_err(|error| lost(&error))?
                    }
                };
                let head = connection.ask(&request).await.map_err(|error| lost(&error))?;
                let refused = (!head.is_done()).then(|| http::code_of(head.status, connection.body(&head)));
                if head.keeps() && self.clients == Clients::Kept {
                    connections[place] = Some(connection);
                }
                match refused {
                    None => Ok(Some(head.phases)),
                    Some(code) => Err(Failed { perhaps: code == "unknown", code }),
                }
            }
            Kind::Frames(options, clients) => {
                let asked = match clients.get(place) {
                    Some(client) => by_frames(client, ask).await,
                    None => {
                        self.opened += 1;
                        by_frames(&Client::with(&options[place]), ask).await
                    }
                };
                asked.map(|()| None).map_err(|error| failed(&error))
            }
        }
    }
}

/// One replica, one attempt: a bench shows each failure as it is.
fn options(replica: &Options, keys: bool) -> Options {
    let mut options = replica.clone();
    (options.keys, options.attempts) = (keys, 1);
    (options.timeout, options.connect_timeout) = (ANSWER_WAIT, ANSWER_WAIT);
    options
}

fn request(service: &Service, ask: Ask<'_>, clients: Clients) -> Vec<u8> {
    let field = match clients {
        Clients::Kept => "",
        Clients::New => "Connection: close\r\n",
    };
    match ask {
        Ask::Get(id) => service.get(&format!("/note/{id}"), field),
        Ask::Put(id, json) => service.with_body("PUT", &format!("/note/{id}"), field, json),
    }
}

async fn by_frames(client: &Client, ask: Ask<'_>) -> Result<(), client::Error> {
    match ask {
        Ask::Get(id) => client.get(NoteId(id)).await.map(drop),
        Ask::Put(id, json) => {
            let id = NoteId(id);
            let note = Note::from_put(id, json.as_bytes()).expect("contents are notes of at most a million bytes");
            client.put(id, note).await.map(drop)
        }
    }
}

/// Whether it took effect is unknown.
fn lost(error: &io::Error) -> Failed {
    let code = if error.kind() == io::ErrorKind::TimedOut { "no_answer" } else { "connection" };
    Failed { code: code.to_owned(), perhaps: true }
}

fn failed(error: &client::Error) -> Failed {
    let code = match &error.cause {
        Cause::Refused(refusal) => refusal.code.as_str(),
        Cause::Late(_) | Cause::Full(_) => "no_answer",
        Cause::NotUnderstood(_) => "not_understood",
        _ => "connection",
    };
    Failed { code: code.to_owned(), perhaps: error.effect == Effect::Unknown }
}
