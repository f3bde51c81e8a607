//! Calling a service from a terminal: channels, refusals as sentences, and when to try again.

use std::time::Duration;

use holdfast_proto::v1::{GetFallbackResponse, Resource};
use holdfast_runtime::{
    client::{self, Backoff},
    config::ClientConfig,
    net::Dial,
    tls::ClientTlsConfig,
};
use prost::Message;
use tonic::{Code, Status, service::interceptor::InterceptedService, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    Failure,
    credential::{Credential, Credentials, Whom},
    trust::Trust,
};

/// How services are called from a terminal.
pub(crate) fn client_settings(tls: ClientTlsConfig) -> ClientConfig {
    ClientConfig {
        connect_timeout_ms: 3_000,
        request_timeout_ms: 10_000,
        keepalive_interval_ms: 5_000,
        keepalive_timeout_ms: 5_000,
        tls,
        dial: Dial::SYSTEM,
    }
}

/// The health name that says whether intake lets new chats in.
pub(crate) const ACCEPTING: &str = "holdfast.intake.accepting";

/// The health name that says whether the queue seals content before it reaches the store.
pub(crate) const SEALING: &str = "holdfast.queue.sealing";

/// The longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A service as it is called: its name in sentences, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) service: &'static str,
    pub(crate) address: String,
    tls: ClientTlsConfig,
    credential: Credential,
}

/// How a command calls services: whom it believes, and what it shows.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Calling {
    #[command(flatten)]
    pub(crate) trust: Trust,
    #[command(flatten)]
    credentials: Credentials,
}

impl Calling {
    /// A service at an address, called by `whom`.
    pub(crate) fn to(&self, service: &'static str, address: &str, whom: Whom) -> Remote {
        Remote::new(service, address, self.trust.towards(address), self.credentials.at(address, whom))
    }

    /// A service that is asked for nothing but what it tells everybody.
    pub(crate) fn as_nobody(&self, service: &'static str, address: &str) -> Remote {
        Remote::new(service, address, self.trust.towards(address), Credential::NONE)
    }
}

/// A way to a service, on which every call says who calls.
pub(crate) type Door = InterceptedService<Channel, Credential>;

impl Remote {
    pub(crate) fn new(service: &'static str, address: &str, tls: ClientTlsConfig, credential: Credential) -> Self {
        Self { service, address: address.to_owned(), tls, credential }
    }

    /// Nothing is dialled yet.
    pub(crate) fn channel(&self) -> Result<Door, Failure> {
        let channel = client::channel(&self.address, &client_settings(self.tls.clone()))?;
        Ok(InterceptedService::new(channel, self.credential.clone()))
    }

    /// The one line that a status becomes.
    pub(crate) fn failure(&self, status: &Status) -> Failure {
        if is_unreachable(status) || is_broken(status) {
            return Failure::Unreachable {
                service: self.service,
                address: self.address.clone(),
                reason: innermost(status),
            };
        }
        Failure::Refused { service: self.service, reason: sentence(status) }
    }

    pub(crate) fn incomplete(&self, missing: &'static str) -> Failure {
        Failure::Incomplete { service: self.service, missing }
    }
}

/// Waits of somebody who has not been answered yet: a few seconds altogether.
pub(crate) fn first_tries() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(2), 6)
}

/// Waits of somebody who was connected: as long as a chat is kept for them, and longer.
pub(crate) fn later_tries() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(5), 1_000)
}

/// How long to wait before asking again; `None` when the answer is final or it is time to give up.
pub(crate) fn wait_after(status: &Status, tries: &mut Backoff) -> Option<Duration> {
    let asked_for = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let worth_it = client::is_retryable(status)
        || matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
        || (status.code() == Code::ResourceExhausted && asked_for.is_some());
    if !worth_it {
        return None;
    }
    let asked_for = asked_for.unwrap_or_default().min(MAX_RETRY_AFTER);
    Some(tries.next_delay()?.max(asked_for))
}

/// What a refusal says to a person: the sentence, the field and the stable reason.
pub(crate) fn sentence(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = status.message().to_owned();
    let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
    for violation in violations {
        if !text.contains(&violation.field) {
            text = format!("{text} ({}: {})", violation.field, violation.description);
        }
    }
    if text.is_empty() {
        text = status.code().description().to_owned();
    }
    match details.error_info() {
        Some(info) => format!("{text} [{}]", info.reason),
        None => text,
    }
}

/// The resources that come with a refusal.
pub(crate) fn resources(status: &Status) -> Vec<Resource> {
    let Ok(said) = tonic_types::pb::Status::decode(status.details()) else {
        return Vec::new();
    };
    let fallback = said
        .details
        .iter()
        .find(|any| any.type_url.ends_with("/holdfast.v1.GetFallbackResponse"))
        .and_then(|any| GetFallbackResponse::decode(any.value.as_slice()).ok());
    fallback.map(|fallback| fallback.resources).unwrap_or_default()
}

fn is_unreachable(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::transport::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A connection that broke while something was said on it.
fn is_broken(status: &Status) -> bool {
    status.code() != Code::Unavailable && client::is_retryable(status)
}

/// The last cause is the one that people can do something about.
fn innermost(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, pb};

    use super::*;

    #[test]
    fn a_refusal_names_the_field_and_the_reason() {
        let mut details = ErrorDetails::with_bad_request_violation("urgency", "no such urgency");
        details.set_error_info("INVALID", "holdfast", std::collections::HashMap::new());
        let status = Status::with_error_details(Code::InvalidArgument, "not understood", details);
        assert_eq!(sentence(&status), "not understood (urgency: no such urgency) [INVALID]");
    }

    #[test]
    fn a_final_refusal_is_not_repeated() {
        let mut tries = first_tries();
        assert!(wait_after(&Status::not_found("x"), &mut tries).is_none());
        assert!(wait_after(&Status::resource_exhausted("x"), &mut tries).is_none());
        assert!(wait_after(&Status::unavailable("x"), &mut tries).is_some());
    }

    #[test]
    fn a_wait_is_as_long_as_the_server_asks() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let status = Status::with_error_details(Code::ResourceExhausted, "flood", details);
        let wait = wait_after(&status, &mut first_tries()).unwrap();
        assert!(wait >= Duration::from_secs(3));
    }

    #[test]
    fn the_resources_of_a_refusal_are_found() {
        let resource = Resource { title: "Line".to_owned(), ..Resource::default() };
        let fallback = GetFallbackResponse { resources: vec![resource.clone()] };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/holdfast.v1.GetFallbackResponse".to_owned(),
            value: fallback.encode_to_vec(),
        };
        let said = pb::Status { code: Code::Unavailable as i32, message: String::new(), details: vec![any] };
        let status = Status::with_details(Code::Unavailable, "", said.encode_to_vec().into());
        assert_eq!(resources(&status), vec![resource]);
    }
}
