//! The harness that the suites share: real servers on sockets of their own, stopped by pid when dropped.

pub mod chaos;
pub mod collector;
pub mod events;
pub mod http;
pub mod in_process;
pub mod inbox;
pub mod people;
pub mod pki;
pub mod processes;
pub mod proxy;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod redis_server;
pub mod script_editor;
pub mod wire;
