//! What happened in the line, as hints: they may be lost or repeated, the state is the truth.

use std::{
    collections::{HashSet, VecDeque},
    future::pending,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use holdfast_proto::v1::{Event, Notice};
use tokio::sync::broadcast;

/// How many notices wait for a slow reader before it is told to look again.
const BUFFER: usize = 4096;

/// How many notices are remembered, so that the same one from another replica is passed on once.
const REMEMBERED: usize = 8192;

/// A hint about the line.
#[derive(Debug, Clone)]
pub enum LinkNotice {
    /// Something changed.
    Event {
        /// Where.
        helpline: Arc<str>,
        /// What.
        event: Arc<Event>,
    },
    /// Some may have been missed: whoever watches anything looks at the state again.
    LookAgain,
}

/// A reader of notices.
#[derive(Debug)]
pub struct Notices(broadcast::Receiver<LinkNotice>);

impl Notices {
    /// The next one. One that lagged behind is told to look again. Safe to cancel.
    pub async fn next(&mut self) -> LinkNotice {
        match self.0.recv().await {
            Ok(notice) => notice,
            Err(broadcast::error::RecvError::Lagged(_)) => LinkNotice::LookAgain,
            Err(broadcast::error::RecvError::Closed) => pending().await,
        }
    }
}

/// Passes each notice on once, to everybody.
#[derive(Debug)]
pub(crate) struct Relay {
    readers: broadcast::Sender<LinkNotice>,
    hasher: RandomState,
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Relay {
    pub(crate) fn new() -> Self {
        Self {
            readers: broadcast::channel(BUFFER).0,
            hasher: RandomState::new(),
            known: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    pub(crate) fn subscribe(&self) -> Notices {
        Notices(self.readers.subscribe())
    }

    pub(crate) fn look_again(&self) {
        // Nobody listening is no error, here and below.
        let _ = self.readers.send(LinkNotice::LookAgain);
    }

    pub(crate) fn pass_on(&mut self, notice: Notice) {
        let Some(event) = notice.event else { return };
        if self.is_new(&notice.helpline, &event.cursor) {
            let _ =
                self.readers.send(LinkNotice::Event { helpline: notice.helpline.into(), event: Arc::new(event) });
        }
    }

    fn is_new(&mut self, helpline: &str, cursor: &str) -> bool {
        if cursor.is_empty() {
            return true;
        }
        let name = self.hasher.hash_one((helpline, cursor));
        if !self.known.insert(name) {
            return false;
        }
        self.order.push_back(name);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(cursor: &str) -> Notice {
        let event = Event { cursor: cursor.to_owned(), ..Event::default() };
        Notice { helpline: "demo".to_owned(), event: Some(event) }
    }

    #[tokio::test]
    async fn the_same_notice_from_two_replicas_is_passed_on_once() {
        let mut relay = Relay::new();
        let mut notices = relay.subscribe();
        for cursor in ["a", "a", "b"] {
            relay.pass_on(notice(cursor));
        }
        for cursor in ["a", "b"] {
            let LinkNotice::Event { event, .. } = notices.next().await else { panic!("an event was expected") };
            assert_eq!(event.cursor, cursor);
        }
    }

    #[tokio::test]
    async fn a_reader_that_lags_is_told_to_look_again() {
        let mut relay = Relay::new();
        let mut notices = relay.subscribe();
        for n in 0..=BUFFER {
            relay.pass_on(notice(&n.to_string()));
        }
        assert!(matches!(notices.next().await, LinkNotice::LookAgain));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut relay = Relay::new();
        for n in 0..REMEMBERED + 10 {
            relay.pass_on(notice(&n.to_string()));
        }
        assert_eq!((relay.known.len(), relay.order.len()), (REMEMBERED, REMEMBERED));
    }
}
