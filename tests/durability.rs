//! What a start finds on disk, and what happens with folders that are full, foreign, damaged or in use.

mod cluster;
mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::{Cluster, Process, try_http, wait_for};
use skip::skip;

const QUICK: &str = r#","failure_timeout_ms":500,"log":"off""#;

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

fn is_set_aside(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).expect("the folder is there").filter_map(Result::ok);
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".damaged"))
}

#[test]
fn a_damaged_store_is_copied_anew_where_others_have_the_notes() {
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
    assert!(is_set_aside(&folder_of(&cluster, 1)), "it is kept aside");
}

#[test]
fn in_one_process_too_a_damaged_store_is_copied_from_the_others() {
    let mut cluster = stopped(3);
    damage(&folder_of(&cluster, 2));
    cluster.spawn(&[]);
    cluster.wait_ready();
    assert!(list(&cluster, 2).contains("kept"), "{}", list(&cluster, 2));
    assert!(is_set_aside(&folder_of(&cluster, 2)), "it is kept aside");
}

/// Where nobody has a sound store, nothing is set aside: the message says which file, where in it, and what can be done.
#[test]
fn stores_that_are_all_damaged_are_refused_and_left_as_they_are() {
    let cluster = stopped(3);
    (0..3).for_each(|place| damage(&folder_of(&cluster, place)));
    let (code, said) = refused(&cluster, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("journal-0000000001 is damaged at byte") && said.contains("backup"), "{said}");
    // The same in a process each: the others listen, and each asks the others.
    let arguments = cluster.replicas.iter().map(|replica| ["replica".to_owned(), replica.clone()]);
    let mut processes: Vec<Process> = arguments
        .map(|arguments| Process::spawn(cluster.folder.path(), &arguments.each_ref().map(String::as_str)))
        .collect();
    for process in &mut processes {
        assert_eq!(process.wait(), 1, "{:?}", process.err());
    }
    assert!((0..3).all(|place| !is_set_aside(&folder_of(&cluster, place))), "nothing was set aside");
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
        return skip("this user may not mount a file system");
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
        return skip("this user may not mount a file system");
    };
    disk.resize("ro");
    let (code, said) = refused(&cluster, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("data") && said.to_lowercase().contains("read-only"), "{said}");
}
