//! What histories leave in a real Redis is what the schema says, and the other way round: nothing is kept that
//! SECURITY.md does not name, and nothing is named that is not kept.

use crate::differential::Bench;
use holdfast_domain::histories::{history, history_of_losses, seed};
use holdfast_queue::store::schema::{KEYS, Key, kind_of};
use holdfast_tests::script_editor::{Edit, Editor};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;

/// A kind of key and a field of it.
type Place = (&'static str, String);

#[test]
fn redis_holds_what_the_schema_says_and_nothing_else() {
    let stated = stated();
    let (found, played) = found_by(&mut Bench::new(), |found, played| played >= 20 && found.is_superset(&stated));
    println!("{} kinds of key, {} fields, found in {played} histories", KEYS.len(), stated.len());
    let unstated: Vec<_> = found.difference(&stated).collect();
    let missing: Vec<_> = stated.difference(&found).collect();
    assert!(unstated.is_empty(), "in Redis, and not in the schema: {unstated:?}");
    assert!(missing.is_empty(), "in the schema, and never in Redis: {missing:?}");
}

#[test]
fn a_field_that_the_schema_does_not_name_is_found() {
    const PLANTED: Edit =
        Edit { from: "L.accepted = L.accepted + 1", to: "L.accepted = L.accepted + 1; L.address = 1" };
    let editor = Editor::new(&[PLANTED]);
    let (found, _) = found_by(&mut Bench::edited(editor.clone()), |_, played| played >= 1);
    assert!(editor.all_planted());
    let unstated: Vec<_> = found.difference(&stated()).cloned().collect();
    assert_eq!(unstated, [("hf:{HELPLINE}:line", "address".to_owned())]);
}

fn stated() -> BTreeSet<Place> {
    let parts = KEYS.iter().flat_map(|key| key.parts.iter().map(move |part| (key.pattern, part.fields)));
    parts.flat_map(|(key, fields)| fields.iter().map(move |field| (key, (*field).to_owned()))).collect()
}

/// What histories leave, until it is enough, and how many those were.
fn found_by(bench: &mut Bench, enough: impl Fn(&BTreeSet<Place>, u8) -> bool) -> (BTreeSet<Place>, u8) {
    let mut runner = TestRunner::new(Config { rng_seed: seed(), ..Config::default() });
    let histories = prop_oneof![2 => history(600), 1 => history_of_losses(160)];
    let (mut found, mut played) = (BTreeSet::new(), 0);
    while played < 200 && !enough(&found, played) {
        played += 1;
        let ops = histories.new_tree(&mut runner).expect("a history").current();
        let looked = |bench: &mut Bench, number: usize| {
            if number.is_multiple_of(16) {
                bench.audit();
                found.extend(places(bench));
            }
        };
        bench.play_and_look(played, &ops, looked).unwrap_or_else(|e| panic!("{e}"));
    }
    (found, played)
}

/// Every key, its type, and its fields; of a stream the last events.
const LOOK: &str = "
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, fields = redis.call('TYPE', key).ok, {}
  if kind == 'hash' then fields = redis.call('HKEYS', key) end
  if kind == 'stream' then
    for _, event in ipairs(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 60)) do
      fields[#fields + 1] = event[2][1] .. ' ' .. event[2][2]
    end
  end
  found[#found + 1] = { key, kind, fields }
end
return found";

/// Everything that is there, by kind.
fn places(bench: &mut Bench) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    let found: Vec<(String, String, Vec<String>)> = bench.ask(redis::cmd("EVAL").arg(LOOK).arg(0));
    for (key, of_type, fields) in found {
        let kind = kind_of(&key).unwrap_or_else(|| panic!("{key} is of no kind"));
        assert_eq!(of_type, kind.of_type, "{key}");
        places.extend(names(kind, fields).into_iter().map(|name| (kind.pattern, name)));
    }
    places
}

fn names(kind: &Key, fields: Vec<String>) -> Vec<String> {
    let is_number = |field: &String| field.bytes().all(|b| b.is_ascii_digit());
    match kind.of_type {
        // An entry is a text of its own, and a seal.
        "stream" if kind.pattern.ends_with(":audit:entries") => vec!["e".to_owned(), "s".to_owned()],
        "hash" if kind.pattern.ends_with(":blocked") => vec!["WHOM".to_owned()],
        "hash" => fields.into_iter().map(|f| if is_number(&f) { "REVISION".to_owned() } else { f }).collect(),
        "stream" => fields.iter().flat_map(|event| words(event)).collect(),
        "string" => vec!["value".to_owned()],
        _ => vec!["member".to_owned()],
    }
}

/// What an event's words are called.
fn words(event: &str) -> Vec<String> {
    let words = event.strip_prefix("e ").expect("an event is one field");
    words.split(' ').map(|word| word.split_once('=').expect("a word of an event").0.to_owned()).collect()
}
