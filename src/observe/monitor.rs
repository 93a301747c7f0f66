//! Those who watch one replica live: each has a filter and a bounded queue, and is told what did not fit.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::Notify;

use super::classic::Event;
use crate::note::NoteId;

/// Most monitors of one replica: each costs it the making of every event that it shows.
pub const MONITORS_MAX: usize = 8;

/// Events that wait for one monitor; past it they are dropped and counted.
pub const MONITOR_EVENTS_MAX: usize = 1024;

/// Bytes of events that wait for one monitor; past it they are dropped and counted.
pub const MONITOR_BYTES_MAX: usize = 1024 * 1024;

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this note only.
    pub note: Option<NoteId>,
    /// Those in which this replica takes part only.
    pub replica: Option<String>,
}

impl Filter {
    fn passes(&self, event: &Event<'_>) -> bool {
        self.note.is_none_or(|note| event.note == Some(note))
            && self.replica.as_deref().is_none_or(|replica| event.names(replica))
    }
}

/// Everybody who watches one replica.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    /// How many there are, to be read without the lock: almost always none.
    count: AtomicUsize,
    queues: Mutex<Vec<(Filter, Arc<Queue>)>>,
}

/// There are [`MONITORS_MAX`] already.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica has {MONITORS_MAX} monitors, and takes no more; try again when one has ended")]
pub struct TooMany;

/// One who watches, until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    queue: Arc<Queue>,
    monitors: Arc<Monitors>,
    zone: TimeZone,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    told: VecDeque<Told>,
    bytes: usize,
    /// Events that did not fit since the last one that did.
    lost: u64,
}

#[derive(Debug)]
enum Told {
    /// When, and the event as JSON.
    Event(Timestamp, Arc<str>),
    /// So many did not fit here.
    Lost(Timestamp, u64),
}

/// What a lock holds is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Monitors {
    /// Whether anybody watches.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Shows an event to all whose filter it passes. Never waits.
    pub(super) fn show(&self, event: &Event<'_>) {
        let mut json = None;
        for (_, queue) in lock(&self.queues).iter().filter(|(filter, _)| filter.passes(event)) {
            // Made once, and only where somebody wants it.
            let json = json.get_or_insert_with(|| Arc::from(event.to_json()));
            queue.push(Arc::clone(json));
        }
    }

    pub(super) fn begin(self: &Arc<Self>, filter: Filter) -> Result<Monitor, TooMany> {
        let mut queues = lock(&self.queues);
        if queues.len() >= MONITORS_MAX {
            return Err(TooMany);
        }
        let queue = Arc::<Queue>::default();
        queues.push((filter, Arc::clone(&queue)));
        self.count.store(queues.len(), Ordering::Relaxed);
        Ok(Monitor { queue, monitors: Arc::clone(self), zone: TimeZone::system() })
    }
}

impl Queue {
    fn push(&self, json: Arc<str>) {
        let mut state = lock(&self.state);
        let full = state.told.len() >= MONITOR_EVENTS_MAX || state.bytes + json.len() > MONITOR_BYTES_MAX;
        if full {
            state.lost += 1;
            return;
        }
        let now = Timestamp::now();
        let lost = std::mem::take(&mut state.lost);
        if lost > 0 {
            state.told.push_back(Told::Lost(now, lost));
        }
        state.bytes += json.len();
        state.told.push_back(Told::Event(now, json));
        drop(state);
        self.filled.notify_one();
    }

    /// What has come, and what was lost after it.
    fn take(&self) -> VecDeque<Told> {
        let mut state = lock(&self.state);
        let mut told = std::mem::take(&mut state.told);
        state.bytes = 0;
        let lost = std::mem::take(&mut state.lost);
        if lost > 0 {
            told.push_back(Told::Lost(Timestamp::now(), lost));
        }
        told
    }
}

impl Monitor {
    /// Waits for events, and gives all that have come: JSON objects, `time` (RFC 3339, local) first. Where some did not fit,
    /// one of them says how many: `{"time":"…","event":"lost","events":12}`. May be dropped and called again.
    pub async fn next(&mut self) -> Vec<String> {
        loop {
            let told = self.queue.take();
            if !told.is_empty() {
                return told.into_iter().map(|told| self.json(told)).collect();
            }
            self.queue.filled.notified().await;
        }
    }

    /// An event that tells only that there was none, so that both ends find out whether the other is there.
    pub fn quiet(&self) -> String {
        self.json(Told::Event(Timestamp::now(), r#"{"event":"quiet"}"#.into()))
    }

    fn json(&self, told: Told) -> String {
        let (at, event) = match told {
            Told::Event(at, json) => (at, json),
            Told::Lost(at, events) => (at, format!(r#"{{"event":"lost","events":{events}}}"#).into()),
        };
        let members = event.strip_prefix('{').unwrap_or(&event);
        let mut text = String::with_capacity(members.len() + 48);
        let time = at.to_zoned(self.zone.clone());
        // Writing to a String cannot fail.
        let _ = write!(text, "{{\"time\":\"{}\",{members}", time.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"));
        text
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let mut queues = lock(&self.monitors.queues);
        queues.retain(|(_, queue)| !Arc::ptr_eq(queue, &self.queue));
        self.monitors.count.store(queues.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::classic::{Log, Step};
    use super::*;

    const ME: &str = "127.0.0.1:10000";
    const OTHER: &str = "127.0.0.1:20000";

    /// The events that have come, without their times.
    fn seen(monitor: &mut Monitor) -> Vec<String> {
        let told = monitor.queue.take();
        told.into_iter()
            .map(|told| monitor.json(told))
            .map(|json| json.split_once(',').map(|(_, rest)| rest.to_owned()).unwrap())
            .collect()
    }

    #[test]
    fn who_watches_sees_what_passes_its_filter() {
        let log = Log::new(ME);
        assert!(!log.enabled());
        log.joined(1, 2);
        let note = Some(NoteId(7));
        let filters = [
            Filter::default(),
            Filter { note, replica: None },
            Filter { note: None, replica: Some(OTHER.to_owned()) },
            Filter { note, replica: Some("127.0.0.1:30000".to_owned()) },
        ];
        let mut monitors = filters.map(|filter| log.monitor(filter).unwrap());
        assert!(log.enabled());
        log.replica_request(note, Step::Tell, ME, OTHER, 3, 4);
        log.client_request(Some(NoteId(8)), "GET", "/note/8", b"");
        log.view(2, OTHER, OTHER, ME);
        let counts = monitors.each_mut().map(|monitor| seen(monitor).len());
        // The view names the other replica too: it is its primary.
        assert_eq!(counts, [3, 1, 2, 0]);
        log.replica_request(note, Step::Tell, ME, OTHER, 3, 4);
        assert_eq!(
            seen(&mut monitors[1]),
            [format!(
                r#""event":"replica_request","step":"tell","from":"{ME}","to":"{OTHER}","link":3,"frame":4,"at":"{ME}","note":7}}"#
            )]
        );
        drop(monitors);
        assert!(!log.enabled(), "nobody watches any more, and it costs nothing");
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_is_missing() {
        let log = Log::new(ME);
        let mut monitor = log.monitor(Filter::default()).unwrap();
        for _ in 0..MONITOR_EVENTS_MAX + 5 {
            log.joined(1, 1);
        }
        let events = seen(&mut monitor);
        assert_eq!(events.len(), MONITOR_EVENTS_MAX + 1);
        assert_eq!(events.last().unwrap(), r#""event":"lost","events":5}"#);
        // Bytes count too: bodies are cut at 1 KiB, and a byte may take six characters.
        let body = vec![1; 1024];
        let mut count = 0;
        while monitor.queue.state.lock().unwrap().lost == 0 {
            log.client_request(None, "POST", "/note", &body);
            count += 1;
        }
        assert!(count < MONITOR_EVENTS_MAX, "{count} events of 6 KiB");
        assert!(monitor.queue.state.lock().unwrap().bytes <= MONITOR_BYTES_MAX);
    }

    #[test]
    fn there_are_only_so_many_and_an_end_makes_room() {
        let log = Log::new(ME);
        let mut monitors: Vec<_> = (0..MONITORS_MAX).map(|_| log.monitor(Filter::default()).unwrap()).collect();
        assert_eq!(log.monitor(Filter::default()).unwrap_err(), TooMany);
        monitors.pop();
        assert!(log.monitor(Filter::default()).is_ok());
    }

    #[tokio::test]
    async fn an_event_wakes_who_waits() {
        let log = Log::new(ME);
        let mut monitor = log.monitor(Filter::default()).unwrap();
        let (events, ()) = tokio::join!(monitor.next(), async { log.joined(1, 1) });
        assert_eq!(events.len(), 1);
        assert!(events[0].starts_with("{\"time\":\"20"), "{events:?}");
    }
}
