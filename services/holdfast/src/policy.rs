//! A helpline's policy: read it carefully, show it, put it in force, go back; and see on a recorded day what it would
//! do.

mod compare;
mod fault;
mod file;
mod lint;

pub use fault::PolicyFault;
