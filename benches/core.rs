//! What a frame and a step of the protocol cost: `cargo bench --bench core`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use primacy::clock::Moment;
use primacy::config::Mode;
use primacy::note::{Note, NoteId};
use primacy::protocol::codec;
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId, Version};
use primacy::protocol::message::{Ack, Envelope, Message, Update};
use primacy::protocol::record::{Record, Value};
use primacy::protocol::request::{Operation, Request, Write};
use primacy::protocol::view::{Member, View};
use primacy::replication::action::Action;
use primacy::replication::event::{Event, Now, Token};
use primacy::replication::replica::{Identity, Replica};

/// A note of 250 bytes of JSON.
fn note() -> Note {
    let body = "x".repeat(250 - r#"{"title":"a note","body":""}"#.len());
    Note::from_stored(&format!(r#"{{"title":"a note","body":"{body}"}}"#)).expect("a note")
}

fn update() -> Message {
    let version = Version { epoch: Epoch(1), counter: 7 };
    let record = Record { id: NoteId(1), version, written: version, primary: ReplicaId(0), value: Value::Note(note()) };
    Update { n: 41, records: vec![record], ..Update::default() }.into()
}

fn frames(c: &mut Criterion) {
    let message = update();
    let frame = codec::encode(Epoch(1), &message);
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode an update of 250 bytes", |b| b.iter(|| codec::encode(Epoch(1), black_box(&message))));
    group.bench_function("decode it", |b| b.iter(|| codec::decode(black_box(&frame[codec::LENGTH_BYTES..]))));
    group.finish();
}

/// The primary of a view of `replicas`, its first recovery over, with one note.
fn primary(mode: Mode, replicas: u8) -> (Replica, Vec<Action>) {
    let member = |replica| Member {
        replica: ReplicaId(replica),
        incarnation: Incarnation(u64::from(replica)),
        store: StoreId(0),
    };
    let identity = Identity {
        me: ReplicaId(0),
        incarnation: Incarnation(0),
        mode,
        min_in_sync: 1,
        request_timeout_ms: 5000,
        read_wait_ms: 3000,
        items_per_turn: 1000,
    };
    let version = Version { epoch: Epoch(0), counter: 1 };
    let record = Record { id: NoteId(1), version, written: version, primary: ReplicaId(0), value: Value::Note(note()) };
    let mut replica = Replica::new(identity, [record], []);
    let mut actions = Vec::new();
    let in_sync = (0..replicas).map(member).collect();
    let view = View { epoch: Epoch(1), primary: ReplicaId(0), in_sync, joining: Vec::new() };
    replica.step(Now::default(), Event::View(view), &mut actions);
    replica.step(Now::default(), Event::Lease { until: Moment::NEVER }, &mut actions);
    for peer in 1..replicas {
        step(&mut replica, peer, primacy::protocol::message::Recover::default(), &mut actions);
    }
    replica.step(Now::default(), Event::Durable { number: u64::MAX }, &mut actions);
    for peer in 1..replicas {
        step(&mut replica, peer, Ack { n: 1 }, &mut actions);
    }
    replica.end_turn(Now::default(), &mut actions);
    (replica, actions)
}

fn step(replica: &mut Replica, peer: u8, message: impl Into<Message>, actions: &mut Vec<Action>) {
    let envelope = Envelope { epoch: Epoch(1), message: message.into() };
    let (from, incarnation) = (ReplicaId(peer), Incarnation(u64::from(peer)));
    replica.step(Now::default(), Event::Message { from, incarnation, envelope }, actions);
}

fn core(c: &mut Criterion) {
    let mut group = c.benchmark_group("core, primary of four");
    group.throughput(Throughput::Elements(1));
    let (mut replica, mut actions) = primary(Mode::RemoteWrite, 4);
    let write = Write { operation: Operation::Put { id: NoteId(1), note: note() }, key: None, if_match: None };
    let (mut n, mut durable) = (1, 100);
    group.bench_function("a PUT from request to answer", |b| {
        b.iter(|| {
            actions.clear();
            (n, durable) = (n + 1, durable + 1);
            let request = Request::Write(write.clone());
            let event = Event::Request { token: Token(n), request, arrived: Moment(0) };
            replica.step(Now::default(), event, &mut actions);
            replica.step(Now::default(), Event::Durable { number: durable }, &mut actions);
            for peer in 1..4 {
                step(&mut replica, peer, Ack { n }, &mut actions);
            }
            replica.end_turn(Now::default(), &mut actions);
            assert!(actions.iter().any(|action| matches!(action, Action::Answer { .. })), "the write is answered");
        });
    });
    group.bench_function("a GET", |b| {
        b.iter(|| {
            actions.clear();
            let event = Event::Request { token: Token(1), request: Request::Get(NoteId(1)), arrived: Moment(0) };
            replica.step(Now::default(), event, &mut actions);
            replica.end_turn(Now::default(), &mut actions);
            assert_eq!(actions.len(), 1);
        });
    });
    group.finish();
}

criterion_group!(benches, frames, core);
criterion_main!(benches);
