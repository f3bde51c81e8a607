//! Every RPC with every field wrong: each is refused with its code, its reason and the path of its field, changes
//! nothing, loses nobody, and makes no service panic.

mod dispatch;
mod intake;
mod queue;
mod row;
mod supervision;
mod unreadable;
mod wire;
mod world;

use row::Row;
use std::collections::BTreeSet;
use std::panic;
use std::sync::{Mutex, PoisonError};
use tonic::Code;
use world::{Facts, World};

/// Where services panicked.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // A test that fails says so by itself.
        if !place.starts_with("tests/") {
            PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(place);
        }
        before(panic);
    }));
}

fn table(facts: &Facts) -> Vec<Row> {
    // First, while it is spent.
    let mut rows = vec![intake::spent_quota(), queue::spent_quota()];
    rows.extend(intake::rows(facts));
    rows.extend(dispatch::rows(facts));
    rows.extend(supervision::rows(facts));
    rows.extend(queue::rows(facts));
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_input_is_refused_by_its_field_or_reason_and_changes_nothing() {
    note_panics();
    let mut world = World::new().await;
    let mut rows = table(&world.facts);
    rows.extend(unreadable::rows());
    let inputs: usize = rows.iter().map(|row| row.ways.len()).sum();

    let mut faults = Vec::new();
    for row in &rows {
        faults.extend(try_row(&mut world, row).await);
    }

    println!("{} rows, {inputs} inputs", rows.len());
    assert!(faults.is_empty(), "{} of {inputs} inputs:\n{}", faults.len(), faults.join("\n"));
    world.finish().await;
    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(panics.is_empty(), "panics at {panics:?}");
}

async fn try_row(world: &mut World, row: &Row) -> Vec<String> {
    let mut faults = Vec::new();
    for way in &row.ways {
        let refusal = world.send(way).await;
        if refusal.as_ref() != Some(&row.expected) {
            let was = refusal.map_or("not refused".to_owned(), |refusal| format!("refused as {refusal}"));
            faults.push(format!("{}: {}: expected {}, {was}", way.rpc, row.name, row.expected));
        }
    }
    let rpcs = row.ways.iter().map(|way| way.rpc).collect::<Vec<_>>().join(", ");
    let changes = world.changes().await;
    faults.extend(changes.into_iter().map(|change| format!("{rpcs}: {}: {change}", row.name)));
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message_end_an_open_stream_and_lose_nobody() {
    let world = World::new().await;

    let ended = world.break_both_streams().await;

    for (rpc, code) in ended {
        assert!(!matches!(code, Code::Internal | Code::Unknown), "{rpc} ended with {code:?}");
    }
}

#[test]
fn every_rpc_of_the_contract_has_a_row() {
    let rows = table(&Facts::default());
    let tried: BTreeSet<&str> = rows.iter().flat_map(|row| &row.ways).map(|way| way.rpc).collect();
    let rpcs = unreadable::rpcs();

    let untried: Vec<_> = rpcs.iter().map(|(rpc, _)| rpc).filter(|rpc| !tried.contains(rpc.as_str())).collect();

    assert!(rpcs.len() >= 34, "the contract has {} RPCs", rpcs.len());
    assert!(untried.is_empty(), "no row for {untried:?}");
}
