//! Primacy: a replicated note store that shows its work.
//!
//! Every replica serves the same notes, by HTTP and by frames over TCP. Each note has one primary; how a write reaches it
//! is the mode: in *remote-write* the write is forwarded to the primary, in *local-write* the note's primary moves to
//! where the write arrived. In both, the primary tells all backups at once and answers when everybody in sync has the
//! write. protocol.md specifies what is said between replicas, and its rules' numbers (W1, M3, …) stand in the code.
//!
//! # The picture
//!
//! ```text
//!      curl, browsers                      nc, custom clients                 other replicas
//!           | HTTP/1.1 on the service port       | frames on the replica's address   |
//!      +----v----+                          +----v----+                         +----v----+
//!      | http    |                          | wire    |----- after a hello ---->| link    |  dialers, numbering
//!      +----+----+                          +----+----+                         +----+----+
//!           |  Request / Response                | Request / Response                | ^ Message
//!      +----v------------------------------------v-----------------------------------v-+-------+
//!      | node     one loop per replica: select -> Event -> step -> Actions -> carried out      |
//!      +----+----------------------------+--------------------------------+--------------------+
//!           | Event / Action             | records to make durable        | views
//!      +----v---------------+      +-----v------+                  +------v--------+
//!      | replication: PURE  |      | store      |                  | membership    |
//!      | both modes, reads, |      | journal,   |                  | who is        |
//!      | recovery, joining  |      | snapshot   |                  | in sync       |
//!      +--------------------+      +------------+                  +---------------+
//!           all speak the types of protocol (protocol.md in code), note, config
//! ```
//!
//! # The way of a write
//!
//! 1. `http` or `wire` reads bytes, makes a `Request` of them and hands it to the loop through a `Port`: all requests of
//!    one socket read as one batch.
//! 2. `node` takes everything that waits and gives each to `replication` as an event, with the time.
//! 3. `replication` finds the item's primary. Where that is another replica, an action sends `forward` to it, or `move`
//!    to ask for the item. At the primary, it makes the record, and actions send an `update` to every backup and the
//!    record to the `store`.
//! 4. `node` carries the actions out: one write per peer, one batch for the store, all answers of a connection together.
//! 5. Each backup does the same with the `update`: event, step, store; and an `ack` once the record is durable there.
//! 6. When the store and all acks are there, the record is committed: the primary answers, and tells the backups.
//!
//! It flows down one side and up the other, once. Each layer imports only what is below it:
//!
//! ```text
//! main > cli > bench > cluster > node > http, wire, membership > replication, link, store, accept, rest, client > config
//!      > protocol > note, clock
//! ```
//!
//! `net`, `random`, `backoff` and `observe` may be used by all but `replication` and `protocol`.
//! `tests/architecture.rs` holds all of this.
//!
//! # The modules, in reading order
//!
//! Every file is named; to read the program, begin at the top.
//!
//! * `note`: a note, its id, and what PUT and PATCH do to it.
//! * `protocol`: protocol.md in code. `ids`, `record`, `view` are what messages are made of; `message` has those between
//!   replicas, `request` and `status` what clients ask and are answered, `codec` the frames, `client` those of clients;
//!   `hex` shows bytes; `port` is how a connection talks to its replica's loop.
//! * `replication`: the state machine. `event` and `action` are its two sides; `replica` its state and dispatch; `client`
//!   takes requests, `remote_write` and `local_write` are the modes, `write` makes records and `update` spreads them;
//!   `record` keeps them in `record/pages`, `read` and `wait` answer, `keys` makes retries safe, `recovery` begins a view
//!   by what `reports` hold, `join` copies.
//! * `membership`: who is in the view. The `controller` decides: `controller/event` is its interface, `controller/leave`
//!   says who leaves, `controller/next` what view follows, `controller/grant` who may read, `controller/voters` who
//!   votes. `heartbeat` is a replica's own part, `founding` a fresh cluster's, `succession` says when votes are asked
//!   for, `times` are the times of all. `consensus` is the group: `consensus/types` what it agrees on,
//!   `consensus/log_state` and `consensus/log_store` its log on a `consensus/medium`; `consensus/state_machine` applies
//!   it, `consensus/network` is how members call each other, `consensus/runtime` what the library runs on. `task` joins
//!   these: `task/calls` carries the calls, `task/ask` the controller's questions.
//! * `link`: the connections to each peer. `hello` greets, and `proof` shows who has the secret; `dial` connects, `carry`
//!   sends what `outgoing` and its `window` hold, in `chunks`; `admit` lets callers in, who wait as `unproved` until
//!   then; `accept` counts what comes by its `tally`, and `roster` knows who was met; `delay` is its simulated distance.
//! * `store`: durable records. `disk` is the seam to files, `direct` writes past the system's cache, `memory_disk` one
//!   that can fail, `unsynced` what a power cut takes from it; `format` and `entry` are the bytes, `segment` and
//!   `journal` the log of batches, `snapshot` what replaces old ones, `recover` the start, `contents` what was found,
//!   `error` what can go wrong; `folder` says whose it is, `command` is what the loop asks, `handle` its end and `writer`
//!   the thread's, `background` makes segments and snapshots; `log` is for other records.
//! * `accept`: accepts connections for the two that follow: how many, from whom, and until when; `unfinished` is what
//!   their half requests may hold.
//! * `wire`: frames and lines on a replica's address. `connection` finds out who is there, `client` owns a client's
//!   socket, `exchange` is the same without a socket; `input` cuts bytes into requests, `log` shows them as if they had
//!   come by HTTP.
//! * `rest`: what requests over HTTP mean. A `request` has a head, `origin` tells foreign ones, `routes` understands
//!   them; `answers` writes what comes back, `refusal` why nothing else does.
//! * `client`: how other programs ask. `request` and `reply` are what is said, `exchange` a connection without its
//!   socket, `connection` the task that has one; `failover` asks another replica, `options` and `error` are what it is
//!   told and tells.
//! * `http`: HTTP/1.1 on its service port. `connection` owns the socket, `exchange` is the same without a socket;
//!   `reader`, `head` and `body` cut bytes into requests, `response` is what answers are written with.
//! * `node`: the loop that owns one replica's state. `start` puts a replica together on a `system`, `callers` remembers
//!   who asked, `stores` opens its stores, `storage` is where its records go, `peers` what it knows of its links, `steps`
//!   shows what it does, `report` is what it says of itself.
//! * `cluster`: all replicas of a configuration in this process; `bind` takes their ports.
//! * `bench`: what writes and reads cost. `scenario` is what is measured, `plan` which ones and how long, `pattern` finds
//!   them by name; `run` goes through the rounds on a `bed`, where `load` writes `notes` over `ways`, by frames or by
//!   `http`, and counts in a `tally`, beside `cpu`; `summary` makes the `result` with `trips` in it, shown by `table`,
//!   `report` and its `plots`: `plots/percentiles`, `plots/delay`, `plots/locality`, `plots/bars`; `threshold` and
//!   `compare` judge it; `progress` is for who waits.
//! * `config`: a checked configuration. `address`, `limits`, `secret`, `tokens` and `tls` are parts of it; `load` reads
//!   it from what was `given`, `error` says what is wrong with it.
//! * `observe`: what the program shows. `classic` has the events and the log's lines, `lines` writes them; `monitor` is
//!   who watches live; `metrics` has the figures for Prometheus, `metrics/requests` those of clients, `metrics/store` of
//!   the disk, `metrics/state` the rest.
//! * `clock`: the seam to time; `exact` is a timer finer than the runtime's, `timer` one that is set anew all the time.
//! * `net`: the seam to the network; `tls` encrypts a connection.
//! * `random`: the seam to randomness. A simulation brings its own of these.
//! * `backoff`: how long to wait before dialing again.
//! * `main`: where the program begins.
//! * `cli`: the command line. `args` are its flags, `run` starts replicas, `banner` greets, `signals` stop; `status` asks
//!   replicas, and `table` shows what they say; `call` sends them frames, `ping` the same one again and again, and
//!   `monitor` prints what they do; `bench` has the flags of that command.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used)]

pub mod accept;
pub mod backoff;
pub mod bench;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod http;
pub mod link;
pub mod membership;
pub mod net;
pub mod node;
pub mod note;
pub mod observe;
pub mod protocol;
pub mod random;
pub mod replication;
mod rest;
pub mod store;
pub mod wire;

// What the tests of several modules need.
#[cfg(test)]
#[path = "../tests/support/certificates.rs"]
mod certificates;
