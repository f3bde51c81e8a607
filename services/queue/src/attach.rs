//! One attached replica: its commands in, their outcomes and the notices out, each with a limit.
//!
//! ```text
//!   hello ─► welcome ─► commands ── window ── turns ── deadline ─► answers ┐
//!                       notices ── role ── buffer (or: look again) ────────┴─► outbox ── patience ─► reader
//! ```
//!
//! A stream that ends, whichever way, lets the commands that were begun finish: an unlink that was the last word
//! of a replica must not be lost.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use holdfast_access::Caller;
use holdfast_domain::Event;
use holdfast_proto::v1::{self, attach_request as from, attach_response as to};
use holdfast_runtime::{
    Stop,
    client::{Backoff, continue_from},
};
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at},
};
use tonic::Streaming;
use tracing::{Instrument, info};

use crate::{
    config::AttachConfig,
    convert::{self, Asked, Hello},
    desk::{Desk, command_span},
    doors,
    error::{Failure, Invalid},
    outbox::{Kind, Outbox},
    store::{Notice, Standing},
    turns::Turns,
};

/// What a stream needs from its service.
pub(crate) struct Attaching {
    pub(crate) desk: Arc<Desk>,
    /// Which service it is.
    pub(crate) caller: Caller,
    pub(crate) config: AttachConfig,
    pub(crate) stop: Stop,
    /// What commands take, of all streams.
    pub(crate) turns: Turns,
    /// This replica's name.
    pub(crate) replica: String,
    /// One of the streams that may be open at once, given back at the end.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// Serves one stream to its end.
pub(crate) async fn serve(attaching: Attaching, mut incoming: Streaming<v1::AttachRequest>, outbox: Outbox) {
    match greeted(&attaching, &mut incoming).await {
        Ok(hello) => Stream::new(attaching, hello, outbox).run(incoming).await,
        Err(failure) => outbox.end(Err(failure.status())),
    }
}

async fn greeted(attaching: &Attaching, incoming: &mut Streaming<v1::AttachRequest>) -> Result<Hello, Failure> {
    let patience = Duration::from_millis(attaching.config.hello_timeout_ms);
    let first = tokio::select! {
        first = timeout(patience, incoming.message()) => first,
        () = attaching.stop.draining() => return Err(Failure::Draining),
    };
    match first {
        Ok(Ok(Some(v1::AttachRequest { message: Some(from::Message::Hello(hello)), .. }))) => {
            let hello = convert::hello(hello)?;
            doors::check_role(&attaching.caller, hello.intake)?;
            Ok(hello)
        }
        Ok(_) | Err(_) => Err(Failure::HelloExpected),
    }
}

struct Stream {
    attaching: Attaching,
    hello: Hello,
    outbox: Outbox,
    in_flight: FuturesUnordered<BoxFuture<'static, v1::AttachResponse>>,
    /// Commands are still read.
    reading: bool,
    /// Notices were lost: none is sent until the reader was told to look again.
    missed: bool,
}

impl Stream {
    fn new(attaching: Attaching, hello: Hello, outbox: Outbox) -> Self {
        Self { attaching, hello, outbox, in_flight: FuturesUnordered::new(), reading: true, missed: false }
    }

    async fn run(mut self, mut incoming: Streaming<v1::AttachRequest>) {
        let role = if self.hello.intake { "intake" } else { "dispatch" };
        info!(role, replica = self.hello.replica, "attached");
        let _counted = self.attaching.desk.metrics().attached(role);
        // Registered before the welcome: what happens from there on is told.
        let mut notices = self.attaching.desk.store().notices();
        let mut standing = self.attaching.desk.standing();
        self.welcome();
        self.say_standing(&standing.borrow_and_update());
        self.converse(&mut incoming, &mut notices, &mut standing).await;
        self.outbox.end(Ok(()));
        info!(role, replica = self.hello.replica, "detached");
    }

    async fn converse(
        &mut self,
        incoming: &mut Streaming<v1::AttachRequest>,
        notices: &mut broadcast::Receiver<Notice>,
        standing: &mut watch::Receiver<Standing>,
    ) {
        let (mut draining, mut stopping) =
            (pin!(self.attaching.stop.draining()), pin!(self.attaching.stop.stopping()));
        let mut drained: Option<Instant> = None;
        let mut told_gone = false;
        let patience = Duration::from_millis(self.attaching.config.reader_patience_ms);
        let mut look_at_reader = interval(patience / 4);
        look_at_reader.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.reading || !self.in_flight.is_empty() {
            let room = self.has_room();
            let linger_until = drained.unwrap_or_else(Instant::now);
            tokio::select! {
                () = &mut stopping => {
                    self.outbox.cut(Failure::Draining.status());
                    return;
                }
                () = &mut draining, if drained.is_none() => {
                    drained = Some(Instant::now() + Duration::from_millis(self.attaching.config.drain_linger_ms));
                    self.say_drain();
                }
                () = sleep_until(linger_until), if drained.is_some() && self.reading => self.reading = false,
                () = self.outbox.gone(), if !told_gone => {
                    told_gone = true;
                    self.reading = false;
                }
                message = incoming.message(), if self.reading && room => match message {
                    Ok(Some(request)) => self.take(request),
                    Ok(None) | Err(_) => self.reading = false,
                },
                Some(answer) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.outbox.put(Kind::Answer, answer);
                }
                notice = notices.recv(), if self.reading => self.tell(notice),
                // A store that stands as it is never changes.
                Ok(()) = standing.changed(), if self.reading => self.say_standing(&standing.borrow_and_update()),
                () = self.outbox.taken(), if self.missed || !room => {}
                _ = look_at_reader.tick() => self.look_at_reader(patience),
            }
            self.look_again_if_missed();
        }
    }

    fn window(&self) -> usize {
        usize::try_from(self.attaching.config.window).unwrap_or(usize::MAX)
    }

    /// A client that goes on sending past its window without reading is not read from either.
    fn has_room(&self) -> bool {
        self.outbox.answers() < self.window().saturating_mul(2)
    }

    fn take(&mut self, request: v1::AttachRequest) {
        let correlation = request.correlation;
        match self.parse(request) {
            Ok((asked, until)) => self.begin(correlation, asked, until),
            Err(failure) => self.outbox.put(Kind::Answer, refusal(correlation, &failure)),
        }
    }

    fn parse(&self, request: v1::AttachRequest) -> Result<(Asked, Instant), Failure> {
        let given = self.attaching.config.command_timeout(convert::timeout(request.timeout)?);
        let trace = convert::traceparent(&request.traceparent);
        let asked = match request.message {
            Some(from::Message::Command(command)) => {
                doors::check(&self.attaching.caller, Some(&command))?;
                convert::asked(Some(command), trace)?
            }
            Some(from::Message::Hello(_)) => return Err(Failure::HelloExpected),
            None => return Err(Invalid::new("message", "must be there").into()),
        };
        if self.in_flight.len() + self.outbox.answers() >= self.window() {
            let failure = Failure::WindowFull(self.attaching.config.window);
            self.attaching.desk.count::<()>(asked.word(), &Err(failure.clone()));
            return Err(failure);
        }
        Ok((asked, Instant::now() + given))
    }

    fn begin(&mut self, correlation: u64, asked: Asked, until: Instant) {
        let (desk, turns) = (Arc::clone(&self.attaching.desk), self.attaching.turns.clone());
        let span = command_span(desk.policies(), &asked);
        continue_from(&asked.trace, &span);
        let work = async move {
            match in_turn(&desk, &turns, &asked, until).await {
                Ok(outcome) => response(correlation, to::Message::Outcome(outcome)),
                Err(failure) => refusal(correlation, &failure),
            }
        };
        self.in_flight.push(Box::pin(work.instrument(span)));
    }

    fn tell(&mut self, notice: Result<Notice, broadcast::error::RecvError>) {
        let notice = match notice {
            Ok(notice) if !notice.events.is_empty() => notice,
            Ok(_lost) => return self.missed = true,
            Err(broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed) => {
                return self.missed = true;
            }
        };
        for placed in notice.events.iter().filter(|placed| self.wants(&placed.event)) {
            if self.missed || self.outbox.notices() >= self.attaching.config.notice_buffer {
                return self.missed = true;
            }
            let event = Some(convert::event(&placed.cursor, &placed.event));
            let told = v1::Notice { helpline: notice.helpline.to_string(), event };
            self.outbox.put(Kind::Notice, response(0, to::Message::Notice(told)));
        }
    }

    /// What is about the whole helpline, such as another policy or a surge, is for everybody.
    fn wants(&self, event: &Event) -> bool {
        let (about_chat, about_responder) = (event.chat.is_some(), event.responder.is_some());
        let about_all = !about_chat && !about_responder;
        about_all || if self.hello.intake { about_chat } else { about_responder }
    }

    /// Once the reader has caught up with half of what waited, it is told that it missed the rest.
    fn look_again_if_missed(&mut self) {
        let caught_up = self.outbox.notices() <= self.attaching.config.notice_buffer / 2;
        if self.missed && caught_up && self.outbox.words() == 0 {
            self.missed = false;
            self.welcome();
        }
    }

    fn look_at_reader(&mut self, patience: Duration) {
        if self.outbox.stalled_for() >= patience {
            info!(replica = self.hello.replica, "reads nothing, so it is let go");
            self.outbox.cut(Failure::SlowReader.status());
            self.reading = false;
        }
    }

    fn welcome(&self) {
        let config = &self.attaching.config;
        let of_requests = |waiting: usize| u32::try_from(config.request_turns + waiting).unwrap_or(u32::MAX);
        let welcome = v1::Welcome {
            replica: self.attaching.replica.clone(),
            window: config.window,
            look_again: true,
            request_window: of_requests(config.max_waiting_requests),
            low_request_window: of_requests(config.max_waiting_requests / 2),
        };
        self.outbox.put(Kind::Word, response(0, to::Message::Welcome(welcome)));
    }

    fn say_standing(&self, standing: &Standing) {
        let told = to::Message::Standing(convert::store_standing(standing));
        self.outbox.put(Kind::Word, response(0, told));
    }

    /// At a random moment, so that not all come at once where they go.
    fn say_drain(&self) {
        let within = Duration::from_millis(self.attaching.config.reconnect_within_ms);
        let after = Backoff::new(within, within, 1).next_delay().unwrap_or(within);
        let drain = v1::AttachDrain { reconnect_after: after.try_into().ok() };
        self.outbox.put(Kind::Word, response(0, to::Message::Drain(drain)));
    }
}

/// Waits for a turn, then carries the command out; past its deadline it is not begun.
async fn in_turn(desk: &Desk, turns: &Turns, asked: &Asked, until: Instant) -> Result<v1::Outcome, Failure> {
    let turn = match timeout_at(until, turns.take(&asked.helpline, asked.requested())).await {
        Ok(Ok(turn)) if Instant::now() < until => Ok(turn),
        Ok(Err(overloaded)) => Err(overloaded),
        Ok(Ok(_)) | Err(_) => Err(Failure::NotBegun),
    };
    match turn {
        Ok(_turn) => desk.carry_out(asked, Some(until)).await,
        Err(failure) => {
            desk.count(asked.word(), &Err::<(), _>(failure.clone()));
            Err(failure)
        }
    }
}

fn response(correlation: u64, message: to::Message) -> v1::AttachResponse {
    v1::AttachResponse { correlation, message: Some(message) }
}

fn refusal(correlation: u64, failure: &Failure) -> v1::AttachResponse {
    response(correlation, to::Message::Error(failure.command_error()))
}
