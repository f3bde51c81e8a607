//! Tokens of every kind, also of those that no library would make.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_access::{
    Grant, IssuerConfig,
    issuer::{For, Issuer},
    jwks::{Keys, Source},
    tokens::Tokens,
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const NAME: &str = "https://id.example";
pub(crate) const AUDIENCE: &str = "holdfast";
/// When the tests take place, in seconds.
pub(crate) const NOW: u64 = 1_800_000_000;

const SETTINGS: &str = r#"
    issuer = "https://id.example"
    audience = "holdfast"
    jwks_url = ""
    jwks_file = ""
    ca_file = ""
    refresh_every_ms = 300000
    at_most_every_ms = 1000
    keep_for_ms = 3600000
    longest_token_ms = 86400000
    subject_claim = "sub"
    helpline_claim = "helplines"
    roles_claim = "roles"
    role_prefix = ""
    capabilities_claim = "capabilities"
"#;

pub(crate) fn settings(change: impl FnOnce(&mut IssuerConfig)) -> IssuerConfig {
    let mut settings = toml::from_str(SETTINGS).unwrap();
    change(&mut settings);
    settings
}

pub(crate) const ANA: For<'static> = For {
    subject: "ana",
    helplines: &["north"],
    grants: &[Grant::Responder],
    capabilities: None,
    life: Duration::from_secs(600),
};

/// What a good token says.
pub(crate) fn claims() -> Value {
    Issuer::generate(NAME, AUDIENCE).unwrap().claims(&ANA, NOW)
}

/// The same with something else.
pub(crate) fn but(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// One key of each kind.
pub(crate) struct Pens {
    pub(crate) rsa: RsaKeyPair,
    pub(crate) p256: EcdsaKeyPair,
    pub(crate) ed: Ed25519KeyPair,
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Pens {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("../keys/rsa.pk8")).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, p256.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    pub(crate) fn jwks(&self) -> Value {
        json!({"keys": [self.rsa_jwk(), self.p256_jwk(), self.ed_jwk()]})
    }

    pub(crate) fn rsa_jwk(&self) -> Value {
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let (n, e) = (text(public.n), text(public.e));
        json!({"kty": "RSA", "kid": "rsa", "use": "sig", "n": n, "e": e})
    }

    pub(crate) fn p256_jwk(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": "p256", "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    pub(crate) fn ed_jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "x": text(self.ed.public_key())})
    }

    pub(crate) fn rs256(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    pub(crate) fn es256(&self, message: &[u8]) -> Vec<u8> {
        self.p256.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    pub(crate) fn eddsa(&self, message: &[u8]) -> Vec<u8> {
        self.ed.sign(message).as_ref().to_vec()
    }

    /// A good token of ana's, signed with Ed25519.
    pub(crate) fn good(&self) -> String {
        self.signed(&claims())
    }

    pub(crate) fn signed(&self, claims: &Value) -> String {
        token(&json!({"alg": "EdDSA", "kid": "ed"}), claims, |message| self.eddsa(message))
    }
}

pub(crate) fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

pub(crate) fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
    let signature = text(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A reader of tokens that are signed with these keys.
pub(crate) async fn reader(jwks: &Value, settings: IssuerConfig) -> Tokens {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), jwks.to_string()).unwrap();
    let keys = Arc::new(Keys::new(Source::File(file.path().to_owned()), settings.rhythm()));
    keys.refresh().await.unwrap();
    Tokens::new(settings, keys)
}
