//! Who may call what. Every RPC passes the [gate]: the [table] says whom it is for, a credential says who
//! calls, and what the caller may speak for is at hand where the call is carried out.
//!
//! ```text
//! call ── gate ── table      open, by the visitor's own token, or for some grants
//!           │
//!           ├── tokens       people and integrators: a signed token of an issuer
//!           │     └─ jwks    whose keys are fetched, kept and replaced
//!           └── api_keys     integrators, operators' tools and services: a key of which only a hash is kept
//!           ▼
//!        caller ── handler   helpline, person and capabilities are the caller's own
//! ```
//!
//! - [`table`]: every RPC, and who may call it
//! - [`principal`]: who calls, and what they may speak for
//! - [`tokens`], [`jwks`], [`api_keys`]: how that is proven
//! - [`lease`]: for how long it holds
//! - [`gate`]: in front of every RPC
//! - [`settings`], [`error`]: `[security]` of a service, and what is said to those who may not
//! - [`issuer`]: an issuer of one's own, for trying things out
//!
//! Nothing of a credential reaches a log, a trace, a metric or an error: neither the token nor whom it names.

pub mod api_keys;
pub mod error;
pub mod gate;
pub mod issuer;
pub mod jwks;
pub mod lease;
pub mod principal;
pub mod settings;
mod signatures;
pub mod table;
pub mod tokens;

pub use error::Refused;
pub use gate::Access;
pub use lease::Lease;
pub use principal::{Caller, Principal};
pub use settings::{AccessError, IssuerConfig};
pub use table::Grant;
