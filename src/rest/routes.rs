//! A request's head and body to what the replica is asked, or to the answer that needs no asking.

use super::origin::Hosts;
use super::refusal::Refusal;
use super::request::{Head, Method};
use crate::note::{Note, NoteError, NoteId, Patch};
use crate::observe::classic::Log;
use crate::protocol::client::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};
use crate::protocol::ids::{Epoch, Version};
use crate::protocol::port::Call;
use crate::protocol::request::{Code, Failure, IF_MATCH_MAX, KEY_BYTES_MAX, Key};
use crate::protocol::request::{Operation, Page, Request, Write, quote};

/// Most bytes of notes on one page that a client asks for; where the next note would pass it, `Link` leads on. It is
/// in memory at once, for each connection.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of notes that a streamed list takes from the replica at a time: enough that hops do not matter, and
/// little enough that many clients may list at once.
const STREAM_BYTES_MAX: usize = 256 * 1024;

/// What to ask the replica; none where the answer is fixed: the methods that a path allows, or the description.
pub(crate) type Ask = Result<Option<Call>, Refusal>;

/// What a path names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The list: a page of it, or without one all of it as a stream.
    Notes(Option<Page>),
    Note(NoteId),
    Status,
    Health,
    Ready,
    Metrics,
    OpenApi,
    /// `*`, the server as a whole.
    #[default]
    Server,
}

impl Resource {
    /// The note that it is, where it is one.
    pub(crate) fn id(&self) -> Option<NoteId> {
        match self {
            Resource::Note(id) => Some(*id),
            _ => None,
        }
    }

    fn find(path: &str) -> Result<Resource, Refusal> {
        match path {
            "/note" => Ok(Resource::Notes(None)),
            "/status" => Ok(Resource::Status),
            "/health" => Ok(Resource::Health),
            "/ready" => Ok(Resource::Ready),
            "/metrics" => Ok(Resource::Metrics),
            "/openapi.json" => Ok(Resource::OpenApi),
            "*" => Ok(Resource::Server),
            _ => match path.strip_prefix("/note/").filter(|id| !id.is_empty() && !id.contains('/')) {
                Some(id) => Resource::note(id),
                None => {
                    Err(Refusal::new(404, Code::NotFound, "there is nothing here; notes are at /note and /note/{id}"))
                }
            },
        }
    }

    fn note(id: &str) -> Result<Resource, Refusal> {
        let malformed = || format!("`{}` is no note id; ids are decimal numbers, without leading zeros", quote(id));
        match decimal(id).map(NoteId).ok_or_else(|| Refusal::new(400, Code::BadId, malformed()))? {
            id if id.is_sequence() => Err(Failure::not_found(id).into()),
            id => Ok(Resource::Note(id)),
        }
    }

    /// The methods that it allows, as Allow lists them.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Resource::Notes(_) => "GET, HEAD, POST, OPTIONS",
            Resource::Note(_) => "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
            Resource::Server => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

/// What is known of a request from its head; by default, where that could not be read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) method: Method,
    /// Of a refused request it may be anything.
    pub(crate) resource: Resource,
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    /// Errors are problem details (RFC 9457).
    pub(crate) problem: bool,
    /// For the log, where it is on.
    pub(crate) path: Option<Box<str>>,
    /// Of a read.
    pub(crate) if_none_match: Option<Tags>,
    /// Of one note.
    pub(crate) if_match: Option<Vec<Version>>,
    key: Option<Key>,
}

impl Plan {
    /// What the head asks for, with the reason to refuse it that shows without the body, if there is one.
    pub(crate) fn of(head: &Head<'_, '_>, hosts: &Hosts, log: &Log) -> (Plan, Option<Refusal>) {
        let mut plan = Plan {
            method: head.method,
            http10: head.http10,
            problem: head.items("accept").any(asks_for_problem),
            path: log.enabled().then(|| quote(head.path).into()),
            ..Plan::default()
        };
        let refusal = plan.read(head, hosts).err();
        // Behind a CONNECT may come what is no HTTP, behind a POST of unknown length its body.
        let unsure = head.method == Method::Connect || refusal.as_ref().is_some_and(|refusal| refusal.status == 411);
        plan.keep_alive = head.keeps_alive() && !unsure;
        (plan, refusal)
    }

    fn read(&mut self, head: &Head<'_, '_>, hosts: &Hosts) -> Result<(), Refusal> {
        hosts.check(head)?;
        if matches!(self.method, Method::Connect | Method::Other) {
            return Err(Refusal::new(501, Code::Unsupported, "this method is not known here"));
        }
        self.resource = Resource::find(head.path)?;
        let allow = self.resource.allow();
        if !allow.split(", ").any(|allowed| allowed == self.method.word()) {
            return Err(Refusal::new(405, Code::MethodNotAllowed, format!("this path allows {allow}")));
        }
        head.waits()?;
        match &mut self.resource {
            _ if self.method.writes() => self.read_write(head)?,
            Resource::Notes(page) if self.method != Method::Options => *page = parse_query(head.query)?,
            Resource::Note(_) => {
                self.if_match = parse_if_match(head)?;
                self.if_none_match = Tags::parse(head, "if-none-match", true)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn read_write(&mut self, head: &Head<'_, '_>) -> Result<(), Refusal> {
        if !head.has_body && self.method != Method::Delete {
            let msg = "the body's length is not known; give Content-Length, or send it chunked";
            return Err(Refusal::new(411, Code::BadRequest, msg));
        }
        if head.values("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(Refusal::new(415, Code::Unsupported, "encoded content is not taken; send the body as it is"));
        }
        self.key = parse_key(head)?;
        self.if_match = parse_if_match(head)?;
        if self.method == Method::Post && self.if_match.is_some() {
            return Err(Failure::new(Code::PreconditionFailed, "the list has no ETag; POST without If-Match").into());
        }
        match Tags::parse(head, "if-none-match", true)? {
            Some(tags) if !tags.any => {
                return Err(Refusal::bad("a write takes no If-None-Match but `*`; use If-Match"));
            }
            // RFC 9110 section 13.1.2. No write makes a note at an id that a client chose, so `*` can only fail: with 412
            // where the note is there, else with 404, just as a list that never matches. Of a POST it asks nothing.
            Some(_) if self.method != Method::Post => self.if_match = Some(Vec::new()),
            _ => {}
        }
        Ok(())
    }

    /// What to ask the replica, now that the body is there.
    pub(crate) fn ask(&mut self, body: &[u8]) -> Ask {
        let request = match self.resource {
            _ if self.method == Method::Options => return Ok(None),
            Resource::OpenApi | Resource::Server => return Ok(None),
            Resource::Status | Resource::Ready | Resource::Metrics => return Ok(Some(Call::Status)),
            Resource::Health => return Ok(Some(Call::Ping)),
            resource if self.method.writes() => {
                let operation = operation(self.method, resource, body).map_err(Failure::from)?;
                Request::Write(Write { operation, key: self.key.take(), if_match: self.if_match.take() })
            }
            Resource::Notes(page) => Request::List(page.unwrap_or(stream_page(NoteId(0)))),
            Resource::Note(id) => Request::Get(id),
        };
        Ok(Some(Call::Note(request)))
    }
}

/// The piece of a streamed list behind `after`.
pub(crate) fn stream_page(after: NoteId) -> Page {
    Page { after, limit: usize::MAX, bytes_max: STREAM_BYTES_MAX }
}

fn operation(method: Method, resource: Resource, body: &[u8]) -> Result<Operation, NoteError> {
    Ok(match (method, resource) {
        (Method::Put, Resource::Note(id)) => Operation::Put { id, note: Note::from_put(id, body)? },
        (Method::Patch, Resource::Note(id)) => Operation::Patch { id, patch: Patch::parse(id, body)? },
        (Method::Delete, Resource::Note(id)) => Operation::Delete { id },
        _ => Operation::Post { note: Note::from_post(body)? },
    })
}

/// The page that `limit` and `after` name; none where neither is there.
fn parse_query(query: &str) -> Result<Option<Page>, Refusal> {
    let (mut limit, mut after) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let fits = match (name, decimal(value)) {
            ("limit", Some(number)) => {
                limit.replace(number as usize).is_none() && (1..=LIST_LIMIT_MAX as u64).contains(&number)
            }
            ("after", Some(number)) => after.replace(NoteId(number)).is_none(),
            _ => false,
        };
        if !fits {
            let takes = format!("it takes limit=1 to {LIST_LIMIT_MAX} and after=ID, once");
            return Err(Refusal::bad(format!("the query is wrong at `{}`; {takes}", quote(pair))));
        }
    }
    let limit = limit.or(after.map(|_| LIST_LIMIT_DEFAULT));
    Ok(limit.map(|limit| Page { after: after.unwrap_or(NoteId(0)), limit, bytes_max: PAGE_BYTES_MAX }))
}

/// The versions that If-Match names. `*` stands for any note that exists, which every request for one needs anyway.
fn parse_if_match(head: &Head<'_, '_>) -> Result<Option<Vec<Version>>, Refusal> {
    Ok(Tags::parse(head, "if-match", false)?.filter(|tags| !tags.any).map(|tags| tags.versions))
}

fn parse_key(head: &Head<'_, '_>) -> Result<Option<Key>, Refusal> {
    let bad = || Refusal::bad(format!("Idempotency-Key is 1 to {KEY_BYTES_MAX} visible ASCII characters"));
    let Some(value) = head.value("idempotency-key", "Idempotency-Key is given once")? else { return Ok(None) };
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    Key::try_from(text).map(Some).map_err(|_| bad())
}

/// Whether a member of Accept names problem details, and does not forbid them with a weight of nought (RFC 9110 section
/// 12.5.1).
fn asks_for_problem(range: &[u8]) -> bool {
    let range = range.to_ascii_lowercase();
    let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is_nought = |weight: &[u8]| weight.iter().all(|byte| b".0".contains(byte));
    parts.next() == Some(b"application/problem+json")
        && !parts.any(|part| part.strip_prefix(b"q=0").is_some_and(is_nought))
}

/// The value of If-Match or If-None-Match (RFC 9110 section 13.1).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    /// `*`: any note that exists.
    any: bool,
    /// Those that can be ours; others match nothing and are left out.
    versions: Vec<Version>,
}

impl Tags {
    /// `weak` tells whether weak ETags match (RFC 9110 section 8.8.3.2).
    fn parse(head: &Head<'_, '_>, name: &'static str, weak: bool) -> Result<Option<Tags>, Refusal> {
        let mut tags = None;
        for (place, tag) in head.items(name).enumerate() {
            if place == IF_MATCH_MAX {
                return Err(Refusal::bad(format!("If-Match and If-None-Match take at most {IF_MATCH_MAX} ETags")));
            }
            let tags = tags.get_or_insert_with(Tags::default);
            tags.any |= tag == b"*";
            tags.versions.extend(parse_tag(tag, weak));
        }
        Ok(tags)
    }

    /// Whether they match `version`.
    pub(crate) fn contain(&self, version: Version) -> bool {
        self.any || self.versions.contains(&version)
    }
}

/// `"EPOCH-COUNTER"`, and where `weak` holds, `W/"EPOCH-COUNTER"`.
fn parse_tag(text: &[u8], weak: bool) -> Option<Version> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.strip_prefix("W/").filter(|_| weak).unwrap_or(text);
    let (epoch, counter) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
    Some(Version { epoch: Epoch(decimal(epoch)?), counter: decimal(counter)? })
}

/// A number as we print it: digits only, without leading zeros, so that each number has one text.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
