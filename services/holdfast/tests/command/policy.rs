//! `holdfast policy`.

use std::path::Path;

use tempfile::TempDir;

use crate::process::{Ended, Process, Services};

const FIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/policies/nightline.toml");

async fn policy(args: &[&str]) -> Ended {
    let args: Vec<&str> = std::iter::once("policy").chain(args.iter().copied()).collect();
    Process::start(&args).ends().await
}

/// What it printed, when it went well.
async fn said(args: &[&str]) -> String {
    let ended = policy(args).await;
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{args:?}: {}", ended.output.join("\n"));
    ended.output.join("\n")
}

fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_file_that_is_fit_has_nothing_against_it() {
    assert!(said(&["lint", FIT]).await.ends_with("nightline.toml: nothing to remark"));
}

#[tokio::test]
async fn findings_name_the_file_and_the_line() {
    let folder = TempDir::new().unwrap();
    let bad = file(&folder, "bad.toml", "helpline = \"x\"\nname = \"X\"\n\n[numbers]\nfan_out = 0\n");
    let ended = policy(&["lint", FIT, &bad]).await;
    let place = format!("{bad}:5: error: numbers.fan_out: ");
    assert!(ended.output.iter().any(|line| line.starts_with(&place)), "{:?}", ended.output);
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.ends_with("in 1 of 2 files\n"), "{}", ended.errors);
}

#[tokio::test]
async fn how_it_is_meant_is_told_with_exit_code_2() {
    for args in [&["lint"][..], &["rollback", "demo"], &["compare", FIT, "--surge", "0"]] {
        assert_eq!(policy(args).await.code, Some(2), "{args:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_one_clear_line() {
    let ended = policy(&["lint", "/nowhere.toml"]).await;
    assert_eq!((ended.code, ended.errors.lines().count()), (Some(1), 1));
    assert!(ended.errors.starts_with("holdfast: cannot read /nowhere.toml: "), "{}", ended.errors);
}

/// The policy of the helpline demo, as it is in force, with one number changed.
async fn changed(queue: &str, folder: &TempDir, fan_out: u32) -> String {
    let shown = said(&["show", "demo", "--queue", queue]).await;
    let text = shown.replace("fan_out = 2", &format!("fan_out = {fan_out}"));
    assert_ne!(shown, text);
    file(folder, &format!("fan-out-{fan_out}.toml"), &text)
}

#[tokio::test]
async fn a_change_is_shown_checked_put_in_force_and_taken_back() {
    let services = Services::start().await;
    let queue = services.queue.as_str();
    let folder = TempDir::new().unwrap();
    let wider = changed(queue, &folder, 3).await;
    let difference = "  numbers.fan_out: 2 -> 3";

    let diff = said(&["diff", &wider, "--queue", queue]).await;
    assert_eq!(diff, format!("from revision 1, in force, to {wider}:\n{difference}"));
    let tried = said(&["apply", &wider, "--dry-run", "--queue", queue]).await;
    assert_eq!(
        tried,
        format!("demo, from revision 1:\n{difference}\ndemo: it would replace revision 1; nothing was changed")
    );
    let applied = said(&["apply", &wider, "--expected", "1", "--by", "sue", "--queue", queue]).await;
    assert!(applied.ends_with("demo: revision 2 is in force"), "{applied}");
    let again = said(&["apply", &wider, "--by", "sue", "--queue", queue]).await;
    assert_eq!(again, "demo: nothing to change, revision 2 says the same");

    assert!(said(&["show", "demo", "--queue", queue]).await.contains("fan_out = 3"));
    assert!(said(&["show", "demo", "--revision", "1", "--queue", queue]).await.contains("fan_out = 2"));
    let back = said(&["rollback", "demo", "--to", "1", "--by", "sue", "--queue", queue]).await;
    assert_eq!(back, "demo, from revision 2:\n  numbers.fan_out: 3 -> 2\ndemo: revision 3 is in force");
    let diff = said(&["diff", "demo", "--revision", "1", "--queue", queue]).await;
    assert_eq!(diff, "revision 1 says what revision 3 says");
}

#[tokio::test]
async fn a_change_that_was_made_for_another_revision_is_refused_by_name() {
    let services = Services::start().await;
    let queue = services.queue.as_str();
    let folder = TempDir::new().unwrap();
    let (wider, widest) = (changed(queue, &folder, 3).await, changed(queue, &folder, 4).await);
    said(&["apply", &wider, "--by", "sue", "--queue", queue]).await;
    let ended = policy(&["apply", &widest, "--expected", "1", "--by", "tom", "--queue", queue]).await;
    assert_eq!(ended.code, Some(1));
    let expected = "holdfast: demo: revision 2 is in force, not 1: look at the difference again\n";
    assert_eq!(ended.errors, expected);
}

#[tokio::test]
async fn what_cannot_be_undone_quietly_is_refused_with_the_reason() {
    let services = Services::start().await;
    let queue = services.queue.as_str();
    let folder = TempDir::new().unwrap();
    let shown = said(&["show", "demo", "--queue", queue]).await;
    let moved = file(&folder, "moved.toml", &shown.replace("lang:en", "lang:de"));
    let ended = policy(&["apply", &moved, "--by", "sue", "--queue", queue]).await;
    assert_eq!((ended.code, ended.errors.lines().count()), (Some(1), 1));
    assert!(ended.errors.contains("queue refuses") && ended.errors.contains("tags"), "{}", ended.errors);
    let ended = policy(&["show", "demo", "--revision", "9", "--queue", queue]).await;
    assert!(ended.errors.contains("UNKNOWN_REVISION"), "{}", ended.errors);
}

/// The table without the last line, which says how long it took.
async fn table(args: &[&str]) -> Vec<String> {
    let said = said(&[&["compare", FIT, "--surge", "1,4"], args].concat()).await;
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    assert!(lines.pop().is_some_and(|last| last.contains("days of 24 hours played in")));
    lines
}

#[tokio::test]
async fn a_day_that_was_recorded_plays_as_it_did() {
    let folder = TempDir::new().unwrap();
    let day = folder.path().join("day.jsonl").display().to_string();
    let invented = table(&["--chats", "150", "--seed", "5", "--record", &day]).await;
    assert!(Path::new(&day).exists());
    assert_eq!(table(&["--day", &day, "--seed", "5"]).await, invented);
    assert_ne!(table(&["--chats", "150", "--seed", "6"]).await, invented);
}

#[tokio::test]
async fn a_day_that_does_not_fit_the_policy_is_one_clear_line() {
    let folder = TempDir::new().unwrap();
    let line = r#"{"arrival":{"at_ms":7,"urgency":"low","needs":["lang:xx"],"patience_ms":1,"handling_ms":1}}"#;
    let day = file(&folder, "day.jsonl", line);
    let ended = policy(&["compare", FIT, "--day", &day]).await;
    assert_eq!((ended.code, ended.errors.lines().count()), (Some(1), 1));
    assert!(ended.errors.contains("the day does not fit the policy: the arrival at 7 ms"), "{}", ended.errors);
}

#[tokio::test]
async fn the_board_shows_how_the_floor_stands_and_how_the_line_has_served() {
    let services = Services::start().await;
    let ended = Process::start(&["board", "--once", "--queue", &services.queue]).ends().await;
    let said = ended.output.join("\n");
    for part in [
        "open   ",
        " on shift",
        "load ",
        "no surge",
        "load fairness",
        "shown waits",
        ": <5 visitors",
        "IMMINENT <5",
    ] {
        assert!(said.contains(part), "no '{part}' in:\n{said}");
    }
}
