//! Notes that move, in local-write.

use primacy::config::Mode;

use crate::simulation::history::Reply;
use crate::simulation::scene::{at_each_step, scene};

const LOCAL: [Mode; 1] = [Mode::LocalWrite];

#[test]
fn the_mover_or_the_old_owner_dies_at_each_step_of_a_move() {
    for victim in [0, 1] {
        at_each_step(&LOCAL, 3, |scene, step| {
            let note = scene.note(0);
            scene.dies_after(victim, step);
            let (own, moving, other) = (scene.put(0, note), scene.put(1, note), scene.put(2, note));
            [own, moving, other].into_iter().for_each(|place| _ = scene.answer(place));
            scene.run(20);
            assert!(matches!(scene.reply(other), Reply::Done(_)), "{:?}", scene.reply(other));
            let died = scene.has_died(victim);
            scene.end();
            died
        });
    }
}

#[test]
fn the_id_sequence_moves_and_who_moves_it_dies_at_each_step() {
    for victim in [0, 1] {
        at_each_step(&LOCAL, 3, |scene, step| {
            scene.notes(0, 2);
            scene.dies_after(victim, step);
            let (moving, other) = (scene.post(1), scene.post(2));
            scene.answer(moving);
            scene.done(other);
            scene.run(20);
            let died = scene.has_died(victim);
            scene.end();
            died
        });
    }
}

#[test]
fn a_move_crosses_a_view_change() {
    for held in [(0, 1), (1, 0)] {
        scene(&LOCAL, 3, |scene| {
            let note = scene.note(0);
            scene.hold(held.0, held.1);
            let put = scene.put(1, note);
            scene.run(50);
            assert_eq!(*scene.reply(put), Reply::Open, "`move`, or its answer, is on its way");
            scene.crash(2);
            scene.until_in_sync(&[0, 1]);
            scene.release(held.0, held.1);
            scene.done(put);
            scene.end();
        });
    }
}

#[test]
fn two_replicas_move_one_note() {
    scene(&LOCAL, 3, |scene| {
        let note = scene.note(0);
        for _ in 0..20 {
            let places = [scene.put(1, note), scene.put(2, note), scene.put(1, note)];
            scene.get(0, note);
            places.into_iter().for_each(|place| _ = scene.done(place));
        }
        assert!(scene.world.counts.moves > 20);
        scene.end();
    });
}

#[test]
fn a_note_is_deleted_while_two_replicas_move_it() {
    scene(&LOCAL, 3, |scene| {
        let note = scene.note(0);
        let places = [scene.put(1, note), scene.delete(2, note), scene.put(1, note), scene.put(0, note)];
        scene.done(places[1]);
        for place in places {
            let reply = scene.answer(place);
            assert!(matches!(reply, Reply::Done(_) | Reply::NotFound), "{reply:?}");
        }
        scene.end();
    });
}
