//! Visitors, responders and a board, each a process of its own, at a running `holdfast up`.

use tempfile::TempDir;

use crate::{
    process::{Process, Services},
    redis::Redis,
};

#[tokio::test]
async fn a_visitor_and_a_responder_meet_and_part() {
    let services = Services::start().await;
    let mut ana = Process::start(&["responder", "ana", "--dispatch", &services.dispatch]);
    ana.says("signed in").await;
    let mut visitor = Process::start(&["visitor", "--urgency", "high", "--intake", &services.intake]);
    ana.says("OFFER").await;
    ana.types("a").await;
    ana.says("is yours").await;
    visitor.says("active").await;
    ana.types("e").await;
    ana.says("done: engaged").await;
    ana.types("c").await;
    ana.says("done: close").await;
    visitor.says("completed").await;
    assert_eq!(visitor.ends().await.code, Some(0));
    ana.types("q").await;
    assert_eq!(ana.ends().await.code, Some(0));
}

#[tokio::test]
async fn an_automatic_responder_needs_nobody_to_type() {
    let services = Services::start().await;
    let args = ["responder", "bo", "--auto", "--talk", "0.2", "--dispatch", &services.dispatch];
    let mut bo = Process::start(&args);
    bo.says("signed in").await;
    for _ in 0..2 {
        let mut visitor = Process::start(&["visitor", "--intake", &services.intake]);
        visitor.says("active").await;
        visitor.says("completed").await;
        assert_eq!(visitor.ends().await.code, Some(0));
    }
    bo.signal("-INT").await;
    assert_eq!(bo.ends().await.code, Some(0));
}

#[tokio::test]
async fn a_visitor_who_presses_ctrl_c_leaves_the_line() {
    let services = Services::start().await;
    let mut visitor = Process::start(&["visitor", "--intake", &services.intake]);
    visitor.says("waiting").await;
    visitor.signal("-INT").await;
    visitor.says("the chat has ended as left").await;
    assert_eq!(visitor.ends().await.code, Some(0));
}

#[tokio::test]
async fn a_visitor_who_comes_once_goes_when_somebody_is_there() {
    let services = Services::start().await;
    let mut visitor = Process::start(&["visitor", "--once", "--intake", &services.intake]);
    visitor.says("waiting").await;
    let args = ["responder", "bo", "--auto", "--dispatch", &services.dispatch];
    let _bo = Process::start(&args);
    visitor.says("active").await;
    assert_eq!(visitor.ends().await.code, Some(0));
}

#[tokio::test]
async fn in_a_surge_a_visitors_device_works_first_and_in_danger_it_does_not() {
    let services = Services::start().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("demo.toml");
    let surge = "\n[[surge]]\nname = \"busy\"\nenter_percent = 100\nleave_percent = 1\nhold_ms = 60000\nchallenge_bits = 12\n";
    std::fs::write(&file, [include_str!("../../demo.toml"), surge].concat()).unwrap();
    let file = file.display().to_string();
    let applied =
        Process::start(&["policy", "apply", &file, "--by", "sue", "--queue", &services.queue]).ends().await;
    assert_eq!(applied.code, Some(0), "{}", applied.errors);
    let mut first = Process::start(&["visitor", "--intake", &services.intake]);
    first.says("waiting").await;
    loop {
        let board = Process::start(&["board", "--once", "--queue", &services.queue]).ends().await;
        if board.output.iter().any(|line| line.contains("SURGE: busy")) {
            break;
        }
    }

    let mut second = Process::start(&["visitor", "--intake", &services.intake]);
    second.says("working on 12 bits").await;
    second.says("waiting").await;
    let mut in_danger = Process::start(&["visitor", "--urgency", "imminent", "--intake", &services.intake]);
    in_danger.says("waiting").await;
    in_danger.signal("-INT").await;
    let ended = in_danger.ends().await;
    assert!(ended.output.iter().all(|line| !line.contains("challenge")), "{:?}", ended.output);
}

#[tokio::test]
async fn a_responder_who_signs_in_elsewhere_replaces_the_first() {
    let services = Services::start().await;
    let args = ["responder", "ana", "--auto", "--dispatch", &services.dispatch];
    let mut first = Process::start(&args);
    first.says("signed in").await;
    let mut second = Process::start(&args);
    second.says("signed in").await;
    let ended = first.ends().await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.errors, "holdfast: ana has signed in elsewhere: this session is over\n");
}

#[tokio::test]
async fn the_board_shows_who_waits_and_that_nobody_is_lost() {
    let services = Services::start().await;
    let mut visitor = Process::start(&["visitor", "--urgency", "low", "--intake", &services.intake]);
    visitor.says("waiting").await;
    let board = Process::start(&["board", "--once", "--queue", &services.queue]).ends().await;
    assert_eq!((board.code, board.errors.as_str()), (Some(0), ""));
    let text = board.output.join("\n");
    for part in ["1 in line", "waiting 1", "1 completed", "difference 0", "LOW", "requested"] {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
}

#[tokio::test]
async fn a_doctor_finds_a_running_deployment_well() {
    let services = Services::start().await;
    let args =
        ["doctor", "--intake", &services.intake, "--queue", &services.queue, "--dispatch", &services.dispatch];
    let ended = Process::start(&args).ends().await;
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.output.join("\n"), ended.errors);
    let (weak, checks): (Vec<_>, Vec<_>) = ended.output.iter().partition(|line| line.starts_with("weak"));
    assert!(checks.iter().all(|line| line.starts_with("ok")), "{checks:?}");
    assert!(weak.len() == 3 && weak.iter().all(|line| line.contains("reflection")), "{weak:?}");
}

#[tokio::test]
async fn people_come_back_when_everything_was_lost() {
    let services = Services::start().await;
    let mut visitor = Process::start(&["visitor", "--intake", &services.intake]);
    visitor.says("waiting").await;
    let mut bo = Process::start(&["responder", "bo", "--auto", "--talk", "60", "--dispatch", &services.dispatch]);
    visitor.says("active").await;
    let _services = services.start_again(&[]).await;
    visitor.says("forgotten").await;
    visitor.says("requested").await;
    visitor.says("active").await;
    bo.says("signed in").await;
    bo.says("signed in").await;
}

#[tokio::test]
async fn with_redis_a_restart_loses_nobody() {
    let redis = Redis::start().await;
    let services = Services::start_with(&redis.url).await;
    let mut visitor = Process::start(&["visitor", "--intake", &services.intake]);
    visitor.says("waiting").await;
    let services = services.start_again(&["--redis", &redis.url]).await;
    visitor.says("broken").await;
    visitor.says("waiting").await;
    let args = ["responder", "bo", "--auto", "--talk", "0.2", "--dispatch", &services.dispatch];
    let _bo = Process::start(&args);
    visitor.says("active").await;
    visitor.says("completed").await;
    let ended = visitor.ends().await;
    assert!(ended.output.iter().all(|line| !line.contains("forgotten")));
}
