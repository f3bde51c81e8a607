//! The authorisation table: every RPC, and who may call it. What is not here is not there for anybody.
//!
//! Whom a call may speak for is not a matter of the table: the helpline, the responder and the supervisor that a message
//! names must be the caller's own, which [`Caller`](crate::Caller) says where the message is read.

use std::{collections::HashMap, sync::LazyLock};

/// What a credential may be used for. Names are what claims and key files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// An integrator who asks for chats on behalf of visitors.
    RequestChats,
    /// Takes chats.
    Responder,
    /// Moves people and chats about during a shift, and decides nothing about how a chat goes.
    ShiftLead,
    /// Watches over both sides, and may step in.
    Supervisor,
    /// Puts policies in force. Sees no content, as nobody does but the two who talk.
    Operator,
    /// Reads policies, figures, events, explanations and the audit; changes nothing.
    Auditor,
    /// Another service of ours: the visitors' door.
    Intake,
    /// Another service of ours: the responders' door.
    Dispatch,
}

impl Grant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RequestChats,
        Self::Responder,
        Self::ShiftLead,
        Self::Supervisor,
        Self::Operator,
        Self::Auditor,
        Self::Intake,
        Self::Dispatch,
    ];

    /// As claims and key files name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestChats => "chats:request",
            Self::Responder => "responder",
            Self::ShiftLead => "shift_lead",
            Self::Supervisor => "supervisor",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Intake => "intake",
            Self::Dispatch => "dispatch",
        }
    }

    /// The grant of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.name() == name)
    }

    /// An issuer's token may say so. A service proves itself with a key: whoever can have a token made must
    /// not become one.
    #[must_use]
    pub fn comes_by_token(self) -> bool {
        !matches!(self, Self::Intake | Self::Dispatch)
    }

    /// A key may say so. Keys are for programs: people act in their own name, which is what the record of their acts says.
    #[must_use]
    pub fn comes_by_key(self) -> bool {
        !matches!(self, Self::Responder | Self::ShiftLead | Self::Supervisor)
    }

    /// May be for every helpline at once.
    #[must_use]
    pub fn may_span_helplines(self) -> bool {
        matches!(self, Self::Operator | Self::Auditor | Self::Intake | Self::Dispatch)
    }
}

/// Whom an RPC is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody; a credential that comes along is not looked at.
    Anybody,
    /// Whoever holds the chat's own token, which stands in the message and is proven where the chat is. A credential that
    /// comes along is not looked at: a visitor keeps their chat when the key of the page they came by is gone.
    Visitor,
    /// Whoever has one of these.
    Granted(&'static [Grant]),
    /// Nobody: it is a service of others, which ours call.
    Nobody,
}

/// An RPC by its full name, and whom it is for.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// As in the path of the call, without the slash before it.
    pub rpc: &'static str,
    /// Whom it is for.
    pub who: Who,
}

const fn row(rpc: &'static str, who: Who) -> Row {
    Row { rpc, who }
}

const SERVICES: Who = Who::Granted(&[Grant::Intake, Grant::Dispatch]);
const READERS: Who = Who::Granted(&[Grant::Intake, Grant::Dispatch, Grant::Operator, Grant::Auditor]);
const SUPERVISOR: Who = Who::Granted(&[Grant::Supervisor]);
const SHIFT: Who = Who::Granted(&[Grant::Supervisor, Grant::ShiftLead]);
const OVERSIGHT: Who = Who::Granted(&[Grant::Supervisor, Grant::ShiftLead, Grant::Auditor]);
const RESPONDER: Who = Who::Granted(&[Grant::Responder]);

/// The table.
pub const TABLE: &[Row] = &[
    // Visitors. Where else to turn is answered to everybody, always.
    row("holdfast.v1.IntakeService/RequestChat", Who::Granted(&[Grant::RequestChats])),
    row("holdfast.v1.IntakeService/WatchChat", Who::Visitor),
    row("holdfast.v1.IntakeService/UpdateChat", Who::Visitor),
    row("holdfast.v1.IntakeService/LeaveChat", Who::Visitor),
    row("holdfast.v1.IntakeService/ResumeChat", Who::Visitor),
    row("holdfast.v1.IntakeService/EraseChat", Who::Visitor),
    row("holdfast.v1.IntakeService/GetFallback", Who::Anybody),
    row("holdfast.v1.IntakeService/GetLimits", Who::Anybody),
    // Responders, each for themselves.
    row("holdfast.v1.DispatchService/Session", RESPONDER),
    row("holdfast.v1.DispatchService/Watch", RESPONDER),
    row("holdfast.v1.DispatchService/Act", RESPONDER),
    // Supervisors, each in their own name.
    row("holdfast.v1.SupervisionService/WatchFloor", SHIFT),
    row("holdfast.v1.SupervisionService/AssignChat", SHIFT),
    row("holdfast.v1.SupervisionService/PullChat", SHIFT),
    row("holdfast.v1.SupervisionService/TakeOver", SUPERVISOR),
    row("holdfast.v1.SupervisionService/SetUrgency", SUPERVISOR),
    row("holdfast.v1.SupervisionService/EndChat", SUPERVISOR),
    row("holdfast.v1.SupervisionService/EndBreak", SHIFT),
    row("holdfast.v1.SupervisionService/ExtendRest", SHIFT),
    row("holdfast.v1.SupervisionService/ForceOffline", SUPERVISOR),
    row("holdfast.v1.SupervisionService/Reroute", SHIFT),
    row("holdfast.v1.SupervisionService/ProposeBlock", SUPERVISOR),
    row("holdfast.v1.SupervisionService/ConfirmBlock", SUPERVISOR),
    row("holdfast.v1.SupervisionService/LiftBlock", SUPERVISOR),
    row("holdfast.v1.SupervisionService/ListBlocks", SUPERVISOR),
    row("holdfast.v1.SupervisionService/ExplainRouting", OVERSIGHT),
    row("holdfast.v1.SupervisionService/GetKpis", OVERSIGHT),
    // The line, for the doors and for operators' tools.
    row("holdfast.v1.QueueService/Attach", SERVICES),
    row("holdfast.v1.QueueService/Execute", SERVICES),
    row("holdfast.v1.QueueService/WatchEvents", READERS),
    row("holdfast.v1.QueueService/GetChat", Who::Granted(&[Grant::Intake])),
    row("holdfast.v1.QueueService/GetPlace", READERS),
    row("holdfast.v1.QueueService/GetResponder", Who::Granted(&[Grant::Dispatch])),
    row("holdfast.v1.QueueService/GetFloor", READERS),
    row("holdfast.v1.QueueService/GetPolicy", READERS),
    row("holdfast.v1.QueueService/PutPolicy", Who::Granted(&[Grant::Operator])),
    row("holdfast.v1.QueueService/ListBlocks", Who::Granted(&[Grant::Dispatch])),
    row("holdfast.v1.QueueService/ExplainRouting", READERS),
    row("holdfast.v1.QueueService/GetKpis", READERS),
    row("holdfast.v1.QueueService/ReadAudit", Who::Granted(&[Grant::Auditor])),
    // A helpline's own program, which intake calls.
    row("holdfast.v1.TriageClassifier/Classify", Who::Nobody),
    // What every service has. Reflection tells the public contract, and can be switched off.
    row("grpc.health.v1.Health/Check", Who::Anybody),
    row("grpc.health.v1.Health/Watch", Who::Anybody),
    row("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Who::Anybody),
    row("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Who::Anybody),
];

/// The commands of the line by their names in `Command`, and which door may give them: whoever takes one door over cannot
/// speak for the other side.
pub const COMMANDS: &[(&str, Grant)] = &[
    ("request", Grant::Intake),
    ("triage", Grant::Intake),
    ("beat", Grant::Intake),
    ("leave", Grant::Intake),
    ("resume", Grant::Intake),
    ("erase", Grant::Intake),
    ("restore", Grant::Intake),
    ("sign_in", Grant::Dispatch),
    ("heartbeat", Grant::Dispatch),
    ("set_status", Grant::Dispatch),
    ("unlink", Grant::Dispatch),
    ("sign_out", Grant::Dispatch),
    ("accept", Grant::Dispatch),
    ("decline", Grant::Dispatch),
    ("engage", Grant::Dispatch),
    ("close", Grant::Dispatch),
    ("transfer", Grant::Dispatch),
    ("finish_wrap_up", Grant::Dispatch),
    ("call_supervisor", Grant::Dispatch),
    ("extend_cool_down", Grant::Dispatch),
    ("supervise", Grant::Dispatch),
    ("reassert", Grant::Dispatch),
];

static BY_PATH: LazyLock<HashMap<&'static str, Who>> =
    LazyLock::new(|| TABLE.iter().map(|row| (row.rpc, row.who)).collect());

/// Whom the RPC of this path is for; `None` when there is none.
#[must_use]
pub fn of(path: &str) -> Option<Who> {
    BY_PATH.get(path.strip_prefix('/')?).copied()
}

/// Which door may give this command; `None` when there is no such command.
#[must_use]
pub fn door_of(command: &str) -> Option<Grant> {
    COMMANDS.iter().find(|(name, _)| *name == command).map(|(_, door)| *door)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_has_one_row() {
        assert_eq!(BY_PATH.len(), TABLE.len());
    }

    #[test]
    fn a_name_is_one_grant_and_a_grant_one_name() {
        for grant in Grant::ALL {
            assert_eq!(Grant::named(grant.name()), Some(grant));
        }
        assert_eq!(Grant::named("root"), None);
    }

    #[test]
    fn every_grant_can_be_had_in_one_way_at_least() {
        assert!(Grant::ALL.iter().all(|grant| grant.comes_by_key() || grant.comes_by_token()));
    }

    #[test]
    fn a_path_that_is_not_quite_an_rpc_is_none() {
        assert!(of("/holdfast.v1.IntakeService/GetLimits").is_some());
        for path in ["", "/", "holdfast.v1.IntakeService/GetLimits", "//holdfast.v1.IntakeService/GetLimits"] {
            assert_eq!(of(path), None, "{path}");
        }
        for path in ["/holdfast.v1.IntakeService/getlimits", "/holdfast.v1.IntakeService/GetLimits/", "/*"] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
