//! The only place that speaks gRPC statuses: each refusal with its google.rpc details.

use std::{collections::HashMap, time::Duration};

use holdfast_access::Refused;
use holdfast_link::LinkError;
use holdfast_proto::v1::{Challenge, GetFallbackResponse};
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

use crate::triage::Unfit;

/// Who gives the reasons.
pub const DOMAIN: &str = "holdfast";

/// A field that is wrong: where it stands, and what is wrong with it. It never repeats what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, such as `routing_steps[1].after`.
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

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A field is wrong.
    Invalid(Invalid),
    /// It is not for whoever asks.
    Access(Refused),
    /// No such chat, or not this visitor's: from outside the two are one.
    UnknownChat,
    /// As many streams are open as this replica serves.
    TooManyWatches,
    /// One source asks too often; it may again after this.
    TooManyFromHere(Duration),
    /// The helpline asks for work first.
    Challenge(Challenge),
    /// Whoever watches does not read.
    SlowReader,
    /// This replica is going.
    Draining,
    /// What a helpline offers instead is not known here now.
    NoFallback,
    /// The queue said so, or could not be asked.
    Link(Box<LinkError>),
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

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        Self::Invalid(unfit.invalid)
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        if error.reason == "UNKNOWN_CHAT" {
            return Self::UnknownChat;
        }
        Self::Link(Box::new(error))
    }
}

impl Failure {
    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Invalid(_) => "INVALID_FIELD",
            Self::Access(refused) => refused.reason(),
            Self::UnknownChat => "UNKNOWN_CHAT",
            Self::TooManyWatches => "TOO_MANY_STREAMS",
            Self::TooManyFromHere(_) => "SOURCE_LIMIT",
            Self::Challenge(_) => "CHALLENGE",
            Self::SlowReader => "SLOW_READER",
            Self::Draining => "DRAINING",
            Self::NoFallback => "FALLBACK_UNKNOWN",
            Self::Link(error) if error.reason.is_empty() => "UNSTATED",
            Self::Link(error) => &error.reason,
        }
    }

    /// The status for the caller.
    #[must_use]
    pub fn status(&self) -> Status {
        let soon = Some(Duration::from_secs(1));
        match self {
            Self::Invalid(invalid) => {
                let mut details = self.details(HashMap::new(), None);
                details.add_bad_request_violation(&invalid.field, &invalid.problem);
                let message = format!("{}: {}", invalid.field, invalid.problem);
                Status::with_error_details(Code::InvalidArgument, message, details)
            }
            Self::Access(refused) => refused.status(),
            Self::UnknownChat => self.plain(Code::NotFound, "no such chat", None),
            Self::TooManyWatches => {
                self.plain(Code::ResourceExhausted, "as many streams are open as this replica serves", soon)
            }
            Self::TooManyFromHere(wait) => {
                self.plain(Code::ResourceExhausted, "too many requests came from there", Some(*wait))
            }
            Self::Challenge(challenge) => {
                let bits = HashMap::from([("bits".to_owned(), challenge.bits.to_string())]);
                let message = "many are waiting: whoever asks solves the challenge first";
                let status =
                    Status::with_error_details(Code::FailedPrecondition, message, self.details(bits, None));
                with_detail(&status, "Challenge", challenge)
            }
            Self::SlowReader => self.plain(Code::ResourceExhausted, "the stream was not read fast enough", None),
            Self::Draining => self.plain(Code::Unavailable, "this replica is going", soon),
            Self::NoFallback => {
                self.plain(Code::Unavailable, "what is offered instead is not known here now", soon)
            }
            Self::Link(error) => self.linked(error),
        }
    }

    fn details(&self, metadata: HashMap<String, String>, retry_after: Option<Duration>) -> ErrorDetails {
        let mut details = ErrorDetails::with_error_info(self.reason(), DOMAIN, metadata);
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        details
    }

    fn plain(&self, code: Code, message: &str, retry_after: Option<Duration>) -> Status {
        Status::with_error_details(code, message, self.details(HashMap::new(), retry_after))
    }

    fn linked(&self, error: &LinkError) -> Status {
        let mut details = self.details(error.metadata.clone(), error.retry_after);
        if !error.field.is_empty() {
            details.add_bad_request_violation(public_field(&error.field), problem(error));
        }
        let message = match error.field.is_empty() {
            true => error.message.clone(),
            false => format!("{}: {}", public_field(&error.field), problem(error)),
        };
        Status::with_error_details(error.code, message, details)
    }

    /// The status, with where else to turn.
    #[must_use]
    pub fn status_with(&self, fallback: &GetFallbackResponse) -> Status {
        let status = self.status();
        if fallback.resources.is_empty() {
            return status;
        }
        with_detail(&status, "GetFallbackResponse", fallback)
    }
}

/// A status with one more detail, a message of the contract.
fn with_detail(status: &Status, name: &str, detail: &impl Message) -> Status {
    // What was just encoded can be decoded; if it could not, an empty status still carries the detail.
    let mut said = pb::Status::decode(status.details()).unwrap_or_default();
    let type_url = format!("type.googleapis.com/holdfast.v1.{name}");
    said.details.push(Any { type_url, value: detail.encode_to_vec() });
    Status::with_details(status.code(), status.message().to_owned(), said.encode_to_vec().into())
}

/// The queue names fields of a command; the caller sent them under the same names, one level higher, but for the
/// responders, whom only sealed tokens name.
fn public_field(field: &str) -> &str {
    let field = field.strip_prefix("request.").or_else(|| field.strip_prefix("triage.")).unwrap_or(field);
    match field.split('[').next() {
        Some("preferred_responder_id") => "return_token",
        Some("excluded_responder_ids") => "not_again_tokens",
        _ => field,
    }
}

fn problem(error: &LinkError) -> &str {
    let with_field = error.message.strip_prefix(error.field.as_str());
    with_field.and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&error.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::v1::Resource;

    #[test]
    fn a_field_that_the_queue_refused_is_named_as_the_caller_sent_it() {
        let mut error = LinkError::new(Code::InvalidArgument, "INVALID_FIELD", "request.urgency: is unknown");
        error.field = "request.urgency".to_owned();

        let status = Failure::from(error).status();

        let bad = status.get_details_bad_request().unwrap();
        assert_eq!(bad.field_violations[0].field, "urgency");
        assert_eq!(bad.field_violations[0].description, "is unknown");
        assert_eq!(status.message(), "urgency: is unknown");
    }

    #[test]
    fn a_refusal_carries_where_else_to_turn_beside_its_reason() {
        let resource = Resource { title: "A service".to_owned(), ..Resource::default() };
        let fallback = GetFallbackResponse { resources: vec![resource] };

        let status = Failure::NoFallback.status_with(&fallback);

        assert_eq!(status.get_details_error_info().unwrap().reason, "FALLBACK_UNKNOWN");
        let said = pb::Status::decode(status.details()).unwrap();
        let any = said.details.iter().find(|d| d.type_url.ends_with("GetFallbackResponse")).unwrap();
        assert_eq!(GetFallbackResponse::decode(any.value.as_slice()).unwrap(), fallback);
    }

    #[test]
    fn a_wrong_token_and_an_unknown_chat_look_the_same() {
        let of_queue = LinkError::new(Code::NotFound, "UNKNOWN_CHAT", "whatever");
        let (one, other) = (Failure::from(of_queue).status(), Failure::UnknownChat.status());
        assert_eq!((one.code(), one.message(), one.details()), (other.code(), other.message(), other.details()));
    }
}
