//! The work that a helpline asks for while it surges, done by whoever asks: as the contract says (`Challenge` in
//! `intake.proto`), and never more than it says.

use holdfast_proto::v1::{Challenge, ChallengeSolution};
use prost::Message as _;
use sha2::{Digest, Sha256};
use tonic::Status;

/// Nobody works harder than this, whatever is asked.
const MOST_BITS: u32 = 24;
/// Tries for each one that is needed in the mean. That so many find nothing happens once in 10²⁷ times.
const TRIES: u64 = 64;

/// The challenge of a refusal, if it has one.
pub(crate) fn of(refused: &Status) -> Option<Challenge> {
    let said = tonic_types::pb::Status::decode(refused.details()).ok()?;
    let any = said.details.iter().find(|any| any.type_url.ends_with("/holdfast.v1.Challenge"))?;
    Challenge::decode(any.value.as_slice()).ok()
}

/// Does the work for a request, on a thread where it holds up nobody else. `None` when it is too much.
pub(crate) async fn solve(challenge: Challenge, request_id: &str) -> Option<ChallengeSolution> {
    let request_id = request_id.to_owned();
    tokio::task::spawn_blocking(move || work(&challenge, &request_id)).await.ok().flatten()
}

fn work(challenge: &Challenge, request_id: &str) -> Option<ChallengeSolution> {
    let bits = Some(challenge.bits).filter(|bits| *bits <= MOST_BITS)?;
    let begun = Sha256::new().chain_update(&challenge.token).chain_update(request_id);
    let is_solved = |n: &u64| {
        let hash = begun.clone().chain_update(n.to_be_bytes()).finalize();
        hash.first_chunk().is_some_and(|first| u32::from_be_bytes(*first).leading_zeros() >= bits)
    };
    let nonce = (0..TRIES << bits).find(is_solved)?;
    Some(ChallengeSolution { token: challenge.token.clone(), nonce: nonce.to_be_bytes().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(bits: u32) -> Challenge {
        Challenge { token: b"a token".to_vec(), bits, good_for: None }
    }

    #[tokio::test]
    async fn the_first_nonce_is_found_that_gives_so_many_zero_bits() {
        // As another program says of "a token", "a request" and the eight bytes of the number.
        for (bits, nonce) in [(0, 0), (1, 0), (7, 100), (8, 420), (9, 542)] {
            let solution = solve(challenge(bits), "a request").await.unwrap();
            let found = u64::from_be_bytes(solution.nonce.try_into().unwrap());
            assert_eq!((solution.token.as_slice(), found), (b"a token".as_slice(), nonce), "{bits} bits");
        }
    }

    #[tokio::test]
    async fn nobody_works_for_ever() {
        assert_eq!(solve(challenge(MOST_BITS + 1), "a request").await, None);
        assert_eq!(solve(challenge(u32::MAX), "a request").await, None);
    }

    #[test]
    fn only_a_refusal_that_asks_for_work_has_a_challenge() {
        assert_eq!(of(&Status::unavailable("away")), None);
    }
}
