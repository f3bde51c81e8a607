//! Policies at hand: what a helpline offers when nobody can come, also when nothing behind intake lives.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_domain::{HelplineId, Policy, policy::PolicyError};
use holdfast_link::{Link, LinkError, LinkNotice, Notices};
use tokio::{sync::Semaphore, time::interval};
use tonic::Code;
use tracing::warn;

use crate::{config::PolicyConfig, error::Failure};

/// Helplines whose policy is remembered.
const MAX_KNOWN: usize = 10_000;

/// Policies that are asked for at once.
const MAX_ASKING: usize = 32;

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

/// The policies that are known: those in force, as the queue said last, and those from files.
#[derive(Debug)]
pub struct Policies {
    files: ByHelpline,
    known: Mutex<ByHelpline>,
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

    fn known(&self) -> MutexGuard<'_, ByHelpline> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy in force as far as is known: as the queue said, else as the file says; asked for if never seen.
    ///
    /// # Errors
    /// When there is none, or it is not known here now.
    pub async fn get(&self, helpline: &HelplineId) -> Result<Arc<Policy>, Failure> {
        if let Some(policy) = self.known().get(helpline.as_str()) {
            return Ok(Arc::clone(policy));
        }
        let asked = self.ask(helpline.as_str()).await;
        if let Some(policy) = self.known().get(helpline.as_str()).or_else(|| self.files.get(helpline.as_str())) {
            return Ok(Arc::clone(policy));
        }
        match asked {
            Err(error) if error.code == Code::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Err(Failure::NoFallback),
        }
    }

    async fn ask(&self, helpline: &str) -> Result<(), LinkError> {
        let Ok(_place) = self.asking.try_acquire() else {
            return Ok(());
        };
        let said = self.link.policy(helpline, self.patience).await?;
        match Policy::from_toml(&said.toml) {
            Ok(policy) => self.remember(helpline, policy, said.revision),
            Err(error) => {
                warn!(%helpline, field = %error.field, "the policy in force cannot be read here")
            }
        }
        Ok(())
    }

    fn remember(&self, helpline: &str, policy: Policy, revision: u64) {
        let mut known = self.known();
        let newest = known.get(helpline).is_none_or(|p| p.revision <= revision);
        if newest && (known.len() < MAX_KNOWN || known.contains_key(helpline)) {
            known.insert(helpline.to_owned(), Arc::new(Policy { revision, ..policy }));
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
