//! The keys with which an issuer signs: fetched, kept, and replaced as the issuer replaces them.
//!
//! They are asked for again after a while, and when a token names one that is not known, but never more often than the
//! settings allow, whatever comes in. While the issuer cannot be reached, or says what makes no sense, the last good keys
//! stay, for as long as the settings allow; then nobody's token is good.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_runtime::{
    Stop,
    http::{HttpClient, HttpError},
};
use http::{Request, StatusCode, Uri, header};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use crate::Principal;

/// A set of keys is no longer than this.
pub const MAX_SET_BYTES: usize = 256 * 1024;
/// A set has no more keys than this.
const MAX_KEYS: usize = 100;
/// The name of a key is no longer than this.
pub(crate) const MAX_KEY_NAME_BYTES: usize = 256;
/// Bytes of an RSA modulus: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// Bytes of an RSA exponent.
const MAX_EXPONENT_BYTES: usize = 4;
/// Bytes of a coordinate of the two curves.
const POINT_BYTES: usize = 32;
/// The issuer answers within this, connecting included.
const PATIENCE: Duration = Duration::from_secs(5);
/// A call whose token names a key that is not known waits so long for it.
const WAIT_FOR_KEY: Duration = Duration::from_secs(2);
/// So many such calls at once; others are refused without waiting, so that made-up names hold up nothing.
const MAX_WAITING: usize = 64;
/// Tokens that were found good are remembered, so many at most, for as long as the keys stay.
const MAX_REMEMBERED: usize = 16_384;

/// Where keys come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// They are fetched.
    Url(Uri, HttpClient),
    /// They lie in a file.
    File(PathBuf),
}

/// Why there are no newer keys. It names no address and quotes nothing that came.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Nobody answered.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It took too long.
    #[error("it did not answer in time")]
    Late,
    /// It answered something else.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    File(#[from] std::io::Error),
    /// It is no set of keys, or too long a one.
    #[error("it is no set of keys")]
    Malformed,
    /// No key of it can be used.
    #[error("it has no key for RS256 (2048 bits or more), ES256 or EdDSA (Ed25519)")]
    Empty,
}

/// One key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// The keys that an issuer had at one time, and the tokens that they were found to have signed.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
    text: Vec<u8>,
    good: Mutex<HashMap<[u8; 32], Arc<Principal>>>,
}

impl KeySet {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|_| KeysError::Malformed)?;
        if text.len() > MAX_SET_BYTES || set.keys.len() > MAX_KEYS {
            return Err(KeysError::Malformed);
        }
        // One that cannot be used says nothing about the others.
        let keys: Vec<Key> = set.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(KeysError::Empty);
        }
        Ok(Self { keys, text: text.to_owned(), good: Mutex::default() })
    }

    /// The key that a token names; or, for one that names none, the only one of its kind.
    pub(crate) fn find(&self, name: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut of_kind = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match name {
            Some(name) => of_kind.find(|key| key.name.as_deref() == Some(name)),
            None => of_kind.next().filter(|_| of_kind.next().is_none()),
        }
    }

    pub(crate) fn recall(&self, digest: &[u8; 32]) -> Option<Arc<Principal>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Remembers a token that was good. What has expired makes room.
    pub(crate) fn remember(&self, digest: [u8; 32], principal: &Arc<Principal>, now_s: u64) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MAX_REMEMBERED {
            good.retain(|_, other| other.expires_at.is_none_or(|at| at > now_s));
        }
        if good.len() < MAX_REMEMBERED {
            good.insert(digest, Arc::clone(principal));
        }
    }
}

fn usable(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let named = common.key_id.as_ref().is_none_or(|name| !name.is_empty() && name.len() <= MAX_KEY_NAME_BYTES);
    let (algorithm, sized) = if let AlgorithmParameters::RSA(rsa) = &jwk.algorithm {
        let (n, e) = (bytes(&rsa.n)?.len(), bytes(&rsa.e)?.len());
        (Algorithm::RS256, RSA_BYTES.contains(&n) && (1..=MAX_EXPONENT_BYTES).contains(&e))
    } else if let AlgorithmParameters::EllipticCurve(point) = &jwk.algorithm {
        let sized =
            [&point.x, &point.y].into_iter().all(|text| bytes(text).is_some_and(|b| b.len() == POINT_BYTES));
        (Algorithm::ES256, point.curve == EllipticCurve::P256 && sized)
    } else if let AlgorithmParameters::OctetKeyPair(point) = &jwk.algorithm {
        (Algorithm::EdDSA, point.curve == EllipticCurve::Ed25519 && bytes(&point.x)?.len() == POINT_BYTES)
    } else {
        return None;
    };
    let fits = common.key_algorithm.is_none_or(|stated| stated == KeyAlgorithm::from(algorithm));
    if !(sized && signs && verifies && named && fits) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { name: jwk.common.key_id, algorithm, key })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// How often keys are asked for, and how long they stay.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// They are asked for again after this.
    pub refresh_every: Duration,
    /// But never more often than this, whatever comes in.
    pub at_most_every: Duration,
    /// While there are no newer ones, they are good for so long.
    pub keep_for: Duration,
}

/// An issuer's keys, kept fresh.
#[derive(Debug)]
pub struct Keys {
    source: Source,
    rhythm: Rhythm,
    known: RwLock<Option<(Arc<KeySet>, Instant)>>,
    wanted: Notify,
    /// Counts the times that they were asked for, and when that was last.
    asked: watch::Sender<Option<Instant>>,
    waiting: Semaphore,
    there: watch::Sender<bool>,
}

impl Keys {
    /// None at first: [`follow`](Self::follow) gets them.
    #[must_use]
    pub fn new(source: Source, rhythm: Rhythm) -> Self {
        Self {
            source,
            rhythm,
            known: RwLock::new(None),
            wanted: Notify::new(),
            asked: watch::Sender::new(None),
            waiting: Semaphore::new(MAX_WAITING),
            there: watch::Sender::new(false),
        }
    }

    /// Whether there are any, as it changes.
    #[must_use]
    pub fn there(&self) -> watch::Receiver<bool> {
        self.there.subscribe()
    }

    /// Asks for them now.
    ///
    /// # Errors
    /// When there are no newer ones to be had; those before stay.
    pub async fn refresh(&self) -> Result<(), KeysError> {
        let read = self.read().await;
        self.asked.send_replace(Some(Instant::now()));
        let set = KeySet::parse(&read?)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let set = match known.take() {
            // What was remembered stays good.
            Some((before, _)) if before.text == set.text => before,
            Some(_) | None => {
                info!(keys = set.keys.len(), "the issuer's keys are known");
                Arc::new(set)
            }
        };
        *known = Some((set, Instant::now()));
        self.there.send_if_modified(|there| !std::mem::replace(there, true));
        Ok(())
    }

    async fn read(&self) -> Result<Vec<u8>, KeysError> {
        match &self.source {
            Source::Url(url, http) => {
                let request =
                    Request::get("/").header(header::ACCEPT, "application/json, application/jwk-set+json");
                let request = request.body(String::new()).map_err(HttpError::from)?;
                let answer = timeout(PATIENCE, http.fetch(url, request, MAX_SET_BYTES)).await;
                let answer = answer.map_err(|_| KeysError::Late)??;
                match answer.status() {
                    StatusCode::OK => Ok(answer.into_body()),
                    other => Err(KeysError::Status(other)),
                }
            }
            Source::File(file) => Ok(tokio::fs::read(file).await?),
        }
    }

    /// Keeps them fresh until `stop`.
    pub async fn follow(self: Arc<Self>, stop: Stop) {
        let until = stop.stopping();
        tokio::select! {
            () = until => {}
            () = self.keep_fresh() => {}
        }
    }

    async fn keep_fresh(&self) {
        let mut failing = false;
        loop {
            let began = Instant::now();
            let refreshed = self.refresh().await;
            if let Err(why) = &refreshed
                && !failing
            {
                warn!(%why, "the issuer's keys cannot be had; the last ones stay for a while");
            }
            if refreshed.is_ok() && failing {
                info!("the issuer's keys can be had again");
            }
            failing = refreshed.is_err();
            self.forget_what_is_too_old();
            // Without keys nobody comes in: then it is tried as often as may be.
            let pause = if failing { self.rhythm.at_most_every } else { self.rhythm.refresh_every };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => sleep_until(began + self.rhythm.at_most_every).await,
            }
        }
    }

    fn forget_what_is_too_old(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|(_, since)| since.elapsed() > self.rhythm.keep_for) {
            *known = None;
            warn!("the issuer's keys are too old: until there are newer ones nobody's token is good");
            self.there.send_replace(false);
        }
    }

    pub(crate) fn now(&self) -> Option<Arc<KeySet>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(_, since)| since.elapsed() <= self.rhythm.keep_for).map(|(set, _)| Arc::clone(set))
    }

    /// The keys now, with the one that is wanted if it can be had: it may have been published a moment ago.
    pub(crate) async fn with(&self, name: Option<&str>, algorithm: Algorithm) -> Option<Arc<KeySet>> {
        let known = self.now();
        if known.as_ref().is_some_and(|set| set.find(name, algorithm).is_some()) {
            return known;
        }
        // Made-up names, of which there is no end, neither wait nor make anybody ask.
        let mut asked = self.asked.subscribe();
        let lately = asked.borrow_and_update().is_some_and(|at| at.elapsed() < self.rhythm.at_most_every);
        let _place = if lately { None } else { self.waiting.try_acquire().ok() }?;
        self.wanted.notify_one();
        // Whether they came or not, the next look decides.
        let _ = timeout(WAIT_FOR_KEY, asked.changed()).await;
        self.now()
    }
}
