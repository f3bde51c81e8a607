//! Hand-written histories: one in which everything is well, and for each law one that breaks it and nothing else.

use super::{Findings, History, Law, judge};
use crate::chaos::history::{Came, Event, Fault, Fence, Floor, Op, Record, Told, World};

fn fence(epoch: u64) -> Option<Fence> {
    Some(Fence { epoch, minted_by: 7 })
}

fn event(at_ms: u64, kind: &str, chat: &str, responder: &str) -> Event {
    Event {
        at_ms,
        clock_ms: 1_000_000 + at_ms,
        kind: kind.to_owned(),
        chat: chat.to_owned(),
        responder: responder.to_owned(),
        urgency: 1,
        ..Event::default()
    }
}

fn offered(at_ms: u64, chat: &str, responder: &str, offer: u32) -> Event {
    Event { offer, ..event(at_ms, "offered", chat, responder) }
}

fn accepted(at_ms: u64, chat: &str, responder: &str, offer: u32, epoch: u64) -> Event {
    Event { offer, fence: fence(epoch), ..event(at_ms, "accepted", chat, responder) }
}

fn completed(at_ms: u64, chat: &str, responder: &str, epoch: u64) -> Event {
    let (outcome, reason) = ("completed".to_owned(), "asked".to_owned());
    Event { outcome, reason, fence: fence(epoch), ..event(at_ms, "ended", chat, responder) }
}

fn op(client: &str, op: &str, chat: &str, invoked_ms: u64) -> Op {
    Op {
        client: client.to_owned(),
        op: op.to_owned(),
        chat: chat.to_owned(),
        invoked_ms,
        returned_ms: invoked_ms + 5,
        result: Came::Ok,
        ..Op::default()
    }
}

fn request(chat: &str, at_ms: u64) -> Op {
    Op { request: format!("of-{chat}"), ..op("vera", "request", chat, at_ms) }
}

fn word(client: &str, what: &str, chat: &str, epoch: u64, at_ms: u64) -> Op {
    Op { fence: fence(epoch), ..op(client, what, chat, at_ms) }
}

fn last_look(chat: &str, outcome: &str) -> Op {
    let (state, outcome) = ("ended".to_owned(), outcome.to_owned());
    Op { state, outcome, ..op("onlooker", "last_look", chat, 90_000) }
}

fn told(client: &str, what: &str, chat: &str, at_ms: u64) -> Told {
    Told { client: client.to_owned(), what: what.to_owned(), chat: chat.to_owned(), at_ms, ..Told::default() }
}

/// Two chats, two responders; the first chat comes back from ana, who is lost, and is closed by ben.
fn good() -> History {
    let world = World {
        capacity: 2,
        head_start_ms: [0, 600, 1_800],
        return_head_start_ms: 1_800,
        back_off_ms: 10_000,
        fan_out: 2,
        lease_ms: 15_000,
        grace_ms: 10_000,
        away_after_ms: 15_000,
        abandon_after_ms: 20_000,
        classes: vec!["vanish".to_owned()],
        ..World::default()
    };
    let events = vec![
        event(0, "signed_in", "", "ana"),
        event(1, "signed_in", "", "ben"),
        event(10, "requested", "c1", ""),
        offered(10, "c1", "ana", 1),
        accepted(20, "c1", "ana", 1, 101),
        event(40, "unlinked", "", "ana"),
        event(50, "requested", "c2", ""),
        offered(50, "c2", "ben", 1),
        accepted(60, "c2", "ben", 1, 101),
        completed(90, "c2", "ben", 101),
        event(140, "wrapped_up", "c2", "ben"),
        Event { reason: "responder_lost".to_owned(), ..event(10_040, "signed_out", "", "ana") },
        Event { fence: fence(101), ..event(10_040, "returned", "c1", "ana") },
        offered(10_041, "c1", "ben", 2),
        accepted(10_050, "c1", "ben", 2, 102),
        completed(10_090, "c1", "ben", 102),
        event(10_140, "wrapped_up", "c1", "ben"),
        event(60_000, "signed_in", "", "ana"),
    ];
    let ops = vec![
        request("c1", 5),
        request("c2", 45),
        word("ana", "accept", "c1", 101, 15),
        word("ben", "accept", "c2", 101, 55),
        word("ben", "close", "c2", 101, 85),
        op("ana", "heartbeat", "", 12),
        word("ben", "accept", "c1", 102, 10_045),
        word("ben", "close", "c1", 102, 10_085),
        Op { result: Came::Fail, reason: "STALE_FENCE".to_owned(), ..word("ana", "close", "c1", 101, 60_100) },
        last_look("c1", "completed"),
        last_look("c2", "completed"),
    ];
    let told = vec![
        told("ana", "signed_in", "", 0),
        told("ben", "signed_in", "", 1),
        Told { offer: 1, ..told("ana", "offer", "c1", 12) },
        told("ana", "vanished", "c1", 30),
        Told { offer: 1, ..told("ben", "offer", "c2", 52) },
        Told { offer: 2, ..told("ben", "offer", "c1", 10_043) },
    ];
    let vanish = Fault {
        class: "vanish".to_owned(),
        target: "ana".to_owned(),
        began_ms: 25,
        healed_ms: 13_000,
        fired: true,
        ..Fault::default()
    };
    let floors = vec![Floor { at_ms: 80_000, accepted: 2, ended: 2, last: true, ..Floor::default() }];
    History { world, ops, told, events, faults: vec![vanish], floors, ..History::default() }
}

/// Judged, with the events numbered as they stand.
fn judged(mut history: History) -> Findings {
    for (sequence, event) in (1..).zip(&mut history.events) {
        if event.sequence == 0 {
            event.sequence = sequence;
        }
    }
    history.ops.sort_by_key(|op| op.invoked_ms);
    judge(&history)
}

fn broken(change: impl FnOnce(&mut History)) -> Vec<Law> {
    let mut history = good();
    change(&mut history);
    judged(history).broken_laws()
}

fn at(history: &History, kind: &str, chat: &str) -> usize {
    history.events.iter().rposition(|event| event.kind == kind && event.chat == chat).unwrap()
}

#[test]
fn a_good_history_breaks_no_law_and_is_measured() {
    let findings = judged(good());
    assert_eq!(findings.laws.values().flat_map(|(_, kept, _)| kept.clone()).collect::<Vec<_>>(), [""; 0]);
    assert_eq!((findings.acknowledged, findings.stale_refused), (2, 1));
    let died = findings.measured.iter().find(|row| row.id == "L1").unwrap();
    assert_eq!((died.count, died.worst_ms), (1, 10_041 - 30));
}

#[test]
fn a_chat_that_no_event_tells_of_is_lost() {
    let only_acknowledged = |h: &mut History| h.ops.push(request("c3", 100));
    assert_eq!(broken(only_acknowledged), [Law::Loss]);
}

#[test]
fn a_chat_without_an_end_is_lost() {
    let unended = |h: &mut History| {
        let at = at(h, "ended", "c1");
        h.events.drain(at..=at + 1);
        h.floors[0] = Floor { active: 1, ended: 1, ..h.floors[0].clone() };
    };
    assert_eq!(broken(unended), [Law::Loss]);
}

#[test]
fn a_chat_that_its_visitor_cannot_read_is_lost() {
    assert_eq!(broken(|h| h.ops.retain(|op| op.op != "last_look" || op.chat != "c2")), [Law::Loss]);
}

#[test]
fn an_end_that_nobody_asked_for_is_a_loss() {
    assert_eq!(broken(|h| h.ops.retain(|op| op.op != "close" || op.chat != "c2")), [Law::Loss]);
}

#[test]
fn a_chat_given_up_while_its_visitor_watched_is_a_loss() {
    let given_up = |watches: bool| {
        broken(|h| {
            let (outcome, reason) = ("abandoned".to_owned(), "deadline".to_owned());
            h.events.insert(17, event(10_200, "requested", "c3", ""));
            h.events.insert(18, event(25_200, "away", "c3", ""));
            h.events.insert(19, Event { outcome, reason, ..event(45_200, "ended", "c3", "") });
            h.ops.push(request("c3", 10_190));
            h.ops.push(last_look("c3", "abandoned"));
            h.floors[0] = Floor { accepted: 3, ended: 3, ..h.floors[0].clone() };
            if watches {
                h.told.push(told("vera", "stream_open", "c3", 30_000));
            }
        })
    };
    assert_eq!(given_up(false), []);
    assert_eq!(given_up(true), [Law::Loss]);
}

#[test]
fn a_chat_in_two_pairs_of_hands_is_told() {
    let both = |h: &mut History| {
        let returned = at(h, "returned", "c1");
        h.events.remove(returned);
    };
    assert!(broken(both).contains(&Law::Owners));
}

#[test]
fn an_assignment_that_no_event_tells_of_is_told() {
    let alone = |h: &mut History| h.ops.push(word("ana", "accept", "c1", 103, 20_000));
    assert_eq!(broken(alone), [Law::Owners]);
}

#[test]
fn equal_fences_are_told() {
    let equal = |h: &mut History| {
        let accepted = at(h, "accepted", "c1");
        h.events[accepted].fence = fence(101);
        let ended = at(h, "ended", "c1");
        h.events[ended].fence = fence(101);
        h.ops.iter_mut().filter(|op| op.client == "ben" && op.chat == "c1").for_each(|op| op.fence = fence(101));
    };
    assert!(broken(equal).contains(&Law::Fences));
}

#[test]
fn a_stale_word_that_takes_effect_is_told() {
    let effect = |h: &mut History| h.ops.iter_mut().for_each(|op| op.result = Came::Ok);
    assert!(broken(effect).contains(&Law::Fences));
}

#[test]
fn more_than_somebody_can_carry_is_told() {
    assert_eq!(broken(|h| h.world.capacity = 1), []);
    assert_eq!(broken(|h| h.world.capacity = 0), [Law::Capacity]);
}

#[test]
fn whoever_is_passed_over_is_told() {
    let out_of_turn = |h: &mut History| {
        let (outcome, reason) = ("left".to_owned(), "visitor".to_owned());
        h.events.insert(2, event(8, "requested", "c0", ""));
        h.events.insert(3, event(9, "requested", "c9", ""));
        h.events.insert(4, offered(9, "c9", "ben", 1));
        h.events.insert(5, Event { offer: 1, ..event(9, "rescinded", "c9", "ben") });
        for (place, chat) in [(6, "c0"), (7, "c9")] {
            h.events.insert(
                place,
                Event { outcome: outcome.clone(), reason: reason.clone(), ..event(9, "ended", chat, "") },
            );
        }
        h.floors[0] = Floor { accepted: 4, ended: 4, ..h.floors[0].clone() };
    };
    assert_eq!(broken(out_of_turn), [Law::Order]);
}

#[test]
fn whoever_handed_a_chat_on_may_be_offered_the_one_behind_it() {
    let handed_on = |h: &mut History| {
        let returned =
            Event { reason: "transfer".to_owned(), fence: fence(90), ..event(9, "returned", "c0", "ben") };
        let left = |chat| {
            let (outcome, reason) = ("left".to_owned(), "visitor".to_owned());
            Event { outcome, reason, ..event(9, "ended", chat, "") }
        };
        let story = [
            event(8, "requested", "c0", ""),
            offered(8, "c0", "ben", 1),
            accepted(8, "c0", "ben", 1, 90),
            event(9, "requested", "c9", ""),
            returned,
            offered(9, "c9", "ben", 1),
            Event { offer: 1, ..event(9, "rescinded", "c9", "ben") },
            left("c0"),
            left("c9"),
        ];
        h.events.splice(2..2, story);
        h.floors[0] = Floor { accepted: 4, ended: 4, ..h.floors[0].clone() };
    };
    assert_eq!(broken(handed_on), []);
}

#[test]
fn a_ledger_that_does_not_balance_is_told() {
    assert_eq!(broken(|h| h.floors[0].difference = 1), [Law::Ledger]);
    assert_eq!(broken(|h| h.floors[0].ended = 1), [Law::Ledger]);
}

#[test]
fn two_chats_of_one_request_are_told() {
    let twice =
        |h: &mut History| h.ops.push(Op { request: "of-c1".to_owned(), ..op("vera", "request", "c2", 300) });
    assert_eq!(broken(twice), [Law::Idempotency]);
}

#[test]
fn a_gap_in_the_stream_and_another_store_are_told() {
    assert_eq!(broken(|h| h.events[17].sequence = 99), [Law::Stream]);
    assert_eq!(broken(|h| h.events[17].generation = "another".to_owned()), [Law::Stream]);
}

#[test]
fn whoever_reads_everything_again_after_a_failover_has_read_it_when_it_happened() {
    let mut history = good();
    for (sequence, event) in (1..).zip(&mut history.events) {
        event.sequence = sequence;
    }
    let (class, fired) = ("kill_primary".to_owned(), true);
    let fault = Fault { class, fired, began_ms: 61_000, healed_ms: 65_000, ..Fault::default() };
    let again = history.events.iter().map(|event| Event { at_ms: 62_000, ..event.clone() });
    let records = history.events.iter().cloned().chain(again).map(Record::Event);
    let read = History::from(records.chain([Record::Fault(fault)]).collect::<Vec<_>>());
    assert_eq!((read.events, read.taken_back), (history.events, 0));
}

#[test]
fn what_the_loss_of_a_primary_took_back_never_was_and_what_was_acknowledged_of_it_is_lost() {
    let failover = |acknowledged: bool| {
        let mut history = good();
        for (sequence, event) in (1..).zip(&mut history.events) {
            event.sequence = sequence;
        }
        // Read of, and gone: the last event comes again under the same number.
        let last = history.events.len() - 1;
        history.events.insert(last, Event { sequence: 18, ..event(50_000, "requested", "c9", "") });
        if acknowledged {
            history.ops.push(request("c9", 49_990));
        }
        history.faults.push(Fault {
            class: "kill_primary".to_owned(),
            began_ms: 50_001,
            healed_ms: 55_000,
            fired: true,
            ..Fault::default()
        });
        history.take_back();
        assert_eq!(history.taken_back, 1);
        // Nobody asks for anything afterwards, so how soon they would be answered is not told.
        let broken = judged(history).broken_laws();
        broken.into_iter().filter(|law| *law != Law::Liveness).collect::<Vec<_>>()
    };
    assert_eq!(failover(false), []);
    assert_eq!(failover(true), [Law::Loss]);
}

#[test]
fn a_clock_that_goes_back_or_leaps_is_told() {
    assert_eq!(broken(|h| h.events[17].clock_ms = 1_000_000), [Law::Clock]);
    assert_eq!(broken(|h| h.events[17].clock_ms += 3_600_000), [Law::Clock]);
}

#[test]
fn somebody_who_was_just_heard_and_is_taken_for_lost_is_told() {
    assert_eq!(broken(|h| h.ops.push(op("ana", "heartbeat", "", 6_000))), [Law::Presence]);
}

#[test]
fn an_offer_that_is_not_heard_of_is_told() {
    let unheard = |h: &mut History| {
        let (outcome, reason) = ("left".to_owned(), "visitor".to_owned());
        let end = h.events.len() - 1;
        h.events.insert(end, event(30_000, "requested", "c3", ""));
        h.events.insert(end + 1, offered(30_000, "c3", "ben", 1));
        h.events.insert(end + 2, Event { offer: 1, ..event(50_000, "missed", "c3", "ben") });
        h.events.insert(end + 3, Event { outcome, reason, ..event(50_001, "ended", "c3", "") });
        h.floors[0] = Floor { accepted: 3, ended: 3, ..h.floors[0].clone() };
    };
    assert_eq!(broken(unheard), [Law::Notices]);
}

#[test]
fn poison_that_is_taken_and_something_broken_inside_are_told() {
    assert_eq!(broken(|h| h.ops.push(op("vera", "poison", "", 300))), [Law::Refusals]);
    let inside = |h: &mut History| {
        let (result, reason) = (Came::Unknown, "INTERNAL".to_owned());
        h.ops.push(Op { result, reason, ..op("vera", "look", "c1", 300) });
    };
    assert_eq!(broken(inside), [Law::Refusals]);
}

#[test]
fn what_takes_too_long_is_told() {
    assert_eq!(broken(|h| h.told[3].at_ms = 10), [], "the bound is not reached yet");
    let slow = |h: &mut History| {
        for event in h.events.iter_mut().filter(|event| event.at_ms >= 10_000) {
            event.at_ms += 2_000;
            event.clock_ms += 2_000;
        }
        h.ops.iter_mut().filter(|op| op.invoked_ms >= 10_000).for_each(|op| op.invoked_ms += 2_000);
        h.ops.iter_mut().for_each(|op| op.returned_ms = op.invoked_ms + 5);
        h.told[5].at_ms += 2_000;
    };
    assert_eq!(broken(slow), [Law::Liveness]);
}

#[test]
fn an_ignored_offer_that_goes_to_nobody_is_told_unless_its_visitor_is_away() {
    let ignored = |away_ms: u64| {
        broken(|h| {
            let (outcome, reason) = ("abandoned".to_owned(), "deadline".to_owned());
            let end = h.events.len() - 1;
            h.events.insert(end, event(away_ms, "away", "c3", ""));
            h.events.insert(end, Event { offer: 1, ..event(45_100, "missed", "c3", "ben") });
            h.events.insert(end, offered(30_100, "c3", "ben", 1));
            h.events.insert(end, event(30_100, "requested", "c3", ""));
            h.events.insert(end + 4, Event { outcome, reason, ..event(59_900, "ended", "c3", "") });
            let word = |what, at_ms| Told { offer: 1, ..told("ben", what, "c3", at_ms) };
            h.told.extend([word("offer", 30_102), word("ignored", 30_102)]);
            h.ops.extend([request("c3", 30_090), last_look("c3", "abandoned")]);
            h.floors[0] = Floor { accepted: 3, ended: 3, ..h.floors[0].clone() };
        })
    };
    assert_eq!(ignored(45_200), []);
    assert_eq!(ignored(55_200), [Law::Liveness], "it should have been offered long before");
}

#[test]
fn a_fault_that_did_not_fire_is_told() {
    assert_eq!(broken(|h| h.faults[0].fired = false), [Law::Fired]);
}

/// The store loses everything while c1 waits and c2 is in ben's hands; both come back, and everything ends well.
fn wiped() -> History {
    let anew = |event: Event| Event { generation: "anew".to_owned(), ..event };
    let mut history = good();
    history.world.recovery_hold_ms = 15_000;
    history.world.classes = vec!["wipe".to_owned()];
    history.events = vec![
        event(0, "signed_in", "", "ben"),
        event(45, "requested", "c0", ""),
        offered(45, "c0", "ben", 1),
        accepted(46, "c0", "ben", 1, 101),
        completed(47, "c0", "ben", 101),
        event(48, "wrapped_up", "c0", "ben"),
        event(50, "requested", "c2", ""),
        offered(50, "c2", "ben", 1),
        accepted(60, "c2", "ben", 1, 101),
        event(70, "requested", "c1", ""),
        event(80, "requested", "c9", ""),
        anew(event(2_000, "revived", "", "")),
        anew(event(2_100, "restored", "c1", "")),
        anew(event(2_200, "restored", "c2", "")),
        anew(Event { fence: fence(101), offer: 1, ..event(2_200, "reclaimed", "c2", "ben") }),
        anew(completed(2_900, "c2", "ben", 101)),
        anew(event(2_950, "wrapped_up", "c2", "ben")),
        anew(offered(17_000, "c1", "ben", 34)),
        anew(accepted(17_010, "c1", "ben", 34, 301)),
        anew(completed(17_090, "c1", "ben", 301)),
        anew(event(17_140, "wrapped_up", "c1", "ben")),
    ];
    for (sequence, event) in (1..).zip(&mut history.events) {
        event.sequence = if event.generation.is_empty() { sequence } else { sequence - 11 };
    }
    history.ops = vec![
        request("c0", 40),
        request("c2", 45),
        request("c1", 65),
        request("c9", 75),
        word("ben", "accept", "c0", 101, 45),
        word("ben", "close", "c0", 101, 46),
        word("ben", "accept", "c2", 101, 55),
        word("ben", "close", "c2", 101, 2_880),
        word("ben", "accept", "c1", 301, 17_005),
        word("ben", "close", "c1", 301, 17_085),
        last_look("c1", "completed"),
        last_look("c2", "completed"),
    ];
    // Whoever asked for c9 has never watched it, and is out of touch.
    history.told = vec![told("vera", "stream_open", "c1", 80), told("vera", "stream_open", "c2", 60)];
    history.faults = vec![Fault {
        class: "wipe".to_owned(),
        target: "store".to_owned(),
        began_ms: 1_900,
        healed_ms: 21_900,
        fired: true,
        ..Fault::default()
    }];
    history.floors = vec![Floor { at_ms: 80_000, accepted: 2, ended: 2, last: true, ..Floor::default() }];
    history
}

fn broken_after_a_loss(change: impl FnOnce(&mut History)) -> Vec<Law> {
    let mut history = wiped();
    change(&mut history);
    judged(history).broken_laws()
}

#[test]
fn a_store_that_loses_everything_costs_nobody_who_is_in_touch_their_chat() {
    let findings = judged(wiped());
    assert_eq!(findings.laws.values().flat_map(|(_, kept, _)| kept.clone()).collect::<Vec<_>>(), [""; 0]);
    let back = findings.measured.iter().find(|row| row.id == "L8").unwrap();
    assert_eq!((back.count, back.worst_ms), (2, 300));
}

#[test]
fn whoever_was_in_touch_and_did_not_come_back_after_a_loss_is_lost() {
    let watched = |h: &mut History| h.told.push(told("vera", "stream_open", "c9", 90));
    assert_eq!(broken_after_a_loss(watched), [Law::Loss]);
    let looked = |h: &mut History| h.ops.push(op("vera", "look", "c9", 3_000));
    assert_eq!(broken_after_a_loss(looked), [Law::Loss]);
}

#[test]
fn a_chat_that_comes_back_after_its_end_is_told() {
    let back = |h: &mut History| {
        let restored = Event { generation: "anew".to_owned(), ..event(2_200, "restored", "c0", "") };
        let left = Event {
            outcome: "left".to_owned(),
            reason: "visitor".to_owned(),
            generation: "anew".to_owned(),
            ..event(2_200, "ended", "c0", "")
        };
        h.events.splice(14..14, [restored, left]);
        for (sequence, event) in (1..).zip(&mut h.events[11..]) {
            event.sequence = sequence;
        }
        h.ops.push(op("vera", "leave", "c0", 2_190));
        h.ops.push(last_look("c0", "left"));
        h.floors[0] = Floor { accepted: 3, ended: 3, ..h.floors[0].clone() };
    };
    assert_eq!(broken_after_a_loss(back), [Law::Loss]);
}

#[test]
fn a_chat_that_is_taken_back_under_an_older_fence_is_told() {
    let older = |h: &mut History| h.events[14].fence = fence(100);
    assert!(broken_after_a_loss(older).contains(&Law::Fences));
}

#[test]
fn whoever_talks_with_more_than_they_can_after_a_loss_is_told() {
    assert_eq!(broken_after_a_loss(|h| h.world.capacity = 0), [Law::Capacity]);
}
