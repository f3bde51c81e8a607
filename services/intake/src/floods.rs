//! How often one source may ask, so that few cannot crowd out many. Nobody is told apart for it: a source is a number that
//! many addresses share ([`Source`]), and its buckets are in the memory of this replica alone.
//!
//! | what | past its bucket |
//! | --- | --- |
//! | a request | is refused, with where else to turn, unless it is IMMINENT and within the bucket of those |
//! | an IMMINENT request | is let in as a HIGH one, within the bucket of all |

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};
use holdfast_runtime::source::{SOURCES, Source, Sources};
use tonic::{
    Extensions,
    metadata::{Ascii, MetadataKey, MetadataMap},
};

use crate::{config::FloodsConfig, error::Failure};

/// The settings name a header that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("floods.source_header: {0:?} is not the name of a header")]
pub struct NoHeader(String);

/// The buckets of all sources.
#[derive(Debug)]
pub struct Floods {
    sources: Sources,
    header: Option<MetadataKey<Ascii>>,
    requests: Option<Buckets>,
    imminent: Option<Buckets>,
}

impl Floods {
    /// As the settings say.
    ///
    /// # Errors
    /// When the header is none.
    pub fn of(config: &FloodsConfig) -> Result<Self, NoHeader> {
        let header = Some(&config.source_header).filter(|name| !name.is_empty());
        let header = header.map(|name| name.parse().map_err(|_| NoHeader(name.clone()))).transpose()?;
        let hour = Duration::from_secs(3600);
        Ok(Self {
            sources: Sources::new(),
            header,
            requests: Buckets::of(config.requests_at_once, config.requests_per_hour, hour),
            imminent: Buckets::of(config.imminent_at_once, config.imminent_per_hour, hour),
        })
    }

    /// Where a call comes from: as the header says that whoever is before us sets, or else from its connection. `None` for a
    /// neighbour on this machine.
    #[must_use]
    pub fn source(&self, metadata: &MetadataMap, extensions: &Extensions) -> Option<Source> {
        let named = self.header.as_ref().and_then(|header| {
            // Each proxy adds whom it was called by: the last one is ours, and what stands before it anybody may have written.
            let last = metadata.get_all(header).iter().next_back()?.to_str().ok()?;
            last.rsplit(',').next().map(str::trim).filter(|name| !name.is_empty())
        });
        match named {
            Some(name) => Some(self.sources.of_name(name)),
            None => extensions.get::<Source>().copied(),
        }
    }

    /// A source asks for a chat.
    ///
    /// # Errors
    /// `TooManyFromHere` when it has asked too often.
    pub fn request(&self, source: Option<Source>) -> Result<(), Failure> {
        let (Some(buckets), Some(source)) = (&self.requests, source) else { return Ok(()) };
        buckets.take(source).map_err(Failure::TooManyFromHere)
    }

    /// Whether a source may have one more chat that is IMMINENT.
    #[must_use]
    pub fn may_be_imminent(&self, source: Option<Source>) -> bool {
        let (Some(buckets), Some(source)) = (&self.imminent, source) else { return true };
        buckets.take(source).is_ok()
    }
}

/// A bucket for each source.
#[derive(Debug)]
struct Buckets {
    clock: DefaultClock,
    limiter: RateLimiter<usize, Slots, DefaultClock>,
}

impl Buckets {
    /// `None` when there is no limit.
    fn of(at_once: u32, per: u32, time: Duration) -> Option<Self> {
        let (at_once, per) = (NonZeroU32::new(at_once)?, NonZeroU32::new(per)?);
        let quota = Quota::with_period(time / per.get())?.allow_burst(at_once);
        let clock = DefaultClock::default();
        Some(Self { limiter: RateLimiter::new(quota, Slots::new(), clock.clone()), clock })
    }

    /// # Errors
    /// How long to wait for the next one.
    fn take(&self, source: Source) -> Result<(), Duration> {
        let taken = self.limiter.check_key(&source.index());
        taken.map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// As many as there are sources, whoever comes: nothing grows.
#[derive(Debug)]
struct Slots(Vec<InMemoryState>);

impl Slots {
    fn new() -> Self {
        Self((0..SOURCES).map(|_| InMemoryState::default()).collect())
    }
}

impl StateStore for Slots {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, key: &usize, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        match self.0.get(*key) {
            Some(slot) => slot.measure_and_replace(&NotKeyed::NonKey, f),
            None => f(None).map(|(taken, _)| taken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn floods(settings: &[(&str, &str)]) -> Floods {
        let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Floods::of(&Config::load(None, &settings).unwrap().floods).unwrap()
    }

    fn asked(header: &'static str, value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(header, value.parse().unwrap());
        metadata
    }

    #[test]
    fn a_source_that_asks_too_often_is_refused_and_no_other() {
        let floods = floods(&[("floods.requests_at_once", "3"), ("floods.requests_per_hour", "60")]);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| Some(floods.sources.of_name(address)));
        for _ in 0..3 {
            assert_eq!(floods.request(one), Ok(()));
        }
        let Err(Failure::TooManyFromHere(wait)) = floods.request(one) else { panic!("it should be refused") };
        assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");
        assert_eq!((floods.request(other), floods.request(None)), (Ok(()), Ok(())));
    }

    #[test]
    fn imminent_requests_have_a_bucket_of_their_own() {
        let floods = floods(&[("floods.imminent_at_once", "1"), ("floods.requests_at_once", "2")]);
        let source = Some(floods.sources.of_name("192.0.2.1"));
        assert!(floods.may_be_imminent(source));
        assert!(!floods.may_be_imminent(source));
        assert_eq!(floods.request(source), Ok(()));
    }

    #[test]
    fn nothing_is_counted_where_there_is_no_limit() {
        let floods = floods(&[("floods.requests_per_hour", "0"), ("floods.imminent_at_once", "0")]);
        let source = Some(floods.sources.of_name("192.0.2.1"));
        assert!((0..1000).all(|_| floods.request(source).is_ok() && floods.may_be_imminent(source)));
    }

    #[test]
    fn the_last_name_in_the_header_counts_and_only_where_it_is_looked_at() {
        let deaf = floods(&[]);
        let none = Extensions::default();
        assert_eq!(deaf.source(&asked("x-forwarded-for", "192.0.2.1"), &none), None);

        let floods = floods(&[("floods.source_header", "x-forwarded-for")]);
        let named = |value| floods.source(&asked("x-forwarded-for", value), &none);
        assert_eq!(named("192.0.2.1"), Some(floods.sources.of_name("192.0.2.1")));
        assert_eq!(named("192.0.2.9, 192.0.2.1"), named("192.0.2.1"));
        assert_eq!(named("  "), None);
        let mut peer = Extensions::default();
        peer.insert(floods.sources.of_name("192.0.2.7"));
        assert_eq!(floods.source(&MetadataMap::new(), &peer), named("192.0.2.7"));
    }

    #[test]
    fn a_header_that_cannot_be_one_is_named() {
        let settings = [("floods.source_header", "no header".to_owned())];
        let error = Floods::of(&Config::load(None, &settings).unwrap().floods).unwrap_err();
        assert!(error.to_string().contains("floods.source_header"), "{error}");
    }
}
