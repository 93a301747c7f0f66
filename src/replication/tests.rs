//! Golden traces: scripts of what happens to a few replicas, and every message and answer that comes of it.
//!
//! A script is a file in `traces/`. A line that begins with `>` is a command, and the lines under it are what the
//! replicas did: [`show`] says how they read. `UPDATE_TRACES=1 cargo test --lib replication` writes them anew; read the
//! diff before you commit it. [`script`] has the commands, [`cluster`] the links, disks and clock that they move, and
//! [`checks`] what must hold in every script, whatever its lines say.

mod checks;
mod cluster;
mod explore;
mod oracle;
mod parts;
mod script;
mod show;

use std::path::PathBuf;

/// One test for each script.
macro_rules! traces {
    ($($name:ident,)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*
    };
}

traces! {
    absurd_times,
    all_come_back,
    asker_gives_up_and_sends_on,
    asking_twice,
    backups_told_at_once,
    bad_choice,
    contacted_backup_learns,
    deadlines_local,
    deadlines_remote,
    delete_races_move,
    deposed_primary_commits,
    draining_queues_own,
    early_forward,
    early_messages,
    failure_waits_for_its_record,
    failures,
    first_view,
    forwarded_write,
    frames_that_are_refused,
    gone_before_its_commit,
    hand_over_lost,
    hand_over_survives,
    join,
    join_begins_anew_while_switching,
    join_cut_short,
    join_frames_that_are_refused,
    join_of_nothing,
    join_overtaken_by_deletion,
    join_waits_for_nothing,
    join_with_keys,
    keys_local,
    keys_pending,
    keys_remote,
    keys_survive,
    lease_over,
    left_out,
    left_out_local,
    list_of_deleted_notes,
    lists,
    move_behind_asking,
    move_chased,
    move_drains,
    move_to_the_writer,
    moved_write_fails,
    mover_gives_up,
    movers_in_order,
    moves_cross,
    no_such_note,
    old_epoch,
    pipelined_writes,
    plain_write_local,
    plain_write_remote,
    posts_everywhere,
    posts_everywhere_remote,
    primary_elsewhere_keeps_items,
    put_patch_delete_local,
    put_patch_delete_remote,
    read_sees_a_later_version,
    reads_across_a_view,
    reads_under_a_stream,
    reads_wait_at_backups,
    ready_decides_what_was_chosen,
    recover_reports_pending_keys,
    recovery_broken_twice,
    recovery_fetches,
    recovery_of_superseded_writes,
    seen_through_recovery,
    sequence_moves,
    slow_backup,
    slow_primary_disk,
    told_is_not_held,
    too_few_in_sync,
    update_numbers,
    view_during_a_move,
    view_without_the_primary,
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src", "replication", "traces"].iter().collect()
}

fn check(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    let found = script::run(name, &expected);
    if std::env::var_os("UPDATE_TRACES").is_some() {
        std::fs::write(&path, found).unwrap();
    } else if found != expected {
        let difference = difference(&expected, &found);
        panic!("the trace {name} has changed (- expected, + found; UPDATE_TRACES=1 accepts it):\n{difference}");
    }
}

/// The lines that differ, with the command that they are under.
fn difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (blocks(expected).into_iter(), blocks(found).into_iter());
    let mut text = String::new();
    loop {
        let (expected, found) = match (expected.next(), found.next()) {
            (None, None) => return text,
            (expected, found) => (expected.unwrap_or_default(), found.unwrap_or_default()),
        };
        if expected != found {
            let command = found.first().or(expected.first()).copied().unwrap_or_default();
            text.push_str(&format!("{command}\n"));
            expected.iter().skip(1).for_each(|line| text.push_str(&format!("- {line}\n")));
            found.iter().skip(1).for_each(|line| text.push_str(&format!("+ {line}\n")));
        }
    }
}

/// Each command with the lines under it.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let mut blocks = vec![vec![""]];
    for line in text.lines() {
        match blocks.last_mut() {
            Some(block) if !line.starts_with('>') => block.push(line),
            _ => blocks.push(vec![line]),
        }
    }
    blocks
}

#[test]
fn every_script_is_run() {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut files: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut names: Vec<String> = NAMES.iter().map(|name| format!("{name}.txt")).collect();
    names.sort();
    assert_eq!(files, names, "the folder of traces, and the list of tests");
}
