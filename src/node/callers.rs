//! The calls of client connections that are under way, and the way back to each connection.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::clock::Moment;
use crate::protocol::port::{Batch, Call, Said, Tag};
use crate::replication::event::Token;

/// Most calls in one batch; connections bound theirs far below.
const CALLS_PER_BATCH_MAX: u64 = 1 << 16;

/// Every batch of calls that is not wholly answered.
#[derive(Debug, Default)]
pub(super) struct Callers {
    last: u64,
    batches: HashMap<u64, Caller>,
    /// Batches that have answers to send at the end of this turn.
    touched: Vec<u64>,
}

/// One batch: whom its answers go to.
#[derive(Debug)]
struct Caller {
    answers: mpsc::Sender<Vec<(Tag, Said)>>,
    tags: Vec<Tag>,
    open: usize,
    ready: Vec<(Tag, Said)>,
}

impl Callers {
    /// Takes a batch: its calls, each under a token of its own, and when they arrived.
    pub(super) fn take(&mut self, batch: Batch) -> (Moment, impl Iterator<Item = (Token, Call)> + use<>) {
        let Batch { arrived, calls, answers } = batch;
        self.last += 1;
        let tags = calls.iter().map(|(tag, _)| *tag).collect();
        self.batches.insert(self.last, Caller { answers, tags, open: calls.len(), ready: Vec::new() });
        let first = self.last * CALLS_PER_BATCH_MAX;
        let calls = calls.into_iter().zip(first..).map(|((_, call), token)| (Token(token), call));
        (arrived, calls)
    }

    /// Keeps an answer for the end of the turn.
    pub(super) fn answer(&mut self, token: Token, said: Said) {
        let number = token.0 / CALLS_PER_BATCH_MAX;
        let Some(caller) = self.batches.get_mut(&number) else { return };
        let Some(tag) = caller.tags.get((token.0 % CALLS_PER_BATCH_MAX) as usize) else { return };
        if caller.ready.is_empty() {
            self.touched.push(number);
        }
        caller.ready.push((*tag, said));
        caller.open = caller.open.saturating_sub(1);
    }

    /// Sends this turn's answers, those of one batch together. Whose connection has gone needs none.
    pub(super) fn flush(&mut self) {
        for number in self.touched.drain(..) {
            let Some(caller) = self.batches.get_mut(&number) else { continue };
            let ready = std::mem::take(&mut caller.ready);
            if let Err(mpsc::error::TrySendError::Full(_)) = caller.answers.try_send(ready) {
                tracing::error!("a connection has less room for answers than it has calls open; its answers are lost");
            }
            if caller.open == 0 {
                self.batches.remove(&number);
            }
        }
    }
}
