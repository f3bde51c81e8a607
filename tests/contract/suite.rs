//! What both stores promise, in sentences.

use crate::fixture::{Fixture, chat, digest, responder, token};
use holdfast_domain::{
    ChatState, Command, EndedAs, EventKind, OfferId, Reason, Refusal, Reply, Status, Urgency, invariants,
};
use holdfast_queue::store::{Cursor, StoreError};

pub async fn a_request_made_twice_is_one_chat(f: Fixture) {
    let f = f.ready().await;
    let mut request = f.request(1, Urgency::High, &[]);
    f.ok(&Command::Request(Box::new(request.clone()))).await;
    request.chat = chat(2);
    let again = f.ok(&Command::Request(Box::new(request))).await;
    assert!(matches!(again, Reply::Chat { chat: made, replay: true, .. } if made == chat(1)));
    assert_eq!(f.store.floor(&f.helpline, 10).await.unwrap().ledger.accepted, 1);
}

pub async fn a_request_with_another_body_is_refused_and_changes_nothing(f: Fixture) {
    let f = f.ready().await;
    let mut request = f.request(1, Urgency::High, &[]);
    f.ok(&Command::Request(Box::new(request.clone()))).await;
    let before = f.chat(1).await;
    request.body = digest("b1");
    assert_eq!(f.refused(&Command::Request(Box::new(request))).await, Refusal::RequestConflict);
    assert_eq!(f.chat(1).await, before);
}

pub async fn the_most_urgent_goes_first_and_then_who_came_first(f: Fixture) {
    let f = f.ready().await;
    for (n, urgency) in [(1, Urgency::Low), (2, Urgency::High), (3, Urgency::High), (4, Urgency::Imminent)] {
        f.ask(n, urgency).await;
        f.pass(10);
    }
    let waiting = f.store.floor(&f.helpline, 10).await.unwrap().waiting;
    let order: Vec<_> = waiting.iter().map(|c| c.id.clone()).collect();
    assert_eq!(order, [chat(4), chat(2), chat(3), chat(1)]);
    assert_eq!(f.store.place(&f.helpline, &chat(3)).await.unwrap(), 3);
    f.sign_in("ann", &[], 2).await;
    assert_eq!(f.offered_to(4).await, ["ann"], "the most urgent takes all of her capacity");
    assert!(f.offered_to(2).await.is_empty());
}

pub async fn exactly_one_of_two_who_accept_gets_the_chat(mut f: Fixture) {
    f.policy.numbers.fan_out = 2;
    let f = f.ready().await;
    let (ann, bob) = (f.sign_in("ann", &[], 2).await, f.sign_in("bob", &[], 2).await);
    f.ask(1, Urgency::Imminent).await;
    assert_eq!(f.offered_to(1).await.len(), 2);
    let fence = f.accepted("ann", ann, 1, 1).await;
    assert_eq!(f.refused(&f.accept("bob", bob, 1, 2)).await, Refusal::OfferGone);
    assert_eq!(f.accepted("ann", ann, 1, 1).await, fence, "accepting again is answered the same");
    let owner = f.chat(1).await.owner.unwrap();
    assert_eq!((owner.responder, owner.fence), (responder("ann"), fence));
}

pub async fn a_chat_that_comes_back_gets_a_higher_fence_and_the_old_one_is_stale(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let old = f.accepted("ann", ann, 1, 1).await;
    let arrival = f.chat(1).await.arrival_ms;
    let bob = f.sign_in("bob", &[], 1).await;
    f.ok(&Command::Transfer { responder: responder("ann"), session: ann, chat: chat(1), fence: old }).await;
    assert_eq!(f.offered_to(1).await, ["bob"], "what comes back is offered at once");
    let new = f.accepted("bob", bob, 1, 2).await;
    assert!(new.epoch > old.epoch && new.epoch < 1 << 53);
    assert_eq!(f.refused(&f.close("ann", ann, 1, old)).await, Refusal::StaleFence);
    assert_eq!(f.chat(1).await.arrival_ms, arrival);
}

pub async fn whoever_knows_the_need_is_asked_and_a_scarce_skill_is_kept_for_who_needs_it(f: Fixture) {
    let f = f.ready().await;
    f.sign_in("rare", &[("lang:en", 1), ("lang:es", 1), ("skill:minors", 3)], 1).await;
    f.pass(50);
    f.sign_in("plain", &[("lang:en", 1)], 1).await;
    f.ok(&Command::Request(Box::new(f.request(1, Urgency::Moderate, &[("lang:en", 1)])))).await;
    assert_eq!(f.offered_to(1).await, ["plain"], "although the other one is rested longer");
    f.ok(&Command::Request(Box::new(f.request(2, Urgency::Moderate, &[("skill:minors", 2)])))).await;
    assert_eq!(f.offered_to(2).await, ["rare"]);
    f.ok(&Command::Request(Box::new(f.request(3, Urgency::Moderate, &[("far:five", 5)])))).await;
    assert!(f.offered_to(3).await.is_empty(), "nobody here can");
}

pub async fn a_declined_chat_goes_on_at_once_and_never_back_within_the_back_off(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.pass(50);
    f.sign_in("bob", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    assert_eq!(f.offered_to(1).await, ["ann"]);
    let offer = OfferId { chat: chat(1), number: 1 };
    f.ok(&Command::Decline { responder: responder("ann"), session: ann, offer, reason: Reason::Busy }).await;
    assert_eq!(f.offered_to(1).await, ["bob"]);
    f.ok(&Command::SignOut { responder: responder("bob"), session: sessions(&f, "bob").await }).await;
    assert!(f.offered_to(1).await.is_empty(), "she said no a moment ago");
    f.tick_for(500).await;
    assert_eq!(f.offered_to(1).await, ["ann"], "nobody else is there, and the shortest back-off is over");
}

async fn sessions(f: &Fixture, name: &str) -> u64 {
    f.store.responder(&f.helpline, &responder(name)).await.unwrap().unwrap().responder.session
}

pub async fn a_missed_offer_makes_the_responder_say_ready_first(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let kinds = f.tick_for(2_100).await;
    assert!(kinds.contains(&EventKind::Missed));
    let view = f.store.responder(&f.helpline, &responder("ann")).await.unwrap().unwrap();
    assert_eq!((view.responder.status, view.held.len()), (Status::NotResponding, 0));
    f.tick_for(600).await;
    assert!(f.offered_to(1).await.is_empty(), "not before she says so");
    let ready = Command::SetStatus { responder: responder("ann"), session: ann, status: Status::Ready };
    f.ok(&ready).await;
    assert_eq!(f.offered_to(1).await, ["ann"]);
}

pub async fn no_more_load_than_capacity_and_wrap_up_counts(mut f: Fixture) {
    f.policy.numbers.wrap_up_ms = [500; 4];
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 2).await;
    for n in 1..=3 {
        f.ask(n, Urgency::Moderate).await;
        f.pass(1);
    }
    assert!(f.offered_to(3).await.is_empty(), "two is all that she can carry");
    let fence = f.accepted("ann", ann, 1, 1).await;
    f.ok(&f.close("ann", ann, 1, fence)).await;
    assert!(f.offered_to(3).await.is_empty(), "she writes notes");
    f.tick_for(600).await;
    assert_eq!(f.offered_to(3).await, ["ann"]);
}

pub async fn an_abandoned_chat_can_be_reopened_at_its_old_place(f: Fixture) {
    let f = f.ready().await;
    let mut request = f.request(1, Urgency::Moderate, &[]);
    request.attested = false;
    f.ok(&Command::Request(Box::new(request))).await;
    f.pass(10);
    f.ask(2, Urgency::Moderate).await;
    let kinds = f.tick_for(2_600).await;
    assert_eq!(kinds, [EventKind::Away]);
    assert_eq!(f.tick_for(3_000).await, [EventKind::Ended]);
    assert_eq!(f.chat(1).await.ended.unwrap().0, EndedAs::Abandoned);
    let back = f.ok(&Command::Resume { chat: chat(1), token: token(1) }).await;
    assert!(matches!(back, Reply::Chat { state: ChatState::Waiting, place: 1, .. }), "{back:?}");
}

pub async fn the_last_free_responder_is_kept_for_imminent(mut f: Fixture) {
    f.policy.numbers.reserve = 1;
    let f = f.ready().await;
    f.sign_in("ann", &[("lang:es", 1)], 1).await;
    f.ask(1, Urgency::High).await;
    assert!(f.offered_to(1).await.is_empty());
    f.sign_in("bob", &[("far:one", 1)], 1).await;
    assert_eq!(f.offered_to(1).await.len(), 1, "now there is one more than is kept");
    f.ask(2, Urgency::Imminent).await;
    assert_eq!(f.offered_to(2).await.len(), 1);
}

pub async fn one_replica_ticks_and_another_takes_over(f: Fixture) {
    let f = f.ready().await;
    let (one, two) = (digest("01"), digest("02"));
    let not_mine = |reply| matches!(reply, Reply::Ticked { not_mine: true, .. });
    assert!(!not_mine(f.ok(&Command::Tick { by: one.clone(), limit: 10 }).await));
    f.pass(500);
    assert!(not_mine(f.ok(&Command::Tick { by: two.clone(), limit: 10 }).await));
    f.pass(500);
    assert!(!not_mine(f.ok(&Command::Tick { by: two, limit: 10 }).await), "the other one was silent for a second");
    assert!(not_mine(f.ok(&Command::Tick { by: one, limit: 10 }).await));
}

pub async fn a_wall_clock_that_leaps_expires_nobody(f: Fixture) {
    let f = f.ready().await;
    f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    f.pass(3_600_000);
    let ticked = f.apply(&Command::Tick { by: digest("01"), limit: 100 }).await;
    assert!(ticked.events.is_empty(), "an hour on the wall is a second in the line: {:?}", ticked.events);
    assert_eq!(f.offered_to(1).await, ["ann"]);
}

pub async fn events_are_gap_free_and_can_be_read_from_any_cursor(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    f.ok(&f.close("ann", ann, 1, fence)).await;
    let all = f.store.events(&f.helpline, &Cursor::default(), 100).await.unwrap();
    let sequences: Vec<u64> = all.iter().map(|p| p.event.sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    let rest = f.store.events(&f.helpline, &all[2].cursor, 100).await.unwrap();
    assert_eq!(rest, all[3..]);
    let foreign = Cursor { generation: "another store".to_owned(), term: 1, sequence: 3 };
    let refused = f.store.events(&f.helpline, &foreign, 100).await;
    assert!(matches!(refused, Err(StoreError::CursorTooOld { .. })));
}

pub async fn notices_come_in_order_with_what_they_tell_of(f: Fixture) {
    let mut notices = f.store.notices();
    let f = f.ready().await;
    f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let mut told = Vec::new();
    while !told.contains(&EventKind::Offered) {
        let within = std::time::Duration::from_secs(5);
        let notice =
            tokio::time::timeout(within, notices.recv()).await.expect("a notice in time").expect("a notice");
        if notice.helpline == f.helpline {
            told.extend(notice.events.iter().map(|p| p.event.kind));
        }
    }
    use EventKind::{Offered, PolicySet, Requested, SignedIn};
    assert_eq!(told, [PolicySet, SignedIn, Requested, Offered]);
}

pub async fn the_floor_shows_who_waits_and_who_is_here(f: Fixture) {
    let f = f.ready().await;
    f.ask(1, Urgency::Low).await;
    f.ask(2, Urgency::High).await;
    f.sign_in("ann", &[], 1).await;
    let floor = f.store.floor(&f.helpline, 10).await.unwrap();
    assert_eq!((floor.in_line, floor.waiting.len()), (1, 1));
    assert_eq!((floor.ledger.waiting, floor.ledger.offered, floor.ledger.difference()), (1, 1, 0));
    assert_eq!(floor.responders.iter().map(|r| r.id.to_string()).collect::<Vec<_>>(), ["ann"]);
    assert_eq!(floor.policy_revision, 1);
    assert_eq!(f.store.floor(&f.helpline, 0).await.unwrap().waiting, Vec::new());
}

pub async fn events_are_gone_once_they_are_older_than_the_policy_keeps(mut f: Fixture) {
    f.policy.numbers.keep_events_ms = 30_000;
    let f = f.ready().await;
    f.ask(1, Urgency::Moderate).await;
    let told = f.store.events(&f.helpline, &Cursor::default(), 100).await.unwrap();
    let first = told.first().expect("an event").cursor.clone();
    let second_by_second = async |seconds: u32| {
        for _ in 0..seconds {
            f.pass(1000);
            f.apply(&Command::Tick { by: digest("aa"), limit: 100 }).await;
        }
    };
    second_by_second(29).await;
    assert_eq!(f.store.events(&f.helpline, &Cursor::default(), 100).await.unwrap(), told);

    second_by_second(1).await;
    assert_eq!(f.store.events(&f.helpline, &Cursor::default(), 100).await.unwrap(), []);
    let gap = f.store.events(&f.helpline, &first, 100).await.expect_err("what came between is gone");
    let StoreError::CursorTooOld { first } = gap else { panic!("{gap}") };
    f.ask(2, Urgency::Moderate).await;
    let next = f.store.events(&f.helpline, &first, 100).await.unwrap();
    assert_eq!(next[0].event.sequence, told.len() as u64 + 1);
}

pub async fn a_policy_is_replaced_only_at_the_revision_that_it_was_made_for(f: Fixture) {
    let f = f.ready().await;
    let mut policy = f.policy.clone();
    policy.numbers.offer_deadline_ms = 1_000;
    let stale = Command::SetPolicy { policy: Box::new(policy.clone()), expected: 0, by: None };
    assert_eq!(f.refused(&stale).await, Refusal::PolicyChanged { revision: 1 });
    f.ok(&Command::SetPolicy { policy: Box::new(policy.clone()), expected: 1, by: None }).await;
    let stored = f.store.policy(&f.helpline).await.unwrap().unwrap();
    assert_eq!((stored.revision, stored.numbers), (2, policy.numbers));
    let old = Command::Request(Box::new(f.request(1, Urgency::Low, &[])));
    assert_eq!(f.refused(&old).await, Refusal::PolicyChanged { revision: 2 });
}

pub async fn content_is_gone_when_a_chat_is_erased(f: Fixture) {
    let f = f.ready().await;
    f.ask(1, Urgency::Moderate).await;
    assert!(!f.chat(1).await.handoff.is_empty());
    f.ok(&Command::Erase { chat: chat(1), token: token(1) }).await;
    let left = f.chat(1).await;
    assert!(left.handoff.is_empty() && left.erased && left.state == ChatState::Ended);
    f.ok(&Command::Erase { chat: chat(1), token: token(1) }).await;
    let strangers = Command::Erase { chat: chat(1), token: token(2) };
    assert_eq!(f.refused(&strangers).await, Refusal::UnknownChat);
    if let Some(snapshot) = f.snapshot().await {
        assert_eq!(invariants::broken(&snapshot), Vec::<String>::new());
    }
}
