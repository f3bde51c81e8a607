//! All sessions of this replica, by whom notices are about.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use holdfast_link::{LinkNotice, Notices};
use holdfast_proto::v1::{Event, Outcome};
use opentelemetry::metrics::UpDownCounter;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    convert::{Asked, Who},
    error::Failure,
    policies::Policies,
};

/// Nudges that wait for a busy session; when there are more it is told to look at the state.
const NUDGES: usize = 64;

/// Sessions of one responder here at once: all but the newest are about to end.
const MAX_PER_RESPONDER: usize = 8;

/// What a session should know.
#[derive(Debug)]
pub enum Nudge {
    /// Something happened to its responder.
    Event(Arc<Event>),
    /// An action of its responder that came another way was carried out.
    Acted {
        /// Of which sign-in.
        session: u64,
        /// What was asked.
        asked: Arc<Asked>,
        /// What became of it.
        outcome: Arc<Outcome>,
    },
}

#[derive(Debug)]
struct Mailbox {
    nudges: mpsc::Sender<Nudge>,
    missed: Arc<Notify>,
}

type ByResponder = HashMap<String, Vec<Mailbox>>;

/// All sessions of this replica.
#[derive(Debug)]
pub struct Sessions {
    room: Arc<Semaphore>,
    helplines: Mutex<HashMap<String, ByResponder>>,
    open: UpDownCounter<i64>,
}

impl Sessions {
    /// Room for `max` sessions, counted in `open`.
    #[must_use]
    pub fn new(max: usize, open: UpDownCounter<i64>) -> Self {
        Self { room: Arc::new(Semaphore::new(max)), helplines: Mutex::default(), open }
    }

    fn helplines(&self) -> MutexGuard<'_, HashMap<String, ByResponder>> {
        self.helplines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for one session; from now on no notice is missed unseen.
    pub(super) fn register(self: &Arc<Self>, who: &Who) -> Result<Seat, Failure> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Failure::TooManySessions)?;
        let (sender, nudges) = mpsc::channel(NUDGES);
        let missed = Arc::new(Notify::new());
        let mut helplines = self.helplines();
        let responders = helplines.entry(who.helpline.as_str().to_owned()).or_default();
        let mailboxes = responders.entry(who.responder.as_str().to_owned()).or_default();
        if mailboxes.len() >= MAX_PER_RESPONDER {
            return Err(Failure::TooManySessions);
        }
        mailboxes.push(Mailbox { nudges: sender, missed: Arc::clone(&missed) });
        self.open.add(1, &[]);
        Ok(Seat { sessions: Arc::clone(self), who: who.clone(), nudges, missed, _permit: permit })
    }

    fn unregister(&self, seat: &Seat) {
        let mut helplines = self.helplines();
        if let Some(responders) = helplines.get_mut(seat.who.helpline.as_str()) {
            if let Some(mailboxes) = responders.get_mut(seat.who.responder.as_str()) {
                mailboxes.retain(|m| !Arc::ptr_eq(&m.missed, &seat.missed));
                if mailboxes.is_empty() {
                    responders.remove(seat.who.responder.as_str());
                }
            }
            if responders.is_empty() {
                helplines.remove(seat.who.helpline.as_str());
            }
        }
        self.open.add(-1, &[]);
    }

    /// Passes notices on to the sessions that they are about.
    pub async fn route(self: Arc<Self>, mut notices: Notices, policies: Arc<Policies>) {
        loop {
            match notices.next().await {
                LinkNotice::Event { helpline, event } if event.kind == "policy_set" => policies.forget(&helpline),
                // The store had lost the line: whoever is here has to say so, and what they hold.
                LinkNotice::Event { helpline, event } if event.kind == "revived" => {
                    policies.forget(&helpline);
                    self.look_again_at(&helpline);
                }
                LinkNotice::Event { helpline, event } => {
                    self.nudge(&helpline, &event.responder_id, || Nudge::Event(Arc::clone(&event)));
                }
                LinkNotice::LookAgain => self.look_again(),
            }
        }
    }

    /// An action that came as a call was carried out: the session's stream, if it is here, need not wait for a notice.
    pub fn acted(&self, who: &Who, session: u64, asked: &Arc<Asked>, outcome: &Arc<Outcome>) {
        self.nudge(who.helpline.as_str(), who.responder.as_str(), || Nudge::Acted {
            session,
            asked: Arc::clone(asked),
            outcome: Arc::clone(outcome),
        });
    }

    fn nudge(&self, helpline: &str, responder: &str, nudge: impl Fn() -> Nudge) {
        let helplines = self.helplines();
        let mailboxes = helplines.get(helpline).and_then(|responders| responders.get(responder));
        for mailbox in mailboxes.into_iter().flatten() {
            if mailbox.nudges.try_send(nudge()).is_err() {
                mailbox.missed.notify_one();
            }
        }
    }

    fn look_again_at(&self, helpline: &str) {
        for mailbox in self.helplines().get(helpline).into_iter().flat_map(HashMap::values).flatten() {
            mailbox.missed.notify_one();
        }
    }

    fn look_again(&self) {
        for mailbox in self.helplines().values().flat_map(HashMap::values).flatten() {
            mailbox.missed.notify_one();
        }
    }
}

/// A place among the sessions; given up when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    sessions: Arc<Sessions>,
    who: Who,
    pub(super) nudges: mpsc::Receiver<Nudge>,
    pub(super) missed: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sessions.unregister(self);
    }
}
