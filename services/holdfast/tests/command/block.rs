//! `holdfast block`.

use tempfile::TempDir;

use crate::{
    process::{Ended, Process, Services},
    redis::Redis,
};

async fn block(services: &Services, args: &[&str]) -> Ended {
    let args: Vec<&str> =
        std::iter::once("block").chain(args.iter().copied()).chain(["--dispatch", &services.dispatch]).collect();
    Process::start(&args).ends().await
}

/// What it printed, when it went well.
async fn said(services: &Services, args: &[&str]) -> Vec<String> {
    let ended = block(services, args).await;
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{args:?}: {}", ended.output.join("\n"));
    ended.output
}

/// The one line of a refusal.
async fn refused(services: &Services, args: &[&str]) -> String {
    let ended = block(services, args).await;
    assert_eq!((ended.code, ended.errors.lines().count()), (Some(1), 1), "{args:?}: {}", ended.errors);
    ended.errors
}

/// A visitor in the line, and their chat's name.
async fn visitor(services: &Services) -> (Process, String) {
    let mut visitor = Process::start(&["visitor", "--intake", &services.intake]);
    let line = visitor.says("requested").await;
    let (_, named) = line.split_once("chat ").unwrap();
    (visitor, named.split(',').next().unwrap().to_owned())
}

/// The name of the block that ana proposes over a chat.
async fn proposed(services: &Services, chat: &str) -> String {
    let lines = said(services, &["propose", chat, "--for", "7 d", "--reason", "misuse", "--by", "ana"]).await;
    let [done, stored] = lines.as_slice() else { panic!("{lines:?}") };
    let named = done.strip_prefix("demo: block ").and_then(|rest| rest.split_once(" is proposed for 7 d 0 h: "));
    assert!(stored.starts_with("stored: "), "{lines:?}");
    named.expect("a name").0.to_owned()
}

const NONE: &str = "demo: nobody is blocked, and nothing is proposed";

#[tokio::test]
async fn two_supervisors_block_whoever_a_chat_is_of_and_one_lifts_it() {
    let redis = Redis::start().await;
    let services = Services::start_with(&redis.url).await;
    let (_visitor, chat) = visitor(&services).await;
    assert_eq!(said(&services, &["list"]).await, [NONE]);

    let id = proposed(&services, &chat).await;
    let listed = said(&services, &["list"]).await;
    assert_eq!((listed[0].as_str(), listed.len()), ("demo: 0 in force, 1 proposed", 3));
    assert!(listed[2].starts_with(&format!("{id}  proposed  ")), "{listed:?}");
    assert!(listed[2].ends_with(&format!("  7 d 0 h     misuse    chat     {}  ana", &chat[30..])), "{listed:?}");

    let confirmed = said(&services, &["confirm", &id, "--reason", "misuse", "--by", "bo"]).await;
    assert_eq!(confirmed[0], format!("demo: block {id} is in force"));
    let listed = said(&services, &["list"]).await;
    assert_eq!((listed[0].as_str(), listed.len()), ("demo: 1 in force, 0 proposed", 3));
    assert!(listed[2].starts_with(&format!("{id}  in force  ")), "{listed:?}");
    assert!(listed[2].ends_with("  ana, bo"), "{listed:?}");

    let lifted = said(&services, &["lift", &id, "--reason", "other", "--by", "bo"]).await;
    assert_eq!(lifted[0], format!("demo: block {id} is over"));
    assert_eq!(said(&services, &["list"]).await, [NONE]);
}

#[tokio::test]
async fn whoever_proposed_a_block_cannot_confirm_it() {
    let services = Services::start().await;
    let (_visitor, chat) = visitor(&services).await;
    let id = proposed(&services, &chat).await;

    let alone = refused(&services, &["confirm", &id, "--reason", "misuse", "--by", "ana"]).await;

    let problem = "somebody else than who proposed the block must confirm it [SAME_PERSON]";
    assert_eq!(alone, format!("holdfast: dispatch refuses: {problem}\n"));
    assert!(said(&services, &["list"]).await[2].contains("  proposed  "));
}

#[tokio::test]
async fn a_second_proposal_is_told_which_block_there_is() {
    let services = Services::start().await;
    let (_visitor, chat) = visitor(&services).await;
    let id = proposed(&services, &chat).await;

    let args = ["propose", &chat, "--for", "1 h", "--reason", "misuse", "--by", "bo"];
    let again = block(&services, &args).await;

    assert_eq!((again.code, again.output), (Some(1), vec![format!("demo: it is block {id}")]));
    assert!(again.errors.ends_with(" [ALREADY_BLOCKED]\n"), "{}", again.errors);
}

#[tokio::test]
async fn a_list_that_is_cut_says_how_many_there_are_more() {
    let services = Services::start().await;
    let [(_one, first), (_two, second)] = [visitor(&services).await, visitor(&services).await];
    let first = proposed(&services, &first).await;
    proposed(&services, &second).await;

    let listed = said(&services, &["list", "--limit", "1"]).await;

    assert_eq!((listed.len(), listed[0].as_str()), (4, "demo: 0 in force, 2 proposed"));
    assert!(listed[2].starts_with(&first), "{listed:?}");
    assert_eq!(listed[3], "and 1 more: --limit shows them");
    assert_eq!(said(&services, &["list"]).await.len(), 4);
}

#[tokio::test]
async fn bad_input_is_refused_by_the_name_of_its_field() {
    let services = Services::start().await;
    let (_visitor, chat) = visitor(&services).await;
    let (chat, nobody) = (chat.as_str(), "01a2062e-8283-750c-99fb-35ea73f4ca54");
    let why = ["--reason", "misuse", "--by", "ana"];
    for (args, says) in [
        (&["propose", "a b", "--for", "1 h"][..], "chat_id: "),
        (&["propose", chat, "--for", "31 d"], "for: must be a time of at most 720 hours [INVALID_FIELD]"),
        (&["propose", chat, "--for", "0 s"], "for: must be longer than nothing, at most 30 days [INVALID_FIELD]"),
        (&["propose", nobody, "--for", "1 h"], "[UNKNOWN_CHAT]"),
        (&["confirm", "a b"], "block_id: "),
        (&["confirm", nobody], "[UNKNOWN_BLOCK]"),
        (&["lift", nobody], "[UNKNOWN_BLOCK]"),
    ] {
        let error = refused(&services, &[args, &why].concat()).await;
        assert!(error.contains(says), "{args:?}: {error}");
    }
    for by in ["", "a b"] {
        let error = refused(&services, &["lift", nobody, "--reason", "misuse", "--by", by]).await;
        assert!(error.contains("refuses: supervisor.supervisor_id: "), "'{by}': {error}");
    }
    assert!(refused(&services, &["list", "--helpline", "elsewhere"]).await.contains("dispatch refuses: "));
}

#[tokio::test]
async fn whoever_only_leads_a_shift_sees_no_blocks() {
    let services = Services::start().await;
    let token = Process::start(&["token", "shift_lead", "--name", "ana", "--at", &services.dispatch]).ends().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, token.output.join("\n")).unwrap();

    let error = refused(&services, &["list", "--token-file", file.to_str().unwrap()]).await;

    assert!(error.starts_with("holdfast: dispatch refuses: "), "{error}");
}

#[tokio::test]
async fn how_it_is_meant_is_told_with_exit_code_2() {
    for args in [
        &["propose", "x", "--reason", "misuse"][..],
        &["propose", "x", "--reason", "misuse", "--for", "7"],
        &["propose", "x", "--for", "7 d"],
        &["confirm", "x", "--reason", "whim"],
        &["lift", "--reason", "misuse"],
        &["list", "--limit", "0"],
    ] {
        let args: Vec<&str> = std::iter::once("block").chain(args.iter().copied()).collect();
        assert_eq!(Process::start(&args).ends().await.code, Some(2), "{args:?}");
    }
}
