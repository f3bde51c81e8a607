//! Entries as lines of JSON: an object with what an entry says, in its own order, and the seal. Every value is text, so the
//! entry can be put together again letter by letter.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_queue::audit::Entry;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};

/// What the seal is called; no entry has a word of that name.
const SEAL: &str = "seal";

/// An object whose order is kept.
struct Words(Vec<(String, String)>);

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry of an audit")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = map.next_entry()? {
                    words.push(word);
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// An entry as a line.
pub(super) fn line(entry: &Entry) -> String {
    let mut words: Vec<_> = entry.words().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if !entry.seal.is_empty() {
        words.push((SEAL.to_owned(), URL_SAFE_NO_PAD.encode(&entry.seal)));
    }
    // Text in a map can be written.
    serde_json::to_string(&Words(words)).unwrap_or_default()
}

/// The entry of a line; `None` when it is none.
pub(super) fn entry(line: &str) -> Option<Entry> {
    let Words(mut words) = serde_json::from_str(line).ok()?;
    let seal = match words.last() {
        Some((key, seal)) if key == SEAL => URL_SAFE_NO_PAD.decode(seal).ok()?,
        _ => Vec::new(),
    };
    words.retain(|(key, _)| key != SEAL);
    let words: Vec<_> = words.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(Entry { text: words.join(" "), seal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_letter_by_letter() {
        for seal in [vec![], vec![1, 2, 250]] {
            let entry = Entry { text: "number=1 act=begins zeta=1 alpha=2".to_owned(), seal };
            assert_eq!(super::entry(&line(&entry)), Some(entry));
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for bad in ["", "{", "[]", "1", r#"{"number":1}"#, r#"{"seal":"?"}"#] {
            assert_eq!(entry(bad), None, "{bad}");
        }
    }
}
