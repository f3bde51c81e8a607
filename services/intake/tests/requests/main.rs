//! What becomes of a request on its way through the door: triage, routes, a second opinion, the way back to the same
//! responder. The queue behind it is one that writes down what it was asked, so that every word of that can be looked
//! at.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what tests share fails as tests do"
)]
#![expect(clippy::result_large_err, reason = "it is the contract's")]

#[path = "../../../link/tests/shared/world.rs"]
mod world;

mod admission;
mod bench;
mod classifier;
mod line;
mod returning;
mod triage;
