//! Between the contract and the rules: what comes in is parsed whole at the door, what goes out is put in words.
//! Generated types stop here.

mod parse;
mod show;

pub(crate) use parse::{
    Asked, Door, Hello, asked, block_id, chat_id, chat_key, hello, helpline, put_policy, responder_id, timeout,
    traceparent, window_ms,
};
pub(crate) use show::{
    MAX_CANDIDATES, add_paper, blocks, chat_view, coverage, event, explanation, floor, kpis, outcome, place_view,
    responder_view, store_standing,
};

/// Numbers that scripts and browsers hold exactly.
pub(crate) const EXACT: u64 = 1 << 53;
