//! GET /note/{id} beside a minimal hyper server that answers the same bytes: `cargo bench --bench http`.
//!
//! Needs `wrk`. Both may use all cores, and serve in turns; the figures are the medians of the rounds' ratios. Ours runs
//! as a replica has it, its listener and its loop on one thread; hyper's connections are spread over as many threads as
//! there are cores, and for comparison it also runs on one. Their answers have the same fields and the same body; hyper's
//! are constants. What is behind our listener here answers from a map, so this measures the listener and its hop to a
//! replica's loop.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, mpsc};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request as HyperRequest, Response, service::service_fn};
use hyper_util::rt::TokioIo;
use primacy::clock::Clock;
use primacy::config::{Address, Config, LogStyle, Mode};
use primacy::http::{Service, serve};
use primacy::note::{Note, NoteId};
use primacy::protocol::ids::{Epoch, ReplicaId, Version};
use primacy::protocol::port::{Call, Port, Said};
use primacy::protocol::request::{Answer, Failure, Outcome, Phases, Request};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;

const ROUNDS: usize = 5;
/// Of each round, for each server. Short ones in turns, so that what else the machine does falls on all alike.
const SLICES: usize = 3;
const SLICE: &str = "1s";
const BODY: &str = "{\"res\":200,\"note\":{\"id\":1,\"title\":\"Hello World\",\"body\":\"this is new note\"}}\n";
const NOTE: &[u8] = b"{\"title\":\"Hello World\",\"body\":\"this is new note\"}";

fn main() {
    // `cargo test --benches` runs this too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let ours = spawn("ours", one_thread(), |listener| async move {
        let (port, batches) = Port::open(Clock::start());
        tokio::spawn(answer_from_a_map(batches));
        let service = Arc::new(Service::new(port, Arc::new(config()), ReplicaId(0)));
        let (_running, stop) = watch::channel(false);
        serve(listener, service, stop).await;
    });
    let names = ["ours", "hyper", "hyper on one thread"];
    let servers = [
        ours,
        spawn(names[1], Builder::new_multi_thread(), serve_by_hyper),
        spawn("alone", one_thread(), serve_by_hyper),
    ];
    let shapes = servers.map(shape);
    assert!(shapes.iter().all(|shape| *shape == shapes[0]), "the answers differ: {shapes:#?}");
    let mut ratios = [(); 2].map(|()| Vec::new());
    for round in 1..=ROUNDS {
        let mut rates = [0.0; 3];
        for _ in 0..SLICES {
            servers.iter().zip(&mut rates).for_each(|(server, rate)| *rate += measure(*server) / SLICES as f64);
        }
        let shown: Vec<String> = names.iter().zip(rates).map(|(name, rate)| format!("{name} {rate:.0}")).collect();
        println!("round {round}: requests/s: {}", shown.join(", "));
        ratios.iter_mut().zip(&rates[1..]).for_each(|(ratios, rate)| ratios.push(rates[0] / rate));
    }
    let [hyper, alone] = ratios.map(median);
    println!(
        "ours does {hyper:.3} of what hyper does, {alone:.3} of what it does on one thread (median of the rounds)"
    );
}

fn one_thread() -> Builder {
    Builder::new_current_thread()
}

/// Runs a server on a runtime of its own, whose threads have this name, and returns where.
fn spawn<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    mut runtime: Builder,
    server: impl FnOnce(TcpListener) -> F + Send + 'static,
) -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    runtime.thread_name(name);
    let thread = std::thread::Builder::new().name(name.to_owned());
    let running = thread.spawn(move || {
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            sender.send(listener.local_addr().expect("an address")).expect("main waits");
            // As a task, not on this thread beside the workers.
            tokio::spawn(server(listener)).await.expect("the server goes on");
        });
    });
    running.expect("a thread");
    receiver.recv().expect("the server begins")
}

async fn serve_by_hyper(listener: TcpListener) {
    let answer = |_: HyperRequest<hyper::body::Incoming>| async {
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("etag", "\"1-1\"")
            .header("primacy-replica", "127.0.0.1:10000")
            .header("primacy-primary", "127.0.0.1:10000")
            .header("primacy-connection", "12; requests=12345")
            .header(
                "server-timing",
                "queue;dur=0, replicate;dur=0, store;dur=0, update;dur=0, respond;dur=0.012, total;dur=0.012",
            )
            .body(Full::new(Bytes::from_static(BODY.as_bytes())));
        Ok::<_, Infallible>(response.expect("a response"))
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).expect("an open socket");
        let served =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(async move {
            // wrk resets its connections at the end.
            let _ = served.await;
        });
    }
}

async fn answer_from_a_map(mut batches: tokio::sync::mpsc::Receiver<primacy::protocol::port::Batch>) {
    let notes = BTreeMap::from([(NoteId(1), Note::from_post(NOTE).expect("a note"))]);
    let written = Version { epoch: Epoch(1), counter: 1 };
    while let Some(batch) = batches.recv().await {
        let say = |call| {
            let outcome = match call {
                Call::Note(Request::Get(id)) if notes.contains_key(&id) => {
                    Outcome::Note { id, note: notes[&id].clone(), written }
                }
                _ => Outcome::Failed(Failure::not_found(NoteId(0))),
            };
            Said::Answer(Answer { outcome, primary: Some(ReplicaId(0)), phases: Phases::default() })
        };
        let said = batch.calls.into_iter().map(|(tag, call)| (tag, say(call))).collect();
        // The client may be gone.
        let _ = batch.answers.try_send(said);
    }
}

fn config() -> Config {
    let replicas = vec![Address::new("127.0.0.1", 10000)];
    Config { log: LogStyle::Off, ..Config::new(Mode::RemoteWrite, replicas, 0) }
}

/// What a server answers: the names of its fields, in their order in the alphabet, and the body.
fn shape(address: SocketAddr) -> (Vec<String>, String) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(b"GET /note/1 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("an open socket");
    let mut answer = String::new();
    while !answer.ends_with(BODY) {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).expect("an open socket");
        assert!(length > 0, "an answer with the note, not {answer:?}");
        answer.push_str(std::str::from_utf8(&piece[..length]).expect("an answer in ASCII"));
    }
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let names = head.lines().skip(1).filter_map(|line| line.split(':').next()).map(str::to_ascii_lowercase);
    let mut names: Vec<String> = names.collect();
    names.sort();
    (names, body.to_owned())
}

/// Requests per second, by `wrk`.
fn measure(address: SocketAddr) -> f64 {
    let url = format!("http://{address}/note/1");
    let output = Command::new("wrk").args(["-t1", "-c64", "-d", SLICE, &url]).output().expect("wrk must be installed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Non-2xx"), "{text}");
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).unwrap_or_else(|| panic!("wrk said {text}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
