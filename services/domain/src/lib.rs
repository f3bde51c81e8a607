//! The rules of the line: pure, no I/O, no clock, no randomness.
