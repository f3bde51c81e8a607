//! A row of the table: one bad input, every way in which it is sent, and how it must be refused.

use holdfast_domain::limits::MAX_TICKET_BYTES;
use holdfast_proto::v1;
use prost::Message;
use prost::bytes::Bytes;
use std::fmt;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// One bad input.
pub struct Row {
    pub name: String,
    pub ways: Vec<Way>,
    pub expected: Refusal,
}

/// One way to send it.
#[derive(Clone)]
pub struct Way {
    /// Such as `QueueService/GetFloor`.
    pub rpc: &'static str,
    pub sent: Sent,
}

#[derive(Clone)]
pub enum Sent {
    /// One message; a stream of requests stays open behind it.
    Message(Bytes),
    /// An action in the open session of [`crate::world::ANA`].
    InSession(v1::SessionRequest),
    /// A message on the open stream of an attached replica.
    Attached(Box<v1::AttachRequest>),
}

/// How it is refused: the code, and what its details name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// Of ErrorInfo.
    pub reason: String,
    /// Of BadRequest.
    pub field: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} at {:?}", self.code, self.reason, self.field)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let violation = details.bad_request().and_then(|b| b.field_violations.first());
        Self {
            code: status.code(),
            reason: details.error_info().map(|i| i.reason.clone()).unwrap_or_default(),
            field: violation.map(|v| v.field.clone()).unwrap_or_default(),
        }
    }
}

impl From<v1::ActionResult> for Refusal {
    fn from(result: v1::ActionResult) -> Self {
        Self { code: Code::from(result.code), reason: result.reason, field: result.field }
    }
}

impl From<v1::CommandError> for Refusal {
    fn from(error: v1::CommandError) -> Self {
        Self { code: Code::from(error.code), reason: error.reason, field: error.field }
    }
}

/// A bad input and the ways to send it; what is expected follows with [`Bad::field`] or [`Bad::refused`].
pub struct Bad {
    name: String,
    ways: Vec<Way>,
}

/// Begins a row.
pub fn bad(name: impl Into<String>, ways: impl Into<Vec<Way>>) -> Bad {
    Bad { name: name.into(), ways: ways.into() }
}

impl Bad {
    /// The path of the one field that is wrong.
    pub fn field(self, path: impl Into<String>) -> Row {
        self.refused_at(Code::InvalidArgument, "INVALID_FIELD", path)
    }

    /// Refused for a reason that is no field's.
    pub fn refused(self, code: Code, reason: &str) -> Row {
        self.refused_at(code, reason, "")
    }

    /// Refused for a reason, with the field.
    pub fn refused_at(self, code: Code, reason: &str, path: impl Into<String>) -> Row {
        let expected = Refusal { code, reason: reason.to_owned(), field: path.into() };
        Row { name: self.name, ways: self.ways, expected }
    }

    /// Refused before any service looks at it: it is not a message of the contract.
    pub fn unreadable(self) -> Row {
        self.refused_at(Code::InvalidArgument, "INVALID_FIELD", "request")
    }
}

/// A message to one RPC.
pub fn to(rpc: &'static str, message: impl Message) -> [Way; 1] {
    bytes_to(rpc, message.encode_to_vec())
}

/// Bytes to one RPC, whatever they are.
pub fn bytes_to(rpc: &'static str, bytes: impl Into<Bytes>) -> [Way; 1] {
    [Way { rpc, sent: Sent::Message(bytes.into()) }]
}

/// A duration in all its possible and impossible forms.
pub fn duration(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

/// Durations that none can be: negative, too long, out of form.
pub fn bad_durations() -> Vec<(&'static str, Option<prost_types::Duration>)> {
    vec![
        ("negative", duration(-1, 0)),
        ("negative by nanoseconds", duration(0, -1_000_000)),
        ("the smallest number", duration(i64::MIN, i32::MIN)),
        ("longer than 30 days", duration(30 * 24 * 3600 + 1, 0)),
        ("the largest number", duration(i64::MAX, i32::MAX)),
        ("with more nanoseconds than a second has", duration(1, 1_000_000_000)),
        ("of two signs", duration(1, -1)),
    ]
}

pub fn tag(name: &str, level: u32) -> v1::Tag {
    v1::Tag { name: name.to_owned(), level }
}

/// What becomes of a ticket or a sealed assignment on the way, and what was never one: none of it opens.
pub fn bent_papers(paper: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let with = |at: usize, change: fn(u8) -> u8| {
        let mut bent = paper.to_vec();
        bent.get_mut(at).into_iter().for_each(|byte| *byte = change(*byte));
        bent
    };
    let last = paper.len().saturating_sub(1);
    vec![
        ("one byte", vec![1]),
        ("a version and nothing behind it", paper.iter().take(1).copied().collect()),
        ("a version and half a nonce", paper.iter().take(13).copied().collect()),
        ("a nonce and no content", paper.iter().take(25).copied().collect()),
        ("one that lacks its last byte", paper.iter().take(last).copied().collect()),
        ("one that lacks its first byte", paper.iter().skip(1).copied().collect()),
        ("one that is cut by half", paper.iter().take(paper.len() / 2).copied().collect()),
        ("one with a byte more", [paper, &[0]].concat()),
        ("one twice", [paper, paper].concat()),
        ("one of version 0", with(0, |_| 0)),
        ("one of the next version", with(0, |version| version + 1)),
        ("one of the last version", with(0, |_| u8::MAX)),
        ("one with another nonce", with(1, |byte| byte ^ 1)),
        ("one with another length", with(25, |byte| byte ^ 128)),
        ("one with a bit changed in the middle", with(paper.len() / 2, |byte| byte ^ 16)),
        ("one with another tag", with(last, |byte| byte ^ 1)),
        ("zeros", vec![0; paper.len()]),
        ("the longest noise", vec![1; MAX_TICKET_BYTES]),
    ]
}

/// Texts that are no names, and why.
pub fn bad_names(longest: usize) -> Vec<(&'static str, String)> {
    vec![
        ("empty", String::new()),
        ("too long", "a".repeat(longest + 1)),
        ("with a space", "a b".to_owned()),
        ("with a brace", "a{b".to_owned()),
        ("with a line break", "a\nb".to_owned()),
        ("with a zero byte", "a\0b".to_owned()),
        ("with a letter beyond ASCII", "é".to_owned()),
    ]
}
