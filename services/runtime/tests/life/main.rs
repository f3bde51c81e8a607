//! The life of a server as its clients and its operators see it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what tests share fails as tests do")]

mod admin;
mod bench;
mod calls;
mod connections;
mod drain;
mod hostile;
mod pki;
mod rogue;
mod tls;
mod trace;
