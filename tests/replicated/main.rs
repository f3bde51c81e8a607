//! The line over stores with replicas: what is acknowledged survives the loss of a node, and no chat gets two owners
//! while two nodes take themselves for the primary. Real servers on loopback, killed and stopped.

mod clock;
mod commit;
mod fencing;
mod harness;
mod line;
mod sentinel;
