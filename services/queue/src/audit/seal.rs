//! Seals: signatures with a key that lies outside of the store. Whoever verifies needs only its public half, and so cannot
//! make one.

use std::{fmt, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use holdfast_runtime::config::{ConfigError, read_secret};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::Sha256;

use super::Hash;
use crate::config::{AuditConfig, Config, StoreKind};

/// What the secret is used for, so that no other use of it can make a seal.
const USAGE: &[u8] = b"holdfast audit seal";
/// Least length of a secret, in bytes of the file.
const MIN_KEY_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum AuditKeyError {
    /// The file cannot be read.
    #[error("audit.key_file: {0}")]
    File(ConfigError),
    /// The file holds too little.
    #[error("audit.key_file: holds less than {MIN_KEY_BYTES} bytes")]
    Short,
    /// Nobody said that an audit which proves little is meant.
    #[error(
        "audit.key_file: is needed when store.kind is \"redis\" (a secret, the same for all replicas, kept where the \
         store is not): without it whoever can write to the store can write the audit anew; \
         security.insecure_random_audit_key = true says that this is meant"
    )]
    Missing,
    /// The system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
    /// The key is none.
    #[error("audit.key_file: no key can be made of it")]
    Unfit,
}

/// What can be told without reading the key.
///
/// # Errors
/// One line that names the setting.
pub(crate) fn check(config: &Config) -> Result<(), AuditKeyError> {
    let meant = !config.audit.key_file.as_os_str().is_empty() || config.security.insecure_random_audit_key;
    if meant || config.store.kind == StoreKind::Memory { Ok(()) } else { Err(AuditKeyError::Missing) }
}

/// The public half of a key: what verifies a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }

    /// The seal is of this key, over this hash.
    #[must_use]
    pub fn made(&self, seal: &[u8], hash: Hash) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&sealed(hash), seal).is_ok()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Makes seals.
pub struct Seals(Ed25519KeyPair);

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seals([REDACTED])")
    }
}

impl Seals {
    /// With the key that the settings name. Without one, it is made up: what it seals can be verified while this process
    /// lives, with the public key that it logs.
    pub(crate) fn of(settings: &AuditConfig) -> Result<Self, AuditKeyError> {
        if settings.key_file.as_os_str().is_empty() { Self::made_up() } else { Self::read(&settings.key_file) }
    }

    /// With the key of a file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds too little.
    pub fn read(file: &Path) -> Result<Self, AuditKeyError> {
        let secret = read_secret(file).map_err(AuditKeyError::File)?;
        let secret = secret.expose().as_bytes();
        if secret.len() < MIN_KEY_BYTES {
            return Err(AuditKeyError::Short);
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| AuditKeyError::Unfit)?;
        mac.update(USAGE);
        Self::from_seed(&mac.finalize().into_bytes())
    }

    /// With a key that nobody else has.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn made_up() -> Result<Self, AuditKeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(AuditKeyError::Random)?;
        Self::from_seed(&seed)
    }

    fn from_seed(seed: &[u8]) -> Result<Self, AuditKeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| AuditKeyError::Unfit)
    }

    /// What verifies these seals.
    #[must_use]
    pub fn key(&self) -> Key {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        Key(key)
    }

    /// The seal over an entry, and all before it.
    #[must_use]
    pub fn seal(&self, hash: Hash) -> Vec<u8> {
        self.0.sign(&sealed(hash)).as_ref().to_vec()
    }
}

fn sealed(hash: Hash) -> Vec<u8> {
    [USAGE, b"\n", &hash.0].concat()
}
