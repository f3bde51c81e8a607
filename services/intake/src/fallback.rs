//! Policies at hand: what a helpline offers when nobody can come, also when nothing behind intake lives, and the rules
//! by which its requests are judged.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_domain::{HelplineId, Policy, policy::PolicyError};
use holdfast_link::{Link, LinkError, LinkNotice, Notices};
use tokio::{
    sync::Semaphore,
    time::{Instant, interval, timeout},
};
use tonic::Code;
use tracing::warn;

use crate::{config::PolicyConfig, error::Failure};

/// Helplines whose policy is remembered.
const MAX_KNOWN: usize = 10_000;

/// Policies that are asked for at once.
const MAX_ASKING: usize = 32;

/// Requests are judged by a policy that was asked for no longer ago, as long as the queue can be asked.
const FRESH: Duration = Duration::from_secs(5);

/// When it could not be asked for, the next one to try does so after this.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What does not fit is judged once more by a newer policy only if the one at hand is older than this: whoever sends
/// nonsense must not keep the queue busy.
const RECENT: Duration = Duration::from_millis(250);

/// A survey that was replaced is understood for so long: somebody may be filling it in.
const OVERLAP: Duration = Duration::from_secs(15 * 60);

/// Why the folder of policies cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFilesError {
    /// The folder or a file in it cannot be read.
    #[error("policy.dir: cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not a policy.
    #[error("policy.dir: {}: {source}", path.display())]
    NotAPolicy {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: PolicyError,
    },
}

type ByHelpline = HashMap<String, Arc<Policy>>;

/// A policy as the queue said it.
#[derive(Debug)]
struct Known {
    policy: Arc<Policy>,
    /// When the question was put that it answers.
    asked: Instant,
    /// When the last question was put.
    tried: Instant,
    /// The one before, and when it was replaced. Its revision is 0: what it decides is for whatever is in force.
    before: Option<(Arc<Policy>, Instant)>,
}

/// The policies that are known: those in force, as the queue said last, and those from files.
#[derive(Debug)]
pub struct Policies {
    files: ByHelpline,
    known: Mutex<HashMap<String, Known>>,
    link: Link,
    patience: Duration,
    asking: Semaphore,
}

impl Policies {
    /// Reads the folder, if there is one.
    ///
    /// # Errors
    /// When a file in it cannot be used.
    pub fn new(config: &PolicyConfig, link: Link, patience: Duration) -> Result<Self, PolicyFilesError> {
        let files = match config.dir.as_os_str().is_empty() {
            true => ByHelpline::new(),
            false => read_dir(&config.dir)?,
        };
        if files.is_empty() {
            warn!("no policy files: until the queue is reached there are no resources to show");
        }
        Ok(Self { files, known: Mutex::default(), link, patience, asking: Semaphore::new(MAX_ASKING) })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known without asking anybody: as the queue said, else as the file says.
    fn at_hand(&self, helpline: &HelplineId) -> Option<Arc<Policy>> {
        let known = self.known();
        let said = known.get(helpline.as_str()).map(|known| &known.policy);
        said.or_else(|| self.files.get(helpline.as_str())).map(Arc::clone)
    }

    /// The policy in force as far as is known: as the queue said, else as the file says; asked for if never seen.
    ///
    /// # Errors
    /// When there is none, or it is not known here now.
    pub async fn get(&self, helpline: &HelplineId) -> Result<Arc<Policy>, Failure> {
        if let Some(known) = self.known().get(helpline.as_str()) {
            return Ok(Arc::clone(&known.policy));
        }
        let asked = self.ask(helpline.as_str()).await;
        match (self.at_hand(helpline), asked) {
            (Some(policy), _) => Ok(policy),
            (None, Err(error)) if error.code == Code::NotFound => Err(error.into()),
            (None, Ok(()) | Err(_)) => Err(Failure::NoFallback),
        }
    }

    /// The policy to judge requests by: asked for again when it was last asked for a while ago. When it cannot be
    /// asked for within `patience`, the last one known.
    pub async fn in_force(&self, helpline: &HelplineId, patience: Duration) -> Option<Arc<Policy>> {
        let is_due = |known: &Known| known.asked.elapsed() > FRESH && known.tried.elapsed() > TRY_AGAIN;
        let asks = self.known().get(helpline.as_str()).is_none_or(is_due);
        if asks {
            // Whether it could be asked for shows in what is at hand.
            let _ = timeout(patience, self.ask(helpline.as_str())).await;
        }
        self.at_hand(helpline)
    }

    /// Asks for the policy at once: the one at hand is said to be out of date.
    pub async fn replaced(&self, helpline: &HelplineId, patience: Duration) {
        let _ = timeout(patience, self.ask(helpline.as_str())).await;
    }

    /// Other policies by which a request may be judged that does not fit the one at hand: a newer one, then the one
    /// before, while somebody may still be filling in its survey.
    pub async fn others(&self, helpline: &HelplineId, patience: Duration) -> Vec<Arc<Policy>> {
        let is_old = self.known().get(helpline.as_str()).is_some_and(|known| known.asked.elapsed() > RECENT);
        if is_old {
            let _ = timeout(patience, self.ask(helpline.as_str())).await;
        }
        let known = self.known();
        let Some(known) = known.get(helpline.as_str()) else {
            return Vec::new();
        };
        let before = known.before.as_ref().filter(|(_, replaced)| replaced.elapsed() < OVERLAP);
        [Some(&known.policy), before.map(|(policy, _)| policy)].into_iter().flatten().map(Arc::clone).collect()
    }

    /// Asks the queue, unless somebody else does while this waits for its turn.
    async fn ask(&self, helpline: &str) -> Result<(), LinkError> {
        let began = Instant::now();
        let Ok(Ok(_place)) = timeout(self.patience, self.asking.acquire()).await else {
            return Ok(());
        };
        if self.known().get(helpline).is_some_and(|known| known.asked >= began) {
            return Ok(());
        }
        let asked = Instant::now();
        if let Some(known) = self.known().get_mut(helpline) {
            known.tried = asked;
        }
        let said = self.link.policy(helpline, self.patience).await?;
        match Policy::from_toml(&said.toml) {
            Ok(policy) => self.remember(helpline, Policy { revision: said.revision, ..policy }, asked),
            Err(error) => {
                warn!(%helpline, field = %error.field, "the policy in force cannot be read here")
            }
        }
        Ok(())
    }

    fn remember(&self, helpline: &str, policy: Policy, asked: Instant) {
        let mut known = self.known();
        let has_room = known.len() < MAX_KNOWN;
        match known.get_mut(helpline) {
            Some(known) => known.hear(policy, asked),
            None if has_room => {
                let policy = Arc::new(policy);
                known.insert(helpline.to_owned(), Known { policy, asked, tried: asked, before: None });
            }
            None => {}
        }
    }

    /// Asks again when a policy changes, when a notice of it may have been lost, and now and then.
    pub async fn keep_fresh(self: Arc<Self>, mut notices: Notices, every: Duration) {
        let mut now_and_then = interval(every);
        loop {
            tokio::select! {
                notice = notices.next() => match notice {
                    LinkNotice::Event { helpline, event } if event.kind == "policy_set" => {
                        self.ask_again(vec![helpline.to_string()]).await;
                    }
                    LinkNotice::Event { .. } => {}
                    LinkNotice::LookAgain => self.ask_again(self.all()).await,
                },
                _ = now_and_then.tick() => self.ask_again(self.all()).await,
            }
        }
    }

    fn all(&self) -> Vec<String> {
        let mut all: Vec<String> = self.known().keys().chain(self.files.keys()).cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    async fn ask_again(&self, helplines: Vec<String>) {
        for helpline in helplines {
            // What was known stays in force until it can be asked for; a helpline known from a file only may be new.
            if let Err(error) = self.ask(&helpline).await
                && error.code == Code::Unavailable
            {
                return;
            }
        }
    }
}

impl Known {
    /// Answers may overtake each other: the higher revision is the newer one. But a store that has lost everything
    /// counts from 1 again, so the answer to a later question counts as well.
    fn hear(&mut self, policy: Policy, asked: Instant) {
        if policy.revision < self.policy.revision && asked < self.asked {
            return;
        }
        self.asked = self.asked.max(asked);
        if policy.revision != self.policy.revision {
            let before = std::mem::replace(&mut self.policy, Arc::new(policy));
            let before = Policy { revision: 0, ..(*before).clone() };
            self.before = Some((Arc::new(before), Instant::now()));
        }
    }
}

fn read_dir(dir: &Path) -> Result<ByHelpline, PolicyFilesError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| PolicyFilesError::Unreadable { path, source }
    };
    let mut files = ByHelpline::new();
    for entry in fs::read_dir(dir).map_err(unreadable(dir))? {
        let path = entry.map_err(unreadable(dir))?.path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        let policy = Policy::from_toml(&text);
        let policy = policy.map_err(|source| PolicyFilesError::NotAPolicy { path, source })?;
        files.insert(policy.helpline.clone(), Arc::new(policy));
    }
    Ok(files)
}
