//! The audit: who decided what, in entries that none of can be changed, left out or put in between without being noticed.
//!
//! It is a fold of the events, as figures are: they carry who and why, in one step with the change. `clerk` reads them
//! behind the line and appends an entry for each decision, so the audit costs no call a moment. Each entry holds the hash
//! of the one before it ([`entry`]), and the last of each piece that is appended is sealed with a key that the store does
//! not know ([`seal`]): whoever can write to the store cannot make a chain anew. [`verify`] checks all of that, wherever
//! the entries lie.
//!
//! A chat stands in it under a name that was drawn for it. The store knows whose name it is until the chat is erased or
//! forgotten; then nobody does, and the entries are what they were.

pub(crate) mod clerk;
pub mod entry;
pub mod seal;
pub mod verify;
mod write;

pub use entry::{Entry, Hash};
pub use seal::{AuditKeyError, Key, Seals};
pub use verify::{Broken, Report, Verifier, Why};

/// Reads what has happened so far into a helpline's audit, sealed with a key that nobody has: for tests.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub async fn bring_up_to_date(
    store: std::sync::Arc<dyn crate::store::Store>,
    helpline: &holdfast_domain::HelplineId,
) {
    let Ok(seals) = Seals::made_up() else { return };
    let metrics = crate::metrics::Metrics::new(&opentelemetry::global::meter("test"));
    let (content, tickets) = (crate::content::Content::as_it_came(), crate::tickets::Tickets::made_up());
    let desk = std::sync::Arc::new(crate::desk::Desk::new(store, content, metrics, tickets));
    let config =
        crate::config::AuditConfig { key_file: "".into(), interval_ms: 1000, keep_days: 90, max_entries: 200_000 };
    let mut clerk = clerk::Clerk::new(desk, config, std::sync::Arc::new(seals));
    clerk.look_at([helpline.clone()].into()).await;
}

#[cfg(test)]
mod tests;
