//! Reads what [`census`](crate::store::census) judges: every key of every primary, content aside. It needs a user who may
//! look at all that is ours and change nothing: `holdfast-census` in deploy/redis/users.conf.

use super::cluster;
use super::connection::{dials, way};
use super::decode::{self, Fields};
use super::dial::Dial;
use super::primary::Way;
use super::{RedisSettings, store_error};
use crate::store::StoreError;
use crate::store::census::{BlockFacts, Census, ChatFacts, Kept, ResponderFacts, Unowned};
use crate::store::schema::{Key, kind_of};
use holdfast_domain::Policy;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

/// Parts of the patterns of keys that expire by themselves.
const EXPIRE: [&str; 2] = [":canary", ":audit:name:"];

/// Keys that are read at a time.
const PAGE: usize = 500;
/// How long something that was found may be on its way.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// What the fields of a chat are read for; how long content is, and not what it is.
const CHAT: [&str; 11] =
    ["state", "outcome", "arrival", "ended_at", "key", "lane", "offers", "owner", "attested", "erased", "failing"];

/// Looks at everything; twice, where the first look found something, and then what both looks found counts.
///
/// # Errors
/// When the store cannot be reached, or does not let everything be read.
pub async fn take(settings: &RedisSettings) -> Result<(Census, Vec<Unowned>), StoreError> {
    let census = look(settings).await?;
    let first = census.unowned();
    if first.is_empty() {
        return Ok((census, Vec::new()));
    }
    sleep(LOOK_AGAIN_AFTER).await;
    let census = look(settings).await?;
    let both = census.unowned().intersection(&first).cloned().collect();
    Ok((census, both))
}

async fn look(settings: &RedisSettings) -> Result<Census, StoreError> {
    let mut census = Census::default();
    for mut connection in primaries(settings).await? {
        let mut cursor = 0u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            let scan = scan.arg(cursor).arg("COUNT").arg(PAGE);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await.map_err(store_error)?;
            read(&mut connection, &mut census, keys).await?;
            cursor = next;
            if next == 0 {
                break;
            }
        }
    }
    Ok(census)
}

async fn primaries(settings: &RedisSettings) -> Result<Vec<MultiplexedConnection>, StoreError> {
    let dials = dials(&settings.urls, settings.password.as_deref(), settings)?;
    let found: Vec<Dial> = if settings.cluster {
        cluster::primaries(dials).await
    } else {
        let first = dials.into_iter().next().ok_or_else(|| StoreError::Unreachable("no address".to_owned()))?;
        match way(settings, first)? {
            Way::Fixed(dial) => vec![dial],
            Way::Sentinels(mut sentinels) => sentinels.candidates().await.into_iter().take(1).collect(),
        }
    };
    if found.is_empty() {
        return Err(StoreError::Unreachable("no primary is known".to_owned()));
    }
    let mut connections = Vec::with_capacity(found.len());
    for dial in found {
        connections.push(dial.connect_to_primary().await?);
    }
    Ok(connections)
}

async fn read(
    connection: &mut MultiplexedConnection,
    census: &mut Census,
    keys: Vec<String>,
) -> Result<(), StoreError> {
    let mut asked = redis::pipe();
    for key in &keys {
        asked.cmd("TYPE").arg(key).cmd("PTTL").arg(key);
    }
    let types: Vec<(String, i64)> = ask_all(connection, &asked).await?;
    for (key, (of_type, expires)) in keys.into_iter().zip(types) {
        if of_type == "none" {
            continue;
        }
        let strange = |why| Unowned { what: key.clone(), why };
        match kind_of(&key) {
            None => drop(census.strange.insert(strange("is no key of ours"))),
            Some(kind) if kind.of_type != of_type => drop(census.strange.insert(strange("is of another type"))),
            Some(kind) => {
                *census.keys.entry(kind.pattern).or_default() += 1;
                if EXPIRE.iter().any(|part| kind.pattern.contains(part)) {
                    if expires < 0 {
                        census.strange.insert(strange("has no expiry"));
                    }
                } else if let Some((helpline, name)) = of_helpline(&key) {
                    let kept = census.helplines.entry(helpline.to_owned()).or_default();
                    read_key(connection, kept, kind, &key, name).await?;
                }
            }
        }
    }
    Ok(())
}

/// The helpline of a key, and what it is called there.
fn of_helpline(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("hf:{")?.split_once("}:")
}

/// A pipeline whose answers are read in pairs.
async fn ask_all<A: FromRedisValue, B: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    asked: &Pipeline,
) -> Result<Vec<(A, B)>, StoreError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let answers: Vec<redis::Value> = asked.query_async(connection).await.map_err(store_error)?;
    let mut answers = answers.into_iter();
    let mut pairs = Vec::with_capacity(answers.len() / 2);
    while let (Some(a), Some(b)) = (answers.next(), answers.next()) {
        let a = redis::from_redis_value(a).map_err(decode::garbled)?;
        pairs.push((a, redis::from_redis_value(b).map_err(decode::garbled)?));
    }
    Ok(pairs)
}

async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> Result<T, StoreError> {
    let mut cmd = redis::cmd(words.first().copied().unwrap_or_default());
    cmd.arg(words.get(1..).unwrap_or_default()).query_async(connection).await.map_err(store_error)
}

async fn read_key(
    connection: &mut MultiplexedConnection,
    kept: &mut Kept,
    kind: &Key,
    key: &str,
    name: &str,
) -> Result<(), StoreError> {
    let (word, id) = name.split_once(':').unwrap_or((name, ""));
    let id = id.to_owned();
    match word {
        "chat" => {
            if let Some(chat) = chat(connection, key).await? {
                kept.chats.insert(id, chat);
            }
        }
        "responder" => {
            if let Some(responder) = responder(connection, key).await? {
                kept.responders.insert(id, responder);
            }
        }
        "block" => drop(kept.block_facts.insert(id.clone(), block(connection, key, &id).await?)),
        "blocks" => kept.blocks = members(connection, key).await?,
        "proposed" => kept.proposed = members(connection, key).await?,
        "blocked" => kept.blocked = ask(connection, &["HLEN", key]).await?,
        "request" => {
            let made: Option<String> = ask(connection, &["GET", key]).await?;
            kept.requests.extend(made.map(|chat| (id, chat)));
        }
        "line" => {
            let now: Option<u64> = ask(connection, &["HGET", key, "now"]).await?;
            kept.now_ms = now.unwrap_or_default();
        }
        "policy" => {
            let document: Option<String> = ask(connection, &["GET", key]).await?;
            let policy = document.and_then(|document| Policy::from_toml(&document).ok());
            kept.keep_events_ms = policy.unwrap_or_default().numbers.keep_events_ms;
        }
        "policies" => kept.policies = ask(connection, &["HLEN", key]).await?,
        "events" => {
            kept.events = ask(connection, &["XLEN", key]).await?;
            let oldest: Vec<(String, Vec<String>)> =
                ask(connection, &["XRANGE", key, "-", "+", "COUNT", "1"]).await?;
            let told = oldest.first().and_then(|(_, event)| event.get(1)).and_then(|event| told_ms(event));
            kept.oldest_event_ms = told.unwrap_or_default();
        }
        "timers" => {
            let timers: Vec<(String, f64)> = ask(connection, &["ZRANGE", key, "0", "-1", "WITHSCORES"]).await?;
            kept.timers = timers.into_iter().map(|(name, at)| (name, decode::whole(at))).collect();
        }
        "lane" => drop(kept.lanes.insert(id, members(connection, key).await?)),
        "class" => drop(kept.classes.insert(id, members(connection, key).await?)),
        "lanes" => kept.lane_heads = members(connection, key).await?,
        "classes" => kept.class_heads = members(connection, key).await?,
        "waiting" => kept.waiting = members(connection, key).await?,
        "idle" => kept.idle = members(connection, key).await?,
        "failing" => kept.failing = members(connection, key).await?,
        "here" => kept.here = ask(connection, &["SMEMBERS", key]).await?,
        // As long as settings of the queues say, which nobody can read here: the clerk sees to it with each entry.
        "audit" => {}
        _ => return Err(StoreError::Garbled(format!("nobody looks at {}", kind.pattern))),
    }
    Ok(())
}

async fn members<T: FromRedisValue>(connection: &mut MultiplexedConnection, key: &str) -> Result<T, StoreError> {
    ask(connection, &["ZRANGE", key, "0", "-1"]).await
}

fn told_ms(event: &str) -> Option<u64> {
    event.split(' ').find_map(|word| word.strip_prefix("a="))?.parse().ok()
}

async fn chat(connection: &mut MultiplexedConnection, key: &str) -> Result<Option<ChatFacts>, StoreError> {
    let mut asked = redis::pipe();
    asked.cmd("HMGET").arg(key).arg(&CHAT).cmd("HSTRLEN").arg(key).arg("handoff");
    asked.cmd("HSTRLEN").arg(key).arg("reply");
    type Read = (Vec<Option<Vec<u8>>>, u64, u64);
    let (values, handoff, reply): Read = asked.query_async(connection).await.map_err(store_error)?;
    let fields = named(&CHAT, values);
    let state = fields.text("state")?.to_owned();
    if state.is_empty() {
        return Ok(None);
    }
    let numbers = fields.text("offers")?.split(',').filter_map(|offer| offer.split('@').next());
    Ok(Some(ChatFacts {
        state,
        outcome: fields.text("outcome")?.to_owned(),
        arrival_ms: fields.number("arrival")?,
        ended_ms: fields.number("ended_at")?,
        request: fields.text("key")?.to_owned(),
        lane: fields.text("lane")?.to_owned(),
        offers: numbers.filter(|number| !number.is_empty()).map(str::to_owned).collect(),
        owner: fields.text("owner")?.to_owned(),
        is_attested: fields.number("attested")? > 0,
        is_erased: fields.number("erased")? > 0,
        is_failing: fields.number("failing")? > 0,
        has_handoff: handoff > 0,
        has_reply: reply > 0,
    }))
}

async fn block(connection: &mut MultiplexedConnection, key: &str, id: &str) -> Result<BlockFacts, StoreError> {
    const READ: [&str; 3] = ["whom", "chat", "confirmed_by"];
    let mut asked = redis::cmd("HMGET");
    let values = asked.arg(key).arg(&READ).query_async(connection).await.map_err(store_error)?;
    let fields = named(&READ, values);
    let all = key.strip_suffix(&format!("block:{id}")).unwrap_or_default();
    let theirs: Option<String> =
        ask(connection, &["HGET", &format!("{all}blocked"), fields.text("whom")?]).await?;
    Ok(BlockFacts {
        is_theirs: theirs.as_deref() == Some(id),
        chat: fields.text("chat")?.to_owned(),
        is_confirmed: !fields.text("confirmed_by")?.is_empty(),
    })
}

async fn responder(
    connection: &mut MultiplexedConnection,
    key: &str,
) -> Result<Option<ResponderFacts>, StoreError> {
    const READ: [&str; 4] = ["status", "left", "holdings", "class"];
    let mut asked = redis::cmd("HMGET");
    let values = asked.arg(key).arg(&READ).query_async(connection).await.map_err(store_error)?;
    let fields = named(&READ, values);
    let status = fields.text("status")?.to_owned();
    if status.is_empty() {
        return Ok(None);
    }
    let holding = |text: &str| {
        let mut parts = text.split('@');
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    Ok(Some(ResponderFacts {
        status,
        left_ms: fields.number("left")?,
        holdings: fields.text("holdings")?.split(',').filter_map(holding).collect(),
        class: fields.text("class")?.to_owned(),
    }))
}

fn named(names: &[&str], values: Vec<Option<Vec<u8>>>) -> Fields {
    let pairs = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
    Fields(pairs.collect::<BTreeMap<_, _>>())
}
