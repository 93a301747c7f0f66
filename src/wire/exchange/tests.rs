use super::*;
use crate::accept::Unfinished;
use crate::observe::metrics::Metrics;
use crate::protocol::ids::{Epoch, ReplicaId, Version};
use crate::protocol::port::Pong;
use crate::protocol::request::{Done, Phases};

const NOW: Moment = Moment(5);

fn exchange(pipeline: usize, text: &str) -> Exchange {
    let requests = Metrics::new("remote-write").requests;
    let input = Input::new(true, BytesMut::new(), Unfinished::new(usize::MAX).share());
    let mut exchange = Exchange::new(input, pipeline, Log::new("here:1"), requests);
    exchange.room().extend_from_slice(text.as_bytes());
    exchange
}

fn pong() -> Said {
    Said::Pong(Pong { replica: ReplicaId(0), epoch: Epoch(1), primary: None, in_sync: true })
}

fn lines(exchange: &mut Exchange) -> Vec<String> {
    exchange.reply(NOW, &["here:1".to_owned()]);
    let text = String::from_utf8(exchange.out().to_vec()).unwrap();
    exchange.written();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn all_of_one_read_are_called_together_and_answered_as_they_finish() {
    let mut exchange = exchange(9, "{\"type\":\"ping\",\"seq\":1}\n{\"type\":\"ping\",\"seq\":2}\n");
    assert!(exchange.take_all(NOW));
    let calls = exchange.calls();
    assert_eq!(calls.len(), 2);
    exchange.hear(vec![(calls[1].0, pong())]);
    assert!(lines(&mut exchange)[0].starts_with("{\"type\":\"pong\",\"re\":2,"));
    exchange.hear(vec![(calls[0].0, pong()), (77, pong())]);
    assert_eq!(lines(&mut exchange).len(), 1, "what nobody asked is not said");
    assert!(!exchange.is_waiting());
}

#[test]
fn a_connection_has_one_monitor_and_its_events_carry_its_number() {
    let mut exchange = exchange(9, "{\"type\":\"monitor\",\"seq\":4,\"id\":7}\n{\"type\":\"monitor\",\"seq\":5}\n");
    assert!(exchange.take_all(NOW));
    assert_eq!(exchange.watch(), Some(&Watch { id: Some(crate::note::NoteId(7)), replica: None }));
    assert!(exchange.calls().is_empty() && !exchange.is_waiting(), "the loop is asked nothing");
    exchange.begin_monitor(Ok("here:1"));
    exchange.show(&["{\"event\":\"quiet\"}".to_owned()]);
    let lines = lines(&mut exchange);
    assert!(lines[0].starts_with("{\"type\":\"error\",\"re\":5,\"res\":400,\"code\":\"bad_request\""), "{lines:?}");
    assert_eq!(lines[1], "{\"type\":\"monitoring\",\"re\":4,\"res\":200,\"replica\":\"here:1\"}");
    assert_eq!(lines[2], "{\"type\":\"event\",\"re\":4,\"event\":\"quiet\"}");
}

#[test]
fn a_locked_connection_is_answered_nothing_before_its_token() {
    let tokens: Tokens = "0123456789abcdef".parse().unwrap();
    let locked = |text: &str| exchange(9, text).locked_by(Some(&tokens));
    let ping = "{\"type\":\"ping\",\"seq\":1}\n";
    let right = "{\"type\":\"auth\",\"seq\":2,\"token\":\"0123456789abcdef\"}\n";
    let mut early = locked(&[ping, right, ping].concat());
    early.take_all(NOW);
    assert_eq!(early.calls().len(), 1, "only what comes behind the token");
    let replies = lines(&mut early);
    assert!(replies[0].contains("\"re\":1,\"res\":401,\"code\":\"unauthorized\""), "{replies:?}");
    assert_eq!(replies[1], "{\"type\":\"authorized\",\"re\":2,\"res\":200}");
    assert!(!early.is_locked());

    for wrong in ["0123456789abcdeF", "", "0123456789abcdef0"] {
        let mut guess = locked(&[&right.replace("0123456789abcdef", wrong), right, ping].concat());
        guess.take_all(NOW);
        assert!(guess.calls().is_empty() && guess.has_ended(), "each guess costs a connection");
        let replies = lines(&mut guess);
        assert!(replies.len() == 1 && replies[0].contains("\"re\":2,\"res\":401"), "{replies:?}");
    }
    let mut open = exchange(9, right);
    open.take_all(NOW);
    assert_eq!(lines(&mut open), ["{\"type\":\"authorized\",\"re\":2,\"res\":200}"], "any, where none is needed");
}

#[test]
fn what_is_beyond_the_pipeline_waits_for_answers() {
    let mut exchange = exchange(2, &"{\"type\":\"ping\"}\n".repeat(5));
    exchange.end_input();
    let mut answered = 0;
    while !exchange.has_ended() || exchange.is_waiting() {
        exchange.take_all(NOW);
        let calls = exchange.calls();
        assert!(calls.len() <= 2, "{} calls are open at once", calls.len());
        exchange.hear(calls.into_iter().map(|(tag, _)| (tag, pong())).collect());
        answered += lines(&mut exchange).len();
    }
    assert_eq!(answered, 5, "what came before the end is answered");
}

#[test]
fn large_replies_are_made_a_few_at_a_time() {
    let mut exchange = exchange(99, &"{\"type\":\"list\"}\n".repeat(20));
    exchange.take_all(NOW);
    let note =
        crate::note::Note::from_put(crate::note::NoteId(1), &[b"{\"title\":\"", &[b'x'; 100_000][..], b"\"}"].concat());
    let notes = Outcome::Notes { notes: vec![(crate::note::NoteId(1), note.unwrap())], more: false };
    let said = Said::Answer(Answer { outcome: notes, primary: None, phases: Phases::default() });
    let calls = exchange.calls();
    exchange.hear(calls.into_iter().map(|(tag, _)| (tag, said.clone())).collect());
    exchange.reply(NOW, &[]);
    assert!(exchange.out().len() < OUT_BYTES_KEPT + 101_000, "{} bytes at once", exchange.out().len());
    exchange.written();
    let mut count = 3;
    while exchange.is_waiting() {
        count += lines(&mut exchange).len();
    }
    assert_eq!(count, 20);
}

#[test]
fn a_call_that_was_given_to_the_replica_may_have_taken_effect() {
    let write = "{\"type\":\"delete\",\"seq\":1,\"id\":1}\n";
    let mut exchange = exchange(9, &format!("{write}{{\"type\":\"get\",\"seq\":2,\"id\":1}}\n"));
    exchange.take_all(NOW);
    exchange.calls();
    exchange.room().extend_from_slice(write.replace("1,", "3,").as_bytes());
    exchange.take_all(NOW);
    let refused = exchange.calls().into_iter().map(|(tag, _)| tag);
    exchange.refuse(refused, "it is full");
    assert_eq!(
        lines(&mut exchange),
        ["{\"type\":\"error\",\"re\":3,\"res\":503,\"code\":\"unavailable\",\"msg\":\"it is full\"}"]
    );
    exchange.end_with_what_was_said("it has stopped");
    let codes: Vec<bool> = lines(&mut exchange).iter().map(|line| line.contains("\"unknown\"")).collect();
    assert_eq!(codes, [true, false], "the write may have been done, the read was not");
    assert!(exchange.has_ended());
}

#[test]
fn a_reply_tells_where_the_time_went_when_asked() {
    let mut exchange =
        exchange(9, "{\"timing\":true,\"id\":1,\"type\":\"delete\"}\n{\"type\":\"ping\",\"timing\":true}\n");
    exchange.take_all(Moment(0));
    let calls = exchange.calls();
    let done = Outcome::Done(Done { id: crate::note::NoteId(1), version: Version { epoch: Epoch(1), counter: 2 } });
    let phases =
        Phases { queue: 1_000, replicate: 2_000_000, store: 1_500_000, update: 2_000_000, ..Phases::default() };
    exchange
        .hear(vec![(calls[0].0, Said::Answer(Answer { outcome: done, primary: None, phases })), (calls[1].0, pong())]);
    exchange.reply(Moment(3_000_000), &["here:1".to_owned()]);
    let text = String::from_utf8(exchange.out().to_vec()).unwrap();
    let timing = "\"timing\":{\"queue_ms\":0.001,\"replicate_ms\":2.000,\"store_ms\":1.500,\"update_ms\":2.000,\"respond_ms\":0.999,\"total_ms\":3.000}}";
    assert!(text.contains(timing), "{text}");
    assert!(
        text.contains("\"in_sync\":true,\"timing\":{\"queue_ms\":0.000,\"respond_ms\":3.000,\"total_ms\":3.000}}"),
        "{text}"
    );
}
