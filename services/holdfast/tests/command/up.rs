//! `holdfast up`.

use crate::process::{Process, Services};

#[tokio::test]
async fn the_first_chat_goes_all_the_way() {
    let ended = Process::start(&["up", "--port-base", "0", "--exit-after-first-chat"]).ends().await;
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(ended.errors, "");
    let said = ended.output.join("\n");
    for part in ["EPHEMERAL", "requested", "offered", "accepted", "engaged", "visitor saw ACTIVE", "completed"] {
        assert!(said.contains(part), "no '{part}' in:\n{said}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_it_cleanly() {
    let services = Services::start().await;
    services.process.signal("-INT").await;
    let ended = services.process.ends().await;
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(ended.output.last().map(String::as_str), Some("stopped"));
}

#[tokio::test]
async fn sigterm_ends_it_cleanly_with_people_connected() {
    let services = Services::start().await;
    let mut visitor = Process::start(&["visitor", "--intake", &services.intake]);
    visitor.says("waiting").await;
    services.process.signal("-TERM").await;
    let ended = services.process.ends().await;
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["up", "--port-base", "0", "--queue-listen", &address];
    let ended = Process::start(&args).ends().await;
    assert_eq!(ended.code, Some(1));
    let expected = format!("holdfast: cannot listen on {address} (queue): address already in use\n");
    assert_eq!(ended.errors, expected);
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_one_clear_line() {
    // The port is free again as soon as it is known, and nobody else asks for it by name.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("redis://{free}");
    let ended = Process::start(&["up", "--port-base", "0", "--redis", &url]).ends().await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    assert!(ended.errors.contains(&free.to_string()), "{}", ended.errors);
}

#[tokio::test]
async fn a_setting_that_nobody_knows_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("queue.toml"), "[stoer]\nkind = \"memory\"\n").unwrap();
    let folder = folder.path().display().to_string();
    let ended = Process::start(&["up", "--port-base", "0", "--config-dir", &folder]).ends().await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    assert!(ended.errors.contains("stoer"), "{}", ended.errors);
}

#[tokio::test]
async fn a_folder_without_policies_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display().to_string();
    let ended = Process::start(&["up", "--port-base", "0", "--policy-dir", &folder]).ends().await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    assert!(ended.errors.contains("policy.dir"), "{}", ended.errors);
}

#[tokio::test]
async fn plaintext_is_spoken_only_where_that_was_asked_for() {
    let services = Services::start().await;
    let plain = services.intake.replace("https://", "http://");
    let ended = Process::start(&["visitor", "--intake", &plain]).ends().await;
    assert_eq!(ended.code, Some(1), "{}", ended.output.join("\n"));
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = elsewhere.path().join("ca.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    std::fs::write(&stranger, other.pem()).unwrap();
    let stranger = stranger.display().to_string();
    let args = ["board", "--once", "--queue", &services.queue, "--ca-file", &stranger];
    let ended = Process::start(&args).ends().await;
    assert!(ended.errors.contains("cannot reach queue"), "{}", ended.errors);

    let args = ["up", "--port-base", "0", "--insecure-no-tls", "--exit-after-first-chat"];
    let ended = Process::start(&args).ends().await;
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert!(ended.output.iter().any(|line| line.starts_with("PLAINTEXT")), "{}", ended.output.join("\n"));
}

#[tokio::test]
async fn what_it_made_up_for_itself_is_gone_afterwards() {
    let services = Services::start().await;
    let port = services.intake.rsplit(':').next().unwrap().to_owned();
    let left = || {
        let entries = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| name.starts_with("holdfast-up-") && name.ends_with(&format!("-{port}")))
    };
    assert!(left());
    services.process.signal("-TERM").await;
    services.process.ends().await;
    assert!(!left());
}
