//! All replicas that we know, and which one is asked next.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use holdfast_proto::v1::{Notice, Urgency};
use tokio::{
    sync::{Notify, futures::Notified, watch},
    time::Instant,
};

use crate::{
    notices::{Notices, Relay},
    peer::Peer,
};

/// Which replica can take a command.
pub(crate) enum Pick {
    /// This one.
    Free(Arc<Peer>),
    /// Some are attached, but each has as many unanswered as it allows.
    Full,
    /// None is attached.
    Nobody {
        /// For how long now.
        since: Instant,
    },
}

#[derive(Debug)]
pub(crate) struct Hub {
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
    relay: Mutex<Relay>,
    changed: Notify,
    attached: watch::Sender<usize>,
    accepting: watch::Sender<bool>,
    unattached_since: Mutex<Instant>,
    turn: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            peers: Mutex::default(),
            relay: Mutex::new(Relay::new()),
            changed: Notify::new(),
            attached: watch::Sender::new(0),
            accepting: watch::Sender::new(false),
            unattached_since: Mutex::new(Instant::now()),
            turn: AtomicUsize::new(0),
        }
    }

    pub(crate) fn add(&self, peer: Arc<Peer>) {
        lock(&self.peers).insert(peer.address().to_owned(), peer);
    }

    pub(crate) fn remove(&self, address: &str) {
        lock(&self.peers).remove(address);
        self.refresh();
    }

    /// Woken when a replica comes or goes, or one takes commands again.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(crate) fn room(&self) {
        self.changed.notify_one();
    }

    /// Counts again, after a replica came or went.
    pub(crate) fn refresh(&self) {
        let peers = lock(&self.peers);
        let now = peers.values().filter(|peer| peer.is_usable()).count();
        let accepting = peers.values().any(|peer| peer.is_accepting());
        self.accepting.send_if_modified(|before| std::mem::replace(before, accepting) != accepting);
        self.attached.send_if_modified(|before| {
            if *before > 0 && now == 0 {
                *lock(&self.unattached_since) = Instant::now();
            }
            std::mem::replace(before, now) != now
        });
        drop(peers);
        self.changed.notify_waiters();
    }

    pub(crate) fn attached(&self) -> watch::Receiver<usize> {
        self.attached.subscribe()
    }

    pub(crate) fn accepting(&self) -> watch::Receiver<bool> {
        self.accepting.subscribe()
    }

    pub(crate) fn unattached_since(&self) -> Instant {
        *lock(&self.unattached_since)
    }

    pub(crate) fn notices(&self) -> Notices {
        lock(&self.relay).subscribe()
    }

    pub(crate) fn look_again(&self) {
        lock(&self.relay).look_again();
    }

    pub(crate) fn pass_on(&self, notice: Notice) {
        lock(&self.relay).pass_on(notice);
    }

    /// The replica with the fewest unanswered commands, `avoid` only if there is no other.
    pub(crate) fn pick(&self, avoid: Option<&Arc<Peer>>) -> Pick {
        let peers = lock(&self.peers);
        let usable: Vec<&Arc<Peer>> = peers.values().filter(|peer| peer.is_usable()).collect();
        if usable.is_empty() {
            return Pick::Nobody { since: self.unattached_since() };
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % usable.len();
        let in_turn = usable.iter().cycle().skip(turn).take(usable.len());
        let free = in_turn.filter_map(|peer| Some((is(avoid, peer), peer.unanswered()?, *peer)));
        match free.min_by_key(|(avoided, unanswered, _)| (*avoided, *unanswered)) {
            Some((_, _, peer)) => Pick::Free(Arc::clone(peer)),
            None => Pick::Full,
        }
    }

    /// Whether every attached replica would only refuse another request of this urgency to this helpline.
    pub(crate) fn is_full_for(&self, helpline: &str, urgency: Urgency) -> bool {
        let peers = lock(&self.peers);
        let mut usable = peers.values().filter(|peer| peer.is_usable()).peekable();
        usable.peek().is_some() && usable.all(|peer| peer.is_full_for(helpline, urgency))
    }

    /// An attached replica to read from, in turn, `avoid` only if there is no other.
    pub(crate) fn reader(&self, avoid: Option<&Arc<Peer>>) -> Option<Arc<Peer>> {
        let peers = lock(&self.peers);
        let usable: Vec<&Arc<Peer>> = peers.values().filter(|peer| peer.is_usable()).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % usable.len().max(1);
        let mut in_turn = usable.iter().cycle().skip(turn).take(usable.len());
        let other = in_turn.clone().find(|peer| !is(avoid, peer));
        other.or_else(|| in_turn.next()).map(|peer| Arc::clone(peer))
    }

    pub(crate) fn has_other(&self, than: &Arc<Peer>) -> bool {
        lock(&self.peers).values().any(|peer| peer.is_usable() && !Arc::ptr_eq(peer, than))
    }
}

fn is(avoid: Option<&Arc<Peer>>, peer: &Arc<Peer>) -> bool {
    avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, peer))
}
