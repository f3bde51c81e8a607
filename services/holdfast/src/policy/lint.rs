//! Reads policy files as a careful colleague would.
