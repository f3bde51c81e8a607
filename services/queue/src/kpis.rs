//! GetKpis: how a line has served, folded from its events. The fold of a helpline begins when somebody first asks, and
//! goes on from there with each question; nothing is written anywhere.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use holdfast_domain::{
    HelplineId,
    kpis::{Fold, Kpis},
};
use tokio::{sync::Mutex as Turn, task::yield_now};

use crate::{
    desk::Desk,
    error::Failure,
    store::{Cursor, Floor, Store, StoreError},
};

/// Events that are read at a time.
const PAGE: usize = 1000;
/// Pages that are read for one question. What is left then is read for the next one.
const MOST_PAGES: usize = 1000;
/// Folds that are kept; the one that nobody asked for longest is begun anew when somebody does.
const MOST_FOLDS: usize = 64;
/// Responders whose load is looked at for how evenly it lies.
const LOOK_AT: usize = 500;

/// What is known of one helpline.
#[derive(Default)]
struct Kept {
    fold: Fold,
    after: Cursor,
}

impl Kept {
    /// Reads on to the last event.
    async fn catch_up(&mut self, store: &dyn Store, helpline: &HelplineId) -> Result<(), Failure> {
        let mut began_anew = false;
        for _ in 0..MOST_PAGES {
            let page = match store.events(helpline, &self.after, PAGE).await {
                Ok(page) => page,
                // Some events are gone, or all: what is known ends before the gap, and is worth nothing after it.
                Err(StoreError::CursorTooOld { .. }) if !began_anew => {
                    began_anew = true;
                    *self = Self::default();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let last = page.len() < PAGE;
            for placed in page {
                self.fold.take(&placed.event);
                self.after = placed.cursor;
            }
            if last {
                return Ok(());
            }
            // An embedded store answers at once, and others want their turn.
            yield_now().await;
        }
        Err(StoreError::Unreachable("so many events take longer to read".to_owned()).into())
    }
}

/// A fold and when it was last asked for, counted in questions.
type Shelved = (Arc<Turn<Kept>>, u64);

/// The folds of the helplines that were asked for.
#[derive(Default)]
pub(crate) struct Folds {
    shelf: Mutex<(BTreeMap<HelplineId, Shelved>, u64)>,
}

impl Folds {
    /// How a line has served, up to now, and its floor.
    pub(crate) async fn report(
        &self,
        desk: &Desk,
        helpline: &HelplineId,
        window_ms: u64,
    ) -> Result<(Kpis, Floor), Failure> {
        let kept = self.fold_of(helpline);
        let mut kept = kept.lock().await;
        kept.catch_up(desk.store(), helpline).await?;
        let floor = desk.store().floor(helpline, LOOK_AT).await?;
        let policy = desk.policies().at(helpline, floor.policy_revision).await?;
        Ok((kept.fold.report(window_ms, floor.clock.now_ms, &policy), floor))
    }

    fn fold_of(&self, helpline: &HelplineId) -> Arc<Turn<Kept>> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let (folds, questions) = &mut *shelf;
        *questions += 1;
        if folds.len() >= MOST_FOLDS && !folds.contains_key(helpline) {
            let oldest = folds.iter().min_by_key(|(_, (_, asked))| *asked).map(|(helpline, _)| helpline.clone());
            oldest.and_then(|oldest| folds.remove(&oldest));
        }
        let (fold, asked) = folds.entry(helpline.clone()).or_default();
        *asked = *questions;
        Arc::clone(fold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fold_that_nobody_asked_for_longest_makes_room() {
        let folds = Folds::default();
        let helpline = |n: usize| HelplineId::parse(&format!("h{n}")).unwrap();
        let first: Vec<_> = (0..MOST_FOLDS).map(|n| folds.fold_of(&helpline(n))).collect();
        folds.fold_of(&helpline(0));

        folds.fold_of(&helpline(MOST_FOLDS));

        assert!(Arc::ptr_eq(&first[0], &folds.fold_of(&helpline(0))), "it was asked for again");
        assert!(!Arc::ptr_eq(&first[1], &folds.fold_of(&helpline(1))), "nobody had asked for it longer");
        assert_eq!(folds.shelf.lock().unwrap().0.len(), MOST_FOLDS);
    }
}
