//! Return tokens: a visitor's sealed word for the responder whom they met, to ask for them again or never again.
//!
//! What is sealed says nothing to the visitor, not even by its length. A wish to meet somebody again is a convenience:
//! where its token does not open, is of another helpline or has expired, the visitor gets help all the same. A wish
//! never to meet somebody again is about safety, so it is kept or refused aloud, never dropped; and it does not
//! expire: what expires is only the way back.
//!
//! It also says by which token its visitor came then, as a digest: whoever is blocked by that token does not come back by
//! this one either.

use std::fmt;

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use holdfast_domain::{HelplineId, ResponderId, limits::MAX_EXCLUDED};

use crate::{error::Invalid, token::TokenKey};

/// Responders whom a visitor may ask not to meet.
pub const MAX_NOT_AGAIN: usize = MAX_EXCLUDED;

/// Bytes of every return token.
pub const TOKEN_BYTES: usize = OLDER_TOKEN_BYTES + HASH_BYTES;

/// Bytes of those that do not say by which token their visitor came.
const OLDER_TOKEN_BYTES: usize = 1 + NONCE_BYTES + SEALED_BYTES + TAG_BYTES;

/// The first byte of a token. It is authenticated too.
const VERSION: u8 = 2;
const OLDER_VERSION: u8 = 1;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// A digest of the visitor's token.
const HASH_BYTES: usize = 32;

/// When it expires, then the helpline and the responder, each as one byte with its length and its room in full. The digest of
/// the visitor's token follows.
const SEALED_BYTES: usize = 8 + 1 + HelplineId::MAX + 1 + ResponderId::MAX;

/// What the key is used for, so that no other use of the same secret can make a token.
const USAGE: &str = "return-token";

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Whom a visitor would like to meet, and whom not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Asked first.
    pub preferred: Option<ResponderId>,
    /// Never asked.
    pub excluded: Vec<ResponderId>,
    /// SHA-256 of the token by which the visitor came when they met whom they ask for.
    pub came_by: Option<[u8; HASH_BYTES]>,
}

/// What a token says.
#[derive(Debug, PartialEq, Eq)]
struct Met {
    helpline: HelplineId,
    responder: ResponderId,
    expires_ms: u64,
    came_by: Option<[u8; HASH_BYTES]>,
}

/// Seals and opens return tokens.
#[derive(Clone)]
pub struct ReturnKey {
    cipher: XChaCha20Poly1305,
    lasts_ms: u64,
}

impl fmt::Debug for ReturnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReturnKey([REDACTED])")
    }
}

impl ReturnKey {
    /// Its own key from the visitors' one. Tokens last `days`; with 0 none are given.
    #[must_use]
    pub fn new(key: &TokenKey, days: u64) -> Self {
        let cipher = XChaCha20Poly1305::new(&Key::from(key.derive(USAGE)));
        Self { cipher, lasts_ms: days.saturating_mul(DAY_MS) }
    }

    /// A token for the responder and the visitor with that token, of which only the digest is told; none where none are given, or the system gives no random bytes: nobody's chat
    /// depends on it.
    #[must_use]
    pub fn seal(
        &self,
        helpline: &HelplineId,
        responder: &ResponderId,
        came_by: &[u8; HASH_BYTES],
        now_ms: u64,
    ) -> Option<Vec<u8>> {
        if self.lasts_ms == 0 {
            return None;
        }
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let said = [written(helpline, responder, now_ms.saturating_add(self.lasts_ms)), came_by.to_vec()].concat();
        let payload = Payload { msg: &said, aad: &[VERSION] };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// What a token says; `None` unless it was sealed with this key.
    fn open(&self, token: &[u8]) -> Option<Met> {
        let (version, rest) = token.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: &[*version] };
        let said = self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?;
        if matches!(*version, VERSION | OLDER_VERSION) { read(&said) } else { None }
    }

    /// Whom a request wishes to meet and whom not. Whom they never want to meet again is not asked for either.
    ///
    /// # Errors
    /// When a token cannot be one, there are too many, or one that asks never to meet somebody does not open here.
    pub fn wishes(
        &self,
        helpline: &HelplineId,
        return_token: &[u8],
        not_again_tokens: &[Vec<u8>],
        now_ms: u64,
    ) -> Result<Wishes, Invalid> {
        let excluded = self.excluded(helpline, not_again_tokens)?;
        let met = self.met(helpline, return_token, now_ms)?;
        let came_by = met.as_ref().and_then(|met| met.came_by);
        let preferred = met.map(|met| met.responder).filter(|id| !excluded.contains(id));
        Ok(Wishes { preferred, excluded, came_by })
    }

    fn met(&self, helpline: &HelplineId, token: &[u8], now_ms: u64) -> Result<Option<Met>, Invalid> {
        if token.is_empty() {
            return Ok(None);
        }
        check_length("return_token", token)?;
        Ok(self.open(token).filter(|met| met.helpline == *helpline && now_ms < met.expires_ms))
    }

    fn excluded(&self, helpline: &HelplineId, tokens: &[Vec<u8>]) -> Result<Vec<ResponderId>, Invalid> {
        if tokens.len() > MAX_NOT_AGAIN {
            return Err(Invalid::new("not_again_tokens", format!("at most {MAX_NOT_AGAIN} tokens")));
        }
        let mut excluded = Vec::with_capacity(tokens.len());
        for (i, token) in tokens.iter().enumerate() {
            let field = format!("not_again_tokens[{i}]");
            check_length(&field, token)?;
            let Some(met) = self.open(token) else {
                return Err(Invalid::new(field, "does not open here"));
            };
            if met.helpline != *helpline {
                return Err(Invalid::new(field, "is of another helpline"));
            }
            if !excluded.contains(&met.responder) {
                excluded.push(met.responder);
            }
        }
        Ok(excluded)
    }
}

fn check_length(field: &str, token: &[u8]) -> Result<(), Invalid> {
    if matches!(token.len(), TOKEN_BYTES | OLDER_TOKEN_BYTES) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("is no return token: those are {TOKEN_BYTES} bytes long")))
}

fn written(helpline: &HelplineId, responder: &ResponderId, expires_ms: u64) -> Vec<u8> {
    let mut said = expires_ms.to_be_bytes().to_vec();
    for (name, room) in [(helpline.as_str(), HelplineId::MAX), (responder.as_str(), ResponderId::MAX)] {
        // Names are never longer than their room, which is less than 256.
        said.push(u8::try_from(name.len()).unwrap_or_default());
        said.extend_from_slice(name.as_bytes());
        said.resize(said.len() + room.saturating_sub(name.len()), 0);
    }
    said
}

fn read(said: &[u8]) -> Option<Met> {
    let (expires, rest) = said.split_first_chunk::<8>()?;
    let (helpline, rest) = name(rest, HelplineId::MAX)?;
    let (responder, rest) = name(rest, ResponderId::MAX)?;
    Some(Met {
        helpline: HelplineId::parse(helpline).ok()?,
        responder: ResponderId::parse(responder).ok()?,
        expires_ms: u64::from_be_bytes(*expires),
        came_by: rest.try_into().ok(),
    })
}

/// A name in its room, and what follows.
fn name(said: &[u8], room: usize) -> Option<(&str, &[u8])> {
    let (length, rest) = said.split_first()?;
    let (name, rest) = rest.split_at_checked(room)?;
    let name = std::str::from_utf8(name.get(..usize::from(*length))?).ok()?;
    Some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const CAME_BY: [u8; HASH_BYTES] = [5; HASH_BYTES];

    fn key(days: u64) -> ReturnKey {
        ReturnKey::new(&TokenKey::new(&[7; 32]).unwrap(), days)
    }

    fn helpline(name: &str) -> HelplineId {
        HelplineId::parse(name).unwrap()
    }

    fn ana() -> ResponderId {
        ResponderId::parse("ana").unwrap()
    }

    fn of_ana(days: u64) -> Vec<u8> {
        key(days).seal(&helpline("demo"), &ana(), &CAME_BY, NOW).unwrap()
    }

    /// What these tokens wish for at helpline "demo".
    fn wishes(again: &[u8], never: &[Vec<u8>], now_ms: u64) -> Result<Wishes, String> {
        key(30).wishes(&helpline("demo"), again, never, now_ms).map_err(|invalid| invalid.field)
    }

    #[test]
    fn a_token_asks_for_the_same_responder_until_it_expires() {
        let token = of_ana(30);
        let asked = |now_ms| wishes(&token, &[], now_ms).unwrap().preferred;
        assert_eq!(asked(NOW), Some(ana()));
        assert_eq!(asked(NOW + 30 * DAY_MS - 1), Some(ana()));
        assert_eq!(asked(NOW + 30 * DAY_MS), None);
    }

    #[test]
    fn whoever_is_never_to_be_met_again_is_excluded_even_by_an_expired_token_and_never_preferred() {
        let token = of_ana(1);
        let met = wishes(&token, &[token.clone(), of_ana(30)], NOW + 400 * DAY_MS).unwrap();
        assert_eq!(met, Wishes { preferred: None, excluded: vec![ana()], came_by: None });
        assert_eq!(wishes(&token, std::slice::from_ref(&token), NOW).unwrap().preferred, None);
    }

    #[test]
    fn a_token_that_does_not_open_costs_a_preference_but_never_a_wish_for_safety() {
        let other_key = ReturnKey::new(&TokenKey::new(&[8; 32]).unwrap(), 30);
        let foreign = other_key.seal(&helpline("demo"), &ana(), &CAME_BY, NOW).unwrap();
        let elsewhere = key(30).seal(&helpline("other"), &ana(), &CAME_BY, NOW).unwrap();
        let mut tampered = of_ana(30);
        *tampered.last_mut().unwrap() ^= 1;
        let mut newer = of_ana(30);
        newer[0] = VERSION + 1;
        for token in [foreign, elsewhere, tampered, newer, vec![0; TOKEN_BYTES]] {
            assert_eq!(wishes(&token, &[], NOW), Ok(Wishes::default()));
            assert_eq!(wishes(&[], &[of_ana(30), token], NOW), Err("not_again_tokens[1]".to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_by_name() {
        for bad in [vec![1], of_ana(30)[1..].to_vec(), vec![0; TOKEN_BYTES + 1], vec![0; 50_000]] {
            assert_eq!(wishes(&bad, &[], NOW), Err("return_token".to_owned()));
            assert_eq!(wishes(&[], &[bad], NOW), Err("not_again_tokens[0]".to_owned()));
        }
        assert_eq!(wishes(&[], &[vec![]], NOW), Err("not_again_tokens[0]".to_owned()));
        let five = vec![of_ana(30); MAX_NOT_AGAIN + 1];
        assert_eq!(wishes(&[], &five, NOW), Err("not_again_tokens".to_owned()));
    }

    #[test]
    fn a_token_tells_its_visitor_nothing() {
        let longest = ResponderId::parse(&"x".repeat(ResponderId::MAX)).unwrap();
        let of_longest = key(30).seal(&helpline(&"h".repeat(HelplineId::MAX)), &longest, &CAME_BY, NOW).unwrap();
        assert_eq!((of_ana(30).len(), of_longest.len()), (TOKEN_BYTES, TOKEN_BYTES));
        // Two for the same responder have only the version in common.
        assert_ne!(of_ana(30)[1..], of_ana(30)[1..]);
        assert!(!of_longest.windows(4).any(|w| w == b"xxxx"));
        let met = key(30).wishes(&helpline(&"h".repeat(HelplineId::MAX)), &of_longest, &[], NOW).unwrap();
        assert_eq!(met.preferred, Some(longest));
    }

    #[test]
    fn a_token_says_by_which_one_its_visitor_came_and_an_older_one_is_good_without() {
        let now = wishes(&of_ana(30), &[], NOW).unwrap();
        assert_eq!((now.preferred, now.came_by), (Some(ana()), Some(CAME_BY)));
        let said = written(&helpline("demo"), &ana(), NOW + 1);
        let payload = Payload { msg: &said, aad: &[OLDER_VERSION] };
        let sealed = key(30).cipher.encrypt(&XNonce::from([3; NONCE_BYTES]), payload).unwrap();
        let older = [&[OLDER_VERSION], [3; NONCE_BYTES].as_slice(), &sealed].concat();
        assert_eq!(older.len(), OLDER_TOKEN_BYTES);
        let met = wishes(&older, &[], NOW).unwrap();
        assert_eq!((met.preferred, met.came_by), (Some(ana()), None));
        assert_eq!(wishes(&[], &[older], NOW).unwrap().excluded, [ana()]);
    }

    #[test]
    fn where_none_are_given_there_are_none() {
        assert_eq!(key(0).seal(&helpline("demo"), &ana(), &CAME_BY, NOW), None);
        assert!(!format!("{:?}", key(30)).contains('7'));
    }
}
