//! Who is carried out when more is asked than the store can take. New chats take turns, and while too many wait for one
//! the next is refused at once: a refusal that comes quickly, with the resources, is worth more than an answer that comes
//! late. What somebody in a chat waits for takes no turn and is never refused.
//!
//! | what | when many ask |
//! | --- | --- |
//! | words of responders and supervisors, and of visitors who have a chat | carried out |
//! | IMMINENT requests | carried out |
//! | HIGH and MODERATE requests | wait for a turn; refused while `max_waiting_requests` wait |
//! | LOW requests | wait for a turn; refused while half as many wait |

use holdfast_domain::Urgency;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{config::AttachConfig, error::Failure};

/// The turns of one replica.
pub(crate) struct Turns {
    turns: Semaphore,
    /// Places to wait for one.
    places: Semaphore,
    /// A LOW request waits only while more places than this are free.
    kept_from_low: usize,
}

impl Turns {
    pub(crate) fn new(config: &AttachConfig) -> Self {
        let places = config.max_waiting_requests;
        Self {
            turns: Semaphore::new(config.request_turns),
            places: Semaphore::new(places),
            kept_from_low: places / 2,
        }
    }

    /// A turn, until it is dropped, for what asks for a chat of this urgency; `None` where none is needed. First come,
    /// first served.
    ///
    /// # Errors
    /// `Overloaded` when too many wait already. Nothing was changed.
    pub(crate) async fn take(&self, requested: Option<Urgency>) -> Result<Option<SemaphorePermit<'_>>, Failure> {
        let Some(urgency) = requested.filter(|urgency| *urgency != Urgency::Imminent) else {
            return Ok(None);
        };
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(Some(turn));
        }
        let crowded = urgency == Urgency::Low && self.places.available_permits() <= self.kept_from_low;
        let place = self.places.try_acquire().ok().filter(|_| !crowded);
        let _place = place.ok_or(Failure::Overloaded)?;
        // It is never closed.
        Ok(self.turns.acquire().await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use futures::{FutureExt, future::BoxFuture};

    /// One turn, and as many places to wait.
    fn turns(places: usize) -> &'static Turns {
        let mut config = Config::load(None, &[]).unwrap().attach;
        (config.request_turns, config.max_waiting_requests) = (1, places);
        Box::leak(Box::new(Turns::new(&config)))
    }

    type Waiting = BoxFuture<'static, Result<Option<SemaphorePermit<'static>>, Failure>>;

    /// A request that came and has not got its turn.
    fn waiting(turns: &'static Turns, urgency: Urgency) -> Waiting {
        let mut waiting = turns.take(Some(urgency)).boxed();
        assert!((&mut waiting).now_or_never().is_none(), "it should wait");
        waiting
    }

    fn refused(turns: &'static Turns, urgency: Urgency) -> bool {
        matches!(turns.take(Some(urgency)).now_or_never(), Some(Err(Failure::Overloaded)))
    }

    #[tokio::test]
    async fn requests_take_turns_in_the_order_in_which_they_came() {
        let turns = turns(2);
        let first = turns.take(Some(Urgency::High)).await.unwrap();
        let (mut second, mut third) = (waiting(turns, Urgency::Moderate), waiting(turns, Urgency::High));
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "the second was there before");
        let turn = (&mut second).now_or_never().unwrap().unwrap();
        drop(turn);
        assert!(third.now_or_never().unwrap().unwrap().is_some());
    }

    #[tokio::test]
    async fn low_requests_are_refused_first_and_imminent_ones_never() {
        let turns = turns(4);
        let _turn = turns.take(Some(Urgency::Low)).await.unwrap();
        let _half = [waiting(turns, Urgency::Low), waiting(turns, Urgency::Low)];
        assert!(refused(turns, Urgency::Low), "half of the places are kept from it");
        let _all = [waiting(turns, Urgency::Moderate), waiting(turns, Urgency::High)];
        assert!(refused(turns, Urgency::Moderate) && refused(turns, Urgency::High));
        assert!(matches!(turns.take(Some(Urgency::Imminent)).now_or_never(), Some(Ok(None))));
    }

    #[tokio::test]
    async fn what_asks_for_no_chat_takes_no_turn() {
        let turns = turns(0);
        let _turn = turns.take(Some(Urgency::High)).await.unwrap();
        assert!(refused(turns, Urgency::High));
        assert!(matches!(turns.take(None).now_or_never(), Some(Ok(None))));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_the_place_to_somebody_else() {
        let turns = turns(1);
        let turn = turns.take(Some(Urgency::High)).await.unwrap();
        drop(waiting(turns, Urgency::High));
        let next = waiting(turns, Urgency::High);
        drop(turn);
        assert!(next.now_or_never().unwrap().is_ok());
    }
}
