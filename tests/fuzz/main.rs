//! Every decoder and parser of ours against bytes that nobody meant: nothing panics, and what is understood reads back
//! the same. And every script of the store against arguments that no service would send: nothing is half done.
//!
//! Inputs are good ones, from `corpus/` and from the policies in the tree, changed at random by a seed. `make fuzz`
//! makes many more of them. What once made something fail is kept in `corpus/`, where it is tried first.

#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail so")]

mod messages;
mod mutate;
mod papers;
mod policies;
mod proofs;
mod scripts;
mod texts;
