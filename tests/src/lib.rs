//! The harness that the suites share: real servers on sockets of their own, stopped by pid when dropped.

pub mod redis_server;
