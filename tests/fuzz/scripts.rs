//! Every script against a real Redis with arguments that no service would send. Whatever they are, the script does all
//! of it or nothing: after each the records, indexes, timers and the ledger agree, and what failed has changed nothing.

use crate::mutate::{Change, ODD, change, changed, config};
use holdfast_domain::histories::{Aim, Op, Player, PresenceDoes, TimedOp, history, seed};
use holdfast_domain::invariants::broken;
use holdfast_domain::{Command, HelplineId, Snapshot};
use holdfast_queue::store::Store;
use holdfast_queue::store::redis::{RedisSettings, RedisStore};
use holdfast_tests::redis_server::RedisServer;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::cell::RefCell;
use tokio::runtime::Runtime;

/// What is done to the arguments of one command.
#[derive(Debug, Clone)]
enum Bent {
    /// One is changed.
    Changed(Index, Vec<Change>),
    /// One is replaced by an odd word.
    Odd(Index, Index),
    /// One is missing.
    Missing(Index),
    /// One is too many.
    More(Index, Index),
    /// Two have changed places.
    Swapped(Index, Index),
    /// One is this.
    Is(usize, String),
}

fn bent() -> impl Strategy<Value = Bent> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), vec(change(), 1..3)).prop_map(|(at, changes)| Bent::Changed(at, changes)),
        6 => (place(), place()).prop_map(|(at, word)| Bent::Odd(at, word)),
        1 => place().prop_map(Bent::Missing),
        1 => (place(), place()).prop_map(|(at, word)| Bent::More(at, word)),
        2 => (place(), place()).prop_map(|(a, b)| Bent::Swapped(a, b)),
    ]
}

/// The first argument is the time, which only tests give. Of a new policy only the revision is bent: what it says was
/// checked as a whole, and no script can read a document.
fn bend(command: &Command, arguments: &mut Vec<Vec<u8>>, bent: &Bent) {
    let n = if matches!(command, Command::SetPolicy { .. }) { 1 } else { arguments.len() - 1 };
    if n == 0 {
        return;
    }
    let at = |place: &Index| 1 + place.index(n);
    let odd = |word: &Index| ODD[word.index(ODD.len())].as_bytes().to_vec();
    let words: Vec<String> = ODD.iter().map(|word| (*word).to_owned()).collect();
    match bent {
        Bent::Changed(place, changes) => {
            let others = arguments.clone();
            let argument = &mut arguments[at(place)];
            *argument = changed(std::mem::take(argument), changes, &words, &others);
        }
        Bent::Odd(place, word) => arguments[at(place)] = odd(word),
        Bent::Missing(place) => drop(arguments.remove(at(place))),
        Bent::More(place, word) => arguments.insert(at(place), odd(word)),
        Bent::Swapped(a, b) => arguments.swap(at(a), at(b)),
        Bent::Is(which, word) => arguments[*which] = word.as_bytes().to_vec(),
    }
}

struct Bench {
    runtime: Runtime,
    store: RedisStore,
    connection: redis::aio::MultiplexedConnection,
    helpline: HelplineId,
    /// Scripts run with bent arguments: carried out, refused by a word, failed.
    ended: [u64; 3],
    _server: RedisServer,
}

impl Bench {
    fn new() -> Self {
        let server = RedisServer::start(&["--appendonly", "no"]);
        let runtime = Runtime::new().expect("a runtime");
        let (store, connection) = runtime.block_on(async {
            let settings = RedisSettings::at(vec![server.reader_url()]);
            let store = RedisStore::connect_with_given_time(&settings).await.expect("a store");
            (store, server.connection().await)
        });
        let helpline = HelplineId::parse("test").expect("a name");
        Self { runtime, store, connection, helpline, ended: [0; 3], _server: server }
    }

    fn play(&mut self, which: u8, ops: &[(TimedOp, Option<Bent>)]) -> Result<(), TestCaseError> {
        let flushed = redis::cmd("FLUSHALL");
        let _: String = self.runtime.block_on(flushed.query_async(&mut self.connection)).expect("an empty store");
        let mut player = Player::new(7);
        self.as_meant(&mut player, &Player::first_command(which))?;
        for (op, bent) in ops {
            let command = player.command(op);
            match bent {
                None => self.as_meant(&mut player, &command)?,
                // From here on the line in memory and the one in Redis may go different ways.
                Some(bent) => self.as_bent(&player, &command, bent)?,
            }
        }
        Ok(())
    }

    fn as_meant(&self, player: &mut Player, command: &Command) -> Result<(), TestCaseError> {
        player.play(command);
        self.store.set_time(player.wall_ms);
        let done = self.runtime.block_on(self.store.execute(&self.helpline, command));
        done.map(drop).map_err(|e| TestCaseError::fail(format!("{command:?} as it should be: {e}")))
    }

    fn as_bent(&mut self, player: &Player, command: &Command, bent: &Bent) -> Result<(), TestCaseError> {
        self.store.set_time(player.wall_ms);
        let (code, mut arguments) = self.store.script_of(command).expect("arguments");
        bend(command, &mut arguments, bent);
        let before = self.snapshot(command, &arguments)?;
        let script = redis::Script::new(&code);
        let mut call = script.key(format!("hf:{{{}}}:line", self.helpline));
        for argument in &arguments {
            call.arg(argument.as_slice());
        }
        let answer: Result<Vec<redis::Value>, _> = self.runtime.block_on(call.invoke_async(&mut self.connection));
        let after = self.snapshot(command, &arguments)?;
        let told = describe(command, &arguments);
        prop_assert_eq!(broken(&after), Vec::<String>::new(), "after {}", told);
        match answer {
            Ok(answer) => {
                let refused = answer.first() != Some(&redis::Value::BulkString(b"ok".to_vec()));
                self.ended[usize::from(refused)] += 1;
                prop_assert!(!refused || same(&before, &after), "refused, and changed: {}", told);
            }
            Err(error) => {
                self.ended[2] += 1;
                prop_assert!(same(&before, &after), "failed half way ({error}): {}", told);
            }
        }
        Ok(())
    }

    /// Every key of the line, understood, or the reason why not.
    fn snapshot(&self, command: &Command, arguments: &[Vec<u8>]) -> Result<Snapshot, TestCaseError> {
        let read = self.runtime.block_on(self.store.snapshot(&self.helpline));
        read.map_err(|e| {
            TestCaseError::fail(format!("not understood any more: {e}; {}", describe(command, arguments)))
        })
    }
}

/// A refusal moves the clock and nothing else.
fn same(before: &Snapshot, after: &Snapshot) -> bool {
    let clock = after.clock;
    Snapshot { clock, ..before.clone() } == *after
}

fn describe(command: &Command, arguments: &[Vec<u8>]) -> String {
    let shown: Vec<String> = arguments.iter().map(|a| format!("'{}'", a.escape_ascii())).collect();
    format!("{} {}", command.word(), shown.join(" "))
}

#[test]
fn whatever_a_script_is_given_it_does_all_of_it_or_nothing() {
    let op = (history(2), prop::option::weighted(0.25, bent()));
    let ops = vec(op, 20..60).prop_map(|ops| {
        ops.into_iter()
            .filter_map(|(mut history, bent)| Some((history.pop()?, bent)))
            .collect::<Vec<(TimedOp, Option<Bent>)>>()
    });
    let bench = RefCell::new(Bench::new());
    let mut config = config(60);
    config.max_shrink_iters = 300;
    let result =
        TestRunner::new(config).run(&(any::<u8>(), ops), |(which, ops)| bench.borrow_mut().play(which, &ops));
    let [done, refused, failed] = bench.borrow().ended;
    println!("scripts with bent arguments: {done} carried out, {refused} refused, {failed} failed");
    result.unwrap_or_else(|found| panic!("{:?}: {found}", seed()));
    assert!(done + refused + failed > 100 && failed > 0, "too little was tried");
}

/// Arguments by which a script once wrote what nobody could read, or what did not agree: which argument, and what.
const FOUND: [(Op, usize, &str); 3] = [
    (Op::Presence(PresenceDoes::SignIn(0, 1, true), 0, Aim::True), 2, "0"),
    (Op::Presence(PresenceDoes::SignIn(0, 1, true), 0, Aim::True), 2, "0000000100000000"),
    (Op::Request { urgency: 1, need: 0, attested: true, again: None, wish: 0 }, 6, "0@10000002,00000010;2000@-"),
];

#[test]
fn what_a_script_once_took_by_mistake_it_refuses() {
    let mut bench = Bench::new();
    for (op, at, argument) in FOUND {
        let mut player = Player::new(7);
        let flushed = redis::cmd("FLUSHALL");
        let _: String =
            bench.runtime.block_on(flushed.query_async(&mut bench.connection)).expect("an empty store");
        bench.as_meant(&mut player, &Player::first_command(0)).expect("a policy");
        let command = player.command(&(0, op));
        let whole = Bent::Is(at, argument.to_owned());
        bench.as_bent(&player, &command, &whole).unwrap_or_else(|e| panic!("{argument:?}: {e}"));
    }
    assert_eq!(bench.ended, [0, 0, 3]);
}
