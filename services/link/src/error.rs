//! Why a command or a read was not answered with an outcome.

use std::{collections::HashMap, time::Duration};

use holdfast_proto::v1::CommandError;
use holdfast_runtime::{client::ClientError, config::ConfigError};
use tonic::{Code, Status};
use tonic_types::StatusExt;

pub(crate) const UNREACHABLE: &str = "the line cannot be reached now";

/// Reason when no replica is attached; nothing was sent.
pub const QUEUE_UNREACHABLE: &str = "QUEUE_UNREACHABLE";
/// Reason when nobody knows whether the command was carried out.
pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
/// Reason when too much waits already; nothing was sent.
pub const BUSY: &str = "BUSY";
/// Reason when more new chats are requested than the queues can carry out in time; nothing was changed.
pub const OVERLOADED: &str = "OVERLOADED";

/// Reason when as many new chats came of late as the helpline's policy lets in; a word of the line's.
pub const QUOTA_EXCEEDED: &str = "QUOTA_EXCEEDED";
/// Reason when as many chats wait as the helpline allows; a word of the line's.
pub const LINE_FULL: &str = "LINE_FULL";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is nowhere to attach to.
    #[error("queue.addresses: at least one address is needed")]
    NoAddress,
    /// The key for the queue cannot be read.
    #[error("queue.key_file: {0}")]
    Key(#[from] ConfigError),
    /// An address is not one.
    #[error("queue.addresses: {0}")]
    Address(#[from] ClientError),
    /// An address that is looked up by name needs a host and a port.
    #[error("queue.addresses: {0:?} cannot be looked up: with discovery = \"dns\" it must be https://name:port")]
    NotAName(String),
}

/// A refusal, or what became of a command or read that was not answered; as a gRPC status would say it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?} {reason}: {message}")]
pub struct LinkError {
    /// The status code.
    pub code: Code,
    /// One sentence.
    pub message: String,
    /// Stable, in capitals, such as `STALE_FENCE`; may be empty.
    pub reason: String,
    /// Which field was wrong, where one was; else empty.
    pub field: String,
    /// When to try again, where that makes sense.
    pub retry_after: Option<Duration>,
    /// Facts that belong to the reason.
    pub metadata: HashMap<String, String>,
}

impl LinkError {
    /// A refusal without more than this.
    #[must_use]
    pub fn new(code: Code, reason: &str, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
            reason: reason.to_owned(),
            field: String::new(),
            retry_after: None,
            metadata: HashMap::new(),
        }
    }

    fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    pub(crate) fn unreachable() -> Self {
        Self::new(Code::Unavailable, QUEUE_UNREACHABLE, UNREACHABLE).after(Duration::from_secs(1))
    }

    pub(crate) fn unknown_outcome() -> Self {
        let message = "the answer was lost on its way: whether it was done is unknown";
        Self::new(Code::Unavailable, OUTCOME_UNKNOWN, message).after(Duration::from_millis(200))
    }

    pub(crate) fn busy() -> Self {
        Self::new(Code::ResourceExhausted, BUSY, "too much is waiting for the line").after(Duration::from_secs(1))
    }

    /// What a replica would answer, without asking it.
    pub(crate) fn overloaded() -> Self {
        let message = "too many requests wait to be carried out; nothing was changed";
        Self::new(Code::ResourceExhausted, OVERLOADED, message).after(Duration::from_secs(1))
    }

    pub(crate) fn late() -> Self {
        let message = "the deadline passed before the answer: whether it was done is unknown";
        Self::new(Code::DeadlineExceeded, OUTCOME_UNKNOWN, message)
    }

    /// The replica said that it did not begin: any command may go to another.
    pub(crate) fn is_untouched(&self) -> bool {
        matches!(self.reason.as_str(), "DRAINING" | "WINDOW_FULL")
    }

    pub(crate) fn is_unknown_outcome(&self) -> bool {
        self.reason == OUTCOME_UNKNOWN
    }
}

impl From<CommandError> for LinkError {
    fn from(error: CommandError) -> Self {
        Self {
            code: Code::from(error.code),
            message: error.message,
            reason: error.reason,
            field: error.field,
            retry_after: error.retry_after.and_then(|d| d.try_into().ok()),
            metadata: error.metadata,
        }
    }
}

impl From<Status> for LinkError {
    /// What the other side said, with its google.rpc details. Where it said nothing of the kind, as when a connection
    /// breaks, the words of the transport stay here: they may name an address.
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let field = details.bad_request().and_then(|b| b.field_violations.first()).map(|v| v.field.clone());
        let gone = holdfast_runtime::client::is_retryable(&status);
        if gone && info.is_none() {
            return Self::unreachable();
        }
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|i| i.reason.clone()).unwrap_or_default(),
            field: field.unwrap_or_default(),
            retry_after: details.retry_info().and_then(|r| r.retry_delay),
            metadata: info.map(|i| i.metadata.clone()).unwrap_or_default(),
        }
    }
}
