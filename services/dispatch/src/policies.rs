//! The numbers of a helpline's policy that its responders are told.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_domain::{HelplineId, Numbers, Policy};
use holdfast_link::Link;
use tokio::time::Instant;
use tracing::warn;

/// Helplines whose numbers are remembered.
const MAX_KNOWN: usize = 10_000;

/// How a responder shows that they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// A heartbeat is expected this often.
    pub heartbeat_every: Duration,
    /// Silence for so long ends the presence.
    pub lease: Duration,
}

impl From<&Numbers> for Presence {
    fn from(numbers: &Numbers) -> Self {
        Self {
            heartbeat_every: Duration::from_millis(numbers.heartbeat_ms),
            lease: Duration::from_millis(numbers.presence_lease_ms),
        }
    }
}

/// The numbers, as the queue said last.
#[derive(Debug)]
pub struct Policies {
    link: Link,
    patience: Duration,
    every: Duration,
    known: Mutex<HashMap<String, (Presence, Instant)>>,
}

impl Policies {
    /// Asks through `link`, again after `every`.
    #[must_use]
    pub fn new(link: Link, patience: Duration, every: Duration) -> Self {
        Self { link, patience, every, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, (Presence, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers in force: as said last when they cannot be asked for, and the defaults when they never could.
    pub async fn presence(&self, helpline: &HelplineId) -> Presence {
        let last = self.known().get(helpline.as_str()).copied();
        if let Some((presence, asked)) = last
            && asked.elapsed() < self.every
        {
            return presence;
        }
        let asked = self.ask(helpline).await;
        let presence = asked.or(last.map(|(presence, _)| presence));
        presence.unwrap_or_else(|| Presence::from(&Numbers::default()))
    }

    async fn ask(&self, helpline: &HelplineId) -> Option<Presence> {
        let said = self.link.policy(helpline.as_str(), self.patience).await.ok()?;
        let policy = match Policy::from_toml(&said.toml) {
            Ok(policy) => policy,
            Err(error) => {
                warn!(%helpline, field = %error.field, "the policy in force cannot be read here");
                return None;
            }
        };
        let presence = Presence::from(&policy.numbers);
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(helpline.as_str().to_owned(), (presence, Instant::now()));
        Some(presence)
    }

    /// The policy has changed.
    pub fn forget(&self, helpline: &str) {
        self.known().remove(helpline);
    }
}
