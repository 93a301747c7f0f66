//! Replicas that come back: by a copy, or with the store that all is left of.

use crate::simulation::history::{Ask, Reply};
use crate::simulation::scene::{MODES, Scene, at_each_step, scene, scene_with};

/// One replica is down, and has missed changes and deletions.
fn one_has_missed_something(scene: &mut Scene, replica: usize) {
    let notes = scene.notes(0, 6);
    scene.crash(replica);
    let others = scene.others(replica);
    scene.until_in_sync(&others);
    let (put, delete) = (scene.put(0, notes[1]), scene.delete(1, notes[2]));
    scene.done(put);
    scene.done(delete);
}

#[test]
fn a_joiner_is_killed_at_each_step() {
    at_each_step(&MODES, 3, |scene, step| {
        one_has_missed_something(scene, 2);
        scene.start(2);
        scene.dies_after(2, step);
        let post = scene.post(1);
        scene.until("2 is in sync, or dead", |scene| scene.in_sync().len() == 3 || !scene.is_up(2));
        scene.run(20);
        let died = scene.has_died(2);
        scene.done(post);
        scene.end();
        died
    });
}

#[test]
fn the_primary_is_killed_at_each_step_of_a_copy() {
    at_each_step(&MODES, 4, |scene, step| {
        one_has_missed_something(scene, 3);
        scene.start(3);
        scene.until("3 joins", |scene| scene.is_joining(3));
        scene.dies_after(0, step);
        // What is pending at the primary must not be copied.
        let put = scene.put(1, primacy::note::NoteId(1));
        scene.until("3 is in sync, or 0 dead", |scene| scene.in_sync().len() == 4 || !scene.is_up(0));
        scene.run(20);
        let died = scene.has_died(0);
        scene.done(put);
        scene.end();
        died
    });
}

#[test]
fn notes_are_deleted_during_a_copy() {
    scene(&MODES, 3, |scene| {
        let notes = scene.notes(0, 40);
        scene.crash(2);
        scene.until_in_sync(&[0, 1]);
        scene.start(2);
        scene.until("2 joins", |scene| scene.is_joining(2));
        for (place, note) in notes.iter().enumerate() {
            scene.delete(place % 2, *note);
            scene.put(1 - place % 2, *note);
            if place % 4 == 0 {
                scene.run(1);
            }
        }
        scene.until_in_sync(&[0, 1, 2]);
        scene.end();
    });
}

#[test]
fn notes_and_keys_of_several_chunks_are_copied_while_notes_are_deleted() {
    scene_with(&[0], &MODES, 3, |scene| {
        // A chunk of a copy has 1,000 notes, or 1,000 keys.
        let posts: Vec<_> = (0..1_100).map(|n| scene.send(0, Ask::Post((100_000 + n, 0)), Some(100_000 + n))).collect();
        let notes: Vec<_> = posts.into_iter().map(|place| scene.done(place)).collect();
        scene.crash(2);
        scene.until_in_sync(&[0, 1]);
        scene.start(2);
        scene.until("2 joins", |scene| scene.is_joining(2));
        for note in notes.iter().step_by(40) {
            scene.delete(1, *note);
            scene.run(1);
        }
        scene.until_in_sync(&[0, 1, 2]);
        scene.end();
    });
}

#[test]
fn a_view_cuts_a_copy_short_and_notes_are_deleted_before_the_next() {
    scene(&MODES, 4, |scene| {
        let notes = scene.notes(0, 20);
        scene.crash(3);
        scene.until_in_sync(&[0, 1, 2]);
        scene.start(3);
        scene.until("3 joins", |scene| scene.is_joining(3));
        // It gets some of the copy, and nothing that says it counts.
        scene.run(3);
        scene.hold(0, 3);
        scene.crash(2);
        scene.until("a view without 2", |scene| !scene.in_sync().contains(&2));
        notes.iter().for_each(|note| _ = scene.delete(1, *note));
        scene.release(0, 3);
        scene.until("3 in sync", |scene| scene.in_sync() == [0, 1, 3]);
        scene.end();
    });
}

#[test]
fn a_stale_store_from_before_its_removal_comes_up_alone() {
    scene(&MODES, 3, |scene| {
        one_has_missed_something(scene, 2);
        scene.crash(0);
        scene.crash(1);
        scene.start(2);
        scene.run(3_000);
        assert_eq!(scene.in_sync(), [0, 1], "2 is no majority");
        scene.start(1);
        scene.until("1 alone", |scene| scene.in_sync() == [1]);
        scene.until_in_sync(&[1, 2]);
        scene.end();
    });
}

#[test]
fn all_die_and_come_up_in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for pause in [50, 1_500] {
            scene(&MODES, 3, |scene| {
                let notes = scene.notes(0, 3);
                let (put, post) = (scene.put(1, notes[0]), scene.post(2));
                scene.run(2);
                (0..3).for_each(|node| scene.crash(node));
                for node in order {
                    scene.start(node);
                    scene.run(pause);
                }
                scene.until_in_sync(&[0, 1, 2]);
                assert!(matches!(scene.reply(put), Reply::Unknown | Reply::Done(_)));
                assert!(matches!(scene.reply(post), Reply::Unknown | Reply::Done(_)));
                scene.end();
            });
        }
    }
}

#[test]
fn a_disk_lies_once() {
    for liar in 0..3 {
        scene(&MODES, 3, |scene| {
            let notes = scene.notes(0, 3);
            scene.world.nodes[liar].disk.lie();
            let put = scene.put(1, notes[0]);
            let delete = scene.delete(2, notes[1]);
            scene.done(put);
            scene.done(delete);
            assert!(scene.world.nodes[liar].disk.lies(), "a crash loses what it acknowledged");
            scene.crash(liar);
            scene.start(liar);
            scene.until("a joiner", |scene| scene.is_joining(liar));
            scene.until_in_sync(&[0, 1, 2]);
            scene.end();
        });
    }
}

#[test]
fn a_damaged_store_is_set_aside_and_copied_anew() {
    scene(&MODES, 3, |scene| {
        scene.notes(0, 3);
        scene.crash(0);
        scene.world.nodes[0].disk.damaged = true;
        scene.start(0);
        assert!(scene.world.nodes[0].disk.store.records.is_empty());
        scene.until_in_sync(&[0, 1, 2]);
        scene.end();
    });
}

#[test]
fn a_wiped_disk_is_not_taken_for_the_last_store() {
    scene(&MODES, 3, |scene| {
        let notes = scene.notes(0, 3);
        scene.crash(2);
        scene.until_in_sync(&[0, 1]);
        scene.crash(1);
        let store = scene.world.nodes[0].disk.id;
        scene.crash(0);
        scene.world.wipe_disk(1);
        scene.start(1);
        scene.start(2);
        scene.run(3_000);
        assert_eq!(scene.in_sync(), [0, 1], "neither has the store of 0");
        scene.start(0);
        scene.until("0 alone", |scene| scene.in_sync() == [0]);
        assert_eq!(scene.view().in_sync[0].store, store);
        scene.until_in_sync(&[0, 1, 2]);
        let get = scene.get(1, notes[0]);
        assert!(matches!(scene.answer(get), Reply::Found(..)));
        scene.end();
    });
}
