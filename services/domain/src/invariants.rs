//! What must hold after every command, by id. The ids are those of the catalogue in
//! services/ARCHITECTURE.md; the same predicates run after each step of the property tests, in the differential
//! test, and over snapshots of a live store.

use crate::lifecycle::ChatState;
use crate::limits::SEARCH_DEPTH;
use crate::line::{Snapshot, Timer, fits, standing};
use crate::priority::is_imminent;
use crate::responder::{HoldingKind, Status};
use std::collections::BTreeSet;

/// One invariant.
pub struct Invariant {
    /// Its id in the catalogue.
    pub id: &'static str,
    /// What it promises.
    pub promise: &'static str,
    /// Says what breaks it, if anything does.
    pub check: fn(&Snapshot) -> Result<(), String>,
}

/// All of them.
pub const ALL: &[Invariant] = &[
    Invariant {
        id: "INV-01",
        promise: "a chat has at most one owner, and one exactly while it is ACTIVE",
        check: one_owner,
    },
    Invariant {
        id: "INV-02",
        promise: "no responder's load in use is above their capacity, and all of it is really in their hands",
        check: load_within_capacity,
    },
    Invariant {
        id: "INV-03",
        promise: "accepted = waiting + offered + active + ended, and the ledger says what the chats say",
        check: ledger_balances,
    },
    Invariant {
        id: "INV-05",
        promise: "a request made once is one chat, and every chat has its request",
        check: one_chat_per_request,
    },
    Invariant {
        id: "INV-06",
        promise: "no chat waits beside a free responder who may serve it",
        check: nobody_waits_needlessly,
    },
    Invariant {
        id: "INV-07",
        promise: "a chat stands where its urgency, arrival and sequence put it, and its arrival never changes",
        check: order_is_right,
    },
    Invariant {
        id: "INV-08",
        promise: "a chat that is proposed to a partner, held for one, or accepted in silence has a moment at which it moves on",
        check: nothing_hangs,
    },
    Invariant {
        id: "INV-09",
        promise: "every open offer has a deadline and a responder who holds it",
        check: offers_end,
    },
    Invariant {
        id: "INV-10",
        promise: "only responders who are present, ready and rested stand among the free",
        check: only_present_are_free,
    },
    Invariant {
        id: "INV-11",
        promise: "whoever owns a chat is present, or within the lease or the grace",
        check: owners_are_present,
    },
    Invariant {
        id: "INV-13",
        promise: "a visitor who is away keeps the place, is not offered, and is given up in the end",
        check: away_is_not_offered,
    },
    Invariant {
        id: "INV-04",
        promise: "a chat that comes back from a ticket is offered to nobody while it may be in somebody's hands",
        check: recovering_is_not_offered,
    },
    Invariant {
        id: "INV-19",
        promise: "indexes and timers name only what lives, and everything that lives has a timer or an owner",
        check: nothing_is_orphaned,
    },
];

/// Everything that is broken, as "INV-xx: what".
#[must_use]
pub fn broken(line: &Snapshot) -> Vec<String> {
    ALL.iter().filter_map(|i| (i.check)(line).err().map(|what| format!("{}: {what}", i.id))).collect()
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn one_owner(line: &Snapshot) -> Result<(), String> {
    for chat in line.chats.values() {
        match chat.state {
            ChatState::Held | ChatState::Waiting | ChatState::Offered => {
                ensure(chat.owner.is_none(), || format!("{} waits and has an owner", chat.id))?;
            }
            ChatState::Active => ensure(chat.owner.is_some(), || format!("{} is active without owner", chat.id))?,
            ChatState::Ended => {}
        }
        let holders = |kind| {
            line.responders.values().filter(move |r| r.holding(&chat.id).is_some_and(|h| h.kind == kind)).count()
        };
        let active = usize::from(chat.state == ChatState::Active);
        ensure(holders(HoldingKind::Active) == active, || format!("{} is in the wrong number of hands", chat.id))?;
        if let (ChatState::Active, Some(owner)) = (chat.state, &chat.owner) {
            let held = line.responders.get(&owner.responder).and_then(|r| r.holding(&chat.id));
            ensure(held.is_some_and(|h| h.kind == HoldingKind::Active), || {
                format!("{} is not in its owner's hands", chat.id)
            })?;
            let n = owner.fence.epoch % crate::line::EPOCHS_PER_TERM;
            ensure(n == u64::from(chat.assignments_made), || format!("{}: the epoch is not the newest", chat.id))?;
        }
    }
    Ok(())
}

fn load_within_capacity(line: &Snapshot) -> Result<(), String> {
    for responder in line.responders.values() {
        // Signing in with less capacity than is in hand is allowed; it only stops further offers.
        // What a supervisor put there past the capacity is not counted against it.
        let offered = responder.holdings.iter().any(|h| h.kind == HoldingKind::Offer && !h.beyond);
        let load: u32 = responder.holdings.iter().filter(|h| !h.beyond).map(|h| h.weight).sum();
        ensure(!offered || load <= responder.capacity, || {
            format!("{} carries {load} of {}", responder.id, responder.capacity)
        })?;
        for holding in &responder.holdings {
            let chat = line.chats.get(&holding.chat);
            let real = match holding.kind {
                HoldingKind::Offer => chat.is_some_and(|c| c.offer_to(&responder.id).is_some()),
                HoldingKind::Active => chat.is_some_and(|c| {
                    c.state == ChatState::Active && c.owner.as_ref().is_some_and(|o| o.responder == responder.id)
                }),
                HoldingKind::WrapUp => chat.is_none_or(|c| c.state == ChatState::Ended),
            };
            ensure(real, || format!("{} holds {} for no reason", responder.id, holding.chat))?;
            let twice = responder.holdings.iter().filter(|h| h.chat == holding.chat).count() > 1;
            ensure(!twice, || format!("{} holds {} twice", responder.id, holding.chat))?;
            let calls = holding.called_ms > 0 && holding.kind != HoldingKind::Active;
            ensure(!calls, || {
                format!("{} calls a supervisor to {}, which is not theirs", responder.id, holding.chat)
            })?;
        }
    }
    Ok(())
}

fn ledger_balances(line: &Snapshot) -> Result<(), String> {
    let ledger = &line.ledger;
    ensure(ledger.difference() == 0, || format!("the ledger differs by {}", ledger.difference()))?;
    let count = |state| line.chats.values().filter(|c| c.state == state).count() as u64;
    for (word, told, counted) in [
        ("waiting", ledger.waiting, count(ChatState::Waiting)),
        ("offered", ledger.offered, count(ChatState::Offered)),
        ("active", ledger.active, count(ChatState::Active)),
    ] {
        ensure(told == counted, || format!("the ledger says {told} {word}, there are {counted}"))?;
    }
    for chat in line.chats.values() {
        ensure((chat.state == ChatState::Ended) == chat.ended.is_some(), || {
            format!("{} has an outcome if and only if it has ended", chat.id)
        })?;
    }
    Ok(())
}

fn one_chat_per_request(line: &Snapshot) -> Result<(), String> {
    ensure(line.requests.len() == line.chats.len(), || "requests and chats differ in number".to_owned())?;
    for (key, chat) in &line.requests {
        let known = line.chats.get(chat).is_some_and(|c| c.request_key == *key);
        ensure(known, || format!("a request names {chat}, which does not name it"))?;
    }
    Ok(())
}

fn nobody_waits_needlessly(line: &Snapshot) -> Result<(), String> {
    let Some(policy) = &line.policy else {
        return Ok(());
    };
    if line.on_shift < policy.numbers.min_on_shift {
        return Ok(());
    }
    let reserved = usize::try_from(policy.numbers.reserve).unwrap_or(usize::MAX);
    let held_back = reserved > 0 && line.classes.len() <= reserved;
    for chat in line.chats.values() {
        let Some(standing) = &chat.standing else {
            continue;
        };
        if held_back && !is_imminent(standing.score) {
            continue;
        }
        let member = chat.member();
        let deep = line.lanes.members(&standing.lane).take(SEARCH_DEPTH).all(|(_, m)| m != member);
        for responder in line.responders.values().filter(|r| r.idle.is_some()) {
            let asked = chat.asked.iter().any(|a| a.responder == responder.id);
            let barred = asked || chat.excluded.contains(&responder.id) || chat.offer_to(&responder.id).is_some();
            let may = !barred && fits(&standing.lane, responder, &policy.numbers, &line.reroutes);
            ensure(!may || deep, || format!("{} waits although {} is free", chat.id, responder.id))?;
        }
    }
    Ok(())
}

fn nothing_hangs(line: &Snapshot) -> Result<(), String> {
    // A policy that begins to ask for first replies asks those who accept from then on.
    let silence = line.revisions().all(|p| p.numbers.first_reply_ms > 0);
    for chat in line.chats.values() {
        let timer = match chat.state {
            ChatState::Held => Timer::Hold(chat.id.clone()),
            ChatState::Waiting if chat.recovering && !chat.away => Timer::Recover,
            ChatState::Waiting | ChatState::Offered if chat.partner.is_some() => Timer::Proposal(chat.id.clone()),
            ChatState::Active if silence && chat.owner.as_ref().is_some_and(|o| o.engaged_ms.is_none()) => {
                Timer::Reply(chat.id.clone())
            }
            ChatState::Waiting | ChatState::Offered | ChatState::Active | ChatState::Ended => continue,
        };
        ensure(line.timers.at(&timer).is_some(), || format!("{} hangs, {} is not armed", chat.id, timer.name()))?;
        ensure((chat.state == ChatState::Held) <= chat.came_from.is_some(), || {
            format!("{} is held for nobody", chat.id)
        })?;
    }
    Ok(())
}

fn order_is_right(line: &Snapshot) -> Result<(), String> {
    let Some(policy) = &line.policy else {
        return Ok(());
    };
    for chat in line.chats.values() {
        let expected = standing(chat, &policy.numbers);
        ensure(chat.standing == expected, || format!("{} stands in the wrong place", chat.id))?;
        if let Some(standing) = &chat.standing {
            let member = chat.member();
            let found = line.lanes.members(&standing.lane).any(|(s, m)| s == standing.score && m == member);
            ensure(found, || format!("{} is not where its record says", chat.id))?;
        }
    }
    Ok(())
}

fn offers_end(line: &Snapshot) -> Result<(), String> {
    for chat in line.chats.values() {
        ensure((chat.state == ChatState::Offered) != chat.offers.is_empty(), || {
            format!("{} is OFFERED if and only if it has open offers", chat.id)
        })?;
        for offer in &chat.offers {
            let timer = Timer::Offer(chat.id.clone(), offer.number);
            ensure(line.timers.at(&timer).is_some(), || format!("an offer of {} never ends", chat.id))?;
            let held = line.responders.get(&offer.responder).and_then(|r| r.holding(&chat.id));
            ensure(held.is_some_and(|h| h.kind == HoldingKind::Offer), || {
                format!("{} is offered to {}, who does not hold it", chat.id, offer.responder)
            })?;
        }
    }
    Ok(())
}

fn only_present_are_free(line: &Snapshot) -> Result<(), String> {
    for responder in line.responders.values() {
        let free = responder.available() && responder.free() > 0;
        ensure(free == responder.idle.is_some(), || format!("{} is wrongly listed or unlisted", responder.id))?;
        let offered = responder.holdings.iter().any(|h| h.kind == HoldingKind::Offer);
        let may_be_offered = responder.linked && responder.status != Status::Offline;
        ensure(!offered || may_be_offered, || format!("{} is offered a chat and is not here", responder.id))?;
    }
    Ok(())
}

fn owners_are_present(line: &Snapshot) -> Result<(), String> {
    for responder in line.responders.values() {
        let online = responder.status != Status::Offline;
        let leased = line.timers.at(&Timer::Presence(responder.id.clone())).is_some();
        ensure(online == leased, || format!("{} has a lease if and only if online", responder.id))?;
        ensure(online || responder.holdings.is_empty(), || format!("{} is gone and holds chats", responder.id))?;
    }
    Ok(())
}

/// What comes back from a ticket may be in somebody's hands.
fn recovering_is_not_offered(line: &Snapshot) -> Result<(), String> {
    for chat in line.chats.values().filter(|c| c.recovering) {
        let untouched = chat.state == ChatState::Waiting && chat.owner.is_none() && chat.partner.is_none();
        ensure(untouched, || format!("{} may be in somebody's hands and is {}", chat.id, chat.state.word()))?;
    }
    Ok(())
}

fn away_is_not_offered(line: &Snapshot) -> Result<(), String> {
    for chat in line.chats.values() {
        let in_line = matches!(chat.state, ChatState::Waiting | ChatState::Offered);
        if chat.away {
            ensure(chat.state == ChatState::Waiting && chat.standing.is_none(), || {
                format!("{} is away and still offered", chat.id)
            })?;
            let given_up = line.timers.at(&Timer::Abandon(chat.id.clone())).is_some();
            ensure(given_up, || format!("{} is away for ever", chat.id))?;
        } else if in_line && !chat.attested {
            let watched = line.timers.at(&Timer::Away(chat.id.clone())).is_some();
            ensure(watched, || format!("nobody notices when the visitor of {} goes", chat.id))?;
        }
    }
    Ok(())
}

/// A block ends by itself, two people stand behind it, and it names a chat only while that can be found by it.
fn blocks_end(line: &Snapshot) -> Result<(), String> {
    for block in line.blocks.iter() {
        let due = line.timers.at(&Timer::Block(block.id.clone()));
        ensure(due == Some(block.ends_ms()), || format!("the block {} does not end in time", block.id))?;
        let alone = block.confirmed.as_ref().is_some_and(|confirmed| confirmed.by == block.by);
        ensure(!alone, || format!("the block {} is one person's", block.id))?;
        let chat = block.chat.as_ref().map(|id| line.chats.get(id));
        let known = chat.is_none_or(|chat| chat.is_some_and(|c| !c.erased && c.whom() == block.whom));
        ensure(known, || format!("the block {} leads to a chat that is gone", block.id))?;
    }
    Ok(())
}

/// Supervisors see the chats whose delivery fails, and no others.
fn failing_is_seen(line: &Snapshot) -> Result<(), String> {
    let marked = line.chats.values().filter(|c| c.failing_since_ms > 0);
    let marked: BTreeSet<_> = marked.map(|c| (c.failing_since_ms, c.id.clone())).collect();
    ensure(marked == line.failing, || "what is shown as failing is not what fails".to_owned())?;
    for chat in line.chats.values().filter(|c| c.failed > 0) {
        let talks = chat.owner.as_ref().is_some_and(|o| o.engaged_ms.is_some());
        ensure(chat.state != ChatState::Ended && !talks, || {
            format!("{} was delivered, and still counts what failed", chat.id)
        })?;
    }
    let counted = line.chats.values().all(|c| c.failing_since_ms == 0 || c.failed > 0);
    ensure(counted, || "a chat fails although nothing failed".to_owned())
}

fn nothing_is_orphaned(line: &Snapshot) -> Result<(), String> {
    let standing = line.chats.values().filter(|c| c.standing.is_some()).count();
    ensure(standing == line.lanes.len(), || "the lanes hold somebody who does not stand there".to_owned())?;
    let idle = line.responders.values().filter(|r| r.idle.is_some()).count();
    ensure(idle == line.classes.len(), || "the classes hold somebody who is not free".to_owned())?;
    for (_, name) in line.timers.iter() {
        let alive = Timer::from_name(name).is_some_and(|timer| names_the_living(line, &timer));
        ensure(alive, || format!("the timer {name} waits for nobody"))?;
    }
    for chat in line.chats.values().filter(|c| c.state == ChatState::Ended) {
        let leaves = line.timers.at(&Timer::Forget(chat.id.clone())).is_some();
        ensure(leaves, || format!("{} has ended and is never forgotten", chat.id))?;
    }
    failing_is_seen(line)?;
    blocks_end(line)?;
    let here = line.responders.values().filter(|r| r.status != Status::Offline).count() as u64;
    ensure(line.on_shift == here, || format!("{} are said to be on shift, {here} are", line.on_shift))?;
    for responder in line.responders.values().filter(|r| r.status == Status::Offline) {
        let leaves = line.timers.at(&Timer::Gone(responder.id.clone())).is_some();
        ensure(leaves, || format!("{} is offline and never forgotten", responder.id))?;
    }
    Ok(())
}

fn names_the_living(line: &Snapshot, timer: &Timer) -> bool {
    match timer {
        Timer::Offer(chat, number) => {
            line.chats.get(chat).is_some_and(|c| c.offers.iter().any(|o| o.number == *number))
        }
        Timer::Presence(responder) | Timer::CoolDown(responder) | Timer::Gone(responder) => {
            line.responders.contains_key(responder)
        }
        Timer::WrapUp(responder, chat) => line
            .responders
            .get(responder)
            .and_then(|r| r.holding(chat))
            .is_some_and(|h| h.kind == HoldingKind::WrapUp),
        Timer::Step(chat) | Timer::Away(chat) | Timer::Abandon(chat) | Timer::Retry(chat) => {
            line.chats.get(chat).is_some_and(|c| c.state != ChatState::Ended)
        }
        Timer::Forget(chat) => line.chats.get(chat).is_some_and(|c| c.state == ChatState::Ended),
        Timer::Reply(chat) => line.chats.get(chat).is_some_and(|c| c.state == ChatState::Active),
        Timer::Overflow(chat) | Timer::Proposal(chat) => {
            line.chats.get(chat).is_some_and(|c| matches!(c.state, ChatState::Waiting | ChatState::Offered))
        }
        Timer::Hold(chat) => line.chats.get(chat).is_some_and(|c| c.state == ChatState::Held),
        Timer::Shift(responder) => line.responders.get(responder).is_some_and(|r| r.status != Status::Offline),
        Timer::Page => line.surge.stage > 0,
        Timer::Reroutes => !line.reroutes.is_empty(),
        Timer::Recover => line.policy.is_some(),
        Timer::Block(block) => line.blocks.get(block).is_some(),
    }
}
