//! Tokens: what somebody may do, signed by an issuer (RFC 7519, 9068), read as RFC 8725 advises.
//!
//! Which key checks a token is decided by the issuer's keys and never by the token: it may only say which of them. Keys
//! and addresses that stand in a token are not looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jsonwebtoken::{Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    Grant, Lease, Principal, Refused,
    jwks::{Key, Keys, MAX_KEY_NAME_BYTES},
    principal::{self, Helplines, MAX_CAPABILITIES, MAX_HELPLINES},
    settings::IssuerConfig,
    signatures::{self, ALGORITHMS},
};

/// A longer token is refused before anything looks at it.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Clocks may differ by this.
pub const LEEWAY_S: u64 = 30;
/// The highest level of a capability, which one without a level has.
const MAX_LEVEL: u32 = 5;

/// Reads tokens of one issuer.
#[derive(Debug)]
pub struct Tokens {
    settings: IssuerConfig,
    keys: Arc<Keys>,
}

/// The claims that are read by every issuer's rules, and the others.
#[derive(Deserialize)]
struct Claims {
    exp: Seconds,
    nbf: Option<Seconds>,
    iat: Option<Seconds>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A moment in seconds since 1970. Issuers may write fractions.
#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Seconds(u64);

impl TryFrom<f64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        let sensible = (0.0..9_007_199_254_740_992.0).contains(&seconds);
        if sensible { Ok(Self(seconds as u64)) } else { Err("not a moment") }
    }
}

impl Tokens {
    /// Tokens of the issuer that the settings name, signed with these keys.
    #[must_use]
    pub fn new(settings: IssuerConfig, keys: Arc<Keys>) -> Self {
        signatures::install();
        Self { settings, keys }
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Whose token this is, at `now_s` (seconds of wall time).
    ///
    /// # Errors
    /// When it is not good, or has expired.
    pub async fn verify(&self, token: &str, now_s: u64) -> Result<(Arc<Principal>, Lease), Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::NotAuthenticated);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.keys.now().and_then(|set| set.recall(&digest)) {
            return match known.expires_at {
                Some(at) if now_s >= at + LEEWAY_S => Err(Refused::TokenExpired),
                Some(_) | None => Ok((Arc::clone(&known), lease(&known, now_s))),
            };
        }
        let header = decode_header(token).map_err(|_| Refused::NotAuthenticated)?;
        check_header(&header)?;
        let set = self.keys.with(header.kid.as_deref(), header.alg).await.ok_or(Refused::NotAuthenticated)?;
        let key = set.find(header.kid.as_deref(), header.alg).ok_or(Refused::NotAuthenticated)?;
        let principal = Arc::new(self.read(token, key, now_s)?);
        let lease = lease(&principal, now_s);
        set.remember(digest, &principal, now_s);
        Ok((principal, lease))
    }

    fn read(&self, token: &str, key: &Key, now_s: u64) -> Result<Principal, Refused> {
        let mut rules = Validation::new(key.algorithm);
        rules.set_issuer(&[&self.settings.issuer]);
        rules.set_audience(&[&self.settings.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Times are looked at below, by the clock that the caller gives.
        rules.validate_exp = false;
        let claims = decode::<Claims>(token, &key.key, &rules).map_err(|_| Refused::NotAuthenticated)?.claims;
        let principal = self.principal(&claims)?;
        // Last, so that only whoever has a good token is told that it has expired.
        self.check_times(&claims, now_s)?;
        Ok(principal)
    }

    fn check_times(&self, claims: &Claims, now_s: u64) -> Result<(), Refused> {
        let longest_s = self.settings.longest_token_ms / 1000;
        let begins = |at: &Option<Seconds>| at.as_ref().is_none_or(|at| at.0 <= now_s + LEEWAY_S);
        if !begins(&claims.nbf) || !begins(&claims.iat) || claims.exp.0 > now_s + longest_s + LEEWAY_S {
            return Err(Refused::NotAuthenticated);
        }
        if now_s >= claims.exp.0 + LEEWAY_S { Err(Refused::TokenExpired) } else { Ok(()) }
    }

    fn principal(&self, claims: &Claims) -> Result<Principal, Refused> {
        let settings = &self.settings;
        let listed = |claim: &str| words(claim_of(&claims.others, claim), MAX_HELPLINES);
        let subject =
            claim_of(&claims.others, &settings.subject_claim).and_then(Value::as_str).unwrap_or_default();
        if !principal::is_subject(subject) {
            return Err(Refused::NotAuthenticated);
        }
        let said = listed(&settings.roles_claim)?;
        let roles = said.iter().filter_map(|role| role.strip_prefix(settings.role_prefix.as_str()));
        let scopes = listed("scope")?;
        // A scope is what a program may do, a role what a person is: neither names the other's.
        let scopes = scopes.iter().filter_map(|scope| Grant::named(scope)).filter(|g| *g == Grant::RequestChats);
        let grants = roles.filter_map(Grant::named).filter(|grant| *grant != Grant::RequestChats).chain(scopes);
        let capabilities = match claim_of(&claims.others, &settings.capabilities_claim) {
            None => None,
            some => Some(capabilities(&words(some, MAX_CAPABILITIES)?)?),
        };
        Ok(Principal {
            subject: subject.to_owned(),
            helplines: Helplines::These(listed(&settings.helpline_claim)?.into_iter().collect()),
            grants: grants.filter(|grant| grant.comes_by_token()).collect::<BTreeSet<_>>(),
            capabilities,
            expires_at: Some(claims.exp.0),
        })
    }
}

fn check_header(header: &Header) -> Result<(), Refused> {
    let typed = header.typ.as_deref().map(str::to_ascii_lowercase);
    // Other kinds of signed statement, as of a logout, are no tokens.
    let is_token = matches!(typed.as_deref(), None | Some("jwt" | "at+jwt" | "application/at+jwt"));
    let named = header.kid.as_ref().is_none_or(|name| name.len() <= MAX_KEY_NAME_BYTES);
    // What must be understood to read it (`crit`) is not.
    let understood = header.crit.is_none() && header.enc.is_none() && header.zip.is_none();
    if is_token && named && understood && ALGORITHMS.contains(&header.alg) {
        return Ok(());
    }
    Err(Refused::NotAuthenticated)
}

/// For how long a token holds, from now.
fn lease(principal: &Principal, now_s: u64) -> Lease {
    let now = Instant::now();
    let ends = principal.expires_at.map(|at| match at.checked_sub(now_s) {
        Some(left) => now + Duration::from_secs(left),
        None => now.checked_sub(Duration::from_secs(now_s - at)).unwrap_or(now),
    });
    ends.map_or_else(Lease::open_ended, Lease::until)
}

/// A claim by its name, or by a path with points (`realm_access.roles`).
fn claim_of<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if name.is_empty() {
        return None;
    }
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    claim_of(claims.get(first)?.as_object()?, rest)
}

/// A list of words, or one text with words between spaces.
fn words(claim: Option<&Value>, most: usize) -> Result<Vec<String>, Refused> {
    let words: Vec<String> = match claim {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|word| word.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(Refused::NotAuthenticated)?
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => return Err(Refused::NotAuthenticated),
    };
    if words.len() > most { Err(Refused::NotAuthenticated) } else { Ok(words) }
}

/// `lang:es`, or `skill:minors>=3` for a level up to three. The highest of several counts.
fn capabilities(words: &[String]) -> Result<BTreeMap<String, u32>, Refused> {
    let mut capabilities = BTreeMap::new();
    for word in words {
        let (tag, level) = match word.split_once(">=") {
            Some((tag, level)) => (tag, level.parse().map_err(|_| Refused::NotAuthenticated)?),
            None => (word.as_str(), MAX_LEVEL),
        };
        let most: &mut u32 = capabilities.entry(tag.to_owned()).or_default();
        *most = level.max(*most);
    }
    Ok(capabilities)
}
