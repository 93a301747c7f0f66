//! What is printed at the start: who runs where, what to try, and how to run each replica alone.

use std::borrow::Cow;
use std::fmt;

use primacy::config::Config;
use primacy::protocol::ids::ReplicaId;

/// The start-up text; its `Display` is all of it, newline included.
#[derive(Debug)]
pub(super) struct Banner<'a> {
    /// What runs.
    pub(super) config: &'a Config,
    /// The one replica of this process, where it does not run all.
    pub(super) only: Option<ReplicaId>,
    /// The name by which this program was started.
    pub(super) program: &'a str,
    /// The arguments with which other replicas must be started, to be configured alike.
    pub(super) flags: &'a [String],
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { sync, replicas, .. } = self.config;
        let count = replicas.len();
        let noun = if count == 1 { "replica" } else { "replicas" };
        writeln!(f, "primacy {}, {sync}, {count} {noun}\n", env!("CARGO_PKG_VERSION"))?;
        self.table(f)?;
        writeln!(f, "\n{}", may_die(self.config))?;
        self.try_it(f)?;
        self.alone(f)?;
        writeln!(f)
    }
}

impl Banner<'_> {
    /// Addresses, roles at the start, service URLs.
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.config.replicas.iter().map(ToString::to_string).collect();
        let width = names.iter().map(String::len).max().unwrap_or_default().max("replica".len());
        writeln!(f, "  {:width$}  {:7}  service", "replica", "role")?;
        for (id, name) in self.config.ids().zip(&names) {
            let role = if id.index() == 0 { "primary" } else { "backup" };
            let mark = if self.only == Some(id) { "  (this process)" } else { "" };
            writeln!(f, "  {name:width$}  {role:7}  {}{mark}", self.config.service_url(id))?;
        }
        Ok(())
    }

    fn try_it(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.config.service_url(self.only.unwrap_or(ReplicaId(0)));
        let note = r#"{"title":"Hello World","body":"this is new note"}"#;
        let curl = match &self.config.tls {
            Some(tls) => format!("curl --cacert {}", quoted(&tls.authority().path().display().to_string())),
            None => "curl".to_owned(),
        };
        writeln!(f, "\nTry it:\n\n  {curl} -d '{note}' {url}/note\n  {curl} {url}/note")
    }

    /// The commands for the replicas that do not run, or could run each in a process of its own.
    fn alone(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<ReplicaId> = self.config.ids().filter(|id| self.only != Some(*id)).collect();
        if self.config.replicas.len() == 1 {
            return Ok(());
        }
        match self.only {
            Some(_) => writeln!(f, "\nThe other replicas are started by:\n")?,
            None => writeln!(f, "\nThe same with one process each:\n")?,
        }
        for id in others {
            write!(f, "  {} replica {}", quoted(self.program), quoted(&self.config.address(id).to_string()))?;
            self.flags.iter().try_for_each(|flag| write!(f, " {}", quoted(flag)))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// How many replicas may die before writes stop: a majority must be left to agree on who is in sync (V2), and as many
/// as `min_in_sync` says.
fn may_die(config: &Config) -> String {
    let count = config.replicas.len();
    let losses = ((count - 1) / 2).min(count - config.min_in_sync);
    match (count, losses) {
        (1, _) => "There are no copies: while this replica is down, so are its notes.".to_owned(),
        (_, 0) => format!("Writes need all {count} replicas: while one is down, they wait for it."),
        _ => format!("Any {losses} of {count} replicas may die; the others go on."),
    }
}

/// The text as one word of a shell's command line.
fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy::config::Mode;

    fn config(replicas: &[&str]) -> Config {
        Config::new(Mode::RemoteWrite, replicas.iter().map(|text| text.parse().unwrap()).collect(), 9988)
    }

    #[test]
    fn all_replicas_at_once() {
        let config = config(&["127.0.0.1:10000", "127.0.0.1:20000", "127.0.0.1:30000", "127.0.0.1:40000"]);
        let banner = Banner { config: &config, only: None, program: "target/release/primacy", flags: &[] };
        let expected = r#"primacy VERSION, remote-write, 4 replicas

  replica          role     service
  127.0.0.1:10000  primary  http://127.0.0.1:9988
  127.0.0.1:20000  backup   http://127.0.0.1:9989
  127.0.0.1:30000  backup   http://127.0.0.1:9990
  127.0.0.1:40000  backup   http://127.0.0.1:9991

Any 1 of 4 replicas may die; the others go on.

Try it:

  curl -d '{"title":"Hello World","body":"this is new note"}' http://127.0.0.1:9988/note
  curl http://127.0.0.1:9988/note

The same with one process each:

  target/release/primacy replica 127.0.0.1:10000
  target/release/primacy replica 127.0.0.1:20000
  target/release/primacy replica 127.0.0.1:30000
  target/release/primacy replica 127.0.0.1:40000

"#;
        assert_eq!(banner.to_string(), expected.replace("VERSION", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn one_replica_and_how_to_start_the_others_alike() {
        let config = config(&["127.0.0.1:10000", "[::1]:20000", "db-1.example.org:30000"]);
        let flags = ["--sync", "local-write", "--data", "it's here"].map(str::to_owned);
        let banner = Banner { config: &config, only: Some(ReplicaId(1)), program: "primacy", flags: &flags };
        let expected = r#"primacy VERSION, remote-write, 3 replicas

  replica                 role     service
  127.0.0.1:10000         primary  http://127.0.0.1:9988
  [::1]:20000             backup   http://[::1]:9988  (this process)
  db-1.example.org:30000  backup   http://db-1.example.org:9988

Any 1 of 3 replicas may die; the others go on.

Try it:

  curl -d '{"title":"Hello World","body":"this is new note"}' http://[::1]:9988/note
  curl http://[::1]:9988/note

The other replicas are started by:

  primacy replica 127.0.0.1:10000 --sync local-write --data 'it'\''s here'
  primacy replica db-1.example.org:30000 --sync local-write --data 'it'\''s here'

"#;
        assert_eq!(banner.to_string(), expected.replace("VERSION", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn how_many_may_die() {
        let losses = |count: usize, min_in_sync: usize| {
            let names: Vec<String> = (1..=count).map(|n| format!("a:{n}")).collect();
            let mut config = config(&names.iter().map(String::as_str).collect::<Vec<_>>());
            config.min_in_sync = min_in_sync;
            may_die(&config)
        };
        assert_eq!(losses(1, 1), "There are no copies: while this replica is down, so are its notes.");
        assert_eq!(losses(2, 1), "Writes need all 2 replicas: while one is down, they wait for it.");
        assert_eq!(losses(3, 2), "Any 1 of 3 replicas may die; the others go on.");
        assert_eq!(losses(4, 2), "Any 1 of 4 replicas may die; the others go on.");
        assert_eq!(losses(5, 2), "Any 2 of 5 replicas may die; the others go on.");
        assert_eq!(losses(5, 4), "Any 1 of 5 replicas may die; the others go on.");
        assert_eq!(losses(4, 4), "Writes need all 4 replicas: while one is down, they wait for it.");
    }
}
