//! `primacy status`: asks every replica of the configuration, all at once, and shows what they say.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use bytes::BytesMut;
use futures::future::join_all;
use futures::{SinkExt, StreamExt};
use primacy::config::{Address, Config};
use primacy::net::TcpStream;
use primacy::protocol::codec;
use primacy::protocol::status::Status;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::codec::Framed;

use super::run::Failure;
use super::signals;
use super::table::Table;

/// How long a replica may take to answer: its loop answers at once, so that two seconds tell a hanging one.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// From one question to the next, while they are watched.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Moves a terminal's cursor to its corner and clears it (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// How the answers are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// As one line of JSON.
    pub(super) json: bool,
    /// Again and again.
    pub(super) watch: bool,
}

/// One replica's answer, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    /// What it says of itself.
    Status(Box<Status>),
    /// It could not be asked.
    None {
        /// Its address.
        replica: String,
        /// Why.
        error: String,
    },
}

/// Why a replica did not answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("unreachable: {0}")]
    Unreachable(#[from] io::Error),
    #[error("no answer within {} s", ANSWER_WAIT.as_secs())]
    Late,
    #[error("it closed the connection")]
    Closed,
    #[error("it refused: {0}")]
    Refused(String),
    #[error("no Primacy of this version: {0}")]
    NotUnderstood(#[from] serde_json::Error),
}

/// Asks and shows, once or until a signal comes.
pub(super) async fn status(config: &Config, shown: Shown) -> Result<(), Failure> {
    if !shown.watch {
        return show(&ask_all(config).await, shown);
    }
    let stop = signals::interrupt().map_err(Failure::Start)?;
    tokio::pin!(stop);
    let mut ticks = interval(WATCH_EVERY);
    // A replica that hangs makes a round late; the rounds missed are of no use to anybody.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = ticks.tick() => {}
        }
        let answers = tokio::select! {
            () = &mut stop => return Ok(()),
            answers = ask_all(config) => answers,
        };
        match show(&answers, shown) {
            // They may come back: that is what is watched for.
            Ok(()) | Err(Failure::NobodyAnswers) => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// Prints the answers; an error where there is none among them.
fn show(answers: &[Answer], shown: Shown) -> Result<(), Failure> {
    let text = match shown.json {
        true => serde_json::to_string(answers).map_err(|error| Failure::Stdout(error.into()))? + "\n",
        false => Table(answers).to_string(),
    };
    let mut stdout = io::stdout().lock();
    let clear = if shown.watch && !shown.json && stdout.is_terminal() { CLEAR } else { "" };
    write!(stdout, "{clear}{text}").and_then(|()| stdout.flush()).map_err(Failure::Stdout)?;
    let one_answers = answers.iter().any(|answer| matches!(answer, Answer::Status(_)));
    if one_answers { Ok(()) } else { Err(Failure::NobodyAnswers) }
}

/// In config order.
async fn ask_all(config: &Config) -> Vec<Answer> {
    join_all(config.replicas.iter().map(ask)).await
}

async fn ask(address: &Address) -> Answer {
    let answer = timeout(ANSWER_WAIT, ask_for_status(address)).await.unwrap_or(Err(NoAnswer::Late));
    match answer {
        Ok(status) => Answer::Status(status),
        Err(error) => Answer::None { replica: address.to_string(), error: error.to_string() },
    }
}

async fn ask_for_status(address: &Address) -> Result<Box<Status>, NoAnswer> {
    let stream = TcpStream::connect((address.host(), address.port())).await?;
    stream.set_nodelay(true)?;
    let mut frames = Framed::new(stream, codec::length_delimited());
    frames.send(bytes::Bytes::from_static(br#"{"type":"status"}"#)).await?;
    let reply: BytesMut = frames.next().await.ok_or(NoAnswer::Closed)??;
    understand(&reply)
}

/// A reply's JSON: the status, or an error frame.
fn understand(json: &[u8]) -> Result<Box<Status>, NoAnswer> {
    #[derive(Deserialize)]
    struct Refusal {
        msg: String,
    }
    match codec::word_of(json)?.as_str() {
        "error" => Err(NoAnswer::Refused(serde_json::from_slice::<Refusal>(json)?.msg)),
        _ => Ok(serde_json::from_slice(json)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_understood_or_said_to_be_what_they_are() {
        let status = r#"{"type":"status","res":200,"replica":"a:1","mode":"remote-write","role":"starting","view":null,
            "in_sync":false,"ready":false,"lease_ms":0,"controller":null,"notes":2,"items_owned":0,"links":[]}"#;
        assert_eq!(understand(status.as_bytes()).unwrap().notes, 2);
        let refused = understand(br#"{"type":"error","res":403,"code":"not_a_peer","msg":"not you"}"#);
        assert_eq!(refused.unwrap_err().to_string(), "it refused: not you");
        let other = understand(br#"{"type":"hello"}"#).unwrap_err().to_string();
        assert!(other.starts_with("no Primacy of this version: missing field"), "{other}");
    }

    #[tokio::test]
    async fn who_does_not_listen_is_unreachable() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let answer = ask(&Address::new("127.0.0.1", port)).await;
        let Answer::None { replica, error } = &answer else { panic!("{answer:?}") };
        assert_eq!(replica, &format!("127.0.0.1:{port}"));
        assert!(error.starts_with("unreachable: "), "{error}");
        let json = serde_json::to_value(&answer).unwrap();
        assert!(json["error"].is_string() && json["replica"].is_string());
    }
}
