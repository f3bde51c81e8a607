//! A policy as data: the files that are published, the files that must not be, and what becomes of what they say.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail so")]

#[path = "policy/differences.rs"]
mod differences;
#[path = "policy/files.rs"]
mod files;
#[path = "policy/hours.rs"]
mod hours;
#[path = "policy/limits.rs"]
mod limits;
#[path = "policy/resources.rs"]
mod resources;
#[path = "policy/routes.rs"]
mod routes;
#[path = "policy/triage.rs"]
mod triage;
#[path = "policy/zones.rs"]
mod zones;
