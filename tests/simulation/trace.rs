//! How what happens reads in a trace.

use primacy::protocol::message::Message;
use primacy::replication::event::Event;

/// Shorter than Debug's text.
pub(crate) fn short(text: &str) -> String {
    let mut text =
        text.replace("Version { epoch: Epoch(", "v").replace("), counter: ", "-").replace("ReplicaId(", "r(");
    for (long, brief) in [("NoteId(", "n("), ("Incarnation(", "i("), ("StoreId(", "s("), ("Record { id:", "{")] {
        text = text.replace(long, brief);
    }
    text
}

/// A line for an event.
pub(crate) fn brief(event: &Event) -> String {
    match event {
        Event::Message { from, envelope, .. } => {
            format!("r{} epoch {} {}", from.0, envelope.epoch, brief_message(&envelope.message))
        }
        Event::Request { token, request, .. } => format!("request {} {}", token.0, short(&format!("{request:?}"))),
        Event::View(view) => format!("view {}", view.epoch),
        other => short(&format!("{other:?}")),
    }
}

/// A line for a message.
pub(crate) fn brief_message(message: &Message) -> String {
    short(&format!("{message:?}"))
}
