//! What is said to those who may not: a stable reason, and nothing that would help to try again better.

use std::{borrow::Cow, collections::HashMap};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Who gives the reasons.
const DOMAIN: &str = "holdfast";

/// Why a call goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No credential, or one that is not good. Which of the many things is wrong with it is not said.
    NotAuthenticated,
    /// The token was good and has expired, which whoever holds it can read in it.
    TokenExpired,
    /// The credential is good, and not for this.
    NotAllowed {
        /// Which field asks for too much; may be empty.
        field: String,
        /// In what way.
        problem: Cow<'static, str>,
    },
    /// The helpline is not theirs, or does not exist: from outside the two are one.
    UnknownHelpline,
    /// There is no such call.
    UnknownRpc,
}

impl Refused {
    /// What `field` asks for goes beyond the credential.
    pub fn not_allowed(field: impl Into<String>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::NotAllowed { field: field.into(), problem: problem.into() }
    }

    /// The credential is not for this call.
    #[must_use]
    pub fn not_for_this() -> Self {
        Self::not_allowed("", "the credential is not for this")
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotAuthenticated | Self::TokenExpired => Code::Unauthenticated,
            Self::NotAllowed { .. } => Code::PermissionDenied,
            Self::UnknownHelpline => Code::NotFound,
            Self::UnknownRpc => Code::Unimplemented,
        }
    }

    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAuthenticated => "NOT_AUTHENTICATED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::NotAllowed { .. } => "NOT_ALLOWED",
            Self::UnknownHelpline => "UNKNOWN_HELPLINE",
            Self::UnknownRpc => "UNKNOWN_RPC",
        }
    }

    /// What is wrong, without the field.
    #[must_use]
    pub fn problem(&self) -> &str {
        match self {
            Self::NotAuthenticated => "a valid credential is needed",
            Self::TokenExpired => "the token has expired",
            Self::NotAllowed { problem, .. } => problem,
            // As the queue says of one that does not exist.
            Self::UnknownHelpline => "no such helpline is served here",
            Self::UnknownRpc => "there is no such call",
        }
    }

    /// Which field asks for too much; empty where it is none.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::NotAllowed { field, .. } => field,
            Self::NotAuthenticated | Self::TokenExpired | Self::UnknownHelpline | Self::UnknownRpc => "",
        }
    }

    /// As the status of a call.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut details = ErrorDetails::with_error_info(self.reason(), DOMAIN, HashMap::new());
        let mut message = self.problem().to_owned();
        if !self.field().is_empty() {
            details.add_bad_request_violation(self.field(), self.problem());
            message = format!("{}: {message}", self.field());
        }
        Status::with_error_details(self.code(), message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_documented_in_the_contract() {
        let readme = include_str!("../../../proto/README.md");
        let refusals =
            [Refused::NotAuthenticated, Refused::TokenExpired, Refused::not_for_this(), Refused::UnknownRpc];
        for refused in refusals {
            let row = format!("| `{}` |", refused.reason());
            assert!(readme.contains(&row), "proto/README.md has no row {row}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_that_asks_for_too_much() {
        let status = Refused::not_allowed("sign_in.responder_id", "must be yours").status();
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, "sign_in.responder_id: must be yours")
        );
        let bad = status.get_details_bad_request().unwrap();
        assert_eq!(bad.field_violations[0].field, "sign_in.responder_id");
    }
}
