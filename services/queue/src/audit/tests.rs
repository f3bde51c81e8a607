//! What the audit promises, on a line in memory: the chain, and who keeps it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use holdfast_domain::{
    Act, ChatId, Command, EndedAs, HelplineId, Mask, OfferId, Policy, Reason, Reply, Request, Requirement,
    ResponderId, Step, TokenHash, Urgency, ids::DigestHex,
};
use tokio_util::sync::CancellationToken;

use super::{Broken, Entry, Hash, Seals, Verifier, Why, clerk::Clerk};
use crate::{
    config::{AuditConfig, Overwrite},
    content::Content,
    desk::Desk,
    metrics::Metrics,
    policies::{self, DEMO},
    store::{Store, audit::Head, memory::MemoryStore},
    tickets::Tickets,
};

/// A line in memory, and a clock that the test moves.
struct World {
    store: Arc<MemoryStore>,
    helpline: HelplineId,
    wall_ms: Arc<AtomicU64>,
    seals: Arc<Seals>,
    session: u64,
}

impl World {
    async fn new() -> Self {
        let wall_ms = Arc::new(AtomicU64::new(1_800_000_000_000));
        let clock = Arc::clone(&wall_ms);
        let store = Arc::new(MemoryStore::new(Box::new(move || clock.load(Ordering::Relaxed)), 1, "g".to_owned()));
        let helpline = HelplineId::parse("demo").unwrap();
        let policy = Policy::from_toml(DEMO).unwrap();
        policies::install(&*store, &helpline, &policy, Overwrite::Always).await.unwrap();
        let mut world = Self { store, helpline, wall_ms, seals: Arc::new(Seals::made_up().unwrap()), session: 0 };
        world.session = world.sign_in().await;
        world
    }

    fn clerk(&self) -> Clerk {
        self.clerk_with(AuditConfig { key_file: "".into(), interval_ms: 100, keep_days: 90, max_entries: 200_000 })
    }

    fn clerk_with(&self, config: AuditConfig) -> Clerk {
        let metrics = Metrics::new(&opentelemetry::global::meter("test"));
        let store: Arc<dyn Store> = self.store.clone();
        let desk = Arc::new(Desk::new(store, Content::as_it_came(), metrics, Tickets::made_up()));
        desk.policies().learn(&self.helpline, &Policy::from_toml(DEMO).unwrap());
        Clerk::new(desk, config, Arc::clone(&self.seals))
    }

    /// The audit, caught up by a clerk who just came.
    async fn audited(&self) -> Vec<Entry> {
        self.clerk().look_at(BTreeSet::from([self.helpline.clone()])).await;
        self.entries().await
    }

    async fn entries(&self) -> Vec<Entry> {
        self.store.audits().entries(&self.helpline, 0, usize::MAX).await.unwrap()
    }

    async fn head(&self) -> Head {
        self.store.audits().head(&self.helpline).await.unwrap()
    }

    async fn ok(&self, command: &Command) -> Reply {
        self.wall_ms.fetch_add(10, Ordering::Relaxed);
        self.store.execute(&self.helpline, command).await.unwrap().reply.unwrap()
    }

    async fn sign_in(&self) -> u64 {
        let Reply::Responder { session, .. } = self.ok(&sign_in("ana", true)).await else {
            panic!("no session");
        };
        session
    }

    /// A chat that ana declines.
    async fn declined(&self, chat: &str) {
        self.ok(&Command::Request(Box::new(asked(chat)))).await;
        let offer = OfferId { chat: ChatId::parse(chat).unwrap(), number: 1 };
        self.ok(&Command::Decline { responder: ana(), session: self.session, offer, reason: Reason::Busy }).await;
    }

    fn verify(&self, entries: &[Entry], head: Option<(u64, Hash)>) -> Result<super::Report, Broken> {
        let mut verifier = Verifier::new("demo", vec![self.seals.key()], Vec::new());
        entries.iter().try_for_each(|entry| verifier.take(entry))?;
        verifier.end(head)
    }
}

fn ana() -> ResponderId {
    ResponderId::parse("ana").unwrap()
}

fn sign_in(name: &str, ready: bool) -> Command {
    Command::SignIn {
        responder: ResponderId::parse(name).unwrap(),
        capabilities: Mask::default(),
        scarce: 0,
        opt_out: Mask::default(),
        shift_ms: 0,
        capacity: 20,
        ready,
        revision: 1,
    }
}

fn asked(chat: &str) -> Request {
    let hex: String = chat.bytes().map(|byte| format!("{byte:02x}")).collect();
    Request {
        chat: ChatId::parse(chat).unwrap(),
        request_key: DigestHex::parse(&hex).unwrap(),
        body: DigestHex::parse(&hex).unwrap(),
        token: TokenHash([7; 32]),
        urgency: Urgency::Moderate,
        steps: vec![Step::new(0, Requirement::anyone())],
        topics: Mask::default(),
        excluded: Vec::new(),
        revision: 1,
        attested: true,
        resources_seen: false,
        solved_bits: 0,
        overflow_now: false,
        handoff: Vec::new(),
        trace: String::new(),
        subject: None,
        came_by: None,
    }
}

fn acts(entries: &[Entry]) -> Vec<(&str, &str)> {
    entries.iter().map(|entry| (entry.get("act").unwrap(), entry.get("actor").unwrap())).collect()
}

fn number_of(broken: Result<super::Report, Broken>) -> u64 {
    broken.expect_err("it does not hold").number
}

#[tokio::test]
async fn decisions_are_in_it_with_who_and_why_and_what_follows_from_them_is_not() {
    let world = World::new().await;
    world.declined("c-1").await;
    let entries = world.audited().await;

    let by_ana = "responder:ana";
    let expected = [("begins", "audit"), ("policy_set", "settings"), ("signed_in", by_ana), ("declined", by_ana)];
    assert_eq!(acts(&entries), expected);
    assert_eq!(entries[3].get("reason"), Some("busy"));
    assert!(entries.iter().all(|entry| !entry.text.contains("c-1")), "{entries:?}");
    let head = world.head().await;
    let report = world.verify(&entries, Some((head.number, head.hash))).unwrap();
    assert_eq!((report.entries, report.last, report.remarks), (4, 4, vec![]));
    assert!(report.seals > 0);
}

#[tokio::test]
async fn every_act_of_a_supervisor_is_in_it_with_the_reason() {
    let world = World::new().await;
    let sue = ResponderId::parse("sue").unwrap();
    let Reply::Responder { session: on_break, .. } = world.ok(&sign_in("sue", false)).await else {
        panic!("no session");
    };
    let chat = |name: &str| ChatId::parse(name).unwrap();
    let does = async |act| {
        let command = Command::Supervise { by: sue.clone(), reason: Reason::Safety, act };
        world.ok(&command).await;
    };
    world.ok(&Command::Request(Box::new(asked("c-1")))).await;
    let offer = OfferId { chat: chat("c-1"), number: 1 };
    world.ok(&Command::Accept { responder: ana(), session: world.session, offer, reply_handoff: vec![] }).await;
    does(Act::Pull { chat: chat("c-1") }).await;
    does(Act::TakeOver { chat: chat("c-1"), session: on_break, reply_handoff: vec![] }).await;
    does(Act::End { chat: chat("c-1"), outcome: EndedAs::Completed }).await;
    world.ok(&Command::Request(Box::new(asked("c-2")))).await;
    does(Act::SetUrgency { chat: chat("c-2"), urgency: Urgency::Low }).await;
    does(Act::Assign { chat: chat("c-2"), responder: sue.clone(), break_glass: true }).await;
    does(Act::EndBreak { responder: sue.clone() }).await;
    does(Act::Rest { responder: ana(), for_ms: 60_000 }).await;
    let policy = Policy::from_toml(DEMO).unwrap();
    let from = policy.requirement("from", &[vec![("lang:en", 1)]]).unwrap();
    does(Act::Reroute { from, to: Requirement::anyone(), for_ms: 60_000, revision: 1 }).await;
    does(Act::ForceOffline { responder: ana() }).await;

    let entries = world.audited().await;

    let of_sue: Vec<_> = entries.iter().filter(|entry| entry.get("actor") == Some("supervisor:sue")).collect();
    let acts: Vec<_> = of_sue.iter().map(|entry| entry.get("act").unwrap()).collect();
    let taken_over = ["offered", "accepted"];
    let rest = ["triaged", "offered", "status_changed", "cooling_down", "rerouted", "signed_out"];
    assert_eq!(acts, [&["returned"][..], &taken_over, &["ended"], &rest].concat());
    let without: Vec<_> = of_sue.iter().filter(|entry| entry.get("reason") != Some("safety")).collect();
    assert_eq!(without.iter().map(|entry| entry.get("act").unwrap()).collect::<Vec<_>>(), ["accepted"]);
    let glass: Vec<_> = of_sue.iter().map(|entry| entry.get("detail")).filter(Option::is_some).collect();
    assert_eq!(glass, [Some("1")], "the glass was broken once");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_keep_it_at_once_and_whoever_dies_each_decision_is_in_it_once() {
    let world = World::new().await;
    let done = CancellationToken::new();
    let mut clerks: Vec<_> = (0..4).map(|_| tokio::spawn(world.clerk().run(done.clone()))).collect();
    for n in 0..200 {
        world.declined(&format!("c-{n}")).await;
        if n % 20 == 0 {
            clerks.remove(0).abort();
            clerks.push(tokio::spawn(world.clerk().run(done.clone())));
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    done.cancel();
    for clerk in clerks {
        let _ = clerk.await;
    }

    let entries = world.audited().await;
    let declined: Vec<_> = entries.iter().filter(|entry| entry.get("act") == Some("declined")).collect();
    let events: BTreeSet<_> = declined.iter().map(|entry| entry.get("event").unwrap()).collect();
    assert_eq!((declined.len(), events.len()), (200, 200));
    assert!(world.verify(&entries, None).unwrap().seals > 2, "it was written in more than one piece");
}

#[tokio::test]
async fn no_bit_of_it_can_be_flipped() {
    let world = World::new().await;
    world.declined("c-1").await;
    let entries = world.audited().await;
    let mut tried = 0;
    for at in 0..entries.len() {
        let (text, seal) = (entries[at].text.as_bytes().to_vec(), entries[at].seal.clone());
        let bits = (text.len() + seal.len()) * 8;
        for bit in 0..bits {
            let (mut text, mut seal) = (text.clone(), seal.clone());
            let byte = bit / 8;
            if let Some(of_text) = text.get_mut(byte) {
                *of_text ^= 1 << (bit % 8);
            } else {
                seal[byte - text.len()] ^= 1 << (bit % 8);
            }
            let Ok(text) = String::from_utf8(text) else { continue };
            let mut bent = entries.clone();
            bent[at] = Entry { text, seal };
            let broken = world.verify(&bent, None).expect_err("a bit was flipped");
            // What an entry says of the one before may be wrong on either side.
            assert!((at as u64..=at as u64 + 1).contains(&broken.number), "{at} {bit}: {broken}");
            tried += 1;
        }
    }
    assert!(tried > 3_000, "{tried}");
}

#[tokio::test]
async fn nothing_can_be_left_out_put_in_or_put_elsewhere() {
    let world = World::new().await;
    for n in 0..6 {
        world.declined(&format!("c-{n}")).await;
        world.audited().await;
    }
    let entries = world.entries().await;
    let head = world.head().await;
    let head = Some((head.number, head.hash));
    assert!(world.verify(&entries, head).is_ok());
    for at in 0..entries.len() {
        let mut bent = entries.clone();
        bent.remove(at);
        assert_eq!(
            number_of(world.verify(&bent, head)),
            if at == 0 { 2 } else { at as u64 + 1 },
            "left out: {at}"
        );
        let mut bent = entries.clone();
        bent.insert(at, entries[at].clone());
        assert_eq!(number_of(world.verify(&bent, head)), at as u64 + 2, "twice: {at}");
        if at > 0 {
            let mut bent = entries.clone();
            bent.swap(at - 1, at);
            // Where the first two are swapped, the second may be the first that is kept.
            let most = if at == 1 { 3 } else { at as u64 + 1 };
            assert!(number_of(world.verify(&bent, head)) <= most, "swapped: {at}");
        }
        let cut = &entries[..at];
        assert_eq!(number_of(world.verify(cut, head)), at as u64 + 1, "cut off: {at}");
    }
}

#[tokio::test]
async fn whoever_writes_it_anew_without_the_key_is_found_out() {
    let world = World::new().await;
    world.declined("c-1").await;
    let mut entries = world.audited().await;
    // Another reason, and every hash after it made anew.
    let at = entries.len() - 1;
    entries[at].text = entries[at].text.replace("reason=busy", "reason=not_suited");
    let broken = world.verify(&entries, Some((at as u64 + 1, entries[at].hash()))).unwrap_err();
    assert_eq!(broken, Broken { number: at as u64 + 1, why: Why::Seal });

    entries[at].seal = Seals::made_up().unwrap().seal(entries[at].hash());
    assert_eq!(world.verify(&entries, None).unwrap_err().why, Why::Seal, "by another key");
    entries[at].seal.clear();
    assert_eq!(world.verify(&entries, None).unwrap_err().why, Why::Unsealed);
}

#[tokio::test]
async fn a_cut_end_is_found_by_whoever_noted_what_was_there() {
    let world = World::new().await;
    world.audited().await;
    world.declined("c-1").await;
    let entries = world.audited().await;
    let report = world.verify(&entries, None).unwrap();
    let cut = &entries[..3];
    assert!(world.verify(cut, Some((3, cut[2].hash()))).is_ok(), "the store alone cannot tell");

    let mut verifier = Verifier::new("demo", vec![world.seals.key()], vec![(report.last, report.hash)]);
    cut.iter().for_each(|entry| verifier.take(entry).unwrap());
    assert_eq!(verifier.end(None).unwrap_err(), Broken { number: 4, why: Why::Missing { found: None } });
    let mut verifier = Verifier::new("demo", vec![], vec![(2, Hash([1; 32]))]);
    assert!(verifier.take(&entries[0]).is_ok());
    assert_eq!(verifier.take(&entries[1]).unwrap_err().why, Why::NotAsNoted);
}

#[tokio::test]
async fn an_audit_is_of_one_helpline() {
    let world = World::new().await;
    let entries = world.audited().await;
    let mut verifier = Verifier::new("north", vec![], vec![]);
    assert_eq!(verifier.take(&entries[0]).unwrap_err().why, Why::Elsewhere);
}

#[tokio::test]
async fn a_chat_has_one_name_until_it_is_erased_and_then_nobody_knows_whose_it_was() {
    let world = World::new().await;
    world.declined("c-1").await;
    world.audited().await;
    let chats = [ChatId::parse("c-1").unwrap()];
    let named = async || world.store.audits().names(&world.helpline, &chats).await.unwrap().remove(0);
    let name = named().await.expect("a name");

    world.ok(&Command::Erase { chat: chats[0].clone(), token: TokenHash([7; 32]) }).await;
    let entries = world.audited().await;

    let of_it: Vec<_> = entries.iter().filter(|entry| entry.get("chat") == Some(&name)).collect();
    let acts: Vec<_> = of_it.iter().map(|entry| entry.get("act").unwrap()).collect();
    assert_eq!(acts, ["declined", "ended", "erased"]);
    assert_eq!(named().await, None);
    assert!(world.verify(&entries, None).is_ok());
}

#[tokio::test]
async fn events_that_were_gone_before_they_were_read_are_told_of() {
    let world = World::new().await;
    world.audited().await;
    let few = Policy::from_toml(&format!("{DEMO}\n[numbers]\nkeep_events = 100\n")).unwrap();
    policies::install(&*world.store, &world.helpline, &few, Overwrite::Always).await.unwrap();
    for n in 0..60 {
        let request = Request { revision: 2, ..asked(&format!("c-{n}")) };
        world.ok(&Command::Request(Box::new(request))).await;
        world
            .ok(&Command::Leave {
                chat: ChatId::parse(&format!("c-{n}")).unwrap(),
                token: TokenHash([7; 32]),
                fallback: false,
            })
            .await;
    }

    let entries = world.audited().await;

    let gap = entries.iter().find(|entry| entry.get("act") == Some("gap")).expect("a gap");
    assert_eq!((gap.get("after"), gap.get("before")), (Some("g.0.2"), Some("g.0.144")));
    let report = world.verify(&entries, None).unwrap();
    assert_eq!(report.remarks, [gap.number().unwrap()]);
}

#[tokio::test]
async fn an_audit_that_went_back_is_told_of_by_whoever_had_kept_it() {
    let world = World::new().await;
    let mut clerk = world.clerk();
    let helplines = BTreeSet::from([world.helpline.clone()]);
    world.declined("c-1").await;
    clerk.look_at(helplines.clone()).await;
    let (before, kept) = (world.head().await, world.entries().await);
    world.store.forget_audit(&world.helpline);
    world.declined("c-2").await;

    clerk.look_at(helplines).await;

    let entries = world.entries().await;
    let told = entries.iter().find(|entry| entry.get("act") == Some("rewound")).expect("it is told");
    assert_eq!(told.get("seen"), Some(format!("{}.{}", before.number, kept[3].hash()).as_str()));
    assert_eq!(world.verify(&entries, None).unwrap().remarks, [told.number().unwrap()]);
}

#[tokio::test]
async fn old_entries_go_and_the_rest_says_so() {
    let world = World::new().await;
    world.declined("c-1").await;
    world.audited().await;
    world.declined("c-2").await;
    let config = AuditConfig { key_file: "".into(), interval_ms: 100, keep_days: 0, max_entries: 200_000 };
    world.clerk_with(config).look_at(BTreeSet::from([world.helpline.clone()])).await;

    let entries = world.entries().await;
    let first = entries[0].number().unwrap();
    assert!(first > 1, "{entries:?}");
    assert!(world.verify(&entries, None).is_ok(), "an entry says that they were to go");
    assert_eq!(number_of(world.verify(&entries[1..], None)), first + 1, "it says of no other");
}

#[tokio::test]
async fn of_too_many_entries_the_oldest_go() {
    let world = World::new().await;
    for n in 0..60 {
        world.declined(&format!("c-{n}")).await;
    }
    world.audited().await;
    world.declined("c-60").await;
    let config = AuditConfig { key_file: "".into(), interval_ms: 100, keep_days: 90, max_entries: 20 };

    world.clerk_with(config).look_at(BTreeSet::from([world.helpline.clone()])).await;

    let entries = world.entries().await;
    assert!((20..25).contains(&entries.len()), "{}", entries.len());
    assert!(world.verify(&entries, None).is_ok());
}
