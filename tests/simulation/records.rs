//! What the people saw, written down as they saw it, and what was done to them.

use holdfast_proto::v1::{ChatOutcome, Fence};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everything that was told to somebody, in the order of telling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// A request was acknowledged with a chat.
    Accepted { visitor: u64, chat: String },
    /// A visitor learnt how their chat ended.
    Ended { visitor: u64, chat: String, outcome: ChatOutcome },
    /// A responder was told that a chat is theirs.
    Assigned { responder: String, chat: String, fence: Fence },
    /// A word about a chat was carried out.
    Done { responder: String, chat: String, fence: Fence, what: Word },
    /// A word about a chat that was not theirs any more was refused.
    Refused,
    /// Something that no client should ever be told.
    Absurd(String),
}

/// A word that ends an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Close,
    Transfer,
}

/// All that was told, when and to whom, in a few digits.
pub(crate) fn digest(told: &[(u64, Told)]) -> String {
    Sha256::digest(format!("{told:?}")).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Clones write in the same book.
#[derive(Clone, Default)]
pub(crate) struct Records(Arc<Mutex<Book>>);

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) told: Vec<(u64, Told)>,
    /// Visitors who have come to an end.
    pub(crate) at_rest: u64,
    /// How often each kind of thing went wrong.
    pub(crate) faults: [u64; Fault::ALL.len()],
}

/// What is done to the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Crash,
    Partition,
    OneWay,
    Hold,
    Slow,
    Store,
    Clock,
}

impl Fault {
    pub(crate) const ALL: [Self; 7] =
        [Self::Crash, Self::Partition, Self::OneWay, Self::Hold, Self::Slow, Self::Store, Self::Clock];
}

impl Records {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, told: Told) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.book().told.push((u64::try_from(at.as_millis()).unwrap_or(u64::MAX), told));
    }

    pub(crate) fn rest(&self) {
        self.book().at_rest += 1;
    }

    pub(crate) fn fault(&self, fault: Fault) {
        let at = Fault::ALL.iter().position(|f| *f == fault).unwrap_or_default();
        self.book().faults[at] += 1;
    }
}

/// Figures over all runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) chats: u64,
    pub(crate) assignments: u64,
    pub(crate) refused: u64,
    pub(crate) handed_on: u64,
    pub(crate) store_errors: u64,
    pub(crate) events: u64,
    pub(crate) faults: [u64; Fault::ALL.len()],
    /// The longest that anybody took to come to an end after all was mended, in milliseconds.
    pub(crate) longest_ms: u64,
}

impl Counts {
    fn cells(&mut self) -> impl Iterator<Item = &mut u64> {
        let rest = [
            &mut self.chats,
            &mut self.assignments,
            &mut self.refused,
            &mut self.handed_on,
            &mut self.store_errors,
            &mut self.events,
            &mut self.longest_ms,
        ];
        rest.into_iter().chain(&mut self.faults)
    }

    /// As one process tells them to another.
    pub(crate) fn to_line(&self) -> String {
        let words: Vec<String> = self.clone().cells().map(|n| n.to_string()).collect();
        words.join(" ")
    }

    pub(crate) fn from_line(line: &str) -> Self {
        let mut counts = Self::default();
        counts.cells().zip(line.split(' ')).for_each(|(cell, word)| *cell = word.parse().unwrap_or(0));
        counts
    }

    pub(crate) fn all_happened(&self) -> bool {
        self.refused > 0 && self.handed_on > 0 && self.store_errors > 0 && self.faults.iter().all(|n| *n > 0)
    }
}

impl std::ops::AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, more: &Self) {
        let longest_ms = self.longest_ms.max(more.longest_ms);
        self.cells().zip(more.clone().cells()).for_each(|(sum, n)| *sum += *n);
        self.longest_ms = longest_ms;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} chats, {} assignments told, {} handed on, {} late words refused, {} events; faults:",
            self.chats, self.assignments, self.handed_on, self.refused, self.events
        )?;
        for (fault, n) in Fault::ALL.iter().zip(self.faults) {
            write!(f, " {n} {fault:?}")?;
        }
        write!(
            f,
            ", {} store errors; mended at most {} ms before the last came to rest",
            self.store_errors, self.longest_ms
        )
    }
}
