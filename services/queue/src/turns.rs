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
//!
//! Helplines share. The next turn goes to each helpline in its turn, within one in the order in which they came; and when
//! the places to wait are taken, a helpline that has fewer than its part of them gets one all the same, which the one with
//! the most gives up. So whoever floods one helpline makes that one refuse, and hardly slows another (fair queueing that
//! drops from the longest queue: Suter, Lakshman, Stiliadis and Choudhury, INFOCOM 1998).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use holdfast_domain::{HelplineId, Urgency};
use tokio::sync::oneshot;

use crate::{config::AttachConfig, error::Failure};

/// The turns of one replica. Clones are the same.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Mutex<State>>);

struct State {
    free: usize,
    /// Places to wait.
    places: usize,
    taken: usize,
    /// Each helpline that has somebody waiting, and nobody else.
    waiting: HashMap<HelplineId, VecDeque<Waiter>>,
    /// The same helplines, the next to get a turn first.
    order: VecDeque<HelplineId>,
    last: u64,
}

struct Waiter {
    number: u64,
    /// Dropped unsent when the place is given to somebody else.
    turn: oneshot::Sender<Turn>,
}

/// A turn, until it is dropped.
#[must_use]
pub(crate) struct Turn(Option<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

/// A place to wait, until it is dropped or the turn has come.
struct Place {
    turns: Turns,
    helpline: HelplineId,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.state().leave(&self.helpline, self.number);
    }
}

impl Turns {
    pub(crate) fn new(config: &AttachConfig) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: config.request_turns,
            places: config.max_waiting_requests,
            taken: 0,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            last: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn for what asks `helpline` for a chat of this urgency; `None` where none is needed.
    ///
    /// # Errors
    /// `Overloaded` when too many wait. Nothing was changed.
    pub(crate) async fn take(&self, requested: Option<(&HelplineId, Urgency)>) -> Result<Option<Turn>, Failure> {
        let Some((helpline, urgency)) = requested.filter(|(_, urgency)| *urgency != Urgency::Imminent) else {
            return Ok(None);
        };
        let (_place, turn) = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Some(Turn(Some(self.clone()))));
            }
            let (number, turn) = state.wait(helpline, urgency).ok_or(Failure::Overloaded)?;
            (Place { turns: self.clone(), helpline: helpline.clone(), number }, turn)
        };
        match turn.await {
            Ok(turn) => Ok(Some(turn)),
            Err(_given_up) => Err(Failure::Overloaded),
        }
    }

    /// A turn has ended: the next one has it, or it is free.
    fn pass_on(&self) {
        loop {
            let Some(next) = self.state().next() else { return };
            match next.turn.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // Whoever waited has just gone, and the next one is asked here: this turn must not do so as well.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

impl State {
    /// A place, and what the turn comes by; `None` when there is none to be had.
    fn wait(&mut self, helpline: &HelplineId, urgency: Urgency) -> Option<(u64, oneshot::Receiver<Turn>)> {
        let places = if urgency == Urgency::Low { self.places / 2 } else { self.places };
        if self.taken >= places {
            let own = self.waiting.get(helpline).map_or(0, VecDeque::len);
            let sharing = self.waiting.len() + usize::from(own == 0);
            if (own + 1) * sharing > places {
                return None;
            }
        }
        if self.taken >= self.places {
            self.give_up_one();
        }
        self.last += 1;
        let (turn, comes) = oneshot::channel();
        let waiting = self.waiting.entry(helpline.clone()).or_default();
        if waiting.is_empty() {
            self.order.push_back(helpline.clone());
        }
        waiting.push_back(Waiter { number: self.last, turn });
        self.taken += 1;
        Some((self.last, comes))
    }

    /// The helpline with the most who wait gives up the place of whoever came last.
    fn give_up_one(&mut self) {
        let most = self.waiting.iter().max_by_key(|(_, waiting)| waiting.len());
        let last = most.and_then(|(helpline, waiting)| Some((helpline.clone(), waiting.back()?.number)));
        if let Some((helpline, number)) = last {
            self.leave(&helpline, number);
        }
    }

    fn next(&mut self) -> Option<Waiter> {
        let Some(helpline) = self.order.pop_front() else {
            self.free += 1;
            return None;
        };
        let waiting = self.waiting.get_mut(&helpline)?;
        let waiter = waiting.pop_front();
        self.taken -= usize::from(waiter.is_some());
        if waiting.is_empty() {
            self.waiting.remove(&helpline);
        } else {
            self.order.push_back(helpline);
        }
        waiter
    }

    /// Whoever has got their turn has no place any more.
    fn leave(&mut self, helpline: &HelplineId, number: u64) {
        let Some(waiting) = self.waiting.get_mut(helpline) else { return };
        let before = waiting.len();
        waiting.retain(|waiter| waiter.number != number);
        self.taken -= before - waiting.len();
        if waiting.is_empty() {
            self.waiting.remove(helpline);
            self.order.retain(|other| other != helpline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use futures::{FutureExt, future::BoxFuture};

    const NORTH: &str = "north";
    const SOUTH: &str = "south";

    /// One turn, and so many places to wait.
    fn turns(places: usize) -> Turns {
        let mut config = Config::load(None, &[]).unwrap().attach;
        (config.request_turns, config.max_waiting_requests) = (1, places);
        Turns::new(&config)
    }

    type Waiting = BoxFuture<'static, Result<Option<Turn>, Failure>>;

    fn ask(turns: &Turns, helpline: &str, urgency: Urgency) -> Waiting {
        let (turns, helpline) = (turns.clone(), HelplineId::parse(helpline).unwrap());
        async move { turns.take(Some((&helpline, urgency))).await }.boxed()
    }

    /// A request that came and has not got its turn.
    fn waiting(turns: &Turns, helpline: &str, urgency: Urgency) -> Waiting {
        let mut waiting = ask(turns, helpline, urgency);
        assert!((&mut waiting).now_or_never().is_none(), "it should wait");
        waiting
    }

    fn refused(turns: &Turns, helpline: &str, urgency: Urgency) -> bool {
        matches!(ask(turns, helpline, urgency).now_or_never(), Some(Err(Failure::Overloaded)))
    }

    fn turn_of(waiting: &mut Waiting) -> Turn {
        waiting.now_or_never().unwrap().unwrap().unwrap()
    }

    #[tokio::test]
    async fn requests_take_turns_in_the_order_in_which_they_came() {
        let turns = turns(2);
        let first = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let mut second = waiting(&turns, NORTH, Urgency::Moderate);
        let mut third = waiting(&turns, NORTH, Urgency::High);
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "the second was there before");
        drop(turn_of(&mut second));
        let _turn = turn_of(&mut third);
    }

    #[tokio::test]
    async fn low_requests_are_refused_first_and_imminent_ones_never() {
        let turns = turns(4);
        let _turn = ask(&turns, NORTH, Urgency::Low).await.unwrap();
        let _half = [waiting(&turns, NORTH, Urgency::Low), waiting(&turns, NORTH, Urgency::Low)];
        assert!(refused(&turns, NORTH, Urgency::Low), "half of the places are kept from it");
        let _all = [waiting(&turns, NORTH, Urgency::Moderate), waiting(&turns, NORTH, Urgency::High)];
        assert!(refused(&turns, NORTH, Urgency::Moderate) && refused(&turns, NORTH, Urgency::High));
        assert!(matches!(ask(&turns, NORTH, Urgency::Imminent).now_or_never(), Some(Ok(None))));
    }

    #[tokio::test]
    async fn what_asks_for_no_chat_takes_no_turn() {
        let turns = turns(0);
        let _turn = ask(&turns, NORTH, Urgency::High).await.unwrap();
        assert!(refused(&turns, NORTH, Urgency::High));
        assert!(matches!(turns.take(None).now_or_never(), Some(Ok(None))));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_the_place_to_somebody_else() {
        let turns = turns(1);
        let turn = ask(&turns, NORTH, Urgency::High).await.unwrap();
        drop(waiting(&turns, NORTH, Urgency::High));
        let mut next = waiting(&turns, NORTH, Urgency::High);
        drop(turn);
        let _turn = turn_of(&mut next);
    }

    #[tokio::test]
    async fn a_turn_that_nobody_took_goes_to_the_next() {
        let turns = turns(2);
        let turn = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let given_up = waiting(&turns, NORTH, Urgency::High);
        let mut next = waiting(&turns, NORTH, Urgency::High);
        drop(turn);
        drop(given_up); // it had its turn, and never looked
        drop(turn_of(&mut next));
        drop(ask(&turns, NORTH, Urgency::High).now_or_never().expect("the turn is free again"));
    }

    #[tokio::test]
    async fn helplines_take_turns_whoever_of_them_asks_more() {
        let turns = turns(8);
        let turn = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let mut north: Vec<Waiting> = (0..4).map(|_| waiting(&turns, NORTH, Urgency::High)).collect();
        let mut south = waiting(&turns, SOUTH, Urgency::High);
        drop(turn);
        let turn = turn_of(&mut north[0]);
        drop(turn);
        let turn = turn_of(&mut south);
        drop(turn);
        let _turn = turn_of(&mut north[1]);
    }

    #[tokio::test]
    async fn a_flood_at_one_helpline_takes_no_place_from_another() {
        let turns = turns(4);
        let _turn = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let mut north: Vec<Waiting> = (0..4).map(|_| waiting(&turns, NORTH, Urgency::High)).collect();
        assert!(refused(&turns, NORTH, Urgency::High));

        let _south = [waiting(&turns, SOUTH, Urgency::Low), waiting(&turns, SOUTH, Urgency::High)];

        assert!(refused(&turns, SOUTH, Urgency::High), "it has its half");
        let given_up = north.iter_mut().map(|waiting| waiting.now_or_never().is_some()).collect::<Vec<_>>();
        assert_eq!(given_up, [false, false, true, true], "whoever came last gives up");
    }

    #[tokio::test]
    async fn nothing_is_left_of_helplines_that_nobody_asks_for() {
        let turns = turns(3);
        let turn = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let mut south = waiting(&turns, SOUTH, Urgency::High);
        drop(waiting(&turns, "east", Urgency::High));
        drop(turn);
        drop(turn_of(&mut south));
        let state = turns.state();
        assert_eq!((state.free, state.taken, state.waiting.len(), state.order.len()), (1, 0, 0, 0));
    }
}
