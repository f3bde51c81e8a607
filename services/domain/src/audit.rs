//! Which events are somebody's decision, and whose. What the line does of itself is told by the events alone.

use crate::event::{Event, EventKind, Reason};
use crate::ids::ResponderId;

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A responder, about a chat or themselves.
    Responder(ResponderId),
    /// A supervisor, about others.
    Supervisor(ResponderId),
    /// The visitor of the chat.
    Visitor,
    /// Whoever put a policy in force.
    Operator(ResponderId),
    /// A policy file that was read at start.
    Settings,
}

/// Who decided what the event tells; `None` where it follows from what was decided before, or from time alone.
///
/// One act may be told by several events, one for each chat or responder that it is about: who takes a chat over takes it
/// from somebody as well.
#[must_use]
pub fn decided_by(event: &Event) -> Option<Actor> {
    match event.kind {
        EventKind::BlockProposed | EventKind::BlockConfirmed | EventKind::BlockLifted => supervisor(event),
        EventKind::Accepted | EventKind::Declined | EventKind::SupervisorCalled | EventKind::SignedIn => {
            supervisor(event).or_else(|| responder(event))
        }
        // With a reason, so that what only follows from an act in the same step is not one.
        EventKind::Offered | EventKind::Rerouted | EventKind::RerouteEnded => stated(event),
        EventKind::Returned | EventKind::SignedOut | EventKind::StatusChanged | EventKind::CoolingDown => {
            stated(event).or_else(|| asked(event))
        }
        EventKind::Ended | EventKind::Triaged => stated(event).or_else(|| asked(event)).or_else(|| visitor(event)),
        EventKind::Erased | EventKind::Reopened => Some(Actor::Visitor),
        EventKind::PolicySet => Some(event.by.clone().map_or(Actor::Settings, Actor::Operator)),
        EventKind::Requested
        | EventKind::Restored
        | EventKind::Reclaimed
        | EventKind::Relaxed
        | EventKind::Missed
        | EventKind::Rescinded
        | EventKind::Engaged
        | EventKind::DeliveryFailing
        | EventKind::Away
        | EventKind::Back
        | EventKind::Forgotten
        | EventKind::Unlinked
        | EventKind::WrappedUp
        | EventKind::CooledDown
        | EventKind::ShiftEnding
        | EventKind::Overflowing
        | EventKind::OverflowRefused
        | EventKind::Held
        | EventKind::HoldDue
        | EventKind::Admitted
        | EventKind::Released
        | EventKind::Surge
        | EventKind::Paging
        | EventKind::Paged
        | EventKind::PageFailed
        | EventKind::GateClosed
        | EventKind::GateOpened
        | EventKind::BlockLapsed
        | EventKind::BlockExpired
        | EventKind::Revived => None,
    }
}

fn supervisor(event: &Event) -> Option<Actor> {
    event.by.clone().map(Actor::Supervisor)
}

fn stated(event: &Event) -> Option<Actor> {
    event.reason.and_then(|_| supervisor(event))
}

fn responder(event: &Event) -> Option<Actor> {
    event.responder.clone().map(Actor::Responder)
}

/// A responder said so, of a chat in their hands or of themselves.
fn asked(event: &Event) -> Option<Actor> {
    matches!(event.reason, Some(Reason::Asked | Reason::Transfer)).then(|| responder(event)).flatten()
}

fn visitor(event: &Event) -> Option<Actor> {
    (event.reason == Some(Reason::Visitor)).then_some(Actor::Visitor)
}
