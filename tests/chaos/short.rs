//! The short form of `make chaos`, which every change must pass.

use holdfast_tests::chaos::{Form, Run, named_seed, report, run};

#[tokio::test(flavor = "multi_thread")]
async fn while_everything_breaks_once_nobody_is_lost_and_nobody_doubled() {
    // The same plan each time, so that a change answers for itself alone; `make chaos` takes others.
    let form = Form::short(named_seed().unwrap_or(4));

    let Run { findings, history, unowned } = run(&form).await.expect("a world");

    let (told, broken) = (report::report(&findings), findings.broken_laws());
    println!("{told}");
    assert!(broken.is_empty(), "HOLDFAST_SEED={} {}: {broken:?}\n{told}", form.seed, history.display());
    assert_eq!(unowned, [""; 0], "the store keeps what nothing will remove");
    let (chats, faults) = (findings.acknowledged, findings.fired());
    assert!(chats >= 2_000 && faults >= 12, "{chats} chats, {faults} faults");
}
