//! The clients' side: requests go out, answers come back or do not.

use primacy::config::Mode;
use primacy::protocol::request::Answer;
use primacy::replication::event::{Event, Token};

use super::checks::{self, Checked, Violation};
use super::history::{Attempt, Reply};
use super::plan::MS;
use super::stops::Stop;
use super::workload::{Wish, reply_of, request_of};
use super::world::{Happening, World};

/// Clients.
impl World {
    pub(crate) fn plan_client(&mut self, client: usize, most: u64) {
        self.clients[client].generation += 1;
        let generation = self.clients[client].generation;
        let delay = self.rng.u64(0..=most);
        self.after(delay, Happening::Client { client, generation });
    }

    pub(crate) fn client_wakes(&mut self, client: usize) {
        for attempt in std::mem::take(&mut self.clients[client].open) {
            self.counts.given_up += 1;
            self.close(attempt, Reply::Unknown);
        }
        let wish = self.clients[client].wish.take().filter(|wish| wish.sends > 0);
        if let Some(wish) = wish {
            self.counts.retries += 1;
            return self.ask(client, wish);
        }
        if self.requests_left > 0 {
            self.requests_left -= 1;
            let wish = self.knowledge.wish(&self.plan, &mut self.rng);
            self.ask(client, wish);
        }
    }

    /// Sends a wish to some replica; one that may be sent twice sometimes goes to two at once.
    pub(crate) fn ask(&mut self, client: usize, mut wish: Wish) {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| self.takes_requests(*node)).collect();
        if up.is_empty() {
            self.clients[client].wish = Some(wish);
            return self.plan_client(client, 50 * MS);
        }
        let first = up[self.rng.usize(..up.len())];
        let twice = wish.sends > 1 && self.rng.u8(0..4) == 0;
        wish.sends -= 1;
        self.send_request(client, first, &wish);
        if twice {
            wish.sends -= 1;
            let second = up[self.rng.usize(..up.len())];
            self.send_request(client, second, &wish);
        }
        self.clients[client].wish = Some(wish);
        let patience = self.plan.patience;
        self.clients[client].generation += 1;
        let generation = self.clients[client].generation;
        self.after(patience, Happening::Client { client, generation });
    }

    pub(crate) fn send_request(&mut self, client: usize, node: usize, wish: &Wish) {
        let place = self.history.attempts.len();
        let called = self.history.tick();
        let Wish { ask, key, if_match, .. } = *wish;
        let reply = Reply::Open;
        self.history.attempts.push(Attempt { client, replica: node, ask, key, if_match, called, returned: 0, reply });
        self.counts.requests += 1;
        self.clients[client].open.push(place);
        self.nodes[node].open.insert(place);
        let arrived = self.nodes[node].clock.moment(self.now);
        self.tell(node, Event::Request { token: Token(place as u64), request: request_of(wish), arrived });
    }

    pub(crate) fn answer(&mut self, node: usize, token: Token, answer: Answer) -> Checked {
        let place = token.0 as usize;
        let closed = matches!(self.nodes[node].stop, Some(Stop::Leaving { .. }));
        if !self.nodes[node].open.remove(&place) {
            // It stops, and has closed its connections.
            if closed {
                return Ok(());
            }
            let seen = format!("request {place} was answered again, or by another replica: {answer:?}");
            return Err(Violation { rule: "each request is answered once", seen });
        }
        let reply = reply_of(answer.outcome);
        self.note_answer(node, place, &reply);
        let forwarded = self.plan.mode == Mode::RemoteWrite && self.history.attempts[place].ask.is_write();
        checks::outsiders_are_silent(self.member(node), &reply, forwarded, self.group.newest())?;
        if let Reply::Done(done) = &reply {
            self.witness.done_is_committed(*done, self.group.newest(), &self.nodes)?;
        }
        self.check_last(&self.history.attempts[place], &reply)?;
        if self.history.attempts[place].reply == Reply::Open {
            self.resolve(place, reply);
        }
        Ok(())
    }

    pub(crate) fn note_answer(&mut self, node: usize, place: usize, reply: &Reply) {
        let text = self.trace.is_some().then(|| format!("{:?}: {reply:?}", self.history.attempts[place].ask));
        self.note(|| format!("r{node} ANSWERS request {place} {}", text.unwrap_or_default()));
    }

    /// An attempt has ended; its client goes on once all of its attempts have.
    pub(crate) fn resolve(&mut self, place: usize, reply: Reply) {
        if self.history.attempts[place].reply != Reply::Open {
            return;
        }
        self.close(place, reply);
        let client = self.history.attempts[place].client;
        let Some(it) = self.clients.get_mut(client) else { return };
        it.open.retain(|open| *open != place);
        if !it.open.is_empty() {
            return;
        }
        let decided = !matches!(self.history.attempts[place].reply, Reply::Unknown | Reply::NoEffect);
        // Sometimes a client that was answered asks again, as one whose answer was lost would.
        if decided && self.rng.u8(0..8) > 0 {
            it.wish = None;
        }
        self.plan_client(client, self.plan.think);
    }

    pub(crate) fn close(&mut self, place: usize, reply: Reply) {
        let tick = self.history.tick();
        let attempt = &mut self.history.attempts[place];
        attempt.returned = tick;
        self.knowledge.learn(attempt.ask, &reply);
        self.counts.answered(attempt.ask, &reply);
        attempt.reply = reply;
    }
}
