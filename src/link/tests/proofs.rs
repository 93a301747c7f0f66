//! Proofs over real sockets: who has none comes nowhere, and what was proved once is good for nothing else.

use super::super::proof::{Hellos, Role};
use super::*;
use crate::protocol::message::{Mac, Nonce, Proof};

pub(super) fn secret() -> Secret {
    "0123456789abcdef0123456789abcdef".parse().unwrap()
}

fn other_secret() -> Secret {
    "fedcba9876543210fedcba9876543210".parse().unwrap()
}

#[tokio::test]
async fn links_with_a_secret_that_are_cut_again_and_again_carry_each_frame_once_and_in_order() {
    let cuts = cut_at_random(|config| config.secret = Some(secret()), 3_000).await;
    assert!(cuts >= 5, "only {cuts} connections were cut; the test shows nothing");
}

#[tokio::test]
async fn so_do_those_that_are_used_per_frame() {
    let change = |config: &mut Config| {
        config.secret = Some(secret());
        config.links = LinkUse::PerFrame;
    };
    cut_at_random(change, 300).await;
}

/// B's links with a secret, the hello that A would say to them, and A's listener.
struct Scene {
    b: End,
    at: SocketAddr,
    hello: Hello,
    a: TcpListener,
}

async fn scene(change: impl Fn(&mut Config)) -> Scene {
    let ((b, at), (a, a_address)) = (listen().await, listen().await);
    let mut config = config(&[a_address, at]);
    config.secret = Some(secret());
    change(&mut config);
    let hello = Hello {
        protocol: 1,
        from: a_address.to_string(),
        to: at.to_string(),
        incarnation: Incarnation(100),
        expects: None,
        kind: LinkKind::Data,
        settings: hello::settings(&config),
        next: Some(Position { epoch: Epoch(1), n: 1 }),
        got: None,
        nonce: Some(Nonce([7; 32])),
    };
    Scene { b: Setup::new(&config, B).start(b), at, hello, a }
}

/// A connection on which hellos were exchanged: what both ends said.
struct Greeted {
    peer: Bare,
    ours: Vec<u8>,
    theirs: String,
    proof: Proof,
}

impl Greeted {
    fn hellos(&self) -> Hellos<'_> {
        Hellos { dialer: &self.ours, accepter: self.theirs.as_bytes(), binding: None }
    }

    /// Says a proof and a frame in one write, as a dialer does; then the answer, none where the connection was closed.
    async fn say(&mut self, proof: &Proof) -> Option<String> {
        let frame = codec::encode(Epoch(1), &Message::from(Ack { n: 1 }));
        self.peer.write(&[&codec::encode_link("proof", proof)[..], &frame].concat()).await;
        self.peer.read().await
    }
}

async fn greet_with(at: SocketAddr, hello: &Hello) -> Greeted {
    let mut peer = Bare::dial(at).await;
    let frame = codec::encode_link("hello", hello);
    peer.write(&frame).await;
    let theirs = peer.read().await.expect("a hello");
    let proof = peer.read().await.expect("a proof");
    let proof = serde_json::from_str(&proof).unwrap_or_else(|error| panic!("{error}: {proof}"));
    Greeted { peer, ours: frame[codec::LENGTH_BYTES..].to_vec(), theirs, proof }
}

fn assert_unproved(answer: Option<String>) {
    let answer = answer.expect("an answer");
    assert!(answer.starts_with("{\"type\":\"error\",\"res\":403,\"code\":\"unproved\""), "{answer}");
}

#[tokio::test]
async fn who_proves_itself_is_heard_and_the_accepter_proves_itself_first() {
    let Scene { mut b, at, hello, .. } = scene(|_| {}).await;
    let mut greeted = greet_with(at, &hello).await;
    assert!(greeted.hellos().are_proved(&secret(), Role::Accepter, &greeted.proof));
    let proof = greeted.hellos().prove(&secret(), Role::Dialer);
    let answer = greeted.say(&proof).await;
    assert_eq!(answer.as_deref(), Some("{\"type\":\"got\",\"epoch\":1,\"n\":1}"));
    assert_eq!(b.numbers(1).await, [1]);
    b.stop().await;
}

/// Nothing may have come of what was tried: no frame reaches the loop, nobody is up, and nobody was met.
async fn assert_untouched(mut b: End) {
    while let Ok(event) = b.events.try_recv() {
        assert!(matches!(event, LinkEvent::Refused { .. }), "{event:?}");
    }
    assert_eq!(b.links.shared.roster.met(A), None);
    b.stop().await;
}

#[tokio::test]
async fn forged_reflected_and_replayed_proofs_are_refused_and_change_nothing() {
    let Scene { b, at, hello, .. } = scene(|_| {}).await;
    // A whole session that was proved, as somebody on the way has seen it. Not with B: that would be met.
    let Scene { b: other, at: other_at, hello: other_hello, .. } = scene(|_| {}).await;
    let mut seen = greet_with(other_at, &other_hello).await;
    let seen_proof = seen.hellos().prove(&secret(), Role::Dialer);
    assert!(seen.say(&seen_proof).await.is_some());
    other.stop().await;

    let mut guessed = greet_with(at, &hello).await;
    assert_unproved(guessed.say(&Proof { mac: Mac([0; 32]) }).await);
    assert_eq!(guessed.peer.read().await, None, "and the connection is closed");

    let mut forged = greet_with(at, &hello).await;
    let proof = forged.hellos().prove(&other_secret(), Role::Dialer);
    assert_unproved(forged.say(&proof).await);

    let mut reflected = greet_with(at, &hello).await;
    let proof = reflected.proof;
    assert_unproved(reflected.say(&proof).await);

    let mut replayed = greet_with(at, &hello).await;
    assert_unproved(replayed.say(&seen_proof).await);
    // What B proved on one connection, said on the next one as if it were A's.
    let mut crossed = greet_with(at, &hello).await;
    assert_unproved(crossed.say(&replayed.proof).await);
    // A proof of this very connection, but of another hello than the one that was said.
    let mut altered = greet_with(at, &Hello { incarnation: Incarnation(101), ..hello.clone() }).await;
    altered.ours = codec::encode_link("hello", &hello)[codec::LENGTH_BYTES..].to_vec();
    let proof = altered.hellos().prove(&secret(), Role::Dialer);
    assert_unproved(altered.say(&proof).await);
    assert_untouched(b).await;
}

#[tokio::test]
async fn frames_instead_of_a_proof_are_not_acted_on() {
    let Scene { b, at, hello, .. } = scene(|_| {}).await;
    let mut peer = Bare::dial(at).await;
    let frame = codec::encode(Epoch(1), &Message::from(Ack { n: 1 }));
    peer.write(&[&codec::encode_link("hello", &hello)[..], &frame].concat()).await;
    assert!(peer.read().await.expect("a hello").starts_with("{\"type\":\"hello\""));
    assert!(peer.read().await.expect("a proof").starts_with("{\"type\":\"proof\""));
    assert_eq!(peer.read().await, None, "it is closed");
    assert_untouched(b).await;
}

#[tokio::test]
async fn an_unproved_hello_takes_nobodys_place() {
    let Scene { mut b, at, hello, .. } = scene(|_| {}).await;
    let mut real = greet_with(at, &hello).await;
    let proof = real.hellos().prove(&secret(), Role::Dialer);
    assert!(real.say(&proof).await.is_some());
    assert_eq!(b.numbers(1).await, [1]);
    // Another incarnation of A, who has A's word for it only.
    for incarnation in [100, 999] {
        let mut stranger = greet_with(at, &Hello { incarnation: Incarnation(incarnation), ..hello.clone() }).await;
        assert_unproved(stranger.say(&Proof { mac: Mac([1; 32]) }).await);
    }
    real.peer.numbered(2).await;
    assert_eq!(b.numbers(1).await, [2], "the real connection goes on");
    assert_eq!(b.links.shared.roster.met(A), Some(Incarnation(100)));
    b.stop().await;
}

#[tokio::test]
async fn a_secret_at_one_end_only_is_told_at_both() {
    let Scene { b, at, hello, .. } = scene(|_| {}).await;
    let (_, answer) = greet(at, &Hello { nonce: None, ..hello }).await;
    assert!(answer.as_ref().unwrap().contains("I have a secret; give it the same `secret_file`"), "{answer:?}");
    assert_untouched(b).await;
    let Scene { b, at, hello, .. } = scene(|config| config.secret = None).await;
    let (_, answer) = greet(at, &hello).await;
    assert!(answer.as_ref().unwrap().contains("I have none to prove"), "{answer:?}");
    assert_untouched(b).await;
}

#[tokio::test]
async fn an_accepter_that_proves_nothing_is_not_believed() {
    let Scene { mut b, a, hello, .. } = scene(|_| {}).await;
    b.send(A, 1, 1);
    b.links.flush();
    // Whoever has A's address, and answers with the right hello and a wrong proof; or with B's own words.
    for reflects in [false, true] {
        let (stream, _) = timeout(PATIENCE, a.accept()).await.expect("a dial in time").unwrap();
        let mut peer = Bare { stream, input: bytes::BytesMut::new(), codec: codec::length_delimited() };
        let theirs = peer.read().await.expect("B's hello");
        let said: Hello = serde_json::from_str(&theirs).unwrap();
        let answer =
            Hello { to: said.from.clone(), from: said.to.clone(), kind: said.kind, next: None, ..hello.clone() };
        let answer = codec::encode_link("hello", if reflects { &said } else { &answer });
        peer.write(&[&answer[..], &codec::encode_link("proof", &Proof { mac: Mac([3; 32]) })].concat()).await;
        let refusal = peer.read().await.expect("a refusal");
        let code = if reflects { "misdirected" } else { "unproved" };
        assert!(refusal.contains(&format!("\"code\":\"{code}\"")), "{refusal}");
        assert_eq!(peer.read().await, None, "and no frame");
    }
    assert_untouched(b).await;
}

#[tokio::test]
async fn strangers_that_take_every_place_keep_nobody_out() {
    let Scene { mut b, at, hello, .. } = scene(|config| config.limits.unproved = 2).await;
    let mut oldest = greet_with(at, &hello).await;
    let (_second, mut real) = (greet_with(at, &hello).await, greet_with(at, &hello).await);
    let answer = oldest.peer.read().await;
    assert!(answer.as_ref().is_some_and(|answer| answer.contains("limits.unproved")), "{answer:?}");
    let proof = real.hellos().prove(&secret(), Role::Dialer);
    assert!(real.say(&proof).await.is_some());
    assert_eq!(b.numbers(1).await, [1]);
    b.stop().await;
}

#[tokio::test]
async fn who_does_not_prove_itself_in_time_is_closed() {
    let Scene { b, at, hello, .. } = scene(|config| config.limits.prove_ms = 100).await;
    let mut silent = greet_with(at, &hello).await;
    let answer = silent.peer.read().await;
    assert!(answer.as_ref().is_some_and(|answer| answer.contains("limits.prove_ms")), "{answer:?}");
    assert_eq!(silent.peer.read().await, None);
    assert_untouched(b).await;
}

#[tokio::test]
async fn greetings_have_a_bound_of_their_own() {
    let Scene { b, at, hello, .. } = scene(|_| {}).await;
    let long = Hello { from: "a".repeat(20_000), ..hello.clone() };
    let (_, answer) = greet(at, &long).await;
    assert!(answer.as_ref().unwrap().contains("over 16384 bytes"), "{answer:?}");
    let (_, answer) = greet(at, &Hello { from: "a".repeat(300), ..hello.clone() }).await;
    assert!(answer.as_ref().unwrap().contains("an address is at most"), "{answer:?}");
    let mut greeted = greet_with(at, &hello).await;
    greeted.peer.write(&(codec::GREETING_BYTES_MAX as u32 + 1).to_be_bytes()).await;
    assert_eq!(greeted.peer.read().await, None, "closed before any of it is kept");
    assert_untouched(b).await;
}
