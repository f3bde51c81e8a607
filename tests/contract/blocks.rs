//! Whom two supervisors keep from the line for a time, and what stays theirs.

use crate::fixture::{Fixture, chat, digest, responder, token};
use holdfast_domain::invariants::broken;
use holdfast_domain::limits::{MAX_BLOCK_PROPOSALS, MAX_BLOCKS};
use holdfast_domain::{
    Act, Block, BlockId, ChatId, ChatState, Command, EndedAs, EventKind, Reason, Refusal, Reply, SubjectDigest,
    Urgency, Whom,
};

fn id(n: usize) -> BlockId {
    BlockId::parse(&format!("block-{n:03}")).expect("a name")
}

fn by(name: &str, act: Act) -> Command {
    Command::Supervise { by: responder(name), reason: Reason::Misuse, act }
}

/// Proposed by lead; it may be confirmed for ten seconds.
fn propose(n: usize, of: u8, for_ms: u64) -> Command {
    by("lead", Act::ProposeBlock { block: id(n), chat: chat(of), for_ms, open_ms: 10_000 })
}

fn confirm(name: &str, n: usize) -> Command {
    by(name, Act::ConfirmBlock { block: id(n) })
}

fn lift(name: &str, n: usize) -> Command {
    by(name, Act::LiftBlock { block: id(n) })
}

/// A request of whoever an integrator calls so.
fn asks(f: &Fixture, n: u8, urgency: Urgency, subject: u8) -> Command {
    let mut request = f.request(n, urgency, &[]);
    request.subject = Some(SubjectDigest([subject; 16]));
    Command::Request(Box::new(request))
}

fn resumes(n: u8) -> Command {
    Command::Resume { chat: chat(n), token: token(n) }
}

/// A chat that was abandoned.
async fn abandoned(f: &Fixture, n: u8, subject: Option<u8>) {
    let mut request = f.request(n, Urgency::Moderate, &[]);
    request.attested = false;
    request.subject = subject.map(|n| SubjectDigest([n; 16]));
    f.ok(&Command::Request(Box::new(request))).await;
    f.tick_for(6_000).await;
    assert_eq!(f.chat(n).await.ended.expect("an end").0, EndedAs::Abandoned);
}

async fn blocks(f: &Fixture) -> Vec<Block> {
    f.store.blocks(&f.helpline, None, 100).await.expect("a page").blocks
}

async fn is_whole(f: &Fixture) {
    if let Some(snapshot) = f.snapshot().await {
        assert_eq!(broken(&snapshot), Vec::<String>::new());
    }
}

pub async fn a_block_takes_two_people_and_keeps_one_subject_out_and_nobody_else(f: Fixture) {
    let f = f.ready().await;
    f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    let told = f.apply(&propose(1, 1, 60_000)).await;
    let event = &told.events[0];
    assert_eq!((event.kind, &event.chat, &event.block), (EventKind::BlockProposed, &Some(chat(1)), &Some(id(1))));
    assert_eq!((&event.by, event.reason), (&Some(responder("lead")), Some(Reason::Misuse)));
    f.ok(&asks(&f, 2, Urgency::Moderate, 7)).await;
    assert_eq!(f.refused(&confirm("lead", 1)).await, Refusal::SamePerson);
    f.ok(&asks(&f, 3, Urgency::Moderate, 7)).await;

    let told = f.apply(&confirm("dora", 1)).await;
    let event = &told.events[0];
    assert_eq!((event.kind, &event.by), (EventKind::BlockConfirmed, &Some(responder("dora"))));

    let before = f.store.floor(&f.helpline, 10).await.unwrap().ledger;
    for urgency in Urgency::ALL {
        assert_eq!(f.refused(&asks(&f, 4, urgency, 7)).await, Refusal::Blocked, "{urgency:?}");
    }
    assert_eq!(f.store.floor(&f.helpline, 10).await.unwrap().ledger, before, "nothing is in the line");
    f.ok(&asks(&f, 5, Urgency::Moderate, 8)).await;
    f.ask(6, Urgency::Moderate).await;
    is_whole(&f).await;
}

pub async fn whoever_is_in_the_line_when_a_block_is_confirmed_stays_and_a_repeat_finds_them(f: Fixture) {
    let f = f.ready().await;
    f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    f.ok(&propose(1, 1, 60_000)).await;
    f.ok(&confirm("dora", 1)).await;
    let again = f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    assert!(matches!(again, Reply::Chat { replay: true, state: ChatState::Waiting, place: 1, .. }), "{again:?}");
    let resumed = f.ok(&resumes(1)).await;
    assert!(matches!(resumed, Reply::Chat { state: ChatState::Waiting, place: 1, .. }), "{resumed:?}");
}

pub async fn a_block_counts_from_its_confirmation_and_ends_by_itself(f: Fixture) {
    let f = f.ready().await;
    f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    f.ok(&propose(1, 1, 3_000)).await;
    f.tick_for(5_000).await;
    f.ok(&confirm("dora", 1)).await;
    f.pass(999);
    assert_eq!(f.refused(&asks(&f, 2, Urgency::Low, 7)).await, Refusal::Blocked);
    f.pass(1_000);
    assert_eq!(f.refused(&asks(&f, 2, Urgency::Low, 7)).await, Refusal::Blocked);
    f.pass(1_000);
    assert_eq!(f.refused(&asks(&f, 2, Urgency::Low, 7)).await, Refusal::Blocked, "one millisecond before its end");
    f.pass(1);
    f.ok(&asks(&f, 2, Urgency::Low, 7)).await;
    assert_eq!(f.tick_for(100).await, [EventKind::BlockExpired]);
    assert_eq!(blocks(&f).await, []);
    is_whole(&f).await;
}

pub async fn a_proposal_that_nobody_confirms_lapses(f: Fixture) {
    let f = f.ready().await;
    f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    f.ok(&propose(1, 1, 60_000)).await;
    for _ in 0..10 {
        f.pass(1_000);
        f.refused(&lift("dora", 9)).await;
    }
    assert_eq!(f.refused(&confirm("dora", 1)).await, Refusal::UnknownBlock, "too late, ticked or not");
    assert_eq!(f.tick_for(100).await, [EventKind::BlockLapsed]);
    assert_eq!(blocks(&f).await, []);
    f.ok(&propose(2, 1, 60_000)).await;
    is_whole(&f).await;
}

pub async fn one_person_lifts_a_block_and_whoever_it_was_of_may_come_again(f: Fixture) {
    let f = f.ready().await;
    f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    f.ok(&propose(1, 1, 60_000)).await;
    f.ok(&confirm("dora", 1)).await;
    let told = f.apply(&lift("lead", 1)).await;
    let event = &told.events[0];
    assert_eq!((event.kind, &event.block), (EventKind::BlockLifted, &Some(id(1))));
    assert_eq!((&event.by, event.reason), (&Some(responder("lead")), Some(Reason::Misuse)));
    f.ok(&asks(&f, 2, Urgency::Moderate, 7)).await;
    assert_eq!(f.refused(&lift("lead", 1)).await, Refusal::UnknownBlock);
    assert_eq!(f.refused(&confirm("dora", 1)).await, Refusal::UnknownBlock);
    f.ok(&propose(2, 2, 60_000)).await;
    f.ok(&lift("dora", 2)).await;
    assert_eq!(blocks(&f).await, []);
    is_whole(&f).await;
}

pub async fn a_block_of_a_token_keeps_its_chat_out_of_the_line_and_nobody_else(f: Fixture) {
    let f = f.ready().await;
    abandoned(&f, 1, None).await;
    f.ok(&propose(1, 1, 60_000)).await;
    f.ok(&resumes(1)).await;
    f.tick_for(6_000).await;
    f.ok(&confirm("dora", 1)).await;
    let before = f.chat(1).await;
    assert_eq!(f.refused(&resumes(1)).await, Refusal::Blocked);
    assert_eq!(f.chat(1).await, before);
    let mut request = f.request(2, Urgency::Imminent, &[]);
    request.came_by = Some(token(1));
    let comes_back = Command::Request(Box::new(request.clone()));
    assert_eq!(f.refused(&comes_back).await, Refusal::Blocked, "by a return token of that chat");
    f.ask(3, Urgency::Moderate).await;
    f.ok(&lift("dora", 1)).await;
    f.ok(&comes_back).await;
    let back = f.ok(&resumes(1)).await;
    assert!(matches!(back, Reply::Chat { state: ChatState::Waiting, .. }), "{back:?}");
    is_whole(&f).await;
}

pub async fn a_block_of_a_subject_keeps_its_abandoned_chats_out_too(f: Fixture) {
    let f = f.ready().await;
    f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    abandoned(&f, 2, Some(7)).await;
    f.ok(&propose(1, 1, 60_000)).await;
    f.ok(&confirm("dora", 1)).await;
    assert_eq!(f.refused(&resumes(2)).await, Refusal::Blocked);
}

pub async fn of_one_visitor_there_is_one_block_and_asking_again_is_answered_the_same(f: Fixture) {
    let f = f.ready().await;
    f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    f.ok(&asks(&f, 2, Urgency::Moderate, 7)).await;
    f.ask(3, Urgency::Moderate).await;
    f.ok(&propose(1, 1, 60_000)).await;
    let told = f.apply(&propose(1, 1, 60_000)).await;
    assert!(told.reply.is_ok() && told.events.is_empty(), "{told:?}");
    let already = Refusal::AlreadyBlocked { block: id(1) };
    assert_eq!(f.refused(&propose(2, 2, 60_000)).await, already, "the other chat is of the same visitor");
    assert_eq!(f.refused(&propose(1, 3, 60_000)).await, already, "a name is one block's");
    assert_eq!(f.refused(&propose(2, 99, 60_000)).await, Refusal::UnknownChat);
    f.ok(&confirm("dora", 1)).await;
    let told = f.apply(&confirm("dora", 1)).await;
    assert!(told.reply.is_ok() && told.events.is_empty(), "{told:?}");
    assert_eq!(f.refused(&confirm("emil", 1)).await, Refusal::WrongState);
    assert_eq!(f.refused(&confirm("lead", 1)).await, Refusal::SamePerson);
    assert_eq!(f.refused(&propose(2, 2, 60_000)).await, already);
}

pub async fn blocks_are_listed_page_by_page_and_say_who_and_why(f: Fixture) {
    let f = f.ready().await;
    for n in 1..=3 {
        f.ask(n, Urgency::Moderate).await;
        f.ok(&propose(usize::from(n), n, 60_000)).await;
    }
    f.ok(&confirm("dora", 2)).await;
    let page = f.store.blocks(&f.helpline, None, 2).await.unwrap();
    let named = |blocks: &[Block]| blocks.iter().map(|b| b.id.clone()).collect::<Vec<_>>();
    assert_eq!((named(&page.blocks), page.proposed, page.in_force), (vec![id(1), id(2)], 2, 1));
    let block = &page.blocks[1];
    assert_eq!((&block.chat, &block.by, block.reason), (&Some(chat(2)), &responder("lead"), Reason::Misuse));
    let confirmed = block.confirmed.as_ref().expect("that it is");
    assert_eq!((&confirmed.by, confirmed.until_ms), (&responder("dora"), page.now_ms + 60_000));
    assert_eq!(block.whom, Whom::Token(token(2)));
    let page = f.store.blocks(&f.helpline, Some(&id(2)), 2).await.unwrap();
    assert_eq!(named(&page.blocks), [id(3)]);
    assert_eq!(f.store.blocks(&f.helpline, Some(&id(3)), 2).await.unwrap().blocks, []);
}

pub async fn a_block_stays_and_leads_no_more_to_a_chat_that_was_erased_or_forgotten(f: Fixture) {
    let f = f.ready().await;
    for (n, subject) in [(1, 7), (2, 8)] {
        f.ok(&asks(&f, n, Urgency::Moderate, subject)).await;
        f.ok(&propose(usize::from(n), n, 60_000)).await;
        f.ok(&confirm("dora", usize::from(n))).await;
    }
    f.ok(&Command::Erase { chat: chat(1), token: token(1) }).await;
    assert_eq!(f.chat(1).await.subject, None);
    let leads = |blocks: Vec<Block>| blocks.into_iter().map(|b| b.chat).collect::<Vec<_>>();
    assert_eq!(leads(blocks(&f).await), [None, Some(chat(2))]);
    assert_eq!(f.refused(&propose(3, 1, 60_000)).await, Refusal::WrongState, "nobody is found by it again");

    f.ok(&Command::Leave { chat: chat(2), token: token(2), fallback: false }).await;
    f.tick_for(7_000).await;
    assert_eq!(f.store.chat(&f.helpline, &chat(2)).await.unwrap(), None);
    assert_eq!(leads(blocks(&f).await), [None, None]);
    for (n, subject) in [(3, 7), (4, 8)] {
        assert_eq!(f.refused(&asks(&f, n, Urgency::Imminent, subject)).await, Refusal::Blocked);
    }
    let told = f.apply(&lift("dora", 1)).await;
    assert_eq!((&told.events[0].chat, &told.events[0].block), (&None, &Some(id(1))));
    is_whole(&f).await;
}

pub async fn so_many_blocks_wait_to_be_confirmed_and_no_more(mut f: Fixture) {
    f.policy.numbers.max_waiting = 1_000;
    let f = f.ready().await;
    for n in 0..=MAX_BLOCK_PROPOSALS {
        f.ask(u8::try_from(n).expect("few"), Urgency::Moderate).await;
    }
    for n in 0..MAX_BLOCK_PROPOSALS {
        f.ok(&propose(n, u8::try_from(n).expect("few"), 60_000)).await;
    }
    let last = u8::try_from(MAX_BLOCK_PROPOSALS).expect("few");
    assert_eq!(f.refused(&propose(MAX_BLOCK_PROPOSALS, last, 60_000)).await, Refusal::TooManyBlocks);
    f.ok(&confirm("dora", 0)).await;
    f.ok(&propose(MAX_BLOCK_PROPOSALS, last, 60_000)).await;
}

pub async fn so_many_blocks_are_in_force_and_no_more(mut f: Fixture) {
    f.policy.numbers.max_waiting = 1_000_000;
    let f = f.ready().await;
    if !f.count_as_blocks(MAX_BLOCKS - 1).await {
        for n in 2..=MAX_BLOCKS {
            let mut request = f.request(0, Urgency::Moderate, &[]);
            request.chat = ChatId::parse(&format!("another-{n}")).expect("a name");
            request.request_key = digest(&format!("{n:06x}"));
            request.token.0[..8].copy_from_slice(&n.to_be_bytes());
            let act =
                Act::ProposeBlock { block: id(n), chat: request.chat.clone(), for_ms: 60_000, open_ms: 10_000 };
            f.ok(&Command::Request(Box::new(request))).await;
            f.ok(&by("lead", act)).await;
            f.ok(&confirm("dora", n)).await;
        }
    }
    for n in [0, 1] {
        f.ask(n, Urgency::Moderate).await;
        f.ok(&propose(n.into(), n, 60_000)).await;
    }
    f.ok(&confirm("dora", 0)).await;
    assert_eq!(f.refused(&confirm("dora", 1)).await, Refusal::TooManyBlocks);
    f.ok(&lift("dora", 0)).await;
    f.ok(&confirm("dora", 1)).await;
}

pub async fn a_subject_comes_back_with_a_chat_that_the_store_had_lost(f: Fixture) {
    let f = f.ready().await;
    f.ok(&asks(&f, 1, Urgency::Moderate, 7)).await;
    let ticket = f.ticket(1).await;
    f.lose_everything().await;
    f.ok(&Command::Restore(Box::new(ticket))).await;
    assert_eq!(f.chat(1).await.subject, Some(SubjectDigest([7; 16])));
}
