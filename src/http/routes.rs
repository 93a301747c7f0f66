//! A request's head and body to what the replica is asked, or to the answer that needs no asking.

use super::head::{Expect, Framing, Head, Method};
use super::origin::Hosts;
use super::refusal::Refusal;
use super::tags::{Tags, decimal};
use crate::note::{Note, NoteError, NoteId, Patch};
use crate::protocol::port::Call;
use crate::protocol::request::{Code, Failure, Key, Operation, Page, Request, Write};

/// Most notes on one page that a client asks for.
pub(crate) const PAGE_NOTES_MAX: usize = 1000;

/// Notes on a page where the client gives only `after`.
pub(crate) const PAGE_NOTES_DEFAULT: usize = 100;

/// Most bytes of notes on one page that a client asks for; where the next note would pass it, `Link` leads on. It is
/// in memory at once, for each connection.
pub(crate) const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of notes that a streamed list takes from the replica at a time: enough that hops do not matter, and
/// little enough that many clients may list at once.
pub(crate) const STREAM_BYTES_MAX: usize = 256 * 1024;

/// How much of a client's text an error repeats, in characters.
const QUOTE_MAX: usize = 80;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The list: a page of it, or without one all of it as a stream.
    Notes(Option<Page>),
    Note(NoteId),
    Status,
    Health,
    Ready,
    OpenApi,
    /// `*`, the server as a whole.
    Server,
}

impl Resource {
    fn find(path: &str) -> Result<Resource, Refusal> {
        if let Some(id) = path.strip_prefix("/note/").filter(|id| !id.is_empty() && !id.contains('/')) {
            return match decimal(id) {
                Some(0) => Err(Refusal::NoteZero),
                Some(id) => Ok(Resource::Note(NoteId(id))),
                None => Err(Refusal::Id(quote(id))),
            };
        }
        match path {
            "/note" => Ok(Resource::Notes(None)),
            "/status" => Ok(Resource::Status),
            "/health" => Ok(Resource::Health),
            "/ready" => Ok(Resource::Ready),
            "/openapi.json" => Ok(Resource::OpenApi),
            "*" => Ok(Resource::Server),
            _ => Err(Refusal::NoSuchPath),
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

    fn allows(self, method: Method) -> bool {
        match method {
            Method::Options => true,
            Method::Get | Method::Head => self != Resource::Server,
            Method::Post => matches!(self, Resource::Notes(_)),
            Method::Put | Method::Patch | Method::Delete => matches!(self, Resource::Note(_)),
            Method::Connect | Method::Other => false,
        }
    }
}

/// What is known of a request from its head.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) method: Method,
    pub(crate) resource: Resource,
    key: Option<Key>,
    if_match: Option<Vec<crate::protocol::ids::Version>>,
    /// Of a read.
    pub(crate) if_none_match: Option<Tags>,
}

/// What is to be done for a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Ask {
    /// Ask the replica.
    Call(Call),
    /// The request was turned away.
    Refused(Refusal),
    /// The request's body is not what it must be.
    Failed(Failure),
    /// The description of this interface, or the methods that a path allows.
    Fixed,
}

impl Ask {
    /// Whether it must be the only open call of its connection. A write must (RFC 9112 section 9.3.2); a list is, so
    /// that no connection holds more than one page in memory.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self, Ask::Call(Call::Note(Request::Write(_) | Request::List(_))))
    }
}

/// What the head asks for, where all that can be checked without the body is well.
pub(crate) fn plan(head: &Head<'_, '_>, hosts: &Hosts) -> Result<Plan, Refusal> {
    hosts.check(head)?;
    if matches!(head.method, Method::Connect | Method::Other) {
        return Err(Refusal::Method);
    }
    let mut resource = Resource::find(head.path)?;
    if !resource.allows(head.method) {
        return Err(Refusal::NotAllowed(resource.allow()));
    }
    if head.expect == Expect::Unknown {
        return Err(Refusal::Expectation);
    }
    let mut plan = Plan { method: head.method, resource, key: None, if_match: None, if_none_match: None };
    match head.method {
        Method::Get | Method::Head => match &mut resource {
            Resource::Notes(page) => {
                *page = parse_query(head.query)?;
                plan.resource = resource;
            }
            Resource::Note(_) => {
                let tags = Tags::parse(head.values("if-none-match"));
                plan.if_none_match = tags.map_err(|_| Refusal::IfNoneMatch)?;
            }
            _ => {}
        },
        method if method.writes() => plan.prepare_write(head)?,
        _ => {}
    }
    Ok(plan)
}

impl Plan {
    fn prepare_write(&mut self, head: &Head<'_, '_>) -> Result<(), Refusal> {
        if head.framing == Framing::None && self.method != Method::Delete {
            return Err(Refusal::LengthRequired);
        }
        if head.values("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(Refusal::Encoded);
        }
        self.key = parse_key(head)?;
        let if_match = Tags::parse(head.values("if-match")).map_err(|_| Refusal::IfMatch)?;
        if self.method == Method::Post && !matches!(if_match, None | Some(Tags::Any)) {
            return Err(Refusal::ListHasNoTag);
        }
        self.if_match = if_match.and_then(Tags::strong);
        // RFC 9110 section 13.1.2. A write never makes a note at an id of the client's choice, so `*` can only fail:
        // with 412 where the note is there, else with 404, which is just what a list that never matches gives. For a
        // POST it asks nothing.
        match Tags::parse(head.values("if-none-match")) {
            Ok(None) => {}
            Ok(Some(Tags::Any)) if self.method == Method::Post => {}
            Ok(Some(Tags::Any)) => self.if_match = Some(Vec::new()),
            _ => return Err(Refusal::IfNoneMatch),
        }
        Ok(())
    }

    /// What to ask the replica, now that the body is there.
    pub(crate) fn ask(&mut self, body: &[u8]) -> Ask {
        let request = match (self.method, self.resource) {
            (Method::Options, _) | (_, Resource::OpenApi | Resource::Server) => return Ask::Fixed,
            (_, Resource::Status | Resource::Ready) => return Ask::Call(Call::Status),
            (_, Resource::Health) => return Ask::Call(Call::Ping),
            (Method::Get | Method::Head, Resource::Notes(page)) => Request::List(page.unwrap_or(STREAM_START)),
            (Method::Get | Method::Head, Resource::Note(id)) => Request::Get(id),
            (method, resource) => match operation(method, resource, body) {
                Ok(operation) => {
                    Request::Write(Write { operation, key: self.key.take(), if_match: self.if_match.take() })
                }
                Err(error) => return Ask::Failed(failure(&error)),
            },
        };
        Ask::Call(Call::Note(request))
    }
}

/// The first piece of a streamed list.
const STREAM_START: Page = stream_page(NoteId(0));

/// The piece of a streamed list behind `after`.
pub(crate) const fn stream_page(after: NoteId) -> Page {
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

fn failure(error: &NoteError) -> Failure {
    let code = match error {
        NoteError::Syntax(_) => Code::BadJson,
        NoteError::TooLarge(_) => Code::TooLarge,
        NoteError::Shape(_) | NoteError::Missing(_) | NoteError::OtherId { .. } | NoteError::UnwantedId => {
            Code::BadNote
        }
    };
    Failure::new(code, error.to_string())
}

/// The page that `limit` and `after` name; none where neither is there.
fn parse_query(query: &str) -> Result<Option<Page>, Refusal> {
    let (mut limit, mut after) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let wrong = || Refusal::Query(quote(pair));
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let place = match name {
            "limit" => &mut limit,
            "after" => &mut after,
            _ => return Err(wrong()),
        };
        let number = decimal(value).filter(|number| name != "limit" || (1..=PAGE_NOTES_MAX as u64).contains(number));
        if place.replace(number.ok_or_else(wrong)?).is_some() {
            return Err(wrong());
        }
    }
    if limit.is_none() && after.is_none() {
        return Ok(None);
    }
    let limit = limit.map_or(PAGE_NOTES_DEFAULT, |limit| limit as usize);
    Ok(Some(Page { after: NoteId(after.unwrap_or(0)), limit, bytes_max: PAGE_BYTES_MAX }))
}

fn parse_key(head: &Head<'_, '_>) -> Result<Option<Key>, Refusal> {
    let mut values = head.values("idempotency-key");
    let Some(value) = values.next() else { return Ok(None) };
    let key = std::str::from_utf8(value).ok().and_then(|text| Key::try_from(text).ok());
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key)),
        _ => Err(Refusal::Key),
    }
}

/// A client's text as an error repeats it.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
