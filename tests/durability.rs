//! What is on disk after a process was killed, and what happens with folders that are full, foreign, damaged or in use.

mod cluster;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::{Cluster, Process, try_http, wait_for};

const QUICK: &str = r#","failure_timeout_ms":250,"log":"off""#;

/// How often a process is killed under load.
const KILLS: u64 = 20;

/// What clients were told: each note's last acknowledged title, and titles whose fate they do not know.
#[derive(Default)]
struct Promised {
    notes: BTreeMap<u64, String>,
    unknown: Vec<(Option<u64>, String)>,
}

/// Writes at a replica until told to stop; what it was told goes into `promised`. Each client has notes of its own.
fn write_until(cluster: &Cluster, client: u64, round: u64, stop: &AtomicBool, promised: &Mutex<Promised>) {
    let mut mine = None;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let title = format!("{round}-{client}-{n}");
        let body = format!(r#"{{"title":"{title}","body":""}}"#);
        let service = cluster.service((client % 3) as usize);
        let answer = match mine {
            None => try_http(&service, "POST", "/note", &[], &body),
            Some(id) => try_http(&service, "PUT", &format!("/note/{id}"), &[], &body),
        };
        let mut promised = promised.lock().expect("no writer panics");
        match answer {
            Ok(answer) if answer.status < 300 => {
                let id = mine.or_else(|| answer.json()["id"].as_u64()).expect("a POST gives an id");
                promised.notes.insert(id, title);
                mine = if n % 3 == 2 { None } else { Some(id) };
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            // The connection broke: nobody knows what became of the write.
            Err(_) => promised.unknown.push((mine, title)),
        }
    }
}

/// Every acknowledged write is there, or one that followed it and whose answer was lost; and nothing that nobody wrote.
fn check(cluster: &Cluster, promised: &Promised) {
    let list = cluster.http(0, "GET", "/note", "").json();
    let notes: BTreeMap<u64, String> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|note| (note["id"].as_u64().expect("an id"), note["title"].as_str().expect("a title").to_owned()))
        .collect();
    let unknown = |id: Option<u64>, title: &str| promised.unknown.iter().any(|(of, it)| *of == id && it == title);
    for (id, title) in &promised.notes {
        let found = notes.get(id).unwrap_or_else(|| panic!("note {id} was acknowledged and is lost"));
        assert!(found == title || unknown(Some(*id), found), "note {id} was acknowledged as {title} and is {found}");
    }
    for (id, title) in &notes {
        assert!(promised.notes.contains_key(id) || unknown(None, title), "nobody wrote note {id}, {title}");
    }
    let next = notes.keys().copied().max().unwrap_or(0);
    assert_eq!(notes.keys().copied().collect::<Vec<_>>(), (1..=next).collect::<Vec<_>>(), "no half of a POST");
}

#[test]
fn twenty_kills_under_load_lose_nothing_that_was_acknowledged() {
    for (mode, rounds) in [("remote-write", 0..KILLS / 2), ("local-write", KILLS / 2..KILLS)] {
        let mut cluster = Cluster::configure(mode, 3, QUICK);
        let mut running = cluster.spawn(&[]);
        let promised = Mutex::new(Promised::default());
        for round in rounds {
            cluster.wait_ready();
            let mut victim = cluster.take(running);
            let stop = AtomicBool::new(false);
            let begun = promised.lock().expect("no writer panics").notes.len();
            std::thread::scope(|scope| {
                for client in 0..4 {
                    let (cluster, stop, promised) = (&cluster, &stop, &promised);
                    scope.spawn(move || write_until(cluster, client, round, stop, promised));
                }
                // A few more each round, so that the kills hit the store in different states.
                let enough = begun + 5 + 3 * (round as usize % 7);
                wait_for("writes", || promised.lock().expect("no writer panics").notes.len() > enough);
                victim.kill();
                stop.store(true, Ordering::Relaxed);
            });
            running = cluster.spawn(&[]);
            cluster.wait_ready();
            check(&cluster, &promised.lock().expect("no writer panics"));
        }
    }
}

fn post(cluster: &Cluster, place: usize, title: &str) {
    let answer = cluster.http(place, "POST", "/note", &format!(r#"{{"title":"{title}","body":""}}"#));
    assert_eq!(answer.status, 201, "{answer:?}");
}

fn list(cluster: &Cluster, place: usize) -> String {
    cluster.http(place, "GET", "/note", "").body
}

#[test]
fn a_start_serves_what_the_last_one_did_in_the_other_mode_too_and_an_empty_folder_nothing() {
    let mut cluster = Cluster::start("remote-write", 4, QUICK);
    (0..4).for_each(|place| post(&cluster, place, "kept"));
    let before = list(&cluster, 0);
    cluster.process(0).signal("INT");
    assert_eq!(cluster.process(0).wait(), 0);
    let running = cluster.spawn(&["--sync", "local-write"]);
    cluster.wait_ready();
    assert_eq!(list(&cluster, 3), before);
    post(&cluster, 2, "in the other mode");
    cluster.process(running).signal("INT");
    assert_eq!(cluster.process(running).wait(), 0);
    fs::remove_dir_all(cluster.folder.path().join("data")).expect("the data folder is removed");
    cluster.spawn(&[]);
    cluster.wait_ready();
    assert_eq!(list(&cluster, 1), "{\"res\":200,\"data\":[]}\n");
}

/// Starts the cluster's binary, which must refuse: its exit code and what it says.
fn refused(cluster: &Cluster, arguments: &[&str]) -> (i32, String) {
    let mut process = Process::spawn(cluster.folder.path(), arguments);
    let code = process.wait();
    let mut said = String::new();
    wait_for("the reason on stderr", || {
        said = process.err().join("\n");
        !said.is_empty()
    });
    (code, said)
}

/// A cluster whose folders exist, stopped.
fn stopped(replicas: usize) -> Cluster {
    let mut cluster = Cluster::start("remote-write", replicas, QUICK);
    post(&cluster, 0, "kept");
    cluster.process(0).signal("INT");
    assert_eq!(cluster.process(0).wait(), 0);
    cluster
}

fn folder_of(cluster: &Cluster, place: usize) -> PathBuf {
    cluster.folder.path().join("data").join(&cluster.replicas[place])
}

#[test]
fn another_list_of_replicas_is_refused_with_the_ways_out() {
    let cluster = stopped(3);
    let others = format!("{},{}", cluster.replicas[0], cluster.replicas[1]);
    let (code, said) = refused(&cluster, &["--replicas", &others]);
    assert_eq!(code, 2, "{said}");
    for part in ["was made for the replicas", &cluster.replicas[2], "config.json", "--data OTHER", "remove the folder"]
    {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn a_swapped_folder_is_refused_by_name() {
    let cluster = stopped(3);
    let [first, second, aside] = [folder_of(&cluster, 0), folder_of(&cluster, 1), cluster.folder.path().join("aside")];
    fs::rename(&first, &aside).expect("moved");
    fs::rename(&second, &first).expect("moved");
    fs::rename(&aside, &second).expect("moved");
    let (code, said) = refused(&cluster, &["replica", &cluster.replicas[0]]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("belongs to replica {}", cluster.replicas[1])), "{said}");
}

#[test]
fn a_second_process_on_a_folder_is_refused() {
    let cluster = Cluster::start("remote-write", 3, QUICK);
    // Another address to listen on, so that only the folder stands in the way.
    let (code, said) = refused(&cluster, &["replica", &cluster.replicas[0], "--listen", "127.0.0.99"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("in use by another process") && said.contains("--data"), "{said}");
}

/// Flips a byte in the middle of the first segment of a replica's record store.
fn damage(folder: &Path) {
    let store = fs::read_dir(folder)
        .expect("the folder is there")
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("records-"))
        .expect("a record store");
    let segment = store.path().join("journal-0000000001");
    let mut bytes = fs::read(&segment).expect("a first segment");
    // Behind the header of the file, in its first frame.
    bytes[50] ^= 0x40;
    fs::write(&segment, bytes).expect("the damage is done");
}

#[test]
fn a_damaged_store_is_refused_alone_and_copied_anew_where_others_have_the_notes() {
    let cluster = stopped(1);
    damage(&folder_of(&cluster, 0));
    let (code, said) = refused(&cluster, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("journal-0000000001 is damaged at byte"), "{said}");

    let mut cluster = Cluster::configure("remote-write", 3, QUICK);
    for place in 0..3 {
        cluster.spawn_replica(place);
    }
    cluster.wait_ready();
    (0..10).for_each(|n| post(&cluster, n % 3, "kept"));
    cluster.process(1).kill();
    damage(&folder_of(&cluster, 1));
    cluster.spawn_replica(1);
    cluster.wait_ready_at(1);
    assert_eq!(list(&cluster, 1), list(&cluster, 0));
    let aside = fs::read_dir(folder_of(&cluster, 1)).expect("the folder is there").filter_map(Result::ok);
    assert!(
        aside.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".damaged")),
        "it is kept aside"
    );
}

/// A small file system of its own; none where this user may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path, mib: u32) -> Option<SmallDisk> {
        fs::create_dir_all(path).ok()?;
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status().ok()?;
        mounted.success().then(|| SmallDisk(path.to_owned()))
    }

    fn resize(&self, options: &str) {
        let remount = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &remount]).arg(&self.0).status().expect("mount runs");
        assert!(done.success(), "the file system takes {options}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_the_process_and_loses_nothing_acknowledged() {
    let mut cluster = Cluster::configure("remote-write", 1, QUICK);
    let data = cluster.folder.path().join("data");
    let Some(disk) = SmallDisk::mount(&data, 24) else {
        return println!("skipped: this user may not mount a file system");
    };
    cluster.spawn(&[]);
    cluster.wait_ready();
    let body = format!(r#"{{"title":"large","body":"{}"}}"#, "x".repeat(100_000));
    let service = cluster.service(0);
    let mut acknowledged = 0;
    wait_for("the disk to be full", || {
        let answer = try_http(&service, "POST", "/note", &[], &body);
        acknowledged += u64::from(answer.as_ref().is_ok_and(|answer| answer.status == 201));
        answer.is_err()
    });
    assert_eq!(cluster.process(0).wait(), 1, "{}", cluster.printed());
    let said = cluster.process(0).err().join("\n");
    assert!(said.contains("data") && said.to_lowercase().contains("space"), "it names place and cause: {said}");
    disk.resize("size=200m");
    cluster.spawn(&[]);
    cluster.wait_ready();
    let held = cluster.http(0, "GET", "/status", "").json()["notes"].as_u64().expect("a count");
    assert!(held >= acknowledged, "{held} of {acknowledged} acknowledged notes are there");
}

#[test]
fn a_read_only_folder_is_refused_with_path_and_cause() {
    let cluster = Cluster::configure("remote-write", 1, QUICK);
    let data = cluster.folder.path().join("data");
    let Some(disk) = SmallDisk::mount(&data, 24) else {
        return println!("skipped: this user may not mount a file system");
    };
    disk.resize("ro");
    let (code, said) = refused(&cluster, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("data") && said.to_lowercase().contains("read-only"), "{said}");
}
