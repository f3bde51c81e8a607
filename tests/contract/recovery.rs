//! A store that has lost the line, or the end of it, and people who come back with what they hold.

use crate::fixture::{Fixture, chat, responder, token};
use holdfast_domain::{
    Act, ChatState, Command, EventKind, Fence, Moment, Reason, Reassert, Refusal, Reply, Restore, Urgency,
    invariants,
};

impl Fixture {
    /// A ticket of a chat, as it would be sealed now.
    pub async fn ticket(&self, n: u8) -> Restore {
        let floor = self.store.floor(&self.helpline, 0).await.expect("a store");
        let now_ms = floor.clock.now_ms;
        let moment =
            Moment { generation: floor.generation, term: floor.term, now_ms, revision: floor.policy_revision };
        Restore::of(&self.chat(n).await, &moment, now_ms + self.policy.numbers.retention_ms)
    }

    /// A sealed assignment of a chat that is somebody's now.
    async fn sealed(&self, n: u8, session: u64) -> Reassert {
        let owner = self.chat(n).await.owner.expect("an owner");
        Reassert {
            responder: owner.responder,
            session,
            offer: owner.offer,
            fence: owner.fence,
            reply_handoff: vec![9],
            restore: self.ticket(n).await,
        }
    }

    /// The store loses everything, and a replica brings the policy back.
    pub async fn lose_everything(&self) {
        let clock_ms = self.store.floor(&self.helpline, 0).await.expect("a store").clock.now_ms;
        self.wipe().await;
        let policy = Box::new(holdfast_domain::Policy { revision: 1, ..self.policy.clone() });
        let revived = self.ok(&Command::Revive { policy, clock_ms }).await;
        assert_eq!(revived, Reply::Policy { revision: 1 });
    }

    async fn comes_back(&self, ticket: &Restore) -> (ChatState, u64) {
        match self.ok(&Command::Restore(Box::new(ticket.clone()))).await {
            Reply::Chat { state, place, .. } => (state, place),
            other => panic!("not a chat: {other:?}"),
        }
    }

    async fn takes_back(&self, sealed: &Reassert) -> Fence {
        match self.ok(&Command::Reassert(Box::new(sealed.clone()))).await {
            Reply::Accepted { fence, .. } => fence,
            other => panic!("not an assignment: {other:?}"),
        }
    }

    async fn is_whole(&self) {
        if let Some(snapshot) = self.snapshot().await {
            assert_eq!(invariants::broken(&snapshot), Vec::<String>::new());
        }
    }
}

pub async fn everybody_comes_back_at_their_old_rank_and_new_ones_come_after_them(f: Fixture) {
    let f = f.ready().await;
    let urgencies = [Urgency::Low, Urgency::High, Urgency::Moderate, Urgency::Imminent, Urgency::Low];
    for (n, urgency) in (1..).zip(urgencies) {
        f.ask(n, urgency).await;
        f.pass(700);
    }
    let mut tickets = Vec::new();
    let mut places = Vec::new();
    for n in 1..=5 {
        tickets.push(f.ticket(n).await);
        places.push(f.store.place(&f.helpline, &chat(n)).await.unwrap());
    }
    f.lose_everything().await;
    f.ask(6, Urgency::Low).await;
    for n in [3, 0, 4, 2, 1] {
        f.comes_back(&tickets[n]).await;
    }

    for n in 1..=5u8 {
        let place = f.store.place(&f.helpline, &chat(n)).await.unwrap();
        assert_eq!(place, places[usize::from(n) - 1], "chat {n}");
        assert_eq!(f.chat(n).await.arrival_ms, tickets[usize::from(n) - 1].sealed.arrival_ms);
    }
    assert_eq!(f.store.place(&f.helpline, &chat(6)).await.unwrap(), 6);
    let floor = f.store.floor(&f.helpline, 0).await.unwrap();
    assert_eq!((floor.ledger.accepted, floor.ledger.waiting, floor.ledger.difference()), (6, 6, 0));
    f.is_whole().await;
}

pub async fn a_repeat_after_a_loss_is_answered_with_the_chat_that_came_back(f: Fixture) {
    let f = f.ready().await;
    f.ask(1, Urgency::Moderate).await;
    let ticket = f.ticket(1).await;
    f.lose_everything().await;
    f.comes_back(&ticket).await;
    f.comes_back(&ticket).await;

    let mut again = f.request(1, Urgency::Moderate, &[]);
    again.chat = chat(9);
    let again = f.ok(&Command::Request(Box::new(again))).await;

    assert!(matches!(&again, Reply::Chat { chat: made, replay: true, .. } if *made == chat(1)), "{again:?}");
    assert_eq!(f.store.floor(&f.helpline, 0).await.unwrap().ledger.accepted, 1);
}

pub async fn nothing_that_comes_back_is_offered_before_the_hold_is_over_and_what_is_new_is_at_once(f: Fixture) {
    let f = f.ready().await;
    f.ask(1, Urgency::Imminent).await;
    let ticket = f.ticket(1).await;
    f.lose_everything().await;
    f.sign_in("ann", &[], 1).await;
    f.sign_in("bob", &[], 1).await;

    assert_eq!(f.comes_back(&ticket).await, (ChatState::Waiting, 1));
    f.ask(2, Urgency::Low).await;
    assert!(f.offered_to(1).await.is_empty(), "somebody may have it");
    assert_eq!(f.offered_to(2).await.len(), 1);
    let act = Act::Assign { chat: chat(1), responder: responder("bob"), break_glass: true };
    let assign = Command::Supervise { by: responder("sue"), reason: Reason::Safety, act };
    assert_eq!(f.refused(&assign).await, Refusal::WrongState);

    let hold = f.policy.numbers.recovery_hold_ms;
    f.tick_for(hold - 200).await;
    assert!(f.offered_to(1).await.is_empty());
    f.tick_for(400).await;
    assert_eq!(f.offered_to(1).await.len(), 1);
    f.is_whole().await;
}

pub async fn whoever_had_a_chat_has_it_again_under_the_same_fence_and_the_next_one_is_higher(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::High).await;
    let early = f.ticket(1).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    let sealed = f.sealed(1, ann).await;
    f.lose_everything().await;
    // The visitor's ticket is older than the accept, and a stranger is the first to be there.
    f.comes_back(&early).await;
    f.sign_in("bob", &[], 1).await;
    let session = f.sign_in("ann", &[], 1).await;
    let sealed = Reassert { session, ..sealed };

    assert_eq!(f.takes_back(&sealed).await, fence);
    assert_eq!(f.takes_back(&sealed).await, fence, "asked again");
    let back = f.chat(1).await;
    assert_eq!((back.state, back.reply_handoff, back.handoff), (ChatState::Active, vec![9], vec![1, 0, 255]));
    f.tick_for(3_000).await;
    assert!(f.offered_to(1).await.is_empty());

    let transfer = Command::Transfer { responder: responder("ann"), session, chat: chat(1), fence };
    f.ok(&transfer).await;
    assert_eq!(f.offered_to(1).await, ["bob"]);
    let bob = f.store.responder(&f.helpline, &responder("bob")).await.unwrap().unwrap().responder.session;
    let number = f.chat(1).await.offers_made;
    let next = f.accepted("bob", bob, 1, number).await;
    assert!(next.epoch > fence.epoch, "{next:?} {fence:?}");
    assert_eq!(f.refused(&Command::Reassert(Box::new(sealed))).await, Refusal::StaleFence);
    f.is_whole().await;
}

pub async fn an_assignment_alone_brings_its_chat_back_and_makes_room_for_it(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    let sealed = f.sealed(1, ann).await;
    f.lose_everything().await;
    let session = f.sign_in("ann", &[], 1).await;
    f.ask(2, Urgency::Moderate).await;
    assert_eq!(f.offered_to(2).await, ["ann"], "the line does not know better");

    assert_eq!(f.takes_back(&Reassert { session, ..sealed }).await, fence);

    assert!(f.offered_to(2).await.is_empty(), "her hands are full");
    f.ok(&f.close("ann", session, 1, fence)).await;
    assert_eq!(f.chat(1).await.state, ChatState::Ended);
    f.is_whole().await;
}

pub async fn a_chat_that_came_back_from_its_owner_before_the_loss_is_not_theirs(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Moderate).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    let sealed = f.sealed(1, ann).await;
    f.ok(&Command::Transfer { responder: responder("ann"), session: ann, chat: chat(1), fence }).await;
    let newer = f.ticket(1).await;
    f.lose_everything().await;
    f.comes_back(&newer).await;
    let session = f.sign_in("ann", &[], 1).await;

    let claim = Command::Reassert(Box::new(Reassert { session, ..sealed }));
    assert_eq!(f.refused(&claim).await, Refusal::StaleFence);
    assert!(f.chat(1).await.returned, "it keeps its head start");
}

pub async fn a_record_that_is_there_always_wins_a_tombstone_too(f: Fixture) {
    let f = f.ready().await;
    f.ask(1, Urgency::High).await;
    let ticket = f.ticket(1).await;
    f.ok(&Command::Leave { chat: chat(1), token: token(1), fallback: false }).await;
    assert_eq!(f.comes_back(&ticket).await.0, ChatState::Ended);
    f.ask(2, Urgency::High).await;
    let other = f.ticket(2).await;
    f.ok(&Command::Erase { chat: chat(2), token: token(2) }).await;
    assert_eq!(f.comes_back(&other).await.0, ChatState::Ended);

    f.tick_for(f.policy.numbers.retention_ms + 500).await;

    for ticket in [ticket, other] {
        assert_eq!(f.refused(&Command::Restore(Box::new(ticket))).await, Refusal::UnknownChat, "nothing was lost");
    }
    let floor = f.store.floor(&f.helpline, 0).await.unwrap();
    assert_eq!((floor.ledger.accepted, floor.ledger.difference()), (2, 0));
}

pub async fn an_expired_or_a_strangers_ticket_brings_nothing_back_after_a_loss(f: Fixture) {
    let f = f.ready().await;
    f.ask(1, Urgency::High).await;
    let ticket = f.ticket(1).await;
    f.lose_everything().await;
    let mut expired = ticket.clone();
    expired.sealed.expires_ms = expired.sealed.issued_ms;
    assert_eq!(f.refused(&Command::Restore(Box::new(expired))).await, Refusal::UnknownChat);
    f.comes_back(&ticket).await;
    let mut strangers = ticket;
    strangers.request.token = token(2);
    assert_eq!(f.refused(&Command::Restore(Box::new(strangers))).await, Refusal::UnknownChat);
}

pub async fn only_one_replica_brings_the_policy_back_and_nothing_happens_before(f: Fixture) {
    let f = f.ready().await;
    let policy = Box::new(holdfast_domain::Policy { revision: 7, ..f.policy.clone() });
    let revive = Command::Revive { policy, clock_ms: 0 };
    assert_eq!(f.refused(&revive).await, Refusal::PolicyChanged { revision: 1 }, "nothing was lost");
    let before = f.store.floor(&f.helpline, 0).await.unwrap().generation;
    f.wipe().await;
    let tick = Command::Tick { by: crate::fixture::digest("aa"), limit: 10 };
    assert_eq!(f.refused(&tick).await, Refusal::NoPolicy, "whoever ticks hears of it");

    let applied = f.apply(&revive).await;
    assert_eq!(applied.reply, Ok(Reply::Policy { revision: 7 }));
    assert_eq!(applied.events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::Revived]);
    assert_eq!(f.refused(&revive).await, Refusal::PolicyChanged { revision: 7 });
    let after = f.store.floor(&f.helpline, 0).await.unwrap().generation;
    assert!(!after.is_empty() && after != before, "{after:?}");
}

impl Fixture {
    /// The store holds an older copy of the line, and somebody says so; how it was called and what it is called from then on.
    async fn renew(&self) -> Command {
        let floor = self.store.floor(&self.helpline, 0).await.expect("a store");
        let renew = Command::Renew {
            life_was: floor.generation,
            life: "another-life".to_owned(),
            clock_ms: floor.clock.now_ms + 1_500,
            term: 0,
        };
        let Reply::Policy { revision: 1 } = self.ok(&renew).await else { panic!("another revision") };
        renew
    }

    async fn beats(&self, n: u8) {
        self.ok(&Command::Beat { chat: chat(n), token: token(n) }).await;
    }
}

pub async fn nobody_in_an_older_copy_is_offered_before_they_are_heard_and_the_hold_is_over(f: Fixture) {
    let f = f.ready().await;
    for n in 1..=3 {
        let request = holdfast_domain::Request { attested: false, ..f.request(n, Urgency::Moderate, &[]) };
        f.ok(&Command::Request(Box::new(request))).await;
        f.pass(500);
    }
    f.ask(4, Urgency::Moderate).await;
    f.sign_in("ann", &[], 1).await;
    assert_eq!(f.offered_to(1).await, ["ann"]);

    let renew = f.renew().await;

    assert!(f.offered_to(1).await.is_empty(), "the copy may be of yesterday");
    let floor = f.store.floor(&f.helpline, 10).await.unwrap();
    assert_eq!(floor.generation, "another-life");
    assert_eq!((floor.ledger.waiting, floor.ledger.offered, floor.ledger.difference()), (4, 0, 0));
    assert_eq!(f.refused(&renew).await, Refusal::PolicyChanged { revision: 1 }, "another replica was first");
    for name in ["ann", "bob", "cid"] {
        f.sign_in(name, &[], 1).await;
    }
    f.beats(2).await;
    f.beats(1).await;
    assert_eq!(f.store.place(&f.helpline, &chat(1)).await.unwrap(), 1, "in their old order");
    f.tick_for(f.policy.numbers.recovery_hold_ms - 200).await;
    for n in 1..=4 {
        assert!(f.offered_to(n).await.is_empty(), "{n} may be in somebody's hands");
    }

    f.tick_for(400).await;

    for n in [1, 2, 4] {
        assert_eq!(f.offered_to(n).await.len(), 1, "{n} was heard, or vouched for");
    }
    assert!(f.offered_to(3).await.is_empty());
    let abandoned = f.policy.numbers.abandon_after_ms;
    f.tick_for(abandoned).await;
    assert_eq!(f.chat(3).await.state, ChatState::Ended, "nobody is waiting there");
    f.is_whole().await;
}

pub async fn whoever_accepted_after_the_copy_was_made_has_the_chat_again_and_later_fences_are_higher(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::High).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    let first = f.sealed(1, ann).await;
    let back = Command::Transfer { responder: responder("ann"), session: ann, chat: chat(1), fence };
    // What the copy does not know: the chat went on to another responder.
    let newer = Reassert {
        responder: responder("bob"),
        offer: 9,
        fence: Fence { epoch: fence.epoch + 1, ..fence },
        ..first.clone()
    };
    f.renew().await;
    assert_eq!((f.chat(1).await.state, f.chat(1).await.owner), (ChatState::Waiting, None), "not ann's for sure");
    let session = f.sign_in("bob", &[], 1).await;
    f.beats(1).await;

    assert_eq!(f.takes_back(&Reassert { session, ..newer.clone() }).await, newer.fence);

    let anns = f.sign_in("ann", &[], 1).await;
    let claim = Command::Reassert(Box::new(Reassert { session: anns, ..first }));
    assert_eq!(f.refused(&claim).await, Refusal::StaleFence);
    assert_eq!(f.refused(&back).await, Refusal::StaleSession);
    let transfer = Command::Transfer { responder: responder("bob"), session, chat: chat(1), fence: newer.fence };
    f.ok(&transfer).await;
    let number = f.chat(1).await.offers_made;
    let next = f.accepted("ann", anns, 1, number).await;
    assert!(next.epoch > newer.fence.epoch, "{next:?} {:?}", newer.fence);
    f.is_whole().await;
}

pub async fn who_held_a_chat_in_an_older_copy_has_it_again_and_who_came_later_comes_back_from_their_ticket(
    f: Fixture,
) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::High).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    let sealed = f.sealed(1, ann).await;
    f.ask(2, Urgency::Low).await;
    let mut later = f.ticket(2).await;
    later.request.chat = chat(3);
    later.request.token = token(3);
    later.request.request_key = crate::fixture::digest("03");
    later.sealed.sequence += 1;
    later.sealed.arrival_ms += 1_000;
    f.renew().await;

    assert_eq!(f.comes_back(&later).await, (ChatState::Waiting, 3), "behind those who came first");
    let session = f.sign_in("ann", &[], 1).await;
    assert_eq!(f.takes_back(&Reassert { session, ..sealed }).await, fence);
    f.ok(&f.close("ann", session, 1, fence)).await;
    assert_eq!(f.chat(1).await.state, ChatState::Ended);
    f.is_whole().await;
}

pub async fn an_accept_that_was_lost_with_the_end_of_the_line_is_claimed_by_its_fence(f: Fixture) {
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::High).await;
    let ticket = f.ticket(1).await;
    let fence = f.accepted("ann", ann, 1, 1).await;
    let sealed = f.sealed(1, ann).await;
    let back = Command::Transfer { responder: responder("ann"), session: ann, chat: chat(1), fence };
    f.ok(&back).await;
    // The line knows of one assignment; the paper of a second one can only come from a line that knew more.
    let second = Reassert { fence: Fence { epoch: fence.epoch + 1, ..fence }, offer: 7, ..sealed.clone() };
    assert_eq!(f.refused(&Command::Reassert(Box::new(sealed))).await, Refusal::StaleFence);
    assert!(f.takes_back(&second).await == second.fence && ticket.sealed.assignments_made == 0);
    assert_eq!(f.chat(1).await.state, ChatState::Active);
    f.is_whole().await;
}

pub async fn thousands_in_an_older_copy_come_back_at_once(mut f: Fixture) {
    f.policy.numbers.max_waiting = 5_000;
    let f = f.ready().await;
    let template = f.request(1, Urgency::Moderate, &[]);
    for n in 0..3_000u32 {
        let request = holdfast_domain::Request {
            chat: holdfast_domain::ChatId::parse(&format!("many-{n}")).unwrap(),
            request_key: crate::fixture::digest(&format!("{n:08x}")),
            attested: n % 2 == 0,
            ..template.clone()
        };
        f.ok(&Command::Request(Box::new(request))).await;
    }

    f.renew().await;

    let floor = f.store.floor(&f.helpline, 0).await.unwrap();
    assert_eq!((floor.ledger.waiting, floor.ledger.difference()), (3_000, 0));
    f.is_whole().await;
}
