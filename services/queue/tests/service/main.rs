//! The queue service as its callers see it: over gRPC, on a free port, with the embedded store.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what tests share fails as tests do"
)]

mod attach;
mod bench;
mod drain;
mod events;
mod explain;
mod fields;
mod hours;
mod kpis;
mod life;
mod pager;
mod partners;
mod policy;
mod refusals;
mod standing;
mod start;
mod supervision;
mod ticker;
mod wishes;
mod words;
