//! What supervisors ask, as commands of the line. Fields are named as the calls of `SupervisionService` have them.

use std::fmt::Display;

use holdfast_domain::{
    BlockId, ChatId, HelplineId, ResponderId,
    limits::{MAX_ALTERNATIVES, MAX_TAGS},
};
use holdfast_proto::v1::{
    Alternative, AssignAct, AssignChatRequest, ChatOutcome, ConfirmBlockAct, ConfirmBlockRequest, EndAct,
    EndBreakAct, EndBreakRequest, EndChatRequest, ExplainRoutingRequest, ExtendRestRequest, ForceOfflineAct,
    ForceOfflineRequest, GetKpisRequest, LiftBlockAct, LiftBlockRequest, ListBlocksRequest, ProposeBlockAct,
    ProposeBlockRequest, PullAct, PullChatRequest, RerouteAct, RerouteRequest, RestAct, SetUrgencyAct,
    SetUrgencyRequest, SuperviseCommand, SupervisionReason, SupervisionServiceExplainRoutingRequest,
    SupervisionServiceGetKpisRequest, SupervisionServiceListBlocksRequest, Supervisor, TakeOverAct,
    TakeOverRequest, Urgency, WatchFloorRequest, command, supervise_command::Act,
};
use uuid::Uuid;

use super::{Asked, Who, check_duration, check_handoff, check_rest, check_tag};
use crate::error::Invalid;

/// The longest time for which chats are rerouted.
const MAX_REROUTE_HOURS: u32 = 24;
/// The longest time for which somebody is blocked: 30 days.
const MAX_BLOCK_HOURS: u32 = 30 * 24;
/// Blocks that are listed at once.
const MAX_BLOCKS_LISTED: u32 = 500;
/// The longest time of which figures are told.
const MAX_WINDOW_HOURS: u32 = 48;
/// Chats and responders of a board when no limit is stated, and the highest limit.
const BOARD: (u32, u32) = (50, 500);

fn wrong(field: &str, problem: impl Display) -> Invalid {
    Invalid::new(field, problem.to_string())
}

fn chat(chat_id: &str) -> Result<(), Invalid> {
    ChatId::parse(chat_id).map(drop).map_err(|e| wrong("chat_id", e))
}

fn responder(responder_id: &str) -> Result<(), Invalid> {
    ResponderId::parse(responder_id).map(drop).map_err(|e| wrong("responder_id", e))
}

fn helpline(helpline: &str) -> Result<HelplineId, Invalid> {
    HelplineId::parse(helpline).map_err(|e| wrong("helpline", e))
}

/// Who asks for an act, and why.
struct By {
    who: Who,
    reason: SupervisionReason,
}

impl By {
    fn parse(supervisor: Option<Supervisor>) -> Result<Self, Invalid> {
        let supervisor = supervisor.ok_or_else(|| wrong("supervisor", "is missing"))?;
        let helpline = HelplineId::parse(&supervisor.helpline);
        let helpline = helpline.map_err(|e| wrong("supervisor.helpline", e))?;
        let responder = ResponderId::parse(&supervisor.supervisor_id);
        let responder = responder.map_err(|e| wrong("supervisor.supervisor_id", e))?;
        match SupervisionReason::try_from(supervisor.reason) {
            Ok(SupervisionReason::Unspecified) => Err(wrong("supervisor.reason", "must be stated")),
            Ok(reason) => Ok(Self { who: Who { helpline, responder }, reason }),
            Err(_) => Err(wrong("supervisor.reason", "is not a reason")),
        }
    }

    fn asks(&self, word: &'static str, act: Act) -> Asked {
        let command = command::Command::Supervise(SuperviseCommand {
            supervisor_id: self.who.responder.as_str().to_owned(),
            reason: self.reason.into(),
            act: Some(act),
        });
        Asked { word, accepts: None, beats: false, signs_out: false, command: self.who.command(command) }
    }
}

/// Whether events give this reason for what a supervisor asked for. What merely follows from it, as when somebody who was
/// leaving goes, has another.
#[must_use]
pub fn is_reason(word: &str) -> bool {
    let name = format!("SUPERVISION_REASON_{}", word.to_ascii_uppercase());
    SupervisionReason::from_str_name(&name).is_some_and(|reason| reason != SupervisionReason::Unspecified)
}

/// Offers a chat to somebody.
///
/// # Errors
/// The first field that is wrong, here and below.
pub fn assign(request: AssignChatRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    chat(&request.chat_id)?;
    responder(&request.responder_id)?;
    let AssignChatRequest { chat_id, responder_id, break_glass, .. } = request;
    Ok(by.asks("assign", Act::Assign(AssignAct { chat_id, responder_id, break_glass })))
}

/// Takes a chat back to the line.
///
/// # Errors
/// See [`assign`].
pub fn pull(request: PullChatRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    chat(&request.chat_id)?;
    Ok(by.asks("pull", Act::Pull(PullAct { chat_id: request.chat_id })))
}

/// Takes a chat over; with who takes it, and in which session.
///
/// # Errors
/// See [`assign`].
pub fn take_over(request: TakeOverRequest) -> Result<(Who, u64, Asked), Invalid> {
    let by = By::parse(request.supervisor)?;
    chat(&request.chat_id)?;
    let TakeOverRequest { chat_id, session, reply_handoff, .. } = request;
    if session == 0 {
        return Err(wrong("session", "must be the number of the supervisor's own session"));
    }
    check_handoff("reply_handoff", &reply_handoff)?;
    let asked = by.asks("take_over", Act::TakeOver(TakeOverAct { chat_id, session, reply_handoff }));
    Ok((by.who, session, asked))
}

/// Sets the urgency of a chat.
///
/// # Errors
/// See [`assign`].
pub fn set_urgency(request: SetUrgencyRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    chat(&request.chat_id)?;
    let SetUrgencyRequest { chat_id, urgency, .. } = request;
    match Urgency::try_from(urgency) {
        Ok(Urgency::Low | Urgency::Moderate | Urgency::High | Urgency::Imminent) => {}
        Ok(Urgency::Unspecified) => return Err(wrong("urgency", "must be stated")),
        Err(_) => return Err(wrong("urgency", "is not an urgency")),
    }
    Ok(by.asks("set_urgency", Act::SetUrgency(SetUrgencyAct { chat_id, urgency })))
}

/// Ends a chat.
///
/// # Errors
/// See [`assign`].
pub fn end(request: EndChatRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    chat(&request.chat_id)?;
    let EndChatRequest { chat_id, outcome, .. } = request;
    match ChatOutcome::try_from(outcome) {
        Ok(ChatOutcome::Completed | ChatOutcome::Fallback | ChatOutcome::Blocked) => {}
        Ok(ChatOutcome::Unspecified | ChatOutcome::Left | ChatOutcome::Abandoned | ChatOutcome::Overflowed)
        | Err(_) => return Err(wrong("outcome", "must be COMPLETED, FALLBACK or BLOCKED")),
    }
    Ok(by.asks("end", Act::End(EndAct { chat_id, outcome })))
}

/// Ends a break.
///
/// # Errors
/// See [`assign`].
pub fn end_break(request: EndBreakRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    responder(&request.responder_id)?;
    Ok(by.asks("end_break", Act::EndBreak(EndBreakAct { responder_id: request.responder_id })))
}

/// Gives rest.
///
/// # Errors
/// See [`assign`].
pub fn rest(request: ExtendRestRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    responder(&request.responder_id)?;
    check_rest("for", request.r#for.as_ref())?;
    Ok(by.asks("rest", Act::Rest(RestAct { responder_id: request.responder_id, r#for: request.r#for })))
}

/// Signs somebody out.
///
/// # Errors
/// See [`assign`].
pub fn force_offline(request: ForceOfflineRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    responder(&request.responder_id)?;
    let responder_id = request.responder_id;
    Ok(by.asks("force_offline", Act::ForceOffline(ForceOfflineAct { responder_id })))
}

/// Reroutes, or ends it.
///
/// # Errors
/// See [`assign`].
pub fn reroute(request: RerouteRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    alternatives("from_any_of", &request.from_any_of)?;
    alternatives("to_any_of", &request.to_any_of)?;
    if request.from_any_of.is_empty() || request.from_any_of.iter().any(|a| a.all_of.is_empty()) {
        let problem = "must name what chats ask for: what anyone may serve needs no reroute";
        return Err(wrong("from_any_of", problem));
    }
    check_duration("for", request.r#for.as_ref(), MAX_REROUTE_HOURS)?;
    let RerouteRequest { from_any_of, to_any_of, r#for, .. } = request;
    Ok(by.asks("reroute", Act::Reroute(RerouteAct { from_any_of, to_any_of, r#for })))
}

/// Proposes a block; with what it is called from then on.
///
/// # Errors
/// See [`assign`].
pub fn propose_block(request: ProposeBlockRequest) -> Result<(String, Asked), Invalid> {
    let by = By::parse(request.supervisor)?;
    chat(&request.chat_id)?;
    if check_duration("for", request.r#for.as_ref(), MAX_BLOCK_HOURS)?.is_zero() {
        return Err(wrong("for", "must be longer than nothing, at most 30 days"));
    }
    let block_id = Uuid::now_v7().to_string();
    let ProposeBlockRequest { chat_id, r#for, .. } = request;
    let act = ProposeBlockAct { block_id: block_id.clone(), chat_id, r#for };
    Ok((block_id, by.asks("propose_block", Act::ProposeBlock(act))))
}

/// Confirms a block.
///
/// # Errors
/// See [`assign`].
pub fn confirm_block(request: ConfirmBlockRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    block("block_id", &request.block_id)?;
    Ok(by.asks("confirm_block", Act::ConfirmBlock(ConfirmBlockAct { block_id: request.block_id })))
}

/// Ends a block.
///
/// # Errors
/// See [`assign`].
pub fn lift_block(request: LiftBlockRequest) -> Result<Asked, Invalid> {
    let by = By::parse(request.supervisor)?;
    block("block_id", &request.block_id)?;
    Ok(by.asks("lift_block", Act::LiftBlock(LiftBlockAct { block_id: request.block_id })))
}

/// A page of blocks.
///
/// # Errors
/// See [`assign`].
pub fn list_blocks(request: SupervisionServiceListBlocksRequest) -> Result<ListBlocksRequest, Invalid> {
    let SupervisionServiceListBlocksRequest { helpline: of, after_block_id, limit } = request;
    helpline(&of)?;
    if !after_block_id.is_empty() {
        block("after_block_id", &after_block_id)?;
    }
    if limit > MAX_BLOCKS_LISTED {
        return Err(wrong("limit", format_args!("at most {MAX_BLOCKS_LISTED}")));
    }
    Ok(ListBlocksRequest { helpline: of, after_block_id, limit })
}

fn block(field: &str, block_id: &str) -> Result<(), Invalid> {
    BlockId::parse(block_id).map(drop).map_err(|e| wrong(field, e))
}

fn alternatives(field: &str, any_of: &[Alternative]) -> Result<(), Invalid> {
    if any_of.len() > MAX_ALTERNATIVES {
        return Err(wrong(field, format_args!("at most {MAX_ALTERNATIVES} alternatives")));
    }
    for (i, alternative) in any_of.iter().enumerate() {
        let all_of = format!("{field}[{i}].all_of");
        if alternative.all_of.len() > MAX_TAGS {
            return Err(wrong(&all_of, format_args!("at most {MAX_TAGS} tags")));
        }
        for (j, tag) in alternative.all_of.iter().enumerate() {
            check_tag(&format!("{all_of}[{j}]"), tag)?;
        }
    }
    Ok(())
}

/// Which board is watched, and how much of it.
///
/// # Errors
/// See [`assign`].
pub fn board(request: &WatchFloorRequest) -> Result<(HelplineId, u32), Invalid> {
    let helpline = helpline(&request.helpline)?;
    let (usual, most) = BOARD;
    match request.limit {
        0 => Ok((helpline, usual)),
        limit if limit <= most => Ok((helpline, limit)),
        _ => Err(wrong("limit", format_args!("at most {most}"))),
    }
}

/// An explanation.
///
/// # Errors
/// See [`assign`].
pub fn explain(request: SupervisionServiceExplainRoutingRequest) -> Result<ExplainRoutingRequest, Invalid> {
    helpline(&request.helpline)?;
    chat(&request.chat_id)?;
    Ok(ExplainRoutingRequest { helpline: request.helpline, chat_id: request.chat_id })
}

/// Figures.
///
/// # Errors
/// See [`assign`].
pub fn kpis(request: SupervisionServiceGetKpisRequest) -> Result<GetKpisRequest, Invalid> {
    helpline(&request.helpline)?;
    let window = check_duration("window", request.window.as_ref(), MAX_WINDOW_HOURS)?;
    if request.window.is_some() && window.is_zero() {
        return Err(wrong("window", "must be longer than nothing; leave it out for an hour"));
    }
    Ok(GetKpisRequest { helpline: request.helpline, window: request.window })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_domain::limits::MAX_HANDOFF_BYTES;
    use holdfast_proto::v1::Tag;

    #[expect(clippy::unnecessary_wraps, reason = "as fields have it")]
    fn by() -> Option<Supervisor> {
        let (helpline, supervisor_id) = ("demo".to_owned(), "sue".to_owned());
        Some(Supervisor { helpline, supervisor_id, reason: SupervisionReason::Safety.into() })
    }

    #[expect(clippy::unnecessary_wraps, reason = "as fields have it")]
    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn field<T: std::fmt::Debug>(refused: Result<T, Invalid>) -> String {
        refused.unwrap_err().field
    }

    #[test]
    fn whoever_acts_says_who_they_are_and_why() {
        let pulled = |change: fn(&mut Supervisor)| {
            let mut supervisor = by().unwrap();
            change(&mut supervisor);
            pull(PullChatRequest { supervisor: Some(supervisor), chat_id: "c".to_owned() })
        };
        assert_eq!(field(pull(PullChatRequest { supervisor: None, chat_id: "c".to_owned() })), "supervisor");
        assert_eq!(field(pulled(|s| s.helpline.clear())), "supervisor.helpline");
        assert_eq!(field(pulled(|s| s.supervisor_id = "a b".to_owned())), "supervisor.supervisor_id");
        assert_eq!(field(pulled(|s| s.reason = 0)), "supervisor.reason");
        assert_eq!(field(pulled(|s| s.reason = 77)), "supervisor.reason");
        let asked = pulled(|_| ()).unwrap();
        let Some(command::Command::Supervise(asked)) = asked.command.command else { panic!("{asked:?}") };
        assert_eq!((asked.supervisor_id.as_str(), asked.reason()), ("sue", SupervisionReason::Safety));
    }

    #[test]
    fn the_reasons_of_supervisors_are_known_among_others() {
        for word in ["safety", "workload", "quality", "misuse", "staffing", "other"] {
            assert!(is_reason(word), "{word}");
        }
        for word in ["", "asked", "deadline", "responder_lost", "unspecified"] {
            assert!(!is_reason(word), "{word}");
        }
    }

    #[test]
    fn an_urgency_and_an_outcome_must_be_ones_that_can_be_set() {
        let urgent =
            |urgency| set_urgency(SetUrgencyRequest { supervisor: by(), chat_id: "c".to_owned(), urgency });
        assert_eq!(field(urgent(0)), "urgency");
        assert_eq!(field(urgent(9)), "urgency");
        assert!(urgent(Urgency::Low.into()).is_ok());
        let ended = |outcome| end(EndChatRequest { supervisor: by(), chat_id: "c".to_owned(), outcome });
        for outcome in [0, 2, 3, 4, 77] {
            assert_eq!(field(ended(outcome)), "outcome");
        }
        assert!(ended(ChatOutcome::Blocked.into()).is_ok());
    }

    #[test]
    fn a_rest_is_at_most_four_hours() {
        let rested = |r#for| rest(ExtendRestRequest { supervisor: by(), responder_id: "ana".to_owned(), r#for });
        for wrong in [None, seconds(0), seconds(-1), seconds(4 * 3600 + 1)] {
            assert_eq!(field(rested(wrong)), "for");
        }
        assert!(rested(seconds(4 * 3600)).is_ok());
    }

    #[test]
    fn a_reroute_names_what_chats_ask_for_and_lasts_a_day_at_most() {
        let some = || vec![Alternative { all_of: vec![Tag { name: "lang:es".to_owned(), level: 1 }] }];
        let rerouted = |from_any_of, to_any_of, r#for| {
            reroute(RerouteRequest { supervisor: by(), from_any_of, to_any_of, r#for })
        };
        assert_eq!(field(rerouted(some(), Vec::new(), seconds(86_401))), "for");
        assert_eq!(field(rerouted(Vec::new(), some(), seconds(60))), "from_any_of");
        assert_eq!(field(rerouted(vec![Alternative::default()], some(), seconds(60))), "from_any_of");
        assert_eq!(field(rerouted(vec![Alternative::default(); 9], some(), None)), "from_any_of");
        let nameless = vec![Alternative { all_of: vec![Tag::default()] }];
        assert_eq!(field(rerouted(some(), nameless, None)), "to_any_of[0].all_of[0].name");
        assert!(rerouted(some(), Vec::new(), None).is_ok(), "an end");
    }

    #[test]
    fn names_and_numbers_are_checked_before_the_line_is_asked() {
        let chat_id = "c d".to_owned();
        assert_eq!(field(pull(PullChatRequest { supervisor: by(), chat_id: chat_id.clone() })), "chat_id");
        let nobody = ForceOfflineRequest { supervisor: by(), responder_id: String::new() };
        assert_eq!(field(force_offline(nobody)), "responder_id");
        let over = |session, bytes| TakeOverRequest {
            supervisor: by(),
            chat_id: "c".to_owned(),
            session,
            reply_handoff: vec![1; bytes],
        };
        assert_eq!(field(take_over(over(0, 0))), "session");
        assert_eq!(field(take_over(over(1, MAX_HANDOFF_BYTES + 1))), "reply_handoff");
        assert!(take_over(over(1, MAX_HANDOFF_BYTES)).is_ok());
        let asked = |limit| board(&WatchFloorRequest { helpline: "demo".to_owned(), limit });
        assert_eq!(field(asked(501)), "limit");
        assert_eq!((asked(0).unwrap().1, asked(500).unwrap().1), (50, 500));
        let unknown = SupervisionServiceExplainRoutingRequest { helpline: "demo".to_owned(), chat_id };
        assert_eq!(field(explain(unknown)), "chat_id");
        let figures = |window| kpis(SupervisionServiceGetKpisRequest { helpline: "demo".to_owned(), window });
        for wrong in [seconds(0), seconds(-5), seconds(48 * 3600 + 1)] {
            assert_eq!(field(figures(wrong)), "window");
        }
        assert!(figures(None).is_ok());
    }
}
