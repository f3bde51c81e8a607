//! How many new chats a helpline lets in, and what counts as one.

use crate::fixture::{Fixture, chat, digest, responder};
use holdfast_domain::policy::{Admission, Rate};
use holdfast_domain::{
    Command, EventKind, HelplineId, Hold, Moment, Refusal, Reply, Request, Restore, Urgency, invariants,
};

/// Three at once, and one a second.
const THREE: Rate = Rate { per_minute: 60, burst: 3 };
/// One at once, and one in two seconds.
const ONE: Rate = Rate { per_minute: 30, burst: 1 };

async fn limited(mut f: Fixture) -> Fixture {
    f.policy.admission = Some(Admission { quota: THREE, imminent: ONE });
    f.ready().await
}

/// As how urgent it is let in, or after how long it may come again.
async fn asked(f: &Fixture, n: u8, urgency: Urgency) -> Result<Urgency, u64> {
    match f.ask(n, urgency).await.reply {
        Ok(Reply::Chat { urgency, .. }) => Ok(urgency),
        Err(Refusal::QuotaExceeded { wait_ms }) => Err(wait_ms),
        other => panic!("{other:?}"),
    }
}

async fn accepted(f: &Fixture) -> u64 {
    f.store.floor(&f.helpline, 0).await.unwrap().ledger.accepted
}

pub async fn so_many_new_chats_are_let_in_at_once_and_so_many_a_minute(f: Fixture) {
    let f = limited(f).await;
    for (n, urgency) in [(1, Urgency::Low), (2, Urgency::Moderate), (3, Urgency::High)] {
        assert_eq!(asked(&f, n, urgency).await, Ok(urgency));
    }
    let refused = f.ask(4, Urgency::High).await;
    assert_eq!((refused.reply, refused.events.len()), (Err(Refusal::QuotaExceeded { wait_ms: 1_000 }), 0));
    f.pass(999);
    assert_eq!(asked(&f, 4, Urgency::High).await, Err(1));
    f.pass(1);
    assert_eq!(asked(&f, 4, Urgency::High).await, Ok(Urgency::High));
    assert_eq!(asked(&f, 5, Urgency::Low).await, Err(1_000));
    assert_eq!(accepted(&f).await, 4);
}

pub async fn imminent_chats_have_room_of_their_own_and_past_it_are_let_in_as_high(f: Fixture) {
    let f = limited(f).await;
    for n in 1..=3 {
        f.ask(n, Urgency::Low).await;
    }
    assert!(asked(&f, 4, Urgency::High).await.is_err());
    assert_eq!(asked(&f, 4, Urgency::Imminent).await, Ok(Urgency::Imminent), "whatever others took");
    assert_eq!(asked(&f, 5, Urgency::Imminent).await, Err(1_000), "past both");
    f.pass(1_000);
    let applied = f.ask(5, Urgency::Imminent).await;
    assert!(matches!(applied.reply, Ok(Reply::Chat { urgency: Urgency::High, .. })), "{applied:?}");
    let told = applied.events.iter().find(|e| e.kind == EventKind::Requested).and_then(|e| e.urgency);
    assert_eq!((told, f.chat(5).await.urgency, f.chat(5).await.fan_out), (Some(Urgency::High), Urgency::High, 1));
    assert_eq!(asked(&f, 6, Urgency::Low).await, Err(1_000), "it took the room of a HIGH one");
    f.pass(1_000);
    assert_eq!(asked(&f, 7, Urgency::Imminent).await, Ok(Urgency::Imminent), "two seconds after the first");
}

pub async fn only_requests_that_make_a_chat_count_and_a_refused_one_may_come_again(mut f: Fixture) {
    f.policy.admission = Some(Admission { quota: ONE, imminent: ONE });
    let f = f.ready().await;
    let first = f.request(1, Urgency::Moderate, &[]);
    f.ok(&Command::Request(Box::new(first.clone()))).await;
    let second = Command::Request(Box::new(f.request(2, Urgency::Moderate, &[])));
    let before = f.store.floor(&f.helpline, 10).await.unwrap();
    for _ in 0..3 {
        let again = Request { chat: chat(9), ..first.clone() };
        assert!(matches!(f.ok(&Command::Request(Box::new(again))).await, Reply::Chat { replay: true, .. }));
        assert_eq!(f.refused(&second).await, Refusal::QuotaExceeded { wait_ms: 2_000 });
    }
    let after = f.store.floor(&f.helpline, 10).await.unwrap();
    assert_eq!((after.waiting.len(), after.ledger), (before.waiting.len(), before.ledger));

    // From a partner, and back from a responder, while the bucket is empty.
    let request = Request { request_key: digest("c1"), ..f.request(3, Urgency::Low, &[]) };
    let from: HelplineId = "east".parse().unwrap();
    f.ok(&Command::Hold(Box::new(Hold { from: from.clone(), number: 1, age_ms: 0, request }))).await;
    f.ok(&Command::Admit { chat: chat(3), from, number: 1 }).await;
    let ann = f.sign_in("ann", &[], 1).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    f.ok(&Command::Transfer { responder: responder("ann"), session: ann, chat: chat(1), fence }).await;
    assert_eq!(f.refused(&second).await, Refusal::QuotaExceeded { wait_ms: 2_000 });
    f.pass(1_000);
    f.apply(&Command::Tick { by: digest("01"), limit: 100 }).await;
    f.pass(1_000);
    f.ok(&second).await;
    if let Some(snapshot) = f.snapshot().await {
        assert_eq!(invariants::broken(&snapshot), Vec::<String>::new());
    }

    // Back from a ticket, after the store has lost everything.
    let floor = f.store.floor(&f.helpline, 0).await.unwrap();
    let now_ms = floor.clock.now_ms;
    let moment = Moment { generation: floor.generation, term: floor.term, now_ms, revision: 1 };
    let ticket = Restore::of(&f.chat(2).await, &moment, now_ms + f.policy.numbers.retention_ms);
    f.wipe().await;
    let policy = Box::new(holdfast_domain::Policy { revision: 1, ..f.policy.clone() });
    f.ok(&Command::Revive { policy, clock_ms: now_ms }).await;
    f.ok(&Command::Restore(Box::new(ticket))).await;
    assert_eq!(asked(&f, 4, Urgency::Low).await, Ok(Urgency::Low), "what came back took nobody's room");
}

pub async fn neither_a_clock_that_leaps_nor_a_new_policy_fills_or_empties_a_quota(f: Fixture) {
    let mut f = limited(f).await;
    for n in 1..=3 {
        f.ask(n, Urgency::Low).await;
    }
    f.pass(3_600_000);
    assert_eq!(asked(&f, 4, Urgency::Low).await, Ok(Urgency::Low), "an hour on the wall is a second in the line");
    assert_eq!(asked(&f, 5, Urgency::Low).await, Err(1_000));

    let mut revision = 1;
    let mut put = async |f: &mut Fixture, admission| {
        f.policy.admission = admission;
        let policy = Box::new(f.policy.clone());
        f.ok(&Command::SetPolicy { policy, expected: revision, by: None }).await;
        revision += 1;
        revision
    };
    let slow = Rate { per_minute: 1, burst: 9 };
    let now = put(&mut f, Some(Admission { quota: slow, imminent: ONE })).await;
    let request = |f: &Fixture, n| Request { revision: now, ..f.request(n, Urgency::Low, &[]) };
    for n in 5..=12 {
        f.ok(&Command::Request(Box::new(request(&f, n)))).await;
    }
    let wait = f.refused(&Command::Request(Box::new(request(&f, 13)))).await;
    assert_eq!(wait, Refusal::QuotaExceeded { wait_ms: 3_000 }, "what it lacked before is still lacking");

    let now = put(&mut f, Some(Admission { quota: THREE, imminent: ONE })).await;
    let request = Command::Request(Box::new(Request { revision: now, ..f.request(13, Urgency::Low, &[]) }));
    assert_eq!(
        f.refused(&request).await,
        Refusal::QuotaExceeded { wait_ms: 1_000 },
        "and no more than it can hold"
    );
    let now = put(&mut f, None).await;
    let request = Command::Request(Box::new(Request { revision: now, ..f.request(13, Urgency::Low, &[]) }));
    f.ok(&request).await;
}
