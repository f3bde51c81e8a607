//! One frame of the board, as text.

use std::{collections::VecDeque, fmt::Write};

use holdfast_proto::v1::{Event, FailingChat, FloorResponder, GetFloorResponse, Kpis, Ledger, WaitingChat};

use super::figures;
use crate::words::{self, short, span};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) fn frame(
    floor: &GetFloorResponse,
    kpis: &Result<Kpis, String>,
    events: &VecDeque<Event>,
    helpline: &str,
) -> String {
    let ledger = floor.ledger.clone().unwrap_or_default();
    let mut text = format!(
        "{helpline}   {}   policy {}   clock lag {}\n{}\n{}\n{}\n{}\n",
        in_line(floor),
        floor.policy_revision,
        span(words::duration(floor.clock_lag.as_ref())),
        figures::standing(floor),
        figures::quality(floor),
        figures::served(kpis),
        balance(&ledger),
    );
    if !floor.failing.is_empty() {
        section(&mut text, "LOOK AFTER", "urgency   state    waited        chat", &floor.failing, failing);
    }
    section(&mut text, "WAITING", "place  urgency   state    waited        chat", &floor.waiting, waiting);
    section(&mut text, "RESPONDERS", "load   active  status          who", &floor.responders, responder);
    section(&mut text, "EVENTS", "time (UTC)    what", events, event);
    text
}

fn in_line(floor: &GetFloorResponse) -> String {
    let longest = words::duration(floor.oldest_wait.as_ref());
    match floor.in_line {
        0 => "nobody in line".to_owned(),
        n => format!("{n} in line, longest wait {}", span(longest)),
    }
}

fn balance(ledger: &Ledger) -> String {
    let ended: Vec<_> = ledger
        .ended
        .iter()
        .filter(|ended| ended.count > 0)
        .map(|ended| format!("{} {}", ended.count, words::outcome(ended.outcome)))
        .collect();
    let ended = if ended.is_empty() { "0".to_owned() } else { ended.join(", ") };
    let verdict = if ledger.difference == 0 {
        "difference 0"
    } else {
        "DIFFERENCE IS NOT 0, SOMEBODY IS LOST OR COUNTED TWICE:"
    };
    let difference = match ledger.difference {
        0 => String::new(),
        n => format!(" {n}"),
    };
    format!(
        "accepted {} = waiting {} + offered {} + active {} + ended ({ended})   {verdict}{difference}",
        ledger.accepted, ledger.waiting, ledger.offered, ledger.active
    )
}

fn section<'a, T: 'a>(
    text: &mut String,
    title: &str,
    head: &str,
    rows: impl IntoIterator<Item = &'a T>,
    row: fn(&T) -> String,
) {
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    let head = if rows.is_empty() { "nobody" } else { head };
    let head = if rows.is_empty() && title == "EVENTS" { "none yet" } else { head };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{title:<11} {head}");
    for row in rows {
        let _ = writeln!(text, "            {row}");
    }
}

fn waiting(chat: &WaitingChat) -> String {
    let waited = span(words::duration(chat.waited.as_ref()));
    let (urgency, state) = (words::urgency(chat.urgency), words::state(chat.state));
    format!("{:>5}  {urgency:<8}  {state:<7}  {waited:<12}  {}", chat.place, short(&chat.chat_id))
}

fn failing(chat: &FailingChat) -> String {
    let waited = span(words::duration(chat.waited.as_ref()));
    let (urgency, state) = (words::urgency(chat.urgency), words::state(chat.state));
    let (times, since) = (chat.failed_deliveries, span(words::duration(chat.failing_for.as_ref())));
    let who = short(&chat.chat_id);
    format!(
        "{urgency:<8}  {state:<7}  {waited:<12}  {who}, FAILED TO REACH ANYBODY {times} times, shown for {since}"
    )
}

fn responder(one: &FloorResponder) -> String {
    let load = format!("{}/{}", one.load, one.capacity);
    let status = words::status(one.status);
    let line = format!("{load:<5}  {:>6}  {status:<14}  {}", one.active, one.responder_id);
    let line = match words::duration(one.cooling_down_for.as_ref()) {
        rest if rest.is_zero() => line,
        rest => format!("{line}, back in {}", span(rest)),
    };
    one.calls.iter().fold(line, |line, call| {
        let waited = span(words::duration(call.waited.as_ref()));
        format!("{line}, CALLS A SUPERVISOR to {} for {waited}", short(&call.chat_id))
    })
}

fn event(event: &Event) -> String {
    let parts = [
        event.kind.clone(),
        short(&event.chat_id).to_owned(),
        event.responder_id.clone(),
        words::outcome(event.outcome).to_owned(),
        status(event).to_owned(),
        event.reason.clone(),
    ];
    let said: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}  {}", time_of_day(event.at_ms), said.join(" "))
}

fn status(event: &Event) -> &'static str {
    if event.status == 0 { "" } else { words::status(event.status) }
}

fn time_of_day(at_ms: u64) -> String {
    let ms = at_ms % DAY_MS;
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{h:02}:{m:02}:{s:02}.{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use holdfast_proto::v1::{ChatOutcome, ChatState, EndedCount, ResponderStatus, SupervisorCall, Urgency};

    use super::*;

    #[test]
    fn a_frame_shows_the_ledger_who_waits_and_who_is_there() {
        let floor = GetFloorResponse {
            ledger: Some(Ledger {
                accepted: 3,
                waiting: 1,
                ended: vec![EndedCount { outcome: ChatOutcome::Completed.into(), count: 2 }],
                ..Ledger::default()
            }),
            waiting: vec![WaitingChat {
                chat_id: "chat-4f2a91".to_owned(),
                urgency: Urgency::High.into(),
                state: ChatState::Waiting.into(),
                place: 1,
                ..WaitingChat::default()
            }],
            responders: vec![FloorResponder {
                responder_id: "ana".to_owned(),
                status: ResponderStatus::CoolingDown.into(),
                capacity: 2,
                cooling_down_for: Some(prost_types::Duration { seconds: 65, nanos: 0 }),
                ..FloorResponder::default()
            }],
            in_line: 1,
            ..GetFloorResponse::default()
        };
        let text = frame(&floor, &Ok(Kpis::default()), &VecDeque::new(), "demo");
        for part in
            ["ended (2 completed)   difference 0", "HIGH", "4f2a91", "0/2", "ana, back in 1 min 5 s", "none yet"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[test]
    fn who_calls_a_supervisor_is_shouted_with_the_chat_and_for_how_long() {
        let call = SupervisorCall {
            chat_id: "chat-4f2a91".to_owned(),
            waited: Some(prost_types::Duration { seconds: 12, nanos: 0 }),
        };
        let ana =
            FloorResponder { responder_id: "ana".to_owned(), calls: vec![call], ..FloorResponder::default() };
        assert!(responder(&ana).ends_with("ana, CALLS A SUPERVISOR to 4f2a91 for 12.0 s"), "{}", responder(&ana));
    }

    #[test]
    fn a_chat_that_reaches_nobody_is_shouted_above_all_others() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let chat = FailingChat {
            chat_id: "chat-4f2a91".to_owned(),
            urgency: Urgency::High.into(),
            state: ChatState::Offered.into(),
            failing_for: seconds(12),
            failed_deliveries: 6,
            waited: seconds(90),
        };
        let floor = GetFloorResponse { failing: vec![chat], failing_in_all: 1, ..GetFloorResponse::default() };
        let text = frame(&floor, &Ok(Kpis::default()), &VecDeque::new(), "demo");
        let shouted = text.find("4f2a91, FAILED TO REACH ANYBODY 6 times, shown for 12.0 s");
        assert!(shouted.is_some_and(|at| at < text.find("WAITING").unwrap()), "{text}");
        let text = frame(&GetFloorResponse::default(), &Ok(Kpis::default()), &VecDeque::new(), "demo");
        assert!(!text.contains("LOOK AFTER"), "{text}");
    }

    #[test]
    fn a_difference_is_shouted() {
        let ledger = Ledger { accepted: 1, difference: 1, ..Ledger::default() };
        assert!(balance(&ledger).ends_with("COUNTED TWICE: 1"));
    }

    #[test]
    fn an_event_is_one_line() {
        let one = Event {
            at_ms: DAY_MS * 20_000 + 3_723_004,
            kind: "offered".to_owned(),
            chat_id: "chat-4f2a91".to_owned(),
            responder_id: "ana".to_owned(),
            ..Event::default()
        };
        assert_eq!(event(&one), "01:02:03.004  offered 4f2a91 ana");
    }
}
