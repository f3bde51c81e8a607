//! The keeper of the line.

pub mod store;
