//! Everything that is left of people when they are gone, and a look at it.

use super::canaries::{Canaries, STAFF};
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_proto::v1::{ReadAuditRequest, WatchEventsRequest};
use holdfast_queue::audit::Entry;
use holdfast_tests::processes::{HELPLINE, PATIENCE, connect};
use holdfast_tests::redis_server::RedisServer;
use redis::aio::MultiplexedConnection;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;
use tonic::transport::Channel;

/// A place, and what must be seen there by whoever looks: so that it is known that they looked.
pub struct Place {
    name: String,
    bytes: Vec<u8>,
}

impl Place {
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }

    /// Takes down where it holds a canary; fails where it holds a secret, and where it does not hold what is known to be there.
    pub fn is_clean(&self, canaries: &Canaries, secrets: &[String], known: &str) {
        assert!(holds(&self.bytes, known.as_bytes()), "{} was not looked at: no {known:?} in it", self.name);
        canaries.are_not_in(&self.name, &self.bytes);
        for secret in secrets {
            assert!(!holds(&self.bytes, secret.as_bytes()), "a visitor's token is in {}", self.name);
        }
    }

    /// Fails where it says who of the staff somebody is.
    pub fn names_nobody(&self) {
        assert!(!holds(&self.bytes, STAFF.as_bytes()), "{} names staff", self.name);
    }
}

pub fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted)
}

/// Writes down what a Redis is told, each command with all of its arguments, those of scripts and what is published too.
pub struct Listener(Arc<Mutex<String>>);

impl Listener {
    pub async fn to(redis: &RedisServer) -> Self {
        let client = redis::Client::open(redis.url()).expect("an address");
        let mut told = client.get_async_monitor().await.expect("a connection").into_on_message::<String>();
        let notes = Arc::new(Mutex::new(String::new()));
        let to = Arc::clone(&notes);
        tokio::spawn(async move {
            while let Some(command) = told.next().await {
                let mut notes = to.lock().expect("no panic");
                notes.push_str(&command);
                notes.push('\n');
            }
        });
        Self(notes)
    }

    /// All that came before now, but for names in the form of an id: whatever somebody asks for is looked up by its name.
    pub async fn notes(&self, redis: &RedisServer) -> Place {
        let mut store = redis.connection().await;
        redis::cmd("ECHO").arg("so far").query_async::<()>(&mut store).await.expect("an echo");
        let heard = async {
            while !self.0.lock().expect("no panic").contains("\"so far\"") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, heard).await.expect("the echo in time");
        Place::new("the commands to Redis", without_ids(&self.0.lock().expect("no panic")))
    }
}

/// Every other kind of canary has more in it than this, and no number of a telephone in a header is without its plus.
fn without_ids(text: &str) -> String {
    let mut parts = text.split("zebedina-");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit());
        rest += if after.len() < part.len() { "ID" } else { "zebedina-" };
        rest += after;
    }
    let plus = rest.replace("+4312349876550", "+PHONE").replace("4312349876550", "ID");
    plus.replace("+PHONE", "+4312349876550")
}

/// Every key with its name and its value, and the files.
pub async fn of_redis(redis: &RedisServer) -> [Place; 2] {
    let mut store = redis.connection().await;
    // Nothing is to hide behind compression.
    let mut plain = redis::cmd("CONFIG");
    plain.arg("SET").arg("rdbcompression").arg("no");
    plain.query_async::<()>(&mut store).await.expect("a setting");
    let mut keys = Vec::new();
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut store).await.expect("its keys");
    for name in names {
        keys.extend(name.as_bytes());
        keys.extend(value(&mut store, &name).await);
        keys.push(b'\n');
    }
    redis::cmd("SAVE").query_async::<()>(&mut store).await.expect("a snapshot");
    [Place::new("a key of Redis", keys), Place::new("the files of Redis", redis.written())]
}

async fn value(store: &mut MultiplexedConnection, name: &str) -> Vec<u8> {
    let kind: String = redis::cmd("TYPE").arg(name).query_async(store).await.expect("its kind");
    let mut command = match kind.as_str() {
        "string" => redis::cmd("GET"),
        "hash" => redis::cmd("HGETALL"),
        "set" => redis::cmd("SMEMBERS"),
        "zset" => redis::cmd("ZRANGE"),
        "list" => redis::cmd("LRANGE"),
        "stream" => redis::cmd("XRANGE"),
        "none" => return Vec::new(), // its time was over
        other => panic!("{name} is a {other}: say here how that is read"),
    };
    command.arg(name);
    match kind.as_str() {
        "zset" | "list" => drop(command.arg(0).arg(-1)),
        "stream" => drop(command.arg("-").arg("+")),
        _ => {}
    }
    flat(&command.query_async(store).await.expect("its value"))
}

/// The bytes of all that an answer holds.
fn flat(value: &redis::Value) -> Vec<u8> {
    match value {
        redis::Value::BulkString(bytes) => [bytes, &b" "[..]].concat(),
        redis::Value::SimpleString(text) => text.clone().into_bytes(),
        redis::Value::Array(values) | redis::Value::Set(values) => values.iter().flat_map(flat).collect(),
        redis::Value::Map(pairs) => pairs.iter().flat_map(|(k, v)| [flat(k), flat(v)].concat()).collect(),
        other => format!("{other:?} ").into_bytes(),
    }
}

/// All events up to one that says `last`, and the audit, as a queue tells them.
pub async fn told_by(queue: &str, last: &str) -> [Place; 2] {
    let mut client = QueueServiceClient::new(connect(queue).await);
    let reading = WatchEventsRequest { helpline: HELPLINE.to_owned(), from_cursor: String::new() };
    let mut stream = client.watch_events(reading).await.expect("events").into_inner();
    let mut events = String::new();
    let reading = async {
        while !events.contains(last) {
            let event = stream.message().await.expect("an event").expect("the stream goes on");
            events += &format!("{event:?}\n");
        }
    };
    timeout(PATIENCE, reading).await.expect("the last event in time");
    let audit = timeout(PATIENCE, audit(&mut client, last)).await.expect("the last entry in time");
    [Place::new("the events", events), Place::new("the audit", audit)]
}

/// What is decided comes into the audit a little later.
async fn audit(client: &mut QueueServiceClient<Channel>, last: &str) -> String {
    let (mut text, mut after) = (String::new(), 0);
    while !text.contains(last) {
        let asking = ReadAuditRequest { helpline: HELPLINE.to_owned(), after, limit: 100 };
        let page = client.read_audit(asking).await.expect("the audit").into_inner().entries;
        if page.is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
        for entry in page {
            text += &format!("{entry:?}\n");
            after = Entry { text: entry.text, seal: entry.seal }.number().unwrap_or(after);
        }
    }
    text
}
