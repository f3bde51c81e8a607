//! Who decided what is kept, once each, and nobody can change it without being found out.

use std::collections::BTreeMap;

use holdfast_proto::v1::supervision_service_client::SupervisionServiceClient;
use holdfast_proto::v1::{ChatOutcome, EndChatRequest, Event, ReadAuditRequest, SupervisionReason, Supervisor};
use holdfast_queue::audit::{Broken, Entry, Hash, Report, Seals, Verifier, Why};
use holdfast_tests::events::Events;
use holdfast_tests::processes::{Deployment, HELPLINE, PATIENCE, connect};
use holdfast_tests::redis_server::as_operator;
use redis::aio::MultiplexedConnection;
use tokio::time::{Duration, Instant, sleep};

const ENTRIES: &str = "hf:{river}:audit:entries";

/// An audit as it is read over the wire, and its last entry as the store has it.
async fn audit(house: &Deployment) -> (Vec<Entry>, (u64, Hash)) {
    let mut queue = house.queue().await;
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().and_then(Entry::number).unwrap_or(0);
        let request = ReadAuditRequest { helpline: HELPLINE.to_owned(), after, limit: 40 };
        let page = queue.read_audit(request).await.expect("a page").into_inner();
        if page.entries.is_empty() {
            return (entries, (page.last_number, Hash(page.last_hash.try_into().expect("a hash"))));
        }
        entries.extend(page.entries.into_iter().map(|entry| Entry { text: entry.text, seal: entry.seal }));
    }
}

/// The same once an entry of this act is in it.
async fn audit_with(house: &Deployment, act: &str, times: usize) -> Vec<Entry> {
    let until = Instant::now() + PATIENCE;
    loop {
        let entries = audit(house).await.0;
        if entries.iter().filter(|entry| entry.get("act") == Some(act)).count() >= times {
            return entries;
        }
        assert!(Instant::now() < until, "not {times} {act} in {entries:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn verify(house: &Deployment) -> Result<Report, Broken> {
    let key = Seals::read(&house.dir().join("audit.key")).expect("a key").key();
    let (entries, head) = audit(house).await;
    let mut verifier = Verifier::new(HELPLINE, vec![key], Vec::new());
    entries.iter().try_for_each(|entry| verifier.take(entry))?;
    verifier.end(Some(head))
}

/// A supervisor called sue ends a conversation.
async fn ends(house: &Deployment, chat_id: &str) {
    let mut door = SupervisionServiceClient::new(connect(&house.dispatches[0].url()).await);
    let (helpline, supervisor_id) = (HELPLINE.to_owned(), "sue".to_owned());
    let supervisor = Some(Supervisor { helpline, supervisor_id, reason: SupervisionReason::Misuse.into() });
    let (chat_id, outcome) = (chat_id.to_owned(), ChatOutcome::Completed.into());
    door.end_chat(EndChatRequest { supervisor, chat_id, outcome }).await.expect("a chat to end");
}

/// Where its entry must be, for those kinds that are a decision whenever they happen.
fn decided(events: &[Event]) -> BTreeMap<String, String> {
    let always = |event: &&Event| {
        ["accepted", "declined", "signed_in", "policy_set", "erased"].contains(&event.kind.as_str())
    };
    let mine = |event: &&Event| always(event) || ["asked", "visitor", "misuse"].contains(&event.reason.as_str());
    let told = events.iter().filter(mine).filter(|event| event.kind != "rescinded");
    let position = |event: &Event| event.cursor.split_once('.').expect("a cursor").1.to_owned();
    told.map(|event| (position(event), event.kind.clone())).collect()
}

#[tokio::test]
async fn every_decision_is_in_the_audit_once_whichever_queue_dies() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut ben = house.responder("ben").await;
    for round in 0..6 {
        let queue = round % 2;
        let mut visitor = house.visitor().await;
        visitor.asks().await;
        let taker = tokio::select! {
            offer = ana.offer() => { ana.declines(&offer).await; &mut ben }
            offer = ben.offer() => { ben.declines(&offer).await; &mut ana }
        };
        // What was just decided may be on its way into the audit.
        house.queues[queue].kill().await;
        let chat = taker.takes().await;
        ends(&house, &chat.chat_id).await;
        house.queues[queue].start_again().await;
    }
    ana.signs_out().await;
    let mut events = Vec::new();
    let mut reader = Events::after(&house.queues[0], "").await;
    while events.last().is_none_or(|event: &Event| event.kind != "signed_out") {
        events.extend(reader.next(1).await);
    }

    let entries = audit_with(&house, "signed_out", 1).await;

    let told =
        entries.iter().filter_map(|entry| Some((entry.get("event")?.to_owned(), entry.get("act")?.to_owned())));
    let told: Vec<(String, String)> = told.collect();
    let once: BTreeMap<_, _> = told.iter().cloned().collect();
    assert_eq!(told.len(), once.len(), "each once");
    assert_eq!(once, decided(&events));
    let of_sue = entries.iter().filter(|entry| entry.get("actor") == Some("supervisor:sue"));
    let of_sue: Vec<_> = of_sue.map(|entry| (entry.get("act"), entry.get("reason"))).collect();
    assert_eq!(of_sue, [(Some("ended"), Some("misuse")); 6]);
    let report = verify(&house).await.expect("it holds");
    assert_eq!((report.remarks, report.last), (vec![], entries.len() as u64));
    assert!(report.seals > 3, "{}", report.seals);
    let lag = |metrics: &str| metrics.contains("holdfast_audit_lag_events{helpline=\"river\"");
    house.queues[0].measures("how far the audit is behind", lag).await;
}

async fn redis_of(house: &mut Deployment) -> MultiplexedConnection {
    let client = redis::Client::open(as_operator(house.redis().url())).expect("an address");
    client.get_multiplexed_async_connection().await.expect("a connection")
}

/// Somebody rewrites the entries as they please.
async fn tamper(redis: &mut MultiplexedConnection, change: impl Fn(&str, &str) -> Option<String>) {
    let found: Vec<(String, Vec<String>)> =
        redis::cmd("XRANGE").arg(ENTRIES).arg("-").arg("+").query_async(redis).await.expect("entries");
    let mut anew = redis::pipe();
    anew.atomic().del(ENTRIES);
    for (id, fields) in &found {
        if let Some(text) = change(id, &fields[1]) {
            anew.cmd("XADD").arg(ENTRIES).arg(id).arg(&fields[0]).arg(text).arg(&fields[2..]);
        }
    }
    let _: redis::Value = anew.query_async(redis).await.expect("entries are written anew");
}

#[tokio::test]
async fn an_entry_that_was_changed_or_removed_in_the_store_is_found_and_named() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    for n in 1..=3 {
        let mut visitor = house.visitor().await;
        visitor.asks().await;
        let offer = ana.offer().await;
        ana.declines(&offer).await;
        visitor.leaves().await;
        audit_with(&house, "ended", n).await;
    }
    verify(&house).await.expect("it holds");
    let entries = audit(&house).await.0;
    let declined = entries.iter().find(|entry| entry.get("act") == Some("declined")).expect("a decline");
    let (at, id) = (declined.number().unwrap(), format!("{}-0", declined.number().unwrap()));
    let mut redis = redis_of(&mut house).await;

    tamper(&mut redis, |_, text| Some(text.replace("reason=busy", "reason=unstated"))).await;
    let changed = verify(&house).await.expect_err("it was changed");
    assert_eq!(changed.number, at);
    assert!(matches!(changed.why, Why::Changed | Why::Seal), "{changed}");
    tamper(&mut redis, |_, text| Some(text.replace("reason=unstated", "reason=busy"))).await;
    verify(&house).await.expect("as it was");
    tamper(&mut redis, |other, text| (other != id).then(|| text.to_owned())).await;

    let removed = verify(&house).await.expect_err("it was removed");
    assert_eq!(removed, Broken { number: at, why: Why::Missing { found: Some(at + 1) } });
}

#[tokio::test]
async fn an_erased_chat_is_nowhere_in_the_audit_and_the_audit_holds() {
    let mut house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let chat = ana.takes().await;
    audit_with(&house, "accepted", 1).await;
    let mut redis = redis_of(&mut house).await;
    let before = everything(&mut redis).await;
    assert!(before.contains(&format!("audit:name:{}", chat.chat_id)), "it has a name: {before}");

    visitor.erases().await;
    let entries = audit_with(&house, "erased", 1).await;

    let name = entries.iter().find_map(|entry| entry.get("chat")).expect("a name").to_owned();
    let acts: Vec<_> =
        entries.iter().filter(|entry| entry.get("chat") == Some(&name)).map(|e| e.get("act")).collect();
    assert_eq!(acts, [Some("accepted"), Some("ended"), Some("erased")]);
    let kept = everything(&mut redis).await;
    assert!(kept.contains(&name), "it was looked at");
    assert!(!kept.contains(&chat.chat_id), "{kept}");
    verify(&house).await.expect("it holds");
}

/// All that is under the audit's keys, and what they are called.
async fn everything(redis: &mut MultiplexedConnection) -> String {
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("hf:\\{river\\}:audit*").query_async(redis).await.expect("keys");
    let mut all = String::new();
    for key in keys {
        let read = match key.rsplit(':').next() {
            Some("entries") => redis::cmd("XRANGE").arg(&key).arg("-").arg("+").to_owned(),
            Some("head") => redis::cmd("HGETALL").arg(&key).to_owned(),
            _ => redis::cmd("GET").arg(&key).to_owned(),
        };
        let value: redis::Value = read.query_async(redis).await.expect("a value");
        all += &format!("{key} {}\n", shown(&value));
    }
    all
}

fn shown(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}
