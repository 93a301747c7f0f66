//! `primacy status`: asks every replica of the configuration, all at once, and shows what they say.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use futures::future::join_all;
use primacy::client::{Client, Options};
use primacy::config::{Address, Config};
use primacy::protocol::status::Status;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

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
    join_all(config.replicas.iter().map(|address| ask(address, config))).await
}

async fn ask(address: &Address, config: &Config) -> Answer {
    match ask_for_status(address, config).await {
        Ok(status) => Answer::Status(status),
        Err(error) => Answer::None { replica: address.to_string(), error },
    }
}

/// Asks once: what a replica says when it is asked again is another question.
async fn ask_for_status(address: &Address, config: &Config) -> Result<Box<Status>, String> {
    let mut options = Options::new([address.to_string()]).map_err(|error| error.to_string())?;
    options.token = config.tokens.as_ref().map(|tokens| tokens.first().into());
    options.authority = config.tls.as_ref().map(|tls| tls.authority().clone());
    (options.attempts, options.timeout, options.connect_timeout) = (1, ANSWER_WAIT, ANSWER_WAIT);
    Client::with(&options).status().await.map_err(|error| error.cause.to_string())
}

#[cfg(test)]
mod tests {
    use primacy::config::Mode;

    use super::*;

    #[tokio::test]
    async fn who_does_not_listen_is_unreachable() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let address = Address::new("127.0.0.1", port);
        let answer = ask(&address, &Config::new(Mode::RemoteWrite, vec![address.clone()], 1)).await;
        let Answer::None { replica, error } = &answer else { panic!("{answer:?}") };
        assert_eq!(replica, &format!("127.0.0.1:{port}"));
        assert!(error.starts_with("unreachable: "), "{error}");
        let json = serde_json::to_value(&answer).unwrap();
        assert!(json["error"].is_string() && json["replica"].is_string());
    }
}
