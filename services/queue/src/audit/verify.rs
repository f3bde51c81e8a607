//! Whether an audit holds: from its first entry that is kept to its last, whole, in order and sealed.

use std::fmt;

use super::{Entry, Hash, Key, entry::number};

/// The first entry that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} does not hold: {why}")]
pub struct Broken {
    /// Which, counted from 1.
    pub number: u64,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It has not the form of one.
    Unreadable,
    /// It is of the audit of another helpline.
    Elsewhere,
    /// Another number stands where it should be.
    Missing {
        /// The number that was found; none where nothing was.
        found: Option<u64>,
    },
    /// It is not the one that the entry after it follows.
    Changed,
    /// It tells of an event that is not after that of the entry before.
    OutOfOrder,
    /// Its seal was made by none of the keys.
    Seal,
    /// Nothing that follows is sealed.
    Unsealed,
    /// The entries before it are gone, and nothing in the audit says that they were to go.
    Begins,
    /// It was written down with another hash.
    NotAsNoted,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("it has not the form of an entry"),
            Self::Elsewhere => f.write_str("it is of another helpline's audit"),
            Self::Missing { found: Some(found) } => write!(f, "entry {found} stands in its place"),
            Self::Missing { found: None } => f.write_str("it was there, and is not"),
            Self::Changed => {
                f.write_str("it is not the one that the next entry follows: one of the two was changed")
            }
            Self::OutOfOrder => f.write_str("it tells of an event that is not after the one before"),
            Self::Seal => {
                f.write_str("its seal was made by none of the keys: it, or an entry before, was changed")
            }
            Self::Unsealed => f.write_str("neither it nor what follows is sealed"),
            Self::Begins => f.write_str("what is before it is gone, and no entry says that it was to go"),
            Self::NotAsNoted => f.write_str("it was noted with another hash"),
        }
    }
}

/// What was found in an audit that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many entries it has.
    pub entries: u64,
    /// The first that is kept.
    pub first: u64,
    /// The last one, and its hash: whoever notes them can tell later that nothing before was changed or cut off.
    pub last: u64,
    /// Its hash.
    pub hash: Hash,
    /// Seals that were checked; 0 without keys.
    pub seals: u64,
    /// What the audit says of itself: the numbers of entries that tell of missing events, or of missing entries.
    pub remarks: Vec<u64>,
}

/// Reads an audit from its first entry that is kept, and stops at the first that does not hold.
#[derive(Debug)]
pub struct Verifier {
    helpline: String,
    keys: Vec<Key>,
    noted: Vec<(u64, Hash)>,
    first: u64,
    /// The hash that the first entry follows.
    before: Hash,
    last: Option<(u64, Hash)>,
    event: (u64, u64),
    entries: u64,
    /// The last entry that has a seal.
    sealed: u64,
    seals: u64,
    /// What the audit itself says is the first entry that is kept.
    trimmed: u64,
    remarks: Vec<u64>,
}

impl Verifier {
    /// Of this helpline's audit. Without keys, seals are not checked. What was `noted` must be there, unless it is older
    /// than what is kept.
    #[must_use]
    pub fn new(helpline: &str, keys: Vec<Key>, noted: Vec<(u64, Hash)>) -> Self {
        Self {
            helpline: helpline.to_owned(),
            keys,
            noted,
            first: 0,
            before: Hash::default(),
            last: None,
            event: (0, 0),
            entries: 0,
            sealed: 0,
            seals: 0,
            trimmed: 1,
            remarks: Vec::new(),
        }
    }

    /// The next entry.
    ///
    /// # Errors
    /// When it does not hold, or the one before does not.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Broken> {
        let expected = self.last.map(|(number, _)| number + 1);
        let broken = |number, why| Err(Broken { number, why });
        let Some(number) = entry.number().filter(|_| entry.is_well_formed()) else {
            return broken(expected.unwrap_or(1), Why::Unreadable);
        };
        if let Some(expected) = expected.filter(|expected| *expected != number) {
            return broken(expected, Why::Missing { found: Some(number) });
        }
        if entry.get("helpline") != Some(self.helpline.as_str()) {
            return broken(number, Why::Elsewhere);
        }
        let Some(previous) = entry.get("previous").and_then(Hash::parse) else {
            return broken(number, Why::Unreadable);
        };
        match self.last {
            Some((last, hash)) if hash != previous => return broken(last, Why::Changed),
            // The first one follows none, and no other does.
            None if (number == 1) != (previous == Hash::default()) => return broken(1, Why::Changed),
            _ => {}
        }
        let hash = entry.hash();
        self.check_seal(number, entry, hash)?;
        if self.noted.iter().any(|(noted, was)| *noted == number && *was != hash) {
            return broken(number, Why::NotAsNoted);
        }
        self.read(number, entry)?;
        if self.entries == 0 {
            (self.first, self.before) = (number, previous);
        }
        (self.last, self.entries) = (Some((number, hash)), self.entries + 1);
        Ok(())
    }

    /// Somebody has noted the entry that the first one follows: a part of an audit.
    fn is_noted_before(&self) -> bool {
        self.noted.iter().any(|(number, hash)| (number + 1, *hash) == (self.first, self.before))
    }

    fn check_seal(&mut self, number: u64, entry: &Entry, hash: Hash) -> Result<(), Broken> {
        if entry.seal.is_empty() {
            return Ok(());
        }
        self.sealed = number;
        if self.keys.is_empty() {
            return Ok(());
        }
        self.seals += 1;
        let holds = self.keys.iter().any(|key| key.made(&entry.seal, hash));
        if holds { Ok(()) } else { Err(Broken { number, why: Why::Seal }) }
    }

    /// What it says that matters for the others.
    fn read(&mut self, at: u64, entry: &Entry) -> Result<(), Broken> {
        let broken = |why| Err(Broken { number: at, why });
        match entry.get("act") {
            None => return broken(Why::Unreadable),
            // After these, events are counted anew.
            Some("gap" | "rewound") => {
                self.event = (0, 0);
                self.remarks.push(at);
            }
            Some("begins") => self.event = (0, 0),
            Some("trimmed") => match entry.get("first").and_then(number) {
                Some(first) => self.trimmed = self.trimmed.max(first),
                None => return broken(Why::Unreadable),
            },
            Some(_) => {}
        }
        if let Some(event) = entry.get("event") {
            let position = event.split_once('.').and_then(|(term, n)| Some((number(term)?, number(n)?)));
            let Some(position) = position else { return broken(Why::Unreadable) };
            if position <= self.event {
                return broken(Why::OutOfOrder);
            }
            self.event = position;
        }
        Ok(())
    }

    /// The end, where the store says which entry is the last.
    ///
    /// # Errors
    /// When something that was there is missing, or the end is not sealed.
    pub fn end(self, head: Option<(u64, Hash)>) -> Result<Report, Broken> {
        let (last, hash) = self.last.unwrap_or_default();
        let broken = |number, why| Err(Broken { number, why });
        if self.entries > 0 && self.first > self.trimmed && !self.is_noted_before() {
            return broken(self.first, Why::Begins);
        }
        if let Some((number, is)) = head
            && (number, is) != (last, hash)
        {
            return if number > last {
                broken(last + 1, Why::Missing { found: None })
            } else {
                broken(last, Why::Changed)
            };
        }
        if self.sealed < last {
            return broken(self.sealed + 1, Why::Unsealed);
        }
        if self.noted.iter().any(|(noted, _)| *noted > last) {
            return broken(last + 1, Why::Missing { found: None });
        }
        let Self { entries, first, seals, remarks, .. } = self;
        Ok(Report { entries, first, last, hash, seals, remarks })
    }
}
