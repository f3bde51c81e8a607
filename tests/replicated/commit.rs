//! WAIT before the word is given, and the traps on the way.

use crate::line::{Line, accept, careful, fence, following, heartbeat, request, sign_in};
use futures::future::join_all;
use holdfast_domain::Reply;
use holdfast_queue::store::redis::RedisSettings;
use holdfast_queue::store::{Store, StoreError};
use holdfast_tests::redis_cluster::RedisCluster;
use holdfast_tests::redis_sentinel::{Group, RedisSentinel};
use holdfast_tests::redis_server::RedisServer;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Replicas that can be frozen without the primary refusing writes at once: then it is WAIT that decides.
async fn patient_group() -> RedisSentinel {
    let down_after = Duration::from_secs(60);
    RedisSentinel::start_as(Group { min_replicas_to_write: 0, down_after, ..Group::default() }).await
}

/// What a replica has confirmed counts, however slow the disks are today.
fn patient(group: &RedisSentinel) -> RedisSettings {
    RedisSettings { wait_timeout: Duration::from_secs(2), ..following(group) }
}

fn freeze_replicas(group: &mut RedisSentinel) {
    group.nodes[1].stop();
    group.nodes[2].stop();
}

fn thaw_replicas(group: &mut RedisSentinel) {
    group.nodes[1].go_on();
    group.nodes[2].go_on();
}

async fn asked(server: &RedisServer, words: &[&str]) -> String {
    let mut command = redis::cmd(words[0]);
    let command = command.arg(&words[1..]);
    command.query_async(&mut server.connection().await).await.expect("an answer")
}

/// A number out of INFO, such as `calls` of `cmdstat_wait:calls=3,usec=…`.
async fn counted(server: &RedisServer, section: &str, line: &str, number: &str) -> u64 {
    let info = asked(server, &["INFO", section]).await;
    let found = info.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let part = found.and_then(|found| found.split(',').find_map(|part| part.strip_prefix(number)));
    part.and_then(|part| part.trim_start_matches('=').trim().parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_is_not_told_before_a_replica_has_it_and_then_it_is_the_same_one() {
    let _turn = crate::turn().await;
    let mut group = patient_group().await;
    let line = Line::open(&following(&group), "river").await;
    let session = line.sign_in("ana", 1).await;
    line.request(1).await;

    freeze_replicas(&mut group);
    let unheard = line.ask(&accept("ana", session, 1)).await;
    let again = line.ask(&accept("ana", session, 1)).await;
    thaw_replicas(&mut group);
    let told = line.at_last(&accept("ana", session, 1)).await;

    assert!(matches!(unheard, Err(StoreError::NotReplicated { acked: 0, wanted: 1 })), "{unheard:?}");
    assert!(matches!(again, Err(StoreError::NotReplicated { .. })), "a repeat proves as much: {again:?}");
    assert!(told.durability.replicas_acked >= 1);
    let owner = line.store.chat(&line.helpline, &crate::line::chat(1)).await.expect("a store").expect("a chat");
    assert_eq!(fence(&told), owner.owner.map(|owner| owner.fence), "the first one stands, with its fence");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_replicas_holds_up_nobody_else() {
    let _turn = crate::turn().await;
    let mut group = patient_group().await;
    let settings = following(&group);
    let settings = RedisSettings { wait_timeout: Duration::from_secs(3), ..settings };
    let line = Line::open(&settings, "river").await;
    let session = line.sign_in("ana", 1).await;

    freeze_replicas(&mut group);
    let waiting = async {
        let answers = join_all((1..9).map(|n| async move { request(n) })).await;
        join_all(answers.iter().map(|command| line.ask(command))).await
    };
    let beating = async {
        tokio::time::sleep(Duration::from_millis(200)).await; // so that the others wait already
        let began = Instant::now();
        line.ask(&heartbeat("ana", session)).await.expect("an answer");
        began.elapsed()
    };
    let (waited, took) = tokio::join!(waiting, beating);
    thaw_replicas(&mut group);

    assert!(waited.iter().all(Result::is_err), "{waited:?}");
    assert!(took < Duration::from_secs(2), "a heartbeat took {took:?} behind a WAIT of 3 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_come_together_share_one_wait() {
    let _turn = crate::turn().await;
    let group = patient_group().await;
    let line = Line::open(&patient(&group), "river").await;
    let before = counted(&group.nodes[0], "commandstats", "cmdstat_wait", "calls").await;

    let commands: Vec<_> = (0..400).map(request).collect();
    let answers = join_all(commands.iter().map(|command| line.ask(command))).await;
    let waits = counted(&group.nodes[0], "commandstats", "cmdstat_wait", "calls").await - before;

    let heard = answers.iter().filter(|a| a.as_ref().is_ok_and(|a| a.durability.replicas_acked >= 1)).count();
    assert_eq!(heard, 400);
    println!("400 commands, {waits} WAITs");
    assert!((1..100).contains(&waits), "{waits} WAITs for 400 commands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_the_node_has_forgotten_is_run_again_with_a_wait_that_covers_it() {
    let _turn = crate::turn().await;
    let mut group = patient_group().await;
    let line = Line::open(&patient(&group), "river").await;
    line.request(0).await;

    asked(&group.nodes[0], &["SCRIPT", "FLUSH"]).await;
    let heard = line.ask(&request(1)).await.expect("an answer");
    asked(&group.nodes[0], &["SCRIPT", "FLUSH"]).await;
    freeze_replicas(&mut group);
    let unheard = line.ask(&request(2)).await;
    thaw_replicas(&mut group);
    let again = line.request(2).await;

    assert!(heard.durability.replicas_acked >= 1);
    assert!(matches!(unheard, Err(StoreError::NotReplicated { .. })), "{unheard:?}");
    assert!(matches!(again.applied.reply, Ok(Reply::Chat { replay: true, .. })), "it was run once: {again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_something_to_wait_for_a_repeat_and_a_refusal_too() {
    let _turn = crate::turn().await;
    let server = RedisServer::start(&["--appendonly", "no"]);
    let settings = holdfast_queue::store::redis::RedisSettings::at(vec![server.service_url()]);
    let store =
        holdfast_queue::store::redis::RedisStore::connect_with_given_time(&settings).await.expect("a store");
    let helpline = holdfast_domain::HelplineId::parse("river").expect("a name");
    store.set_time(1_800_000_000_000);
    let policy = Box::new(crate::line::policy("river"));
    let set = holdfast_domain::Command::SetPolicy { policy, expected: 0, by: None };
    let Ok(_) = store.execute(&helpline, &set).await.expect("an answer").reply else { panic!("no policy") };
    let session = match store.execute(&helpline, &sign_in("ana", 2)).await.expect("an answer").reply {
        Ok(Reply::Responder { session, .. }) => session,
        other => panic!("not a session: {other:?}"),
    };
    let stale = accept("ana", session + 1, 1);
    let mut commands = vec![request(1), accept("ana", session, 1), heartbeat("ana", session), stale];
    commands.extend(crate::line::all_that_can_be_repeated("ana", session, &store, &helpline).await);

    for command in &commands {
        for time in ["once", "again", "and again"] {
            let before = counted(&server, "persistence", "rdb_changes_since_last_save", "").await;
            let _ = store.execute(&helpline, command).await.expect("an answer");
            let after = counted(&server, "persistence", "rdb_changes_since_last_save", "").await;
            assert!(after > before, "{time}: {command:?} wrote nothing");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_replicas_of_the_primary_that_wrote_are_waited_for_and_its_successor_follows() {
    let _turn = crate::turn().await;
    let mut cluster = RedisCluster::start_with_replicas(2).await;
    let settings = RedisSettings { cluster: true, ..careful(cluster.urls()) };
    let lines = three_lines(&cluster, &settings).await;

    for line in &lines {
        assert!(line.request(1).await.durability.replicas_acked >= 1);
    }
    // The first primary's own replicas; those of the others could not speak for it.
    cluster.nodes[3].stop();
    cluster.nodes[4].stop();
    let unheard = line_of(&lines, 0).ask(&request(2)).await;
    let heard = line_of(&lines, 1).ask(&request(2)).await;
    cluster.nodes[3].go_on();
    cluster.nodes[4].go_on();

    assert!(unheard.is_err(), "{unheard:?}");
    assert!(heard.expect("an answer").durability.replicas_acked >= 1);
    line_of(&lines, 0).request(2).await;

    cluster.nodes[0].kill();
    let killed = Instant::now();
    let first = line_of(&lines, 0).request(3).await;
    println!("cluster: first durable word {:?} after kill -9 of a primary, node timeout 2 s", killed.elapsed());
    assert!(first.durability.replicas_acked >= 1, "the promoted one has a replica left");
    for n in 1..=3 {
        line_of(&lines, 0).store.chat(&line_of(&lines, 0).helpline, &crate::line::chat(n)).await.expect("a store");
    }
    assert!(line_of(&lines, 2).ask(&request(9)).await.is_ok(), "the others never noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_is_followed_and_one_that_is_on_its_way_is_left_alone() {
    let _turn = crate::turn().await;
    let cluster = RedisCluster::start_with_replicas(1).await;
    let settings = RedisSettings { cluster: true, ..careful(cluster.urls()) };
    let line = &three_lines(&cluster, &settings).await[0];
    let empty = (0..).map(|n| format!("empty-{n}"));
    let mut served = futures::stream::iter(empty);
    let name = loop {
        let name = futures::StreamExt::next(&mut served).await.expect("a name");
        if cluster.primary_of(&format!("hf:{{{name}}}:line")).await == Some(0) && name != line.helpline.as_str() {
            break name;
        }
    };
    let slot = asked(&cluster.nodes[0], &["CLUSTER", "KEYSLOT", &format!("hf:{{{name}}}:line")]).await;
    let (from, to) = (id(&cluster, 0).await, id(&cluster, 1).await);

    asked(&cluster.nodes[1], &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]).await;
    asked(&cluster.nodes[0], &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]).await;
    let elsewhere = Line::at(&settings, &name).await;
    let on_its_way = elsewhere.ask(&request(1)).await;
    asked(&cluster.nodes[1], &["CLUSTER", "SETSLOT", &slot, "NODE", &to]).await;
    asked(&cluster.nodes[0], &["CLUSTER", "SETSLOT", &slot, "NODE", &to]).await;
    let moved = timeout(Duration::from_secs(30), Line::open(&settings, &name)).await.expect("a policy in time");

    assert!(matches!(on_its_way, Err(StoreError::Refusing(_))), "{on_its_way:?}");
    assert!(moved.request(1).await.durability.replicas_acked >= 1);
    assert_eq!(cluster.primary_of(&format!("hf:{{{name}}}:line")).await, Some(1));
}

async fn id(cluster: &RedisCluster, node: usize) -> String {
    asked(&cluster.nodes[node], &["CLUSTER", "MYID"]).await
}

/// One helpline on each of the three primaries, in their order.
async fn three_lines(cluster: &RedisCluster, settings: &holdfast_queue::store::redis::RedisSettings) -> Vec<Line> {
    let mut lines = Vec::new();
    for n in 0.. {
        let name = format!("line-{n}");
        if cluster.primary_of(&format!("hf:{{{name}}}:line")).await == Some(lines.len()) {
            lines.push(Line::open(settings, &name).await);
        }
        if lines.len() == 3 {
            break;
        }
    }
    lines
}

fn line_of(lines: &[Line], primary: usize) -> &Line {
    &lines[primary]
}
