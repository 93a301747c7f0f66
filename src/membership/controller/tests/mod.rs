//! One scene per rule.

mod scene;

use scene::*;

use super::*;
use crate::protocol::ids::{ConsensusId, ReplicaSet, StoreId};

#[test]
fn j4_the_first_view_has_all_in_sync_and_the_first_in_config_order_as_primary() {
    let mut scene = Scene::new(4);
    scene.elect();
    scene.kill(&[D]);
    scene.run(500);
    assert_eq!(scene.controller.view(), None, "D was not heard yet");
    scene.peer(D).alive = true;
    let took = scene.run_until("a view", |scene| scene.controller.view().is_some());
    assert!(took <= 100, "one heartbeat of D is enough; it took {took} ms");
    assert_eq!((scene.view().epoch, scene.view().primary), (Epoch(1), A));
    assert_eq!(scene.in_sync(), [A, B, C, D]);
}

#[test]
fn j4_the_first_view_waits_one_failure_timeout_for_who_founded_and_is_gone() {
    let mut scene = Scene::new(3);
    scene.kill(&[C]);
    scene.elect();
    let took = scene.run_until("a view", |scene| scene.controller.view().is_some());
    assert!((1_000..1_200).contains(&took), "{took}");
    assert_eq!(scene.in_sync(), [A, B]);
}

#[test]
fn j4_a_store_that_holds_records_is_not_taken_for_an_empty_one() {
    let mut scene = Scene::new(3);
    scene.peer(B).blank = false;
    scene.elect();
    scene.run_until("a view", |scene| scene.controller.view().is_some());
    assert_eq!(scene.in_sync(), [A, C]);
}

#[test]
fn j5_a_cluster_begun_by_force_has_its_replica_alone_in_an_epoch_of_its_own() {
    let mut scene = Scene::new(3);
    scene.controller.setup.forced_after = Some(Epoch(41));
    scene.peers.iter_mut().for_each(|peer| peer.blank = false);
    scene.elect();
    scene.run_until("a view", |scene| scene.controller.view().is_some());
    assert_eq!(scene.proposed[0].1.epoch, Epoch(42));
    assert_eq!(scene.proposed[0].1.in_sync.iter().map(|member| member.replica).collect::<Vec<_>>(), [A]);
    scene.run(1_000);
    assert_eq!(scene.joining(), [B, C], "the others join it");
}

#[test]
fn v1_nothing_is_decided_before_an_entry_of_the_own_term_is_applied() {
    let mut scene = Scene::new(3);
    scene.elect_without_entry();
    scene.run(3_000);
    assert_eq!((&scene.proposed, &scene.granted), (&vec![], &vec![]), "and no lease is granted");
    assert!(scene.confirms >= 29, "but the voters hear of their leader: {} times", scene.confirms);
}

#[test]
fn v1_an_entry_that_could_not_be_appended_is_tried_again_and_late_answers_mean_nothing() {
    let mut scene = Scene::new(3);
    scene.elect_without_entry();
    let first = scene.establishing;
    scene.event(Event::Established { number: first, applied: false });
    scene.run(300);
    let second = scene.establishing;
    assert_ne!(second, first);
    scene.event(Event::Established { number: first, applied: true });
    scene.run(300);
    assert_eq!(scene.proposed, [], "that answer was to the first");
    scene.event(Event::Established { number: second, applied: true });
    assert_eq!(scene.proposed.len(), 1);
}

#[test]
fn v1_a_leader_that_no_majority_answers_proposes_nothing() {
    let mut scene = Scene::serving(3);
    scene.answered = false;
    scene.kill(&[B, C]);
    scene.run(5_000);
    assert_eq!(scene.proposed, [], "a view of A alone could be agreed by whoever leads next");
    scene.answered = true;
    let number = scene.round;
    scene.event(Event::Confirmed { number, leads: true });
    scene.run(200);
    assert_eq!(scene.in_sync(), [A]);
}

#[test]
fn v1_one_decision_at_a_time() {
    let mut scene = Scene::serving(4);
    scene.majority = false;
    scene.kill(&[B]);
    scene.run(1_500);
    scene.kill(&[C]);
    scene.run(3_000);
    assert_eq!(scene.proposed.len(), 1, "the first is still under way: {:?}", scene.proposed);
    scene.majority = true;
    let number = scene.proposal;
    scene.event(Event::Decided { number });
    assert_eq!(scene.in_sync(), [A, D], "the next decision is made from all that is known then");
}

#[test]
fn v1_a_dead_backup_is_left_out_after_the_failure_timeout() {
    let mut scene = Scene::serving(3);
    scene.kill(&[C]);
    let took = scene.run_until("a view without C", |scene| scene.in_sync() == [A, B]);
    assert!((900..=1_100).contains(&took), "{took}");
    assert_eq!((scene.view().primary, scene.view().epoch), (A, Epoch(2)));
}

#[test]
fn v1_the_first_in_sync_in_config_order_follows_a_dead_primary() {
    let mut scene = Scene::serving(4);
    scene.kill(&[A]);
    scene.run_until("a view without A", |scene| scene.in_sync() == [B, C, D]);
    assert_eq!(scene.view().primary, B);
}

#[test]
fn v1_a_primary_that_stays_is_kept() {
    let mut scene = Scene::serving(3);
    scene.kill(&[A]);
    scene.run_until("a view without A", |scene| scene.in_sync() == [B, C]);
    scene.restart(A);
    scene.run_until("A joining", |scene| scene.joining() == [A]);
    scene.sync(A);
    scene.run_until("A in sync", |scene| scene.in_sync() == [A, B, C]);
    assert_eq!(scene.view().primary, B, "A is first in config order, and does not take over again");
}

#[test]
fn v1_a_replica_joins_once_it_has_links_both_ways_with_every_member() {
    let mut scene = Scene::serving(3);
    scene.restart(C);
    scene.peer(C).hears = set(&[A]);
    scene.run(500);
    assert_eq!((scene.in_sync(), scene.joining()), (vec![A, B], vec![]), "it does not hear B");
    scene.peer(C).hears = set(&[A, B]);
    scene.peer(B).hears = set(&[A]);
    scene.run(500);
    assert_eq!(scene.joining(), [], "B does not hear it");
    scene.peer(B).hears = set(&[A, C]);
    scene.run(300);
    assert_eq!(scene.joining(), [C]);
}

#[test]
fn v1_several_replicas_join_by_one_view() {
    let mut scene = Scene::serving(4);
    scene.kill(&[C, D]);
    scene.run_until("a view without them", |scene| scene.in_sync() == [A, B]);
    scene.restart(C);
    scene.restart(D);
    scene.now = scene.now.next_multiple_of(100) + 5;
    scene.beat(C);
    scene.beat(D);
    scene.run(200);
    assert_eq!(scene.joining(), [C, D]);
}

#[test]
fn j3_a_joiner_is_in_sync_once_it_reports_under_the_current_view_and_with_its_new_store() {
    let mut scene = Scene::serving(3);
    scene.restart(C);
    scene.run_until("C joining", |scene| scene.joining() == [C]);
    scene.peer(C).synced = Some(Epoch(scene.view().epoch.0 - 1));
    scene.run(500);
    assert_eq!(scene.joining(), [C], "that report is of a view that is over");
    scene.sync(C);
    scene.run(200);
    assert_eq!(scene.in_sync(), [A, B, C]);
    assert_eq!(scene.view().in_sync[2].store, StoreId(1_202), "the store that it copied into");
}

#[test]
fn v2_a_synced_joiner_may_be_the_only_one_left() {
    let mut scene = Scene::serving(3);
    scene.kill(&[B, C]);
    scene.run_until("A alone", |scene| scene.in_sync() == [A]);
    scene.restart(C);
    scene.run_until("C joining", |scene| scene.joining() == [C]);
    scene.majority = false;
    scene.sync(C);
    scene.run(200);
    assert_eq!(scene.proposed.last().map(|(_, view)| view.in_sync.len()), Some(2), "A and C");
}

#[test]
fn r4_leases_go_to_in_sync_members_after_a_confirmation() {
    let mut scene = Scene::serving(3);
    scene.restart(C);
    scene.run(300);
    assert_eq!(scene.joining(), [C]);
    scene.granted.clear();
    scene.run(1_000);
    let granted: ReplicaSet = scene.granted.iter().map(|(to, _)| *to).collect();
    assert_eq!(granted, set(&[A, B]), "a joiner gets none");
    scene.answered = false;
    scene.run(100);
    scene.granted.clear();
    scene.run(1_000);
    assert_eq!(scene.granted, [], "no majority, no lease");
}

#[test]
fn r4_one_confirmation_serves_all_heartbeats_since_the_last() {
    let mut scene = Scene::serving(4);
    scene.confirms = 0;
    scene.granted.clear();
    scene.run(1_000);
    assert!(scene.confirms <= 11, "where all hold leases, once for everybody's next heartbeat: {}", scene.confirms);
    assert!(scene.granted.len() >= 36, "and every heartbeat gets its lease: {}", scene.granted.len());
}

#[test]
fn r4_an_answer_covers_only_heartbeats_that_came_before_the_question() {
    let mut scene = Scene::serving(2);
    scene.answered = false;
    scene.run(200);
    let (number, mut actions) = (scene.round, Vec::new());
    scene.beat(B);
    let late = scene.last_nonce(B);
    scene.controller.step(Moment(scene.now * MS), Event::Confirmed { number, leads: true }, &mut actions);
    let of_late = |action: &&Action| matches!(action, Action::Grant { to: B, nonce, .. } if *nonce == late);
    assert_eq!(actions.iter().find(of_late), None, "B's last heartbeat came after the question");
    let next = scene.controller.next_deadline();
    assert_eq!(next, Moment((scene.now - 100) * MS + 178_571_427), "0.18 F after the last question");
    scene.controller.step(next, Event::Tick, &mut actions);
    assert!(actions.contains(&Action::Confirm { number: number + 1 }), "it waits for the next answer: {actions:?}");
}

#[test]
fn r4_a_question_that_nobody_answers_is_asked_again_and_its_late_answer_counts_for_nothing() {
    let mut scene = Scene::serving(3);
    scene.answered = false;
    scene.run(200);
    let given_up = scene.round;
    scene.run(790);
    assert_eq!(scene.round, given_up, "the answer may come");
    scene.run(250);
    assert_eq!(scene.round, given_up + 1, "not for a failure timeout");
    scene.granted.clear();
    scene.event(Event::Confirmed { number: given_up, leads: true });
    assert_eq!(scene.granted, []);
    scene.event(Event::Confirmed { number: given_up + 1, leads: true });
    let granted: ReplicaSet = scene.granted.iter().map(|(to, _)| *to).collect();
    assert_eq!(granted, set(&[A, B, C]));
}

#[test]
fn r5_a_cut_member_is_left_out_only_when_its_lease_is_over() {
    let mut scene = Scene::serving(3);
    scene.cut(B, C);
    scene.run_until("a view without C", |scene| scene.in_sync() == [A, B]);
    let last = scene.granted.iter().filter(|(to, _)| *to == C).map(|(_, at)| *at).max().unwrap();
    let left_out = scene.proposed[0].0;
    assert!(left_out >= last + 495 - 100, "granted at {last} for a heartbeat not 100 ms old, left out at {left_out}");
    assert!(left_out <= last + 550);
}

#[test]
fn r5_who_is_proposed_to_leave_is_granted_nothing_while_that_is_open() {
    let mut scene = Scene::serving(3);
    scene.majority = false;
    scene.cut(B, C);
    scene.run_until("a proposal without C", |scene| !scene.proposed.is_empty());
    // The complaint is taken back, but the entry may still be applied.
    scene.mend();
    scene.run(300);
    scene.granted.clear();
    (0..3).for_each(|_| {
        let number = scene.round;
        scene.event(Event::Confirmed { number, leads: true });
        scene.run(100);
    });
    let granted: ReplicaSet = scene.granted.iter().map(|(to, _)| *to).collect();
    assert_eq!(granted, set(&[A, B]));
}

#[test]
fn r5_a_new_controller_waits_a_full_lease_before_it_leaves_anybody_out() {
    let mut scene = Scene::serving(3);
    scene.event(Event::Follows);
    scene.kill(&[C]);
    scene.run(900);
    scene.elect();
    let elected = scene.now;
    scene.run_until("a view without C", |scene| scene.in_sync() == [A, B]);
    assert!(scene.now >= elected + 495, "elected at {elected}, left out at {}", scene.now);
    assert!(scene.now <= elected + 550, "silence counts from before the election (V6)");
}

#[test]
fn r5_a_newer_incarnation_ends_the_lease_at_once() {
    let mut scene = Scene::serving(3);
    scene.restart(C);
    let took = scene.run_until("a view without C", |scene| scene.in_sync() == [A, B]);
    assert!(took <= 200, "{took}");
}

#[test]
fn r5_a_late_frame_of_an_older_incarnation_is_no_newer_one() {
    let mut scene = Scene::serving(3);
    let old = scene.peer(C).clone();
    scene.restart(C);
    scene.run_until("C joining", |scene| scene.joining() == [C]);
    scene.sync(C);
    scene.run_until("C in sync", |scene| scene.in_sync() == [A, B, C]);
    let epoch = scene.view().epoch;
    // It was sent by the first incarnation, which knew view 1 at most.
    let new = std::mem::replace(scene.peer(C), old);
    scene.beat_knowing(C, Epoch(1));
    scene.run(10);
    *scene.peer(C) = new;
    scene.run(1_000);
    assert_eq!((scene.view().epoch, scene.in_sync()), (epoch, vec![A, B, C]), "nobody is left out");
}

#[test]
fn v4_a_cut_pair_loses_the_last_in_config_order_and_never_the_primary() {
    let mut scene = Scene::serving(4);
    scene.cut(B, D);
    scene.run_until("a view without D", |scene| scene.in_sync() == [A, B, C]);
    let mut scene = Scene::serving(3);
    scene.cut(A, B);
    scene.run_until("a view without B", |scene| scene.in_sync() == [A, C]);
    assert_eq!(scene.view().primary, A);
}

#[test]
fn v4_the_member_in_most_cut_pairs_goes_even_if_it_is_the_primary_and_all_in_one_view() {
    let mut scene = Scene::serving(4);
    scene.cut(A, C);
    scene.cut(A, D);
    scene.run_until("a view without A", |scene| scene.in_sync() == [B, C, D]);
    assert_eq!(scene.proposed.len(), 1);
    let mut scene = Scene::serving(4);
    scene.cut(A, B);
    scene.cut(C, D);
    scene.run_until("two are left", |scene| scene.in_sync() == [A, C]);
    assert_eq!(scene.proposed.len(), 1, "one view: {:?}", scene.proposed);
}

#[test]
fn v4_a_complaint_by_one_side_is_enough_but_not_one_of_another_epoch_or_from_who_is_out() {
    let mut scene = Scene::serving(3);
    scene.peer(B).cut = set(&[C]);
    scene.run_until("a view without C", |scene| scene.in_sync() == [A, B]);
    scene.peer(B).cut = ReplicaSet::EMPTY;
    scene.peer(C).cut = set(&[B]);
    scene.peer(C).hears = set(&[A]);
    let epoch = scene.view().epoch;
    scene.run(2_000);
    assert_eq!(scene.view().epoch, epoch, "C is out");
    scene.peer(C).alive = false;
    scene.peer(B).cut = set(&[A]);
    scene.peer(B).alive = false;
    (0..8).for_each(|_| {
        scene.run(100);
        scene.beat_knowing(B, Epoch(epoch.0 - 1));
    });
    assert_eq!(scene.view().epoch, epoch, "B's complaint is of an epoch that is over");
}

#[test]
fn v4_a_complaint_about_who_dies_waits_for_silence_to_decide() {
    // A, the primary, hears nothing from C, which is dying, a little earlier than the controller is sure of it.
    let mut scene = Scene::serving(3);
    scene.kill(&[A]);
    scene.run(850);
    scene.peer(C).cut = set(&[A]);
    scene.peer(B).cut = set(&[A]);
    scene.run_until("a view", |scene| scene.view().epoch > Epoch(1));
    assert_eq!(scene.in_sync(), [B, C]);
}

#[test]
fn v4_who_is_left_out_alive_waits_longer_each_time_until_it_restarts() {
    let mut scene = Scene::serving(3);
    let mut waits = Vec::new();
    for _ in 0..3 {
        scene.cut(B, C);
        scene.run_until("a view without C", |scene| scene.in_sync() == [A, B]);
        scene.mend();
        waits.push(scene.run_until("C joining", |scene| scene.joining() == [C]));
        scene.sync(C);
        scene.run_until("C in sync", |scene| scene.in_sync() == [A, B, C]);
    }
    let close = |(took, wait): (&u64, u64)| (wait..wait + 200).contains(took);
    assert!(waits.iter().zip([1_000, 2_000, 4_000]).all(close), "{waits:?}");
    scene.cut(B, C);
    scene.run_until("a view without C", |scene| scene.in_sync() == [A, B]);
    scene.mend();
    scene.restart(C);
    let took = scene.run_until("C joining", |scene| scene.joining() == [C]);
    assert!(took <= 200, "a restart counts nothing: {took}");
}

#[test]
fn v4_the_last_in_sync_is_never_left_out() {
    let mut scene = Scene::serving(3);
    scene.kill(&[B, C]);
    scene.run_until("A alone", |scene| scene.in_sync() == [A]);
    scene.restart(B);
    scene.restart(C);
    scene.run_until("both joining", |scene| scene.joining() == [B, C]);
    scene.cut(A, B);
    scene.cut(A, C);
    scene.run_until("the joiners are out", |scene| scene.joining().is_empty());
    assert_eq!(scene.in_sync(), [A]);
}

#[test]
fn v5_a_stall_of_everything_is_no_failure() {
    let mut scene = Scene::serving(3);
    scene.peer(B).cut = set(&[C]);
    scene.run(100);
    // All stop for 5 s; then the tick comes before anybody's heartbeat.
    scene.now += 5_000;
    scene.peer(B).cut = ReplicaSet::EMPTY;
    scene.event(Event::Tick);
    scene.run(3_000);
    assert_eq!(scene.proposed, [], "nobody is left out");
    assert_eq!(scene.in_sync(), [A, B, C]);
}

#[test]
fn j1_all_died_and_come_back_with_their_stores() {
    let mut scene = Scene::serving(3);
    [A, B, C].into_iter().for_each(|replica| scene.restart(replica));
    scene.elect();
    let took = scene.run_until("all back", |scene| scene.view().epoch == Epoch(2));
    assert!(took <= 200, "everybody is there, so nobody is waited for: {took}");
    assert_eq!(scene.in_sync(), [A, B, C]);
    assert!(scene.view().in_sync.iter().all(|member| member.incarnation.0 > 1_000));
}

#[test]
fn j1_the_rest_is_waited_for_one_failure_timeout_and_then_joins() {
    let mut scene = Scene::serving(3);
    scene.kill(&[B, C]);
    scene.restart(A);
    scene.elect();
    scene.run(600);
    scene.restart(B);
    let took = scene.run_until("a view", |scene| scene.view().epoch == Epoch(2));
    assert!((200..850).contains(&took), "{took}");
    assert_eq!(scene.in_sync(), [A, B]);
    scene.restart(C);
    scene.run_until("C joining", |scene| scene.joining() == [C]);
}

#[test]
fn j1_a_wiped_store_does_not_come_back() {
    let mut scene = Scene::serving(3);
    scene.kill(&[A, B, C]);
    scene.restart(A);
    scene.peer(A).store = StoreId(9);
    scene.elect();
    scene.run(5_000);
    assert_eq!(scene.view().epoch, Epoch(1), "A's new store holds nothing, and nobody else is there");
    scene.restart(C);
    scene.run_until("a view", |scene| scene.view().epoch == Epoch(2));
    assert_eq!(scene.in_sync(), [C]);
    scene.run_until("A joining", |scene| scene.joining() == [A]);
}

#[test]
fn j1_who_died_with_the_others_and_is_not_yet_missed_does_not_become_the_last_in_sync() {
    // All die; A and B are back before C's silence is noticed, and C never comes back.
    let mut scene = Scene::serving(3);
    scene.kill(&[A, B, C]);
    scene.run(50);
    scene.restart(A);
    scene.restart(B);
    scene.run_until("a view", |scene| scene.view().epoch > Epoch(1));
    assert_eq!(scene.proposed.len(), 1);
    assert_eq!(scene.in_sync(), [A, B], "not C alone");
}

#[test]
fn j1_who_was_out_of_sync_does_not_count() {
    let mut scene = Scene::serving(3);
    scene.kill(&[C]);
    scene.run_until("a view without C", |scene| scene.in_sync() == [A, B]);
    scene.kill(&[A, B]);
    scene.restart(C);
    scene.elect();
    scene.run(5_000);
    assert_eq!(scene.in_sync(), [A, B], "C may lack what A and B committed");
    scene.restart(B);
    scene.run_until("a view", |scene| scene.in_sync() == [B]);
}

#[test]
fn v11_who_stops_gives_its_lease_back_and_leaves_at_once_while_a_majority_stays() {
    let mut scene = Scene::serving(4);
    scene.peer(A).stopping = true;
    let took = scene.run_until("a view without A", |scene| scene.in_sync() == [B, C, D]);
    assert!(took <= 110, "{took}");
    assert_eq!(scene.view().primary, B);
    scene.peer(B).stopping = true;
    scene.run(800);
    assert_eq!(scene.in_sync(), [B, C, D], "three of four are the majority that must stay");
    assert_eq!(scene.joining(), [], "and who stops does not join again");
}

#[test]
fn v11_a_controller_that_stops_goes_once_it_is_left_out_and_all_others_have_their_last_leases() {
    let mut scene = Scene::serving(4);
    assert!(!scene.controller.may_go());
    scene.peer(A).stopping = true;
    scene.beat(A);
    assert_eq!((scene.in_sync(), scene.controller.may_go()), (vec![B, C, D], false));
    assert_eq!(scene.controller.successor_of(A), Some(B));
    assert_eq!(scene.controller.successor_of(C), None, "it goes on");
    scene.granted.clear();
    scene.now += 60;
    [B, C].into_iter().for_each(|replica| scene.beat(replica));
    assert_eq!((scene.granted.len(), scene.controller.may_go()), (0, false), "D has not asked");
    scene.beat(D);
    assert_eq!((scene.granted.len(), scene.controller.may_go()), (3, true), "all by one confirmation, and at once");
    scene.peer(B).stopping = true;
    scene.beat(B);
    assert_eq!(scene.controller.successor_of(A), Some(C));
    scene.event(Event::Follows);
    assert!(scene.controller.may_go(), "who does not lead hands nothing over");
}

#[test]
fn v11_all_who_stop_together_stay_in_the_view() {
    let mut scene = Scene::serving(3);
    scene.peers.iter_mut().for_each(|peer| peer.stopping = true);
    scene.now += 5;
    [A, B, C].into_iter().for_each(|replica| scene.beat(replica));
    let left = 3 - scene.in_sync().len();
    assert!(left <= 1, "one may have been first; the others stay: {:?}", scene.in_sync());
}

#[test]
fn j5_a_voter_with_a_new_id_replaces_its_old_one_once_it_is_there_for_a_while() {
    let mut scene = Scene::serving(3);
    scene.restart(C);
    scene.peer(C).consensus = ConsensusId(999);
    scene.run(150);
    scene.run(200);
    assert_eq!(scene.replaced, [Voter { id: ConsensusId(999), replica: C }], "once, until it is done");
    let voters = scene.voters();
    scene.event(Event::Voters(voters));
    let number = scene.replacement;
    scene.event(Event::Replaced { number });
    scene.run(3_000);
    assert_eq!(scene.replaced.len(), 1);
}

/// The simulation found it (seed 2040353).
#[test]
fn j5_an_id_that_was_replaced_never_votes_again_however_late_its_frames_come() {
    let mut scene = Scene::serving(3);
    let old = scene.peer(C).consensus;
    scene.peer(C).consensus = ConsensusId(999);
    let voters = scene.voters();
    scene.event(Event::Voters(voters));
    scene.peer(C).consensus = old;
    scene.run(3_000);
    assert_eq!(scene.replaced, []);
}

#[test]
fn j5_a_failed_replacement_is_tried_again_after_a_while() {
    let mut scene = Scene::serving(3);
    scene.peer(C).consensus = ConsensusId(999);
    scene.run(400);
    let number = scene.replacement;
    scene.event(Event::Replaced { number });
    scene.run(500);
    assert_eq!(scene.replaced.len(), 1);
    scene.run(1_000);
    assert_eq!(scene.replaced.len(), 2);
}

#[test]
fn a_follower_watches_and_does_nothing() {
    let mut scene = Scene::serving(3);
    scene.event(Event::Follows);
    scene.kill(&[B, C]);
    scene.confirms = 0;
    scene.run(5_000);
    assert_eq!((scene.proposed.len(), scene.confirms), (0, 0));
}
