//! One queue replica: its stream, and the commands that it has not answered.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_proto::v1::{
    AttachRequest, AttachResponse, Command, CommandError, Hello, Outcome, Urgency, Welcome, attach_request,
    attach_response, command, queue_service_client::QueueServiceClient,
};
use holdfast_runtime::client::{Backoff, current_traceparent};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, interval, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use tracing::{debug, info, warn};

use crate::{
    Queries, Role,
    credential::{Credential, Introduced},
    hub::Hub,
};

/// Commands unanswered at once that we keep track of, whatever the replica allows.
const MAX_WINDOW: usize = 4096;

/// A replica that accepted the stream says welcome within this.
const WELCOME_WITHIN: Duration = Duration::from_secs(5);

/// A replica that is going answers what it has within this.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// A command that is unanswered so long after its time was over will never be: the stream is broken.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);

/// The first pause before dialling again is at most this.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A stream that lasted this long was a good one: the pauses begin anew.
const GOOD_STREAM: Duration = Duration::from_secs(5);

/// What a replica says about one command.
pub(crate) type Answer = Result<Outcome, CommandError>;

/// One queue replica.
#[derive(Debug)]
pub(crate) struct Peer {
    address: String,
    channel: Channel,
    // A connection of their own: reads that are given up are reset, and a server that sees many resets at once closes
    // the connection, which must not be the one that carries the stream.
    reads: Channel,
    credential: Credential,
    attachment: Mutex<Option<Attachment>>,
}

/// A stream that is up.
#[derive(Debug)]
struct Attachment {
    out: mpsc::Sender<AttachRequest>,
    window: usize,
    /// Requests for new chats that are worth sending at once, of LOW ones and of others.
    request_windows: [usize; 2],
    draining: bool,
    /// Its store may take new chats; a replica that does not say so can.
    accepting: bool,
    last: u64,
    unanswered: HashMap<u64, Unanswered>,
    /// How many of them ask for a new chat, by helpline; none is 0.
    requests: HashMap<String, usize>,
}

impl Attachment {
    fn answered(&mut self, correlation: u64) -> Option<Unanswered> {
        let unanswered = self.unanswered.remove(&correlation)?;
        if let Some(helpline) = &unanswered.takes_turn
            && let Some(count) = self.requests.get_mut(helpline)
        {
            *count -= 1;
            if *count == 0 {
                self.requests.remove(helpline);
            }
        }
        Some(unanswered)
    }

    /// As many requests of this urgency are unanswered as the replica takes, and this helpline has its part of them. Of those
    /// who do not say how many they take, none ever is full.
    fn is_full_for(&self, helpline: &str, urgency: Urgency) -> bool {
        let [low, others] = self.request_windows;
        let window = if urgency == Urgency::Low { low } else { others };
        let own = self.requests.get(helpline).copied().unwrap_or_default();
        let sharing = self.requests.len() + usize::from(own == 0);
        window > 0 && self.requests.values().sum::<usize>() >= window && (own + 1) * sharing > window
    }
}

/// Stays until it is answered, also when nobody waits any more: the replica counts it, so we do.
#[derive(Debug)]
struct Unanswered {
    answer: oneshot::Sender<Answer>,
    until: Instant,
    /// It asks this helpline for a new chat, and takes a turn for that.
    takes_turn: Option<String>,
}

/// Whom a command asks for a new chat, and how urgent that is: `None` where it does not, or is carried out whatever waits.
pub(crate) fn takes_turn(command: &Command) -> Option<(&str, Urgency)> {
    let Some(command::Command::Request(request)) = &command.command else {
        return None;
    };
    Some((command.helpline.as_str(), request.urgency())).filter(|(_, urgency)| *urgency != Urgency::Imminent)
}

/// How a stream ended.
enum Ended {
    /// It broke, or never came about.
    Broken(Status),
    /// The replica is going, and asks us to come back after this.
    Drained(Duration),
}

impl Peer {
    pub(crate) fn new(address: String, channel: Channel, reads: Channel, credential: Credential) -> Self {
        Self { address, channel, reads, credential, attachment: Mutex::new(None) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn attachment(&self) -> MutexGuard<'_, Option<Attachment>> {
        self.attachment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attached, and not about to go.
    pub(crate) fn is_usable(&self) -> bool {
        self.attachment().as_ref().is_some_and(|a| !a.draining)
    }

    /// Usable, and its store may take new chats.
    pub(crate) fn is_accepting(&self) -> bool {
        self.attachment().as_ref().is_some_and(|a| !a.draining && a.accepting)
    }

    /// How many commands are unanswered; `None` when it cannot take another.
    pub(crate) fn unanswered(&self) -> Option<usize> {
        let attachment = self.attachment();
        let attachment = attachment.as_ref()?;
        let n = attachment.unanswered.len();
        (!attachment.draining && n < attachment.window).then_some(n)
    }

    /// Whether another request of this urgency to this helpline would only be refused.
    pub(crate) fn is_full_for(&self, helpline: &str, urgency: Urgency) -> bool {
        let attachment = self.attachment();
        attachment.as_ref().filter(|a| !a.draining).is_none_or(|a| a.is_full_for(helpline, urgency))
    }

    /// A client for unary reads over the same connection.
    pub(crate) fn queries(&self) -> Queries {
        QueueServiceClient::with_interceptor(self.reads.clone(), Introduced(self.credential.clone()))
    }

    /// Sends a command; `None` when it cannot take one now. The receiver fails when the stream breaks first.
    pub(crate) fn submit(&self, command: &Command, until: Instant) -> Option<oneshot::Receiver<Answer>> {
        let mut attachment = self.attachment();
        let attachment = attachment.as_mut()?;
        if attachment.draining || attachment.unanswered.len() >= attachment.window {
            return None;
        }
        attachment.last += 1;
        let request = AttachRequest {
            correlation: attachment.last,
            message: Some(attach_request::Message::Command(command.clone())),
            timeout: until.saturating_duration_since(Instant::now()).try_into().ok(),
            traceparent: current_traceparent().unwrap_or_default(),
        };
        if attachment.out.try_send(request).is_err() {
            // The stream is broken, and whoever reads it is about to notice.
            attachment.draining = true;
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        let takes_turn = takes_turn(command).map(|(helpline, _)| helpline.to_owned());
        if let Some(helpline) = &takes_turn {
            *attachment.requests.entry(helpline.clone()).or_default() += 1;
        }
        attachment.unanswered.insert(attachment.last, Unanswered { answer, until, takes_turn });
        Some(receiver)
    }

    /// Attaches, again and again.
    pub(crate) async fn stay_attached(
        &self,
        role: Role,
        replica: &str,
        within: Duration,
        hub: &Hub,
        lost: &impl Fn(),
    ) {
        let mut backoff = Backoff::new(FIRST_PAUSE.min(within), within, u32::MAX);
        let mut known_to_fail = false;
        loop {
            let began = Instant::now();
            let pause = match self.attach(role, replica, hub).await {
                Ended::Drained(pause) => {
                    info!(address = %self.address, "a queue replica is going");
                    pause
                }
                Ended::Broken(status) => {
                    if !known_to_fail {
                        warn!(address = %self.address, code = ?status.code(), "no stream to a queue replica");
                    }
                    backoff.next_delay().unwrap_or(within)
                }
            };
            let good = began.elapsed() > GOOD_STREAM;
            known_to_fail = !good;
            if good {
                backoff.reset();
            }
            lost();
            sleep(pause).await;
        }
    }

    /// Attaches once, and serves the stream to its end.
    async fn attach(&self, role: Role, replica: &str, hub: &Hub) -> Ended {
        let (out, requests) = mpsc::channel(MAX_WINDOW + 1);
        let hello = Hello { role: role.into(), replica: replica.to_owned() };
        let hello =
            AttachRequest { message: Some(attach_request::Message::Hello(hello)), ..AttachRequest::default() };
        // There is room: nothing was sent before.
        let _ = out.try_send(hello);
        let opening = async {
            self.credential.refresh();
            let introduced = Introduced(self.credential.clone());
            let mut queue = QueueServiceClient::with_interceptor(self.channel.clone(), introduced);
            let mut responses = queue.attach(ReceiverStream::new(requests)).await?.into_inner();
            let welcome = welcome(&mut responses).await?;
            Ok((welcome, responses))
        };
        let (welcome, responses) = match timeout(WELCOME_WITHIN, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(status)) => return Ended::Broken(status),
            Err(_elapsed) => return Ended::Broken(Status::deadline_exceeded("no welcome")),
        };
        info!(address = %self.address, queue = %welcome.replica, "attached");
        let _attached = Attached::new(self, hub, &welcome, out);
        hub.look_again();
        self.serve(responses, hub).await
    }

    async fn serve(&self, mut responses: Streaming<AttachResponse>, hub: &Hub) -> Ended {
        let mut look = interval(GIVEN_UP_AFTER / 6);
        let mut drained: Option<(Instant, Duration)> = None;
        loop {
            if let Some((_, pause)) = drained
                && self.is_answered()
            {
                return Ended::Drained(pause);
            }
            let leave = drained.map_or_else(|| Instant::now() + DRAIN_WITHIN, |(until, _)| until);
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        if let Some(pause) = self.take(response, hub) {
                            drained = Some((Instant::now() + DRAIN_WITHIN, pause));
                        }
                    }
                    Ok(None) => return drained.map_or_else(
                        || Ended::Broken(Status::unavailable("the stream ended")),
                        |(_, pause)| Ended::Drained(pause),
                    ),
                    Err(status) => return drained.map_or(Ended::Broken(status), |(_, pause)| Ended::Drained(pause)),
                },
                () = sleep_until(leave), if drained.is_some() => {
                    return Ended::Drained(drained.map_or(Duration::ZERO, |(_, pause)| pause));
                }
                _ = look.tick() => if self.has_given_up() {
                    return Ended::Broken(Status::deadline_exceeded("a command was never answered"));
                },
            }
        }
    }

    /// One message from the replica; the pause before coming back, when it is going.
    fn take(&self, response: AttachResponse, hub: &Hub) -> Option<Duration> {
        match response.message? {
            attach_response::Message::Outcome(outcome) => self.answer(response.correlation, Ok(outcome), hub),
            attach_response::Message::Error(error) => self.answer(response.correlation, Err(error), hub),
            attach_response::Message::Notice(notice) => hub.pass_on(notice),
            attach_response::Message::Welcome(welcome) => {
                if welcome.look_again {
                    hub.look_again();
                }
            }
            attach_response::Message::Standing(standing) => {
                info!(address = %self.address, accepting = standing.accepting, why = %standing.reason, "the store");
                if let Some(attachment) = self.attachment().as_mut() {
                    attachment.accepting = standing.accepting;
                }
                hub.refresh();
            }
            attach_response::Message::Drain(drain) => {
                if let Some(attachment) = self.attachment().as_mut() {
                    attachment.draining = true;
                }
                hub.refresh();
                return Some(drain.reconnect_after.and_then(|d| d.try_into().ok()).unwrap_or(FIRST_PAUSE));
            }
        }
        None
    }

    fn answer(&self, correlation: u64, answer: Answer, hub: &Hub) {
        let unanswered = self.attachment().as_mut().and_then(|a| a.answered(correlation));
        let Some(unanswered) = unanswered else {
            debug!(correlation, "an answer to nothing that was asked");
            return;
        };
        // Nobody may be waiting any more.
        let _ = unanswered.answer.send(answer);
        hub.room();
    }

    fn is_answered(&self) -> bool {
        self.attachment().as_ref().is_none_or(|a| a.unanswered.is_empty())
    }

    fn has_given_up(&self) -> bool {
        let now = Instant::now();
        let attachment = self.attachment();
        let mut waiting = attachment.iter().flat_map(|a| a.unanswered.values());
        waiting.any(|u| now > u.until + GIVEN_UP_AFTER)
    }
}

async fn welcome(responses: &mut Streaming<AttachResponse>) -> Result<Welcome, Status> {
    match responses.message().await?.and_then(|r| r.message) {
        Some(attach_response::Message::Welcome(welcome)) => Ok(welcome),
        _ => Err(Status::failed_precondition("the first message was not a welcome")),
    }
}

/// As long as it lives the replica is attached. At its end whoever waits for an answer learns that there is none.
struct Attached<'a> {
    peer: &'a Peer,
    hub: &'a Hub,
}

impl<'a> Attached<'a> {
    fn new(peer: &'a Peer, hub: &'a Hub, welcome: &Welcome, out: mpsc::Sender<AttachRequest>) -> Self {
        let window = usize::try_from(welcome.window).unwrap_or(MAX_WINDOW).clamp(1, MAX_WINDOW);
        let [low, others] = [welcome.low_request_window, welcome.request_window]
            .map(|window| usize::try_from(window).unwrap_or(usize::MAX));
        let attachment = Attachment {
            out,
            window,
            request_windows: [low, others],
            draining: false,
            accepting: true,
            last: 0,
            unanswered: HashMap::new(),
            requests: HashMap::new(),
        };
        *peer.attachment() = Some(attachment);
        hub.refresh();
        Self { peer, hub }
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.peer.attachment().take();
        self.hub.refresh();
    }
}
