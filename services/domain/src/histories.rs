//! Random histories of commands, for tests. A history is a list of [`Op`]s: intentions with small numbers in them,
//! which shrink well; [`Player`] turns each into a command against what the line knows at that moment, so that most
//! of them take effect and some are deliberately stale, wrong or repeated.

use crate::block::{Block, SubjectDigest};
use crate::chat::{EndedAs, Fence, OfferId, Step, TokenHash};
use crate::command::{Act, Applied, Command, Hold, Moment, Reassert, Reply, Request, Restore};
use crate::event::{EventKind, Reason};
use crate::ids::{ChatId, DigestHex, HelplineId, ResponderId};
use crate::lifecycle::ChatState;
use crate::line::{Line, Snapshot};
use crate::policy::{Admission, Numbers, Partner, Policy, Rate, SurgeStage, Tag, TagLevel};
use crate::priority::Urgency;
use crate::requirement::{Mask, Requirement};
use crate::responder::{HoldingKind, Responder, Status};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a visitor does.
#[derive(Debug, Clone, Copy)]
pub enum VisitorDoes {
    /// Triage to this rank.
    Triage(u8),
    /// Beat.
    Beat,
    /// Leave, or take the fallback.
    Leave(bool),
    /// Resume.
    Resume,
    /// Erase.
    Erase,
}

/// What a responder does with a chat or an offer.
#[derive(Debug, Clone, Copy)]
pub enum HandDoes {
    /// Accept an offer.
    Accept,
    /// Accept once more what was accepted.
    AcceptAgain,
    /// Decline an offer.
    Decline,
    /// Write for the first time.
    Engage,
    /// Call a supervisor.
    CallSupervisor,
    /// Close.
    Close,
    /// Transfer.
    Transfer,
    /// Finish the wrap-up.
    FinishWrapUp,
}

/// What a responder does about being there.
#[derive(Debug, Clone, Copy)]
pub enum PresenceDoes {
    /// Sign in: capabilities, capacity, ready.
    SignIn(u8, u8, bool),
    /// Heartbeat.
    Heartbeat,
    /// Declare a status by its place in [`Status::ALL`].
    SetStatus(u8),
    /// Ask for a cool-down of so many hundred milliseconds.
    ExtendCoolDown(u8),
    /// Lose the connection.
    Unlink,
    /// Sign out.
    SignOut,
}

/// What a supervisor does.
#[derive(Debug, Clone, Copy)]
pub enum SupervisorDoes {
    /// Sets the urgency to this rank.
    SetUrgency(u8),
    /// Offers a chat to somebody, past the rules or not.
    Assign(bool),
    /// Takes a chat back.
    Pull,
    /// Takes a chat over.
    TakeOver,
    /// Ends a chat, by the place of the outcome in [`EndedAs::ALL`].
    End(u8),
    /// Ends a break.
    EndBreak,
    /// Gives rest of so many hundred milliseconds.
    Rest(u8),
    /// Signs somebody out.
    ForceOffline,
    /// Reroutes one ladder's first step for so many hundred milliseconds.
    Reroute(u8, u8),
    /// Proposes a block of so many hundred milliseconds.
    ProposeBlock(u8),
    /// Confirms a block.
    ConfirmBlock,
    /// Ends a block.
    LiftBlock,
}

/// What goes on between partners.
#[derive(Debug, Clone, Copy)]
pub enum PartnerDoes {
    /// A partner asks to keep a chat; the same one again if the flag says so.
    Hold(bool),
    /// A partner lets go.
    Admit,
    /// A partner keeps a chat after all.
    Release,
    /// A partner answers a proposal.
    Settle(bool),
}

/// How faithful a command is to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// As it should be.
    True,
    /// With an old or wrong session, token, offer or fence.
    Stale,
    /// At something that does not fit the state.
    Wild,
}

/// One intention.
#[derive(Debug, Clone)]
pub enum Op {
    /// A request: urgency rank, needs, attested; with `again`, one of the requests made before, its body changed if
    /// the flag says so.
    Request {
        /// Rank of the urgency.
        urgency: u8,
        /// Which ladder.
        need: u8,
        /// Vouched for.
        attested: bool,
        /// Repeat an earlier one.
        again: Option<(u16, bool)>,
        /// Topics, exclusions, preferences, as bits.
        wish: u8,
    },
    /// A visitor's command about one of the chats.
    Visitor(VisitorDoes, u16, Aim),
    /// A responder's command about one of the chats.
    Hand(HandDoes, u16, Aim),
    /// A responder's command about being there.
    Presence(PresenceDoes, u8, Aim),
    /// A tick by one of two replicas.
    Tick {
        /// Which replica.
        by: bool,
        /// How many timers.
        limit: u8,
    },
    /// A supervisor's act about one of the chats and one of the responders.
    Supervisor(SupervisorDoes, u16, u8, Aim),
    /// Something between partners.
    Partner(PartnerDoes, u16, Aim),
    /// What became of calling up volunteers.
    ReportPage(bool),
    /// The policy is replaced by another one, at the right revision or not.
    SetPolicy(bool, u8),
    /// Something happens to the store.
    Store(Turn),
    /// A visitor presents a ticket, one of the newest.
    Restore(u16, Aim),
    /// A responder presents a sealed assignment, one of the newest.
    Reassert(u16, Aim),
}

/// What happens to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A replica is as far as the store at this moment.
    Copy,
    /// It loses everything.
    LoseEverything,
    /// The replica takes its place, on another node: what came after the copy is lost.
    FailOver,
    /// The copy is brought back, on another node, and somebody notices that it is older than the line was.
    OlderCopy,
}

/// How many tickets and sealed assignments are remembered.
const PAPERS: usize = 64;

/// An intention, and how the store's time moves before it, in milliseconds.
pub type TimedOp = (i64, Op);

fn aim() -> impl Strategy<Value = Aim> {
    prop_oneof![12 => Just(Aim::True), 1 => Just(Aim::Stale), 2 => Just(Aim::Wild)]
}

fn op() -> impl Strategy<Value = Op> {
    let visitor = prop_oneof![
        2 => (0..4u8).prop_map(VisitorDoes::Triage),
        6 => Just(VisitorDoes::Beat),
        2 => any::<bool>().prop_map(VisitorDoes::Leave),
        2 => Just(VisitorDoes::Resume),
        1 => Just(VisitorDoes::Erase),
    ];
    let hand = prop_oneof![
        8 => Just(HandDoes::Accept),
        1 => Just(HandDoes::AcceptAgain),
        4 => Just(HandDoes::Decline),
        2 => Just(HandDoes::Engage),
        2 => Just(HandDoes::CallSupervisor),
        4 => Just(HandDoes::Close),
        2 => Just(HandDoes::Transfer),
        2 => Just(HandDoes::FinishWrapUp),
    ];
    let presence = prop_oneof![
        6 => (0..6u8, 1..4u8, prop::bool::weighted(0.9)).prop_map(|(a, b, c)| PresenceDoes::SignIn(a, b, c)),
        4 => Just(PresenceDoes::Heartbeat),
        4 => prop_oneof![1 => 0..8u8, 1 => Just(4u8)].prop_map(PresenceDoes::SetStatus),
        4 => Just(PresenceDoes::Unlink),
        4 => Just(PresenceDoes::SignOut),
        4 => (0..12u8).prop_map(PresenceDoes::ExtendCoolDown),
    ];
    let supervisor = prop_oneof![
        2 => (0..4u8).prop_map(SupervisorDoes::SetUrgency),
        4 => any::<bool>().prop_map(SupervisorDoes::Assign),
        2 => Just(SupervisorDoes::Pull),
        4 => Just(SupervisorDoes::TakeOver),
        2 => (0..6u8).prop_map(SupervisorDoes::End),
        4 => Just(SupervisorDoes::EndBreak),
        4 => (0..12u8).prop_map(SupervisorDoes::Rest),
        4 => Just(SupervisorDoes::ForceOffline),
        2 => (0..6u8, 0..12u8).prop_map(|(need, lasts)| SupervisorDoes::Reroute(need, lasts)),
        5 => (0..40u8).prop_map(SupervisorDoes::ProposeBlock),
        5 => Just(SupervisorDoes::ConfirmBlock),
        1 => Just(SupervisorDoes::LiftBlock),
    ];
    let partner = prop_oneof![
        4 => prop::bool::weighted(0.4).prop_map(PartnerDoes::Hold),
        2 => Just(PartnerDoes::Admit),
        1 => Just(PartnerDoes::Release),
        2 => any::<bool>().prop_map(PartnerDoes::Settle),
    ];
    let again = prop_oneof![6 => Just(None), 1 => (any::<u16>(), prop::bool::weighted(0.3)).prop_map(Some)];
    prop_oneof![
        5 => (0..4u8, 0..5u8, prop::bool::weighted(0.2), again, prop_oneof![1 => Just(0u8), 1 => 0..64u8])
            .prop_map(|(urgency, need, attested, again, wish)| Op::Request { urgency, need, attested, again, wish }),
        5 => (visitor, any::<u16>(), aim()).prop_map(|(v, pick, aim)| Op::Visitor(v, pick, aim)),
        11 => (hand, any::<u16>(), aim()).prop_map(|(h, pick, aim)| Op::Hand(h, pick, aim)),
        10 => (presence, 0..4u8, aim()).prop_map(|(p, who, aim)| Op::Presence(p, who, aim)),
        5 => (prop::bool::weighted(0.1), prop_oneof![Just(1u8), Just(3), Just(100)])
            .prop_map(|(by, limit)| Op::Tick { by, limit }),
        8 => (supervisor, any::<u16>(), 0..4u8, aim()).prop_map(|(d, pick, who, aim)| Op::Supervisor(d, pick, who, aim)),
        6 => (partner, any::<u16>(), aim()).prop_map(|(d, pick, aim)| Op::Partner(d, pick, aim)),
        1 => any::<bool>().prop_map(Op::ReportPage),
        1 => (prop::bool::weighted(0.7), any::<u8>()).prop_map(|(right, which)| Op::SetPolicy(right, which)),
    ]
}

/// Histories in which the store is lost, whole or in part, and people come back with what they hold. Time only goes on
/// here, and more between two losses than there are terms: what a clock that leaps back does to a line that has forgotten
/// everything cannot be made good.
pub fn history_of_losses(length: usize) -> impl Strategy<Value = Vec<TimedOp>> {
    let op = prop_oneof![
        30 => op(),
        8 => (any::<u16>(), aim()).prop_map(|(pick, aim)| Op::Restore(pick, aim)),
        6 => (any::<u16>(), aim()).prop_map(|(pick, aim)| Op::Reassert(pick, aim)),
        1 => Just(Op::Store(Turn::Copy)),
    ];
    let usual = (prop_oneof![30 => 0..300i64, 10 => 300..1500i64], op);
    let turn = prop_oneof![Just(Turn::LoseEverything), Just(Turn::FailOver), Just(Turn::OlderCopy)];
    let loss = (2_000..4_000i64, turn.prop_map(Op::Store));
    prop::collection::vec(prop_oneof![30 => usual, 1 => loss], length / 2..=length)
}

/// The seed of a run of histories: the same each time, unless `HOLDFAST_SEED` names another.
#[must_use]
pub fn seed() -> proptest::test_runner::RngSeed {
    let named = std::env::var("HOLDFAST_SEED").ok().and_then(|n| n.parse().ok());
    proptest::test_runner::RngSeed::Fixed(named.unwrap_or(1))
}

/// Histories of half of `length` to `length` commands. Time mostly creeps, sometimes strides, seldom jumps an hour either way.
pub fn history(length: usize) -> impl Strategy<Value = Vec<TimedOp>> {
    let pass = prop_oneof![
        30 => 0..300i64,
        10 => 300..1500i64,
        1 => Just(3_600_000i64),
        1 => Just(-3_600_000i64),
    ];
    let ops = prop::collection::vec((pass, op()), length / 2..=length);
    // Half of them on a coarse grain, so that deadlines and arrivals fall on the very same millisecond.
    (any::<bool>(), ops).prop_map(|(coarse, ops)| {
        let grain = if coarse { 100 } else { 1 };
        ops.into_iter().map(|(pass, op)| (pass / grain * grain, op)).collect()
    })
}

/// One of a few policies, with durations short enough for everything to happen within a history.
#[must_use]
pub fn policy(which: u8) -> Policy {
    let numbers = Numbers {
        head_start_ms: [0, 2_000, 5_000],
        return_head_start_ms: 3_000,
        weight: if which.is_multiple_of(2) { [1, 1, 1, 2] } else { [1, 1, 2, 3] },
        fan_out: 1 + u32::from(which % 3),
        reserve: u32::from(which % 4 == 3),
        max_waiting: if which % 5 == 4 { 3 } else { 100 },
        offer_deadline_ms: 2_000,
        back_off_ms: 1_500,
        min_back_off_ms: 400,
        heartbeat_ms: 100,
        presence_lease_ms: 4_000,
        reconnect_grace_ms: 1_000,
        away_after_ms: 2_500,
        abandon_after_ms: 3_000,
        wrap_up_ms: if which.is_multiple_of(3) { [0; 4] } else { [500, 700, 900, 1_500] },
        cool_down_ms: [0, 0, 800, 1_600],
        strain_percent: [0, 25, 100, 250],
        anyone_after_ms: 2_000,
        retention_ms: 5_000,
        keep_events: 100_000,
        keep_events_ms: 20_000,
        first_reply_ms: if which.is_multiple_of(2) { 1_200 } else { 0 },
        failing_after: 1 + u32::from(which % 3),
        max_hard_in_row: if which % 3 == 1 { 2 } else { 0 },
        max_hard_per_shift: if which % 5 == 2 { 3 } else { 0 },
        hard_rest_ms: 800,
        shift_gap_ms: 2_000,
        shift_guard_ms: 1_000,
        min_on_shift: if which % 7 == 5 { 2 } else { 0 },
        overflow_after_ms: [4_000, 3_000, 2_000, 1_000],
        overflow_answer_ms: 700,
        overflow_retry_ms: 900,
        prefer_for_ms: 600,
        recovery_hold_ms: 1_500,
    };
    let partner = |name: &str| Partner { helpline: name.to_owned() };
    let partners = match which % 3 {
        0 => Vec::new(),
        1 => vec![partner("east")],
        _ => vec![partner("east"), partner("west")],
    };
    let tag = |name: &str, levels, scarce| Tag { name: name.to_owned(), levels, scarce };
    Policy {
        helpline: "test".to_owned(),
        name: "Test".to_owned(),
        revision: 0,
        numbers,
        tags: vec![
            tag("lang:en", 1, false),
            tag("lang:es", 1, true),
            tag("skill:minors", 3, true),
            tag("pad:long", 5, false),
            tag("far:one", 5, false),
            tag("far:two", 5, false),
            tag("far:three", 5, false),
            tag("far:four", 5, false),
            tag("far:five", 5, true),
            tag("topic:loss", 1, false),
        ],
        partners,
        takes_from: vec![partner("east"), partner("west")],
        takes_at_most: 5,
        admission: admission(which),
        surge: if which % 4 < 2 { Vec::new() } else { vec![stage(150, 80, 0), stage(300, 200, 3)] },
        ..Policy::default()
    }
}

/// In a third of the policies, of two kinds: a new one finds buckets that lack more than its own can hold.
fn admission(which: u8) -> Option<Admission> {
    let narrow =
        Admission { quota: Rate { per_minute: 15, burst: 2 }, imminent: Rate { per_minute: 8, burst: 1 } };
    let wide = Admission { quota: Rate { per_minute: 20, burst: 4 }, imminent: Rate { per_minute: 12, burst: 2 } };
    match which % 6 {
        1 => Some(narrow),
        4 => Some(wide),
        _ => None,
    }
}

fn stage(enter_percent: u64, leave_percent: u64, fan_out: u32) -> SurgeStage {
    SurgeStage {
        name: format!("stage {enter_percent}"),
        enter_percent,
        leave_percent,
        hold_ms: 500,
        fan_out,
        wrap_up_percent: 40,
        resources_first: fan_out > 0,
        challenge_bits: if fan_out > 0 { 8 } else { 3 },
        page_until: 3,
        page_every_ms: 1_000,
        page_waves: 2,
    }
}

fn topic(policy: &Policy) -> Mask {
    policy.capabilities("topic", &[("topic:loss", 1)]).map(|(mask, _)| mask).unwrap_or_default()
}

fn tags(which: u8) -> Vec<(&'static str, u32)> {
    match which {
        0 => vec![("lang:en", 1)],
        1 => vec![("lang:en", 1), ("lang:es", 1)],
        2 => vec![("lang:es", 1), ("skill:minors", 2)],
        3 => vec![("lang:en", 1), ("skill:minors", 3), ("far:five", 4)],
        4 => vec![],
        _ => vec![("lang:en", 1), ("lang:es", 1), ("skill:minors", 3), ("far:five", 5)],
    }
}

fn ladder(policy: &Policy, which: u8) -> Vec<Step> {
    let rungs: Vec<(u64, Vec<Vec<TagLevel<'_>>>)> = match which {
        0 => vec![],
        1 => vec![(0, vec![vec![("lang:en", 1)]])],
        2 => vec![(0, vec![vec![("lang:es", 1), ("skill:minors", 2)]]), (1_500, vec![vec![("lang:es", 1)]])],
        3 => vec![(0, vec![vec![("skill:minors", 3)], vec![("lang:es", 1)]])],
        _ => vec![(0, vec![vec![("far:five", 5)]]), (900, vec![vec![("far:five", 1)], vec![("lang:es", 1)]])],
    };
    let steps = rungs
        .iter()
        .filter_map(|(after_ms, any_of)| Some(Step::new(*after_ms, policy.requirement("need", any_of).ok()?)))
        .collect();
    policy.ladder("need", steps).unwrap_or_default()
}

/// A first short step for one responder alone.
fn prefer(steps: Vec<Step>, only: ResponderId) -> Vec<Step> {
    let Some(first) = steps.first().cloned() else {
        return steps;
    };
    let later = steps.into_iter().map(|s| Step { after_ms: s.after_ms.max(600), ..s });
    let mut preferring = vec![Step { only: Some(only), ..first }];
    for step in later {
        if preferring.last().is_none_or(|last| step.after_ms > last.after_ms) {
            preferring.push(step);
        }
    }
    preferring
}

/// New names most of the time.
fn state_number(arrivals: u64, pick: u16) -> u64 {
    arrivals + u64::from(pick % 2)
}

fn digest(kind: &str, n: u64) -> DigestHex {
    let text: String = format!("{kind}{n}").bytes().map(|b| format!("{b:02x}")).collect();
    DigestHex::parse(&text).unwrap_or_else(|_| unreachable_digest())
}

#[expect(clippy::panic, reason = "test support: hexadecimal digits are always a digest")]
fn unreachable_digest() -> DigestHex {
    panic!("hexadecimal digits are a digest")
}

#[expect(clippy::panic, reason = "test support: these names are well formed")]
fn named<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is a name"))
}

fn token(n: u64) -> TokenHash {
    let mut bytes = [7u8; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    TokenHash(bytes)
}

/// Plays intentions against a line.
pub struct Player {
    /// The line.
    pub line: Line,
    /// The store's time.
    pub wall_ms: u64,
    /// What was reached: (state, command) and how often.
    pub reached: BTreeMap<(&'static str, &'static str), u64>,
    /// Commands so far, and those that took effect.
    pub counts: (u64, u64),
    /// What was told, and how often.
    pub told: BTreeMap<EventKind, u64>,
    /// Why requests for a chat were refused, and how often; `capped` for those that were let in as less urgent.
    pub refused: BTreeMap<&'static str, u64>,
    requests: Vec<Request>,
    node: u32,
    lives: u64,
    copy: Option<Line>,
    policy: Option<Policy>,
    clock_ms: u64,
    term: u64,
    tickets: Vec<Restore>,
    assignments: Vec<Reassert>,
}

impl Player {
    /// A line on a node with one of the policies.
    #[must_use]
    pub fn new(node: u32) -> Self {
        Self {
            line: Line::named(node, Self::life(0)),
            wall_ms: 1_800_000_000_000,
            reached: BTreeMap::new(),
            counts: (0, 0),
            told: BTreeMap::new(),
            refused: BTreeMap::new(),
            requests: Vec::new(),
            node,
            lives: 0,
            copy: None,
            policy: None,
            clock_ms: 0,
            term: 0,
            tickets: Vec::new(),
            assignments: Vec::new(),
        }
    }

    /// What the so many-th life of the line is called.
    #[must_use]
    pub fn life(number: u64) -> String {
        format!("life-{number}")
    }

    /// What the next life of the line will be called, if it is lost.
    #[must_use]
    pub fn next_life(&self) -> String {
        Self::life(self.lives + 1)
    }

    /// What happens to the store before the command of an intention: another store does the same.
    #[must_use]
    pub fn turn(&self, (_, op): &TimedOp) -> Option<Turn> {
        let Op::Store(turn) = op else {
            return None;
        };
        let nowhere_to_go = matches!(turn, Turn::FailOver | Turn::OlderCopy) && self.copy.is_none();
        (!nowhere_to_go).then_some(*turn)
    }

    /// Lets it happen to the line. `node` is the one on which it goes on.
    pub fn take(&mut self, turn: Turn, node: u32) {
        match turn {
            Turn::Copy => self.copy = Some(self.line.clone()),
            Turn::LoseEverything => {
                self.lives += 1;
                self.copy = None;
                self.line = Line::named(node, Self::life(self.lives));
            }
            Turn::FailOver | Turn::OlderCopy => {
                self.term = self.term.max(self.state().term.number);
                if let Some(copy) = self.copy.clone() {
                    self.line = copy;
                    self.line.move_to_node(node);
                }
            }
        }
        self.node = node;
    }

    /// The node on which the line is.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.node
    }

    /// The command that gives a line its policy.
    #[must_use]
    pub fn first_command(which: u8) -> Command {
        Command::SetPolicy { policy: Box::new(policy(which)), expected: 0, by: None }
    }

    /// Moves time and turns an intention into a command.
    pub fn command(&mut self, (pass, op): &TimedOp) -> Command {
        self.wall_ms = self.wall_ms.saturating_add_signed(*pass);
        match op {
            Op::Request { urgency, need, attested, again, wish } => {
                let made =
                    again.and_then(|(pick, changed)| Some((pick_from(&self.requests, pick).cloned()?, changed)));
                match made {
                    Some((request, changed)) => self.repeat(request, changed),
                    None => self.request(*urgency, *need, *attested, *wish),
                }
            }
            Op::Visitor(does, pick, aim) => self.visitor(*does, *pick, *aim),
            Op::Hand(does, pick, aim) => self.hand(*does, *pick, *aim),
            Op::Presence(does, who, aim) => self.presence(*does, *who, *aim),
            Op::Tick { by, limit } => Command::Tick { by: digest("t", u64::from(*by)), limit: u32::from(*limit) },
            Op::Supervisor(does, pick, who, aim) => self.supervisor(*does, *pick, *who, *aim),
            Op::Partner(does, pick, aim) => self.partner(*does, *pick, *aim),
            Op::ReportPage(delivered) => {
                Command::ReportPage { wave: self.state().surge.waves, delivered: *delivered }
            }
            Op::Store(Turn::LoseEverything) => {
                let policy = Box::new(self.policy.clone().unwrap_or_else(|| policy(0)));
                Command::Revive { policy, clock_ms: self.clock_ms }
            }
            Op::Store(Turn::OlderCopy) if self.copy.is_some() => {
                self.lives += 1;
                Command::Renew {
                    life_was: self.state().generation.clone(),
                    life: Self::life(self.lives),
                    clock_ms: self.clock_ms,
                    term: self.term,
                }
            }
            Op::Store(Turn::Copy | Turn::FailOver | Turn::OlderCopy) => {
                Command::Tick { by: digest("t", 0), limit: 100 }
            }
            Op::Restore(pick, aim) => self.restore(*pick, *aim),
            Op::Reassert(pick, aim) => self.reassert(*pick, *aim),
            Op::SetPolicy(right, which) => {
                let revision = self.state().policy.as_ref().map_or(0, |p| p.revision);
                let expected = if *right { revision } else { revision + 1 };
                Command::SetPolicy { policy: Box::new(policy(*which)), expected, by: right.then(|| named("lead")) }
            }
        }
    }

    /// Carries a command out on the line and counts what it reached.
    pub fn play(&mut self, command: &Command) -> Applied {
        if let Some(state) = self.state_of_target(command) {
            *self.reached.entry((state, command.word())).or_default() += 1;
        }
        let applied = self.line.apply(self.wall_ms, command);
        self.counts.0 += 1;
        for event in &applied.events {
            *self.told.entry(event.kind).or_default() += 1;
        }
        if let Some(why) = turned_away(command, &applied.reply) {
            *self.refused.entry(why).or_default() += 1;
        }
        self.keep_papers(command, &applied);
        let effect = match (&applied.reply, command) {
            (Err(_), _) => false,
            (Ok(Reply::Chat { replay: true, .. }), _) => true,
            (
                Ok(_),
                Command::Beat { .. }
                | Command::Heartbeat { .. }
                | Command::Accept { .. }
                | Command::Hold(_)
                | Command::Restore(_)
                | Command::Reassert(_)
                | Command::Admit { .. }
                | Command::Release { .. },
            ) => true,
            (Ok(_), _) => !applied.events.is_empty(),
        };
        self.counts.1 += u64::from(effect);
        applied
    }

    fn state(&self) -> &Snapshot {
        self.line.snapshot()
    }

    fn state_of_target(&self, command: &Command) -> Option<&'static str> {
        let state = self.state();
        let of_chat = |chat: &ChatId| state.chats.get(chat).map_or("unknown", |c| c.state.word());
        let of_responder = |r: &ResponderId| state.responders.get(r).map_or("unknown", |r| r.status.word());
        Some(match command {
            Command::Triage { chat, .. }
            | Command::Beat { chat, .. }
            | Command::Leave { chat, .. }
            | Command::Resume { chat, .. }
            | Command::Erase { chat, .. }
            | Command::Engage { chat, .. }
            | Command::CallSupervisor { chat, .. }
            | Command::Close { chat, .. }
            | Command::Transfer { chat, .. }
            | Command::FinishWrapUp { chat, .. } => of_chat(chat),
            Command::Accept { offer, .. } | Command::Decline { offer, .. } => of_chat(&offer.chat),
            Command::Admit { chat, .. }
            | Command::Release { chat, .. }
            | Command::SettleProposal { chat, .. }
            | Command::Supervise {
                act:
                    Act::SetUrgency { chat, .. }
                    | Act::Assign { chat, .. }
                    | Act::Pull { chat }
                    | Act::TakeOver { chat, .. }
                    | Act::End { chat, .. }
                    | Act::ProposeBlock { chat, .. },
                ..
            } => of_chat(chat),
            Command::Hold(hold) => of_chat(&hold.request.chat),
            Command::Restore(restore) => of_chat(&restore.request.chat),
            Command::Reassert(reassert) => of_chat(&reassert.restore.request.chat),
            Command::Supervise {
                act: Act::EndBreak { responder } | Act::Rest { responder, .. } | Act::ForceOffline { responder },
                ..
            } => of_responder(responder),
            Command::SignIn { responder, .. }
            | Command::Heartbeat { responder, .. }
            | Command::ExtendCoolDown { responder, .. }
            | Command::SetStatus { responder, .. }
            | Command::Unlink { responder, .. }
            | Command::SignOut { responder, .. } => of_responder(responder),
            Command::Request(_)
            | Command::Supervise {
                act: Act::Reroute { .. } | Act::ConfirmBlock { .. } | Act::LiftBlock { .. },
                ..
            }
            | Command::ReportPage { .. }
            | Command::Tick { .. }
            | Command::SetPolicy { .. }
            | Command::Revive { .. }
            | Command::Renew { .. } => return None,
        })
    }

    /// Visitors and responders keep what they are given: a ticket with each change of a chat, a sealed assignment with
    /// each accept.
    fn keep_papers(&mut self, command: &Command, applied: &Applied) {
        let line = self.line.snapshot();
        self.policy = line.policy.clone().or(self.policy.take());
        self.clock_ms = line.clock.now_ms;
        let moment = Moment {
            generation: line.generation.clone(),
            term: line.term.number,
            now_ms: line.clock.now_ms,
            revision: line.policy.as_ref().map_or(0, |p| p.revision),
        };
        let keeps_ms = line.policy.as_ref().map_or(0, |p| p.numbers.retention_ms);
        let sealed = |chat: &ChatId| {
            let chat = line.chats.get(chat).filter(|c| !matches!(c.state, ChatState::Held | ChatState::Ended))?;
            Some((chat, Restore::of(chat, &moment, moment.now_ms + keeps_ms)))
        };
        let chats: std::collections::BTreeSet<&ChatId> =
            applied.events.iter().filter_map(|e| e.chat.as_ref()).collect();
        let tickets = chats.into_iter().filter_map(|chat| Some(sealed(chat)?.1));
        self.tickets.extend(tickets);
        if let (Ok(Reply::Accepted { chat, fence, .. }), Some((held, restore))) =
            (&applied.reply, accepted(&applied.reply).and_then(sealed))
            && let Some(owner) = &held.owner
            && !matches!(command, Command::Reassert(_))
            && held.id == *chat
        {
            self.assignments.push(Reassert {
                responder: owner.responder.clone(),
                session: 0,
                offer: owner.offer,
                fence: *fence,
                reply_handoff: held.reply_handoff.clone(),
                restore,
            });
        }
        self.tickets.drain(..self.tickets.len().saturating_sub(PAPERS));
        self.assignments.drain(..self.assignments.len().saturating_sub(PAPERS));
    }

    /// Most come with what the line lacks.
    fn restore(&self, pick: u16, aim: Aim) -> Command {
        let known = &self.state().chats;
        let lost: Vec<&Restore> = self.tickets.iter().filter(|t| !known.contains_key(&t.request.chat)).collect();
        let all: Vec<&Restore> = self.tickets.iter().collect();
        let from = if lost.is_empty() || pick.is_multiple_of(5) { &all } else { &lost };
        let Some(mut restore) = pick_from(from, pick).map(|t| (*t).clone()) else {
            return self.visitor(VisitorDoes::Beat, pick, Aim::True);
        };
        restore.request.revision = self.revision() + u64::from(aim == Aim::Wild);
        if aim == Aim::Stale {
            restore.request.token = token(u64::MAX);
        }
        Command::Restore(Box::new(restore))
    }

    fn reassert(&self, pick: u16, aim: Aim) -> Command {
        let known = &self.state().chats;
        let active =
            |r: &&Reassert| known.get(&r.restore.request.chat).is_none_or(|c| c.state != ChatState::Active);
        let lost: Vec<&Reassert> = self.assignments.iter().filter(active).collect();
        let all: Vec<&Reassert> = self.assignments.iter().collect();
        let from = if lost.is_empty() || pick.is_multiple_of(4) { &all } else { &lost };
        let Some(mut reassert) = pick_from(from, pick).map(|r| (*r).clone()) else {
            return self.visitor(VisitorDoes::Beat, pick, Aim::True);
        };
        let here = self.state().responders.get(&reassert.responder).filter(|r| r.linked);
        let Some(here) = here else {
            return self.sign_in(reassert.responder, 5, 2, true, aim);
        };
        reassert.session = here.session - u64::from(aim == Aim::Wild && pick.is_multiple_of(2));
        reassert.fence.epoch -= u64::from(aim == Aim::Stale);
        reassert.restore.request.revision = self.revision() + u64::from(aim == Aim::Wild);
        Command::Reassert(Box::new(reassert))
    }

    fn revision(&self) -> u64 {
        self.state().policy.as_ref().map_or(0, |p| p.revision)
    }

    fn request(&mut self, urgency: u8, need: u8, attested: bool, wish: u8) -> Command {
        let request = self.new_request(urgency, need, attested, wish);
        self.requests.push(request.clone());
        Command::Request(Box::new(request))
    }

    /// Asks again; the queue names each request anew, and only what the line does not know yet becomes a chat of that name.
    fn repeat(&self, mut request: Request, changed: bool) -> Command {
        request.chat = named(&format!("again-{}", self.counts.0));
        if changed {
            request.body = digest("c", 0);
        }
        Command::Request(Box::new(request))
    }

    fn new_request(&self, urgency: u8, need: u8, attested: bool, wish: u8) -> Request {
        let n = u64::try_from(self.requests.len()).unwrap_or(0);
        let policy = self.state().policy.clone().unwrap_or_else(|| policy(0));
        let mut steps = ladder(&policy, need);
        if wish & 1 > 0 {
            steps = prefer(steps, named("vol-2"));
        }
        Request {
            chat: named(&format!("chat-{n}")),
            request_key: digest("k", n),
            body: digest("b", n),
            token: token(n),
            urgency: Urgency::from_rank(usize::from(urgency)).unwrap_or_default(),
            steps,
            topics: if wish & 2 > 0 { topic(&policy) } else { Mask::default() },
            excluded: if wish & 4 > 0 { vec![named("vol-1"), named("vol-3")] } else { Vec::new() },
            resources_seen: wish & 8 > 0,
            solved_bits: u32::try_from(n % 4).unwrap_or(0) * 4,
            overflow_now: wish & 16 > 0,
            revision: if need == 4 && urgency == 0 && attested { 99 } else { policy.revision },
            attested,
            handoff: if need.is_multiple_of(2) { vec![0, 10, 13, 255, urgency] } else { Vec::new() },
            // A few come again and again.
            came_by: (wish & 32 > 0 && n.is_multiple_of(3)).then(|| token(n / 2)),
            subject: (wish & 32 > 0).then(|| SubjectDigest([urgency * 4 + need % 2; 16])),
            trace: if need == 1 {
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()
            } else {
                String::new()
            },
        }
    }

    fn supervisor(&self, does: SupervisorDoes, pick: u16, who: u8, aim: Aim) -> Command {
        let state = self.state();
        let wanted = |c: &&crate::chat::Chat| match does {
            SupervisorDoes::Pull => c.state == ChatState::Active,
            SupervisorDoes::Assign(_) => c.state == ChatState::Waiting,
            SupervisorDoes::SetUrgency(_)
            | SupervisorDoes::TakeOver
            | SupervisorDoes::End(_)
            | SupervisorDoes::EndBreak
            | SupervisorDoes::Rest(_)
            | SupervisorDoes::ForceOffline
            | SupervisorDoes::Reroute(..)
            | SupervisorDoes::ConfirmBlock
            | SupervisorDoes::LiftBlock => c.ended.is_none(),
            SupervisorDoes::ProposeBlock(_) => !c.erased,
        };
        let fitting: Vec<&ChatId> =
            state.chats.values().filter(|c| pick.is_multiple_of(3) || wanted(c)).map(|c| &c.id).collect();
        let chat = pick_from(&fitting, pick).filter(|_| aim != Aim::Wild);
        let chat = chat.map_or_else(|| named("nobody"), |c| (*c).clone());
        let by: ResponderId = if pick.is_multiple_of(3) { named("lead") } else { named(&format!("vol-{who}")) };
        let responder = match does {
            SupervisorDoes::EndBreak | SupervisorDoes::Rest(_) | SupervisorDoes::ForceOffline => {
                self.whose(PresenceDoes::Heartbeat, who)
            }
            SupervisorDoes::SetUrgency(_)
            | SupervisorDoes::Assign(_)
            | SupervisorDoes::Pull
            | SupervisorDoes::TakeOver
            | SupervisorDoes::End(_)
            | SupervisorDoes::Reroute(..)
            | SupervisorDoes::ProposeBlock(_)
            | SupervisorDoes::ConfirmBlock
            | SupervisorDoes::LiftBlock => named(&format!("vol-{who}")),
        };
        let session = state.responders.get(&by).map_or(1, |r| r.session) - u64::from(aim == Aim::Stale);
        let revision = state.policy.as_ref().map_or(0, |p| p.revision) + u64::from(aim == Aim::Stale);
        let first_step = |need| {
            let policy = state.policy.clone().unwrap_or_else(|| policy(0));
            ladder(&policy, need).first().map_or_else(Requirement::anyone, |s| s.requirement.clone())
        };
        let blocks: Vec<&Block> = state.blocks.iter().collect();
        let proposed: Vec<&Block> = blocks.iter().filter(|b| b.confirmed.is_none()).copied().collect();
        let from = if proposed.is_empty() || pick.is_multiple_of(4) { &blocks } else { &proposed };
        let known = pick_from(from, pick).filter(|_| aim != Aim::Wild);
        let known = known.map_or_else(|| named("no-block"), |b| b.id.clone());
        let act = match does {
            SupervisorDoes::SetUrgency(rank) => {
                Act::SetUrgency { chat, urgency: Urgency::from_rank(usize::from(rank)).unwrap_or_default() }
            }
            SupervisorDoes::Assign(break_glass) => Act::Assign { chat, responder, break_glass },
            SupervisorDoes::Pull => Act::Pull { chat },
            SupervisorDoes::TakeOver => Act::TakeOver { chat, session, reply_handoff: vec![3, pick as u8] },
            SupervisorDoes::End(n) => {
                Act::End { chat, outcome: EndedAs::ALL.get(usize::from(n)).copied().unwrap_or(EndedAs::Blocked) }
            }
            SupervisorDoes::EndBreak => Act::EndBreak { responder },
            SupervisorDoes::Rest(n) => Act::Rest { responder, for_ms: u64::from(n) * 100 },
            SupervisorDoes::ForceOffline => Act::ForceOffline { responder },
            SupervisorDoes::Reroute(need, n) => {
                let to = if n.is_multiple_of(2) { Requirement::anyone() } else { first_step(1) };
                Act::Reroute { from: first_step(need), to, for_ms: u64::from(n) * 100, revision }
            }
            SupervisorDoes::ProposeBlock(n) => {
                // Under a new name most of the time.
                let block = if aim == Aim::Stale { known } else { named(&format!("block-{}", state.events)) };
                Act::ProposeBlock { block, chat, for_ms: u64::from(n) * 200, open_ms: 2_500 }
            }
            SupervisorDoes::ConfirmBlock => Act::ConfirmBlock { block: known },
            SupervisorDoes::LiftBlock => Act::LiftBlock { block: known },
        };
        Command::Supervise { by, reason: Reason::Staffing, act }
    }

    fn partner(&self, does: PartnerDoes, pick: u16, aim: Aim) -> Command {
        let state = self.state();
        let held: Vec<_> = state.chats.values().filter(|c| c.came_from.is_some()).collect();
        let proposed: Vec<_> = state.chats.values().filter(|c| c.partner.is_some() || aim != Aim::True).collect();
        let kept = pick_from(&held, pick).and_then(|c| Some((c.id.clone(), c.came_from.clone()?)));
        let (chat, (from, number)) = kept.unwrap_or_else(|| (named("nobody"), (named("east"), 1)));
        let number = number + u32::from(aim == Aim::Stale);
        match does {
            PartnerDoes::Hold(again) => self.hold(pick, aim, again.then_some((chat, from, number))),
            PartnerDoes::Admit => Command::Admit { chat, from, number },
            PartnerDoes::Release => Command::Release { chat, from, number },
            PartnerDoes::Settle(taken) => {
                let open = pick_from(&proposed, pick);
                let to: HelplineId = open.and_then(|c| c.partner.clone()).unwrap_or_else(|| named("east"));
                let number = open.map_or(1, |c| c.proposals) + u32::from(aim == Aim::Stale);
                let chat = open.map_or_else(|| named("nobody"), |c| c.id.clone());
                Command::SettleProposal { chat, to, number, taken }
            }
        }
    }

    fn hold(&self, pick: u16, aim: Aim, again: Option<(ChatId, HelplineId, u32)>) -> Command {
        let small = |n: u16| u8::try_from(n % 8).unwrap_or(0);
        let mut request = self.new_request(small(pick) % 4, small(pick / 8) % 5, pick.is_multiple_of(7), 0);
        let n = state_number(self.state().arrivals, pick);
        request.request_key = digest("h", n);
        request.chat = named(&format!("held-{n}"));
        let (chat, from, number) =
            again.unwrap_or_else(|| (request.chat.clone(), named("west"), 1 + u32::from(pick % 3)));
        request.chat = chat;
        let from = if aim == Aim::Wild { named("nowhere") } else { from };
        Command::Hold(Box::new(Hold { from, number, age_ms: u64::from(pick % 50) * 100, request }))
    }

    fn visitor(&self, does: VisitorDoes, pick: u16, aim: Aim) -> Command {
        let all: Vec<&ChatId> = match aim {
            Aim::True | Aim::Stale => self.state().chats.keys().collect(),
            Aim::Wild => Vec::new(),
        };
        let chat = pick_from(&all, pick).map_or_else(|| named("nobody"), |c| (*c).clone());
        let token = match (aim, self.state().chats.get(&chat)) {
            (Aim::True, Some(chat)) => chat.token,
            (Aim::True | Aim::Stale | Aim::Wild, _) => token(u64::MAX),
        };
        match does {
            VisitorDoes::Triage(rank) => {
                let reason = if pick.is_multiple_of(2) { Reason::Visitor } else { Reason::Classifier };
                let urgency = Urgency::from_rank(usize::from(rank)).unwrap_or_default();
                Command::Triage { chat, token, urgency, reason }
            }
            VisitorDoes::Beat => Command::Beat { chat, token },
            VisitorDoes::Leave(fallback) => Command::Leave { chat, token, fallback },
            VisitorDoes::Resume => Command::Resume { chat, token },
            VisitorDoes::Erase => Command::Erase { chat, token },
        }
    }

    fn hand(&self, does: HandDoes, pick: u16, aim: Aim) -> Command {
        let state = self.state();
        let wanted = match does {
            HandDoes::Accept | HandDoes::Decline => HoldingKind::Offer,
            HandDoes::AcceptAgain
            | HandDoes::Engage
            | HandDoes::CallSupervisor
            | HandDoes::Close
            | HandDoes::Transfer => HoldingKind::Active,
            HandDoes::FinishWrapUp => HoldingKind::WrapUp,
        };
        // A wild one takes any chat and any responder.
        let held: Vec<(&Responder, &ChatId)> = state
            .responders
            .values()
            .flat_map(|r| r.holdings.iter().map(move |h| (r, h)))
            .filter(|(_, h)| h.kind == wanted && aim != Aim::Wild)
            .map(|(r, h)| (r, &h.chat))
            .collect();
        let any: Vec<(&Responder, &ChatId)> =
            state.responders.values().flat_map(|r| state.chats.keys().map(move |c| (r, c))).collect();
        if held.is_empty() && aim == Aim::True && !pick.is_multiple_of(4) {
            return self.visitor(VisitorDoes::Beat, pick, Aim::True);
        }
        let chosen = pick_from(&held, pick).or_else(|| pick_from(&any, pick));
        let Some((holder, chat)) = chosen.map(|(r, c)| (*r, (*c).clone())) else {
            return Command::Tick { by: digest("t", 0), limit: 100 };
        };
        let session =
            if aim == Aim::Stale && pick.is_multiple_of(2) { holder.session - 1 } else { holder.session };
        let stale = u32::from(aim == Aim::Stale);
        let known = state.chats.get(&chat);
        let number = known.map_or(1, |c| c.offer_to(&holder.id).map_or(c.offers_made, |o| o.number)) + stale;
        let accepted = known.and_then(|c| c.owner.as_ref()).map_or(1, |o| o.offer) + stale;
        let fence = known.and_then(|c| c.owner.as_ref()).map_or(Fence { epoch: 1, minted_by: 1 }, |o| o.fence);
        let fence = Fence { epoch: fence.epoch - u64::from(stale), ..fence };
        let responder = holder.id.clone();
        match does {
            HandDoes::Accept => {
                let offer = OfferId { chat, number };
                Command::Accept { responder, session, offer, reply_handoff: vec![1, 0, 37, 200] }
            }
            HandDoes::AcceptAgain => {
                let offer = OfferId { chat, number: accepted };
                Command::Accept { responder, session, offer, reply_handoff: Vec::new() }
            }
            HandDoes::Decline => {
                let offer = OfferId { chat, number };
                Command::Decline { responder, session, offer, reason: Reason::NotSuited }
            }
            HandDoes::Engage => Command::Engage { responder, session, chat, fence },
            HandDoes::CallSupervisor => Command::CallSupervisor { responder, session, chat, fence },
            HandDoes::Close => Command::Close { responder, session, chat, fence },
            HandDoes::Transfer => Command::Transfer { responder, session, chat, fence },
            HandDoes::FinishWrapUp => Command::FinishWrapUp { responder, session, chat },
        }
    }

    fn presence(&self, does: PresenceDoes, who: u8, aim: Aim) -> Command {
        let responder = self.whose(does, who);
        let known = self.state().responders.get(&responder);
        let session = known.map_or(1, |r| r.session) - u64::from(aim != Aim::True);
        match does {
            PresenceDoes::SignIn(caps, capacity, ready) => self.sign_in(responder, caps, capacity, ready, aim),
            // Somebody who is not here has nothing else to say.
            _ if aim == Aim::True && known.is_none_or(|r| r.status == Status::Offline || !r.linked) => {
                self.sign_in(responder, who, 2, true, aim)
            }
            PresenceDoes::Heartbeat => Command::Heartbeat { responder, session },
            PresenceDoes::ExtendCoolDown(n) => {
                Command::ExtendCoolDown { responder, session, for_ms: u64::from(n) * 100 }
            }
            PresenceDoes::SetStatus(n) => {
                let status = Status::ALL.get(usize::from(n)).copied().unwrap_or(Status::Ready);
                Command::SetStatus { responder, session, status }
            }
            PresenceDoes::Unlink => Command::Unlink { responder, session },
            PresenceDoes::SignOut => Command::SignOut { responder, session },
        }
    }

    /// Somebody; more often somebody for whom it makes a difference: leaving takes chats in hand, and once leaving
    /// one is soon gone.
    fn whose(&self, does: PresenceDoes, who: u8) -> ResponderId {
        let all = &self.state().responders;
        let leaving = all.values().find(|r| r.status == Status::Leaving);
        let unwilling = all.values().find(|r| matches!(r.status, Status::OnBreak | Status::NotResponding));
        let busy = all.values().find(|r| r.linked && r.holdings.iter().any(|h| h.kind != HoldingKind::Offer));
        let chosen = match (does, who % 3) {
            (PresenceDoes::SetStatus(4), _) => busy,
            (_, 0) => leaving,
            (_, 1) => unwilling,
            (_, _) => None,
        };
        chosen.map_or_else(|| named(&format!("vol-{who}")), |r| r.id.clone())
    }

    fn sign_in(&self, responder: ResponderId, caps: u8, capacity: u8, ready: bool, aim: Aim) -> Command {
        let policy = self.state().policy.clone().unwrap_or_else(|| policy(0));
        let (capabilities, scarce) = policy.capabilities("can", &tags(caps)).unwrap_or_default();
        let revision = policy.revision + u64::from(aim == Aim::Wild);
        Command::SignIn {
            responder,
            capabilities,
            scarce,
            opt_out: if caps.is_multiple_of(3) { topic(&policy) } else { Mask::default() },
            shift_ms: match caps % 4 {
                0 => 0,
                1 => 2_500,
                2 => 900,
                _ => 100_000,
            },
            capacity: u32::from(capacity),
            ready,
            revision,
        }
    }
}

/// Why a request for a chat was not carried out as it came.
fn turned_away(command: &Command, reply: &Result<Reply, crate::Refusal>) -> Option<&'static str> {
    match (command, reply) {
        (Command::Request(_), Err(refusal)) => Some(refusal.word()),
        (Command::Request(asked), Ok(Reply::Chat { urgency, replay: false, .. })) if *urgency < asked.urgency => {
            Some("capped")
        }
        _ => None,
    }
}

fn accepted(reply: &Result<Reply, crate::Refusal>) -> Option<&ChatId> {
    if let Ok(Reply::Accepted { chat, .. }) = reply { Some(chat) } else { None }
}

fn pick_from<T>(items: &[T], pick: u16) -> Option<&T> {
    // The newest are the likeliest to matter, so the pick counts from the end.
    let n = items.len();
    if n == 0 { None } else { items.get(n - 1 - usize::from(pick) % n) }
}
