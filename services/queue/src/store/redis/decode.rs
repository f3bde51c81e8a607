//! From what scripts answer and hashes hold to the domain's own types. Records of a version before or after are read
//! as far as they are understood: a field that is missing has its zero, one that is unknown is passed over.

use crate::store::{Cursor, Placed, StoreError};
use holdfast_domain::block::Confirmed;
use holdfast_domain::chat::Standing;
use holdfast_domain::clock::ServiceClock;
use holdfast_domain::ids::DigestHex;
use holdfast_domain::line::{Buckets, Pace, Reroute, Reroutes, Spread, Surge, Term, Ticker, Waits};
use holdfast_domain::responder::Idle;
use holdfast_domain::{
    Act, Applied, Asked, Block, BlockId, Chat, ChatId, ChatState, Command, EndedAs, Event, EventKind, Fence,
    HelplineId, Holding, HoldingKind, Ledger, Mask, Offer, Owner, Reason, Refusal, Reply, Requirement, Responder,
    ResponderId, Snapshot, Status, Step, SubjectDigest, TokenHash, Urgency, Whom,
};
use redis::Value;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

pub(super) fn garbled(what: impl Display) -> StoreError {
    StoreError::Garbled(what.to_string())
}

fn need<T>(value: Option<T>, what: &'static str) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::Garbled(format!("no {what} where one is meant")))
}

/// A score of a sorted set that is a moment. Scores are whole and below 2⁵³, so nothing is lost.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, positive, below 2^53")]
pub(super) fn whole(score: f64) -> u64 {
    score as u64
}

/// A score of a sorted set.
#[expect(clippy::cast_possible_truncation, reason = "whole, within 2^53")]
pub(super) fn whole_signed(score: f64) -> i64 {
    score as i64
}

/// A hash.
pub(super) struct Fields(pub(super) BTreeMap<String, Vec<u8>>);

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn text(&self, field: &str) -> Result<&str, StoreError> {
        let bytes = self.0.get(field).map_or(&[][..], Vec::as_slice);
        std::str::from_utf8(bytes).map_err(|_| StoreError::Garbled(format!("{field} is not text")))
    }

    fn text_or<'a>(&'a self, field: &str, otherwise: &'a str) -> Result<&'a str, StoreError> {
        let text = self.text(field)?;
        Ok(if text.is_empty() { otherwise } else { text })
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        self.0.get(field).cloned().unwrap_or_default()
    }

    pub(super) fn number(&self, field: &str) -> Result<u64, StoreError> {
        let text = self.text(field)?;
        if text.is_empty() {
            return Ok(0);
        }
        text.parse().map_err(|_| StoreError::Garbled(format!("{field} is not a number")))
    }

    fn small(&self, field: &str) -> Result<u32, StoreError> {
        u32::try_from(self.number(field)?).map_err(|_| StoreError::Garbled(format!("{field} is too large")))
    }

    fn flag(&self, field: &str) -> Result<bool, StoreError> {
        Ok(self.number(field)? != 0)
    }
}

pub(super) fn steps_text(steps: &[Step]) -> String {
    let rungs: Vec<String> = steps.iter().map(|s| format!("{}@{}", s.after_ms, s.signature())).collect();
    rungs.join(";")
}

/// Names in one field.
pub(super) fn names_text(names: &[ResponderId]) -> String {
    names.iter().map(ResponderId::as_str).collect::<Vec<_>>().join(",")
}

fn names(text: &str) -> Option<Vec<ResponderId>> {
    text.split(',').filter(|n| !n.is_empty()).map(|n| ResponderId::parse(n).ok()).collect()
}

fn helpline(text: &str) -> Result<Option<HelplineId>, StoreError> {
    if text.is_empty() { Ok(None) } else { HelplineId::parse(text).map(Some).map_err(garbled) }
}

/// Two parts of one field, or none.
fn pair<A: FromStr, B: FromStr>(text: &str, between: char) -> Result<Option<(A, B)>, StoreError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parts = text.split_once(between).and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    need(parts, "pair").map(Some)
}

fn steps(text: &str) -> Option<Vec<Step>> {
    text.split(';')
        .map(|rung| {
            let (after, signature) = rung.split_once('@')?;
            Step::from_signature(after.parse().ok()?, signature)
        })
        .collect()
}

fn list<T>(text: &str, read: impl Fn(&mut std::str::Split<'_, char>) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').filter(|item| !item.is_empty()).map(|item| read(&mut item.split('@'))).collect()
}

fn urgency(rank: u64) -> Option<Urgency> {
    Urgency::from_rank(usize::try_from(rank).ok()?)
}

pub(super) fn chat(id: &ChatId, f: &Fields) -> Result<Chat, StoreError> {
    let owner = f.text("owner")?;
    let outcome = f.text("outcome")?;
    let lane = f.text("lane")?;
    Ok(Chat {
        id: id.clone(),
        state: need(ChatState::from_word(f.text("state")?), "chat state")?,
        urgency: need(urgency(f.number("urgency")?), "urgency")?,
        arrival_ms: f.number("arrival")?,
        sequence: f.number("seq")?,
        version: f.number("version")?,
        token: need(TokenHash::from_hex(f.text("token")?), "token hash")?,
        request_key: DigestHex::parse(f.text("key")?).map_err(garbled)?,
        body: DigestHex::parse(f.text("body")?).map_err(garbled)?,
        replays: f.number("replays")?,
        attested: f.flag("attested")?,
        away: f.flag("away")?,
        steps: need(steps(f.text("steps")?), "routing steps")?,
        step: usize::try_from(f.number("step")?).map_err(garbled)?,
        topics: need(Mask::from_text(f.text_or("topics", "-")?), "topics")?,
        excluded: need(names(f.text("excluded")?), "list of those excluded")?,
        fan_out: f.small("fan_out")?,
        shown: pair(f.text("shown")?, '-')?,
        proposals: f.small("proposals")?,
        partner: helpline(f.text("partner")?)?,
        came_from: pair(f.text("came_from")?, '@')?,
        returned: f.flag("returned")?,
        asked: need(list(f.text("asked")?, asked), "list of those asked")?,
        offers: need(list(f.text("offers")?, offer), "list of offers")?,
        offers_made: f.small("offers_made")?,
        assignments_made: f.small("assigned")?,
        owner: if owner.is_empty() { None } else { Some(owner_of(owner, f)?) },
        erased: f.flag("erased")?,
        ended: if outcome.is_empty() {
            None
        } else {
            Some((need(EndedAs::from_word(outcome), "outcome")?, f.number("ended_at")?))
        },
        handoff: f.bytes("handoff"),
        reply_handoff: f.bytes("reply"),
        trace: f.text("trace")?.to_owned(),
        recovering: f.flag("recovering")?,
        reclaim_from: f.small("reclaim")?,
        failed: f.small("failed")?,
        failing_since_ms: f.number("failing")?,
        subject: subject(f.text("subject")?)?,
        standing: if lane.is_empty() {
            None
        } else {
            Some(Standing { lane: lane.to_owned(), score: f.text("score")?.parse().map_err(garbled)? })
        },
    })
}

fn subject(text: &str) -> Result<Option<SubjectDigest>, StoreError> {
    if text.is_empty() { Ok(None) } else { need(SubjectDigest::from_hex(text), "subject").map(Some) }
}

pub(super) fn block(id: &BlockId, f: &Fields) -> Result<Block, StoreError> {
    let (chat, by) = (f.text("chat")?, f.text("confirmed_by")?);
    let person = |text: &str| ResponderId::parse(text).map_err(garbled);
    Ok(Block {
        id: id.clone(),
        whom: need(Whom::from_text(f.text("whom")?), "whom a block is of")?,
        chat: if chat.is_empty() { None } else { Some(ChatId::parse(chat).map_err(garbled)?) },
        by: person(f.text("by")?)?,
        reason: need(Reason::from_word(f.text("reason")?), "reason")?,
        for_ms: f.number("lasts")?,
        open_until_ms: f.number("open_till")?,
        confirmed: if by.is_empty() {
            None
        } else {
            Some(Confirmed { by: person(by)?, until_ms: f.number("till")? })
        },
    })
}

fn asked(parts: &mut std::str::Split<'_, char>) -> Option<Asked> {
    Some(Asked { responder: ResponderId::parse(parts.next()?).ok()?, at_ms: parts.next()?.parse().ok()? })
}

fn offer(parts: &mut std::str::Split<'_, char>) -> Option<Offer> {
    Some(Offer { number: parts.next()?.parse().ok()?, responder: ResponderId::parse(parts.next()?).ok()? })
}

fn holding(parts: &mut std::str::Split<'_, char>) -> Option<Holding> {
    Some(Holding {
        kind: HoldingKind::from_word(parts.next()?)?,
        chat: ChatId::parse(parts.next()?).ok()?,
        weight: parts.next()?.parse().ok()?,
        hard: parts.next()? == "1",
        beyond: parts.next()? == "1",
        // Older versions do not write it.
        called_ms: parts.next().map_or(Some(0), |at| at.parse().ok())?,
    })
}

fn owner_of(responder: &str, f: &Fields) -> Result<Owner, StoreError> {
    let engaged = f.number("engaged")?;
    Ok(Owner {
        responder: ResponderId::parse(responder).map_err(garbled)?,
        offer: f.small("owner_offer")?,
        fence: Fence { epoch: f.number("epoch")?, minted_by: f.small("minted")? },
        since_ms: f.number("since")?,
        engaged_ms: (engaged != 0).then_some(engaged),
    })
}

pub(super) fn responder(id: &ResponderId, f: &Fields) -> Result<Responder, StoreError> {
    let class = f.text("class")?;
    Ok(Responder {
        id: id.clone(),
        session: f.number("session")?,
        linked: f.flag("linked")?,
        status: need(Status::from_word(f.text("status")?), "status")?,
        cooling_until_ms: f.number("cooling")?,
        capabilities: need(Mask::from_hex(f.text("caps")?), "capability mask")?,
        scarce: f.small("scarce")?,
        opt_out: need(Mask::from_text(f.text_or("opt_out", "-")?), "opt-out")?,
        capacity: f.small("capacity")?,
        hard_in_row: f.small("hard_row")?,
        hard_in_shift: f.small("hard_shift")?,
        shift_ending: f.flag("shift_ending")?,
        break_since_ms: f.number("break_since")?,
        left_ms: f.number("left")?,
        holdings: need(list(f.text("holdings")?, holding), "list of holdings")?,
        rested_ms: f.number("rested")?,
        version: f.number("version")?,
        idle: if class.is_empty() {
            None
        } else {
            Some(Idle { class: class.to_owned(), rested_ms: f.number("idle_rested")? })
        },
    })
}

pub(super) fn clock(f: &Fields) -> Result<ServiceClock, StoreError> {
    Ok(ServiceClock { now_ms: f.number("now")?, last_wall_ms: f.number("last")? })
}

pub(super) fn ledger(f: &Fields) -> Result<Ledger, StoreError> {
    let mut ended = [0; 6];
    for (cell, outcome) in ended.iter_mut().zip(EndedAs::ALL) {
        *cell = f.number(outcome.word())?;
    }
    Ok(Ledger {
        accepted: f.number("accepted")?,
        waiting: f.number("waiting")?,
        offered: f.number("offered")?,
        active: f.number("active")?,
        ended,
    })
}

pub(super) fn pace(f: &Fields) -> Result<Pace, StoreError> {
    Ok(Pace {
        hand_overs: f.number("hand_overs")?,
        last_ms: f.number("last_hand_over")?,
        gap_ms: f.number("gap")?,
    })
}

pub(super) fn waits(f: &Fields) -> Result<Waits, StoreError> {
    let mut waits =
        Waits { shown: f.number("waits_shown")?, inside: f.number("waits_inside")?, ..Waits::default() };
    for (rank, spread) in waits.spread.iter_mut().enumerate() {
        let (low, high) = (f.number(&format!("low{rank}"))?, f.number(&format!("high{rank}"))?);
        if high > 0 {
            *spread = Spread { low, high };
        }
    }
    Ok(waits)
}

pub(super) fn surge(f: &Fields) -> Result<Surge, StoreError> {
    Ok(Surge { stage: f.number("stage")?, calm_since_ms: f.number("calm")?, waves: f.number("waves")? })
}

/// `from>to@until;…`
pub(super) fn reroutes(f: &Fields) -> Result<Reroutes, StoreError> {
    let read = |text: &str| {
        let (from, rest) = text.split_once('>')?;
        let (to, until) = rest.split_once('@')?;
        Some((from.to_owned(), Reroute { to: Requirement::from_signature(to)?, until_ms: until.parse().ok()? }))
    };
    let all: Option<Reroutes> = f.text("reroutes")?.split(';').filter(|r| !r.is_empty()).map(read).collect();
    need(all, "reroutes")
}

pub(super) fn line(f: &Fields) -> Result<Snapshot, StoreError> {
    let term = f.number("term")?;
    let ticker = f.text("ticker")?;
    Ok(Snapshot {
        clock: clock(f)?,
        term: Term { number: term, node: if term == 0 { None } else { Some(f.small("node")?) } },
        generation: f.text("generation")?.to_owned(),
        recovering_since_ms: f.number("recovering")?,
        arrivals: f.number("arrivals")?,
        events: f.number("events")?,
        ledger: ledger(f)?,
        pace: pace(f)?,
        waits: waits(f)?,
        surge: surge(f)?,
        buckets: Buckets { quota_us: f.number("quota")?, imminent_us: f.number("imminent")? },
        reroutes: reroutes(f)?,
        ticker: if ticker.is_empty() {
            None
        } else {
            Some(Ticker { by: DigestHex::parse(ticker).map_err(garbled)?, at_ms: f.number("ticked")? })
        },
        ..Snapshot::default()
    })
}

pub(super) fn stream_id(id: &str) -> Result<(u64, u64), StoreError> {
    let parts = id.split_once('-').and_then(|(t, s)| Some((t.parse().ok()?, s.parse().ok()?)));
    need(parts, "stream id")
}

pub(super) fn placed(generation: &str, text: &str) -> Result<Placed, StoreError> {
    let event = need(event(text), "event")?;
    let cursor = Cursor { generation: generation.to_owned(), term: event.term, sequence: event.sequence };
    Ok(Placed { cursor, event })
}

/// The payload of a notice: the generation, then an event a line. Events of a newer version are passed over.
pub(super) fn notice(payload: &str) -> Option<Vec<Placed>> {
    let mut lines = payload.split('\n');
    let generation = lines.next()?;
    lines.filter(|line| !is_newer(line)).map(|line| placed(generation, line).ok()).collect()
}

/// An event of a kind that only a newer version knows.
pub(super) fn is_newer(event: &str) -> bool {
    let kind = event.split(' ').find_map(|word| word.strip_prefix("k="));
    kind.is_some_and(|kind| EventKind::from_word(kind).is_none())
}

fn event(text: &str) -> Option<Event> {
    let words: BTreeMap<&str, &str> = text.split(' ').filter_map(|w| w.split_once('=')).collect();
    let number = |key| words.get(key).and_then(|v| v.parse::<u64>().ok());
    let small = |key| number(key).and_then(|n| u32::try_from(n).ok());
    let known = |key| words.contains_key(key);
    let fence = number("e").zip(small("m")).map(|(epoch, minted_by)| Fence { epoch, minted_by });
    if known("e") && fence.is_none() {
        return None;
    }
    Some(Event {
        sequence: number("s")?,
        term: number("t")?,
        at_ms: number("a")?,
        kind: EventKind::from_word(words.get("k")?)?,
        chat: words.get("c").and_then(|v| ChatId::parse(v).ok()),
        responder: words.get("r").and_then(|v| ResponderId::parse(v).ok()),
        urgency: number("u").and_then(urgency),
        offer: small("o"),
        fence,
        until_ms: number("d"),
        outcome: words.get("x").and_then(|v| EndedAs::from_word(v)),
        reason: words.get("w").and_then(|v| Reason::from_word(v)),
        status: words.get("z").and_then(|v| Status::from_word(v)),
        revision: number("p").unwrap_or(0),
        by: words.get("b").and_then(|v| ResponderId::parse(v).ok()),
        partner: words.get("h").and_then(|v| HelplineId::parse(v).ok()),
        block: words.get("l").and_then(|v| BlockId::parse(v).ok()),
        number: number("n"),
    })
}

/// What a script answered: a code, words, a blob, then its events.
pub(super) fn applied(command: &Command, answer: Vec<Value>) -> Result<Applied, StoreError> {
    let mut parts = answer.into_iter().map(bytes);
    let code = text_of(need(parts.next(), "answer")??)?;
    let words = text_of(need(parts.next(), "answer's words")??)?;
    if code != "ok" {
        return Ok(Applied { reply: Err(refusal(&code, &words)?), events: Vec::new() });
    }
    let blob = need(parts.next(), "answer's blob")??;
    let events =
        parts.map(|text| need(event(&text_of(text?)?), "event")).collect::<Result<Vec<Event>, StoreError>>()?;
    Ok(Applied { reply: Ok(need(reply(command, &words, blob), "answer to this command")?), events })
}

fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    redis::from_redis_value(value).map_err(|_| StoreError::Garbled("an answer of another kind".to_owned()))
}

fn text_of(bytes: Vec<u8>) -> Result<String, StoreError> {
    String::from_utf8(bytes).map_err(|_| StoreError::Garbled("an answer that is not text".to_owned()))
}

fn refusal(code: &str, fact: &str) -> Result<Refusal, StoreError> {
    Ok(match code {
        "no_policy" => Refusal::NoPolicy,
        "policy_changed" => Refusal::PolicyChanged { revision: fact.parse().map_err(garbled)? },
        "request_conflict" => Refusal::RequestConflict,
        "line_full" => Refusal::LineFull,
        "quota_exceeded" => Refusal::QuotaExceeded { wait_ms: fact.parse().map_err(garbled)? },
        "unknown_chat" => Refusal::UnknownChat,
        "chat_ended" => Refusal::ChatEnded { outcome: need(EndedAs::from_word(fact), "outcome")? },
        "not_signed_in" => Refusal::NotSignedIn,
        "stale_session" => Refusal::StaleSession,
        "offer_gone" => Refusal::OfferGone,
        "stale_fence" => Refusal::StaleFence,
        "not_wrapping_up" => Refusal::NotWrappingUp,
        "status_not_allowed" => Refusal::StatusNotAllowed,
        "resources_first" => Refusal::ResourcesFirst,
        "challenge" => Refusal::Challenge { bits: fact.parse().map_err(garbled)? },
        "not_taken" => Refusal::NotTaken,
        "proposal_gone" => Refusal::ProposalGone,
        "wrong_state" => Refusal::WrongState,
        "not_available" => Refusal::NotAvailable,
        "too_many_reroutes" => Refusal::TooManyReroutes,
        "blocked" => Refusal::Blocked,
        "unknown_block" => Refusal::UnknownBlock,
        "same_person" => Refusal::SamePerson,
        "already_blocked" => Refusal::AlreadyBlocked { block: BlockId::parse(fact).map_err(garbled)? },
        "too_many_blocks" => Refusal::TooManyBlocks,
        _ => return Err(StoreError::Garbled("a refusal without meaning".to_owned())),
    })
}

fn reply(command: &Command, words: &str, blob: Vec<u8>) -> Option<Reply> {
    let mut words = words.split(' ');
    match command {
        Command::Request(_)
        | Command::Triage { .. }
        | Command::Beat { .. }
        | Command::Leave { .. }
        | Command::Resume { .. }
        | Command::Erase { .. }
        | Command::Restore(_) => chat_reply(&mut words),
        Command::Accept { .. } | Command::Reassert(_) | Command::Supervise { act: Act::TakeOver { .. }, .. } => {
            accepted(&mut words, blob)
        }
        Command::Supervise { .. }
        | Command::Hold(_)
        | Command::Admit { .. }
        | Command::Release { .. }
        | Command::SettleProposal { .. }
        | Command::ReportPage { .. } => Some(Reply::Done { now_ms: words.next()?.parse().ok()? }),
        Command::Tick { .. } => Some(Reply::Ticked {
            handled: words.next()?.parse().ok()?,
            not_mine: words.next()? == "1",
            next_due_ms: words.next()?.parse().ok(),
            now_ms: words.next()?.parse().ok()?,
        }),
        Command::SetPolicy { .. } | Command::Revive { .. } | Command::Renew { .. } => {
            Some(Reply::Policy { revision: words.next()?.parse().ok()? })
        }
        Command::SignIn { .. }
        | Command::Heartbeat { .. }
        | Command::SetStatus { .. }
        | Command::Unlink { .. }
        | Command::SignOut { .. }
        | Command::Decline { .. }
        | Command::Engage { .. }
        | Command::CallSupervisor { .. }
        | Command::Close { .. }
        | Command::Transfer { .. }
        | Command::ExtendCoolDown { .. }
        | Command::FinishWrapUp { .. } => responder_reply(&mut words),
    }
}

type Words<'a> = std::str::Split<'a, char>;

fn chat_reply(words: &mut Words<'_>) -> Option<Reply> {
    Some(Reply::Chat {
        chat: ChatId::parse(words.next()?).ok()?,
        state: ChatState::from_word(words.next()?)?,
        urgency: urgency(words.next()?.parse().ok()?)?,
        version: words.next()?.parse().ok()?,
        place: words.next()?.parse().ok()?,
        away: words.next()? == "1",
        arrival_ms: words.next()?.parse().ok()?,
        outcome: EndedAs::from_word(words.next()?),
        replay: words.next()? == "1",
        now_ms: words.next()?.parse().ok()?,
        pace_ms: words.next()?.parse().ok()?,
        spread: Spread { low: words.next()?.parse().ok()?, high: words.next()?.parse().ok()? },
        partner: words.next().filter(|h| *h != "-").and_then(|h| HelplineId::parse(h).ok()),
        sequence: words.next()?.parse().ok()?,
        generation: words.next()?.to_owned(),
        term: words.next()?.parse().ok()?,
    })
}

fn responder_reply(words: &mut Words<'_>) -> Option<Reply> {
    Some(Reply::Responder {
        responder: ResponderId::parse(words.next()?).ok()?,
        session: words.next()?.parse().ok()?,
        status: Status::from_word(words.next()?)?,
        cooling_until_ms: words.next()?.parse().ok()?,
        version: words.next()?.parse().ok()?,
        now_ms: words.next()?.parse().ok()?,
    })
}

fn accepted(words: &mut Words<'_>, handoff: Vec<u8>) -> Option<Reply> {
    Some(Reply::Accepted {
        chat: ChatId::parse(words.next()?).ok()?,
        fence: Fence { epoch: words.next()?.parse().ok()?, minted_by: words.next()?.parse().ok()? },
        urgency: urgency(words.next()?.parse().ok()?)?,
        version: words.next()?.parse().ok()?,
        trace: words.next().map(|t| if t == "-" { "" } else { t })?.to_owned(),
        offer: words.next()?.parse().ok()?,
        generation: words.next()?.to_owned(),
        now_ms: words.next()?.parse().ok()?,
        handoff,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_newer_version_are_passed_over_and_garbled_ones_are_not() {
        let known = "s=1 t=2 a=3 k=requested c=c1";
        let newer = "s=2 t=2 a=3 k=not_invented_yet c=c1";
        let told = notice(&format!("g\n{known}\n{newer}\n{known}")).unwrap();
        assert_eq!(told.len(), 2);
        assert_eq!(notice(&format!("g\n{known}\ns=2 t=2 a=3 c=c1")), None, "no kind at all");
        assert_eq!(notice(&format!("g\n{known}\nt=2 a=3 k=requested")), None, "no sequence");
    }
}
