//! The responders' door.
