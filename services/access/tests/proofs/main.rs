//! Tokens as issuers make them and as nobody should, and the keys that they are checked with.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what tests share fails as tests do"
)]

mod bent;
mod forge;
mod jwks;
mod tokens;
