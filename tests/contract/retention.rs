//! Nothing is kept for ever: whatever histories with losses and failovers leave in a real Redis has an expiry or an owner,
//! and when everybody has gone, time alone removes all that says something of anybody.

use crate::differential::Bench;
use crate::fixture::settings;
use holdfast_domain::histories::{Player, history, history_of_losses, seed};
use holdfast_domain::ids::DigestHex;
use holdfast_domain::{ChatState, Command, EventKind};
use holdfast_queue::store::census::{Census, Unowned};
use holdfast_queue::store::redis::census;
use holdfast_tests::redis_server::as_operator;
use holdfast_tests::script_editor::{Edit, Editor};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

/// After so many seconds of nothing but ticks whatever can end has ended, been forgotten, and left no event behind.
const LATER_S: u32 = 60;

#[test]
fn after_hundreds_of_chats_everything_has_an_expiry_or_an_owner() {
    let chats = play(&mut Bench::new(), 800);
    println!("{chats} chats");
}

#[test]
#[ignore = "plays thousands of histories: make test-long"]
fn after_a_hundred_thousand_chats_everything_has_an_expiry_or_an_owner() {
    let chats = play(&mut Bench::new(), 100_000);
    println!("{chats} chats");
}

#[test]
fn what_nothing_would_remove_is_found() {
    let planted = [
        ("H.set_timer('forget:' .. c.id, now + P.retention)", "has ended, and nothing will forget it"),
        ("if outcome ~= 'abandoned' then c.blobs.handoff = '' end", "has ended, and has content"),
        ("redis.call('DEL', base .. 'request:' .. c.key)\n      H.tell", "the chat that it made is gone"),
        ("H.set_timer('block:' .. b.id, till)", "nothing will end it"),
        ("H.set_timer('gone:' .. r.id, now + P.retention)", "left, and nothing will forget them"),
    ];
    for (from, why) in planted {
        let to = if from.ends_with("H.tell") { "H.tell" } else { "" };
        let editor = Editor::new(&[Edit { from, to }]);
        let mut bench = Bench::edited(editor.clone());
        let found = histories(200).find_map(|ops| {
            // The other store differs, for its scripts are whole.
            let _ = bench.play(1, &ops);
            let (_, unowned) = look(&bench);
            (!unowned.is_empty()).then_some(unowned)
        });
        assert!(editor.all_planted(), "{from}");
        let found = found.unwrap_or_default();
        assert!(found.iter().any(|unowned| unowned.why == why), "{from}: {found:?}");
    }
}

fn histories(length: usize) -> impl Iterator<Item = Vec<holdfast_domain::histories::TimedOp>> {
    let mut runner = TestRunner::new(Config { rng_seed: seed(), ..Config::default() });
    let histories = prop_oneof![history(length), history_of_losses(length)];
    (0..20_000).map(move |_| histories.new_tree(&mut runner).expect("a history").current())
}

/// Plays histories until so many chats were in them; returns how many.
fn play(bench: &mut Bench, wanted: usize) -> usize {
    let mut chats = 0;
    for (number, ops) in histories(400).enumerate() {
        let mut player = bench.play(number as u8, &ops).unwrap_or_else(|e| panic!("{e}"));
        // Whatever is due is handled, as it would be.
        tick(bench, &mut player, 1);
        let (census, unowned) = look(bench);
        assert_eq!(unowned, [], "history {number}: {census}");
        chats += usize::try_from(player.told.get(&EventKind::Requested).copied().unwrap_or(0)).unwrap_or(0);
        tick(bench, &mut player, LATER_S);
        let (census, unowned) = look(bench);
        assert_eq!(unowned, [], "history {number}, when everybody has gone: {census}");
        assert_eq!((census.chats(), census.responders()), (vouched_for(&player), 0), "history {number}: {census}");
        if chats >= wanted {
            break;
        }
    }
    chats
}

/// Nobody comes, and nobody is there any more: time alone passes.
fn tick(bench: &Bench, player: &mut Player, seconds: u32) {
    for _ in 0..seconds {
        player.wall_ms += 1_000;
        for _ in 0..3 {
            let by = DigestHex::parse("7430").expect("a digest");
            bench.step(player, &Command::Tick { by, limit: 100 }).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

/// Chats that somebody vouches for wait until somebody has time for them, and those kept for a partner for its word.
fn vouched_for(player: &Player) -> usize {
    let chats = player.line.snapshot().chats.values();
    chats.filter(|c| c.state == ChatState::Held || c.attested && c.state != ChatState::Ended).count()
}

fn look(bench: &Bench) -> (Census, Vec<Unowned>) {
    let settings = settings(vec![as_operator(bench.url())], false);
    bench.wait_for(census::take(&settings)).expect("a census")
}

#[test]
fn the_user_for_it_may_look_at_everything_and_change_nothing() {
    const USERS: &str = include_str!("../../deploy/redis/users.conf");
    let user = USERS.lines().find_map(|line| line.strip_prefix("user holdfast-census ")).expect("that user");
    let mut bench = Bench::new();
    bench.play(1, &histories(400).next().expect("a history")).unwrap_or_else(|e| panic!("{e}"));
    let mut admit = redis::cmd("ACL");
    admit
        .arg("SETUSER")
        .arg("holdfast-census")
        .arg(user.replace("PASSWORD", "secret").split(' ').collect::<Vec<_>>());
    let () = bench.ask(&admit);
    let url = format!("{}?user=holdfast-census&pass=secret", bench.url());

    let (census, _) = bench.wait_for(census::take(&settings(vec![url.clone()], false))).expect("a census");

    assert!(census.keys() > 10, "{census}");
    bench.wait_for(async {
        let client = redis::Client::open(url).expect("an address");
        let mut theirs = client.get_multiplexed_async_connection().await.expect("a way in");
        for tried in [
            &["SET", "hf:{test}:policy", "x"][..],
            &["DEL", "hf:{test}:line"],
            &["GET", "elsewhere"],
            &["FLUSHALL"],
        ] {
            let said = redis::cmd(tried[0]).arg(&tried[1..]).query_async::<redis::Value>(&mut theirs).await;
            assert_eq!(said.expect_err("refused").code(), Some("NOPERM"), "{tried:?}");
        }
    });
}
