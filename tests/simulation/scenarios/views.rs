//! Views: recovery, suspicion, leaders that come and go, stops.

use crate::simulation::history::Reply;
use crate::simulation::scene::{MODES, at_each_step, scene};

#[test]
fn the_views_primary_dies_at_each_step_of_recovery() {
    at_each_step(&MODES, 5, |scene, step| {
        let notes = scene.notes(0, 3);
        let writes = [scene.put(2, notes[0]), scene.put(3, notes[1]), scene.post(4), scene.delete(3, notes[2])];
        scene.dies_after(0, 5);
        scene.until("0 is dead", |scene| !scene.is_up(0) || scene.world.nodes[0].open.is_empty());
        scene.run(1);
        if scene.is_up(0) {
            scene.crash(0);
        }
        scene.until("a view without 0", |scene| !scene.in_sync().contains(&0));
        scene.dies_after(1, step);
        scene.until("1 is ready, or dead", |scene| scene.serves(1) || !scene.is_up(1));
        let died = scene.has_died(1);
        writes.into_iter().for_each(|place| _ = scene.done(place));
        scene.end();
        died
    });
}

#[test]
fn a_member_dies_at_each_step_of_recovery() {
    at_each_step(&MODES, 5, |scene, step| {
        let notes = scene.notes(0, 3);
        let writes = [scene.put(3, notes[0]), scene.post(4), scene.delete(3, notes[2])];
        scene.run(1);
        scene.crash(0);
        scene.until("a view without 0", |scene| !scene.in_sync().contains(&0));
        scene.dies_after(2, step);
        scene.until("2 is ready, or dead", |scene| scene.serves(2) || !scene.is_up(2));
        let died = scene.has_died(2);
        writes.into_iter().for_each(|place| _ = scene.done(place));
        scene.end();
        died
    });
}

#[test]
fn a_partial_cut_with_mutual_suspicion_leaves_one_out_and_not_the_primary() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        let (one, other) = scene.who_do_not_lead();
        scene.cut(one, other);
        let put = scene.put(one, note);
        // The smaller one is the primary, or else comes first in config order.
        let stays: Vec<usize> = scene.others(other);
        scene.until_in_sync(&stays);
        assert_eq!(scene.view().primary.index(), 0);
        scene.done(put);
        scene.mend(one, other);
        scene.until_in_sync(&[0, 1, 2]);
        scene.end();
    });
}

#[test]
fn a_partial_cut_between_the_leader_and_another_leaves_one_out() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        let leader = scene.leader();
        let (other, both) = scene.who_do_not_lead();
        scene.cut(leader, other);
        let put = scene.put(both, note);
        scene.until("one is out", |scene| scene.in_sync().len() == 2);
        assert!(scene.in_sync().contains(&both), "nobody is cut off from {both}");
        scene.done(put);
        scene.mend(leader, other);
        scene.until_in_sync(&[0, 1, 2]);
        scene.end();
    });
}

#[test]
fn a_link_cut_one_way_leaves_one_out() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        scene.world.links[0][2].cut();
        let put = scene.put(1, note);
        // Which of the two depends on who leads: a leader that hears nothing of 0 takes it for dead.
        scene.until("one is out", |scene| scene.in_sync().len() == 2);
        assert!(scene.in_sync().contains(&1), "everybody hears 1, and 1 hears everybody");
        scene.done(put);
        scene.end();
    });
}

#[test]
fn who_flaps_waits_longer_each_time() {
    scene(&MODES, 3, |scene| {
        let mut waits = Vec::new();
        for _ in 0..3 {
            let (one, other) = scene.who_do_not_lead();
            scene.cut(one, other);
            scene.until("one is out", |scene| scene.in_sync().len() == 2);
            let left_out = scene.world.now;
            scene.mend(one, other);
            scene.until_in_sync(&[0, 1, 2]);
            waits.push(scene.world.now - left_out);
        }
        assert!(waits[1] > waits[0] * 3 / 2 && waits[2] > waits[1] * 3 / 2, "{waits:?}");
        scene.end();
    });
}

#[test]
fn a_stall_of_everything_leaves_nobody_out() {
    scene(&MODES, 3, |scene| {
        scene.run(1_000);
        let epoch = scene.view().epoch;
        (0..3).for_each(|node| scene.pause(node, 5_000));
        scene.run(8_000);
        assert_eq!(scene.view().epoch, epoch);
        scene.end();
    });
}

#[test]
fn a_leader_that_lost_its_majority_decides_and_grants_nothing() {
    scene(&MODES, 5, |scene| {
        let note = scene.note(0);
        let leader = scene.leader();
        let others = scene.others(leader);
        // It stays with one other.
        for far in &others[1..] {
            scene.cut(leader, *far);
            scene.cut(others[0], *far);
        }
        scene.until("a view of the three others", |scene| scene.in_sync() == others[1..]);
        let (get, put) = (scene.get(leader, note), scene.put(others[1], note));
        scene.done(put);
        assert_eq!(scene.answer(get), Reply::NoEffect);
        scene.end();
    });
}

#[test]
fn two_believe_that_they_lead() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        let leader = scene.leader();
        // Only the calls of its consensus library are lost: it goes on to believe that it leads.
        scene.world.nodes[leader].no_calls_until = scene.world.now + 2_000_000_000;
        scene.until("another leader", |scene| scene.leader() != leader);
        assert!(scene.world.leads(leader));
        let victim = scene.others(leader).into_iter().find(|node| *node != scene.leader()).expect("there are three");
        scene.crash(victim);
        let put = scene.put(leader, note);
        scene.done(put);
        scene.end();
    });
}

#[test]
fn the_leader_dies_while_its_proposal_is_under_way() {
    scene(&MODES, 5, |scene| {
        let note = scene.note(0);
        let leader = scene.leader();
        let victim = scene.others(leader)[3];
        scene.crash(victim);
        scene.until("a proposal", |scene| scene.world.group.is_deciding());
        scene.crash(leader);
        let put = scene.put(scene.others(leader)[1], note);
        scene.done(put);
        scene.end();
    });
}

#[test]
fn a_replica_that_stops_is_left_out_before_it_ends() {
    for stops in 0..4 {
        scene(&MODES, 4, |scene| {
            let note = scene.note(stops);
            let put = scene.put(stops, note);
            assert!(scene.world.ask_to_stop(stops));
            let began = scene.world.now;
            scene.until("it ends", |scene| !scene.is_up(stops));
            assert!(matches!(scene.reply(put), Reply::Done(_)), "it finishes what is under way");
            assert!(!scene.in_sync().contains(&stops), "and is left out");
            assert!(scene.world.now - began < 500_000_000, "long before anybody would miss it");
            let next = scene.put((stops + 1) % 4, note);
            scene.done(next);
            scene.end();
        });
    }
}

#[test]
fn all_stop_together_and_come_back() {
    scene(&MODES, 3, |scene| {
        let note = scene.note(0);
        (0..3).for_each(|node| assert!(scene.world.ask_to_stop(node)));
        scene.until("all have ended", |scene| (0..3).all(|node| !scene.is_up(node)));
        (0..3).for_each(|node| scene.start(node));
        scene.until_in_sync(&[0, 1, 2]);
        let get = scene.get(2, note);
        assert!(matches!(scene.answer(get), Reply::Found(..)));
        scene.end();
    });
}

#[test]
fn a_process_fails_with_its_disk_at_each_replica() {
    for victim in 0..3 {
        scene(&MODES, 3, |scene| {
            let note = scene.note(0);
            scene.world.nodes[victim].disk.fails = true;
            let put = scene.put((victim + 1) % 3, note);
            scene.until("its process has ended", |scene| !scene.is_up(victim));
            scene.done(put);
            scene.end();
        });
    }
}
