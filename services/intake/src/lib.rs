//! The visitors' door.
