//! Content at rest: what integrators and responders hand over is sealed before it reaches the store, and opened only on
//! its way to its one reader. The line, its records and its scripts carry bytes that mean nothing to them.
//!
//! ```text
//! handoff, reply_handoff ─► seal ─► store ─► open ─► holder of the fence, visitor
//!                                                    └─► rewrap ─► a partner's line
//! ```
//!
//! Content that cannot be sealed, opened or rewrapped keeps nobody from being helped: the hand-over goes on, its reader
//! is told that something is missing, and the operator is told by a log line and a counter.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_domain::{ChatId, HelplineId, Owner, ResponderId};
use holdfast_runtime::config::ConfigError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::config::{Config, StoreKind};

mod envelope;
mod keys;

use envelope::{LOST, Unreadable};
use keys::{FolderKeys, KeyFault, Keys, Ring};

/// A key service that is silent for longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Content that could not be read is told of once, as long as it is among the last so many.
const REMEMBERED: usize = 256;

/// Why content cannot be sealed with these settings.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Neither a folder nor the word that none is needed.
    #[error(
        "content.key_dir: is needed when store.kind is \"redis\" (a folder with YYYY-MM-DD.key, the same for all \
         replicas), unless security.insecure_random_content_key or security.insecure_unsealed_content is true"
    )]
    Missing,
    /// Two settings that say the opposite of each other.
    #[error("security.insecure_unsealed_content: content.key_dir names keys, so content is meant to be sealed")]
    Both,
    /// The folder cannot be listed.
    #[error("content.key_dir: {0}")]
    Folder(std::io::Error),
    /// A file of the folder is no key.
    #[error("content.key_dir: {file}: {problem}")]
    File {
        /// Its name.
        file: String,
        /// What is wrong with it; never what is in it.
        problem: &'static str,
    },
    /// A key cannot be read.
    #[error("content.key_dir: {0}")]
    Key(#[from] ConfigError),
    /// There is no key at all.
    #[error("content.key_dir: holds no YYYY-MM-DD.key, which helplines without keys of their own need")]
    Empty,
    /// Too many files.
    #[error("content.key_dir: holds more than {} files", keys::MAX_FILES)]
    TooMany,
    /// The system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

/// Which content of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    /// From the integrator, for the responder.
    Handoff,
    /// From the responder, for the visitor: of the offer of this number, and of no other responder.
    ReplyHandoff(u32),
    /// From this supervisor, who took the chat over, for the visitor. By which offer is known only once it is theirs.
    TakeOverReply(&'a ResponderId),
}

impl Field<'_> {
    fn word(self) -> &'static str {
        match self {
            Self::Handoff => "handoff",
            Self::ReplyHandoff(_) => "reply_handoff",
            Self::TakeOverReply(_) => "take_over_reply",
        }
    }

    /// Which of several.
    fn which(self) -> String {
        match self {
            Self::Handoff => "0".to_owned(),
            Self::ReplyHandoff(offer) => offer.to_string(),
            Self::TakeOverReply(by) => by.to_string(),
        }
    }
}

/// Whose content: an envelope opens nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of<'a> {
    pub(crate) helpline: &'a HelplineId,
    pub(crate) chat: &'a ChatId,
    pub(crate) field: Field<'a>,
}

/// Content for its reader.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) bytes: Vec<u8>,
    /// There was content, and it cannot be read.
    pub(crate) lost: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} bytes, lost: {})", self.bytes.len(), self.lost)
    }
}

impl Opened {
    const LOST: Self = Self { bytes: Vec::new(), lost: true };
}

/// Counts what was done to content, by a fixed word.
pub(crate) type Count = Arc<dyn Fn(&'static str) + Send + Sync>;

/// Seals and opens content.
pub(crate) struct Content {
    how: How,
    count: Count,
    /// What was told already, so that a visitor's stream that looks again and again does not flood the log.
    told: Mutex<VecDeque<(HelplineId, ChatId, &'static str)>>,
}

enum How {
    Sealed(Arc<dyn Keys>),
    AsItCame,
}

impl Content {
    /// As the settings say. What reads the keys anew is returned too, where they are in a folder.
    ///
    /// # Errors
    /// One line that names the setting.
    pub(crate) fn of(config: &Config, count: Count) -> Result<(Self, Option<Arc<FolderKeys>>), ContentError> {
        check(config)?;
        let dir = &config.content.key_dir;
        if !dir.as_os_str().is_empty() {
            let keys = Arc::new(FolderKeys::read(dir)?);
            return Ok((Self::new(How::Sealed(Arc::clone(&keys) as _), count), Some(keys)));
        }
        if config.security.insecure_unsealed_content {
            warn!("INSECURE: content is kept in the store as it comes, for whoever can read the store");
            return Ok((Self::new(How::AsItCame, count), None));
        }
        if config.store.kind == StoreKind::Redis {
            warn!("content is sealed with a key that this process forgets: after a restart nobody can open it");
        }
        Ok((Self::new(How::Sealed(Arc::new(Ring::made_up()?)), count), None))
    }

    fn new(how: How, count: Count) -> Self {
        Self { how, count, told: Mutex::default() }
    }

    /// Sealed with a key of its own, for the fuzz tests.
    #[cfg(feature = "test-util")]
    pub(crate) fn sealed_for_tests() -> Result<Self, ContentError> {
        Ok(Self::new(How::Sealed(Arc::new(Ring::made_up()?)), Arc::new(|_| ())))
    }

    /// Content that is kept as it comes, for tests of what lies around it.
    pub(crate) fn as_it_came() -> Self {
        Self::new(How::AsItCame, Arc::new(|_| ()))
    }

    /// Whether the store sees nothing of it.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.how, How::Sealed(_))
    }

    /// Content for the store. Nothing stays nothing; what cannot be sealed is never stored as it came.
    pub(crate) async fn seal(&self, of: Of<'_>, content: Vec<u8>) -> Vec<u8> {
        let How::Sealed(keys) = &self.how else {
            return content;
        };
        if content.is_empty() {
            return content;
        }
        let sealed = within(envelope::seal(&**keys, of, &content)).await;
        self.noted(of, "sealed", "not_sealed", sealed).unwrap_or_else(|| LOST.to_vec())
    }

    /// Content from the store, for its reader.
    pub(crate) async fn open(&self, of: Of<'_>, kept: &[u8]) -> Opened {
        self.open_as(of, None, kept).await
    }

    /// What the owner of a chat left for its visitor. The record does not say whether they accepted it or took it over.
    pub(crate) async fn open_reply(
        &self,
        helpline: &HelplineId,
        chat: &ChatId,
        owner: &Owner,
        kept: &[u8],
    ) -> Opened {
        let of = Of { helpline, chat, field: Field::ReplyHandoff(owner.offer) };
        self.open_as(of, Some(Field::TakeOverReply(&owner.responder)), kept).await
    }

    /// Content that was sealed for one field or, if it was not, for another.
    async fn open_as(&self, of: Of<'_>, or: Option<Field<'_>>, kept: &[u8]) -> Opened {
        let How::Sealed(keys) = &self.how else {
            return Opened { bytes: kept.to_vec(), lost: false };
        };
        if kept.is_empty() {
            return Opened::default();
        }
        let mut opened = within(envelope::open(&**keys, of, kept)).await;
        if let (Err(Unreadable::Key(KeyFault::Changed)), Some(field)) = (&opened, or) {
            opened = within(envelope::open(&**keys, Of { field, ..of }, kept)).await;
        }
        let opened = self.noted(of, "opened", "not_opened", opened);
        opened.map_or(Opened::LOST, |bytes| Opened { bytes, lost: false })
    }

    /// Content from the store of one helpline, for the store of another: its key changes hands, itself it stays sealed.
    pub(crate) async fn rewrap(&self, of: Of<'_>, to: &HelplineId, kept: &[u8]) -> Vec<u8> {
        let How::Sealed(keys) = &self.how else {
            return kept.to_vec();
        };
        if kept.is_empty() {
            return Vec::new();
        }
        let rewrapped = within(envelope::rewrap(&**keys, of, to, kept)).await;
        self.noted(of, "rewrapped", "not_rewrapped", rewrapped).unwrap_or_else(|| LOST.to_vec())
    }

    /// Counts what was done, and tells the operator of what could not be.
    fn noted<T>(
        &self,
        of: Of<'_>,
        done: &'static str,
        failed: &'static str,
        result: Result<T, Unreadable>,
    ) -> Option<T> {
        (self.count)(if result.is_ok() { done } else { failed });
        result.inspect_err(|why| self.tell(of, failed, why)).ok()
    }

    fn tell(&self, of: Of<'_>, failed: &'static str, why: &Unreadable) {
        let Of { helpline, chat, field } = of;
        if self.is_news(of) {
            error!(%helpline, chat_id = %chat, field = field.word(), failed, %why, "content is left out");
        }
    }

    fn is_news(&self, of: Of<'_>) -> bool {
        let what = (of.helpline.clone(), of.chat.clone(), of.field.word());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&what) {
            return false;
        }
        told.push_back(what);
        if told.len() > REMEMBERED {
            told.pop_front();
        }
        true
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Unreadable>>) -> Result<T, Unreadable> {
    timeout(PATIENCE, work).await.unwrap_or(Err(Unreadable::Silent))
}

/// What can be told without reading a key.
///
/// # Errors
/// One line that names the setting.
pub(crate) fn check(config: &Config) -> Result<(), ContentError> {
    let (keys, security) = (!config.content.key_dir.as_os_str().is_empty(), &config.security);
    if keys && security.insecure_unsealed_content {
        return Err(ContentError::Both);
    }
    let meant = keys || security.insecure_random_content_key || security.insecure_unsealed_content;
    if meant || config.store.kind == StoreKind::Memory { Ok(()) } else { Err(ContentError::Missing) }
}

/// Reads the keys anew, again and again, so that new ones are there and destroyed ones are gone without a restart.
pub(crate) async fn follow(keys: Arc<FolderKeys>, count: Count, every: Duration, done: CancellationToken) {
    let mut moments = tokio::time::interval(every);
    moments.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            _ = moments.tick() => {}
        }
        if !keys.read_anew(Duration::ZERO).await {
            count("keys_not_read");
        }
    }
}

#[cfg(test)]
mod tests;
