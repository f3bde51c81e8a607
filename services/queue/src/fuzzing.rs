//! Every decoder of this service at a door of its own, for the fuzz tests: whatever the bytes are, nothing panics, and
//! what is understood reads back. Each tells whether the bytes meant anything.

use std::collections::BTreeMap;

use holdfast_domain::{ChatId, HelplineId, Policy, Reassert, Restore};
use holdfast_proto::v1;
use prost::Message;

use crate::{
    ContentError,
    content::{Content, Field, Of},
    convert::{self, Door},
    events,
    tickets::{Assigned, Held, Tickets, said},
};

/// A moment in 2027.
const WALL_MS: u64 = 1_800_000_000_000;

/// A command as intake and dispatch send it, made whole by a policy.
#[must_use]
pub fn command(bytes: &[u8], policy: &Policy) -> bool {
    let Ok(wire) = v1::Command::decode(bytes) else {
        return false;
    };
    let Ok(asked) = convert::asked(Some(wire), "") else {
        return false;
    };
    let _door = asked.door(policy, WALL_MS);
    asked.command(policy, Door::Open).is_ok()
}

/// A policy as it is sent to be put in force.
#[must_use]
pub fn put_policy(bytes: &[u8]) -> bool {
    v1::PutPolicyRequest::decode(bytes).is_ok_and(|request| convert::put_policy(&request).is_ok())
}

/// A cursor of an event stream; `None` when it is none, else what it is written as.
#[must_use]
pub fn cursor(text: &str) -> Option<String> {
    events::cursor("cursor", text).ok().map(|cursor| events::cursor_text(&cursor))
}

/// A traceparent header: what is kept of it.
#[must_use]
pub fn traceparent(text: &str) -> &str {
    convert::traceparent(text)
}

/// A stored record by its kind: `chat`, `responder`, `block` or `line`.
#[must_use]
pub fn record(kind: &str, fields: BTreeMap<String, Vec<u8>>) -> bool {
    crate::store::redis::reads_record(kind, fields)
}

/// What a node publishes.
#[must_use]
pub fn notice(payload: &str) -> bool {
    crate::store::redis::reads_notice(payload)
}

/// Tickets and sealed assignments of one helpline, under a key of their own.
#[derive(Debug)]
pub struct Papers {
    tickets: Tickets,
    helpline: HelplineId,
    policy: Policy,
}

impl Papers {
    /// Of this helpline, under this policy.
    #[must_use]
    pub fn new(helpline: HelplineId, policy: Policy) -> Self {
        Self { tickets: Tickets::made_up(), helpline, policy }
    }

    /// What the ticket and the sealed assignment of a chat say, before they are sealed.
    #[must_use]
    pub fn said(&self, reassert: &Reassert) -> [Vec<u8>; 2] {
        [said::ticket(&self.policy, &reassert.restore), said::assignment(&self.policy, reassert)]
    }

    /// The ticket and the sealed assignment of a chat.
    #[must_use]
    pub fn sealed(&self, reassert: &Reassert) -> [Vec<u8>; 2] {
        let ticket = self.tickets.ticket(&self.helpline, &self.policy, &reassert.restore);
        [ticket, self.tickets.assignment(&self.helpline, &self.policy, reassert)]
    }

    /// What a ticket says once it is open.
    #[must_use]
    pub fn read_ticket(&self, said: &[u8]) -> Option<Restore> {
        said::read_ticket(said).map(|held| held.under(&self.policy))
    }

    /// What a sealed assignment says once it is open.
    #[must_use]
    pub fn read_assignment(&self, said: &[u8]) -> Option<Reassert> {
        said::read_assignment(said).map(|assigned| self.claimed(&assigned))
    }

    /// What a ticket says.
    #[must_use]
    pub fn open_ticket(&self, sealed: &[u8]) -> Option<Restore> {
        let held: Option<Held> = self.tickets.open_ticket(&self.helpline, sealed);
        held.map(|held| held.under(&self.policy))
    }

    /// What a sealed assignment says.
    #[must_use]
    pub fn open_assignment(&self, sealed: &[u8]) -> Option<Reassert> {
        self.tickets.open_assignment(&self.helpline, sealed).map(|assigned| self.claimed(&assigned))
    }

    fn claimed(&self, assigned: &Assigned) -> Reassert {
        Reassert {
            responder: assigned.responder.clone(),
            session: 0,
            offer: assigned.offer,
            fence: assigned.fence,
            reply_handoff: assigned.reply_handoff.clone(),
            restore: assigned.held.under(&self.policy),
        }
    }
}

/// Envelopes of one chat's handoff, under a key of their own.
pub struct Envelopes {
    content: Content,
    helpline: HelplineId,
    chat: ChatId,
}

impl Envelopes {
    /// Of this chat of this helpline.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(helpline: HelplineId, chat: ChatId) -> Result<Self, ContentError> {
        Ok(Self { content: Content::sealed_for_tests()?, helpline, chat })
    }

    fn at<'a>(&'a self, helpline: &'a HelplineId) -> Of<'a> {
        Of { helpline, chat: &self.chat, field: Field::Handoff }
    }

    /// Content as the store keeps it.
    pub async fn seal(&self, content: &[u8]) -> Vec<u8> {
        self.content.seal(self.at(&self.helpline), content.to_vec()).await
    }

    /// Content from the store; none where there is none, or it cannot be read.
    pub async fn open(&self, kept: &[u8]) -> Option<Vec<u8>> {
        self.open_at(&self.helpline, kept).await
    }

    /// The same at another helpline.
    pub async fn open_at(&self, helpline: &HelplineId, kept: &[u8]) -> Option<Vec<u8>> {
        let opened = self.content.open(self.at(helpline), kept).await;
        (!kept.is_empty() && !opened.lost).then_some(opened.bytes)
    }

    /// Content from the store, for the store of another helpline.
    pub async fn rewrap(&self, to: &HelplineId, kept: &[u8]) -> Vec<u8> {
        self.content.rewrap(self.at(&self.helpline), to, kept).await
    }
}
