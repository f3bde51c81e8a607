//! The command as people meet it: real processes, real ports, lines on a terminal.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what tests share fails as tests do")]

mod audit;
mod block;
mod people;
mod policy;
mod process;
mod redis;
mod refusals;
mod up;
