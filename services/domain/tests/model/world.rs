//! Two visitors and two responders with room for one chat each, a crash that swallows an answer, and a failover to a
//! node that lacks the last command, as an asynchronous replica would.
//!
//! An answer reaches people only once the store has confirmed that it will not be forgotten (WAIT before the word is
//! given). So the command that a failover loses is always one whose answer nobody has; its notices are out already,
//! and people act on them.

use crate::people::{
    BEGIN_MS, NODES, chat, empty_line, request, responder, sign_in, token, which_chat, which_responder,
};
use holdfast_domain::command::{Applied, Command, Refusal, Reply};
use holdfast_domain::invariants::broken;
use holdfast_domain::line::{EPOCHS_PER_TERM, Term, Timers};
use holdfast_domain::{Chat, ChatState, Event, EventKind, Fence, Line, OfferId, Reason, Responder};
use stateright::{Checker, Model, Property};
use std::hash::{Hash, Hasher};
use std::time::Instant;

/// What somebody does. Numbers say which chat or which responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Request(usize),
    Leave(usize),
    SignIn(usize),
    Unlink(usize),
    SignOut(usize),
    Heartbeat(usize),
    Accept(usize),
    Decline(usize),
    Close(usize),
    Transfer(usize),
    /// A word about a chat that was theirs before, by its old fence: close it.
    LateClose(usize),
    /// The same: hand it on.
    LateTransfer(usize),
    /// A word from the device before the last sign-in.
    OldDevice(usize),
    /// A second goes by, and the line is ticked.
    Pass,
}

impl Deed {
    /// Whoever hears nothing asks again. Of the rest nobody waits for an answer.
    fn is_asked_again(self) -> bool {
        use Deed::{Accept, Close, Decline, Request, SignIn, Transfer};
        matches!(self, Request(_) | SignIn(_) | Accept(_) | Decline(_) | Close(_) | Transfer(_))
    }
}

/// What becomes of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is carried out, kept, and answered.
    Answered,
    /// It is carried out and kept; whoever would have passed on the answer has crashed.
    Unanswered,
    /// It is carried out, and its notices are out, on a node that fails before another one has it.
    Lost,
}

/// How often things may happen in one history. The world is finite because these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    passes: u8,
    sign_ins: u8,
    unlinks: u8,
    sign_outs: u8,
    heartbeats: u8,
    declines: u8,
    transfers: u8,
    leaves: u8,
    crashes: u8,
    failovers: u8,
}

/// One crash and one failover, and nothing else that anybody could do without.
const QUIET: Budget = Budget {
    passes: 0,
    sign_ins: 0,
    unlinks: 0,
    sign_outs: 0,
    heartbeats: 0,
    declines: 0,
    transfers: 0,
    leaves: 0,
    crashes: 1,
    failovers: 1,
};

/// Chats go from hand to hand.
const HANDED_ON: Budget = Budget { passes: 1, declines: 1, transfers: 1, ..QUIET };

/// People come and go.
const COMING_AND_GOING: Budget = Budget { passes: 2, unlinks: 1, sign_ins: 1, crashes: 0, ..QUIET };

/// All of it at once, and more.
const DEEP: Budget = Budget {
    passes: 3,
    sign_ins: 1,
    unlinks: 1,
    sign_outs: 1,
    heartbeats: 1,
    declines: 1,
    transfers: 1,
    leaves: 1,
    ..QUIET
};

/// What a responder knows. Everything in it was told to them; some of it may not hold any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hand {
    sessions: [u64; 2],
    offer: Option<(usize, u32)>,
    holds: Option<(usize, Fence)>,
    held: Option<(usize, Fence)>,
}

/// The line, the people, and what the rest of the world was told.
#[derive(Debug, Clone)]
struct World {
    line: Line,
    wall_ms: u64,
    hands: [Hand; 2],
    /// Whose request was acknowledged.
    acknowledged: [bool; 2],
    /// To whom each chat was handed over, until the line let go of it.
    handed_to: [Option<(usize, Fence)>; 2],
    /// The highest epoch that was minted and kept.
    highest: [u64; 2],
    /// The last fence that was minted and lost with its node.
    lost: Option<(usize, Fence)>,
    left: Budget,
    /// What went wrong, by the promise that it breaks.
    wrong: Option<Wrong>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wrong {
    TwoOwners,
    FenceDidNotRise,
    LateWordTookEffect,
}

/// What makes two worlds the same: all that decides what can happen next, and all that is checked. Versions and
/// counts of repeats only tell readers that something changed.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    chats: Vec<Chat>,
    responders: Vec<Responder>,
    timers: Timers,
    term: Term,
    now_ms: u64,
    hands: [Hand; 2],
    acknowledged: [bool; 2],
    handed_to: [Option<(usize, Fence)>; 2],
    highest: [u64; 2],
    lost: Option<(usize, Fence)>,
    left: Budget,
    wrong: Option<Wrong>,
}

impl World {
    fn key(&self) -> Key {
        let line = self.line.snapshot();
        Key {
            chats: line.chats.values().map(|c| Chat { version: 0, replays: 0, ..c.clone() }).collect(),
            responders: line.responders.values().map(|r| Responder { version: 0, ..r.clone() }).collect(),
            timers: line.timers.clone(),
            term: line.term,
            now_ms: line.clock.now_ms,
            hands: self.hands.clone(),
            acknowledged: self.acknowledged,
            handed_to: self.handed_to,
            highest: self.highest,
            lost: self.lost,
            left: self.left,
            wrong: self.wrong,
        }
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl World {
    /// Both responders have signed in, and nobody waits.
    fn new(left: Budget) -> Self {
        let mut line = empty_line();
        let hands = [0, 1].map(|who| {
            let signed_in = line.apply(BEGIN_MS, &sign_in(who)).reply;
            Hand { sessions: [0, session_of(&signed_in)], offer: None, holds: None, held: None }
        });
        let (acknowledged, handed_to, highest) = ([false; 2], [None; 2], [0; 2]);
        Self { line, wall_ms: BEGIN_MS, hands, acknowledged, handed_to, highest, lost: None, left, wrong: None }
    }

    /// What somebody would say; `None` when they could not mean that now.
    fn command(&self, deed: Deed) -> Option<Command> {
        let by = |who: usize| (responder(who), self.hands[who].sessions[1]);
        let offered =
            |who: usize| self.hands[who].offer.map(|(which, number)| OfferId { chat: chat(which), number });
        match deed {
            Deed::Request(which) => (!self.acknowledged[which]).then(|| request(which)),
            Deed::Leave(which) => Some(Command::Leave { chat: chat(which), token: token(which), fallback: false }),
            Deed::SignIn(who) => Some(sign_in(who)),
            Deed::Unlink(who) => {
                let (responder, session) = by(who);
                Some(Command::Unlink { responder, session })
            }
            Deed::SignOut(who) => {
                let (responder, session) = by(who);
                Some(Command::SignOut { responder, session })
            }
            Deed::Heartbeat(who) => {
                let (responder, session) = by(who);
                Some(Command::Heartbeat { responder, session })
            }
            Deed::Accept(who) => {
                let ((responder, session), offer) = (by(who), offered(who)?);
                Some(Command::Accept { responder, session, offer, reply_handoff: Vec::new() })
            }
            Deed::Decline(who) => {
                let ((responder, session), offer) = (by(who), offered(who)?);
                Some(Command::Decline { responder, session, offer, reason: Reason::Busy })
            }
            Deed::Close(who) => self.close(who, self.hands[who].holds, 1),
            Deed::Transfer(who) => self.transfer(who, self.hands[who].holds),
            Deed::LateClose(who) => self.close(who, self.hands[who].held, 1),
            Deed::LateTransfer(who) => self.transfer(who, self.hands[who].held),
            Deed::OldDevice(who) => {
                (self.hands[who].sessions[0] > 0).then(|| self.close(who, self.hands[who].holds, 0))?
            }
            Deed::Pass => Some(Command::Tick { by: crate::people::named("0a"), limit: 100 }),
        }
    }

    /// What is left once it has happened; `None` when it may not happen any more.
    fn left_after(&self, deed: Deed, fate: Fate) -> Option<Budget> {
        let mut left = self.left;
        match deed {
            Deed::Leave(_) => spend(&mut left.leaves),
            Deed::SignIn(_) => spend(&mut left.sign_ins),
            Deed::Unlink(_) => spend(&mut left.unlinks),
            Deed::SignOut(_) => spend(&mut left.sign_outs),
            Deed::Heartbeat(_) => spend(&mut left.heartbeats),
            Deed::Decline(_) => spend(&mut left.declines),
            Deed::Transfer(_) => spend(&mut left.transfers),
            Deed::Pass => spend(&mut left.passes),
            Deed::Request(_)
            | Deed::Accept(_)
            | Deed::Close(_)
            | Deed::LateClose(_)
            | Deed::LateTransfer(_)
            | Deed::OldDevice(_) => Some(()),
        }?;
        match fate {
            Fate::Answered => Some(()),
            Fate::Unanswered if deed.is_asked_again() => spend(&mut left.crashes),
            Fate::Unanswered => None,
            Fate::Lost => spend(&mut left.failovers),
        }?;
        Some(left)
    }

    fn close(&self, who: usize, what: Option<(usize, Fence)>, device: usize) -> Option<Command> {
        let (which, fence) = what?;
        let session = self.hands[who].sessions[device];
        Some(Command::Close { responder: responder(who), session, chat: chat(which), fence })
    }

    fn transfer(&self, who: usize, what: Option<(usize, Fence)>) -> Option<Command> {
        let (which, fence) = what?;
        let session = self.hands[who].sessions[1];
        Some(Command::Transfer { responder: responder(who), session, chat: chat(which), fence })
    }

    fn after(&self, deed: Deed, fate: Fate) -> Option<Self> {
        let (left, command) = (self.left_after(deed, fate)?, self.command(deed)?);
        let mut after = Self { left, ..self.clone() };
        after.wall_ms += if deed == Deed::Pass { 1_000 } else { 0 };
        let applied = after.line.apply(after.wall_ms, &command);
        after.look_at_fences(&applied.events, fate);
        after.take_notices(&applied.events);
        if matches!(deed, Deed::LateClose(_) | Deed::LateTransfer(_) | Deed::OldDevice(_)) && changed(&applied) {
            after.wrong = Some(Wrong::LateWordTookEffect);
        }
        match fate {
            Fate::Answered => {
                after.let_go(&applied.events);
                after.answer(deed, &applied);
            }
            Fate::Unanswered => after.let_go(&applied.events),
            Fate::Lost => {
                after.line = self.line.clone();
                after.line.move_to_node(NODES[1]);
            }
        }
        Some(after)
    }

    /// Epochs rise, and no fence is equal to one that was lost.
    fn look_at_fences(&mut self, events: &[Event], fate: Fate) {
        for event in events.iter().filter(|e| e.kind == EventKind::Accepted) {
            let (Some(id), Some(fence)) = (&event.chat, event.fence) else { continue };
            let which = which_chat(id);
            if fence.epoch <= self.highest[which] || self.lost == Some((which, fence)) {
                self.wrong = Some(Wrong::FenceDidNotRise);
            }
            match fate {
                Fate::Answered | Fate::Unanswered => self.highest[which] = fence.epoch,
                Fate::Lost => self.lost = Some((which, fence)),
            }
        }
    }

    /// Offers are told as they are made, before anybody knows whether they will be remembered.
    fn take_notices(&mut self, events: &[Event]) {
        for event in events.iter().filter(|e| e.kind == EventKind::Offered) {
            if let (Some(id), Some(to), Some(number)) = (&event.chat, &event.responder, event.offer) {
                self.hands[which_responder(to)].offer = Some((which_chat(id), number));
            }
        }
    }

    /// The line itself took chats out of somebody's hands, and will not forget that it did.
    fn let_go(&mut self, events: &[Event]) {
        for event in events {
            if let (EventKind::Returned | EventKind::Ended, Some(id)) = (event.kind, &event.chat) {
                self.handed_to[which_chat(id)] = None;
            }
        }
    }

    fn answer(&mut self, deed: Deed, applied: &Applied) {
        match (deed, &applied.reply) {
            (Deed::Request(which), Ok(_)) => self.acknowledged[which] = true,
            (Deed::SignIn(who), reply @ Ok(_)) => self.come_back(who, session_of(reply)),
            (Deed::Accept(who), Ok(Reply::Accepted { chat, fence, .. })) => {
                self.hand_over(which_chat(chat), who, *fence);
            }
            (Deed::Accept(who), Err(Refusal::OfferGone)) | (Deed::Decline(who), _) => self.hands[who].offer = None,
            (Deed::Close(who) | Deed::Transfer(who), Ok(_) | Err(Refusal::StaleFence)) => self.put_down(who),
            _ => {}
        }
    }

    fn hand_over(&mut self, which: usize, to: usize, fence: Fence) {
        if self.handed_to[which].is_some_and(|(_, before)| before != fence) {
            self.wrong = Some(Wrong::TwoOwners);
        }
        self.handed_to[which] = Some((to, fence));
        self.hands[to].offer = None;
        self.take(to, Some((which, fence)));
    }

    fn put_down(&mut self, who: usize) {
        self.take(who, None);
    }

    fn take(&mut self, who: usize, what: Option<(usize, Fence)>) {
        let hand = &mut self.hands[who];
        if hand.holds != what {
            hand.held = hand.holds.or(hand.held);
            hand.holds = what;
        }
    }

    /// Whoever signs in is told what is in their hands.
    fn come_back(&mut self, who: usize, session: u64) {
        let hand = &mut self.hands[who];
        hand.sessions = [hand.sessions[1], session];
        let theirs = |c: &&Chat| {
            c.state == ChatState::Active && c.owner.as_ref().is_some_and(|o| o.responder == responder(who))
        };
        let chats = &self.line.snapshot().chats;
        let holds = chats.values().find(theirs).and_then(|c| Some((which_chat(&c.id), c.owner.as_ref()?.fence)));
        if let Some((which, fence)) = holds {
            self.hand_over(which, who, fence);
        } else {
            self.put_down(who);
        }
    }
}

fn spend(budget: &mut u8) -> Option<()> {
    *budget = budget.checked_sub(1)?;
    Some(())
}

fn session_of(reply: &Result<Reply, Refusal>) -> u64 {
    match reply {
        Ok(Reply::Responder { session, .. }) => *session,
        _ => 0,
    }
}

/// Whether anything but the clock moved. Closing what was closed already is answered, and changes nothing.
fn changed(applied: &Applied) -> bool {
    !applied.events.is_empty()
}

struct Worlds {
    left: Budget,
}

impl Model for Worlds {
    type State = World;
    type Action = (Deed, Fate);

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.left)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<(Deed, Fate)>) {
        use Deed::{
            Accept, Close, Decline, Heartbeat, LateClose, LateTransfer, Leave, OldDevice, Request, SignIn,
            SignOut, Transfer, Unlink,
        };
        let fates = [Fate::Answered, Fate::Unanswered, Fate::Lost];
        let possible = [true, world.left.crashes > 0, world.left.failovers > 0];
        let fates: Vec<Fate> = fates.into_iter().zip(possible).filter_map(|(f, may)| may.then_some(f)).collect();
        let about: [fn(usize) -> Deed; 13] = [
            Request,
            Leave,
            SignIn,
            Unlink,
            SignOut,
            Heartbeat,
            Accept,
            Decline,
            Close,
            Transfer,
            LateClose,
            LateTransfer,
            OldDevice,
        ];
        let deeds = about.iter().flat_map(|deed| [deed(0), deed(1)]).chain([Deed::Pass]);
        actions.extend(deeds.flat_map(|deed| fates.iter().map(move |fate| (deed, *fate))));
    }

    fn next_state(&self, world: &World, (deed, fate): (Deed, Fate)) -> Option<World> {
        world.after(deed, fate)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the invariants of the line hold", |_, w: &World| {
                broken(w.line.snapshot()).is_empty()
            }),
            Property::always("a chat is never handed to two", |_, w: &World| w.wrong != Some(Wrong::TwoOwners)),
            Property::always("fences rise and are never equal", |_, w: &World| {
                w.wrong != Some(Wrong::FenceDidNotRise)
            }),
            Property::always("a late word changes nothing", |_, w: &World| {
                w.wrong != Some(Wrong::LateWordTookEffect)
            }),
            Property::always("no acknowledged chat is lost", |_, w: &World| nobody_is_lost(w)),
            Property::always("whoever was handed a chat has it until the line lets go", |_, w: &World| {
                hand_overs_hold(w)
            }),
            Property::sometimes("a chat is handed over anew after a failover", |_, w: &World| {
                w.left.failovers == 0 && w.hands.iter().all(|h| h.holds.or(h.held).is_some_and(|(c, _)| c == 0))
            }),
            Property::sometimes("two responders hold fences of two terms", |_, w: &World| {
                let [Some((0, a)), Some((0, b))] = [w.hands[0].holds, w.hands[1].holds] else { return false };
                a.epoch / EPOCHS_PER_TERM != b.epoch / EPOCHS_PER_TERM
            }),
            Property::sometimes("both chats are in hands", |_, w: &World| w.handed_to.iter().all(Option::is_some)),
            Property::sometimes("an offer was lost, and its responder answers it", |_, w: &World| {
                w.left.failovers == 0
                    && w.hands.iter().any(|h| h.offer.is_some_and(|(c, _)| c == 1 && !w.acknowledged[1]))
            }),
        ]
    }
}

fn nobody_is_lost(world: &World) -> bool {
    let known = &world.line.snapshot().chats;
    (0..2).all(|which| !world.acknowledged[which] || known.contains_key(&chat(which)))
}

fn hand_overs_hold(world: &World) -> bool {
    let known = &world.line.snapshot().chats;
    world.handed_to.iter().enumerate().all(|(which, handed)| {
        handed.is_none_or(|(to, fence)| {
            let owner = known.get(&chat(which)).filter(|c| c.state == ChatState::Active);
            let owner = owner.and_then(|c| c.owner.as_ref());
            owner.is_some_and(|o| o.responder == responder(to) && o.fence == fence)
        })
    })
}

fn look_at_all(left: Budget) {
    let began = Instant::now();
    let checker = Worlds { left }.checker().threads(2).spawn_dfs().join();
    println!(
        "{} different worlds among {} reached, up to {} deeds deep, in {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

#[test]
fn however_chats_go_from_hand_to_hand_nobody_is_lost_and_nobody_has_two_owners() {
    look_at_all(HANDED_ON);
}

#[test]
fn however_people_come_and_go_nobody_is_lost_and_nobody_has_two_owners() {
    look_at_all(COMING_AND_GOING);
}

#[test]
#[ignore = "takes many minutes"]
fn in_every_order_of_a_larger_world_nobody_is_lost_and_nobody_has_two_owners() {
    look_at_all(DEEP);
}
