//! What supervisors may do, and what stays out of their reach.

use crate::fixture::{Fixture, chat, responder, token};
use holdfast_domain::invariants::broken;
use holdfast_domain::{
    Act, Applied, ChatId, ChatState, Command, EndedAs, EventKind, OfferId, Reason, Refusal, Reply, Requirement,
    Status, Urgency,
};

fn act(act: Act) -> Command {
    Command::Supervise { by: responder("lead"), reason: Reason::Safety, act }
}

/// The event of the kind, which names the supervisor and the reason.
fn audited(applied: &Applied, kind: EventKind) {
    let event =
        applied.events.iter().find(|e| e.kind == kind).unwrap_or_else(|| panic!("{kind:?} of {applied:?}"));
    assert_eq!((event.by.clone(), event.reason), (Some(responder("lead")), Some(Reason::Safety)));
    assert!(event.revision > 0);
}

pub async fn a_supervisor_offers_a_chat_to_whom_they_choose_within_the_rules_or_past_them(f: Fixture) {
    let f = f.ready().await;
    f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    f.sign_in("zoe", &[], 1).await;
    f.ask(2, Urgency::Moderate).await;
    f.ask(3, Urgency::High).await;
    let assign =
        |n, name: &str, break_glass| act(Act::Assign { chat: chat(n), responder: responder(name), break_glass });
    assert_eq!(f.refused(&assign(3, "ann", false)).await, Refusal::NotAvailable, "her hands are full");
    let applied = f.apply(&assign(3, "ann", true)).await;
    audited(&applied, EventKind::Offered);
    assert_eq!(f.offered_to(3).await, ["ann"]);
    assert_eq!(f.refused(&assign(3, "ann", true)).await, Refusal::WrongState, "it is offered to her");
    assert_eq!(f.refused(&assign(3, "nobody", true)).await, Refusal::NotSignedIn);
    let session = f.store.responder(&f.helpline, &responder("ann")).await.unwrap().unwrap().responder.session;
    f.accepted("ann", session, 3, 1).await;
    assert_eq!(f.refused(&assign(3, "zoe", true)).await, Refusal::WrongState, "it is in somebody's hands");
}

pub async fn a_visitors_wish_is_past_every_supervisors_reach(f: Fixture) {
    let f = f.ready().await;
    f.sign_in("ann", &[], 1).await;
    let mut request = f.request(1, Urgency::Imminent, &[]);
    request.excluded = vec![responder("ann")];
    f.ok(&Command::Request(Box::new(request))).await;
    let assign = Act::Assign { chat: chat(1), responder: responder("ann"), break_glass: true };
    assert_eq!(f.refused(&act(assign)).await, Refusal::NotAvailable);
}

pub async fn a_chat_that_is_pulled_goes_back_to_its_place_and_to_others(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let pull = act(Act::Pull { chat: chat(1) });
    assert_eq!(f.refused(&pull).await, Refusal::WrongState, "nobody owns it");
    let fence = f.accepted("ann", ann, 1, 1).await;
    f.sign_in("bob", &[], 1).await;
    audited(&f.apply(&pull).await, EventKind::Returned);
    assert_eq!(f.offered_to(1).await, ["bob"]);
    assert_eq!(f.refused(&f.close("ann", ann, 1, fence)).await, Refusal::StaleFence);
}

pub async fn taking_over_moves_a_chat_from_hand_to_hand_in_one_step(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let old = f.accepted("ann", ann, 1, 1).await;
    let lead = f.sign_in("lead", &[], 1).await;
    let take = |session| act(Act::TakeOver { chat: chat(1), session, reply_handoff: vec![8] });
    assert_eq!(f.refused(&take(lead - 1)).await, Refusal::StaleSession);
    let applied = f.apply(&take(lead)).await;
    audited(&applied, EventKind::Returned);
    audited(&applied, EventKind::Offered);
    let Ok(Reply::Accepted { fence, handoff, .. }) = applied.reply else { panic!("{applied:?}") };
    assert!(fence.epoch > old.epoch && !handoff.is_empty());
    assert_eq!(f.chat(1).await.owner.unwrap().responder, responder("lead"));
    assert_eq!(f.refused(&f.close("ann", ann, 1, old)).await, Refusal::StaleFence);
    f.ask(2, Urgency::High).await;
    f.ok(&act(Act::TakeOver { chat: chat(2), session: lead, reply_handoff: Vec::new() })).await;
    assert_eq!(f.chat(2).await.owner.unwrap().responder, responder("lead"), "past the capacity, too");
}

pub async fn a_call_for_a_supervisor_stands_until_the_chat_has_left_these_hands(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 2).await;
    for n in [1, 2] {
        f.ask(n, Urgency::Moderate).await;
    }
    let fence = f.accepted("ann", ann, 1, 1).await;
    f.accepted("ann", ann, 2, 1).await;
    let call = Command::CallSupervisor { responder: responder("ann"), session: ann, chat: chat(1), fence };
    f.ok(&call).await;
    let since = f.called_by("ann").await;
    f.pass(50);
    f.ok(&call).await;
    assert_eq!(f.called_by("ann").await, since, "calling again is calling since the first time");
    assert_eq!(since.len(), 1, "for one of the two chats");
    f.ok(&f.close("ann", ann, 1, fence)).await;
    assert_eq!(f.called_by("ann").await, [0; 0], "the wrap-up calls nobody");
    assert_eq!(f.refused(&call).await, Refusal::StaleFence);
}

pub async fn a_supervisor_may_lower_an_urgency_and_a_visitor_may_not(f: Fixture) {
    let f = f.ready().await;
    f.ask(1, Urgency::Imminent).await;
    f.pass(10);
    f.ask(2, Urgency::High).await;
    let low = Command::Triage {
        chat: chat(1),
        token: crate::fixture::token(1),
        urgency: Urgency::Low,
        reason: Reason::Visitor,
    };
    f.ok(&low).await;
    assert_eq!(f.chat(1).await.urgency, Urgency::Imminent);
    let set = act(Act::SetUrgency { chat: chat(1), urgency: Urgency::Low });
    audited(&f.apply(&set).await, EventKind::Triaged);
    assert_eq!(f.chat(1).await.urgency, Urgency::Low);
    let first = f.store.floor(&f.helpline, 1).await.unwrap().waiting.remove(0);
    assert_eq!(first.id, chat(2));
}

pub async fn a_supervisor_ends_chats_only_as_what_they_are(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    f.ask(2, Urgency::Moderate).await;
    f.accepted("ann", ann, 1, 1).await;
    let end = |n, outcome| act(Act::End { chat: chat(n), outcome });
    assert_eq!(f.refused(&end(1, EndedAs::Fallback)).await, Refusal::WrongState);
    assert_eq!(f.refused(&end(2, EndedAs::Completed)).await, Refusal::WrongState);
    assert_eq!(f.refused(&end(2, EndedAs::Abandoned)).await, Refusal::WrongState);
    audited(&f.apply(&end(1, EndedAs::Completed)).await, EventKind::Ended);
    f.ok(&end(2, EndedAs::Blocked)).await;
    assert_eq!(f.refused(&end(2, EndedAs::Blocked)).await, Refusal::ChatEnded { outcome: EndedAs::Blocked });
}

pub async fn a_supervisor_ends_breaks_gives_rest_and_signs_people_out(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    let end_break = act(Act::EndBreak { responder: responder("ann") });
    assert_eq!(f.refused(&end_break).await, Refusal::WrongState, "she is ready");
    f.ok(&Command::SetStatus { responder: responder("ann"), session: ann, status: Status::OnBreak }).await;
    f.ask(1, Urgency::Moderate).await;
    audited(&f.apply(&end_break).await, EventKind::StatusChanged);
    assert_eq!(f.offered_to(1).await, ["ann"]);
    let rest = |for_ms| act(Act::Rest { responder: responder("ann"), for_ms });
    audited(&f.apply(&rest(900)).await, EventKind::CoolingDown);
    assert!(f.offered_to(1).await.is_empty(), "what was offered goes on");
    f.ok(&rest(100)).await;
    f.tick_for(500).await;
    assert!(f.offered_to(1).await.is_empty(), "a shorter rest changes nothing");
    f.tick_for(500).await;
    f.accepted("ann", ann, 1, 2).await;
    audited(&f.apply(&act(Act::ForceOffline { responder: responder("ann") })).await, EventKind::SignedOut);
    assert_eq!(f.chat(1).await.state, ChatState::Waiting);
    assert_eq!(f.refused(&rest(100)).await, Refusal::NotSignedIn);
}

pub async fn a_reroute_lets_others_serve_for_a_time_and_ends_by_itself(f: Fixture) {
    let f = f.ready().await;
    f.sign_in("ann", &[("lang:en", 1)], 1).await;
    f.sign_in("bob", &[("lang:en", 1)], 1).await;
    let spanish = f.policy.requirement("need", &[vec![("lang:es", 1)]]).unwrap();
    let ask = |n| Command::Request(Box::new(f.request(n, Urgency::Moderate, &[("lang:es", 1)])));
    f.ok(&ask(1)).await;
    assert!(f.offered_to(1).await.is_empty());
    let reroute = |for_ms, revision| {
        act(Act::Reroute { from: spanish.clone(), to: Requirement::anyone(), for_ms, revision })
    };
    assert_eq!(f.refused(&reroute(900, 7)).await, Refusal::PolicyChanged { revision: 1 });
    assert_eq!(f.refused(&reroute(0, 1)).await, Refusal::WrongState, "there is none to end");
    audited(&f.apply(&reroute(900, 1)).await, EventKind::Rerouted);
    assert_eq!(f.offered_to(1).await.len(), 1, "who waits is looked at again");
    assert!(f.tick_for(1_000).await.contains(&EventKind::RerouteEnded));
    f.ok(&ask(2)).await;
    assert!(f.offered_to(2).await.is_empty());
    f.ok(&reroute(60_000, 1)).await;
    assert_eq!(f.offered_to(2).await.len(), 1);
    f.ok(&reroute(0, 1)).await;
    assert_eq!(f.store.floor(&f.helpline, 0).await.unwrap().reroutes.len(), 0);
}

/// What a supervisor sees of chats that reach nobody: which, and after how many failures.
async fn failing(f: &Fixture) -> Vec<(ChatId, u32)> {
    let floor = f.store.floor(&f.helpline, 10).await.unwrap();
    assert_eq!(floor.failing_in_all, floor.failing.len() as u64);
    floor.failing.into_iter().map(|chat| (chat.id, chat.failed)).collect()
}

pub async fn a_chat_that_reaches_nobody_again_and_again_is_shown_at_its_place_until_somebody_writes(
    mut f: Fixture,
) {
    f.policy.numbers.failing_after = 3;
    f.policy.numbers.first_reply_ms = 1_200;
    let f = f.ready().await;
    f.ask(1, Urgency::Moderate).await;
    f.pass(10);
    f.ask(2, Urgency::Moderate).await;

    let ann = f.sign_in("ann", &[], 1).await;
    f.ok(&Command::Unlink { responder: responder("ann"), session: ann }).await;
    f.sign_in("bob", &[], 1).await;
    assert!(f.tick_for(2_100).await.contains(&EventKind::Missed));
    assert_eq!(failing(&f).await, [], "two are not enough");
    let eve = f.sign_in("eve", &[], 1).await;
    f.accepted("eve", eve, 1, 3).await;
    let kinds = f.tick_for(1_300).await;
    let told = kinds.iter().filter(|kind| **kind == EventKind::DeliveryFailing).count();
    assert_eq!((told, failing(&f).await), (1, vec![(chat(1), 3)]), "an accept in silence is the third");

    assert_eq!(f.store.place(&f.helpline, &chat(1)).await.unwrap(), 1, "nobody goes before it");
    f.sign_in("dan", &[], 1).await;
    let kinds = f.tick_for(2_100).await;
    assert!(kinds.contains(&EventKind::Missed) && !kinds.contains(&EventKind::DeliveryFailing), "{kinds:?}");
    assert_eq!(failing(&f).await, [(chat(1), 4)], "it is told once, and counted on");
    let fay = f.sign_in("fay", &[], 1).await;
    assert_eq!(f.offered_to(1).await, ["fay"], "it is offered on");
    let number = f.chat(1).await.offers_made;
    let fence = f.accepted("fay", fay, 1, number).await;
    assert_eq!(failing(&f).await, [(chat(1), 4)], "an accept is not a conversation yet");
    f.ok(&Command::Engage { responder: responder("fay"), session: fay, chat: chat(1), fence }).await;

    assert_eq!((failing(&f).await, f.chat(1).await.failed), (vec![], 0));
    assert!(f.snapshot().await.is_none_or(|snapshot| broken(&snapshot).is_empty()));
}

pub async fn what_is_polite_is_no_failed_delivery_and_a_chat_that_ends_is_shown_no_more(mut f: Fixture) {
    f.policy.numbers.failing_after = 1;
    f.policy.numbers.min_back_off_ms = 1;
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let decline = |number| Command::Decline {
        responder: responder("ann"),
        session: ann,
        offer: OfferId { chat: chat(1), number },
        reason: Reason::Busy,
    };
    f.ok(&decline(1)).await;
    f.tick_for(100).await;
    let fence = f.accepted("ann", ann, 1, 2).await;
    f.ok(&Command::Transfer { responder: responder("ann"), session: ann, chat: chat(1), fence }).await;
    f.tick_for(100).await;
    f.ok(&Command::SetStatus { responder: responder("ann"), session: ann, status: Status::OnBreak }).await;
    assert_eq!(failing(&f).await, [], "each of them was said");

    f.ok(&Command::SetStatus { responder: responder("ann"), session: ann, status: Status::Ready }).await;
    f.ok(&Command::Unlink { responder: responder("ann"), session: ann }).await;
    assert_eq!(failing(&f).await, [(chat(1), 1)]);
    let leave = Command::Leave { chat: chat(1), token: token(1), fallback: false };
    f.ok(&leave).await;
    assert_eq!((failing(&f).await, f.chat(1).await.failed), (vec![], 0));
}
