//! The differential test is tested: each of these small mistakes in the scripts must make it fail. They are planted from
//! outside, between the store and its client.

use crate::differential::Bench;
use holdfast_domain::histories::{TimedOp, history, history_of_losses, seed};
use holdfast_tests::script_editor::{Edit, Editor};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use std::cell::RefCell;
use std::path::Path;

/// Histories that a mistake may survive at most, and as many more, some with losses.
const HISTORIES: u32 = 600;

/// The file, what it says, what it says instead, and what goes wrong then.
const MUTANTS: &[(&str, &str, &str, &str)] = &[
    ("shared/records.lua", "c.epoch == epoch and c.minted", "c.minted", "an old fence is as good as a new one"),
    (
        "shared/records.lua",
        "r.session ~= session or r.linked == 0",
        "r.session ~= session",
        "the dead go on talking",
    ),
    (
        "shared/prelude.lua",
        "if #H.told == 0 and L.term ~= 0 then",
        "if false then",
        "another node's events pass for those that were lost",
    ),
    ("shared/records.lua", "math.max(r.capacity - H.load_of(r), 0)", "r.capacity", "hands are never full"),
    ("shared/matching.lua", "now >= a.at + P.back_off", "now > a.at + P.back_off", "patience is a moment longer"),
    ("shared/matching.lua", "math.min(num(weight), capacity)", "num(weight)", "heavy chats fit nobody"),
    (
        "shared/matching.lua",
        "return urgency == H.IMMINENT and free > 0 and math.min(weight, free) or weight",
        "return weight",
        "danger weighs more than there is room",
    ),
    (
        "shared/matching.lua",
        "for i = 1, #need, 8 do",
        "for i = 1, math.min(#need, 8), 8 do",
        "only the first tags count",
    ),
    (
        "shared/matching.lua",
        "H.size(H.CLASSES) <= P.reserve",
        "H.size(H.CLASSES) < P.reserve",
        "the reserve is one short",
    ),
    (
        "shared/matching.lua",
        "return a.member < b.member",
        "return a.member > b.member",
        "the later one goes first",
    ),
    (
        "shared/index.lua",
        "if m.to_group == '' then redis.call('ZREM', index.all, m.member) end",
        "",
        "whoever left still has a place",
    ),
    (
        "shared/index.lua",
        "redis.call('ZREM', index.heads, group)",
        "redis.call('PING')",
        "an empty lane has a head",
    ),
    ("shared/line.lua", "now + P.min_back_off", "now + P.back_off", "nobody looks again in time"),
    ("shared/line.lua", "  c.returned = 1\n", "  c.returned = 0\n", "no head start after a return"),
    (
        "shared/line.lua",
        "if outcome ~= 'abandoned' then c.blobs",
        "do c.blobs",
        "who comes back has lost the room",
    ),
    (
        "shared/line.lua",
        "H.EPOCHS_PER_TERM + c.assigned",
        "H.EPOCHS_PER_TERM + c.offers_made",
        "fences count offers",
    ),
    ("shared/line.lua", "math.max(r.rested, now) + math.floor", "now + math.floor", "the tired are asked first"),
    ("shared/prelude.lua", "H.MAX_STEP_MS = 1000", "H.MAX_STEP_MS = 1001", "the clock leaps"),
    (
        "unlink.lua",
        "math.min(H.timer_at('presence:' .. responder_id) or grace, grace)",
        "grace",
        "a broken stream is a sign of life",
    ),
    ("sign_in.lua", "math.max(r.session + 1, now)", "r.session + 1", "sessions of two lives look alike"),
    ("decline.lua", "H.remember_asked(c, responder_id)\n", "", "whoever declined is asked at once"),
    (
        "request.lua",
        "if c.body ~= body then return H.refuse('request_conflict') end",
        "",
        "another request is a repeat",
    ),
    ("request.lua", "L.waiting >= P.max_waiting", "L.waiting > P.max_waiting", "one more than fits"),
    ("request.lua", "if solved_bits < bits and", "if solved_bits <= bits and", "work is never enough"),
    ("request.lua", "math.max(L[bucket], now * 1000)", "L[bucket]", "what was saved up never ends"),
    ("request.lua", "if bucket then L[bucket] = full_at end", "", "a quota is never used up"),
    ("request.lua", "urgency = H.HIGH else", "bucket = 'imminent' else", "danger past its room is only refused"),
    (
        "set_policy.lua",
        "math.min(L[bucket], now * 1000 + rate.holds)",
        "L[bucket]",
        "an old debt outlives its policy",
    ),
    ("tick.lua", "H.rescind_all(c, 'visitor_away')", "", "nobody is there when the responder comes"),
    ("tick.lua", "num(till) > now", "num(till) >= now", "a reroute lasts too long"),
    (
        "set_status.lua",
        "status == 'leaving' and empty_handed",
        "status == 'leaving'",
        "whoever leaves drops everything",
    ),
    (
        "set_policy.lua",
        "if before ~= '' and before ~= order(P) then",
        "if false then",
        "a new order leaves everybody in place",
    ),
    ("confirm_block.lua", "if b.by == by then return H.refuse('same_person') end", "", "one person blocks alone"),
    ("confirm_block.lua", "now + b.lasts", "b.open_till", "a block counts from its proposal"),
    ("shared/seldom.lua", "and now < b.till", "", "a block outlasts its time"),
    ("erase.lua", "  H.unlink_block(c)\n", "", "a block leads to what was erased"),
    ("engage.lua", "if c.engaged == 0 then", "if true then", "every word is the first"),
    ("engage.lua", "  H.delivery_done(c)\n", "", "what failed is never made good"),
    ("shared/line.lua", "if c.failing > 0 or c.failed <", "if c.failed <", "what fails is told again each time"),
];

#[test]
fn every_mutant_has_its_one_place() {
    let lua = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/queue/src/store/lua");
    for (file, from, _, breaks) in MUTANTS {
        let text = std::fs::read_to_string(lua.join(file)).expect("a script");
        assert_eq!(text.matches(from).count(), 1, "{file}: {breaks}");
    }
    assert!(MUTANTS.len() >= 20);
}

#[test]
#[ignore = "plays hundreds of histories: make test-long"]
fn every_mutant_of_the_scripts_is_caught_by_random_histories() {
    assert!(!is_caught(&("", "", "", "nothing is planted")), "an editor alone is no mistake");
    let survivors: Vec<&str> = MUTANTS.iter().filter(|mutant| !is_caught(mutant)).map(|mutant| mutant.3).collect();
    assert_eq!(survivors, [""; 0], "the differential test does not see these");
}

fn is_caught((file, from, to, breaks): &(&str, &'static str, &'static str, &str)) -> bool {
    let planted = !from.is_empty();
    let edits = [Edit { from, to }];
    let editor = Editor::new(if planted { &edits } else { &[] });
    let bench = RefCell::new(Bench::edited(editor.clone()));
    let config = Config {
        cases: if planted { HISTORIES } else { 20 },
        rng_seed: seed(),
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let played = RefCell::new(0u32);
    let play = |(which, ops): (u8, Vec<TimedOp>)| {
        *played.borrow_mut() += 1;
        bench.borrow_mut().play(which, &ops).map(drop)
    };
    let with_losses = prop_oneof![4 => history(160), 1 => history_of_losses(160)];
    let outcome = TestRunner::new(config.clone())
        .run(&(any::<u8>(), history(160)), play)
        .and_then(|()| TestRunner::new(config).run(&(any::<u8>(), with_losses), play));
    assert!(editor.all_planted(), "{file}: the store does not load {from:?}");
    let how = match outcome {
        Ok(()) => "SURVIVED".to_owned(),
        Err(TestError::Fail(how, _)) => how.message().to_owned(),
        Err(why @ TestError::Abort(_)) => panic!("{breaks}: {why}"),
    };
    let word = how.rfind(": the ").map_or(how.as_str(), |at| &how[at + 2..]);
    println!("{file}: {breaks}: after {} histories: {word:.60}", played.borrow());
    // Whatever else failed would say nothing about the scripts.
    let differs = ["differ", "cannot be understood"].iter().any(|word| how.contains(word));
    assert!(how == "SURVIVED" || differs, "{file}: {breaks}: {how}");
    differs
}
