//! The fuzz targets' seeds, through the same functions as in the fuzzer; and the same properties from proptest's inputs.

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, missing_docs, reason = "there it is a crate of its own")]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use proptest::prelude::*;
use targets::TARGETS;

fn seeds() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_seed_passes_its_target() {
    let mut failed = Vec::new();
    for (name, run) in TARGETS {
        let folder = seeds().join(name);
        let files = names_in(&folder);
        assert!(files.len() >= 3, "{name} has too few seeds");
        for file in files {
            let bytes = fs::read(folder.join(&file)).unwrap();
            if catch_unwind(|| run(&bytes)).is_err() {
                failed.push(format!("{name}/{file}"));
            }
        }
    }
    assert!(failed.is_empty(), "these fail: {failed:?}");
}

#[test]
fn every_target_has_its_file_and_its_folder() {
    let expected: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&seeds()), expected);
    let files = names_in(&seeds().parent().unwrap().join("fuzz_targets"));
    assert_eq!(files, expected.iter().map(|name| format!("{name}.rs")).collect());
}

/// JSON of a note or a patch, often one that is right.
fn members() -> impl Strategy<Value = String> {
    let text =
        prop_oneof![Just("null".to_owned()), any::<String>().prop_map(|text| serde_json::json!(text).to_string())];
    let member = (prop_oneof![Just("title"), Just("body")], text).prop_map(|(name, text)| format!("\"{name}\":{text}"));
    prop::collection::vec(member, 0..3).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_patch_does_what_rfc_7396_says(note in members(), patch in members()) {
        targets::merge_patch::run(format!("{note}\n{patch}").as_bytes());
    }

    #[test]
    fn a_damaged_journal_is_refused_or_read_as_it_was(script in prop::collection::vec(any::<u8>(), 0..64), edits in prop::collection::vec(any::<u8>(), 0..16)) {
        let data = [&[0, script.len() as u8], script.as_slice(), edits.as_slice()].concat();
        targets::journal::run(&data);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_read_as_it_was(script in prop::collection::vec(any::<u8>(), 40..96), edits in prop::collection::vec(any::<u8>(), 0..16)) {
        let data = [&[0, script.len() as u8], script.as_slice(), edits.as_slice()].concat();
        targets::snapshot::run(&data);
    }
}
