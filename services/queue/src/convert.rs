//! Between the contract and the rules: what comes in is parsed whole at the door, what goes out is put in words.
//! Generated types stop here.

mod parse;
mod show;

pub(crate) use parse::{
    Asked, Hello, asked, chat_id, chat_key, hello, helpline, responder_id, timeout, traceparent,
};
pub(crate) use show::{chat_view, event, floor, outcome, place_view, responder_view};

/// Numbers that scripts and browsers hold exactly.
pub(crate) const EXACT: u64 = 1 << 53;
