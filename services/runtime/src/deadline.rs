//! Deadlines that are passed on: the time a caller gives us bounds the time we give to others.

use std::{future::Future, time::Duration};

use http::HeaderMap;
use tokio::time::Instant;
use tonic::{Code, Status};

/// The header with the time that a caller gives a call.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// What tonic says, with `CANCELLED`, when its own timer ended a call.
pub(crate) const TONIC_TIMEOUT: &str = "Timeout expired";

tokio::task_local! {
    /// When the call that this task serves must be answered.
    static SERVING_UNTIL: Instant;
    /// When the call that this task makes is given up.
    static CALLING_UNTIL: Instant;
}

/// Serves a call that must be answered by `until`.
pub(crate) async fn serving<T>(until: Instant, future: impl Future<Output = T>) -> T {
    SERVING_UNTIL.scope(until, future).await
}

/// The time left to the call that this task makes inside [`with_deadline`], if it makes one.
pub(crate) fn time_left() -> Option<Duration> {
    let until = CALLING_UNTIL.try_with(|until| *until).ok()?;
    Some(until.saturating_duration_since(Instant::now()))
}

/// Gives `future` at most `d`, and never more than is left to the call that is being served.
///
/// A call made inside with a [`TraceContext`](crate::client::TraceContext) tells the other side how long that is.
///
/// # Errors
/// `DEADLINE_EXCEEDED` when the time is over, whoever noticed it first; else the error of `future`.
pub async fn with_deadline<T>(d: Duration, future: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let own = Instant::now() + d;
    let until = SERVING_UNTIL.try_with(|theirs| own.min(*theirs)).unwrap_or(own);
    let call = CALLING_UNTIL.scope(until, future);
    match tokio::time::timeout_at(until, call).await {
        Ok(Err(status)) if is_expired(&status) => Err(exceeded()),
        Ok(answer) => answer,
        Err(_elapsed) => Err(exceeded()),
    }
}

/// The answer to a call whose time is over.
pub(crate) fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the answer was ready")
}

fn is_expired(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message() == TONIC_TIMEOUT
}

/// The time that the caller gives, by the `grpc-timeout` header; `None` without one, or with one that is malformed.
pub(crate) fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_is_deadline_exceeded() {
        let status = with_deadline(MINUTE, pending::<Result<(), Status>>()).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn tonics_own_timer_is_deadline_exceeded_and_other_errors_pass() {
        let expired = with_deadline(MINUTE, async { Err::<(), _>(Status::cancelled(TONIC_TIMEOUT)) }).await;
        assert_eq!(expired.unwrap_err().code(), Code::DeadlineExceeded);
        let other = with_deadline(MINUTE, async { Err::<(), _>(Status::not_found("x")) }).await;
        assert_eq!(other.unwrap_err().code(), Code::NotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_the_call_being_served_bounds_the_calls_it_makes() {
        let until = Instant::now() + Duration::from_secs(2);
        let left = serving(until, with_deadline(MINUTE, async { Ok(time_left()) })).await;
        assert_eq!(left.unwrap(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_grpc_timeout_is_read_and_a_malformed_one_ignored() {
        let read =
            |text: &str| asked(&HeaderMap::from_iter([(GRPC_TIMEOUT.parse().unwrap(), text.parse().unwrap())]));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for malformed in ["", "m", "1", "+1m", "123456789m", "1x", "é"] {
            assert_eq!(read(malformed), None, "{malformed}");
        }
    }
}
