//! What a service may do in the store, and what whoever stole its password may not.

use holdfast_proto::v1::ChatState;
use holdfast_tests::processes::{Deployment, HELPLINE};
use redis::{Cmd, Value};

#[tokio::test]
async fn a_stolen_password_of_the_queues_opens_the_line_and_nothing_else() {
    let mut house = Deployment::with(holdfast_tests::processes::numbers()).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;
    visitor.until(ChatState::Ended).await;
    house.nobody_is_lost(1).await;

    let server = house.redis();
    let mut operator = server.connection().await;
    let log: Vec<Vec<Value>> = words(&["ACL", "LOG"]).query_async(&mut operator).await.expect("a log");
    let refused: Vec<String> = log.iter().map(|entry| format!("{entry:?}")).collect();
    // The client tells its name and version where it may; it need not, and an older server knows no such word.
    let refused: Vec<&String> = refused.iter().filter(|entry| !entry.contains("client|setinfo")).collect();
    assert_eq!(refused, [""; 0], "services did something that the file of users does not allow");
    let () = words(&["SET", "elsewhere", "a secret"]).query_async(&mut operator).await.expect("OK");

    let thief = redis::Client::open(server.service_url()).expect("an address");
    let mut thief = thief.get_multiplexed_async_connection().await.expect("a way in");
    let line = format!("hf:{{{HELPLINE}}}:line");
    let () = words(&["EXISTS", &line]).query_async(&mut thief).await.expect("the line itself");
    for tried in [
        &["GET", "elsewhere"][..],
        &["SET", "elsewhere", "x"],
        &["EVAL", "return redis.call('GET', 'elsewhere')", "0"],
        &["EVAL", "return redis.call('FLUSHALL')", "0"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["RANDOMKEY"],
        &["DUMP", &line],
        &["RENAME", &line, "hf:mine"],
        &["FLUSHALL"],
        &["FLUSHDB"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["CONFIG", "REWRITE"],
        &["SCRIPT", "FLUSH"],
        &["ACL", "LIST"],
        &["ACL", "SETUSER", "default", "on"],
        &["REPLICAOF", "127.0.0.1", "1"],
        &["PSYNC", "?", "-1"],
        &["SAVE"],
        &["BGREWRITEAOF"],
        &["MONITOR"],
        &["CLIENT", "LIST"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["SHUTDOWN", "NOSAVE"],
        &["MIGRATE", "127.0.0.1", "1", &line, "0", "10"],
        &["PUBLISH", "elsewhere", "x"],
        &["MODULE", "LIST"],
    ] {
        let answer: Result<Value, redis::RedisError> = words(tried).query_async(&mut thief).await;
        let why = answer.expect_err(&format!("{tried:?} is refused")).to_string();
        // A script is told in words of its own that its user may not.
        let refused = ["NOPERM", "permission", "can't access", "can't run"].iter().any(|word| why.contains(word));
        assert!(refused, "{tried:?}: {why}");
    }
}

fn words(words: &[&str]) -> Cmd {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
}
