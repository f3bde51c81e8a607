//! An issuer of one's own, for trying things out and for tests: it makes tokens for whoever holds its key. A helpline
//! that serves people has a real one, where people sign in with a second factor and leave.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Grant, signatures};

/// Why no token can be made.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The system gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
    /// What was given is no key of an issuer.
    #[error("this is no key of an issuer")]
    Key,
    /// The token cannot be made.
    #[error("the token cannot be made")]
    Token,
}

/// Whom a token is for, and for what.
#[derive(Debug, Clone, Copy)]
pub struct For<'a> {
    /// Who.
    pub subject: &'a str,
    /// At which helplines.
    pub helplines: &'a [&'a str],
    /// What they may do.
    pub grants: &'a [Grant],
    /// What they can do, such as `skill:minors>=3`; `None` says nothing about it.
    pub capabilities: Option<&'a [&'a str]>,
    /// For how long it holds.
    pub life: Duration,
}

/// Makes tokens, signed with Ed25519.
pub struct Issuer {
    name: String,
    audience: String,
    pkcs8: Vec<u8>,
    public: Vec<u8>,
    key_name: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Issuer {
    /// With a new key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(name: &str, audience: &str) -> Result<Self, IssuerError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| IssuerError::Random)?;
        Self::with_key(name, audience, pkcs8.as_ref())
    }

    /// With a key from before, as [`key`](Self::key) gave it.
    ///
    /// # Errors
    /// When it is none.
    pub fn with_key(name: &str, audience: &str, pkcs8: &[u8]) -> Result<Self, IssuerError> {
        signatures::install();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| IssuerError::Key)?;
        let public = pair.public_key().as_ref().to_vec();
        let digest: [u8; 32] = Sha256::digest(&public).into();
        let key_name = URL_SAFE_NO_PAD.encode(digest).chars().take(16).collect();
        Ok(Self { name: name.to_owned(), audience: audience.to_owned(), pkcs8: pkcs8.to_vec(), public, key_name })
    }

    /// Its key (PKCS #8). Whoever has it can be anybody.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public part of its key, as services read it.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(&self.public);
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.key_name, "x": x})
    }

    /// Its set of keys, as a file.
    #[must_use]
    pub fn jwks(&self) -> String {
        json!({"keys": [self.jwk()]}).to_string()
    }

    /// A token that begins to hold at `now_s` (seconds of wall time).
    ///
    /// # Errors
    /// Never, with a key that was good.
    pub fn token(&self, whom: &For<'_>, now_s: u64) -> Result<String, IssuerError> {
        self.sign(&self.claims(whom, now_s))
    }

    /// What such a token says.
    #[must_use]
    pub fn claims(&self, whom: &For<'_>, now_s: u64) -> Value {
        let (scopes, roles): (Vec<&Grant>, Vec<_>) = whom.grants.iter().partition(|g| **g == Grant::RequestChats);
        let mut claims = json!({
            "iss": self.name,
            "aud": self.audience,
            "sub": whom.subject,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + whom.life.as_secs(),
            "helplines": whom.helplines,
            "roles": roles.iter().map(|grant| grant.name()).collect::<Vec<_>>(),
            "scope": scopes.iter().map(|grant| grant.name()).collect::<Vec<_>>().join(" "),
        });
        if let (Some(capabilities), Some(claims)) = (whom.capabilities, claims.as_object_mut()) {
            claims.insert("capabilities".to_owned(), json!(capabilities));
        }
        claims
    }

    /// A token with these claims, whatever they are.
    ///
    /// # Errors
    /// Never, with a key that was good.
    pub fn sign(&self, claims: &Value) -> Result<String, IssuerError> {
        let header = Header { kid: Some(self.key_name.clone()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &EncodingKey::from_ed_der(&self.pkcs8)).map_err(|_| IssuerError::Token)
    }
}
