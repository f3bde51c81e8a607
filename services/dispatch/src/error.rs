//! The only place that says what went wrong: as a gRPC status with its google.rpc details, or as the result of an
//! action, in the same words.

use std::{collections::HashMap, time::Duration};

use holdfast_access::Refused;
use holdfast_link::LinkError;
use holdfast_proto::v1::{ActionResult, ChatOutcome};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Who gives the reasons.
pub const DOMAIN: &str = "holdfast";

/// A field that is wrong: where it stands, and what is wrong with it. It never repeats what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, such as `action.accept.chat_id`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    /// `problem` in `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A field is wrong.
    Invalid(Invalid),
    /// It is not for whoever asks.
    Access(Refused),
    /// The first message must be a sign-in, soon.
    SignInExpected,
    /// And only the first.
    SignedInAlready,
    /// This status cannot be declared.
    StatusNotAllowed,
    /// As many sessions are open as this replica serves.
    TooManySessions,
    /// Whoever holds the session does not read.
    SlowReader,
    /// As many boards are watched as this replica serves.
    TooManyBoards,
    /// This replica is going.
    Draining,
    /// A supervisor has signed the responder out.
    SignedOut {
        /// Why, as a fixed word.
        reason: String,
    },
    /// The queue said so to a command, or could not be asked.
    Link(Box<LinkError>),
    /// The queue said so to a question, or could not be asked: its fields are named as the caller named them.
    Asked(Box<LinkError>),
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Access(refused)
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::Link(Box::new(error))
    }
}

/// A failure in words.
struct Said {
    code: Code,
    reason: String,
    problem: String,
    field: String,
    retry_after: Option<Duration>,
    metadata: HashMap<String, String>,
}

impl Said {
    fn new(code: Code, reason: &str, problem: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            problem: problem.to_owned(),
            field: String::new(),
            retry_after: None,
            metadata: HashMap::new(),
        }
    }

    fn field(self, field: &str) -> Self {
        Self { field: field.to_owned(), ..self }
    }

    fn soon(self) -> Self {
        Self { retry_after: Some(Duration::from_millis(500)), ..self }
    }

    fn message(&self) -> String {
        if self.field.is_empty() { self.problem.clone() } else { format!("{}: {}", self.field, self.problem) }
    }
}

impl Failure {
    fn said(&self) -> Said {
        match self {
            Self::Invalid(i) => Said::new(Code::InvalidArgument, "INVALID_FIELD", &i.problem).field(&i.field),
            Self::Access(refused) => {
                Said::new(refused.code(), refused.reason(), refused.problem()).field(refused.field())
            }
            Self::SignInExpected => Said::new(
                Code::FailedPrecondition,
                "SIGN_IN_EXPECTED",
                "the first message must be a sign-in, soon",
            ),
            Self::SignedInAlready => {
                Said::new(Code::FailedPrecondition, "SIGNED_IN_ALREADY", "only the first message is a sign-in")
            }
            Self::StatusNotAllowed => {
                Said::new(Code::InvalidArgument, "STATUS_NOT_ALLOWED", "this status cannot be declared")
                    .field("action.set_status.status")
            }
            Self::TooManySessions => {
                let problem = "as many sessions are open as this replica serves";
                Said::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", problem).soon()
            }
            Self::SlowReader => {
                Said::new(Code::ResourceExhausted, "SLOW_READER", "the stream was not read fast enough")
            }
            Self::TooManyBoards => {
                let problem = "as many boards are watched as this replica serves";
                Said::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", problem).soon()
            }
            Self::Draining => Said::new(Code::Unavailable, "DRAINING", "this replica is going").soon(),
            Self::SignedOut { reason } => {
                let problem = "a supervisor has signed this responder out";
                let metadata = HashMap::from([("supervision_reason".to_owned(), reason.clone())]);
                Said { metadata, ..Said::new(Code::FailedPrecondition, "SIGNED_OUT_BY_SUPERVISOR", problem) }
            }
            Self::Link(error) => linked(error, &public_field(&error.field)),
            Self::Asked(error) => linked(error, &error.field),
        }
    }

    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> String {
        self.said().reason
    }

    /// As the status of a call.
    #[must_use]
    pub fn status(&self) -> Status {
        let said = self.said();
        let message = said.message();
        let mut details = ErrorDetails::with_error_info(said.reason, DOMAIN, said.metadata);
        if !said.field.is_empty() {
            details.add_bad_request_violation(said.field, said.problem);
        }
        if said.retry_after.is_some() {
            details.set_retry_info(said.retry_after);
        }
        Status::with_error_details(said.code, message, details)
    }

    /// As what became of an action.
    #[must_use]
    pub fn result(&self, request_number: u64) -> ActionResult {
        let said = self.said();
        let outcome = said.metadata.get("outcome").map_or(ChatOutcome::Unspecified, |word| outcome(word));
        ActionResult {
            request_number,
            code: said.code.into(),
            message: said.message(),
            reason: said.reason,
            field: said.field,
            outcome: outcome.into(),
            ..ActionResult::default()
        }
    }

    /// A newer sign-in exists.
    #[must_use]
    pub fn is_stale_session(&self) -> bool {
        matches!(self, Self::Link(error) if error.reason == "STALE_SESSION")
    }

    /// The line says that they are not here.
    #[must_use]
    pub fn is_not_signed_in(&self) -> bool {
        matches!(self, Self::Link(error) if error.reason == "NOT_SIGNED_IN")
    }

    /// Asking again later may be answered otherwise.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self.said().code,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted
        )
    }
}

fn linked(error: &LinkError, field: &str) -> Said {
    let reason = if error.reason.is_empty() { "UNSTATED" } else { &error.reason };
    let said = Said::new(error.code, reason, problem(error)).field(field);
    Said { retry_after: error.retry_after, metadata: error.metadata.clone(), ..said }
}

/// The queue names fields of a command; the caller sent them in an action, in the sign-in, in the call around both, or
/// in an act of supervision.
fn public_field(field: &str) -> String {
    if field.is_empty() || field.starts_with("sign_in.") {
        return field.to_owned();
    }
    if let Some(of_act) = field.strip_prefix("supervise.") {
        let of_call = of_act.split_once('.').map(|(_act, rest)| rest.to_owned());
        return of_call.unwrap_or_else(|| format!("supervisor.{of_act}"));
    }
    if let Some((_, of_call)) = field.split_once(".session.") {
        return of_call.to_owned();
    }
    let field = field.replacen(".assignment.", ".", 1).replacen(".offer.", ".", 1);
    match field.strip_prefix("engage.") {
        Some(rest) => format!("action.engaged.{rest}"),
        None => format!("action.{field}"),
    }
}

fn problem(error: &LinkError) -> &str {
    if error.field.is_empty() {
        return &error.message;
    }
    let with_field = error.message.strip_prefix(error.field.as_str());
    with_field.and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&error.message)
}

fn outcome(word: &str) -> ChatOutcome {
    let name = format!("CHAT_OUTCOME_{}", word.to_ascii_uppercase());
    ChatOutcome::from_str_name(&name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_and_a_status_say_the_same() {
        let mut error = LinkError::new(Code::FailedPrecondition, "CHAT_ENDED", "the chat has ended");
        error.metadata.insert("outcome".to_owned(), "left".to_owned());
        let failure = Failure::from(error);

        let (status, result) = (failure.status(), failure.result(7));

        let info = status.get_details_error_info().unwrap();
        assert_eq!((result.code, result.reason), (i32::from(status.code()), info.reason));
        assert_eq!(result.message, status.message());
        assert_eq!((result.request_number, result.outcome), (7, ChatOutcome::Left.into()));
    }

    #[test]
    fn a_field_that_the_queue_refused_is_named_as_the_caller_sent_it() {
        let mut error = LinkError::new(Code::InvalidArgument, "INVALID_FIELD", "set_status.status: is unknown");
        error.field = "set_status.status".to_owned();
        let result = Failure::from(error).result(1);
        assert_eq!(result.field, "action.set_status.status");
        assert_eq!(result.message, "action.set_status.status: is unknown");
    }

    #[test]
    fn a_field_of_an_act_is_named_as_the_supervisor_sent_it() {
        for (said, sent) in [
            ("supervise.reason", "supervisor.reason"),
            ("supervise.supervisor_id", "supervisor.supervisor_id"),
            ("supervise.take_over.session", "session"),
            ("supervise.reroute.to_any_of[0].all_of[1].name", "to_any_of[0].all_of[1].name"),
        ] {
            assert_eq!(public_field(said), sent);
        }
    }
}
