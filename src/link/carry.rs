//! One greeted connection at work: sends what the window holds, and takes what the peer has got.

use std::pin::pin;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use super::chunks::Chunks;
use super::outgoing::Outgoing;
use super::{FLUSH_WAIT, PROGRESS_WAIT, Reason, hello, lock, told};
use crate::clock::{Alarm, ExactTimer};
use crate::net::Stream;
use crate::protocol::codec;
use crate::protocol::message::{Got, Position};

/// One greeted connection at work.
pub(super) struct Carrier<'a> {
    link: &'a Outgoing,
    per_frame: bool,
    alarm: Alarm,
    /// For the next frame that may leave, under a simulated delay.
    timer: ExactTimer,
    /// What is being written.
    output: Chunks,
    /// When the next frame may leave, under a simulated delay.
    next_due: Option<Instant>,
    /// When writing that makes no progress has failed.
    stalls_at: Option<Instant>,
    /// Since when nothing that was sent has been `got`.
    awaiting_since: Option<Instant>,
    /// When flushing ends, once the links stop.
    stop_at: Option<Instant>,
}

impl<'a> Carrier<'a> {
    /// To send what waits for this link, first of all `output`; `per_frame` where the connection is used but once.
    pub(super) fn new(link: &'a Outgoing, per_frame: bool, output: Chunks) -> Carrier<'a> {
        Carrier {
            link,
            per_frame,
            alarm: Alarm::new(),
            timer: ExactTimer::default(),
            output,
            next_due: None,
            stalls_at: None,
            awaiting_since: None,
            stop_at: None,
        }
    }

    /// Carries frames until the connection ends, and says why it did.
    pub(super) async fn run(
        &mut self,
        mut reader: ReadHalf<&mut Stream>,
        mut writer: WriteHalf<&mut Stream>,
        input: &mut BytesMut,
        mut stop: watch::Receiver<bool>,
    ) -> Reason {
        let mut codec = codec::length_delimited();
        let link = self.link;
        // Kept from turn to turn: to wait anew for the same costs more than the rest of a turn.
        let mut stopped = pin!(told(&mut stop));
        let mut woken = pin!(link.wake.notified());
        loop {
            if let Err(reason) = self.take_gots(input, &mut codec) {
                return reason;
            }
            if let Some(reason) = self.refill() {
                return reason;
            }
            let deadline = match self.deadline() {
                Some((at, reason)) if at <= Instant::now() => return reason,
                deadline => deadline.map(|(at, _)| at),
            };
            tokio::select! {
                biased;
                () = &mut stopped, if self.stop_at.is_none() => {
                    self.stop_at = Some(Instant::now() + FLUSH_WAIT);
                }
                read = reader.read_buf(input) => match read {
                    Err(error) => return error.into(),
                    Ok(0) => return Reason::Closed,
                    Ok(_) => {}
                },
                written = writer.write_buf(&mut self.output), if !self.output.is_empty() => match written {
                    Err(error) => return error.into(),
                    Ok(_) => self.stalls_at = Some(Instant::now() + PROGRESS_WAIT),
                },
                () = &mut woken => woken.set(link.wake.notified()),
                () = self.timer.awake_at(self.next_due), if self.output.is_empty() => {}
                // Last: what is written at once needs no alarm, which would go off later, for nothing.
                () = self.alarm.at(deadline) => {}
            }
        }
    }

    /// Takes the next frames from the window once the last ones are written. Some where the connection is done.
    fn refill(&mut self) -> Option<Reason> {
        let mut window = lock(&self.link.window);
        if let Some(reason) = window.closing() {
            return Some(reason.clone());
        }
        if self.output.is_empty() {
            self.stalls_at = None;
            // One connection carries the frames of one turn where it shall not be used again.
            if !self.per_frame {
                self.next_due = window.hand_out(Instant::now(), &mut self.output);
            }
        }
        if !self.output.is_empty() && self.stalls_at.is_none() {
            self.stalls_at = Some(Instant::now() + PROGRESS_WAIT);
        }
        match window.is_awaiting() {
            true => self.awaiting_since = self.awaiting_since.or_else(|| Some(Instant::now())),
            false => self.awaiting_since = None,
        }
        if !self.output.is_empty() {
            return None;
        }
        if self.per_frame && !window.is_awaiting() {
            return Some(Reason::PerFrame);
        }
        (self.stop_at.is_some() && self.next_due.is_none()).then_some(Reason::Stopped)
    }

    fn take_gots(&mut self, input: &mut BytesMut, codec: &mut LengthDelimitedCodec) -> Result<(), Reason> {
        while let Some(json) = codec.decode(input)? {
            let got = read_got(&json)?;
            if lock(&self.link.window).got(got).is_err() {
                return Err(never_sent(Position { epoch: got.epoch, n: got.n }));
            }
            self.awaiting_since = None;
            self.link.tell_of_room();
        }
        Ok(())
    }

    /// When the connection is over where nothing happens, and why.
    fn deadline(&self) -> Option<(Instant, Reason)> {
        let awaiting = self.awaiting_since.map(|since| since + PROGRESS_WAIT);
        let deadlines = [
            (self.stalls_at, Reason::Silent("the peer reads nothing")),
            (awaiting, Reason::Silent("the peer gets nothing")),
            (self.stop_at, Reason::Stopped),
        ];
        deadlines.into_iter().filter_map(|(at, reason)| Some((at?, reason))).min_by_key(|(at, _)| *at)
    }
}

pub(super) fn never_sent(got: Position) -> Reason {
    Reason::Broke(format!("it got frame {} of epoch {}, which was never sent", got.n, got.epoch))
}

fn read_got(json: &[u8]) -> Result<Got, Reason> {
    match codec::word_of(json) {
        Ok(word) if word == "got" => {
            serde_json::from_slice(json).map_err(|error| Reason::Broke(format!("a `got` that can't be read: {error}")))
        }
        Ok(word) if word == "error" => Err(Reason::RefusedByPeer(hello::error_of(json))),
        Ok(word) => Err(Reason::Broke(format!("a `{word}` on the way back of a link, where only `got` may be"))),
        Err(error) => Err(Reason::Broke(format!("no `got`: {error}"))),
    }
}
