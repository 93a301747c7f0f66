//! The client library: pipelining, deadlines and connections against a replica that does as it is told, and failing over
//! at real clusters whose processes are killed and stopped.

mod cluster;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use cluster::{Cluster, PATIENCE};
use futures::future::join_all;
use primacy::client::{Cause, Client, Effect, Options};
use primacy::note::{Note, NoteId, Patch};
use primacy::protocol::ids::Version;
use primacy::protocol::request::{Code, Key, Operation, Write};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// A replica that a test plays: it accepts connections, reads requests and answers as the test says.
struct Played {
    listener: TcpListener,
    address: String,
}

impl Played {
    async fn start() -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        Played { listener, address }
    }

    async fn accept(&self) -> Caller {
        let (stream, _) = patiently("a connection", self.listener.accept()).await.expect("it is accepted");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Caller(stream)
    }

    fn options(&self) -> Options {
        Options::new([&self.address]).expect("an address")
    }
}

struct Caller(TcpStream);

impl Caller {
    async fn request(&mut self) -> Value {
        let mut length = [0; 4];
        patiently("a request", self.0.read_exact(&mut length)).await.expect("the client is there");
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut json).await.expect("the whole request");
        serde_json::from_slice(&json).expect("a request is JSON")
    }

    async fn reply(&mut self, json: &str) {
        let length = u32::try_from(json.len()).expect("replies here are short").to_be_bytes();
        self.0.write_all(&[&length, json.as_bytes()].concat()).await.expect("the client is there");
    }

    /// Answers a write as done.
    async fn done(&mut self, request: &Value) {
        let (re, id) = (&request["seq"], request["id"].as_u64().unwrap_or(1));
        self.reply(&format!(r#"{{"type":"done","re":{re},"res":200,"id":{id},"version":[1,1]}}"#)).await;
    }

    async fn fail(&mut self, request: &Value, res: u16, code: &str) {
        let re = &request["seq"];
        self.reply(&format!(r#"{{"type":"error","re":{re},"res":{res},"code":"{code}","msg":"no"}}"#)).await;
    }
}

async fn patiently<T>(what: &str, waited: impl Future<Output = T>) -> T {
    timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

fn note(title: &str) -> Note {
    Note::new(Some(title), Some("")).expect("a short note")
}

/// A task that asks, so that the test can play the replica meanwhile.
fn asks<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}

#[tokio::test]
async fn many_requests_share_a_connection_and_find_their_replies() {
    let played = Played::start().await;
    let mut options = played.options();
    options.in_flight = 50;
    let client = Client::with(&options);
    let all = asks(join_all((1..=100).map(|id| {
        let client = client.clone();
        async move { client.delete(NoteId(id)).await.expect("it is done").id }
    })));
    let mut caller = played.accept().await;
    for _ in 0..2 {
        let mut requests = Vec::new();
        for _ in 0..50 {
            requests.push(caller.request().await);
        }
        // Their number is the bound: nothing more comes before an answer.
        let mut byte = [0];
        assert!(timeout(Duration::from_millis(20), caller.0.peek(&mut byte)).await.is_err());
        let keys: BTreeSet<_> = requests.iter().map(|request| request["key"].to_string()).collect();
        assert_eq!(keys.len(), 50, "each write has a key of its own");
        for request in requests.iter().rev() {
            caller.done(request).await;
        }
    }
    let ids: Vec<u64> = patiently("all replies", all).await.expect("no panic").into_iter().map(|id| id.0).collect();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_of_one_task_are_sent_in_its_order() {
    let played = Played::start().await;
    let client = Client::with(&played.options());
    let all = asks(async move { join_all((1..=20).map(|id| client.get(NoteId(id)))).await });
    let mut caller = played.accept().await;
    for id in 1..=20 {
        let request = caller.request().await;
        assert_eq!(request["id"], id);
        caller.fail(&request, 404, "not_found").await;
    }
    for error in patiently("all replies", all).await.expect("no panic").into_iter().map(Result::unwrap_err) {
        assert_eq!((error.code(), error.effect), (Some(Code::NotFound), Effect::None));
    }
}

#[tokio::test]
async fn a_connection_is_dialed_again_and_a_keyed_write_sent_again_under_its_key() {
    let played = Played::start().await;
    let client = Client::with(&played.options());
    let write = asks(async move { client.put(NoteId(1), note("a")).await });
    let mut caller = played.accept().await;
    let first = caller.request().await;
    drop(caller);
    let mut caller = played.accept().await;
    let second = caller.request().await;
    assert_ne!(first["seq"], second["seq"]);
    assert_eq!((&first["key"], &first["note"]), (&second["key"], &second["note"]));
    assert!(first["key"].is_string());
    caller.done(&second).await;
    patiently("the reply", write).await.expect("no panic").expect("it is done");
}

#[tokio::test]
async fn without_a_key_a_write_is_sent_once_and_its_end_is_unknown() {
    let played = Played::start().await;
    let mut options = played.options();
    options.keys = false;
    let client = Client::with(&options);
    let write = asks(async move { client.delete(NoteId(1)).await });
    let mut caller = played.accept().await;
    assert_eq!(caller.request().await["key"], Value::Null);
    drop(caller);
    let error = patiently("the end", write).await.expect("no panic").unwrap_err();
    assert_eq!(error.effect, Effect::Unknown);
    assert!(matches!(error.cause, Cause::Lost(_)), "{error}");
    assert_eq!(error.replica, played.address);
}

#[tokio::test]
async fn a_refusal_after_an_attempt_that_may_have_happened_does_not_settle_it() {
    let played = Played::start().await;
    let client = Client::with(&played.options());
    let write = asks(async move { client.delete(NoteId(1)).await });
    let mut caller = played.accept().await;
    let first = caller.request().await;
    caller.fail(&first, 503, "unknown").await;
    let second = caller.request().await;
    assert_eq!(first["key"], second["key"]);
    caller.fail(&second, 404, "not_found").await;
    let error = patiently("the end", write).await.expect("no panic").unwrap_err();
    assert_eq!((error.code(), error.effect), (Some(Code::NotFound), Effect::Unknown));
}

#[tokio::test]
async fn who_can_not_serve_is_passed_over_and_who_serves_is_kept() {
    let (first, second) = (Played::start().await, Played::start().await);
    let mut options = Options::new([&first.address, &second.address]).expect("addresses");
    options.keys = false;
    let client = Client::with(&options);
    let writes = asks(async move {
        for id in 1..=2 {
            client.delete(NoteId(id)).await.expect("it is done");
        }
    });
    let mut caller = first.accept().await;
    let request = caller.request().await;
    // It had no effect, so it may be sent again without a key.
    caller.fail(&request, 503, "unavailable").await;
    let mut caller = second.accept().await;
    for id in 1..=2 {
        let request = caller.request().await;
        assert_eq!(request["id"], id);
        caller.done(&request).await;
    }
    patiently("both", writes).await.expect("no panic");
}

#[tokio::test]
async fn a_replica_that_hangs_is_given_up_after_an_attempts_time() {
    let (hangs, serves) = (Played::start().await, Played::start().await);
    let mut options = Options::new([&hangs.address, &serves.address]).expect("addresses");
    options.attempt_timeout = Duration::from_millis(50);
    let client = Client::with(&options);
    let write = asks(async move { client.delete(NoteId(1)).await });
    let mut silent = hangs.accept().await;
    let first = silent.request().await;
    let mut caller = serves.accept().await;
    let second = caller.request().await;
    assert_eq!(first["key"], second["key"]);
    caller.done(&second).await;
    patiently("the reply", write).await.expect("no panic").expect("it is done");
    // Its connection is closed: nobody knows what it would still say.
    assert_eq!(patiently("the end", silent.0.read(&mut [0])).await.expect("an end"), 0);
}

/// An address at which connections never open: what may wait there to be accepted is full.
async fn never_opens() -> (String, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("it is bound");
    let mut waiting = Vec::new();
    while let Ok(opened) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(opened.expect("a connection"));
        assert!(waiting.len() < 100, "nothing fills what waits to be accepted");
    }
    (address.to_string(), listener, waiting)
}

#[tokio::test]
async fn a_dial_that_hangs_takes_no_request_longer_than_its_time() {
    let (hangs, _listener, _waiting) = never_opens().await;
    let mut options = Options::new([&hangs]).expect("an address");
    (options.timeout, options.connect_timeout) = (Duration::from_millis(50), 10 * PATIENCE);
    let client = Client::with(&options);
    for _ in 0..2 {
        let error = patiently("the end", client.delete(NoteId(1))).await.unwrap_err();
        assert_eq!(error.effect, Effect::None, "nothing was sent");
        assert!(matches!(error.cause, Cause::Late(_)), "{error}");
    }

    let serves = Played::start().await;
    let mut options = Options::new([&hangs, &serves.address]).expect("addresses");
    (options.attempt_timeout, options.connect_timeout) = (Duration::from_millis(50), 10 * PATIENCE);
    let client = Client::with(&options);
    let write = asks(async move { client.delete(NoteId(1)).await });
    let mut caller = serves.accept().await;
    let request = caller.request().await;
    caller.done(&request).await;
    patiently("the reply", write).await.expect("no panic").expect("the other one has done it");
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_the_connection_in_step() {
    let played = Played::start().await;
    let mut options = played.options();
    options.in_flight = 2;
    let client = Client::with(&options);
    let ask = |id| {
        let client = client.clone();
        asks(async move { client.delete(NoteId(id)).await.map(|done| done.id) })
    };
    let (given_up, kept) = (ask(1), ask(2));
    let mut caller = played.accept().await;
    let requests = [caller.request().await, caller.request().await];
    given_up.abort();
    assert!(given_up.await.expect_err("it was given up").is_cancelled());
    // Its place is free only when it is answered: until then the replica has it.
    let third = ask(3);
    for request in &requests {
        caller.done(request).await;
    }
    let last = caller.request().await;
    caller.done(&last).await;
    for (id, asked) in [(2, kept), (3, third)] {
        assert_eq!(patiently("its reply", asked).await.expect("no panic").expect("it is done"), NoteId(id));
    }
    assert_eq!(client.connections_opened(), 1);
}

#[tokio::test]
async fn a_request_has_its_time_and_no_more() {
    let played = Played::start().await;
    let mut options = played.options();
    (options.timeout, options.in_flight, options.queue) = (Duration::from_millis(100), 1, 1);
    options.keys = false;
    let client = Client::with(&options);
    // One on its way, one in the queue, hundreds before it: more than anything here keeps.
    let all = asks(async move { join_all((1..=600).map(|id| client.delete(NoteId(id)))).await });
    let mut caller = played.accept().await;
    caller.request().await;
    let errors = patiently("the ends", all).await.expect("no panic").into_iter().map(Result::unwrap_err);
    let effects: Vec<_> = errors.map(|error| error.effect).collect();
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::Unknown).count(), 1, "one was sent");
}

#[tokio::test]
async fn nobody_there_is_said_at_once_where_one_attempt_is_allowed() {
    let played = Played::start().await;
    let mut options = played.options();
    options.attempts = 1;
    drop(played);
    let client = Client::with(&options);
    for _ in 0..3 {
        let error = patiently("the end", client.post(note("a"))).await.unwrap_err();
        assert_eq!(error.effect, Effect::None);
        assert!(matches!(error.cause, Cause::Unreachable(_)), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_primacy_is_told() {
    let played = Played::start().await;
    let mut options = played.options();
    options.attempts = 1;
    let client = Client::with(&options);
    let ping = asks(async move { client.ping().await });
    let mut caller = played.accept().await;
    let request = caller.request().await;
    caller.reply(&format!(r#"{{"type":"hello","re":{}}}"#, request["seq"])).await;
    let error = patiently("the end", ping).await.expect("no panic").unwrap_err();
    assert!(matches!(error.cause, Cause::NotUnderstood(_)), "{error}");
}

#[tokio::test]
async fn the_connection_ends_with_the_last_client() {
    let played = Played::start().await;
    let client = Client::with(&played.options());
    let ping = asks({
        let client = client.clone();
        async move { client.ping().await }
    });
    let mut caller = played.accept().await;
    let re = caller.request().await["seq"].clone();
    caller
        .reply(&format!(r#"{{"type":"pong","re":{re},"replica":"a:1","epoch":0,"primary":null,"in_sync":false}}"#))
        .await;
    assert_eq!(patiently("the pong", ping).await.expect("no panic").expect("a pong").primary, None);
    drop(client);
    assert_eq!(patiently("the end", caller.0.read(&mut [0])).await.expect("an end"), 0);
}

const MEMORY: &str = r#","durability":"memory""#;

#[tokio::test]
async fn every_verb_works_at_a_cluster_in_both_modes() {
    for mode in ["remote-write", "local-write"] {
        let cluster = Cluster::start(mode, 3, MEMORY);
        let client = Client::new(&cluster.replicas).expect("addresses");
        let posted = client.post(note("ä")).await.expect("it is posted");
        let id = posted.id;
        let put = client.put(id, Note::new(Some("b"), None).unwrap()).await.expect("it is put");
        let patched = client.patch(id, Patch::default().body(Some("c"))).await.expect("it is patched");
        assert!(posted.version < put.version && put.version < patched.version);
        let found = client.get(id).await.expect("it is there");
        assert_eq!(found.note, Note::new(Some("b"), Some("c")).unwrap());
        assert_eq!(found.version, patched.version);
        let list = client.list(NoteId(0), 10).await.expect("a list");
        assert_eq!((list.notes, list.more), (vec![(id, found.note)], false));
        let stale = Write { if_match: Some(vec![posted.version]), ..Operation::Delete { id }.into() };
        assert_eq!(client.write(stale).await.unwrap_err().code(), Some(Code::PreconditionFailed));
        client.delete(id).await.expect("it is deleted");
        assert_eq!(client.get(id).await.unwrap_err().code(), Some(Code::NotFound));
        let pong = client.ping().await.expect("a pong");
        assert_eq!((pong.replica, pong.in_sync), (cluster.replicas[0].clone(), true));
        assert_eq!(client.status().await.expect("a status").mode, mode);
    }
}

#[tokio::test]
async fn a_key_of_the_callers_own_makes_one_note_wherever_it_is_sent() {
    let cluster = Cluster::start("local-write", 3, MEMORY);
    let write = Write { key: Some(Key::try_from("order-17").unwrap()), ..Operation::Post { note: note("a") }.into() };
    let mut versions = BTreeSet::<(NoteId, Version)>::new();
    for replica in &cluster.replicas {
        let client = Client::new([replica]).expect("an address");
        let done = client.write(write.clone()).await.expect("it is done");
        versions.insert((done.id, done.version));
    }
    assert_eq!(versions.len(), 1);
}

/// Each of these posts, one after the other, until all are done.
async fn post_all(client: &Client, writers: usize, each: usize, done: &std::sync::atomic::AtomicUsize) {
    let writer = |writer: usize| async move {
        for count in 0..each {
            let made = client.post(note(&format!("{writer}-{count}"))).await;
            made.unwrap_or_else(|error| panic!("{writer}-{count}: {error}"));
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    join_all((0..writers).map(writer)).await;
}

async fn titles(client: &Client) -> Vec<String> {
    let (mut titles, mut after) = (Vec::new(), NoteId(0));
    loop {
        let page = client.list(after, 1000).await.expect("a page");
        after = page.notes.last().map_or(after, |(id, _)| *id);
        titles.extend(page.notes.iter().filter_map(|(_, note)| note.title()));
        if !page.more {
            titles.sort();
            return titles;
        }
    }
}

/// Writers post while the replica that they ask is struck; in the end each note is there once.
async fn struck(mode: &str, strike: impl FnOnce(&mut Cluster)) {
    const WRITERS: usize = 16;
    const EACH: usize = 40;
    let mut cluster = Cluster::configure(mode, 3, r#","durability":"memory","failure_timeout_ms":300"#);
    (0..3).for_each(|place| {
        cluster.spawn_replica(place);
    });
    cluster.wait_ready();
    let mut options = Options::new(&cluster.replicas).expect("addresses");
    (options.timeout, options.attempt_timeout) = (PATIENCE, Duration::from_millis(500));
    let client = Client::with(&options);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let all = post_all(&client, WRITERS, EACH, &done);
    let half = async {
        while done.load(std::sync::atomic::Ordering::Relaxed) < WRITERS * EACH / 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::pin!(all);
    tokio::select! {
        () = &mut all => panic!("nothing was struck"),
        () = half => strike(&mut cluster),
    }
    patiently("all notes", all).await;
    let expected: BTreeSet<_> =
        (0..WRITERS).flat_map(|writer| (0..EACH).map(move |count| format!("{writer}-{count}"))).collect();
    let found = titles(&client).await;
    assert_eq!(found.len(), WRITERS * EACH, "none twice");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_ne!(client.ping().await.expect("a pong").replica, cluster.replicas[0], "another is asked now");
}

#[tokio::test]
async fn a_replica_that_is_killed_costs_nothing_and_doubles_nothing() {
    for mode in ["remote-write", "local-write"] {
        struck(mode, |cluster| cluster.process(0).kill()).await;
    }
}

#[tokio::test]
async fn a_replica_that_is_stopped_is_passed_over() {
    struck("remote-write", |cluster| cluster.process(0).signal("STOP")).await;
}
