//! Somebody who speaks as a replica and is none.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use primacy::config::Secret;
use primacy::link::proof::{Hellos, Role};
use primacy::protocol::codec::{self, LENGTH_BYTES};
use primacy::protocol::ids::{Epoch, Incarnation};
use primacy::protocol::message::{Hello, LinkKind, Message, Nonce, Position, Proof, Settings};

use crate::cluster::PATIENCE;

/// A connection to a replica's address, whose bytes the test writes itself.
pub(crate) struct Peer {
    stream: TcpStream,
    /// Everything that was written.
    pub(crate) written: Vec<u8>,
}

/// What a link's greeting came to.
pub(crate) struct Greeting {
    pub(crate) dialer: Vec<u8>,
    pub(crate) accepter: String,
    /// The accepter's.
    pub(crate) proof: Option<Proof>,
}

impl Greeting {
    pub(crate) fn hellos(&self) -> Hellos<'_> {
        Hellos { dialer: &self.dialer, accepter: self.accepter.as_bytes(), binding: None }
    }

    /// The accepter's hello.
    pub(crate) fn theirs(&self) -> Hello {
        serde_json::from_str(&self.accepter).unwrap_or_else(|error| panic!("{error}: {}", self.accepter))
    }
}

impl Peer {
    pub(crate) fn dial(address: &str) -> Peer {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, written: Vec::new() }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
        // It may be closed already, which is one way to be refused.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn send(&mut self, epoch: u64, message: impl Into<Message>) {
        self.write(&codec::encode(Epoch(epoch), &message.into()));
    }

    /// The next frame; none where the connection is closed.
    pub(crate) fn read(&mut self) -> Option<String> {
        let mut length = [0; LENGTH_BYTES];
        self.stream.read_exact(&mut length).ok()?;
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut json).ok()?;
        Some(String::from_utf8(json).unwrap())
    }

    /// Reads until the connection is closed; all that came.
    pub(crate) fn read_to_end(&mut self) -> String {
        std::iter::from_fn(|| self.read()).collect::<Vec<_>>().join("\n")
    }

    /// Says hello, and reads the answer to it.
    pub(crate) fn greet(&mut self, hello: &Hello) -> Greeting {
        let frame = codec::encode_link("hello", hello);
        self.write(&frame);
        let accepter = self.read().expect("a hello");
        let proof = hello.nonce.and_then(|_| serde_json::from_str(&self.read()?).ok());
        Greeting { dialer: frame[LENGTH_BYTES..].to_vec(), accepter, proof }
    }

    /// Greets, and proves what `secret` proves.
    pub(crate) fn enter(&mut self, hello: &Hello, secret: &Secret) -> Greeting {
        let greeting = self.greet(hello);
        self.write(&codec::encode_link("proof", &greeting.hellos().prove(secret, Role::Dialer)));
        greeting
    }
}

/// A right hello from one replica to another, with a nonce; `epoch` is where its frames begin.
pub(crate) fn hello(replicas: &[String], [from, to]: [usize; 2], kind: LinkKind, epoch: u64) -> Hello {
    Hello {
        protocol: 1,
        from: replicas[from].clone(),
        to: replicas[to].clone(),
        incarnation: Incarnation(0xBAD),
        expects: None,
        kind,
        settings: Settings {
            sync: "remote-write".to_owned(),
            replicas: replicas.to_vec(),
            min_in_sync: 2,
            failure_timeout_ms: 1000,
            link_delay_us: 0,
            links: "persistent".to_owned(),
        },
        next: Some(Position { epoch: Epoch(epoch), n: 1 }),
        got: None,
        nonce: Some(Nonce([9; 32])),
    }
}
