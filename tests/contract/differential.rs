//! Random histories, played on the line in memory and on the scripts in a real Redis: the same answers and events at
//! every step, the same records, order, timers and ledger at the end.

use crate::fixture::settings;
use holdfast_domain::histories::{Player, TimedOp, Turn, history, history_of_losses, seed};
use holdfast_domain::{Command, HelplineId};
use holdfast_queue::store::Store;
use holdfast_queue::store::redis::RedisStore;

use holdfast_tests::proxy::Link;
use holdfast_tests::redis_server::{RedisServer, as_reader};
use holdfast_tests::script_editor::Editor;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Runtime;

fn histories() -> u32 {
    std::env::var("HOLDFAST_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

/// The first 32 bits of the node's replication id, as scripts read them.
async fn node_of(connection: &mut redis::aio::MultiplexedConnection) -> u32 {
    let info: String = redis::cmd("INFO").arg("replication").query_async(connection).await.expect("INFO");
    let line = info.lines().find_map(|l| l.strip_prefix("master_replid:")).expect("a replication id");
    u32::from_str_radix(&line[..8], 16).expect("hexadecimal digits")
}

/// The two stores, side by side.
pub struct Bench {
    runtime: Runtime,
    store: Arc<RedisStore>,
    connection: redis::aio::MultiplexedConnection,
    helpline: HelplineId,
    _link: Option<Link>,
    copy: Vec<(Vec<u8>, Vec<u8>)>,
    server: RedisServer,
}

impl Bench {
    /// On a Redis of their own.
    pub fn new() -> Self {
        Self::on(RedisServer::start(&["--appendonly", "no", "--enable-debug-command", "local"]), None)
    }

    /// The same with an editor between the store and its client.
    pub fn edited(editor: Arc<Editor>) -> Self {
        let settings = ["--appendonly", "no", "--enable-debug-command", "local"];
        Self::on(RedisServer::start_on_port(&settings), Some(editor))
    }

    fn on(server: RedisServer, editor: Option<Arc<Editor>>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let link = editor.map(|editor| runtime.block_on(Link::edited("store", server.port(), Some(editor))));
        let (store, connection) = runtime.block_on(async {
            let through = link.as_ref().map(|link| as_reader(&format!("redis://127.0.0.1:{}", link.port())));
            let settings = settings(vec![through.unwrap_or_else(|| server.reader_url())], false);
            let store = RedisStore::connect_with_given_time(&settings).await.expect("a store");
            (Arc::new(store), server.connection().await)
        });
        let helpline = HelplineId::parse("test").expect("a name");
        Self { runtime, store, connection, helpline, _link: link, copy: Vec::new(), server }
    }

    /// Plays a history on both, and compares.
    pub fn play(&mut self, which: u8, ops: &[TimedOp]) -> Result<Player, TestCaseError> {
        self.play_and_look(which, ops, |_, _| ())
    }

    /// The same, with a look at what Redis holds after each command, by its number.
    pub fn play_and_look(
        &mut self,
        which: u8,
        ops: &[TimedOp],
        mut look: impl FnMut(&mut Self, usize),
    ) -> Result<Player, TestCaseError> {
        self.tell(&mut redis::cmd("FLUSHALL"));
        let mut player = Player::new(self.node());
        self.store.set_life(&Player::life(0));
        self.step(&mut player, &Player::first_command(which))?;
        for (number, op) in ops.iter().enumerate() {
            if let Some(turn) = player.turn(op) {
                self.store.set_life(&player.next_life());
                self.take(turn);
                player.take(turn, self.node());
            }
            let command = player.command(op);
            self.step(&mut player, &command)?;
            look(self, number);
        }
        let found = self.runtime.block_on(self.store.snapshot(&self.helpline));
        let found = found.map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&found, player.line.snapshot(), "the records differ at the end");
        Ok(player)
    }

    /// What happens to a Redis.
    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Copy => self.copy(),
            Turn::LoseEverything => self.tell(&mut redis::cmd("FLUSHALL")),
            Turn::FailOver | Turn::OlderCopy => {
                self.tell(&mut redis::cmd("FLUSHALL"));
                for (key, value) in std::mem::take(&mut self.copy) {
                    self.tell(redis::cmd("RESTORE").arg(&key).arg(0).arg(&value).arg("REPLACE"));
                    self.copy.push((key, value));
                }
                self.tell(redis::cmd("DEBUG").arg("CHANGE-REPL-ID"));
            }
        }
    }

    fn copy(&mut self) {
        let connection = &mut self.connection;
        self.copy = self.runtime.block_on(async {
            let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(connection).await.expect("keys");
            let mut copy = Vec::with_capacity(keys.len());
            for key in keys {
                let value = redis::cmd("DUMP").arg(&key).query_async(connection).await.expect("a value");
                copy.push((key, value));
            }
            copy
        });
    }

    fn tell(&mut self, command: &mut redis::Cmd) {
        let said: String = self.ask(command);
        assert_eq!(said, "OK");
    }

    /// Where the Redis is, for whoever may do everything there.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Waits for what looks at the Redis.
    pub fn wait_for<T>(&self, looking: impl Future<Output = T>) -> T {
        self.runtime.block_on(looking)
    }

    /// What Redis itself answers.
    /// Brings the audit up to now.
    pub fn audit(&mut self) {
        let (store, helpline) = (Arc::clone(&self.store), self.helpline.clone());
        self.runtime.block_on(holdfast_queue::audit::bring_up_to_date(store, &helpline));
    }

    pub fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> T {
        self.runtime.block_on(command.query_async(&mut self.connection)).expect("an answer")
    }

    fn node(&mut self) -> u32 {
        self.runtime.block_on(node_of(&mut self.connection))
    }

    /// Carries a command out on both, and compares what they answer.
    pub fn step(&self, player: &mut Player, command: &Command) -> Result<(), TestCaseError> {
        let expected = player.play(command);
        self.store.set_time(player.wall_ms);
        let found = self.runtime.block_on(self.store.execute(&self.helpline, command));
        let found = found.map_err(|e| TestCaseError::fail(format!("{command:?}: {e}")))?;
        prop_assert_eq!(found, expected, "the answers differ: {:?}", command);
        Ok(())
    }
}

#[test]
fn random_histories_play_the_same_on_both_stores() {
    let wanted = if histories() >= 2000 { 50 } else { 1 };
    let refused = play_the_same(history(160), histories(), 60, |_| wanted);
    for why in ["line_full", "resources_first", "quota_exceeded", "challenge", "capped"] {
        let often = refused.get(why).copied().unwrap_or_default();
        assert!(often >= wanted, "{why}: only {often} requests");
    }
}

#[test]
fn histories_in_which_the_store_is_lost_play_the_same_on_both_stores() {
    // The other test reaches the rest.
    let wanted = |command: &str| u64::from(matches!(command, "restore" | "reassert"));
    play_the_same(history_of_losses(160), histories().div_ceil(4), 50, wanted);
}

/// Plays so many histories on both, of whose commands so many percent must take effect, and each must be reached so
/// often in every state that it meets. Returns how often requests were refused, by why.
fn play_the_same(
    history: impl Strategy<Value = Vec<TimedOp>>,
    cases: u32,
    effect: u64,
    wanted: impl Fn(&str) -> u64,
) -> BTreeMap<&'static str, u64> {
    let config =
        Config { cases, rng_seed: seed(), failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let bench = RefCell::new(Bench::new());
    let counts = RefCell::new((0u64, 0u64));
    let reached: RefCell<BTreeMap<_, u64>> = RefCell::default();
    let refused: RefCell<BTreeMap<_, u64>> = RefCell::default();
    runner
        .run(&(any::<u8>(), history), |(which, ops)| {
            let player = bench.borrow_mut().play(which, &ops)?;
            counts.borrow_mut().0 += player.counts.0;
            counts.borrow_mut().1 += player.counts.1;
            for (pair, n) in player.reached {
                *reached.borrow_mut().entry(pair).or_default() += n;
            }
            for (why, n) in player.refused {
                *refused.borrow_mut().entry(why).or_default() += n;
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    let (all, effective) = counts.into_inner();
    let percent = effective * 100 / all;
    println!("{cases} histories, {all} commands, {percent} % took effect");
    assert!(percent >= effect, "only {percent} % of the commands took effect: the histories test too little");
    let rare: Vec<_> =
        reached.borrow().iter().filter(|(pair, n)| **n < wanted(pair.1)).map(|(p, n)| (*p, *n)).collect();
    assert_eq!(rare, Vec::new(), "these (state, command) pairs were reached too seldom");
    refused.into_inner()
}
