//! What can go wrong for a caller, and the only place that says it in gRPC: code, one sentence, a stable reason.
//!
//! `proto/README.md` documents every reason; a test holds the two together.

use std::{collections::HashMap, time::Duration};

use holdfast_access::Refused;
use holdfast_domain::Refusal;
use holdfast_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    events::cursor_text,
    store::{Below, StoreError},
};

/// The domain of every reason.
const DOMAIN: &str = "holdfast";
/// When to ask again after something that passes by itself.
const SOON: Duration = Duration::from_millis(250);
/// When to ask again after something that takes people, not machines.
const LATER: Duration = Duration::from_secs(5);
/// Problems of a policy that a refusal names, how long each may be, and the field that they are in.
const MOST_PROBLEMS: usize = 20;
const PROBLEM_BYTES: usize = 200;
const POLICY_FIELD: &str = "toml";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        /// The stable word for why a call was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

reasons! {
    /// A field is missing, malformed or out of its range.
    InvalidField = "INVALID_FIELD",
    /// The helpline is not known here.
    UnknownHelpline = "UNKNOWN_HELPLINE",
    /// It is not for whoever asks.
    NotAllowed = "NOT_ALLOWED",
    /// Whoever asks has not proven who they are.
    NotAuthenticated = "NOT_AUTHENTICATED",
    /// No such chat, or not this visitor's.
    UnknownChat = "UNKNOWN_CHAT",
    /// No such responder.
    UnknownResponder = "UNKNOWN_RESPONDER",
    /// The chat has ended.
    ChatEnded = "CHAT_ENDED",
    /// The same request id came with another body.
    RequestConflict = "REQUEST_CONFLICT",
    /// As many chats wait as the policy allows.
    LineFull = "LINE_FULL",
    /// As many new chats came of late as the policy lets in.
    QuotaExceeded = "QUOTA_EXCEEDED",
    /// The policy changed again and again while the command was made.
    PolicyChanged = "POLICY_CHANGED",
    /// No such responder is signed in.
    NotSignedIn = "NOT_SIGNED_IN",
    /// A newer sign-in exists, or the connection of this one was given up.
    StaleSession = "STALE_SESSION",
    /// The offer is not open to this responder.
    OfferGone = "OFFER_GONE",
    /// The assignment is not this responder's.
    StaleFence = "STALE_FENCE",
    /// Nothing to wrap up.
    NotWrappingUp = "NOT_WRAPPING_UP",
    /// No responder may declare this status.
    StatusNotAllowed = "STATUS_NOT_ALLOWED",
    /// While the line surges, LOW requests are shown the resources first.
    ResourcesFirst = "RESOURCES_FIRST",
    /// While the line surges, whoever asks proves some work first.
    Challenge = "CHALLENGE",
    /// The helpline is closed, and lets nobody wait until it opens.
    Closed = "CLOSED",
    /// This helpline does not take the partner's chat now.
    NotTaken = "NOT_TAKEN",
    /// The proposal to a partner is not open any more.
    ProposalGone = "PROPOSAL_GONE",
    /// The chat or the responder is not in a state in which this could be done.
    WrongState = "WRONG_STATE",
    /// The responder cannot be offered this chat now.
    NotAvailable = "NOT_AVAILABLE",
    /// As many reroutes are in force as there may be.
    TooManyReroutes = "TOO_MANY_REROUTES",
    /// The visitor gets no place in this line for a time.
    Blocked = "BLOCKED",
    /// No such block, or not any more.
    UnknownBlock = "UNKNOWN_BLOCK",
    /// Somebody else than who proposed a block must confirm it.
    SamePerson = "SAME_PERSON",
    /// There is a block of this visitor already, or the proposal of one.
    AlreadyBlocked = "ALREADY_BLOCKED",
    /// As many blocks are in force, or wait to be confirmed, as there may be.
    TooManyBlocks = "TOO_MANY_BLOCKS",
    /// That revision of the policy is not kept.
    UnknownRevision = "UNKNOWN_REVISION",
    /// The lint found errors in the policy.
    PolicyRefused = "POLICY_REFUSED",
    /// Tags in use would move.
    TagsMoved = "TAGS_MOVED",
    /// The cursor is older than the events that are kept.
    CursorTooOld = "CURSOR_TOO_OLD",
    /// The store did not answer; the outcome is unknown.
    StoreUnreachable = "STORE_UNREACHABLE",
    /// The store refuses writes; nothing was changed.
    StoreRefusing = "STORE_REFUSING",
    /// Too few replicas confirmed the change in time; the outcome is unknown.
    StoreNotReplicated = "STORE_NOT_REPLICATED",
    /// Acknowledgements are worth less than the operator asks for, so no new chats are taken.
    StoreBelowFloor = "STORE_BELOW_FLOOR",
    /// Something is broken inside.
    Internal = "INTERNAL",
    /// The deadline passed before the command was begun; nothing was changed.
    NotBegun = "NOT_BEGUN",
    /// The deadline passed while the command was carried out; the outcome is unknown.
    OutcomeUnknown = "OUTCOME_UNKNOWN",
    /// More commands are unanswered than the window allows.
    WindowFull = "WINDOW_FULL",
    /// Too many requests wait to be carried out; nothing was changed.
    Overloaded = "OVERLOADED",
    /// As many streams are open as this replica serves.
    TooManyStreams = "TOO_MANY_STREAMS",
    /// The first message must be a hello, soon, and only the first.
    HelloExpected = "HELLO_EXPECTED",
    /// The reader took nothing for too long.
    SlowReader = "SLOW_READER",
    /// This replica is going.
    Draining = "DRAINING",
}

/// A field that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) field: String,
    pub(crate) problem: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Why a call or a command fails.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    Invalid(Invalid),
    /// It is not for whoever asks.
    Access(Refused),
    Refused(Refusal),
    Store(StoreError),
    UnknownHelpline,
    UnknownChat,
    UnknownResponder,
    UnknownRevision,
    /// What keeps acknowledgements from being worth enough.
    BelowFloor(Below),
    /// The helpline is closed; when it opens (wall time), if that is known.
    Closed(Option<u64>),
    /// What is wrong with a policy, one line each.
    PolicyRefused(Vec<String>),
    /// The first tag that would move.
    TagsMoved(usize),
    /// Refused at the door; the field names which status.
    StatusNotAllowed(&'static str),
    /// The store answered with another command's reply.
    Mismatched,
    NotBegun,
    OutcomeUnknown,
    WindowFull(u32),
    Overloaded,
    TooManyStreams,
    HelloExpected,
    SlowReader,
    Draining,
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

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A failure in words.
struct Said {
    code: Code,
    reason: Reason,
    message: String,
    /// Fields that are wrong, and what is wrong with each.
    fields: Vec<(String, String)>,
    retry_after: Option<Duration>,
    metadata: HashMap<String, String>,
}

impl Said {
    fn new(code: Code, reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, reason, message, fields: Vec::new(), retry_after: None, metadata: HashMap::new() }
    }

    fn invalid(reason: Reason, field: &str, problem: &str) -> Self {
        Self {
            fields: vec![(field.to_owned(), problem.to_owned())],
            ..Self::new(Code::InvalidArgument, reason, format!("{field}: {problem}"))
        }
    }

    fn retry(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    fn with(mut self, key: &str, value: String) -> Self {
        self.metadata.insert(key.to_owned(), value);
        self
    }
}

impl Failure {
    fn said(&self) -> Said {
        match self {
            Self::Invalid(i) => Said::invalid(Reason::InvalidField, &i.field, &i.problem),
            Self::Access(refused) => not_theirs(refused),
            Self::Refused(refusal) => refused(refusal),
            Self::Store(error) => store_failed(error),
            Self::UnknownHelpline => {
                Said::new(Code::NotFound, Reason::UnknownHelpline, "no such helpline is served here")
            }
            Self::UnknownChat => Said::new(Code::NotFound, Reason::UnknownChat, "no such chat"),
            Self::UnknownResponder => Said::new(Code::NotFound, Reason::UnknownResponder, "no such responder"),
            Self::UnknownRevision => {
                Said::new(Code::NotFound, Reason::UnknownRevision, "that revision of the policy is not kept")
            }
            Self::Closed(opens_at_ms) => closed(*opens_at_ms),
            Self::BelowFloor(why) => Said::new(
                Code::Unavailable,
                Reason::StoreBelowFloor,
                "no new chats are taken while they could not be kept as safely as they must be",
            )
            .with("why", why.word().to_owned())
            .retry(LATER),
            Self::PolicyRefused(problems) => policy_refused(problems),
            Self::TagsMoved(at) => {
                let message = format!(
                    "the tags in force must stay as they are, in order; new ones go to the end (tags[{at}] differs)"
                );
                Said::new(Code::FailedPrecondition, Reason::TagsMoved, message).with("tag", at.to_string())
            }
            Self::StatusNotAllowed(field) => {
                Said::invalid(Reason::StatusNotAllowed, field, "this status cannot be declared")
            }
            Self::Mismatched => internal(),
            Self::NotBegun => Said::new(
                Code::DeadlineExceeded,
                Reason::NotBegun,
                "the deadline passed before the command was begun",
            ),
            Self::OutcomeUnknown => Said::new(
                Code::DeadlineExceeded,
                Reason::OutcomeUnknown,
                "the deadline passed, and whether the command was carried out is not known",
            ),
            Self::WindowFull(window) => Said::new(
                Code::ResourceExhausted,
                Reason::WindowFull,
                format!("more than {window} commands of this stream are unanswered"),
            )
            .retry(SOON),
            Self::Overloaded => Said::new(
                Code::ResourceExhausted,
                Reason::Overloaded,
                "too many requests wait to be carried out; nothing was changed",
            )
            .retry(LATER),
            Self::TooManyStreams => Said::new(
                Code::ResourceExhausted,
                Reason::TooManyStreams,
                "as many streams are open as this replica serves",
            )
            .retry(LATER),
            Self::HelloExpected => Said::new(
                Code::FailedPrecondition,
                Reason::HelloExpected,
                "the first message must be a hello, and only the first",
            ),
            Self::SlowReader => Said::new(
                Code::ResourceExhausted,
                Reason::SlowReader,
                "nothing was read from this stream for too long",
            )
            .retry(LATER),
            Self::Draining => Said::new(Code::Unavailable, Reason::Draining, "this replica is going").retry(SOON),
        }
    }

    /// As the status of a call.
    pub(crate) fn status(&self) -> Status {
        let said = self.said();
        let mut details = ErrorDetails::with_error_info(said.reason.word(), DOMAIN, said.metadata);
        for (field, problem) in said.fields {
            details.add_bad_request_violation(field, problem);
        }
        if said.retry_after.is_some() {
            details.set_retry_info(said.retry_after);
        }
        Status::with_error_details(said.code, said.message, details)
    }

    /// As the answer to a command of an attached replica.
    pub(crate) fn command_error(&self) -> v1::CommandError {
        let said = self.said();
        v1::CommandError {
            code: i32::from(said.code),
            message: said.message,
            reason: said.reason.word().to_owned(),
            field: said.fields.into_iter().next().map(|(field, _)| field).unwrap_or_default(),
            retry_after: said.retry_after.and_then(|d| d.try_into().ok()),
            metadata: said.metadata,
        }
    }

    /// The reason, for metrics and traces.
    pub(crate) fn reason(&self) -> Reason {
        self.said().reason
    }
}

fn not_theirs(refused: &Refused) -> Said {
    let said = |reason| Said::new(refused.code(), reason, refused.problem());
    match refused {
        Refused::UnknownHelpline => Failure::UnknownHelpline.said(),
        Refused::NotAllowed { field, problem } if !field.is_empty() => {
            Said { code: refused.code(), ..Said::invalid(Reason::NotAllowed, field, problem) }
        }
        Refused::NotAllowed { .. } => said(Reason::NotAllowed),
        Refused::NotAuthenticated | Refused::TokenExpired | Refused::UnknownRpc => said(Reason::NotAuthenticated),
    }
}

fn internal() -> Said {
    Said::new(Code::Internal, Reason::Internal, "something is broken inside; it has been logged")
}

/// Nothing passes by itself here but time, and callers repeat what is UNAVAILABLE: so it is a precondition.
fn closed(opens_at_ms: Option<u64>) -> Said {
    let said = Said::new(Code::FailedPrecondition, Reason::Closed, "the helpline is closed now");
    match opens_at_ms {
        Some(at) => said.with("opens_at_ms", at.to_string()),
        None => said,
    }
}

/// Details travel in a header, which has its limits: the first problems are told, and how many more there are.
fn policy_refused(problems: &[String]) -> Said {
    let count = problems.len();
    let message = format!("the policy is not put in force; errors found by the lint: {count}");
    let told = problems.iter().take(MOST_PROBLEMS);
    let fields = told.map(|problem| (POLICY_FIELD.to_owned(), beginning(problem, PROBLEM_BYTES)));
    let said = Said::new(Code::InvalidArgument, Reason::PolicyRefused, message).with("errors", count.to_string());
    Said { fields: fields.collect(), ..said }
}

/// As much of a text as fits, in whole characters.
fn beginning(text: &str, most: usize) -> String {
    let fits = |(at, character): &(usize, char)| at + character.len_utf8() <= most;
    text.char_indices().take_while(fits).map(|(_, character)| character).collect()
}

fn refused(refusal: &Refusal) -> Said {
    let precondition = |reason, message: &str| Said::new(Code::FailedPrecondition, reason, message);
    match refusal {
        Refusal::NoPolicy => Failure::UnknownHelpline.said(),
        Refusal::PolicyChanged { revision } => {
            Said::new(Code::Aborted, Reason::PolicyChanged, "the helpline's policy changed meanwhile")
                .retry(SOON)
                .with("revision", revision.to_string())
        }
        Refusal::RequestConflict => {
            Said::new(Code::AlreadyExists, Reason::RequestConflict, "the same request came with another content")
        }
        Refusal::LineFull => {
            Said::new(Code::ResourceExhausted, Reason::LineFull, "as many chats wait as this helpline allows")
                .retry(LATER)
        }
        Refusal::QuotaExceeded { wait_ms } => Said::new(
            Code::ResourceExhausted,
            Reason::QuotaExceeded,
            "as many new chats came of late as this helpline lets in",
        )
        .retry(Duration::from_millis(*wait_ms)),
        Refusal::UnknownChat => Failure::UnknownChat.said(),
        Refusal::ChatEnded { outcome } => {
            precondition(Reason::ChatEnded, "the chat has ended").with("outcome", outcome.word().to_owned())
        }
        Refusal::NotSignedIn => precondition(Reason::NotSignedIn, "no such responder is signed in"),
        Refusal::StaleSession => {
            precondition(Reason::StaleSession, "a newer sign-in exists, or this one's connection was given up")
        }
        Refusal::OfferGone => precondition(Reason::OfferGone, "the offer is not open to this responder any more"),
        Refusal::StaleFence => precondition(Reason::StaleFence, "the assignment is not this responder's any more"),
        Refusal::NotWrappingUp => precondition(Reason::NotWrappingUp, "there is nothing to wrap up"),
        Refusal::StatusNotAllowed => Failure::StatusNotAllowed("set_status.status").said(),
        Refusal::ResourcesFirst => Said::new(
            Code::ResourceExhausted,
            Reason::ResourcesFirst,
            "many are waiting: the resources come first, and whoever has seen them is let in",
        ),
        Refusal::Challenge { bits } => {
            precondition(Reason::Challenge, "many are waiting: whoever asks solves a challenge first")
                .with("bits", bits.to_string())
        }
        Refusal::NotTaken => precondition(Reason::NotTaken, "this helpline does not take the partner's chat now"),
        Refusal::ProposalGone => precondition(Reason::ProposalGone, "the proposal is not open any more"),
        Refusal::WrongState => precondition(
            Reason::WrongState,
            "the chat or the responder is not in a state in which this could be done",
        ),
        Refusal::NotAvailable => {
            precondition(Reason::NotAvailable, "the responder cannot be offered this chat now")
        }
        Refusal::TooManyReroutes => Said::new(
            Code::ResourceExhausted,
            Reason::TooManyReroutes,
            "as many reroutes are in force as there may be: end one first",
        ),
        // Not a word of why or by whom.
        Refusal::Blocked => {
            precondition(Reason::Blocked, "there is no place in this line now; there is help elsewhere")
        }
        Refusal::UnknownBlock => Said::new(Code::NotFound, Reason::UnknownBlock, "no such block, or not any more"),
        Refusal::SamePerson => {
            precondition(Reason::SamePerson, "somebody else than who proposed the block must confirm it")
        }
        Refusal::AlreadyBlocked { block } => Said::new(
            Code::AlreadyExists,
            Reason::AlreadyBlocked,
            "there is a block of this visitor already, or the proposal of one",
        )
        .with("block_id", block.to_string()),
        Refusal::TooManyBlocks => Said::new(
            Code::ResourceExhausted,
            Reason::TooManyBlocks,
            "as many blocks are in force, or wait to be confirmed, as there may be: lift one first",
        ),
    }
}

fn store_failed(error: &StoreError) -> Said {
    match error {
        StoreError::Unreachable(_) => Said::new(
            Code::Unavailable,
            Reason::StoreUnreachable,
            "the store did not answer, and whether the command was carried out is not known",
        )
        .retry(SOON),
        StoreError::Refusing(_) => {
            Said::new(Code::Unavailable, Reason::StoreRefusing, "the store refuses writes; nothing was changed")
                .retry(LATER)
        }
        StoreError::NotReplicated { .. } => Said::new(
            Code::Unavailable,
            Reason::StoreNotReplicated,
            "too few replicas confirmed the change in time, and whether it stands is not known",
        )
        .retry(SOON),
        StoreError::Garbled(_) => internal(),
        StoreError::CursorTooOld { first } => {
            Said::new(Code::OutOfRange, Reason::CursorTooOld, "the cursor is older than the events that are kept")
                .with("first_cursor", cursor_text(first))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_domain::EndedAs;

    #[test]
    fn every_reason_is_documented_in_the_contract() {
        let readme = include_str!("../../../proto/README.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` |", reason.word());
            assert!(readme.contains(&row), "proto/README.md has no row {row}");
        }
    }

    #[test]
    fn a_command_error_and_a_status_say_the_same() {
        let failure = Failure::Refused(Refusal::ChatEnded { outcome: EndedAs::Left });
        let (status, error) = (failure.status(), failure.command_error());
        let info = status.get_details_error_info().unwrap();
        assert_eq!(error.code, i32::from(status.code()));
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("CHAT_ENDED", "holdfast"));
        assert_eq!(info.metadata.get("outcome").unwrap(), "left");
        assert_eq!((error.reason, error.metadata), (info.reason, info.metadata));
    }

    #[test]
    fn a_long_problem_is_cut_between_characters() {
        assert_eq!(beginning("line 1: ä", 200), "line 1: ä");
        assert_eq!(beginning("ääää", 5), "ää");
        assert_eq!(beginning("", 5), "");
    }

    #[test]
    fn what_the_store_holds_is_never_quoted() {
        let failure = Failure::Store(StoreError::Garbled("a record".to_owned()));
        assert!(!failure.status().message().contains("record"));
        let failure = Failure::Store(StoreError::Unreachable("10.0.0.7:6379".to_owned()));
        assert!(!failure.status().message().contains("10.0"));
    }
}
