//! What is sealed and comes back from outside: tickets, sealed assignments, and content from the store. Nothing that was
//! bent opens, and what opens is what was sealed.

use crate::mutate::fuzz;
use holdfast_domain::ids::DigestHex;
use holdfast_domain::{
    ChatId, Fence, HelplineId, Mask, Policy, Reassert, Request, Requirement, ResponderId, Restore, Sealed, Step,
    TokenHash, Urgency, histories,
};
use holdfast_queue::fuzzing::{Envelopes, Papers};
use tokio::runtime::{Builder, Runtime};

fn helpline(name: &str) -> HelplineId {
    HelplineId::parse(name).expect("a name")
}

fn chat() -> ChatId {
    ChatId::parse("0192-a").expect("a name")
}

fn responder(name: &str) -> ResponderId {
    ResponderId::parse(name).expect("a name")
}

fn policy() -> Policy {
    Policy { revision: 3, ..histories::policy(0) }
}

/// Three steps, the first of which asks for one responder; both tags of the policy, at two levels.
fn ladder(policy: &Policy) -> Vec<Step> {
    let tags: Vec<(&str, u32)> =
        policy.tags.iter().map(|tag| (tag.name.as_str(), u32::from(tag.levels))).collect();
    let (first, last) = (tags[0], tags[tags.len() - 1]);
    let narrow = policy.requirement("need", &[vec![first, last], vec![(last.0, 1)]]).expect("a requirement");
    let ana = Step { only: Some(responder("ana")), ..Step::new(0, narrow.clone()) };
    vec![ana, Step::new(600, narrow), Step::new(9_000, Requirement::anyone())]
}

/// An assignment with something in every field.
fn assignment(policy: &Policy) -> Reassert {
    let digest = |hex: &str| DigestHex::parse(hex).expect("a digest");
    Reassert {
        responder: responder("ana"),
        session: 0,
        offer: 2,
        fence: Fence { epoch: 3_145_729, minted_by: 7 },
        reply_handoff: vec![1, 0, 255],
        restore: Restore {
            request: Request {
                chat: chat(),
                request_key: digest("aa"),
                body: digest("bb"),
                token: TokenHash([7; 32]),
                urgency: Urgency::High,
                steps: ladder(policy),
                topics: Mask::default(),
                excluded: vec![responder("ben"), responder("cleo")],
                revision: policy.revision,
                attested: true,
                resources_seen: true,
                solved_bits: 0,
                overflow_now: false,
                handoff: vec![9; 40],
                trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
                subject: Some(holdfast_domain::SubjectDigest([5; 16])),
                came_by: None,
            },
            sealed: Sealed {
                generation: "a1-b2".to_owned(),
                term: 3,
                issued_ms: 1_800_000_000_000,
                expires_ms: 1_800_000_600_000,
                arrival_ms: 1_799_999_999_000,
                sequence: 42,
                version: 6,
                step: 1,
                returned: true,
                active: true,
                offers_made: 8,
                assignments_made: 9,
                proposals: 10,
                came_from: Some((helpline("north"), 11)),
            },
        },
    }
}

fn papers() -> (Papers, Reassert) {
    let policy = policy();
    let held = assignment(&policy);
    (Papers::new(helpline("test"), policy), held)
}

/// Behind the seal there are only our own words; were the seal ever to fail, they still make no line that cannot be.
#[test]
fn the_words_of_a_ticket_read_back_or_are_none() {
    let (papers, held) = papers();
    let [ticket, assignment] = papers.said(&held);
    assert_eq!(papers.read_ticket(&ticket).as_ref(), Some(&held.restore));
    assert_eq!(papers.read_assignment(&assignment).as_ref(), Some(&held));

    fuzz("words of tickets", &[ticket, assignment], &["test", "ana", "north", "0192-a", "aa"], 20_000, |said| {
        let ticket = papers.read_ticket(said);
        if let Some(restore) = &ticket {
            let again = papers.said(&Reassert { restore: restore.clone(), ..held.clone() });
            assert_eq!(papers.read_ticket(&again[0]).as_ref(), Some(restore));
        }
        let assignment = papers.read_assignment(said);
        if let Some(reassert) = &assignment {
            assert_eq!(papers.read_assignment(&papers.said(reassert)[1]).as_ref(), Some(reassert));
        }
        ticket.is_some() || assignment.is_some()
    });
}

#[test]
fn a_ticket_that_was_bent_does_not_open() {
    let (papers, held) = papers();
    let [ticket, assignment] = papers.sealed(&held);
    let elsewhere = Papers::new(helpline("other"), policy()).sealed(&held);
    let corpus = [vec![ticket.clone(), assignment.clone(), Vec::new(), vec![1]], elsewhere.to_vec()].concat();

    fuzz("tickets", &corpus, &[], 20_000, |bytes| {
        let opened = papers.open_ticket(bytes);
        assert_eq!(opened, (bytes == ticket).then(|| held.restore.clone()));
        let claimed = papers.open_assignment(bytes);
        assert_eq!(claimed, (bytes == assignment).then(|| held.clone()));
        opened.is_some() || claimed.is_some()
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn an_envelope_that_was_bent_does_not_open_and_does_not_change_hands() {
    let envelopes = Envelopes::new(helpline("test"), chat()).expect("a key");
    let (runtime, partner) = (runtime(), helpline("partner"));
    let said: [&[u8]; 3] = [b"x", b"room 7, and a word for whoever comes", &[7; 600]];
    let sealed: Vec<(Vec<u8>, &[u8])> =
        said.map(|content| (runtime.block_on(envelopes.seal(content)), content)).to_vec();
    let noise = [Vec::new(), vec![0], vec![1], vec![1; 150]];
    let corpus: Vec<Vec<u8>> = sealed.iter().map(|(kept, _)| kept.clone()).chain(noise).collect();

    fuzz("envelopes", &corpus, &[], 10_000, |bytes| {
        let expected = sealed.iter().find(|(kept, _)| kept == bytes).map(|(_, content)| content.to_vec());
        runtime.block_on(async {
            assert_eq!(envelopes.open(bytes).await, expected);
            assert_eq!(envelopes.open_at(&partner, bytes).await, None, "it opens for another helpline");
            let rewrapped = envelopes.rewrap(&partner, bytes).await;
            // Of content that was bent, the key may still be whole: then it changes hands, and opens nowhere.
            assert_eq!(envelopes.open_at(&partner, &rewrapped).await, expected);
        });
        expected.is_some()
    });
}
