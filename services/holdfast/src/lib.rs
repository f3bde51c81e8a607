//! The command people type.
//!
//! - [`up`]: the three services in one process, joined by real gRPC, with a first chat to show that it works
//! - [`visitor`], [`responder`], [`board`]: terminal clients of a running deployment, near or far
//! - [`block`]: whom supervisors keep from a line for a time
//! - [`policy`]: a helpline's policy, read, shown, put in force, and played on a recorded day
//! - [`audit`]: who decided what: is it whole, and a copy to keep
//! - [`key`]: keys for programs, and tokens for trying things out
//! - [`doctor`]: checks a running deployment
//! - [`demo`]: a busy evening, played by processes of its own, with a report
//!
//! Every client knows the services by their contract alone.

pub mod audit;
pub mod block;
pub mod board;
mod challenge;
mod credential;
pub mod demo;
pub mod doctor;
mod failure;
pub mod key;
pub mod policy;
mod remote;
pub mod responder;
mod terminal;
mod throwaway;
mod trust;
pub mod up;
pub mod visitor;
mod words;

pub use failure::Failure;
