//! What everybody in the world saw, each by themselves and on one monotonic clock: the only thing that the checker
//! reads. One record is one line of JSON. Tokens, and what anybody says, are in none of them.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// What the world is like; the first line.
    World(World),
    /// Somebody asked for something, and what came of it.
    Op(Op),
    /// Somebody was told something, or did something without asking.
    Told(Told),
    /// An event of the line.
    Event(Event),
    /// Something was broken, and mended.
    Fault(Fault),
    /// Where every chat is, as the line itself counts.
    Floor(Floor),
    /// The machine did not let this program run for a while.
    Stall(Stall),
}

/// What the world is like: the numbers that the checker holds the line to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct World {
    /// Reproduces the schedule of faults and what people do.
    pub seed: u64,
    /// Load that each responder carries.
    pub capacity: u32,
    /// Head starts of LOW to HIGH, in milliseconds.
    pub head_start_ms: [u64; 3],
    /// One more for who comes back from hands.
    pub return_head_start_ms: u64,
    /// Who declined or missed a chat is passed over for so long.
    pub back_off_ms: u64,
    /// An IMMINENT chat is offered to so many at once.
    pub fan_out: usize,
    /// Silence for so long ends a responder's presence.
    pub lease_ms: u64,
    /// A broken stream does, after so long.
    pub grace_ms: u64,
    /// A visitor is away after so much silence.
    pub away_after_ms: u64,
    /// And given up after so much more.
    pub abandon_after_ms: u64,
    /// After the store was lost, whoever comes back is offered to nobody for so long.
    #[serde(default)]
    pub recovery_hold_ms: u64,
    /// Classes of faults that must have fired.
    pub classes: Vec<String>,
    /// Responders.
    pub responders: Vec<String>,
}

/// What became of an operation, as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Came {
    /// It was done.
    Ok,
    /// It was refused: it was not done, and will not be.
    Fail,
    /// Nobody can say.
    #[default]
    Unknown,
}

/// What makes a stale owner harmless. Ordered by the number that rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence {
    /// Rises with each assignment of a chat.
    pub epoch: u64,
    /// Which node minted it.
    pub minted_by: u32,
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Op {
    /// Who.
    pub client: String,
    /// What: request, leave, look, sign_in, heartbeat, accept, decline, engage, close, transfer, ready, poison.
    pub op: String,
    /// Milliseconds at which it was sent.
    pub invoked_ms: u64,
    /// And at which the answer came, or was given up.
    pub returned_ms: u64,
    /// What became of it.
    pub result: Came,
    /// Why it was refused, or is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// About which chat.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chat: String,
    /// Under which request id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// The fence that was sent or received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// Which offer of the chat.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offer: u32,
    /// How the chat stands, by the answer: waiting, offered, active, ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// And as what it has ended: completed, left, abandoned, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    /// The same request had been accepted before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub replayed: bool,
}

/// What somebody was told over a stream (signed_in, offer, rescinded, assignment, assignment_ended, drain, replaced,
/// update, unknown), or did without asking (stream_open, stream_end, vanished, hung, ignored, deaf, back).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Told {
    /// Who.
    pub client: String,
    /// What.
    pub what: String,
    /// When, in milliseconds.
    pub at_ms: u64,
    /// At which door.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub door: String,
    /// About which chat.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chat: String,
    /// Its fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// Which offer of the chat.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offer: u32,
    /// How the chat stands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// As what it has ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// An event of the line, as an onlooker read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Event {
    /// When the onlooker read it, in milliseconds.
    pub at_ms: u64,
    /// Which store it was: changes when everything was lost.
    pub generation: String,
    /// Counts the events, without gaps within a generation.
    pub sequence: u64,
    /// The service clock, in milliseconds.
    pub clock_ms: u64,
    /// What happened.
    pub kind: String,
    /// To which chat.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chat: String,
    /// To or by which responder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub responder: String,
    /// 0 LOW to 3 IMMINENT.
    #[serde(default)]
    pub urgency: u8,
    /// Which offer of the chat.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offer: u32,
    /// The fence of the assignment that began or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The outcome of a chat that ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A responder's new status.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
}

/// Something was broken, and mended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Fault {
    /// Which kind of fault, such as `kill_queue`.
    pub class: String,
    /// Of what.
    pub target: String,
    /// From when, in milliseconds.
    pub began_ms: u64,
    /// Until when.
    pub healed_ms: u64,
    /// It really happened.
    pub fired: bool,
    /// What else there is to say: why it could not be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Where every chat is, as the line itself counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Floor {
    /// When it was asked, in milliseconds.
    pub at_ms: u64,
    /// Ever accepted.
    pub accepted: u64,
    /// WAITING now.
    pub waiting: u64,
    /// OFFERED now.
    pub offered: u64,
    /// ACTIVE now.
    pub active: u64,
    /// ENDED, all outcomes together.
    pub ended: u64,
    /// What the line says is missing.
    pub difference: i64,
    /// Everything is over: nobody asks any more, and nothing is broken.
    #[serde(default)]
    pub last: bool,
}

/// The machine did not let this program run for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// From when, in milliseconds.
    pub from_ms: u64,
    /// Until when.
    pub to_ms: u64,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Writes the history, and keeps it.
pub struct Recorder {
    began: Instant,
    kept: Mutex<(Vec<Record>, BufWriter<File>)>,
}

impl Recorder {
    /// A history in a file.
    pub fn new(file: &Path) -> Self {
        let file = File::create(file).unwrap_or_else(|e| panic!("{} cannot be written: {e}", file.display()));
        Self { began: Instant::now(), kept: Mutex::new((Vec::new(), BufWriter::new(file))) }
    }

    /// Milliseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).expect("a run of less than ages")
    }

    /// Takes a record down.
    pub fn take(&self, record: Record) {
        let mut kept = self.kept.lock().expect("no panic while writing");
        let line = serde_json::to_string(&record).expect("a record");
        writeln!(kept.1, "{line}").expect("room for the history");
        kept.0.push(record);
    }

    /// An operation that begins now.
    pub fn begins(&self, client: &str, op: &str) -> Op {
        Op { client: client.to_owned(), op: op.to_owned(), invoked_ms: self.now(), ..Op::default() }
    }

    /// What became of it, now.
    pub fn ends(&self, op: Op) {
        self.take(Record::Op(Op { returned_ms: self.now(), ..op }));
    }

    /// What somebody was told or did, now.
    pub fn told(&self, told: Told) {
        self.take(Record::Told(Told { at_ms: self.now(), ..told }));
    }

    /// So many records.
    pub fn len(&self) -> usize {
        self.kept.lock().expect("no panic while writing").0.len()
    }

    /// Whether nothing was taken down yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was taken down since so many records.
    pub fn since<T>(&self, from: usize, pick: impl FnMut(&Record) -> Option<T>) -> Vec<T> {
        self.kept.lock().expect("no panic while writing").0.iter().skip(from).filter_map(pick).collect()
    }

    /// Everything, and the file is whole.
    pub fn finish(&self) -> Vec<Record> {
        let mut kept = self.kept.lock().expect("no panic while writing");
        kept.1.flush().expect("room for the history");
        kept.0.clone()
    }
}

/// Reads a history again.
pub fn read(file: &Path) -> Vec<Record> {
    let lines = BufReader::new(File::open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))).lines();
    lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("a record")).collect()
}
