//! What is planted, and how it is found again, whatever it was turned into on the way.

use std::fmt::Write;
use std::sync::Mutex;

/// Where a call of the tests comes from, where a machine has such an address (Linux has).
pub const PEER: &str = "127.83.7.19";
/// The same in a header, of either kind.
pub const V4: &str = "203.0.113.77";
pub const V6: &str = "2001:db8:5ca1:ab1e::77";
/// What begins everything that staff are called here: who they are is kept, and told to staff.
pub const STAFF: &str = "staffmark";

/// Parts by which a canary is known, in lower case: of names, addresses, the agent, the number and what was said.
const NEEDLES: [&str; 8] =
    ["zebedina", "quillf", "cannot go on", "203.0.113.77", "2001:db8:5ca1", "20010db85ca1", "4312349876550", PEER];

/// What kind of thing a canary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What somebody says.
    Phrase,
    /// A name in the form of an id.
    Slug,
    /// An address of electronic mail.
    Email,
    /// A telephone number, and nothing but its digits.
    Phone,
    /// Addresses.
    V4,
    V6,
    /// What a browser calls itself.
    Agent,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Phrase, Self::Slug, Self::Email, Self::Phone, Self::V4, Self::V6, Self::Agent];
}

/// Every canary that was planted, by its number, and where; and those that were found, and where.
#[derive(Default)]
pub struct Canaries {
    planted: Mutex<Vec<String>>,
    found: Mutex<Vec<String>>,
}

impl Canaries {
    /// One more, for a place. Its number is in it where there is room, so that whoever finds it knows where it came from.
    pub fn plant(&self, kind: Kind, place: &str) -> String {
        let mut planted = self.planted.lock().expect("no test panicked here");
        planted.push(format!("{kind:?} in {place}"));
        let n = planted.len() - 1;
        match kind {
            Kind::Phrase => format!("Zebedina-{n} Quillfeather, près, cannot go on"),
            Kind::Slug => format!("zebedina-{n}"),
            Kind::Email => format!("zebedina-{n}@quillfeather.example"),
            Kind::Phone => "4312349876550".to_owned(),
            Kind::V4 => V4.to_owned(),
            Kind::V6 => V6.to_owned(),
            Kind::Agent => format!("Quillfox/7.7 (zebedina-{n}; X11)"),
        }
    }

    /// Where the canary of a number was planted.
    fn place(&self, found: &str) -> String {
        let digits = found
            .to_lowercase()
            .split_once("zebedina-")
            .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        let planted = self.planted.lock().expect("no test panicked here");
        let number: Option<usize> = digits.and_then(|digits| digits.parse().ok());
        number.and_then(|n| planted.get(n)).cloned().unwrap_or_else(|| "somewhere".to_owned())
    }

    /// Takes down when one of them can be found in `bytes`, in any way of writing it.
    pub fn are_not_in(&self, place: &str, bytes: &[u8]) {
        if let Some(found) = found(bytes) {
            let complaint = format!("a canary ({}) is in {place}: …{found}…", self.place(&found));
            self.found.lock().expect("no test panicked here").push(complaint);
        }
    }

    /// Fails when any was found anywhere.
    pub fn were_nowhere(&self) {
        let found = self.found.lock().expect("no test panicked here");
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// The surroundings of the first canary there.
pub fn found(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let lower = text.to_ascii_lowercase();
    let mut at = NEEDLES.iter().filter_map(|needle| lower.find(needle));
    if let Some(at) = at.next() {
        return Some(around(&text, at));
    }
    for (way, of_any_case) in WAYS.iter() {
        if let Some(at) = if *of_any_case { lower.find(way.as_str()) } else { text.find(way.as_str()) } {
            return Some(format!("{} ({way})", around(&text, at)));
        }
    }
    None
}

/// The needles in other ways of writing: hexadecimal, base64, lists of bytes, percent signs. With each, whether its case is
/// of no account.
static WAYS: std::sync::LazyLock<Vec<(String, bool)>> = std::sync::LazyLock::new(|| {
    let mut ways = Vec::new();
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    for needle in NEEDLES.iter().filter(|needle| needle.len() >= 6) {
        for word in [(*needle).to_owned(), capital(needle)] {
            let mut hex = String::new();
            word.bytes().for_each(|byte| write!(hex, "{byte:02x}").expect("room"));
            ways.push((hex, true));
            ways.push((format!("{:?}", word.as_bytes()).trim_matches(['[', ']']).to_owned(), true));
            ways.extend(base64(word.as_bytes()).map(|way| (way, false)));
        }
        if needle.contains(['.', ':', ' ']) {
            let escaped = needle.replace(':', "%3a").replace(' ', "%20");
            ways.push((escaped, true));
        }
    }
    ways
});

/// What stands in base64 wherever these bytes begin, of three.
fn base64(bytes: &[u8]) -> [String; 3] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    [0, 1, 2].map(|before| {
        let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
        // The first digits hold bits of whatever stands before.
        let skip = (6 - before * 8 % 6) % 6;
        let whole = bits[skip..].chunks_exact(6);
        whole.map(|six| char::from(DIGITS[six.iter().fold(0, |n, bit| n << 1 | usize::from(*bit))])).collect()
    })
}

fn around(text: &str, at: usize) -> String {
    let begin = (0..=at.saturating_sub(160)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let end = (at + 120..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    text[begin..end].to_owned()
}

#[test]
fn a_canary_is_found_in_every_way_of_writing_it() {
    let canaries = Canaries::default();
    for kind in Kind::ALL {
        let canary = canaries.plant(kind, "here");
        assert!(found(canary.as_bytes()).is_some(), "{canary}");
        assert!(found(format!("{:?}", canary.as_bytes()).as_bytes()).is_some(), "{canary} as bytes");
        let hex: String = canary.bytes().map(|byte| format!("{byte:02X}")).collect();
        assert!(found(hex.as_bytes()).is_some(), "{canary} as {hex}");
        assert!(found(canary.to_uppercase().as_bytes()).is_some(), "{canary} in capitals");
    }
    // "xZebedina", "xyZebedina" and "xyzZebedina" in base64.
    for text in ["eFplYmVkaW5h", "eHlaZWJlZGluYQ==", "eHl6WmViZWRpbmE="] {
        assert!(found(text.as_bytes()).is_some(), "{text}");
    }
    assert_eq!(found(b"the river line, 203.0.113.1, staffmark-ana"), None);
    assert!(canaries.place(&canaries.plant(Kind::Slug, "there")).ends_with("in there"));
}
