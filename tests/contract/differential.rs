//! Random histories, played on the line in memory and on the scripts in a real Redis: the same answers and events at
//! every step, the same records, order, timers and ledger at the end.

use crate::fixture::settings;
use holdfast_domain::histories::{Player, TimedOp, history, seed};
use holdfast_domain::{Command, HelplineId};
use holdfast_queue::store::Store;
use holdfast_queue::store::redis::RedisStore;

use holdfast_tests::proxy::Link;
use holdfast_tests::redis_server::RedisServer;
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
    store: RedisStore,
    connection: redis::aio::MultiplexedConnection,
    helpline: HelplineId,
    node: u32,
    _link: Option<Link>,
    _server: RedisServer,
}

impl Bench {
    fn new() -> Self {
        Self::on(RedisServer::start(&["--appendonly", "no"]), None)
    }

    /// The same with an editor between the store and its client.
    pub fn edited(editor: Arc<Editor>) -> Self {
        Self::on(RedisServer::start_on_port(&["--appendonly", "no"]), Some(editor))
    }

    fn on(server: RedisServer, editor: Option<Arc<Editor>>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let link = editor.map(|editor| runtime.block_on(Link::edited("store", server.port(), Some(editor))));
        let (store, connection, node) = runtime.block_on(async {
            let through = link.as_ref().map(|link| format!("redis://127.0.0.1:{}", link.port()));
            let settings = settings(vec![through.unwrap_or_else(|| server.url().to_owned())], false);
            let store = RedisStore::connect_with_given_time(&settings).await.expect("a store");
            let mut connection = server.connection().await;
            let node = node_of(&mut connection).await;
            (store, connection, node)
        });
        let helpline = HelplineId::parse("test").expect("a name");
        Self { runtime, store, connection, helpline, node, _link: link, _server: server }
    }

    /// Plays a history on both, and compares.
    pub fn play(&mut self, which: u8, ops: &[TimedOp]) -> Result<Player, TestCaseError> {
        let mut player = Player::new(self.node);
        let runtime = &self.runtime;
        let flushed: String =
            runtime.block_on(redis::cmd("FLUSHALL").query_async(&mut self.connection)).expect("an empty store");
        assert_eq!(flushed, "OK");
        self.step(&mut player, &Player::first_command(which))?;
        for op in ops {
            let command = player.command(op);
            self.step(&mut player, &command)?;
        }
        let found = self.runtime.block_on(self.store.snapshot(&self.helpline));
        let found = found.map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&found, player.line.snapshot(), "the records differ at the end");
        Ok(player)
    }

    fn step(&self, player: &mut Player, command: &Command) -> Result<(), TestCaseError> {
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
    let config = Config {
        cases: histories(),
        rng_seed: seed(),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let bench = RefCell::new(Bench::new());
    let counts = RefCell::new((0u64, 0u64));
    let reached: RefCell<BTreeMap<_, u64>> = RefCell::default();
    runner
        .run(&(any::<u8>(), history(160)), |(which, ops)| {
            let player = bench.borrow_mut().play(which, &ops)?;
            counts.borrow_mut().0 += player.counts.0;
            counts.borrow_mut().1 += player.counts.1;
            for (pair, n) in player.reached {
                *reached.borrow_mut().entry(pair).or_default() += n;
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    let (all, effective) = counts.into_inner();
    let percent = effective * 100 / all;
    println!("{} histories, {all} commands, {percent} % took effect", histories());
    assert!(percent >= 60, "only {percent} % of the commands took effect: the histories test too little");
    let wanted = if histories() >= 2000 { 50 } else { 1 };
    let rare: Vec<_> = reached.borrow().iter().filter(|(_, n)| **n < wanted).map(|(p, n)| (*p, *n)).collect();
    assert_eq!(rare, Vec::new(), "these (state, command) pairs were reached less than {wanted} times");
}
