//! Audits in Redis: a head and a stream for each helpline, and the names of its chats.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use holdfast_domain::{ChatId, HelplineId};

use super::commit::Call;
use super::{Arguments, RedisStore, decode, store_error};
use crate::audit::{Entry, Hash};
use crate::events::{self, cursor_text};
use crate::store::audit::{Audits, Head, NAME_KEPT, Piece};
use crate::store::{Cursor, StoreError, keys};

impl RedisStore {
    async fn read_head(&self, helpline: &HelplineId) -> Result<Head, StoreError> {
        let mut fields = redis::cmd("HMGET");
        fields.arg(keys::audit_head(helpline)).arg(&["number", "hash", "cursor", "first"]);
        let [number, hash, cursor, first]: [Option<String>; 4] = self.query(&fields).await?;
        let mut line = redis::cmd("HMGET");
        line.arg(keys::line(helpline)).arg(&["generation", "events", "now"]);
        let [generation, reached, now]: [Option<String>; 3] = self.query(&line).await?;
        let hash = hash.map(|hash| Hash::parse(&hash).ok_or_else(|| decode::garbled("no hash of an audit")));
        let cursor = cursor.as_deref().map_or(Ok(Cursor::default()), |text| events::cursor("cursor", text));
        Ok(Head {
            number: whole(number)?,
            hash: hash.transpose()?.unwrap_or_default(),
            first: whole(first)?,
            cursor: cursor.map_err(|_| decode::garbled("no cursor of an audit"))?,
            generation: generation.unwrap_or_default(),
            reached: whole(reached)?,
            now_ms: whole(now)?,
        })
    }

    async fn append_piece(&self, helpline: &HelplineId, head: &Head, piece: &Piece) -> Result<bool, StoreError> {
        let mut args = Arguments::default();
        let was_cursor = if head.cursor == Cursor::default() { String::new() } else { cursor_text(&head.cursor) };
        args.number(head.number).text(&head.hash.to_string()).text(&was_cursor);
        args.text(&piece.hash.to_string()).number(piece.first).text(&cursor_text(&piece.cursor));
        args.number(u64::try_from(NAME_KEPT.as_millis()).unwrap_or(u64::MAX));
        for count in [piece.entries.len(), piece.names.len(), piece.unnamed.len()] {
            args.number(count as u64);
        }
        for entry in &piece.entries {
            args.text(&entry.text).text(&URL_SAFE_NO_PAD.encode(&entry.seal));
        }
        for (chat, name) in &piece.names {
            args.text(chat.as_str()).text(name);
        }
        for chat in &piece.unnamed {
            args.text(chat.as_str());
        }
        let (key, script) = (keys::line(helpline), Arc::clone(self.scripts.append_audit()));
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.hash()).arg(1).arg(&key).arg(args.0);
        let waits = self.replicas_required > 0;
        let (answer, _) = self.connection.call(&key, Call { cmd, script: Some(script) }, waits).await?;
        let done: u64 = redis::from_redis_value(answer.value).map_err(decode::garbled)?;
        Ok(done == 1)
    }

    async fn read_entries(
        &self,
        helpline: &HelplineId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut range = redis::cmd("XRANGE");
        range.arg(keys::audit_entries(helpline)).arg(format!("({after}-0")).arg("+").arg("COUNT").arg(limit);
        let found: Vec<(String, Vec<String>)> = self.query(&range).await?;
        Ok(found.into_iter().map(|(_, fields)| entry(fields)).collect())
    }

    async fn read_names(
        &self,
        helpline: &HelplineId,
        chats: &[ChatId],
    ) -> Result<Vec<Option<String>>, StoreError> {
        if chats.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for chat in chats {
            pipeline.cmd("GET").arg(keys::audit_name(helpline, chat));
        }
        pipeline.query_async(&mut self.connection.clone()).await.map_err(store_error)
    }
}

fn whole(text: Option<String>) -> Result<u64, StoreError> {
    text.map_or(Ok(0), |text| text.parse().map_err(|_| decode::garbled("no number of an audit")))
}

/// As it lies there, whatever it says: what is wrong with it is for whoever verifies.
fn entry(fields: Vec<String>) -> Entry {
    let mut fields = fields.into_iter();
    let mut entry = Entry { text: String::new(), seal: Vec::new() };
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        match field.as_str() {
            "e" => entry.text = value,
            "s" => entry.seal = URL_SAFE_NO_PAD.decode(&value).unwrap_or_else(|_| value.into_bytes()),
            _ => {}
        }
    }
    entry
}

impl Audits for RedisStore {
    fn head<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Head, StoreError>> {
        Box::pin(self.read_head(helpline))
    }

    fn append<'a>(
        &'a self,
        helpline: &'a HelplineId,
        head: &'a Head,
        piece: &'a Piece,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.append_piece(helpline, head, piece))
    }

    fn entries<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        Box::pin(self.read_entries(helpline, after, limit))
    }

    fn names<'a>(
        &'a self,
        helpline: &'a HelplineId,
        chats: &'a [ChatId],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>> {
        Box::pin(self.read_names(helpline, chats))
    }
}
