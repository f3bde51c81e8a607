//! The floors that supervisors watch. Each is read once for everybody who watches it here, and shown when something has
//! changed.
//!
//! ```text
//!   notices ─► nudge ─┐
//!   clock ────────────┴─► one reader for each helpline ─► the newest floor ─► everybody who watches it
//! ```
//!
//! The queue tells this service of responders and of whole helplines only, so what happens to chats in nobody's hands is
//! found by looking, while somebody watches. Nothing depends on a notice: one that is lost costs a moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_domain::HelplineId;
use holdfast_link::{Link, LinkError, LinkNotice, Notices};
use holdfast_proto::v1::{
    FailingChat, FloorResponder, GetFloorRequest, GetFloorResponse, SupervisorCall, WaitingChat,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};

use crate::error::Failure;

/// Between two looks at one floor, and between two floors that one watcher gets: at most twice a second.
pub const PAUSE: Duration = Duration::from_millis(500);

/// A floor that stays as it is is shown again after this, so that it comes at least every 15 s, whatever a look takes.
/// When it cannot be, whoever watches is told so.
const SHOW_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A cool-down whose end moved by less than this ends when it did.
const SAME_END: Duration = Duration::from_millis(1500);

/// All floors that are watched here.
#[derive(Debug)]
pub struct Floors {
    link: Link,
    patience: Duration,
    look_every: Duration,
    boards: Mutex<HashMap<String, Arc<Board>>>,
}

/// One floor that is watched.
#[derive(Debug)]
struct Board {
    helpline: String,
    /// Something happened there, or somebody came or went.
    nudge: Notify,
    shown: watch::Sender<Shown>,
    /// How much of it is wanted, and by how many.
    limits: Mutex<BTreeMap<u32, usize>>,
}

/// The floor as it was seen last; or why it is not shown any more.
type Shown = Option<Result<Arc<Seen>, Failure>>;

/// A look at a floor.
#[derive(Debug)]
struct Seen {
    floor: GetFloorResponse,
    limit: u32,
    at: Instant,
}

impl Board {
    fn new(helpline: &str) -> Self {
        let shown = watch::Sender::new(None);
        Self { helpline: helpline.to_owned(), nudge: Notify::new(), shown, limits: Mutex::default() }
    }

    fn limits(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, limit: u32) {
        *self.limits().entry(limit).or_default() += 1;
    }

    fn leave(&self, limit: u32) {
        let mut limits = self.limits();
        if let Some(count) = limits.get_mut(&limit) {
            *count -= 1;
            if *count == 0 {
                limits.remove(&limit);
            }
        }
    }

    /// As much as anybody wants; `None` when nobody wants anything.
    fn limit(&self) -> Option<u32> {
        self.limits().last_key_value().map(|(limit, _)| *limit)
    }
}

impl Floors {
    /// Reads through `link`, at least every `look_every` while somebody watches.
    #[must_use]
    pub fn new(link: Link, patience: Duration, look_every: Duration) -> Self {
        Self { link, patience, look_every: look_every.max(PAUSE), boards: Mutex::default() }
    }

    fn boards(&self) -> MutexGuard<'_, HashMap<String, Arc<Board>>> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a floor: at most `limit` chats and as many responders.
    pub fn watch(self: &Arc<Self>, helpline: &HelplineId, limit: u32) -> Watching {
        let mut boards = self.boards();
        let board = boards.entry(helpline.as_str().to_owned()).or_insert_with(|| {
            let board = Arc::new(Board::new(helpline.as_str()));
            tokio::spawn(Arc::clone(self).keep(Arc::clone(&board)));
            board
        });
        let board = Arc::clone(board);
        board.join(limit); // before the map is let go of, so that the reader does not leave meanwhile
        drop(boards);
        board.nudge.notify_one();
        Watching { shown: board.shown.subscribe(), board, limit, began: false }
    }

    /// Wakes the readers of the floors where something happens.
    pub async fn route(self: Arc<Self>, mut notices: Notices) {
        loop {
            match notices.next().await {
                LinkNotice::Event { helpline, .. } => {
                    if let Some(board) = self.boards().get(&*helpline) {
                        board.nudge.notify_one();
                    }
                }
                LinkNotice::LookAgain => self.boards().values().for_each(|board| board.nudge.notify_one()),
            }
        }
    }

    /// Reads one floor as long as somebody watches it.
    async fn keep(self: Arc<Self>, board: Arc<Board>) {
        let mut last: Option<Arc<Seen>> = None;
        while let Some(limit) = self.wanted(&board) {
            match self.look(&board, limit).await {
                Ok(seen) if last.as_ref().is_none_or(|last| is_news(last, &seen)) => {
                    let seen = Arc::new(seen);
                    last = Some(Arc::clone(&seen));
                    board.shown.send_replace(Some(Ok(seen)));
                }
                Ok(_same) => {}
                Err(error) => {
                    let failure = Failure::Asked(Box::new(error));
                    let too_old = last.as_ref().is_none_or(|last| last.at.elapsed() >= SHOW_AGAIN_AFTER);
                    if too_old || !failure.may_pass() {
                        self.boards().remove(&board.helpline);
                        board.shown.send_replace(Some(Err(failure)));
                        return;
                    }
                }
            }
            sleep(PAUSE).await;
            let show_again = last.as_ref().map(|last| last.at + SHOW_AGAIN_AFTER);
            let look_at = Instant::now() + (self.look_every - PAUSE);
            // Whether woken or not, the next look decides.
            let _ = timeout_at(show_again.map_or(look_at, |at| at.min(look_at)), board.nudge.notified()).await;
        }
    }

    /// How much of a floor is wanted; once nothing is, it is not watched any more.
    fn wanted(&self, board: &Board) -> Option<u32> {
        let mut boards = self.boards();
        let limit = board.limit();
        if limit.is_none() {
            boards.remove(&board.helpline);
        }
        limit
    }

    async fn look(&self, board: &Board, limit: u32) -> Result<Seen, LinkError> {
        let request = GetFloorRequest { helpline: board.helpline.clone(), limit };
        let floor = self.link.floor(request, self.patience).await?;
        Ok(Seen { floor, limit, at: Instant::now() })
    }
}

/// Somebody watches a floor, until dropped.
#[derive(Debug)]
pub struct Watching {
    board: Arc<Board>,
    shown: watch::Receiver<Shown>,
    limit: u32,
    began: bool,
}

impl Watching {
    /// The floor: the first time as it is, then once it is another one. The newest wins. Safe to cancel.
    ///
    /// # Errors
    /// Why it is not shown any more.
    pub async fn next(&mut self) -> Result<GetFloorResponse, Failure> {
        loop {
            if self.began && self.shown.changed().await.is_err() {
                return Err(Failure::Draining); // cannot be: the board is ours too
            }
            self.began = true;
            let shown = self.shown.borrow_and_update().clone();
            match shown {
                Some(Ok(seen)) if seen.limit >= self.limit => return Ok(first(&seen.floor, self.limit)),
                Some(Err(failure)) => return Err(failure),
                // The reader is about to look, or to look at more.
                Some(Ok(_)) | None => {}
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.board.leave(self.limit);
        self.board.nudge.notify_one();
    }
}

/// As much of a floor as was asked for.
fn first(floor: &GetFloorResponse, limit: u32) -> GetFloorResponse {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut floor = floor.clone();
    floor.responders.truncate(limit);
    floor.failing.truncate(limit);
    if floor.waiting.len() > limit {
        floor.waiting.truncate(limit);
        let listed = floor.waiting.iter().filter_map(|chat| chat.waited);
        floor.oldest_wait = listed.max_by_key(|waited| (waited.seconds, waited.nanos));
    }
    floor
}

/// Whether a floor is to be shown: something other than the time has changed, or it was not shown for long.
fn is_news(last: &Seen, seen: &Seen) -> bool {
    let again = seen.at.duration_since(last.at) >= SHOW_AGAIN_AFTER;
    again
        || seen.limit > last.limit
        || standing_still(&last.floor) != standing_still(&seen.floor)
        || rests(last, seen)
}

/// A floor without what only runs with the clock.
fn standing_still(floor: &GetFloorResponse) -> GetFloorResponse {
    let waiting = |chat: &WaitingChat| WaitingChat { waited: None, ..chat.clone() };
    let responder = |responder: &FloorResponder| FloorResponder {
        cooling_down_for: None,
        recent_load: None,
        calls: responder.calls.iter().map(|call| SupervisorCall { waited: None, ..call.clone() }).collect(),
        ..responder.clone()
    };
    let failing = |chat: &FailingChat| FailingChat { failing_for: None, waited: None, ..chat.clone() };
    GetFloorResponse {
        waiting: floor.waiting.iter().map(waiting).collect(),
        failing: floor.failing.iter().map(failing).collect(),
        responders: floor.responders.iter().map(responder).collect(),
        oldest_wait: None,
        clock_lag: None,
        load_fairness: 0.0,
        ..floor.clone()
    }
}

/// Whether, of the same responders, somebody's cool-down ends at another time than it did.
fn rests(last: &Seen, seen: &Seen) -> bool {
    let mut both = last.floor.responders.iter().zip(&seen.floor.responders);
    both.any(|(before, now)| match (ends(before, last.at), ends(now, seen.at)) {
        (Some(before), Some(now)) => before.max(now).duration_since(before.min(now)) > SAME_END,
        (None, Some(_)) => true,
        // It ran down, or is about to be shown with the status that comes after it.
        (Some(_) | None, None) => false,
    })
}

fn ends(responder: &FloorResponder, at: Instant) -> Option<Instant> {
    let cooling = responder.cooling_down_for.and_then(|d| Duration::try_from(d).ok());
    cooling.filter(|d| !d.is_zero()).map(|d| at + d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Option<prost_types::Duration> {
        Duration::from_secs(seconds).try_into().ok()
    }

    fn seen(change: impl FnOnce(&mut GetFloorResponse)) -> Seen {
        let chat = |n: u64| WaitingChat {
            chat_id: format!("c{n}"),
            waited: seconds(100 - n),
            place: n,
            ..WaitingChat::default()
        };
        let ana =
            FloorResponder { responder_id: "ana".to_owned(), cooling_down_for: seconds(60), ..Default::default() };
        let mut floor = GetFloorResponse {
            waiting: (1..=3).map(chat).collect(),
            responders: vec![ana],
            failing: vec![FailingChat { failing_for: seconds(30), failed_deliveries: 5, ..Default::default() }],
            oldest_wait: seconds(99),
            ..GetFloorResponse::default()
        };
        change(&mut floor);
        Seen { floor, limit: 50, at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_passing_of_time_is_no_news_for_a_while() {
        let first = seen(|_| ());
        tokio::time::advance(Duration::from_secs(9)).await;
        let later = |floor: &mut GetFloorResponse| {
            floor.waiting[0].waited = seconds(108);
            floor.oldest_wait = seconds(108);
            floor.failing[0].failing_for = seconds(39);
            floor.responders[0].cooling_down_for = seconds(51);
            floor.responders[0].recent_load = seconds(7);
            floor.load_fairness = 0.5;
        };
        assert!(!is_news(&first, &seen(later)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_news(&first, &seen(|floor| floor.responders[0].cooling_down_for = seconds(50))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_is_news() {
        let changes: [fn(&mut GetFloorResponse); 7] = [
            |floor| floor.waiting.truncate(1),
            |floor| floor.waiting[0].state = 2,
            |floor| floor.responders[0].load = 1,
            |floor| floor.responders[0].cooling_down_for = seconds(120),
            |floor| floor.surge_stage_number = 1,
            |floor| floor.responders[0].calls = vec![SupervisorCall::default()],
            |floor| floor.failing[0].failed_deliveries = 6,
        ];
        for change in changes {
            assert!(is_news(&seen(|_| ()), &seen(change)));
        }
        assert!(is_news(&seen(|_| ()), &Seen { limit: 51, ..seen(|_| ()) }));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_wants_less_gets_the_first_and_how_long_the_oldest_of_them_waits() {
        let less = first(&seen(|floor| floor.waiting.rotate_left(1)).floor, 2);
        let names: Vec<&str> = less.waiting.iter().map(|chat| chat.chat_id.as_str()).collect();
        assert_eq!((names, less.oldest_wait), (vec!["c2", "c3"], seconds(98)));
    }
}
