//! Whose folder it is: locked, and refused by name where it is somebody else's.

use super::super::format::{Header, Kind};
use super::*;
use crate::protocol::ids::ClusterId;

fn open_as(disk: &MemoryDisk, owner: &Owner) -> Result<Folder, StoreError> {
    Folder::open(Arc::new(disk.clone()), &path(), owner, StoreId(9), SMALL)
}

#[test]
fn a_second_process_is_refused_until_the_first_is_gone() {
    let disk = MemoryDisk::new();
    let first = open_folder(&disk).unwrap();
    let error = open_folder(&disk).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("/data/127.0.0.1:10000 is in use by another process"), "{error}");
    drop(first);
    open_folder(&disk).unwrap();
}

#[test]
fn another_replicas_folder_is_refused_by_name() {
    let disk = MemoryDisk::new();
    drop(open_folder(&disk).unwrap());
    let other = Owner { replica: "127.0.0.1:20000".into(), ..owner() };
    let said = open_as(&disk, &other).unwrap_err().to_string();
    assert!(said.contains("belongs to replica 127.0.0.1:10000, not to 127.0.0.1:20000"), "{said}");
}

#[test]
fn another_list_of_replicas_is_refused_with_three_ways_out() {
    let disk = MemoryDisk::new();
    drop(open_folder(&disk).unwrap());
    let mut other = owner();
    other.replicas.push("127.0.0.1:30000".into());
    let error = open_as(&disk, &other).unwrap_err();
    assert!(error.is_usage() && !error.is_damage());
    let said = error.to_string();
    for part in [
        "made for the replicas [127.0.0.1:10000, 127.0.0.1:20000]",
        "config.json says [127.0.0.1:10000, 127.0.0.1:20000, 127.0.0.1:30000]",
        "restore",
        "--data OTHER",
        "remove the folder",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let swapped = Owner { replicas: owner().replicas.into_iter().rev().collect(), ..owner() };
    assert!(open_as(&disk, &swapped).unwrap_err().is_usage(), "replicas are known by their places");
}

#[test]
fn a_folder_belongs_to_one_cluster_for_good() {
    let disk = MemoryDisk::new();
    let mut folder = open_folder(&disk).unwrap();
    assert_eq!(folder.cluster(), None);
    folder.bind(ClusterId(7)).unwrap();
    folder.bind(ClusterId(7)).unwrap();
    drop(folder);
    disk.cut_power(&mut || false);
    let mut folder = open_folder(&disk).unwrap();
    assert_eq!(folder.cluster(), Some(ClusterId(7)));
    let said = folder.bind(ClusterId(8)).unwrap_err().to_string();
    assert!(said.contains("0000000000000007") && said.contains("0000000000000008"), "{said}");
}

#[test]
fn files_of_another_store_are_refused() {
    let (ours, _) = written(1, 60);
    let theirs = MemoryDisk::new();
    drop(Folder::open(Arc::new(theirs.clone()), &path(), &owner(), StoreId(2), SMALL).unwrap());
    let mut driver = Driver::start(1, &theirs, false).unwrap();
    (0..60).for_each(|_| driver.step().unwrap());
    for kind in ["mark", "journal-", "snapshot-"] {
        let disk = ours.fork();
        disk.overwrite(&file(&disk, kind), &theirs.read(&file(&theirs, kind)).unwrap());
        let said = open(&disk).unwrap_err().to_string();
        assert!(said.contains("part of store 0000000000000002, not of 0000000000000001"), "{kind}: {said}");
    }
}

#[test]
fn a_damaged_store_set_aside_makes_room_for_an_empty_one() {
    let (disk, _) = written(1, 40);
    let journal = file(&disk, "journal-");
    disk.overwrite(&journal, b"rubbish");
    let mut folder = open_folder(&disk).unwrap();
    assert!(folder.load().unwrap_err().is_damage());
    let aside = folder.set_aside(StoreId(5)).unwrap();
    assert_eq!(aside, path().join("records-0000000000000001.damaged"));
    assert_eq!(folder.store(), StoreId(5));
    let (loaded, _) = folder.load().unwrap();
    assert!(loaded.records.is_empty() && loaded.keys.is_empty());
    drop(folder);
    disk.cut_power(&mut || false);
    assert_eq!(open_folder(&disk).unwrap().store(), StoreId(5));
    assert_eq!(disk.read(&aside.join(journal.file_name().unwrap())).unwrap(), b"rubbish", "what was damaged is kept");
}

#[test]
fn a_store_whose_folder_is_gone_can_be_set_aside_too() {
    let (disk, _) = written(1, 5);
    disk.files().iter().filter(|path| !path.ends_with("identity")).for_each(|path| disk.lose(path));
    let mut folder = open_folder(&disk).unwrap();
    assert!(folder.load().unwrap_err().is_damage());
    folder.set_aside(StoreId(5)).unwrap();
    folder.load().unwrap();
}

#[test]
fn other_versions_are_refused_and_say_so() {
    let (disk, _) = written(1, 5);
    let mark = file(&disk, "mark");
    let mut bytes = Header { kind: Kind::Mark, store: 1, number: 1, sequence: 1 }.encode();
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..36]);
    bytes[36..].copy_from_slice(&checksum.to_le_bytes());
    disk.overwrite(&mark, &bytes);
    let said = open(&disk).unwrap_err().to_string();
    assert!(said.contains("format version 2, and this program reads version 1"), "{said}");

    let identity = path().join("identity");
    let text = String::from_utf8(disk.read(&identity).unwrap()).unwrap();
    let json = text.lines().next().unwrap().replace("\"format\":1", "\"format\":3");
    let checksum = crc32c::crc32c(json.as_bytes());
    disk.overwrite(&identity, format!("{json}\n{checksum:08x}\n").as_bytes());
    let said = open(&disk).unwrap_err().to_string();
    assert!(said.contains("identity has format version 3"), "{said}");
}
