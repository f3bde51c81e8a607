//! The helplines' keys. Each content key is wrapped by the key of the helpline that keeps the content.
//!
//! [`Keys`] has the shape of a key management service: it wraps and unwraps, and never gives a helpline's key away. The
//! one that is built in reads a folder:
//!
//! ```text
//! 2026-11-01.key            a key of the installation: each helpline has its own key, derived from it
//! 2026-12-01.key            the next one, in use from that day on (UTC); until then it only opens
//! north.2026-11-15.key      a key of the helpline north alone, which goes before those of the installation
//! ```
//!
//! The day in the name, and not the day of writing, says when a key begins to seal: so it can lie everywhere before the
//! first replica uses it, and no replica ever meets an envelope that it cannot open.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, ready};
use hmac::{Hmac, Mac};
use holdfast_domain::HelplineId;
use holdfast_runtime::{
    clock,
    config::{Secret, read_secret},
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use secrecy::{ExposeSecret, SecretBox, zeroize::Zeroizing};
use sha2::Sha256;
use tokio::sync::Mutex;
use tracing::{error, info};

use super::{
    ContentError,
    envelope::{Key, decrypt, encrypt},
};

/// Files in the folder at most.
pub(super) const MAX_FILES: usize = 4096;
/// Least length of a key, in bytes of its file.
const MIN_KEY_BYTES: usize = 32;
/// An envelope of an unknown key makes the folder be read anew, but not more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
const EXTENSION: &str = ".key";
/// Letters of a day, such as 2026-12-01.
const DAY: usize = 10;

/// What the secrets are used for, so that no other use of them can make the same key.
const KID: &str = "content-key-id";
const HELPLINE_KEY: &str = "content-key-of";

/// Which key of a helpline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kid(pub(super) [u8; 8]);

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A content key, wrapped by a helpline's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrapped {
    pub(super) kid: Kid,
    /// At most 255 bytes.
    pub(super) bytes: Vec<u8>,
}

/// Why a content key cannot be wrapped or unwrapped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyFault {
    /// There is no such key of the helpline, or no longer.
    #[error("the helpline has no key {0}")]
    Unknown(Kid),
    /// The helpline has no key at all.
    #[error("the helpline has no key")]
    None,
    /// It was not wrapped by this key for this use.
    #[error("its key was changed, or wrapped for another helpline or chat")]
    Changed,
    /// The system gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
    /// More bytes than an envelope has room for.
    #[error("too long to be wrapped")]
    TooLong,
}

/// Wraps and unwraps content keys with helplines' keys.
pub(super) trait Keys: Send + Sync {
    /// Wraps a content key with the newest key of the helpline. It unwraps only together with the same context.
    fn wrap<'a>(
        &'a self,
        helpline: &'a HelplineId,
        context: &'a [u8],
        key: &'a Key,
    ) -> BoxFuture<'a, Result<Wrapped, KeyFault>>;

    /// Unwraps a content key, with whichever key of the helpline wrapped it.
    fn unwrap<'a>(
        &'a self,
        helpline: &'a HelplineId,
        context: &'a [u8],
        wrapped: &'a Wrapped,
    ) -> BoxFuture<'a, Result<Key, KeyFault>>;
}

/// One key that helplines' keys are derived from.
struct Version {
    /// The helpline whose own it is; none for one of the installation.
    of: Option<HelplineId>,
    /// Its file, without the extension.
    name: String,
    /// It seals from this day on.
    from: Date,
    kid: Kid,
    secret: Secret,
}

impl Version {
    fn new(of: Option<HelplineId>, name: String, from: Date, secret: Secret) -> Self {
        let digest = derived(&secret, &[KID]);
        let mut kid = [0; 8];
        kid.iter_mut().zip(digest.iter()).for_each(|(id, byte)| *id = *byte);
        Self { of, name, from, kid: Kid(kid), secret }
    }

    /// The key of a helpline: with it, nothing of another helpline can be opened.
    fn key_of(&self, helpline: &HelplineId) -> Zeroizing<[u8; 32]> {
        derived(&self.secret, &[HELPLINE_KEY, helpline.as_str()])
    }

    /// What makes it another one.
    fn mark(&self) -> (&str, Kid) {
        (&self.name, self.kid)
    }

    fn serves(&self, helpline: &HelplineId) -> bool {
        self.of.as_ref().is_none_or(|of| of == helpline)
    }
}

fn derived(secret: &Secret, usage: &[&str]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    // A key of any length will do.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) {
        mac.update(usage.join("\0").as_bytes());
        derived.copy_from_slice(&mac.finalize().into_bytes());
    }
    derived
}

/// Keys that are at hand, the older ones first.
pub(super) struct Ring {
    versions: Vec<Version>,
    wall_ms: fn() -> u64,
}

impl Ring {
    /// One key that nobody else has, gone with the process.
    pub(super) fn made_up() -> Result<Self, ContentError> {
        let mut bytes = Zeroizing::new([0; MIN_KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(ContentError::Random)?;
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let version = Version::new(None, "made-up".to_owned(), Date::default(), secret.into());
        Ok(Self { versions: vec![version], wall_ms: clock::wall_ms })
    }

    /// The key that seals today: the newest of those whose day has come. Where none has come yet, the first will do.
    fn sealing(&self, helpline: &HelplineId) -> Option<&Version> {
        let today = day(self.wall_ms);
        let own = || self.versions.iter().filter(|v| v.of.as_ref() == Some(helpline));
        let shared = || self.versions.iter().filter(|v| v.of.is_none());
        let begun = |v: &&Version| v.from <= today;
        let newest = own().rfind(begun).or_else(|| shared().rfind(begun));
        newest.or_else(|| own().next()).or_else(|| shared().next())
    }

    fn wrapped(&self, helpline: &HelplineId, context: &[u8], key: &Key) -> Result<Wrapped, KeyFault> {
        let version = self.sealing(helpline).ok_or(KeyFault::None)?;
        let bytes = encrypt(&version.key_of(helpline), context, key.expose_secret())?;
        Ok(Wrapped { kid: version.kid, bytes })
    }

    fn unwrapped(&self, helpline: &HelplineId, context: &[u8], wrapped: &Wrapped) -> Result<Key, KeyFault> {
        let of_id = |v: &&Version| v.kid == wrapped.kid && v.serves(helpline);
        let version = self.versions.iter().find(of_id).ok_or(KeyFault::Unknown(wrapped.kid))?;
        let key = decrypt(&version.key_of(helpline), context, &wrapped.bytes).map(Zeroizing::new);
        let key = key.and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok().map(Zeroizing::new));
        let key = key.ok_or(KeyFault::Changed)?;
        Ok(SecretBox::init_with_mut(|boxed: &mut [u8; 32]| boxed.copy_from_slice(&*key)))
    }

    /// The names of the keys, for the log.
    fn names(&self) -> Vec<&str> {
        self.versions.iter().map(|v| v.name.as_str()).collect()
    }
}

fn day(wall_ms: fn() -> u64) -> Date {
    let now = i64::try_from(wall_ms()).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    now.map_or(Date::MAX, |now| now.to_zoned(TimeZone::UTC).date())
}

impl Keys for Ring {
    fn wrap<'a>(
        &'a self,
        helpline: &'a HelplineId,
        context: &'a [u8],
        key: &'a Key,
    ) -> BoxFuture<'a, Result<Wrapped, KeyFault>> {
        Box::pin(ready(self.wrapped(helpline, context, key)))
    }

    fn unwrap<'a>(
        &'a self,
        helpline: &'a HelplineId,
        context: &'a [u8],
        wrapped: &'a Wrapped,
    ) -> BoxFuture<'a, Result<Key, KeyFault>> {
        Box::pin(ready(self.unwrapped(helpline, context, wrapped)))
    }
}

/// The keys in a folder, read again and again. While the folder cannot be read, the keys at hand stay.
pub(crate) struct FolderKeys {
    folder: PathBuf,
    ring: RwLock<Arc<Ring>>,
    reading: Mutex<Reading>,
    wall_ms: fn() -> u64,
}

struct Reading {
    last: Instant,
    fault: Option<String>,
}

impl FolderKeys {
    /// Reads the folder.
    ///
    /// # Errors
    /// One line that names the file that is no key.
    pub(super) fn read(folder: &Path) -> Result<Self, ContentError> {
        Self::read_at(folder, clock::wall_ms)
    }

    pub(super) fn read_at(folder: &Path, wall_ms: fn() -> u64) -> Result<Self, ContentError> {
        let ring = Ring { versions: versions(folder)?, wall_ms };
        info!(keys = ?ring.names(), "content is sealed");
        Ok(Self {
            folder: folder.to_owned(),
            ring: RwLock::new(Arc::new(ring)),
            reading: Mutex::new(Reading { last: Instant::now(), fault: None }),
            wall_ms,
        })
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the folder again, unless that was done within `pause`. Whether the keys are as the folder has them: one
    /// that is not whole changes nothing.
    pub(super) async fn read_anew(&self, pause: Duration) -> bool {
        let mut reading = self.reading.lock().await;
        if reading.last.elapsed() < pause {
            return reading.fault.is_none();
        }
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || versions(&folder)).await;
        reading.last = Instant::now();
        match read {
            Ok(Ok(versions)) => {
                reading.fault = None;
                self.replace(Ring { versions, wall_ms: self.wall_ms });
            }
            Ok(Err(fault)) => reading.tell(fault.to_string()),
            Err(fault) => reading.tell(fault.to_string()),
        }
        reading.fault.is_none()
    }

    fn replace(&self, ring: Ring) {
        if ring.versions.iter().map(Version::mark).eq(self.ring().versions.iter().map(Version::mark)) {
            return;
        }
        info!(keys = ?ring.names(), "the content keys are others now");
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }
}

impl Reading {
    /// Once for each fault.
    fn tell(&mut self, fault: String) {
        if self.fault.as_ref() != Some(&fault) {
            error!(%fault, "the content keys cannot be read anew, those at hand stay");
            self.fault = Some(fault);
        }
    }
}

impl Keys for FolderKeys {
    fn wrap<'a>(
        &'a self,
        helpline: &'a HelplineId,
        context: &'a [u8],
        key: &'a Key,
    ) -> BoxFuture<'a, Result<Wrapped, KeyFault>> {
        Box::pin(ready(self.ring().wrapped(helpline, context, key)))
    }

    fn unwrap<'a>(
        &'a self,
        helpline: &'a HelplineId,
        context: &'a [u8],
        wrapped: &'a Wrapped,
    ) -> BoxFuture<'a, Result<Key, KeyFault>> {
        Box::pin(async move {
            let unwrapped = self.ring().unwrapped(helpline, context, wrapped);
            if !matches!(unwrapped, Err(KeyFault::Unknown(_))) {
                return unwrapped;
            }
            // A key that was put there in haste, and another replica has read already.
            self.read_anew(AT_MOST_EVERY).await;
            self.ring().unwrapped(helpline, context, wrapped)
        })
    }
}

/// The keys of a folder, the older ones first.
fn versions(folder: &Path) -> Result<Vec<Version>, ContentError> {
    let mut names = names(folder).map_err(ContentError::Folder)?;
    if names.len() > MAX_FILES {
        return Err(ContentError::TooMany);
    }
    names.sort_unstable();
    let mut versions: Vec<Version> = Vec::with_capacity(names.len());
    for name in names {
        let version = version(folder, &name)?;
        if versions.iter().any(|other| other.kid == version.kid) {
            return Err(ContentError::File { file: name, problem: "holds the same key as another file" });
        }
        versions.push(version);
    }
    if versions.iter().all(|version| version.of.is_some()) {
        return Err(ContentError::Empty);
    }
    versions.sort_by(|a, b| (a.from, &a.name).cmp(&(b.from, &b.name)));
    Ok(versions)
}

/// The files of a folder, without hidden ones: those are how a mounted secret is put together.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)?.take(MAX_FILES * 2) {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

fn version(folder: &Path, file: &str) -> Result<Version, ContentError> {
    let refuse = |problem| ContentError::File { file: file.to_owned(), problem };
    let named = file.strip_suffix(EXTENSION).and_then(parsed);
    let (of, from) = named.ok_or_else(|| refuse("is named neither YYYY-MM-DD.key nor HELPLINE.YYYY-MM-DD.key"))?;
    let secret = read_secret(&folder.join(file))?;
    if secret.expose().len() < MIN_KEY_BYTES {
        return Err(refuse("holds less than 32 characters"));
    }
    Ok(Version::new(of, file.trim_end_matches(EXTENSION).to_owned(), from, secret))
}

/// Whose key it is by its name, and from when. After the day there may be a word: `2026-12-01-second`.
fn parsed(name: &str) -> Option<(Option<HelplineId>, Date)> {
    let (of, dated) = match name.split_once('.') {
        Some((helpline, dated)) => (Some(HelplineId::parse(helpline).ok()?), dated),
        None => (None, name),
    };
    let (day, word) = dated.split_at_checked(DAY)?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fine = word.is_empty() || word.len() > 1 && word.starts_with('-') && word.chars().all(fits);
    fine.then_some((of, day.parse().ok()?))
}
