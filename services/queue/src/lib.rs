//! The keeper of the line.
