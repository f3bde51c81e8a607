//! Everybody outside: visitors, integrators and responders, each with a device that is as stubborn as the contract asks
//! for, and a supervisor of the run who tells some of them to behave badly.
//!
//! What one of them does is decided by the seed and their name, never by chance or by what others do.

pub mod responders;
pub mod visitors;

use super::history::{Came, Fence, Recorder};
use holdfast_proto::v1::{self, ChatKey, ChatOutcome, ChatState};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// A device gives up on an answer after this.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// What everybody shares.
#[derive(Clone)]
pub struct Outside {
    /// Where everything is taken down.
    pub recorder: Arc<Recorder>,
    /// The seed of the run.
    pub seed: u64,
    /// The visitors' doors, by name and address.
    pub intakes: Vec<(String, String)>,
    /// The responders' doors, by name and address.
    pub dispatches: Vec<(String, String)>,
    /// Whether new chats are asked for.
    pub asking: watch::Receiver<bool>,
    /// The right to every chat that was acknowledged, by its name; never written anywhere.
    pub keys: Arc<Mutex<HashMap<String, ChatKey>>>,
}

impl Outside {
    /// The chance of somebody: the same in every run of this seed.
    pub fn chance(&self, who: &str) -> SmallRng {
        let mut hasher = DefaultHasher::new();
        (self.seed, who).hash(&mut hasher);
        SmallRng::seed_from_u64(hasher.finish())
    }

    /// New chats are asked for.
    pub fn is_asking(&self) -> bool {
        *self.asking.borrow()
    }
}

/// A channel of one device to one door: connects when it is used, and notices when nobody is there any more.
pub fn channel(url: &str) -> Channel {
    endpoint(url).connect_lazy()
}

fn endpoint(url: &str) -> Endpoint {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("an address");
    endpoint
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
}

/// A call with a deadline that the server knows.
pub fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// The answer to a call, which is never waited for beyond patience.
pub async fn answer<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(PATIENCE + Duration::from_millis(500), call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer")),
    }
}

/// What a status says about the outcome, and why. Whatever is not a clear refusal is unknown.
pub fn came(status: &Status) -> (Came, String) {
    let reason = status.get_details_error_info().map(|info| info.reason);
    let reason = reason.unwrap_or_else(|| format!("{:?}", status.code()));
    (came_of(status.code()), reason)
}

/// The same for a code.
pub fn came_of(code: Code) -> Came {
    match code {
        Code::Ok => Came::Ok,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::Aborted => Came::Unknown,
        _ => Came::Fail,
    }
}

/// A pause between so many milliseconds.
pub fn pause(chance: &mut SmallRng, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(chance.random_range(from_ms..=to_ms))
}

/// As the checker writes it.
pub fn fence(fence: Option<&v1::Fence>) -> Option<Fence> {
    fence.map(|fence| Fence { epoch: fence.epoch, minted_by: fence.minted_by })
}

/// As the checker writes it.
pub fn state(state: ChatState) -> String {
    state.as_str_name().trim_start_matches("CHAT_STATE_").to_lowercase()
}

/// As the checker writes it; empty for none.
pub fn outcome(outcome: ChatOutcome) -> String {
    match outcome {
        ChatOutcome::Unspecified => String::new(),
        named => named.as_str_name().trim_start_matches("CHAT_OUTCOME_").to_lowercase(),
    }
}
