//! One entry: a line of text, and its hash.
//!
//! The text is what is hashed, kept, handed out and exported, byte for byte, so there is one encoding and nothing to get
//! wrong. It is words `key=value` with a space between them, each key once:
//!
//! | key | what |
//! | --- | --- |
//! | `helpline` | whose audit it is |
//! | `number` | counts the entries from 1 |
//! | `at_ms` | when, on the helpline's service clock |
//! | `act` | what was done: the event's word; or `begins`, `gap`, `rewound`, `trimmed`, of the audit itself |
//! | `actor` | `responder:ID`, `supervisor:ID`, `operator:ID`, `visitor`, `settings` or `audit` |
//! | `chat` | the name of the chat in this audit |
//! | `responder` | whom it is about |
//! | `urgency` `outcome` `reason` `status` `until_ms` `offer` `detail` | as the event has them |
//! | `block` | which block; never of whom |
//! | `policy` | the revision in force |
//! | `event` | the position of the event, term and sequence |
//! | `after` `before` | of `begins` and `gap`: the last event before what is missing, and the first after it |
//! | `seen` | of `rewound`: number and hash of the entry that had been there |
//! | `first` | of `trimmed`: the first entry that is kept |
//! | `previous` | the hash of the entry before; of the first, 43 times `A` |
//!
//! Readers pass over keys that they do not know.

use std::fmt::{self, Write as _};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The longest text that is taken for an entry, in bytes.
pub const MAX_TEXT_BYTES: usize = 2048;
/// What is hashed in front of the text, so that no other hash of ours can be one of an entry.
const USAGE: &[u8] = b"holdfast audit entry\n";

/// SHA-256 of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub text: String,
    /// The seal over its hash, and so over everything before it; empty where a later entry has one.
    pub seal: Vec<u8>,
}

impl Entry {
    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hash = Sha256::new();
        hash.update(USAGE);
        hash.update(self.text.as_bytes());
        Hash(hash.finalize().into())
    }

    /// What it says under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.words().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        number(self.get("number")?)
    }

    /// Keys and values, in order.
    pub fn words(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.split(' ').filter_map(|word| word.split_once('='))
    }

    /// It has the form of an entry: words of printable letters, each key once.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let mut keys: Vec<&str> = self.words().map(|(key, _)| key).collect();
        let words = self.text.split(' ').count();
        keys.sort_unstable();
        let all = keys.len();
        keys.dedup();
        let is_key = |key: &&str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        self.text.len() <= MAX_TEXT_BYTES
            && self.text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
            && (words, all) == (keys.len(), keys.len())
            && keys.iter().all(is_key)
    }
}

/// A whole number as it is written here: digits, none too many.
pub(crate) fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// The text of an entry while it is written.
#[derive(Debug)]
pub(crate) struct Draft(String);

impl Draft {
    pub(crate) fn new(helpline: &str, number: u64, at_ms: u64, act: &str, actor: &str) -> Self {
        Self(format!("helpline={helpline} number={number} at_ms={at_ms} act={act} actor={actor}"))
    }

    /// Values are ids, numbers and fixed words: no spaces can be in them.
    pub(crate) fn add(mut self, key: &str, value: Option<impl fmt::Display>) -> Self {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = write!(self.0, " {key}={value}");
        }
        self
    }

    pub(crate) fn after(self, previous: Hash) -> Entry {
        Entry { text: self.add("previous", Some(previous)).0, seal: Vec::new() }
    }
}
