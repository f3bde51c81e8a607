//! The short form of `make chaos`, which every change must pass.

use holdfast_tests::chaos::{Form, Run, report, run, seed};

#[tokio::test(flavor = "multi_thread")]
async fn while_everything_breaks_once_nobody_is_lost_and_nobody_doubled() {
    let form = Form::short(seed());

    let Run { findings, history } = run(&form).await.expect("a world");

    let (told, broken) = (report::report(&findings), findings.broken_laws());
    println!("{told}");
    assert!(broken.is_empty(), "HOLDFAST_SEED={} {}: {broken:?}\n{told}", form.seed, history.display());
    let (chats, faults) = (findings.acknowledged, findings.fired());
    assert!(chats >= 2_000 && faults >= 12, "{chats} chats, {faults} faults");
}
