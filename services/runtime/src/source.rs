//! Where calls come from, as far as sharing fairly needs it, and no further: a number of twenty bits that many addresses
//! have in common, made with a secret that never leaves the memory of this process and is replaced every day. Nobody can
//! tell an address from it, with the secret or without.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::time::Instant;

/// How many sources there are.
pub const SOURCES: usize = 1 << 20;

/// The secret is replaced after this. Whoever came before then comes from another source, with everything allowed anew.
const SECRET_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Of an IPv6 address this much tells networks apart; what follows, a home chooses for itself.
const V6_PREFIX: u32 = 56;

/// Which source it is, below [`SOURCES`]. It prints nothing of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Source(u32);

impl Source {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// Makes sources out of addresses.
pub struct Sources {
    secret: Mutex<([u8; 32], Instant)>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self::new()
    }
}

impl Sources {
    /// With a secret of its own.
    #[must_use]
    pub fn new() -> Self {
        Self { secret: Mutex::new((rand::random(), Instant::now())) }
    }

    /// The source of a peer; `None` for one on this machine, which is a neighbour and no visitor.
    #[must_use]
    pub fn of_peer(&self, address: IpAddr) -> Option<Source> {
        match address.to_canonical() {
            address if address.is_loopback() => None,
            IpAddr::V4(address) => Some(self.of(&address.octets())),
            IpAddr::V6(address) => Some(self.of(&network(address))),
        }
    }

    /// The source that somebody before us names, in words of theirs or as an address.
    #[must_use]
    pub fn of_name(&self, name: &str) -> Source {
        match name.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(IpAddr::V4(address)) => self.of(&address.octets()),
            Ok(IpAddr::V6(address)) => self.of(&network(address)),
            Err(_) => self.of(name.as_bytes()),
        }
    }

    fn of(&self, what: &[u8]) -> Source {
        let secret = self.secret();
        // HMAC takes a key of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&secret) else { return Source(0) };
        let [a, b, c, ..]: [u8; 32] = mac.chain_update(what).finalize().into_bytes().into();
        Source(u32::from_be_bytes([0, a & 0x0f, b, c]))
    }

    fn secret(&self) -> [u8; 32] {
        let mut secret = self.secret.lock().unwrap_or_else(PoisonError::into_inner);
        if secret.1.elapsed() >= SECRET_LIFE {
            *secret = (rand::random(), Instant::now());
        }
        secret.0
    }
}

fn network(address: Ipv6Addr) -> [u8; 16] {
    (address.to_bits() & (u128::MAX << (128 - V6_PREFIX))).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn peer(sources: &Sources, address: &str) -> Option<Source> {
        sources.of_peer(address.parse().unwrap())
    }

    #[test]
    fn a_source_is_the_same_again_and_hardly_anybody_elses() {
        let sources = Sources::new();
        assert_eq!(peer(&sources, "192.0.2.7"), peer(&sources, "192.0.2.7"));
        assert_eq!(peer(&sources, "192.0.2.7"), peer(&sources, "::ffff:192.0.2.7"));
        assert_eq!(peer(&sources, "192.0.2.7"), Some(sources.of_name("192.0.2.7")));
        let all: Vec<_> = (0..=255).filter_map(|last| peer(&sources, &format!("192.0.2.{last}"))).collect();
        let twins = all.iter().enumerate().filter(|(i, source)| all[..*i].contains(source)).count();
        assert!(twins < 4, "{twins} of 256 fell together; among a million hardly one should");
        assert!(all.iter().all(|source| source.index() < SOURCES));
    }

    #[test]
    fn a_home_is_one_source_and_this_machine_none() {
        let sources = Sources::new();
        assert_eq!(peer(&sources, "2001:db8:0:100::7"), peer(&sources, "2001:db8:0:1ff:ffff::9"));
        assert_ne!(peer(&sources, "2001:db8:0:100::7"), peer(&sources, "2001:db8:0:200::7"));
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(peer(&sources, here), None, "{here}");
        }
    }

    fn of_all(sources: &Sources) -> Vec<Option<Source>> {
        (0..8).map(|last| peer(sources, &format!("192.0.2.{last}"))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_again_after_a_day_comes_from_another_source() {
        let sources = Sources::new();
        let first_day = of_all(&sources);

        advance(SECRET_LIFE - Duration::from_millis(1)).await;
        assert_eq!(of_all(&sources), first_day);
        advance(Duration::from_millis(1)).await;
        let second_day = of_all(&sources);
        assert_ne!(second_day, first_day);
        advance(SECRET_LIFE - Duration::from_millis(1)).await;
        assert_eq!(of_all(&sources), second_day, "its secret lasts as long");
        advance(Duration::from_millis(1)).await;
        assert_ne!(of_all(&sources), second_day);
    }

    #[test]
    fn another_secret_makes_other_sources_and_nothing_is_printed() {
        let (one, other) = (Sources::new(), Sources::new());
        assert_ne!(of_all(&one), of_all(&other));
        assert_eq!(format!("{:?} {:?}", one, peer(&one, "192.0.2.1")), "Sources Some(Source)");
    }
}
