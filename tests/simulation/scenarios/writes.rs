//! Writes and reads while somebody dies, pauses or is cut off.

use crate::simulation::history::{Ask, Reply};
use crate::simulation::scene::{MODES, at_each_step, scene};

#[test]
fn who_takes_part_in_a_write_dies_at_each_step() {
    for victim in 0..3 {
        for contacted in [0, 1] {
            at_each_step(&MODES, 3, |scene, step| {
                let note = scene.note(0);
                scene.dies_after(victim, step);
                let put = scene.put(contacted, note);
                let answered = scene.answer(put);
                scene.run(20);
                // Who died may have been the one that would have answered.
                assert!(contacted == victim || matches!(answered, Reply::Done(_)), "{answered:?}");
                let died = scene.has_died(victim);
                scene.end();
                died
            });
        }
    }
}

#[test]
fn the_primary_dies_at_each_step_of_a_post() {
    at_each_step(&MODES, 3, |scene, step| {
        scene.dies_after(0, step);
        let posts = [scene.post(1), scene.post(2)];
        let [one, other] = posts.map(|place| scene.done(place));
        assert_ne!(one, other);
        scene.run(20);
        let died = scene.has_died(0);
        scene.end();
        died
    });
}

#[test]
fn the_primary_dies_at_each_step_of_a_deletion_and_the_note_is_written_meanwhile() {
    at_each_step(&MODES, 3, |scene, step| {
        let note = scene.note(0);
        scene.dies_after(0, step);
        let delete = scene.delete(1, note);
        let (put, get) = (scene.put(2, note), scene.get(2, note));
        scene.done(delete);
        let put = scene.answer(put);
        assert!(matches!(put, Reply::Done(_) | Reply::NotFound), "{put:?}");
        scene.answer(get);
        scene.run(20);
        let died = scene.has_died(0);
        scene.end();
        died
    });
}

#[test]
fn retries_with_one_key_at_two_replicas_at_once() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        for (key, ask) in [(1, Ask::Post((91, 0))), (2, Ask::Put(note, (92, 0))), (3, Ask::Delete(note))] {
            let places = [scene.send(1, ask, Some(key)), scene.send(2, ask, Some(key))];
            let replies = places.map(|place| scene.answer(place));
            assert_eq!(replies[0], replies[1]);
            assert!(matches!(replies[0], Reply::Done(_)), "{replies:?}");
        }
        scene.end();
    });
}

#[test]
fn retries_with_one_key_at_two_replicas_while_the_primary_dies_at_each_step() {
    at_each_step(&MODES, 3, |scene, step| {
        scene.dies_after(0, step);
        let ask = Ask::Post((91, 0));
        let places = [scene.send(1, ask, Some(1)), scene.send(2, ask, Some(1)), scene.send(0, ask, Some(1))];
        assert_eq!(scene.done(places[0]), scene.done(places[1]));
        scene.run(20);
        let died = scene.has_died(0);
        scene.end();
        died
    });
}

#[test]
fn a_removed_backup_with_readers() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        scene.isolate(2);
        for _ in 0..100 {
            scene.get(2, note);
            scene.put(0, note);
            scene.run(20);
        }
        scene.until_in_sync(&[0, 1]);
        let (get, put) = (scene.get(2, note), scene.put(0, note));
        scene.done(put);
        assert_eq!(scene.answer(get), Reply::NoEffect, "it has no lease");
        scene.end();
    });
}

#[test]
fn a_paused_primary_comes_back() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        let put = scene.put(0, note);
        scene.pause(0, 2_500);
        scene.until_in_sync(&[1, 2]);
        let put_elsewhere = scene.put(1, note);
        scene.done(put_elsewhere);
        // It wakes up in its old view, without a lease.
        let get = scene.get(0, note);
        scene.answer(put);
        scene.answer(get);
        scene.until_in_sync(&[0, 1, 2]);
        scene.end();
    });
}

#[test]
fn late_frames_of_an_old_epoch() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        [1, 2].into_iter().for_each(|backup| scene.hold(0, backup));
        let put = scene.put(0, note);
        scene.run(50);
        // Only its control links are cut, so it knows nothing of the view that leaves it out.
        scene.world.nodes[0].control_cuts += 1;
        scene.until_in_sync(&[1, 2]);
        let put_elsewhere = scene.put(1, note);
        scene.done(put_elsewhere);
        let stale = scene.world.counts.stale;
        [1, 2].into_iter().for_each(|backup| scene.release(0, backup));
        assert_eq!(scene.answer(put), Reply::Unknown);
        assert!(scene.world.counts.stale > stale, "its updates are refused with the newest view");
        scene.end();
    });
}

#[test]
fn late_frames_of_an_old_connection() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        [1, 2].into_iter().for_each(|backup| scene.hold(0, backup));
        scene.put(0, note);
        scene.run(50);
        scene.crash(0);
        scene.start(0);
        scene.until("0 joins", |scene| scene.is_joining(0));
        [1, 2].into_iter().for_each(|backup| scene.release(0, backup));
        scene.end();
    });
}
