//! How a chat finds its way: wishes that relax, policies that change under it, partners, surges, honest waits.

use crate::fixture::{Fixture, chat, digest, responder, token};
use holdfast_domain::line::{Proposal, proposal};
use holdfast_domain::policy::{Admission, Partner, Rate, SurgeStage};
use holdfast_domain::{
    Chat, ChatState, Command, EndedAs, EventKind, HelplineId, Hold, Refusal, Reply, Request, Step, Urgency,
    invariants,
};

fn east() -> HelplineId {
    HelplineId::parse("east").unwrap()
}

fn partners(names: &[&str]) -> Vec<Partner> {
    names.iter().map(|name| Partner { helpline: (*name).to_owned() }).collect()
}

async fn in_order(f: &Fixture) -> Vec<String> {
    f.store.floor(&f.helpline, 100).await.unwrap().waiting.iter().map(|c| c.id.to_string()).collect()
}

pub async fn somebody_whom_the_visitor_trusts_is_waited_for_and_then_anyone_may_come(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    f.sign_in("bob", &[], 1).await;
    for n in [2, 3] {
        let mut request = f.request(n, Urgency::Moderate, &[]);
        let anyone = request.steps[0].clone();
        request.steps = vec![
            Step { only: Some(responder("ann")), ..anyone.clone() },
            Step { after_ms: u64::from(n) * 400, ..anyone },
        ];
        f.ok(&Command::Request(Box::new(request))).await;
        assert!(f.offered_to(n).await.is_empty(), "bob is free, but it is ann who is waited for");
    }
    f.ok(&f.close("ann", ann, 1, fence)).await;
    f.apply(&Command::FinishWrapUp { responder: responder("ann"), session: ann, chat: chat(1) }).await;
    assert_eq!(f.offered_to(2).await, ["ann"]);
    f.tick_for(1_300).await;
    assert_eq!(f.offered_to(3).await, ["bob"], "ann is busy, and the wish had its time");
}

pub async fn whoever_is_trusted_but_not_on_shift_is_not_waited_for(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ok(&Command::SignOut { responder: responder("ann"), session: ann }).await;
    f.sign_in("bob", &[], 2).await;
    for (n, wished) in [(1, "ann"), (2, "nobody-known")] {
        let mut request = f.request(n, Urgency::Moderate, &[]);
        let anyone = request.steps[0].clone();
        request.steps =
            vec![Step { only: Some(responder(wished)), ..anyone.clone() }, Step { after_ms: 60_000, ..anyone }];
        let applied = f.apply(&Command::Request(Box::new(request))).await;
        assert!(applied.events.iter().any(|e| e.kind == EventKind::Relaxed && e.number == Some(1)), "{applied:?}");
        assert_eq!(f.offered_to(n).await, ["bob"]);
    }
}

pub async fn nobody_whom_the_visitor_does_not_want_to_meet_is_asked(f: Fixture) {
    let f = f.ready().await;
    f.sign_in("ann", &[], 1).await;
    let mut request = f.request(1, Urgency::Imminent, &[]);
    request.excluded = vec![responder("ann"), responder("zoe")];
    f.ok(&Command::Request(Box::new(request))).await;
    assert!(f.offered_to(1).await.is_empty());
    f.sign_in("bob", &[], 2).await;
    assert_eq!(f.offered_to(1).await, ["bob"]);
}

pub async fn everybody_in_line_stands_where_a_new_policy_puts_them_from_its_first_moment(mut f: Fixture) {
    f.policy.numbers.head_start_ms = [0, 0, 0];
    let f = f.ready().await;
    for (n, urgency) in [(1, Urgency::Low), (2, Urgency::Moderate), (3, Urgency::High)] {
        f.ask(n, urgency).await;
        f.pass(10);
    }
    assert_eq!(in_order(&f).await, ["chat-1", "chat-2", "chat-3"]);
    let mut policy = f.policy.clone();
    policy.numbers.head_start_ms = [0, 1_000, 2_000];
    let set = Command::SetPolicy { policy: Box::new(policy), expected: 1, by: None };
    assert_eq!(f.ok(&set).await, Reply::Policy { revision: 2 });
    assert_eq!(in_order(&f).await, ["chat-3", "chat-2", "chat-1"]);
    let signed = f.apply(&f.sign_in_command("ann", &[], 1, 2)).await;
    let offered = signed.events.iter().find(|e| e.kind == EventKind::Offered).unwrap();
    assert_eq!((offered.chat.clone(), offered.revision), (Some(chat(3)), 2), "a decision names its revision");
    let old = f.store.earlier_policy(&f.helpline, 1).await.unwrap().unwrap();
    assert_eq!(old.numbers.head_start_ms, [0, 0, 0], "and it can be gone back to");
    assert_eq!(f.store.earlier_policy(&f.helpline, 9).await.unwrap(), None);
}

/// A chat that is proposed to the partner.
async fn proposed(f: &Fixture) -> Chat {
    f.ask(1, Urgency::Moderate).await;
    assert!(f.tick_for(1_100).await.contains(&EventKind::Overflowing));
    let chat = f.chat(1).await;
    assert_eq!(proposal(Some(&chat), &east(), 1), Proposal::Open);
    chat
}

fn overflows(f: &mut Fixture) {
    f.policy.partners = partners(&["east"]);
    f.policy.numbers.overflow_after_ms = [1_000; 4];
    f.policy.numbers.overflow_answer_ms = 500;
    f.policy.numbers.overflow_retry_ms = 800;
}

fn settle(taken: bool) -> Command {
    Command::SettleProposal { chat: chat(1), to: east(), number: 1, taken }
}

pub async fn a_chat_that_nobody_answers_goes_to_the_partner_who_takes_it(mut f: Fixture) {
    overflows(&mut f);
    let f = f.ready().await;
    proposed(&f).await;
    f.ok(&settle(true)).await;
    let left = f.chat(1).await;
    assert_eq!((left.ended.unwrap().0, left.partner.clone()), (EndedAs::Overflowed, Some(east())));
    assert_eq!(proposal(Some(&left), &east(), 1), Proposal::Taken, "whoever holds it can read that here");
    f.ok(&settle(true)).await;
    assert_eq!(f.refused(&settle(false)).await, Refusal::ProposalGone);
    let ledger = f.store.floor(&f.helpline, 0).await.unwrap().ledger;
    assert_eq!((ledger.accepted, ledger.ended[3], ledger.difference()), (1, 1, 0));
    let Reply::Chat { partner, .. } = f.ok(&Command::Beat { chat: chat(1), token: token(1) }).await else {
        panic!()
    };
    assert_eq!(partner, Some(east()), "the visitor is told who has it");
}

pub async fn a_chat_that_somebody_took_meanwhile_stays_and_the_partner_reads_so(mut f: Fixture) {
    overflows(&mut f);
    let f = f.ready().await;
    proposed(&f).await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.accepted("ann", ann, 1, 1).await;
    assert_eq!(f.refused(&settle(true)).await, Refusal::ProposalGone);
    assert_eq!(proposal(Some(&f.chat(1).await), &east(), 1), Proposal::Withdrawn);
}

pub async fn a_partner_who_says_no_or_nothing_is_asked_again_after_a_while(mut f: Fixture) {
    overflows(&mut f);
    let f = f.ready().await;
    proposed(&f).await;
    f.ok(&settle(false)).await;
    assert!(!f.tick_for(600).await.contains(&EventKind::Overflowing));
    assert!(f.tick_for(400).await.contains(&EventKind::Overflowing));
    assert!(f.tick_for(600).await.contains(&EventKind::OverflowRefused), "no answer is a no");
    assert_eq!(f.chat(1).await.state, ChatState::Waiting);
    assert_eq!(f.refused(&settle(true)).await, Refusal::ProposalGone, "too late");
}

pub async fn with_too_few_on_shift_chats_go_to_the_partner_at_once(mut f: Fixture) {
    overflows(&mut f);
    f.policy.numbers.min_on_shift = 1;
    f.policy.numbers.overflow_after_ms = [60_000; 4];
    let f = f.ready().await;
    f.ask(1, Urgency::Low).await;
    assert!(f.tick_for(100).await.contains(&EventKind::Overflowing));
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(2, Urgency::Low).await;
    f.ask(3, Urgency::Low).await;
    assert!(!f.tick_for(500).await.contains(&EventKind::Overflowing), "somebody is here");
    f.ok(&Command::SignOut { responder: responder("ann"), session: ann }).await;
    assert!(f.tick_for(100).await.contains(&EventKind::Overflowing), "the last one has gone");
}

fn hold(f: &Fixture, n: u8, age_ms: u64) -> Hold {
    let request = Request { request_key: digest(&format!("e{n:02x}")), ..f.request(n, Urgency::High, &[]) };
    Hold { from: east(), number: 4, age_ms, request }
}

pub async fn a_chat_kept_for_a_partner_is_nobodys_until_the_partner_lets_go(mut f: Fixture) {
    f.policy.takes_from = partners(&["east"]);
    let f = f.ready().await;
    let keep = Command::Hold(Box::new(hold(&f, 1, 5_000)));
    f.ok(&keep).await;
    f.ok(&keep).await;
    assert_eq!(f.refused(&Command::Beat { chat: chat(1), token: token(1) }).await, Refusal::UnknownChat);
    assert_eq!(f.store.floor(&f.helpline, 9).await.unwrap().ledger.accepted, 0, "it counts at the partner's");
    assert!(f.tick_for(2_100).await.contains(&EventKind::HoldDue), "it asks what became of it");
    assert!(f.tick_for(2_100).await.contains(&EventKind::HoldDue), "and asks again, for ever");
    f.sign_in("ann", &[], 1).await;
    assert!(f.offered_to(1).await.is_empty());
    let admit = Command::Admit { chat: chat(1), from: east(), number: 4 };
    f.ok(&admit).await;
    f.ok(&admit).await;
    assert_eq!(f.offered_to(1).await, ["ann"]);
    let ledger = f.store.floor(&f.helpline, 9).await.unwrap().ledger;
    assert_eq!((ledger.accepted, ledger.offered), (1, 1));
    let here = f.chat(1).await;
    let now = f.store.floor(&f.helpline, 0).await.unwrap().clock.now_ms;
    assert!(now - here.arrival_ms >= 9_000, "the wait there counts here");
    let release = Command::Release { chat: chat(1), from: east(), number: 4 };
    assert_eq!(f.refused(&release).await, Refusal::ProposalGone, "it is in this line now");
}

pub async fn a_chat_that_the_partner_kept_leaves_no_trace(mut f: Fixture) {
    f.policy.takes_from = partners(&["east"]);
    let f = f.ready().await;
    f.ok(&Command::Hold(Box::new(hold(&f, 1, 0)))).await;
    let release = Command::Release { chat: chat(1), from: east(), number: 4 };
    f.ok(&release).await;
    f.ok(&release).await;
    assert_eq!(f.store.chat(&f.helpline, &chat(1)).await.unwrap(), None);
    let admit = Command::Admit { chat: chat(1), from: east(), number: 4 };
    assert_eq!(f.refused(&admit).await, Refusal::ProposalGone);
    if let Some(snapshot) = f.snapshot().await {
        assert!(snapshot.requests.is_empty() && snapshot.timers.next_due().is_none());
        assert_eq!(invariants::broken(&snapshot), Vec::<String>::new());
    }
}

pub async fn strangers_and_too_many_are_not_taken_in(mut f: Fixture) {
    f.policy.takes_from = partners(&["east"]);
    f.policy.takes_at_most = 1;
    let f = f.ready().await;
    let stranger = Hold { from: HelplineId::parse("west").unwrap(), ..hold(&f, 1, 0) };
    assert_eq!(f.refused(&Command::Hold(Box::new(stranger))).await, Refusal::NotTaken);
    f.ask(9, Urgency::Low).await;
    assert_eq!(f.refused(&Command::Hold(Box::new(hold(&f, 1, 0)))).await, Refusal::NotTaken, "enough wait here");
}

fn surges(f: &mut Fixture) {
    f.policy.surge = vec![SurgeStage {
        name: "busy".to_owned(),
        enter_percent: 300,
        leave_percent: 100,
        hold_ms: 500,
        fan_out: 3,
        wrap_up_percent: 40,
        resources_first: true,
        challenge_bits: 0,
        page_until: 3,
        page_every_ms: 1_000,
        page_waves: 2,
    }];
    f.policy.numbers.wrap_up_ms = [1_000; 4];
    f.policy.numbers.cool_down_ms = [0; 4];
}

async fn stage(f: &Fixture) -> u64 {
    f.store.floor(&f.helpline, 0).await.unwrap().surge.stage
}

pub async fn a_surge_begins_at_once_and_ends_with_patience(mut f: Fixture) {
    surges(&mut f);
    let f = f.ready().await;
    f.sign_in("ann", &[], 1).await;
    for n in 1..=3 {
        f.ask(n, Urgency::Moderate).await;
    }
    assert!(f.tick_for(100).await.contains(&EventKind::Surge));
    assert_eq!(stage(&f).await, 1);
    for n in 1..=2 {
        f.ok(&Command::Leave { chat: chat(n), token: token(n), fallback: false }).await;
    }
    f.tick_for(300).await;
    assert_eq!(stage(&f).await, 1, "it is calm, but not for long enough");
    f.ask(4, Urgency::Moderate).await;
    f.tick_for(100).await;
    f.ok(&Command::Leave { chat: chat(4), token: token(4), fallback: false }).await;
    f.tick_for(400).await;
    assert_eq!(stage(&f).await, 1, "the calm was interrupted");
    f.tick_for(300).await;
    assert_eq!(stage(&f).await, 0);
}

pub async fn a_surge_shortens_easy_wrap_ups_and_shows_low_requests_the_resources_first(mut f: Fixture) {
    surges(&mut f);
    f.policy.numbers.max_waiting = 100;
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 2).await;
    for (n, urgency) in
        [(1, Urgency::High), (2, Urgency::Moderate), (3, Urgency::Moderate), (4, Urgency::Moderate)]
    {
        f.ask(n, urgency).await;
    }
    f.tick_for(100).await;
    assert_eq!(stage(&f).await, 1);
    let low = f.request(9, Urgency::Low, &[]);
    assert_eq!(f.refused(&Command::Request(Box::new(low.clone()))).await, Refusal::ResourcesFirst);
    f.ok(&Command::Request(Box::new(Request { resources_seen: true, ..low }))).await;
    for n in [1, 2] {
        let fence = f.accepted("ann", ann, n, 1).await;
        f.ok(&f.close("ann", ann, n, fence)).await;
    }
    f.tick_for(500).await;
    let held: Vec<String> = f
        .store
        .responder(&f.helpline, &responder("ann"))
        .await
        .unwrap()
        .unwrap()
        .responder
        .holdings
        .iter()
        .map(|h| format!("{}:{}", h.kind.word(), h.chat))
        .collect();
    assert_eq!(held, ["wrap:chat-1", "offer:chat-3"], "the hard one's wrap-up stays whole");
}

pub async fn in_a_surge_only_work_lets_new_chats_in_but_danger_and_repeats(mut f: Fixture) {
    surges(&mut f);
    f.policy.surge[0].challenge_bits = 9;
    let rate = |burst| Rate { per_minute: 60, burst };
    f.policy.admission = Some(Admission { quota: rate(6), imminent: rate(1) });
    let f = f.ready().await;
    let known = f.request(1, Urgency::Moderate, &[]);
    for n in 1..=3 {
        f.ask(n, Urgency::Moderate).await;
    }
    f.tick_for(100).await;
    assert_eq!(stage(&f).await, 1);
    let worked = |n, urgency, solved_bits| {
        Command::Request(Box::new(Request { solved_bits, ..f.request(n, urgency, &[]) }))
    };
    for _ in 0..9 {
        let asked = f.refused(&worked(4, Urgency::High, 8)).await;
        assert_eq!(asked, Refusal::Challenge { bits: 9 }, "it takes nobody's room");
    }
    f.ok(&worked(4, Urgency::High, 9)).await;
    assert!(matches!(f.ok(&Command::Request(Box::new(known))).await, Reply::Chat { replay: true, .. }));
    f.ok(&worked(5, Urgency::Imminent, 0)).await;
    let past = f.refused(&worked(6, Urgency::Imminent, 0)).await;
    assert_eq!(past, Refusal::Challenge { bits: 9 }, "past its room it is one more HIGH one");
    f.ok(&worked(6, Urgency::Imminent, 24)).await;
    assert_eq!(f.refused(&worked(7, Urgency::Low, 24)).await, Refusal::ResourcesFirst);
    f.ok(&worked(7, Urgency::High, 9)).await;
    let full = f.refused(&worked(8, Urgency::High, 0)).await;
    assert!(matches!(full, Refusal::QuotaExceeded { .. }), "nobody works for a place that there is not: {full:?}");

    for n in 1..=7 {
        f.ok(&Command::Leave { chat: chat(n), token: token(n), fallback: false }).await;
    }
    f.tick_for(1_000).await;
    assert_eq!(stage(&f).await, 0);
    f.ok(&worked(8, Urgency::High, 0)).await;
}

pub async fn volunteers_are_called_up_in_waves_until_enough_came(mut f: Fixture) {
    surges(&mut f);
    f.policy.surge[0].page_until = 2;
    let f = f.ready().await;
    f.sign_in("ann", &[], 1).await;
    for n in 1..=8 {
        f.ask(n, Urgency::Moderate).await;
    }
    let waves = |kinds: Vec<EventKind>| kinds.iter().filter(|k| **k == EventKind::Paging).count();
    assert_eq!(waves(f.tick_for(900).await), 1, "the first wave");
    assert_eq!(waves(f.tick_for(400).await), 1, "the second wave");
    f.sign_in("bob", &[], 1).await;
    assert_eq!(waves(f.tick_for(2_500).await), 0, "enough came, and two waves were all there are");
    assert_eq!(
        f.ok(&Command::ReportPage { wave: 1, delivered: false }).await,
        f.ok(&Command::ReportPage { wave: 2, delivered: true }).await
    );
}

pub async fn shown_waits_are_compared_with_what_they_were(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    for n in 1..=12 {
        f.ask(n, Urgency::Low).await;
        f.pass(200);
        if n > 8 {
            assert!(f.chat(n).await.shown.is_some(), "five hand-overs are enough to say how long it takes");
        }
        if n <= 6 {
            let fence = f.accepted("ann", ann, n, 1).await;
            f.ok(&f.close("ann", ann, n, fence)).await;
        }
    }
    let fence = f.accepted("ann", ann, 7, 1).await;
    f.ok(&f.close("ann", ann, 7, fence)).await;
    f.accepted("ann", ann, 8, 1).await;
    let waits = f.store.floor(&f.helpline, 0).await.unwrap().waits;
    assert_eq!(waits.shown, 1, "chat 8 was shown a range; those before it were offered at once");
    assert_ne!(waits.spread[0], waits.spread[3], "and something was learnt for its urgency alone");
}
