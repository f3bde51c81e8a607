//! `holdfast audit`.

use tempfile::TempDir;

use crate::process::{Ended, Process, Services};

async fn audit(args: &[&str]) -> Ended {
    let args: Vec<&str> = std::iter::once("audit").chain(args.iter().copied()).collect();
    Process::start(&args).ends().await
}

/// What it printed, when it went well.
async fn said(args: &[&str]) -> Vec<String> {
    let ended = audit(args).await;
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{args:?}: {}", ended.output.join("\n"));
    ended.output
}

/// The export, once the first chat's end is in it.
async fn exported(queue: &str) -> Vec<String> {
    for _ in 0..100 {
        let lines = said(&["export", "demo", "--queue", queue]).await;
        if lines.iter().any(|line| line.contains(r#""act":"ended""#)) {
            return lines;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the end of the first chat is not in the audit");
}

#[tokio::test]
async fn an_audit_is_verified_exported_and_verified_again_without_a_deployment() {
    let services = Services::start().await;
    let queue = services.queue.as_str();
    let lines = exported(queue).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    let path = file.to_str().unwrap();
    std::fs::write(&file, lines.join("\n")).unwrap();

    let live = said(&["verify", "demo", "--queue", queue]).await;
    let copy = said(&["verify", "demo", "--file", path]).await;
    assert!(live[0].starts_with("demo: holds, "), "{live:?}");
    assert_eq!(copy[0], format!("demo: holds, {0} entries from 1 to {0}", lines.len()));
    let noted = copy.last().unwrap().strip_prefix("to note: ").expect("a line to note");
    said(&["verify", "demo", "--queue", queue, "--noted", noted]).await;

    std::fs::write(&file, lines.join("\n").replacen("responder:", "responder:not-", 1)).unwrap();
    let changed = audit(&["verify", "demo", "--file", path]).await;
    assert_eq!(changed.code, Some(1));
    assert!(changed.errors.contains(" does not hold: "), "{}", changed.errors);
    std::fs::write(&file, lines[..lines.len() - 1].join("\n")).unwrap();
    let cut = audit(&["verify", "demo", "--file", path, "--noted", noted]).await;
    assert_eq!(cut.errors.lines().count(), 1);
    assert!(cut.errors.starts_with("holdfast: demo: entry "), "{}", cut.errors);
}

#[tokio::test]
async fn seals_are_checked_with_the_public_half_of_the_key() {
    let folder = TempDir::new().unwrap();
    let (secret, settings) = (folder.path().join("audit.key"), folder.path().join("queue.toml"));
    std::fs::write(&secret, "a secret of at least thirty-two letters").unwrap();
    std::fs::write(
        &settings,
        format!("[store]\nfloor_persistence = \"ephemeral\"\n[audit]\nkey_file = {secret:?}\n"),
    )
    .unwrap();
    let key = said(&["public-key", secret.to_str().unwrap()]).await.remove(0);
    let services = Services::start_in(folder.path()).await;
    exported(&services.queue).await;

    let verified = said(&["verify", "demo", "--queue", &services.queue, "--key", &key]).await;
    assert!(verified[1].ends_with(" seals checked") && !verified[1].starts_with('0'), "{verified:?}");
    let other = format!("A{}", &key[1..]);
    let refused = audit(&["verify", "demo", "--queue", &services.queue, "--key", &other]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("its seal was made by none of the keys"), "{}", refused.errors);
}

#[tokio::test]
async fn what_is_no_key_no_entry_and_no_file_is_one_clear_line() {
    for args in [&["verify", "demo", "--key", "short"][..], &["verify", "demo", "--noted", "7"], &["verify"]] {
        assert_eq!(audit(args).await.code, Some(2), "{args:?}");
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("no.jsonl");
    std::fs::write(&file, "{}\nno entry\n").unwrap();
    for (args, says) in [
        (["verify", "demo", "--file", "/nowhere"], "holdfast: cannot read /nowhere: "),
        (["verify", "demo", "--file", file.to_str().unwrap()], "holdfast: demo: entry 1 does not hold: "),
    ] {
        let ended = audit(&args).await;
        assert_eq!((ended.code, ended.errors.lines().count()), (Some(1), 1));
        assert!(ended.errors.starts_with(says), "{}", ended.errors);
    }
}
