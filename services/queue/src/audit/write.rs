//! Writes a piece of an audit: what events come to, chained to the head.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_domain::{
    ChatId, Event, EventKind, HelplineId,
    audit::{Actor, decided_by},
};

use super::{Entry, Hash, Seals, entry::Draft};
use crate::{
    events::cursor_text,
    store::{
        Cursor, Placed,
        audit::{Head, Piece},
    },
};

/// A name says nothing and is drawn once.
const NAME_BYTES: usize = 12;
/// Whoever writes about the audit itself.
const ITSELF: &str = "audit";

/// A piece while it is written.
pub(super) struct Writer<'a> {
    helpline: &'a HelplineId,
    number: u64,
    previous: Hash,
    cursor: Cursor,
    entries: Vec<Entry>,
    /// Names that chats had.
    known: BTreeMap<ChatId, String>,
    /// Names that chats have from now on.
    named: BTreeMap<ChatId, String>,
    unnamed: Vec<ChatId>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(helpline: &'a HelplineId, head: &Head, known: BTreeMap<ChatId, String>) -> Self {
        Self {
            helpline,
            number: head.number,
            previous: head.hash,
            cursor: head.cursor.clone(),
            entries: Vec::new(),
            known,
            named: BTreeMap::new(),
            unnamed: Vec::new(),
        }
    }

    /// The first entry says from which event on there are any.
    pub(super) fn begin(&mut self, first: Option<&Placed>, now_ms: u64) {
        if self.number > 0 {
            return;
        }
        let draft = self.draft(first.map_or(now_ms, |placed| placed.event.at_ms), "begins", ITSELF);
        let before = first.map(|placed| cursor_text(&placed.cursor));
        self.put(draft.add("before", before));
    }

    /// What was there is not there any more, or not as it was.
    pub(super) fn rewound(&mut self, (number, hash): (u64, Hash), now_ms: u64) {
        let draft = self.draft(now_ms, "rewound", ITSELF);
        self.put(draft.add("seen", Some(format_args!("{number}.{hash}"))));
    }

    /// What is before that number goes.
    pub(super) fn trimmed(&mut self, first: u64, now_ms: u64) {
        let draft = self.draft(now_ms, "trimmed", ITSELF);
        self.put(draft.add("first", Some(first)));
    }

    /// One event: an entry if somebody decided it, and one before it where events are missing.
    pub(super) fn event(&mut self, placed: &Placed) -> Result<(), getrandom::Error> {
        if self.cursor != Cursor::default() && !follows(&self.cursor, &placed.cursor) {
            let draft = self.draft(placed.event.at_ms, "gap", ITSELF);
            let (after, before) = (cursor_text(&self.cursor), cursor_text(&placed.cursor));
            self.put(draft.add("after", Some(after)).add("before", Some(before)));
        }
        self.cursor = placed.cursor.clone();
        let event = &placed.event;
        if let Some(actor) = decided_by(event) {
            let name = event.chat.as_ref().map(|chat| self.name_of(chat)).transpose()?;
            let draft = self.draft(event.at_ms, event.kind.word(), &actor_text(&actor));
            self.put(about(draft, event, name));
        }
        if matches!(event.kind, EventKind::Erased | EventKind::Forgotten) {
            event.chat.iter().for_each(|chat| self.forget(chat));
        }
        Ok(())
    }

    /// Whose name it is is forgotten.
    pub(super) fn forget(&mut self, chat: &ChatId) {
        self.known.remove(chat);
        self.named.remove(chat);
        self.unnamed.push(chat.clone());
    }

    /// The piece, sealed at its end.
    pub(super) fn done(mut self, first: u64, seals: &Seals) -> Piece {
        if let Some(last) = self.entries.last_mut() {
            last.seal = seals.seal(self.previous);
        }
        Piece {
            entries: self.entries,
            hash: self.previous,
            first,
            cursor: self.cursor,
            names: self.named.into_iter().collect(),
            unnamed: self.unnamed,
        }
    }

    fn name_of(&mut self, chat: &ChatId) -> Result<String, getrandom::Error> {
        if let Some(name) = self.named.get(chat) {
            return Ok(name.clone());
        }
        let name = match self.known.get(chat) {
            Some(name) => name.clone(),
            None => drawn()?,
        };
        self.named.insert(chat.clone(), name.clone());
        Ok(name)
    }

    fn draft(&self, at_ms: u64, act: &str, actor: &str) -> Draft {
        Draft::new(self.helpline.as_str(), self.number + 1, at_ms, act, actor)
    }

    fn put(&mut self, draft: Draft) {
        let entry = draft.after(self.previous);
        self.previous = entry.hash();
        self.number += 1;
        self.entries.push(entry);
    }
}

/// Events are numbered without gaps, so one that is missing shows.
fn follows(one: &Cursor, other: &Cursor) -> bool {
    one.generation == other.generation && one.sequence + 1 == other.sequence
}

fn drawn() -> Result<String, getrandom::Error> {
    let mut name = [0; NAME_BYTES];
    getrandom::fill(&mut name)?;
    Ok(URL_SAFE_NO_PAD.encode(name))
}

fn actor_text(actor: &Actor) -> String {
    match actor {
        Actor::Responder(id) => format!("responder:{id}"),
        Actor::Supervisor(id) => format!("supervisor:{id}"),
        Actor::Operator(id) => format!("operator:{id}"),
        Actor::Visitor => "visitor".to_owned(),
        Actor::Settings => "settings".to_owned(),
    }
}

fn about(draft: Draft, event: &Event, name: Option<String>) -> Draft {
    draft
        .add("chat", name)
        .add("responder", event.responder.as_ref())
        .add("urgency", event.urgency.map(|urgency| urgency.word()))
        .add("outcome", event.outcome.map(|outcome| outcome.word()))
        .add("reason", event.reason.map(|reason| reason.word()))
        .add("status", event.status.map(|status| status.word()))
        .add("until_ms", event.until_ms)
        .add("offer", event.offer)
        .add("detail", event.number)
        .add("block", event.block.as_ref())
        .add("policy", Some(event.revision))
        .add("event", Some(format_args!("{}.{}", event.term, event.sequence)))
}
