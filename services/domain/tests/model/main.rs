//! Small worlds, looked at whole: every order in which a few people, a crash and a failover can meet.
//!
//! The line of these worlds is [`holdfast_domain::Line`] itself, not a picture of it. `world` is a line among people
//! whose words and answers get lost; `claim` is two nodes of a store that both believe they keep the line.
//! The ignored test looks further and takes many minutes.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail so"
)]

mod claim;
mod people;
mod world;
