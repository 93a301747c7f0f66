//! `primacy monitor`: a replica's events as they happen, one JSON object a line.

use primacy::note::NoteId;

use super::call::{Call, CallError, Line, print};
use super::signals;

/// How each event's frame begins: what follows is the event.
const EVENT: &[u8] = br#"{"type":"event","#;

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// Those of this note.
    pub(super) note: Option<NoteId>,
    /// Those in which this replica takes part.
    pub(super) replica: Option<String>,
}

impl Watched {
    fn request(&self) -> String {
        let mut request = serde_json::json!({ "type": "monitor" });
        if let Some(note) = self.note {
            request["id"] = note.0.into();
        }
        if let Some(replica) = &self.replica {
            request["replica"] = replica.as_str().into();
        }
        request.to_string()
    }
}

/// Prints events until the connection ends, or an interrupt comes.
pub(super) async fn monitor(call: &Call, watched: &Watched) -> Result<(), CallError> {
    let mut line = Line::open(call).await?;
    let interrupt = signals::interrupt().map_err(CallError::Start)?;
    tokio::pin!(interrupt);
    line.send(watched.request().into()).await?;
    line.first_reply().await?;
    loop {
        let json = tokio::select! {
            () = &mut interrupt => return Ok(()),
            json = line.receive() => json?,
        };
        // Nothing else was asked for.
        if let Some(members) = json.strip_prefix(EVENT) {
            print(&[b"{", members].concat())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_asked_for() {
        assert_eq!(Watched::default().request(), r#"{"type":"monitor"}"#);
        let watched = Watched { note: Some(NoteId(7)), replica: Some("a:1".to_owned()) };
        let asked = primacy::protocol::client::parse(watched.request().as_bytes()).unwrap();
        let watch = primacy::protocol::client::Watch { id: watched.note, replica: watched.replica };
        assert_eq!(asked.what, primacy::protocol::client::Wanted::Monitor(watch));
    }
}
