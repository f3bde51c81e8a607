//! Whatever happens, in whatever order: the invariants hold after every command.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail so"
)]

use holdfast_domain::command::Command;
use holdfast_domain::histories::{Player, TimedOp, Turn, history, history_of_losses, policy, seed};
use holdfast_domain::invariants::broken;
use holdfast_domain::lifecycle::{ChatState, Happening, next};
use holdfast_domain::{ChatId, EndedAs, EventKind, Fence};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;

fn histories() -> u32 {
    std::env::var("HOLDFAST_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

/// What must hold between two moments, beside what must hold at each.
#[derive(Default)]
struct Memory {
    events: u64,
    arrivals: BTreeMap<ChatId, u64>,
    epochs: BTreeMap<ChatId, Fence>,
    owned: BTreeMap<ChatId, bool>,
    /// A name may be used again once it is forgotten; where the line can be lost it comes back with its history.
    forgets_epochs: bool,
}

fn play(player: &mut Player, which: u8, ops: &[TimedOp], loses: bool) -> Result<(), TestCaseError> {
    let mut memory = Memory { forgets_epochs: !loses, ..Memory::default() };
    check(player, &mut memory, &Player::first_command(which))?;
    for op in ops {
        if let Some(turn) = player.turn(op) {
            let node = player.node() + u32::from(matches!(turn, Turn::FailOver | Turn::OlderCopy));
            player.take(turn, node);
            memory.forget(player);
        }
        let command = player.command(op);
        check(player, &mut memory, &command)?;
    }
    Ok(())
}

impl Memory {
    /// What the line itself has forgotten. The epochs that were minted stay minted.
    fn forget(&mut self, player: &Player) {
        let line = player.line.snapshot();
        self.events = line.events;
        self.arrivals.clear();
        self.owned = line.chats.values().map(|c| (c.id.clone(), c.state == ChatState::Active)).collect();
    }
}

fn check(player: &mut Player, memory: &mut Memory, command: &Command) -> Result<(), TestCaseError> {
    let before = player.line.snapshot().clone();
    let applied = player.play(command);
    let after = player.line.snapshot();
    prop_assert_eq!(broken(after), Vec::<String>::new(), "after {:?}", command);
    prop_assert!(after.clock.now_ms >= before.clock.now_ms, "service time went back");
    let leaps = before.clock.last_wall_ms == 0 || matches!(command, Command::Renew { .. });
    prop_assert!(after.clock.now_ms - before.clock.now_ms <= 1000 || leaps);
    if applied.reply.is_err() {
        let mut same = before;
        same.clock = after.clock;
        prop_assert_eq!(&same, after, "a refusal changed something: {:?}", command);
        prop_assert!(applied.events.is_empty());
    }
    for event in &applied.events {
        memory.events += 1;
        prop_assert_eq!(event.sequence, memory.events, "events have a gap");
        follow_ownership(memory, event.kind, event.chat.as_ref(), event.fence)?;
    }
    for chat in after.chats.values() {
        let arrival = *memory.arrivals.entry(chat.id.clone()).or_insert(chat.arrival_ms);
        prop_assert_eq!(arrival, chat.arrival_ms, "INV-07: an arrival changed");
    }
    Ok(())
}

/// INV-01 from the events alone: accepted only when not owned, with a higher epoch each time.
fn follow_ownership(
    memory: &mut Memory,
    kind: EventKind,
    chat: Option<&ChatId>,
    fence: Option<Fence>,
) -> Result<(), TestCaseError> {
    let Some(chat) = chat else { return Ok(()) };
    let owned = memory.owned.entry(chat.clone()).or_default();
    match kind {
        EventKind::Accepted => {
            prop_assert!(!*owned, "accepted while owned");
            *owned = true;
            let last = memory.epochs.insert(chat.clone(), fence.expect("an acceptance has a fence"));
            prop_assert!(last.is_none_or(|l| l.epoch < fence.unwrap().epoch), "an epoch did not rise");
        }
        EventKind::Reclaimed => {
            prop_assert!(!*owned, "reclaimed while owned");
            *owned = true;
            let known = memory.epochs.get(chat);
            prop_assert!(known.is_some_and(|l| l.epoch >= fence.unwrap().epoch), "an epoch that nobody minted");
        }
        EventKind::Returned => {
            prop_assert!(*owned, "returned and not owned");
            *owned = false;
        }
        EventKind::Ended | EventKind::Restored => *owned = false,
        EventKind::Forgotten | EventKind::Released => {
            memory.arrivals.remove(chat);
            if memory.forgets_epochs {
                memory.epochs.remove(chat);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Commands and events of a line that was lost.
const COMES_BACK: [&str; 5] = ["restore", "reassert", "restored", "reclaimed", "revived"];

#[test]
fn the_invariants_hold_after_every_command_of_random_histories() {
    let wanted = |word: &str| if COMES_BACK.contains(&word) { 0 } else { 50 };
    hold_over(history(160), false, wanted);
}

#[test]
fn the_invariants_hold_while_the_store_is_lost_again_and_again_and_people_come_back() {
    // The other test reaches the rest.
    let wanted = |word: &str| if COMES_BACK.contains(&word) { 10 } else { 0 };
    hold_over(history_of_losses(160), true, wanted);
}

fn hold_over(history: impl Strategy<Value = Vec<TimedOp>>, loses: bool, wanted: fn(&str) -> u64) {
    let config = Config { cases: histories(), rng_seed: seed(), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let totals = RefCell::new((0u64, 0u64));
    let reached = RefCell::new(BTreeMap::new());
    let told = RefCell::new(BTreeMap::new());
    runner
        .run(&(any::<u8>(), history), |(which, ops)| {
            let mut player = Player::new(0xabcd_ef01);
            play(&mut player, which, &ops, loses)?;
            let mut totals = totals.borrow_mut();
            totals.0 += player.counts.0;
            totals.1 += player.counts.1;
            for (pair, n) in player.reached {
                *reached.borrow_mut().entry(pair).or_insert(0u64) += n;
            }
            for (kind, n) in player.told {
                *told.borrow_mut().entry(kind).or_insert(0u64) += n;
            }
            Ok(())
        })
        .unwrap();
    let (all, effective) = totals.into_inner();
    let percent = effective * 100 / all;
    println!("{all} commands, {percent} % took effect");
    let rare: Vec<_> =
        reached.borrow().iter().filter(|(pair, n)| **n < wanted(pair.1)).map(|(pair, n)| (*pair, *n)).collect();
    assert_eq!(rare, Vec::new(), "these (state, command) pairs were reached too seldom");
    let told = told.into_inner();
    let count = |kind| told.get(kind).copied().unwrap_or(0);
    let seldom: Vec<_> = EventKind::ALL.iter().filter(|kind| count(kind) < wanted(kind.word())).collect();
    assert_eq!(seldom, Vec::<&EventKind>::new(), "these were told too seldom: {told:?}");
    assert!(
        percent >= if loses { 50 } else { 60 },
        "only {percent} % of the commands took effect: the histories test too little"
    );
}

#[test]
fn every_policy_of_the_histories_could_be_a_helplines_own() {
    for which in 0..=u8::MAX {
        assert_eq!(policy(which).check(), Ok(()), "policy {which}");
    }
}

#[test]
fn an_ended_chat_is_left_only_by_reopening_and_every_other_chat_of_the_line_can_end() {
    for state in ChatState::ALL {
        for outcome in EndedAs::ALL {
            let expected = (!matches!(state, ChatState::Held | ChatState::Ended)).then_some(ChatState::Ended);
            assert_eq!(next(state, Happening::End(outcome)), expected);
        }
    }
    for happening in [Happening::Offer, Happening::LastOfferGone, Happening::Accept, Happening::Return] {
        assert_eq!(next(ChatState::Ended, happening), None);
    }
    assert_eq!(next(ChatState::Ended, Happening::Reopen), Some(ChatState::Waiting));
}
