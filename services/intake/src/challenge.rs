//! Challenges: work that a helpline asks for while it surges, so that a flood costs those who make it.
//!
//! Nothing is kept of them. A token says until when it is good and how hard it is, under a key that all replicas have, so
//! any of them knows its own. A solution is work for one request id, and the line answers a request id with one chat: who
//! sends a solution again only repeats their request. Whether one is asked for at all the line decides, when it has seen
//! that the request is new and that there is room for it.

use std::{fmt, time::Duration};

use hmac::{Hmac, Mac};
use holdfast_domain::{HelplineId, limits::MAX_CHALLENGE_BITS};
use holdfast_proto::v1::{Challenge, ChallengeSolution};
use sha2::{Digest, Sha256};

use crate::{error::Invalid, token::TokenKey};

/// Most bytes of a token, so that it may grow.
pub const MAX_TOKEN_BYTES: usize = 64;
/// Bytes of a nonce: no more, or the work for one request could be the work for another.
pub const NONCE_BYTES: usize = 8;
/// A token is good for so long.
pub const GOOD_FOR: Duration = Duration::from_secs(120);

/// What the key is used for, so that no other use of the same secret can make a token.
const USAGE: &str = "challenge";

/// Until when it is good, and how hard it is: what a token says before it proves it.
const SAID_BYTES: usize = 8 + 1;

/// Makes challenges and knows them again.
#[derive(Clone)]
pub struct ChallengeKey(Hmac<Sha256>);

impl fmt::Debug for ChallengeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChallengeKey([REDACTED])")
    }
}

impl ChallengeKey {
    /// Its own key from the visitors' one; `None` never comes of it, for the length fits.
    #[must_use]
    pub fn new(key: &TokenKey) -> Option<Self> {
        Hmac::new_from_slice(&key.derive(USAGE)).ok().map(Self)
    }

    /// A challenge for a helpline. No harder than any policy may ask for.
    #[must_use]
    pub fn issue(&self, helpline: &HelplineId, bits: u32, now_ms: u64) -> Challenge {
        let bits = bits.min(MAX_CHALLENGE_BITS);
        let until_ms = now_ms.saturating_add(u64::try_from(GOOD_FOR.as_millis()).unwrap_or(0));
        let said = [&until_ms.to_be_bytes()[..], &[u8::try_from(bits).unwrap_or(u8::MAX)]].concat();
        let proof = self.proof(helpline, &said).finalize().into_bytes();
        let token = [said.as_slice(), proof.as_slice()].concat();
        Challenge { token, bits, good_for: GOOD_FOR.try_into().ok() }
    }

    /// How many bits of work a solution proves for a request to this helpline: 0 when it is none, whatever is wrong with it.
    #[must_use]
    pub fn solved(
        &self,
        helpline: &HelplineId,
        request_id: &str,
        solution: &ChallengeSolution,
        now_ms: u64,
    ) -> u32 {
        let Some((said, proof)) = solution.token.split_at_checked(SAID_BYTES) else { return 0 };
        // In constant time, or a proof could be found byte by byte.
        if self.proof(helpline, said).verify_slice(proof).is_err() {
            return 0;
        }
        let Some((until_ms, [bits])) = said.split_first_chunk() else { return 0 };
        let bits = u32::from(*bits);
        let is_good = now_ms < u64::from_be_bytes(*until_ms) && zero_bits(solution, request_id) >= bits;
        if is_good { bits } else { 0 }
    }

    fn proof(&self, helpline: &HelplineId, said: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        // What is said has one length and no name holds a zero byte, so no two are alike.
        mac.update(helpline.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(said);
        mac
    }
}

/// With how many zero bits the hash of token, request id and nonce begins.
fn zero_bits(solution: &ChallengeSolution, request_id: &str) -> u32 {
    let hash = Sha256::new()
        .chain_update(&solution.token)
        .chain_update(request_id)
        .chain_update(&solution.nonce)
        .finalize();
    let whole = hash.iter().take_while(|byte| **byte == 0).count();
    let rest = hash.get(whole).map_or(0, |byte| byte.leading_zeros());
    u32::try_from(whole * 8).unwrap_or(0) + rest
}

/// Checks what a request sends as a solution; whether it is one is seen later.
///
/// # Errors
/// When a part of it is too long or too short to be one.
pub fn check(field: &str, solution: &ChallengeSolution) -> Result<(), Invalid> {
    if solution.token.len() > MAX_TOKEN_BYTES {
        return Err(Invalid::new(
            format!("{field}.token"),
            format!("must be at most {MAX_TOKEN_BYTES} bytes long"),
        ));
    }
    if solution.nonce.len() != NONCE_BYTES {
        return Err(Invalid::new(format!("{field}.nonce"), format!("must be {NONCE_BYTES} bytes long")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const LASTS_MS: u64 = 120_000;

    fn key(byte: u8) -> ChallengeKey {
        ChallengeKey::new(&TokenKey::new(&[byte; 32]).unwrap()).unwrap()
    }

    fn demo() -> HelplineId {
        HelplineId::parse("demo").unwrap()
    }

    /// The first nonce that gives so many zero bits and no more.
    fn worked(token: &[u8], request_id: &str, bits: u32) -> ChallengeSolution {
        let tried = |n: u64| ChallengeSolution { token: token.to_vec(), nonce: n.to_be_bytes().to_vec() };
        (0..).map(tried).find(|solution| zero_bits(solution, request_id) == bits).unwrap()
    }

    fn solved(solution: &ChallengeSolution) -> u32 {
        key(7).solved(&demo(), "r-1", solution, NOW_MS)
    }

    #[test]
    fn the_contracts_formula_counts_the_zero_bits_in_front() {
        let solution =
            |nonce: u64| ChallengeSolution { token: b"a token".to_vec(), nonce: nonce.to_be_bytes().to_vec() };
        // As another program says of "a token", "a request" and the eight bytes of the number.
        for (nonce, bits) in [(6, 0), (0, 1), (100, 7), (420, 8), (3762, 9), (75010, 16)] {
            assert_eq!(zero_bits(&solution(nonce), "a request"), bits, "{nonce}");
        }
    }

    #[test]
    fn a_solution_is_worth_its_challenge_and_one_bit_less_is_worth_nothing() {
        for bits in [0, 1, 7, 8, 9, 12] {
            let challenge = key(7).issue(&demo(), bits, NOW_MS);
            assert_eq!((challenge.bits, challenge.good_for.unwrap().seconds), (bits, 120));
            assert_eq!(solved(&worked(&challenge.token, "r-1", bits)), bits);
            assert_eq!(solved(&worked(&challenge.token, "r-1", bits + 1)), bits, "more work is worth the same");
            if bits > 0 {
                assert_eq!(solved(&worked(&challenge.token, "r-1", bits - 1)), 0);
            }
        }
    }

    #[test]
    fn a_challenge_is_good_until_it_expires_and_everywhere_where_the_key_is() {
        let challenge = key(7).issue(&demo(), 8, NOW_MS);
        let solution = worked(&challenge.token, "r-1", 8);
        let at = |now_ms| key(7).solved(&demo(), "r-1", &solution, now_ms);
        assert_eq!((at(NOW_MS + LASTS_MS - 1), at(NOW_MS + LASTS_MS)), (8, 0));
    }

    #[test]
    fn what_was_made_for_another_request_helpline_or_key_is_worth_nothing() {
        let challenge = key(7).issue(&demo(), 8, NOW_MS);
        let solution = worked(&challenge.token, "r-1", 8);
        assert_eq!(solved(&solution), 8);
        assert_eq!(key(7).solved(&demo(), "r-2", &solution, NOW_MS), 0);
        assert_eq!(key(7).solved(&HelplineId::parse("demo2").unwrap(), "r-1", &solution, NOW_MS), 0);
        assert_eq!(key(8).solved(&demo(), "r-1", &solution, NOW_MS), 0);
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_none() {
        let token = key(7).issue(&demo(), 2, NOW_MS).token;
        assert_eq!(solved(&worked(&token, "r-1", 5)), 2);
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed[at] ^= 1;
            assert_eq!(solved(&worked(&changed, "r-1", 5)), 0, "byte {at}");
        }
        for length in 0..token.len() {
            assert_eq!(solved(&worked(&token[..length], "r-1", 5)), 0, "{length} bytes");
        }
        assert_eq!(solved(&worked(&[token.as_slice(), &[0]].concat(), "r-1", 5)), 0);
    }

    #[test]
    fn a_token_can_grow_and_a_nonce_cannot() {
        let of = |token: usize, nonce: usize| {
            let solution = ChallengeSolution { token: vec![0; token], nonce: vec![0; nonce] };
            check("s", &solution).map_err(|invalid| invalid.field)
        };
        assert_eq!((of(0, 8), of(64, 8)), (Ok(()), Ok(())));
        assert_eq!(of(65, 8), Err("s.token".to_owned()));
        assert_eq!((of(41, 7), of(41, 9)), (Err("s.nonce".to_owned()), Err("s.nonce".to_owned())));
    }

    #[test]
    fn nobody_is_asked_for_more_than_a_policy_may_ask_for_and_no_key_is_printed() {
        assert_eq!(key(7).issue(&demo(), 99, NOW_MS).bits, MAX_CHALLENGE_BITS);
        assert_eq!(format!("{:?}", key(7)), "ChallengeKey([REDACTED])");
    }
}
