//! How a service starts, or says in one line why it does not.

use std::path::Path;

use holdfast_queue::{Bound, Config, store::Store};
use tokio::net::TcpListener;

use crate::bench::{Bench, config, context, helpline};

async fn refused(config: Config) -> String {
    let bound = Bound { grpc: TcpListener::bind("127.0.0.1:0").await.unwrap(), admin: None };
    let context = context(&config);
    let error = holdfast_queue::run(config, bound, &context).await.unwrap_err().to_string();
    assert!(!error.contains('\n') || error.contains("TOML"), "{error}");
    error
}

#[tokio::test]
async fn without_authentication_it_starts_only_when_that_is_meant() {
    let config = config(&[("security.insecure_no_authentication", "false")]);
    assert!(refused(config).await.contains("security.insecure_no_authentication"));
}

#[tokio::test]
async fn in_plaintext_it_starts_only_when_that_is_meant() {
    let config = config(&[("security.insecure_no_tls", "false")]);
    let error = refused(config).await;
    assert!(error.contains("server.tls.cert_file") && error.contains("security.insecure_no_tls"), "{error}");
}

#[tokio::test]
async fn a_folder_without_policies_and_a_bad_policy_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let no_floor = ("store.floor_persistence", "ephemeral");
    let settings = || config(&[no_floor, ("policy.dir", folder.path().to_str().unwrap())]);
    assert!(refused(settings()).await.contains("holds no *.toml"));

    write(folder.path(), "a.toml", "helpline = \"a\"\nname = \"A\"\n[numbers]\nfan_out = 9\n");
    let error = refused(settings()).await;
    assert!(error.contains("a.toml") && error.contains("fan_out"), "{error}");

    write(folder.path(), "a.toml", "helpline = \"a\"\nname = \"A\"\n");
    write(folder.path(), "b.toml", "helpline = \"a\"\nname = \"B\"\n");
    assert!(refused(settings()).await.contains("b.toml"));
}

fn write(folder: &Path, file: &str, text: &str) {
    std::fs::write(folder.join(file), text).unwrap();
}

#[tokio::test]
async fn where_files_overwrite_a_policy_is_put_in_force_once_and_tags_may_only_follow() {
    let bench = Bench::start().await;
    let before = bench.store.policy(&helpline()).await.unwrap().unwrap();
    let rerun = |text: String| {
        let (folder, store) = (tempfile::tempdir().unwrap(), std::sync::Arc::clone(&bench.store));
        write(folder.path(), "demo.toml", &text);
        async move {
            let settings = [("policy.dir", folder.path().to_str().unwrap()), ("policy.overwrite", "always")];
            let config = config(&settings);
            let bound = Bound { grpc: TcpListener::bind("127.0.0.1:0").await.unwrap(), admin: None };
            let context = context(&config);
            context.stop.stop_now();
            holdfast_queue::run_with_store(config, store, bound, &context).await
        }
    };

    rerun(holdfast_queue::DEMO.to_owned()).await.unwrap();
    assert_eq!(bench.store.policy(&helpline()).await.unwrap().unwrap().revision, before.revision);

    rerun(format!("{}\n[[tags]]\nname = \"new\"\n", holdfast_queue::DEMO)).await.unwrap();
    assert_eq!(bench.store.policy(&helpline()).await.unwrap().unwrap().revision, before.revision + 1);

    let error = rerun(holdfast_queue::DEMO.replace("lang:es", "lang:fr")).await.unwrap_err().to_string();
    assert!(error.contains("demo") && error.contains("tags[1]"), "{error}");
}

#[tokio::test]
async fn a_restart_does_not_take_back_what_was_put_in_force_meanwhile() {
    let bench = Bench::start().await;
    let put = bench.set_policy(&holdfast_queue::DEMO.replace("Example helpline", "Put by somebody")).await;

    let replica = bench.beside().await;

    let policy = bench.store.policy(&helpline()).await.unwrap().unwrap();
    assert_eq!((policy.revision, policy.name.as_str()), (put, "Put by somebody"));
    replica.context.stop.stop_now();
}

#[tokio::test]
async fn the_metrics_have_their_names() {
    let bench = Bench::start().await;
    bench.execute(crate::bench::sign_in("ana")).await.unwrap();
    let _attached = bench.intake().await;
    let wanted = [
        "holdfast_attached_streams",
        "holdfast_calls_for_supervisors",
        "holdfast_commands_total",
        "holdfast_gate_open",
        "holdfast_in_line",
        "holdfast_ledger_difference",
        "holdfast_oldest_waiting_seconds",
        "holdfast_policy_revision",
        "holdfast_responders",
        "holdfast_service_clock_lag_seconds",
        "holdfast_store_seconds",
        "holdfast_surge_stage",
    ];
    let registry = bench.context.telemetry.registry();
    let found = || -> Vec<String> {
        let families = registry.gather();
        let names = families.iter().map(|family| family.name().to_owned());
        names.filter(|name| wanted.contains(&name.as_str())).collect()
    };
    let all = async {
        while found() != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(crate::bench::AT_MOST, all).await.is_ok(), "{:?}", found());
}
