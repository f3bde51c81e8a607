//! One visitor watching one chat: the state at once, then each change, until the chat has ended.
//!
//! Register, then look, then look again at each notice; and because notices are only hints, each sign of presence that
//! goes to the line brings back how the chat stands.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt, future::ready, stream};
use holdfast_domain::ResponderId;
use holdfast_link::{Link, LinkNotice, Notices};
use holdfast_proto::v1::{
    BeatCommand, Chat, ChatOutcome, ChatState, ChatUpdate, Command, Drain, GetChatRequest, GetChatResponse,
    Resource, WaitRange, WatchChatResponse, command, outcome, watch_chat_response,
};
use holdfast_runtime::{Stop, clock::wall_ms, reader::Reader};
use opentelemetry::metrics::UpDownCounter;
use rand::random_range;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    convert::{self, Hold},
    error::Failure,
    fallback::Policies,
    returning::ReturnKey,
};

/// Messages that wait for a visitor who reads slowly; one more and the stream ends.
const OUTGOING: usize = 8;

/// A newer ticket is asked for when the one at hand is so old, or as old as half of what ended chats are remembered.
const FRESH_FOR: Duration = Duration::from_secs(3600);

/// In one look a ticket is presented so often, for a store that is lost again and again.
const RESTORES: usize = 3;

/// Streams on one chat at once.
const MAX_PER_CHAT: usize = 16;

/// A sign of presence that failed is repeated within this.
const TRY_AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// All streams of this replica, by what wakes them.
#[derive(Debug)]
pub struct Watches {
    room: Arc<Semaphore>,
    lines: Mutex<HashMap<String, Line>>,
    open: UpDownCounter<i64>,
}

/// The streams on one helpline.
#[derive(Debug)]
struct Line {
    changed: watch::Sender<()>,
    chats: HashMap<String, Vec<Arc<Notify>>>,
}

impl Watches {
    /// Room for `max` streams, counted in `open`.
    #[must_use]
    pub fn new(max: usize, open: UpDownCounter<i64>) -> Self {
        Self { room: Arc::new(Semaphore::new(max)), lines: Mutex::default(), open }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for one stream; from now on no notice is missed.
    ///
    /// # Errors
    /// When there is no room.
    pub fn register(self: &Arc<Self>, hold: &Hold) -> Result<Seat, Failure> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Failure::TooManyWatches)?;
        let chat = Arc::new(Notify::new());
        let mut lines = self.lines();
        let line = lines
            .entry(hold.helpline.as_str().to_owned())
            .or_insert_with(|| Line { changed: watch::Sender::new(()), chats: HashMap::new() });
        let line_changed = line.changed.subscribe();
        let seats = line.chats.entry(hold.chat.as_str().to_owned()).or_default();
        if seats.len() >= MAX_PER_CHAT {
            return Err(Failure::TooManyWatches);
        }
        seats.push(Arc::clone(&chat));
        self.open.add(1, &[]);
        Ok(Seat {
            watches: Arc::clone(self),
            helpline: hold.helpline.as_str().to_owned(),
            chat_id: hold.chat.as_str().to_owned(),
            chat,
            line_changed,
            _permit: permit,
        })
    }

    fn unregister(&self, seat: &Seat) {
        let mut lines = self.lines();
        if let Some(line) = lines.get_mut(&seat.helpline) {
            if let Some(seats) = line.chats.get_mut(&seat.chat_id) {
                seats.retain(|s| !Arc::ptr_eq(s, &seat.chat));
                if seats.is_empty() {
                    line.chats.remove(&seat.chat_id);
                }
            }
            if line.chats.is_empty() {
                lines.remove(&seat.helpline);
            }
        }
        self.open.add(-1, &[]);
    }

    /// Wakes streams as notices come.
    pub async fn route(self: Arc<Self>, mut notices: Notices) {
        loop {
            match notices.next().await {
                // The store had lost the line: whoever watches has to say where they were.
                LinkNotice::Event { helpline, event } if event.kind == "revived" => self.wake_line(&helpline),
                LinkNotice::Event { helpline, event } => self.wake(&helpline, &event.chat_id),
                LinkNotice::LookAgain => self.wake_all(),
            }
        }
    }

    fn wake(&self, helpline: &str, chat: &str) {
        let lines = self.lines();
        let Some(line) = lines.get(helpline) else {
            return;
        };
        line.changed.send_replace(());
        for seat in line.chats.get(chat).into_iter().flatten() {
            seat.notify_one();
        }
    }

    fn wake_line(&self, helpline: &str) {
        for seat in self.lines().get(helpline).into_iter().flat_map(|line| line.chats.values().flatten()) {
            seat.notify_one();
        }
    }

    fn wake_all(&self) {
        for seat in self.lines().values().flat_map(|line| line.chats.values().flatten()) {
            seat.notify_one();
        }
    }
}

/// A place among the streams; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    watches: Arc<Watches>,
    helpline: String,
    chat_id: String,
    chat: Arc<Notify>,
    line_changed: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.watches.unregister(self);
    }
}

/// What all streams share.
#[derive(Debug, Clone)]
pub struct Means {
    /// The way to the line.
    pub link: Link,
    /// The policies at hand.
    pub policies: Arc<Policies>,
    /// Seals who was met.
    pub returning: ReturnKey,
    /// Looks at once.
    pub reads: Arc<Semaphore>,
    /// Patience with one look or sign.
    pub patience: Duration,
    /// Pause between two signs of presence; zero follows the policy.
    pub beat_every: Duration,
    /// Pause between two looks at the place.
    pub place_every: Duration,
    /// Whoever takes nothing of what waits for so long does not read.
    pub reader_patience: Duration,
    /// In the drain, clients come back within this.
    pub reconnect_within: Duration,
    /// The stop signal.
    pub stop: Stop,
}

/// What the visitor was shown last.
#[derive(PartialEq)]
struct Shown {
    version: u64,
    place: u64,
    wait: Option<WaitRange>,
}

/// The newest ticket of the chat.
#[derive(Default)]
struct Ticket {
    sealed: Vec<u8>,
    /// The version of the chat that it was sealed at; 0 while that is not known.
    version: u64,
    /// When it came.
    since: Option<Instant>,
}

/// One stream.
struct Watcher {
    means: Means,
    hold: Hold,
    locale: String,
    ticket: Ticket,
    seat: Seat,
    out: Arc<Reader<Result<WatchChatResponse, Status>>>,
    shown: Option<Shown>,
    state: ChatState,
}

/// Why a stream ends by itself.
enum End {
    /// The chat is over, or nobody reads any more.
    Done,
    /// With this status.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Opens a stream: the first message is in it, the rest follows.
///
/// # Errors
/// When the chat is not this visitor's, cannot be looked at, or there is no room.
pub async fn open(
    means: Means,
    seat: Seat,
    hold: Hold,
    locale: String,
    ticket: Vec<u8>,
) -> Result<impl Stream<Item = Result<WatchChatResponse, Status>> + Send + 'static, Failure> {
    let (out, messages) = mpsc::channel(OUTGOING);
    let out = Arc::new(Reader::new(out, means.reader_patience));
    let (last, failed) = oneshot::channel();
    let ticket = Ticket { sealed: ticket, ..Ticket::default() };
    let mut watcher =
        Watcher { means, hold, locale, ticket, seat, out, shown: None, state: ChatState::Unspecified };
    let first = watcher.read_or_restore().await?;
    match watcher.show(first).await {
        Ok(()) => {
            tokio::spawn(watcher.run(last));
        }
        Err(End::Done) => {}
        Err(End::Failed(failure)) => return Err(failure),
    }
    let failed = stream::once(failed).filter_map(|status| ready(status.ok().map(Err)));
    Ok(ReceiverStream::new(messages).chain(failed))
}

impl Watcher {
    async fn run(mut self, last: oneshot::Sender<Status>) {
        let (out, draining) = (Arc::clone(&self.out), self.means.stop.draining());
        let reconnect_within = self.means.reconnect_within;
        tokio::select! {
            end = self.follow() => if let End::Failed(failure) = end {
                // Whoever reads may be gone.
                let _ = last.send(failure.status());
            },
            () = out.gone() => {}
            () = draining => {
                let drain = Drain { reconnect_after: random_part(reconnect_within).try_into().ok() };
                let message = watch_chat_response::Message::Drain(drain);
                // One who does not read learns from the end of the stream.
                let _ = out.try_send(Ok(WatchChatResponse { message: Some(message) }));
            }
        }
    }

    async fn follow(&mut self) -> End {
        let mut beat_at = Instant::now();
        let mut look_at: Option<Instant> = None;
        let mut place_at = Instant::now() + self.means.place_every;
        loop {
            let chat = Arc::clone(&self.seat.chat);
            let looks_at_place = self.is_in_line() && look_at.is_none();
            if self.out.is_stalled() {
                return Failure::SlowReader.into();
            }
            let woken = tokio::select! {
                () = self.out.look() => continue,
                () = chat.notified() => Woken::Look,
                Ok(()) = self.seat.line_changed.changed(), if looks_at_place => Woken::LookAt(place_at),
                () = sleep_until(look_at.unwrap_or(beat_at)), if look_at.is_some() => Woken::Look,
                () = sleep_until(beat_at) => Woken::Beat,
            };
            let wants_look = match woken {
                Woken::LookAt(at) => {
                    look_at = Some(at.max(Instant::now()));
                    false
                }
                Woken::Look => true,
                Woken::Beat => match self.beat().await {
                    Ok(news) => {
                        beat_at = Instant::now() + self.beat_every().await;
                        news || self.is_ticket_old().await
                    }
                    // A look brings it back, or says that it is gone.
                    Err(Failure::UnknownChat) => {
                        beat_at = Instant::now() + self.beat_every().await;
                        true
                    }
                    Err(_) => {
                        beat_at = Instant::now() + random_part(TRY_AGAIN_WITHIN);
                        false
                    }
                },
            };
            if wants_look {
                look_at = match self.look().await {
                    Ok(()) => None,
                    Err(End::Done) => return End::Done,
                    Err(End::Failed(failure @ (Failure::UnknownChat | Failure::SlowReader))) => {
                        return failure.into();
                    }
                    Err(End::Failed(_)) => Some(Instant::now() + random_part(TRY_AGAIN_WITHIN)),
                };
                place_at = Instant::now() + self.means.place_every;
            }
        }
    }

    fn is_in_line(&self) -> bool {
        matches!(self.state, ChatState::Waiting | ChatState::Offered)
    }

    async fn beat_every(&self) -> Duration {
        if !self.means.beat_every.is_zero() {
            return self.means.beat_every;
        }
        let longest = Duration::from_secs(15);
        let policy = self.means.policies.get(&self.hold.helpline).await;
        policy.map_or(longest, |p| Duration::from_millis(p.numbers.away_after_ms / 3).min(longest))
    }

    /// Says that the visitor is there. Whether the chat stands otherwise than shown is the answer.
    async fn beat(&self) -> Result<bool, Failure> {
        if !self.is_in_line() {
            return Ok(true); // nobody's presence is at stake, but a notice may have been lost
        }
        let beat = BeatCommand { key: Some(self.hold.key.clone()) };
        let command = Command {
            helpline: self.hold.helpline.as_str().to_owned(),
            command: Some(command::Command::Beat(beat)),
        };
        let outcome = self.means.link.execute(command, self.means.patience).await?;
        let Some(outcome::Outcome::Chat(view)) = outcome.outcome else {
            return Ok(true);
        };
        let chat = view.chat.unwrap_or_default();
        Ok(self.shown.as_ref().is_none_or(|s| (s.version, s.place) != (chat.version, chat.place)))
    }

    async fn look(&mut self) -> Result<(), End> {
        // What changed before is seen now; what changes from here on is looked at later.
        self.seat.line_changed.mark_unchanged();
        let seen = self.read_or_restore().await?;
        self.show(seen).await
    }

    /// How the chat stands. If the store has lost it, the ticket brings it back first; again, if it is lost once more.
    async fn read_or_restore(&self) -> Result<GetChatResponse, Failure> {
        for _ in 0..RESTORES {
            match self.read().await {
                Err(Failure::UnknownChat) if !self.ticket.sealed.is_empty() => {}
                seen => return seen,
            }
            if let Err(failure) = self.restore().await {
                // Somebody else may have brought it back meanwhile, and even ended it: the record decides.
                let seen = self.read().await;
                return if matches!(seen, Err(Failure::UnknownChat)) { Err(failure) } else { seen };
            }
        }
        self.read().await
    }

    /// Presents the ticket. Only so many do at once, so that a line is not run over by all who were in it.
    async fn restore(&self) -> Result<(), Failure> {
        let _place = self.means.reads.acquire().await;
        let command = convert::restore(&self.hold, &self.ticket.sealed);
        let restored = self.means.link.execute(command, self.means.patience).await;
        match restored {
            // The same request was made anew: that chat is theirs now.
            Err(error) if error.reason == "REQUEST_CONFLICT" => Err(Failure::UnknownChat),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// A ticket expires: a newer one is asked for in good time.
    async fn is_ticket_old(&self) -> bool {
        let Some(since) = self.ticket.since else {
            return false;
        };
        let policy = self.means.policies.get(&self.hold.helpline).await;
        let lasts = policy.map_or(FRESH_FOR, |p| Duration::from_millis(p.numbers.retention_ms / 2).min(FRESH_FOR));
        since.elapsed() >= lasts
    }

    async fn read(&self) -> Result<GetChatResponse, Failure> {
        // Never closed, so there is always a place in the end.
        let _place = self.means.reads.acquire().await;
        let request = GetChatRequest {
            helpline: self.hold.helpline.as_str().to_owned(),
            key: Some(self.hold.key.clone()),
            ticket_version: if self.is_ticket_old().await { 0 } else { self.ticket.version },
        };
        Ok(self.means.link.chat(request, self.means.patience).await?)
    }

    /// Sends what is news.
    async fn show(&mut self, seen: GetChatResponse) -> Result<(), End> {
        let chat = seen.chat.unwrap_or_default();
        let shown = Shown { version: chat.version, place: chat.place, wait: seen.wait };
        let has_ticket = !seen.ticket.is_empty();
        let is_old =
            self.shown.as_ref().is_some_and(|s| s.version > shown.version || (*s == shown && !has_ticket));
        if is_old {
            return Ok(());
        }
        self.state = chat.state();
        if has_ticket {
            let (sealed, since) = (seen.ticket.clone(), Some(Instant::now()));
            self.ticket = Ticket { sealed, version: chat.version, since };
        }
        self.shown = Some(shown);
        let update = ChatUpdate {
            wait: seen.wait,
            resources: self.resources().await,
            reply_handoff: seen.reply_handoff,
            reply_handoff_lost: seen.reply_handoff_lost,
            return_token: self.return_token(&chat, &seen.responder_id),
            ticket: seen.ticket,
            chat: Some(chat),
        };
        self.send(watch_chat_response::Message::Update(update))?;
        if self.state == ChatState::Ended { Err(End::Done) } else { Ok(()) }
    }

    async fn resources(&self) -> Vec<Resource> {
        let policy = self.means.policies.get(&self.hold.helpline).await;
        policy.map(|p| convert::resources(&p, &self.locale, "").resources).unwrap_or_default()
    }

    /// The way back to whoever has come; none while nobody has.
    fn return_token(&self, chat: &Chat, responder: &str) -> Vec<u8> {
        let has_met = match chat.state() {
            ChatState::Active => true,
            ChatState::Ended => chat.outcome() == ChatOutcome::Completed,
            ChatState::Unspecified | ChatState::Waiting | ChatState::Offered => false,
        };
        let responder = ResponderId::parse(responder).ok().filter(|_| has_met);
        let came_by = self.hold.key.token_hash.as_slice().try_into().ok();
        let token = responder.zip(came_by).and_then(|(responder, came_by)| {
            self.means.returning.seal(&self.hold.helpline, &responder, came_by, wall_ms())
        });
        token.unwrap_or_default()
    }

    fn send(&self, message: watch_chat_response::Message) -> Result<(), End> {
        let response = WatchChatResponse { message: Some(message) };
        match self.out.try_send(Ok(response)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(End::Failed(Failure::SlowReader)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(End::Done),
        }
    }
}

/// What woke a stream.
enum Woken {
    Look,
    LookAt(Instant),
    Beat,
}

/// A random part of a time, so that those who are sent away together do not return together.
fn random_part(of: Duration) -> Duration {
    of.mul_f64(random_range(0.1..=1.0))
}
