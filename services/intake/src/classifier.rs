//! A second opinion on how urgent a chat is, from a program that the helpline trusts.
//!
//! Nobody waits for it: it is asked once the chat is in the line, within a deadline, by so many tasks at the most, and
//! left alone while it fails again and again. It may raise an urgency as far as the policy lets it, and nothing else.
//! What it is told and what it says is neither logged nor counted, but for one fixed word on what became of it.

mod breaker;

use std::{future::Future, sync::Arc, time::Duration};

use breaker::{Breaker, Change, Pass};
use holdfast_domain::{HelplineId, Urgency, policy::Asking};
use holdfast_link::Link;
use holdfast_proto::v1::{
    self, ClassifyRequest, ClassifyResponse, Command, HashedChatKey, TriageCommand, command,
    triage_classifier_client::TriageClassifierClient,
};
use holdfast_runtime::{
    Stop,
    client::{ClientError, channel},
    config::ClientConfig,
};
use opentelemetry::{KeyValue, metrics::Counter};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Status, transport::Channel};
use tracing::{info, warn};

use crate::{config::ClassifierConfig, convert};

/// Bytes of an answer; a longer one is void.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Reasons of an answer; with more it is void.
pub const MAX_REASONS: usize = 8;
/// Bytes of a reason or a version; with longer ones an answer is void.
pub const MAX_REASON_BYTES: usize = 40;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    /// The address is not one.
    #[error("classifier.url: {0}")]
    Address(#[from] ClientError),
}

/// A chat on which an opinion is wanted.
#[derive(Clone)]
pub struct Case {
    /// Of which helpline.
    pub helpline: HelplineId,
    /// The visitor's hold on it.
    pub key: HashedChatKey,
    /// What is known.
    pub asking: Asking,
    /// How urgent it is so far.
    pub urgency: Urgency,
    /// How urgent it may become by an opinion.
    pub may_raise_to: Urgency,
}

/// Asks for opinions.
#[derive(Debug)]
pub struct Classifier {
    client: TriageClassifierClient<Channel>,
    deadline: Duration,
    breaker: Breaker,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    link: Link,
    patience: Duration,
    stop: Stop,
    opinions: Counter<u64>,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    /// The chat is more urgent now.
    Raised,
    /// There was nothing to raise.
    Agreed,
    /// It said nothing that counts.
    Void,
    /// It did not answer in time.
    Timeout,
    /// It could not be asked, or what it said could not be done.
    Failed,
    /// It is left alone.
    Open,
    /// Too many questions were open.
    Skipped,
}

impl Became {
    fn word(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Agreed => "agreed",
            Self::Void => "void",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Open => "open",
            Self::Skipped => "skipped",
        }
    }
}

/// An answer that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opinion {
    /// At least this urgent.
    AtLeast(Urgency),
    /// It has none.
    None,
}

impl Classifier {
    /// The one that the settings name, if they name one.
    ///
    /// # Errors
    /// When its address is not one.
    pub fn of(
        config: &ClassifierConfig,
        keepalive: &ClientConfig,
        link: Link,
        patience: Duration,
        stop: Stop,
        opinions: Counter<u64>,
    ) -> Result<Option<Arc<Self>>, ClassifierError> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let connection = ClientConfig {
            connect_timeout_ms: config.timeout_ms,
            request_timeout_ms: config.timeout_ms,
            ..keepalive.clone()
        };
        let client = TriageClassifierClient::new(channel(&config.url, &connection)?);
        Ok(Some(Arc::new(Self {
            client: client.max_decoding_message_size(MAX_ANSWER_BYTES),
            deadline: Duration::from_millis(config.timeout_ms),
            breaker: Breaker::new(config.breaker_failures, Duration::from_millis(config.breaker_open_ms)),
            room: Arc::new(Semaphore::new(config.max_concurrent)),
            tasks: TaskTracker::new(),
            link,
            patience,
            stop,
            opinions,
        })))
    }

    /// Asks for an opinion on a chat, and returns at once.
    pub fn consider(self: &Arc<Self>, case: Case) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return self.count(Became::Skipped);
        };
        let Some(pass) = self.breaker.pass(Instant::now()) else {
            return self.count(Became::Open);
        };
        self.tasks.spawn(Arc::clone(self).until_stopped(case, pass, room));
    }

    /// Lets the questions that are open come to their end, at most within `patience`. Later ones end with the stop.
    pub async fn finish(&self, patience: Duration) {
        self.tasks.close();
        // What is left is cut by the stop, and costs nobody more than an opinion.
        let _ = timeout(patience, self.tasks.wait()).await;
    }

    fn until_stopped(
        self: Arc<Self>,
        case: Case,
        pass: Pass,
        room: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send {
        let stopping = self.stop.stopping();
        async move {
            let _room = room;
            tokio::select! {
                became = self.settle(case, pass) => self.count(became),
                () = stopping => {}
            }
        }
    }

    async fn settle(&self, case: Case, pass: Pass) -> Became {
        let opinion = self.opinion(&case).await;
        let change = match &opinion {
            Ok(_) => self.breaker.succeeded(&pass),
            Err(_) => self.breaker.failed(&pass, Instant::now()),
        };
        match change {
            Change::None => {}
            Change::Opened => warn!("the classifier fails again and again, and is left alone for a while"),
            Change::Closed => info!("the classifier answers again"),
        }
        match opinion {
            Ok(Opinion::AtLeast(urgency)) => self.raise(case, urgency).await,
            Ok(Opinion::None) => Became::Void,
            Err(became) => became,
        }
    }

    async fn opinion(&self, case: &Case) -> Result<Opinion, Became> {
        let mut request = Request::new(question(case));
        request.set_timeout(self.deadline);
        let mut client = self.client.clone();
        match timeout_at(Instant::now() + self.deadline, client.classify(request)).await {
            Ok(Ok(answer)) => read(&answer.into_inner()).ok_or(Became::Void),
            Ok(Err(status)) => Err(failure(&status)),
            Err(_elapsed) => Err(Became::Timeout),
        }
    }

    async fn raise(&self, case: Case, urgency: Urgency) -> Became {
        let urgency = urgency.min(case.may_raise_to);
        if urgency <= case.urgency {
            return Became::Agreed;
        }
        let triage =
            TriageCommand { key: Some(case.key), urgency: convert::told(urgency).into(), classifier: true };
        let command = Command {
            helpline: case.helpline.as_str().to_owned(),
            command: Some(command::Command::Triage(triage)),
        };
        match self.link.execute(command, self.patience).await {
            Ok(_) => Became::Raised,
            Err(_) => Became::Failed,
        }
    }

    fn count(&self, became: Became) {
        self.opinions.add(1, &[KeyValue::new("outcome", became.word())]);
    }
}

fn question(case: &Case) -> ClassifyRequest {
    let answer =
        |a: &holdfast_domain::policy::Answer| v1::Answer { question: a.question.clone(), value: a.value.clone() };
    ClassifyRequest {
        helpline: case.helpline.as_str().to_owned(),
        answers: case.asking.answers.iter().map(answer).collect(),
        language: case.asking.language.clone().unwrap_or_default(),
        urgency: convert::told(case.urgency).into(),
    }
}

/// What an answer says; `None` when it is void.
fn read(answer: &ClassifyResponse) -> Option<Opinion> {
    let short = |text: &String| text.len() <= MAX_REASON_BYTES;
    let fits = (0.0..=1.0).contains(&answer.confidence)
        && answer.reasons.len() <= MAX_REASONS
        && answer.reasons.iter().all(short)
        && short(&answer.version);
    let urgency = v1::Urgency::try_from(answer.urgency).ok().filter(|_| fits)?;
    Some(convert::heard(urgency).map_or(Opinion::None, Opinion::AtLeast))
}

/// Its words stay here: they may repeat what it was told.
fn failure(status: &Status) -> Became {
    match status.code() {
        // Ours, when the answer is too long.
        Code::OutOfRange => Became::Void,
        Code::DeadlineExceeded | Code::Cancelled => Became::Timeout,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Became::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(change: impl FnOnce(&mut ClassifyResponse)) -> Option<Opinion> {
        let mut answer = ClassifyResponse {
            urgency: v1::Urgency::High.into(),
            confidence: 0.9,
            reasons: vec!["r".repeat(MAX_REASON_BYTES); MAX_REASONS],
            version: "v".repeat(MAX_REASON_BYTES),
        };
        change(&mut answer);
        read(&answer)
    }

    #[test]
    fn an_answer_within_its_limits_counts() {
        assert_eq!(answer(|_| {}), Some(Opinion::AtLeast(Urgency::High)));
        assert_eq!(answer(|a| a.confidence = 0.0), Some(Opinion::AtLeast(Urgency::High)));
        assert_eq!(answer(|a| a.confidence = 1.0), Some(Opinion::AtLeast(Urgency::High)));
        assert_eq!(answer(|a| a.urgency = 0), Some(Opinion::None));
    }

    #[test]
    fn an_answer_beyond_them_is_void() {
        for confidence in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1, 1.000_001] {
            assert_eq!(answer(|a| a.confidence = confidence), None, "{confidence}");
        }
        assert_eq!(answer(|a| a.urgency = 5), None);
        assert_eq!(answer(|a| a.urgency = -1), None);
        assert_eq!(answer(|a| a.reasons.push(String::new())), None);
        assert_eq!(answer(|a| a.reasons[7].push('r')), None);
        assert_eq!(answer(|a| a.version.push('v')), None);
    }

    #[test]
    fn it_is_told_what_is_known_and_nothing_that_names_the_chat() {
        let case = Case {
            helpline: HelplineId::parse("demo").unwrap(),
            key: HashedChatKey { chat_id: "c-1".to_owned(), token_hash: vec![1; 32] },
            asking: Asking { region: Some("north".to_owned()), ..Asking::default() },
            urgency: Urgency::Low,
            may_raise_to: Urgency::High,
        };
        let expected = ClassifyRequest {
            helpline: "demo".to_owned(),
            urgency: v1::Urgency::Low.into(),
            ..Default::default()
        };
        assert_eq!(question(&case), expected);
    }
}
