//! Who is carried out when more is asked than the store can take. So few commands are on their way to it at once that it
//! answers each of them soon; the others wait here, where somebody sees who they are. Whoever has a chat, or a place in the
//! line, waits among their like for turns of their own, which new chats never take; so does whoever is in danger. And while
//! too many new chats wait the next is refused at once: a refusal that comes quickly, with the resources, is worth more than
//! an answer that comes late.
//!
//! | what | when many ask |
//! | --- | --- |
//! | words of responders and supervisors, and of visitors who have a chat | wait for one of `turns` |
//! | IMMINENT requests | wait for one of as many as `request_turns`, their own |
//! | HIGH and MODERATE requests | wait for one of `request_turns`; refused while `max_waiting_requests` wait |
//! | LOW requests | the same; refused while half as many wait |
//!
//! Helplines share, in each of these three kinds of turns. Each may have one command on its way
//! whatever others do; of the turns the next goes to each helpline in its turn, within one in the order in which they came;
//! and when the places to wait are taken, a helpline that has fewer than its part of them gets one all the same, which the
//! one with the most gives up. So whoever floods one helpline makes that one refuse, and slows another by what refusing
//! costs (fair queueing that drops from the longest queue: Suter, Lakshman, Stiliadis and Choudhury, INFOCOM 1998).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use holdfast_domain::{HelplineId, Urgency};
use tokio::sync::{oneshot, watch};

use crate::{config::AttachConfig, error::Failure};

/// The turns of one replica. Clones are the same.
#[derive(Clone)]
pub(crate) struct Turns {
    imminent: Lane,
    requests: Lane,
    others: Lane,
    /// The helplines of the installation.
    known: watch::Receiver<BTreeSet<HelplineId>>,
}

impl Turns {
    pub(crate) fn new(config: &AttachConfig, known: watch::Receiver<BTreeSet<HelplineId>>) -> Self {
        // How many wait where none is refused is bounded by what each stream may leave unanswered.
        Self {
            imminent: Lane::new(config.request_turns, usize::MAX),
            requests: Lane::new(config.request_turns, config.max_waiting_requests),
            others: Lane::new(config.turns, usize::MAX),
            known,
        }
    }

    /// A turn for a command of `helpline`, which asks for a new chat of this urgency or for something else.
    ///
    /// # Errors
    /// `Overloaded` when too many new chats wait. Nothing was changed.
    pub(crate) async fn take(&self, helpline: &HelplineId, requested: Option<Urgency>) -> Result<Turn, Failure> {
        let (lane, urgency) = match requested {
            None => (&self.others, Urgency::Imminent),
            Some(Urgency::Imminent) => (&self.imminent, Urgency::Imminent),
            Some(urgency) => (&self.requests, urgency),
        };
        let sharer = self.known.borrow().get(helpline).cloned();
        lane.take(&sharer, urgency).await
    }
}

/// Who shares: a helpline of the installation, or all names together that are none. Anybody can make up names, and has no
/// more of them than of one.
type Sharer = Option<HelplineId>;

/// Turns that are as good as each other. Clones are the same.
#[derive(Clone)]
struct Lane(Arc<Mutex<State>>);

struct State {
    turns: usize,
    /// How many commands of each helpline are on their way; none is not there.
    on_their_way: HashMap<Sharer, usize>,
    /// All of them. More than there are turns only where helplines have one each.
    in_use: usize,
    /// Places to wait.
    places: usize,
    taken: usize,
    /// Each helpline that has somebody waiting, and nobody else.
    waiting: HashMap<Sharer, VecDeque<Waiter>>,
    /// The same helplines, the next to get a turn first.
    order: VecDeque<Sharer>,
    last: u64,
}

struct Waiter {
    number: u64,
    /// Dropped unsent when the place is given to somebody else.
    turn: oneshot::Sender<Turn>,
}

/// A turn, until it is dropped.
#[must_use]
pub(crate) struct Turn {
    lane: Lane,
    helpline: Sharer,
    /// Nobody has it any more: it was given back already.
    over: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.over {
            self.lane.pass_on(&self.helpline);
        }
    }
}

/// A place to wait, until it is dropped or the turn has come.
struct Place {
    lane: Lane,
    helpline: Sharer,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.state().leave(&self.helpline, self.number);
    }
}

impl Lane {
    fn new(turns: usize, places: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            turns,
            on_their_way: HashMap::new(),
            in_use: 0,
            places,
            taken: 0,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            last: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, helpline: Sharer) -> Turn {
        Turn { lane: self.clone(), helpline, over: false }
    }

    async fn take(&self, helpline: &Sharer, urgency: Urgency) -> Result<Turn, Failure> {
        let (_place, turn) = {
            let mut state = self.state();
            if state.may_go(helpline) {
                state.go(helpline);
                return Ok(self.turn(helpline.clone()));
            }
            let (number, turn) = state.wait(helpline, urgency).ok_or(Failure::Overloaded)?;
            (Place { lane: self.clone(), helpline: helpline.clone(), number }, turn)
        };
        turn.await.map_err(|_given_up| Failure::Overloaded)
    }

    /// A turn of this helpline has ended: the next one has it, or it is free.
    fn pass_on(&self, helpline: &Sharer) {
        let mut ended = helpline.clone();
        loop {
            let next = {
                let mut state = self.state();
                state.come_back(&ended);
                state.next(&ended)
            };
            let Some((helpline, waiter)) = next else { return };
            match waiter.turn.send(self.turn(helpline)) {
                Ok(()) => return,
                // Whoever waited has just gone, and the next one is asked here: this turn must not do so as well.
                Err(mut turn) => {
                    turn.over = true;
                    ended = turn.helpline.clone();
                }
            }
        }
    }
}

impl State {
    fn may_go(&self, helpline: &Sharer) -> bool {
        self.in_use < self.turns || !self.on_their_way.contains_key(helpline)
    }

    fn go(&mut self, helpline: &Sharer) {
        self.in_use += 1;
        *self.on_their_way.entry(helpline.clone()).or_default() += 1;
    }

    fn come_back(&mut self, helpline: &Sharer) {
        if let Some(count) = self.on_their_way.get_mut(helpline) {
            self.in_use -= 1;
            *count -= 1;
            if *count == 0 {
                self.on_their_way.remove(helpline);
            }
        }
    }

    /// A place, and what the turn comes by; `None` when there is none to be had.
    fn wait(&mut self, helpline: &Sharer, urgency: Urgency) -> Option<(u64, oneshot::Receiver<Turn>)> {
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

    /// Who goes next, now that a turn of this helpline has ended; already on their way.
    fn next(&mut self, ended: &Sharer) -> Option<(Sharer, Waiter)> {
        let has_none = !self.on_their_way.contains_key(ended) && self.waiting.contains_key(ended);
        let helpline = if has_none {
            ended.clone()
        } else if self.in_use < self.turns {
            let first = self.order.pop_front()?;
            self.order.push_back(first.clone());
            first
        } else {
            return None;
        };
        let waiting = self.waiting.get_mut(&helpline)?;
        let waiter = waiting.pop_front()?;
        self.taken -= 1;
        if waiting.is_empty() {
            self.waiting.remove(&helpline);
            self.order.retain(|other| *other != helpline);
        }
        self.go(&helpline);
        Some((helpline, waiter))
    }

    /// Whoever has got their turn has no place any more.
    fn leave(&mut self, helpline: &Sharer, number: u64) {
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

    /// One turn of each kind, and so many places to wait.
    fn turns(places: usize) -> Turns {
        turns_of(1, places)
    }

    fn turns_of(turns: usize, places: usize) -> Turns {
        let mut config = Config::load(None, &[]).unwrap().attach;
        (config.turns, config.request_turns, config.max_waiting_requests) = (turns, turns, places);
        let known = [NORTH, SOUTH, "east"].map(|helpline| HelplineId::parse(helpline).unwrap());
        Turns::new(&config, watch::Sender::new(BTreeSet::from(known)).subscribe())
    }

    type Waiting = BoxFuture<'static, Result<Turn, Failure>>;

    fn take(turns: &Turns, helpline: &str, requested: Option<Urgency>) -> Waiting {
        let (turns, helpline) = (turns.clone(), HelplineId::parse(helpline).unwrap());
        async move { turns.take(&helpline, requested).await }.boxed()
    }

    fn ask(turns: &Turns, helpline: &str, urgency: Urgency) -> Waiting {
        take(turns, helpline, Some(urgency))
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
        waiting.now_or_never().unwrap().unwrap()
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
        let _other = ask(&turns, NORTH, Urgency::Imminent).now_or_never().unwrap().unwrap();
        let _imminent = [(); 10].map(|()| waiting(&turns, NORTH, Urgency::Imminent));
    }

    #[tokio::test]
    async fn new_chats_take_no_turn_from_anything_else_and_nothing_else_takes_theirs() {
        let turns = turns(1);
        let _request = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let _another = waiting(&turns, NORTH, Urgency::High);
        let word = take(&turns, NORTH, None).now_or_never().unwrap().unwrap();
        let mut next = take(&turns, NORTH, None);
        assert!((&mut next).now_or_never().is_none());
        drop(word);
        drop(turn_of(&mut next));
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
    async fn each_helpline_may_have_one_command_on_its_way_whatever_others_do() {
        let turns = turns(8);
        let first = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let mut north = waiting(&turns, NORTH, Urgency::High);
        let of_south = ask(&turns, SOUTH, Urgency::High).now_or_never().unwrap().unwrap();
        let mut south = waiting(&turns, SOUTH, Urgency::High);
        drop(of_south);
        let of_south = turn_of(&mut south);
        assert!((&mut north).now_or_never().is_none(), "that was south's");
        drop(first);
        let of_north = turn_of(&mut north);
        drop(of_south);
        let mut another = waiting(&turns, NORTH, Urgency::High);
        drop(of_north);
        drop(turn_of(&mut another));
    }

    #[tokio::test]
    async fn who_makes_up_helplines_has_no_more_turns_and_places_by_that() {
        let turns = turns(4);
        let _turn = ask(&turns, "made-up-0", Urgency::High).await.unwrap();
        let names = (1..=4).map(|n| format!("made-up-{n}"));
        let _waiting: Vec<Waiting> = names.map(|name| waiting(&turns, &name, Urgency::High)).collect();
        assert!(refused(&turns, "made-up-5", Urgency::High));
        let _first = ask(&turns, NORTH, Urgency::High).now_or_never().unwrap().unwrap();
        let _north = [waiting(&turns, NORTH, Urgency::High), waiting(&turns, NORTH, Urgency::High)];
    }

    #[tokio::test]
    async fn helplines_take_turns_whoever_of_them_asks_more() {
        let turns = turns_of(3, 8);
        let all = [NORTH, NORTH, SOUTH].map(|helpline| ask(&turns, helpline, Urgency::High));
        let [one, another, _of_south] = futures::future::try_join_all(all).await.unwrap().try_into().ok().unwrap();
        let mut north: Vec<Waiting> = (0..4).map(|_| waiting(&turns, NORTH, Urgency::High)).collect();
        let mut south = waiting(&turns, SOUTH, Urgency::High);
        drop(one);
        let _one = turn_of(&mut north[0]);
        drop(another);
        let another = turn_of(&mut south);
        drop(another);
        let _another = turn_of(&mut north[1]);
    }

    #[tokio::test]
    async fn a_flood_at_one_helpline_takes_no_place_from_another() {
        let turns = turns(4);
        let _turn = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let mut north: Vec<Waiting> = (0..4).map(|_| waiting(&turns, NORTH, Urgency::High)).collect();
        assert!(refused(&turns, NORTH, Urgency::High));

        let _first = ask(&turns, SOUTH, Urgency::High).now_or_never().unwrap().unwrap();
        let _south = [waiting(&turns, SOUTH, Urgency::Low), waiting(&turns, SOUTH, Urgency::High)];

        assert!(refused(&turns, SOUTH, Urgency::High), "it has its half");
        let given_up = north.iter_mut().map(|waiting| waiting.now_or_never().is_some()).collect::<Vec<_>>();
        assert_eq!(given_up, [false, false, true, true], "whoever came last gives up");
    }

    #[tokio::test]
    async fn nothing_is_left_of_helplines_that_nobody_asks_for() {
        let turns = turns(3);
        let north = ask(&turns, NORTH, Urgency::High).await.unwrap();
        let east = ask(&turns, "east", Urgency::High).await.unwrap();
        let mut south = ask(&turns, SOUTH, Urgency::High);
        drop(turn_of(&mut south));
        drop(waiting(&turns, "east", Urgency::High));
        let mut next = waiting(&turns, NORTH, Urgency::High);
        drop(east);
        drop(north);
        drop(turn_of(&mut next));
        let state = turns.requests.state();
        let helplines = (state.waiting.len(), state.order.len(), state.on_their_way.len());
        assert_eq!((state.in_use, state.taken, helplines), (0, 0, (0, 0, 0)));
    }
}
