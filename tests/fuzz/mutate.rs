//! Good inputs, and what chance makes of them.

use holdfast_domain::histories::seed;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::path::{Path, PathBuf};

/// What is done to an input.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// One bit is turned.
    Flip(Index, u8),
    /// One byte becomes another.
    Set(Index, u8),
    /// A stretch goes.
    Cut(Index, u8),
    /// A stretch comes twice.
    Twice(Index, u8),
    /// One of the words that mean something here, or nearly something.
    Word(Index, Index),
    /// The rest is another input's.
    Splice(Index, Index),
    /// Noise.
    Noise(Index, Vec<u8>),
}

/// Words at which numbers and texts go wrong.
pub(crate) const ODD: [&str; 26] = [
    "",
    "0",
    "-1",
    "-0",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "0x10",
    "1.5",
    " 7",
    "07",
    "4294967296",
    "9007199254740992",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "\0",
    "\n",
    "\u{feff}",
    "é",
    "%s",
    "{}",
    "{x}",
    "\"",
    "'",
];

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    prop_oneof![
        3 => (place(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (place(), 1..40u8).prop_map(|(at, n)| Change::Cut(at, n)),
        2 => (place(), 1..40u8).prop_map(|(at, n)| Change::Twice(at, n)),
        4 => (place(), place()).prop_map(|(at, word)| Change::Word(at, word)),
        1 => (place(), place()).prop_map(|(at, other)| Change::Splice(at, other)),
        1 => (place(), vec(any::<u8>(), 1..16)).prop_map(|(at, noise)| Change::Noise(at, noise)),
    ]
}

/// Carries out changes, in order.
pub(crate) fn changed(mut bytes: Vec<u8>, changes: &[Change], words: &[String], others: &[Vec<u8>]) -> Vec<u8> {
    for change in changes {
        let len = bytes.len();
        let at = |place: &Index| place.index(len + 1);
        match change {
            Change::Flip(place, bit) if len > 0 => bytes[place.index(len)] ^= 1 << bit,
            Change::Set(place, byte) if len > 0 => bytes[place.index(len)] = *byte,
            Change::Flip(..) | Change::Set(..) => {}
            Change::Cut(place, n) => drop(bytes.drain(at(place)..(at(place) + usize::from(*n)).min(len))),
            Change::Twice(place, n) => {
                let stretch = bytes[at(place)..(at(place) + usize::from(*n)).min(len)].to_vec();
                insert(&mut bytes, at(place), &stretch);
            }
            Change::Word(place, word) => {
                let word = words[word.index(words.len())].as_bytes();
                insert(&mut bytes, at(place), word);
            }
            Change::Splice(place, other) => {
                let other = &others[other.index(others.len())];
                let from = at(place);
                bytes.truncate(from);
                bytes.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            Change::Noise(place, noise) => insert(&mut bytes, at(place), noise),
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    bytes.splice(at..at, more.iter().copied());
}

/// The files of a folder below `tests/`, by name.
pub(crate) fn folder(below: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().filter(|path| path.is_file()).map(|path| std::fs::read(path).expect("a file")).collect()
}

/// How many times as many inputs as `make test` tries: `HOLDFAST_FUZZ`.
pub(crate) fn times() -> u32 {
    std::env::var("HOLDFAST_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

pub(crate) fn config(inputs: u32) -> Config {
    Config {
        cases: inputs.saturating_mul(times()),
        rng_seed: seed(),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    }
}

/// Tries every good input as it is, then `inputs` changed ones. `try_one` tells whether the input meant something. An
/// input that fails is made as small as it goes and printed: keep it in `corpus/`.
pub(crate) fn fuzz(name: &str, corpus: &[Vec<u8>], words: &[&str], inputs: u32, try_one: impl Fn(&[u8]) -> bool) {
    let words: Vec<String> = words.iter().chain(&ODD).map(|word| (*word).to_owned()).collect();
    for good in corpus {
        try_one(good);
    }
    let understood = std::cell::Cell::new(0u32);
    let strategy = (any::<Index>(), vec(change(), 0..6)).prop_map(|(which, changes)| {
        let bytes = changed(corpus[which.index(corpus.len())].clone(), &changes, &words, corpus);
        Input(bytes)
    });
    let config = config(inputs);
    let tried = config.cases;
    let result = TestRunner::new(config).run(&strategy, |input| {
        understood.set(understood.get() + u32::from(try_one(&input.0)));
        Ok::<(), TestCaseError>(())
    });
    println!("{name}: {tried} inputs, {} understood", understood.get());
    result.unwrap_or_else(|found| panic!("{name}, {:?}: {found}", seed()));
    assert!(understood.get() > 0, "{name}: nothing was ever understood");
}

/// Bytes that print as what they are.
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}
