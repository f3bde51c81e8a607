//! A visitor's token: made from the chat's name with a key that only intake has, so that a repeat of the request is
//! answered with the same token although only its digest is stored.
//!
//! It is proven by that digest alone, which goes along when a partner helpline takes the chat: the same token is good
//! there, whatever key the partner's intake has.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use holdfast_domain::{ChatId, HelplineId};
use holdfast_runtime::config::{ConfigError, read_secret};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::config::SecurityConfig;

/// What the key is used for here, so that no other use of it can make a token.
const PURPOSE: &str = "visitor-token";

/// The same, for what integrators call their visitors.
const SUBJECT: &str = "visitor-subject";

/// Bytes of a subject's digest.
pub const SUBJECT_BYTES: usize = 16;

/// Least length of a key, in bytes of the file.
const MIN_KEY_BYTES: usize = 32;

/// Bytes of a token before it is written in base64.
const TOKEN_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither a file nor the word that none is needed.
    #[error(
        "security.visitor_token_key_file: is needed (32 or more random characters, the same for all replicas), unless \
         security.insecure_random_token_key = true"
    )]
    Missing,
    /// The file cannot be read.
    #[error("security.visitor_token_key_file: {0}")]
    File(#[from] ConfigError),
    /// The file holds too little.
    #[error("security.visitor_token_key_file: holds less than {MIN_KEY_BYTES} bytes")]
    Short,
    /// The system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

/// Makes visitors' tokens.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey([REDACTED])")
    }
}

impl TokenKey {
    /// The key that the settings name.
    ///
    /// # Errors
    /// One line that names the setting.
    pub fn of(settings: &SecurityConfig) -> Result<Self, KeyError> {
        if !settings.visitor_token_key_file.as_os_str().is_empty() {
            let secret = read_secret(&settings.visitor_token_key_file)?;
            return Self::new(secret.expose().as_bytes()).ok_or(KeyError::Short);
        }
        if !settings.insecure_random_token_key {
            return Err(KeyError::Missing);
        }
        warn!(
            "visitors' tokens are made with a key that this process forgets; another replica cannot repeat them"
        );
        let mut key = [0; MIN_KEY_BYTES];
        getrandom::fill(&mut key).map_err(KeyError::Random)?;
        Self::new(&key).ok_or(KeyError::Short)
    }

    /// A key, if it is long enough.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        if key.len() < MIN_KEY_BYTES {
            return None;
        }
        Hmac::new_from_slice(key).ok().map(Self)
    }

    /// The token for a chat: always the same.
    #[must_use]
    pub fn token(&self, helpline: &HelplineId, chat: &ChatId) -> String {
        let mut mac = self.0.clone();
        mac.update([helpline.as_str(), chat.as_str(), PURPOSE].join("\0").as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// What an integrator calls a visitor, as a digest: the first 128 bits of an HMAC over helpline, integrator and subject.
    /// Nobody without the key can tell from it who that is, nor try names out; and the same name of another integrator, or at
    /// another helpline, is somebody else. What is made here begins with a zero byte and nothing else that is made with this
    /// key does; neither name holds one.
    #[must_use]
    pub fn subject(&self, helpline: &HelplineId, integrator: &str, subject: &str) -> [u8; SUBJECT_BYTES] {
        let mut mac = self.0.clone();
        mac.update(["", SUBJECT, helpline.as_str(), integrator, subject].join("\0").as_bytes());
        let whole: [u8; TOKEN_BYTES] = mac.finalize().into_bytes().into();
        let mut first = [0; SUBJECT_BYTES];
        first.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        first
    }

    /// A key for another use, which says nothing about this one. What makes a token holds zero bytes and the name of a
    /// use holds none, so the two are never made alike.
    #[must_use]
    pub fn derive(&self, usage: &str) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(usage.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// The digest of a token as it is stored; `None` for a text that cannot be a token.
#[must_use]
pub fn hash_of(token: &str) -> Option<[u8; 32]> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    (bytes.len() == TOKEN_BYTES).then(|| Sha256::digest(token).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_for_the_same_chat_and_another_for_another() {
        let key = TokenKey::new(&[7; 32]).unwrap();
        let (demo, other) = (HelplineId::parse("demo").unwrap(), HelplineId::parse("other").unwrap());
        let (a, b) = (ChatId::parse("a").unwrap(), ChatId::parse("b").unwrap());
        assert_eq!(key.token(&demo, &a), key.token(&demo, &a));
        assert_ne!(key.token(&demo, &a), key.token(&demo, &b));
        assert_ne!(key.token(&demo, &a), key.token(&other, &a));
        assert_ne!(key.token(&demo, &a), TokenKey::new(&[8; 32]).unwrap().token(&demo, &a));
        assert!(hash_of(&key.token(&demo, &a)).is_some());
    }

    #[test]
    fn a_subject_is_one_person_only_under_one_key_helpline_and_integrator() {
        let key = TokenKey::new(&[7; 32]).unwrap();
        let (demo, other) = (HelplineId::parse("demo").unwrap(), HelplineId::parse("other").unwrap());
        let digest = key.subject(&demo, "web", "v1");
        assert_eq!(digest, key.subject(&demo, "web", "v1"));
        for different in [
            key.subject(&demo, "web", "v2"),
            key.subject(&demo, "app", "v1"),
            key.subject(&other, "web", "v1"),
            TokenKey::new(&[8; 32]).unwrap().subject(&demo, "web", "v1"),
        ] {
            assert_ne!(digest, different);
        }
        let made_alike = key.token(&demo, &ChatId::parse("web").unwrap());
        let made_alike = URL_SAFE_NO_PAD.decode(made_alike).unwrap();
        assert_ne!(key.subject(&demo, "web", PURPOSE), made_alike[..SUBJECT_BYTES]);
    }

    #[test]
    fn a_text_that_cannot_be_a_token_has_no_digest() {
        let token = URL_SAFE_NO_PAD.encode([0; 32]);
        for bad in ["", "a b", "é", &token[1..], &format!("{token}="), &format!("{token}AA")] {
            assert_eq!(hash_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_is_long_and_never_printed() {
        assert!(TokenKey::new(&[1; 31]).is_none());
        assert_eq!(format!("{:?}", TokenKey::new(&[1; 32]).unwrap()), "TokenKey([REDACTED])");
    }
}
