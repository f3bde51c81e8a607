//! How many connections one source has at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::source::Source;

/// Connections at once, by the number of their source. As large as there are connections and no larger.
type Here = Mutex<HashMap<usize, usize>>;

/// Lets so many of one source in. Whoever has no source is not counted.
pub(super) struct Crowd {
    most: Option<usize>,
    here: Arc<Here>,
}

impl Crowd {
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { most, here: Arc::default() }
    }

    /// A place, which counts until it is dropped; `None` when this source has as many as it may.
    pub(super) fn admit(&self, source: Option<Source>) -> Option<Place> {
        let (Some(most), Some(source)) = (self.most, source.map(Source::index)) else {
            return Some(Place(None));
        };
        let mut here = locked(&self.here);
        let taken = here.entry(source).or_default();
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Place(Some((source, Arc::clone(&self.here)))))
    }
}

/// One connection of a source.
pub(super) struct Place(Option<(usize, Arc<Here>)>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some((source, here)) = &self.0 else { return };
        let mut here = locked(here);
        if let Some(taken) = here.get_mut(source) {
            *taken -= 1;
            if *taken == 0 {
                here.remove(source);
            }
        }
    }
}

fn locked(here: &Here) -> MutexGuard<'_, HashMap<usize, usize>> {
    here.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    #[test]
    fn whoever_has_gone_is_forgotten() {
        let (crowd, source) = (Crowd::new(Some(2)), Sources::new().of_name("a"));
        let places = [crowd.admit(Some(source)), crowd.admit(Some(source))];
        assert!(places.iter().all(Option::is_some) && crowd.admit(Some(source)).is_none());
        drop(places);
        assert!(locked(&crowd.here).is_empty());
        assert!(crowd.admit(Some(source)).is_some());
    }
}
