//! Several memberships in one process, joined by a network that loses what the test wants. Time is tokio's, paused: it moves
//! when everybody waits, so a test of seconds takes moments and never depends on the machine's speed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use primacy::clock::{Clock, Moment};
use primacy::membership::{Begin, Handle, Medium, Membership, MembershipConfig, MembershipEvent, MemoryLog};
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId, ReplicaSet, StoreId};
use primacy::protocol::view::View;
use primacy::random::Random;
use primacy::store::{Disk, MemoryDisk};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const MS: u64 = 1_000_000;

/// A view reached a replica.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub replica: ReplicaId,
    pub incarnation: Incarnation,
    pub at: Moment,
    pub view: View,
}

/// A replica was granted a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub replica: ReplicaId,
    pub incarnation: Incarnation,
    pub at: Moment,
    pub until: Moment,
}

/// What the test's network and its observers know.
#[derive(Debug, Default)]
pub(crate) struct Record {
    handles: Vec<Option<(Incarnation, Handle)>>,
    blocked: BTreeSet<(ReplicaId, ReplicaId)>,
    /// How long each frame is under way.
    way: Duration,
    pub seen: Vec<Seen>,
    pub granted: Vec<Granted>,
    /// Who was killed or stopped, and when.
    pub ended: Vec<(Incarnation, Moment)>,
    pub waiting: Vec<(ReplicaId, ReplicaSet)>,
    stores: Vec<StoreId>,
    /// Joiners that report nothing.
    pub slow: ReplicaSet,
    drawn: u64,
}

pub(crate) struct Cluster {
    pub clock: Clock,
    record: Arc<Mutex<Record>>,
    running: Vec<Option<Running>>,
    logs: Vec<Kept>,
    blank: Vec<bool>,
    failure_timeout_ms: u64,
}

/// What a process leaves behind of its consensus log.
enum Kept {
    Memory(MemoryLog),
    Disk(MemoryDisk),
}

impl Kept {
    fn in_memory() -> Kept {
        Kept::Memory(MemoryLog::default())
    }

    fn on_disk() -> Kept {
        let disk = MemoryDisk::new();
        disk.make_folder(Path::new("/replica")).expect("the disk is empty");
        Kept::Disk(disk)
    }

    fn medium(&self) -> Medium {
        match self {
            Kept::Memory(log) => Medium::Memory(log.clone()),
            Kept::Disk(disk) => {
                let folder = Path::new("/replica/consensus");
                Medium::open(Arc::new(disk.clone()), folder, 1).expect("what was written is read")
            }
        }
    }
}

struct Running {
    membership: Membership,
    router: JoinHandle<()>,
    incarnation: Incarnation,
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().expect("no test thread panics while it holds the record")
}

impl Record {
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// The newest view that anybody has.
    pub(crate) fn newest(&self) -> Option<&View> {
        self.seen.iter().map(|seen| &seen.view).max_by_key(|view| view.epoch)
    }
}

impl Cluster {
    /// Fresh replicas, none started.
    pub(crate) fn new(count: usize, failure_timeout_ms: u64) -> Cluster {
        let mut record = Record { handles: vec![None; count], ..Record::default() };
        record.stores = (0..count).map(|_| StoreId(record.draw())).collect();
        Cluster {
            clock: Clock::start(),
            record: Arc::new(Mutex::new(record)),
            running: (0..count).map(|_| None).collect(),
            logs: (0..count).map(|_| Kept::in_memory()).collect(),
            blank: vec![true; count],
            failure_timeout_ms,
        }
    }

    /// Logs go through the journal.
    pub(crate) fn on_disk(mut self) -> Cluster {
        self.logs.iter_mut().for_each(|log| *log = Kept::on_disk());
        self
    }

    /// Frames are under way for this long.
    pub(crate) fn apart(self, way_ms: u64) -> Cluster {
        lock(&self.record).way = Duration::from_millis(way_ms);
        self
    }

    /// A fresh cluster that has its first view and leases.
    pub(crate) async fn serving(count: usize, failure_timeout_ms: u64) -> Cluster {
        Cluster::new(count, failure_timeout_ms).serve().await
    }

    /// Starts all, and waits for the first view and leases.
    pub(crate) async fn serve(self) -> Cluster {
        let mut cluster = self;
        for replica in cluster.all() {
            cluster.start(replica).await;
        }
        cluster.until_in_sync(&cluster.all()).await;
        cluster.until_leases(&cluster.all()).await;
        cluster
    }

    pub(crate) fn all(&self) -> Vec<ReplicaId> {
        (0..self.running.len() as u8).map(ReplicaId).collect()
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    pub(crate) async fn start(&mut self, replica: ReplicaId) {
        self.start_as(replica, Begin::Normally).await;
    }

    pub(crate) async fn start_as(&mut self, replica: ReplicaId, begin: Begin) {
        let place = replica.index();
        assert!(self.running[place].is_none(), "it runs already");
        let incarnation = Incarnation(1_000 + self.record().draw());
        let config = MembershipConfig {
            addresses: (0..self.running.len()).map(|place| format!("127.0.0.1:{place}")).collect(),
            me: replica,
            incarnation,
            min_in_sync: if self.running.len() < 3 { 1 } else { 2 },
            failure_timeout_ms: self.failure_timeout_ms,
            link_delay_us: 0,
            clock: self.clock,
            random: Random::system(),
            log: self.logs[place].medium(),
            store: self.record().stores[place],
            blank: self.blank[place],
            begin,
        };
        self.blank[place] = false;
        let (membership, events) = Membership::start(config).await.expect("a membership over memory starts");
        let handle = membership.handle().clone();
        {
            let mut record = self.record();
            record.handles[place] = Some((incarnation, handle.clone()));
            for (other, _) in record.handles.iter().enumerate().filter(|(other, up)| *other != place && up.is_some()) {
                handle.link_up(ReplicaId(other as u8));
            }
            for (_, (_, peer)) in others(&record, replica) {
                peer.link_up(replica);
            }
        }
        let router = tokio::spawn(route(replica, incarnation, self.clock, Arc::clone(&self.record), events));
        self.running[place] = Some(Running { membership, router, incarnation });
    }

    pub(crate) fn runs(&self, replica: ReplicaId) -> bool {
        self.running[replica.index()].is_some()
    }

    /// The process dies; nothing it says arrives any more.
    pub(crate) async fn kill(&mut self, replica: ReplicaId) {
        let Some(running) = self.running[replica.index()].take() else { return };
        running.router.abort();
        {
            let mut record = self.record();
            record.handles[replica.index()] = None;
            let now = self.clock.now();
            record.ended.push((running.incarnation, now));
            for (_, (_, peer)) in others(&record, replica) {
                peer.link_down(replica);
            }
        }
        running.membership.end().await;
    }

    /// Asks to be left out, as a stopping replica does.
    pub(crate) fn stop(&self, replica: ReplicaId) {
        let running = self.running[replica.index()].as_ref().expect("it runs");
        running.membership.handle().stop();
        let now = self.clock.now();
        self.record().ended.push((running.incarnation, now));
    }

    /// Waits as a stopping node does: until it is left out, and hands nothing over any more. How long it took, in ms.
    pub(crate) async fn until_it_may_go(&self, replica: ReplicaId) -> u64 {
        let running = self.running[replica.index()].as_ref().expect("it runs");
        let handle = running.membership.handle().clone();
        self.until("the replica may go", |record| {
            let is_out = record.newest().is_some_and(|view| view.incarnation_of(replica).is_none());
            is_out && !handle.status().hands_over
        })
        .await
    }

    /// The longest time from the end of a replica's last lease to the next one, in ms.
    pub(crate) fn longest_without_lease(&self, replica: ReplicaId) -> u64 {
        let record = self.record();
        let leases: Vec<_> = record.granted.iter().filter(|lease| lease.replica == replica).collect();
        let gaps = leases.windows(2).map(|pair| pair[1].at.nanos_since(pair[0].until) / MS);
        gaps.max().expect("there are leases")
    }

    /// The data folder is gone.
    pub(crate) fn wipe(&mut self, replica: ReplicaId) {
        assert!(self.running[replica.index()].is_none(), "it still runs");
        self.logs[replica.index()] = Kept::in_memory();
        self.blank[replica.index()] = true;
        let mut record = self.record();
        record.stores[replica.index()] = StoreId(record.draw());
    }

    /// Nothing comes through from one to the other.
    pub(crate) fn block(&self, from: ReplicaId, to: ReplicaId) {
        self.record().blocked.insert((from, to));
    }

    /// Nothing comes through between these two.
    pub(crate) fn cut(&self, one: ReplicaId, other: ReplicaId) {
        self.block(one, other);
        self.block(other, one);
    }

    /// Nothing comes through between this one and all others.
    pub(crate) fn isolate(&self, replica: ReplicaId) {
        self.all().into_iter().filter(|other| *other != replica).for_each(|other| self.cut(replica, other));
    }

    pub(crate) fn heal(&self) {
        self.record().blocked.clear();
    }

    pub(crate) fn controller(&self) -> Option<ReplicaId> {
        self.running.iter().flatten().find_map(|running| running.membership.handle().status().controller)
    }

    pub(crate) async fn sleep(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Waits for a condition; how long it took, in ms.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Record) -> bool) -> u64 {
        let start = self.clock.now();
        while !condition(&self.record()) {
            let waited = self.clock.now().nanos_since(start) / MS;
            assert!(waited < 30_000, "30 s without: {what}; the newest view is {:?}", self.record().newest());
            self.sleep(5).await;
        }
        self.clock.now().nanos_since(start) / MS
    }

    /// Waits until the newest view has exactly these in sync, in the processes that run now, and each of them knows it.
    pub(crate) async fn until_in_sync(&self, replicas: &[ReplicaId]) -> u64 {
        let wanted: ReplicaSet = replicas.iter().copied().collect();
        let what = format!("in sync are {wanted:?}");
        self.until(&what, |record| {
            let Some(newest) = record.newest().filter(|view| view.in_sync_set() == wanted) else { return false };
            newest.in_sync.iter().all(|member| {
                let runs = record.handles[member.replica.index()].as_ref().map(|(incarnation, _)| *incarnation);
                let last = record.seen.iter().rev().find(|seen| seen.incarnation == member.incarnation);
                runs == Some(member.incarnation) && last.is_some_and(|seen| seen.view.epoch == newest.epoch)
            })
        })
        .await
    }

    /// Waits until each of these is granted a lease that runs for a while from now.
    pub(crate) async fn until_leases(&self, replicas: &[ReplicaId]) -> u64 {
        let now = self.clock.now();
        self.until("leases", |record| {
            let granted = |replica: &ReplicaId| {
                record.granted.iter().any(|lease| lease.replica == *replica && lease.until > now.after_ms(100))
            };
            replicas.iter().all(granted)
        })
        .await
    }

    /// Checks what must hold of every run: one view an epoch, epochs that only grow, in-sync members that come from the view
    /// before or have joined, and nobody left out who could still read.
    pub(crate) fn check(&self) {
        let record = self.record();
        one_view_an_epoch(&record);
        epochs_grow_at_each_replica(&record);
        leases_end_before_exclusion(&record);
    }
}

fn others(record: &Record, replica: ReplicaId) -> impl Iterator<Item = (ReplicaId, &(Incarnation, Handle))> {
    let place = |(place, up): (usize, _)| (ReplicaId(place as u8), up);
    let up = record.handles.iter().enumerate().map(place);
    up.filter(move |(other, _)| *other != replica)
        .filter_map(|(other, up): (_, &Option<_>)| Some((other, up.as_ref()?)))
}

/// Carries what one replica says, and notes what it learns.
async fn route(
    me: ReplicaId,
    incarnation: Incarnation,
    clock: Clock,
    record: Arc<Mutex<Record>>,
    mut events: mpsc::Receiver<MembershipEvent>,
) {
    while let Some(event) = events.recv().await {
        let mut record = lock(&record);
        match event {
            MembershipEvent::Send { to, message } => {
                for to in to.iter().filter(|to| !record.blocked.contains(&(me, *to))) {
                    if let Some((_, handle)) = &record.handles[to.index()] {
                        let (way, handle, message) = (record.way, handle.clone(), message.clone());
                        let arrive = move || {
                            // A frame that is not taken is lost, as any may be.
                            let _lost = handle.on_message(me, incarnation, message);
                        };
                        if way.is_zero() {
                            arrive();
                        } else {
                            tokio::spawn(async move {
                                tokio::time::sleep(way).await;
                                arrive();
                            });
                        }
                    }
                }
            }
            MembershipEvent::View(view) => on_view(&mut record, me, incarnation, clock.now(), view),
            MembershipEvent::Lease { until } => {
                record.granted.push(Granted { replica: me, incarnation, at: clock.now(), until });
            }
            MembershipEvent::Waiting { whom } => record.waiting.push((me, whom)),
            MembershipEvent::Failed(error) => panic!("{me:?} failed: {error}"),
        }
    }
}

/// A joiner copies in no time.
fn on_view(record: &mut Record, me: ReplicaId, incarnation: Incarnation, at: Moment, view: View) {
    let joins = view.joining.iter().any(|member| member.replica == me && member.incarnation == incarnation);
    if joins && !record.slow.contains(me) {
        let store = StoreId(record.draw());
        record.stores[me.index()] = store;
        if let Some((_, handle)) = &record.handles[me.index()] {
            handle.synced(view.epoch, store);
        }
    }
    record.seen.push(Seen { replica: me, incarnation, at, view });
}

fn one_view_an_epoch(record: &Record) {
    for seen in &record.seen {
        let first = record.seen.iter().find(|other| other.view.epoch == seen.view.epoch);
        assert_eq!(first.map(|first| &first.view), Some(&seen.view), "two views of epoch {}", seen.view.epoch);
    }
}

fn epochs_grow_at_each_replica(record: &Record) {
    for (index, seen) in record.seen.iter().enumerate() {
        let before = record.seen[..index].iter().rev().find(|before| before.incarnation == seen.incarnation);
        let before = before.map_or(Epoch(0), |before| before.view.epoch);
        assert!(seen.view.epoch > before, "{:?} has epoch {} after {before}", seen.replica, seen.view.epoch);
    }
}

fn leases_end_before_exclusion(record: &Record) {
    // Each view where it was known first.
    let mut views: Vec<&Seen> = record.seen.iter().collect();
    views.sort_by_key(|seen| (seen.view.epoch, seen.at));
    views.dedup_by_key(|seen| seen.view.epoch);
    for lease in &record.granted {
        let ended = record.ended.iter().find(|(incarnation, _)| *incarnation == lease.incarnation);
        let reads_until = ended.map_or(lease.until, |(_, at)| lease.until.min(*at));
        let at_first =
            views.iter().rposition(|seen| seen.at <= lease.at).expect("there is no lease before the first view");
        for seen in views[at_first..].iter().take_while(|seen| seen.at < reads_until) {
            assert!(
                seen.view.in_sync.iter().any(|member| member.incarnation == lease.incarnation),
                "{lease:?}, and {:?} had view {:?} without it at {:?}",
                seen.replica,
                seen.view,
                seen.at
            );
        }
    }
}
