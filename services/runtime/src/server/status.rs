//! What a status says: its name, and whose fault a request is that cannot be read.

use http::HeaderMap;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What tonic says, with INTERNAL, about a request that is not what it should be. It is said before any of our code
/// runs, and it is the caller's mistake.
const UNREADABLE: [&str; 5] = [
    "failed to decode Protobuf message",
    "protocol error: received message with ",
    "Error decompressing: ",
    "Unexpected EOF decoding stream.",
    "Missing request message.",
];

/// What tonic says, with OUT_OF_RANGE, about a message that is too large.
const TOO_LARGE: &str = "Error, decoded message length too large: ";

/// What tonic says, with RESOURCE_EXHAUSTED, about a message that is too large when unpacked.
const TOO_LARGE_UNPACKED: &str = "Error decompressing: size limit, of ";

/// Turns the status in `headers`, if it is tonic's word for an unreadable request, into INVALID_ARGUMENT.
pub(super) fn correct(headers: &mut HeaderMap) {
    let suspect =
        code(headers).is_some_and(|c| [Code::Internal, Code::OutOfRange, Code::ResourceExhausted].contains(&c));
    if !suspect {
        return;
    }
    let Some(better) = Status::from_header_map(headers).and_then(|status| better(&status)) else {
        return;
    };
    headers.remove(Status::GRPC_MESSAGE);
    // Fails only for a message that cannot be a header, and these can.
    let _ = better.add_header(headers);
}

fn better(status: &Status) -> Option<Status> {
    let message = status.message();
    if status.code() == Code::Internal && UNREADABLE.iter().any(|said| message.starts_with(said)) {
        return Some(invalid("not a valid message"));
    }
    if status.code() == Code::OutOfRange {
        let sizes = message.strip_prefix(TOO_LARGE)?;
        return Some(invalid(&format!("message too large: {sizes}")));
    }
    if status.code() == Code::ResourceExhausted {
        let size = message.strip_prefix(TOO_LARGE_UNPACKED)?;
        let (limit, _) = size.split_once(',')?;
        return Some(invalid(&format!("message too large when unpacked: the limit is: {limit}")));
    }
    None
}

/// Whose reasons ErrorInfo states.
const ERROR_DOMAIN: &str = "holdfast";

/// What a panic that was caught is answered with: nothing that would say more than that.
pub(super) fn internal() -> Status {
    let details = ErrorDetails::with_error_info("INTERNAL", ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(Code::Internal, "server: internal error", details)
}

fn invalid(why: &str) -> Status {
    let mut details = ErrorDetails::with_bad_request_violation("request", why);
    details.set_error_info("INVALID_FIELD", ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, format!("request: {why}"), details)
}

/// The status code in headers or trailers, if there is one.
pub(super) fn code(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(value.as_bytes()))
}

/// The name of a code in specifications, traces and metrics.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Whether the code is the server's fault, so that its span is an error. INVALID_ARGUMENT and its like are not.
pub(super) fn is_our_fault(code: Code) -> bool {
    use Code as C;
    let ours = [C::Unknown, C::DeadlineExceeded, C::Unimplemented, C::Internal, C::Unavailable, C::DataLoss];
    ours.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrected(status: &Status) -> Status {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        correct(&mut headers);
        Status::from_header_map(&headers).unwrap()
    }

    #[test]
    fn a_request_that_cannot_be_decoded_is_the_callers_mistake() {
        let status = corrected(&Status::internal("failed to decode Protobuf message: A.b: invalid string value"));
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "request: not a valid message"));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "request");
    }

    #[test]
    fn a_message_that_is_too_large_names_the_limit() {
        let status = corrected(&Status::out_of_range(format!("{TOO_LARGE}found 9 bytes, the limit is: 8 bytes")));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "request: message too large: found 9 bytes, the limit is: 8 bytes");
    }

    #[test]
    fn other_statuses_stay_as_they_are() {
        for status in
            [Status::internal("a bug"), Status::out_of_range("cursor"), Status::resource_exhausted("quota")]
        {
            let same = corrected(&status);
            assert_eq!((same.code(), same.message()), (status.code(), status.message()));
        }
    }
}
