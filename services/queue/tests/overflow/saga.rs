//! What couriers promise, in sentences that hold on any store.

use holdfast_domain::{
    ChatId, ChatState, Command, EndedAs, EventKind, Policy, Request, Requirement, Step, Urgency,
};
use holdfast_queue::overflow::{Courier, Ended, Errand, Passage};

use super::{
    dying::{Dying, Last},
    world::{Place, World, request, responder},
};

/// More than the time after which anything is asked for again.
const A_WHILE_MS: u64 = 12_000;

/// The chat is in the south's line, once, and as old as it ever was.
async fn is_in_the_south(place: &Place<'_>, id: &ChatId) {
    let (north, south) = (place.snapshot(&place.north).await, place.snapshot(&place.south).await);
    let (before, after) = (&north.chats[id], &south.chats[id]);
    let at_overflowed = EndedAs::ALL.iter().position(|o| *o == EndedAs::Overflowed).unwrap();

    assert_eq!((before.state, before.ended.unwrap().0), (ChatState::Ended, EndedAs::Overflowed));
    assert_eq!(before.partner.as_ref(), Some(&place.south));
    assert_eq!((north.ledger.accepted, north.ledger.ended[at_overflowed]), (1, 1));
    assert_eq!(north.ledger.ended.iter().sum::<u64>(), 1);
    assert_eq!(after.state, ChatState::Waiting);
    assert_eq!((south.ledger.accepted, south.ledger.waiting), (1, 1));
    assert_eq!(after.arrival_ms, before.arrival_ms, "it has lost its place");
}

pub(crate) async fn a_chat_that_overflows_goes_on_at_the_partner_as_old_as_it_was(world: &World) {
    let place = world.place().await;
    let chat = place.request("c1").await;

    let ended = place.live_for(2_000).await;

    assert_eq!(ended, [Ended::Admitted]);
    is_in_the_south(&place, &chat).await;
    place.is_settled().await;
    let waits = [EventKind::PolicySet, EventKind::Held, EventKind::Admitted];
    assert_eq!(place.kinds(&place.south).await, waits);
}

/// The calls of a whole errand, so that couriers can die before and after each.
async fn calls_of_whole_errands(world: &World) -> (usize, usize) {
    let place = world.place().await;
    let chat = place.request("c1").await;
    let proposal = place.next_errand().await;
    let store = Dying::after(place.store(), usize::MAX, Last::NotMade);
    assert_eq!(Courier::between(store.clone()).go(&proposal).await.unwrap(), Ended::Admitted);
    let proposing = store.calls();
    let Errand::Propose(passage) = proposal else { panic!("not a proposal of {chat}") };
    let store = Dying::after(place.store(), usize::MAX, Last::NotMade);
    Courier::between(store.clone()).go(&Errand::Ask(passage)).await.unwrap();
    (proposing, store.calls())
}

pub(crate) async fn wherever_couriers_die_the_chat_ends_up_in_one_line_once(world: &World) {
    let (proposing, asking) = calls_of_whole_errands(world).await;
    assert!(proposing >= 7 && asking >= 2, "{proposing} and {asking}: the errands are shorter than they were");
    for last in [Last::NotMade, Last::AnswerLost] {
        for first_lives in 0..=proposing {
            for second_lives in 0..=asking {
                two_couriers_die(world, last, first_lives, second_lives).await;
            }
        }
    }
}

async fn two_couriers_die(world: &World, last: Last, first_lives: usize, second_lives: usize) {
    let place = world.place().await;
    let chat = place.request("c1").await;
    let proposal = place.next_errand().await;
    let mut mortal = vec![second_lives, first_lives];
    let mut errands = vec![proposal];
    // Until a courier has died twice on the way, or the errands are done, or what remains is a proposal to come.
    for _ in 0..25 {
        for errand in errands {
            let lives = mortal.pop().unwrap_or(usize::MAX);
            let dying = Courier::between(Dying::after(place.store(), lives, last));
            let _ = dying.go(&errand).await;
            place.is_somewhere_once(&chat).await;
        }
        errands = place.moment().await;
    }
    for errand in errands {
        place.courier().go(&errand).await.unwrap();
    }
    place.live_for(A_WHILE_MS).await;
    place.is_somewhere_once(&chat).await;
    place.is_settled().await;
    if place.state(&place.south, &chat).await.is_some() {
        is_in_the_south(&place, &chat).await;
    } else {
        // The first proposal ran out before a courier came through; the west was asked next.
        assert_eq!(place.state(&place.west, &chat).await, Some(ChatState::Waiting));
        let (north, west) = (place.chat(&place.north, &chat).await, place.chat(&place.west, &chat).await);
        assert_eq!(north.map(|c| c.arrival_ms), west.map(|c| c.arrival_ms));
        assert_eq!(place.outcome(&place.north, &chat).await, Some(EndedAs::Overflowed));
    }
}

pub(crate) async fn a_partner_that_does_not_take_it_is_passed_over(world: &World) {
    let place = world.place_with(|_| {}, |south| south.takes_from.clear(), |_| {}).await;
    let chat = place.request("c1").await;

    let ended = place.live_for(2_000).await;

    assert_eq!(ended, [Ended::Refused, Ended::Admitted]);
    assert_eq!(place.chat(&place.south, &chat).await, None);
    assert_eq!(place.state(&place.west, &chat).await, Some(ChatState::Waiting));
    assert_eq!(place.chat(&place.north, &chat).await.unwrap().partner, Some(place.west.clone()));
    place.is_settled().await;
}

pub(crate) async fn a_partner_with_too_many_of_its_own_is_asked_again(world: &World) {
    let only_south = |north: &mut Policy| north.partners.truncate(1);
    let place = world.place_with(only_south, |south| south.takes_at_most = 1, |_| {}).await;
    let theirs = request("theirs");
    let anyone = vec![Step::new(0, Requirement::anyone())];
    let theirs = Request { steps: anyone, topics: Default::default(), ..theirs };
    place.ok(&place.south, &Command::Request(Box::new(theirs.clone()))).await;
    let chat = place.request("c1").await;

    let full = place.live_for(4_000).await;
    place.leave(&place.south, &theirs.chat).await;
    let room = place.live_for(4_000).await;

    assert_eq!((full.as_slice(), room.as_slice()), ([Ended::Refused].as_slice(), [Ended::Admitted].as_slice()));
    assert_eq!(place.state(&place.south, &chat).await, Some(ChatState::Waiting));
    place.is_settled().await;
}

pub(crate) async fn a_partner_that_is_not_known_refuses(world: &World) {
    let nowhere = |north: &mut Policy| north.partners[0].helpline = "nowhere".to_owned();
    let place = world.place_with(nowhere, |_| {}, |_| {}).await;
    let chat = place.request("c1").await;

    let ended = place.live_for(2_000).await;

    assert_eq!(ended, [Ended::Refused, Ended::Admitted]);
    assert_eq!(place.state(&place.west, &chat).await, Some(ChatState::Waiting));
    place.is_settled().await;
}

pub(crate) async fn a_partner_that_never_answers_costs_time_only(world: &World) {
    let place = world.place().await;
    let chat = place.request("c1").await;
    let courier = Courier::between(Dying::cut_off(place.store(), &place.south));
    let mut unanswered = 0;
    for _ in 0..60 {
        for errand in place.moment().await {
            unanswered += usize::from(courier.go(&errand).await.is_err());
            place.is_somewhere_once(&chat).await;
        }
    }

    assert_eq!(unanswered, 1);
    assert_eq!(place.state(&place.west, &chat).await, Some(ChatState::Waiting), "the next one was asked");
    let refusals = place.kinds(&place.north).await;
    assert_eq!(refusals.iter().filter(|kind| **kind == EventKind::OverflowRefused).count(), 1, "by time alone");
    place.is_settled().await;
}

/// A chat that the south holds, and of which no courier has told.
async fn held_in_the_south<'a>(world: &'a World) -> (Place<'a>, ChatId) {
    let place = world.place().await;
    let chat = place.request("c1").await;
    let proposal = place.next_errand().await;
    // Reads of chat, floor and two policies, then the hold.
    let dying = Dying::after(place.store(), 4, Last::AnswerLost);
    Courier::between(dying).go(&proposal).await.unwrap_err();
    assert_eq!(place.state(&place.south, &chat).await, Some(ChatState::Held));
    (place, chat)
}

pub(crate) async fn a_chat_that_is_taken_at_home_meanwhile_is_let_go_by_the_partner(world: &World) {
    let (place, chat) = held_in_the_south(world).await;
    let session = place.sign_in(&place.north, "ana").await;
    place.accept(&place.north, "ana", session, &chat).await.unwrap();

    let ended = place.live_for(A_WHILE_MS).await;

    assert_eq!(ended, [Ended::Released]);
    assert_eq!(place.chat(&place.south, &chat).await, None);
    assert_eq!(place.snapshot(&place.south).await.ledger.accepted, 0);
    place.is_settled().await;
}

pub(crate) async fn a_visitor_who_leaves_meanwhile_is_let_go_by_the_partner(world: &World) {
    let (place, chat) = held_in_the_south(world).await;
    place.leave(&place.north, &chat).await;

    let ended = place.live_for(A_WHILE_MS).await;

    assert_eq!(ended, [Ended::Released]);
    assert_eq!(place.outcome(&place.north, &chat).await, Some(EndedAs::Left));
    assert_eq!(place.whereabouts(&chat).await, (0, false));
    place.is_settled().await;
}

pub(crate) async fn the_chat_speaks_the_words_of_the_partners_policy(world: &World) {
    let place = world.place().await;
    let chat = place.request("c1").await;
    place.live_for(2_000).await;
    let (policy, there) = (
        place.store().policy(&place.south).await.unwrap().unwrap(),
        place.chat(&place.south, &chat).await.unwrap(),
    );
    let asked = request("c1");

    // Spanish is known there, the centre of the north is not, and minors go up to level 2.
    let spanish = policy.requirement("need", &[vec![("lang:es", 1)]]).unwrap();
    let minors = policy.requirement("need", &[vec![("lang:es", 1), ("skill:minors", 2)]]).unwrap();
    let requirements: Vec<_> = there.steps.iter().map(|s| (s.after_ms, s.requirement.clone())).collect();
    let anyone = requirements.last().unwrap().clone();
    assert_eq!(requirements[..2], [(0, spanish), (30_000, minors)]);
    assert!(anyone.1.is_anyone());
    assert_eq!(policy.tags_of(&there.topics), [("topic:loss".to_owned(), 1)]);
    assert_eq!((there.token, there.urgency, there.attested), (asked.token, Urgency::High, true));
    assert_eq!((there.handoff, there.trace, there.body), (asked.handoff, asked.trace, asked.body));
    assert_eq!((there.excluded, there.request_key), (vec![responder("mallory")], asked.request_key));
    let session = place.sign_in(&place.south, "eva").await;
    assert!(place.accept(&place.south, "eva", session, &chat).await.is_some(), "somebody there can take it");
}

pub(crate) async fn a_policy_that_changes_on_the_way_is_read_again(world: &World) {
    let place = world.place().await;
    let courier = place.courier();
    place.request("c1").await;
    courier.go(&place.next_errand().await).await.unwrap();
    let newer = Box::new(place.store().policy(&place.south).await.unwrap().unwrap());
    let set = Command::SetPolicy { policy: newer, expected: 1, by: None };
    place.ok(&place.south, &set).await;
    let chat = place.request("c2").await;

    let ended = courier.go(&place.next_errand().await).await.unwrap();

    assert_eq!((ended, place.state(&place.south, &chat).await), (Ended::Admitted, Some(ChatState::Waiting)));
}

pub(crate) async fn an_errand_that_comes_late_or_twice_changes_nothing(world: &World) {
    let place = world.place().await;
    let chat = place.request("c1").await;
    let Errand::Propose(passage) = place.next_errand().await else { panic!("not a proposal") };
    let courier = place.courier();
    assert_eq!(courier.go(&Errand::Propose(passage.clone())).await.unwrap(), Ended::Admitted);
    let before = [place.snapshot(&place.north).await, place.snapshot(&place.south).await];

    let other = Passage { number: passage.number + 1, ..passage.clone() };
    assert_eq!(courier.go(&Errand::Propose(passage.clone())).await.unwrap(), Ended::Left);
    assert_eq!(courier.go(&Errand::Ask(passage)).await.unwrap(), Ended::Admitted);
    assert_eq!(courier.go(&Errand::Propose(other.clone())).await.unwrap(), Ended::Left);
    assert_eq!(
        courier.go(&Errand::Ask(other)).await.unwrap(),
        Ended::Released,
        "there is no such chat to release"
    );

    let after = [place.snapshot(&place.north).await, place.snapshot(&place.south).await];
    assert_eq!(before, after);
    is_in_the_south(&place, &chat).await;
}

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

pub(crate) async fn whatever_happens_on_the_way_everybody_is_in_one_line_in_the_end(world: &World) {
    let seed = std::env::var("HOLDFAST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for run in 0..30 {
        let mut chance = Chance((seed * 1000 + run + 1u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        an_unlucky_evening(world, &mut chance).await;
    }
}

async fn an_unlucky_evening(world: &World, chance: &mut Chance) {
    let place = world.place().await;
    let sessions = [place.sign_in(&place.north, "ana").await, place.sign_in(&place.south, "eva").await];
    // Neither says that she is there, so both are gone when the line has waited for them long enough.
    let mut chats = Vec::new();
    let mut gone = std::collections::BTreeSet::new();
    let mut late: Vec<Errand> = Vec::new();
    for moment in 0..400 {
        if moment % 50 == 0 {
            chats.push(place.request(&format!("c{moment}")).await);
        }
        let chat = &chats[usize::try_from(chance.below(chats.len() as u64)).unwrap()];
        match chance.below(40) {
            0 => {
                for (at, name, session) in [(&place.north, "ana", sessions[0]), (&place.south, "eva", sessions[1])]
                {
                    let offered =
                        place.chat(at, chat).await.is_some_and(|c| c.offer_to(&responder(name)).is_some());
                    if offered {
                        place.accept(at, name, session, chat).await;
                    }
                }
            }
            1 if chance.below(4) == 0 => {
                for at in place.all() {
                    let state = place.state(at, chat).await;
                    if matches!(state, Some(ChatState::Waiting | ChatState::Offered | ChatState::Active)) {
                        place.leave(at, chat).await;
                        gone.insert(chat.clone());
                    }
                }
            }
            _ => {}
        }
        let mut errands = place.moment().await;
        errands.extend(late.pop());
        for errand in errands {
            let lives = usize::try_from(chance.below(12)).unwrap();
            let last = if chance.below(2) == 0 { Last::NotMade } else { Last::AnswerLost };
            let dying = Courier::between(Dying::after(place.store(), lives, last));
            let _ = dying.go(&errand).await;
            // Some are told twice, and late.
            if chance.below(4) == 0 {
                late.insert(0, errand);
            }
        }
        for chat in chats.iter().filter(|chat| !gone.contains(*chat)) {
            place.is_somewhere_once(chat).await;
        }
    }
    place.live_for(2 * A_WHILE_MS).await;
    place.is_settled().await;
    for chat in &chats {
        let (lines, held) = place.whereabouts(chat).await;
        assert_eq!((lines, held), (usize::from(!gone.contains(chat)), false), "{chat}");
    }
}
