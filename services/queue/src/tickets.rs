//! Sealed tickets and sealed assignments: what visitors and responders hold of their chats, so that a store that has
//! lost them can be told. `domain/src/line/recovery.rs` says what they bring back; here they are sealed and opened.
//!
//! A ticket says everything that the line knows of a chat, with tags by name, for bits mean something else under another
//! policy. Nobody but the queue can read or make one. Its length says next to nothing: it is a multiple of
//! [`STEP_BYTES`]. A key seals and opens; older keys only open, so a key can be replaced while tickets are out.

pub(crate) mod said;

use std::{collections::HashMap, collections::VecDeque, fmt, path::Path, sync::Mutex, sync::PoisonError};

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use holdfast_domain::{
    ChatId, Event, EventKind, HelplineId, Policy, Reassert, Restore, Urgency, limits::MAX_TICKET_BYTES,
};
use holdfast_runtime::config::{ConfigError, read_secret};
use sha2::Sha256;
use tracing::warn;

use crate::config::{Config, StoreKind, TicketsConfig};
pub(crate) use said::{Assigned, Held};

/// Tickets are as long as a multiple of this.
const STEP_BYTES: usize = 512;
/// The first byte. It is authenticated too.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// What the keys are used for, so that no other use of the same secret can make a ticket.
const USAGE: &[u8] = b"holdfast sealed ticket";
/// Least length of a secret, in bytes of the file.
const MIN_KEY_BYTES: usize = 32;
/// A ticket is good for so long at most, however long ended chats are remembered.
const LONGEST_MS: u64 = 24 * 3_600_000;
/// Chats of which something is remembered beside the store.
const REMEMBERED: usize = 1 << 16;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum TicketKeyError {
    /// A file cannot be read.
    #[error("tickets.{setting}: {source}")]
    File {
        /// Which setting names it.
        setting: &'static str,
        /// What is wrong.
        source: ConfigError,
    },
    /// A file holds too little.
    #[error("tickets.{0}: holds less than {MIN_KEY_BYTES} bytes")]
    Short(&'static str),
    /// Nobody said that losing the line with the store is meant.
    #[error(
        "tickets.key_file: is needed when store.kind is \"redis\" (a secret, the same for all replicas): without it a \
         store that is lost loses the line; security.insecure_random_ticket_key = true says that this is meant"
    )]
    Missing,
    /// An older key without a newer one.
    #[error("tickets.old_key_file: names a key, and tickets.key_file names none")]
    OnlyOld,
    /// The system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

/// What can be told without reading a key.
///
/// # Errors
/// One line that names the setting.
pub(crate) fn check(config: &Config) -> Result<(), TicketKeyError> {
    let named =
        !config.tickets.key_file.as_os_str().is_empty() || !config.tickets.old_key_file.as_os_str().is_empty();
    let meant = named || config.security.insecure_random_ticket_key;
    if meant || config.store.kind == StoreKind::Memory { Ok(()) } else { Err(TicketKeyError::Missing) }
}

/// What something sealed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ticket = 1,
    Assignment = 2,
}

/// Seals and opens, and remembers what makes older papers void.
pub(crate) struct Tickets {
    /// The first seals; all open.
    keys: Vec<XChaCha20Poly1305>,
    heard: Mutex<Heard>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets([REDACTED])")
    }
}

impl Tickets {
    /// With the keys that the settings name. Without any, one is made up: what it seals opens nowhere else, and not after
    /// a restart of this process.
    pub(crate) fn of(settings: &TicketsConfig) -> Result<Self, TicketKeyError> {
        let newest = key_in(&settings.key_file, "key_file")?;
        let old = key_in(&settings.old_key_file, "old_key_file")?;
        let keys = match (newest, old) {
            (None, None) => vec![made_up()?],
            (None, Some(_)) => return Err(TicketKeyError::OnlyOld),
            (Some(newest), old) => std::iter::once(newest).chain(old).collect(),
        };
        Ok(Self { keys, heard: Mutex::default() })
    }

    /// With a key of its own, for tests.
    pub(crate) fn made_up() -> Self {
        let keys = made_up().into_iter().collect();
        Self { keys, heard: Mutex::default() }
    }

    /// A ticket of a chat, or none where it cannot be made: nobody's chat depends on it.
    pub(crate) fn ticket(&self, helpline: &HelplineId, policy: &Policy, restore: &Restore) -> Vec<u8> {
        self.seal(helpline, Kind::Ticket, &said::ticket(policy, restore))
    }

    /// The last ticket of a chat: it brings nothing back.
    pub(crate) fn ended(&self, helpline: &HelplineId, chat: &ChatId) -> Vec<u8> {
        self.seal(helpline, Kind::Ticket, &said::ended(chat))
    }

    /// A sealed assignment, or none where it cannot be made.
    pub(crate) fn assignment(&self, helpline: &HelplineId, policy: &Policy, reassert: &Reassert) -> Vec<u8> {
        self.seal(helpline, Kind::Assignment, &said::assignment(policy, reassert))
    }

    fn seal(&self, helpline: &HelplineId, kind: Kind, said: &[u8]) -> Vec<u8> {
        let sealed = self.try_seal(helpline, kind, said).filter(|sealed| sealed.len() <= MAX_TICKET_BYTES);
        if sealed.is_none() {
            warn!(%helpline, bytes = said.len(), "a ticket could not be sealed: this chat would not survive the store");
        }
        sealed.unwrap_or_default()
    }

    fn try_seal(&self, helpline: &HelplineId, kind: Kind, said: &[u8]) -> Option<Vec<u8>> {
        let mut padded = u32::try_from(said.len()).ok()?.to_be_bytes().to_vec();
        padded.extend_from_slice(said);
        let around = 1 + NONCE_BYTES + TAG_BYTES;
        padded.resize((padded.len() + around).next_multiple_of(STEP_BYTES) - around, 0);
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let payload = Payload { msg: &padded, aad: &bound_to(helpline, kind) };
        let sealed = self.keys.first()?.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    fn open(&self, helpline: &HelplineId, kind: Kind, sealed: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        if *version != VERSION {
            return None;
        }
        let aad = bound_to(helpline, kind);
        let opens =
            |key: &XChaCha20Poly1305| key.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad }).ok();
        let padded = self.keys.iter().find_map(opens)?;
        let (length, rest) = padded.split_first_chunk::<4>()?;
        rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?).map(<[u8]>::to_vec)
    }

    /// What a ticket says, unless it was not sealed here for this helpline, or something newer is known of the chat that
    /// makes it void. Never with more urgency than was last known.
    pub(crate) fn open_ticket(&self, helpline: &HelplineId, sealed: &[u8]) -> Option<Held> {
        let mut held = said::read_ticket(&self.open(helpline, Kind::Ticket, sealed)?)?;
        if let Some(known) = self.heard().of(helpline, held.chat()) {
            if known.ended {
                return None;
            }
            held.lower_to(known.urgency);
        }
        Some(held)
    }

    /// What a sealed assignment says, unless it was not sealed here for this helpline, or is known to be over.
    pub(crate) fn open_assignment(&self, helpline: &HelplineId, sealed: &[u8]) -> Option<Assigned> {
        let mut assigned = said::read_assignment(&self.open(helpline, Kind::Assignment, sealed)?)?;
        if let Some(known) = self.heard().of(helpline, assigned.held.chat()) {
            if known.ended || assigned.fence.epoch <= known.over {
                return None;
            }
            assigned.held.lower_to(known.urgency);
        }
        Some(assigned)
    }

    /// Remembers what an event says about older papers: this replica knows it even when the store has forgotten.
    pub(crate) fn hear(&self, helpline: &HelplineId, event: &Event) {
        if let Some(chat) = &event.chat {
            self.heard().hear(helpline, chat, event);
        }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when a ticket that is sealed now brings its chat back, on the service clock: no longer than the record of the
/// chat is kept once it has ended.
pub(crate) fn good_until(policy: &Policy, now_ms: u64) -> u64 {
    now_ms.saturating_add(policy.numbers.retention_ms.min(LONGEST_MS))
}

fn key_in(file: &Path, setting: &'static str) -> Result<Option<XChaCha20Poly1305>, TicketKeyError> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let secret = read_secret(file).map_err(|source| TicketKeyError::File { setting, source })?;
    let secret = secret.expose().as_bytes();
    if secret.len() < MIN_KEY_BYTES {
        return Err(TicketKeyError::Short(setting));
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| TicketKeyError::Short(setting))?;
    mac.update(USAGE);
    let key: [u8; 32] = mac.finalize().into_bytes().into();
    Ok(Some(XChaCha20Poly1305::new(&Key::from(key))))
}

fn made_up() -> Result<XChaCha20Poly1305, TicketKeyError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(TicketKeyError::Random)?;
    Ok(XChaCha20Poly1305::new(&Key::from(key)))
}

/// What is authenticated beside the content: a ticket of one helpline is none at another.
fn bound_to(helpline: &HelplineId, kind: Kind) -> Vec<u8> {
    [&[VERSION, kind as u8], helpline.as_str().as_bytes()].concat()
}

/// What makes older papers of a chat void.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    ended: bool,
    /// The urgency that it was last given.
    urgency: Option<Urgency>,
    /// Assignments up to this epoch are over.
    over: u64,
}

/// What was heard of chats lately, the longest unheard of forgotten first.
#[derive(Debug, Default)]
struct Heard {
    chats: HashMap<(HelplineId, ChatId), Known>,
    order: VecDeque<(HelplineId, ChatId)>,
}

impl Heard {
    fn of(&self, helpline: &HelplineId, chat: &ChatId) -> Option<Known> {
        self.chats.get(&(helpline.clone(), chat.clone())).copied()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "no other event makes a paper void")]
    fn hear(&mut self, helpline: &HelplineId, chat: &ChatId, event: &Event) {
        let epoch = event.fence.map_or(0, |fence| fence.epoch);
        let learn: &dyn Fn(&mut Known) = match event.kind {
            EventKind::Ended => &|known| known.ended = true,
            EventKind::Reopened => &|known| known.ended = false,
            EventKind::Triaged => &|known| known.urgency = event.urgency,
            EventKind::Returned => &|known| known.over = known.over.max(epoch),
            // Those before it are.
            EventKind::Accepted => &|known| known.over = known.over.max(epoch.saturating_sub(1)),
            _ => return,
        };
        let name = (helpline.clone(), chat.clone());
        if !self.chats.contains_key(&name) {
            self.order.push_back(name.clone());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.chats.remove(&oldest);
            }
        }
        learn(self.chats.entry(name).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_domain::{
        Fence, Mask, Request, ResponderId, Sealed, Step, SubjectDigest, TokenHash, ids::DigestHex, policy::Tag,
    };
    use std::io::Write;

    const TOPIC: &str = "topic:loss";

    fn named<T: std::str::FromStr>(text: &str) -> T
    where
        T::Err: fmt::Debug,
    {
        text.parse().unwrap()
    }

    fn policy(tags: &[&str]) -> Policy {
        let tag = |name: &&str| Tag { name: (*name).to_owned(), levels: 3, scarce: false };
        Policy {
            helpline: "demo".to_owned(),
            revision: 4,
            tags: tags.iter().map(tag).collect(),
            ..Policy::default()
        }
    }

    fn restore(policy: &Policy) -> Restore {
        let need = policy.requirement("need", &[vec![("lang:es", 2)], vec![("lang:en", 1)]]).unwrap();
        let first = Step { only: Some(named("ana")), ..Step::new(0, need.clone()) };
        let steps = vec![first, Step::new(600, need), Step::new(9_000, holdfast_domain::Requirement::anyone())];
        Restore {
            request: Request {
                chat: named("c-1"),
                request_key: DigestHex::parse("aa").unwrap(),
                body: DigestHex::parse("bb").unwrap(),
                token: TokenHash([7; 32]),
                urgency: Urgency::High,
                steps,
                topics: policy.capabilities("t", &[(TOPIC, 1)]).map(|(mask, _)| mask).unwrap_or_default(),
                excluded: vec![named("ben")],
                revision: policy.revision,
                attested: true,
                resources_seen: true,
                solved_bits: 0,
                overflow_now: false,
                handoff: vec![0, 255, 7],
                trace: "00-ab".to_owned(),
                subject: Some(SubjectDigest([5; 16])),
                came_by: None,
            },
            sealed: Sealed {
                generation: "g".to_owned(),
                term: 5,
                issued_ms: 1,
                expires_ms: 2,
                arrival_ms: 3,
                sequence: 4,
                version: 6,
                step: 1,
                returned: true,
                active: true,
                offers_made: 8,
                assignments_made: 9,
                proposals: 10,
                came_from: Some((named("north"), 11)),
            },
        }
    }

    const TAGS: [&str; 3] = ["lang:en", "lang:es", TOPIC];

    fn event(kind: EventKind, change: impl FnOnce(&mut Event)) -> Event {
        let mut event = Event {
            sequence: 1,
            term: 1,
            at_ms: 1,
            kind,
            chat: Some(named("c-1")),
            responder: None,
            urgency: None,
            offer: None,
            fence: None,
            until_ms: None,
            outcome: None,
            reason: None,
            status: None,
            revision: 1,
            by: None,
            partner: None,
            block: None,
            number: None,
        };
        change(&mut event);
        event
    }

    fn assignment(policy: &Policy) -> Reassert {
        Reassert {
            responder: named::<ResponderId>("ana"),
            session: 0,
            offer: 2,
            fence: Fence { epoch: 90, minted_by: 3 },
            reply_handoff: vec![1],
            restore: restore(policy),
        }
    }

    #[test]
    fn a_ticket_says_all_that_was_sealed_also_when_tags_have_moved() {
        let (tickets, policy_then, demo) = (Tickets::made_up(), policy(&TAGS), named::<HelplineId>("demo"));
        let sealed = tickets.ticket(&demo, &policy_then, &restore(&policy_then));
        let held = tickets.open_ticket(&demo, &sealed).unwrap();
        assert_eq!(held.under(&policy_then), restore(&policy_then));
        // Another policy has the same tags at other bits, and one of them not at all.
        let now = policy(&["lang:fr", "lang:es", "lang:en"]);
        let moved = held.under(&now);
        let need = now.requirement("need", &[vec![("lang:es", 2)], vec![("lang:en", 1)]]).unwrap();
        assert_eq!(moved.request.steps[1].requirement, need);
        assert_eq!(moved.request.topics, Mask::default());
    }

    #[test]
    fn nobody_else_can_read_make_or_move_a_ticket() {
        let (tickets, policy, demo) = (Tickets::made_up(), policy(&TAGS), named::<HelplineId>("demo"));
        let sealed = tickets.ticket(&demo, &policy, &restore(&policy));
        assert!(Tickets::made_up().open_ticket(&demo, &sealed).is_none(), "another key");
        assert!(tickets.open_ticket(&named("other"), &sealed).is_none(), "another helpline");
        assert!(tickets.open_assignment(&demo, &sealed).is_none(), "another kind");
        for at in [0, 1, 30, sealed.len() - 1] {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(tickets.open_ticket(&demo, &forged).is_none(), "byte {at}");
        }
        assert!(tickets.open_ticket(&demo, &sealed[..sealed.len() - 1]).is_none());
        assert!(tickets.open_ticket(&demo, &[]).is_none());
        assert_eq!(sealed.len() % STEP_BYTES, 0, "its length says next to nothing");
        assert_ne!(sealed[1..], tickets.ticket(&demo, &policy, &restore(&policy))[1..]);
    }

    #[test]
    fn what_this_replica_heard_voids_older_papers() {
        let (tickets, policy, demo) = (Tickets::made_up(), policy(&TAGS), named::<HelplineId>("demo"));
        let ticket = tickets.ticket(&demo, &policy, &restore(&policy));
        let sealed = tickets.assignment(&demo, &policy, &assignment(&policy));
        assert_eq!(tickets.open_assignment(&demo, &sealed).unwrap().fence.epoch, 90);

        tickets.hear(&demo, &event(EventKind::Triaged, |e| e.urgency = Some(Urgency::Low)));
        assert_eq!(tickets.open_ticket(&demo, &ticket).unwrap().under(&policy).request.urgency, Urgency::Low);
        tickets.hear(&demo, &event(EventKind::Triaged, |e| e.urgency = Some(Urgency::Imminent)));
        let raised = tickets.open_ticket(&demo, &ticket).unwrap();
        assert_eq!(raised.under(&policy).request.urgency, Urgency::High, "never more than was sealed");
        let fence = Some(Fence { epoch: 90, minted_by: 3 });
        tickets.hear(&demo, &event(EventKind::Accepted, |e| e.fence = fence));
        assert!(tickets.open_assignment(&demo, &sealed).is_some(), "it is the newest");
        tickets.hear(&demo, &event(EventKind::Returned, |e| e.fence = fence));
        assert!(tickets.open_assignment(&demo, &sealed).is_none(), "it went back to the line");
        tickets.hear(&demo, &event(EventKind::Ended, |_| {}));
        assert!(tickets.open_ticket(&demo, &ticket).is_none());
        tickets.hear(&demo, &event(EventKind::Reopened, |_| {}));
        assert!(tickets.open_ticket(&demo, &ticket).is_some());
        assert!(tickets.open_ticket(&demo, &tickets.ended(&demo, &named("c-1"))).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut heard = Heard::default();
        let demo = named::<HelplineId>("demo");
        for n in 0..REMEMBERED + 10 {
            heard.hear(&demo, &named(&format!("c-{n}")), &event(EventKind::Ended, |_| {}));
        }
        assert_eq!((heard.chats.len(), heard.order.len()), (REMEMBERED, REMEMBERED));
        assert!(heard.of(&demo, &named("c-0")).is_none());
    }

    #[test]
    fn a_store_that_can_be_lost_needs_a_key_or_a_word_that_losing_the_line_is_meant() {
        let told = |more: &[(&str, &str)]| {
            let redis = [("store.kind", "redis"), ("policy.dir", "policies")];
            let all = redis.iter().chain(more).map(|(key, value)| (*key, (*value).to_owned()));
            check(&Config::load(None, &all.collect::<Vec<_>>()).unwrap()).map_err(|error| error.to_string())
        };
        assert!(told(&[]).unwrap_err().starts_with("tickets.key_file"));
        assert_eq!(told(&[("tickets.key_file", "ticket.key")]), Ok(()));
        assert_eq!(told(&[("security.insecure_random_ticket_key", "true")]), Ok(()));
        assert!(check(&Config::load(None, &[]).unwrap()).is_ok());
    }

    #[test]
    fn a_key_can_be_replaced_while_tickets_are_out() {
        let file = |secret: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(secret.as_bytes()).unwrap();
            file
        };
        let (old, new) = (file(&"o".repeat(32)), file(&"n".repeat(40)));
        let settings = |key: &tempfile::NamedTempFile, old: Option<&tempfile::NamedTempFile>| TicketsConfig {
            key_file: key.path().to_owned(),
            old_key_file: old.map(|old| old.path().to_owned()).unwrap_or_default(),
        };
        let (policy, demo) = (policy(&TAGS), named::<HelplineId>("demo"));
        let before = Tickets::of(&settings(&old, None)).unwrap();
        let sealed = before.ticket(&demo, &policy, &restore(&policy));

        let between = Tickets::of(&settings(&new, Some(&old))).unwrap();
        assert!(between.open_ticket(&demo, &sealed).is_some());
        let newer = between.ticket(&demo, &policy, &restore(&policy));
        let after = Tickets::of(&settings(&new, None)).unwrap();
        assert!(after.open_ticket(&demo, &newer).is_some() && after.open_ticket(&demo, &sealed).is_none());

        let short = file("too short");
        assert!(matches!(Tickets::of(&settings(&short, None)), Err(TicketKeyError::Short("key_file"))));
        let only_old = TicketsConfig { key_file: std::path::PathBuf::new(), ..settings(&new, Some(&old)) };
        assert!(matches!(Tickets::of(&only_old), Err(TicketKeyError::OnlyOld)));
    }
}
