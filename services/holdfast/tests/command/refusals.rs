//! Clients without anybody on the other side: one clear line, and an exit code that says so.

use crate::process::{Ended, Process};

const NOBODY: &str = "http://127.0.0.1:1";

async fn alone(args: &[&str]) -> Ended {
    let ended = Process::start(args).ends().await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    ended
}

#[tokio::test]
async fn a_visitor_without_intake_is_told_so() {
    let ended = alone(&["visitor", "--intake", NOBODY]).await;
    assert!(ended.errors.starts_with("holdfast: cannot reach intake at http://127.0.0.1:1:"));
}

#[tokio::test]
async fn a_responder_without_dispatch_is_told_so() {
    let ended = alone(&["responder", "ana", "--auto", "--dispatch", NOBODY]).await;
    assert!(ended.errors.starts_with("holdfast: cannot reach dispatch at http://127.0.0.1:1:"));
}

#[tokio::test]
async fn a_board_without_queue_is_told_so() {
    let ended = alone(&["board", "--queue", NOBODY]).await;
    assert!(ended.errors.starts_with("holdfast: cannot reach queue at http://127.0.0.1:1:"));
}

#[tokio::test]
async fn a_block_without_dispatch_is_told_so() {
    let proposing = ["block", "propose", "x", "--for", "1 h", "--reason", "misuse", "--dispatch", NOBODY];
    for args in [&["block", "list", "--dispatch", NOBODY][..], &proposing] {
        let ended = alone(args).await;
        assert!(ended.errors.starts_with("holdfast: cannot reach dispatch at http://127.0.0.1:1:"));
    }
}

#[tokio::test]
async fn a_policy_without_queue_is_told_so() {
    let ended = alone(&["policy", "show", "demo", "--queue", NOBODY]).await;
    assert!(ended.errors.starts_with("holdfast: cannot reach queue at http://127.0.0.1:1:"));
}

#[tokio::test]
async fn a_doctor_who_finds_nobody_says_so_line_by_line() {
    let args = ["doctor", "--intake", NOBODY, "--queue", NOBODY, "--dispatch", NOBODY];
    let ended = alone(&args).await;
    assert_eq!(ended.errors, "holdfast: 9 of 9 checks failed\n");
    let (weak, checks): (Vec<_>, Vec<_>) = ended.output.iter().partition(|line| line.starts_with("weak"));
    assert!(checks.iter().all(|line| line.starts_with("FAIL")), "{checks:?}");
    assert!(weak.len() == 3 && weak.iter().all(|line| line.contains("plaintext")), "{weak:?}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let ended = alone(&["visitor", "--intake", "nowhere"]).await;
    assert!(ended.errors.contains("is not a service address"));
}
