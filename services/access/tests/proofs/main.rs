//! Tokens as issuers make them and as nobody should, and the keys that they are checked with.

mod bent;
mod forge;
mod jwks;
mod tokens;
