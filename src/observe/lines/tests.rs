use std::sync::mpsc;

use super::*;

/// Hands on what is written, and waits in each write until it is read: a terminal that its user controls.
struct Terminal(mpsc::SyncSender<String>);

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.0.send(text).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_all(terminal: mpsc::Receiver<String>) -> Vec<String> {
    let text: String = terminal.iter().collect();
    text.lines().map(|line| line.split_once("] ").unwrap().1.to_owned()).collect()
}

#[test]
fn lines_are_written_in_order_and_all_of_them_at_the_end() {
    let (sender, terminal) = mpsc::sync_channel(1);
    let (writer, lines) = Writer::start("test", Prefix::Plain, Terminal(sender)).unwrap();
    let reader = thread::spawn(move || read_all(terminal));
    for n in 0..1000 {
        lines.push(n.to_string());
    }
    drop(writer);
    assert_eq!(reader.join().unwrap(), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn lines_that_do_not_fit_are_counted_where_they_were_lost() {
    let (sender, terminal) = mpsc::sync_channel(0);
    let (writer, lines) = Writer::start("test", Prefix::Plain, Terminal(sender)).unwrap();
    let fit = 10;
    let long = "x".repeat(QUEUE_BYTES_MAX / fit - LINE_BYTES);
    // Nobody reads yet: the thread stands in its first write, and holds that line.
    lines.push("first".to_owned());
    while !lines.0.lock().lines.is_empty() {
        thread::yield_now();
    }
    for _ in 0..fit + 3 {
        lines.push(long.clone());
    }
    let reader = thread::spawn(move || read_all(terminal));
    drop(writer);
    let read = reader.join().unwrap();
    assert_eq!(read.len(), 1 + fit + 1);
    assert_eq!(read[0], "first");
    assert_eq!(read[fit + 1], "LOG [LOST] 3 lines did not fit; this output is read too slowly");
}

#[test]
fn an_output_that_is_gone_stops_nobody() {
    let (sender, terminal) = mpsc::sync_channel(0);
    drop(terminal);
    let (writer, lines) = Writer::start("test", Prefix::Plain, Terminal(sender)).unwrap();
    lines.push("a".to_owned());
    let ended = writer.queue.ended.wait_while(writer.queue.lock(), |state| !state.ended).unwrap();
    drop(ended);
    lines.push("b".to_owned());
    assert!(lines.0.lock().lines.is_empty(), "what cannot be written is not kept");
}

#[test]
fn times_are_local_and_in_front() {
    let zone = TimeZone::fixed(jiff::tz::offset(1));
    let at: Timestamp = "2026-11-22T19:58:53.1239Z".parse().unwrap();
    let line = |prefix, text: &str| {
        let mut out = String::new();
        Calendar::new(prefix, zone.clone()).write_line(&mut out, at, text);
        out
    };
    assert_eq!(line(Prefix::Plain, "CLIENT"), "[2026-11-22 20:58:53] CLIENT\n");
    assert_eq!(
        line(Prefix::Json, r#"{"event":"lost","lines":1}"#),
        "{\"time\":\"2026-11-22T20:58:53.123+01:00\",\"event\":\"lost\",\"lines\":1}\n"
    );
}

#[test]
fn the_time_follows_the_second() {
    let mut calendar = Calendar::new(Prefix::Plain, TimeZone::UTC);
    let mut out = String::new();
    for at in ["2026-11-22T19:58:53.9Z", "2026-11-22T19:58:53.95Z", "2026-11-22T19:58:54Z"] {
        calendar.write_line(&mut out, at.parse().unwrap(), "a");
    }
    assert_eq!(out, "[2026-11-22 19:58:53] a\n[2026-11-22 19:58:53] a\n[2026-11-22 19:58:54] a\n");
}
