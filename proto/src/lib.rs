//! The contract: messages and services of holdfast.v1, generated from proto/holdfast/v1 at build time.
